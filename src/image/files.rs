//! Named files, whether they lie in a directory or in an uncompressed tar archive: what layouts
//! and archives are read from.
//!
//! Names are looked up, never extracted: in a directory by [`crate::base::rooted`], in an archive
//! in a table of its members. Links of an archive lead to its members only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use tar::{EntryType, Header};

use crate::base::rooted::{self, Root};

use super::ImageError;

const BLOCK: u64 = 512;
/// The most members of an archive.
const MAX_MEMBERS: usize = 1_000_000;
/// The longest extended header of a member.
const MAX_EXTENDED: u64 = 1 << 20;
/// How many links are followed to a member.
const MAX_LINKS: usize = 8;

/// Named files. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Files(Arc<Place>);

#[derive(Debug)]
enum Place {
    Directory(Root),
    Archive { file: File, path: PathBuf, members: HashMap<Vec<u8>, Member> },
}

#[derive(Debug, PartialEq, Eq)]
enum Member {
    Data { offset: u64, size: u64 },
    Link(Vec<u8>),
}

/// One open file.
pub struct OpenFile {
    reader: Box<dyn Read + Send>,
    /// Its size in bytes.
    pub size: u64,
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Files {
    /// The files of a directory.
    pub fn directory(path: &Path) -> Result<Self, ImageError> {
        let root = Root::open(path).map_err(ImageError::io("open", path))?;
        Ok(Self(Arc::new(Place::Directory(root))))
    }

    /// The members of an uncompressed tar archive. `path` is what messages call it. Of members
    /// with one name the last counts.
    pub fn archive(file: File, path: &Path) -> Result<Self, ImageError> {
        let members = members(&file, path)?;
        Ok(Self(Arc::new(Place::Archive { file, path: path.to_owned(), members })))
    }

    /// What messages call the whole.
    pub fn path(&self) -> &Path {
        match &*self.0 {
            Place::Directory(root) => root.path(),
            Place::Archive { path, .. } => path,
        }
    }

    /// Opens a file; `None` if there is none of that name.
    pub fn open(&self, name: &str) -> Result<Option<OpenFile>, ImageError> {
        match &*self.0 {
            Place::Directory(root) => open_in_directory(root, name),
            Place::Archive { members, path, .. } => {
                let Some((offset, size)) = find(members, name, path)? else { return Ok(None) };
                let reader = Box::new(Section { files: self.clone(), offset, left: size });
                Ok(Some(OpenFile { reader, size }))
            }
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    pub fn read(&self, name: &str, what: &'static str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        if file.size > limit {
            return Err(ImageError::TooLarge { what, size: file.size, limit });
        }
        let mut bytes = Vec::new();
        let path = self.path().join(name);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(ImageError::io("read", &path))?;
        Ok(Some(bytes))
    }
}

fn open_in_directory(root: &Root, name: &str) -> Result<Option<OpenFile>, ImageError> {
    let path = root.path().join(name);
    // Not blocking: a FIFO in the place of the file must not hang the reader.
    let fd = match root.open_at(name.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => fd,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(ImageError::io("open", &path)(error)),
    };
    let file = File::from(fd);
    let stat = rooted::stat_fd(std::os::fd::AsFd::as_fd(&file)).map_err(ImageError::io("look at", &path))?;
    if rooted::file_type(&stat) != FileType::RegularFile {
        return Err(ImageError::Archive { path, reason: "it is no regular file".to_owned() });
    }
    Ok(Some(OpenFile { size: stat.stx_size, reader: Box::new(file) }))
}

/// Part of an archive.
struct Section {
    files: Files,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Place::Archive { file, .. } = &*self.files.0 else { return Ok(0) };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Where the data of the member `name` is.
fn find(
    members: &HashMap<Vec<u8>, Member>,
    name: &str,
    path: &Path,
) -> Result<Option<(u64, u64)>, ImageError> {
    let Some(mut current) = normal(name.as_bytes()) else { return Ok(None) };
    for _ in 0..=MAX_LINKS {
        match members.get(&current) {
            None => return Ok(None),
            Some(Member::Data { offset, size }) => return Ok(Some((*offset, *size))),
            Some(Member::Link(target)) => current.clone_from(target),
        }
    }
    let reason = format!("its member `{name}` leads through more than {MAX_LINKS} links");
    Err(ImageError::Archive { path: path.to_owned(), reason })
}

/// The table of an archive's members.
fn members(file: &File, path: &Path) -> Result<HashMap<Vec<u8>, Member>, ImageError> {
    let fail = |reason: &str| ImageError::Archive { path: path.to_owned(), reason: reason.to_owned() };
    let end = file.metadata().map_err(ImageError::io("look at", path))?.len();
    let mut members = HashMap::new();
    let mut extended = Extended::default();
    let mut at = 0;
    let mut header = Header::new_old();
    while at + BLOCK <= end {
        file.read_exact_at(header.as_mut_bytes(), at).map_err(ImageError::io("read", path))?;
        at += BLOCK;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            break;
        }
        if !checksum_fits(&header) {
            return Err(fail("it is no tar archive, or damaged: a header's checksum is wrong"));
        }
        let own = header.entry_size().map_err(|_| fail("a member's size makes no sense"))?;
        let kind = header.entry_type();
        let size = if is_extended(kind) { own } else { extended.size.unwrap_or(own) };
        let data = at;
        let padded = size.checked_next_multiple_of(BLOCK).and_then(|padded| at.checked_add(padded));
        at = padded.ok_or_else(|| fail("a member's size makes no sense"))?;
        if data + size > end {
            return Err(fail("it is cut short"));
        }
        if is_extended(kind) {
            if size > MAX_EXTENDED {
                return Err(fail("an extended header is too large"));
            }
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, data).map_err(ImageError::io("read", path))?;
            extended.add(kind, &bytes).map_err(fail)?;
            continue;
        }
        let told = std::mem::take(&mut extended);
        let Some(name) = normal(told.path.as_deref().unwrap_or(&header.path_bytes())) else { continue };
        let target =
            || told.link.clone().or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let member = match kind {
            EntryType::Regular | EntryType::Continuous => Member::Data { offset: data, size },
            EntryType::Link => match normal(&target().unwrap_or_default()) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            EntryType::Symlink => match beside(&name, &target().unwrap_or_default()) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            EntryType::GNUSparse => return Err(fail("it has sparse members, which are not supported")),
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > MAX_MEMBERS {
            return Err(fail("it has more than a million members"));
        }
    }
    Ok(members)
}

/// What extended headers say about the next member.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    fn add(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), &'static str> {
        let text = || Some(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
        match kind {
            EntryType::GNULongName => self.path = text(),
            EntryType::GNULongLink => self.link = text(),
            EntryType::XHeader => {
                for record in tar::PaxExtensions::new(bytes) {
                    let record = record.map_err(|_| "an extended header makes no sense")?;
                    match record.key_bytes() {
                        b"path" => self.path = Some(record.value_bytes().to_vec()),
                        b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                        b"size" => {
                            let value = record.value().ok().and_then(|value| value.parse().ok());
                            self.size = Some(value.ok_or("a member's size makes no sense")?);
                        }
                        b"GNU.sparse.major" | b"GNU.sparse.map" => {
                            return Err("it has sparse members, which are not supported");
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_extended(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
    )
}

fn checksum_fits(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
    header.cksum().is_ok_and(|told| told == sum + 8 * 32)
}

/// A name without empty and `.` components; `None` if it leads out of the archive or names its
/// root.
fn normal(name: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join(&b'/'))
}

/// Where the symbolic link `name` with the text `target` leads.
fn beside(name: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return normal(target);
    }
    let directory = name.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &name[..at]);
    normal(&[directory, target].join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn archive(bytes: &[u8]) -> Result<Files, ImageError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Files::archive(file, Path::new("a.tar"))
    }

    fn built(add: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        add(&mut builder);
        builder.into_inner().unwrap()
    }

    fn data(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &str) {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }

    #[test]
    fn members_and_links() {
        let long = "d/".repeat(120) + "file";
        let bytes = built(|tar| {
            data(tar, "./a/file", "old");
            data(tar, "a/file", "content");
            data(tar, &long, "deep");
            link(tar, EntryType::Symlink, "b/layer.tar", "../a/file");
            link(tar, EntryType::Link, "hard", "a/file");
            link(tar, EntryType::Symlink, "absolute", "/hard");
            link(tar, EntryType::Symlink, "out", "../../etc/passwd");
            link(tar, EntryType::Symlink, "loop", "loop");
        });
        let files = archive(&bytes).unwrap();
        for (name, content) in [
            ("a/file", "content"),
            ("./a//file", "content"),
            ("b/layer.tar", "content"),
            ("hard", "content"),
            ("absolute", "content"),
            (&long, "deep"),
        ] {
            assert_eq!(files.read(name, "file", 100).unwrap().as_deref(), Some(content.as_bytes()), "{name}");
        }
        assert!(files.read("out", "file", 100).unwrap().is_none());
        assert!(files.read("../etc/passwd", "file", 100).unwrap().is_none());
        assert!(files.read("loop", "file", 100).is_err());
        assert!(matches!(files.read("a/file", "file", 3), Err(ImageError::TooLarge { .. })));
    }

    #[test]
    fn damage_is_told() {
        let bytes = built(|tar| data(tar, "file", "content"));
        assert!(archive(&bytes[..600]).is_ok_and(|files| files.open("file").unwrap().is_some()));
        assert!(archive(&bytes[..515]).unwrap_err().to_string().contains("cut short"));
        let mut wrong = bytes.clone();
        wrong[0] ^= 1;
        assert!(archive(&wrong).unwrap_err().to_string().contains("checksum"));
        assert!(archive(b"").unwrap().open("file").unwrap().is_none());
    }

    #[test]
    fn a_directory_gives_its_files_and_nothing_above() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "content").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("out")).unwrap();
        let files = Files::directory(dir.path()).unwrap();
        assert_eq!(files.read("file", "file", 100).unwrap().unwrap(), b"content");
        assert!(files.read("out", "file", 1 << 20).unwrap().is_none());
        assert!(files.open(".").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_will_do(bytes: Vec<u8>, at in 0usize..1536, value: u8) {
            let _ = archive(&bytes);
            let mut tar = built(|tar| { link(tar, EntryType::Link, "b", "a"); data(tar, &"n".repeat(200), "content") });
            tar[at] = value;
            if let Ok(files) = archive(&tar) {
                let _ = files.read("b", "file", 100);
            }
        }
    }
}
