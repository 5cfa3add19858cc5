//! What happens in the child, between clone3 and execve: one raw system call after the other on
//! what [`Prepared`] holds. It shares the parent's memory, so nothing here allocates, locks,
//! panics, or touches the environment; a failure goes through the pipe as a step and an errno.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid};

use super::step::{Failure, Step};
use super::sys::{self, Attributes, StringList};

/// Everything the child needs, made by the parent.
pub(super) struct Prepared {
    /// The pipe for failures; the read end is only closed here.
    pub status: (OwnedFd, OwnedFd),
    /// A pidfd of the parent.
    pub parent: OwnedFd,
    /// `cgroup.procs` files to join (cgroup v1).
    pub cgroups: Vec<OwnedFd>,
    /// Whether to make a cgroup namespace; after joining, so that its root is the own cgroup.
    pub cgroup_namespace: bool,
    /// Namespaces to join.
    pub join: Vec<(OwnedFd, LinkNameSpaceType)>,
    /// The text for `oom_score_adj`.
    pub oom_score: Option<Vec<u8>>,
    /// In a new UTS namespace.
    pub hostname: Option<Vec<u8>>,
    /// In a new UTS namespace.
    pub domainname: Option<Vec<u8>>,
    /// Whether there is a new network namespace, whose loopback interface is down.
    pub loopback: bool,
    /// The file systems.
    pub files: Files,
    /// `/proc/sys/…` and its value.
    pub sysctl: Vec<(CString, Vec<u8>)>,
    /// Limits.
    pub limits: Vec<(Resource, Rlimit)>,
    /// What becomes the descriptors 0, 1 and 2.
    pub stdio: [OwnedFd; 3],
    /// Whether descriptor 0 is to be the controlling terminal.
    pub controlling_terminal: bool,
    /// The working directory; made if it is not there.
    pub cwd: Target,
    /// The user and everything about its rights.
    pub credentials: Credentials,
    /// The filter.
    pub seccomp: Option<Filter>,
    /// The init program.
    pub init: BorrowedFd<'static>,
    /// Its arguments, the command among them.
    pub argv: StringList,
    /// The environment.
    pub env: StringList,
}

/// The root file system and what is mounted in it.
pub(super) struct Files {
    /// A directory of the host that the root is attached to for the moment.
    pub attach: CString,
    /// The root: a mount that is attached nowhere.
    pub root: OwnedFd,
    /// A mount that is attached nowhere with a character device `null` and a directory `empty`,
    /// to cover paths with. Needed if `masked` is not empty.
    pub covers: Option<OwnedFd>,
    /// What is mounted, in order.
    pub mounts: Vec<PreparedMount>,
    /// The terminal's own device, bound to /dev/console.
    pub console: Option<Console>,
    /// Paths that show nothing.
    pub masked: Vec<CString>,
    /// Paths that cannot be written to.
    pub readonly: Vec<CString>,
    /// Whether the root itself is read-only.
    pub readonly_root: bool,
}

/// One mount.
pub(super) struct PreparedMount {
    /// What.
    pub what: What,
    /// Where.
    pub target: Target,
    /// The propagation it gets, MS_* or 0.
    pub propagation: u64,
    /// Whether the propagation is for the mounts below it too.
    pub recursive: bool,
}

/// What is mounted.
pub(super) enum What {
    /// A mount made by the parent, attached nowhere.
    Detached(OwnedFd),
    /// A file system that belongs to a namespace of the child, so that the child must make it.
    New {
        /// Its type.
        kind: CString,
        /// Its options; a flag has no value.
        options: Vec<(CString, Option<CString>)>,
        /// MOUNT_ATTR_*.
        attributes: u32,
    },
}

/// A place in the container.
pub(super) struct Target {
    /// The path from the root.
    pub path: CString,
    /// The directories on the way, outermost first, for a target in a file system mounted here.
    pub parents: Vec<CString>,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether a symbolic link may be on the way; it may not for /proc and /sys, whose files are
    /// trusted by those who open them.
    pub links: bool,
}

/// The console.
pub(super) struct Console {
    /// Where its device is.
    pub device: CString,
    /// `/dev/console`.
    pub target: Target,
}

/// The user and everything about its rights.
pub(super) struct Credentials {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
    pub umask: Mode,
    /// Capabilities to drop from the bounding set.
    pub drop: Vec<u32>,
    /// What is kept.
    pub sets: CapabilitySets,
    /// What survives execve for another user than root.
    pub ambient: Vec<u32>,
    pub no_new_privileges: bool,
}

/// A seccomp filter.
pub(super) struct Filter {
    pub program: Vec<libc::sock_filter>,
    pub flags: u64,
}

/// The child's whole way. Never comes back: it executes or reports and ends.
pub(super) fn run(prepared: &Prepared) -> Infallible {
    let failure = match way(prepared) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let _ = rustix::io::write(&prepared.status.1, &failure.to_bytes());
    sys::exit(125)
}

fn way(prepared: &Prepared) -> Result<Infallible, Failure> {
    sys::reset_signals();
    sys::close(prepared.status.0.as_fd());
    enter(prepared)?;
    let root = prepared.files.root.as_fd();
    mount_all(&prepared.files, root)?;
    terminal(prepared, root)?;
    restrict(prepared, root)?;
    pivot(&prepared.files, root)?;
    rights(prepared)?;
    sys::unblock_signals();
    Err(Failure::new(Step::Init, 0, sys::execute(prepared.init, &prepared.argv, &prepared.env)))
}

/// Namespaces and what belongs to the process as a whole.
fn enter(prepared: &Prepared) -> Result<(), Failure> {
    for (at, procs) in prepared.cgroups.iter().enumerate() {
        at_step(Step::Cgroup, at, rustix::io::write(procs, b"0").map(drop))?;
    }
    if prepared.cgroup_namespace {
        at_step(Step::CgroupNamespace, 0, sys::unshare(sys::NEW_CGROUP))?;
    }
    for (at, (fd, kind)) in prepared.join.iter().enumerate() {
        let joined = rustix::thread::move_into_link_name_space(fd.as_fd(), Some(*kind));
        at_step(Step::JoinNamespace, at, joined)?;
    }
    at_step(Step::Session, 0, rustix::process::setsid().map(drop))?;
    // Where keyrings are not built in or the quota is used up, the caller's stays; its keys are
    // readable only by its own user.
    let _ = sys::join_session_keyring();
    if let Some(score) = &prepared.oom_score {
        at_step(Step::OomScore, 0, write_file(c"/proc/self/oom_score_adj", score))?;
    }
    if let Some(name) = &prepared.hostname {
        at_step(Step::Hostname, 0, rustix::system::sethostname(name))?;
    }
    if let Some(name) = &prepared.domainname {
        at_step(Step::Domainname, 0, rustix::system::setdomainname(name))?;
    }
    if prepared.loopback {
        at_step(Step::Loopback, 0, loopback())?;
    }
    Ok(())
}

fn loopback() -> Result<(), Errno> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    sys::loopback_up(socket.as_fd())
}

fn mount_all(files: &Files, root: BorrowedFd<'_>) -> Result<(), Failure> {
    // Nothing done here may come back to the host, whatever its mounts are shared with.
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    at_step(Step::Propagation, 0, sys::mount_setattr(CWD, c"/", true, private))?;
    if let Some(covers) = &files.covers {
        at_step(Step::Root, 0, attach_on_host(covers.as_fd(), &files.attach))?;
    }
    at_step(Step::Root, 1, attach_on_host(root, &files.attach))?;
    for (at, mount) in files.mounts.iter().enumerate() {
        let target = at_step(Step::Target, at, find_or_make(root, &mount.target))?;
        at_step(Step::Mount, at, mount_one(mount, target.as_fd()))?;
    }
    Ok(())
}

fn attach_on_host(mount: BorrowedFd<'_>, directory: &CStr) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, c"", CWD, directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
}

fn mount_one(mount: &PreparedMount, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let made;
    let mounted = match &mount.what {
        What::Detached(fd) => fd.as_fd(),
        What::New { kind, options, attributes } => {
            made = make(kind, options, *attributes)?;
            made.as_fd()
        }
    };
    attach(mounted, target)?;
    if mount.propagation != 0 {
        let attributes = Attributes { propagation: mount.propagation, ..Attributes::default() };
        sys::mount_setattr(mounted, c"", mount.recursive, attributes)?;
    }
    Ok(())
}

fn make(kind: &CStr, options: &[(CString, Option<CString>)], attributes: u32) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => rustix::mount::fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Looks `path` up inside the root: no link, `..` or magic link leads out of it.
fn find(root: BorrowedFd<'_>, path: &CStr, links: bool) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if !links {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    open(root, path, OFlags::PATH, resolve)
}

fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Another process renames something on the way; a bind mount may be anybody's.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn find_or_make(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    match find(root, &target.path, target.links) {
        Err(Errno::NOENT) => {}
        found => return found,
    }
    // The parent has made the mount points that were missing in the root itself, so this one is
    // inside another mount.
    let mode = Mode::from_raw_mode(0o755);
    let mut above: Option<OwnedFd> = None;
    for parent in &target.parents {
        let directory = match find(root, parent, target.links) {
            Err(Errno::NOENT) => {
                let above = above.as_ref().map_or(root, OwnedFd::as_fd);
                rustix::fs::mkdirat(above, last(parent), mode)?;
                find(root, parent, target.links)?
            }
            found => found?,
        };
        above = Some(directory);
    }
    let above = above.as_ref().map_or(root, OwnedFd::as_fd);
    if target.directory {
        rustix::fs::mkdirat(above, last(&target.path), mode)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(above, last(&target.path), flags, Mode::from_raw_mode(0o644)).map(drop)?;
    }
    find(root, &target.path, target.links)
}

/// The last component of a clean path.
fn last(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    bytes.get(start..).and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok()).unwrap_or(path)
}

fn terminal(prepared: &Prepared, root: BorrowedFd<'_>) -> Result<(), Failure> {
    if let Some(console) = &prepared.files.console {
        at_step(Step::Console, 0, bind_console(console, root))?;
    }
    if prepared.controlling_terminal {
        let taken = rustix::process::ioctl_tiocsctty(&prepared.stdio[0]);
        at_step(Step::ControllingTerminal, 0, taken)?;
    }
    Ok(())
}

fn bind_console(console: &Console, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let device = find(root, &console.device, false)?;
    let target = find_or_make(root, &console.target)?;
    attach(clone(device.as_fd(), c"", false)?.as_fd(), target.as_fd())
}

/// A second mount of what `path` under `fd` shows, attached nowhere.
fn clone(fd: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(fd, path, flags)
}

/// Kernel parameters, masked and read-only paths.
fn restrict(prepared: &Prepared, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let files = &prepared.files;
    for (at, (path, value)) in prepared.sysctl.iter().enumerate() {
        at_step(Step::Sysctl, at, write_in(root, path, value))?;
    }
    for (at, path) in files.masked.iter().enumerate() {
        at_step(Step::Mask, at, mask(files, root, path))?;
    }
    for (at, path) in files.readonly.iter().enumerate() {
        at_step(Step::Readonly, at, make_readonly(root, path))?;
    }
    Ok(())
}

fn write_in(root: BorrowedFd<'_>, path: &CStr, value: &[u8]) -> Result<(), Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let file = open(root, path, OFlags::WRONLY, resolve)?;
    rustix::io::write(&file, value).map(drop)
}

fn write_file(path: &CStr, value: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value).map(drop)
}

/// Covers a path by what has its type; a bind that fails would cost a grace period.
fn mask(files: &Files, root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = match find(root, path, true) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let Some(covers) = &files.covers else { return Err(Errno::BADF) };
    let status = rustix::fs::statx(&target, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    let cover = match FileType::from_raw_mode(status.stx_mode.into()) {
        FileType::Directory => c"empty",
        _ => c"null",
    };
    attach(clone(covers.as_fd(), cover, false)?.as_fd(), target.as_fd())
}

fn make_readonly(root: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let target = match find(root, path, true) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mount = clone(target.as_fd(), c"", true)?;
    let readonly = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    sys::mount_setattr(mount.as_fd(), c"", true, readonly)?;
    attach(mount.as_fd(), target.as_fd())
}

/// Makes the root the root, and everything of the host unreachable.
fn pivot(files: &Files, root: BorrowedFd<'_>) -> Result<(), Failure> {
    at_step(Step::Pivot, 0, rustix::process::fchdir(root))?;
    // The old root lands on top of the new one: pivot_root(2), "pivot_root(".", ".")".
    at_step(Step::Pivot, 1, rustix::process::pivot_root(c".", c"."))?;
    at_step(Step::DetachHost, 0, rustix::mount::unmount(c".", UnmountFlags::DETACH))?;
    at_step(Step::Pivot, 2, rustix::process::chdir(c"/"))?;
    if files.readonly_root {
        let readonly = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
        at_step(Step::ReadonlyRoot, 0, sys::mount_setattr(root, c"", false, readonly))?;
    }
    Ok(())
}

/// Limits, streams, working directory, user, capabilities, filter: from here on it can only lose.
fn rights(prepared: &Prepared) -> Result<(), Failure> {
    let credentials = &prepared.credentials;
    for (at, (resource, limit)) in prepared.limits.iter().enumerate() {
        let set = rustix::process::setrlimit(*resource, *limit);
        at_step(Step::Limit, at, set)?;
    }
    for (number, fd) in prepared.stdio.iter().enumerate() {
        at_step(Step::Stdio, number, sys::duplicate(fd.as_fd(), number as i32))?;
    }
    // Descriptor 3 reports what becomes of the last execve; all else ends with the next one.
    at_step(Step::Stdio, 3, sys::duplicate(prepared.status.1.as_fd(), 3))?;
    at_step(Step::Stdio, 4, sys::close_from(4))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut arrived = change_directory(&prepared.cwd.path);
    if arrived == Err(Errno::NOENT) {
        // Before the user is changed: it is root's, as Docker has it.
        let made = find_or_make(prepared.files.root.as_fd(), &prepared.cwd);
        at_step(Step::WorkingDirectory, 0, made)?;
        arrived = change_directory(&prepared.cwd.path);
    }
    rustix::process::umask(credentials.umask);
    if let Some(filter) = prepared.seccomp.as_ref().filter(|_| !credentials.no_new_privileges) {
        at_step(Step::Seccomp, 0, sys::install_filter(&filter.program, filter.flags))?;
    }
    become_user(credentials)?;
    if let Err(errno) = arrived {
        // A directory that only the user itself may enter, on a network file system for instance.
        let again = if errno == Errno::ACCESS { change_directory(&prepared.cwd.path) } else { Err(errno) };
        at_step(Step::WorkingDirectory, 0, again)?;
    }
    if credentials.no_new_privileges {
        at_step(Step::NoNewPrivileges, 0, rustix::thread::set_no_new_privs(true))?;
        if let Some(filter) = &prepared.seccomp {
            at_step(Step::Seccomp, 0, sys::install_filter(&filter.program, filter.flags))?;
        }
    }
    let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    at_step(Step::ParentDeath, 0, death)?;
    // It may have died before.
    if sys::has_ended(prepared.parent.as_fd()) {
        return Err(Failure::new(Step::Parent, 0, Errno::SRCH));
    }
    Ok(())
}

/// No magic link: `/proc/self/fd/N` would lead to what the child still holds of the host.
fn change_directory(path: &CStr) -> Result<(), Errno> {
    let directory = open(CWD, path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_MAGICLINKS)?;
    rustix::process::fchdir(&directory)
}

fn become_user(credentials: &Credentials) -> Result<(), Failure> {
    for capability in &credentials.drop {
        let one = CapabilitySet::from_bits_retain(1 << capability);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // The first that this kernel does not know; they come in rising order.
            Err(Errno::INVAL) => break,
            dropped => at_step(Step::BoundingSet, *capability as usize, dropped)?,
        }
    }
    let keep = rustix::thread::set_keep_capabilities(true);
    at_step(Step::Capabilities, 0, keep)?;
    at_step(Step::Groups, 0, rustix::thread::set_thread_groups(&credentials.groups))?;
    let (uid, gid) = (credentials.uid, credentials.gid);
    at_step(Step::User, 0, rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    at_step(Step::User, 1, rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    at_step(Step::Capabilities, 1, rustix::thread::set_capabilities(None, credentials.sets))?;
    for capability in &credentials.ambient {
        let one = CapabilitySet::from_bits_retain(1 << capability);
        let raised = rustix::thread::configure_capability_in_ambient_set(one, true);
        at_step(Step::Capabilities, 2, raised)?;
    }
    Ok(())
}

fn at_step<T>(step: Step, index: usize, result: Result<T, Errno>) -> Result<T, Failure> {
    result.map_err(|errno| Failure::new(step, index, errno))
}
