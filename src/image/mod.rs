//! Images as data. In and out: configs, manifests, indexes and layouts in Docker's and OCI's
//! forms. Follows the OCI image spec.
//!
//! [`config`], [`manifest`], [`user`] and [`validate`] are pure; they take bytes and give values.

pub mod config;
mod error;
pub mod user;

pub use error::ImageError;
