//! The store from outside: many processes on one directory, and random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kiln::base::clock::{Clock, Time};
use kiln::base::digest::{CacheKey, DiffId, Digest, ImageId, LayerId};
use kiln::base::platform::Platform;
use kiln::base::reference::Reference;
use kiln::image::config::ImageConfig;
use kiln::layer::scan::scan_tree;
use kiln::store::{CacheFilter, ImageFilter, Lease, Record, Store};
use proptest::prelude::*;
use tempfile::TempDir;

const ROOT: &str = "KILN_TEST_STORE";
const NUMBER: &str = "KILN_TEST_NUMBER";
const PROCESSES: usize = 4;
const ROUNDS: usize = 25;

fn temp() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// Commits a layer whose content `text` decides.
fn layer(store: &Store, text: &str) -> LayerId {
    let prepared = store.prepare().unwrap();
    let tree = prepared.path().join("tree");
    fs::create_dir_all(tree.join("dir")).unwrap();
    fs::write(tree.join("dir/file"), text).unwrap();
    let index = scan_tree(&tree).unwrap();
    // All times fall into the run, so that equal texts make equal layers.
    store.commit_tree(prepared, &index, Some((0, i64::MAX))).unwrap()
}

fn record(text: &str, layer: LayerId) -> Record {
    Record {
        key: key(text),
        layer: Some(layer),
        created: Time::default(),
        took: Duration::ZERO,
        inputs: "{}".to_owned(),
        step: text.to_owned(),
    }
}

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text))
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn image(store: &Store, label: &str, layers: &[LayerId]) -> ImageId {
    let mut config = ImageConfig::new(&Platform::host());
    config.config.labels.insert("label".to_owned(), label.to_owned());
    let diff_ids = layers.iter().map(|layer| store.diff_id(*layer).unwrap());
    config.rootfs.diff_ids = diff_ids.collect::<Vec<DiffId>>();
    store.put_image(&config.to_bytes(), layers, None).unwrap()
}

/// What one of many processes does; a test of its own so that the test binary can start itself.
#[test]
fn child() {
    let (Ok(root), Ok(number)) = (std::env::var(ROOT), std::env::var(NUMBER)) else { return };
    for round in 0..ROUNDS {
        let store = Store::open(Path::new(&root), Clock::System).unwrap();
        let lease = store.lease().unwrap();
        // Equal work of all, and work of its own.
        let shared = layer(&store, &format!("shared {round}"));
        let own = layer(&store, &format!("own {number} {round}"));
        store.put_record(&record(&format!("shared {round}"), shared)).unwrap();
        lease.hold(&[shared, own]).unwrap();
        let id = image(&store, &number, &[shared, own]);
        store.tag(&name(&format!("image-{number}")), id).unwrap();
        store.put_blob(format!("blob {round}").as_bytes(), None).unwrap();
        let lock = store.lock("counter").unwrap();
        let counter = Path::new(&root).join("counter");
        let count: usize = fs::read_to_string(&counter).map_or(0, |text| text.parse().unwrap());
        fs::write(&counter, (count + 1).to_string()).unwrap();
        drop(lock);
        match round % 5 {
            1 => drop(store.prune_build_cache(&CacheFilter::default()).unwrap()),
            2 => drop(store.prune_images(&ImageFilter::default(), &|_| false).unwrap()),
            3 => store.sync().unwrap(),
            _ => {}
        }
        assert!(store.layer(shared).unwrap().is_some() && store.layer(own).unwrap().is_some());
        assert_eq!(store.image(id).unwrap().unwrap().layers, [shared, own]);
    }
}

#[test]
fn many_processes_share_a_store() {
    let dir = temp();
    let children: Vec<_> = (0..PROCESSES)
        .map(|number| {
            Command::new(std::env::current_exe().unwrap())
                .args(["child", "--exact", "--nocapture"])
                .env(ROOT, dir.path())
                .env(NUMBER, number.to_string())
                .output_later()
        })
        .collect();
    for child in children {
        let output = child.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let store = Store::open(dir.path(), Clock::System).unwrap();
    let count = fs::read_to_string(dir.path().join("counter")).unwrap();
    assert_eq!(count, (PROCESSES * ROUNDS).to_string());
    for number in 0..PROCESSES {
        assert!(store.resolve(&name(&format!("image-{number}"))).unwrap().is_some());
    }
    assert_eq!(store.check().unwrap().problems, Vec::<String>::new());
}

trait OutputLater {
    fn output_later(&mut self) -> std::thread::JoinHandle<std::process::Output>;
}

impl OutputLater for Command {
    fn output_later(&mut self) -> std::thread::JoinHandle<std::process::Output> {
        let pipe = std::process::Stdio::piped;
        let child = self.stdout(pipe()).stderr(pipe()).spawn().unwrap();
        std::thread::spawn(move || child.wait_with_output().unwrap())
    }
}

/// One thing that happens to a store. Numbers choose among few layers, images and names.
#[derive(Debug, Clone)]
enum Happening {
    Layer(u8),
    Record(u8, u8),
    Image(u8, Vec<u8>),
    Tag(u8, u8),
    Untag(u8),
    Remove(u8, bool),
    Lease(u8),
    EndLeases,
    PruneCache(bool, Option<u64>),
    PruneImages(bool),
    Sync,
    Reboot,
    Unfinished,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        4 => (0..6u8).prop_map(Layer),
        3 => (0..6u8, 0..6u8).prop_map(|(record, layer)| Record(record, layer)),
        3 => (0..4u8, prop::collection::vec(0..6u8, 0..4)).prop_map(|(label, layers)| Image(label, layers)),
        3 => (0..3u8, 0..4u8).prop_map(|(name, image)| Tag(name, image)),
        1 => (0..3u8).prop_map(Untag),
        2 => (0..3u8, any::<bool>()).prop_map(|(name, force)| Remove(name, force)),
        1 => (0..6u8).prop_map(Lease),
        1 => Just(EndLeases),
        2 => (any::<bool>(), prop::option::of(0..20u64)).prop_map(|(all, keep)| PruneCache(all, keep)),
        1 => any::<bool>().prop_map(PruneImages),
        2 => Just(Sync),
        1 => Just(Reboot),
        1 => Just(Unfinished),
    ]
}

/// A store and what must be true of it.
struct World {
    dir: TempDir,
    store: Store,
    boots: usize,
    leases: Vec<Lease>,
    held: BTreeSet<LayerId>,
    images: BTreeMap<u8, ImageId>,
    names: BTreeMap<u8, ImageId>,
}

impl World {
    fn new() -> Self {
        let dir = temp();
        let store = Store::open_with(dir.path(), Clock::System, "boot 0".to_owned()).unwrap();
        Self {
            dir,
            store,
            boots: 0,
            leases: vec![],
            held: BTreeSet::new(),
            images: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    fn layer(&mut self, number: u8) -> LayerId {
        let made = layer(&self.store, &"x".repeat(number.into()));
        if !self.leases.is_empty() {
            self.held.insert(made);
        }
        made
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Layer(number) => drop(self.layer(*number)),
            Happening::Record(number, layer) => {
                let layer = self.layer(*layer);
                self.store.put_record(&record(&number.to_string(), layer)).unwrap();
                assert!(self.store.record(key(&number.to_string())).unwrap().is_some());
            }
            Happening::Image(label, layers) => {
                let layers: Vec<_> = layers.iter().map(|number| self.layer(*number)).collect();
                let id = image(&self.store, &label.to_string(), &layers);
                self.images.insert(*label, id);
            }
            Happening::Tag(number, image) => {
                let Some(id) = self.images.get(image) else { return };
                match self.store.tag(&name(&format!("n{number}")), *id) {
                    Ok(_) => drop(self.names.insert(*number, *id)),
                    Err(_) => assert!(self.store.image(*id).unwrap().is_none()),
                }
            }
            Happening::Untag(number) => {
                let had = self.store.untag(&name(&format!("n{number}"))).unwrap();
                assert_eq!(had, self.names.remove(number));
            }
            Happening::Remove(number, force) => {
                let removed = self.store.remove_image(&format!("n{number}"), *force);
                assert_eq!(removed.is_ok(), self.names.remove(number).is_some());
            }
            Happening::Lease(number) => {
                let lease = self.store.lease().unwrap();
                let layer = self.layer(*number);
                lease.hold(&[layer]).unwrap();
                self.held.insert(layer);
                self.leases.push(lease);
            }
            Happening::EndLeases => {
                self.leases.clear();
                self.held.clear();
            }
            Happening::PruneCache(all, keep) => {
                let filter = CacheFilter { all: *all, keep: *keep, until: None };
                self.store.prune_build_cache(&filter).unwrap();
            }
            Happening::PruneImages(all) => {
                let filter = ImageFilter { all: *all, ..ImageFilter::default() };
                self.store.prune_images(&filter, &|_| false).unwrap();
                if *all {
                    self.names.clear();
                }
            }
            Happening::Sync => self.store.sync().unwrap(),
            Happening::Reboot => {
                self.leases.clear();
                self.held.clear();
                self.boots += 1;
                let boot = format!("boot {}", self.boots);
                self.store = Store::open_with(self.dir.path(), Clock::System, boot).unwrap();
                // Whatever was not synced may be gone.
                let store = &self.store;
                self.names
                    .retain(|number, id| store.resolve(&name(&format!("n{number}"))).unwrap() == Some(*id));
            }
            Happening::Unfinished => {
                let prepared = self.store.prepare().unwrap();
                fs::write(prepared.path().join("tar"), "unfinished").unwrap();
            }
        }
    }

    fn invariants(&self) {
        let report = self.store.check().unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        for (number, id) in &self.names {
            assert_eq!(self.store.resolve(&name(&format!("n{number}"))).unwrap(), Some(*id));
        }
        for layer in &self.held {
            assert!(self.store.layer(*layer).unwrap().is_some(), "a held layer is gone");
        }
        for stored in self.store.records().unwrap() {
            let layer = stored.record.layer.unwrap();
            assert!(self.store.layer(layer).unwrap().is_some(), "a record leads nowhere");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_history_leaves_a_sound_store(history in prop::collection::vec(happening(), 1..40)) {
        let mut world = World::new();
        for happening in &history {
            world.happen(happening);
            world.invariants();
        }
        // In the end nothing is left of what nothing needs.
        world.happen(&Happening::EndLeases);
        world.happen(&Happening::PruneImages(true));
        world.happen(&Happening::PruneCache(true, None));
        prop_assert!(world.store.layers().unwrap().is_empty());
        prop_assert!(world.store.images().unwrap().is_empty());
        prop_assert_eq!(fs::read_dir(world.dir.path().join("layers")).unwrap().count(), 0);
        prop_assert_eq!(fs::read_dir(world.dir.path().join("trash")).unwrap().count(), 0);
    }
}
