//! Why the result of a build could not be put out.

use std::io;
use std::path::PathBuf;

use crate::image::ImageError;
use crate::layer::LayerError;
use crate::store::StoreError;

/// Why the result of a build could not be put out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The target has no file system: it is a context.
    #[error("the target is a build context, which cannot be put out")]
    NoLayers,
    /// The image could not be described or written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The merged tree could not be written as a tar.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file of the output could not be written.
    #[error("cannot {action} the output `{}`", path.display())]
    File {
        /// What was tried: `make`, `write`, …
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that is no directory is where the output has one.
    #[error("cannot write the output directory `{}`: something else has its name", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// The stream for the output failed.
    #[error("cannot write the output stream")]
    Stream(#[source] io::Error),
    /// The build was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
}

impl ExportError {
    /// A failed call on the file at `path`.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
