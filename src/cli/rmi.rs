//! `kiln rmi`

use super::command::Run;
use super::error::{Error, Result};
use super::session::Session;
use crate::store::{Removed, StoreError};

/// Remove one or more images
#[derive(clap::Parser)]
pub struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true)]
    image: Vec<String>,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let store = session.store()?;
        let mut text = String::new();
        let mut failed = Vec::new();
        for name in &self.image {
            match store.remove_image(name, self.force) {
                Ok(removed) => removed.iter().for_each(|one| text.push_str(&line(one))),
                // That it is not there is what was wanted where force is used.
                Err(error @ StoreError::NoImage(_)) if self.force => {
                    session.note(&format!("WARNING: {error}"))
                }
                Err(error) => failed.push(Error::from(error)),
            }
        }
        session.print(&text)?;
        Error::all(failed).map(|()| 0)
    }
}

fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {name}\n"),
        Removed::Deleted(id) => format!("Deleted: {id}\n"),
    }
}
