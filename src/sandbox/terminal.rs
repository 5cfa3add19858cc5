//! The terminal of a process: a pair from the container's own devpts, made before that is
//! attached anywhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;

use super::child::Console;
use super::error::SandboxError;
use super::mounts;

/// A pair: the controlling side, and the side the process gets, with the console made of it.
pub(super) struct Terminal {
    pub controlling: OwnedFd,
    pub inner: OwnedFd,
    pub console: Console,
}

/// Makes a pair in `terminals`, a devpts that will be mounted on `mounted_on`.
pub(super) fn open(
    terminals: &OwnedFd,
    mounted_on: &Path,
    size: Option<(u16, u16)>,
) -> Result<Terminal, SandboxError> {
    let wrap = |source: io::Error| SandboxError::Terminal { source };
    let pair = || -> io::Result<(OwnedFd, OwnedFd, u32)> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let controlling = rustix::fs::openat(terminals, c"ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&controlling)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inner = rustix::pty::ioctl_tiocgptpeer(&controlling, flags)?;
        let number = super::sys::terminal_number(controlling.as_fd())?;
        if let Some((rows, columns)) = size {
            super::process::resize(&controlling, rows, columns)?;
        }
        Ok((controlling, inner, number))
    };
    let (controlling, inner, number) = pair().map_err(wrap)?;
    let device = mounts::c_string(&mounted_on.join(number.to_string()))?;
    let target = mounts::target(Path::new("/dev/console"), false)?;
    Ok(Terminal { controlling, inner, console: Console { device, target } })
}
