//! Opens and reads files of a context: relative to their directory, no link followed on the way
//! or at the end, and what is read held against what the scan saw.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::base::digest::{Digest, Hasher};

use super::error::{Change, ContextError, show};
use super::{Context, ContextEntry};

/// Not blocking: a FIFO in the place of a file must not hang the reader.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens files and keeps the last directory: neighbours are opened with one short look-up.
pub(super) struct Opener<'a> {
    context: &'a Context,
    directory: Option<(&'a [u8], OwnedFd)>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, directory: None }
    }

    /// Opens the file in `row` for reading.
    pub(super) fn open(&mut self, row: u32) -> Result<OwnedFd, ContextError> {
        let path = self.context.table.path(row);
        let fail = |error: Errno| match error {
            Errno::LOOP => ContextError::Changed { path: show(path), what: Change::Kind },
            Errno::NOENT | Errno::NOTDIR => ContextError::Changed { path: show(path), what: Change::Gone },
            error => ContextError::Read { path: show(path), source: error.into() },
        };
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let directory = match &mut self.directory {
            Some((last, fd)) if *last == parent => fd,
            last => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let fd =
                    self.context.root.open_plain(parent, flags).map_err(
                        |error| match Errno::from_io_error(&error) {
                            Some(error) => fail(error),
                            None => ContextError::Read { path: show(path), source: error },
                        },
                    )?;
                &mut last.insert((parent, fd)).1
            }
        };
        rustix::fs::openat(&*directory, name, FLAGS | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
    }
}

/// Opens the files of a context one after the other, in any order; fastest in the order of the
/// scan.
pub struct Reader<'a> {
    opener: Opener<'a>,
}

impl<'a> Reader<'a> {
    /// A reader of `context`.
    pub fn new(context: &'a Context) -> Self {
        Self { opener: Opener::new(context) }
    }

    /// Opens the regular file `entry`, which must be of this reader's context. A file that has
    /// another type or size than the scan saw is a [`ContextError::Changed`].
    pub fn open(&mut self, entry: ContextEntry<'a>) -> Result<Content<'a>, ContextError> {
        let path = entry.path();
        let fd = self.opener.open(entry.number)?;
        let stat = rustix::fs::fstat(&fd)
            .map_err(|error| ContextError::Read { path: show(path), source: error.into() })?;
        let changed = |what| ContextError::Changed { path: show(path), what };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(changed(Change::Kind));
        }
        if stat.st_size as u64 != entry.size() {
            return Err(changed(Change::Size));
        }
        let expected = entry.digest();
        Ok(Content { file: fd.into(), path, left: entry.size(), expected, hasher: Hasher::new() })
    }
}

/// The content of one file: exactly the bytes that the scan counted and, where its digest is
/// known, exactly the content that was hashed. The read that takes the last byte fails with a
/// [`ContextError::Changed`] inside (see [`ContextError::find_change`]) if it is another.
pub struct Content<'a> {
    file: File,
    path: &'a [u8],
    left: u64,
    expected: Option<Digest>,
    hasher: Hasher,
}

impl Content<'_> {
    fn changed(&self, what: Change) -> io::Error {
        io::Error::other(ContextError::Changed { path: show(self.path), what })
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let count = self.file.read(&mut buf[..most])?;
        if count == 0 {
            return Err(self.changed(Change::Size));
        }
        self.left -= count as u64;
        if let Some(expected) = self.expected {
            self.hasher.update(&buf[..count]);
            if self.left == 0 && std::mem::take(&mut self.hasher).finish() != expected {
                return Err(self.changed(Change::Content));
            }
        }
        Ok(count)
    }
}
