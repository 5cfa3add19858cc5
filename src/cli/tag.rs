//! `kiln tag`

use super::command::Run;
use super::error::Result;
use super::session::Session;
use crate::base::reference::Reference;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(clap::Parser)]
pub struct Args {
    source: String,
    target: String,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let target: Reference = self.target.parse()?;
        let store = session.store()?;
        store.tag(&target, store.find(&self.source)?)?;
        Ok(0)
    }
}
