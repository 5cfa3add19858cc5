//! Lists a directory tree: several threads, each entry examined by one call relative to its open
//! directory, no symbolic link ever followed. Ignored subtrees are not entered.
//!
//! Threads share one stack of work. A piece of work is a directory to list, or, where a
//! directory is large, a part of its names to examine.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, Scope};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use rustix::io::Errno;

use crate::base::rooted::Root;
use crate::dockerfile::ignore::{IgnoreFile, Level};

use super::error::{ContextError, show};
use super::table::{Full, Status};

/// Names that one thread examines before it looks whether others could help.
const PART: usize = 512;
/// Below this many entries another thread costs more than it brings.
const WORTH_A_THREAD: usize = 192;
const MOST_THREADS: usize = 8;
/// The longest path that the kernel takes, its end mark not counted.
pub(super) const LONGEST_PATH: usize = 4095;

/// What a walk found.
pub(super) struct Walked {
    /// The entries of each directory by its number, the root's first.
    pub directories: Vec<Vec<Part>>,
    /// How many entries there are, and how many bytes their names and link targets take.
    pub entries: usize,
    pub names: usize,
}

/// A run of the entries of one directory, sorted by name.
pub(super) struct Part {
    directory: u32,
    number: u32,
    pub found: Vec<Found>,
    names: Vec<u8>,
}

/// One entry.
pub(super) struct Found {
    name: u32,
    name_length: u16,
    target_length: u16,
    /// The number of the directory that it is, [`NONE`] for anything else.
    pub directory: u32,
    /// It is here only for what may be in it that is not ignored.
    pub ignored: bool,
    pub status: Status,
}

/// No directory.
pub(super) const NONE: u32 = u32::MAX;

impl Part {
    /// Part `number` of `directory`, with room for `entries` whose names take `names` bytes.
    pub(super) fn new(directory: u32, number: u32, entries: usize, names: usize) -> Self {
        Self { directory, number, found: Vec::with_capacity(entries), names: Vec::with_capacity(names) }
    }

    /// Adds an entry that sorts behind the others. `directory` is its own number if it is one.
    pub(super) fn push(
        &mut self,
        name: &[u8],
        target: &[u8],
        directory: u32,
        ignored: bool,
        status: Status,
    ) -> Result<(), Full> {
        let start = u32::try_from(self.names.len()).map_err(|_| Full)?;
        let name_length = u16::try_from(name.len()).map_err(|_| Full)?;
        let target_length = u16::try_from(target.len()).map_err(|_| Full)?;
        self.names.extend_from_slice(name);
        self.names.extend_from_slice(target);
        self.found.push(Found { name: start, name_length, target_length, directory, ignored, status });
        Ok(())
    }

    pub(super) fn name(&self, found: &Found) -> &[u8] {
        &self.names[found.name as usize..][..usize::from(found.name_length)]
    }

    pub(super) fn target(&self, found: &Found) -> &[u8] {
        let start = found.name as usize + usize::from(found.name_length);
        &self.names[start..][..usize::from(found.target_length)]
    }
}

/// Asked again and again whether to give up.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// Lists everything under `root` that `ignore` does not leave out.
pub(super) fn walk(
    root: &Root,
    device: u64,
    ignore: &IgnoreFile,
    stop: Stop<'_>,
) -> Result<Walked, ContextError> {
    let first = Job::List { directory: 0, path: Vec::new(), level: ignore.root() };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let walker = Walker {
        root,
        device,
        ignore,
        stop,
        most_threads: cores.clamp(2, MOST_THREADS),
        directories: AtomicU32::new(0),
        shared: Mutex::new(Shared { jobs: vec![first], threads: 1, ..Shared::default() }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| walker.work(scope));
    let shared = walker.shared.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(error) = shared.error {
        return Err(error);
    }
    let mut directories: Vec<Vec<Part>> = Vec::new();
    directories.resize_with(walker.directories.into_inner() as usize + 1, Vec::new);
    let mut names = 0;
    for part in shared.parts {
        names += part.names.len();
        directories[part.directory as usize].push(part);
    }
    for parts in directories.iter_mut().filter(|parts| parts.len() > 1) {
        parts.sort_unstable_by_key(|part| part.number);
    }
    Ok(Walked { directories, entries: shared.found, names })
}

struct Walker<'a> {
    root: &'a Root,
    device: u64,
    ignore: &'a IgnoreFile,
    stop: Stop<'a>,
    most_threads: usize,
    /// The number of the last directory.
    directories: AtomicU32,
    shared: Mutex<Shared>,
    /// There is a job, or there will be none any more.
    changed: Condvar,
}

#[derive(Default)]
struct Shared {
    jobs: Vec<Job>,
    running: usize,
    threads: usize,
    idle: usize,
    found: usize,
    parts: Vec<Part>,
    error: Option<ContextError>,
}

enum Job {
    /// Open this directory and list it.
    List { directory: u32, path: Vec<u8>, level: Level },
    /// Examine some names of an open directory.
    Examine(Arc<Listed>, std::ops::Range<usize>),
}

/// A directory with its names.
struct Listed {
    directory: u32,
    fd: OwnedFd,
    path: Vec<u8>,
    /// Sorted.
    names: Vec<Name>,
    /// Each with its end mark.
    arena: Vec<u8>,
    level: Level,
}

struct Name {
    start: u32,
    /// Without the end mark.
    length: u16,
    ignored: bool,
}

impl Listed {
    fn name(&self, name: &Name) -> &CStr {
        let bytes = &self.arena[name.start as usize..][..usize::from(name.length) + 1];
        CStr::from_bytes_with_nul(bytes).expect("names are kept with their end mark")
    }
}

/// What a thread keeps from job to job.
struct Scratch {
    listing: Vec<u8>,
    path: Vec<u8>,
}

/// What came out of a job.
#[derive(Default)]
struct Brought {
    part: Option<Part>,
    jobs: Vec<Job>,
}

impl Walker<'_> {
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut scratch = Scratch { listing: Vec::with_capacity(64 << 10), path: Vec::new() };
        let mut shared = self.lock();
        loop {
            if shared.error.is_some() || (shared.jobs.is_empty() && shared.running == 0) {
                self.changed.notify_all();
                return;
            }
            let Some(job) = shared.jobs.pop() else {
                shared.idle += 1;
                shared = self.changed.wait(shared).unwrap_or_else(|poisoned| poisoned.into_inner());
                shared.idle -= 1;
                continue;
            };
            shared.running += 1;
            drop(shared);
            let brought = catch_unwind(AssertUnwindSafe(|| self.run(job, &mut scratch)));
            shared = self.lock();
            shared.running -= 1;
            match brought {
                Ok(Ok(brought)) => self.take(&mut shared, brought, scope),
                Ok(Err(error)) => {
                    shared.error.get_or_insert(error);
                }
                Err(panic) => {
                    // The others must not wait for this thread.
                    shared.error.get_or_insert(self.too_large());
                    self.changed.notify_all();
                    drop(shared);
                    resume_unwind(panic);
                }
            }
        }
    }

    fn take<'scope>(&'scope self, shared: &mut Shared, brought: Brought, scope: &'scope Scope<'scope, '_>) {
        if let Some(part) = brought.part {
            shared.found += part.found.len();
            shared.parts.push(part);
        }
        shared.jobs.extend(brought.jobs);
        // One job is for this thread itself.
        let spare = shared.jobs.len().saturating_sub(1);
        for _ in 0..spare.min(shared.idle) {
            self.changed.notify_one();
        }
        let pending: usize = shared.jobs.iter().rev().take(8).map(Job::weight).sum();
        if spare > shared.idle
            && shared.threads < self.most_threads
            && shared.found + pending >= WORTH_A_THREAD
            && Builder::new().name("scan".into()).spawn_scoped(scope, || self.work(scope)).is_ok()
        {
            shared.threads += 1;
        }
    }

    fn run(&self, job: Job, scratch: &mut Scratch) -> Result<Brought, ContextError> {
        if (self.stop)() {
            return Err(ContextError::Cancelled);
        }
        let (listed, range, mut jobs) = match job {
            Job::Examine(listed, range) => (listed, range, Vec::new()),
            Job::List { directory, path, level } => {
                let Some(listed) = self.list(directory, path, level, scratch)? else {
                    return Ok(Brought::default());
                };
                let listed = Arc::new(listed);
                let starts = (PART..listed.names.len()).step_by(PART);
                let jobs = starts
                    .map(|start| Job::Examine(listed.clone(), start..(start + PART).min(listed.names.len())));
                let jobs: Vec<Job> = jobs.collect();
                if !jobs.is_empty() {
                    // The first part is a job like the others, so that others start at once.
                    let first = Job::Examine(listed, 0..PART);
                    return Ok(Brought { part: None, jobs: jobs.into_iter().chain([first]).collect() });
                }
                let all = 0..listed.names.len();
                (listed, all, jobs)
            }
        };
        let part = self.examine(&listed, range, &mut jobs, scratch)?;
        Ok(Brought { part: Some(part), jobs })
    }

    /// The names in a directory that have to be examined; `None` if it is gone.
    fn list(
        &self,
        directory: u32,
        path: Vec<u8>,
        level: Level,
        scratch: &mut Scratch,
    ) -> Result<Option<Listed>, ContextError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = match self.root.open_plain(&path, flags) {
            Ok(fd) => fd,
            Err(error) => match Errno::from_io_error(&error) {
                // It went away, or became something else, since its parent was listed.
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                // Nothing is known of what is in an ignored directory, so nothing is asked for.
                Some(Errno::ACCESS) if level.ignored() => return Ok(None),
                _ => return Err(ContextError::List { path: show(&path), source: error }),
            },
        };
        let mut names = Vec::new();
        let mut arena = Vec::new();
        let prefix = joined(&mut scratch.path, &path);
        let mut entries = RawDir::new(&fd, scratch.listing.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry =
                entry.map_err(|error| ContextError::List { path: show(&path), source: error.into() })?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            scratch.path.truncate(prefix);
            scratch.path.extend_from_slice(name);
            let (ignored, skipped) = match entry.file_type() {
                FileType::Directory => {
                    let below = self.ignore.directory(&level, &scratch.path);
                    (below.ignored(), below.prunable())
                }
                // Some file systems do not say what it is: its status will.
                FileType::Unknown => (self.ignore.entry(&level, &scratch.path), false),
                _ => {
                    let ignored = self.ignore.entry(&level, &scratch.path);
                    (ignored, ignored)
                }
            };
            if skipped {
                continue;
            }
            if scratch.path.len() > LONGEST_PATH {
                return Err(ContextError::PathTooLong { path: show(&scratch.path[..200]) });
            }
            let start = u32::try_from(arena.len()).map_err(|_| self.too_large())?;
            arena.extend_from_slice(entry.file_name().to_bytes_with_nul());
            let length = u16::try_from(name.len()).map_err(|_| self.too_large())?;
            names.push(Name { start, length, ignored });
        }
        names.sort_unstable_by(|a, b| text(&arena, a).cmp(text(&arena, b)));
        Ok(Some(Listed { directory, fd, path, names, arena, level }))
    }

    /// The status of some names of a directory, and the directories among them as jobs.
    fn examine(
        &self,
        listed: &Listed,
        range: std::ops::Range<usize>,
        jobs: &mut Vec<Job>,
        scratch: &mut Scratch,
    ) -> Result<Part, ContextError> {
        let names = &listed.names[range.clone()];
        let bytes = names.iter().map(|name| usize::from(name.length)).sum();
        let number = (range.start / PART) as u32;
        let mut part = Part::new(listed.directory, number, names.len(), bytes);
        let prefix = joined(&mut scratch.path, &listed.path);
        for name in names {
            let text = listed.name(name);
            scratch.path.truncate(prefix);
            scratch.path.extend_from_slice(text.to_bytes());
            let fail =
                |error: Errno| ContextError::Examine { path: show(&scratch.path), source: error.into() };
            let stat = match rustix::fs::statat(&listed.fd, text, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(Errno::ACCESS) if name.ignored => continue,
                Err(error) => return Err(fail(error)),
            };
            let status = Status::new(&stat, self.device);
            if name.ignored && status.kind() != FileType::Directory {
                continue;
            }
            let mut target = CString::default();
            let mut directory = NONE;
            match status.kind() {
                FileType::Symlink => match rustix::fs::readlinkat(&listed.fd, text, Vec::new()) {
                    Ok(read) => target = read,
                    Err(Errno::NOENT | Errno::INVAL) => continue,
                    Err(error) => return Err(fail(error)),
                },
                FileType::Directory => {
                    let level = self.ignore.directory(&listed.level, &scratch.path);
                    if level.prunable() {
                        continue;
                    }
                    directory = self.number()?;
                    jobs.push(Job::List { directory, path: scratch.path.clone(), level });
                }
                _ => {}
            }
            part.push(text.to_bytes(), target.to_bytes(), directory, name.ignored, status)
                .map_err(|_| self.too_large())?;
        }
        Ok(part)
    }

    /// A number for one more directory.
    fn number(&self) -> Result<u32, ContextError> {
        let number = self.directories.fetch_add(1, Relaxed) + 1;
        if number >= NONE / 2 { Err(self.too_large()) } else { Ok(number) }
    }

    fn too_large(&self) -> ContextError {
        ContextError::TooLarge { path: self.root.path().to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing that can panic runs under this lock.
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Job {
    /// About how many entries it may bring.
    fn weight(&self) -> usize {
        match self {
            Job::List { .. } => 8,
            Job::Examine(_, range) => range.len(),
        }
    }
}

fn text<'a>(arena: &'a [u8], name: &Name) -> &'a [u8] {
    &arena[name.start as usize..][..usize::from(name.length)]
}

/// Puts `directory` and a slash into `path`, and says how long that is.
fn joined(path: &mut Vec<u8>, directory: &[u8]) -> usize {
    path.clear();
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.len()
}

/// The open directory at the root of a context, for probes.
pub(super) fn open_root(root: &Root) -> io::Result<OwnedFd> {
    root.open_plain(b"", OFlags::RDONLY | OFlags::DIRECTORY)
}
