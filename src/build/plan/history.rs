//! History: the texts of `created_by`, in the forms that BuildKit writes and tools read.

use crate::base::event::VertexId;

/// The comment of every entry that kiln adds.
pub const COMMENT: &str = "kiln.dockerfile.v0";

/// One entry that the build adds to the history of the base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedHistory {
    /// What made it: `RUN /bin/sh -c make`.
    pub created_by: String,
    /// The step whose layer it describes, if that step makes one; `None` for an empty layer.
    pub vertex: Option<VertexId>,
}
