//! Layers from outside: pulled, loaded, imported.
//!
//! One pass over the stream: one thread hashes it and keeps it as a blob, a second one
//! decompresses and hashes what comes out, a third one makes the index. Nothing is visible before
//! all digests are right. The layer's identity is its diff ID.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::base::digest::{DiffId, Digest, HashingReader, HashingWriter, LayerId};
use crate::layer::decompress::decompress;
use crate::layer::from_tar::index_tar;
use crate::layer::index::Index;

use super::content::copy;
use super::layer::NewLayer;
use super::{Original, Store, StoreError};

/// How much is handed from thread to thread at once, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

/// What a stream from outside must be, as far as that is known.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// What messages call it: `layer sha256:… of archive.tar`.
    pub what: String,
    /// Its digest as it comes.
    pub digest: Option<Digest>,
    /// Its size as it comes, in bytes.
    pub size: Option<u64>,
    /// Its uncompressed digest.
    pub diff_id: Option<DiffId>,
}

impl Store {
    /// Keeps a layer from outside byte for byte. One that is there already is not read.
    pub fn ingest(&self, stream: impl Read + Send, expected: &Expected) -> Result<LayerId, StoreError> {
        if let Some(diff_id) = expected.diff_id {
            let id = LayerId(diff_id.0);
            let there = self.layer(id)?;
            let blob = there.and_then(|layer| layer.blob);
            if let Some(blob) = blob
                && self.blob(blob)?.is_some_and(|blob| blob.path.exists())
            {
                return Ok(id);
            }
        }
        let temp = self.temp_file()?;
        let (digest, size, unpacked) = {
            let limit = expected.size.unwrap_or(u64::MAX - 1);
            let mut from = stream.take(limit + 1);
            let mut blob = HashingWriter::new(&temp.file);
            let unpacked = pass(&mut from, &mut blob).map_err(|stop| stop.named(expected))?;
            let (_, digest, size) = blob.finish();
            (digest, size, unpacked)
        };
        expected.check(digest, size, unpacked.as_ref().ok().map(|(diff_id, _)| *diff_id))?;
        let (diff_id, index) = unpacked.map_err(|stop| stop.named(expected))?;
        let id = LayerId(diff_id.0);
        self.adopt_blob(temp, digest, size)?;
        let new = NewLayer {
            id,
            original: Original::Blob,
            blob: Some(digest),
            diff_id: Some(diff_id),
            run: None,
            index: &index,
        };
        self.commit(self.prepare()?, new)?;
        Ok(id)
    }
}

/// Why the pass over a stream stopped.
enum Stop {
    Read(io::Error),
    Stream(Box<dyn std::error::Error + Send + Sync>),
}

impl Stop {
    fn named(self, expected: &Expected) -> StoreError {
        let what = expected.what.clone();
        match self {
            Self::Read(source) => StoreError::Read { what, source },
            Self::Stream(source) => StoreError::Stream { what, source },
        }
    }
}

impl Expected {
    fn check(&self, digest: Digest, size: u64, diff_id: Option<DiffId>) -> Result<(), StoreError> {
        let wrong = |expected, got| StoreError::Digest { what: self.what.clone(), expected, got };
        if let Some(expected) = self.size
            && expected != size
        {
            return Err(StoreError::Size { what: self.what.clone(), expected, got: size });
        }
        match (self.digest, self.diff_id, diff_id) {
            (Some(expected), _, _) if expected != digest => Err(wrong(expected, digest)),
            (_, Some(expected), Some(got)) if expected != got => Err(StoreError::Digest {
                what: format!("{} uncompressed", self.what),
                expected: expected.0,
                got: got.0,
            }),
            _ => Ok(()),
        }
    }
}

/// What the uncompressed side of the pass came to.
type Unpacked = Result<(DiffId, Index), Stop>;

/// Sends everything from `from` to `blob` and through decompression. An error of the uncompressed
/// side is kept for later, so that a wrong digest of the whole is told first.
fn pass(from: &mut dyn Read, blob: &mut dyn Write) -> Result<Unpacked, Stop> {
    let (to_inflate, compressed) = channel();
    let (to_index, uncompressed) = channel();
    std::thread::scope(|scope| {
        let inflate = scope.spawn(move || inflate(compressed, to_index));
        let index = scope.spawn(move || {
            let mut stream = uncompressed;
            let index = index_tar(&mut stream).map_err(|error| Stop::Stream(Box::new(error)))?;
            // What follows the end of the archive counts for the digest.
            copy(&mut stream, &mut io::sink()).map_err(Stop::Read)?;
            Ok(index)
        });
        let read = feed(from, blob, to_inflate);
        let diff_id = inflate.join().map_err(|_| panicked("decompressing"));
        let index = index.join().map_err(|_| panicked("indexing"));
        read?;
        // A stream that cannot be decompressed is why its index is broken, if both are.
        Ok(diff_id.flatten().and_then(|diff_id| Ok((diff_id, index.flatten()?))))
    })
}

fn panicked(doing: &str) -> Stop {
    Stop::Stream(format!("{doing} it panicked").into())
}

fn feed(from: &mut dyn Read, blob: &mut dyn Write, pieces: PieceWriter) -> Result<(), Stop> {
    let mut pieces = Some(pieces);
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        from.take(PIECE as u64).read_to_end(&mut piece).map_err(Stop::Read)?;
        if piece.is_empty() {
            return Ok(());
        }
        blob.write_all(&piece).map_err(Stop::Read)?;
        // Nobody listens any more if the other side failed; the blob's digest still counts.
        if pieces.as_ref().is_some_and(|pieces| pieces.0.send(piece).is_err()) {
            pieces = None;
        }
    }
}

fn inflate(compressed: PieceReader, mut to: PieceWriter) -> Result<DiffId, Stop> {
    let (_, stream) = decompress(compressed).map_err(|error| Stop::Stream(Box::new(error)))?;
    let mut stream = HashingReader::new(stream);
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut stream).take(PIECE as u64).read_to_end(&mut piece);
        read.map_err(|error| Stop::Stream(Box::new(error)))?;
        if piece.is_empty() {
            break;
        }
        // An index that failed does not spare the digest.
        let _ = to.write_piece(piece);
    }
    Ok(DiffId(stream.finish().1))
}

struct PieceWriter(SyncSender<Vec<u8>>);

impl PieceWriter {
    fn write_piece(&mut self, piece: Vec<u8>) -> Result<(), ()> {
        self.0.send(piece).map_err(|_| ())
    }
}

/// Reads what is sent piece by piece.
struct PieceReader {
    pieces: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

fn channel() -> (PieceWriter, PieceReader) {
    let (sender, pieces) = mpsc::sync_channel(PIECES);
    (PieceWriter(sender), PieceReader { pieces, current: Vec::new(), at: 0 })
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            let Ok(piece) = self.pieces.recv() else { return Ok(0) };
            (self.current, self.at) = (piece, 0);
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..][..count]);
        self.at += count;
        Ok(count)
    }
}
