//! What can go wrong between a spec and its process.

use std::io;
use std::path::PathBuf;

/// A failure of this room. [`SandboxError::exit_code`] gives Docker's number for it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The spec contradicts itself or leaves out what it needs.
    #[error("the runtime spec is not usable: {0}")]
    Spec(String),
    /// The spec asks for something this version does not do.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// The command was found neither by its path nor in any directory of PATH.
    #[error("{command:?}: no such file or directory in the container, or in any directory of its PATH")]
    NotFound {
        /// The command as given.
        command: String,
    },
    /// The command is there but may not be executed.
    #[error("{command:?}: permission denied: the file in the container is not executable")]
    PermissionDenied {
        /// The command as given.
        command: String,
    },
    /// The command is no program for this machine.
    #[error(
        "{command:?}: exec format error: neither a script with a `#!` line nor a program for this machine"
    )]
    NotExecutable {
        /// The command as given.
        command: String,
    },
    /// Another failure of execve.
    #[error("cannot execute {command:?}: {source}")]
    Execute {
        /// The command as given.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A step of the set-up inside the new namespaces failed.
    #[error("cannot set up the container: {doing}: {source}")]
    Setup {
        /// What was being done, to what.
        doing: String,
        /// Why.
        source: io::Error,
    },
    /// The source of a bind mount cannot be used.
    #[error("cannot mount {path:?} on {target:?} of the container: {source}")]
    MountSource {
        /// The path on the host.
        path: PathBuf,
        /// The mount point.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file system cannot be mounted.
    #[error("cannot make the {kind} file system for {target:?}{detail}: {source}")]
    Mount {
        /// The file system type.
        kind: String,
        /// The mount point.
        target: PathBuf,
        /// What the kernel says, `: …`, or empty.
        detail: String,
        /// Why.
        source: io::Error,
    },
    /// A mount option that no rule knows.
    #[error("unknown option {option:?} of the mount on {target:?}")]
    MountOption {
        /// The option.
        option: String,
        /// The mount point.
        target: PathBuf,
    },
    /// A mount point cannot be made.
    #[error("cannot make the mount point {target:?}: {source}")]
    MountPoint {
        /// The path in the container.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The layer of mount points cannot be made.
    #[error("cannot make the directory of mount points {path:?}: {source}")]
    MountPoints {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was made for a mount cannot be taken away again.
    #[error("cannot take away the mount point {target:?} after the run: {source}")]
    Cleanup {
        /// The path in the container.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device node cannot be made.
    #[error("cannot make the device {path:?}: {source}")]
    Device {
        /// The path in the container.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A namespace to join cannot be opened.
    #[error("cannot open the namespace {path:?}: {source}")]
    Namespace {
        /// The path on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The seccomp profile cannot be read or has no filter.
    #[error("the seccomp profile is not usable: {0}")]
    Seccomp(String),
    /// The terminal cannot be made.
    #[error("cannot make a terminal for the container: {source}")]
    Terminal {
        /// Why.
        source: io::Error,
    },
    /// The process cannot be made.
    #[error("cannot start a process for the container: {doing}: {source}")]
    Start {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be waited for or signalled.
    #[error("cannot {doing} process {pid}: {source}")]
    Process {
        /// What was being done.
        doing: &'static str,
        /// Which process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

impl SandboxError {
    /// The exit code Docker gives for this failure: 127 for a command that is not there, 126 for
    /// one that cannot be executed, 125 for everything before that.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::PermissionDenied { .. } | Self::NotExecutable { .. } | Self::Execute { .. } => 126,
            _ => 125,
        }
    }
}
