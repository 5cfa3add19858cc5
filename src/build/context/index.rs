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

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
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

    /// The bytes of row `place`.
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

/// One row of an index to be written.
pub(super) enum Kept<'a> {
    /// What is known of the file at `path`.
    Known { path: &'a [u8], status: &'a Status, known: &'a Known },
    /// A row of another index.
    Carried { index: &'a Index, place: usize },
}

/// Tells all rows in component order, the same ones each time, to whoever takes them.
pub(super) type Rows<'a> = &'a dyn Fn(&mut dyn FnMut(Kept<'_>) -> io::Result<()>) -> io::Result<()>;

/// Puts an index of `rows` in the place of the one at `path`. The rows are asked for twice, so
/// that the index is never in memory. What is beyond the form's 4 GiB of names is left out.
pub(super) fn write(path: &Path, rows: Rows<'_>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    let mut out = Sum { out: BufWriter::new(file.as_file_mut()), crc: flate2::Crc::new() };
    out.out.write_all(&[0; HEADER])?;
    let (mut count, mut names) = (0, 0);
    rows(&mut |row| match row.encode(names) {
        Some((row, behind)) => {
            count += 1;
            names = behind;
            out.write_all(&row)
        }
        None => Ok(()),
    })?;
    let mut written = 0;
    rows(&mut |row| match row.encode(written) {
        Some((_, behind)) => {
            written = behind;
            row.names().iter().try_for_each(|name| out.write_all(name))
        }
        None => Ok(()),
    })?;
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&u64::to_le_bytes(count));
    header[16..24].copy_from_slice(&u64::from(names).to_le_bytes());
    header[24..28].copy_from_slice(&out.crc.sum().to_le_bytes());
    out.out.seek(SeekFrom::Start(0))?;
    out.out.write_all(&header)?;
    out.out.flush()?;
    drop(out);
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

impl Kept<'_> {
    /// The path and the attributes.
    fn names(&self) -> [Cow<'_, [u8]>; 2] {
        match self {
            Self::Known { path, known, .. } => [Cow::Borrowed(*path), Cow::Owned(known.attributes.encode())],
            Self::Carried { index, place } => {
                let row = index.row(*place);
                let attributes = index.name(u32_at(row, 8), u32_at(row, 12));
                [Cow::Borrowed(index.path(*place)), Cow::Borrowed(attributes)]
            }
        }
    }

    /// The row if its names start at `names`, and where the next one's start.
    fn encode(&self, names: u32) -> Option<([u8; ROW], u32)> {
        let mut row = match self {
            Self::Known { status, known, .. } => encode(status, known),
            Self::Carried { index, place } => index.row(*place).try_into().expect("a row's length"),
        };
        let mut start = names;
        for (name, at) in self.names().iter().zip([0, 8]) {
            let length = u32::try_from(name.len()).ok()?;
            row[at..at + 4].copy_from_slice(&start.to_le_bytes());
            row[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
            start = start.checked_add(length)?;
        }
        Some((row, start))
    }
}

/// A row without its names.
fn encode(status: &Status, known: &Known) -> [u8; ROW] {
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
    row
}

/// Keeps the checksum of what passes.
struct Sum<'a> {
    out: BufWriter<&'a mut File>,
    crc: flate2::Crc,
}

impl Sum<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes)
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
