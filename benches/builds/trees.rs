//! The contexts that are built: deterministic trees of small files, and one large file.

use std::fs;
use std::io::Write;
use std::path::Path;

/// Writes `count` files of 100 to 9,000 bytes, a hundred to a directory.
pub fn small_files(dir: &Path, count: usize) {
    for at in 0..count {
        let parent = dir.join(format!("d{:03}/s{:02}", at / 1000, at / 100 % 10));
        if at % 100 == 0 {
            fs::create_dir_all(&parent).expect("a directory can be made");
        }
        fs::write(parent.join(format!("file{at:06}.txt")), content(at as u64, 100 + at * 7919 % 8900))
            .expect("a file can be written");
    }
}

/// Writes one file of `size` bytes that do not compress well.
pub fn large_file(path: &Path, size: usize) {
    let mut file = fs::File::create(path).expect("a file can be made");
    let mut written = 0;
    while written < size {
        let chunk = content(written as u64, (1 << 20).min(size - written));
        file.write_all(&chunk).expect("a file can be written");
        written += chunk.len();
    }
}

/// `size` bytes that depend on `seed`: words of a small vocabulary, so that they compress as text does.
pub fn content(seed: u64, size: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "kiln", "layer", "stage", "digest", "index", "mount", "cache", "graph", "vertex", "build", "image",
        "shelf", "clay", "glaze", "fire", "ash",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 32);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(WORDS[(state % 16) as usize].as_bytes());
        bytes.extend_from_slice(format!("{:x} ", state >> 44).as_bytes());
    }
    bytes.truncate(size);
    bytes
}
