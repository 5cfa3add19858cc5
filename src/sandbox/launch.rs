//! From a spec to a process: everything is prepared here, in the caller's thread; then a thread
//! of its own makes the child, waits for it, and takes away what was made for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;

use oci_spec::runtime::Spec;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{PidfdFlags, Uid};

use super::cgroup::Cgroup;
use super::child::Prepared;
use super::error::SandboxError;
use super::life::{Child, NotBorn, Report, Running};
use super::mounts;
use super::prepare::{arguments, c_texts, credentials, filter, init_program, limits, namespaces, sysctl};
use super::process::{End, Process, Reaper};
use super::step::Step;
use super::sys::StringList;
use super::terminal;

/// The stack of the thread that waits for a process, in bytes.
const THREAD_STACK: usize = 256 << 10;

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
    let (pid, pidfd, reaper) = start_child(child, spec, &command)?;
    Ok(Process { pid, pidfd, terminal: controlling, warnings, reaper })
}

fn start(doing: &'static str) -> impl Fn(Errno) -> SandboxError {
    move |errno| SandboxError::Start { doing, source: errno.into() }
}

/// Makes the child in this thread if it is the process's first: that one ends with the process,
/// as the child's life wants it. Otherwise in a thread of its own.
fn start_child(child: Child, spec: &Spec, command: &str) -> Result<(u32, OwnedFd, Reaper), SandboxError> {
    let failed = |failure: NotBorn| match failure {
        NotBorn::Cloned(source) => SandboxError::Start { doing: "making the process", source },
        NotBorn::Set(report) => explain(spec, command, &report),
    };
    if rustix::thread::gettid() == rustix::process::getpid() {
        let (running, pidfd) = child.begin().and_then(Running::with_pidfd).map_err(failed)?;
        return Ok((running.pid(), pidfd, Reaper::new(Some(running))));
    }
    let reaper = Reaper::new(None);
    let end = reaper.end();
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("sandbox".into()).stack_size(THREAD_STACK);
    let spawned = thread.spawn(move || live(child, &end, &sender));
    spawned.map_err(|source| SandboxError::Start { doing: "starting a thread", source })?;
    let (pid, pidfd) = receiver.recv().expect("the thread sends before it ends").map_err(failed)?;
    Ok((pid, pidfd, reaper))
}

/// The life of the thread: it makes the child and outlives it, since the child asks the kernel to
/// be killed when the thread that made it ends, not the process (PR_SET_PDEATHSIG(2const)).
fn live(child: Child, end: &End, sender: &mpsc::SyncSender<Result<(u32, OwnedFd), NotBorn>>) {
    match child.begin().and_then(Running::with_pidfd) {
        Err(failure) => {
            let _ = sender.send(Err(failure));
        }
        Ok((running, pidfd)) => {
            // The receiver waits for it.
            let _ = sender.send(Ok((running.pid(), pidfd)));
            end.set(running.finish());
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
