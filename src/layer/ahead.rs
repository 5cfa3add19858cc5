//! Reading beside other work: what makes the bytes of a stream (decompression, most of all) and
//! what uses them each get a core.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use super::tar::read;

const PIECE: usize = 256 * 1024;
/// How many pieces may wait to be used.
const WAITING: usize = 4;

type Piece = io::Result<Vec<u8>>;

/// Calls `use_it` with a reader that gives what `stream` gives, read by another thread.
pub(crate) fn read_ahead<T>(
    mut stream: impl Read + Send,
    use_it: impl FnOnce(&mut dyn Read) -> T,
) -> io::Result<T> {
    let mut first = Vec::with_capacity(PIECE);
    stream.by_ref().take(PIECE as u64).read_to_end(&mut first)?;
    if first.len() < PIECE {
        return Ok(use_it(&mut &first[..]));
    }
    let (full, pieces) = sync_channel(WAITING);
    let (give_back, empty) = sync_channel(WAITING + 2);
    std::thread::scope(|scope| {
        Builder::new()
            .name("read ahead".to_owned())
            .spawn_scoped(scope, move || fill(stream, &full, &empty))?;
        // Dropped before the thread is waited for, which ends it where not all was read.
        let mut ahead = Ahead { pieces, give_back, piece: first, used: 0 };
        Ok(use_it(&mut ahead))
    })
}

fn fill(mut stream: impl Read, full: &SyncSender<Piece>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let result = read(&mut stream, &mut piece).map(|count| {
            piece.truncate(count);
            piece
        });
        let last = result.as_ref().map_or(true, Vec::is_empty);
        if full.send(result).is_err() || last {
            return;
        }
    }
}

struct Ahead {
    pieces: Receiver<Piece>,
    give_back: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    used: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let _ = self.give_back.try_send(std::mem::replace(&mut self.piece, next?));
            self.used = 0;
        }
        let count = buffer.len().min(self.piece.len() - self.used);
        buffer[..count].copy_from_slice(&self.piece[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_or_the_error_arrive() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 9 * PIECE + 5] {
            let bytes: Vec<u8> = (0..size).map(|at| (at / 7) as u8).collect();
            let copy = read_ahead(&bytes[..], |stream| {
                let mut copy = Vec::new();
                stream.read_to_end(&mut copy).map(|_| copy)
            });
            assert!(copy.unwrap().unwrap() == bytes);
        }
    }

    #[test]
    fn errors_arrive_and_unread_streams_end() {
        struct Fails(u32);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("gone"))?;
                Ok(buffer.len())
            }
        }
        let result = read_ahead(Fails(100), |stream| io::copy(stream, &mut io::sink()));
        assert_eq!(result.unwrap().unwrap_err().to_string(), "gone");
        assert_eq!(read_ahead(io::repeat(1), |stream| stream.read(&mut [0; 5]).unwrap()).unwrap(), 5);
    }
}
