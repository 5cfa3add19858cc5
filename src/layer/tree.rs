//! Paths in a tree directory: looked up under its descriptor, through no symbolic link, and also
//! where they are longer than one call of the kernel takes.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::entry::{name, parent};
use super::{LayerError, Result};

/// A path for one call (`PATH_MAX` counts the final zero byte).
const LONGEST_CALL: usize = 4095;
/// For directories that are only looked through.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// A tree, and the directory in it that was used last.
pub(crate) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    current: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    /// Opens the tree at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let root = rustix::fs::open(path, LOOK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| LayerError::file("open the tree", path, error))?;
        Ok(Self { root, path: path.to_owned(), current: None })
    }

    /// Opens `path` with `flags`.
    pub fn open_at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_below(self.root.as_fd(), path, flags)
    }

    /// The directory that holds `path`, for further calls, and the name in it. The root's own
    /// name in itself is `.`.
    pub fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p [u8]), Errno> {
        let Some(dir) = parent(path) else { return Ok((self.root.as_fd(), b".")) };
        if dir.is_empty() {
            return Ok((self.root.as_fd(), path));
        }
        if self.current.as_ref().is_none_or(|(current, _)| current != dir) {
            self.current = Some((dir.to_vec(), self.open_at(dir, LOOK)?));
        }
        let (_, fd) = self.current.as_ref().expect("set above");
        Ok((fd.as_fd(), name(path)))
    }

    /// The tree's own directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the directory at `path` itself, in one step where the one used last holds it, and
    /// makes it the one used last.
    pub fn enter(&mut self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let known = self.current.as_ref().is_some_and(|(current, _)| Some(&current[..]) == parent(path));
        let fd = if known {
            let (dir, name) = self.parent(path)?;
            rustix::fs::openat(dir, name, flags, Mode::empty())?
        } else {
            self.open_at(path, flags)?
        };
        self.current = Some((path.to_vec(), rustix::io::fcntl_dupfd_cloexec(&fd, 0)?));
        Ok(fd)
    }

    /// Forgets the directory used last, since it may have been replaced.
    pub fn forget(&mut self) {
        self.current = None;
    }

    /// Opens the file at `path` for reading.
    pub fn open_file(&mut self, path: &[u8]) -> Result<File, Errno> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?))
    }

    /// An error about `path` in this tree.
    pub fn error(&self, action: &'static str, path: &[u8], error: Errno) -> LayerError {
        LayerError::file(action, self.shown(path), error)
    }

    /// Where `path` is on the host, for messages; a very long one is cut.
    pub fn shown(&self, path: &[u8]) -> PathBuf {
        let cut = &path[..path.len().min(LONGEST_CALL)];
        self.path.join(OsStr::from_bytes(cut))
    }
}

/// Opens `path` under `root` in as many steps as its length needs.
fn open_below(root: BorrowedFd<'_>, mut path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    loop {
        let dir = held.as_ref().map_or(root, OwnedFd::as_fd);
        if path.len() <= LONGEST_CALL {
            return open_step(dir, if path.is_empty() { b"." } else { path }, flags);
        }
        let slash = path[..=LONGEST_CALL].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let next = open_step(dir, &path[..slash], LOOK)?;
        held = Some(next);
        path = &path[slash + 1..];
    }
}

fn open_step(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_open_and_links_do_not() {
        let dir = crate::layer::testing::scratch();
        let name = "n".repeat(200);
        let mut fd = OwnedFd::from(File::open(dir.path()).unwrap());
        for _ in 0..50 {
            rustix::fs::mkdirat(&fd, &*name, Mode::RWXU).unwrap();
            fd = rustix::fs::openat(&fd, &*name, LOOK, Mode::empty()).unwrap();
        }
        rustix::fs::symlinkat("/etc", &fd, "link").unwrap();
        let path = vec![name; 50].join("/");
        let mut tree = Tree::open(dir.path()).unwrap();
        assert!(tree.open_at(path.as_bytes(), LOOK).is_ok());
        assert_eq!(tree.open_file(format!("{path}/none").as_bytes()).unwrap_err(), Errno::NOENT);
        assert_eq!(tree.open_file(format!("{path}/link").as_bytes()).unwrap_err(), Errno::LOOP);
        let mut tree = Tree::open(dir.path()).unwrap();
        assert_eq!(tree.open_file(format!("{path}/link/passwd").as_bytes()).unwrap_err(), Errno::LOOP);
        assert_eq!(tree.open_file(b"../x").unwrap_err(), Errno::XDEV);
    }
}
