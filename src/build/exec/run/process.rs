//! Runs the process of a spec and follows its output until it has ended.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::log::Log;
use crate::base::event::{Event, Stream};
use crate::build::exec::error::ExecError;
use crate::build::solve::Step;
use crate::sandbox::{Exit, Launch, Stdio, spawn};

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// How a process ended, and what it said.
pub struct Ended {
    /// Its exit.
    pub exit: Exit,
    /// What is kept of its output.
    pub log: Log,
}

/// Runs the process of `spec`. `running` is called when it is: what only the start needed can be
/// taken away then. A cancelled step's process is killed.
pub fn run(spec: &Spec, step: &Step<'_>, running: impl FnOnce()) -> Result<Ended, ExecError> {
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let stdin = rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ExecError::Output(errno.into()))?;
    let stdio = Stdio::Streams { stdin, stdout: stdout_end, stderr: stderr_end };
    let process = spawn(Launch { spec, stdio, init: false })?;
    running();
    for warning in process.warnings() {
        step.events.send(Event::Warning { vertex: Some(step.vertex), message: warning.clone() });
    }
    let cancel = step.cancel.fd().map_err(ExecError::Output)?;
    let mut outputs =
        [(Stream::Stdout, Some(File::from(stdout))), (Stream::Stderr, Some(File::from(stderr)))];
    let mut follow = Follow { step, log: Log::default(), buffer: vec![0; PIECE] };
    let (mut ended, mut killed) = (false, false);
    while !ended || outputs.iter().any(|(_, output)| output.is_some()) {
        let mut fds = Vec::with_capacity(4);
        for (_, output) in &outputs {
            fds.extend(output.as_ref().map(|output| PollFd::new(output, PollFlags::IN)));
        }
        let open = fds.len();
        let watched = (!ended).then(|| process.pidfd());
        fds.extend(watched.as_ref().map(|pidfd| PollFd::from_borrowed_fd(*pidfd, PollFlags::IN)));
        fds.extend((!killed).then(|| PollFd::from_borrowed_fd(cancel, PollFlags::IN)));
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(ExecError::Output(errno.into())),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut at = 0;
        for (stream, output) in &mut outputs {
            if output.is_some() {
                if ready[at] {
                    follow.read(*stream, output)?;
                }
                at += 1;
            }
        }
        if watched.is_some() {
            ended |= ready[open];
        }
        if step.cancel.is_cancelled() && !killed {
            killed = true;
            process.kill()?;
        }
    }
    let exit = process.wait()?;
    if killed {
        return Err(ExecError::Cancelled);
    }
    Ok(Ended { exit, log: follow.log })
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ExecError> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| ExecError::Output(errno.into()))
}

struct Follow<'a> {
    step: &'a Step<'a>,
    log: Log,
    buffer: Vec<u8>,
}

impl Follow<'_> {
    /// Reads what is there; at its end the output is closed.
    fn read(&mut self, stream: Stream, output: &mut Option<File>) -> Result<(), ExecError> {
        let Some(file) = output else { return Ok(()) };
        match file.read(&mut self.buffer) {
            Ok(0) => *output = None,
            Ok(count) => {
                let bytes = self.buffer[..count].to_vec();
                self.log.push(&bytes);
                self.step.events.send(Event::Log { vertex: self.step.vertex, stream, bytes });
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ExecError::Output(error)),
        }
        Ok(())
    }
}
