//! From a spec to a process: everything is prepared here, in the caller's thread; then a thread
//! of its own makes the child, waits for it, and takes away what was made for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};

use oci_spec::runtime::Spec;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Uid, WaitOptions};

use super::cgroup::{self, Cgroup};
use super::child::Prepared;
use super::error::SandboxError;
use super::mounts;
use super::prepare::{arguments, c_texts, credentials, filter, init_program, limits, namespaces, sysctl};
use super::process::{End, Exit, Outcome, Process};
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
    // Now that nobody waits for this thread.
    cgroup::sweep();
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
