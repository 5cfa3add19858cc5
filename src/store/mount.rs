//! Directories of `RUN --mount=type=cache`: named, kept between builds, part of no layer.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::params;

use crate::base::digest::Digest;

use super::lock::Lock;
use super::scratch::rename_new;
use super::{Store, StoreError};

/// With whom a cache mount is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// With others who share it (`sharing=shared`).
    Shared,
    /// Alone, after waiting for the others (`sharing=locked`).
    Exclusive,
    /// Alone, or not at all if somebody has it (`sharing=private`: then another id is tried).
    TryExclusive,
}

/// A cache mount in use. While it lives, pruning leaves it alone.
#[derive(Debug)]
pub struct CacheMount {
    /// The directory.
    pub path: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Takes the cache mount `id` into use. If it is new, `fill` is called with an empty
    /// directory, mode 0700, to become it. `None` if it could not be had alone.
    pub fn cache_mount<E: From<StoreError>>(
        &self,
        id: &str,
        hold: Hold,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Option<CacheMount>, E> {
        let lock = match hold {
            Hold::Shared => self.lock_shared(&mount_lock(id))?,
            Hold::Exclusive => self.lock(&mount_lock(id))?,
            Hold::TryExclusive => match self.try_lock(&mount_lock(id))? {
                Some(lock) => lock,
                None => return Ok(None),
            },
        };
        let path = self.mount_path(id);
        if fs::symlink_metadata(&path).is_err() {
            let prepared = self.prepare()?;
            fill(prepared.path())?;
            // Of two who share a new one, the first gives it its beginning.
            rename_new(prepared.path(), &path).map_err(StoreError::io("keep the cache mount", &path))?;
        }
        self.database().write("note the cache mount", |db| {
            let sql = "INSERT OR REPLACE INTO mounts (id, used) VALUES (?1, ?2)";
            db.prepare_cached(sql)?.execute(params![id, self.now()])?;
            Ok(())
        })?;
        Ok(Some(CacheMount { path, _lock: lock }))
    }

    pub(super) fn mount_path(&self, id: &str) -> PathBuf {
        self.root().join("mounts").join(Digest::of(id).hex())
    }
}

pub(super) fn mount_lock(id: &str) -> String {
    format!("mount-{}", Digest::of(id).hex())
}
