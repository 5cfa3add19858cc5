//! A minimal /dev (OCI runtime spec config-linux.md, "Default Devices", and runtime-linux.md,
//! "Dev symbolic links"): nodes and links in a tmpfs that is attached nowhere yet.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::error::SandboxError;

/// Name, major, minor of the devices every container has.
pub(super) const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills the empty tmpfs `dev`: the default devices, those of the spec, the links, and mount
/// points for what is mounted in it `later`.
pub(super) fn populate(dev: BorrowedFd<'_>, spec: &Spec, later: &[Mount]) -> Result<(), SandboxError> {
    let mode = Mode::from_raw_mode(0o666);
    for (name, major, minor) in DEFAULT {
        let number = rustix::fs::makedev(major, minor);
        let made = rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number)
            .and_then(|()| rustix::fs::chmodat(dev, name, mode, AtFlags::empty()));
        made.map_err(|errno| failed(&Path::new("/dev").join(name), errno))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)
            .map_err(|errno| failed(&Path::new("/dev").join(name), errno))?;
    }
    for mount in later {
        if let Ok(name) = mount.destination().strip_prefix("/dev")
            && name.components().count() == 1
            && super::mountpoints::is_directory(mount)
        {
            match rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(mount.destination(), errno)),
            }
        }
    }
    if spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(dev, c"console", flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| failed(Path::new("/dev/console"), errno))?;
    }
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
    for device in devices.unwrap_or_default() {
        one(dev, device).map_err(|errno| failed(device.path(), errno))?;
    }
    Ok(())
}

fn one(dev: BorrowedFd<'_>, device: &LinuxDevice) -> Result<(), Errno> {
    let Ok(path) = device.path().strip_prefix("/dev") else { return Err(Errno::NOTSUP) };
    let mut above = PathBuf::new();
    for name in path.parent().into_iter().flat_map(Path::components) {
        if !matches!(name, std::path::Component::Normal(_)) {
            return Err(Errno::INVAL);
        }
        above.push(name);
        match rustix::fs::mkdirat(dev, &above, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777);
    let number = u32::try_from(device.major()).and_then(|major| Ok((major, u32::try_from(device.minor())?)));
    let (major, minor) = number.map_err(|_| Errno::INVAL)?;
    match rustix::fs::mknodat(dev, path, kind, mode, rustix::fs::makedev(major, minor)) {
        // One of the default devices, named again.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::chmodat(dev, path, mode, AtFlags::empty())?;
    if device.uid().is_some() || device.gid().is_some() {
        let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
        rustix::fs::chownat(dev, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn failed(path: &Path, errno: Errno) -> SandboxError {
    SandboxError::Device { path: path.to_owned(), source: errno.into() }
}
