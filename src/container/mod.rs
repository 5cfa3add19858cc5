//! An image to a running process.
//!
//! In go an image of the store, the options of `docker run`, and three streams or the wish for a
//! terminal; out comes a [`Container`] to signal, to resize and to wait for. What options leave
//! open the image's config says, and what that leaves open, Docker's defaults. The rest is
//! [`crate::sandbox`]: this room makes the spec and keeps the files.
//!
//! ```text
//! containers/ID/
//!   config.json    the runtime spec, as it ran
//!   state.json     image, command, process, times, exit code
//!   hosts hostname resolv.conf
//!   upper/ work/   what the container changed
//!   volumes/N/     one directory for each VOLUME of the image
//! ```
//!
//! The directory goes with the container if it was started with `rm`; else it stays, so that
//! `ps`, `logs`, `commit` and `rm` can find what ended. A container that did not start leaves
//! none. Nothing is printed here and no terminal is touched.

mod environment;
mod error;
mod home;
mod mounts;
mod options;
mod resources;
mod running;
mod security;
mod spec;
mod volume;

#[cfg(test)]
mod tests;

pub use crate::sandbox::defaults::Network;
pub use error::ContainerError;
pub use home::State;
pub use options::{Mount, RunOptions};
pub use running::{Container, start};
