//! Forms of layers that can be made again: `HEX/tree`, `HEX/tar`, `trees-HEX`, `joined-HEX`
//! below `layers/`. They are caches: their rows say that they are whole.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};

use crate::base::digest::LayerId;

use super::layer::{exchange, layer_counts};
use super::scratch::rename_new;
use super::{Store, StoreError};

/// A form is noted as used at most so often, in seconds.
const NOTED: i64 = 3600;

/// A form that was made and wants its place.
pub(super) struct NewForm<'a> {
    /// Its place below `layers/`.
    pub(super) name: &'a str,
    /// Whose form it is; the topmost layer of a stack.
    pub(super) layer: LayerId,
    /// What pruning it frees, in bytes.
    pub(super) size: u64,
    /// How many entries it has.
    pub(super) entries: u64,
}

impl Store {
    /// Where the form `name` is, if it is there.
    pub(super) fn form(&self, name: &str) -> Result<Option<PathBuf>, StoreError> {
        let used: Option<i64> = self.database().read("look for the form", |db| {
            let sql = "SELECT used FROM forms WHERE path = ?1 AND (synced OR boot = ?2)";
            let mut query = db.prepare_cached(sql)?;
            Ok(query.query_row(params![name, self.boot()], |row| row.get(0)).optional()?)
        })?;
        let path = self.root().join("layers").join(name);
        let (Some(used), Ok(_)) = (used, fs::symlink_metadata(&path)) else { return Ok(None) };
        if self.now() - used > NOTED {
            self.database().write("note what was used", |db| {
                let sql = "UPDATE forms SET used = ?2 WHERE path = ?1";
                db.prepare_cached(sql)?.execute(params![name, self.now()])?;
                Ok(())
            })?;
        }
        Ok(Some(path))
    }

    /// Gives what lies at `from` the place of a form. If the form is there already, that one
    /// stays; what lies at `from` then is for the caller to throw away.
    pub(super) fn adopt_form(&self, from: &Path, form: &NewForm<'_>) -> Result<PathBuf, StoreError> {
        let path = self.root().join("layers").join(form.name);
        self.database().write("keep the form", |db| {
            if !layer_counts(db, form.layer, self.boot())? {
                return Err(StoreError::NoLayer(form.layer).into());
            }
            let counts = "SELECT 1 FROM forms WHERE path = ?1 AND (synced OR boot = ?2)";
            let counts = db.prepare_cached(counts)?.exists(params![form.name, self.boot()])?;
            if counts && fs::symlink_metadata(&path).is_ok() {
                return Ok(());
            }
            if !rename_new(from, &path).map_err(StoreError::io("keep the form", &path))? {
                exchange(from, &path)?;
            }
            let sql = "INSERT OR REPLACE INTO forms (path, layer, size, entries, used, boot) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            db.prepare_cached(sql)?.execute(params![
                form.name,
                form.layer.0.as_bytes(),
                form.size as i64,
                form.entries as i64,
                self.now(),
                self.boot()
            ])?;
            Ok(())
        })?;
        Ok(path)
    }
}
