//! Draws a build's events on standard error.
//!
//! A [`Display`] takes events from many threads and hands them to one view: lines
//! (`plain`), a picture on a terminal (`tty`), JSON (`rawjson`) or nothing but failures (`quiet`). Views never
//! fail: a build does not end because nobody reads its progress.

mod failure;
mod plain;
mod quiet;
mod rawjson;
mod state;
mod text;
mod tty;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::clock::Clock;
use crate::base::event::{Event, Events};

pub use failure::one_line;

/// How often a picture is drawn.
const FRAMES_PER_SECOND: u8 = 10;

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `tty` where standard error is a terminal, else `plain`.
    Auto,
    /// Lines.
    Plain,
    /// A picture.
    Tty,
    /// JSON lines.
    RawJson,
    /// Nothing but the last output of what failed.
    Quiet,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "tty" => Ok(Self::Tty),
            "rawjson" => Ok(Self::RawJson),
            "quiet" | "none" => Ok(Self::Quiet),
            other => Err(format!("invalid progress mode {other}: one of auto, plain, tty, rawjson, quiet")),
        }
    }
}

/// A way to show events.
trait View: Send {
    /// Takes an event.
    fn event(&mut self, event: &Event, now: Duration);
    /// Time has passed; called about ten times a second while something runs.
    fn tick(&mut self, now: Duration);
    /// No event will come any more; `ok` says how the build ended.
    fn finish(&mut self, now: Duration, ok: bool);
}

/// Takes the events of one build and draws them.
pub struct Display {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    view: Mutex<Box<dyn View>>,
    begun: Instant,
    over: Mutex<bool>,
    woken: Condvar,
}

/// A thread that panicked while it drew leaves a picture that is still good enough to go on with.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Display {
    /// A display on standard error; `terminal` says whether that is one.
    pub fn new(mode: Mode, terminal: bool, colour: bool) -> Self {
        let view: Box<dyn View> = match mode {
            Mode::Tty => Box::new(tty::Tty::new(colour)),
            Mode::Auto if terminal => Box::new(tty::Tty::new(colour)),
            Mode::Auto | Mode::Plain => Box::new(plain::Plain::new(std::io::stderr())),
            Mode::RawJson => Box::new(rawjson::RawJson::new(std::io::stderr(), Clock::System)),
            Mode::Quiet => Box::new(quiet::Quiet::new(std::io::stderr())),
        };
        let (view, over, woken) = (Mutex::new(view), Mutex::new(false), Condvar::new());
        let shared = Arc::new(Shared { view, begun: Instant::now(), over, woken });
        Self { shared, ticker: Mutex::new(None) }
    }

    /// Shows what is left and says how the build ended.
    pub fn finish(self, ok: bool) {
        let shared = &self.shared;
        *lock(&shared.over) = true;
        shared.woken.notify_all();
        if let Some(ticker) = lock(&self.ticker).take() {
            let _ = ticker.join();
        }
        lock(&shared.view).finish(shared.begun.elapsed(), ok);
    }
}

impl Shared {
    /// Ticks until the build is over.
    fn tick(&self) {
        let interval = Duration::from_secs(1) / u32::from(FRAMES_PER_SECOND);
        let mut over = lock(&self.over);
        while !*over {
            over = self.woken.wait_timeout(over, interval).unwrap_or_else(PoisonError::into_inner).0;
            if !*over {
                lock(&self.view).tick(self.begun.elapsed());
            }
        }
    }
}

impl Events for Display {
    fn send(&self, event: Event) {
        let shared = &self.shared;
        // A build that only finds records needs no thread.
        if matches!(event, Event::Started { .. }) {
            let mut ticker = lock(&self.ticker);
            if ticker.is_none() {
                let shared = Arc::clone(shared);
                let spawned = std::thread::Builder::new().name("progress".to_owned());
                *ticker = spawned.spawn(move || shared.tick()).ok();
            }
        }
        lock(&shared.view).event(&event, shared.begun.elapsed());
    }
}

#[cfg(test)]
mod tests;
