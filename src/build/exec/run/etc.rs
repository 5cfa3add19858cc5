//! What a RUN finds in /etc that is in no layer: hosts, resolv.conf, hostname.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::runtime::Mount;

use crate::base::digest::Hasher;
use crate::build::exec::Exec;
use crate::build::exec::error::ExecError;
use crate::build::plan::operation::RunOperation;
use crate::sandbox::{defaults, netfiles};

/// The host name of RUN steps that are given none; the name that build scripts expect.
pub const HOSTNAME: &str = "buildkitsandbox";

/// What `--add-host name:host-gateway` stands for: with the host's network, the host itself.
const GATEWAY: &str = "127.0.0.1";

/// The mounts that show these files to `run`. The files are shared by all steps for which they
/// say the same.
pub fn mounts(exec: &Exec<'_>, run: &RunOperation) -> Result<Vec<Mount>, ExecError> {
    let hostname = super::hostname(run);
    let address =
        |address: &String| if address == "host-gateway" { GATEWAY.to_owned() } else { address.clone() };
    let added: Vec<(String, String)> =
        run.add_hosts.iter().map(|(name, of)| (name.clone(), address(of))).collect();
    let resolv_conf = netfiles::resolv_conf().map_err(ExecError::file("read", "/etc/resolv.conf"))?;
    let files = [
        ("hosts", netfiles::hosts(Some(hostname), &added).into_bytes()),
        ("resolv.conf", resolv_conf),
        ("hostname", netfiles::hostname(hostname).into_bytes()),
    ];
    let mut hasher = Hasher::new();
    files.iter().for_each(|(_, content)| hasher.field(content));
    let directory = exec.scratch()?.join(hasher.finish().short());
    if !directory.is_dir() {
        make(&directory, &files).map_err(ExecError::file("write the files of /etc to", &directory))?;
    }
    let mount = |(name, _): &(&str, _)| defaults::bind(&directory.join(name), &format!("/etc/{name}"), true);
    Ok(files.iter().map(mount).collect())
}

/// Makes the directory with all files in one step: another thread may be at it too.
fn make(directory: &Path, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    let unfinished = tempfile::tempdir_in(parent)?;
    for (name, content) in files {
        let path = unfinished.path().join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    std::fs::set_permissions(unfinished.path(), Permissions::from_mode(0o755))?;
    match std::fs::rename(unfinished.path(), directory) {
        Err(_) if directory.is_dir() => Ok(()),
        result => result.map(|()| drop(unfinished.keep())),
    }
}
