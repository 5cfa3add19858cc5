//! A directory of a stack of layers as a stack of its own, so that it can be mounted without the
//! rest: which layers have a part in it.

use crate::layer::entry::KindRef;
use crate::layer::index::Index;

/// The layers, bottom first, whose trees at `path` (a directory of the merged view, free of
/// links) make up what is there. What lower layers have at the path is hidden by an opaque
/// directory, a whiteout or something that is no directory, there or above.
pub fn contributors(layers: &[Index], path: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    for (number, index) in layers.iter().enumerate().rev() {
        if index.subtree(path).next().is_some() && is_directory(index, path) {
            found.push(number);
        }
        if hides(index, path) {
            break;
        }
    }
    found.reverse();
    found
}

/// Whether `index` has a directory at `path`, by an entry or by what is below.
fn is_directory(index: &Index, path: &[u8]) -> bool {
    index.get(path).is_none_or(|entry| entry.kind.is_directory())
}

/// Whether `index` hides what lower layers have at `path`.
fn hides(index: &Index, path: &[u8]) -> bool {
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    let mut chain = std::iter::once(&b""[..]).chain(above).chain([path]);
    chain.any(|path| {
        index.get(path).is_some_and(|entry| !matches!(entry.kind, KindRef::Directory { opaque: false }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Time;
    use crate::layer::entry::{Entry, Kind};

    fn layer(entries: &[(&str, Kind)]) -> Index {
        let entry = |(path, kind): &(&str, Kind)| {
            let (path, kind) = (path.as_bytes().to_vec(), kind.clone());
            Entry { path, mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new(), kind }
        };
        Index::from_entries(entries.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn layers_that_are_seen() {
        let dir = |opaque| Kind::Directory { opaque };
        let file = Kind::Fifo;
        let layers = [
            layer(&[("a", dir(false)), ("a/b", dir(false)), ("a/b/old", file.clone())]),
            layer(&[("a", dir(false)), ("a/b", dir(false)), ("a/b/x", file.clone())]),
            layer(&[("c", dir(false))]),
            layer(&[("a", dir(false)), ("a/b", dir(true)), ("a/b/y", file.clone())]),
            layer(&[("a/b/z", file.clone())]),
        ];
        assert_eq!(contributors(&layers, b"a/b"), [3, 4]);
        assert_eq!(contributors(&layers, b"a"), [0, 1, 3, 4]);
        assert_eq!(contributors(&layers[..3], b"a/b"), [0, 1]);
        assert_eq!(contributors(&layers, b""), [0, 1, 2, 3, 4]);
        let replaced = [layers[0].clone(), layer(&[("a", Kind::Whiteout)]), layers[1].clone()];
        assert_eq!(contributors(&replaced, b"a/b"), [2]);
    }
}
