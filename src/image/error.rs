//! What can be wrong with an image.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;

/// Why an image could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A JSON document is not what its place says it is.
    #[error("cannot read the image's {what}: {source}")]
    Json {
        /// `config`, `manifest`, `index`, …
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A document has a form that is not supported, or contradicts itself.
    #[error("the image's {what} is not valid: {reason}")]
    Invalid {
        /// `config`, `manifest`, `index`, …
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A document is larger than any honest one.
    #[error("the image's {what} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// `config`, `manifest`, `index`, …
        what: &'static str,
        /// Its size.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A file of a layout or an archive cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// `open`, `write`, …
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A layout or archive has a form that is not supported, or contradicts itself.
    #[error("cannot read images from {}: {reason}", path.display())]
    Archive {
        /// The directory or archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A blob of a layout or archive is not what it should be.
    #[error("blob {expected} in {} is damaged: {reason}", path.display())]
    Blob {
        /// The directory or archive.
        path: PathBuf,
        /// The digest it goes by.
        expected: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A layout or archive does not have what was asked for.
    #[error("{} has no {wanted}{}", path.display(), has(available))]
    NotFound {
        /// The directory or archive.
        path: PathBuf,
        /// `image tagged x`, `image for linux/arm64`, …
        wanted: String,
        /// What it has instead.
        available: Vec<String>,
    },
    /// A user of the image is in no passwd file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// A group of the image is in no group file.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    /// A numeric user or group is out of range.
    #[error("user or group id {0} is not between 0 and 2147483647")]
    IdRange(String),
}

impl ImageError {
    pub(crate) fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { what, reason: reason.into() }
    }

    /// Maps an I/O error on `path`; for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

fn has(available: &[String]) -> String {
    if available.is_empty() { String::new() } else { format!("; it has {}", available.join(", ")) }
}
