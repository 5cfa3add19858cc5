//! What every command is given: where output goes, and where the store is.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::error::{Error, Result};
use crate::base::clock::Clock;
use crate::store::Store;

/// Standard output without the buffer that writes line by line: for archives.
pub fn raw_stdout() -> Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(Error::Output)
}

/// The surroundings of one command.
#[derive(Debug)]
pub struct Session {
    /// The command as typed: `kiln image ls`.
    pub path: String,
    /// Whether standard output is a terminal.
    pub stdout_terminal: bool,
    /// Whether a picture can be drawn on standard error.
    pub can_draw: bool,
    /// Whether standard error may be coloured.
    pub colour: bool,
    root: Option<OsString>,
}

impl Session {
    /// The surroundings of this process; `root` is `--root`.
    pub fn new(root: Option<OsString>) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let can_draw = io::stderr().is_terminal() && !dumb;
        Self {
            path: "kiln".to_owned(),
            stdout_terminal: io::stdout().is_terminal(),
            can_draw,
            colour: can_draw && set("NO_COLOR").is_none(),
            root: root.or_else(|| set("KILN_ROOT")),
        }
    }

    /// The directory of the store: `--root`, `KILN_ROOT`, for root `/var/lib/kiln`, else
    /// `kiln` in the user's data directory.
    pub fn root(&self) -> PathBuf {
        if let Some(root) = &self.root {
            return PathBuf::from(root);
        }
        if is_root() {
            return PathBuf::from("/var/lib/kiln");
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        data.or_else(home).unwrap_or_else(|| PathBuf::from("/var/lib")).join("kiln")
    }

    /// An error unless this process is root.
    pub fn need_root(&self) -> Result<()> {
        if is_root() { Ok(()) } else { Err(Error::NotRoot { command: self.path.clone() }) }
    }

    /// The store, made if it is not there. Needs root.
    pub fn store(&self) -> Result<Store> {
        self.need_root()?;
        Ok(Store::open(&self.root(), Clock::System)?)
    }

    /// Writes `text` to standard output.
    pub fn print(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Writes a line to standard error; that nobody reads it is no error.
    pub fn note(&self, line: &str) {
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// How wide texts for standard output may be.
    pub fn width(&self) -> usize {
        let size = self.stdout_terminal.then(|| console::Term::stdout().size_checked()).flatten();
        size.map_or(80, |(_, width)| usize::from(width).max(40))
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
