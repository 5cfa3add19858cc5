//! An image somewhere outside the store, in one form whatever it lies in: a layout, an OCI
//! archive, a Docker archive.

use crate::base::digest::{DiffId, Digest};
use crate::base::reference::Reference;

use super::ImageError;
use super::config::ImageConfig;
use super::files::{Files, OpenFile};
use super::manifest::Descriptor;

/// An image to be read. Its manifest and config were checked against their digests and against
/// each other; its layers must be checked by whoever reads them.
#[derive(Debug, Clone)]
pub struct SourceImage {
    /// Its names, as far as the source tells any.
    pub names: Vec<Reference>,
    /// Its manifest, if it has one.
    pub manifest: Option<Vec<u8>>,
    /// The bytes of its config.
    pub config_bytes: Vec<u8>,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<SourceLayer>,
}

/// A layer to be read.
#[derive(Debug, Clone)]
pub struct SourceLayer {
    /// The uncompressed digest that its image's config names.
    pub diff_id: DiffId,
    /// What its image's manifest says of it; `None` in Docker's archives.
    pub descriptor: Option<Descriptor>,
    /// Its size in bytes, as it lies there.
    pub size: u64,
    pub(super) files: Files,
    pub(super) name: String,
}

impl SourceLayer {
    /// Opens the layer's stream, compressed as it may be.
    pub fn open(&self) -> Result<OpenFile, ImageError> {
        let missing = || ImageError::NotFound {
            path: self.files.path().to_owned(),
            wanted: format!("layer `{}`", self.name),
            available: Vec::new(),
        };
        self.files.open(&self.name)?.ok_or_else(missing)
    }

    /// What messages call the layer.
    pub fn label(&self) -> String {
        format!("layer `{}` of {}", self.name, self.files.path().display())
    }
}

impl SourceImage {
    /// The digest of its manifest.
    pub fn manifest_digest(&self) -> Option<Digest> {
        self.manifest.as_ref().map(Digest::of)
    }
}
