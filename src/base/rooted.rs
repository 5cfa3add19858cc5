//! Paths that cannot leave their root: every look-up is one `openat2` with `RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_MAGICLINKS`, so that links in an image or a context, absolute ones and `..`
//! included, end inside it whoever changes them meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// A directory that paths are looked up in.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the directory at `path` as a root.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Where the root is on the host, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens `path`; a symbolic link at its end is followed unless `flags` has `NOFOLLOW`.
    pub fn open_at(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Opens `path` and refuses any symbolic link on the way, the last component included.
    pub fn open_plain(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    /// Opens the directory that holds `path`'s last component, following links on the way, and
    /// names that component. `path` must have one.
    pub fn open_parent<'p>(&self, path: &'p [u8]) -> io::Result<(OwnedFd, &'p OsStr)> {
        let (parent, name) = split(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_at(parent, flags)?, OsStr::from_bytes(name)))
    }

    /// The status of `path`; a link at its end is not followed.
    pub fn stat(&self, path: &[u8]) -> io::Result<Statx> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        stat_fd(fd.as_fd())
    }

    /// Reads a whole file of at most `limit` bytes, links followed inside the root. `None` if
    /// there is no such file; a larger one, or one that is no regular file, is an error.
    pub fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
        use io::Read;
        // Not blocking: a FIFO in the place of the file must not hang the reader.
        let fd = match self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if file_type(&stat_fd(fd.as_fd())?) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::from(fd).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    fn resolve(&self, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            let opened = rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
            match opened {
                // The kernel could not prove that `..` stayed inside while something was renamed.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

/// The status of an open file.
pub fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::statx(fd, c"", flags, StatxFlags::BASIC_STATS)?)
}

/// The file type in a status.
pub fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// The part before the last component and the component itself.
fn split(path: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let trimmed = &path[..path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1)];
    let (parent, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&trimmed[..=at], &trimmed[at + 1..]),
        None => (&trimmed[..0], trimmed),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no last component"));
    }
    Ok((parent, name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_dots_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("climbing")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for path in ["etc/passwd", "/etc/passwd", "absolute", "climbing", "../../etc/passwd"] {
            assert_eq!(root.read(path.as_bytes(), 100).unwrap().as_deref(), Some(&b"inside"[..]), "{path}");
        }
        assert_eq!(root.read(b"etc/shadow", 100).unwrap(), None);
        assert!(root.read(b"loop", 100).is_err());
        assert!(root.read(b"etc", 100).is_err());
        assert!(root.read(b"etc/passwd", 3).is_err());
        assert!(root.open_plain(b"absolute", OFlags::RDONLY).is_err());
    }

    #[test]
    fn parents() {
        assert_eq!(split(b"a/b/").unwrap(), (&b"a/"[..], &b"b"[..]));
        assert_eq!(split(b"/b").unwrap(), (&b"/"[..], &b"b"[..]));
        assert_eq!(split(b"b").unwrap(), (&b""[..], &b"b"[..]));
        assert!(split(b"a/..").is_err());
        assert!(split(b"/").is_err());
    }
}
