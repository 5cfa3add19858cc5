//! What can be wrong with an image.

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
}
