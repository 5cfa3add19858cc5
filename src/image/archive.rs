//! Reads images out of tar archives: OCI layouts in a tar, and what `docker save` writes or once
//! wrote (`manifest.json`).
//!
//! An archive that is both is read as a layout, since that has digests, and takes the names of both.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use crate::base::digest::{Digest, ImageId};
use crate::base::platform::Platform;
use crate::base::reference::Reference;

use super::ImageError;
use super::config::{ImageConfig, MAX_DOCUMENT};
use super::files::Files;
use super::layout::Layout;
use super::source::{SourceImage, SourceLayer};

const DOCKER_MANIFEST: &str = "manifest.json";

/// An archive of images.
#[derive(Debug, Clone)]
pub struct Archive {
    files: Files,
}

/// One image of a Docker archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Archive {
    /// Opens an uncompressed tar archive. `path` is what messages call it.
    pub fn open(file: File, path: &Path) -> Result<Self, ImageError> {
        Ok(Self { files: Files::archive(file, path)? })
    }

    /// Opens a directory that holds what an archive would hold.
    pub fn open_directory(path: &Path) -> Result<Self, ImageError> {
        Ok(Self { files: Files::directory(path)? })
    }

    /// All images of the archive; of those that are there for several platforms, the one for
    /// `platform`.
    pub fn images(&self, platform: &Platform) -> Result<Vec<SourceImage>, ImageError> {
        let docker = self.docker_images()?;
        if !Layout::is_one(&self.files)? {
            let Some(docker) = docker else {
                return Err(self.fail("it holds neither an OCI image layout nor Docker's `manifest.json`"));
            };
            return docker.iter().map(|image| self.docker_image(image)).collect();
        }
        let mut images = Layout::over(self.files.clone())?.images(platform)?;
        let names = self.names_by_id(docker.as_deref().unwrap_or_default())?;
        for image in &mut images {
            if let Some(names) = names.get(&ImageConfig::id(&image.config_bytes)) {
                image.names.extend(names.iter().cloned());
                image.names.sort();
                image.names.dedup();
            }
        }
        Ok(images)
    }

    fn docker_images(&self) -> Result<Option<Vec<DockerImage>>, ImageError> {
        let what = "Docker manifest";
        let Some(bytes) = self.files.read(DOCKER_MANIFEST, what, MAX_DOCUMENT)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| ImageError::Json { what, source })
    }

    fn names_by_id(&self, images: &[DockerImage]) -> Result<HashMap<ImageId, Vec<Reference>>, ImageError> {
        let mut names = HashMap::new();
        for image in images {
            if let Some(config) = self.files.read(&image.config, "config", MAX_DOCUMENT)? {
                names.insert(ImageConfig::id(&config), image.names()?);
            }
        }
        Ok(names)
    }

    fn docker_image(&self, image: &DockerImage) -> Result<SourceImage, ImageError> {
        let Some(config_bytes) = self.files.read(&image.config, "config", MAX_DOCUMENT)? else {
            return Err(self.fail(&format!("it has no config `{}`", image.config)));
        };
        self.check_name(&image.config, &config_bytes)?;
        let config = ImageConfig::parse(&config_bytes)?;
        let names = image.layers.as_deref().unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if names.len() != diff_ids.len() {
            let (given, told) = (names.len(), diff_ids.len());
            return Err(self.fail(&format!("it has {given} layers for a config that names {told}")));
        }
        let layers = names
            .iter()
            .zip(diff_ids)
            .map(|(name, diff_id)| {
                let Some(file) = self.files.open(name)? else {
                    return Err(self.fail(&format!("it has no layer `{name}`")));
                };
                Ok(SourceLayer {
                    diff_id: *diff_id,
                    descriptor: None,
                    size: file.size,
                    files: self.files.clone(),
                    name: name.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(SourceImage { names: image.names()?, manifest: None, config_bytes, config, layers })
    }

    /// A config that is named after its digest must have it.
    fn check_name(&self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let stem = name.rsplit('/').next().unwrap_or(name);
        let stem = stem.strip_suffix(".json").unwrap_or(stem);
        let (Some(expected), got) = (Digest::from_hex(stem), Digest::of(bytes)) else { return Ok(()) };
        if expected == got {
            return Ok(());
        }
        let reason = format!("its digest is {got}");
        Err(ImageError::Blob { path: self.files.path().to_owned(), expected, reason })
    }

    fn fail(&self, reason: &str) -> ImageError {
        ImageError::Archive { path: self.files.path().to_owned(), reason: reason.to_owned() }
    }
}

impl DockerImage {
    fn names(&self) -> Result<Vec<Reference>, ImageError> {
        let parse = |name: &String| {
            let wrong = |error: crate::base::reference::ReferenceError| {
                ImageError::invalid("Docker manifest", error.to_string())
            };
            name.parse().map_err(wrong)
        };
        self.repo_tags.iter().flatten().map(parse).collect()
    }
}
