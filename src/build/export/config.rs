//! The config of a built image: the plan's, with the history, the diff IDs and the times that
//! only a finished build knows.
//!
//! Times are those of the records, never of this run, so that a cached build has the same image
//! ID (design rule 2). An entry that adds no layer takes the time of the step before it in the
//! image, else that of the first step after it, else the base image's; where there is none of
//! these, a time is kept in a record of its own. SOURCE_DATE_EPOCH bounds them all.

use std::time::Duration;

use crate::base::clock::Time;
use crate::base::digest::{CacheKey, DiffId, Hasher, LayerId};
use crate::build::exec::snapshot::{Own, Snapshot};
use crate::build::plan::{COMMENT, Plan};
use crate::image::config::{History, ImageConfig};
use crate::store::{Record, Store};

use super::ExportError;

/// An image that is ready to be written.
pub struct Built {
    /// Its config.
    pub config: ImageConfig,
    /// Its config as bytes.
    pub bytes: Vec<u8>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerId>,
}

/// Puts the config together.
pub fn assemble(
    store: &Store,
    plan: &Plan,
    outputs: &[Snapshot],
    diff_ids: Vec<DiffId>,
) -> Result<Built, ExportError> {
    let Snapshot::Layers(stack) = &outputs[plan.result.0] else { return Err(ExportError::NoLayers) };
    let steps: Vec<Option<Own>> = plan
        .history
        .iter()
        .map(|entry| match entry.vertex.map(|vertex| &outputs[vertex.0]) {
            Some(Snapshot::Layers(stack)) => stack.own,
            _ => None,
        })
        .collect();
    let mut config = plan.config.clone();
    let base_time = config.created.as_deref().and_then(Time::parse_rfc3339);
    let base_time = base_time.or_else(|| {
        config.history.iter().rev().find_map(|entry| Time::parse_rfc3339(entry.created.as_deref()?))
    });
    complete(&mut config.history, plan.base_layers);
    let created: Vec<Option<Time>> = steps.iter().map(|own| own.map(|own| own.created)).collect();
    let times = match fill(&created, base_time) {
        Some(times) => times,
        None => vec![kept_time(store, &config)?; steps.len()],
    };
    let bound = plan.source_date_epoch.map(Time::from_seconds);
    let bounded = |time: Time| bound.map_or(time, |bound| time.min(bound));
    for ((entry, own), time) in plan.history.iter().zip(&steps).zip(&times) {
        config.history.push(History {
            created: Some(bounded(*time).rfc3339()),
            created_by: entry.created_by.clone(),
            comment: COMMENT.to_owned(),
            empty_layer: own.is_none_or(|own| own.layer.is_none()),
            ..History::default()
        });
    }
    let last = times.last().copied().or(base_time);
    config.created = match last.map(bounded) {
        Some(time) => Some(time.rfc3339()),
        None => Some(bounded(kept_time(store, &config)?).rfc3339()),
    };
    config.rootfs.diff_ids = diff_ids;
    Ok(Built { bytes: config.to_bytes(), config, layers: stack.layers.to_vec() })
}

/// Gives each entry without a time one of the others'. `None` if there is none at all.
fn fill(times: &[Option<Time>], base: Option<Time>) -> Option<Vec<Time>> {
    let first = times.iter().flatten().next().copied();
    let mut before = first.or(base)?;
    let filled = times.iter().map(|time| {
        before = time.unwrap_or(before);
        before
    });
    Some(filled.collect())
}

/// Makes a base image's history tell of as many layers as there are.
fn complete(history: &mut Vec<History>, layers: usize) {
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in told..layers {
        history.push(History { comment: "layer of the base image".to_owned(), ..History::default() });
    }
    let extra = history.iter_mut().rev().filter(|entry| !entry.empty_layer).take(told.saturating_sub(layers));
    extra.for_each(|entry| entry.empty_layer = true);
}

/// The time at which a config that stands on no step and no base was first seen.
fn kept_time(store: &Store, config: &ImageConfig) -> Result<Time, ExportError> {
    let mut hasher = Hasher::new();
    hasher.field("time of a config 1");
    hasher.field(config.to_bytes());
    let key = CacheKey(hasher.finish());
    if let Some(record) = store.record(key)? {
        return Ok(record.created);
    }
    let (created, step) = (store.clock().now(), "the time of an image without steps".to_owned());
    store.put_record(&Record {
        key,
        layer: None,
        created,
        took: Duration::ZERO,
        inputs: "[]".to_owned(),
        step,
    })?;
    Ok(created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_entries_without_a_layer() {
        let at = Time::from_seconds;
        let some = |seconds| Some(at(seconds));
        assert_eq!(
            fill(&[None, some(5), None, some(3), None], some(1)),
            Some(vec![at(5), at(5), at(5), at(3), at(3)])
        );
        assert_eq!(fill(&[None, None], some(1)), Some(vec![at(1), at(1)]));
        assert_eq!(fill(&[None], None), None);
        assert_eq!(fill(&[], some(1)), Some(vec![]));
    }

    #[test]
    fn histories_that_do_not_fit_their_layers() {
        let entry = |empty_layer| History { empty_layer, ..History::default() };
        let count = |history: Vec<History>, layers| {
            let mut history = history;
            complete(&mut history, layers);
            history.iter().filter(|entry| !entry.empty_layer).count()
        };
        assert_eq!(count(vec![], 2), 2);
        assert_eq!(count(vec![entry(false), entry(true)], 2), 2);
        assert_eq!(count(vec![entry(false), entry(false), entry(true)], 1), 1);
    }
}
