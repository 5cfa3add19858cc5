//! A tar to the index of the layer that it is.
//!
//! What comes twice counts as it would on a file system that the tar is unpacked to: the later
//! entry replaces the earlier one, a directory keeps what is in it when its metadata comes again,
//! and loses it to anything else of its name. Hard links name an entry that came before; in the
//! index the name that sorts first is the file. Whiteouts and opaque marks hide what layers below
//! have, never what this layer brings, wherever in the tar they stand: a whiteout of something
//! that the layer has makes a directory of it opaque and says nothing about anything else. In an
//! opaque directory there is nothing left for whiteouts to hide, and they are dropped.

use std::collections::BTreeSet;
use std::io::Read;

use crate::base::clock::Time;
use crate::base::digest::{Digest, Hasher};

use super::builder::IndexBuilder;
use super::entry::{Entry, Kind, is_under, parent};
use super::error::shown;
use super::index::Index;
use super::paths::PathMap;
use super::read::{TarEntry, TarKind, TarSink, read_tar};
use super::tar::read;
use super::{LayerError, Result};

/// Paths, targets and attributes of all entries together.
const MOST_TEXT: usize = 1 << 30;
/// Paths, and directories on their way that have no entry.
pub(crate) const MOST_NODES: usize = 5_000_000;

/// The index of the tar `stream`, with the offsets of the files' content. Reads to the end.
pub fn index_tar(stream: impl Read) -> Result<Index> {
    let mut layer = Gathered { buffer: vec![0; 128 * 1024], ..Gathered::default() };
    read_tar(stream, &mut layer)?;
    layer.finish()
}

/// What the layer has so far.
#[derive(Default)]
struct Gathered {
    nodes: PathMap<Node>,
    /// What several names may share: everything but directories and whiteouts. Without a path.
    inodes: Vec<Entry>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    text: usize,
    buffer: Vec<u8>,
}

enum Node {
    Inode(usize),
    /// A directory with its metadata, without a path.
    Directory(Box<Entry>),
    Whiteout,
}

impl TarSink for Gathered {
    fn entry(&mut self, mut entry: TarEntry, data: &mut dyn Read) -> Result<()> {
        let path = std::mem::take(&mut entry.path);
        self.text +=
            path.len() + entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if let TarKind::Symlink(target) | TarKind::HardLink(target) = &entry.kind {
            self.text += target.len();
        }
        if self.text > MOST_TEXT {
            return Err(LayerError::entry(
                &path,
                "names and attributes of the archive are larger than 1 GiB",
            ));
        }
        if self.nodes.len() > MOST_NODES {
            return Err(too_many(&path));
        }
        match entry.kind {
            TarKind::Whiteout => drop(self.whiteouts.insert(path)),
            TarKind::Opaque => drop(self.opaque.insert(path)),
            _ => {
                if self.nodes.ancestor(&path, Node::hides) {
                    return Err(under_no_directory(&path));
                }
                self.nodes.make(parent(&path).unwrap_or_default());
                let node = self.node(&path, entry, data)?;
                self.put(&path, node);
            }
        }
        Ok(())
    }
}

impl Gathered {
    fn node(&mut self, path: &[u8], entry: TarEntry, data: &mut dyn Read) -> Result<Node> {
        let kind = match entry.kind {
            TarKind::HardLink(target) => return self.linked(path, target),
            TarKind::Directory | TarKind::Opaque | TarKind::Whiteout => Kind::Directory { opaque: false },
            TarKind::File { size, offset } => Kind::File { size, digest: self.digest(path, data)?, offset },
            TarKind::Symlink(target) => Kind::Symlink(target),
            TarKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            TarKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
            TarKind::Fifo => Kind::Fifo,
        };
        let TarEntry { mode, uid, gid, mtime, xattrs, .. } = entry;
        let entry = Entry { path: Vec::new(), mode, uid, gid, mtime, xattrs, kind };
        if matches!(entry.kind, Kind::Directory { .. }) {
            return Ok(Node::Directory(Box::new(entry)));
        }
        self.inodes.push(entry);
        Ok(Node::Inode(self.inodes.len() - 1))
    }

    fn linked(&self, path: &[u8], target: Vec<u8>) -> Result<Node> {
        if target == path || is_under(&target, path) {
            return Err(LayerError::entry(path, "it is a hard link to itself or to what it replaces"));
        }
        match (self.nodes.get(&target), self.nodes.find(&target)) {
            (Some(Node::Inode(inode)), _) => Ok(Node::Inode(*inode)),
            (_, Some(_)) => Err(LayerError::entry(path, "it is a hard link to a directory")),
            (_, None) => Err(LayerError::entry(
                path,
                "it is a hard link to nothing that came before it in the archive",
            )),
        }
    }

    fn digest(&mut self, path: &[u8], data: &mut dyn Read) -> Result<Digest> {
        let mut hasher = Hasher::new();
        loop {
            let count = read(data, &mut self.buffer)
                .map_err(|source| LayerError::Content { path: shown(path), source })?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&self.buffer[..count]);
        }
    }

    fn put(&mut self, path: &[u8], node: Node) {
        let at = self.nodes.make(path);
        if node.hides() {
            self.nodes.clear_below(at);
        }
        *self.nodes.value(at) = Some(node);
    }

    /// Turns the marks into what they say about the layer, and everything into an index.
    fn finish(mut self) -> Result<Index> {
        for dir in std::mem::take(&mut self.opaque) {
            self.make_opaque(&dir);
        }
        for path in std::mem::take(&mut self.whiteouts) {
            if self.nodes.ancestor(&path, Node::hides_below) {
                continue;
            }
            let has_children = self.nodes.find(&path).is_some_and(|at| self.nodes.has_children(at));
            match self.nodes.get(&path) {
                Some(Node::Directory(_)) => self.make_opaque(&path),
                None if has_children => self.make_opaque(&path),
                None => self.put(&path, Node::Whiteout),
                Some(_) => {}
            }
        }
        self.build()
    }

    fn make_opaque(&mut self, dir: &[u8]) {
        if self.nodes.ancestor(dir, Node::hides) {
            return;
        }
        let at = self.nodes.make(dir);
        let node = self.nodes.value(at).get_or_insert_with(|| Node::Directory(Box::new(plain_directory())));
        if let Node::Directory(entry) = node {
            entry.kind = Kind::Directory { opaque: true };
        }
    }

    fn build(mut self) -> Result<Index> {
        let mut builder = IndexBuilder::new();
        let mut first: Vec<Option<Vec<u8>>> = vec![None; self.inodes.len()];
        self.nodes.each(b"", |path, node| {
            let path = path.to_vec();
            match node {
                None => Ok(()),
                Some(Node::Directory(entry)) => {
                    let entry =
                        Entry { path, xattrs: entry.xattrs.clone(), kind: entry.kind.clone(), ..**entry };
                    builder.push(&entry)
                }
                Some(Node::Whiteout) => {
                    builder.push(&Entry { path, kind: Kind::Whiteout, ..plain_directory() })
                }
                Some(Node::Inode(inode)) => match &first[*inode] {
                    Some(target) => {
                        let kind = Kind::HardLink(target.clone());
                        builder.push(&Entry { path, xattrs: Vec::new(), kind, ..self.inodes[*inode] })
                    }
                    None => {
                        first[*inode] = Some(path.clone());
                        self.inodes[*inode].path = path;
                        builder.push(&self.inodes[*inode])
                    }
                },
            }
        })?;
        Ok(builder.finish())
    }
}

impl Node {
    /// Whether it is something that nothing can be in.
    fn hides(&self) -> bool {
        !matches!(self, Self::Directory(_))
    }

    /// Whether layers below have nothing in it that a whiteout could be about.
    fn hides_below(&self) -> bool {
        !matches!(self, Self::Directory(entry) if entry.kind == Kind::Directory { opaque: false })
    }
}

pub(crate) fn too_many(path: &[u8]) -> LayerError {
    LayerError::entry(path, "the archive has more than 5,000,000 files and directories")
}

pub(crate) fn under_no_directory(path: &[u8]) -> LayerError {
    LayerError::entry(path, "what it lies under is no directory in the archive")
}

/// A directory that nothing is known of.
fn plain_directory() -> Entry {
    Entry {
        path: Vec::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
        kind: Kind::Directory { opaque: false },
    }
}
