//! Records: which result a step came to (design rule 2).

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use crate::base::clock::Time;
use crate::base::digest::{CacheKey, Digest, LayerId};

use super::{Store, StoreError};

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the step does and starts from.
    pub key: CacheKey,
    /// The layer it made; `None` for a step that had nothing to add.
    pub layer: Option<LayerId>,
    /// When the step ended.
    pub created: Time,
    /// How long it took.
    pub took: Duration,
    /// What went into the key, as readable JSON.
    pub inputs: String,
    /// The step, as the build shows it.
    pub step: String,
}

/// A record with what the store knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The record.
    pub record: Record,
    /// When a build last used it, in seconds since 1970.
    pub used: i64,
}

const COLUMNS: &str = "r.key, r.layer, r.created_s, r.created_ns, r.took_ns, r.inputs, r.step, r.used";
/// A record counts only with its layer.
const COUNTS: &str = "(r.synced OR r.boot = ?1) AND (r.layer IS NULL OR EXISTS \
    (SELECT 1 FROM layers l WHERE l.id = r.layer AND (l.synced OR l.boot = ?1)))";

impl Store {
    /// The record of a key, if its layer is there too.
    pub fn record(&self, key: CacheKey) -> Result<Option<Record>, StoreError> {
        self.database()
            .read("look for the record", |db| {
                let sql = format!("SELECT {COLUMNS} FROM records r WHERE {COUNTS} AND r.key = ?2");
                let mut query = db.prepare_cached(&sql)?;
                Ok(query.query_row(params![self.boot(), key.0.as_bytes()], stored).optional()?)
            })
            .map(|found| found.map(|stored| stored.record))
    }

    /// Keeps a record, instead of any earlier one of its key.
    pub fn put_record(&self, record: &Record) -> Result<(), StoreError> {
        let layer = record.layer.map(|layer| *layer.0.as_bytes());
        let took = i64::try_from(record.took.as_nanos()).unwrap_or(i64::MAX);
        let sql = "INSERT OR REPLACE INTO records \
            (key, layer, created_s, created_ns, took_ns, inputs, step, used, boot) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.database().write("keep the record", |db| {
            db.prepare_cached(sql)?.execute(params![
                record.key.0.as_bytes(),
                layer,
                record.created.seconds,
                record.created.nanoseconds,
                took,
                record.inputs,
                record.step,
                self.now(),
                self.boot()
            ])?;
            Ok(())
        })
    }

    /// All records, the last used first.
    pub fn records(&self) -> Result<Vec<StoredRecord>, StoreError> {
        self.database().read("list the records", |db| {
            let sql = format!("SELECT {COLUMNS} FROM records r WHERE {COUNTS} ORDER BY r.used DESC, r.key");
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map([self.boot()], stored)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Notes that records and layers were used now. Call it once at the end of a build.
    pub fn touch(&self, keys: &[CacheKey], layers: &[LayerId]) -> Result<(), StoreError> {
        let now = self.now();
        self.database().write("note what was used", |db| {
            let mut records =
                db.prepare_cached("UPDATE records SET used = ?2 WHERE key = ?1 AND used < ?2")?;
            for key in keys {
                records.execute(params![key.0.as_bytes(), now])?;
            }
            let mut rows = db.prepare_cached("UPDATE layers SET used = ?2 WHERE id = ?1 AND used < ?2")?;
            for layer in layers {
                rows.execute(params![layer.0.as_bytes(), now])?;
            }
            Ok(())
        })
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRecord> {
    let layer: Option<[u8; 32]> = row.get(1)?;
    Ok(StoredRecord {
        record: Record {
            key: CacheKey(Digest::from_bytes(row.get(0)?)),
            layer: layer.map(|bytes| LayerId(Digest::from_bytes(bytes))),
            created: Time { seconds: row.get(2)?, nanoseconds: row.get(3)? },
            took: Duration::from_nanos(row.get::<_, i64>(4)?.unsigned_abs()),
            inputs: row.get(5)?,
            step: row.get(6)?,
        },
        used: row.get(7)?,
    })
}
