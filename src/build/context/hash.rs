//! Reads the files whose content is not known, many at once: what takes the time is waiting for
//! the disk where they are cold, so there are more threads than processors.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::Builder;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::base::digest::{Digest, Hasher};

use super::Context;
use super::error::{Change, ContextError, show};
use super::open::Opener;
use super::table::Status;

/// Files that a thread takes at once: neighbours share their directory.
const BATCH: usize = 32;
const MOST_THREADS: usize = 16;
const BUFFER: usize = 128 << 10;
/// Extended attributes of one file that are too many to be meant.
const MOST_ATTRIBUTES: usize = 64 << 10;

/// What is known of a file's content.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub digest: Digest,
    pub attributes: Attributes,
    /// Whether later scans may rely on it.
    pub lasting: bool,
}

/// Names and values of extended attributes, sorted by name: `security.capability` and `user.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(pub Box<[(Vec<u8>, Vec<u8>)]>);

/// Watches the hashing: gets the bytes read so far and to be read in all, and may end it.
pub type Watch<'a> = &'a (dyn Fn(u64, u64) -> ControlFlow<()> + Sync);

/// Hashes the files in `rows`, which are in order, and puts what it learns into the context.
pub(super) fn hash(context: &Context, rows: &[u32], watch: Watch<'_>) -> Result<(), ContextError> {
    let total = rows.iter().map(|row| context.table.row(*row).status.size).sum();
    let hashing = Hashing {
        context,
        rows,
        watch,
        next: AtomicUsize::new(0),
        read: AtomicU64::new(0),
        total,
        stop: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    let threads = rows.len().div_ceil(BATCH).min(MOST_THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let thread = Builder::new().name("hash".into());
            // Where no thread can be had, those that are there do the work.
            if thread.spawn_scoped(scope, || hashing.work()).is_err() {
                break;
            }
        }
        hashing.work();
    });
    match hashing.error.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct Hashing<'a> {
    context: &'a Context,
    rows: &'a [u32],
    watch: Watch<'a>,
    /// The first row that nobody took.
    next: AtomicUsize,
    read: AtomicU64,
    total: u64,
    stop: AtomicBool,
    error: Mutex<Option<ContextError>>,
}

impl Hashing<'_> {
    fn work(&self) {
        let mut buffer = vec![0; BUFFER];
        let mut opener = Opener::new(self.context);
        loop {
            let start = self.next.fetch_add(BATCH, Relaxed);
            let Some(rows) = self.rows.get(start..) else { return };
            for &row in &rows[..rows.len().min(BATCH)] {
                if self.stop.load(Relaxed) {
                    return;
                }
                let one = catch_unwind(AssertUnwindSafe(|| self.one(row, &mut opener, &mut buffer)));
                match one {
                    Ok(Ok(known)) => {
                        if known.lasting {
                            self.context.learned.store(true, Relaxed);
                        }
                        let _ = self.context.known[row as usize].set(known);
                    }
                    Ok(Err(error)) => {
                        self.stop.store(true, Relaxed);
                        let mut first = self.error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        first.get_or_insert(error);
                    }
                    Err(panic) => {
                        self.stop.store(true, Relaxed);
                        resume_unwind(panic);
                    }
                }
            }
        }
    }

    fn one(&self, row: u32, opener: &mut Opener<'_>, buffer: &mut [u8]) -> Result<Known, ContextError> {
        let context = self.context;
        let expected = &context.table.row(row).status;
        let path = context.table.path(row);
        let fail = |error: Errno| ContextError::Read { path: show(path), source: error.into() };
        let changed = |what| ContextError::Changed { path: show(path), what };
        let fd = opener.open(row)?;
        let mut hasher = Hasher::new();
        let mut size = 0u64;
        loop {
            let count = match rustix::io::read(&fd, &mut *buffer) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(fail(error)),
            };
            hasher.update(&buffer[..count]);
            size += count as u64;
            if size > expected.size {
                return Err(changed(Change::Size));
            }
            self.report(count as u64)?;
            // A short read may be the end: the size below says whether it is.
            if count == 0 || (size == expected.size && count < buffer.len()) {
                break;
            }
        }
        let attributes = attributes(&fd).map_err(fail)?;
        // Asked last: a change of any kind meanwhile shows in the times.
        let stat = rustix::fs::fstat(&fd).map_err(fail)?;
        let now = Status::new(&stat, context.device);
        if now.kind() != FileType::RegularFile {
            return Err(changed(Change::Kind));
        }
        if size != expected.size || now.size != expected.size {
            return Err(changed(Change::Size));
        }
        let lasting = expected.local
            && now.same_content(expected)
            && context.settling().settled(expected.mtime, expected.ctime);
        Ok(Known { digest: hasher.finish(), attributes, lasting })
    }

    fn report(&self, count: u64) -> Result<(), ContextError> {
        let read = self.read.fetch_add(count, Relaxed) + count;
        match (self.watch)(read, self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ContextError::Cancelled),
        }
    }
}

/// The attributes that a copy keeps. Most files have none: one call.
fn attributes(fd: &OwnedFd) -> Result<Attributes, Errno> {
    let mut list = [0; 1024];
    let names = match rustix::fs::flistxattr(fd, &mut list[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Attributes::default()),
        Ok(count) => list[..count].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0; MOST_ATTRIBUTES];
            let count = rustix::fs::flistxattr(fd, &mut list[..])?;
            list.truncate(count);
            list
        }
        Err(error) => return Err(error),
    };
    let mut kept = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        let mut value = vec![0; MOST_ATTRIBUTES];
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            Ok(count) => {
                value.truncate(count);
                kept.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    kept.sort();
    Ok(Attributes(kept.into()))
}

impl Attributes {
    /// Each name and value behind its length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text);
        }
        bytes
    }

    /// The reverse; `None` if the bytes are of another form.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut text = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            bytes = rest;
            Some((text.to_vec(), rest.is_empty()))
        };
        let mut pairs = Vec::new();
        loop {
            let (name, _) = text()?;
            let (value, last) = text()?;
            pairs.push((name, value));
            if last {
                return Some(Self(pairs.into()));
            }
        }
    }
}
