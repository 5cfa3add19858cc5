//! Why a graph could not be solved.

use crate::base::event::VertexId;

/// Why a graph could not be solved; `E` is the error of the steps.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E: std::error::Error + 'static> {
    /// A step or the look-up of its record failed. The error is the step's own.
    #[error("{source}")]
    Step {
        /// The step that failed first.
        vertex: VertexId,
        /// What it said.
        source: E,
    },
    /// A step panicked, which is a fault of kiln's.
    #[error("a fault in kiln stopped step {} of the graph: {message}; please report it", vertex.0)]
    Panicked {
        /// The step.
        vertex: VertexId,
        /// What the panic said.
        message: String,
    },
    /// Somebody called [`Cancel::cancel`](super::Cancel::cancel).
    #[error("the build was cancelled")]
    Cancelled,
    /// The graph is not in order: a step needs one that does not come before it.
    #[error("step {} of the graph needs step {input}, which does not come before it", vertex.0)]
    Order {
        /// The step.
        vertex: VertexId,
        /// What it asks for.
        input: usize,
    },
}
