//! Instructions to a graph. In: a [`Dockerfile`](crate::dockerfile::instruction::Dockerfile), the
//! arguments of a build, and a resolver of images. Out: vertices of plain data, and for the
//! target its config and history. Reads no file and runs nothing.

mod dump;
mod error;
mod history;
pub mod images;
pub mod operation;
pub mod request;
mod result;

pub use dump::dump;
pub use error::PlanError;
pub use history::{COMMENT, PlannedHistory};
pub use result::Plan;
