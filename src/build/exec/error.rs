//! Why a step failed.

use std::io;
use std::path::PathBuf;

use super::copy::error::CopyError;
use crate::base::diagnostic::Diagnostics;
use crate::build::context::ContextError;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::sandbox::SandboxError;
use crate::store::StoreError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// COPY or ADD asks for something that cannot be.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The instruction is understood and left for later.
    #[error("{0} is not supported yet")]
    NotSupported(String),
    /// The context could not be read.
    #[error(transparent)]
    Context(ContextError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no build context.
    #[error("there is no build context to copy from")]
    NoContext,
    /// An ignore file makes no sense.
    #[error("cannot use `{}`", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        faults: Diagnostics,
    },
    /// A layer could not be read or made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The sandbox could not be made.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The user of a RUN or WORKDIR is not in the image.
    #[error("cannot look up the user `{user}`")]
    User {
        /// As written.
        user: String,
        /// Why.
        source: ImageError,
    },
    /// The command ended with an error.
    #[error("process `{command}` did not complete successfully: exit code: {code}")]
    Exited {
        /// What was run.
        command: String,
        /// Its exit code; 128 and the signal's number if a signal ended it.
        code: i32,
        /// The end of its output.
        tail: Vec<u8>,
    },
    /// A secret is required and was not given.
    #[error("the secret `{0}` is required and was not given")]
    NoSecret(String),
    /// A secret could not be read.
    #[error("cannot read the secret `{id}`")]
    Secret {
        /// Its name.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// A secret for the environment cannot be there.
    #[error("the secret `{0}` holds a zero byte, so it cannot be an environment variable")]
    SecretBytes(String),
    /// What a mount names is not there.
    #[error("`{path}`, the source of the mount on `{target}`, is not in {place}")]
    MountSource {
        /// The path.
        path: String,
        /// Where it was to be mounted.
        target: String,
        /// Where it was looked for.
        place: String,
    },
    /// WORKDIR leads through something that is no directory.
    #[error("cannot make the working directory `{path}`: `{at}` is not a directory")]
    Workdir {
        /// The directory.
        path: String,
        /// What is in the way.
        at: String,
    },
    /// A file of the step's own could not be made or read.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `write the file`, …
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The output of a command could not be read.
    #[error("cannot follow the command's output")]
    Output(#[source] io::Error),
    /// The build was cancelled while the step ran.
    #[error("the step was cancelled")]
    Cancelled,
}

impl From<ContextError> for ExecError {
    fn from(error: ContextError) -> Self {
        match error {
            ContextError::Cancelled => Self::Cancelled,
            other => Self::Context(other),
        }
    }
}

impl ExecError {
    /// A failed call on the file at `path`.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// What to do about it.
    pub fn help(&self) -> Vec<String> {
        match self {
            Self::Copy(error) => error.help(),
            Self::NoSecret(id) => vec![format!("pass it with `--secret id={id},src=FILE`")],
            _ => Vec::new(),
        }
    }

    /// The end of the output of the command that failed.
    pub fn tail(&self) -> Option<&[u8]> {
        match self {
            Self::Exited { tail, .. } => Some(tail),
            _ => None,
        }
    }
}
