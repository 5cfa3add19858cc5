//! The forms of a layer against each other: whatever a layer holds, its index, its tar and its
//! tree say the same, and what is read from outside never does more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use proptest::prelude::*;

use super::apply::unpack;
use super::compress::{Compression, compress};
use super::decompress::decompress;
use super::entry::{Entry, Kind, KindRef, ancestors, compare_paths};
use super::from_tar::index_tar;
use super::from_tree::write_tar;
use super::index::Index;
use super::merged::Merged;
use super::scan::scan_tree;
use super::tar::TarWriter;
use super::testing::{arb_entries, content, dir, entry, file, is_root, raw_entry, scratch, skip};
use super::writer::LayerWriter;
use crate::base::clock::Time;
use crate::base::digest::Digest;

const END: [u8; 1024] = [0; 1024];

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

/// The tar and the index of entries whose files hold what [`content`] gives.
fn streamed(mut entries: Vec<Entry>) -> (Vec<u8>, Index) {
    entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
    let mut writer = LayerWriter::new(Vec::new());
    for entry in &entries {
        match entry.kind {
            Kind::File { size, .. } => writer.file(entry, &content(size)[..]).unwrap(),
            _ => writer.entry(entry).unwrap(),
        }
    }
    writer.finish().unwrap()
}

fn entries(index: &Index) -> Vec<Entry> {
    index.iter().map(|entry| entry.to_entry()).collect()
}

/// The entries of a layer as its tree shows them: with the directories that are only implied,
/// without offsets and the root.
fn as_in_a_tree(index: &Index) -> Vec<Entry> {
    let mut all: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    for entry in index.iter() {
        for ancestor in ancestors(entry.path) {
            all.entry(ancestor.to_vec()).or_insert_with(|| {
                let plain = dir(std::str::from_utf8(ancestor).unwrap_or("x"));
                Entry { path: ancestor.to_vec(), mtime: Time::default(), ..plain }
            });
        }
    }
    for found in index.iter().filter(|entry| !entry.path.is_empty()) {
        let mut entry = found.to_entry();
        match &mut entry.kind {
            Kind::File { offset, .. } => *offset = None,
            Kind::HardLink(_) => entry.xattrs = Vec::new(),
            _ => {}
        }
        all.insert(entry.path.clone(), entry);
    }
    let mut all: Vec<Entry> = all.into_values().collect();
    all.sort_by(|a, b| compare_paths(&a.path, &b.path));
    all
}

/// Unpacks into a directory beside others and checks that only that one changed.
fn unpacked(tar: &[u8]) -> (tempfile::TempDir, super::Result<Index>) {
    let outer = scratch();
    fs::create_dir(outer.path().join("tree")).unwrap();
    fs::write(outer.path().join("outside"), "untouched").unwrap();
    let tree = outer.path().join("tree");
    let result = unpack(tar, &tree, &Merged::default()).and_then(|_| scan_tree(&tree));
    let names: BTreeSet<_> =
        fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["outside".into(), "tree".into()].into());
    assert_eq!(fs::read(outer.path().join("outside")).unwrap(), b"untouched");
    (outer, result)
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn index_tar_and_tree_agree(list in arb_entries()) {
        let (tar, index) = streamed(list);
        let read = index_tar(&tar[..]).unwrap();
        prop_assert_eq!(read.identity(None), index.identity(None));
        // The tar holds the attributes of a file with several names once.
        let plain: Vec<Entry> = entries(&index)
            .into_iter()
            .map(|entry| if matches!(entry.kind, Kind::HardLink(_)) { Entry { xattrs: vec![], ..entry } } else { entry })
            .collect();
        prop_assert_eq!(entries(&read), plain);
        if is_root() {
            let (outer, scanned) = unpacked(&tar);
            let scanned = scanned.unwrap();
            prop_assert_eq!(entries(&scanned), as_in_a_tree(&index));
            let mut again = Vec::new();
            write_tar(&scanned, &outer.path().join("tree"), &mut again).unwrap();
            prop_assert_eq!(index_tar(&again[..]).unwrap().identity(None), scanned.identity(None));
            if scanned.len() == index.len() {
                prop_assert!(again == tar);
            }
        }
    }

    /// Duplicates, changed types, marks before and after what they are about: the index of such a
    /// tar is what unpacking it gives, and where one is an error so is the other.
    #[test]
    fn any_order_of_entries_means_one_thing(list in arb_foreign()) {
        let mut writer = TarWriter::new(Vec::new());
        for entry in &list {
            let data = if let Kind::File { size, .. } = entry.kind { content(size) } else { Vec::new() };
            writer.append(entry, Some(&mut &data[..])).unwrap();
        }
        let tar = writer.finish().unwrap();
        let index = index_tar(&tar[..]);
        if is_root() {
            let (_outer, scanned) = unpacked(&tar);
            match (index, scanned) {
                (Ok(index), Ok(scanned)) => prop_assert_eq!(entries(&scanned), as_in_a_tree(&index)),
                (Err(index), Err(scanned)) => prop_assert_eq!(index.to_string(), scanned.to_string()),
                (index, scanned) => prop_assert!(false, "index: {index:?}\ntree: {scanned:?}"),
            }
        }
    }

    #[test]
    fn damaged_tars_never_panic_or_lead_out(
        list in arb_entries(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        repair in any::<bool>(),
    ) {
        let (mut tar, _) = streamed(list);
        for (at, value) in flips {
            // Headers are where it matters.
            let at = at.index(tar.len()) / 512 * 512 + at.index(512);
            if at < tar.len() {
                tar[at] = value;
            }
            if repair {
                let block = at / 512 * 512;
                if let Some(block) = tar.get_mut(block..block + 512) {
                    let mut header = tar::Header::new_old();
                    header.as_mut_bytes().copy_from_slice(block);
                    header.set_cksum();
                    block.copy_from_slice(header.as_bytes());
                }
            }
        }
        let _ = index_tar(&tar[..]);
        if is_root() {
            let _ = unpacked(&tar);
        }
    }
}

/// Entries in any order, on few paths, so that they meet.
fn arb_foreign() -> impl Strategy<Value = Vec<Entry>> {
    let path = || {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
            .prop_map(|names| names.join("/"))
    };
    let kind = prop_oneof![
        3 => (0u64..3000).prop_map(|size| Kind::File { size, digest: Digest::of(content(size)), offset: None }),
        4 => prop::bool::weighted(0.3).prop_map(|opaque| Kind::Directory { opaque }),
        1 => Just(Kind::Symlink(b"/".to_vec())),
        1 => Just(Kind::Symlink(b"../..".to_vec())),
        2 => path().prop_map(|target| Kind::HardLink(target.into_bytes())),
        1 => Just(Kind::Fifo),
        3 => Just(Kind::Whiteout),
    ];
    let one = (path(), kind, 0i64..1000)
        .prop_map(|(path, kind, seconds)| Entry { mtime: Time::from_seconds(seconds), ..entry(&path, kind) });
    prop::collection::vec(one, 0..16)
}

fn both(tar: &[u8]) -> String {
    let index = index_tar(tar).map(|_| "fine".to_owned()).unwrap_or_else(|error| error.to_string());
    if is_root() {
        let tree = unpacked(tar).1.map(|_| "fine".to_owned()).unwrap_or_else(|error| error.to_string());
        assert_eq!(index, tree);
    }
    index
}

#[test]
fn hazards_are_named() {
    let long = [b"d/".repeat(40).as_slice(), b"f"].concat();
    let table: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (
            vec![raw_entry(b'2', b"link", b"/etc", b""), raw_entry(b'0', b"link/passwd", b"", b"x")],
            "`link/passwd` cannot be an entry of a layer: what it lies under is no directory in the archive",
        ),
        (
            vec![raw_entry(b'2', b"link", b"..", b""), raw_entry(b'5', b"link/d", b"", b"")],
            "`link/d` cannot be an entry of a layer: what it lies under is no directory in the archive",
        ),
        (vec![raw_entry(b'0', b"/abs/olute", b"", b"x")], "fine"),
        (
            vec![raw_entry(b'0', b"a/../../out", b"", b"x")],
            "`a/../../out` cannot be an entry of a layer: it leads out of its directory by `..`",
        ),
        (
            vec![raw_entry(b'1', b"h", b"../outside", b"")],
            "`../outside` cannot be an entry of a layer: it leads out of its directory by `..`",
        ),
        (
            vec![raw_entry(b'1', b"h", b"/etc/passwd", b"")],
            "`h` cannot be an entry of a layer: it is a hard link to nothing that came before it in the archive",
        ),
        (
            vec![
                raw_entry(b'2', b"link", b"/", b""),
                raw_entry(b'1', b"h", b"link", b""),
                raw_entry(b'1', b"h2", b"link/etc/passwd", b""),
            ],
            "`h2` cannot be an entry of a layer: it is a hard link to nothing that came before it in the archive",
        ),
        (
            vec![raw_entry(b'5', b"d", b"", b""), raw_entry(b'1', b"h", b"d", b"")],
            "`h` cannot be an entry of a layer: it is a hard link to a directory",
        ),
        (
            vec![raw_entry(b'0', b"h", b"", b""), raw_entry(b'1', b"h", b"h", b"")],
            "`h` cannot be an entry of a layer: it is a hard link to itself or to what it replaces",
        ),
        (
            vec![raw_entry(b'V', b"label", b"", b"")],
            "`label` cannot be an entry of a layer: entries of its type are not supported",
        ),
        (vec![raw_entry(b'0', b".", b"", b"")], "`/` cannot be an entry of a layer: the root is a directory"),
        (
            vec![raw_entry(b'0', b"d/.wh.", b"", b"")],
            "`d/.wh.` cannot be an entry of a layer: it stands for a deleted file, but names none",
        ),
        (
            vec![raw_entry(b'0', b"d/.wh...", b"", b"")],
            "`d/.wh...` cannot be an entry of a layer: the path has a component `.` or `..`",
        ),
        (
            vec![raw_entry(b'0', b".wh.d/f", b"", b"")],
            "`.wh.d/f` cannot be an entry of a layer: it is in a directory whose name stands for a deleted file",
        ),
        (vec![raw_entry(b'0', b"d/.wh..wh.plnk", b"", b"")], "fine"),
        (
            vec![raw_entry(b'g', b"global", b"", b"17 comment=12345\n"), raw_entry(b'0', b"f", b"", b"")],
            "fine",
        ),
        (vec![raw_entry(b'x', b"p", b"", b"12 path=a/b\n"), raw_entry(b'0', &long, b"", b"1")], "fine"),
        (
            vec![raw_entry(b'x', b"p", b"", b"20 size=99999999999\n"), raw_entry(b'0', b"f", b"", b"1")],
            "cannot read the content of `f`",
        ),
        (
            vec![raw_entry(b'x', b"p", b"", b"garbage\n")],
            "the layer or archive is damaged at byte 1024: a PAX record has no proper length, key or end",
        ),
        (
            vec![raw_entry(b'x', b"p", b"", &vec![b' '; 1 << 21])],
            "the layer or archive is damaged at byte 512: an extension header is larger than 1 MiB",
        ),
        (vec![vec![1; 512]], "the layer or archive is damaged at byte 512: it is no tar"),
        (
            vec![raw_entry(b'0', b"f", b"", b"")[..100].to_vec()],
            "the layer or archive is damaged at byte 100: it ends inside a header",
        ),
        (
            vec![END[..512].to_vec(), raw_entry(b'0', b"f", b"", b"")],
            "the layer or archive is damaged at byte 1024: it goes on behind a block of zeros",
        ),
        (vec![raw_entry(b'0', b"f", b"", b"x"), END.to_vec(), b"anything at all".to_vec()], "fine"),
        (vec![], "fine"),
    ];
    for (blocks, expected) in table {
        assert_eq!(both(&blocks.concat()), expected);
    }
}

#[test]
fn a_claimed_size_is_no_reason_to_allocate_or_to_wait() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.as_old_mut().name[0] = b'f';
    header.set_size(0);
    header.as_gnu_mut().unwrap().set_real_size(1 << 62);
    header.set_cksum();
    let message = both(header.as_bytes());
    assert_eq!(
        message,
        "the layer or archive is damaged at byte 512: its sparse files have more than 64 GiB of holes"
    );
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(i64::MAX as u64);
    header.set_cksum();
    assert_eq!(both(header.as_bytes()), "cannot read the content of `f`");
}

#[test]
fn long_and_deep_paths() {
    let deep = |depth: usize| vec!["d"; depth].join("/");
    let tar = |path: &str| {
        let mut writer = TarWriter::new(Vec::new());
        writer.append(&file(path, b"x"), Some(&mut &b"x"[..])).unwrap();
        writer.finish().unwrap()
    };
    // Longer than the kernel takes in one call.
    assert_eq!(both(&tar(&deep(2200))), "fine");
    let message = both(&tar(&deep(100_000)));
    assert!(
        message.ends_with("cannot be an entry of a layer: the path is longer than 8192 bytes"),
        "{message}"
    );
    if is_root() {
        let (outer, _) = unpacked(&tar(&deep(2200)));
        let index = scan_tree(&outer.path().join("tree")).unwrap();
        let mut again = Vec::new();
        write_tar(&index, &outer.path().join("tree"), &mut again).unwrap();
        assert_eq!(index_tar(&again[..]).unwrap().identity(None), index.identity(None));
    }
}

#[test]
fn parents_that_are_left_out_come_from_below() {
    if !is_root() {
        return skip("only root sets owners");
    }
    let mut private = dir("root");
    (private.mode, private.uid) = (0o2700, 7);
    private.xattrs = vec![(b"trusted.x".to_vec(), b"1".to_vec())];
    let below = Merged::new(vec![Index::from_entries(vec![private.clone()]).unwrap()]);
    for (list, missing) in [
        (vec![file("root/new/f", b"")], true),
        (vec![private.clone(), dir("root/new"), file("root/new/f", b"")], false),
        (vec![file("f", b"")], false),
    ] {
        let (tar, _) = streamed(list);
        let tree = scratch();
        assert_eq!(unpack(&tar[..], tree.path(), &below).unwrap().parents_missing, missing);
        let index = scan_tree(tree.path()).unwrap();
        if let Some(root) = index.get(b"root") {
            assert_eq!(root.to_entry(), private);
        }
        assert!(index.get(b"root/new").is_none_or(|new| new.mode == 0o755 && new.uid == 0));
    }
}

#[test]
fn capabilities_and_setuid_survive() {
    if !is_root() {
        return skip("only root sets capabilities");
    }
    // cap_net_raw=ep, revision 2 (linux/capability.h).
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut ping = file("ping", b"");
    ping.kind = Kind::File { size: 100, digest: Digest::of(content(100)), offset: None };
    (ping.mode, ping.uid, ping.gid) = (0o6755, 1000, 1000);
    ping.xattrs = vec![(b"security.capability".to_vec(), capability.to_vec())];
    let (tar, index) = streamed(vec![ping]);
    let (_outer, scanned) = unpacked(&tar);
    assert_eq!(entries(&scanned.unwrap()), as_in_a_tree(&index));
}

#[test]
fn holes_cost_nothing_in_a_tree() {
    let dir = scratch();
    let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 32 << 20).unwrap();
    let index = scan_tree(dir.path()).unwrap();
    let mut tar = Vec::new();
    write_tar(&index, dir.path(), &mut tar).unwrap();
    assert!(tar.len() > 64 << 20);
    let mut compressed = Vec::new();
    compress(&tar[..], &mut compressed, Compression::default()).unwrap();
    let tree = scratch();
    let (_, stream) = decompress(&compressed[..]).unwrap();
    unpack(stream, tree.path(), &Merged::default()).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(tree.path().join("sparse")).unwrap());
    assert!(blocks * 512 <= 128 << 10, "{blocks} blocks");
    assert_eq!(scan_tree(tree.path()).unwrap().identity(None), index.identity(None));
}

/// What GNU tar writes, in every form that it knows, is what is in the tree that it was made of.
#[test]
fn tars_of_gnu_tar() {
    let source = scratch();
    let at = |path: &str| source.path().join(path);
    fs::create_dir_all(at(&format!("{}/{}", "d".repeat(120), "e".repeat(120)))).unwrap();
    fs::write(at(&format!("{}/{}/{}", "d".repeat(120), "e".repeat(120), "f".repeat(120))), "long").unwrap();
    std::os::unix::fs::symlink("t".repeat(200), at("link")).unwrap();
    fs::write(at("a"), vec![7; 5000]).unwrap();
    fs::hard_link(at("a"), at("b")).unwrap();
    fs::write(source.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    for number in 0..60 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[number as u8 + 1; 5000], number * 200_000)
            .unwrap();
    }
    sparse.set_len(60 * 200_000).unwrap();
    let expected = scan_tree(source.path()).unwrap();
    let forms: [&[&str]; 7] = [
        &["--format=gnu"],
        &["--format=gnu", "-S"],
        &["--format=oldgnu", "-S"],
        &["--format=posix"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ];
    for form in forms {
        let output = Command::new("tar")
            .args(form)
            .args(["--sort=name", "-cf", "-", "-C"])
            .arg(source.path())
            .arg(".")
            .output();
        let Ok(output) = output else { return skip("there is no tar command") };
        assert!(output.status.success(), "{form:?}: {}", String::from_utf8_lossy(&output.stderr));
        let index = index_tar(&output.stdout[..]).unwrap();
        let whole = Index::from_entries(as_in_a_tree(&index)).unwrap();
        assert_eq!(whole.identity(None), expected.identity(None), "{form:?}");
        let KindRef::File { offset, .. } = index.get(b"sparse").unwrap().kind else { panic!("no file") };
        assert_eq!(offset.is_none(), form.contains(&"-S"), "{form:?}");
        let tree = scratch();
        unpack(&output.stdout[..], tree.path(), &Merged::default()).unwrap();
        assert_eq!(scan_tree(tree.path()).unwrap().identity(None), expected.identity(None), "{form:?}");
    }
}

/// The merged view of indexes is what the kernel's overlay of the same layers' trees shows. (In a
/// directory that one layer alone has it also lists whiteouts, of which it then says that they are
/// not there; `find` leaves those out.)
#[test]
fn the_kernel_merges_as_we_do() {
    if !is_root() {
        return skip("only root mounts overlays");
    }
    let mut runner = proptest::test_runner::TestRunner::new(cases(12));
    let strategy = prop::collection::vec(arb_foreign(), 2..4);
    let result = runner.run(&strategy, |layers| {
        let work = scratch();
        let mut indexes = Vec::new();
        for (number, list) in layers.iter().enumerate() {
            let mut writer = TarWriter::new(Vec::new());
            for entry in list.iter().filter(|entry| !matches!(entry.kind, Kind::HardLink(_))) {
                let data = if let Kind::File { size, .. } = entry.kind { content(size) } else { Vec::new() };
                writer.append(entry, Some(&mut &data[..])).unwrap();
            }
            let tar = writer.finish().unwrap();
            let Ok(index) = index_tar(&tar[..]) else { return Ok(()) };
            let tree = work.path().join(number.to_string());
            fs::create_dir(&tree).unwrap();
            unpack(&tar[..], &tree, &Merged::new(indexes.clone())).unwrap();
            indexes.push(index);
        }
        let lowers: Vec<String> = (0..layers.len()).rev().map(|number| number.to_string()).collect();
        let script = format!(
            "mkdir m && mount -t overlay overlay -o ro,lowerdir={} m && cd m || exit 1
            find . -mindepth 1 -printf '%P %y %m\\n' 2>/dev/null || true",
            lowers.join(":")
        );
        let output =
            Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(work.path()).output();
        let Ok(output) = output else { return Ok(()) };
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(message.contains("mount") || message.contains("unshare"), "{message}");
            return Ok(());
        }
        let shown: BTreeSet<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        let merged = Merged::new(indexes);
        let ours: BTreeSet<String> =
            merged.walk(b"").skip(1).map(|found| as_find_prints(&found.entry)).collect();
        prop_assert_eq!(ours, shown);
        Ok(())
    });
    result.unwrap();
}

fn as_find_prints(entry: &super::entry::EntryRef<'_>) -> String {
    let kind = match entry.kind {
        KindRef::Directory { .. } => 'd',
        KindRef::Symlink(_) => 'l',
        KindRef::Fifo => 'p',
        _ => 'f',
    };
    let mode = if kind == 'l' { 0o777 } else { entry.mode };
    format!("{} {kind} {mode:o}", String::from_utf8_lossy(entry.path))
}

/// Compressed and as they are, layers of other tools come out the same.
#[test]
fn compressed_layers_are_read() {
    let (tar, index) = streamed(vec![file("f", b""), dir("d")]);
    for how in [Compression::None, Compression::default(), Compression::Zstd { level: 3 }] {
        let mut blob = Vec::new();
        compress(&tar[..], &mut blob, how).unwrap();
        let (_, mut stream) = decompress(&blob[..]).unwrap();
        assert_eq!(index_tar(&mut stream).unwrap().identity(None), index.identity(None));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}
