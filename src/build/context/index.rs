//! The index of the last scan: what the files of a context held, one flat file.
//!
//! ```text
//! magic and version   8 bytes
//! rows                8   how many
//! names               8   how many bytes
//! CRC-32              4   over everything behind the header
//! zero                4
//! row                 96 bytes each, in component order of their paths
//!   path 4+4 (start, length), attributes 4+4, mode 4, mtime ns 4, ctime ns 4, zero 4,
//!   size 8, inode 8, mtime 8, ctime 8, SHA-256 32
//! names               paths and extended attributes
//! ```
//!
//! Numbers are little-endian. Only regular files have rows. The file is written under another
//! name and renamed; one that is not whole, or of another version, counts as absent. It holds
//! nothing that cannot be found again by reading the files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::base::clock::Time;
use crate::base::digest::Digest;
use crate::base::sys::Mapped;
use crate::layer::entry::compare_paths;

use super::hash::{Attributes, Known};
use super::table::Status;

const MAGIC: [u8; 8] = *b"KILNCTX\x01";
const HEADER: usize = 32;
const ROW: usize = 96;

/// A mapped index.
pub(super) struct Index {
    map: Mapped,
    rows: usize,
}

impl Index {
    /// The index at `path`, or `None` where there is none that is whole.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let map = Mapped::new(&File::open(path).ok()?).ok()?;
        let header = map.get(..HEADER)?;
        if header[..8] != MAGIC {
            return None;
        }
        let rows = usize::try_from(u64_at(header, 8)).ok()?;
        let names = usize::try_from(u64_at(header, 16)).ok()?;
        let length = rows.checked_mul(ROW)?.checked_add(names)?.checked_add(HEADER)?;
        if map.len() != length || checksum(&map[HEADER..]) != u32_at(header, 24) {
            return None;
        }
        Some(Self { map, rows })
    }

    /// How many files it knows.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The path of the file in row `place`.
    pub(super) fn path(&self, place: usize) -> &[u8] {
        let row = self.row(place);
        self.name(u32_at(row, 0), u32_at(row, 4))
    }

    /// The row of `path` at or behind `next`, which is moved there.
    pub(super) fn seek(&self, next: &mut usize, path: &[u8]) -> Option<usize> {
        while *next < self.rows {
            let here = self.path(*next);
            if here == path {
                *next += 1;
                return Some(*next - 1);
            }
            if compare_paths(here, path).is_gt() {
                return None;
            }
            *next += 1;
        }
        None
    }

    /// What is known of the file in row `place` if it still has this status.
    pub(super) fn known(&self, place: usize, status: &Status) -> Option<Known> {
        let row = self.row(place);
        let same = u32_at(row, 16) == status.mode
            && u64_at(row, 32) == status.size
            && u64_at(row, 40) == status.inode
            && time_at(row, 48, 20) == status.mtime
            && time_at(row, 56, 24) == status.ctime;
        if !same {
            return None;
        }
        let digest = row[64..96].try_into().expect("32 bytes");
        let attributes = Attributes::decode(self.name(u32_at(row, 8), u32_at(row, 12)))?;
        Some(Known { digest: Digest::from_bytes(digest), attributes, lasting: true })
    }

    /// The bytes of row `place`, for carrying it over.
    fn row(&self, place: usize) -> &[u8] {
        &self.map[HEADER + place * ROW..][..ROW]
    }

    /// A range of the names; empty if it is out of bounds, which only a wrong writer makes.
    fn name(&self, start: u32, length: u32) -> &[u8] {
        let names = &self.map[HEADER + self.rows * ROW..];
        let end = (start as usize).saturating_add(length as usize);
        names.get(start as usize..end).unwrap_or_default()
    }
}

/// Collects rows in component order and writes them.
#[derive(Default)]
pub(super) struct IndexWriter {
    rows: Vec<u8>,
    names: Vec<u8>,
}

impl IndexWriter {
    /// Adds what is known of the file at `path`. Files are left out once there are too many
    /// names for the form.
    pub(super) fn push(&mut self, path: &[u8], status: &Status, known: &Known) {
        let mut row = [0; ROW];
        let mut put = |at: usize, bytes: &[u8]| row[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &status.mode.to_le_bytes());
        put(20, &status.mtime.nanoseconds.to_le_bytes());
        put(24, &status.ctime.nanoseconds.to_le_bytes());
        put(32, &status.size.to_le_bytes());
        put(40, &status.inode.to_le_bytes());
        put(48, &status.mtime.seconds.to_le_bytes());
        put(56, &status.ctime.seconds.to_le_bytes());
        put(64, known.digest.as_bytes());
        self.add(row, path, &known.attributes.encode());
    }

    /// Adds row `place` of another index.
    pub(super) fn carry(&mut self, index: &Index, place: usize) {
        let row = index.row(place);
        let attributes = index.name(u32_at(row, 8), u32_at(row, 12));
        self.add(row.try_into().expect("a row's length"), index.path(place), attributes);
    }

    fn add(&mut self, mut row: [u8; ROW], path: &[u8], attributes: &[u8]) {
        if self.names.len() + path.len() + attributes.len() > u32::MAX as usize {
            return;
        }
        let mut at = 0;
        for text in [path, attributes] {
            row[at..at + 4].copy_from_slice(&(self.names.len() as u32).to_le_bytes());
            row[at + 4..at + 8].copy_from_slice(&(text.len() as u32).to_le_bytes());
            self.names.extend_from_slice(text);
            at += 8;
        }
        self.rows.extend_from_slice(&row);
    }

    /// Puts the index in the place of the one at `path`.
    pub(super) fn write(self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&((self.rows.len() / ROW) as u64).to_le_bytes());
        header[16..24].copy_from_slice(&(self.names.len() as u64).to_le_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&self.rows);
        crc.update(&self.names);
        header[24..28].copy_from_slice(&crc.sum().to_le_bytes());
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        let mut out = BufWriter::new(file.as_file_mut());
        for piece in [&header[..], &self.rows, &self.names] {
            out.write_all(piece)?;
        }
        out.flush()?;
        drop(out);
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn time_at(bytes: &[u8], seconds: usize, nanoseconds: usize) -> Time {
    Time { seconds: u64_at(bytes, seconds) as i64, nanoseconds: u32_at(bytes, nanoseconds) }
}
