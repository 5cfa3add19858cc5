//! What COPY sees of a file tree, be it a context's scan or a stack of layers: entries by path,
//! nothing mounted. Paths are relative to the tree's root, without slashes at either end; the
//! root itself is the empty path. Symbolic links are resolved here, inside the tree, by name.

use crate::base::clock::Time;

/// How many symbolic links one look-up follows, as the kernel has it.
const LINKS: usize = 40;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The permission bits, 07777.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was changed.
    pub mtime: Time,
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What finds it again: in layers the number of its layer, in a context its own.
    pub part: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// The path in the same part that this path is a hard link to, if it is one.
        link: Option<Vec<u8>>,
    },
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket, which no layer can hold.
    Socket,
}

impl NodeKind {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }
}

/// Whether a walk goes into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// It does.
    Into,
    /// It leaves out what is below.
    Past,
}

/// A file tree.
pub trait Tree {
    /// The entry at `path`; no link is followed. The root is always a directory.
    fn get(&self, path: &[u8]) -> Option<Node>;

    /// The names in the directory `path`, sorted; none if it is no directory.
    fn names(&self, path: &[u8]) -> Vec<Vec<u8>>;

    /// Shows every entry below the directory `path`, parents first, the names of a directory
    /// sorted as bytes.
    fn walk(&self, path: &[u8], visit: &mut dyn FnMut(&[u8], Node) -> Descend);
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// To an entry: its path without links, and the entry.
    Found(Vec<u8>, Node),
    /// To nothing: the path without links that it would have; from some component on nothing is
    /// there, and that is no mistake of the path.
    Missing(Vec<u8>),
    /// Through something that is no directory: its path.
    NotDirectory(Vec<u8>),
    /// Through too many symbolic links.
    Loop,
}

/// Resolves `path` in `tree`, links on the way followed inside the tree, `..` at the root being
/// the root. A link at the end is followed if `follow_last`.
pub fn resolve(tree: &dyn Tree, path: &[u8], follow_last: bool) -> Resolved {
    let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
    let mut done: Vec<u8> = Vec::new();
    let mut node = tree.get(b"");
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            node = tree.get(&done);
            continue;
        }
        match &node {
            Some(node) if !node.kind.is_directory() => return Resolved::NotDirectory(done),
            _ => {}
        }
        let next = join(&done, &name);
        node = node.and_then(|_| tree.get(&next));
        match node.as_ref().map(|node| &node.kind) {
            Some(NodeKind::Symlink(target)) if follow_last || !todo.is_empty() => {
                links += 1;
                if links > LINKS {
                    return Resolved::Loop;
                }
                if target.starts_with(b"/") {
                    done.clear();
                }
                todo.extend(components(target).rev().map(<[u8]>::to_vec));
                node = tree.get(&done);
            }
            _ => done = next,
        }
    }
    match node {
        Some(node) => Resolved::Found(done, node),
        None => Resolved::Missing(done),
    }
}

/// The components of `path` without empty ones and `.`.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// `path` with `..` taken back by name, as Go's `path.Clean("/" + path)` has it, without slashes
/// at either end.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for name in components(path) {
        match name {
            b".." => drop(kept.pop()),
            _ => kept.push(name),
        }
    }
    kept.join(&b'/')
}

/// `directory/name`; either may be empty.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The part of `path` before its last component; empty for a path of one component.
pub fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}

/// The last component of `path`.
pub fn name(path: &[u8]) -> &[u8] {
    &path[path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)..]
}

#[cfg(test)]
pub mod fake {
    //! A tree of a few lines of text, for tests.

    use std::collections::BTreeMap;

    use super::*;

    /// Entries by path, parents made up where they are not named.
    #[derive(Default, Clone)]
    pub struct FakeTree(pub BTreeMap<Vec<Vec<u8>>, Node>);

    /// A node of `kind` with mode 0755 or 0644 and owner 7:8.
    pub fn node(kind: NodeKind) -> Node {
        let mode = if kind.is_directory() { 0o755 } else { 0o644 };
        Node { kind, mode, uid: 7, gid: 8, mtime: Time::from_seconds(100), xattrs: Vec::new(), part: 0 }
    }

    impl FakeTree {
        /// Reads lines: `dir/`, `file`, `link -> target`, `fifo |`, `socket =`.
        pub fn new(text: &str) -> Self {
            let mut tree = Self::default();
            for line in text.split_whitespace().collect::<Vec<_>>().join(" ").split(';') {
                let line = line.trim();
                if line.is_empty() {
                    continue;
                }
                let (path, kind) = if let Some((path, target)) = line.split_once(" -> ") {
                    (path, NodeKind::Symlink(target.as_bytes().to_vec()))
                } else if let Some(path) = line.strip_suffix(" |") {
                    (path, NodeKind::Fifo)
                } else if let Some(path) = line.strip_suffix(" =") {
                    (path, NodeKind::Socket)
                } else if let Some(path) = line.strip_suffix('/') {
                    (path, NodeKind::Directory)
                } else {
                    (line, NodeKind::File { size: line.len() as u64, link: None })
                };
                let parts: Vec<Vec<u8>> = path.split('/').map(|part| part.as_bytes().to_vec()).collect();
                for depth in 1..parts.len() {
                    tree.0.entry(parts[..depth].to_vec()).or_insert_with(|| node(NodeKind::Directory));
                }
                tree.0.insert(parts, node(kind));
            }
            tree
        }

        fn key(path: &[u8]) -> Vec<Vec<u8>> {
            components(path).map(<[u8]>::to_vec).collect()
        }
    }

    impl Tree for FakeTree {
        fn get(&self, path: &[u8]) -> Option<Node> {
            match path.is_empty() {
                true => Some(node(NodeKind::Directory)),
                false => self.0.get(&Self::key(path)).cloned(),
            }
        }

        fn names(&self, path: &[u8]) -> Vec<Vec<u8>> {
            let key = Self::key(path);
            let below = self.0.keys().filter(|path| path.len() == key.len() + 1 && path.starts_with(&key));
            below.filter_map(|path| path.last().cloned()).collect()
        }

        fn walk(&self, path: &[u8], visit: &mut dyn FnMut(&[u8], Node) -> Descend) {
            let key = Self::key(path);
            let mut past: Option<Vec<Vec<u8>>> = None;
            for (path, node) in
                self.0.iter().filter(|(path, _)| path.len() > key.len() && path.starts_with(&key))
            {
                if past.as_ref().is_some_and(|past| path.starts_with(past)) {
                    continue;
                }
                if visit(&path.join(&b'/'), node.clone()) == Descend::Past {
                    past = Some(path.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeTree;
    use super::*;

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree = FakeTree::new(
            "usr/lib/libc.so; lib -> usr/lib; abs -> /usr; up -> ../../../usr/lib; loop -> loop; dead -> gone/x; file",
        );
        let path = |text: &str, follow| match resolve(&tree, text.as_bytes(), follow) {
            Resolved::Found(path, _) => format!("= {}", String::from_utf8(path).unwrap()),
            Resolved::Missing(path) => format!("- {}", String::from_utf8(path).unwrap()),
            Resolved::NotDirectory(path) => format!("! {}", String::from_utf8(path).unwrap()),
            Resolved::Loop => "loop".to_owned(),
        };
        for (from, follow, to) in [
            ("lib/libc.so", true, "= usr/lib/libc.so"),
            ("/lib/", true, "= usr/lib"),
            ("lib", false, "= lib"),
            ("abs/lib/libc.so", false, "= usr/lib/libc.so"),
            ("up/new/file", true, "- usr/lib/new/file"),
            ("dead", true, "- gone/x"),
            ("dead/y", true, "- gone/x/y"),
            ("dead", false, "= dead"),
            ("loop", true, "loop"),
            ("file/x", true, "! file"),
            ("lib/../file", true, "- usr/file"),
            ("../../file", true, "= file"),
            ("", true, "= "),
        ] {
            assert_eq!(path(from, follow), to, "{from}");
        }
    }

    #[test]
    fn cleaning_is_by_name() {
        for (from, to) in [("/", ""), ("./a//b/", "a/b"), ("../../a", "a"), ("a/../b/./c", "b/c"), ("..", "")]
        {
            assert_eq!(clean(from.as_bytes()), to.as_bytes(), "{from}");
        }
    }
}
