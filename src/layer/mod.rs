//! A layer's index and its two forms: tree and tar. Follows the OCI image spec, layer.md.
//!
//! - [`entry`]: what a layer says about one path
//! - [`index`]: all entries of a layer, sorted, in one flat file that is mapped into memory
//! - [`merged`]: a stack of indexes seen as one file system, without mounting it
//! - [`scan`]: a tree to an index
//! - [`tar`], [`writer`], [`from_tree`]: the canonical tar of a layer, alone, with its index, and
//!   from a tree
//! - [`read`]: any tar to its entries; [`from_tar`] to an index, [`apply`] to a tree
//! - [`compress`], [`decompress`]: a stream to its compressed form and back
//!
//! Tars from outside are foreign bytes: whatever they hold, the room answers with an error that
//! names the entry, and never leaves the tree it was given.

pub mod apply;
pub mod builder;
pub mod compress;
pub mod decompress;
pub mod entry;
pub mod error;
pub mod from_tar;
pub mod from_tree;
pub mod hashing;
pub mod index;
pub mod merged;
pub mod read;
pub mod scan;
pub mod tar;
pub mod walk;
pub mod writer;

mod ahead;
mod header;
mod holes;
mod paths;
mod pax;
mod sparse;
mod tree;
mod xattr;

#[cfg(test)]
mod forms;
#[cfg(test)]
pub(crate) mod testing;

pub use error::LayerError;

/// What this room's functions return.
pub type Result<T, E = LayerError> = std::result::Result<T, E>;
