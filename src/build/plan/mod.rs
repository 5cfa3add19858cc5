//! Instructions to a graph. In: a [`Dockerfile`](crate::dockerfile::instruction::Dockerfile), the
//! arguments of a build, and a resolver of images. Out: vertices of plain data, and for the
//! target its config and history. Reads no file and runs nothing.
//!
//! ```text
//! request ─names─▶ target ─reach─▶ stages it needs ─lower each, lowest first─▶ vertices, config, history
//!                              (bases, triggers)
//! ```
//!
//! Promises: inputs stand before their users; a stage that the target does not need is neither
//! lowered nor are its images looked up; equal images and contexts are one vertex; all faults that do not
//! follow from another are reported together, each at its place. Behaves as BuildKit does where
//! the Dockerfile reference is silent.

mod arguments;
mod configure;
mod copy;
mod dump;
mod error;
mod expansion;
mod history;
pub mod images;
mod lower;
mod mounts;
mod names;
pub mod operation;
mod paths;
mod planner;
mod ports;
mod reach;
pub mod request;
mod result;
mod run;
mod scope;
mod signal;
mod stage;
mod triggers;

pub use dump::dump;
pub use error::PlanError;
pub use history::{COMMENT, PlannedHistory};
pub use lower::lower;
pub use result::Plan;

#[cfg(test)]
mod tests;
