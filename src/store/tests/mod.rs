//! The store as a whole: what several stores on one directory see, what a reboot leaves, what
//! removing and pruning take.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::base::clock::Time;
use crate::base::digest::{CacheKey, DiffId, Digest, ImageId};
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::image::config::ImageConfig;
use crate::layer::entry::{Entry, Kind};

mod content;

/// A directory for one test's store, in memory where that is possible.
fn temp() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn at(root: &Path, seconds: i64) -> Store {
    Store::open(root, Clock::Fixed(Time::from_seconds(seconds))).unwrap()
}

fn booted(root: &Path, boot: &str) -> Store {
    Store::open_with(root, Clock::System, boot.to_owned()).unwrap()
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text))
}

/// Commits a layer with one file; the same name and content make the same layer.
fn layer(store: &Store, file: &str, content: &str) -> LayerId {
    let prepared = store.prepare().unwrap();
    let tree = prepared.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join(file), content).unwrap();
    fs::create_dir(prepared.path().join("work")).unwrap();
    store.commit_tree(prepared, &index(file, content), None).unwrap()
}

fn index(file: &str, content: &str) -> Index {
    let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content), offset: None };
    Index::from_entries(vec![Entry {
        path: file.as_bytes().to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: vec![],
        kind,
    }])
    .unwrap()
}

fn config(layers: &[LayerId], label: &str) -> Vec<u8> {
    let mut config = ImageConfig::new(&Platform::host());
    config.config.labels.insert("label".to_owned(), label.to_owned());
    config.rootfs.diff_ids = layers.iter().map(|layer| DiffId(layer.0)).collect();
    config.to_bytes()
}

fn image(store: &Store, layers: &[LayerId], label: &str) -> ImageId {
    store.put_image(&config(layers, label), layers, None).unwrap()
}

fn record(text: &str, layer: Option<LayerId>) -> Record {
    Record {
        key: key(text),
        layer,
        created: Time { seconds: 5, nanoseconds: 7 },
        took: Duration::from_millis(3),
        inputs: "{}".to_owned(),
        step: format!("RUN {text}"),
    }
}

#[test]
fn a_store_opens_again_and_is_private() {
    let dir = temp();
    let root = dir.path().join("a/b");
    let digest = at(&root, 0).put_blob(&b"content"[..], None).unwrap().0;
    assert!(at(&root, 0).has_blob(digest).unwrap());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(root.join("kiln.db")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(root.join("layers")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn many_open_a_new_store_at_once() {
    let dir = temp();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let root = dir.path();
            scope.spawn(move || at(root, 0).put_blob(format!("{number}").as_bytes(), None).unwrap());
        }
    });
    assert_eq!(fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 8);
}

#[test]
fn a_newer_and_a_damaged_database_are_told() {
    let dir = temp();
    drop(at(dir.path(), 0));
    let path = dir.path().join("kiln.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    db.close().unwrap();
    let error = Store::open(dir.path(), Clock::System).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    for left in ["kiln.db-wal", "kiln.db-shm"] {
        let _ = fs::remove_file(dir.path().join(left));
    }
    fs::write(&path, b"this is no database at all, and never was one").unwrap();
    let error = Store::open(dir.path(), Clock::System).unwrap_err();
    assert!(matches!(error, StoreError::DatabaseDamaged { .. }), "{error}");
}

#[test]
fn blobs_are_what_their_digest_says() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let digest = Digest::of("content");
    for _ in 0..2 {
        assert_eq!(store.put_blob(&b"content"[..], Some(digest)).unwrap(), (digest, 7));
        let error = store.put_blob(&b"other"[..], Some(digest)).unwrap_err();
        assert!(matches!(error, StoreError::Digest { .. }), "{error}");
    }
    assert_eq!(store.read_blob(digest, 7).unwrap(), b"content");
    assert!(store.read_blob(digest, 6).is_err());
    fs::write(store.blob_path(digest), "CONTENT").unwrap();
    assert!(matches!(store.read_blob(digest, 7), Err(StoreError::Damaged { .. })));
    let other = Digest::of("other");
    assert!(matches!(store.open_blob(other), Err(StoreError::NoBlob(_))));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn the_same_layer_is_kept_once() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let first = layer(&store, "file", "content");
    assert_eq!(layer(&store, "file", "content"), first);
    assert_ne!(layer(&store, "file", "other"), first);
    let kept = store.layer(first).unwrap().unwrap();
    let names: Vec<_> = fs::read_dir(&kept.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!((kept.original, kept.size, kept.entries), (Original::Tree, 7, 1));
    assert!(store.index(first).unwrap().get(b"file").is_some());
    assert_eq!(store.merged(&[first]).unwrap().layers().len(), 1);
    assert!(matches!(store.index(LayerId(Digest::of("none"))), Err(StoreError::NoLayer(_))));
    // The second one, and what else a step left.
    assert!(store.empty_trash(Duration::from_secs(60)).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_reboot_takes_what_was_not_synced_and_no_more() {
    let dir = temp();
    let store = booted(dir.path(), "first");
    let synced = layer(&store, "synced", "1");
    store.put_record(&record("synced", Some(synced))).unwrap();
    let kept = image(&store, &[synced], "kept");
    store.tag(&name("kept"), kept).unwrap();
    store.sync().unwrap();
    let lost = layer(&store, "lost", "2");
    store.put_record(&record("lost", Some(lost))).unwrap();
    store.put_record(&record("nothing", None)).unwrap();
    store.put_record(&record("half", Some(synced))).unwrap();
    let gone = image(&store, &[synced, lost], "gone");
    store.tag(&name("gone"), gone).unwrap();
    assert!(store.record(key("lost")).unwrap().is_some());

    let store = booted(dir.path(), "second");
    assert_eq!(store.record(key("synced")).unwrap(), Some(record("synced", Some(synced))));
    assert_eq!(store.resolve(&name("kept")).unwrap(), Some(kept));
    assert_eq!(store.image(kept).unwrap().unwrap().names, ["kept:latest"]);
    for text in ["lost", "nothing", "half"] {
        assert_eq!(store.record(key(text)).unwrap(), None, "{text}");
    }
    assert_eq!(store.layer(lost).unwrap(), None);
    assert_eq!(store.resolve(&name("gone")).unwrap(), None);
    assert!(store.image(gone).unwrap().is_none());
    assert!(matches!(store.find("gone"), Err(StoreError::NoImage(_))));
    // What the crash may have spoilt gives way to what is made again.
    fs::write(store.layer_path(lost).join("tree/lost"), "spoilt").unwrap();
    assert_eq!(layer(&store, "lost", "2"), lost);
    assert_eq!(fs::read(store.layer_path(lost).join("tree/lost")).unwrap(), b"2");
    store.sync().unwrap();
    assert!(booted(dir.path(), "third").layer(lost).unwrap().is_some());
}

#[test]
fn garbage_of_a_crash_is_collected() {
    let dir = temp();
    let store = booted(dir.path(), "first");
    let lost = layer(&store, "lost", "1");
    let (blob, _) = store.put_blob(&b"blob"[..], None).unwrap();
    let unfinished = dir.path().join("tmp/deadbeef-1-1-1-1");
    fs::create_dir_all(unfinished.join("sub")).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    fs::File::open(&unfinished).unwrap().set_modified(long_ago).unwrap();
    let young = dir.path().join("tmp/deadbeef-2-2-2-2");
    fs::create_dir(&young).unwrap();
    let stray = dir.path().join("layers").join(Digest::of("stray").hex());
    fs::create_dir(&stray).unwrap();

    let store = booted(dir.path(), "second");
    store.prune_build_cache(&CacheFilter::default()).unwrap();
    for path in [unfinished, stray, store.layer_path(lost), store.blob_path(blob)] {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(young.exists());
    assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
}

#[test]
fn records_are_replaced_and_listed_by_use() {
    let dir = temp();
    let store = at(dir.path(), 10);
    let first = layer(&store, "file", "1");
    store.put_record(&record("a", Some(first))).unwrap();
    at(dir.path(), 20).put_record(&record("b", None)).unwrap();
    let listed = |store: &Store| -> Vec<String> {
        store.records().unwrap().into_iter().map(|stored| stored.record.step).collect()
    };
    assert_eq!(listed(&store), ["RUN b", "RUN a"]);
    at(dir.path(), 30).touch(&[key("a")], &[first]).unwrap();
    assert_eq!(listed(&store), ["RUN a", "RUN b"]);
    assert_eq!(store.layer(first).unwrap().unwrap().used, 30);
    let newer = Record { layer: None, ..record("a", None) };
    store.put_record(&newer).unwrap();
    assert_eq!(store.record(key("a")).unwrap(), Some(newer));
}

#[test]
fn images_are_found_as_docker_finds_them() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let one = image(&store, &[], "one");
    let two = image(&store, &[], "two");
    store.tag(&name("busybox"), one).unwrap();
    store.tag(&name("example.org/x/y:1"), two).unwrap();
    let hex = one.0.hex();
    for text in [
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        &hex,
        &hex[..12],
        &format!("sha256:{hex}"),
        &format!("sha256:{}", &hex[..7]),
    ] {
        assert_eq!(store.find(text).unwrap(), one, "{text}");
    }
    assert!(matches!(store.find(""), Err(StoreError::NoImage(_))));
    // A name wins over the beginning of an ID.
    store.tag(&name(&hex[..4]), two).unwrap();
    assert_eq!(store.find(&hex[..4]).unwrap(), two);
    let error = store.find("busybox:1").unwrap_err();
    assert_eq!(error.to_string(), "No such image: busybox:1");
    let mut number = 0;
    let ambiguous = loop {
        number += 1;
        let id = image(&store, &[], &number.to_string());
        if id.0.hex()[..1] == hex[..1] {
            break hex[..1].to_owned();
        }
    };
    assert!(matches!(store.find(&ambiguous), Err(StoreError::Ambiguous { .. })));
    let digest = Digest::of("manifest");
    store.add_repo_digest(&name("busybox"), digest, one).unwrap();
    assert_eq!(store.resolve(&name(&format!("busybox@{digest}"))).unwrap(), Some(one));
    assert_eq!(store.resolve(&name(&format!("other@{digest}"))).unwrap(), None);
    assert_eq!(store.image(one).unwrap().unwrap().digests, [format!("busybox@{digest}")]);
    assert!(store.tag(&name(&format!("x@{digest}")), one).is_err());
}

#[test]
fn an_image_that_came_with_a_manifest_is_found_by_it() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let id = store.put_image(&config(&[], "x"), &[], Some(b"manifest")).unwrap();
    store.tag(&name("a:1"), id).unwrap();
    let digest = Digest::of("manifest");
    assert_eq!(store.resolve(&name(&format!("a@{digest}"))).unwrap(), Some(id));
    assert_eq!(store.resolve(&name(&format!("a:2@{digest}"))).unwrap(), Some(id));
    assert_eq!(store.resolve(&name(&format!("b@{digest}"))).unwrap(), None);
}

fn untagged(text: &str) -> Removed {
    Removed::Untagged(text.to_owned())
}

#[test]
fn rmi_as_docker_does_it() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let base = layer(&store, "base", "1");
    let top = layer(&store, "top", "2");
    let cached = layer(&store, "cached", "3");
    store.put_record(&record("cached", Some(cached))).unwrap();
    let below = image(&store, &[base], "below");
    let above = image(&store, &[base, top, cached], "above");
    let deleted = Removed::Deleted(above.to_string());
    for text in ["a:1", "a:2", "b"] {
        store.tag(&name(text), above).unwrap();
    }
    store.tag(&name("below"), below).unwrap();
    assert_eq!(store.remove_image("b", false).unwrap(), [untagged("b:latest")]);
    store.tag(&name("b"), above).unwrap();
    let id = above.0.hex();
    assert!(matches!(store.remove_image(&id[..12], false), Err(StoreError::InUse { .. })));
    store.remove_image("b", false).unwrap();
    let removed = store.remove_image(&id[..12], false).unwrap();
    assert_eq!(removed, [untagged("a:1"), untagged("a:2"), deleted]);
    assert!(matches!(store.remove_image("a:1", false), Err(StoreError::NoImage(_))));
    // Only what nothing else needs went.
    assert!(store.layer(base).unwrap().is_some());
    assert!(store.layer(cached).unwrap().is_some());
    assert!(store.layer(top).unwrap().is_none());
    assert!(!store.layer_path(top).exists());
    assert!(!store.has_blob(above.0).unwrap());
    assert!(store.record(key("cached")).unwrap().is_some());
    let removed = store.remove_image("below", false).unwrap();
    assert_eq!(removed, [untagged("below:latest"), Removed::Deleted(below.to_string())]);
    assert!(store.layer(base).unwrap().is_none());
}

#[test]
fn the_last_tag_takes_the_digests_of_its_repository_along() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let id = image(&store, &[], "x");
    let digest = Digest::of("manifest");
    store.tag(&name("a"), id).unwrap();
    store.add_repo_digest(&name("a"), digest, id).unwrap();
    let removed = store.remove_image("a", false).unwrap();
    assert_eq!(
        removed,
        [untagged("a:latest"), untagged(&format!("a@{digest}")), Removed::Deleted(id.to_string())]
    );
}

#[test]
fn a_name_moves_and_leaves_a_dangling_image() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let shared = layer(&store, "shared", "1");
    let old = image(&store, &[shared], "old");
    let new = image(&store, &[shared], "new");
    assert_eq!(store.tag(&name("a"), old).unwrap(), None);
    assert_eq!(store.tag(&name("a"), new).unwrap(), Some(old));
    let pruned = store.prune_images(&ImageFilter::default(), &|_| false).unwrap();
    assert_eq!(pruned.removed, [Removed::Deleted(old.to_string())]);
    assert!(store.layer(shared).unwrap().is_some());
    let all = ImageFilter { all: true, ..ImageFilter::default() };
    assert_eq!(store.prune_images(&all, &|image| image.id == new).unwrap(), Pruned::default());
    let labelled = ImageFilter { labels: vec![("label".into(), Some("x".into()))], ..all.clone() };
    assert_eq!(store.prune_images(&labelled, &|_| false).unwrap(), Pruned::default());
    let pruned = store.prune_images(&all, &|_| false).unwrap();
    assert_eq!(pruned.removed, [untagged("a:latest"), Removed::Deleted(new.to_string())]);
    assert!(pruned.bytes > 0);
    assert!(store.images().unwrap().is_empty());
    assert!(store.layers().unwrap().is_empty());
}

#[test]
fn an_image_needs_its_layers() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let missing = LayerId(Digest::of("missing"));
    let error = store.put_image(&config(&[missing], ""), &[missing], None).unwrap_err();
    assert!(matches!(error, StoreError::NoLayer(_)), "{error}");
    let error = store.put_image(&config(&[missing], ""), &[], None).unwrap_err();
    assert!(matches!(error, StoreError::LayerCount { .. }), "{error}");
    assert!(store.put_image(b"[]", &[], None).is_err());
    assert!(store.tag(&name("a"), ImageId(missing.0)).is_err());
}

#[test]
fn pruning_the_cache_spares_what_is_leased_or_in_an_image() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let (old, in_image, leased) =
        (layer(&store, "old", "1"), layer(&store, "image", "22"), layer(&store, "leased", "333"));
    for (text, layer) in [("old", old), ("image", in_image), ("leased", leased)] {
        store.put_record(&record(text, Some(layer))).unwrap();
    }
    let id = image(&store, &[in_image], "");
    let other = at(dir.path(), 0);
    let lease = other.lease().unwrap();
    lease.hold(&[leased]).unwrap();
    assert!(lease.hold(&[LayerId(Digest::of("none"))]).is_err());
    // What a process with a lease makes is held too.
    let made = layer(&other, "made", "4444");

    let pruned = store.prune_build_cache(&CacheFilter::default()).unwrap();
    assert_eq!(pruned.bytes, 1);
    assert_eq!(pruned.items.len(), 1);
    assert!(store.layer(old).unwrap().is_none());
    for layer in [in_image, leased, made] {
        assert!(store.layer(layer).unwrap().is_some());
    }
    drop(lease);
    let all = CacheFilter { all: true, ..CacheFilter::default() };
    assert_eq!(store.prune_build_cache(&all).unwrap().bytes, 7);
    assert!(store.records().unwrap().is_empty());
    assert_eq!(store.image(id).unwrap().unwrap().layers, [in_image]);
}

#[test]
fn pruning_takes_the_oldest_until_it_keeps_what_it_should() {
    let dir = temp();
    for (time, file) in [(10, "a"), (20, "b"), (30, "c")] {
        let store = at(dir.path(), time);
        let layer = layer(&store, file, "1234567890");
        store.put_record(&record(file, Some(layer))).unwrap();
    }
    let store = at(dir.path(), 40);
    assert_eq!(store.disk_usage().unwrap().cache_size, 30);
    let filter = CacheFilter { keep: Some(25), ..CacheFilter::default() };
    assert_eq!(store.prune_build_cache(&filter).unwrap().bytes, 10);
    assert!(store.record(key("a")).unwrap().is_none());
    let filter = CacheFilter { until: Some(25), ..CacheFilter::default() };
    assert_eq!(store.prune_build_cache(&filter).unwrap().bytes, 10);
    assert!(store.record(key("b")).unwrap().is_none());
    assert!(store.record(key("c")).unwrap().is_some());
}

#[test]
fn a_lease_of_a_dead_process_holds_nothing() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let held = layer(&store, "file", "1");
    let lease = store.lease().unwrap();
    lease.hold(&[held]).unwrap();
    let db = rusqlite::Connection::open(dir.path().join("kiln.db")).unwrap();
    db.execute("UPDATE leases SET start = start + 1", []).unwrap();
    store.prune_build_cache(&CacheFilter::default()).unwrap();
    assert!(store.layer(held).unwrap().is_none());
}

#[test]
fn cache_mounts_are_kept_shared_and_pruned() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let fill = |path: &Path| fs::write(path.join("seed"), "12345").map_err(StoreError::io("write", path));
    let never = |_: &Path| -> Result<(), StoreError> { panic!("it is there already") };
    let first = store.cache_mount("id", Hold::Shared, fill).unwrap().unwrap();
    let second = store.cache_mount("id", Hold::Shared, never).unwrap().unwrap();
    assert_eq!(first.path, second.path);
    assert!(store.cache_mount("id", Hold::TryExclusive, never).unwrap().is_none());
    let all = CacheFilter { all: true, ..CacheFilter::default() };
    assert!(store.prune_build_cache(&all).unwrap().items.is_empty());
    drop((first, second));
    let alone = store.cache_mount("id", Hold::TryExclusive, never).unwrap().unwrap();
    let path = alone.path.clone();
    drop(alone);
    assert_eq!(store.prune_build_cache(&all).unwrap().bytes, 5);
    assert!(!path.exists());
    assert!(store.cache_mount("id", Hold::Exclusive, fill).unwrap().is_some());
}

#[test]
fn locks_exclude_and_survive_the_collector() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let held = store.lock("Name with / anything").unwrap();
    assert!(store.try_lock("Name with / anything").unwrap().is_none());
    store.prune_build_cache(&CacheFilter::default()).unwrap();
    assert!(store.try_lock("Name with / anything").unwrap().is_none());
    drop(held);
    let counter = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let _lock = store.lock("busy").unwrap();
                    assert_eq!(counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    counter.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..100 {
                store.collect().unwrap();
            }
        });
    });
}

#[test]
fn deep_trash_is_emptied() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let prepared = store.prepare().unwrap();
    let mut at = fs::File::open(prepared.path()).unwrap();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    drop(prepared);
    assert!(!store.empty_trash(Duration::ZERO).unwrap());
    assert!(store.empty_trash(Duration::from_secs(60)).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
}

#[test]
fn a_full_and_a_read_only_disk_are_told_with_what_to_do() {
    use std::io::{Error, ErrorKind};
    let told = |kind| StoreError::io("write", Path::new("/x"))(Error::from(kind)).to_string();
    assert!(told(ErrorKind::StorageFull).contains("/x: its file system is full: make room"));
    assert!(told(ErrorKind::QuotaExceeded).contains("full"));
    assert!(told(ErrorKind::ReadOnlyFilesystem).contains("set KILN_ROOT"));
    assert!(told(ErrorKind::PermissionDenied).contains("cannot write /x"));
}
