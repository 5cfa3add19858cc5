//! The command line: what was typed becomes a request to the rooms below, what they answer becomes
//! output and an exit code.
//!
//! A file per command, all of them in the table of [`command`]. Standard output carries only what
//! was asked for; progress, warnings and errors go to standard error. Nothing here does the work
//! of a command: that is in the rooms below, which know no terminal.

mod build;
mod command;
mod completion;
mod df;
mod error;
mod filter;
mod help;
mod history;
mod images;
mod import;
mod info;
mod input;
mod inspect;
mod interrupt;
mod listing;
mod load;
mod parse;
mod progress;
mod prune;
mod rmi;
mod run;
mod save;
mod session;
mod table;
mod tag;
mod template;
mod units;
mod usage;
mod value;
mod version;

use std::process::ExitCode;

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let words = std::env::args_os().skip(1).collect();
    let (result, session) = command::dispatch(words);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if !error.is_closed_pipe() {
                session.note(&error.render(session.colour));
            }
            ExitCode::from(error.exit_code())
        }
    }
}
