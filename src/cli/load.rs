//! `kiln load`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::command::Run;
use super::error::{Error, Result};
use super::session::Session;
use crate::base::platform::Platform;

/// Load an image from a tar archive or STDIN
#[derive(clap::Parser)]
pub struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<Platform>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let platform = self.platform.unwrap_or_else(Platform::host);
        if self.input.is_none() && io::stdin().is_terminal() {
            return Err(Error::NoInput);
        }
        let store = session.store()?;
        let loaded = match &self.input {
            Some(path) => store.load_file(path, &platform)?,
            None => store.load(io::stdin(), Path::new("standard input"), &platform)?,
        };
        store.sync()?;
        let mut text = String::new();
        for image in &loaded {
            let tagged = image.names.iter().map(|name| format!("Loaded image: {name}\n"));
            text.extend(tagged);
            if image.names.is_empty() {
                text.push_str(&format!("Loaded image ID: {}\n", image.id));
            }
        }
        session.print(&text).map(|()| 0)
    }
}
