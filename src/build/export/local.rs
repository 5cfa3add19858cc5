//! `type=local`: the merged file system as files of a directory on the host.
//!
//! They belong to whoever runs kiln, as with `docker build -o DIR`; modes, times, links, devices
//! and pipes are the image's. What is there already stays unless the image has something of the
//! same name. Every path is opened below the directory without following a link.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::base::clock::Time;
use crate::base::digest::LayerId;
use crate::base::rooted::Root;
use crate::layer::entry::{EntryRef, KindRef, name, parent};
use crate::store::Store;

use super::{ExportError, merged};

const PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// Writes the file system of `layers` to the directory `to`.
pub fn write(store: &Store, layers: &[LayerId], to: &Path) -> Result<(), ExportError> {
    std::fs::create_dir_all(to).map_err(ExportError::file("make", to))?;
    let root = Root::open(to).map_err(ExportError::file("open", to))?;
    let mut local = Local { root, to, parent: None, directories: Vec::new() };
    merged::each(store, layers, |entry, content| local.entry(&entry, content))?;
    local.finish()
}

struct Local<'a> {
    root: Root,
    to: &'a Path,
    /// The last directory that something was put in.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Modes and times of directories, set when everything is in them.
    directories: Vec<(Vec<u8>, u32, Time)>,
}

impl Local<'_> {
    fn host_path(&self, path: &[u8]) -> PathBuf {
        self.to.join(std::ffi::OsStr::from_bytes(path))
    }

    fn failed(&self, action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> ExportError {
        let failed = ExportError::file(action, self.host_path(path));
        move |errno| failed(errno.into())
    }

    fn entry(&mut self, entry: &EntryRef<'_>, content: Option<&mut dyn Read>) -> Result<(), ExportError> {
        let (above, base) = (parent(entry.path).unwrap_or_default(), name(entry.path));
        if self.parent.as_ref().is_none_or(|(path, _)| path != above) {
            let fd = self
                .root
                .open_plain(above, PATH)
                .map_err(ExportError::file("open", self.host_path(above)))?;
            self.parent = Some((above.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("opened above");
        let fd = fd.as_fd();
        if entry.kind.is_directory() {
            self.directory(fd, base, entry)?;
            self.directories.push((entry.path.to_vec(), entry.mode, entry.mtime));
            return Ok(());
        }
        match rustix::fs::unlinkat(fd, base, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Err(ExportError::InTheWay { path: self.host_path(entry.path) }),
            Err(errno) => return Err(self.failed("replace", entry.path)(errno)),
        }
        match entry.kind {
            KindRef::File { .. } => self.file(fd, base, entry, content)?,
            KindRef::HardLink(target) => {
                let from = self.root.open_plain(parent(target).unwrap_or_default(), PATH);
                let from = from.map_err(ExportError::file("open", self.host_path(target)))?;
                rustix::fs::linkat(&from, name(target), fd, base, AtFlags::empty())
                    .map_err(self.failed("link", entry.path))?;
                return Ok(());
            }
            KindRef::Symlink(target) => {
                rustix::fs::symlinkat(target, fd, base).map_err(self.failed("make", entry.path))?;
            }
            KindRef::CharDevice { major, minor } => {
                self.node(fd, entry, FileType::CharacterDevice, rustix::fs::makedev(major, minor))?;
            }
            KindRef::BlockDevice { major, minor } => {
                self.node(fd, entry, FileType::BlockDevice, rustix::fs::makedev(major, minor))?;
            }
            KindRef::Fifo => self.node(fd, entry, FileType::Fifo, 0)?,
            KindRef::Directory { .. } | KindRef::Whiteout => return Ok(()),
        }
        rustix::fs::utimensat(fd, base, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("set the time of", entry.path))
    }

    fn directory(&self, fd: BorrowedFd<'_>, base: &[u8], entry: &EntryRef<'_>) -> Result<(), ExportError> {
        match rustix::fs::mkdirat(fd, base, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match rustix::fs::statat(fd, base, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
                Ok(_) => Err(ExportError::InTheWay { path: self.host_path(entry.path) }),
                Err(errno) => Err(self.failed("look at", entry.path)(errno)),
            },
            Err(errno) => Err(self.failed("make", entry.path)(errno)),
        }
    }

    fn file(
        &self,
        fd: BorrowedFd<'_>,
        base: &[u8],
        entry: &EntryRef<'_>,
        content: Option<&mut dyn Read>,
    ) -> Result<(), ExportError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(fd, base, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(made.map_err(self.failed("make", entry.path))?);
        io::copy(content.unwrap_or(&mut io::empty()), &mut file)
            .map_err(ExportError::file("write", self.host_path(entry.path)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
            .map_err(self.failed("set the mode of", entry.path))
    }

    fn node(
        &self,
        fd: BorrowedFd<'_>,
        entry: &EntryRef<'_>,
        kind: FileType,
        device: u64,
    ) -> Result<(), ExportError> {
        let base = name(entry.path);
        let mode = Mode::from_raw_mode(entry.mode);
        rustix::fs::mknodat(fd, base, kind, mode, device).map_err(self.failed("make", entry.path))?;
        // The mode is set again: making a node takes the umask off it.
        rustix::fs::chmodat(fd, base, mode, AtFlags::empty())
            .map_err(self.failed("set the mode of", entry.path))
    }

    /// Sets what directories are like, the deepest first.
    fn finish(self) -> Result<(), ExportError> {
        for (path, mode, mtime) in self.directories.iter().rev() {
            let fd = self.root.open_plain(path, OFlags::RDONLY | OFlags::DIRECTORY);
            let fd = fd.map_err(ExportError::file("open", self.host_path(path)))?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(*mode))
                .map_err(self.failed("set the mode of", path))?;
            rustix::fs::futimens(&fd, &times(*mtime)).map_err(self.failed("set the time of", path))?;
        }
        Ok(())
    }
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
