//! What a build says while it works. The library sends events; only the command line draws them.

use std::sync::Arc;
use std::time::Duration;

/// Which step of one build an event is about, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

/// Where a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a progress count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, directories and links.
    Files,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step exists; sent once per step before anything else about it.
    Declared {
        /// The step.
        vertex: VertexId,
        /// `[build 2/5] RUN make`.
        name: Arc<str>,
        /// The steps it waits for.
        inputs: Vec<VertexId>,
    },
    /// A step began.
    Started {
        /// The step.
        vertex: VertexId,
    },
    /// A step's result was found in the cache.
    Cached {
        /// The step.
        vertex: VertexId,
        /// The key of the record, for people.
        record: String,
    },
    /// How far a step has come.
    Progress {
        /// The step.
        vertex: VertexId,
        /// What the step is doing: `hashing`, `exporting layers`, …
        what: Arc<str>,
        /// How much is done.
        current: u64,
        /// How much there is, where known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// Output of a step: any bytes, not split at lines.
    Log {
        /// The step.
        vertex: VertexId,
        /// Where it came from.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Something the user should know that does not stop the step.
    Warning {
        /// The step, if it is about one.
        vertex: Option<VertexId>,
        /// One line.
        message: String,
    },
    /// A step ended well.
    Finished {
        /// The step.
        vertex: VertexId,
        /// How long it took.
        took: Duration,
    },
    /// A step failed.
    Failed {
        /// The step.
        vertex: VertexId,
        /// Why, one line.
        error: String,
    },
}

/// Takes events; called from many threads at once.
pub trait Events: Send + Sync {
    /// Takes one event. Must not block for long: steps wait for it.
    fn send(&self, event: Event);
}

/// Events that nobody looks at.
pub struct NoEvents;

impl Events for NoEvents {
    fn send(&self, _: Event) {}
}

/// Keeps all events, for tests and for commands that draw them afterwards.
#[derive(Default)]
pub struct Recorded(std::sync::Mutex<Vec<Event>>);

impl Recorded {
    /// The events so far.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().expect("no holder of this lock panics"))
    }
}

impl Events for Recorded {
    fn send(&self, event: Event) {
        self.0.lock().expect("no holder of this lock panics").push(event);
    }
}
