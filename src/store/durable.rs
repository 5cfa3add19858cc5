//! What makes content outlive a loss of power: one batch of syncs at the end of a command, files
//! first, then the rows that vouch for them (design rule 6).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, params};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::base::digest::Digest;
use crate::base::rooted::Root;

use super::database::Stop;
use super::{Store, StoreError};

/// Above so many files it is cheaper to sync the whole file system than each of them.
const MANY: usize = 4096;
/// Syncs that wait at once: a journal takes them together.
const THREADS: usize = 16;
/// Caches of trees with more entries than this are not synced: they are made again after a
/// reboot.
const LARGE_CACHE: i64 = 2000;

/// Keys of the rows that were not synced when the batch began.
#[derive(Default)]
struct Unsynced {
    images: Vec<[u8; 32]>,
    records: Vec<[u8; 32]>,
    layers: Vec<([u8; 32], String)>,
    forms: Vec<String>,
    blobs: Vec<[u8; 32]>,
}

impl Store {
    /// Syncs everything that came in since the boot and was not synced yet, by this process or
    /// others. Until then a loss of power may take it away, wholly.
    pub fn sync(&self) -> Result<(), StoreError> {
        let unsynced = self.database().snapshot("list what to sync", |db| unsynced(db, self.boot()))?;
        if unsynced.is_empty() {
            return Ok(());
        }
        self.flush(&unsynced)?;
        self.database().write_durably("note what was synced", |db| {
            let mark = |table: &str, key: &str| {
                db.prepare_cached(&format!("UPDATE {table} SET synced = 1 WHERE {key} = ?1 AND boot = ?2"))
            };
            let boot = self.boot();
            for (table, key, keys) in [
                ("blobs", "digest", &unsynced.blobs),
                ("images", "id", &unsynced.images),
                ("records", "key", &unsynced.records),
            ] {
                let mut update = mark(table, key)?;
                for key in keys {
                    update.execute(params![key, boot])?;
                }
            }
            let mut update = mark("layers", "id")?;
            for (id, _) in &unsynced.layers {
                update.execute(params![id, boot])?;
            }
            let mut update = mark("forms", "path")?;
            for path in &unsynced.forms {
                update.execute(params![path, boot])?;
            }
            Ok(())
        })?;
        self.database().fold_log()
    }

    fn flush(&self, unsynced: &Unsynced) -> Result<(), StoreError> {
        let root = Root::open(self.root()).map_err(StoreError::io("open", self.root()))?;
        let paths = match unsynced.paths(&root) {
            Ok(paths) if paths.len() <= MANY => paths,
            Ok(_) => return self.flush_all(),
            Err(error) if error.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) => {
                return self.flush_all();
            }
            Err(error) => return Err(StoreError::io("look through", self.root())(error)),
        };
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..THREADS.min(paths.len()) {
                scope.spawn(|| {
                    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = sync_path(&root, path) {
                            let path = self.root().join(std::ffi::OsStr::from_bytes(path));
                            let error = StoreError::io("sync", &path)(error);
                            *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn flush_all(&self) -> Result<(), StoreError> {
        let root = File::open(self.root()).map_err(StoreError::io("open", self.root()))?;
        rustix::fs::syncfs(root.as_fd()).map_err(|error| StoreError::io("sync", self.root())(error.into()))
    }
}

fn unsynced(db: &Connection, boot: &str) -> Result<Unsynced, Stop> {
    let keys = |table: &str, key: &str| -> Result<Vec<[u8; 32]>, Stop> {
        let sql = format!("SELECT {key} FROM {table} WHERE NOT synced AND boot = ?1");
        let mut query = db.prepare_cached(&sql)?;
        let rows = query.query_map([boot], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let (images, records) = (keys("images", "id")?, keys("records", "key")?);
    let mut query = db.prepare_cached("SELECT id, original FROM layers WHERE NOT synced AND boot = ?1")?;
    let rows = query.query_map([boot], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let layers = rows.collect::<Result<_, _>>()?;
    let sql = "SELECT path FROM forms WHERE NOT synced AND boot = ?1 AND entries <= ?2";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params![boot, LARGE_CACHE], |row| row.get(0))?;
    let forms = rows.collect::<Result<_, _>>()?;
    Ok(Unsynced { images, records, layers, forms, blobs: keys("blobs", "digest")? })
}

impl Unsynced {
    fn is_empty(&self) -> bool {
        self.images.is_empty()
            && self.records.is_empty()
            && self.layers.is_empty()
            && self.forms.is_empty()
            && self.blobs.is_empty()
    }

    /// Every file and directory of the batch, below the root.
    fn paths(&self, root: &Root) -> io::Result<Vec<Vec<u8>>> {
        let mut paths = Vec::new();
        for blob in &self.blobs {
            paths.push(format!("blobs/sha256/{}", Digest::from_bytes(*blob).hex()).into_bytes());
        }
        for (id, original) in &self.layers {
            let directory = format!("layers/{}", Digest::from_bytes(*id).hex());
            paths.push(format!("{directory}/index").into_bytes());
            match original.as_str() {
                "tree" => collect(root, format!("{directory}/tree").into_bytes(), &mut paths)?,
                "tar" => paths.push(format!("{directory}/tar").into_bytes()),
                _ => {}
            }
            paths.push(directory.into_bytes());
        }
        for form in &self.forms {
            collect(root, format!("layers/{form}").into_bytes(), &mut paths)?;
        }
        paths.push(b"layers".to_vec());
        paths.push(b"blobs/sha256".to_vec());
        Ok(paths)
    }
}

/// Adds `path` and, if it is a directory, everything below it that has data of its own.
fn collect(root: &Root, path: Vec<u8>, paths: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let mut open = vec![path];
    while let Some(path) = open.pop() {
        if paths.len() > MANY {
            return Ok(());
        }
        let entries = match root.open_plain(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => names(&directory)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Vec::new(),
            // Pruned meanwhile: its rows are gone too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for (name, kind) in entries {
            let child = [&path, &name[..]].join(&b'/');
            match kind {
                FileType::Directory => open.push(child),
                FileType::RegularFile => paths.push(child),
                _ => {}
            }
        }
        paths.push(path);
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> io::Result<Vec<(Vec<u8>, FileType)>> {
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

fn sync_path(root: &Root, path: &[u8]) -> io::Result<()> {
    match root.open_plain(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK) {
        Ok(file) => Ok(rustix::fs::fsync(&file)?),
        // Pruned meanwhile: its row is gone too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The size of everything below a directory in bytes, as far as it can be read.
pub(super) fn size_below(path: &Path) -> u64 {
    walkdir::WalkDir::new(path)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|status| status.len())
        .sum()
}
