//! What every room speaks of: digests, platforms, references, places in a source text,
//! diagnostics, events, and paths that stay inside their root.
//!
//! Nothing here knows of Dockerfiles, images or stores.

pub mod clock;
pub mod diagnostic;
pub mod digest;
pub mod event;
pub mod host;
pub mod platform;
pub mod reference;
pub mod rooted;
pub mod similar;
pub mod span;
pub mod sys;
