//! All entries of a layer, sorted by [`compare_paths`], in one flat file that is mapped into
//! memory: opening costs one pass over the records, looking up is a binary search, and going
//! through it allocates nothing.
//!
//! The file, all numbers little-endian:
//!
//! ```text
//! header   48 bytes   magic `kiln layer index` (16), version u64, entries u64, heap bytes u64, file data bytes u64
//! records  48 bytes for each entry, in order
//!            0 u64 where in the heap its bytes begin    20 u16 mode         32 i64 mtime, whole seconds
//!            8 u32 path bytes                           22 u8 kind          40 u64 zero
//!           12 u32 payload bytes                        23 u8 opaque (0, 1)
//!           16 u32 xattr bytes                          24 u32 uid, 28 u32 gid
//! heap     for each entry: path, payload, xattrs (the form of `Xattrs::Packed`)
//! ```
//!
//! The payload of a file is its size (u64), the offset of its data in the tar (u64, all ones if
//! there is none) and its digest (32 bytes); that of a link its target; that of a device its
//! major and minor number (u32 each). A file of another version or with a record that points out
//! of it is refused; what is written is put in place by a rename.
//!
//! Invariants of every index that [`IndexBuilder`](super::builder::IndexBuilder) made: paths are
//! well formed, in order and there once; nothing is below an entry that is no directory; a hard
//! link names an earlier entry that is neither directory, hard link nor whiteout; whiteouts have
//! no metadata.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::base::clock::Time;
use crate::base::digest::{Digest, Hasher, LayerId};
use crate::base::sys::Mapped;

use super::builder::IndexBuilder;
use super::entry::{Entry, EntryRef, KindRef, Xattrs, compare_paths, is_under, little};
use super::{LayerError, Result};

pub(crate) const HEADER: usize = 48;
pub(crate) const RECORD: usize = 48;
pub(crate) const MAGIC: &[u8; 16] = b"kiln layer index";
/// A change of the format takes a new version; indexes of another one are made anew.
pub(crate) const VERSION: u64 = 1;
/// The offset of a file whose data is not in a tar.
pub(crate) const NO_OFFSET: u64 = u64::MAX;
const FILE_PAYLOAD: usize = 48;
const DEVICE_PAYLOAD: usize = 8;

/// What the record calls each kind. These numbers also go into the identity of a layer: a
/// change of one changes every key that stands on a layer.
pub(crate) mod code {
    pub const FILE: u8 = 1;
    pub const DIRECTORY: u8 = 2;
    pub const SYMLINK: u8 = 3;
    pub const HARD_LINK: u8 = 4;
    pub const CHAR_DEVICE: u8 = 5;
    pub const BLOCK_DEVICE: u8 = 6;
    pub const FIFO: u8 = 7;
    pub const WHITEOUT: u8 = 8;
}

/// The sorted entries of one layer. Clones share the bytes.
#[derive(Clone)]
pub struct Index(Arc<Bytes>);

pub(crate) enum Bytes {
    /// The whole file.
    Mapped { file: Mapped, count: usize, data_size: u64 },
    /// The same parts, not written yet.
    Built { records: Vec<u8>, heap: Vec<u8>, data_size: u64 },
}

impl Bytes {
    fn records(&self) -> &[u8] {
        match self {
            Self::Mapped { file, count, .. } => &file[HEADER..HEADER + count * RECORD],
            Self::Built { records, .. } => records,
        }
    }

    fn heap(&self) -> &[u8] {
        match self {
            Self::Mapped { file, count, .. } => &file[HEADER + count * RECORD..],
            Self::Built { heap, .. } => heap,
        }
    }
}

impl Index {
    /// Maps the index file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let read = |error| LayerError::file("read the layer index", path, error);
        let file = Mapped::new(&File::open(path).map_err(read)?).map_err(read)?;
        let damaged = |why| LayerError::Damaged { path: path.to_owned(), why };
        let (count, data_size) = check(&file).map_err(damaged)?;
        Ok(Self(Arc::new(Bytes::Mapped { file, count, data_size })))
    }

    /// An index of `entries` in any order; two of one path are refused.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
        let mut builder = IndexBuilder::new();
        for entry in &entries {
            builder.push(entry)?;
        }
        Ok(builder.finish())
    }

    pub(crate) fn from_parts(records: Vec<u8>, heap: Vec<u8>, data_size: u64) -> Self {
        Self(Arc::new(Bytes::Built { records, heap, data_size }))
    }

    /// Writes the index file, under another name first, so that `path` never shows a part of it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |error| LayerError::file("write the layer index", path, error);
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        self.write_to(&mut file).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (records, heap) = (self.0.records(), self.0.heap());
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        for number in [VERSION, self.len() as u64, heap.len() as u64, self.data_size()] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        out.write_all(&header)?;
        out.write_all(records)?;
        out.write_all(heap)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.records().len() / RECORD
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sizes of all files together, in bytes; a file with several names counts once.
    pub fn data_size(&self) -> u64 {
        match *self.0 {
            Bytes::Mapped { data_size, .. } | Bytes::Built { data_size, .. } => data_size,
        }
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { index: self, range: 0..self.len() }
    }

    /// The entry at exactly `path`.
    pub fn get(&self, path: &[u8]) -> Option<EntryRef<'_>> {
        let at = self.lower_bound(0..self.len(), path);
        (at < self.len() && self.path(at) == path).then(|| self.entry(at))
    }

    /// The entry at `path`, if there is one, and all entries below it, in order.
    pub fn subtree(&self, path: &[u8]) -> Iter<'_> {
        Iter { index: self, range: self.subtree_range(0..self.len(), path) }
    }

    /// What the layer is, whatever run made it: a digest over all entries without the offsets of
    /// their data.
    ///
    /// Mtimes count in whole seconds, and those in the span `run` (first and last second of the
    /// step's own run, both inside) only as "while it ran". Whiteouts count by path alone, hard
    /// links by path and target. The texts and numbers in here are part of every cache key that
    /// stands on a layer: a change of any of them makes every layer a new one.
    pub fn identity(&self, run: Option<(i64, i64)>) -> LayerId {
        let mut hasher = Hasher::new();
        hasher.update("kiln layer identity 1\n");
        let mut bytes = Vec::with_capacity(1 << 16);
        for entry in self.iter() {
            identify(&entry, run, &mut bytes);
            if bytes.len() > 1 << 15 {
                hasher.update(&bytes);
                bytes.clear();
            }
        }
        hasher.update(&bytes);
        LayerId(hasher.finish())
    }

    fn record(&self, at: usize) -> &[u8; RECORD] {
        let bytes = &self.0.records()[at * RECORD..(at + 1) * RECORD];
        bytes.try_into().expect("a slice of that length")
    }

    pub(crate) fn path(&self, at: usize) -> &[u8] {
        let record = self.record(at);
        let start = little(&record[..8]) as usize;
        &self.0.heap()[start..start + little(&record[8..12]) as usize]
    }

    pub(crate) fn entry(&self, at: usize) -> EntryRef<'_> {
        let record = self.record(at);
        let number = |range: Range<usize>| little(&record[range]);
        let start = number(0..8) as usize;
        let payload_start = start + number(8..12) as usize;
        let xattrs_start = payload_start + number(12..16) as usize;
        let heap = self.0.heap();
        EntryRef {
            path: &heap[start..payload_start],
            mode: number(20..22) as u32,
            uid: number(24..28) as u32,
            gid: number(28..32) as u32,
            mtime: Time::from_seconds(number(32..40) as i64),
            xattrs: Xattrs::Packed(&heap[xattrs_start..xattrs_start + number(16..20) as usize]),
            kind: kind(record[22], record[23], &heap[payload_start..xattrs_start]),
        }
    }

    /// The first place in `range` whose path is not before `path`.
    pub(crate) fn lower_bound(&self, range: Range<usize>, path: &[u8]) -> usize {
        self.partition(range, |found| compare_paths(found, path).is_lt())
    }

    /// Where in `range` the entry at `path` and those below it are.
    pub(crate) fn subtree_range(&self, range: Range<usize>, path: &[u8]) -> Range<usize> {
        if path.is_empty() {
            return range;
        }
        let start = self.lower_bound(range.clone(), path);
        let end = self.partition(start..range.end, |found| found == path || is_under(found, path));
        start..end
    }

    fn partition(&self, mut range: Range<usize>, before: impl Fn(&[u8]) -> bool) -> usize {
        while range.start < range.end {
            let middle = range.start + (range.end - range.start) / 2;
            if before(self.path(middle)) {
                range.start = middle + 1;
            } else {
                range.end = middle;
            }
        }
        range.start
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Entries of an index in order.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    index: &'a Index,
    range: Range<usize>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = EntryRef<'a>;

    fn next(&mut self) -> Option<EntryRef<'a>> {
        self.range.next().map(|at| self.index.entry(at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.range.next_back().map(|at| self.index.entry(at))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The kind in a record that [`check`] or the builder vouches for.
fn kind(code: u8, opaque: u8, payload: &[u8]) -> KindRef<'_> {
    let number = |range: Range<usize>| little(&payload[range]);
    match code {
        code::FILE => KindRef::File {
            size: number(0..8),
            offset: Some(number(8..16)).filter(|offset| *offset != NO_OFFSET),
            digest: Digest::from_bytes(payload[16..48].try_into().expect("32 bytes")),
        },
        code::DIRECTORY => KindRef::Directory { opaque: opaque != 0 },
        code::SYMLINK => KindRef::Symlink(payload),
        code::HARD_LINK => KindRef::HardLink(payload),
        code::CHAR_DEVICE => KindRef::CharDevice { major: number(0..4) as u32, minor: number(4..8) as u32 },
        code::BLOCK_DEVICE => KindRef::BlockDevice { major: number(0..4) as u32, minor: number(4..8) as u32 },
        code::FIFO => KindRef::Fifo,
        _ => KindRef::Whiteout,
    }
}

/// Checks that every record stays inside the file; gives the number of entries and the bytes of
/// their data.
fn check(file: &[u8]) -> Result<(usize, u64), &'static str> {
    let header = file.get(..HEADER).ok_or("it is shorter than its header")?;
    if &header[..16] != MAGIC {
        return Err("it does not begin as an index does");
    }
    if little(&header[16..24]) != VERSION {
        return Err("it is of another version");
    }
    let (count, heap) = (little(&header[24..32]), little(&header[32..40]));
    let records = count.checked_mul(RECORD as u64);
    let length = records.and_then(|records| records.checked_add(heap)?.checked_add(HEADER as u64));
    if length != Some(file.len() as u64) {
        return Err("its length is not what its header says");
    }
    let records = &file[HEADER..file.len() - heap as usize];
    if !records.chunks_exact(RECORD).all(|record| record_fits(record, heap)) {
        return Err("a record does not fit");
    }
    Ok((count as usize, little(&header[40..48])))
}

fn record_fits(record: &[u8], heap: u64) -> bool {
    let number = |range: Range<usize>| little(&record[range]);
    let payload = number(12..16) as usize;
    let end = number(0..8).checked_add(number(8..12) + number(12..16) + number(16..20));
    let payload_fits = match record[22] {
        code::FILE => payload == FILE_PAYLOAD,
        code::SYMLINK | code::HARD_LINK => true,
        code::CHAR_DEVICE | code::BLOCK_DEVICE => payload == DEVICE_PAYLOAD,
        code::DIRECTORY | code::FIFO | code::WHITEOUT => payload == 0,
        _ => false,
    };
    payload_fits && end.is_some_and(|end| end <= heap)
}

/// Adds to `out` what `entry` contributes to the identity of its layer.
fn identify(entry: &EntryRef<'_>, run: Option<(i64, i64)>, out: &mut Vec<u8>) {
    let field = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    field(out, entry.path);
    match entry.kind {
        KindRef::Whiteout => return out.push(code::WHITEOUT),
        KindRef::HardLink(target) => {
            out.push(code::HARD_LINK);
            return field(out, target);
        }
        KindRef::File { size, digest, .. } => {
            out.push(code::FILE);
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(digest.as_bytes());
        }
        KindRef::Directory { opaque } => out.extend_from_slice(&[code::DIRECTORY, opaque.into()]),
        KindRef::Symlink(target) => {
            out.push(code::SYMLINK);
            field(out, target);
        }
        KindRef::CharDevice { major, minor } => device(out, code::CHAR_DEVICE, major, minor),
        KindRef::BlockDevice { major, minor } => device(out, code::BLOCK_DEVICE, major, minor),
        KindRef::Fifo => out.push(code::FIFO),
    }
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let seconds = entry.mtime.seconds;
    if run.is_some_and(|(first, last)| (first..=last).contains(&seconds)) {
        out.push(1);
    } else {
        out.push(0);
        out.extend_from_slice(&seconds.to_le_bytes());
    }
    out.extend_from_slice(&(entry.xattrs.iter().count() as u64).to_le_bytes());
    for (name, value) in entry.xattrs.iter() {
        field(out, name);
        field(out, value);
    }
}

fn device(out: &mut Vec<u8>, code: u8, major: u32, minor: u32) {
    out.push(code);
    out.extend_from_slice(&major.to_le_bytes());
    out.extend_from_slice(&minor.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::entry::Kind;
    use crate::layer::testing::{arb_entries, dir, entry, file};

    fn sample() -> Index {
        let mut linked = entry("b/hard", Kind::HardLink(b"b/file".to_vec()));
        linked.mode = 0o644;
        Index::from_entries(vec![
            linked,
            file("b/file", b"content"),
            dir("b"),
            dir("a"),
            entry("a/link", Kind::Symlink(b"../b".to_vec())),
            entry("gone", Kind::Whiteout),
            entry("a.null", Kind::CharDevice { major: 1, minor: 3 }),
        ])
        .unwrap()
    }

    #[test]
    fn entries_are_found_in_memory_and_on_disk() {
        let dir = crate::layer::testing::scratch();
        let path = dir.path().join("index");
        sample().write(&path).unwrap();
        for index in [sample(), Index::open(&path).unwrap()] {
            let paths: Vec<_> = index.iter().map(|e| String::from_utf8(e.path.to_vec()).unwrap()).collect();
            assert_eq!(paths, ["a", "a/link", "a.null", "b", "b/file", "b/hard", "gone"]);
            assert_eq!(index.get(b"a/link").unwrap().kind, KindRef::Symlink(b"../b"));
            assert!(index.get(b"a/lin").is_none() && index.get(b"z").is_none() && index.get(b"").is_none());
            assert_eq!(
                index.subtree(b"b").map(|e| e.name().to_vec()).collect::<Vec<_>>(),
                [&b"b"[..], b"file", b"hard"]
            );
            assert_eq!(index.subtree(b"").len(), 7);
            assert_eq!(index.subtree(b"c").len(), 0);
            assert_eq!(index.data_size(), 7);
        }
    }

    /// The identity is part of every key that stands on a layer: these values may change only
    /// with the text at the head of the identity.
    #[test]
    fn the_identity_is_what_it_was() {
        let identity = sample().identity(None).to_string();
        insta::assert_snapshot!(identity, @"sha256:96531bd6435c7c0ef989ec59077bebe3990b81d4887db5562c06d8d28042768a");
        let empty = IndexBuilder::new().finish().identity(None).to_string();
        insta::assert_snapshot!(empty, @"sha256:8d3ada210f44975c12c8647caa224b2eb0f2fb495c1a24a83537e67141e8feac");
    }

    #[test]
    fn the_identity_tells_what_a_layer_is() {
        let base = sample().identity(None);
        let changed = |change: &dyn Fn(&mut Entry)| {
            let mut entries: Vec<_> = sample().iter().map(|entry| entry.to_entry()).collect();
            entries.iter_mut().filter(|entry| entry.path == b"b/file").for_each(change);
            Index::from_entries(entries).unwrap()
        };
        for change in [
            &(|entry: &mut Entry| entry.mode = 0o4755) as &dyn Fn(&mut Entry),
            &|entry| entry.uid = 1,
            &|entry| entry.gid = 1,
            &|entry| entry.mtime = Time::from_seconds(12),
            &|entry| entry.xattrs = vec![(b"user.a".to_vec(), vec![])],
            &|entry| entry.kind = Kind::Fifo,
        ] {
            assert_ne!(changed(change).identity(None), base);
        }
        let unchanged = changed(&|entry| {
            entry.mtime.nanoseconds = 5;
            if let Kind::File { offset, .. } = &mut entry.kind {
                *offset = Some(512);
            }
        });
        assert_eq!(unchanged.identity(None), base);
    }

    #[test]
    fn mtimes_of_the_run_are_left_out() {
        let at = |seconds| {
            let mut entry = file("f", b"");
            entry.mtime = Time { seconds, nanoseconds: 999_999_999 };
            Index::from_entries(vec![entry]).unwrap()
        };
        assert_eq!(at(100).identity(Some((100, 110))), at(205).identity(Some((200, 205))));
        assert_ne!(at(99).identity(Some((100, 110))), at(100).identity(Some((100, 110))));
        assert_ne!(at(111).identity(Some((100, 110))), at(110).identity(Some((100, 110))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn what_is_written_is_read(entries in arb_entries()) {
            let index = Index::from_entries(entries.clone()).unwrap();
            let dir = crate::layer::testing::scratch();
            let path = dir.path().join("index");
            index.write(&path).unwrap();
            let read = Index::open(&path).unwrap();
            let mut sorted = entries;
            sorted.sort_by(|a, b| compare_paths(&a.path, &b.path));
            prop_assert_eq!(read.iter().map(|entry| entry.to_entry()).collect::<Vec<_>>(), sorted);
            prop_assert_eq!(read.identity(None), index.identity(None));
            for entry in index.iter() {
                prop_assert_eq!(read.get(entry.path).map(|found| found.to_entry()), Some(entry.to_entry()));
                let subtree = index.iter().filter(|e| e.path == entry.path || is_under(e.path, entry.path));
                prop_assert_eq!(read.subtree(entry.path).len(), subtree.count());
            }
        }

        #[test]
        fn a_damaged_file_never_panics(
            entries in arb_entries(),
            cut in any::<prop::sample::Index>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut bytes = Vec::new();
            Index::from_entries(entries).unwrap().write_to(&mut bytes).unwrap();
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut.index(3) == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            let dir = crate::layer::testing::scratch();
            let path = dir.path().join("index");
            std::fs::write(&path, bytes).unwrap();
            if let Ok(index) = Index::open(&path) {
                let _ = (index.identity(None), index.get(b"a/b"), index.subtree(b"a").count());
            }
        }
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let mut bytes = Vec::new();
        sample().write_to(&mut bytes).unwrap();
        let dir = crate::layer::testing::scratch();
        let path = dir.path().join("index");
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(matches!(Index::open(&path), Err(LayerError::Damaged { .. })), "{length}");
        }
    }
}
