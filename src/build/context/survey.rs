//! Lists a context that was never scanned, by the parallel walker of the `ignore` crate.
//!
//! It takes half as long again as `walk`, which is little beside the reading of all files that
//! follows, and what it finds must be the same. It goes by path names, so there is nothing that
//! it may be trusted with alone: files are opened by `open` whatever it found, and where it meets
//! any trouble (what cannot be read, what changes meanwhile, very long paths) the listing is done
//! by `walk`, which has the errors.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use ignore::{DirEntry, ParallelVisitor, ParallelVisitorBuilder, WalkBuilder, WalkState};
use rustix::fs::FileType;

use crate::dockerfile::ignore::IgnoreFile;
use crate::layer::entry::{compare_paths, parent};

use super::table::Status;
use super::walk::{LONGEST_PATH, NONE, Part, Stop, Walked};

/// Lists everything under `directory` that `patterns` let through, or nothing if it cannot.
pub(super) fn survey(
    directory: &Path,
    device: u64,
    patterns: &Arc<IgnoreFile>,
    stop: Stop<'_>,
) -> Option<Walked> {
    let base = directory.canonicalize().ok()?;
    let skip = base.as_os_str().len() + usize::from(base != Path::new("/"));
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let mut builder = WalkBuilder::new(&base);
    builder.standard_filters(false).follow_links(false).threads(threads);
    let pruning = Arc::clone(patterns);
    builder.filter_entry(move |entry| {
        let path = relative(entry, skip);
        !pruning.is_ignored(path) || (may_be_directory(entry) && !prunable(&pruning, path))
    });
    let collected = Collected::default();
    builder.build_parallel().visit(&mut Builder { collected: &collected, device, skip, patterns, stop });
    if collected.failed.into_inner() {
        return None;
    }
    let batches = collected.batches.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    arrange(&batches)
}

fn relative(entry: &DirEntry, skip: usize) -> &[u8] {
    entry.path().as_os_str().as_bytes().get(skip..).unwrap_or_default()
}

/// Whether everything in the directory `path` is ignored.
fn prunable(patterns: &IgnoreFile, path: &[u8]) -> bool {
    let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
    ends.fold(patterns.root(), |level, end| patterns.directory(&level, &path[..end])).prunable()
}

fn may_be_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_none_or(|kind| kind.is_dir())
}

#[derive(Default)]
struct Collected {
    failed: AtomicBool,
    batches: Mutex<Vec<Batch>>,
}

/// What one thread saw, in no order.
#[derive(Default)]
struct Batch {
    seen: Vec<Seen>,
    /// Paths, each followed by a link's target.
    arena: Vec<u8>,
}

struct Seen {
    path: usize,
    path_length: usize,
    target_length: usize,
    ignored: bool,
    status: Status,
}

struct Builder<'a> {
    collected: &'a Collected,
    device: u64,
    skip: usize,
    patterns: &'a IgnoreFile,
    stop: Stop<'a>,
}

struct Visitor<'a> {
    collected: &'a Collected,
    device: u64,
    skip: usize,
    patterns: &'a IgnoreFile,
    stop: Stop<'a>,
    batch: Batch,
}

impl<'a> ParallelVisitorBuilder<'a> for Builder<'a> {
    fn build(&mut self) -> Box<dyn ParallelVisitor + 'a> {
        let Self { collected, device, skip, patterns, stop } = *self;
        Box::new(Visitor { collected, device, skip, patterns, stop, batch: Batch::default() })
    }
}

impl ParallelVisitor for Visitor<'_> {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> WalkState {
        if !(self.stop)() && entry.ok().and_then(|entry| self.add(&entry)).is_some() {
            return WalkState::Continue;
        }
        self.collected.failed.store(true, Relaxed);
        WalkState::Quit
    }
}

impl Visitor<'_> {
    /// Keeps what is known of an entry; `None` if that cannot be found out.
    fn add(&mut self, entry: &DirEntry) -> Option<()> {
        if entry.depth() == 0 {
            return Some(());
        }
        let status = Status::from_metadata(&entry.metadata().ok()?, self.device);
        let path = relative(entry, self.skip);
        let ignored = self.patterns.is_ignored(path);
        let is_directory = status.kind() == FileType::Directory;
        // Its kind must be what the walker took it for, else it was not entered, or wrongly.
        if path.len() > LONGEST_PATH || is_directory != entry.file_type()?.is_dir() {
            return None;
        }
        let Batch { seen, arena } = &mut self.batch;
        let start = arena.len();
        arena.extend_from_slice(path);
        let path_length = path.len();
        if status.kind() == FileType::Symlink {
            arena.extend_from_slice(std::fs::read_link(entry.path()).ok()?.as_os_str().as_bytes());
        }
        let target_length = arena.len() - start - path_length;
        seen.push(Seen { path: start, path_length, target_length, ignored, status });
        Some(())
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        let mut batches = self.collected.batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        batches.push(std::mem::take(&mut self.batch));
    }
}

/// Sorts what was seen into directories.
fn arrange<'a>(batches: &'a [Batch]) -> Option<Walked> {
    // Each path with its link's target behind it.
    let of = |batch: &'a Batch, seen: &'a Seen| {
        let (path, rest) = batch.arena[seen.path..].split_at(seen.path_length);
        (path, &rest[..seen.target_length], seen)
    };
    let all = batches.iter().flat_map(|batch| batch.seen.iter().map(move |seen| of(batch, seen)));
    let mut all: Vec<(&[u8], &[u8], &Seen)> = all.collect();
    all.sort_unstable_by(|a, b| compare_paths(a.0, b.0));
    let mut directories = vec![vec![Part::new(0, 0, 0, 0)]];
    // The directories above the entry at hand, and their numbers.
    let mut above: Vec<(&[u8], u32)> = vec![(b"", 0)];
    let mut names = 0;
    for &(path, target, seen) in &all {
        let holder = parent(path)?;
        while above.last()?.0 != holder {
            // The root is never left unless a directory above was not seen.
            above.pop();
        }
        let name = if holder.is_empty() { path } else { &path[holder.len() + 1..] };
        let mut directory = NONE;
        if seen.status.kind() == FileType::Directory {
            directory = u32::try_from(directories.len()).ok()?;
            directories.push(vec![Part::new(directory, 0, 0, 0)]);
        }
        let part = directories[above.last()?.1 as usize].first_mut()?;
        part.push(name, target, directory, seen.ignored, seen.status).ok()?;
        names += name.len() + target.len();
        if directory != NONE {
            above.push((path, directory));
        }
    }
    Some(Walked { directories, entries: all.len(), names })
}
