//! Writes the canonical tar of a layer (OCI layer.md): the same entries give the same bytes.
//!
//! POSIX ustar headers with empty user and group names. What does not fit one goes into a PAX
//! header before it, with its records sorted by key: `path` and `linkpath` that are too long
//! (their raw bytes, UTF-8 or not), `size` from 8 GiB, `uid` and `gid` from 2,097,152, an `mtime`
//! before 1970 or after 2242, and extended attributes as `SCHILY.xattr.NAME` with their bytes as
//! they are (`%` and `=` in a name are written `%25` and `%3D`, as GNU tar does). Mtimes are whole
//! seconds. A whiteout is an empty file `.wh.NAME` of root without permissions or time; an opaque
//! directory is followed by such a file `.wh..wh..opq` in it. Sparse files are written in full.
//! The archive ends with two zero blocks. A change of any of this changes diff IDs.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::base::clock::Time;

use super::entry::{EntryRef, KindRef, Xattrs, name, parent};
use super::error::shown;
use super::{LayerError, Result};

/// The unit of a tar, in bytes.
pub(crate) const BLOCK: usize = 512;
/// What is before the name of a file that a layer takes away.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name of the file that makes its directory opaque.
pub(crate) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
const BUFFER: usize = 256 * 1024;
/// Eleven octal digits.
const LARGEST_SIZE: u64 = 0o77777777777;
/// Seven octal digits.
const LARGEST_ID: u32 = 0o7777777;

/// Writes the entries of a layer, in the order of an index.
pub struct TarWriter<W: Write> {
    out: W,
    buffer: Vec<u8>,
    filled: usize,
    /// How much was written before what is in the buffer.
    flushed: u64,
}

impl<W: Write> TarWriter<W> {
    /// A tar that goes to `out`, in pieces of 256 KiB.
    pub fn new(out: W) -> Self {
        Self { out, buffer: vec![0; BUFFER], filled: 0, flushed: 0 }
    }

    /// Writes `entry` and, for a file, the bytes of `data`, which must be as many as the entry
    /// says. Gives the offset at which the data begins.
    pub fn append<'e>(&mut self, entry: impl Into<EntryRef<'e>>, data: Option<&mut dyn Read>) -> Result<u64> {
        let entry = entry.into();
        if let KindRef::CharDevice { major, minor } | KindRef::BlockDevice { major, minor } = entry.kind
            && major.max(minor) > LARGEST_ID
        {
            return Err(LayerError::entry(entry.path, "its device number does not fit a tar"));
        }
        self.write_header(&entry).map_err(|source| write_error(entry.path, source))?;
        let offset = self.position();
        if let KindRef::File { size, .. } = entry.kind {
            self.write_data(entry.path, size, data.unwrap_or(&mut io::empty()))?;
        }
        if entry.kind == (KindRef::Directory { opaque: true }) {
            let mark = joined(entry.path, OPAQUE_NAME);
            self.write_mark(&mark).map_err(|source| write_error(entry.path, source))?;
        }
        Ok(offset)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<W> {
        let ended = self.write(&[0; 2 * BLOCK]).and_then(|()| self.flush()).and_then(|()| self.out.flush());
        ended.map_err(|source| write_error(b"", source))?;
        Ok(self.out)
    }

    fn position(&self) -> u64 {
        self.flushed + self.filled as u64
    }

    fn write_header(&mut self, entry: &EntryRef<'_>) -> io::Result<()> {
        let (kind, link, size) = match entry.kind {
            KindRef::Whiteout => {
                let dir = parent(entry.path).unwrap_or_default();
                return self.write_mark(&joined(dir, &[WHITEOUT_PREFIX, name(entry.path)].concat()));
            }
            KindRef::File { size, .. } => (EntryType::Regular, &[][..], size),
            KindRef::Directory { .. } => (EntryType::Directory, &[][..], 0),
            KindRef::Symlink(target) => (EntryType::Symlink, target, 0),
            KindRef::HardLink(target) => (EntryType::Link, target, 0),
            KindRef::CharDevice { .. } => (EntryType::Char, &[][..], 0),
            KindRef::BlockDevice { .. } => (EntryType::Block, &[][..], 0),
            KindRef::Fifo => (EntryType::Fifo, &[][..], 0),
        };
        // A hard link's attributes are those of the file, which has them already.
        let xattrs = if kind == EntryType::Link { Xattrs::NONE } else { entry.xattrs };
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Symlink { 0o777 } else { entry.mode });
        let directory = [entry.path, b"/"].concat();
        match kind {
            EntryType::Directory if entry.path.is_empty() => set_path(&mut header, b"./", &mut records),
            EntryType::Directory => set_path(&mut header, &directory, &mut records),
            _ => set_path(&mut header, entry.path, &mut records),
        }
        set_link(&mut header, link, &mut records);
        set_numbers(&mut header, entry, size, &mut records);
        if let KindRef::CharDevice { major, minor } | KindRef::BlockDevice { major, minor } = entry.kind {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        for (name, value) in xattrs.iter() {
            records.add([b"SCHILY.xattr.", escape(name).as_slice()].concat(), value);
        }
        self.write_records(records, entry.path)?;
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// Writes an empty file that only its name says something by.
    fn write_mark(&mut self, path: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        header.set_entry_type(EntryType::Regular);
        set_path(&mut header, path, &mut records);
        clear_numbers(&mut header);
        self.write_records(records, path)?;
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write_records(&mut self, records: Records, path: &[u8]) -> io::Result<()> {
        let Some(records) = records.into_bytes() else { return Ok(()) };
        let mut header = Header::new_ustar();
        let base = name(path);
        let mut label = b"PaxHeaders/".to_vec();
        label.extend_from_slice(&base[..base.len().min(100 - label.len())]);
        header.as_mut_bytes()[..label.len()].copy_from_slice(&label);
        header.set_entry_type(EntryType::XHeader);
        clear_numbers(&mut header);
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.write(&records)?;
        self.pad(records.len() as u64)
    }

    fn write_data(&mut self, path: &[u8], size: u64, data: &mut dyn Read) -> Result<()> {
        let content = |source| LayerError::Content { path: shown(path), source };
        let wrong_size = || LayerError::Size { path: shown(path), expected: size };
        let mut left = size;
        while left > 0 {
            if self.filled == BUFFER {
                self.flush().map_err(|source| write_error(path, source))?;
            }
            let room = left.min((BUFFER - self.filled) as u64) as usize;
            let count = read(data, &mut self.buffer[self.filled..self.filled + room]).map_err(content)?;
            if count == 0 {
                return Err(wrong_size());
            }
            self.filled += count;
            left -= count as u64;
        }
        if read(data, &mut [0]).map_err(content)? > 0 {
            return Err(wrong_size());
        }
        self.pad(size).map_err(|source| write_error(path, source))
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.write(&[0; BLOCK][over..]) }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.filled == BUFFER {
                self.flush()?;
            }
            let count = bytes.len().min(BUFFER - self.filled);
            self.buffer[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer[..self.filled])?;
        self.flushed += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

fn write_error(path: &[u8], source: io::Error) -> LayerError {
    LayerError::Write { path: shown(path), source }
}

/// One read that is not interrupted.
pub(crate) fn read(data: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match data.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The path of `name` in `dir`.
pub(crate) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Puts `path` into the name and prefix fields, or into a record.
fn set_path(header: &mut Header, path: &[u8], records: &mut Records) {
    let fields = header.as_ustar_mut().expect("made as a ustar header");
    if path.len() <= fields.name.len() {
        fields.name[..path.len()].copy_from_slice(path);
        return;
    }
    let fits =
        |at: &usize| *at <= fields.prefix.len() && (1..=fields.name.len()).contains(&(path.len() - at - 1));
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    match slashes.rfind(fits).filter(|at| *at > 0) {
        Some(at) => {
            fields.prefix[..at].copy_from_slice(&path[..at]);
            fields.name[..path.len() - at - 1].copy_from_slice(&path[at + 1..]);
        }
        None => {
            // What a reader without PAX sees.
            let length = fields.name.len();
            fields.name.copy_from_slice(&path[..length]);
            records.add(b"path".to_vec(), path);
        }
    }
}

fn set_link(header: &mut Header, target: &[u8], records: &mut Records) {
    let field = &mut header.as_ustar_mut().expect("made as a ustar header").linkname;
    let length = target.len().min(field.len());
    field[..length].copy_from_slice(&target[..length]);
    if target.len() > length {
        records.add(b"linkpath".to_vec(), target);
    }
}

fn set_numbers(header: &mut Header, entry: &EntryRef<'_>, size: u64, records: &mut Records) {
    let mut number = |key: &[u8], value: i64, largest: u64| match u64::try_from(value) {
        Ok(value) if value <= largest => value,
        _ => {
            records.add(key.to_vec(), value.to_string().as_bytes());
            0
        }
    };
    let Time { seconds, .. } = entry.mtime;
    header.set_mtime(number(b"mtime", seconds, LARGEST_SIZE));
    header.set_uid(number(b"uid", entry.uid.into(), LARGEST_ID.into()));
    header.set_gid(number(b"gid", entry.gid.into(), LARGEST_ID.into()));
    // An index holds no file of 8 EiB: none can be.
    header.set_size(number(b"size", size as i64, LARGEST_SIZE));
}

fn clear_numbers(header: &mut Header) {
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
}

/// The name of an attribute as it can stand in a PAX key, which ends at the first `=`.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => escaped.extend_from_slice(b"%25"),
            b'=' => escaped.extend_from_slice(b"%3D"),
            other => escaped.push(*other),
        }
    }
    escaped
}

/// The records of a PAX header (pax(1), "pax Extended Header").
#[derive(Default)]
struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    fn add(&mut self, key: Vec<u8>, value: &[u8]) {
        self.0.push((key, value.to_vec()));
    }

    fn into_bytes(mut self) -> Option<Vec<u8>> {
        self.0.sort();
        let mut bytes = Vec::new();
        for (key, value) in &self.0 {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + digits(rest);
            length = rest + digits(length);
            bytes.extend_from_slice(format!("{length} ").as_bytes());
            bytes.extend_from_slice(key);
            bytes.push(b'=');
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::layer::entry::{Entry, Kind};
    use crate::layer::testing::{dir, entry, file};

    fn written(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, content) in entries {
            writer.append(entry, Some(&mut &content[..])).unwrap();
        }
        writer.finish().unwrap()
    }

    fn all_kinds() -> Vec<(Entry, &'static [u8])> {
        let mut odd = file("odd", b"content");
        odd.uid = 3_000_000;
        odd.mode = 0o4755;
        odd.mtime = Time::from_seconds(-1);
        odd.xattrs =
            vec![(b"security.capability".to_vec(), b"\x01\0\n=".to_vec()), (b"user.a=%".to_vec(), vec![])];
        let long = format!("{}/{}", "p".repeat(200), "n".repeat(200));
        vec![
            (dir(""), b""),
            (entry("d", Kind::Directory { opaque: true }), b""),
            (entry("d/fifo", Kind::Fifo), b""),
            (entry("d/gone", Kind::Whiteout), b""),
            (entry("d/link", Kind::Symlink(vec![b't'; 150])), b""),
            (entry("d/null", Kind::CharDevice { major: 1, minor: 3 }), b""),
            (entry("d/disk", Kind::BlockDevice { major: 259, minor: 1_048_575 }), b""),
            (file("f", b"content"), b"content"),
            (entry("hard", Kind::HardLink(b"f".to_vec())), b""),
            (odd, b"content"),
            (file(&format!("{}/{}", "q".repeat(120), "n".repeat(90)), b""), b""),
            (file(&long, b"x"), b"x"),
        ]
    }

    /// The bytes of a layer's tar are its diff ID; this value may change only when the form of
    /// the tar is meant to change.
    #[test]
    fn the_tar_is_what_it_was() {
        insta::assert_snapshot!(Digest::of(written(&all_kinds())).to_string(), @"sha256:707882e178fa3810cea3860e1ef6dd76ac14a211df5dc1b79c36d4f9a1eb425e");
        assert_eq!(Digest::of(written(&[])), Digest::of([0; 1024]));
    }

    #[test]
    fn offsets_lead_to_the_data() {
        let mut writer = TarWriter::new(Vec::new());
        let big = vec![7; BUFFER * 2 + 5];
        let mut xattrs = file("a", b"first");
        xattrs.xattrs = vec![(b"user.x".to_vec(), vec![1; 3000])];
        let first = writer.append(&xattrs, Some(&mut &b"first"[..])).unwrap() as usize;
        let second = writer.append(&file("b", &big), Some(&mut &big[..])).unwrap() as usize;
        let tar = writer.finish().unwrap();
        assert_eq!(&tar[first..first + 5], b"first");
        assert!(tar[second..second + big.len()] == big);
        assert!(tar.len().is_multiple_of(BLOCK));
    }

    #[test]
    fn content_of_another_size_is_an_error() {
        for content in [&b"short"[..], b"much too long"] {
            let mut writer = TarWriter::new(Vec::new());
            let error = writer.append(&file("f", b"content"), Some(&mut &content[..])).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the size of `f` changed while it was read: it is no longer 7 bytes"
            );
        }
    }

    /// The length of a record counts itself, also where that takes one more digit.
    #[test]
    fn record_lengths() {
        for value in 0..1200 {
            let mut records = Records::default();
            records.add(b"path".to_vec(), &vec![b'x'; value]);
            let bytes = records.into_bytes().unwrap();
            let length: usize =
                std::str::from_utf8(&bytes).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, bytes.len());
        }
    }

    #[test]
    fn a_huge_file_goes_into_a_record() {
        let mut writer = TarWriter::new(Vec::new());
        let mut huge = file("huge", b"");
        huge.kind = Kind::File { size: 9 << 30, digest: Digest::of(""), offset: None };
        writer.write_header(&(&huge).into()).unwrap();
        writer.flush().unwrap();
        assert!(writer.out.windows(19).any(|window| window == b"19 size=9663676416\n"));
    }

    fn run(command: &mut std::process::Command) -> Option<String> {
        let output = command.env("LC_ALL", "C").env("TZ", "UTC").output().ok()?;
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Readers that we did not write agree on what is in it.
    #[test]
    fn other_programs_read_it() {
        let dir = crate::layer::testing::scratch();
        let path = dir.path().join("layer.tar");
        std::fs::write(&path, written(&all_kinds())).unwrap();
        if let Some(listing) =
            run(std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&path))
        {
            let listing = listing.replace(&"n".repeat(90), "n…").replace(&"t".repeat(150), "t…");
            let listing = listing.replace(&"p".repeat(200), "p…").replace(&"q".repeat(120), "q…");
            insta::assert_snapshot!(listing, @r#"
drwxr-xr-x 0/0               0 1970-01-12 13:46 ./
drwxr-xr-x 0/0               0 1970-01-12 13:46 d/
---------- 0/0               0 1970-01-01 00:00 d/.wh..wh..opq
prw-r--r-- 0/0               0 1970-01-12 13:46 d/fifo
---------- 0/0               0 1970-01-01 00:00 d/.wh.gone
lrwxrwxrwx 0/0               0 1970-01-12 13:46 d/link -> t…
crw-r--r-- 0/0             1,3 1970-01-12 13:46 d/null
brw-r--r-- 0/0     259,1048575 1970-01-12 13:46 d/disk
-rw-r--r-- 0/0               7 1970-01-12 13:46 f
hrw-r--r-- 0/0               0 1970-01-12 13:46 hard link to f
-rwsr-xr-x 3000000/0         7 1969-12-31 23:59 odd
-rw-r--r-- 0/0               0 1970-01-12 13:46 q…/n…
-rw-r--r-- 0/0               1 1970-01-12 13:46 p…/n…n…nnnnnnnnnnnnnnnnnnnn
"#);
        }
        let script = "import sys, tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.type.decode(), oct(m.mode), m.uid, m.mtime, m.size, len(m.name), len(m.linkname), sorted(m.pax_headers))";
        if let Some(listing) = run(std::process::Command::new("python3").args(["-c", script]).arg(&path)) {
            insta::assert_snapshot!(listing, @r#"
5 0o755 0 1000000 0 1 0 []
5 0o755 0 1000000 0 1 0 []
0 0o0 0 0 0 14 0 []
6 0o644 0 1000000 0 6 0 []
0 0o0 0 0 0 10 0 []
2 0o777 0 1000000 0 6 150 ['linkpath']
3 0o644 0 1000000 0 6 0 []
4 0o644 0 1000000 0 6 0 []
0 0o644 0 1000000 7 1 0 []
1 0o644 0 1000000 0 4 1 []
0 0o4755 3000000 -1.0 7 3 0 ['SCHILY.xattr.security.capability', 'SCHILY.xattr.user.a%3D%25', 'mtime', 'uid']
0 0o644 0 1000000 0 211 0 []
0 0o644 0 1000000 1 401 0 ['path']
"#);
        }
    }
}
