//! `kiln version`

use serde_json::{Value, json};

use super::command::Run;
use super::error::Result;
use super::listing;
use super::session::Session;
use crate::base::platform::Platform;

/// kiln's version.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");
/// The version of Docker's Engine API whose objects kiln prints.
const API: &str = "1.50";

/// Show the kiln version information
#[derive(clap::Parser)]
pub struct Args {
    #[arg(short, long, value_name = "string", help = listing::OBJECT_HELP)]
    format: Option<String>,
}

/// What `kiln --version` prints.
pub fn short() -> String {
    format!("kiln version {NUMBER}\n")
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let text = match self.format.as_deref() {
            None | Some("") => text(),
            Some(format) => listing::object(format, &value())?,
        };
        session.print(&text).map(|()| 0)
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Docker's fields. There is no daemon: the server is this program too.
fn value() -> Value {
    let platform = Platform::host();
    json!({
        "Client": {
            "Version": NUMBER,
            "ApiVersion": API,
            "Os": platform.os,
            "Arch": platform.architecture,
        },
        "Server": {
            "Version": NUMBER,
            "ApiVersion": API,
            "Os": platform.os,
            "Arch": platform.architecture,
            "KernelVersion": kernel(),
        },
    })
}

fn text() -> String {
    let platform = Platform::host();
    format!(
        "Client:\n Version:           {NUMBER}\n API version:       {API}\n OS/Arch:           {platform}\n\n\
         Server: the same program, there is no daemon\n Version:           {NUMBER}\n OS/Arch:           {platform}\n \
         Kernel:            {}\n",
        kernel()
    )
}
