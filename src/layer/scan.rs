//! Takes a tree, an overlay's upper directory after a step (or any directory that holds a layer in
//! that form), and gives its index. The tree must be at rest.
//!
//! Character devices 0/0 are whiteouts, the overlay's own attributes say which directories are
//! opaque, files of one inode are hard links of the first of them. Sockets are left out, as tar
//! leaves them out. The root directory is no entry: a layer says what is in it. Files are hashed
//! in parallel, holes unread. A file whose name is kept for whiteouts in tars is an error.

use std::collections::HashMap;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, RawDir, Statx, StatxFlags};
use rustix::io::Errno;

use crate::base::clock::Time;
use crate::base::digest::{Digest, Hasher};

use super::builder::IndexBuilder;
use super::entry::{Entry, Kind, LONGEST_PATH, compare_paths};
use super::error::shown;
use super::index::Index;
use super::sparse::{SparseReader, may_have_holes};
use super::tar::WHITEOUT_PREFIX;
use super::tree::Tree;
use super::xattr::{self, Overlay, Place};
use super::{LayerError, Result};

/// Below these it is not worth waking other threads.
const FEW_FILES: usize = 48;
const FEW_BYTES: u64 = 2 << 20;
/// Files that one thread takes at a time.
const CHUNK: usize = 32;
const BUFFER: usize = 128 * 1024;

/// The index of the tree at `root`.
pub fn scan_tree(root: &Path) -> Result<Index> {
    let mut found = list(root)?;
    found.sort_unstable_by(|a, b| compare_paths(&a.entry.path, &b.entry.path));
    link(&mut found);
    let files: Vec<&mut Scanned> = found.iter_mut().filter(|scanned| scanned.unread.is_some()).collect();
    read_all(root, files)?;
    let mut builder = IndexBuilder::new();
    for scanned in &found {
        builder.push(&scanned.entry)?;
    }
    Ok(builder.finish())
}

struct Scanned {
    entry: Entry,
    /// Device and inode of what has more names than this one.
    inode: Option<(u64, u64)>,
    /// A file that is not hashed yet.
    unread: Option<Unread>,
}

#[derive(Clone, Copy)]
struct Unread {
    size: u64,
    sparse: bool,
}

/// Everything in the tree in any order, files not read yet.
fn list(root: &Path) -> Result<Vec<Scanned>> {
    let mut tree = Tree::open(root)?;
    let mut found = Vec::new();
    let mut open: Vec<(Vec<u8>, Option<usize>)> = vec![(Vec::new(), None)];
    let mut names = Vec::new();
    while let Some((path, entry)) = open.pop() {
        let opened = tree.enter(&path);
        let failed = |error| tree.error("read the directory", &path, error);
        let dir = opened.map_err(failed)?;
        if let Some(at) = entry {
            let (xattrs, overlay) = xattr::read(Place::Fd(dir.as_fd())).map_err(failed)?;
            whole(&path, overlay)?;
            found_directory(&mut found[at], xattrs, overlay);
        }
        names.clear();
        read_names(dir.as_fd(), &mut names).map_err(failed)?;
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let path = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
            if path.len() > LONGEST_PATH {
                return Err(LayerError::entry(&path, "the path is longer than 8192 bytes"));
            }
            let failed = |error| tree.error("read the metadata of", &path, error);
            let stat = rustix::fs::statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
                .map_err(failed)?;
            let Some(scanned) = look(&dir.as_fd(), name, &path, &stat, &failed)? else { continue };
            if matches!(scanned.entry.kind, Kind::Directory { .. }) {
                open.push((path, Some(found.len())));
            }
            found.push(scanned);
        }
    }
    Ok(found)
}

fn found_directory(scanned: &mut Scanned, xattrs: xattr::List, overlay: Overlay) {
    scanned.entry.xattrs = xattrs;
    scanned.entry.kind = Kind::Directory { opaque: overlay.opaque };
}

fn whole(path: &[u8], overlay: Overlay) -> Result<()> {
    match overlay.partial {
        true => Err(LayerError::entry(
            path,
            "an overlay with redirect_dir or metacopy keeps a part of it elsewhere",
        )),
        false => Ok(()),
    }
}

/// Adds the names in `dir` to `names`, each with a zero byte behind it.
pub(crate) fn read_names(dir: BorrowedFd<'_>, names: &mut Vec<u8>) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes_with_nul();
        if !matches!(name, b".\0" | b"..\0") {
            names.extend_from_slice(name);
        }
    }
    Ok(())
}

/// The entry of one path without its content; `None` for a socket. The attributes of directories
/// and files are read where they are opened.
fn look(
    dir: &BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    stat: &Statx,
    failed: &dyn Fn(Errno) -> LayerError,
) -> Result<Option<Scanned>> {
    if name.starts_with(WHITEOUT_PREFIX) {
        return Err(LayerError::entry(
            path,
            "names that begin with `.wh.` stand for deleted files in layers",
        ));
    }
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    let mut unread = None;
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => {
            unread = Some(Unread { size: stat.stx_size, sparse: may_have_holes(stat) });
            Kind::File { size: stat.stx_size, digest: Digest::from_bytes([0; 32]), offset: None }
        }
        FileType::Directory => Kind::Directory { opaque: false },
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(failed)?;
            Kind::Symlink(target.into_bytes())
        }
        FileType::CharacterDevice if (major, minor) == (0, 0) => Kind::Whiteout,
        FileType::CharacterDevice => Kind::CharDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => return Ok(None),
        _ => return Err(LayerError::entry(path, "it is of a type that this system does not know")),
    };
    let shared = stat.stx_nlink > 1 && !matches!(kind, Kind::Directory { .. } | Kind::Whiteout);
    let xattrs = match kind {
        Kind::Directory { .. } | Kind::File { .. } | Kind::Whiteout => Vec::new(),
        _ => xattr::read(Place::Path(&xattr::path_in(*dir, name))).map_err(failed)?.0,
    };
    let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
    let entry = Entry {
        path: path.to_vec(),
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: Time { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
        xattrs,
        kind,
    };
    Ok(Some(Scanned { entry, inode: shared.then_some((device, stat.stx_ino)), unread }))
}

/// Makes every name of an inode but the first a hard link.
fn link(found: &mut [Scanned]) {
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    for at in 0..found.len() {
        let Some(inode) = found[at].inode else { continue };
        let target = *first.entry(inode).or_insert(at);
        if target != at {
            found[at].entry.kind = Kind::HardLink(found[target].entry.path.clone());
            found[at].entry.xattrs = Vec::new();
            found[at].unread = None;
        }
    }
}

/// Hashes all of `files`, which are in order.
fn read_all(root: &Path, mut files: Vec<&mut Scanned>) -> Result<()> {
    let bytes: u64 = files.iter().filter_map(|file| file.unread).map(|unread| unread.size).sum();
    if files.len() < FEW_FILES && bytes < FEW_BYTES {
        // A step that wrote a line into a file needs no large buffer.
        let mut buffer = vec![0; bytes.clamp(1, BUFFER as u64) as usize];
        return read_chunk(root, &mut files, &mut buffer);
    }
    let buffer = || vec![0; BUFFER];
    files.par_chunks_mut(CHUNK).map_init(buffer, |buffer, chunk| read_chunk(root, chunk, buffer)).collect()
}

fn read_chunk(root: &Path, files: &mut [&mut Scanned], buffer: &mut [u8]) -> Result<()> {
    let mut tree = Tree::open(root)?;
    for file in files {
        read_file(&mut tree, file, buffer)?;
    }
    Ok(())
}

fn read_file(tree: &mut Tree, scanned: &mut Scanned, buffer: &mut [u8]) -> Result<()> {
    let Some(Unread { size: expected, sparse }) = scanned.unread.take() else { return Ok(()) };
    let path = &scanned.entry.path;
    let mut file = tree.open_file(path).map_err(|error| tree.error("open", path, error))?;
    let (xattrs, overlay) = xattr::read(Place::Fd(file.as_fd()))
        .map_err(|error| tree.error("read the attributes of", path, error))?;
    whole(path, overlay)?;
    let mut hasher = Hasher::new();
    let mut left = expected;
    let mut holes;
    let reader: &mut dyn Read = if sparse {
        holes = SparseReader::new(file, expected);
        &mut holes
    } else {
        &mut file
    };
    while left > 0 {
        let room = left.min(buffer.len() as u64) as usize;
        let count = super::tar::read(reader, &mut buffer[..room])
            .map_err(|source| LayerError::Content { path: shown(path), source })?;
        if count == 0 {
            return Err(LayerError::Size { path: shown(path), expected });
        }
        hasher.update(&buffer[..count]);
        left -= count as u64;
    }
    scanned.entry.xattrs = xattrs;
    scanned.entry.kind = Kind::File { size: expected, digest: hasher.finish(), offset: None };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::{CWD, Mode, XattrFlags, makedev, mknodat, setxattr};

    use super::*;
    use crate::layer::entry::KindRef;
    use crate::layer::testing::{is_root, skip};

    fn mknod(path: &Path, kind: FileType, major: u32, minor: u32) {
        mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), makedev(major, minor)).unwrap();
    }

    #[test]
    fn an_upper_directory_is_a_layer() {
        if !is_root() {
            return skip("only root makes device nodes and trusted attributes");
        }
        let dir = crate::layer::testing::scratch();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("opaque/in")).unwrap();
        setxattr(at("opaque"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        setxattr(at("opaque/in"), "trusted.overlay.opaque", b"x", XattrFlags::empty()).unwrap();
        setxattr(at("opaque/in"), "trusted.overlay.origin", b"host", XattrFlags::empty()).unwrap();
        fs::write(at("b-first"), "content").unwrap();
        setxattr(at("b-first"), "trusted.z", b"2", XattrFlags::empty()).unwrap();
        setxattr(at("b-first"), "trusted.a", b"\0", XattrFlags::empty()).unwrap();
        fs::set_permissions(at("b-first"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(at("b-first"), at("opaque/second")).unwrap();
        symlink("b-first", at("link")).unwrap();
        fs::hard_link(at("link"), at("link2")).unwrap();
        mknod(&at("gone"), FileType::CharacterDevice, 0, 0);
        fs::hard_link(at("gone"), at("gone2")).unwrap();
        mknod(&at("null"), FileType::CharacterDevice, 1, 3);
        mknod(&at("pipe"), FileType::Fifo, 0, 0);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

        let index = scan_tree(dir.path()).unwrap();
        let shown: Vec<_> = index
            .iter()
            .map(|entry| (String::from_utf8_lossy(entry.path).into_owned(), entry.kind))
            .collect();
        let digest = Digest::of("content");
        let expected = [
            ("b-first", KindRef::File { size: 7, digest, offset: None }),
            ("gone", KindRef::Whiteout),
            ("gone2", KindRef::Whiteout),
            ("link", KindRef::Symlink(b"b-first")),
            ("link2", KindRef::HardLink(b"link")),
            ("null", KindRef::CharDevice { major: 1, minor: 3 }),
            ("opaque", KindRef::Directory { opaque: true }),
            ("opaque/in", KindRef::Directory { opaque: false }),
            ("opaque/second", KindRef::HardLink(b"b-first")),
            ("pipe", KindRef::Fifo),
        ];
        assert_eq!(shown, expected.map(|(path, kind)| (path.to_owned(), kind)));
        let first = index.get(b"b-first").unwrap();
        assert_eq!(first.mode, 0o4711);
        let xattrs: Vec<_> = first.xattrs.iter().collect();
        assert_eq!(xattrs, [(&b"trusted.a"[..], &b"\0"[..]), (b"trusted.z", b"2")]);
        assert!(index.get(b"opaque/in").unwrap().xattrs.is_empty());
    }

    #[test]
    fn many_and_large_files_are_hashed() {
        let dir = crate::layer::testing::scratch();
        for number in 0..200 {
            let sub = dir.path().join(format!("d{}", number % 7));
            fs::create_dir_all(&sub).unwrap();
            fs::write(sub.join(number.to_string()), vec![number as u8; number * 3000]).unwrap();
        }
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(20 << 20).unwrap();
        let index = scan_tree(dir.path()).unwrap();
        assert_eq!(index.len(), 208);
        for number in 0..200 {
            let path = format!("d{}/{number}", number % 7);
            let KindRef::File { size, digest, .. } = index.get(path.as_bytes()).unwrap().kind else {
                panic!("{path} is no file");
            };
            let content = vec![number as u8; number * 3000];
            assert_eq!((size, digest), (content.len() as u64, Digest::of(content)));
        }
        let zeros = Digest::of(vec![0; 20 << 20]);
        let kind = KindRef::File { size: 20 << 20, digest: zeros, offset: None };
        assert_eq!(index.get(b"sparse").unwrap().kind, kind);
    }

    #[test]
    fn what_cannot_be_in_a_layer_is_named() {
        let dir = crate::layer::testing::scratch();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/.wh.x"), "").unwrap();
        let error = scan_tree(dir.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            "`d/.wh.x` cannot be an entry of a layer: names that begin with `.wh.` stand for deleted files in layers"
        );
        let error = scan_tree(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the tree `") && error.ends_with("none`"), "{error}");
    }
}
