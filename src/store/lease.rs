//! What live processes use, so that pruning skips it.
//!
//! A lease is a row with the process's pid, start time and boot id; those of dead processes hold
//! nothing. While a store has leases, whatever it commits is held by them.

use rusqlite::{Connection, Transaction, params};

use crate::base::digest::{Digest, LayerId};
use crate::base::host;

use super::database::Stop;
use super::{Store, StoreError};

/// Holds layers and images against pruning until it is dropped or its process dies.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: i64,
}

impl Store {
    /// Begins to hold what this process is going to use.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let pid = std::process::id();
        let start = host::start_time(pid).unwrap_or_default();
        let id = self.database().write("begin a lease", |db| {
            let sql = "INSERT INTO leases (pid, start, boot) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(params![pid, start as i64, self.boot()])?;
            Ok(db.last_insert_rowid())
        })?;
        self.leases().push(id);
        Ok(Lease { store: self.clone(), id })
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, Vec<i64>> {
        self.0.leases.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Holds a layer or image for all leases of this store, inside a transaction that makes it.
    pub(super) fn hold_new(&self, db: &Connection, id: Digest) -> Result<(), Stop> {
        for lease in self.leases().iter() {
            hold(db, *lease, id)?;
        }
        Ok(())
    }
}

impl Lease {
    /// Holds `layers`; an error if one of them is not there any more.
    pub fn hold(&self, layers: &[LayerId]) -> Result<(), StoreError> {
        if layers.is_empty() {
            return Ok(());
        }
        self.store.database().write("hold layers", |db| {
            for layer in layers {
                let sql = "SELECT 1 FROM layers WHERE id = ?1 AND (synced OR boot = ?2)";
                let there = db.prepare_cached(sql)?.exists(params![layer.0.as_bytes(), self.store.boot()])?;
                if !there {
                    return Err(StoreError::NoLayer(*layer).into());
                }
                hold(db, self.id, layer.0)?;
            }
            Ok(())
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.leases().retain(|id| *id != self.id);
        // If it fails, the process's end does the same.
        let _ = self.store.database().write("end a lease", |db| end(db, self.id));
    }
}

fn hold(db: &Connection, lease: i64, id: Digest) -> Result<(), Stop> {
    let sql = "INSERT OR IGNORE INTO holds (lease, digest) VALUES (?1, ?2)";
    db.prepare_cached(sql)?.execute(params![lease, id.as_bytes()])?;
    Ok(())
}

fn end(db: &Transaction<'_>, lease: i64) -> Result<(), Stop> {
    db.prepare_cached("DELETE FROM holds WHERE lease = ?1")?.execute([lease])?;
    db.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([lease])?;
    Ok(())
}

/// Ends the leases of dead processes and earlier boots.
pub(super) fn end_dead(db: &Transaction<'_>, boot: &str) -> Result<(), Stop> {
    let mut dead = Vec::new();
    {
        let mut query = db.prepare_cached("SELECT id, pid, start, boot FROM leases")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (id, pid, start, its_boot): (i64, u32, i64, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            if its_boot != boot || host::start_time(pid) != Some(start as u64) {
                dead.push(id);
            }
        }
    }
    dead.into_iter().try_for_each(|id| end(db, id))
}
