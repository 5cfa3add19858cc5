//! The inner loops of the layer room: `cargo bench --bench layer`.
//!
//! `KILN_BENCH_FILES` (default 10,000) is how many files the tree has; `KILN_BENCH_TAR` names the
//! tar that is compressed (default: one of up to 128 MB made of `/usr`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use divan::{Bencher, counter::BytesCount};
use kiln::base::digest::HashingWriter;
use kiln::layer::apply::unpack;
use kiln::layer::compress::{Compression, compress};
use kiln::layer::decompress::decompress;
use kiln::layer::entry::KindRef;
use kiln::layer::from_tar::index_tar;
use kiln::layer::from_tree::write_tar;
use kiln::layer::hashing::BackgroundWriter;
use kiln::layer::index::Index;
use kiln::layer::merged::Merged;
use kiln::layer::scan::scan_tree;
use kiln::layer::writer::LayerWriter;

fn main() {
    divan::main();
}

/// A tree of small files, 4.6 kB on average, in directories of a hundred.
fn tree() -> &'static (tempfile::TempDir, Index) {
    static TREE: OnceLock<(tempfile::TempDir, Index)> = OnceLock::new();
    TREE.get_or_init(|| {
        let count =
            std::env::var("KILN_BENCH_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
        let dir = tempfile::tempdir().expect("a temporary directory");
        for number in 0..count {
            let sub = dir.path().join(format!("d{:04}", number / 100));
            if number % 100 == 0 {
                fs::create_dir(&sub).expect("a fresh directory");
            }
            let content = vec![number as u8; number * 7919 % 9200];
            fs::write(sub.join(format!("file-{number}.txt")), content).expect("a fresh file");
        }
        let index = scan_tree(dir.path()).expect("a tree that was just made");
        (dir, index)
    })
}

fn tar() -> &'static Path {
    static TAR: OnceLock<(PathBuf, Option<tempfile::TempDir>)> = OnceLock::new();
    let (path, _) = TAR.get_or_init(|| {
        if let Some(path) = std::env::var_os("KILN_BENCH_TAR") {
            return (path.into(), None);
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("usr.tar");
        let mut tar = std::process::Command::new("tar")
            .args(["-C", "/", "-cf", "-", "usr/bin", "usr/lib"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("GNU tar is installed");
        let stream = tar.stdout.take().expect("piped").take(128 << 20);
        io::copy(&mut { stream }, &mut File::create(&path).expect("a fresh file")).expect("room for the tar");
        let _ = tar.kill();
        let _ = tar.wait();
        (path, Some(dir))
    });
    path
}

#[divan::bench(sample_count = 10)]
fn scan(bencher: Bencher) {
    let (dir, _) = tree();
    bencher.bench(|| scan_tree(dir.path()).expect("a tree at rest"));
}

/// What a RUN that wrote one line costs.
#[divan::bench(sample_count = 20)]
fn scan_of_one_file(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("file"), "a line").expect("a fresh file");
    bencher.bench(|| scan_tree(dir.path()).expect("a tree at rest").identity(None));
}

#[divan::bench(sample_count = 10)]
fn identity(bencher: Bencher) {
    let (_, index) = tree();
    bencher.bench(|| index.identity(None));
}

#[divan::bench(sample_count = 10)]
fn tree_to_tar_and_digest(bencher: Bencher) {
    let (dir, index) = tree();
    bencher.bench(|| {
        let mut out = BackgroundWriter::new(io::sink());
        write_tar(index, dir.path(), &mut out).expect("a tree at rest");
        out.finish().1
    });
}

#[divan::bench(sample_count = 10)]
fn tree_to_tar_and_digest_on_one_thread(bencher: Bencher) {
    let (dir, index) = tree();
    bencher.bench(|| {
        let mut out = HashingWriter::new(io::sink());
        write_tar(index, dir.path(), &mut out).expect("a tree at rest");
        out.finish().1
    });
}

/// What COPY does with files that it has hashed before: read, hash again, tar and index.
#[divan::bench(sample_count = 10)]
fn files_to_tar_and_index(bencher: Bencher) {
    let (dir, index) = tree();
    bencher.bench(|| {
        let mut writer = LayerWriter::new(io::sink());
        for entry in index.iter() {
            match entry.kind {
                KindRef::File { .. } => {
                    let path = dir.path().join(std::ffi::OsStr::from_bytes(entry.path));
                    writer.file(entry, File::open(path).expect("a tree at rest")).expect("a tree at rest");
                }
                _ => writer.entry(entry).expect("an index in order"),
            }
        }
        writer.finish().expect("no error of the sink").1
    });
}

/// One file of 1 GiB (`KILN_BENCH_LARGE`, in MiB), hashed as it passes, and the tar's diff ID.
#[divan::bench(sample_count = 3)]
fn large_file_to_tar(bencher: Bencher) {
    let size =
        std::env::var("KILN_BENCH_LARGE").ok().and_then(|text| text.parse().ok()).unwrap_or(1024u64) << 20;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let content = File::create(dir.path().join("large")).expect("a fresh file");
    io::copy(&mut io::repeat(7).take(size), &mut &content).expect("room for the file");
    let index = scan_tree(dir.path()).expect("a tree that was just made");
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let out = File::create(dir.path().join("tar")).expect("a fresh file");
        let mut writer = LayerWriter::new(out);
        let entry = index.iter().next().expect("the one file");
        writer
            .file(entry, File::open(dir.path().join("large")).expect("the file"))
            .expect("the same content");
        writer.finish().expect("room for the tar").1
    });
}

#[divan::bench(sample_count = 5)]
fn tar_to_index(bencher: Bencher) {
    let (dir, index) = tree();
    let mut tar = Vec::new();
    write_tar(index, dir.path(), &mut tar).expect("a tree at rest");
    bencher.bench(|| index_tar(&tar[..]).expect("what was just made"));
}

/// Into directories that stay until the end: creating after deleting is slow on some file systems.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn tar_to_tree(bencher: Bencher) {
    let (dir, index) = tree();
    let mut tar = Vec::new();
    write_tar(index, dir.path(), &mut tar).expect("a tree at rest");
    bencher.with_inputs(|| tempfile::tempdir().expect("a temporary directory")).bench_values(|tree| {
        unpack(&tar[..], tree.path(), &Merged::default()).expect("what was just made");
        tree
    });
}

#[divan::bench(sample_count = 10)]
fn merged_walk(bencher: Bencher) {
    let (_, index) = tree();
    let merged = Merged::new(vec![index.clone(); 10]);
    bencher.bench(|| merged.walk(b"").count());
}

#[divan::bench(sample_count = 3, args = ["gzip 1", "gzip 2", "gzip 3", "gzip 6", "zstd 1", "zstd 2", "zstd 3"])]
fn compressing(bencher: Bencher, how: &str) {
    let (name, level) = how.split_once(' ').expect("a name and a level");
    let how = match name {
        "gzip" => Compression::Gzip { level: level.parse().expect("a number") },
        _ => Compression::Zstd { level: level.parse().expect("a number") },
    };
    let size = fs::metadata(tar()).expect("the tar").len();
    bencher.counter(BytesCount::new(size)).bench(|| {
        let made = compress(File::open(tar()).expect("the tar"), io::sink(), how).expect("a readable tar");
        (made.size, made.digest)
    });
}

#[divan::bench(sample_count = 3, args = ["gzip", "zstd"])]
fn decompressing(bencher: Bencher, how: &str) {
    let how = if how == "gzip" { Compression::default() } else { Compression::Zstd { level: 1 } };
    let mut blob = Vec::new();
    let made = compress(File::open(tar()).expect("the tar"), &mut blob, how).expect("a readable tar");
    bencher.counter(BytesCount::new(made.uncompressed_size)).bench(|| {
        let (_, mut stream) = decompress(&blob[..]).expect("what was just made");
        io::copy(&mut stream, &mut io::sink()).expect("what was just made")
    });
}

/// The ratios, once, since divan shows only times.
#[divan::bench(sample_count = 1)]
fn ratios() {
    for level in 1..=6 {
        for how in [Compression::Gzip { level }, Compression::Zstd { level: level as i32 }] {
            let made =
                compress(File::open(tar()).expect("the tar"), io::sink(), how).expect("a readable tar");
            let ratio = made.size as f64 / made.uncompressed_size as f64;
            let _ = writeln!(io::stderr(), "{how:?}: {ratio:.3}");
        }
    }
}
