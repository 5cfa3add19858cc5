//! The mounts of a container: Docker's own, the files of /etc, volumes, and what the options add.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;

use super::error::ContainerError;
use super::home::Home;
use super::options::{Mount, RunOptions};
use crate::sandbox::{defaults, netfiles};

/// What `host-gateway` stands for in `--add-host`: with the host's network, the host itself.
const GATEWAY: &str = "127.0.0.1";

/// The files of /etc that say where the container runs.
pub(super) fn etc(
    home: &Home,
    options: &RunOptions,
    hostname: &str,
) -> Result<Vec<SpecMount>, ContainerError> {
    let address = |address: &str| if address == "host-gateway" { GATEWAY } else { address }.to_owned();
    let extra: Vec<(String, String)> =
        options.add_hosts.iter().map(|(name, given)| (name.clone(), address(given))).collect();
    let resolv_conf = netfiles::resolv_conf().map_err(ContainerError::file("read", "/etc/resolv.conf"))?;
    let files = [
        ("resolv.conf", resolv_conf),
        ("hostname", netfiles::hostname(hostname).into_bytes()),
        ("hosts", netfiles::hosts(Some(hostname), &extra).into_bytes()),
    ];
    files
        .into_iter()
        .map(|(name, content)| {
            let source = home.file(name, &content)?;
            Ok(defaults::bind(&source, &format!("/etc/{name}"), false))
        })
        .collect()
}

/// The mounts that the options ask for.
pub(super) fn asked(options: &RunOptions) -> Result<Vec<SpecMount>, ContainerError> {
    options.mounts.iter().map(one).collect()
}

fn one(mount: &Mount) -> Result<SpecMount, ContainerError> {
    let target = clean(mount.target())?;
    match mount {
        Mount::Bind { source, readonly, propagation, create, .. } => {
            if *create && std::fs::symlink_metadata(source).is_err() {
                std::fs::create_dir_all(source)
                    .map_err(ContainerError::file("make the directory", source))?;
            }
            let mut options = vec!["rbind", propagation.as_deref().unwrap_or("rprivate")];
            // What is mounted below it cannot be written to either.
            options.extend(if *readonly { &["ro", "rro"][..] } else { &["rw"] });
            Ok(defaults::mount(&target, "bind", source, &options))
        }
        Mount::Tmpfs { options, .. } => {
            let mut all = vec!["noexec", "nosuid", "nodev"];
            all.extend(options.iter().map(String::as_str));
            Ok(defaults::mount(&target, "tmpfs", Path::new("tmpfs"), &all))
        }
    }
}

/// A path in the container, absolute and without `.` and `..`, which lead nowhere above the root.
pub(super) fn clean(path: &str) -> Result<String, ContainerError> {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    match clean.into_os_string().into_string() {
        Ok(clean) if path.starts_with('/') && clean.len() > 1 => Ok(clean),
        _ => Err(ContainerError::option("mount path", path, "expected an absolute path below /")),
    }
}

/// All mounts in order: a later one on the same place takes the earlier one's, and what holds
/// others comes before them.
pub(super) fn arrange(mut mounts: Vec<SpecMount>, more: Vec<SpecMount>) -> Vec<SpecMount> {
    let fixed = mounts.len();
    for mount in more {
        match mounts.iter_mut().find(|known| known.destination() == mount.destination()) {
            Some(known) => *known = mount,
            None => mounts.push(mount),
        }
    }
    // Docker's own are in order already.
    if let Some(added) = mounts.get_mut(fixed..) {
        added.sort_by_key(|mount| mount.destination().components().count());
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_container() {
        for (path, wanted) in [("/a//b/./c/", "/a/b/c"), ("/a/../../b", "/b"), ("/a", "/a")] {
            assert_eq!(clean(path).unwrap(), wanted);
        }
        for path in ["/", "a", "", "/..", "/a/.."] {
            assert!(clean(path).is_err(), "{path}");
        }
    }

    #[test]
    fn later_mounts_take_a_place_and_parents_come_first() {
        let mount = |path: &str, kind: &str| defaults::mount(path, kind, Path::new(kind), &[]);
        let own = vec![mount("/proc", "proc"), mount("/dev/shm", "tmpfs")];
        let more = vec![mount("/a/b/c", "1"), mount("/a", "2"), mount("/dev/shm", "3"), mount("/a", "4")];
        let arranged = arrange(own, more);
        let texts: Vec<String> = arranged
            .iter()
            .map(|mount| {
                format!("{} {}", mount.destination().display(), mount.typ().as_deref().unwrap_or(""))
            })
            .collect();
        assert_eq!(texts, ["/proc proc", "/dev/shm 3", "/a 4", "/a/b/c 1"]);
    }
}
