//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, ImageId, LayerId};
use crate::image::ImageError;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// `write the blob`, …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No space is left.
    #[error("cannot {doing} {}: its file system is full: make room, for example with `kiln builder prune` and `kiln image prune`", path.display())]
    Full {
        /// `write the blob`, …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
    },
    /// The store cannot be written.
    #[error("cannot {doing} {}: its file system is read-only: set KILN_ROOT to a directory that can be written", path.display())]
    ReadOnly {
        /// `write the blob`, …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
    },
    /// SQLite failed.
    #[error("cannot {doing}: database {}: {source}", path.display())]
    Database {
        /// `read the record`, …
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// Another process held the database for longer than the store waits.
    #[error("cannot {doing}: another process has held the database {} for too long", path.display())]
    Busy {
        /// `read the record`, …
        doing: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// The database is no database any more.
    #[error("the database {} is damaged ({source}): move the whole directory {} away, and kiln starts anew", path.display(), root.display())]
    DatabaseDamaged {
        /// The database.
        path: PathBuf,
        /// The store.
        root: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A newer kiln made the store.
    #[error("the store {} was made by a newer kiln (its database has version {found}, this kiln knows {known}): use that kiln, or set KILN_ROOT to another directory", root.display())]
    Newer {
        /// The store.
        root: PathBuf,
        /// The version found.
        found: i64,
        /// The version that this kiln writes.
        known: i64,
    },
    /// The store is on a file system whose locks and mappings cannot be relied on.
    #[error("the store {} is on a network file system ({kind}), where its locks do not hold: set KILN_ROOT to a local directory", root.display())]
    NetworkFileSystem {
        /// The store.
        root: PathBuf,
        /// `NFS`, …
        kind: &'static str,
    },
    /// Content is not what its digest says.
    #[error("{what} has the digest {got}, not {expected}")]
    Digest {
        /// What was read.
        what: String,
        /// The digest it was asked for by.
        expected: Digest,
        /// The digest it has.
        got: Digest,
    },
    /// Content is not as large as its descriptor says.
    #[error("{what} has {got} bytes, not {expected}")]
    Size {
        /// What was read.
        what: String,
        /// The size in its descriptor.
        expected: u64,
        /// Its size.
        got: u64,
    },
    /// A file of the store is not what kiln wrote there.
    #[error("{} is damaged: {reason}: remove what uses it (`kiln rmi`, `kiln builder prune`) and make it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A stream from outside could not be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What was read.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A stream from outside is no layer or archive.
    #[error("cannot use {what}: {source}")]
    Stream {
        /// What was read.
        what: String,
        /// Why it is none.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer could not be read, written or unpacked.
    #[error("cannot {doing} of layer {layer}: {source}")]
    Layer {
        /// `write the tar`, …
        doing: &'static str,
        /// Which one.
        layer: LayerId,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of a layer cannot be read as one.
    #[error("cannot read a file of layer {layer}: {reason}")]
    NoFile {
        /// Which layer.
        layer: LayerId,
        /// Which file, and why.
        reason: String,
    },
    /// A layer that something needs is not there.
    #[error("layer {0} is not in the store")]
    NoLayer(LayerId),
    /// A blob that something needs is not there.
    #[error("blob {0} is not in the store")]
    NoBlob(Digest),
    /// An image that something needs is not there.
    #[error("image {0} is not in the store")]
    NoImageId(ImageId),
    /// An image that was asked for is not there.
    #[error("No such image: {0}")]
    NoImage(String),
    /// A short ID has more than one reading.
    #[error("the ID prefix {prefix} is ambiguous: {count} images begin with it")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many images it fits.
        count: usize,
    },
    /// A name that cannot be given to an image.
    #[error("cannot give an image the name `{name}`: {reason}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An image that is in use was to be removed.
    #[error("conflict: unable to delete {image} (must be forced) - {reason}")]
    InUse {
        /// The image, as it was named.
        image: String,
        /// What uses it.
        reason: String,
    },
    /// An image's layers do not fit its config.
    #[error("image {image} has {config} layers in its config and {given} layers beside it")]
    LayerCount {
        /// The image.
        image: ImageId,
        /// How many its config names.
        config: usize,
        /// How many were given.
        given: usize,
    },
    /// Something an image consists of cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl StoreError {
    /// Maps an I/O error on `path`; for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing, path },
                io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { doing, path },
                _ => Self::Io { doing, path, source },
            }
        }
    }

    /// Maps an error of the layer room about `layer`; for `map_err`.
    pub(super) fn layer<E: std::error::Error + Send + Sync + 'static>(
        doing: &'static str,
        layer: LayerId,
    ) -> impl FnOnce(E) -> StoreError {
        move |source| Self::Layer { doing, layer, source: Box::new(source) }
    }
}
