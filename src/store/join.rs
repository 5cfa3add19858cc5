//! Joins a stack of trees into one by hard links: directories are made anew, everything else is
//! the same file (design rule 4). What whiteouts hide is left out.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::base::rooted::Root;
use crate::layer::entry::{self, EntryRef};
use crate::layer::merged::{Found, Merged};

use super::StoreError;

/// Fills the empty directory `to` with what `merged` shows, linked from `trees`. Gives the number of
/// entries; `None` if a file has as many links as its file system allows.
pub(super) fn join(merged: &Merged, trees: &[PathBuf], to: &Path) -> Result<Option<u64>, StoreError> {
    let fail = |error: io::Error| StoreError::io("join layers in", to)(error);
    let mut sources = Vec::with_capacity(trees.len());
    for tree in trees {
        let root = Root::open(tree).map_err(StoreError::io("open", tree))?;
        sources.push(Place { root, open: None });
    }
    let mut target = Place { root: Root::open(to).map_err(fail)?, open: None };
    let mut directories = Vec::new();
    let mut entries = 0;
    for found in merged.walk(b"") {
        entries += 1;
        if found.entry.kind.is_directory() {
            make(&mut target, &found.entry).map_err(|error| fail(error.into()))?;
            directories.push(found.entry);
            continue;
        }
        match link(&mut sources, &mut target, &found) {
            Ok(()) => {}
            Err(Errno::MLINK) => return Ok(None),
            Err(error) => return Err(fail(error.into())),
        }
    }
    // Times last, and inner ones first: making entries changes them.
    for entry in directories.iter().rev() {
        set_times(&mut target, entry).map_err(|error| fail(error.into()))?;
    }
    Ok(Some(entries))
}

/// A tree with the directory of it that was used last.
struct Place {
    root: Root,
    open: Option<(Vec<u8>, OwnedFd)>,
}

impl Place {
    fn directory(&mut self, path: &[u8]) -> rustix::io::Result<&OwnedFd> {
        if self.open.as_ref().is_none_or(|(known, _)| known != path) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let opened = self
                .root
                .open_plain(path, flags)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            self.open = Some((path.to_vec(), opened));
        }
        Ok(&self.open.as_ref().expect("just opened").1)
    }
}

fn parts(path: &[u8]) -> (&[u8], &[u8]) {
    (entry::parent(path).unwrap_or_default(), entry::name(path))
}

fn link(sources: &mut [Place], target: &mut Place, found: &Found<'_>) -> rustix::io::Result<()> {
    let (parent, name) = parts(found.entry.path);
    let from = sources[found.layer].directory(parent)?.as_fd();
    rustix::fs::linkat(from, name, target.directory(parent)?, name, AtFlags::empty())
}

/// Makes a directory with its metadata, times left out.
fn make(target: &mut Place, entry: &EntryRef<'_>) -> rustix::io::Result<()> {
    if !entry.path.is_empty() {
        let (parent, name) = parts(entry.path);
        rustix::fs::mkdirat(target.directory(parent)?, name, Mode::RWXU)?;
    }
    let directory = target.directory(entry.path)?;
    rustix::fs::fchown(directory, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in entry.xattrs.iter() {
        // The index has no names with a zero byte: no kernel and no tar reader gives one.
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        rustix::fs::fsetxattr(directory, name.as_c_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}

fn set_times(target: &mut Place, entry: &EntryRef<'_>) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(target.directory(entry.path)?, &times)
}
