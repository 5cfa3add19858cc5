//! Images as data. In and out: configs, manifests, indexes and layouts in Docker's and OCI's
//! forms. Follows the OCI image spec.
//!
//! [`config`], [`manifest`], [`user`] and [`validate`] are pure; they take bytes and give values.
//! [`layout`], [`archive`] and [`write`] read and write directories and tar archives; nothing of
//! what they read is trusted, and nothing is extracted.

pub mod archive;
pub mod config;
mod error;
pub mod files;
pub mod layout;
pub mod manifest;
pub mod source;
pub mod user;
pub mod validate;
pub mod write;

pub use error::ImageError;

#[cfg(test)]
mod tests;
