//! System call filters: Docker's profile format to the OCI form ([`Profile::resolve`]), and the
//! OCI form to a program for the kernel ([`compile`]).
//!
//! The program is a search tree over ranges of numbers: the kernel runs a new filter once for
//! every number when it is installed, and most neighbours share their fate. Numbers above all
//! that are known give ENOSYS, so that a C library newer than the profile falls back.

mod compile;
#[cfg(test)]
mod interpret;
mod profile;
mod table;

pub(super) use compile::compile;
pub use profile::{Circumstances, Profile};
