//! Files that a foreign tar stores without their holes, read with them.

use std::io::{self, Read};

/// Where the data of a file is: offset and length of each piece, in order, apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pieces: Vec<(u64, u64)>,
    size: u64,
}

impl Map {
    /// A map whose pieces are in order, do not overlap, end within `size`, and hold `stored`
    /// bytes together; the error says what is wrong with it.
    pub fn new(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self, &'static str> {
        let mut end = 0;
        let mut held = 0u64;
        for (offset, length) in &pieces {
            if *offset < end {
                return Err("the pieces of its sparse map overlap");
            }
            end = offset
                .checked_add(*length)
                .filter(|end| *end <= size)
                .ok_or("its sparse map leads out of it")?;
            held += length;
        }
        if held != stored {
            return Err("its sparse map is of another size than its data");
        }
        Ok(Self { pieces, size })
    }

    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Reads a file of the size that its map says out of its stored data.
pub(crate) struct Expanded<'a, R> {
    stored: &'a mut R,
    map: &'a Map,
    next: usize,
    at: u64,
}

impl<'a, R: Read> Expanded<'a, R> {
    pub fn new(stored: &'a mut R, map: &'a Map) -> Self {
        Self { stored, map, next: 0, at: 0 }
    }
}

impl<R: Read> Read for Expanded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.map.pieces.get(self.next).is_some_and(|(offset, length)| offset + length <= self.at) {
            self.next += 1;
        }
        let (start, end) =
            self.map.pieces.get(self.next).map_or((self.map.size, self.map.size), |(o, l)| (*o, o + l));
        let until = if self.at < start { start } else { end };
        let room = (until - self.at).min(buffer.len() as u64) as usize;
        let count = if self.at < start {
            buffer[..room].fill(0);
            room
        } else {
            self.stored.read(&mut buffer[..room])?
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros() {
        for (pieces, size, expected) in [
            (vec![], 5, &b"\0\0\0\0\0"[..]),
            (vec![(0, 3)], 3, b"abc"),
            (vec![(1, 1), (2, 0), (4, 2)], 8, b"\0a\0\0bc\0\0"),
            (vec![(0, 1), (1, 2), (5, 0)], 5, b"abc\0\0"),
            (vec![], 0, b""),
        ] {
            let stored = pieces.iter().map(|(_, length)| *length).sum::<u64>();
            let map = Map::new(pieces, size, stored).unwrap();
            let mut all = Vec::new();
            Expanded::new(&mut &b"abc"[..], &map).read_to_end(&mut all).unwrap();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn maps_that_cannot_be() {
        for (pieces, size, stored) in [
            (vec![(2, 2), (1, 1)], 9, 3),
            (vec![(0, 2), (1, 1)], 9, 3),
            (vec![(8, 2)], 9, 2),
            (vec![(u64::MAX, 2)], 9, 2),
            (vec![(0, 2)], 9, 3),
        ] {
            assert!(Map::new(pieces, size, stored).is_err());
        }
    }
}
