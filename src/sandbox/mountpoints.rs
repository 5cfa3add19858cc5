//! Mount points that leave no trace in a layer.
//!
//! Every mount of a spec needs something to be mounted on. Three ways, in this order:
//! - It is in the image already.
//! - It is in the lowest layer of the overlay, a directory of kiln's own that [`layer`] makes from
//!   the mounts of the spec. Where the image says nothing of a path, that shows through.
//! - The image hides the lowest layer (a whiteout, an opaque directory) or leads elsewhere (a
//!   symbolic link): [`ensure`] makes it through the mounted overlay, whose kernel knows best,
//!   and [`Made::clean_up`] takes it out of the upper again when the process has ended, with the
//!   times of the directories around it, whatever the process did to them, as they were.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, Timespec, Timestamps,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::base::rooted::Root;

use super::error::SandboxError;

/// How many symbolic links a look-up follows, as the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// Whether what is mounted is a directory: everything but a bind mount of something else.
pub(super) fn is_directory(mount: &Mount) -> bool {
    let bind = mount
        .options()
        .as_ref()
        .is_some_and(|options| options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind")))
        || mount.typ().as_deref() == Some("bind");
    match mount.source() {
        Some(source) if bind => fs::metadata(source).map_or(true, |found| found.is_dir()),
        _ => true,
    }
}

/// The mounts whose mount point is in the root itself: not the root, not inside another mount.
pub(super) fn in_root(mounts: &[Mount]) -> impl Iterator<Item = &Mount> {
    mounts.iter().enumerate().filter_map(|(at, mount)| {
        let target = mount.destination();
        let inside = mounts[..at]
            .iter()
            .any(|other| other.destination() != Path::new("/") && target.starts_with(other.destination()));
        (target != Path::new("/") && !inside).then_some(mount)
    })
}

/// The directory, under `directory`, with every mount point of `spec`: one per set of mount
/// points, made when it is first asked for, complete from the moment it is visible.
pub fn layer(spec: &Spec, directory: &Path) -> Result<PathBuf, SandboxError> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut points: Vec<(PathBuf, bool)> = in_root(mounts)
        .filter_map(|mount| Some((plain(mount.destination())?, is_directory(mount))))
        .collect();
    points.sort();
    points.dedup();
    let mut hash = Sha256::new();
    for (path, is_directory) in &points {
        hash.update(path.as_os_str().as_bytes());
        hash.update([0, u8::from(*is_directory)]);
    }
    let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let layer = directory.join(name);
    if !layer.is_dir() {
        let wrap = |source| SandboxError::MountPoints { path: layer.clone(), source };
        make_layer(directory, &layer, &points).map_err(wrap)?;
    }
    Ok(layer)
}

/// `path` relative to the root, if it has no `..` that only a look-up could resolve.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (clean != Path::new("")).then_some(clean)
}

fn make_layer(directory: &Path, layer: &Path, points: &[(PathBuf, bool)]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let unfinished = tempfile::Builder::new().prefix(".mount-points-").tempdir_in(directory)?;
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode;
    fs::set_permissions(unfinished.path(), mode(0o755))?;
    for (path, is_directory) in points {
        let path = unfinished.path().join(path);
        let made = match is_directory {
            true => fs::create_dir_all(&path),
            false => fs::create_dir_all(path.parent().unwrap_or(unfinished.path()))
                .and_then(|()| fs::File::create_new(&path).map(drop)),
        };
        match made {
            // Two mounts that contradict each other; `ensure` will name the one that fails.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOTDIR)) => {}
            other => other?,
        }
    }
    // Whoever sees these directories sees the same ones every time, whatever the umask.
    for entry in walkdir::WalkDir::new(unfinished.path()).contents_first(true) {
        let entry = entry.map_err(io::Error::from)?;
        let is_directory = entry.file_type().is_dir();
        fs::set_permissions(entry.path(), mode(if is_directory { 0o755 } else { 0o644 }))?;
        fs::File::open(entry.path())?.set_modified(std::time::UNIX_EPOCH)?;
    }
    let unfinished = unfinished.keep();
    match fs::rename(&unfinished, layer) {
        // Another process was faster; its directory is the same.
        Err(_) if layer.is_dir() => fs::remove_dir_all(&unfinished),
        other => other,
    }
}

/// What [`ensure`] made, for [`Made::clean_up`].
#[derive(Debug)]
pub(super) struct Made {
    /// The directory that changes go to.
    upper: PathBuf,
    entries: Vec<Entry>,
    /// Directories that were in the upper before and had something made in them.
    parents: Vec<PathBuf>,
}

#[derive(Debug)]
struct Entry {
    /// From the root, without links.
    path: PathBuf,
    kind: Kind,
    /// How it looked once everything was made; another look means that the process changed it.
    look: Option<Look>,
    /// Whether the upper had a whiteout in its place.
    whiteout: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    /// A directory of a layer below, copied to the upper because something was made in it.
    CopiedUp,
}

/// Makes the mount points that a look-up in `root` (a mount that is attached nowhere, whose
/// changes go to the directory `upper`) does not find.
pub(super) fn ensure(root: BorrowedFd<'_>, upper: &Path, mounts: &[Mount]) -> Result<Made, SandboxError> {
    let mut made = Made { upper: upper.to_owned(), entries: Vec::new(), parents: Vec::new() };
    for mount in in_root(mounts) {
        let target = mount.destination();
        let wrap = |source: io::Error| SandboxError::MountPoint { target: target.clone(), source };
        match open(root, target, OFlags::PATH, ResolveFlags::IN_ROOT) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                made.make(root, target, is_directory(mount)).map_err(wrap)?;
            }
            Err(errno) => return Err(wrap(errno.into())),
        }
    }
    if !made.entries.is_empty() {
        made.remember().map_err(|source| SandboxError::MountPoint { target: "/".into(), source })?;
    }
    Ok(made)
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn stat(fd: &OwnedFd) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

fn times(stat: &Statx) -> Timestamps {
    let time =
        |time: rustix::fs::StatxTimestamp| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() };
    Timestamps { last_access: time(stat.stx_atime), last_modification: time(stat.stx_mtime) }
}

/// When an inode last changed, and what could change within one tick of that clock.
type Look = ((i64, u32), (i64, u32), u16, u32, u32, u64);

fn look_of(stat: &Statx) -> Look {
    let (change, modification) = (stat.stx_ctime, stat.stx_mtime);
    let times = ((change.tv_sec, change.tv_nsec), (modification.tv_sec, modification.tv_nsec));
    (times.0, times.1, stat.stx_mode, stat.stx_uid, stat.stx_gid, stat.stx_size)
}

/// A path from the root without links and how much of it is there: component by component, as
/// the kernel would, but with an answer where something is missing.
struct Resolved {
    path: PathBuf,
    /// The first component that is missing and those behind it.
    missing: Vec<Vec<u8>>,
}

fn resolve(root: BorrowedFd<'_>, target: &Path) -> io::Result<Resolved> {
    let components = |path: &Path| -> Vec<Vec<u8>> {
        path.components()
            .rev()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.as_bytes().to_vec()),
                Component::ParentDir => Some(b"..".to_vec()),
                _ => None,
            })
            .collect()
    };
    let mut ahead = components(target);
    let mut path = PathBuf::new();
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == b".." {
            path.pop();
            continue;
        }
        let next = path.join(OsStr::from_bytes(&name));
        let found = open(root, &next, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::BENEATH);
        let found = match found {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                ahead.push(name);
                ahead.reverse();
                if ahead.iter().any(|name| name == b"..") {
                    return Err(Errno::NOENT.into());
                }
                return Ok(Resolved { path, missing: ahead });
            }
            Err(errno) => return Err(errno.into()),
        };
        match file_type(&stat(&found)?) {
            FileType::Symlink => {
                links += 1;
                if links > LINKS {
                    return Err(Errno::LOOP.into());
                }
                let link = rustix::fs::readlinkat(&found, c"", Vec::new())?;
                let link = Path::new(OsStr::from_bytes(link.as_bytes()));
                if link.is_absolute() {
                    path.clear();
                }
                ahead.extend(components(link));
            }
            FileType::Directory => path = next,
            _ if ahead.is_empty() => path = next,
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(Resolved { path, missing: Vec::new() })
}

impl Made {
    fn make(&mut self, root: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<()> {
        let Resolved { mut path, missing } = resolve(root, target)?;
        if missing.is_empty() {
            return Ok(());
        }
        let upper = Root::open(&self.upper)?;
        self.note_copies(&upper, &path)?;
        let parent = open(root, &path, OFlags::DIRECTORY, ResolveFlags::BENEATH)?;
        let before = times(&stat(&parent)?);
        let mut above = rustix::io::dup(&parent)?;
        for (at, name) in missing.iter().enumerate() {
            let name = OsStr::from_bytes(name);
            path.push(name);
            let whiteout = is_whiteout(&upper, &path);
            let directory = is_directory || at + 1 < missing.len();
            if directory {
                rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
            } else {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(&above, name, flags, Mode::from_raw_mode(0o644))?);
            }
            let kind = if directory { Kind::Directory } else { Kind::File };
            self.entries.push(Entry { path: path.clone(), kind, look: None, whiteout });
            if directory && at + 1 < missing.len() {
                above = open(above.as_fd(), Path::new(name), OFlags::DIRECTORY, ResolveFlags::BENEATH)?;
            }
        }
        rustix::fs::futimens(&parent, &before)?;
        Ok(())
    }

    /// Notes which directories on the way to `parent` the kernel is about to copy to the upper.
    fn note_copies(&mut self, upper: &Root, parent: &Path) -> io::Result<()> {
        let mut there = PathBuf::new();
        for name in parent.components() {
            let next = there.join(name);
            let noted = self.entries.iter().any(|entry| entry.path == next);
            let in_upper = upper.open_plain(next.as_os_str().as_bytes(), OFlags::PATH).is_ok();
            if !in_upper && !noted {
                let entry = Entry { path: next.clone(), kind: Kind::CopiedUp, look: None, whiteout: false };
                self.entries.push(entry);
                self.note_parent(there);
            }
            there = next;
        }
        self.note_parent(there);
        Ok(())
    }

    /// Notes a directory whose times a clean-up has to keep, unless it goes away with it.
    fn note_parent(&mut self, path: PathBuf) {
        let noted = self.entries.iter().any(|entry| entry.path == path);
        if !noted && !self.parents.contains(&path) {
            self.parents.push(path);
        }
    }

    /// Takes down how everything looks in the upper before the process runs.
    fn remember(&mut self) -> io::Result<()> {
        let upper = Root::open(&self.upper)?;
        for entry in &mut self.entries {
            entry.look = look(&upper, &entry.path)?.map(|stat| look_of(&stat));
        }
        Ok(())
    }

    /// Takes away what was made and is still as it was made. The process has ended.
    pub(super) fn clean_up(&self) -> Result<(), SandboxError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let root = Path::new("/");
        let wrap = |path: &Path| {
            let target = root.join(path);
            move |source| SandboxError::Cleanup { target, source }
        };
        let upper = Root::open(&self.upper).map_err(wrap(Path::new("")))?;
        // First look at everything: taking one thing away changes what holds it.
        let mut kept: Vec<(&Path, Timestamps)> = Vec::new();
        let mut go: Vec<&Entry> = Vec::new();
        for entry in &self.entries {
            match look(&upper, &entry.path).map_err(wrap(&entry.path))? {
                Some(stat) if entry.look == Some(look_of(&stat)) => go.push(entry),
                // A mount point keeps its place while it is mounted on, so what lies here now was
                // changed before or after; a directory that was used stays with what is in it.
                Some(stat) if file_type(&stat) == FileType::Directory => {
                    kept.push((&entry.path, times(&stat)))
                }
                _ => {}
            }
        }
        for path in &self.parents {
            if let Some(stat) = look(&upper, path).map_err(wrap(path))? {
                kept.push((path, times(&stat)));
            }
        }
        for entry in go.iter().rev() {
            entry.take_away(&upper).map_err(wrap(&entry.path))?;
        }
        for (path, times) in kept {
            restore(&upper, path, &times).map_err(wrap(path))?;
        }
        Ok(())
    }
}

impl Entry {
    fn take_away(&self, upper: &Root) -> io::Result<()> {
        let (parent, name) = upper.open_parent(self.path.as_os_str().as_bytes())?;
        let flags = if self.kind == Kind::File { AtFlags::empty() } else { AtFlags::REMOVEDIR };
        match rustix::fs::unlinkat(&parent, name, flags) {
            // Something that stays is in it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
            other => other?,
        }
        if self.whiteout {
            let device: Dev = 0;
            rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), device)?;
        }
        Ok(())
    }
}

fn is_whiteout(upper: &Root, path: &Path) -> bool {
    look(upper, path).ok().flatten().is_some_and(|stat| {
        file_type(&stat) == FileType::CharacterDevice && (stat.stx_rdev_major, stat.stx_rdev_minor) == (0, 0)
    })
}

/// The status of `path` in the upper if it is there; no link is followed.
fn look(upper: &Root, path: &Path) -> io::Result<Option<Statx>> {
    match upper.open_plain(path.as_os_str().as_bytes(), OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(fd) => Ok(Some(stat(&fd)?)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn restore(upper: &Root, path: &Path, times: &Timestamps) -> io::Result<()> {
    match upper.open_plain(path.as_os_str().as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => Ok(rustix::fs::futimens(&directory, times)?),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}
