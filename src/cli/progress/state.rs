//! What is known of a build's steps, brought up to date by events. Times are spans since the
//! display began, so that tests need no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::text::Lines;
use crate::base::event::{Event, Stream, Unit, VertexId};
use crate::cli::units;

/// How the error of a step ends that was told to stop.
const TOLD_TO_STOP: &str = "was cancelled";
/// Lines of output that are kept of each step, to be repeated if it fails.
const TAIL: usize = 20;

/// All steps.
#[derive(Debug, Default)]
pub struct State {
    /// By vertex.
    pub steps: BTreeMap<VertexId, Step>,
    /// Those that began, in the order in which they did.
    pub shown: Vec<VertexId>,
    /// All warnings, each once.
    pub warnings: Vec<String>,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// `[build 2/5] RUN make`
    pub name: Arc<str>,
    /// Its place among those shown, from 1; 0 before.
    pub number: usize,
    /// How far it is.
    pub status: Status,
    /// When it began.
    pub started: Duration,
    /// When it failed.
    ended: Duration,
    /// What it is busy with.
    pub tasks: Vec<Task>,
    /// The last lines of its output, with the span since it began.
    pub tail: VecDeque<(Duration, String)>,
    /// When its last output came.
    last_output: Duration,
    stdout: Lines,
    stderr: Lines,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Waits for others.
    Waiting,
    /// Runs.
    Running,
    /// Was found in the cache.
    Cached,
    /// Ended well after this long.
    Done(Duration),
    /// Failed, and why.
    Failed(String),
    /// Was told to stop, by the user or because another step failed.
    Cancelled,
}

/// Something a step counts while it works.
#[derive(Debug, Clone)]
pub struct Task {
    /// `exporting layers`
    pub what: Arc<str>,
    /// When it began.
    pub started: Duration,
    /// When the last word of it came.
    pub updated: Duration,
    /// How much is done.
    pub current: u64,
    /// Of how much.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// Whether it is over.
    pub done: bool,
}

impl State {
    /// Takes one event; `sink` gets the complete lines of output it brings.
    pub fn apply(&mut self, event: &Event, now: Duration, mut sink: impl FnMut(VertexId, String)) {
        match event {
            Event::Declared { vertex, name, .. } => {
                self.steps.entry(*vertex).or_insert_with(|| Step::new(name.clone()));
            }
            Event::Started { vertex } => {
                let step = self.show(*vertex);
                step.status = Status::Running;
                step.started = now;
            }
            Event::Cached { vertex, .. } => self.show(*vertex).status = Status::Cached,
            Event::Progress { vertex, what, current, total, unit } => {
                self.show(*vertex).progress(what, *current, *total, *unit, now);
            }
            Event::Log { vertex, stream, bytes } => {
                let step = self.show(*vertex);
                step.last_output = now;
                let elapsed = now.saturating_sub(step.started);
                let lines = match stream {
                    Stream::Stdout => &mut step.stdout,
                    Stream::Stderr => &mut step.stderr,
                };
                lines.push(bytes, |line| {
                    keep(&mut step.tail, elapsed, &line);
                    sink(*vertex, line);
                });
            }
            Event::Warning { message, .. } => {
                if !self.warnings.contains(message) {
                    self.warnings.push(message.clone());
                }
            }
            Event::Finished { vertex, took } => {
                let took = *took;
                let step = self.show(*vertex);
                step.flush(now, |line| sink(*vertex, line));
                step.tasks.iter_mut().for_each(|task| task.done = true);
                if step.status != Status::Cached {
                    step.status = Status::Done(took);
                }
            }
            Event::Failed { vertex, error } => {
                let step = self.show(*vertex);
                step.flush(now, |line| sink(*vertex, line));
                step.ended = now;
                step.status = match error.ends_with(TOLD_TO_STOP) {
                    true => Status::Cancelled,
                    false => Status::Failed(error.clone()),
                };
            }
        }
    }

    /// The step, with a number from now on. One that was never declared gets a name of its own.
    fn show(&mut self, vertex: VertexId) -> &mut Step {
        let next = self.shown.len() + 1;
        let step =
            self.steps.entry(vertex).or_insert_with(|| Step::new(format!("step {}", vertex.0 + 1).into()));
        if step.number == 0 {
            step.number = next;
            self.shown.push(vertex);
        }
        step
    }

    /// How many steps are over, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        (self.steps.values().filter(|step| step.over()).count(), self.steps.len())
    }

    /// The steps that failed, in the order in which they began.
    pub fn failed(&self) -> impl Iterator<Item = &Step> {
        self.shown
            .iter()
            .filter_map(|vertex| self.steps.get(vertex))
            .filter(|step| matches!(step.status, Status::Failed(_)))
    }
}

impl Step {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            number: 0,
            status: Status::Waiting,
            started: Duration::ZERO,
            ended: Duration::ZERO,
            tasks: Vec::new(),
            tail: VecDeque::new(),
            last_output: Duration::ZERO,
            stdout: Lines::default(),
            stderr: Lines::default(),
        }
    }

    /// Whether nothing more comes of it.
    pub fn over(&self) -> bool {
        !matches!(self.status, Status::Waiting | Status::Running)
    }

    /// How long it took, or takes so far.
    pub fn elapsed(&self, now: Duration) -> Duration {
        match self.status {
            Status::Running => now.saturating_sub(self.started),
            Status::Done(took) => took,
            Status::Failed(_) | Status::Cancelled => self.ended.saturating_sub(self.started),
            Status::Waiting | Status::Cached => Duration::ZERO,
        }
    }

    /// How long no output came.
    pub fn quiet_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_output)
    }

    /// The last lines of output, one without an end included.
    pub fn last_lines(&self, most: usize) -> Vec<String> {
        let partial: Vec<String> =
            [&self.stdout, &self.stderr].iter().filter_map(|it| it.partial()).collect();
        let kept = most.saturating_sub(partial.len());
        let skip = self.tail.len().saturating_sub(kept);
        self.tail.iter().skip(skip).map(|(_, line)| line.clone()).chain(partial).collect()
    }

    /// Counts a line without an end as complete.
    pub fn flush(&mut self, now: Duration, mut sink: impl FnMut(String)) {
        let elapsed = now.saturating_sub(self.started);
        for lines in [&mut self.stdout, &mut self.stderr] {
            lines.flush(|line| {
                keep(&mut self.tail, elapsed, &line);
                sink(line);
            });
        }
    }

    fn progress(&mut self, what: &Arc<str>, current: u64, total: Option<u64>, unit: Unit, now: Duration) {
        let done = total.is_some_and(|total| current >= total);
        let task = Task { what: what.clone(), started: now, updated: now, current, total, unit, done };
        match self.tasks.iter_mut().find(|known| known.what == *what) {
            Some(known) => *known = Task { started: known.started, ..task },
            None => self.tasks.push(task),
        }
    }
}

fn keep(tail: &mut VecDeque<(Duration, String)>, elapsed: Duration, line: &str) {
    if tail.len() == TAIL {
        tail.pop_front();
    }
    tail.push_back((elapsed, line.to_owned()));
}

impl Task {
    /// How much is done, with a blank before it: ` 1.2MB / 3.4MB`, ` 5 / 20 files`.
    pub fn amount(&self) -> String {
        match (self.unit, self.total) {
            (_, Some(0 | 1)) => String::new(),
            (Unit::Bytes, Some(total)) => {
                format!(" {} / {}", units::size(self.current, 4), units::size(total, 4))
            }
            (Unit::Files, Some(total)) => format!(" {} / {total} files", self.current),
            (_, None) if self.current == 0 => String::new(),
            (Unit::Bytes, None) => format!(" {}", units::size(self.current, 4)),
            (Unit::Files, None) => format!(" {} files", self.current),
        }
    }

    /// How long it took so far.
    pub fn elapsed(&self, now: Duration) -> Duration {
        if self.done { self.updated } else { now }.saturating_sub(self.started)
    }
}
