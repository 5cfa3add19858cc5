//! What a RUN finds in /etc that is in no layer: hosts, resolv.conf, hostname.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::runtime::Mount;

use crate::base::digest::Hasher;
use crate::build::exec::Exec;
use crate::build::exec::error::ExecError;
use crate::build::plan::operation::RunOperation;
use crate::sandbox::defaults;

/// The host name of RUN steps that are given none; the name that build scripts expect.
pub const HOSTNAME: &str = "buildkitsandbox";

/// What `--add-host name:host-gateway` stands for: with the host's network, the host itself.
const GATEWAY: &str = "127.0.0.1";

/// The text of /etc/hosts.
pub fn hosts(hostname: &str, added: &[(String, String)]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str("ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    for (name, address) in added {
        let address = if address == "host-gateway" { GATEWAY } else { address };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// The text of /etc/resolv.conf: the host's own, or nothing where it has none.
pub fn resolv_conf() -> Vec<u8> {
    std::fs::read("/etc/resolv.conf").unwrap_or_default()
}

/// The mounts that show these files to `run`. The files are shared by all steps for which they
/// say the same.
pub fn mounts(exec: &Exec<'_>, run: &RunOperation) -> Result<Vec<Mount>, ExecError> {
    let hostname = super::hostname(run);
    let files = [
        ("hosts", hosts(hostname, &run.add_hosts).into_bytes()),
        ("resolv.conf", resolv_conf()),
        ("hostname", format!("{hostname}\n").into_bytes()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file() {
        let added = [("db".to_owned(), "10.0.0.2".to_owned()), ("up".to_owned(), "host-gateway".to_owned())];
        insta::assert_snapshot!(hosts("box", &added).replace('\t', " "), @r"
        127.0.0.1 localhost box
        ::1 localhost ip6-localhost ip6-loopback
        ff02::1 ip6-allnodes
        ff02::2 ip6-allrouters
        10.0.0.2 db
        127.0.0.1 up
        ");
    }
}
