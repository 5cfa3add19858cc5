//! kiln compiles Dockerfiles to OCI images and runs them.
//!
//! ```text
//! Dockerfile ─lines─▶ logical lines ─parse─▶ instructions ─lower─▶ graph ─solve─▶ layers ─commit─▶ image ─export─▶ tar · store
//! build context ─scan─▶ file digests ─────────────────────────────────────────────┘
//! image ─▶ runtime spec ─▶ sandbox ─▶ process
//! ```
//!
//! It flows one way: a later stage never reaches back into an earlier one, and nothing below
//! [`cli`] knows that a terminal exists. The rooms, in the order in which they may use each
//! other (a room uses only rooms above it; `tests/rooms.rs` holds that):
//!
//! - [`base`]: digests, platforms, references, spans, diagnostics, events, rooted paths
//! - [`dockerfile`]: text to typed instructions
//! - [`image`]: config, manifest, index, layout; Docker's and OCI's forms
//! - [`layer`]: a layer's index and its two forms, tree and tar
//! - [`sandbox`]: a runtime spec to a process
//! - [`store`]: blobs, layers, images, records, locks
//! - [`build`]: a build request to a build result
//! - [`container`]: an image to a running process
//! - [`cli`]: arguments, printers, progress

pub mod base;
pub mod build;
pub mod cli;
pub mod container;
pub mod dockerfile;
pub mod image;
pub mod layer;
pub mod sandbox;
pub mod store;
