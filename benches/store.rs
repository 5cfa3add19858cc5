//! What a build asks of the store again and again: opening it, looking records up, keeping a step.

use std::fs;
use std::time::Duration;

use divan::Bencher;
use kiln::base::clock::{Clock, Time};
use kiln::base::digest::{CacheKey, Digest, LayerId};
use kiln::layer::scan::scan_tree;
use kiln::store::{Record, Store};
use tempfile::TempDir;

fn main() {
    divan::main();
}

fn record(number: usize, layer: Option<LayerId>) -> Record {
    Record {
        key: CacheKey(Digest::of(number.to_string())),
        layer,
        created: Time::default(),
        took: Duration::ZERO,
        inputs: "{}".repeat(500),
        step: "RUN make".to_owned(),
    }
}

fn layer(store: &Store, number: usize) -> LayerId {
    let prepared = store.prepare().unwrap();
    let tree = prepared.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), number.to_string()).unwrap();
    let index = scan_tree(&tree).unwrap();
    store.commit_tree(prepared, &index, None).unwrap()
}

/// A store that earlier builds left: 1,000 records, synced.
fn used() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path(), Clock::System).unwrap();
    (0..1000).for_each(|number| store.put_record(&record(number, None)).unwrap());
    store.sync().unwrap();
    (dir, store)
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let (dir, store) = used();
    drop(store);
    bencher.bench(|| Store::open(dir.path(), Clock::System).unwrap());
}

#[divan::bench]
fn look_up_20_records(bencher: Bencher<'_, '_>) {
    let (_dir, store) = used();
    bencher.bench(|| {
        for number in 0..20 {
            assert!(store.record(record(number, None).key).unwrap().is_some());
        }
    });
}

#[divan::bench]
fn keep_a_step(bencher: Bencher<'_, '_>) {
    let (_dir, store) = used();
    let mut number = 1000;
    bencher.bench_local(|| {
        number += 1;
        let layer = layer(&store, number);
        store.put_record(&record(number, Some(layer))).unwrap();
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn sync_20_steps(bencher: Bencher<'_, '_>) {
    let (_dir, store) = used();
    let mut number = 1000;
    bencher
        .with_inputs(|| {
            for _ in 0..20 {
                number += 1;
                let layer = layer(&store, number);
                store.put_record(&record(number, Some(layer))).unwrap();
            }
        })
        .bench_local_values(|()| store.sync().unwrap());
}
