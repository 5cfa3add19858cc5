//! A stack of layers as COPY sees it.

use super::tree::{Descend, Node, NodeKind, Tree};
use crate::base::clock::Time;
use crate::layer::entry::{EntryRef, KindRef};
use crate::layer::merged::{Found, Merged};

/// For each layer of the stack the first and last second of the run that made it, if a run did.
pub type Spans = Vec<Option<(i64, i64)>>;

/// A stack of layers.
pub struct LayersTree {
    merged: Merged,
    spans: Spans,
}

impl LayersTree {
    /// The tree that `merged` shows; `spans` may be shorter than it.
    pub fn new(merged: Merged, spans: Spans) -> Self {
        Self { merged, spans }
    }

    /// The layer (from the bottom) and the entry that hold the content of the file at `path`:
    /// for a hard link, the file's own.
    pub fn file(&self, path: &[u8]) -> Option<(usize, EntryRef<'_>)> {
        let found = self.merged.get(path)?;
        Some((found.layer, self.target(&found)))
    }

    /// The modification time for a key of an entry of the layer `part`: `None` if it only says
    /// when the layer's run ran.
    pub fn keyed_mtime(&self, part: u32, mtime: Time) -> Option<Time> {
        let span = self.spans.get(part as usize).copied().flatten();
        let inside = span.is_some_and(|(first, last)| (first..=last).contains(&mtime.seconds));
        (!inside).then_some(mtime)
    }

    /// What a hard link is a name of; the entry itself if it is none.
    fn target<'a>(&'a self, found: &Found<'a>) -> EntryRef<'a> {
        match found.entry.kind {
            KindRef::HardLink(target) => self.merged.layers()[found.layer].get(target).unwrap_or(found.entry),
            _ => found.entry,
        }
    }

    fn node(&self, found: &Found<'_>) -> Node {
        let entry = self.target(found);
        let link = match found.entry.kind {
            KindRef::HardLink(target) => Some(target.to_vec()),
            _ => None,
        };
        let kind = match entry.kind {
            KindRef::File { size, .. } => NodeKind::File { size, link },
            KindRef::Directory { .. } => NodeKind::Directory,
            KindRef::Symlink(target) => NodeKind::Symlink(target.to_vec()),
            KindRef::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            KindRef::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            KindRef::Fifo => NodeKind::Fifo,
            // An index has no link to a link, and a merged view no whiteouts.
            KindRef::HardLink(_) | KindRef::Whiteout => NodeKind::Socket,
        };
        Node {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            part: found.layer as u32,
        }
    }
}

impl Tree for LayersTree {
    fn get(&self, path: &[u8]) -> Option<Node> {
        self.merged.get(path).map(|found| self.node(&found))
    }

    fn names(&self, path: &[u8]) -> Vec<Vec<u8>> {
        self.merged.children(path).iter().map(|found| found.entry.name().to_vec()).collect()
    }

    fn walk(&self, path: &[u8], visit: &mut dyn FnMut(&[u8], Node) -> Descend) {
        let mut walk = self.merged.walk(path);
        // The directory itself comes first.
        let _ = walk.next();
        while let Some(found) = walk.next() {
            if visit(found.entry.path, self.node(&found)) == Descend::Past {
                walk.skip_subtree(found.entry.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::layer::entry::{Entry, Kind};
    use crate::layer::index::Index;

    fn entry(path: &str, kind: Kind) -> Entry {
        let (path, mtime) = (path.into(), Time::from_seconds(5));
        Entry { path, mode: 0o644, uid: 1, gid: 2, mtime, xattrs: Vec::new(), kind }
    }

    #[test]
    fn links_and_spans() {
        let file = Kind::File { size: 3, digest: Digest::of("abc"), offset: None };
        let dir = Kind::Directory { opaque: false };
        let below = vec![entry("d", dir.clone()), entry("d/old", file.clone())];
        let above = vec![
            entry("d", dir),
            entry("d/a", file),
            entry("d/b", Kind::HardLink(b"d/a".to_vec())),
            entry("d/old", Kind::Whiteout),
        ];
        let indexes = [below, above].map(|entries| Index::from_entries(entries).unwrap());
        let tree = LayersTree::new(Merged::new(indexes.to_vec()), vec![None, Some((4, 6))]);
        assert_eq!(tree.names(b"d"), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(tree.get(b"d/old"), None);
        let link = tree.get(b"d/b").unwrap();
        assert_eq!(link.kind, NodeKind::File { size: 3, link: Some(b"d/a".to_vec()) });
        assert_eq!(tree.keyed_mtime(link.part, link.mtime), None);
        assert_eq!(tree.file(b"d/b").unwrap().1.path, b"d/a");
        let mut seen = Vec::new();
        tree.walk(b"", &mut |path, _| {
            seen.push(path.to_vec());
            Descend::Past
        });
        assert_eq!(seen, [b"d".to_vec()]);
    }
}
