//! What can go wrong on the command line, and what each error means for the exit code.

use std::io;
use std::path::PathBuf;

use super::template::TemplateError;
use super::usage::UsageError;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(#[from] UsageError),
    /// A `--format` that is no template or does not fit what it is for.
    #[error("{0}")]
    Template(#[from] TemplateError),
    /// Root is needed.
    #[error("`kiln {command}` needs root for now: run it with sudo")]
    NotRoot {
        /// The command, as typed.
        command: String,
    },
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

    /// Whether nobody is left who reads the output: no error to speak of.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The whole message for standard error, without the final line break.
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Usage(error) => error.to_string(),
            other => {
                let (on, off) = if colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                format!("{on}ERROR:{off} {other}")
            }
        }
    }
}
