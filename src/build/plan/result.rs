//! What comes out: the graph, and what export needs to make an image of its result.

use crate::base::diagnostic::Diagnostic;
use crate::base::event::VertexId;
use crate::base::platform::Platform;
use crate::image::config::ImageConfig;

use super::history::PlannedHistory;
use super::operation::Graph;

/// What is to be done, and what the image will say of itself.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The steps.
    pub graph: Graph,
    /// The step whose result holds the target's files.
    pub result: VertexId,
    /// The target's config. Its history and diff IDs are still the base image's, it has no
    /// `created`.
    pub config: ImageConfig,
    /// How many layers of the result are the base image's.
    pub base_layers: usize,
    /// What comes after the base image's history.
    pub history: Vec<PlannedHistory>,
    /// The target's platform.
    pub platform: Platform,
    /// SOURCE_DATE_EPOCH, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// What should be known and has a place in the Dockerfile.
    pub warnings: Vec<Diagnostic>,
    /// What should be known and has none, each one line.
    pub notices: Vec<String>,
}
