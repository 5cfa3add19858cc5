//! The content of layers: streams, files, trees, joined stacks; what comes from outside; damage.

use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::image::manifest::{Descriptor, Manifest, media_type};
use crate::image::write::{Form, TargetImage, TargetLayer, write_archive};
use crate::layer::compress::Compression;
use crate::layer::decompress::Format;
use crate::layer::scan::scan_tree;
use crate::layer::writer::LayerWriter;

const GZIP: Compression = Compression::Gzip { level: 6 };

fn text(mut reader: impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn bytes(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Whether root runs the test; if not, says why that is needed.
fn root(why: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
    }
    root
}

/// Commits a tree that `fill` makes.
fn tree_layer(store: &Store, fill: impl FnOnce(&Path)) -> LayerId {
    let prepared = store.prepare().unwrap();
    let tree = prepared.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fill(&tree);
    let index = scan_tree(&tree).unwrap();
    store.commit_tree(prepared, &index, None).unwrap()
}

fn entry(path: &str, kind: Kind) -> Entry {
    let mode = if matches!(kind, Kind::Directory { .. }) { 0o750 } else { 0o640 };
    let path = path.as_bytes().to_vec();
    Entry { path, mode, uid: 0, gid: 0, mtime: Time::from_seconds(1000), xattrs: vec![], kind }
}

/// The canonical tar of directories (`None`) and files, with its index.
fn tar(entries: &[(&str, Option<&str>)]) -> (Vec<u8>, Index) {
    let mut writer = LayerWriter::new(Vec::new());
    for (path, content) in entries {
        match content {
            None => writer.entry(&entry(path, Kind::Directory { opaque: false })).unwrap(),
            Some(content) => {
                let kind =
                    Kind::File { size: content.len() as u64, digest: Digest::of(content), offset: None };
                writer.file(&entry(path, kind), content.as_bytes()).unwrap();
            }
        }
    }
    writer.finish().unwrap()
}

fn tar_layer(store: &Store, entries: &[(&str, Option<&str>)]) -> LayerId {
    let (bytes, index) = tar(entries);
    let prepared = store.prepare().unwrap();
    fs::write(prepared.path().join("tar"), &bytes).unwrap();
    store.commit_tar(prepared, &index, Some(DiffId(Digest::of(&bytes)))).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::layer::compress::compress(bytes, &mut out, GZIP).unwrap();
    out
}

fn expected(stream: &[u8], tar: &[u8]) -> Expected {
    Expected {
        what: "the layer".to_owned(),
        digest: Some(Digest::of(stream)),
        size: Some(stream.len() as u64),
        diff_id: Some(DiffId(Digest::of(tar))),
    }
}

const PASSWD: &[(&str, Option<&str>)] =
    &[("etc", None), ("etc/passwd", Some("root:x:0:0")), ("etc/shadow", Some("secret"))];

#[test]
fn a_tree_has_one_stream_and_is_exported_once() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let id = tree_layer(&store, |tree| fs::write(tree.join("file"), "content").unwrap());
    let stream = bytes(store.open_tar(id).unwrap());
    assert_eq!(store.diff_id(id).unwrap().0, Digest::of(&stream));
    let made = store.compressed(id, GZIP, false).unwrap();
    assert_eq!((made.format, made.digest), (Format::Gzip, Digest::of(fs::read(&made.path).unwrap())));
    assert_eq!(store.compressed(id, GZIP, false).unwrap(), made);
    fs::remove_file(&made.path).unwrap();
    assert_eq!(store.compressed(id, GZIP, false).unwrap(), made);
    let plain = store.compressed(id, Compression::None, false).unwrap();
    assert_eq!((plain.format, plain.digest), (Format::Plain, Digest::of(&stream)));
    assert_eq!(fs::read(&plain.path).unwrap(), stream);
    // Now that the tar is there it is what is read.
    assert_eq!(bytes(store.open_tar(id).unwrap()), stream);
    let all = CacheFilter { all: true, ..CacheFilter::default() };
    image(&store, &[id], "");
    assert_eq!(store.prune_build_cache(&all).unwrap().bytes, made.size + plain.size);
    assert!(!plain.path.exists() && store.layer(id).unwrap().is_some());
}

#[test]
fn a_tree_that_changed_does_not_pass_for_what_it_was() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let id = tree_layer(&store, |tree| fs::write(tree.join("file"), "content").unwrap());
    fs::write(store.layer_path(id).join("tree/file"), "CONTENT").unwrap();
    let mut sink = Vec::new();
    assert!(store.open_tar(id).unwrap().read_to_end(&mut sink).is_err());
    assert!(store.diff_id(id).is_err());
    assert!(store.compressed(id, GZIP, false).is_err());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn files_are_read_out_of_every_form() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let (plain, _) = tar(PASSWD);
    let packed = gzip(&plain);
    let foreign = |stream: &[u8]| store.ingest(stream, &expected(stream, &plain)).unwrap();
    let from_tree = tree_layer(&store, |tree| {
        fs::create_dir(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0").unwrap();
        fs::hard_link(tree.join("etc/passwd"), tree.join("etc/same")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.join("link")).unwrap();
    });
    assert_eq!(store.read_file(&[from_tree], b"etc/same", 100).unwrap().unwrap(), b"root:x:0:0");
    assert_eq!(store.read_file(&[from_tree], b"/link", 100).unwrap().unwrap(), b"root:x:0:0");
    let layers = [from_tree, tar_layer(&store, PASSWD), foreign(&packed)];
    for (number, id) in layers.into_iter().enumerate() {
        for _ in 0..2 {
            let read = store.read_file(&[id], b"/etc/../etc/passwd", 100).unwrap();
            assert_eq!(read.as_deref(), Some(&b"root:x:0:0"[..]), "{number}");
        }
        assert_eq!(store.read_file(&[id], b"etc/none", 100).unwrap(), None);
        assert_eq!(store.read_file(&[id], b"etc/passwd/x", 100).unwrap(), None);
        assert!(matches!(store.read_file(&[id], b"etc", 100), Err(StoreError::NoFile { .. })));
        assert!(matches!(store.read_file(&[id], b"etc/passwd", 3), Err(StoreError::NoFile { .. })));
    }
    let id = layers[2];
    assert!(!store.layer_path(id).join("tree").exists());
    let kept = store.layer_path(id).join("files").join(Digest::of("root:x:0:0").hex());
    assert_eq!(fs::read(&kept).unwrap(), b"root:x:0:0");
    fs::write(&kept, "evil:x:0:0").unwrap();
    assert_eq!(store.read_file(&[id], b"etc/passwd", 100).unwrap().unwrap(), b"root:x:0:0");
    // Many files of a compressed layer go through its tree.
    let found = store.index(id).unwrap().get(b"etc/shadow").unwrap().to_entry();
    assert_eq!(text(store.open_file(id, &found).unwrap()), "secret");
    assert!(store.layer_path(id).join("tree").exists());
    assert_eq!(store.read_file(&[], b"etc/passwd", 3).unwrap(), None);
}

#[test]
fn an_uncompressed_layer_from_outside_is_read_in_place() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let (plain, _) = tar(PASSWD);
    let id = store.ingest(&plain[..], &expected(&plain, &plain)).unwrap();
    let found = store.index(id).unwrap().get(b"etc/shadow").unwrap().to_entry();
    assert_eq!(text(store.open_file(id, &found).unwrap()), "secret");
    assert!(!store.layer_path(id).join("tree").exists());
    assert_eq!(store.compressed(id, GZIP, false).unwrap().digest, Digest::of(&plain));
    let forced = store.compressed(id, GZIP, true).unwrap();
    assert_eq!(forced.format, Format::Gzip);
    assert_eq!(
        store.compressed(id, Compression::None, true).unwrap().path,
        store.blob_path(Digest::of(&plain))
    );
}

#[test]
fn what_comes_from_outside_is_kept_byte_for_byte_or_not_at_all() {
    let dir = temp();
    let store = at(dir.path(), 0);
    let (plain, index) = tar(PASSWD);
    let packed = gzip(&plain);
    let good = expected(&packed, &plain);
    let other = Digest::of("other");
    type Fault = fn(&mut Expected, Digest);
    let faults: [(Fault, &str); 4] = [
        (|expected, other| expected.digest = Some(other), "has the digest"),
        (|expected, _| expected.size = expected.size.map(|size| size - 1), "bytes, not"),
        (|expected, _| expected.size = expected.size.map(|size| size + 1), "bytes, not"),
        (|expected, other| expected.diff_id = Some(DiffId(other)), "uncompressed has the digest"),
    ];
    for (fault, message) in faults {
        let mut wrong = good.clone();
        fault(&mut wrong, other);
        let error = store.ingest(&packed[..], &wrong).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    // A broken stream: told by its digest if that is known, else by what is wrong with it.
    let broken = &packed[..packed.len() / 2];
    let error = store.ingest(broken, &Expected { size: None, ..good.clone() }).unwrap_err();
    assert!(matches!(error, StoreError::Digest { .. }), "{error}");
    for garbage in [broken, b"no tar at all, but long enough to be looked at".repeat(30).as_slice()] {
        let error = store.ingest(garbage, &Expected::default()).unwrap_err();
        assert!(matches!(error, StoreError::Stream { .. }), "{error}");
    }
    assert!(store.layers().unwrap().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);

    let id = store.ingest(&packed[..], &good).unwrap();
    assert_eq!(id.0, Digest::of(&plain));
    assert_eq!(store.index(id).unwrap().len(), index.len());
    assert_eq!(bytes(store.open_tar(id).unwrap()), plain);
    let exported = store.compressed(id, Compression::Zstd { level: 3 }, false).unwrap();
    assert_eq!((exported.format, fs::read(&exported.path).unwrap()), (Format::Gzip, packed));
    // It is there: nobody reads it again.
    struct Untouched;
    impl Read for Untouched {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("a layer that is there is not read")
        }
    }
    assert_eq!(store.ingest(Untouched, &good).unwrap(), id);
    assert_eq!(store.import_layer(&plain[..], "rootfs.tar").unwrap(), (id, DiffId(id.0)));
}

#[test]
fn trees_are_made_once_and_serve_many() {
    if !root("only root can give files to others") {
        return;
    }
    let dir = temp();
    let store = at(dir.path(), 0);
    let below = tar_layer(&store, &[("etc", None), ("etc/a", Some("1"))]);
    let above = tar_layer(&store, &[("etc", None), ("etc/b", Some("2"))]);
    let run = tree_layer(&store, |tree| fs::write(tree.join("c"), "3").unwrap());
    let stack = [below, above, run];
    let made: Vec<_> = std::thread::scope(|scope| {
        let make = || store.trees(&stack).unwrap();
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fs::read_to_string(made[0][0].join("etc/a")).unwrap(), "1");
    assert_eq!(fs::read_to_string(made[0][1].join("etc/b")).unwrap(), "2");
    assert_eq!(fs::read_to_string(made[0][2].join("c")).unwrap(), "3");
    let inode = fs::metadata(&made[0][0]).unwrap().ino();
    assert_eq!(fs::metadata(&store.trees(&stack).unwrap()[0]).unwrap().ino(), inode);
    // A small tree is synced with the rest and outlives the boot.
    store.sync().unwrap();
    let again = booted(dir.path(), "next").trees(&stack).unwrap();
    assert_eq!(fs::metadata(&again[0]).unwrap().ino(), inode);
}

#[test]
fn parents_that_a_layer_leaves_out_come_from_below() {
    if !root("only root can give files to others") {
        return;
    }
    let dir = temp();
    let store = at(dir.path(), 0);
    let base = |mode: u32| {
        tree_layer(&store, move |tree| {
            fs::create_dir(tree.join("dir")).unwrap();
            fs::set_permissions(tree.join("dir"), fs::Permissions::from_mode(mode)).unwrap();
        })
    };
    let (plain, _) = tar(&[("dir/file", Some("1"))]);
    let orphan = store.ingest(&plain[..], &expected(&plain, &plain)).unwrap();
    assert!(store.layer(orphan).unwrap().unwrap().parents_missing);
    for mode in [0o700, 0o711] {
        let trees = store.trees(&[base(mode), orphan]).unwrap();
        let got = fs::metadata(trees[1].join("dir")).unwrap().permissions().mode();
        assert_eq!(got & 0o7777, mode);
        assert_eq!(fs::read_to_string(trees[1].join("dir/file")).unwrap(), "1");
    }
}

#[test]
fn deep_stacks_are_joined() {
    if !root("only root can make whiteouts") {
        return;
    }
    let dir = temp();
    let store = at(dir.path(), 0);
    let mut stack = vec![tree_layer(&store, |tree| {
        fs::create_dir_all(tree.join("dir/sub")).unwrap();
        fs::write(tree.join("dir/first"), "first").unwrap();
        fs::write(tree.join("gone"), "gone").unwrap();
        std::os::unix::fs::symlink("first", tree.join("dir/link")).unwrap();
        fs::set_permissions(tree.join("dir"), fs::Permissions::from_mode(0o2751)).unwrap();
    })];
    for number in 1..70 {
        stack.push(tree_layer(&store, |tree| {
            fs::create_dir(tree.join("dir")).unwrap();
            fs::set_permissions(tree.join("dir"), fs::Permissions::from_mode(0o2751)).unwrap();
            fs::write(tree.join("dir").join(number.to_string()), number.to_string()).unwrap();
            if number == 5 {
                let kind = rustix::fs::FileType::CharacterDevice;
                let mode = rustix::fs::Mode::empty();
                rustix::fs::mknodat(rustix::fs::CWD, tree.join("gone"), kind, mode, 0).unwrap();
            }
        }));
    }
    assert_eq!(store.trees(&stack[..64]).unwrap().len(), 64);
    let trees = store.trees(&stack).unwrap();
    assert_eq!(trees.len(), 70 - 32 + 1);
    // One layer more stands on the same joined tree.
    assert_eq!(store.trees(&stack[..69]).unwrap()[0], trees[0]);
    let joined = &trees[0];
    assert_eq!(fs::read_to_string(joined.join("dir/link")).unwrap(), "first");
    assert_eq!(fs::read_to_string(joined.join("dir/31")).unwrap(), "31");
    assert!(!joined.join("dir/32").exists() && !joined.join("gone").exists());
    assert!(joined.join("dir/sub").is_dir());
    let original = fs::metadata(store.layer_path(stack[0]).join("tree/dir/first")).unwrap();
    assert_eq!(fs::metadata(joined.join("dir/first")).unwrap().ino(), original.ino());
    let (told, made) = (
        fs::metadata(store.layer_path(stack[31]).join("tree/dir")).unwrap(),
        fs::metadata(joined.join("dir")).unwrap(),
    );
    assert_eq!((told.mode(), told.mtime()), (made.mode(), made.mtime()));
}

fn target(store: &Store, layers: &[LayerId], config: Vec<u8>, names: &[&str]) -> TargetImage {
    let blobs: Vec<_> = layers.iter().map(|layer| store.compressed(*layer, GZIP, false).unwrap()).collect();
    let descriptors = blobs
        .iter()
        .map(|blob| Descriptor::new(format!("{}+gzip", media_type::OCI_LAYER), blob.digest, blob.size))
        .collect();
    TargetImage {
        names: names.iter().map(|text| name(text)).collect(),
        manifest: Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), descriptors).to_bytes(),
        config,
        platform: Platform::host(),
        layers: blobs
            .into_iter()
            .map(|blob| TargetLayer { digest: blob.digest, size: blob.size, path: blob.path })
            .collect(),
    }
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = temp();
    let store = at(&dir.path().join("one"), 0);
    let layers = [tar_layer(&store, PASSWD), layer(&store, "file", "content")];
    let mut config = ImageConfig::new(&Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|layer| store.diff_id(*layer).unwrap()).collect();
    let image = target(&store, &layers, config.to_bytes(), &["a:1", "example.org/b:latest"]);
    for form in [Form::Oci, Form::Docker] {
        let archive = write_archive(std::slice::from_ref(&image), form, Vec::new()).unwrap();
        let file = dir.path().join("archive.tar");
        fs::write(&file, gzip(&archive)).unwrap();
        for (number, stream) in [archive.clone(), gzip(&archive)].into_iter().enumerate() {
            let other = at(&dir.path().join(format!("{form:?} {number}")), 0);
            let loaded = other.load(Cursor::new(stream), &file, &Platform::host()).unwrap();
            assert_eq!(loaded, other.load_file(&file, &Platform::host()).unwrap());
            assert_eq!(loaded[0].names, image.names);
            let found = other.image(loaded[0].id).unwrap().unwrap();
            assert_eq!(found.names, ["a:1", "example.org/b:latest"]);
            assert_eq!(found.config_bytes, image.config);
            assert_eq!(other.read_file(&found.layers, b"file", 10).unwrap().unwrap(), b"content");
            let again = target(&other, &found.layers, found.config_bytes, &["a:1", "example.org/b:latest"]);
            assert_eq!(write_archive(&[again], form, Vec::new()).unwrap(), archive);
            assert!(fs::read_dir(other.root().join("tmp")).unwrap().next().is_none());
            assert_eq!(other.check().unwrap().problems, Vec::<String>::new());
        }
    }
    let error = store.load(&b"not an archive"[..], Path::new("x"), &Platform::host()).unwrap_err();
    assert!(error.to_string().contains('x'), "{error}");
    assert!(store.load_file(&dir.path().join("none"), &Platform::host()).is_err());
}

#[test]
fn a_layer_that_is_damaged_in_an_archive_is_named() {
    let dir = temp();
    let store = at(&dir.path().join("one"), 0);
    let layers = [tar_layer(&store, PASSWD)];
    let mut config = ImageConfig::new(&Platform::host());
    config.rootfs.diff_ids = vec![store.diff_id(layers[0]).unwrap()];
    let image = target(&store, &layers, config.to_bytes(), &["a:1"]);
    let good = fs::read(&image.layers[0].path).unwrap();
    let mut archive = write_archive(std::slice::from_ref(&image), Form::Oci, Vec::new()).unwrap();
    let at_layer = archive.windows(good.len()).position(|window| window == good).unwrap();
    archive[at_layer + good.len() / 2] ^= 1;
    let other = at(&dir.path().join("other"), 0);
    let error = other.load(Cursor::new(archive), Path::new("bad.tar"), &Platform::host()).unwrap_err();
    assert!(error.to_string().contains(&image.layers[0].digest.hex()), "{error}");
    assert!(other.images().unwrap().is_empty());
}

#[test]
fn the_check_finds_every_kind_of_damage() {
    let dir = temp();
    let path = |store: &Store, id: LayerId, part: &str| store.layer_path(id).join(part);
    let damage = |number: usize, spoil: &dyn Fn(&Store, [LayerId; 3], ImageId)| {
        let store = at(&dir.path().join(number.to_string()), 0);
        let (plain, _) = tar(PASSWD);
        let packed = gzip(&plain);
        let layers = [
            tree_layer(&store, |tree| fs::write(tree.join("file"), "content").unwrap()),
            tar_layer(&store, PASSWD),
            store.ingest(&packed[..], &expected(&packed, &plain)).unwrap(),
        ];
        let id = image(&store, &[], "x");
        assert_eq!(store.check().unwrap().problems, Vec::<String>::new());
        spoil(&store, layers, id);
        store.check().unwrap()
    };
    type Spoil<'a> = &'a dyn Fn(&Store, [LayerId; 3], ImageId);
    let spoils: [Spoil<'_>; 9] = [
        &|store, layers, _| fs::write(path(store, layers[0], "tree/file"), "CONTENT").unwrap(),
        &|store, layers, _| fs::write(path(store, layers[0], "tree/more"), "").unwrap(),
        &|store, layers, _| fs::remove_file(path(store, layers[0], "tree/file")).unwrap(),
        &|store, layers, _| fs::write(path(store, layers[0], "index"), "no index").unwrap(),
        &|store, layers, _| {
            let tar = path(store, layers[1], "tar");
            let mut bytes = fs::read(&tar).unwrap();
            let at_file = bytes.windows(6).position(|window| window == b"secret").unwrap();
            bytes[at_file] = b'S';
            fs::write(tar, bytes).unwrap();
        },
        &|store, layers, _| fs::remove_file(path(store, layers[1], "tar")).unwrap(),
        &|store, layers, _| {
            let blob = store.blob_path(store.layer(layers[2]).unwrap().unwrap().blob.unwrap());
            fs::write(blob, "short").unwrap();
        },
        &|store, _, id| fs::write(store.blob_path(id.0), "{}").unwrap(),
        &|store, _, id| fs::remove_file(store.blob_path(id.0)).unwrap(),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let report = damage(number, spoil);
        assert!(!report.problems.is_empty(), "damage {number} was not found");
        assert_eq!((report.layers, report.images), (3, 1));
    }
}
