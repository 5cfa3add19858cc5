//! What a COPY or ADD puts where: sources and a destination to the sorted entries of the layer,
//! before anything is read.
//!
//! Takes trees by name only; never opens a file. Invariants: paths are unique and sorted as
//! layers sort them, every directory on the way to an entry is there with the metadata it has
//! below, or with 0755 and the copy's owner if it is new, and no entry meets something below
//! that it cannot take the place of (reference, "COPY": a directory never onto a file, a file
//! never onto a directory).

use std::cmp::Ordering;

use super::chmod::ModeChange;
use super::pattern::SourceError;
use super::tree::{Tree, join};
use crate::base::clock::Time;
use crate::base::digest::Digest;
use crate::layer::entry::compare_paths;

/// The modification time of what a copy makes that no source has: new parent directories and
/// here-documents. Fixed, so that layers are the same wherever and whenever they are made, and
/// not 1970, which ZIP archives cannot hold.
pub const MADE: Time = Time { seconds: 315_619_200, nanoseconds: 0 };

/// How the sources of one operation are copied.
pub struct Rules<'a> {
    /// The destination as written, absolute.
    pub destination: &'a str,
    /// `--parents`
    pub parents: bool,
    /// `--chmod`
    pub mode: Option<&'a ModeChange>,
    /// `--chown`, looked up.
    pub owner: Option<(u32, u32)>,
    /// Whether a path relative to its source is left out (`--exclude`); asked for parents first.
    pub excluded: &'a dyn Fn(&[u8]) -> bool,
}

/// One source.
pub struct From<'a> {
    /// Where it is.
    pub tree: &'a dyn Tree,
    /// What of it.
    pub what: What<'a>,
    /// Whether owners are kept; a context's are not.
    pub keep_owner: bool,
    /// Whether the file at a path is an archive to unpack.
    pub unpack: &'a dyn Fn(&[u8]) -> bool,
}

/// What of a source is copied.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// What a pattern names.
    Pattern(&'a str),
    /// What is at a path, free of links.
    Path(&'a [u8]),
}

/// What is copied.
#[derive(Debug, Default)]
pub struct Selection {
    /// The entries, sorted; parents first.
    pub items: Vec<Item>,
    /// Where entries come from.
    pub groups: Vec<Group>,
    /// Archives to unpack, in the order of their sources.
    pub archives: Vec<Archive>,
}

/// A source directory and the place of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which source, from 0.
    pub source: usize,
    /// The path in the source that stands for `to`.
    pub from: Vec<u8>,
    /// The path in the image.
    pub to: Vec<u8>,
}

/// An archive whose entries go to a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Which source, from 0.
    pub source: usize,
    /// Its path in the source.
    pub path: Vec<u8>,
    /// Its place among the groups: later groups overwrite it, earlier ones not.
    pub group: u32,
    /// The directory it is unpacked to.
    pub to: Vec<u8>,
}

/// One entry of the layer to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path in the image.
    pub path: Box<[u8]>,
    /// Its group, or [`PARENT`].
    pub group: u32,
    /// As [`Node::part`](super::tree::Node::part) of its source.
    pub part: u32,
    /// What it is.
    pub kind: ItemKind,
    /// The permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the source was changed.
    pub mtime: Time,
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Stands for the digest of a file that was not hashed yet.
pub(super) fn unknown() -> Digest {
    Digest::from_bytes([0; 32])
}

/// The group of a directory that is only on the way to an entry.
pub const PARENT: u32 = u32::MAX;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A regular file.
    File {
        /// Its size.
        size: u64,
        /// Its digest; all zeros until the file has been hashed.
        digest: Digest,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(Box<[u8]>),
    /// A second name of the file at this path of the layer.
    HardLink(Box<[u8]>),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Why something cannot be copied; paths as the user would write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// What the pattern of a source names cannot be had.
    Source(usize, SourceError),
    /// A source names a socket.
    Socket(Vec<u8>),
    /// A name that layers use for whiteouts.
    Whiteout(Vec<u8>),
    /// A directory would go where there is something else.
    OntoFile {
        /// Where.
        path: Vec<u8>,
        /// The target, if it is a symbolic link.
        link: Option<Vec<u8>>,
    },
    /// A file would go where there is a directory.
    OntoDirectory(Vec<u8>),
    /// Several files would go to one path.
    Several(Vec<u8>),
    /// The destination leads through something that is no directory.
    Destination(Vec<u8>),
    /// The destination leads through too many symbolic links.
    DestinationLoop,
}

impl Selection {
    /// The source of an item that has one.
    pub fn source(&self, item: &Item) -> Option<usize> {
        self.groups.get(item.group as usize).map(|group| group.source)
    }

    /// The source of an item that has one, and its path in there.
    pub fn source_path(&self, item: &Item) -> Option<(usize, Vec<u8>)> {
        let group = self.groups.get(item.group as usize)?;
        let below = item.path.get(group.to.len()..).unwrap_or_default();
        Some((group.source, join(&group.from, below.strip_prefix(b"/").unwrap_or(below))))
    }
}

/// Sorts `items` and keeps of those with one path the last group's; [`PARENT`]s give way to all.
/// Directories and other things on one path are a conflict.
pub fn sort(items: &mut Vec<Item>) -> Result<(), Conflict> {
    let mut conflict = None;
    sort_with(items, |later, earlier| match (&later.kind, &earlier.kind) {
        (ItemKind::Directory, ItemKind::Directory) => {}
        (ItemKind::Directory, _) => {
            conflict = Some(Conflict::OntoFile { path: later.path.to_vec(), link: None });
        }
        (_, ItemKind::Directory) => conflict = Some(Conflict::OntoDirectory(later.path.to_vec())),
        _ => {}
    });
    conflict.map_or(Ok(()), Err)
}

/// As [`sort`], but anything takes the place of anything.
pub fn sort_replacing(items: &mut Vec<Item>) {
    sort_with(items, |_, _| {});
}

/// Sorts and removes duplicates; `replaced` sees what takes the place of what.
fn sort_with(items: &mut Vec<Item>, mut replaced: impl FnMut(&Item, &Item)) {
    let rank = |item: &Item| if item.group == PARENT { -1 } else { i64::from(item.group) };
    if items.is_sorted_by(|a, b| compare_paths(&a.path, &b.path) == Ordering::Less) {
        return;
    }
    items.sort_by(|a, b| compare_paths(&a.path, &b.path).then(rank(a).cmp(&rank(b))));
    // The later one goes, so it first hands over what it has.
    items.dedup_by(|later, kept| {
        let same = later.path == kept.path;
        if same {
            replaced(later, kept);
            std::mem::swap(later, kept);
        }
        same
    });
}
