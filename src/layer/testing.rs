//! Entries and random layers for the tests of this room.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::base::clock::Time;
use crate::base::digest::Digest;

use super::entry::{Entry, Kind, is_under};

/// A plain entry.
pub fn entry(path: &str, kind: Kind) -> Entry {
    let mode = match kind {
        Kind::Directory { .. } => 0o755,
        Kind::Symlink(_) => 0o777,
        Kind::Whiteout => 0,
        _ => 0o644,
    };
    let mtime = Time::from_seconds(if kind == Kind::Whiteout { 0 } else { 1_000_000 });
    Entry { path: path.as_bytes().to_vec(), mode, uid: 0, gid: 0, mtime, xattrs: vec![], kind }
}

/// A file that holds `content`.
pub fn file(path: &str, content: &[u8]) -> Entry {
    entry(path, Kind::File { size: content.len() as u64, digest: Digest::of(content), offset: None })
}

/// A directory.
pub fn dir(path: &str) -> Entry {
    entry(path, Kind::Directory { opaque: false })
}

/// What [`arb_entries`] puts into a file: told from the path and a small number, so that a test
/// can make it again.
pub fn content(size: u64) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + size) as u8).collect()
}

fn arb_path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => prop::sample::select(vec![&b"a"[..], b"b", b"c", b"a.b", b"a-", b"\xff\xfe", "é".as_bytes()])
            .prop_map(<[u8]>::to_vec),
        1 => (90usize..=255).prop_map(|length| vec![b'n'; length]),
    ];
    prop::collection::vec(name, 1..5).prop_map(|names| names.join(&b'/'))
}

fn arb_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => prop_oneof![Just(0u64), 1u64..3000, 65_000u64..70_000]
            .prop_map(|size| Kind::File { size, digest: Digest::of(content(size)), offset: None }),
        4 => prop::bool::weighted(0.2).prop_map(|opaque| Kind::Directory { opaque }),
        1 => prop_oneof![Just(b"a/b".to_vec()), Just(b"/..//x".to_vec()), Just(vec![b't'; 300])].prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::CharDevice { major: 1, minor: 3 }),
        1 => Just(Kind::BlockDevice { major: 259, minor: 70_000 }),
        1 => Just(Kind::Whiteout),
        2 => Just(Kind::HardLink(vec![])),
    ]
}

fn arb_xattrs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop::sample::select(vec!["trusted.a", "trusted.b=%", "trusted.c"]);
    let value =
        prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..20), Just(b"1=\n2 \0".to_vec())];
    prop::collection::btree_map(name, value, 0..3)
        .prop_map(|map| map.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect())
}

/// The entries of a layer that can be: parents are directories (or left out), hard links name a
/// file that sorts first.
pub fn arb_entries() -> impl Strategy<Value = Vec<Entry>> {
    let owner = prop_oneof![Just(0u32), Just(1000), Just(3_000_000)];
    let one =
        (arb_path(), arb_kind(), 0u32..=0o7777, owner.clone(), owner, -5i64..2_000_000_000, arb_xattrs());
    prop::collection::vec(one, 0..24).prop_map(|list| {
        let mut layer: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        for (path, kind, mode, uid, gid, seconds, xattrs) in list {
            let blocked = layer.values().any(|other| {
                is_under(&path, &other.path) && !matches!(other.kind, Kind::Directory { .. })
                    || is_under(&other.path, &path) && !matches!(kind, Kind::Directory { .. })
            });
            if !blocked {
                let mtime = Time::from_seconds(seconds);
                layer.insert(path.clone(), Entry { path, mode, uid, gid, mtime, xattrs, kind });
            }
        }
        // In an opaque directory there is nothing that a whiteout could be about.
        let opaque: Vec<_> = layer
            .values()
            .filter(|e| e.kind == Kind::Directory { opaque: true })
            .map(|e| e.path.clone())
            .collect();
        layer.retain(|path, entry| {
            entry.kind != Kind::Whiteout || !opaque.iter().any(|dir| is_under(path, dir))
        });
        complete(layer.into_values().collect())
    })
}

/// Gives hard links their targets and takes from whiteouts and links what they cannot have.
fn complete(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| super::entry::compare_paths(&a.path, &b.path));
    let mut first: Option<Entry> = None;
    for entry in &mut entries {
        match (&entry.kind, &first) {
            (Kind::HardLink(_), Some(file)) => {
                let kind = Kind::HardLink(file.path.clone());
                *entry = Entry { path: std::mem::take(&mut entry.path), kind, ..file.clone() };
            }
            (Kind::HardLink(_), None) => entry.kind = Kind::Fifo,
            (Kind::Whiteout, _) => {
                let path = std::mem::take(&mut entry.path);
                let mtime = Time::default();
                *entry = Entry { path, mode: 0, uid: 0, gid: 0, mtime, xattrs: vec![], kind: Kind::Whiteout };
            }
            (Kind::Symlink(_), _) => entry.mode = 0o777,
            (Kind::File { .. }, _) => first = Some(entry.clone()),
            _ => {}
        }
    }
    entries
}

/// Whether this process may make devices and trusted attributes, which layers are full of.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One entry of a tar as a foreign program may write it, without any check.
pub fn raw_entry(kind: u8, path: &[u8], link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().linkflag[0] = kind;
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A temporary directory, in memory where that is possible: many small files that come and go are
/// slow on some file systems.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Says why a test is skipped.
#[cfg(test)]
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
