//! What can go wrong on the command line, and what each error means for the exit code.

use std::io;
use std::path::PathBuf;

use super::template::TemplateError;
use super::usage::UsageError;
use crate::base::diagnostic::Diagnostics;
use crate::base::reference::ReferenceError;
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

impl Error {
    /// What the program ends with, as Docker does: 125 for flags that do not exist, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) => error.exit_code(),
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
            Self::Several(errors) => {
                let errors: Vec<String> = errors.iter().map(|error| error.render(colour)).collect();
                errors.join("\n")
            }
            other => {
                let (on, off) = if colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                format!("{on}ERROR:{off} {other}")
            }
        }
    }
}
