//! Progress as lines, for files, pipes and `--progress=plain`:
//!
//! ```text
//! #5 [2/3] RUN make
//! #5 0.123 output
//! #5 DONE 0.3s
//! ```
//!
//! Steps that run at once are shown in blocks: one has the floor until it ends or another one has
//! waited too long; a step that ends is shown at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::state::{State, Status, Task};
use super::{View, failure};
use crate::base::event::{Event, VertexId};

/// How long a step's output waits while another step has the floor.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many lines wait before they are shown whatever the time.
const MOST_WAITING: usize = 1000;
/// How often a task that goes on is mentioned.
const TASK_EVERY: Duration = Duration::from_secs(5);
/// How long a step may run before it is mentioned without having said anything.
const SILENCE: Duration = Duration::from_millis(100);
/// When a line without an end is shown as it is.
const PARTIAL_AFTER: Duration = Duration::from_secs(2);

/// The view.
pub struct Plain<W> {
    output: W,
    state: State,
    floor: Option<VertexId>,
    waiting: BTreeMap<VertexId, Waiting>,
    tasks: BTreeMap<(VertexId, String), Duration>,
    begun: bool,
}

/// Lines that are still to be shown.
#[derive(Default)]
struct Waiting {
    since: Duration,
    lines: Vec<String>,
}

impl<W: Write> Plain<W> {
    /// A view that writes to `output`.
    pub fn new(output: W) -> Self {
        Self {
            output,
            state: State::default(),
            floor: None,
            waiting: BTreeMap::new(),
            tasks: BTreeMap::new(),
            begun: false,
        }
    }

    fn add(&mut self, vertex: VertexId, now: Duration, line: String) {
        let waiting = self.waiting.entry(vertex).or_insert_with(|| Waiting { since: now, lines: Vec::new() });
        waiting.lines.push(line);
    }

    fn over(&self, vertex: VertexId) -> bool {
        self.state.steps.get(&vertex).is_none_or(|step| step.over())
    }

    /// Shows what can be shown.
    fn flush(&mut self, now: Duration) {
        if let Some(floor) = self.floor {
            self.show(floor);
        }
        let ended: Vec<VertexId> = self.waiting.keys().copied().filter(|it| self.over(*it)).collect();
        ended.into_iter().for_each(|vertex| self.show(vertex));
        let due =
            |waiting: &Waiting| !waiting.lines.is_empty() || now.saturating_sub(waiting.since) >= SILENCE;
        let longest =
            self.waiting.iter().filter(|(_, waiting)| due(waiting)).min_by_key(|(_, waiting)| waiting.since);
        let Some((vertex, waiting)) = longest.map(|(vertex, waiting)| (*vertex, waiting)) else { return };
        let patient = now.saturating_sub(waiting.since) < PATIENCE && waiting.lines.len() < MOST_WAITING;
        if self.floor.is_none() || !patient {
            self.show(vertex);
        }
    }

    /// Writes the lines of a step that wait, giving it the floor until it ends.
    fn show(&mut self, vertex: VertexId) {
        let Some(waiting) = self.waiting.remove(&vertex) else { return };
        let Some(step) = self.state.steps.get(&vertex) else { return };
        let mut text = String::new();
        if self.floor != Some(vertex) {
            if let Some(other) = self.floor.and_then(|floor| self.state.steps.get(&floor)) {
                text.push_str(&format!("#{} ...\n", other.number));
            }
            if self.begun {
                text.push('\n');
            }
            text.push_str(&format!("#{} {}\n", step.number, failure::one_line(&step.name)));
        }
        for line in waiting.lines {
            text.push_str(&format!("#{} {line}\n", step.number));
        }
        self.begun = true;
        self.floor = (!step.over()).then_some(vertex);
        let _ = self.output.write_all(text.as_bytes());
    }

    fn task(&mut self, vertex: VertexId, now: Duration) {
        let Some(step) = self.state.steps.get(&vertex) else { return };
        let due: Vec<Task> = step
            .tasks
            .iter()
            .filter(|task| match self.tasks.get(&(vertex, task.what.to_string())) {
                None => true,
                Some(_) if task.done => true,
                Some(last) => now.saturating_sub(*last) >= TASK_EVERY,
            })
            .cloned()
            .collect();
        for task in due {
            // What has no end to come is mentioned once more when it is done, then never.
            let mentioned = if task.done { Duration::MAX } else { now };
            let key = (vertex, task.what.to_string());
            if self.tasks.get(&key) == Some(&Duration::MAX) {
                continue;
            }
            self.tasks.insert(key, mentioned);
            let line = task_line(&task, now);
            self.add(vertex, now, line);
        }
    }
}

fn task_line(task: &Task, now: Duration) -> String {
    let took = task.elapsed(now).as_secs_f64();
    let took = if took > 0.01 { format!(" {took:.1}s") } else { String::new() };
    let done = if task.done { " done" } else { "" };
    format!("{}{}{took}{done}", failure::one_line(&task.what), task.amount())
}

impl<W: Write + Send> View for Plain<W> {
    fn event(&mut self, event: &Event, now: Duration) {
        let mut lines = Vec::new();
        self.state.apply(event, now, |vertex, line| lines.push((vertex, line)));
        for (vertex, line) in lines {
            let elapsed = self.state.steps.get(&vertex).map(|step| now.saturating_sub(step.started));
            self.add(vertex, now, format!("{} {line}", failure::stamp(elapsed.unwrap_or_default())));
        }
        match event {
            Event::Declared { .. } | Event::Log { .. } => {}
            Event::Started { vertex } => {
                self.waiting.entry(*vertex).or_insert_with(|| Waiting { since: now, lines: Vec::new() });
            }
            Event::Cached { vertex, .. } => self.add(*vertex, now, "CACHED".to_owned()),
            Event::Progress { vertex, .. } => self.task(*vertex, now),
            Event::Warning { vertex: Some(vertex), message } => {
                self.add(*vertex, now, format!("WARN: {}", failure::one_line(message)));
            }
            Event::Warning { .. } => {}
            Event::Finished { vertex, took } => {
                self.task(*vertex, now);
                let cached = self.state.steps.get(vertex).is_some_and(|step| step.status == Status::Cached);
                if !cached {
                    self.add(*vertex, now, format!("DONE {:.1}s", took.as_secs_f64()));
                }
            }
            Event::Failed { vertex, error } => {
                let status = self.state.steps.get(vertex).map(|step| &step.status);
                let line = match status {
                    Some(Status::Cancelled) => "CANCELED".to_owned(),
                    _ => format!("ERROR: {}", failure::one_line(error)),
                };
                self.add(*vertex, now, line);
            }
        }
        self.flush(now);
    }

    fn tick(&mut self, now: Duration) {
        let mut lines = Vec::new();
        for (vertex, step) in &mut self.state.steps {
            if step.status == Status::Running && step.quiet_for(now) >= PARTIAL_AFTER {
                let elapsed = now.saturating_sub(step.started);
                step.flush(now, |line| lines.push((*vertex, format!("{} {line}", failure::stamp(elapsed)))));
            }
        }
        for (vertex, line) in lines {
            self.add(vertex, now, line);
        }
        self.flush(now);
    }

    fn finish(&mut self, now: Duration, _: bool) {
        while let Some((vertex, _)) = self.waiting.first_key_value() {
            self.show(*vertex);
        }
        let _ = now;
        let _ = self.output.write_all(failure::summary(&self.state, false).as_bytes());
        let _ = self.output.flush();
    }
}
