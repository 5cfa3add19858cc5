//! The scan of a build context: nothing changed since the last one, and cold.
//!
//! `cargo bench --bench context`. The trees (10,000 files of 45 MB in all, and 100,000 of 450 MB)
//! are made in a temporary directory, so `TMPDIR` chooses the file system.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use divan::Bencher;
use kiln::base::digest::{CacheKey, Digest};
use kiln::base::event::NoEvents;
use kiln::build::context::{Context, Reader};
use kiln::build::solve::{Cancel, Keyed, Node, Ran, Records, RunResult, Step, Work, solve};
use kiln::dockerfile::ignore::IgnoreFile;

fn main() {
    divan::main();
    let trees = std::mem::take(&mut *TREES.lock().expect("no bench panicked"));
    drop(trees);
}

static TREES: Mutex<Vec<(usize, tempfile::TempDir)>> = Mutex::new(Vec::new());

/// A tree of `files` files, a hundred in a directory, made once.
fn tree(files: usize) -> PathBuf {
    let mut trees = TREES.lock().expect("no bench panicked");
    if let Some((_, dir)) = trees.iter().find(|(count, _)| *count == files) {
        return dir.path().to_owned();
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    for number in 0..files {
        let parent = dir.path().join(format!("tree/package{}/source{}", number / 1000, number / 100 % 10));
        if number % 100 == 0 {
            fs::create_dir_all(&parent).expect("a new directory");
        }
        let content = format!("{number:010}").repeat(450);
        fs::write(parent.join(format!("module-{number}.rs")), content).expect("a new file");
    }
    let path = dir.path().to_owned();
    trees.push((files, dir));
    path
}

fn scan(tree: &Path, ignore: &Arc<IgnoreFile>) -> Context {
    let context = Context::scan(&tree.join("tree"), ignore.clone(), &tree.join("index")).expect("a scan");
    context.hash(context.entries(), &|_, _| ControlFlow::Continue(())).expect("digests");
    context.save().expect("an index");
    context
}

#[divan::bench(args = [10_000, 100_000], sample_count = 20, sample_size = 1)]
fn nothing_changed(bencher: Bencher, files: usize) {
    let (tree, ignore) = (tree(files), Arc::new(IgnoreFile::empty()));
    scan(&tree, &ignore);
    bencher.bench(|| scan(&tree, &ignore));
}

#[divan::bench(args = [10_000, 100_000], sample_count = 20, sample_size = 1)]
fn nothing_changed_twenty_patterns(bencher: Bencher, files: usize) {
    let patterns: Vec<String> = (0..20).map(|number| format!("**/*.o{number}")).collect();
    let ignore = IgnoreFile::from_patterns(patterns.iter().map(String::as_str)).expect("patterns");
    let (tree, ignore) = (tree(files), Arc::new(ignore));
    scan(&tree, &ignore);
    bencher.bench(|| scan(&tree, &ignore));
}

#[divan::bench(args = [10_000, 100_000], sample_count = 5, sample_size = 1)]
fn without_an_index(bencher: Bencher, files: usize) {
    let (tree, ignore) = (tree(files), Arc::new(IgnoreFile::empty()));
    bencher.with_inputs(|| drop(fs::remove_file(tree.join("index")))).bench_values(|()| scan(&tree, &ignore));
}

#[divan::bench(args = [10_000, 100_000], sample_count = 5, sample_size = 1)]
fn read_all(bencher: Bencher, files: usize) {
    let (tree, ignore) = (tree(files), Arc::new(IgnoreFile::empty()));
    let context = scan(&tree, &ignore);
    bencher.bench(|| {
        let mut reader = Reader::new(&context);
        for entry in context.entries().filter(|entry| entry.digest().is_some()) {
            let mut content = reader.open(entry).expect("a file");
            std::io::copy(&mut content, &mut std::io::sink()).expect("its content");
        }
    });
}

/// A step that is always in the records.
struct Recorded(String);

impl Work for Recorded {
    type Output = Digest;
    type Record = Digest;
    type Error = std::io::Error;

    fn key(&self, inputs: &[Digest]) -> std::io::Result<Option<Keyed>> {
        let key = CacheKey(Digest::of(format!("{}{inputs:?}", self.0)));
        Ok(Some(Keyed { key, parts: Vec::new() }))
    }

    fn load(&self, record: Digest, _: &[Digest]) -> std::io::Result<Option<Digest>> {
        Ok(Some(record))
    }

    fn run(&self, _: &Step<'_>, _: &[Digest]) -> RunResult<Self> {
        let output = Digest::of("");
        Ok(Ran::Done { output, record: output })
    }
}

struct AlwaysThere;

impl Records for AlwaysThere {
    type Record = Digest;
    type Error = std::io::Error;
    type Lock = ();

    fn lookup(&self, key: CacheKey) -> std::io::Result<Option<Digest>> {
        Ok(Some(key.0))
    }

    fn store(&self, _: &Keyed, _: Digest) -> std::io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: CacheKey, _: &Cancel) -> std::io::Result<()> {
        Ok(())
    }
}

#[divan::bench]
fn twenty_cached_steps(bencher: Bencher) {
    let node = |number: usize| Node {
        name: Arc::from("RUN"),
        inputs: number.checked_sub(1).into_iter().collect(),
        work: Recorded(number.to_string()),
    };
    let graph: Vec<_> = (0..20).map(node).collect();
    bencher.bench(|| solve(&graph, &AlwaysThere, &NoEvents, 8, &Cancel::new()));
}
