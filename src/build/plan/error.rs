//! Why there is no plan.

use crate::base::diagnostic::Diagnostics;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// `--target` names no stage.
    #[error(
        "target stage `{name}` could not be found{}",
        nearest.as_ref().map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
    )]
    Target {
        /// What was asked for.
        name: String,
        /// A stage that was perhaps meant.
        nearest: Option<String>,
    },
    /// A build argument with a meaning of its own has a value that it cannot have.
    #[error("build argument `{name}` cannot be `{value}`: {expected}")]
    BuildArgument {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The Dockerfile is at fault.
    #[error(transparent)]
    Dockerfile(#[from] Diagnostics),
}
