//! What a layer says about one path, owned ([`Entry`]) or borrowed from an index ([`EntryRef`]).

use std::cmp::Ordering;

use crate::base::clock::Time;
use crate::base::digest::Digest;

/// The longest path of an entry, in bytes. A file system has no such bound; an index has, since
/// a chain of n directories takes n² bytes in it.
pub const LONGEST_PATH: usize = 8 * 1024;

/// The longest name of a file on Linux (`NAME_MAX`), in bytes.
pub const LONGEST_NAME: usize = 255;

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, components joined by `/`, no `.` or `..`; empty for the root.
    pub path: Vec<u8>,
    /// Permission, setuid, setgid and sticky bits: at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// When the content was last changed. An index keeps whole seconds, as the layer tar does.
    pub mtime: Time,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is there.
    pub kind: Kind,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Of the content.
        digest: Digest,
        /// Where the content begins in the uncompressed tar, if there is one that holds it whole.
        offset: Option<u64>,
    },
    /// A directory.
    Directory {
        /// Whether it hides what the layers below have in it.
        opaque: bool,
    },
    /// A symbolic link, with its target as written.
    Symlink(Vec<u8>),
    /// Another name of an entry of the same layer that is no directory and sorts first.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// What the layers below have at this path is gone.
    Whiteout,
}

/// An [`Entry`] that borrows its bytes.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// As [`Entry::path`].
    pub path: &'a [u8],
    /// As [`Entry::mode`].
    pub mode: u32,
    /// As [`Entry::uid`].
    pub uid: u32,
    /// As [`Entry::gid`].
    pub gid: u32,
    /// As [`Entry::mtime`].
    pub mtime: Time,
    /// As [`Entry::xattrs`].
    pub xattrs: Xattrs<'a>,
    /// As [`Entry::kind`].
    pub kind: KindRef<'a>,
}

/// A [`Kind`] that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindRef<'a> {
    /// As [`Kind::File`].
    File {
        /// Bytes.
        size: u64,
        /// Of the content.
        digest: Digest,
        /// Where the content begins in the uncompressed tar.
        offset: Option<u64>,
    },
    /// As [`Kind::Directory`].
    Directory {
        /// Whether it hides what is below.
        opaque: bool,
    },
    /// As [`Kind::Symlink`].
    Symlink(&'a [u8]),
    /// As [`Kind::HardLink`].
    HardLink(&'a [u8]),
    /// As [`Kind::CharDevice`].
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// As [`Kind::BlockDevice`].
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// As [`Kind::Fifo`].
    Fifo,
    /// As [`Kind::Whiteout`].
    Whiteout,
}

impl KindRef<'_> {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

impl EntryRef<'_> {
    /// The last component of the path; empty for the root.
    pub fn name(&self) -> &[u8] {
        name(self.path)
    }

    /// The entry with bytes of its own.
    pub fn to_entry(&self) -> Entry {
        Entry {
            path: self.path.to_vec(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: self.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            kind: match self.kind {
                KindRef::File { size, digest, offset } => Kind::File { size, digest, offset },
                KindRef::Directory { opaque } => Kind::Directory { opaque },
                KindRef::Symlink(target) => Kind::Symlink(target.to_vec()),
                KindRef::HardLink(target) => Kind::HardLink(target.to_vec()),
                KindRef::CharDevice { major, minor } => Kind::CharDevice { major, minor },
                KindRef::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
                KindRef::Fifo => Kind::Fifo,
                KindRef::Whiteout => Kind::Whiteout,
            },
        }
    }
}

impl<'a> From<&'a Entry> for EntryRef<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            path: &entry.path,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: Xattrs::Listed(&entry.xattrs),
            kind: match &entry.kind {
                Kind::File { size, digest, offset } => {
                    KindRef::File { size: *size, digest: *digest, offset: *offset }
                }
                Kind::Directory { opaque } => KindRef::Directory { opaque: *opaque },
                Kind::Symlink(target) => KindRef::Symlink(target),
                Kind::HardLink(target) => KindRef::HardLink(target),
                Kind::CharDevice { major, minor } => KindRef::CharDevice { major: *major, minor: *minor },
                Kind::BlockDevice { major, minor } => KindRef::BlockDevice { major: *major, minor: *minor },
                Kind::Fifo => KindRef::Fifo,
                Kind::Whiteout => KindRef::Whiteout,
            },
        }
    }
}

/// The extended attributes of an entry, sorted by name.
#[derive(Debug, Clone, Copy)]
pub enum Xattrs<'a> {
    /// Those of an [`Entry`].
    Listed(&'a [(Vec<u8>, Vec<u8>)]),
    /// Those of an index, in its own form: for each the length of its name and of its value
    /// (4 bytes each, little-endian), the name and the value.
    Packed(&'a [u8]),
}

impl<'a> Xattrs<'a> {
    /// No attributes.
    pub const NONE: Xattrs<'static> = Xattrs::Packed(&[]);

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Listed(list) => list.is_empty(),
            Self::Packed(bytes) => bytes.is_empty(),
        }
    }

    /// Names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (list, mut packed): (&[_], _) = match self {
            Self::Listed(list) => (list, &[][..]),
            Self::Packed(bytes) => (&[], bytes),
        };
        let listed = list.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        listed.chain(std::iter::from_fn(move || {
            let (name, rest) = take(packed, 4)?;
            let (value, rest) = take(rest, 4)?;
            let (name, rest) = take(rest, little(name) as usize)?;
            let (value, rest) = take(rest, little(value) as usize)?;
            packed = rest;
            Some((name, value))
        }))
    }

    /// The value of the attribute `name`.
    pub fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

fn take(bytes: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(count)
}

/// Up to eight bytes as a little-endian number.
pub(crate) fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The order of paths in an index: component by component, so that `/` sorts below every other
/// byte, parents come before their children, and a subtree is contiguous.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    // Neighbours share long beginnings, which are compared a piece at a time.
    const PIECE: usize = 32;
    let equal = a.chunks_exact(PIECE).zip(b.chunks_exact(PIECE)).take_while(|(x, y)| x == y).count() * PIECE;
    match a[equal..].iter().zip(&b[equal..]).find(|(x, y)| x != y) {
        None => a.len().cmp(&b.len()),
        Some((b'/', _)) => Ordering::Less,
        Some((_, b'/')) => Ordering::Greater,
        Some((x, y)) => x.cmp(y),
    }
}

/// Whether `path` is in the directory `dir`, at any depth.
pub fn is_under(path: &[u8], dir: &[u8]) -> bool {
    match dir.len() {
        0 => !path.is_empty(),
        length => path.get(length) == Some(&b'/') && path.starts_with(dir),
    }
}

/// The path of the directory that holds `path`, `None` for the root.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Some(&path[..at]),
        None if path.is_empty() => None,
        None => Some(&path[..0]),
    }
}

/// The last component of `path`; empty for the root.
pub fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The strict ancestors of `path` from the root down, the root itself left out.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Why `path` cannot be the path of an entry, if it cannot.
pub(crate) fn path_fault(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return None;
    }
    if path.len() > LONGEST_PATH {
        return Some("the path is longer than 8192 bytes");
    }
    if path.contains(&0) {
        return Some("the path holds a zero byte");
    }
    path.split(|byte| *byte == b'/').find_map(|component| match component {
        b"" => Some("the path has an empty component"),
        b"." | b".." => Some("the path has a component `.` or `..`"),
        long if long.len() > LONGEST_NAME => Some("a name in the path is longer than 255 bytes"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subtree_is_contiguous() {
        let mut paths: Vec<&[u8]> =
            vec![b"b", b"a.b", b"a/b/c", b"a", b"", b"a/b", b"a\x01", b"a/b.c", b"a/b/"];
        paths.sort_by(|a, b| compare_paths(a, b));
        let expected: Vec<&[u8]> =
            vec![b"", b"a", b"a/b", b"a/b/", b"a/b/c", b"a/b.c", b"a\x01", b"a.b", b"b"];
        assert_eq!(paths, expected);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_components(start in "[ab/]{0,70}", a in "[ab/.]{0,8}", b in "[ab/.]{0,8}") {
            let (a, b) = (format!("{start}{a}"), format!("{start}{b}"));
            let components = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            // The empty path is the root, not one empty component.
            prop_assume!(!a.is_empty() && !b.is_empty());
            let order = compare_paths(a.as_bytes(), b.as_bytes());
            prop_assert_eq!(order, components(&a).cmp(&components(&b)));
        }
    }

    #[test]
    fn parts_of_paths() {
        assert_eq!(parent(b"a/b"), Some(&b"a"[..]));
        assert_eq!(parent(b"a"), Some(&b""[..]));
        assert_eq!(parent(b""), None);
        assert_eq!(name(b"a/b"), b"b");
        assert_eq!(name(b"b"), b"b");
        assert_eq!(ancestors(b"a/b/c").collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        assert!(
            is_under(b"a/b", b"a") && is_under(b"a", b"") && !is_under(b"ab", b"a") && !is_under(b"a", b"a")
        );
    }

    #[test]
    fn paths_that_cannot_be() {
        for good in ["", "a", "a/b", "...", ".wh", "a b\n"] {
            assert_eq!(path_fault(good.as_bytes()), None, "{good}");
        }
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "./a", "a\0b"] {
            assert!(path_fault(bad.as_bytes()).is_some(), "{bad}");
        }
        assert!(path_fault(&[b'a'; 256]).is_some());
        assert!(path_fault(b"a/".repeat(LONGEST_PATH).as_slice()).is_some());
    }
}
