//! The parent's half of mounting: every file system that does not belong to a namespace of the
//! child is made here, attached nowhere, so that an error can be told in the kernel's own words
//! and a parent that dies leaves nothing behind.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::child::{Files, PreparedMount, Target, What};
use super::error::SandboxError;
use super::options::Options;
use super::overlay::{self, Overlay};
use super::{cgroup, device, mountpoints, sys};

/// The file systems of a spec, and what there is to undo when the process has ended.
pub(super) struct FileSystems {
    pub files: Files,
    pub made: mountpoints::Made,
    /// The mount of the terminals, from which the process's own is taken.
    pub terminals: Option<(OwnedFd, PathBuf)>,
}

/// Makes everything that can be made before the child is.
pub(super) fn prepare(spec: &Spec, cgroups: &cgroup::Cgroup) -> Result<FileSystems, SandboxError> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let linux = spec.linux().as_ref();
    let (root, attach, upper) = root(spec, mounts)?;
    let inside: &[Mount] = if mounts.first().is_some_and(|first| first.destination() == Path::new("/")) {
        &mounts[1..]
    } else {
        mounts
    };
    let made = mountpoints::ensure(root.as_fd(), &upper, inside)?;
    let mut files = Files {
        attach: c_string(&attach)?,
        root,
        covers: None,
        mounts: Vec::with_capacity(inside.len()),
        console: None,
        masked: paths(linux.and_then(|linux| linux.masked_paths().as_deref()))?,
        readonly: paths(linux.and_then(|linux| linux.readonly_paths().as_deref()))?,
        readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
    };
    let mut terminals = None;
    for (at, mount) in inside.iter().enumerate() {
        let prepared = match mount.typ().as_deref() {
            Some("cgroup" | "cgroup2") => cgroups.mounts(mount)?,
            _ => vec![one(spec, mount, &inside[at + 1..])?],
        };
        if mount.typ().as_deref() == Some("devpts")
            && let Some(PreparedMount { what: What::Detached(fd), .. }) = prepared.first()
        {
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3);
            let fd = fd.map_err(|errno| SandboxError::Terminal { source: errno.into() })?;
            terminals = Some((fd, mount.destination().clone()));
        }
        files.mounts.extend(prepared);
    }
    if !files.masked.is_empty() {
        files.covers = Some(covers()?);
    }
    Ok(FileSystems { files, made, terminals })
}

/// The root: the overlay that is mounted on `/`, else the directory of the spec. With it a
/// directory of the host that it can be attached to, and where its changes go.
fn root(spec: &Spec, mounts: &[Mount]) -> Result<(OwnedFd, PathBuf, PathBuf), SandboxError> {
    if let Some(mount) = mounts.first().filter(|mount| mount.destination() == Path::new("/")) {
        if mount.typ().as_deref() != Some("overlay") {
            return Err(SandboxError::Unsupported("a mount on / other than an overlay".into()));
        }
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let overlay = Overlay::parse(options.data);
        let directory = overlay.directory().map(PathBuf::from);
        let directory =
            directory.ok_or_else(|| SandboxError::Spec("an overlay without a directory".into()))?;
        let upper = overlay.upper.as_ref().map_or_else(|| directory.clone(), PathBuf::from);
        return Ok((overlay.mount(options.attributes.set)?, directory, upper));
    }
    let root = spec.root().as_ref().ok_or_else(|| SandboxError::Spec("it has no root".into()))?;
    let path = root.path();
    let source =
        |source: io::Error| SandboxError::MountSource { path: path.clone(), target: "/".into(), source };
    let absolute = fs::canonicalize(path).map_err(source)?;
    let mount = overlay::plain(&absolute).map_err(|errno| source(errno.into()))?;
    Ok((mount, absolute.clone(), absolute))
}

/// Prepares one mount; `later` are those that may need a mount point inside it.
fn one(spec: &Spec, mount: &Mount, later: &[Mount]) -> Result<PreparedMount, SandboxError> {
    let destination = mount.destination();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or("bind");
    let mut target = target(destination, true)?;
    let what = if options.bind.is_some() || kind == "bind" {
        let (fd, is_directory) = bind(mount, &options)?;
        target.directory = is_directory;
        What::Detached(fd)
    } else if matches!(kind, "proc" | "sysfs" | "mqueue") {
        target.links = kind == "mqueue";
        let values = options
            .data
            .iter()
            .map(|(key, value)| Ok((c_text(key)?, value.as_deref().map(c_text).transpose()?)));
        What::New {
            kind: c_text(kind)?,
            options: values.collect::<Result<_, SandboxError>>()?,
            attributes: options.attributes.set as u32,
        }
    } else {
        let fd = file_system(kind, destination, &options)?;
        if kind == "tmpfs" && destination == Path::new("/dev") {
            device::populate(fd.as_fd(), spec, later)?;
        }
        if options.attributes.set & libc::MOUNT_ATTR_RDONLY != 0 {
            // Set only now, so that there could be something in it.
            set_attributes(&fd, destination, false, options.attributes)?;
        }
        What::Detached(fd)
    };
    let recursive = options.propagation_recursive;
    Ok(PreparedMount { what, target, propagation: options.propagation, recursive })
}

/// Makes a file system, attached nowhere and writable for now.
pub(super) fn file_system(kind: &str, target: &Path, options: &Options) -> Result<OwnedFd, SandboxError> {
    let failed = |detail: String, errno: Errno| SandboxError::Mount {
        kind: kind.to_owned(),
        target: target.to_owned(),
        detail,
        source: errno.into(),
    };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC);
    let context = context.map_err(|errno| failed(String::new(), errno))?;
    for (key, value) in &options.data {
        let set = match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => rustix::mount::fsconfig_set_flag(&context, key.as_str()),
        };
        set.map_err(|errno| failed(format!(" with {key:?}{}", overlay::said(&context)), errno))?;
    }
    let made = rustix::mount::fsconfig_create(&context).and_then(|()| {
        let attributes = options.attributes.set & !libc::MOUNT_ATTR_RDONLY;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    });
    made.map_err(|errno| failed(overlay::said(&context), errno))
}

/// A second mount of what the host has at the source, and whether that is a directory.
fn bind(mount: &Mount, options: &Options) -> Result<(OwnedFd, bool), SandboxError> {
    let target = mount.destination();
    let path = mount.source().clone();
    let path =
        path.ok_or_else(|| SandboxError::Spec(format!("the bind mount on {target:?} has no source")))?;
    let failed =
        |source: io::Error| SandboxError::MountSource { path: path.clone(), target: target.clone(), source };
    let is_directory = fs::metadata(&path).map_err(failed)?.is_dir();
    let recursive = options.bind == Some(true);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let fd = rustix::mount::open_tree(CWD, &path, flags).map_err(|errno| failed(errno.into()))?;
    set_attributes(&fd, target, false, options.attributes)?;
    set_attributes(&fd, target, true, options.recursive_attributes)?;
    // What is mounted on the host later stays there, and the other way round.
    let private = sys::Attributes { propagation: libc::MS_PRIVATE, ..Default::default() };
    if options.propagation == 0 {
        sys::mount_setattr(fd.as_fd(), c"", true, private).map_err(|errno| failed(errno.into()))?;
    }
    Ok((fd, is_directory))
}

fn set_attributes(
    fd: &OwnedFd,
    target: &Path,
    recursive: bool,
    attributes: sys::Attributes,
) -> Result<(), SandboxError> {
    if attributes.set | attributes.clear == 0 {
        return Ok(());
    }
    sys::mount_setattr(fd.as_fd(), c"", recursive, attributes).map_err(|errno| SandboxError::Setup {
        doing: format!("setting the options of the mount on {target:?}"),
        source: errno.into(),
    })
}

/// What paths are masked with: a read-only file system with a device `null` and a directory
/// `empty`. Never the host's own /dev/null, whose mode the container's root could change.
fn covers() -> Result<OwnedFd, SandboxError> {
    let options = ["nosuid", "noexec", "mode=755", "size=4k", "nr_inodes=4"].map(str::to_owned);
    let options = Options::parse(&options);
    let fd = file_system("tmpfs", Path::new("masked paths"), &options)?;
    let failed = |errno: Errno| SandboxError::Device { path: "null".into(), source: errno.into() };
    let mode = Mode::from_raw_mode;
    rustix::fs::mkdirat(&fd, c"empty", mode(0o755)).map_err(failed)?;
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(&fd, c"null", FileType::CharacterDevice, mode(0o666), null).map_err(failed)?;
    rustix::fs::chmodat(&fd, c"null", mode(0o666), rustix::fs::AtFlags::empty()).map_err(failed)?;
    let readonly = sys::Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    set_attributes(&fd, Path::new("masked paths"), false, readonly)?;
    Ok(fd)
}

/// The working directory as the child looks it up.
pub(super) fn working_directory(path: &Path) -> Result<Target, SandboxError> {
    if !path.is_absolute() {
        return Err(SandboxError::Spec(format!("the working directory {path:?} is not absolute")));
    }
    if path.parent().is_none() {
        return Ok(Target { path: c"/".to_owned(), parents: Vec::new(), directory: true, links: true });
    }
    target(path, true)
}

/// The place `path` as the child looks it up.
pub(super) fn target(path: &Path, directory: bool) -> Result<Target, SandboxError> {
    let mut parents: Vec<PathBuf> = Vec::new();
    let mut above = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => above.push(name),
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(SandboxError::Spec(format!("the path {path:?} has a `..` in it")));
            }
        }
        parents.push(above.clone());
    }
    let path =
        parents.pop().ok_or_else(|| SandboxError::Spec("a mount on / that is not the first".into()))?;
    let parents = parents.iter().map(|parent| c_string(parent)).collect::<Result<_, _>>()?;
    Ok(Target { path: c_string(&path)?, parents, directory, links: true })
}

fn paths(paths: Option<&[String]>) -> Result<Vec<CString>, SandboxError> {
    paths.unwrap_or_default().iter().map(|path| c_text(path)).collect()
}

pub(super) fn c_string(path: &Path) -> Result<CString, SandboxError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SandboxError::Spec(format!("a null byte in the path {path:?}")))
}

pub(super) fn c_text(text: &str) -> Result<CString, SandboxError> {
    CString::new(text).map_err(|_| SandboxError::Spec(format!("a null byte in {text:?}")))
}
