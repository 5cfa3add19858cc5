//! Why a build context could not be scanned or read.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why a build context could not be scanned or read. Paths inside the context are relative to it.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The directory itself could not be opened.
    #[error("cannot open the build context `{}`", path.display())]
    Open {
        /// The directory, as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory in it could not be listed.
    #[error(
        "cannot read the directory `{path}` of the build context; make it readable or exclude it in .dockerignore"
    )]
    List {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The status or link target of an entry could not be read.
    #[error("cannot examine `{path}` in the build context")]
    Examine {
        /// The entry.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file could not be opened or read.
    #[error("cannot read `{path}` from the build context; make it readable or exclude it in .dockerignore")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not what the scan saw. Scanning again may help.
    #[error("`{path}` in the build context changed while it was read: {what}")]
    Changed {
        /// The file.
        path: String,
        /// What is different.
        what: Change,
    },
    /// A path has more bytes than the kernel takes in one call (path_resolution(7)).
    #[error("`{path}…` in the build context is longer than 4095 bytes")]
    PathTooLong {
        /// How it begins.
        path: String,
    },
    /// More entries or bytes of names than the scan counts.
    #[error("the build context `{}` has too many entries; exclude some in .dockerignore", path.display())]
    TooLarge {
        /// The context.
        path: PathBuf,
    },
    /// Symbolic links that lead to each other.
    #[error("`{path}` in the build context leads through more than 40 symbolic links")]
    Loop {
        /// The path that was looked up.
        path: String,
    },
    /// The digests could not be kept for the next build.
    #[error("cannot write the scan of the build context to `{}`", path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever watched the hashing stopped it.
    #[error("reading the build context was cancelled")]
    Cancelled,
}

/// How a file differs from what the scan saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Change {
    /// It is no regular file any more.
    #[error("it is no regular file any more")]
    Kind,
    /// It has another size.
    #[error("it has another size")]
    Size,
    /// It has the same size and another content.
    #[error("it has another content")]
    Content,
    /// It is gone, or a directory above it is.
    #[error("it is gone")]
    Gone,
}

impl ContextError {
    /// The first [`ContextError::Changed`] in `error` and its causes, looking into I/O errors
    /// too: what a writer of archives says when a [`Content`](super::Content) under it changed.
    pub fn find_change<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e ContextError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found @ ContextError::Changed { .. }) = error.downcast_ref() {
                return Some(found);
            }
            // An I/O error's own cause skips the error that it wraps.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

/// A path of the context for a message.
pub(super) fn show(path: &[u8]) -> String {
    match path {
        b"" => ".".into(),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}
