//! From a spec to a process: everything is prepared here, in the caller's thread; then a thread
//! of its own makes the child, waits for it, and takes away what was made for it.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, mpsc};

use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType, Spec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, WaitOptions};
use rustix::thread::{CapabilitySet, Gid, LinkNameSpaceType, Uid};

use super::capabilities;
use super::cgroup::Cgroup;
use super::child::{Credentials, Filter, Prepared};
use super::error::SandboxError;
use super::mounts::{self, c_text};
use super::process::{End, Exit, Outcome, Process};
use super::seccomp;
use super::step::{Failure, Step};
use super::sys::{self, Stack, StringList};
use super::terminal;

/// What a process is made from.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What the sandbox looks like and what runs in it. `process.terminal` must agree with
    /// `stdio`.
    pub spec: &'a Spec,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Whether PID 1 is a small init that forwards signals and reaps, and the command its child.
    pub init: bool,
}

/// The standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors; the caller's copies of them are closed once the process runs.
    Streams {
        /// Read by the process.
        stdin: OwnedFd,
        /// Written by the process.
        stdout: OwnedFd,
        /// Written by the process.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own; [`Process::terminal`] is its controlling side.
    Terminal {
        /// Rows and columns, if known.
        size: Option<(u16, u16)>,
    },
}

impl Stdio {
    /// Nothing to read, and all output thrown away.
    pub fn null() -> Result<Self, SandboxError> {
        let open = |flags: OFlags| {
            rustix::fs::open(c"/dev/null", flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| SandboxError::Start { doing: "opening /dev/null", source: errno.into() })
        };
        let (stdin, stdout) = (open(OFlags::RDONLY)?, open(OFlags::WRONLY)?);
        Ok(Self::Streams { stdin, stdout, stderr: open(OFlags::WRONLY)? })
    }
}

/// Starts the process of a spec in its sandbox, and returns when the command is being executed.
pub fn spawn(launch: Launch<'_>) -> Result<Process, SandboxError> {
    let spec = launch.spec;
    let process = spec.process().as_ref().ok_or_else(|| SandboxError::Spec("it has no process".into()))?;
    let namespaces = namespaces(spec)?;
    let mut warnings = Vec::new();
    let mut cgroup = Cgroup::create(spec)?;
    warnings.append(&mut cgroup.warnings);
    let mut file_systems = mounts::prepare(spec, &cgroup)?;
    let (stdio, controlling) = streams(launch.stdio, &mut file_systems, process.user().uid())?;
    let status = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(start("making a pipe"))?;
    let reader = rustix::io::dup(&status.0).map_err(start("making a pipe"))?;
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let prepared = Prepared {
        status,
        parent: own.map_err(start("opening its own pidfd"))?,
        cgroups: cgroup.take_procs(),
        cgroup_namespace: namespaces.cgroup,
        join: namespaces.join,
        oom_score: process.oom_score_adj().map(|score| score.to_string().into_bytes()),
        hostname: spec.hostname().as_ref().map(|name| name.clone().into_bytes()),
        domainname: spec.domainname().as_ref().map(|name| name.clone().into_bytes()),
        loopback: namespaces.flags & libc::CLONE_NEWNET as u64 != 0,
        files: file_systems.files,
        sysctl: sysctl(spec)?,
        limits: limits(process, &mut warnings),
        stdio,
        controlling_terminal: controlling.is_some(),
        cwd: mounts::working_directory(process.cwd())?,
        credentials: credentials(process, &mut warnings),
        seccomp: filter(spec)?,
        init: init_program()?,
        argv: arguments(process, launch.init)?,
        env: StringList::new(c_texts(process.env().as_deref().unwrap_or_default())?),
    };
    let child = Child { flags: namespaces.flags, prepared, reader, cgroup, made: file_systems.made };
    let command = process.args().as_ref().and_then(|args| args.first()).cloned().unwrap_or_default();
    let end = Arc::new(End::default());
    let (pid, pidfd) = start_thread(child, Arc::clone(&end), spec, &command)?;
    Ok(Process { pid, pidfd, terminal: controlling, warnings, end })
}

fn start(doing: &'static str) -> impl Fn(Errno) -> SandboxError {
    move |errno| SandboxError::Start { doing, source: errno.into() }
}

/// What the thread takes over.
struct Child {
    flags: u64,
    prepared: Prepared,
    reader: OwnedFd,
    cgroup: Cgroup,
    made: super::mountpoints::Made,
}

enum Started {
    Running(u32, OwnedFd),
    NotCloned(io::Error),
    Failed(Report),
}

/// What came through the pipe.
enum Report {
    Step(Failure),
    Execute(Errno),
}

/// The thread makes the child and outlives it: the child asks the kernel to be killed when the
/// thread that made it ends, not the process (PR_SET_PDEATHSIG(2const)).
fn start_thread(
    child: Child,
    end: Arc<End>,
    spec: &Spec,
    command: &str,
) -> Result<(u32, OwnedFd), SandboxError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("sandbox".into());
    let spawned = thread.spawn(move || live(child, &end, &sender));
    spawned.map_err(|source| SandboxError::Start { doing: "starting a thread", source })?;
    match receiver.recv().expect("the thread sends before it ends") {
        Started::Running(pid, pidfd) => Ok((pid, pidfd)),
        Started::NotCloned(source) => Err(SandboxError::Start { doing: "making the process", source }),
        Started::Failed(report) => Err(explain(spec, command, &report)),
    }
}

fn live(child: Child, end: &End, sender: &mpsc::SyncSender<Started>) {
    sys::block_signals();
    let Child { flags, prepared, reader, cgroup, made } = child;
    let cloned = Stack::new().and_then(|stack| {
        let dumpable = rustix::process::dumpable_behavior();
        let cloned = sys::clone_child(flags, cgroup.directory(), &stack, &prepared);
        // The child's change of user has touched the memory they shared (PR_SET_DUMPABLE(2const)).
        if let Ok(before) = dumpable {
            let _ = rustix::process::set_dumpable_behavior(before);
        }
        cloned
    });
    // The writing end among them: its last copy is the child's.
    drop(prepared);
    let (pid, pidfd) = match cloned {
        Ok(cloned) => cloned,
        Err(error) => {
            drop(cgroup);
            let _ = made.clean_up();
            let _ = sender.send(Started::NotCloned(error));
            return;
        }
    };
    let report = report(&reader);
    drop(reader);
    let shared = match report {
        None => rustix::io::dup(&pidfd).map_err(io::Error::from),
        Some(report) => {
            let _ = wait(pid);
            drop((pidfd, cgroup));
            let _ = made.clean_up();
            let _ = sender.send(Started::Failed(report));
            return;
        }
    };
    match shared {
        Ok(shared) => {
            if let Err(mpsc::SendError(Started::Running(..))) =
                sender.send(Started::Running(pid as u32, shared))
            {
                let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
            }
        }
        Err(error) => {
            let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = sender.send(Started::NotCloned(error));
        }
    }
    let exit = wait(pid);
    drop((pidfd, cgroup));
    end.set(Outcome { exit, cleanup: made.clean_up().err() });
}

/// Reads what the child has to say until its last execve closes the pipe.
fn report(reader: &OwnedFd) -> Option<Report> {
    let mut message = Vec::new();
    let mut buffer = [0; 16];
    loop {
        match rustix::io::read(reader, &mut buffer) {
            Ok(0) => break,
            Ok(length) => message.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Some(Report::Step(Failure::new(Step::Init, 0, errno))),
        }
    }
    if let Some(failure) = Failure::from_bytes(&message) {
        return Some(Report::Step(failure));
    }
    let errno: [u8; 4] = message.try_into().ok()?;
    Some(Report::Execute(Errno::from_raw_os_error(i32::from_ne_bytes(errno))))
}

fn wait(pid: i32) -> Result<Exit, Errno> {
    loop {
        // Also for a child that signals nothing at its end (wait4(2), __WALL).
        let all = WaitOptions::from_bits_retain(libc::__WALL as u32);
        match rustix::process::waitpid(Pid::from_raw(pid), all) {
            Ok(Some((_, status))) => {
                if let Some(code) = status.exit_status() {
                    return Ok(Exit::Code(code));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Ok(Exit::Signal(signal));
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A report as an error for people.
fn explain(spec: &Spec, command: &str, report: &Report) -> SandboxError {
    let command = command.to_owned();
    let failure = match report {
        Report::Execute(errno) => {
            return match *errno {
                Errno::NOENT | Errno::NOTDIR => SandboxError::NotFound { command },
                Errno::ACCESS | Errno::PERM => SandboxError::PermissionDenied { command },
                Errno::NOEXEC => SandboxError::NotExecutable { command },
                other => SandboxError::Execute { command, source: other.into() },
            };
        }
        Report::Step(failure) => failure,
    };
    let at = failure.index as usize;
    let linux = spec.linux().as_ref();
    let object = match failure.step {
        Step::Target | Step::Mount => {
            let mounts = spec.mounts().as_deref().unwrap_or_default();
            let root =
                usize::from(mounts.first().is_some_and(|first| first.typ().as_deref() == Some("overlay")));
            mounts.get(at + root).map(|mount| format!("{:?}", mount.destination()))
        }
        Step::Mask => linux.and_then(|linux| linux.masked_paths().as_ref()?.get(at).cloned()),
        Step::Readonly => linux.and_then(|linux| linux.readonly_paths().as_ref()?.get(at).cloned()),
        Step::WorkingDirectory => spec.process().as_ref().map(|process| format!("{:?}", process.cwd())),
        Step::Hostname => spec.hostname().as_ref().map(|name| format!("to {name:?}")),
        _ => None,
    };
    let doing = failure.step.doing();
    let doing = object.map_or_else(|| doing.to_owned(), |object| format!("{doing} {object}"));
    SandboxError::Setup { doing, source: failure.errno.into() }
}

/// The namespaces of a spec.
struct Namespaces {
    /// CLONE_NEW* for clone3.
    flags: u64,
    cgroup: bool,
    join: Vec<(OwnedFd, LinkNameSpaceType)>,
}

fn namespaces(spec: &Spec) -> Result<Namespaces, SandboxError> {
    let mut found = Namespaces { flags: 0, cgroup: false, join: Vec::new() };
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    for namespace in listed.unwrap_or_default() {
        let (flag, link) = match namespace.typ() {
            LinuxNamespaceType::Mount => (libc::CLONE_NEWNS, None),
            LinuxNamespaceType::Pid => (libc::CLONE_NEWPID, None),
            LinuxNamespaceType::Cgroup => (0, Some(LinkNameSpaceType::ControlGroup)),
            LinuxNamespaceType::Uts => {
                (libc::CLONE_NEWUTS, Some(LinkNameSpaceType::HostNameAndNISDomainName))
            }
            LinuxNamespaceType::Ipc => {
                (libc::CLONE_NEWIPC, Some(LinkNameSpaceType::InterProcessCommunication))
            }
            LinuxNamespaceType::Network => (libc::CLONE_NEWNET, Some(LinkNameSpaceType::Network)),
            other @ (LinuxNamespaceType::User | LinuxNamespaceType::Time) => {
                return Err(SandboxError::Unsupported(format!("a {other} namespace")));
            }
        };
        match (namespace.path(), link) {
            (None, _) if flag == 0 => found.cgroup = true,
            (None, _) => found.flags |= flag as u64,
            (Some(path), Some(link)) => {
                let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                let wrap =
                    |errno: Errno| SandboxError::Namespace { path: path.clone(), source: errno.into() };
                found.join.push((fd.map_err(wrap)?, link));
            }
            (Some(_), None) => {
                return Err(SandboxError::Unsupported(format!("joining a {} namespace", namespace.typ())));
            }
        }
    }
    if found.flags & libc::CLONE_NEWNS as u64 == 0 {
        return Err(SandboxError::Unsupported("a process in the mount namespace of the host".into()));
    }
    if spec.hostname().is_some() && found.flags & libc::CLONE_NEWUTS as u64 == 0 && found.join.is_empty() {
        return Err(SandboxError::Spec("a host name without a UTS namespace".into()));
    }
    Ok(found)
}

/// The three streams, and the controlling side of the terminal.
fn streams(
    stdio: Stdio,
    file_systems: &mut mounts::FileSystems,
    uid: u32,
) -> Result<([OwnedFd; 3], Option<OwnedFd>), SandboxError> {
    let (streams, controlling) = match stdio {
        Stdio::Streams { stdin, stdout, stderr } => ([stdin, stdout, stderr], None),
        Stdio::Terminal { size } => {
            let none = || SandboxError::Spec("a terminal without a devpts mount".into());
            let (terminals, mounted_on) = file_systems.terminals.as_ref().ok_or_else(none)?;
            let pair = terminal::open(terminals, mounted_on, size)?;
            file_systems.files.console = Some(pair.console);
            let again = || rustix::io::fcntl_dupfd_cloexec(&pair.inner, 3).map_err(start("copying a stream"));
            ([again()?, again()?, pair.inner], Some(pair.controlling))
        }
    };
    // Descriptors 0 to 3 are about to get a new meaning in the child.
    let [stdin, stdout, stderr] = streams.map(|fd| {
        let fd = rustix::io::fcntl_dupfd_cloexec(&fd, 4).map_err(start("copying a stream"))?;
        hand_over(fd.as_fd(), uid, controlling.is_some());
        Ok(fd)
    });
    Ok(([stdin?, stdout?, stderr?], controlling))
}

/// Gives a pipe or the terminal to the user of the process, who may open it again by its name
/// (/dev/stdout). Files of the caller stay as they are.
fn hand_over(fd: BorrowedFd<'_>, uid: u32, terminal: bool) {
    let pipe =
        rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if uid != 0 && (pipe || terminal) {
        let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
    }
}

fn sysctl(spec: &Spec) -> Result<Vec<(CString, Vec<u8>)>, SandboxError> {
    let values = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut values: Vec<_> = values.into_iter().flatten().collect();
    values.sort();
    let prepare = |(name, value): (&String, &String)| {
        if name.split('.').any(|part| part.is_empty() || part.contains('/')) {
            return Err(SandboxError::Spec(format!("the kernel parameter {name:?}")));
        }
        Ok((c_text(&format!("/proc/sys/{}", name.replace('.', "/")))?, value.clone().into_bytes()))
    };
    values.into_iter().map(prepare).collect()
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// The limits; one above what this process may give is lowered to that, with a warning.
fn limits(process: &oci_spec::runtime::Process, warnings: &mut Vec<String>) -> Vec<(Resource, Rlimit)> {
    let may_raise = own_capabilities().contains(CapabilitySet::SYS_RESOURCE);
    let mut prepared = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let kind = resource(limit.typ());
        let some = |value: u64| (value != u64::MAX).then_some(value);
        let (mut soft, mut hard) = (some(limit.soft()), some(limit.hard()));
        let most = rustix::process::getrlimit(kind).maximum;
        if let Some(most) = most.filter(|most| !may_raise && hard.is_none_or(|hard| hard > *most)) {
            warnings.push(format!("{} is lowered to {most}: kiln may not raise its own limit", limit.typ()));
            hard = Some(most);
        }
        if let Some(hard) = hard.filter(|hard| soft.is_none_or(|soft| soft > *hard)) {
            soft = Some(hard);
        }
        prepared.push((kind, Rlimit { current: soft, maximum: hard }));
    }
    prepared
}

fn own_capabilities() -> CapabilitySet {
    rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |own| own.permitted)
}

fn credentials(process: &oci_spec::runtime::Process, warnings: &mut Vec<String>) -> Credentials {
    let user = process.user();
    let resolved = capabilities::resolve(process.capabilities().as_ref(), own_capabilities());
    if !resolved.refused.is_empty() {
        let names: Vec<String> = resolved.refused.iter().map(|one| capabilities::name(*one)).collect();
        warnings.push(format!("kiln cannot give {}: it does not have it itself", names.join(", ")));
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    Credentials {
        uid: Uid::from_raw(user.uid()),
        gid: Gid::from_raw(user.gid()),
        groups: groups.iter().copied().map(Gid::from_raw).collect(),
        umask: Mode::from_raw_mode(user.umask().unwrap_or(0o022)),
        drop: resolved.drop,
        sets: resolved.sets,
        ambient: resolved.ambient,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
    }
}

fn filter(spec: &Spec) -> Result<Option<Filter>, SandboxError> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    profile.map(seccomp::compile).transpose()
}

/// The arguments of the init program; see `sys/init.rs`.
fn arguments(process: &oci_spec::runtime::Process, init: bool) -> Result<StringList, SandboxError> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(command) = args.first().filter(|command| !command.is_empty()) else {
        return Err(SandboxError::Spec("no command to execute".into()));
    };
    let path = process.env().iter().flatten().rev().find_map(|pair| pair.strip_prefix("PATH="));
    let candidates: Vec<String> = if command.contains('/') {
        vec![command.clone()]
    } else {
        // Relative directories are left out, as they would mean another file in every directory.
        let directories = path.unwrap_or_default().split(':').filter(|directory| directory.starts_with('/'));
        directories.map(|directory| format!("{}/{command}", directory.trim_end_matches('/'))).collect()
    };
    let order = format!("{}{}", if init { 'i' } else { 'e' }, candidates.len());
    let mut arguments = vec!["kiln-init".to_owned(), order];
    arguments.extend(candidates);
    arguments.extend(args.iter().cloned());
    Ok(StringList::new(c_texts(&arguments)?))
}

fn c_texts(texts: &[String]) -> Result<Vec<CString>, SandboxError> {
    texts.iter().map(|text| c_text(text)).collect()
}

/// The init program, in memory and sealed: a container that got hold of it could not change it.
fn init_program() -> Result<BorrowedFd<'static>, SandboxError> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.as_fd());
    }
    let wrap = |source: io::Error| SandboxError::Start { doing: "making the init program", source };
    let program = make_init_program().map_err(wrap)?;
    Ok(PROGRAM.get_or_init(|| program).as_fd())
}

fn make_init_program() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create(c"kiln-init", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file is executable and the flag unknown.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"kiln-init", flags)?,
        other => other?,
    };
    let mut file = std::fs::File::from(memory);
    file.write_all(include_bytes!(concat!(env!("OUT_DIR"), "/init")))?;
    let memory = OwnedFd::from(file);
    rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}
