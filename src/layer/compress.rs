//! A layer stream to its compressed form, in one pass, in parallel, with both digests.
//!
//! The stream is cut into blocks of a fixed size that threads compress on their own, so that the
//! bytes depend on the content and the level alone, not on how many threads there are:
//!
//! - gzip: one member (RFC 1952). Each block is compressed with the 32 KiB before it as its
//!   dictionary and ends at a byte boundary; the last one ends the member.
//! - zstd: one frame (RFC 8878) for each block. Readers take frames in a row as one stream.
//!
//! A change of a block size, of a default level or of the compressing libraries changes the
//! digests of blobs (never diff IDs). At most a few blocks are in memory, however large the layer.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::{Compress, Crc, FlushCompress, Status};

use crate::base::digest::{DiffId, Digest, Hasher, HashingWriter};

use super::{LayerError, Result};

/// The level of gzip where none is asked for: the fastest one. Level 2 takes nearly twice as long
/// for an eighth less, level 6 several times as long for a sixth less.
pub const GZIP_LEVEL: u32 = 1;
/// The level of zstd where none is asked for.
pub const ZSTD_LEVEL: i32 = 1;

const GZIP_BLOCK: usize = 512 * 1024;
const ZSTD_BLOCK: usize = 1024 * 1024;
/// How far back deflate looks.
const WINDOW: usize = 32 * 1024;
/// More threads than this only wait for the one that reads and hashes.
const MOST_THREADS: usize = 16;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// As every registry and engine takes it.
    Gzip {
        /// 1 (fast) to 9 (small).
        level: u32,
    },
    /// Faster and smaller; Docker before version 20.10.10 cannot read it.
    Zstd {
        /// 1 (fast) to 22 (small).
        level: i32,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: GZIP_LEVEL }
    }
}

impl Compression {
    /// The media type of a layer of this form (OCI media-types.md).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip { .. } => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd { .. } => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// The same in a manifest of Docker's form.
    pub fn docker_media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.docker.image.rootfs.diff.tar",
            Self::Gzip { .. } => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Self::Zstd { .. } => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

/// What [`compress`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compressed {
    /// Of the compressed bytes.
    pub digest: Digest,
    /// Of the compressed form, in bytes.
    pub size: u64,
    /// Of the uncompressed bytes.
    pub diff_id: DiffId,
    /// Of the uncompressed form, in bytes.
    pub uncompressed_size: u64,
}

/// Compresses all of `input` to `out`.
pub fn compress(input: impl Read, out: impl Write, how: Compression) -> Result<Compressed> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    compress_on(threads, input, out, how).map_err(|source| LayerError::Compress { source })
}

fn compress_on(
    threads: usize,
    input: impl Read,
    out: impl Write,
    how: Compression,
) -> io::Result<Compressed> {
    let mut out = HashingWriter::new(out);
    let (diff_id, uncompressed_size) = match how {
        Compression::None => copy(input, &mut out)?,
        Compression::Gzip { level } => {
            // No name, no time, no system (255).
            out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
            let (raw, crc) = run(threads, GZIP_BLOCK, WINDOW, input, &mut out, || deflate(level))?;
            out.write_all(&crc.sum().to_le_bytes())?;
            // The size modulo 2^32.
            out.write_all(&(raw.1 as u32).to_le_bytes())?;
            raw
        }
        Compression::Zstd { level } => run(threads, ZSTD_BLOCK, 0, input, &mut out, || frames(level))?.0,
    };
    out.flush()?;
    let (_, digest, size) = out.finish();
    Ok(Compressed { digest, size, diff_id: DiffId(diff_id), uncompressed_size })
}

fn copy(mut input: impl Read, out: &mut impl Write) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = super::tar::read(&mut input, &mut buffer)?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count])?;
        size += count as u64;
    }
}

/// One block on its way through the threads and back; its buffers are used again.
#[derive(Default)]
struct Block {
    raw: Vec<u8>,
    /// What was before it, as far as it may refer to it.
    dictionary: Vec<u8>,
    last: bool,
    compressed: Vec<u8>,
    crc: Crc,
}

type Sent = (Block, SyncSender<io::Result<Block>>);
type Compressor = Box<dyn FnMut(&mut Block) -> io::Result<()>>;

/// Reads blocks, has them compressed, and writes them in order; gives the digest and size of what
/// was read, and its CRC.
fn run(
    threads: usize,
    block_size: usize,
    window: usize,
    mut input: impl Read,
    out: &mut impl Write,
    compressor: impl Fn() -> io::Result<Compressor> + Sync,
) -> io::Result<((Digest, u64), Crc)> {
    let (jobs, queue) = sync_channel::<Sent>(threads);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        // Dropped first when this ends, whether well or not, which ends the threads.
        let jobs = jobs;
        for _ in 0..threads {
            std::thread::Builder::new()
                .name("compress".to_owned())
                .spawn_scoped(scope, || work(&queue, &compressor))?;
        }
        let mut hasher = Hasher::new();
        let mut size = 0;
        let mut crc = Crc::new();
        let mut waiting: VecDeque<Receiver<io::Result<Block>>> = VecDeque::new();
        let mut spare = Vec::new();
        let mut tail = Vec::new();
        let mut last = false;
        while !last || !waiting.is_empty() {
            if waiting.len() > threads + 1 || last {
                let done = waiting.pop_front().expect("the loop goes on while there are some");
                let block = done.recv().map_err(|_| ended())??;
                out.write_all(&block.compressed)?;
                crc.combine(&block.crc);
                spare.push(block);
            }
            if last {
                continue;
            }
            let mut block = spare.pop().unwrap_or_default();
            fill(&mut input, &mut block.raw, block_size)?;
            hasher.update(&block.raw);
            size += block.raw.len() as u64;
            last = block.raw.len() < block_size;
            block.last = last;
            std::mem::swap(&mut block.dictionary, &mut tail);
            tail.clear();
            tail.extend_from_slice(&block.raw[block.raw.len().saturating_sub(window)..]);
            // Behind full blocks zstd needs no empty frame; deflate needs the end of its member.
            if window == 0 && block.raw.is_empty() && size > 0 {
                continue;
            }
            let (result, receiver) = sync_channel(1);
            jobs.send((block, result)).map_err(|_| ended())?;
            waiting.push_back(receiver);
        }
        Ok(((hasher.finish(), size), crc))
    })
}

fn ended() -> io::Error {
    io::Error::other("a compressing thread ended early")
}

fn work(queue: &Mutex<Receiver<Sent>>, compressor: &impl Fn() -> io::Result<Compressor>) {
    let mut compressor = compressor();
    loop {
        // The lock is held while waiting: one thread waits for the next block, the others for it.
        let next = queue.lock().map(|queue| queue.recv());
        let Ok(Ok((mut block, result))) = next else { return };
        let done = match &mut compressor {
            Ok(compress) => compress(&mut block).map(|()| block),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let _ = result.send(done);
    }
}

/// Reads until `buffer` holds `size` bytes or the input ends.
fn fill(input: &mut impl Read, buffer: &mut Vec<u8>, size: usize) -> io::Result<()> {
    buffer.resize(size, 0);
    let mut filled = 0;
    while filled < size {
        match super::tar::read(input, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    buffer.truncate(filled);
    Ok(())
}

fn deflate(level: u32) -> io::Result<Compressor> {
    let mut state = Compress::new(flate2::Compression::new(level.clamp(1, 9)), false);
    Ok(Box::new(move |block| {
        state.reset();
        if !block.dictionary.is_empty() {
            state.set_dictionary(&block.dictionary).map_err(io::Error::other)?;
        }
        block.crc = Crc::new();
        block.crc.update(&block.raw);
        block.compressed.clear();
        block.compressed.reserve(block.raw.len() / 2 + 1024);
        let flush = if block.last { FlushCompress::Finish } else { FlushCompress::Sync };
        loop {
            let done = state.total_in() as usize;
            let status = state.compress_vec(&block.raw[done..], &mut block.compressed, flush);
            let status = status.map_err(io::Error::other)?;
            let room = block.compressed.capacity() > block.compressed.len();
            let read_all = state.total_in() as usize == block.raw.len();
            if status == Status::StreamEnd || (!block.last && read_all && room) {
                return Ok(());
            }
            block.compressed.reserve(64 * 1024);
        }
    }))
}

fn frames(level: i32) -> io::Result<Compressor> {
    let mut state = zstd::bulk::Compressor::new(level)?;
    Ok(Box::new(move |block| {
        block.compressed.clear();
        block.compressed.reserve(zstd::zstd_safe::compress_bound(block.raw.len()));
        state.compress_to_buffer(&block.raw, &mut block.compressed)?;
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::decompress::{Format, decompress};

    /// Bytes that compress about as programs do, with repetitions near and far.
    fn sample(size: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut bytes: Vec<u8> = Vec::with_capacity(size + 64);
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let back = (state >> 8) as usize % 50_000;
            if state.is_multiple_of(3) && back < bytes.len() {
                let from = bytes.len() - back - 1;
                let length = (state >> 40) as usize % 60;
                let copied: Vec<u8> = bytes[from..].iter().copied().take(length).collect();
                bytes.extend(copied);
            } else {
                bytes.extend(&state.to_le_bytes()[..(state as usize >> 60) % 8 + 1]);
            }
        }
        bytes.truncate(size);
        bytes
    }

    fn compressed(threads: usize, raw: &[u8], how: Compression) -> (Vec<u8>, Compressed) {
        let mut out = Vec::new();
        let made = compress_on(threads, raw, &mut out, how).unwrap();
        assert_eq!(made.digest, Digest::of(&out));
        assert_eq!(made.size, out.len() as u64);
        assert_eq!(made.diff_id.0, Digest::of(raw));
        assert_eq!(made.uncompressed_size, raw.len() as u64);
        (out, made)
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let all = sample(2 * ZSTD_BLOCK + 77_777);
        let sizes = [0, 1, GZIP_BLOCK - 1, GZIP_BLOCK, GZIP_BLOCK + 1, ZSTD_BLOCK, 2 * ZSTD_BLOCK, all.len()];
        for (how, format) in [
            (Compression::None, Format::Plain),
            (Compression::default(), Format::Gzip),
            (Compression::Gzip { level: 6 }, Format::Gzip),
            (Compression::Zstd { level: ZSTD_LEVEL }, Format::Zstd),
        ] {
            for size in sizes {
                let (out, _) = compressed(2, &all[..size], how);
                let (found, mut stream) = decompress(&out[..]).unwrap();
                // Nothing at all has no form.
                assert!(found == format || (size == 0 && how == Compression::None));
                let mut raw = Vec::new();
                stream.read_to_end(&mut raw).unwrap();
                assert!(raw == all[..size], "{how:?} {size}");
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_threads() {
        let raw = sample(4 * ZSTD_BLOCK + 5);
        for how in
            [Compression::default(), Compression::Zstd { level: ZSTD_LEVEL }, Compression::Zstd { level: 3 }]
        {
            let (one, _) = compressed(1, &raw, how);
            for threads in [2, 3, 7] {
                assert!(compressed(threads, &raw, how).0 == one, "{how:?}");
            }
        }
    }

    /// Digests of blobs stay the same until a block size, a level or a library changes.
    #[test]
    fn the_bytes_are_what_they_were() {
        let raw = sample(ZSTD_BLOCK + 99);
        insta::assert_snapshot!(compressed(2, &raw, Compression::default()).1.digest, @"sha256:9c2a8f3d78e7c0e8ee343e2b2bf90a7e71bb7756fb8e52c73be3975775339d3f");
        let zstd = Compression::Zstd { level: ZSTD_LEVEL };
        insta::assert_snapshot!(compressed(2, &raw, zstd).1.digest, @"sha256:3f44505f72b77b31aed84d9ae58de2a1994d434e414af88c63e26ec00d7578f8");
    }

    #[test]
    fn gzip_is_one_member_that_other_programs_take() {
        let raw = sample(GZIP_BLOCK * 2 + 10);
        let (out, _) = compressed(2, &raw, Compression::default());
        let mut single = Vec::new();
        flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut single).unwrap();
        assert!(single == raw);
        let dir = crate::layer::testing::scratch();
        let path = dir.path().join("layer.gz");
        std::fs::write(&path, &out).unwrap();
        if let Ok(tested) = std::process::Command::new("gzip").arg("-t").arg(&path).output() {
            assert!(tested.status.success() && tested.stderr.is_empty(), "{tested:?}");
        }
    }

    #[test]
    fn a_failing_reader_or_writer_ends_it() {
        struct Fails(usize);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("gone"))?;
                buffer.fill(1);
                Ok(buffer.len())
            }
        }
        impl Write for Fails {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("full"))?;
                Ok(buffer.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for how in [Compression::default(), Compression::Zstd { level: 1 }] {
            let error = compress(Fails(9), io::sink(), how).unwrap_err();
            assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "gone");
            let error = compress(io::repeat(0).take(1 << 26), Fails(3), how).unwrap_err();
            assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "full");
        }
    }
}
