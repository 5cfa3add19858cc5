//! Pruning images and the build cache, and collecting what crashes left.
//!
//! Never takes what an image, a live process's lease, a held lock or an unfinished command has.

use std::fs;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use crate::base::digest::{Digest, LayerId};

use super::database::Stop;
use super::lock::Lock;
use super::mount::mount_lock;
use super::remove::{self, Gone};
use super::usage::{CacheItem, CacheKind};
use super::{Image, Removed, Store, StoreError, lease, reference};

/// How long unfinished things of dead processes are left alone.
const GRACE: Duration = Duration::from_secs(600);
/// How long pruning works on the trash.
const EMPTYING: Duration = Duration::from_secs(3600);

/// Which images `image prune` takes.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// Also images with names (`--all`), as long as nothing uses them.
    pub all: bool,
    /// Only images made before this time, in seconds since 1970.
    pub until: Option<i64>,
    /// Only images with all these labels; a value of `None` fits any.
    pub labels: Vec<(String, Option<String>)>,
    /// Only images with none of these labels.
    pub without_labels: Vec<(String, Option<String>)>,
}

/// Which parts of the build cache `builder prune` takes.
#[derive(Debug, Clone, Default)]
pub struct CacheFilter {
    /// Also records whose layers images have, and forms that can be made again (`--all`).
    pub all: bool,
    /// Only what was last used before this time, in seconds since 1970.
    pub until: Option<i64>,
    /// Takes no more once the build cache has at most so many bytes.
    pub keep: Option<u64>,
}

/// What pruning took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images, as `rmi` tells of them.
    pub removed: Vec<Removed>,
    /// Parts of the build cache.
    pub items: Vec<CacheItem>,
    /// The space that became free, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes images that `filter` fits; `keep` says of an image whether something else uses it.
    pub fn prune_images(
        &self,
        filter: &ImageFilter,
        keep: &dyn Fn(&Image) -> bool,
    ) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for image in self.images()? {
            if !filter.fits(&image) || keep(&image) {
                continue;
            }
            let Some(gone) = self.prune_image(&image)? else { continue };
            self.discard(&gone)?;
            pruned.removed.extend(image.names.into_iter().chain(image.digests).map(Removed::Untagged));
            pruned.removed.push(Removed::Deleted(image.id.to_string()));
            pruned.bytes += gone.bytes;
        }
        self.empty_trash(EMPTYING)?;
        Ok(pruned)
    }

    /// Removes one image, unless a process holds it or it got another name since it was listed.
    fn prune_image(&self, image: &Image) -> Result<Option<Gone>, StoreError> {
        self.database().write("remove the image", |db| {
            lease::end_dead(db, self.boot())?;
            let held = "SELECT 1 FROM holds WHERE digest = ?1";
            if db.prepare_cached(held)?.exists([image.id.0.as_bytes()])? {
                return Ok(None);
            }
            let names: Vec<_> =
                reference::tags_of(db, image.id)?.iter().map(|name| reference::familiar(name)).collect();
            if names.iter().any(|name| !image.names.contains(name)) {
                return Ok(None);
            }
            let mut gone = Gone::default();
            remove::delete_image(db, image.id, &mut gone)?;
            Ok(Some(gone))
        })
    }

    /// Removes parts of the build cache that `filter` fits, the one not used for longest first,
    /// and whatever crashes left.
    pub fn prune_build_cache(&self, filter: &CacheFilter) -> Result<Pruned, StoreError> {
        self.database().write("end leases", |db| lease::end_dead(db, self.boot()))?;
        self.collect()?;
        let mut pruned = Pruned::default();
        let items = self.cache_items()?;
        let mut total: u64 = items.iter().filter(|item| !item.shared).map(|item| item.size).sum();
        for item in items {
            if filter.keep.is_some_and(|keep| total <= keep) {
                break;
            }
            if filter.fits(&item)
                && let Some(bytes) = self.prune_item(&item)?
            {
                total = total.saturating_sub(item.size);
                pruned.bytes += bytes;
                pruned.items.push(item);
            }
        }
        self.empty_trash(EMPTYING)?;
        Ok(pruned)
    }

    /// Removes one part of the build cache, unless something came to need it; gives the bytes freed.
    fn prune_item(&self, item: &CacheItem) -> Result<Option<u64>, StoreError> {
        if let CacheKind::Mount(id) = &item.kind {
            return self.prune_mount(id, item.size);
        }
        let gone = self.database().write("prune the build cache", |db| {
            let mut gone = Gone::default();
            let done = match &item.kind {
                CacheKind::Layer(layer) => prune_layer(db, *layer, &mut gone)?,
                CacheKind::Record(key) => {
                    db.prepare_cached("DELETE FROM records WHERE key = ?1")?.execute([key.0.as_bytes()])? > 0
                }
                CacheKind::Form(path) => {
                    // Its layer, pruned before it, may have taken it along.
                    let sql = "SELECT 1 FROM forms f JOIN holds h ON h.digest = f.layer WHERE f.path = ?1";
                    let held = db.prepare_cached(sql)?.exists([path])?;
                    if !held {
                        remove::delete_form(db, path, &mut gone)?;
                    }
                    !gone.layers.is_empty()
                }
                CacheKind::Exported(digest) => {
                    let sql = "DELETE FROM compressed WHERE digest = ?1";
                    db.prepare_cached(sql)?.execute([digest.as_bytes()])?;
                    remove::delete_blob(db, *digest, &mut gone)?;
                    !gone.blobs.is_empty()
                }
                CacheKind::Mount(_) => false,
            };
            Ok(done.then_some(gone))
        })?;
        let Some(gone) = gone else { return Ok(None) };
        self.discard(&gone)?;
        Ok(Some(gone.bytes))
    }

    fn prune_mount(&self, id: &str, size: u64) -> Result<Option<u64>, StoreError> {
        let Some(_lock) = self.try_lock(&mount_lock(id))? else { return Ok(None) };
        self.trash(&self.mount_path(id));
        self.database().write("prune the cache mount", |db| {
            db.prepare_cached("DELETE FROM mounts WHERE id = ?1")?.execute([id])?;
            Ok(Some(size))
        })
    }

    /// Moves to the trash what no row speaks of, unfinished things of dead processes, and lock
    /// files that nobody holds.
    pub(super) fn collect(&self) -> Result<(), StoreError> {
        self.sweep_tmp(GRACE)?;
        self.database().write("collect garbage", |db| {
            drop_lost_rows(db, self.boot())?;
            self.drop_loose_blobs(db)?;
            for (directory, has_row) in [
                ("layers", remove::layer_path_has_row as fn(&Connection, &str) -> Result<bool, Stop>),
                ("blobs/sha256", remove::blob_name_has_row),
            ] {
                for (name, path) in self.list(directory)? {
                    if !has_row(db, &name)? {
                        self.trash(&path);
                    }
                }
            }
            Ok(())
        })?;
        for (name, path) in self.list("locks")? {
            // The database's own lock is held without looking whether it still has its name.
            if name != "database"
                && let Some(lock) = Lock::try_at(&path)?
            {
                lock.remove()?;
            }
        }
        Ok(())
    }

    /// Deletes the rows of blobs that nothing refers to and nobody touched lately.
    fn drop_loose_blobs(&self, db: &Connection) -> Result<(), Stop> {
        let mut query = db.prepare_cached("SELECT digest FROM blobs")?;
        let all: Vec<[u8; 32]> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for digest in all.into_iter().map(Digest::from_bytes) {
            let modified = fs::metadata(self.blob_path(digest)).and_then(|status| status.modified());
            let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if age.is_some_and(|age| age >= GRACE) {
                remove::delete_blob(db, digest, &mut Gone::default())?;
            }
        }
        Ok(())
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, std::path::PathBuf)>, StoreError> {
        let path = self.root().join(directory);
        let entries = fs::read_dir(&path).map_err(StoreError::io("read", &path))?;
        entries
            .map(|entry| {
                let entry = entry.map_err(StoreError::io("read", &path))?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
            })
            .collect()
    }
}

/// Deletes the records that lead to a layer, and the layer unless something else needs it.
fn prune_layer(db: &Connection, layer: LayerId, gone: &mut Gone) -> Result<bool, Stop> {
    let id = layer.0.as_bytes();
    let held = "SELECT 1 FROM holds WHERE digest = ?1";
    if db.prepare_cached(held)?.exists([id])? {
        return Ok(false);
    }
    let records = db.prepare_cached("DELETE FROM records WHERE layer = ?1")?.execute([id])?;
    if !remove::is_needed(db, layer)? {
        remove::delete_layer(db, layer, gone)?;
    }
    Ok(records > 0 || !gone.layers.is_empty())
}

/// Deletes rows of earlier boots whose files were never synced.
fn drop_lost_rows(db: &Connection, boot: &str) -> Result<(), Stop> {
    for table in ["blobs", "layers", "forms", "records"] {
        db.execute(&format!("DELETE FROM {table} WHERE NOT synced AND boot <> ?1"), [boot])?;
    }
    let lost = "SELECT id FROM images WHERE NOT synced AND boot <> ?1";
    for table in ["image_layers", "tags", "repo_digests"] {
        db.execute(&format!("DELETE FROM {table} WHERE image IN ({lost})"), [boot])?;
    }
    db.execute("DELETE FROM images WHERE NOT synced AND boot <> ?1", [boot])?;
    db.execute("DELETE FROM compressed WHERE layer NOT IN (SELECT id FROM layers)", [])?;
    Ok(())
}

impl ImageFilter {
    fn fits(&self, image: &Image) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            let label = image.config.config.labels.get(key);
            label.is_some_and(|label| value.as_ref().is_none_or(|value| value == label))
        };
        let dangling = image.names.is_empty() && image.digests.is_empty();
        let created = || {
            let time = image.config.created.as_deref().and_then(crate::base::clock::Time::parse_rfc3339);
            time.unwrap_or(image.added).seconds
        };
        (self.all || dangling)
            && self.until.is_none_or(|until| created() < until)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

impl CacheFilter {
    fn fits(&self, item: &CacheItem) -> bool {
        let extra = item.shared || matches!(item.kind, CacheKind::Form(_) | CacheKind::Exported(_));
        !item.in_use && (self.all || !extra) && self.until.is_none_or(|until| item.used < until)
    }
}
