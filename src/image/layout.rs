//! Reads OCI image layouts (image-layout.md), as directories and, through [`super::archive`], as
//! tar archives.
//!
//! Every manifest, index and config is checked against the digest that led to it. Indexes may be
//! nested, to a bounded depth.

use std::path::Path;

use serde::Deserialize;

use crate::base::digest::Digest;
use crate::base::platform::Platform;
use crate::base::reference::Reference;

use super::ImageError;
use super::config::{ImageConfig, MAX_DOCUMENT, document};
use super::files::Files;
use super::manifest::{Descriptor, IMAGE_NAME, Index, Manifest, REF_NAME, Target};
use super::source::{SourceImage, SourceLayer};
use super::validate::check_layers;

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;
/// How many descriptors of one layout are looked at.
const MAX_DESCRIPTORS: usize = 10_000;
const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";

/// An open image layout.
#[derive(Debug, Clone)]
pub struct Layout {
    files: Files,
    index: Index,
}

/// Which image of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one tagged `latest`, else the only one, whatever its tag.
    Default,
    /// The one with this tag.
    Tag(String),
    /// The one with this digest of its manifest or index.
    Digest(Digest),
}

impl Layout {
    /// Opens the layout in a directory.
    pub fn open(directory: &Path) -> Result<Self, ImageError> {
        Self::over(Files::directory(directory)?)
    }

    /// Opens the layout that `files` are.
    pub(super) fn over(files: Files) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        let fail = |reason: String| ImageError::Archive { path: files.path().to_owned(), reason };
        let Some(marker) = files.read(MARKER, "layout marker", MAX_DOCUMENT)? else {
            return Err(fail(format!("it is no OCI image layout: it has no file `{MARKER}`")));
        };
        let marker: Marker = document("layout marker", &marker)?;
        if !marker.image_layout_version.starts_with("1.") {
            let version = marker.image_layout_version;
            return Err(fail(format!("version {version} of the image layout is not supported, only 1.0.0")));
        }
        let Some(index) = files.read(INDEX, "index", MAX_DOCUMENT)? else {
            return Err(fail(format!("it has no file `{INDEX}`")));
        };
        Ok(Self { index: Index::parse(&index)?, files })
    }

    /// Whether `files` are a layout.
    pub(super) fn is_one(files: &Files) -> Result<bool, ImageError> {
        Ok(files.open(MARKER)?.is_some() && files.open(INDEX)?.is_some())
    }

    /// The index that the layout begins with.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Finds an image that runs on `platform`. A descriptor without a platform takes it from the
    /// image's config.
    pub fn find(&self, selector: &Selector, platform: &Platform) -> Result<SourceImage, ImageError> {
        let candidates = self.select(selector)?;
        let mut available = Vec::new();
        for descriptor in self.manifests(&candidates)? {
            if let Some(named) = descriptor.known_platform() {
                if !named.satisfies(platform) {
                    available.push(named.to_string());
                    continue;
                }
                return self.image(&descriptor);
            }
            let image = self.image(&descriptor)?;
            let named = image.config.platform();
            if named.satisfies(platform) {
                return Ok(image);
            }
            available.push(named.to_string());
        }
        available.sort();
        available.dedup();
        Err(self.not_found(format!("image for {platform}"), available))
    }

    /// All images of the layout: of those that are there for several platforms, the one that runs on
    /// `platform`, else the first.
    pub fn images(&self, platform: &Platform) -> Result<Vec<SourceImage>, ImageError> {
        let mut images: Vec<SourceImage> = Vec::new();
        for top in &self.index.manifests {
            let choices = self.manifests(std::slice::from_ref(top))?;
            let fits = |descriptor: &&Descriptor| {
                descriptor.known_platform().is_some_and(|named| named.satisfies(platform))
            };
            let Some(chosen) = choices.iter().find(fits).or(choices.first()) else { continue };
            let image = self.image(chosen)?;
            let names = names(top);
            match images.iter_mut().find(|known| known.manifest == image.manifest) {
                Some(known) => known.names.extend(names),
                None => images.push(SourceImage { names, ..image }),
            }
        }
        for image in &mut images {
            image.names.sort();
            image.names.dedup();
        }
        Ok(images)
    }

    /// The descriptors of the top index that `selector` means.
    fn select(&self, selector: &Selector) -> Result<Vec<Descriptor>, ImageError> {
        let tagged = |wanted: &str| -> Vec<Descriptor> {
            let has = |descriptor: &&Descriptor| {
                let name = descriptor.annotation(REF_NAME);
                name == Some(wanted)
                    || names(descriptor).iter().any(|name| name.tag_or_latest() == Some(wanted))
            };
            self.index.manifests.iter().filter(has).cloned().collect()
        };
        match selector {
            Selector::Tag(tag) => match tagged(tag) {
                found if found.is_empty() => {
                    Err(self.not_found(format!("image tagged `{tag}`"), self.tags()))
                }
                found => Ok(found),
            },
            Selector::Digest(digest) => self.by_digest(*digest),
            Selector::Default => {
                let latest = tagged("latest");
                let images: Vec<&Descriptor> = self
                    .index
                    .manifests
                    .iter()
                    .filter(|descriptor| descriptor.target() != Target::Other && !descriptor.is_attestation())
                    .collect();
                // One image may have several names, and one name images for several platforms.
                let one = images.first().is_some_and(|first| {
                    let same = |image: &&Descriptor| image.annotation(REF_NAME) == first.annotation(REF_NAME);
                    images.iter().all(|image| image.digest == first.digest)
                        || (images.iter().all(|image| image.platform.is_some()) && images.iter().all(same))
                });
                match (latest.is_empty(), one) {
                    (false, _) => Ok(latest),
                    (true, true) => Ok(images.into_iter().cloned().collect()),
                    _ => Err(self
                        .not_found("image tagged `latest`, and not just one image".to_owned(), self.tags())),
                }
            }
        }
    }

    fn by_digest(&self, digest: Digest) -> Result<Vec<Descriptor>, ImageError> {
        if let Some(found) = self.index.manifests.iter().find(|descriptor| descriptor.digest == digest) {
            return Ok(vec![found.clone()]);
        }
        let mut nested = Vec::new();
        self.expand(&self.index.manifests, 0, &mut nested)?;
        match nested.into_iter().find(|descriptor| descriptor.digest == digest) {
            Some(found) => Ok(vec![found]),
            None => Err(self.not_found(format!("image {digest}"), Vec::new())),
        }
    }

    /// The manifests that `descriptors` lead to, attestations and unknown things left out.
    fn manifests(&self, descriptors: &[Descriptor]) -> Result<Vec<Descriptor>, ImageError> {
        let mut all = Vec::new();
        self.expand(descriptors, 0, &mut all)?;
        all.retain(|descriptor| descriptor.target() == Target::Manifest && !descriptor.is_attestation());
        Ok(all)
    }

    /// Adds `descriptors` and everything they lead to.
    fn expand(
        &self,
        descriptors: &[Descriptor],
        depth: usize,
        all: &mut Vec<Descriptor>,
    ) -> Result<(), ImageError> {
        let too_much = |reason: &str| ImageError::invalid("index", reason);
        for descriptor in descriptors {
            if all.len() >= MAX_DESCRIPTORS {
                return Err(too_much("the layout has more than 10000 descriptors"));
            }
            all.push(descriptor.clone());
            if descriptor.target() == Target::Index {
                if depth >= MAX_DEPTH {
                    return Err(too_much("indexes are nested more than 4 deep"));
                }
                let nested = Index::parse(&self.document(descriptor, "index")?)?;
                self.expand(&nested.manifests, depth + 1, all)?;
            }
        }
        Ok(())
    }

    /// Reads the image whose manifest `descriptor` points to.
    fn image(&self, descriptor: &Descriptor) -> Result<SourceImage, ImageError> {
        let manifest_bytes = self.document(descriptor, "manifest")?;
        let manifest = Manifest::parse(&manifest_bytes)?;
        let config_bytes = self.document(&manifest.config, "config")?;
        let config = ImageConfig::parse(&config_bytes)?;
        check_layers(&manifest, &config)?;
        let layers =
            manifest.layers.into_iter().zip(&config.rootfs.diff_ids).map(|(layer, diff_id)| SourceLayer {
                diff_id: *diff_id,
                size: layer.size,
                files: self.files.clone(),
                name: blob_name(layer.digest),
                descriptor: Some(layer),
            });
        Ok(SourceImage {
            names: names(descriptor),
            layers: layers.collect(),
            manifest: Some(manifest_bytes),
            config_bytes,
            config,
        })
    }

    /// Reads a small blob and checks it.
    fn document(&self, descriptor: &Descriptor, what: &'static str) -> Result<Vec<u8>, ImageError> {
        let expected = descriptor.digest;
        let damaged =
            |reason: String| ImageError::Blob { path: self.files.path().to_owned(), expected, reason };
        if descriptor.size > MAX_DOCUMENT {
            return Err(ImageError::TooLarge { what, size: descriptor.size, limit: MAX_DOCUMENT });
        }
        let Some(bytes) = self.files.read(&blob_name(expected), what, MAX_DOCUMENT)? else {
            return Err(damaged(format!("the {what} is missing")));
        };
        if bytes.len() as u64 != descriptor.size {
            return Err(damaged(format!("it has {} bytes, not {}", bytes.len(), descriptor.size)));
        }
        match Digest::of(&bytes) {
            got if got == expected => Ok(bytes),
            got => Err(damaged(format!("its digest is {got}"))),
        }
    }

    /// What the layout's images are tagged, for messages.
    fn tags(&self) -> Vec<String> {
        let tag = |descriptor: &Descriptor| descriptor.annotation(REF_NAME).map(|tag| format!("`{tag}`"));
        self.index.manifests.iter().filter_map(tag).collect()
    }

    fn not_found(&self, wanted: String, available: Vec<String>) -> ImageError {
        ImageError::NotFound { path: self.files.path().to_owned(), wanted, available }
    }
}

/// Where a blob lies in a layout.
pub(super) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The image names that a descriptor of the top index carries. A mere tag is none.
fn names(descriptor: &Descriptor) -> Vec<Reference> {
    let whole = descriptor.annotation(IMAGE_NAME);
    let name = whole.or_else(|| descriptor.annotation(REF_NAME).filter(|name| name.contains(['/', ':'])));
    name.and_then(|name| name.parse().ok()).into_iter().collect()
}
