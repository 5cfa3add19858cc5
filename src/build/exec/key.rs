//! A step's key: a hash over named fields, and the same fields for people.
//!
//! The names and texts given here are part of every record: a change of any of them makes the
//! steps of its operation run again once.

use crate::base::digest::{CacheKey, Digest, Hasher};
use crate::build::solve::Keyed;

/// How much of one value is kept for people.
const SHOWN: usize = 4096;

/// Collects what goes into a key.
#[derive(Default)]
pub struct KeyBuilder {
    hasher: Hasher,
    parts: Vec<(String, String)>,
}

impl KeyBuilder {
    /// The key of an operation of this name and version: `run 1`.
    pub fn new(operation: &str) -> Self {
        let mut builder = Self::default();
        builder.field("operation", operation);
        builder
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.hasher.field(name);
        self.hasher.field(value);
        let mut shown = String::from_utf8_lossy(&value[..value.len().min(SHOWN)]).into_owned();
        if value.len() > SHOWN {
            shown = format!("{shown}… {}", Digest::of(value));
        }
        self.parts.push((name.to_owned(), shown));
    }

    /// Adds a field whose value is a digest over much; `shown` says what it is of.
    pub fn digest(&mut self, name: &str, digest: Digest, shown: impl std::fmt::Display) {
        self.hasher.field(name);
        self.hasher.field(digest.as_bytes());
        self.parts.push((name.to_owned(), format!("{shown} {digest}")));
    }

    /// Adds something that only people read: it is in the key by other means.
    pub fn note(&mut self, name: &str, shown: String) {
        self.parts.push((name.to_owned(), shown));
    }

    /// The key with its parts.
    pub fn finish(self) -> Keyed {
        Keyed { key: CacheKey(self.hasher.finish()), parts: self.parts }
    }
}
