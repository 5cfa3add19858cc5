//! Makes an [`Index`] entry by entry, in order, and holds its invariants.

use super::entry::{EntryRef, KindRef, Xattrs, compare_paths, is_under, path_fault};

use super::error::shown;
use super::index::{Index, NO_OFFSET, RECORD, code};
use super::{LayerError, Result};

/// The longest target of a symbolic link (`PATH_MAX`), in bytes.
const LONGEST_TARGET: usize = 4096;
/// All attributes of one file; the kernel has a bound of 64 KiB for one.
const MOST_XATTRS: usize = 1 << 20;

/// Takes the entries of a layer in the order of [`compare_paths`]. It holds 48 bytes for each
/// and the bytes of its path, target and attributes.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    records: Vec<u8>,
    heap: Vec<u8>,
    data_size: u64,
    /// The path of the last entry in the heap, and whether it is a directory.
    last: Option<(std::ops::Range<usize>, bool)>,
}

impl IndexBuilder {
    /// An index without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry that sorts behind all before it.
    pub fn push<'e>(&mut self, entry: impl Into<EntryRef<'e>>) -> Result<()> {
        let entry = entry.into();
        self.check(&entry)?;
        let start = self.heap.len();
        self.heap.extend_from_slice(entry.path);
        let path = start..self.heap.len();
        let (code, opaque) = self.push_payload(&entry.kind);
        let payload_end = self.heap.len();
        let mut plain = entry;
        if matches!(entry.kind, KindRef::Whiteout) {
            plain = EntryRef { mode: 0, uid: 0, gid: 0, mtime: Default::default(), ..entry };
        } else {
            push_xattrs(&mut self.heap, entry.xattrs);
        }
        let mode = if matches!(entry.kind, KindRef::Symlink(_)) { 0o777 } else { plain.mode };
        let length = |from: usize, to: usize| ((to - from) as u32).to_le_bytes();
        self.records.extend_from_slice(&(start as u64).to_le_bytes());
        self.records.extend_from_slice(&length(path.start, path.end));
        self.records.extend_from_slice(&length(path.end, payload_end));
        self.records.extend_from_slice(&length(payload_end, self.heap.len()));
        self.records.extend_from_slice(&(mode as u16).to_le_bytes());
        self.records.extend_from_slice(&[code, opaque.into()]);
        self.records.extend_from_slice(&plain.uid.to_le_bytes());
        self.records.extend_from_slice(&plain.gid.to_le_bytes());
        self.records.extend_from_slice(&plain.mtime.seconds.to_le_bytes());
        self.records.extend_from_slice(&[0; 8]);
        debug_assert!(self.records.len().is_multiple_of(RECORD));
        self.last = Some((path, entry.kind.is_directory()));
        Ok(())
    }

    /// The index of what was added.
    pub fn finish(mut self) -> Index {
        self.records.shrink_to_fit();
        self.heap.shrink_to_fit();
        Index::from_parts(self.records, self.heap, self.data_size)
    }

    fn check(&self, entry: &EntryRef<'_>) -> Result<()> {
        let fault = |why| Err(LayerError::entry(entry.path, why));
        if let Some(why) = path_fault(entry.path) {
            return fault(why);
        }
        if entry.mode > 0o7777 {
            return fault("its mode holds more than permissions");
        }
        if entry.path.is_empty() && !entry.kind.is_directory() {
            return fault("the root is a directory");
        }
        if let KindRef::Symlink(target) = entry.kind
            && (target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0))
        {
            return fault("the link's target is empty, too long or holds a zero byte");
        }
        if entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MOST_XATTRS {
            return fault("its extended attributes are larger than 1 MiB");
        }
        self.check_order(entry.path)?;
        if let KindRef::HardLink(target) = entry.kind {
            return self.check_link(entry.path, target);
        }
        Ok(())
    }

    fn check_order(&self, path: &[u8]) -> Result<()> {
        let Some((last, is_directory)) = &self.last else { return Ok(()) };
        let last = &self.heap[last.clone()];
        match compare_paths(last, path) {
            std::cmp::Ordering::Less if !is_directory && is_under(path, last) => {
                Err(LayerError::entry(path, "what holds it is no directory"))
            }
            std::cmp::Ordering::Less => Ok(()),
            std::cmp::Ordering::Equal => Err(LayerError::Duplicate { path: shown(path) }),
            std::cmp::Ordering::Greater => {
                Err(LayerError::Unsorted { path: shown(path), after: shown(last) })
            }
        }
    }

    fn check_link(&self, path: &[u8], target: &[u8]) -> Result<()> {
        let count = self.records.len() / RECORD;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match compare_paths(self.path(middle), target) {
                std::cmp::Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        let found = (low < count && self.path(low) == target).then(|| self.records[low * RECORD + 22]);
        match found {
            None => Err(LayerError::entry(path, "it is a hard link to no earlier entry of the layer")),
            Some(code::DIRECTORY | code::HARD_LINK | code::WHITEOUT) => {
                Err(LayerError::entry(path, "it is a hard link to something that cannot be linked to"))
            }
            Some(_) => Ok(()),
        }
    }

    fn path(&self, at: usize) -> &[u8] {
        let record = &self.records[at * RECORD..];
        let start = super::entry::little(&record[..8]) as usize;
        &self.heap[start..start + super::entry::little(&record[8..12]) as usize]
    }

    fn push_payload(&mut self, kind: &KindRef<'_>) -> (u8, bool) {
        match *kind {
            KindRef::File { size, digest, offset } => {
                self.data_size = self.data_size.saturating_add(size);
                self.heap.extend_from_slice(&size.to_le_bytes());
                self.heap.extend_from_slice(&offset.unwrap_or(NO_OFFSET).to_le_bytes());
                self.heap.extend_from_slice(digest.as_bytes());
                (code::FILE, false)
            }
            KindRef::Directory { opaque } => (code::DIRECTORY, opaque),
            KindRef::Symlink(target) => {
                self.heap.extend_from_slice(target);
                (code::SYMLINK, false)
            }
            KindRef::HardLink(target) => {
                self.heap.extend_from_slice(target);
                (code::HARD_LINK, false)
            }
            KindRef::CharDevice { major, minor } => self.push_device(code::CHAR_DEVICE, major, minor),
            KindRef::BlockDevice { major, minor } => self.push_device(code::BLOCK_DEVICE, major, minor),
            KindRef::Fifo => (code::FIFO, false),
            KindRef::Whiteout => (code::WHITEOUT, false),
        }
    }

    fn push_device(&mut self, code: u8, major: u32, minor: u32) -> (u8, bool) {
        self.heap.extend_from_slice(&major.to_le_bytes());
        self.heap.extend_from_slice(&minor.to_le_bytes());
        (code, false)
    }
}

fn push_xattrs(heap: &mut Vec<u8>, xattrs: Xattrs<'_>) {
    for (name, value) in xattrs.iter() {
        heap.extend_from_slice(&(name.len() as u32).to_le_bytes());
        heap.extend_from_slice(&(value.len() as u32).to_le_bytes());
        heap.extend_from_slice(name);
        heap.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::{Entry, Kind};
    use crate::layer::testing::{dir, entry, file};

    fn refused(entries: &[Entry]) -> String {
        let mut builder = IndexBuilder::new();
        entries
            .iter()
            .find_map(|entry| builder.push(entry).err())
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn invariants_are_held() {
        let link = |path: &str, target: &str| entry(path, Kind::HardLink(target.as_bytes().to_vec()));
        let table = [
            (vec![dir("b"), dir("a")], "`a` was added to a layer after `b`, which sorts behind it"),
            (vec![dir("a"), dir("a")], "`a` is in the layer twice"),
            (
                vec![file("a", b""), file("a/b", b"")],
                "`a/b` cannot be an entry of a layer: what holds it is no directory",
            ),
            (
                vec![file("..", b"")],
                "`..` cannot be an entry of a layer: the path has a component `.` or `..`",
            ),
            (vec![file("", b"")], "`` cannot be an entry of a layer: the root is a directory"),
            (
                vec![link("b", "a")],
                "`b` cannot be an entry of a layer: it is a hard link to no earlier entry of the layer",
            ),
            (
                vec![dir("a"), link("b", "a")],
                "`b` cannot be an entry of a layer: it is a hard link to something that cannot be linked to",
            ),
            (
                vec![entry("l", Kind::Symlink(vec![]))],
                "`l` cannot be an entry of a layer: the link's target is empty, too long or holds a zero byte",
            ),
        ];
        for (entries, message) in table {
            assert_eq!(refused(&entries), message);
        }
        assert_eq!(refused(&[dir("a"), file("a/b", b""), file("a.b", b""), link("c", "a/b")]), "");
    }
}
