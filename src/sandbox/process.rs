//! A running process and its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustix::io::Errno;
use rustix::termios::Winsize;

use super::error::SandboxError;
use super::life::Running;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned a code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// The code a shell gives: 128 + n for a signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Who waits for the process: whoever asks first, or the thread that made it.
#[derive(Debug)]
pub(super) struct Reaper {
    running: Mutex<Option<Running>>,
    end: Arc<End>,
}

impl Reaper {
    /// `running` if nobody waits for it yet.
    pub(super) fn new(running: Option<Running>) -> Self {
        Self { running: Mutex::new(running), end: Arc::new(End::default()) }
    }

    /// Where the end is told.
    pub(super) fn end(&self) -> Arc<End> {
        Arc::clone(&self.end)
    }

    fn wait(&self) -> MutexGuard<'_, Option<Outcome>> {
        let mut running = self.running.lock().expect("no holder of this lock panics");
        if let Some(running) = running.take() {
            self.end.set(running.finish());
        }
        drop(running);
        self.end.wait()
    }
}

/// What is known of the end of the process.
#[derive(Debug, Default)]
pub(super) struct End {
    outcome: Mutex<Option<Outcome>>,
    known: Condvar,
}

/// How the process ended, and how well what was made for it could be taken away.
#[derive(Debug)]
pub(super) struct Outcome {
    pub exit: Result<Exit, Errno>,
    pub cleanup: Option<SandboxError>,
}

impl End {
    pub(super) fn set(&self, outcome: Outcome) {
        *self.outcome.lock().expect("no holder of this lock panics") = Some(outcome);
        self.known.notify_all();
    }

    fn wait(&self) -> MutexGuard<'_, Option<Outcome>> {
        let outcome = self.outcome.lock().expect("no holder of this lock panics");
        self.known.wait_while(outcome, |outcome| outcome.is_none()).expect("no holder of this lock panics")
    }
}

/// A process in its sandbox. Dropping it before it has ended kills it and waits: nothing runs on
/// without an owner.
#[derive(Debug)]
pub struct Process {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) warnings: Vec<String>,
    pub(super) reaper: Reaper,
}

impl Process {
    /// Its number in the caller's PID namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that becomes readable when the process ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The controlling side of its terminal, if it was started with one.
    pub fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref()
    }

    /// What could not be done as the spec asks and was left out, as Docker would: one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Sets the size of its terminal, if it has one; the process gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), SandboxError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        resize(terminal, rows, columns).map_err(|source| SandboxError::Terminal { source })
    }

    /// Sends a signal; one to a process that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        match super::sys::send_signal(self.pidfd.as_fd(), signal) {
            Err(Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(self.failed("signal", errno)),
        }
    }

    /// Kills it, and with it everything in its PID namespace.
    pub fn kill(&self) -> Result<(), SandboxError> {
        self.signal(libc::SIGKILL)
    }

    /// Waits for its end. Then nothing of it is left: the other processes of its PID namespace
    /// have ended, what was made in the upper directory for mounts is gone, and so is its cgroup.
    pub fn wait(&self) -> Result<Exit, SandboxError> {
        let mut outcome = self.reaper.wait();
        let outcome = outcome.as_mut().expect("waited for");
        if let Some(error) = outcome.cleanup.take() {
            return Err(error);
        }
        outcome.exit.map_err(|errno| self.failed("wait for", errno))
    }

    fn failed(&self, doing: &'static str, errno: Errno) -> SandboxError {
        SandboxError::Process { doing, pid: self.pid, source: errno.into() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or ends now; there is nobody to tell of a failure.
        let _ = self.kill();
        drop(self.reaper.wait());
    }
}

pub(super) fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
