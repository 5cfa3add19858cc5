//! An OCI runtime spec to a process.
//!
//! In goes an `oci_spec::runtime::Spec` and three streams or the wish for a terminal; out comes a
//! [`Process`] to signal and to wait for. RUN steps and containers differ only in their specs.
//! This room knows no notion of kiln's own, and needs the privileges that the spec takes.
//!
//! The way: [`launch`](spawn) prepares everything in the parent (mounts attached nowhere, the
//! filter, the cgroup, the arguments), a thread makes the child by clone3 on shared memory, the
//! child ([`child`]) makes raw system calls on what was prepared, and executes a small static
//! program out of memory (`sys/init.rs`), which executes the command.
//!
//! It promises:
//! - The process that makes the sandbox is never copied, and nothing of it is in reach of the
//!   sandbox: no descriptor, no path, no file of its own.
//! - What the command changed is in the overlay's upper directory, and nothing else is.
//! - When PID 1 ends, so does everything in its PID namespace; when kiln is killed, so is PID 1.
//! - No path of an image leads out of it.
//!
//! Follows the OCI runtime spec (config.md, config-linux.md, runtime-linux.md); hooks, user and
//! time namespaces are not supported.

pub mod capabilities;
mod cgroup;
mod child;
pub mod defaults;
mod device;
mod device_filter;
mod error;
mod launch;
mod life;
mod limits;
mod mountpoints;
mod mounts;
pub mod netfiles;
mod options;
mod overlay;
mod prepare;
mod process;
pub mod seccomp;
mod step;
mod sys;
mod terminal;

pub use error::SandboxError;
pub use launch::{Launch, Stdio, spawn};
pub use overlay::OverlayRoot;
pub use process::{Exit, Process};
