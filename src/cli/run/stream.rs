//! The streams of a container in the foreground: its terminal, or three descriptors.
//!
//! A container without a terminal of its own never gets kiln's: what is a terminal here is copied
//! through a pipe. Files and pipes are handed over as they are, and nothing is copied.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::cli::error::{Error, Result};
use crate::container::Container;
use crate::sandbox::{Exit, Stdio};

/// After so many requests to end that change nothing, the container is killed.
const PATIENCE: u32 = 3;

/// kiln's side of a container's streams.
pub struct Streams {
    interactive: bool,
    terminal: Option<RawMode>,
    /// What the container writes and goes to standard output and standard error.
    outputs: Vec<(File, Sink)>,
    /// Where standard input goes.
    input: Option<File>,
}

#[derive(Clone, Copy)]
enum Sink {
    Stdout,
    Stderr,
}

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

impl Streams {
    /// Makes both sides. `tty`: the container gets a terminal; `interactive`: it gets our input.
    pub fn open(tty: bool, interactive: bool) -> Result<(Self, Stdio)> {
        let mut streams = Self { interactive, terminal: None, outputs: Vec::new(), input: None };
        if tty {
            if interactive {
                streams.terminal = RawMode::enter();
            }
            return Ok((streams, Stdio::Terminal { size: window() }));
        }
        let stdin = match interactive {
            false => rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Error::Streams(errno.into()))?,
            true if stdin_is_terminal() => {
                let (theirs, ours) = pipe()?;
                streams.input = Some(ours.into());
                theirs
            }
            true => duplicate(io::stdin())?,
        };
        let stdout = match io::stdout().is_terminal() {
            true => streams.copied(Sink::Stdout)?,
            false => duplicate(io::stdout())?,
        };
        let stderr = match io::stderr().is_terminal() {
            true => streams.copied(Sink::Stderr)?,
            false => duplicate(io::stderr())?,
        };
        Ok((streams, Stdio::Streams { stdin, stdout, stderr }))
    }

    /// A pipe whose other end is copied to `sink`.
    fn copied(&mut self, sink: Sink) -> Result<OwnedFd> {
        let (ours, theirs) = pipe()?;
        self.outputs.push((ours.into(), sink));
        Ok(theirs)
    }

    /// Copies streams and hands signals on until the container ends.
    pub fn attend(self, container: &Container, signals: Signals) -> Result<Exit> {
        let Self { interactive, terminal, mut outputs, mut input } = self;
        if let Some(controlling) = container.terminal() {
            let duplicate = || controlling.try_clone_to_owned().map(File::from).map_err(Error::Streams);
            outputs.push((duplicate()?, Sink::Stdout));
            input = if interactive { Some(duplicate()?) } else { None };
        }
        let has_terminal = container.terminal().is_some();
        if let Some(input) = input {
            // Ends with the process: it may wait for a key that nobody presses.
            std::thread::spawn(move || copy(io::stdin().lock(), input));
        }
        let copies: Vec<JoinHandle<()>> = outputs
            .into_iter()
            .map(|(from, sink)| {
                std::thread::spawn(move || match sink {
                    Sink::Stdout => copy(from, io::stdout().lock()),
                    Sink::Stderr => copy(from, io::stderr().lock()),
                })
            })
            .collect();
        let exit = attend_signals(container, signals, has_terminal)?;
        for copy in copies {
            let _ = copy.join();
        }
        drop(terminal);
        Ok(exit)
    }
}

/// Takes over the signals that are handed on if `forward`. To be called before the container
/// starts: what comes before it is there waits for it.
pub fn signals(forward: bool) -> Result<Signals> {
    let mut wanted = vec![SIGWINCH];
    if forward {
        wanted.extend([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2]);
    }
    Signals::new(wanted).map_err(Error::Signals)
}

/// Waits for the container while signals are handed on to it.
fn attend_signals(container: &Container, mut signals: Signals, terminal: bool) -> Result<Exit> {
    let handle = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut asked = 0;
            for signal in signals.forever() {
                if signal == SIGWINCH {
                    if let Some((rows, columns)) = window().filter(|_| terminal) {
                        let _ = container.resize(rows, columns);
                    }
                    continue;
                }
                asked += u32::from(matches!(signal, SIGINT | SIGTERM));
                // A container that is gone already needs no signal.
                let _ = container.signal(if asked >= PATIENCE { SIGKILL } else { signal });
            }
        });
        let exit = container.wait();
        handle.close();
        Ok(exit?)
    })
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::Streams(errno.into()))
}

fn duplicate(stream: impl AsFd) -> Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned().map_err(Error::Streams)
}

/// Copies without holding anything back until one side ends. A terminal ends with an error (EIO).
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(read) => {
                if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        }
    }
}

/// Rows and columns of our terminal.
fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Our terminal in raw mode, as long as this lives.
struct RawMode(Termios);

impl RawMode {
    /// `None` where standard input is no terminal.
    fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
