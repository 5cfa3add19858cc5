//! `kiln parse`

use std::path::PathBuf;

use super::command::Run;
use super::error::Result;
use super::input;
use super::session::Session;
use crate::dockerfile;

/// Show how a Dockerfile is taken apart
#[derive(clap::Parser)]
pub struct Args {
    /// Print the instructions as JSON (the only form there is)
    #[arg(long, help_heading = super::help::OWN)]
    json: bool,
    file: PathBuf,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        // There is one form to print; the flag says which so that others can come.
        let Self { json: _, file } = self;
        let text = input::read(&file, dockerfile::MAX_SIZE)?;
        let name = if file.as_os_str() == "-" { "Dockerfile".into() } else { file.to_string_lossy() };
        let parsed = dockerfile::parse_form(&name, &text)?;
        session.print(&format!("{}\n", dockerfile::dump(&parsed))).map(|()| 0)
    }
}
