//! Brings images in: out of archives and layouts, and out of a single root file system.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use crate::base::digest::{DiffId, ImageId, LayerId};
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::image::archive::Archive;
use crate::image::config::ImageConfig;
use crate::image::source::{SourceImage, SourceLayer};
use crate::layer::decompress::{Format, decompress};

use super::content::copy;
use super::ingest::Expected;
use super::{Store, StoreError};

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Which one.
    pub id: ImageId,
    /// The names it got; the archive may have told none.
    pub names: Vec<Reference>,
}

impl Store {
    /// Loads all images of an archive, compressed or not, from a stream. `name` is what messages
    /// call it. Of images for several platforms the one for `platform` is taken.
    pub fn load(
        &self,
        stream: impl Read + Send,
        name: &Path,
        platform: &Platform,
    ) -> Result<Vec<Loaded>, StoreError> {
        let (_, mut stream) = decompress(stream).map_err(|source| StoreError::Stream {
            what: name.display().to_string(),
            source: Box::new(source),
        })?;
        let temp = self.temp_file()?;
        let mut file = temp.file.try_clone().map_err(StoreError::io("write", &temp.path))?;
        copy(&mut stream, &mut file).map_err(StoreError::io("write", &temp.path))?;
        self.load_archive(&Archive::open(file, name)?, platform)
    }

    /// As [`Store::load`], from a file, which is not copied if it is not compressed.
    pub fn load_file(&self, path: &Path, platform: &Platform) -> Result<Vec<Loaded>, StoreError> {
        let fail = || StoreError::io("read", path);
        if path.is_dir() {
            return self.load_archive(&Archive::open_directory(path)?, platform);
        }
        let mut file = File::open(path).map_err(fail())?;
        let mut head = Vec::new();
        (&mut file).take(6).read_to_end(&mut head).map_err(fail())?;
        let regular = file.metadata().map_err(fail())?.is_file();
        if !regular {
            return self.load(std::io::Cursor::new(head).chain(file), path, platform);
        }
        if Format::of(&head) != Format::Plain {
            file.rewind().map_err(fail())?;
            return self.load(file, path, platform);
        }
        self.load_archive(&Archive::open(file, path)?, platform)
    }

    fn load_archive(&self, archive: &Archive, platform: &Platform) -> Result<Vec<Loaded>, StoreError> {
        let _lease = self.lease()?;
        let mut loaded = Vec::new();
        for image in archive.images(platform)? {
            let id = self.add_image(&image)?;
            for name in &image.names {
                self.name(name, id)?;
            }
            loaded.push(Loaded { id, names: image.names });
        }
        Ok(loaded)
    }

    /// A name with a digest is no tag: it says which manifest of a repository the image had.
    fn name(&self, name: &Reference, id: ImageId) -> Result<(), StoreError> {
        let tag = Reference { digest: None, ..name.clone() };
        match name.digest {
            Some(digest) if name.tag.is_none() => self.add_repo_digest(name, digest, id),
            _ => self.tag(&tag, id).map(drop),
        }
    }

    /// Keeps an image from outside, without naming it. Of one that is there already, made here or
    /// not, no layer is read.
    pub fn add_image(&self, image: &SourceImage) -> Result<ImageId, StoreError> {
        let known = self.image(ImageConfig::id(&image.config_bytes))?;
        let layers = match known {
            Some(known) if self.have_all(&known.layers)? => known.layers,
            _ => self.add_layers(image)?,
        };
        self.put_image(&image.config_bytes, &layers, image.manifest.as_deref())
    }

    fn have_all(&self, layers: &[LayerId]) -> Result<bool, StoreError> {
        for layer in layers {
            if self.layer(*layer)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps the layers of an image from outside, bottom first. Those that are there already are
    /// not read.
    pub fn add_layers(&self, image: &SourceImage) -> Result<Vec<LayerId>, StoreError> {
        image.layers.iter().map(|layer| self.ingest(layer.open()?, &expected(layer))).collect()
    }

    /// Keeps a root file system's tar, compressed or not, as a layer.
    pub fn import_layer(
        &self,
        stream: impl Read + Send,
        name: &str,
    ) -> Result<(LayerId, DiffId), StoreError> {
        let id = self.ingest(stream, &Expected { what: name.to_owned(), ..Expected::default() })?;
        Ok((id, DiffId(id.0)))
    }
}

fn expected(layer: &SourceLayer) -> Expected {
    Expected {
        what: layer.label(),
        digest: layer.descriptor.as_ref().map(|descriptor| descriptor.digest),
        size: layer.descriptor.as_ref().map(|descriptor| descriptor.size),
        diff_id: Some(layer.diff_id),
    }
}
