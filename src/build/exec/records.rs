//! What steps came to in earlier builds, kept in the store.

use std::time::Duration;

use crate::base::clock::Time;
use crate::base::digest::{CacheKey, LayerId};
use crate::build::solve::{Cancel, Keyed, Records};
use crate::store::{Lock, Record, Store};

use super::error::ExecError;

/// How long a process waits before it looks again whether a key's lock is free.
const PAUSE: Duration = Duration::from_millis(5);

/// What is kept of a step.
#[derive(Debug, Clone, Default)]
pub struct StepRecord {
    /// The key it was found under; `None` for a new one.
    pub key: Option<CacheKey>,
    /// The layer it made; `None` if there was nothing to do.
    pub layer: Option<LayerId>,
    /// When it ran.
    pub created: Time,
    /// For how long.
    pub took: Duration,
    /// What people call it.
    pub step: String,
}

/// The records of a store.
pub struct StoreRecords<'a>(pub &'a Store);

impl Records for StoreRecords<'_> {
    type Record = StepRecord;
    type Error = ExecError;
    type Lock = Lock;

    fn lookup(&self, key: CacheKey) -> Result<Option<StepRecord>, ExecError> {
        let record = self.0.record(key)?;
        Ok(record.map(|Record { key, layer, created, took, step, .. }| StepRecord {
            key: Some(key),
            layer,
            created,
            took,
            step,
        }))
    }

    fn store(&self, keyed: &Keyed, record: StepRecord) -> Result<(), ExecError> {
        let StepRecord { layer, created, took, step, .. } = record;
        let inputs = readable(&keyed.parts);
        Ok(self.0.put_record(&Record { key: keyed.key, layer, created, took, inputs, step })?)
    }

    fn lock(&self, key: CacheKey, cancel: &Cancel) -> Result<Lock, ExecError> {
        let name = format!("key-{}", key.0.hex());
        loop {
            if let Some(lock) = self.0.try_lock(&name)? {
                return Ok(lock);
            }
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// The parts of a key as a JSON list of pairs, in their order: names may come more than once.
fn readable(parts: &[(String, String)]) -> String {
    serde_json::to_string(parts).expect("strings have a form in JSON")
}
