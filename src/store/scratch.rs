//! What is not content: unfinished things in `tmp/` and things on their way out in `trash/`.
//!
//! Nothing is deleted where somebody waits for it: it is renamed into `trash/`, and
//! [`Store::empty_trash`] deletes that later.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::base::host;

use super::{Store, StoreError};

/// How deep a directory is deleted in place; deeper ones are moved up first, so that neither the
/// stack nor the number of open files grows with the depth.
const DEPTH: usize = 48;

/// A fresh directory for one step's result; moved to the trash unless it is committed.
#[derive(Debug)]
pub struct Prepared {
    store: Store,
    path: PathBuf,
}

impl Prepared {
    /// Where it is. It is on the store's file system.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.store.trash(&self.path);
    }
}

/// A file that goes to the trash unless it is renamed to its place.
pub(super) struct TempFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    store: Store,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        self.store.trash(&self.path);
    }
}

impl Store {
    /// Makes an empty directory under `tmp/`, mode 0700.
    pub fn prepare(&self) -> Result<Prepared, StoreError> {
        let path = self.root().join("tmp").join(unique_name(self.boot()));
        DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("make the directory", &path))?;
        Ok(Prepared { store: self.clone(), path })
    }

    /// Makes an empty file under `tmp/`, mode 0600, open for reading and writing.
    pub(super) fn temp_file(&self) -> Result<TempFile, StoreError> {
        let path = self.root().join("tmp").join(unique_name(self.boot()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("make the file", &path))?;
        Ok(TempFile { file, path, store: self.clone() })
    }

    /// Moves what is at `path` out of the way, to be deleted later. Nothing happens if nothing is
    /// there; what cannot be moved stays for the collector.
    pub fn trash(&self, path: &Path) {
        let target = self.root().join("trash").join(unique_name(self.boot()));
        let _ = fs::rename(path, target);
    }

    /// Deletes what is in the trash until it is empty or `limit` has passed. Gives whether the trash
    /// is empty now. What others delete at the same time is no error.
    pub fn empty_trash(&self, limit: Duration) -> Result<bool, StoreError> {
        let path = self.root().join("trash");
        let fail = || StoreError::io("empty", &path);
        let deadline = Instant::now() + limit;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let trash = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| fail()(error.into()))?;
        let mut remover = Remover { trash: trash.as_fd(), boot: self.boot(), deadline };
        loop {
            let names = match names(trash.as_fd()) {
                Ok(names) => names,
                Err(error) => return Err(fail()(error)),
            };
            if names.is_empty() {
                return Ok(true);
            }
            let before = names.len();
            let mut gone = 0;
            for (name, _) in names {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                match remover.remove(trash.as_fd(), &name, 0) {
                    Ok(true) => gone += 1,
                    Ok(false) => {}
                    Err(error) => return Err(fail()(error)),
                }
            }
            if gone == 0 && before > 0 {
                return Ok(false);
            }
        }
    }

    /// Moves to the trash what processes that live no more left in `tmp/`, and what has not been
    /// touched for `grace`. Gives the number of things moved.
    pub(super) fn sweep_tmp(&self, grace: Duration) -> Result<usize, StoreError> {
        let tmp = self.root().join("tmp");
        let entries = fs::read_dir(&tmp).map_err(StoreError::io("read", &tmp))?;
        let mut moved = 0;
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &tmp))?;
            let name = entry.file_name();
            let alive = name.to_str().is_some_and(|name| owner_lives(name, self.boot()));
            let modified = entry.metadata().and_then(|status| status.modified());
            let old = modified.is_ok_and(|modified| {
                SystemTime::now().duration_since(modified).is_ok_and(|age| age >= grace)
            });
            if !alive && old {
                self.trash(&entry.path());
                moved += 1;
            }
        }
        Ok(moved)
    }
}

/// A name that no other process and no other call has: boot, pid, start of the process, a count and chance.
fn unique_name(boot: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static START: OnceLock<u64> = OnceLock::new();
    let pid = std::process::id();
    let start = START.get_or_init(|| host::start_time(pid).unwrap_or_default());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut chance = [0; 8];
    // Without the kernel's chance the other parts still tell live processes apart.
    let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::NONBLOCK);
    format!("{}-{pid}-{start}-{count}-{:016x}", short_boot(boot), u64::from_le_bytes(chance))
}

fn short_boot(boot: &str) -> &str {
    boot.get(..8).unwrap_or(boot)
}

/// Whether the process that made `name` still lives.
fn owner_lives(name: &str, boot: &str) -> bool {
    let mut parts = name.split('-');
    let (Some(its_boot), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Ok(pid), Ok(start)) = (pid.parse(), start.parse::<u64>()) else { return false };
    its_boot == short_boot(boot) && host::start_time(pid) == Some(start)
}

/// Renames `from` to `to` unless something is there; gives whether it did.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

struct Remover<'a> {
    trash: BorrowedFd<'a>,
    boot: &'a str,
    deadline: Instant,
}

impl Remover<'_> {
    /// Deletes `name` of `directory`; gives whether it is gone (in time).
    fn remove(&mut self, directory: BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<bool> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= DEPTH {
            let target = unique_name(self.boot);
            return match rustix::fs::renameat(directory, name, self.trash, target.as_str()) {
                Ok(()) | Err(Errno::NOENT) => Ok(true),
                Err(error) => Err(error.into()),
            };
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let inner = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(inner) => inner,
            Err(Errno::NOENT) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for (child, kind) in names(inner.as_fd())? {
            if Instant::now() >= self.deadline {
                return Ok(false);
            }
            if kind != FileType::Directory {
                match rustix::fs::unlinkat(inner.as_fd(), child.as_slice(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !self.remove(inner.as_fd(), &child, depth + 1)? {
                return Ok(false);
            }
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            // Somebody put something in meanwhile, or a child was moved in by another remover.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The names in a directory with their types, without `.` and `..`.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}
