//! `kiln info`

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::command::Run;
use super::error::Result;
use super::listing;
use super::session::Session;
use super::version::NUMBER;
use crate::base::platform::Platform;

/// Display system-wide information
#[derive(clap::Parser)]
pub struct Args {
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true, help = listing::OBJECT_HELP)]
    format: String,
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let value = value(session)?;
        let text = match self.format.as_str() {
            "" => text(&value),
            format => listing::object(format, &value)?,
        };
        session.print(&text).map(|()| 0)
    }
}

/// Fields of the Engine API's SystemInfo, as far as they mean something here.
fn value(session: &Session) -> Result<Value> {
    let images = session.store()?.images()?.len();
    let name = rustix::system::uname();
    let cgroup = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" };
    Ok(json!({
        "ID": "",
        "Containers": 0,
        "ContainersRunning": 0,
        "ContainersPaused": 0,
        "ContainersStopped": 0,
        "Images": images,
        "Driver": "overlay2",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup,
        "KernelVersion": name.release().to_string_lossy(),
        "OperatingSystem": distribution(),
        "OSType": "linux",
        "Architecture": name.machine().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory(),
        "DockerRootDir": session.root().to_string_lossy(),
        "Name": name.nodename().to_string_lossy(),
        "ServerVersion": NUMBER,
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "Warnings": null,
        "ClientInfo": { "Version": NUMBER, "Os": "linux", "Arch": Platform::host().architecture },
    }))
}

/// PRETTY_NAME of os-release(5).
fn distribution() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The machine's memory in bytes.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number =
        kibibytes.and_then(|rest| rest.split_whitespace().next()).and_then(|it| it.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

fn text(value: &Value) -> String {
    let shown = |key: &str| super::template::print(&value[key]);
    let memory = value["MemTotal"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 30);
    format!(
        "Client:\n Version:    {}\n\nServer:\n Images: {}\n Server Version: {}\n Storage Driver: {}\n \
         Cgroup Driver: {}\n Cgroup Version: {}\n Kernel Version: {}\n Operating System: {}\n OSType: {}\n \
         Architecture: {}\n CPUs: {}\n Total Memory: {memory:.4}GiB\n Name: {}\n Docker Root Dir: {}\n",
        shown("ServerVersion"),
        shown("Images"),
        shown("ServerVersion"),
        shown("Driver"),
        shown("CgroupDriver"),
        shown("CgroupVersion"),
        shown("KernelVersion"),
        shown("OperatingSystem"),
        shown("OSType"),
        shown("Architecture"),
        shown("NCPU"),
        shown("Name"),
        shown("DockerRootDir"),
    )
}
