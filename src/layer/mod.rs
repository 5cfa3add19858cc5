//! A layer's index and its two forms: tree and tar. Follows the OCI image spec, layer.md.
//!
//! - [`entry`]: what a layer says about one path
//! - [`index`]: all entries of a layer, sorted, in one flat file that is mapped into memory
//! - [`merged`]: a stack of indexes seen as one file system, without mounting it
//! - [`tar`], [`writer`]: the canonical tar of a layer, alone and with its index
//!
//! Tars from outside are foreign bytes: whatever they hold, the room answers with an error that
//! names the entry, and never leaves the tree it was given.

pub mod builder;
pub mod entry;
pub mod error;
pub mod hashing;
pub mod index;
pub mod merged;
pub mod tar;
pub mod walk;
pub mod writer;

#[cfg(test)]
pub(crate) mod testing;

pub use error::LayerError;

/// What this room's functions return.
pub type Result<T, E = LayerError> = std::result::Result<T, E>;
