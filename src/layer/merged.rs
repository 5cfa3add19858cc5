//! A stack of layers, bottom first, seen as the one file system that an overlay of their trees
//! would show, from their indexes alone.
//!
//! Layers from outside may hold `a/b` without `a`: the directory is then there, with the metadata
//! of the layers below, or 0755 and root where they have none. Whiteouts, opaque directories, and
//! what is no directory hide what lower layers have at and below their path.

use std::collections::VecDeque;

use crate::base::clock::Time;

use super::entry::{EntryRef, KindRef, Xattrs, ancestors, is_under, parent};
use super::error::shown;
use super::index::Index;
use super::walk::Walk;
use super::{LayerError, Result};

/// How many symbolic links one path may lead through, as in the kernel (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A stack of layers. Clones share the indexes.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    layers: Vec<Index>,
}

/// An entry of the merged view.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// What is there. A directory that no layer has an entry for, only entries below it, is 0755
    /// and root's.
    pub entry: EntryRef<'a>,
    /// The layer it comes from, counted from the bottom.
    pub layer: usize,
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub struct Resolved<'a> {
    /// The path without links, `.` and `..`, relative to the root.
    pub path: Vec<u8>,
    /// What is there.
    pub found: Option<Found<'a>>,
    /// How many components at the end of `path` do not exist; 0 if it does.
    pub missing: usize,
}

/// What one layer says about a path.
pub(crate) struct Look<'a> {
    pub entry: Option<EntryRef<'a>>,
    /// The first entry below the path.
    pub below: Option<&'a [u8]>,
    /// Whether the layer hides, by an ancestor of the path, what lower layers have there.
    pub hides: bool,
}

impl Merged {
    /// The stack `layers`, bottom first.
    pub fn new(layers: Vec<Index>) -> Self {
        Self { layers }
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Index] {
        &self.layers
    }

    /// What is at `path`; no symbolic link is followed.
    pub fn get<'a>(&'a self, path: &[u8]) -> Option<Found<'a>> {
        let mut implied = path.is_empty().then(|| implied_directory(&[], 0));
        for (layer, index) in self.layers.iter().enumerate().rev() {
            let look = look(index, path);
            match look.entry {
                Some(entry) if entry.kind.is_directory() => return Some(Found { entry, layer }),
                Some(entry) if implied.is_none() && entry.kind != KindRef::Whiteout => {
                    return Some(Found { entry, layer });
                }
                Some(_) => return implied,
                None => {}
            }
            if let (None, Some(below)) = (implied, look.below) {
                implied = Some(implied_directory(&below[..path.len()], layer));
            }
            if look.hides {
                break;
            }
        }
        implied
    }

    /// Where `path` leads inside the root; `follow_last` tells whether a link at its end is
    /// followed. Components that do not exist are kept as they are, and `..` takes back the one
    /// before it.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Resolved<'_>> {
        let mut rest: VecDeque<Vec<u8>> = components(path).collect();
        let mut resolved = Resolved { path: Vec::new(), found: self.get(b""), missing: 0 };
        let mut links = 0;
        while let Some(component) = rest.pop_front() {
            if component == b".." {
                self.step_out(&mut resolved);
                continue;
            }
            let mut next = resolved.path.clone();
            if !next.is_empty() {
                next.push(b'/');
            }
            next.extend_from_slice(&component);
            let found = if resolved.missing > 0 { None } else { self.get(&next) };
            match found.map(|found| found.entry.kind) {
                None => resolved.missing += 1,
                Some(KindRef::Symlink(target)) if follow_last || !rest.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(LayerError::Loop { path: shown(path), limit: MOST_LINKS });
                    }
                    if target.starts_with(b"/") {
                        resolved = Resolved { path: Vec::new(), found: self.get(b""), missing: 0 };
                    }
                    components(target).rev().for_each(|component| rest.push_front(component));
                    continue;
                }
                Some(KindRef::Directory { .. }) => {}
                Some(_) if rest.is_empty() => {}
                Some(_) => return Err(LayerError::NotADirectory { path: shown(path), at: shown(&next) }),
            }
            resolved.path = next;
            resolved.found = found;
        }
        Ok(resolved)
    }

    fn step_out<'a>(&'a self, resolved: &mut Resolved<'a>) {
        let length = parent(&resolved.path).map_or(0, <[u8]>::len);
        resolved.path.truncate(length);
        resolved.missing = resolved.missing.saturating_sub(1);
        resolved.found = if resolved.missing == 0 { self.get(&resolved.path) } else { None };
    }

    /// What is directly in the directory `dir`, in order; empty if there is no such directory.
    pub fn children<'a>(&'a self, dir: &[u8]) -> Vec<Found<'a>> {
        let mut walk = self.walk(dir);
        let mut children = Vec::new();
        if walk.next().is_some() {
            while let Some(found) = walk.next() {
                walk.skip_subtree(found.entry.path);
                children.push(found);
            }
        }
        children
    }

    /// What is at `path` and everything below it, in component order. Nothing is followed.
    pub fn walk<'a>(&'a self, path: &[u8]) -> Walk<'a> {
        Walk::new(&self.layers, self.get(path), path)
    }
}

/// What `index` says about `path`, in one descent.
pub(crate) fn look<'a>(index: &'a Index, path: &[u8]) -> Look<'a> {
    let mut range = 0..index.len();
    let mut hides = false;
    for ancestor in std::iter::once(&path[..0]).filter(|root| *root != path).chain(ancestors(path)) {
        range = index.subtree_range(range, ancestor);
        if range.is_empty() {
            return Look { entry: None, below: None, hides };
        }
        if index.path(range.start) == ancestor {
            hides |= hides_below(&index.entry(range.start).kind);
        }
    }
    range = index.subtree_range(range, path);
    let entry = (!range.is_empty() && index.path(range.start) == path).then(|| index.entry(range.start));
    let below = range.start + usize::from(entry.is_some());
    Look { entry, below: (below < range.end).then(|| index.path(below)), hides }
}

/// Whether an entry hides what lower layers have below its path.
pub(crate) fn hides_below(kind: &KindRef<'_>) -> bool {
    !matches!(kind, KindRef::Directory { opaque: false })
}

/// A directory that no entry describes.
pub(crate) fn implied_directory(path: &[u8], layer: usize) -> Found<'_> {
    let kind = KindRef::Directory { opaque: false };
    let entry =
        EntryRef { path, mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Xattrs::NONE, kind };
    Found { entry, layer }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.map(<[u8]>::to_vec)
}

/// Whether `path` is `dir` or in it.
pub(crate) fn is_at_or_under(path: &[u8], dir: &[u8]) -> bool {
    path == dir || is_under(path, dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::layer::entry::{Entry, Kind};
    use crate::layer::testing::{arb_entries, dir, entry, file};

    fn stack(layers: Vec<Vec<Entry>>) -> Merged {
        Merged::new(layers.into_iter().map(|entries| Index::from_entries(entries).unwrap()).collect())
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, Kind::Symlink(target.as_bytes().to_vec()))
    }

    fn shown_walk(merged: &Merged, path: &str) -> Vec<String> {
        merged
            .walk(path.as_bytes())
            .map(|found| format!("{}:{}", String::from_utf8_lossy(found.entry.path), found.layer))
            .collect()
    }

    fn names(merged: &Merged, path: &str) -> Vec<String> {
        let children = merged.children(path.as_bytes());
        children.iter().map(|found| String::from_utf8_lossy(found.entry.name()).into_owned()).collect()
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        let merged = stack(vec![
            vec![dir("a"), dir("a/b"), file("a/b/old", b""), file("a/kept", b""), dir("d"), file("d/x", b"")],
            vec![
                dir("a"),
                entry("a/b", Kind::Directory { opaque: true }),
                file("a/b/new", b""),
                entry("d", Kind::Whiteout),
            ],
            vec![file("a.x", b""), entry("a/kept", Kind::Whiteout)],
        ]);
        assert_eq!(shown_walk(&merged, ""), [":0", "a:1", "a/b:1", "a/b/new:1", "a.x:2"]);
        assert_eq!(names(&merged, ""), ["a", "a.x"]);
        assert_eq!(names(&merged, "a/b"), ["new"]);
        assert!(merged.get(b"d/x").is_none() && merged.get(b"a/b/old").is_none());
        assert!(names(&merged, "a.x").is_empty() && names(&merged, "none").is_empty());
    }

    #[test]
    fn directories_without_an_entry_take_theirs_from_below() {
        let mut private = dir("root");
        private.mode = 0o700;
        let merged =
            stack(vec![vec![private, file("f", b"")], vec![file("root/x", b""), file("f/y/z", b"")]]);
        let root = merged.get(b"root").unwrap();
        assert_eq!((root.entry.mode, root.layer), (0o700, 0));
        let replaced = merged.get(b"f").unwrap();
        assert_eq!((replaced.entry.mode, replaced.layer), (0o755, 1));
        assert_eq!(shown_walk(&merged, ""), [":0", "f:1", "f/y:1", "f/y/z:1", "root:0", "root/x:1"]);
        assert_eq!(shown_walk(&merged, "f/y"), ["f/y:1", "f/y/z:1"]);
        assert_eq!(names(&merged, "f"), ["y"]);
    }

    #[test]
    fn paths_resolve_inside_the_root() {
        let merged = stack(vec![vec![
            dir("usr"),
            dir("usr/lib"),
            file("usr/lib/x", b""),
            link("lib", "usr/lib"),
            link("usr/up", "../../../lib"),
            link("abs", "/usr/./up/"),
            link("dangling", "/no/where"),
            link("loop", "loop"),
        ]]);
        for (path, follow, expected, missing) in [
            ("", true, "", 0),
            ("/lib/x", false, "usr/lib/x", 0),
            ("lib", false, "lib", 0),
            ("lib", true, "usr/lib", 0),
            ("abs/x", false, "usr/lib/x", 0),
            ("../..//abs/../lib/new/dir", false, "usr/lib/new/dir", 2),
            ("lib/new/../../x", false, "usr/x", 1),
            ("dangling", true, "no/where", 2),
            ("dangling", false, "dangling", 0),
            ("dangling/x", false, "no/where/x", 3),
        ] {
            let resolved = merged.resolve(path.as_bytes(), follow).unwrap();
            assert_eq!(String::from_utf8_lossy(&resolved.path), expected, "{path}");
            assert_eq!((resolved.missing, resolved.found.is_none()), (missing, missing > 0), "{path}");
        }
        assert!(matches!(merged.resolve(b"loop/x", false), Err(LayerError::Loop { .. })));
        let error = merged.resolve(b"lib/x/y", false).unwrap_err().to_string();
        assert_eq!(error, "`lib/x/y` cannot be looked up: `usr/lib/x` is not a directory");
    }

    /// The merged view as applying the layers one by one to a file system would give it: for each
    /// path its kind, mode and layer.
    fn applied(layers: &[Vec<Entry>]) -> BTreeMap<Vec<u8>, (Kind, u32, usize)> {
        let mut tree = BTreeMap::from([(Vec::new(), (Kind::Directory { opaque: false }, 0o755, 0))]);
        let mut implied = std::collections::BTreeSet::<Vec<u8>>::new();
        for (layer, entries) in layers.iter().enumerate() {
            let mut entries = entries.clone();
            entries.sort_by(|a, b| crate::layer::entry::compare_paths(&a.path, &b.path));
            // First what the layer takes away, then what it brings.
            for entry in &entries {
                if entry.kind != (Kind::Directory { opaque: false }) {
                    tree.retain(|path, _| !is_under(path, &entry.path));
                }
                if entry.kind == Kind::Whiteout {
                    tree.remove(&entry.path);
                }
            }
            for entry in entries {
                for ancestor in ancestors(&entry.path) {
                    let held = tree.get(ancestor).map(|(kind, ..)| matches!(kind, Kind::Directory { .. }));
                    if held != Some(true) || implied.contains(ancestor) {
                        implied.insert(ancestor.to_vec());
                        tree.insert(ancestor.to_vec(), (Kind::Directory { opaque: false }, 0o755, layer));
                    }
                }
                implied.remove(&entry.path);
                if entry.kind != Kind::Whiteout {
                    tree.insert(entry.path, (entry.kind, entry.mode, layer));
                }
            }
        }
        tree
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(80) })]

        #[test]
        fn the_view_is_that_of_applied_layers(layers in prop::collection::vec(arb_entries(), 1..5)) {
            let merged = stack(layers.clone());
            let model = applied(&layers);
            let mut walked: Vec<_> = merged.walk(b"").collect();
            walked.sort_by_key(|found| found.entry.path);
            let shown: Vec<_> = walked
                .iter()
                .map(|found| (found.entry.path.to_vec(), (found.entry.to_entry().kind, found.entry.mode, found.layer)))
                .collect();
            prop_assert_eq!(&shown, &model.clone().into_iter().collect::<Vec<_>>());
            for path in layers.iter().flatten().flat_map(|entry| ancestors(&entry.path).chain([&entry.path[..]])) {
                let found = merged.get(path).map(|found| (found.entry.to_entry().kind, found.entry.mode, found.layer));
                prop_assert_eq!(found.as_ref(), model.get(path));
                let below = merged.walk(path).skip(1).count();
                prop_assert_eq!(below, model.keys().filter(|other| is_under(other, path)).count());
                let children: Vec<_> = merged.children(path).iter().map(|found| found.entry.path.to_vec()).collect();
                let mut expected: Vec<_> =
                    model.keys().filter(|other| !other.is_empty() && parent(other) == Some(path)).cloned().collect();
                expected.sort_by(|a, b| crate::layer::entry::compare_paths(a, b));
                prop_assert_eq!(children, expected);
            }
        }
    }
}
