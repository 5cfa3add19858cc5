//! Hashing beside other work: SHA-256 takes longer than reading and writing, and a core of its
//! own hides it.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::base::digest::{Digest, Hasher};

const PIECE: usize = 256 * 1024;
/// How many pieces may wait for the thread.
const WAITING: usize = 4;

/// A running SHA-256 that moves to a thread of its own once it has seen more than 256 KiB.
pub struct BackgroundHasher {
    piece: Vec<u8>,
    thread: Option<Thread>,
}

struct Thread {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    handle: JoinHandle<Hasher>,
}

impl Default for BackgroundHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl BackgroundHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self { piece: Vec::new(), thread: None }
    }

    /// Adds `bytes`.
    pub fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.piece.len() == PIECE {
                self.hand_over()?;
            }
            let count = bytes.len().min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(Thread::start()?),
        };
        let mut fresh = thread.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        fresh.clear();
        let piece = std::mem::replace(&mut self.piece, fresh);
        let sent = match thread.full.try_send(piece) {
            Err(TrySendError::Full(piece)) => thread.full.send(piece).is_ok(),
            other => other.is_ok(),
        };
        if sent { Ok(()) } else { Err(io::Error::other("the hashing thread ended early")) }
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        let mut hasher = match self.thread {
            Some(Thread { full, empty: _, handle }) => {
                drop(full);
                handle.join().expect("hashing does not panic")
            }
            None => Hasher::new(),
        };
        hasher.update(&self.piece);
        hasher.finish()
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (full, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let (give_back, empty) = channel();
        let handle = Builder::new().name("hash".to_owned()).spawn(move || {
            let mut hasher = Hasher::new();
            for piece in pieces {
                hasher.update(&piece);
                let _ = give_back.send(piece);
            }
            hasher
        })?;
        Ok(Self { full, empty, handle })
    }
}

/// Hashes and counts what is written through it, beside the writing.
pub struct BackgroundWriter<W> {
    inner: W,
    hasher: BackgroundHasher,
    written: u64,
}

impl<W: Write> BackgroundWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: BackgroundHasher::new(), written: 0 }
    }

    /// The inner writer, the digest of what passed, and its size in bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for BackgroundWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count])?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what is read through it, beside the reading.
pub struct BackgroundReader<R> {
    inner: R,
    hasher: BackgroundHasher,
}

impl<R: Read> BackgroundReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: BackgroundHasher::new() }
    }

    /// The digest of what passed.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for BackgroundReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_bytes() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 12 * PIECE + 17] {
            let bytes: Vec<u8> = (0..size).map(|at| (at / 3) as u8).collect();
            let mut writer = BackgroundWriter::new(Vec::new());
            bytes.chunks(10_007).for_each(|chunk| writer.write_all(chunk).unwrap());
            let (copy, digest, written) = writer.finish();
            assert!(copy == bytes && written == size as u64);
            assert_eq!(digest, Digest::of(&bytes));
            let mut reader = BackgroundReader::new(&bytes[..]);
            io::copy(&mut reader, &mut io::sink()).unwrap();
            assert_eq!(reader.finish(), digest);
        }
    }
}
