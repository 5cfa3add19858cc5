//! What can go wrong on the command line, and what each error means for the exit code.

use std::io;
use std::path::PathBuf;

use super::template::TemplateError;
use super::usage::UsageError;
use crate::base::diagnostic::Diagnostics;
use crate::base::platform::PlatformError;
use crate::base::reference::ReferenceError;
use crate::build::BuildError;
use crate::build::export::ExportError;
use crate::build::plan::PlanError;
use crate::container::ContainerError;
use crate::image::ImageError;
use crate::store::StoreError;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(#[from] UsageError),
    /// A `--format` that is no template or does not fit what it is for.
    #[error("{0}")]
    Template(#[from] TemplateError),
    /// The Dockerfile is wrong.
    #[error("{0}")]
    Dockerfile(#[from] Diagnostics),
    /// Instructions cannot be applied.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// Root is needed.
    #[error("`{command}` needs root for now: run it with sudo")]
    NotRoot {
        /// The command, as typed.
        command: String,
    },
    /// A `--filter` that the command does not know, or whose value makes no sense.
    #[error("invalid filter `{filter}`: the filters here are {known}")]
    Filter {
        /// `name=value`
        filter: String,
        /// The names.
        known: String,
    },
    /// A line of an `--env-file` that is none.
    #[error("invalid environment file {}: line {line}: {reason}", path.display())]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that Docker can do and kiln cannot yet.
    #[error("{what} is not supported yet")]
    NotYet {
        /// `pushing (--push)`
        what: String,
    },
    /// A flag that Docker has and kiln does not yet.
    #[error("`--{flag}` is not supported yet")]
    LaterFlag {
        /// Its name.
        flag: &'static str,
    },
    /// A name that is none.
    #[error("{0}")]
    Reference(#[from] ReferenceError),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// An image, archive or layout.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// An image was removed while this command looked at it.
    #[error("no such image: {name}")]
    Gone {
        /// What was asked for.
        name: String,
    },
    /// Binary output is not written to a terminal.
    #[error("refusing to write an archive to a terminal: use -o FILE or redirect standard output")]
    Terminal,
    /// Standard input is a terminal where an archive is to be read.
    #[error("there is nothing to read: give a file with -i, or an archive on standard input")]
    NoInput,
    /// Both the context and the Dockerfile from standard input.
    #[error("standard input cannot be both the build context and the Dockerfile")]
    TwiceStdin,
    /// Two outputs on standard output.
    #[error("two outputs cannot both go to standard output: give one a dest=FILE")]
    TwoStreams,
    /// An output that needs a place to go to.
    #[error("this output needs a destination: add dest=PATH")]
    NoDestination,
    /// There is no Dockerfile.
    #[error("failed to read dockerfile: {} does not exist: name another with -f", path.display())]
    NoDockerfile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A platform that is none.
    #[error("{0}")]
    Platform(#[from] PlatformError),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// A build.
    #[error("failed to solve: {0}")]
    Build(#[source] Box<BuildError>),
    /// An image cannot be put out.
    #[error("{0}")]
    Export(#[source] Box<ExportError>),
    /// What failed before a container's command ran.
    #[error(transparent)]
    Run(Box<Error>),
    /// A container.
    #[error("{0}")]
    Container(#[source] Box<ContainerError>),
    /// Streams cannot be made.
    #[error("cannot set up the container's streams: {0}")]
    Streams(#[source] io::Error),
    /// A terminal that is to be attached is none.
    #[error("the input device is not a TTY")]
    NoTerminal,
    /// An image of another platform than the one asked for.
    #[error(
        "image `{name}` was found but its platform ({found}) does not match the one asked for ({wanted})"
    )]
    WrongPlatform {
        /// The image.
        name: String,
        /// Its platform.
        found: String,
        /// `--platform`
        wanted: String,
    },
    /// Several objects, each with its error.
    #[error("{} errors", .0.len())]
    Several(Vec<Error>),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `read`, `write`
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A result of a command.
pub type Result<T> = std::result::Result<T, Error>;

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self::Build(Box::new(error))
    }
}

impl From<ContainerError> for Error {
    fn from(error: ContainerError) -> Self {
        Self::Container(Box::new(error))
    }
}

impl From<ExportError> for Error {
    fn from(error: ExportError) -> Self {
        Self::Export(Box::new(error))
    }
}

impl Error {
    /// What the program ends with, as Docker does: 125 for flags that do not exist and for
    /// containers that do not start, 126 and 127 for commands that cannot be executed or are not
    /// there, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) => error.exit_code(),
            Self::LaterFlag { .. } => 125,
            Self::Run(error) => match &**error {
                Self::Container(error) => error.exit_code(),
                Self::NoTerminal => 1,
                _ => 125,
            },
            _ => 1,
        }
    }

    /// No error, the only one, or all of them.
    pub fn all(mut errors: Vec<Error>) -> Result<()> {
        match errors.pop() {
            None => Ok(()),
            Some(only) if errors.is_empty() => Err(only),
            Some(last) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }

    /// Whether nobody is left who reads the output: no error to speak of.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The whole message for standard error, without the final line break.
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Usage(error) => error.to_string(),
            Self::Dockerfile(diagnostics) => diagnostics.render(colour),
            Self::Build(error) => {
                let (on, off) = if colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                let excerpt = error.diagnostics().map(|it| it.render(colour) + "\n").unwrap_or_default();
                format!("{excerpt}{on}ERROR:{off} {self}")
            }
            Self::Several(errors) => {
                let errors: Vec<String> = errors.iter().map(|error| error.render(colour)).collect();
                errors.join("\n")
            }
            other => {
                let (on, off) = if colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                format!("{on}ERROR:{off} {}", with_causes(other))
            }
        }
    }
}

/// An error and what caused it, down to the kernel's own words. Errors that pass another one's
/// message on are told once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let kernel = io::Error::from_raw_os_error(libc::EACCES);
        let error = Error::Streams(kernel);
        let text = error.render(false);
        assert_eq!(text.matches("Permission denied").count(), 1, "{text}");
        let inner = std::sync::Arc::new(io::Error::from_raw_os_error(libc::ENOENT));
        #[derive(Debug, thiserror::Error)]
        #[error("cannot look")]
        struct Outer(#[source] std::sync::Arc<io::Error>);
        assert_eq!(with_causes(&Outer(inner)), "cannot look: No such file or directory (os error 2)");
    }
}
