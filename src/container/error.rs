//! What can go wrong with a container.

use std::io;
use std::path::PathBuf;

use crate::image::ImageError;
use crate::layer::LayerError;
use crate::sandbox::SandboxError;
use crate::store::StoreError;

/// A failure of this room. [`ContainerError::exit_code`] gives Docker's number for it.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Neither the options nor the image say what to run.
    #[error("no command specified: neither the image nor the command line names one")]
    NoCommand,
    /// The image is for another machine.
    #[error("the image is for {image}, this machine is {host}")]
    Platform {
        /// The image's platform.
        image: String,
        /// This machine's.
        host: String,
    },
    /// An option whose value makes no sense.
    #[error("invalid {option} `{value}`: {reason}")]
    Option {
        /// `--memory`, …
        option: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that is left for later.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// The user or a group is not in the image.
    #[error("{0}")]
    User(#[source] ImageError),
    /// A file of the container or of an option cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `write`, …
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A document of the container cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Document {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// What the image has at a VOLUME cannot be copied to the volume.
    #[error("cannot fill the volume {path}: {source}")]
    Volume {
        /// The path in the container.
        path: String,
        /// Why.
        source: LayerError,
    },
    /// A file of the image that says who its users are cannot be read.
    #[error("{0}")]
    Layer(#[from] LayerError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl ContainerError {
    /// The exit code Docker gives for this failure: 127 for a command that is not there, 126 for
    /// one that cannot be executed, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Sandbox(error) => u8::try_from(error.exit_code()).unwrap_or(125),
            _ => 125,
        }
    }

    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    pub(super) fn option(option: &'static str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self::Option { option, value: value.to_string(), reason: reason.into() }
    }
}
