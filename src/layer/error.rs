//! What can go wrong with a layer.

use std::io;
use std::path::PathBuf;

use crate::base::digest::Digest;

/// Why a layer cannot be read, written or looked into. Paths of entries are shown as text, with
/// what is no UTF-8 replaced.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A call on a file of the host failed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An index file cannot be used.
    #[error("the layer index `{}` is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// An entry cannot be part of a layer.
    #[error("`{path}` cannot be an entry of a layer: {why}")]
    Entry {
        /// The entry's path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Entries were given in another order than that of an index.
    #[error("`{path}` was added to a layer after `{after}`, which sorts behind it")]
    Unsorted {
        /// The later entry.
        path: String,
        /// The one before it.
        after: String,
    },
    /// Two entries have one path.
    #[error("`{path}` is in the layer twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// Too many symbolic links on the way of a path.
    #[error("`{path}` leads through more than {limit} symbolic links")]
    Loop {
        /// The path that was looked up.
        path: String,
        /// How many are followed.
        limit: usize,
    },
    /// A path goes on behind something that is no directory.
    #[error("`{path}` cannot be looked up: `{at}` is not a directory")]
    NotADirectory {
        /// The path that was looked up.
        path: String,
        /// Where it stops.
        at: String,
    },
    /// A stream cannot be read.
    #[error("cannot read the layer or archive")]
    Stream {
        /// What the reader said.
        source: io::Error,
    },
    /// A stream is no tar that can be read.
    #[error("the layer or archive is damaged at byte {offset}: {why}")]
    Archive {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The stream that a tar or its compressed form is written to failed.
    #[error("cannot write the layer{}", at(path))]
    Write {
        /// The entry that was being written; empty where it was none.
        path: String,
        /// What the stream said.
        source: io::Error,
    },
    /// Reading, compressing or writing failed.
    #[error("cannot compress the layer")]
    Compress {
        /// What the reader, the library or the writer said.
        source: io::Error,
    },
    /// A compressed stream cannot be opened.
    #[error("cannot decompress the layer or archive")]
    Decompress {
        /// What the reader or the library said.
        source: io::Error,
    },
    /// The content of an entry cannot be read.
    #[error("cannot read the content of `{path}`")]
    Content {
        /// The file.
        path: String,
        /// What the reader said.
        source: io::Error,
    },
    /// A file has another size than its entry says.
    #[error("the size of `{path}` changed while it was read: it is no longer {expected} bytes")]
    Size {
        /// The file.
        path: String,
        /// The size in its entry.
        expected: u64,
    },
    /// A file is not what the index says.
    #[error("the content of `{path}` changed while it was read: expected {expected}, got {got}")]
    Changed {
        /// The file.
        path: String,
        /// The digest in the index.
        expected: Digest,
        /// The digest of what was read.
        got: Digest,
    },
}

impl LayerError {
    /// A failed call on the file at `path`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::File { action, path: path.into(), source: source.into() }
    }

    /// An entry that cannot be.
    pub(crate) fn entry(path: &[u8], why: &'static str) -> Self {
        Self::Entry { path: shown(path), why }
    }
}

/// The place of a failure in a message, where there is one.
fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at `{path}`") }
}

/// A path as text for a message; a very long one is cut.
pub(crate) fn shown(path: &[u8]) -> String {
    const LONGEST: usize = 512;
    match path.get(..LONGEST) {
        Some(start) => format!("{}…", String::from_utf8_lossy(start)),
        None => String::from_utf8_lossy(path).into_owned(),
    }
}
