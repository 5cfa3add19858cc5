//! Layers: their rows, their indexes, and how a finished one comes in.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use rustix::fs::{CWD, RenameFlags};

use crate::base::digest::{DiffId, Digest, LayerId};
use crate::layer::entry;
use crate::layer::index::Index;
use crate::layer::merged::Merged;

use super::database::Stop;
use super::scratch::{Prepared, rename_new};
use super::{Store, StoreError};

/// Which of a layer's forms it came as. The other one can be made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// A directory, made by a RUN.
    Tree,
    /// An uncompressed tar, made by a COPY or an ADD.
    Tar,
    /// A stream from outside, kept byte for byte as a blob.
    Blob,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub id: LayerId,
    /// The form it came as.
    pub original: Original,
    /// The stream it came as, for one from outside.
    pub blob: Option<Digest>,
    /// Its uncompressed digest, if it is known already; [`Store::diff_id`] finds it out.
    pub diff_id: Option<DiffId>,
    /// The sizes of its files together, in bytes.
    pub size: u64,
    /// How many entries it has.
    pub entries: u64,
    /// Whether it leaves directories out that its entries are in.
    pub parents_missing: bool,
    /// The first and the last second of the run that made it, for one made by a RUN: times in it
    /// say only when it ran.
    pub run: Option<(i64, i64)>,
    /// When it came into the store, in seconds since 1970.
    pub created: i64,
    /// When a build last used it, in seconds since 1970.
    pub used: i64,
    /// Its directory.
    pub path: PathBuf,
}

impl Original {
    fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Tar => "tar",
            Self::Blob => "blob",
        }
    }
}

/// The row of a layer that is about to come in.
pub(super) struct NewLayer<'a> {
    pub(super) id: LayerId,
    pub(super) original: Original,
    pub(super) blob: Option<Digest>,
    pub(super) diff_id: Option<DiffId>,
    pub(super) run: Option<(i64, i64)>,
    pub(super) index: &'a Index,
}

impl Store {
    /// Keeps the tree that `prepared` holds as `tree/`; what else is there is thrown away. `run`
    /// is the first and the last second of the run that made it: times in it are no part of the
    /// layer's identity. If the layer is there already, that one stays and the new one goes.
    pub fn commit_tree(
        &self,
        prepared: Prepared,
        index: &Index,
        run: Option<(i64, i64)>,
    ) -> Result<LayerId, StoreError> {
        let id = index.identity(run);
        let (original, blob, diff_id) = (Original::Tree, None, None);
        self.commit(prepared, NewLayer { id, original, blob, diff_id, run, index })?;
        Ok(id)
    }

    /// Keeps the canonical, uncompressed tar that `prepared` holds as `tar`; `index` has the
    /// offsets in it. `diff_id` is the digest of the tar if it was taken while writing.
    pub fn commit_tar(
        &self,
        prepared: Prepared,
        index: &Index,
        diff_id: Option<DiffId>,
    ) -> Result<LayerId, StoreError> {
        let id = index.identity(None);
        let (original, blob, run) = (Original::Tar, None, None);
        self.commit(prepared, NewLayer { id, original, blob, diff_id, run, index })?;
        Ok(id)
    }

    /// A layer, if it is there.
    pub fn layer(&self, id: LayerId) -> Result<Option<Layer>, StoreError> {
        self.database().read("look for the layer", |db| {
            let sql = format!("SELECT {COLUMNS} FROM layers WHERE id = ?1 AND (synced OR boot = ?2)");
            let mut query = db.prepare_cached(&sql)?;
            let found = query.query_row(params![id.0.as_bytes(), self.boot()], |row| self.layer_of(row));
            Ok(found.optional()?)
        })
    }

    /// All layers, the last used first.
    pub fn layers(&self) -> Result<Vec<Layer>, StoreError> {
        self.database().read("list the layers", |db| {
            let sql =
                format!("SELECT {COLUMNS} FROM layers WHERE synced OR boot = ?1 ORDER BY used DESC, id");
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map([self.boot()], |row| self.layer_of(row))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A layer that must be there.
    pub(super) fn need_layer(&self, id: LayerId) -> Result<Layer, StoreError> {
        self.layer(id)?.ok_or(StoreError::NoLayer(id))
    }

    /// The index of a layer; mapped once per process.
    pub fn index(&self, id: LayerId) -> Result<Index, StoreError> {
        Ok(self.opened(id)?.1)
    }

    /// The first and the last second of the run that made a layer, if a run did.
    pub fn run_span(&self, id: LayerId) -> Result<Option<(i64, i64)>, StoreError> {
        Ok(self.opened(id)?.0.run)
    }

    /// A layer and its index; looked up once per process, so that going through many files costs
    /// no query each. Its `used` and `diff_id` may be those of an earlier look.
    pub(super) fn opened(&self, id: LayerId) -> Result<(Arc<Layer>, Index), StoreError> {
        if let Some(known) = self.open_layers().get(&id) {
            return Ok(known.clone());
        }
        let layer = self.need_layer(id)?;
        let index =
            Index::open(&layer.path.join("index")).map_err(StoreError::layer("read the index", id))?;
        let known = (Arc::new(layer), index);
        self.open_layers().insert(id, known.clone());
        Ok(known)
    }

    /// A stack of layers, bottom first, as one file system.
    pub fn merged(&self, layers: &[LayerId]) -> Result<Merged, StoreError> {
        Ok(Merged::new(layers.iter().map(|id| self.index(*id)).collect::<Result<_, _>>()?))
    }

    /// Where a layer is, or would be.
    pub fn layer_path(&self, id: LayerId) -> PathBuf {
        self.root().join("layers").join(id.0.hex())
    }

    /// Writes the index beside the original form, and gives the directory its place. Gives whether
    /// the layer is new.
    pub(super) fn commit(&self, prepared: Prepared, new: NewLayer<'_>) -> Result<bool, StoreError> {
        let path = self.layer_path(new.id);
        self.keep_only(prepared.path(), new.original)?;
        let index = prepared.path().join("index");
        new.index.write(&index).map_err(StoreError::layer("write the index", new.id))?;
        let parents_missing = new.original != Original::Tree && leaves_parents_out(new.index);
        let made = self.database().write("keep the layer", |db| {
            if layer_counts(db, new.id, self.boot())? && path.join("index").exists() {
                self.hold_new(db, new.id.0)?;
                return Ok(false);
            }
            // Renamed before its row is there; whatever a crash left in its place goes the way of
            // `prepared`.
            if !rename_new(prepared.path(), &path).map_err(StoreError::io("keep the layer", &path))? {
                exchange(prepared.path(), &path)?;
            }
            self.insert_layer(db, &new, parents_missing)?;
            self.hold_new(db, new.id.0)?;
            Ok(true)
        })?;
        Ok(made)
    }

    fn insert_layer(&self, db: &Connection, new: &NewLayer<'_>, parents_missing: bool) -> Result<(), Stop> {
        let sql = "INSERT OR REPLACE INTO layers \
            (id, original, blob, diff_id, size, entries, parents_missing, created, used, boot, run_first, run_last) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11)";
        db.prepare_cached(sql)?.execute(params![
            new.id.0.as_bytes(),
            new.original.name(),
            new.blob.map(|digest| *digest.as_bytes()),
            new.diff_id.map(|diff_id| *diff_id.0.as_bytes()),
            new.index.data_size() as i64,
            new.index.len() as i64,
            parents_missing,
            self.now(),
            self.boot(),
            new.run.map(|(first, _)| first),
            new.run.map(|(_, last)| last)
        ])?;
        // Forms of an earlier boot went with the directory they were in, and what was exported
        // may have had other times: those within a run are no part of the identity.
        let sql = "DELETE FROM forms WHERE path IN (?1 || '/tree', ?1 || '/tar')";
        db.prepare_cached(sql)?.execute([new.id.0.hex()])?;
        db.prepare_cached("DELETE FROM compressed WHERE layer = ?1")?.execute([new.id.0.as_bytes()])?;
        Ok(())
    }

    /// Moves everything but the original form out of a prepared directory.
    fn keep_only(&self, directory: &Path, original: Original) -> Result<(), StoreError> {
        let entries = fs::read_dir(directory).map_err(StoreError::io("read", directory))?;
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", directory))?;
            if entry.file_name() != original.name() {
                self.trash(&entry.path());
            }
        }
        Ok(())
    }

    /// Layers that were looked at.
    pub(super) fn open_layers(&self) -> MutexGuard<'_, HashMap<LayerId, (Arc<Layer>, Index)>> {
        self.0.open_layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn layer_of(&self, row: &Row<'_>) -> rusqlite::Result<Layer> {
        let id = LayerId(Digest::from_bytes(row.get(0)?));
        let original = match row.get_ref(1)?.as_str()? {
            "tree" => Original::Tree,
            "tar" => Original::Tar,
            "blob" => Original::Blob,
            _ => return Err(rusqlite::Error::InvalidColumnType(1, "original".to_owned(), Type::Text)),
        };
        let blob: Option<[u8; 32]> = row.get(2)?;
        let diff_id: Option<[u8; 32]> = row.get(3)?;
        Ok(Layer {
            id,
            original,
            blob: blob.map(Digest::from_bytes),
            diff_id: diff_id.map(|bytes| DiffId(Digest::from_bytes(bytes))),
            size: row.get::<_, i64>(4)? as u64,
            entries: row.get::<_, i64>(5)? as u64,
            parents_missing: row.get(6)?,
            created: row.get(7)?,
            used: row.get(8)?,
            run: row.get::<_, Option<i64>>(9)?.zip(row.get(10)?),
            path: self.layer_path(id),
        })
    }
}

const COLUMNS: &str =
    "id, original, blob, diff_id, size, entries, parents_missing, created, used, run_first, run_last";

/// Whether the row of a layer is there and its files survived.
pub(super) fn layer_counts(db: &Connection, id: LayerId, boot: &str) -> Result<bool, Stop> {
    let sql = "SELECT 1 FROM layers WHERE id = ?1 AND (synced OR boot = ?2)";
    Ok(db.prepare_cached(sql)?.exists(params![id.0.as_bytes(), boot])?)
}

pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), StoreError> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| StoreError::io("replace", other)(error.into()))
}

/// Whether an entry is in a directory that the index does not have.
fn leaves_parents_out(index: &Index) -> bool {
    let mut known: &[u8] = b"";
    index.iter().any(|entry| match entry::parent(entry.path) {
        None | Some(b"") => false,
        Some(parent) if parent == known => false,
        Some(parent) => {
            known = parent;
            index.get(parent).is_none()
        }
    })
}
