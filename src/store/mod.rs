//! Everything under `$KILN_ROOT`: blobs, layers, images, records, locks and the database.
//!
//! ```text
//! blobs/sha256/HEX     manifests, configs, layers as they came or were exported
//! layers/HEX/          a layer: index, and tree/ or tar or both; files/ holds small files of a compressed one
//! layers/trees-HEX/    the tree of a layer that leaves parents out, on one stack
//! layers/joined-HEX/   many layers' trees as one
//! locks/  mounts/  contexts/  containers/  volumes/
//! kiln.db              the database: see schema.sql
//! tmp/  trash/         unfinished; on its way out
//! ```
//!
//! Takes bytes, directories and rows; gives them back checked. Many processes use one store at
//! once. What is visible is whole: files are written in `tmp/`, renamed to their place inside a
//! database transaction, and count only with their row. A row of an earlier boot counts only if
//! its files were synced ([`Store::sync`]). What a crash leaves is garbage that collection finds.

mod blob;
mod check;
mod content;
mod database;
mod durable;
mod error;
mod file;
mod filesystem;
mod form;
mod image;
mod import;
mod ingest;
mod join;
mod layer;
mod lease;
mod lock;
mod mount;
mod prune;
mod record;
mod reference;
mod remove;
mod scratch;
mod tree;
mod usage;

use std::collections::HashMap;
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::base::clock::Clock;
use crate::base::digest::LayerId;
use crate::base::host;
use crate::layer::index::Index;

use database::Database;

pub use blob::Blob;
pub use check::Report;
pub use content::LayerBlob;
pub use error::StoreError;
pub use image::Image;
pub use import::Loaded;
pub use ingest::Expected;
pub use layer::{Layer, Original};
pub use lease::Lease;
pub use lock::Lock;
pub use mount::{CacheMount, Hold};
pub use prune::{CacheFilter, ImageFilter, Pruned};
pub use record::{Record, StoredRecord};
pub use remove::Removed;
pub use scratch::Prepared;
pub use usage::{CacheItem, CacheKind, DiskUsage, ImageUsage};

/// The directories of a store with their modes: what images hold may be secret, and setuid
/// programs of layers are nobody's outside.
const DIRECTORIES: &[(&str, u32)] = &[
    ("blobs/sha256", 0o700),
    ("layers", 0o700),
    ("locks", 0o700),
    ("mounts", 0o700),
    ("contexts", 0o700),
    ("containers", 0o700),
    ("volumes", 0o700),
    ("tmp", 0o700),
    ("trash", 0o700),
];

/// An open store. Clones share one connection; all calls may come from many threads.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    clock: Clock,
    boot: String,
    database: Database,
    leases: Mutex<Vec<i64>>,
    open_layers: Mutex<HashMap<LayerId, (Arc<Layer>, Index)>>,
}

impl Store {
    /// Opens the store at `root`; makes it if nothing is there.
    pub fn open(root: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(root, clock, host::boot_id())
    }

    /// Opens the store as if `boot` were the kernel's boot id; for tests of what a reboot does.
    pub fn open_with(root: &Path, clock: Clock, boot: String) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(StoreError::io("find", root))?;
        refuse_network(&root)?;
        let database = Database::open(&root, || make_directories(&root))?;
        Ok(Self(Arc::new(Inner {
            root,
            clock,
            boot,
            database,
            leases: Mutex::default(),
            open_layers: Mutex::default(),
        })))
    }

    /// `$KILN_ROOT`, absolute.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where the store takes the time from.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn boot(&self) -> &str {
        &self.0.boot
    }

    fn database(&self) -> &Database {
        &self.0.database
    }

    /// The time now in whole seconds, as rows have it.
    fn now(&self) -> i64 {
        self.0.clock.now().seconds
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.root).finish()
    }
}

/// Looks at the nearest directory above `root` that exists.
fn refuse_network(root: &Path) -> Result<(), StoreError> {
    for directory in root.ancestors() {
        match rustix::fs::statfs(directory) {
            Ok(status) => {
                return match filesystem::network_kind(status.f_type as u64) {
                    Some(kind) => Err(StoreError::NetworkFileSystem { root: root.to_owned(), kind }),
                    None => Ok(()),
                };
            }
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(StoreError::io("look at", directory)(error.into())),
        }
    }
    Ok(())
}

fn make_directories(root: &Path) -> Result<(), StoreError> {
    let make = |path: &Path, mode| {
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(StoreError::io("make the directory", path))
    };
    make(root, 0o711)?;
    DIRECTORIES.iter().try_for_each(|(name, mode)| make(&root.join(name), *mode))
}

#[cfg(test)]
mod tests;
