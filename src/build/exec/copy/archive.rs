//! ADD of an archive: its entries as those of the layer (reference, "Adding local tar archives").
//!
//! What a file is, its bytes say, never its name. The archive is read once, into a file of the
//! step's own if it is compressed, and its entries are placed as `tar -x` would: they take the
//! place of what is there, directories are joined with directories. Where the archive leaves a
//! directory out, a symbolic link of the image in its place is followed inside the image. With
//! `--chown` and `--chmod` the entries get those owners and modes, else they keep their own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::chmod::ModeChange;
use super::error::CopyError;
use super::selection::{self, Archive, Item, ItemKind, MADE, PARENT};
use super::tree::{Resolved, Tree, join, name, parent, resolve};
use crate::base::digest::{Digest, HashingReader};
use crate::build::exec::error::ExecError;
use crate::layer::LayerError;
use crate::layer::decompress::{Format, decompress};
use crate::layer::entry::{EntryRef, KindRef, is_under};
use crate::layer::from_tar::index_tar;
use crate::layer::index::Index;

const BLOCK: usize = 512;

/// Whether `data` is a tar, compressed or not, with at least one entry.
pub fn is_archive(data: impl Read + Send) -> bool {
    let Ok((_, mut stream)) = decompress(data) else { return false };
    let mut block = [0; BLOCK];
    stream.read_exact(&mut block).is_ok() && is_header(&block)
}

/// Whether a block is the header of an entry: its checksum is right (POSIX pax, "ustar").
fn is_header(block: &[u8; BLOCK]) -> bool {
    let field = &block[148..156];
    let digits: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, b' ' | 0)).collect();
    let Some(written) = std::str::from_utf8(&digits).ok().and_then(|text| u32::from_str_radix(text, 8).ok())
    else {
        return false;
    };
    let others = block[..148].iter().chain(&block[156..]);
    let (unsigned, signed) = others.fold((256, 256), |(unsigned, signed), byte| {
        (unsigned + i64::from(*byte), signed + i64::from(*byte as i8))
    });
    block[0] != 0 && (i64::from(written) == unsigned || i64::from(written) == signed)
}

/// What `--chown` and `--chmod` ask for.
pub struct Change<'a> {
    /// The owner, looked up.
    pub owner: Option<(u32, u32)>,
    /// The mode.
    pub mode: Option<&'a ModeChange>,
}

/// An archive that was read.
pub struct Unpacked {
    /// Its entries, placed.
    pub items: Vec<Item>,
    /// The uncompressed archive.
    file: File,
    path: PathBuf,
    group: u32,
    /// Where in it the content of each file is.
    offsets: HashMap<Box<[u8]>, u64>,
}

impl Unpacked {
    /// The content of `item`, if it is one of this archive's files.
    pub fn content(&self, item: &Item) -> Option<Result<impl Read + use<>, ExecError>> {
        if item.group != self.group {
            return None;
        }
        let ItemKind::File { size, .. } = item.kind else { return None };
        let offset = *self.offsets.get(&item.path)?;
        let open = || {
            let mut file = self.file.try_clone()?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file.take(size))
        };
        Some(open().map_err(ExecError::file("read the archive", &self.path)))
    }
}

/// Reads the archive that `data` gives, which has the digest `expected`, into the file `spool`.
pub fn unpack(
    data: impl Read + Send,
    expected: Option<Digest>,
    spool: &Path,
    archive: &Archive,
    base: &dyn Tree,
    change: &Change<'_>,
) -> Result<Unpacked, ExecError> {
    let failed = || ExecError::file("unpack the archive to", spool);
    let mut file = File::options().read(true).write(true).create_new(true).open(spool).map_err(failed())?;
    let mut hashed = HashingReader::new(data);
    copy_uncompressed(&mut hashed, &mut file).map_err(|error| match error {
        Spooling::Read(error) => ExecError::from(error),
        Spooling::Write(error) => failed()(error),
    })?;
    // What is behind the end of the stream is part of the file too.
    io::copy(&mut hashed, &mut io::sink()).map_err(failed())?;
    let (_, got, _) = hashed.finish();
    if let Some(expected) = expected.filter(|expected| *expected != got) {
        let path = String::from_utf8_lossy(&archive.path).into_owned();
        return Err(LayerError::Changed { path, expected, got }.into());
    }
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    let index = index_tar(io::BufReader::new(&file))?;
    let mut placing = Placing { archive, base, change, directories: HashMap::new() };
    let (mut items, mut offsets) = (Vec::with_capacity(index.len()), HashMap::new());
    for entry in index.iter().filter(|entry| !entry.path.is_empty()) {
        let item = placing.item(&index, &entry)?;
        if let KindRef::File { offset: Some(offset), .. } = entry.kind {
            offsets.insert(item.path.clone(), offset);
        }
        items.push(item);
    }
    Ok(Unpacked { items, file, path: spool.to_owned(), group: archive.group, offsets })
}

enum Spooling {
    Read(LayerError),
    Write(io::Error),
}

fn copy_uncompressed(data: &mut (impl Read + Send), file: &mut File) -> Result<Format, Spooling> {
    let (format, mut stream) = decompress(data).map_err(Spooling::Read)?;
    let mut writer = io::BufWriter::with_capacity(1 << 18, file);
    io::copy(&mut stream, &mut writer).map_err(Spooling::Write)?;
    writer.flush().map_err(Spooling::Write)?;
    Ok(format)
}

struct Placing<'a> {
    archive: &'a Archive,
    base: &'a dyn Tree,
    change: &'a Change<'a>,
    /// Where the directories of the archive are in the image.
    directories: HashMap<Vec<u8>, Vec<u8>>,
}

impl Placing<'_> {
    fn item(&mut self, index: &Index, entry: &EntryRef<'_>) -> Result<Item, ExecError> {
        let path = self.place(entry.path)?;
        let kind = match entry.kind {
            KindRef::File { size, digest, .. } => ItemKind::File { size, digest },
            KindRef::Directory { .. } => {
                self.directories.insert(entry.path.to_vec(), path.clone());
                ItemKind::Directory
            }
            KindRef::Symlink(target) => ItemKind::Symlink(target.into()),
            KindRef::HardLink(target) => ItemKind::HardLink(self.place(target)?.into()),
            KindRef::CharDevice { major, minor } => ItemKind::CharDevice(major, minor),
            KindRef::BlockDevice { major, minor } => ItemKind::BlockDevice(major, minor),
            KindRef::Fifo => ItemKind::Fifo,
            KindRef::Whiteout => {
                let dir = String::from_utf8_lossy(parent(&path)).into_owned();
                let name = String::from_utf8_lossy(name(&path)).into_owned();
                return Err(CopyError::Whiteout(format!("/{dir}/.wh.{name}")).into());
            }
        };
        // A link has the metadata of its file.
        let of = match entry.kind {
            KindRef::HardLink(target) => index.get(target).unwrap_or(*entry),
            _ => *entry,
        };
        let (uid, gid) = self.change.owner.unwrap_or((of.uid, of.gid));
        let mode = match self.change.mode {
            Some(change) if !matches!(of.kind, KindRef::Symlink(_)) => {
                change.apply(of.mode, of.kind.is_directory())
            }
            _ => of.mode,
        };
        let xattrs = of.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        Ok(Item {
            path: path.into(),
            group: self.archive.group,
            part: 0,
            kind,
            mode,
            uid,
            gid,
            mtime: of.mtime,
            xattrs,
        })
    }

    /// Where an entry goes: its name, in the place of its directory.
    fn place(&mut self, path: &[u8]) -> Result<Vec<u8>, ExecError> {
        let directory = self.directory(parent(path))?;
        Ok(join(&directory, name(path)))
    }

    /// Where a directory of the archive is. One that the archive has an entry for was placed when
    /// it came; for another the image's own links count.
    fn directory(&mut self, path: &[u8]) -> Result<Vec<u8>, ExecError> {
        if path.is_empty() {
            return Ok(self.archive.to.clone());
        }
        if let Some(placed) = self.directories.get(path) {
            return Ok(placed.clone());
        }
        let placed = self.place(path)?;
        let placed = match resolve(self.base, &placed, true) {
            Resolved::Found(placed, node) if node.kind.is_directory() => placed,
            Resolved::Missing(placed) => placed,
            Resolved::Found(at, _) | Resolved::NotDirectory(at) => {
                let path = format!("/{}", String::from_utf8_lossy(&at));
                return Err(CopyError::OntoFile { path, link: None }.into());
            }
            Resolved::Loop => {
                return Err(
                    CopyError::DestinationLoop(format!("/{}", String::from_utf8_lossy(&placed))).into()
                );
            }
        };
        self.directories.insert(path.to_vec(), placed.clone());
        Ok(placed)
    }
}

/// Brings the entries of a layer in order after those of archives were added: later groups take
/// the place of earlier ones whatever they are, what lies below something that is no directory
/// goes, and every directory on the way to an entry is there.
pub fn merge(items: &mut Vec<Item>, base: &dyn Tree) {
    selection::sort_replacing(items);
    let mut blocked: Option<Box<[u8]>> = None;
    items.retain(|item| {
        if blocked.as_ref().is_some_and(|blocked| is_under(&item.path, blocked)) {
            return false;
        }
        if item.kind != ItemKind::Directory {
            blocked = Some(item.path.clone());
        }
        true
    });
    let mut known: HashSet<&[u8]> = items.iter().map(|item| &*item.path).collect();
    let mut parents: Vec<Item> = Vec::new();
    for item in items.iter() {
        let mut above = parent(&item.path);
        while !above.is_empty() && known.insert(above) {
            parents.push(parent_item(base, above));
            above = parent(above);
        }
    }
    items.extend(parents);
    selection::sort_replacing(items);
}

fn parent_item(base: &dyn Tree, path: &[u8]) -> Item {
    let kind = ItemKind::Directory;
    match base.get(path) {
        Some(node) if node.kind.is_directory() => Item {
            path: path.into(),
            group: PARENT,
            part: 0,
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: node.xattrs,
        },
        _ => Item {
            path: path.into(),
            group: PARENT,
            part: 0,
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: MADE,
            xattrs: Vec::new(),
        },
    }
}
