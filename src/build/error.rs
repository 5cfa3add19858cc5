//! Why a build failed.

use crate::base::diagnostic::Diagnostics;
use crate::build::exec::error::ExecError;
use crate::build::export::ExportError;
use crate::build::plan::PlanError;
use crate::store::StoreError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is at fault.
    #[error(transparent)]
    Dockerfile(Diagnostics),
    /// There is no plan, for another reason.
    #[error(transparent)]
    Plan(PlanError),
    /// A step failed. The message is that of the step's error and all its causes.
    #[error("{}", chain(error))]
    Step {
        /// What people call the step.
        step: String,
        /// Where it is in the Dockerfile, if it is there.
        diagnostics: Option<Diagnostics>,
        /// Why.
        error: Box<ExecError>,
    },
    /// A fault of kiln's own stopped the build.
    #[error("{message}")]
    Fault {
        /// What is known of it.
        message: String,
    },
    /// The build was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
    /// The result could not be put out.
    #[error(transparent)]
    Export(ExportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BuildError {
    /// The places in the Dockerfile that this is about, with what to do.
    pub fn diagnostics(&self) -> Option<&Diagnostics> {
        match self {
            Self::Dockerfile(diagnostics) => Some(diagnostics),
            Self::Step { diagnostics, .. } => diagnostics.as_ref(),
            _ => None,
        }
    }

    /// The end of the output of the command that failed, and what people call its step.
    pub fn tail(&self) -> Option<(&str, &[u8])> {
        match self {
            Self::Step { step, error, .. } => error.tail().map(|tail| (step.as_str(), tail)),
            _ => None,
        }
    }
}

impl From<PlanError> for BuildError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Dockerfile(diagnostics) => Self::Dockerfile(diagnostics),
            other => Self::Plan(other),
        }
    }
}

impl From<ExportError> for BuildError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Cancelled => Self::Cancelled,
            other => Self::Export(other),
        }
    }
}

/// An error and its causes on one line; a cause that its error already quotes is left out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
