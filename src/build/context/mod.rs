//! A build context: a directory of the host, its ignored files left out, seen once.
//!
//! In: a directory and an [`IgnoreFile`]. Out: a [`Context`], the sorted list of everything that
//! is not ignored, and the digests of those files that somebody asks for. Between builds an
//! index of what each file held is kept in a file of kiln's own; a file is read again only if
//! its size, mode, inode or one of its times changed, or if its times are too young to show a
//! change (`clock`).
//!
//! What it promises:
//!
//! - Paths are relative to the context, in component order (a directory, then what is in it).
//! - No symbolic link is ever followed on the host: links lead from entry to entry of the scan.
//! - FIFOs, sockets and devices are listed and never opened.
//! - A file that is not what the scan saw is an error that names it, never a wrong digest.
//! - The live directory may change at any time; a lost or broken index costs time only.
//!
//! Hard links are separate files, as in every archive of a context; sparse files count with
//! their size. Files on another file system mounted inside the context are hashed in every
//! build, since its clock is not known.

mod assemble;
mod clock;
mod error;
mod hash;
mod index;
mod open;
mod resolve;
mod survey;
mod table;
mod walk;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rustix::fs::FileType;

use crate::base::clock::Time;
use crate::base::digest::Digest;
use crate::base::rooted::Root;
use crate::dockerfile::ignore::IgnoreFile;
use crate::layer::entry::compare_paths;

use assemble::Assembled;
use clock::Start;
use hash::Known;
use index::{Index, Kept};
use table::{Status, Table};

pub use error::{Change, ContextError};
pub use hash::Watch;
pub use open::{Content, Reader};
pub use walk::Stop;

/// The entries of a directory that are not ignored, and what is known of their content.
///
/// Memory: about 72 bytes, the path, and 64 bytes of knowledge per entry.
pub struct Context {
    root: Root,
    /// The number of the root's file system.
    device: u64,
    ignore: Arc<IgnoreFile>,
    index_path: PathBuf,
    table: Table,
    /// For each row; only files are ever known.
    known: Vec<OnceLock<Known>>,
    /// Whether there is something to keep for later scans.
    learned: AtomicBool,
    start: Start,
    /// `start` by the file system's clock, found out when the first file is hashed.
    settling: OnceLock<Start>,
}

impl Context {
    /// Lists `directory` without what `ignore` leaves out. `index` is where digests are kept
    /// between builds, a file of this directory's own (see [`Context::index_name`]). No file is
    /// read.
    pub fn scan(directory: &Path, ignore: Arc<IgnoreFile>, index: &Path) -> Result<Self, ContextError> {
        Self::scan_until(directory, ignore, index, &|| false)
    }

    /// The same, ended by a [`ContextError::Cancelled`] soon after `stop` begins to say so.
    pub fn scan_until(
        directory: &Path,
        ignore: Arc<IgnoreFile>,
        index: &Path,
        stop: Stop<'_>,
    ) -> Result<Self, ContextError> {
        let start = Start::now();
        let fail = |source| ContextError::Open { path: directory.to_owned(), source };
        let root = Root::open(directory).map_err(fail)?;
        let stat = rustix::fs::fstat(root.fd()).map_err(|error| fail(error.into()))?;
        let device = stat.st_dev;
        let last = Index::open(index);
        let surveyed = match last {
            None => survey::survey(directory, device, &ignore, stop),
            Some(_) => None,
        };
        let walked = match surveyed {
            Some(walked) => walked,
            None => walk::walk(&root, device, &ignore, stop)?,
        };
        let Assembled { table, known } =
            assemble::assemble(walked, Status::new(&stat, device), last.as_ref())
                .map_err(|_| ContextError::TooLarge { path: directory.to_owned() })?;
        Ok(Self {
            root,
            device,
            ignore,
            index_path: index.to_owned(),
            table,
            known,
            learned: AtomicBool::new(false),
            start,
            settling: OnceLock::new(),
        })
    }

    /// A name for the index of `directory`: the same for every path that leads there.
    pub fn index_name(directory: &Path) -> String {
        use std::os::unix::ffi::OsStrExt;
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        Digest::of(directory.as_os_str().as_bytes()).hex()
    }

    /// Scans the same directory again, after something in it changed under the build. Digests
    /// that still hold are kept.
    pub fn rescan(&self) -> Result<Self, ContextError> {
        self.save()?;
        Self::scan(self.root.path(), Arc::clone(&self.ignore), &self.index_path)
    }

    /// The directory, as given.
    pub fn directory(&self) -> &Path {
        self.root.path()
    }

    /// The context's root.
    pub fn root(&self) -> ContextEntry<'_> {
        self.entry(0)
    }

    /// How many entries there are, the root included.
    pub fn len(&self) -> usize {
        self.table.len() as usize
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 1
    }

    /// The entry at `path`, no link followed. The path is relative, without dots and doubled or
    /// trailing slashes; an empty one is the root.
    pub fn get(&self, path: &[u8]) -> Option<ContextEntry<'_>> {
        self.table.find(path).map(|number| self.entry(number))
    }

    /// All entries in component order, the root first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = ContextEntry<'_>> {
        (0..self.table.len()).map(|number| self.entry(number))
    }

    /// Whether `.dockerignore` leaves `path` out, itself or through a directory above it: for
    /// hints in errors.
    pub fn excluded(&self, path: &[u8]) -> bool {
        self.ignore.is_ignored(path)
    }

    /// Makes the digests of the files among `entries` known, reading those that changed since
    /// the last scan. `watch` follows it and may end it.
    pub fn hash<'a>(
        &'a self,
        entries: impl IntoIterator<Item = ContextEntry<'a>>,
        watch: Watch<'_>,
    ) -> Result<(), ContextError> {
        let unknown = |entry: &ContextEntry<'a>| {
            entry.kind() == ContextKind::File && self.known[entry.number as usize].get().is_none()
        };
        let mut rows: Vec<u32> = entries.into_iter().filter(unknown).map(|entry| entry.number).collect();
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        rows.dedup();
        hash::hash(self, &rows, watch)
    }

    /// Keeps the digests for the next scan, if there are new ones. What is known of files that
    /// are ignored in this scan is carried over: another Dockerfile may have other patterns.
    pub fn save(&self) -> Result<(), ContextError> {
        if !self.learned.swap(false, Relaxed) {
            return Ok(());
        }
        // Looked at again: another build may have put a newer one there.
        let last = Index::open(&self.index_path);
        index::write(&self.index_path, &|take| self.tell_rows(last.as_ref(), take))
            .map_err(|source| ContextError::Save { path: self.index_path.clone(), source })
    }

    /// Tells the rows of a new index: what is known of the files of this scan and, from the last
    /// index, of files that are ignored now.
    fn tell_rows(
        &self,
        last: Option<&Index>,
        take: &mut dyn FnMut(Kept<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut old = (0..last.map_or(0, Index::len)).peekable();
        let path_of = |place: usize| last.map_or(&[][..], |index| index.path(place));
        let carry = |place: usize, take: &mut dyn FnMut(Kept<'_>) -> io::Result<()>| match last {
            Some(index) if self.excluded(index.path(place)) => take(Kept::Carried { index, place }),
            _ => Ok(()),
        };
        for row in 0..self.table.len() {
            let path = self.table.path(row);
            while let Some(place) = old.next_if(|place| compare_paths(path_of(*place), path).is_lt()) {
                carry(place, take)?;
            }
            let _ = old.next_if(|place| path_of(*place) == path);
            if let Some(known) = self.known[row as usize].get().filter(|known| known.lasting) {
                take(Kept::Known { path, status: &self.table.row(row).status, known })?;
            }
        }
        old.try_for_each(|place| carry(place, take))
    }

    /// What tells whether a file's times are old enough.
    fn settling(&self) -> &Start {
        self.settling.get_or_init(|| {
            let newest = self.table.rows().iter().map(|row| row.status.ctime).max();
            match walk::open_root(&self.root) {
                Ok(directory) => self.start.on(directory.as_fd(), newest.unwrap_or_default()),
                Err(_) => self.start.on(self.root.fd(), newest.unwrap_or_default()),
            }
        })
    }

    /// The entry that has this number; `None` if there are fewer.
    pub fn numbered(&self, number: u32) -> Option<ContextEntry<'_>> {
        (number < self.table.len()).then(|| self.entry(number))
    }

    fn entry(&self, number: u32) -> ContextEntry<'_> {
        ContextEntry { context: self, number }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextKind<'a> {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    Symlink(&'a [u8]),
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
    /// A socket.
    Socket,
}

/// One entry of a [`Context`]; cheap to copy.
#[derive(Clone, Copy)]
pub struct ContextEntry<'a> {
    context: &'a Context,
    number: u32,
}

impl<'a> ContextEntry<'a> {
    /// Its place in the scan, from 0, which finds it again without a search.
    pub fn number(&self) -> u32 {
        self.number
    }

    fn status(&self) -> &'a Status {
        &self.context.table.row(self.number).status
    }

    /// The path in the context, without slashes at its ends; empty for the root.
    pub fn path(&self) -> &'a [u8] {
        self.context.table.path(self.number)
    }

    /// The last component of the path.
    pub fn name(&self) -> &'a [u8] {
        let path = self.path();
        path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
    }

    /// What it is.
    pub fn kind(&self) -> ContextKind<'a> {
        let device = || (rustix::fs::major(self.size()), rustix::fs::minor(self.size()));
        match self.status().kind() {
            FileType::Directory => ContextKind::Directory,
            FileType::Symlink => ContextKind::Symlink(self.context.table.target(self.number)),
            FileType::CharacterDevice => {
                let (major, minor) = device();
                ContextKind::CharDevice { major, minor }
            }
            FileType::BlockDevice => {
                let (major, minor) = device();
                ContextKind::BlockDevice { major, minor }
            }
            FileType::Fifo => ContextKind::Fifo,
            FileType::Socket => ContextKind::Socket,
            _ => ContextKind::File,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.status().kind() == FileType::Directory
    }

    /// The permission bits, `07777`.
    pub fn mode(&self) -> u32 {
        self.status().mode & 0o7777
    }

    /// The owner on the host.
    pub fn uid(&self) -> u32 {
        self.status().uid
    }

    /// The group on the host.
    pub fn gid(&self) -> u32 {
        self.status().gid
    }

    /// The bytes of a file.
    pub fn size(&self) -> u64 {
        self.status().size
    }

    /// When the content last changed.
    pub fn mtime(&self) -> Time {
        self.status().mtime
    }

    /// The digest of a file's content, once [`Context::hash`] made it known.
    pub fn digest(&self) -> Option<Digest> {
        self.context.known[self.number as usize].get().map(|known| known.digest)
    }

    /// A file's extended attributes that a copy keeps (`security.capability`, `user.*`), sorted
    /// by name; known together with the digest.
    pub fn attributes(&self) -> &'a [(Vec<u8>, Vec<u8>)] {
        self.context.known[self.number as usize].get().map_or(&[], |known| &known.attributes.0)
    }

    /// The entry and everything in it, in component order.
    pub fn subtree(&self) -> impl ExactSizeIterator<Item = ContextEntry<'a>> + use<'a> {
        let context = self.context;
        (self.number..context.table.row(self.number).end).map(|number| context.entry(number))
    }

    /// What is directly in it, sorted by name.
    pub fn children(&self) -> impl Iterator<Item = ContextEntry<'a>> + use<'a> {
        let context = self.context;
        let end = context.table.row(self.number).end;
        let below = move |number: u32| (number < end).then_some(number);
        let next = move |number: &u32| below(context.table.row(*number).end);
        std::iter::successors(below(self.number + 1), next).map(|number| context.entry(number))
    }
}
