//! Locks between processes: flock(2) on files of `locks/`, released by the kernel when their
//! holder dies.
//!
//! A lock is good only while its file has its name: a collector that holds it alone may unlink
//! the file, so whoever gets a lock looks whether the name still leads to the file it locked, and
//! starts again if not.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;

use super::{Store, StoreError};

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

#[derive(Clone, Copy)]
enum Kind {
    Exclusive,
    Shared,
}

impl Store {
    /// Takes the lock `name`, waiting for those who hold it.
    pub fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        self.wait_for(name, Kind::Exclusive)
    }

    /// Takes the lock `name` together with others who share it.
    pub fn lock_shared(&self, name: &str) -> Result<Lock, StoreError> {
        self.wait_for(name, Kind::Shared)
    }

    /// Takes the lock `name` unless somebody has it.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Lock::try_at(&self.lock_path(name))
    }

    fn wait_for(&self, name: &str, kind: Kind) -> Result<Lock, StoreError> {
        let path = self.lock_path(name);
        loop {
            let file = open(&path)?;
            let locked = match kind {
                Kind::Exclusive => file.lock(),
                Kind::Shared => file.lock_shared(),
            };
            locked.map_err(StoreError::io("take the lock", &path))?;
            if is_current(&file, &path)? {
                return Ok(Lock { file, path });
            }
        }
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let locks = self.root().join("locks");
        if !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) {
            locks.join(name)
        } else {
            locks.join(format!("named-{}", Digest::of(name).hex()))
        }
    }
}

impl Lock {
    /// Takes the lock on the file at `path` unless somebody has it.
    pub(super) fn try_at(path: &Path) -> Result<Option<Lock>, StoreError> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if is_current(&file, path)? => return Ok(Some(Lock { file, path: path.to_owned() })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("take the lock", path)(error)),
            }
        }
    }

    /// Removes the lock's file; only for exclusive locks, which keep others from it until now.
    pub(super) fn remove(self) -> Result<(), StoreError> {
        fs::remove_file(&self.path).map_err(StoreError::io("remove the lock", &self.path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would release it too, but not while a child holds a copy of the descriptor.
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(StoreError::io("open the lock", path))
}

fn is_current(file: &File, path: &Path) -> Result<bool, StoreError> {
    let fail = StoreError::io("look at the lock", path);
    let held = match file.metadata() {
        Ok(held) => held,
        Err(error) => return Err(fail(error)),
    };
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fail(error)),
    }
}
