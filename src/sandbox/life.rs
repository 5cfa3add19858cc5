//! The life of the child as its parent sees it: it is made, reports that its command runs or why
//! not, ends, and what was made for it is taken away. All of it in one thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use super::cgroup::{self, Cgroup};
use super::child::Prepared;
use super::mountpoints::Made;
use super::process::{Exit, Outcome};
use super::step::{Failure, Step};
use super::sys::{self, SignalsBlocked, Stack};

/// A child that is to be made.
pub(super) struct Child {
    /// CLONE_NEW* for clone3.
    pub flags: u64,
    pub prepared: Prepared,
    /// Where it reports.
    pub reader: OwnedFd,
    pub cgroup: Cgroup,
    pub made: Made,
}

/// Why there is no child that executes its command. Nothing is left of it.
pub(super) enum NotBorn {
    /// The kernel did not make it.
    Cloned(io::Error),
    /// It could not do what it was made for.
    Set(Report),
}

/// What came through the pipe.
pub(super) enum Report {
    /// A step failed before the init program.
    Step(Failure),
    /// The init program could not execute the command.
    Execute(Errno),
}

/// A child that executes its command.
#[derive(Debug)]
pub(super) struct Running {
    pid: i32,
    pidfd: OwnedFd,
    cgroup: Cgroup,
    made: Made,
}

impl Child {
    /// Makes the child and returns when its command is being executed.
    pub(super) fn begin(self) -> Result<Running, NotBorn> {
        let Self { flags, prepared, reader, cgroup, made } = self;
        let blocked = SignalsBlocked::new();
        let cloned = Stack::new().and_then(|stack| {
            let dumpable = rustix::process::dumpable_behavior();
            let cloned = sys::clone_child(flags, cgroup.directory(), &stack, &prepared);
            // The child's change of user has touched the memory they shared
            // (PR_SET_DUMPABLE(2const)).
            if let Ok(before) = dumpable {
                let _ = rustix::process::set_dumpable_behavior(before);
            }
            cloned
        });
        drop(blocked);
        // The writing end among them: its last copy is the child's.
        drop(prepared);
        let (pid, pidfd) = match cloned {
            Ok(cloned) => cloned,
            Err(error) => {
                drop(cgroup);
                let _ = made.clean_up();
                return Err(NotBorn::Cloned(error));
            }
        };
        let running = Running { pid, pidfd, cgroup, made };
        match report(&reader) {
            None => Ok(running),
            Some(report) => {
                running.abandon();
                Err(NotBorn::Set(report))
            }
        }
    }
}

impl Running {
    /// Its number here.
    pub(super) fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// The child with another descriptor for it; without one it is of no use and ends.
    pub(super) fn with_pidfd(self) -> Result<(Self, OwnedFd), NotBorn> {
        match rustix::io::fcntl_dupfd_cloexec(&self.pidfd, 3) {
            Ok(pidfd) => Ok((self, pidfd)),
            Err(errno) => {
                self.abandon();
                Err(NotBorn::Cloned(errno.into()))
            }
        }
    }

    fn abandon(self) {
        let _ = sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        self.finish();
    }

    /// Waits for its end and takes away what was made for it.
    pub(super) fn finish(self) -> Outcome {
        // Now that nobody waits for this thread.
        cgroup::sweep();
        let exit = wait(self.pid);
        drop((self.pidfd, self.cgroup));
        Outcome { exit, cleanup: self.made.clean_up().err() }
    }
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
