//! A tar to the tree of the layer that it is: a directory that an overlay takes as one of its
//! lower ones. What the tree then holds is what [`from_tar`](super::from_tar) says of the same
//! tar, and it takes care in the same way of what comes twice and of where whiteouts stand.
//!
//! Whiteouts become character devices 0/0, opaque directories get `trusted.overlay.opaque`. Every
//! path is opened under the tree's own directory through no symbolic link, so that nothing in the
//! archive leads out of it; hard links name what the archive itself brought. Metadata is set on
//! what was just made, content before owner, owner before attributes and mode (a change of owner
//! takes capabilities and setuid bits away), directories last. Zeros of 64 KiB and more become
//! holes. Directories that the tar leaves out take their metadata from the layers below.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, makedev};
use rustix::io::Errno;

use crate::base::clock::Time;

use super::ahead::read_ahead;
use super::entry::{ancestors, is_under, parent};
use super::error::shown;
use super::from_tar::{MOST_NODES, too_many, under_no_directory};
use super::merged::Merged;
use super::paths::PathMap;
use super::read::{TarEntry, TarKind, TarSink, read_tar};
use super::sparse::write_with_holes;
use super::tree::Tree;
use super::xattr::{self, Place};
use super::{LayerError, Result};

const BUFFER: usize = 256 * 1024;
const WHITEOUT_DEVICE: (u32, u32) = (0, 0);
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// What [`unpack`] found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// The tar left out directories that it has something in, so that the tree fits only the
    /// layers that their metadata was taken from.
    pub parents_missing: bool,
}

/// Unpacks the tar stream `tar` into the empty directory `tree`; `below` are the layers that it
/// will lie on. The root directory keeps its metadata unless the tar has an entry for it.
pub fn unpack(tar: impl Read + Send, tree: &Path, below: &Merged) -> Result<Unpacked> {
    let mut unpacker = Unpacker {
        tree: Tree::open(tree)?,
        dirs: PathMap::default(),
        whiteouts: BTreeSet::new(),
        opaque: BTreeSet::new(),
        buffer: vec![0; BUFFER],
    };
    read_ahead(tar, |tar| read_tar(tar, &mut unpacker)).map_err(|source| LayerError::Stream { source })??;
    unpacker.finish(below)
}

/// The metadata of what was unpacked.
#[derive(Clone)]
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    xattrs: xattr::List,
}

impl Metadata {
    fn of(entry: TarEntry) -> Self {
        let TarEntry { mode, uid, gid, mtime, xattrs, .. } = entry;
        Self { mode, uid, gid, mtime, xattrs }
    }

    /// Of a directory that nothing is known of.
    fn plain() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
    }
}

/// What is known of a directory.
#[derive(Clone, Default)]
struct Directory {
    metadata: Option<Metadata>,
    opaque: bool,
}

struct Unpacker {
    tree: Tree,
    /// All directories of the tree.
    dirs: PathMap<Directory>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    buffer: Vec<u8>,
}

impl TarSink for Unpacker {
    fn entry(&mut self, mut entry: TarEntry, data: &mut dyn Read) -> Result<()> {
        let path = std::mem::take(&mut entry.path);
        if self.dirs.len() > MOST_NODES {
            return Err(too_many(&path));
        }
        match &entry.kind {
            TarKind::Whiteout => drop(self.whiteouts.insert(path)),
            TarKind::Opaque => drop(self.opaque.insert(path)),
            TarKind::Directory => self.directory(&path, Metadata::of(entry))?,
            TarKind::File { size, .. } => {
                let size = *size;
                self.file(&path, size, data, &Metadata::of(entry))?;
            }
            TarKind::HardLink(target) => self.hard_link(&path, target)?,
            TarKind::Symlink(target) => {
                self.make(&path, |dir, name| rustix::fs::symlinkat(&target[..], dir, name))?;
                self.set_unopened(&path, &Metadata::of(entry), false)?;
            }
            TarKind::CharDevice { major, minor } => {
                self.node(&path, FileType::CharacterDevice, (*major, *minor))?;
                self.set_unopened(&path, &Metadata::of(entry), true)?;
            }
            TarKind::BlockDevice { major, minor } => {
                self.node(&path, FileType::BlockDevice, (*major, *minor))?;
                self.set_unopened(&path, &Metadata::of(entry), true)?;
            }
            TarKind::Fifo => {
                self.node(&path, FileType::Fifo, WHITEOUT_DEVICE)?;
                self.set_unopened(&path, &Metadata::of(entry), true)?;
            }
        }
        Ok(())
    }
}

impl Unpacker {
    /// Makes sure that the directory that holds `path` is there.
    fn make_parent(&mut self, path: &[u8]) -> Result<()> {
        match self.tree.parent(path) {
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => self.make_directories(parent(path).unwrap_or_default()),
            Err(error) => Err(self.lookup_error(path, error)),
        }
    }

    /// Makes `path` and every directory above it that is not there.
    fn make_directories(&mut self, path: &[u8]) -> Result<()> {
        let mut fd: Option<OwnedFd> = None;
        for dir in ancestors(path).chain([path]) {
            let name = super::entry::name(dir);
            let above = match &fd {
                Some(fd) => fd.as_fd(),
                None => self.tree.root(),
            };
            let made = rustix::fs::mkdirat(above, name, Mode::RWXU);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = match made {
                Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(above, name, flags, Mode::empty()),
                Err(error) => Err(error),
            };
            let opened = opened.map_err(|error| self.lookup_error(dir, error))?;
            fd = Some(opened);
        }
        self.dirs.make(path);
        Ok(())
    }

    fn lookup_error(&self, path: &[u8], error: Errno) -> LayerError {
        match error {
            Errno::NOTDIR | Errno::LOOP => under_no_directory(path),
            error => self.tree.error("make the directory for", path, error),
        }
    }

    /// Makes what is not there, in the place of what is.
    fn make<T>(
        &mut self,
        path: &[u8],
        create: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T> {
        self.make_parent(path)?;
        let mut replaced = false;
        loop {
            let made = self.tree.parent(path).and_then(|(dir, name)| create(dir, name));
            match made {
                Err(Errno::EXIST) if !replaced => self.remove(path)?,
                Err(error) => return Err(self.tree.error("unpack to", path, error)),
                Ok(made) => return Ok(made),
            }
            replaced = true;
        }
    }

    /// Removes what is at `path`, with everything in it.
    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let unlinked =
            self.tree.parent(path).and_then(|(dir, name)| rustix::fs::unlinkat(dir, name, AtFlags::empty()));
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(self.tree.error("replace", path, error)),
        }
        // All directories are known, so that none has to be searched for others.
        let mut dirs = Vec::new();
        let listed: Result<()> = self.dirs.each(path, |dir, _| {
            dirs.push(dir.to_vec());
            Ok(())
        });
        listed?;
        for dir in dirs.iter().rev() {
            self.remove_directory(dir).map_err(|error| self.tree.error("replace", dir, error))?;
        }
        self.dirs.remove(path);
        self.tree.forget();
        Ok(())
    }

    /// Removes a directory that holds no other.
    fn remove_directory(&mut self, path: &[u8]) -> Result<(), Errno> {
        let dir = self.tree.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        super::scan::read_names(dir.as_fd(), &mut names)?;
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
        }
        let (above, name) = self.tree.parent(path)?;
        rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR)
    }

    fn directory(&mut self, path: &[u8], metadata: Metadata) -> Result<()> {
        if self.dirs.find(path).is_none() {
            self.make(path, |dir, name| rustix::fs::mkdirat(dir, name, Mode::RWXU))?;
        }
        let at = self.dirs.make(path);
        *self.dirs.value(at) = Some(Directory { metadata: Some(metadata), opaque: false });
        Ok(())
    }

    fn file(&mut self, path: &[u8], size: u64, data: &mut dyn Read, metadata: &Metadata) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            self.make(path, |dir, name| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))?;
        let file = File::from(fd);
        write_with_holes(data, &file, size, &mut self.buffer).map_err(|failed| match failed {
            Ok(source) => LayerError::Content { path: shown(path), source },
            Err(error) => LayerError::file("write", self.tree.shown(path), error),
        })?;
        set(file.as_fd(), metadata).map_err(|error| self.tree.error("set the metadata of", path, error))
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.make_parent(path)?;
        if target == path || is_under(target, path) {
            return Err(LayerError::entry(path, "it is a hard link to itself or to what it replaces"));
        }
        if self.dirs.find(target).is_some() {
            return Err(LayerError::entry(path, "it is a hard link to a directory"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let missing = |error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                LayerError::entry(path, "it is a hard link to nothing that came before it in the archive")
            }
            error => LayerError::file("open the directory of the link target", shown(target), error),
        };
        let from = self.tree.open_at(parent(target).unwrap_or_default(), flags).map_err(missing)?;
        let target_name = super::entry::name(target);
        rustix::fs::statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        self.make(path, |dir, name| rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty()))
    }

    fn node(&mut self, path: &[u8], kind: FileType, (major, minor): (u32, u32)) -> Result<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(path, |dir, name| rustix::fs::mknodat(dir, name, kind, mode, makedev(major, minor)))
    }

    /// Sets the metadata of what cannot be opened.
    fn set_unopened(&mut self, path: &[u8], metadata: &Metadata, has_mode: bool) -> Result<()> {
        let set = |dir: BorrowedFd<'_>, name: &[u8]| -> Result<(), Errno> {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            if !metadata.xattrs.is_empty() {
                set_xattrs(Place::Path(&xattr::path_in(dir, name)), &metadata.xattrs)?;
            }
            if has_mode {
                rustix::fs::chmodat(dir, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
            }
            rustix::fs::utimensat(dir, name, &times(metadata.mtime), AtFlags::SYMLINK_NOFOLLOW)
        };
        let result = self.tree.parent(path).and_then(|(dir, name)| set(dir, name));
        result.map_err(|error| self.tree.error("set the metadata of", path, error))
    }

    /// Puts the marks in place and sets what is known of directories.
    fn finish(mut self, below: &Merged) -> Result<Unpacked> {
        for dir in std::mem::take(&mut self.opaque) {
            if self.directory_for_mark(&dir)? {
                self.mark(&dir);
            }
        }
        for path in std::mem::take(&mut self.whiteouts) {
            if self.dirs.ancestor(&path, |dir| dir.opaque) {
                continue;
            }
            if self.dirs.find(&path).is_some() {
                self.mark(&path);
            } else if self.directory_for_mark(parent(&path).unwrap_or_default())? {
                self.whiteout(&path)?;
            }
        }
        let mut parents_missing = false;
        let Self { tree, dirs, .. } = &mut self;
        dirs.each(b"", |path, known| {
            let Directory { metadata, opaque } = known.cloned().unwrap_or_default();
            if metadata.is_none() && !path.is_empty() {
                parents_missing = true;
            }
            let metadata = match metadata {
                None if path.is_empty() => None,
                metadata => Some(metadata.unwrap_or_else(|| metadata_from(below, path))),
            };
            set_directory(tree, path, metadata.as_ref(), opaque)
                .map_err(|error| tree.error("set the metadata of", path, error))
        })?;
        Ok(Unpacked { parents_missing })
    }

    /// Marks a directory as opaque. One that the tar says nothing else of gets the metadata that
    /// its index has.
    fn mark(&mut self, dir: &[u8]) {
        let at = self.dirs.make(dir);
        let known = self.dirs.value(at).get_or_insert_default();
        known.opaque = true;
        if !dir.is_empty() {
            known.metadata.get_or_insert_with(Metadata::plain);
        }
    }

    /// Makes the directory that a mark is about; false if the layer has something else there.
    fn directory_for_mark(&mut self, dir: &[u8]) -> Result<bool> {
        if self.dirs.find(dir).is_some() {
            return Ok(true);
        }
        match self.make_directories(dir) {
            Ok(()) => Ok(true),
            Err(LayerError::Entry { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let device = makedev(WHITEOUT_DEVICE.0, WHITEOUT_DEVICE.1);
        let made = self.tree.parent(path).and_then(|(dir, name)| {
            rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), device)
        });
        match made {
            // The layer has something there, which hides what is below already.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(self.tree.error("make the whiteout", path, error)),
        }
    }
}

fn set_directory(
    tree: &mut Tree,
    path: &[u8],
    metadata: Option<&Metadata>,
    opaque: bool,
) -> Result<(), Errno> {
    if metadata.is_none() && !opaque {
        return Ok(());
    }
    let dir = tree.enter(path)?;
    if opaque {
        xattr::set(Place::Fd(dir.as_fd()), OPAQUE, b"y")?;
    }
    metadata.map_or(Ok(()), |metadata| set(dir.as_fd(), metadata))
}

/// The metadata of a directory that the tar leaves out.
fn metadata_from(below: &Merged, path: &[u8]) -> Metadata {
    match below.get(path).map(|found| found.entry) {
        Some(entry) if entry.kind.is_directory() => Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        },
        _ => Metadata::plain(),
    }
}

/// Sets the metadata of an open file or directory.
fn set(fd: BorrowedFd<'_>, metadata: &Metadata) -> Result<(), Errno> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))?;
    set_xattrs(Place::Fd(fd), &metadata.xattrs)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.mode))?;
    rustix::fs::futimens(fd, &times(metadata.mtime))
}

/// Sets attributes; those of users and access lists only where the file system has them and the
/// kind of file may.
fn set_xattrs(place: Place<'_>, xattrs: &xattr::List) -> Result<(), Errno> {
    for (name, value) in xattrs {
        match xattr::set(place, name, value) {
            Err(Errno::NOTSUP | Errno::PERM)
                if name.starts_with(b"user.") || name.starts_with(b"system.") => {}
            other => other?,
        }
    }
    Ok(())
}

fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}
