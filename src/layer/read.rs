//! Reads tars from anywhere: layers of other tools, and archives that a build adds.
//!
//! Takes ustar, PAX, GNU and v7 headers in any mixture, and hands each entry with its content to
//! a [`TarSink`]. Paths are made relative and plain: `./`, a leading and doubled `/` are dropped,
//! `..` is refused. Files named `.wh.NAME`, and character devices 0/0, come out as whiteouts,
//! `.wh..wh..opq` as the opaque mark of its directory (OCI layer.md, "Whiteouts"); other names
//! that begin with `.wh..wh.` are leftovers of an old file system and dropped. Only files have
//! content, whatever size another entry claims. Global PAX headers are skipped. Everything is
//! bounded: extensions 1 MiB, entries 4 million, holes that a sparse map makes 64 GiB for the
//! whole archive. The stream is read to its end, also behind the archive's end mark, so that a
//! digest over it is whole.

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::base::clock::Time;

pub use super::from_tar::index_tar;

use super::entry::{name, parent, path_fault};
use super::error::shown;
use super::header::{Fields, checksum_fits, unsigned};
use super::holes::{Expanded, Map};
use super::pax::{self, Overrides};
use super::tar::{BLOCK, OPAQUE_NAME, WHITEOUT_PREFIX, joined, read};
use super::{LayerError, Result};

const LARGEST_EXTENSION: u64 = 1 << 20;
const MOST_ENTRIES: u64 = 4_000_000;
const MOST_HOLES: u64 = 64 << 30;
const MOST_PIECES: usize = 1 << 20;
/// Before the names of the marks that only the file system which made them knows.
const MARK_PREFIX: &[u8] = b".wh..wh.";
const LARGEST_MAJOR: u64 = 0xfff;
const LARGEST_MINOR: u64 = 0xf_ffff;

/// One entry of a foreign tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// As [`Entry::path`](super::entry::Entry::path).
    pub path: Vec<u8>,
    /// At most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// With its fraction, where the tar has one.
    pub mtime: Time,
    /// Those that belong to a layer, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is.
    pub kind: TarKind,
}

/// What an entry of a foreign tar is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarKind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Where its content begins in the stream; `None` if it is stored without its holes.
        offset: Option<u64>,
    },
    /// A directory.
    Directory,
    /// A symbolic link, with its target as written.
    Symlink(Vec<u8>),
    /// Another name of the entry at this path, which came before.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// What the layers below have at this path is gone.
    Whiteout,
    /// What the layers below have in the directory of this path is gone.
    Opaque,
}

/// Takes the entries of a tar in the order in which they come.
pub trait TarSink {
    /// Takes one entry; `data` gives the content of a file and nothing for others. What is not
    /// read is skipped.
    fn entry(&mut self, entry: TarEntry, data: &mut dyn Read) -> Result<()>;
}

/// Reads the tar `stream` to its end and hands its entries to `sink`.
pub fn read_tar(stream: impl Read, sink: &mut dyn TarSink) -> Result<()> {
    let mut tar = Reader { stream, position: 0, holes: 0 };
    let mut extensions = Extensions::default();
    let mut entries = 0;
    while let Some(header) = tar.header()? {
        let fields = Fields::parse(&header).map_err(|why| tar.damaged(why))?;
        match fields.kind {
            b'x' => extensions.pax = Some(tar.pax(fields.size)?),
            b'g' => tar.skip(padded(fields.size))?,
            b'L' => extensions.path = Some(tar.long_text(fields.size)?),
            b'K' => extensions.link = Some(tar.long_text(fields.size)?),
            _ => {
                entries += 1;
                if entries > MOST_ENTRIES {
                    return Err(tar.damaged("it has more than 4,000,000 entries"));
                }
                tar.entry(&header, fields, std::mem::take(&mut extensions), sink)?;
            }
        }
    }
    tar.drain()
}

/// What the headers before an entry's own say about it.
#[derive(Default)]
struct Extensions {
    pax: Option<Overrides>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

struct Reader<R> {
    stream: R,
    position: u64,
    /// Bytes of holes in all files so far.
    holes: u64,
}

/// The content of one entry.
struct Data<'a, R> {
    tar: &'a mut Reader<R>,
    left: u64,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.left.min(buffer.len() as u64) as usize;
        if room == 0 {
            return Ok(0);
        }
        let count = self.tar.stream.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside a file"));
        }
        self.left -= count as u64;
        self.tar.position += count as u64;
        Ok(count)
    }
}

impl<R: Read> Reader<R> {
    fn damaged(&self, why: &'static str) -> LayerError {
        LayerError::Archive { offset: self.position, why }
    }

    /// Fills `buffer`, or tells how much there was before the end.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match read(&mut self.stream, &mut buffer[filled..])
                .map_err(|source| LayerError::Stream { source })?
            {
                0 => break,
                count => filled += count,
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    fn fill_all(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.fill(buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(self.damaged("it ends too early")),
        }
    }

    /// The next header; `None` at the end mark, or where the stream ends without one.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(self.damaged("it ends inside a header")),
        }
        if block == [0; BLOCK] {
            let count = self.fill(&mut block)?;
            return match block[..count].iter().all(|byte| *byte == 0) {
                true => Ok(None),
                false => Err(self.damaged("it goes on behind a block of zeros")),
            };
        }
        if !checksum_fits(&block) {
            let why =
                if self.position == BLOCK as u64 { "it is no tar" } else { "a header has a wrong checksum" };
            return Err(self.damaged(why));
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        Ok(Some(header))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let skipped = io::copy(&mut self.stream.by_ref().take(count), &mut io::sink())
            .map_err(|source| LayerError::Stream { source })?;
        self.position += skipped;
        if skipped == count { Ok(()) } else { Err(self.damaged("it ends too early")) }
    }

    fn drain(mut self) -> Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop).map_err(|source| LayerError::Stream { source })
    }

    /// The content of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > LARGEST_EXTENSION {
            return Err(self.damaged("an extension header is larger than 1 MiB"));
        }
        let mut bytes = vec![0; padded(size) as usize];
        self.fill_all(&mut bytes)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn pax(&mut self, size: u64) -> Result<Overrides> {
        let bytes = self.extension(size)?;
        pax::parse(&bytes).map_err(|why| self.damaged(why))
    }

    fn long_text(&mut self, size: u64) -> Result<Vec<u8>> {
        let bytes = self.extension(size)?;
        Ok(super::header::text(&bytes).to_vec())
    }

    fn entry(
        &mut self,
        header: &Header,
        fields: Fields,
        extensions: Extensions,
        sink: &mut dyn TarSink,
    ) -> Result<()> {
        let pax = extensions.pax.unwrap_or_default();
        let raw = pax.sparse.name.as_ref().or(pax.path.as_ref()).or(extensions.path.as_ref());
        let raw = raw.unwrap_or(&fields.path);
        let path = plain_path(raw)?;
        let mut stored = 0;
        let mut map = None;
        let kind = match fields.kind {
            b'0' | b'7' | 0 | b'S' => {
                stored = pax.size.unwrap_or(fields.size);
                let whole = stored;
                map = self.sparse_map(header, fields.kind, &pax.sparse, &mut stored)?;
                match &map {
                    // Writers before ustar knew directories by their name alone.
                    _ if raw.ends_with(b"/") => TarKind::Directory,
                    Some(map) => TarKind::File { size: map.size(), offset: None },
                    None => TarKind::File { size: whole, offset: Some(self.position) },
                }
            }
            _ => {
                let link = pax.link.as_ref().or(extensions.link.as_ref()).unwrap_or(&fields.link);
                kind_without_content(&path, &fields, link)?
            }
        };
        let owner = |id: u64| {
            u32::try_from(id)
                .map_err(|_| LayerError::entry(&path, "its owner or group is larger than owners are"))
        };
        let (uid, gid) = (owner(pax.uid.unwrap_or(fields.uid))?, owner(pax.gid.unwrap_or(fields.gid))?);
        let mtime = pax.mtime.unwrap_or(fields.mtime);
        let entry = TarEntry { path, mode: fields.mode, uid, gid, mtime, xattrs: pax.xattrs, kind };
        self.hand_over(entry, stored, map.as_ref(), sink)
    }

    /// Gives an entry to the sink and goes to the next header.
    fn hand_over(
        &mut self,
        entry: TarEntry,
        stored: u64,
        map: Option<&Map>,
        sink: &mut dyn TarSink,
    ) -> Result<()> {
        // The size itself may be near the largest number there is.
        let padding = padded(stored % BLOCK as u64) - stored % BLOCK as u64;
        let mut data = Data { tar: self, left: stored };
        if let Some(entry) = whiteout(entry)? {
            match (&entry.kind, map) {
                (TarKind::File { .. }, Some(map)) => sink.entry(entry, &mut Expanded::new(&mut data, map))?,
                (TarKind::File { .. }, None) => sink.entry(entry, &mut data)?,
                _ => sink.entry(entry, &mut io::empty())?,
            }
        }
        let left = data.left;
        self.skip(left)?;
        self.skip(padding)
    }

    /// The map of a file stored without its holes. What it reads of the data to find it is taken
    /// off `stored`.
    fn sparse_map(
        &mut self,
        header: &Header,
        kind: u8,
        sparse: &pax::Sparse,
        stored: &mut u64,
    ) -> Result<Option<Map>> {
        let (pieces, size) = if kind == b'S' {
            let gnu = header.as_gnu().ok_or_else(|| self.damaged("a sparse file has no GNU header"))?;
            let size = unsigned(&gnu.realsize)
                .ok_or_else(|| self.damaged("the size of a sparse file is no number"))?;
            let mut pieces = Vec::new();
            self.add_pieces(&gnu.sparse, &mut pieces)?;
            let mut more = gnu.is_extended();
            while more {
                let mut block = GnuExtSparseHeader::new();
                self.fill_all(block.as_mut_bytes())?;
                self.add_pieces(block.sparse(), &mut pieces)?;
                more = block.is_extended();
            }
            (pieces, size)
        } else if sparse.is_sparse() {
            let size = sparse.size.ok_or_else(|| self.damaged("a sparse file has no size"))?;
            let numbers = if sparse.in_data { self.map_in_data(stored)? } else { sparse.map.clone() };
            (numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(), size)
        } else {
            return Ok(None);
        };
        self.holes = self.holes.saturating_add(size.saturating_sub(*stored));
        if self.holes > MOST_HOLES {
            return Err(self.damaged("its sparse files have more than 64 GiB of holes"));
        }
        Map::new(pieces, size, *stored).map(Some).map_err(|why| self.damaged(why))
    }

    fn add_pieces(&self, headers: &[GnuSparseHeader], pieces: &mut Vec<(u64, u64)>) -> Result<()> {
        let number = |field| unsigned(field).ok_or_else(|| self.damaged("a sparse map holds no numbers"));
        for header in headers.iter().filter(|header| !header.is_empty()) {
            pieces.push((number(&header.offset)?, number(&header.numbytes)?));
        }
        if pieces.len() > MOST_PIECES {
            return Err(self.damaged("a sparse map has more than 1,048,576 pieces"));
        }
        Ok(())
    }

    /// The map at the beginning of a file's data: decimal numbers on lines of their own, first
    /// how many pairs there are, filled up to a whole block.
    fn map_in_data(&mut self, stored: &mut u64) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            *stored =
                stored.checked_sub(BLOCK as u64).ok_or_else(|| self.damaged("a sparse map is cut off"))?;
            self.fill_all(&mut block)?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number =
                    pax::number(&line).ok_or_else(|| self.damaged("a sparse map holds no numbers"))?;
                line.clear();
                numbers.push(number);
                if numbers.len() == 1 {
                    let pairs = usize::try_from(number).ok().filter(|pairs| *pairs <= MOST_PIECES);
                    wanted = 1 + 2 * pairs
                        .ok_or_else(|| self.damaged("a sparse map has more than 1,048,576 pieces"))?;
                }
                if numbers.len() == wanted {
                    break;
                }
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }
}

/// `size` up to the next whole block.
fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

/// A path of a foreign tar as an entry has it.
fn plain_path(raw: &[u8]) -> Result<Vec<u8>> {
    let components: Vec<&[u8]> =
        raw.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")).collect();
    if components.contains(&&b".."[..]) {
        return Err(LayerError::entry(raw, "it leads out of its directory by `..`"));
    }
    Ok(components.join(&b'/'))
}

/// What an entry is that is no file.
fn kind_without_content(path: &[u8], fields: &Fields, link: &[u8]) -> Result<TarKind> {
    let fault = |why| Err(LayerError::entry(path, why));
    let (major, minor) = fields.device;
    if matches!(fields.kind, b'3' | b'4') && (major > LARGEST_MAJOR || minor > LARGEST_MINOR) {
        return fault("its device number is larger than devices have");
    }
    Ok(match fields.kind {
        b'1' => TarKind::HardLink(plain_path(link)?),
        b'2' if link.is_empty() => return fault("it is a symbolic link without a target"),
        b'2' => TarKind::Symlink(link.to_vec()),
        b'3' if (major, minor) == (0, 0) => TarKind::Whiteout,
        b'3' => TarKind::CharDevice { major: major as u32, minor: minor as u32 },
        b'4' => TarKind::BlockDevice { major: major as u32, minor: minor as u32 },
        b'5' => TarKind::Directory,
        b'6' => TarKind::Fifo,
        _ => return fault("entries of its type are not supported"),
    })
}

/// Turns the files that stand for whiteouts into what they mean; `None` for a mark of no meaning.
fn whiteout(mut entry: TarEntry) -> Result<Option<TarEntry>> {
    let path = entry.path.clone();
    let fault = |why| Err(LayerError::entry(&path, why));
    let (dir, name) = (parent(&path).unwrap_or_default(), name(&path));
    if dir.split(|byte| *byte == b'/').any(|component| component.starts_with(WHITEOUT_PREFIX)) {
        return fault("it is in a directory whose name stands for a deleted file");
    }
    if let Some(gone) = name.strip_prefix(WHITEOUT_PREFIX) {
        if name == OPAQUE_NAME {
            entry.path = dir.to_vec();
            entry.kind = TarKind::Opaque;
        } else if name.starts_with(MARK_PREFIX) {
            return Ok(None);
        } else if gone.is_empty() {
            return fault("it stands for a deleted file, but names none");
        } else {
            entry.path = joined(dir, gone);
            entry.kind = TarKind::Whiteout;
        }
    }
    if let Some(why) = path_fault(&entry.path) {
        return fault(why);
    }
    if entry.path.is_empty() && !matches!(entry.kind, TarKind::Directory | TarKind::Opaque) {
        return Err(LayerError::Entry { path: shown(b"/"), why: "the root is a directory" });
    }
    Ok(Some(entry))
}
