//! Runs a graph: which step is next, on which thread, and what its end means for the others.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{Builder, Scope};
use std::time::Instant;

use crate::base::digest::CacheKey;
use crate::base::event::{Event, Events, VertexId};

use super::{Cancel, Keyed, Node, Ran, Records, SolveError, Step, Work};

/// Brings every node of `graph` to its output, from `records` where possible, on at most
/// `parallel` threads, the caller's included. The outputs are in the order of the graph.
///
/// A thread that waits for another process or for a command counts, so `parallel` should be
/// above the number of processors.
pub fn solve<W: Work, R: Records<Record = W::Record, Error = W::Error>>(
    graph: &[Node<W>],
    records: &R,
    events: &dyn Events,
    parallel: usize,
    cancel: &Cancel,
) -> Result<Vec<W::Output>, SolveError<W::Error>> {
    let (inner, _watch) = cancel.child();
    let mut users = vec![Vec::new(); graph.len()];
    let mut missing = Vec::with_capacity(graph.len());
    for (number, node) in graph.iter().enumerate() {
        let vertex = VertexId(number);
        for &input in &node.inputs {
            if input >= number {
                return Err(SolveError::Order { vertex, input });
            }
            users[input].push(number);
        }
        missing.push(node.inputs.len());
        let inputs = node.inputs.iter().copied().map(VertexId).collect();
        events.send(Event::Declared { vertex, name: node.name.clone(), inputs });
    }
    let ready = (0..graph.len()).filter(|number| missing[*number] == 0).map(Reverse).collect();
    let state = State {
        ready,
        missing,
        outputs: vec![None; graph.len()],
        begun: vec![Begun::default(); graph.len()],
        left: graph.len(),
        keys: HashMap::new(),
        threads: 1,
        idle: 0,
        failure: None,
    };
    let solver = Solver {
        graph,
        users,
        records,
        events,
        parallel,
        outer: cancel,
        cancel: inner,
        state: Mutex::new(state),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| solver.work(scope));
    let state = solver.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    match state.failure {
        Some(failure) => Err(failure),
        None => Ok(state.outputs.into_iter().map(|output| output.expect("no step is left")).collect()),
    }
}

struct Solver<'a, W: Work, R> {
    graph: &'a [Node<W>],
    /// Who needs each node's output.
    users: Vec<Vec<usize>>,
    records: &'a R,
    events: &'a dyn Events,
    parallel: usize,
    /// The caller's switch.
    outer: &'a Cancel,
    /// Thrown with the caller's, and by the first failure.
    cancel: Cancel,
    state: Mutex<State<W::Output, W::Error>>,
    /// There is something ready, or nothing more to do.
    changed: Condvar,
}

struct State<O, E: std::error::Error + 'static> {
    /// Steps that can start, the first of the graph first.
    ready: BinaryHeap<Reverse<usize>>,
    /// How many inputs each step still waits for.
    missing: Vec<usize>,
    outputs: Vec<Option<O>>,
    begun: Vec<Begun>,
    /// Steps without output.
    left: usize,
    keys: HashMap<Claim, Claimed>,
    threads: usize,
    idle: usize,
    failure: Option<SolveError<E>>,
}

/// A key in this build. Steps that may read records and steps that may not do not share.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Claim {
    key: CacheKey,
    no_cache: bool,
}

enum Claimed {
    /// A step has it; these wait for its output.
    Running(Vec<usize>),
    /// This step's output is it.
    Done(usize),
}

#[derive(Clone, Copy, Default)]
struct Begun {
    at: Option<Instant>,
    /// Its inputs changed while it read them; this may happen once.
    stale: bool,
}

/// How a thread came out of a step.
enum Outcome<O, E> {
    /// It has an output, its own key's if it claimed one.
    Output { output: O, claim: Option<Claim>, record: Option<CacheKey> },
    /// Another step with the same key is running and will bring it forward.
    Parked,
    /// The build ends before the step ran.
    Interrupted,
    /// It failed.
    Error(E),
    /// It panicked.
    Panic(String),
}

impl<W: Work, R: Records<Record = W::Record, Error = W::Error>> Solver<'_, W, R> {
    /// Takes steps until none is left or one failed.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let _wake = WakeOthers(self);
        let mut state = self.lock();
        while state.left > 0 && state.failure.is_none() {
            if self.outer.is_cancelled() {
                state.failure = Some(SolveError::Cancelled);
                break;
            }
            let Some(Reverse(number)) = state.ready.pop() else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                state.idle -= 1;
                continue;
            };
            self.call_help(&mut state, scope);
            drop(state);
            let outcome = self.attempt(number);
            state = self.lock();
            self.settle(&mut state, number, outcome);
        }
    }

    /// Brings another thread if there is more to do than the one that asks can.
    fn call_help<'scope>(
        &'scope self,
        state: &mut State<W::Output, W::Error>,
        scope: &'scope Scope<'scope, '_>,
    ) {
        if state.ready.is_empty() {
            return;
        }
        if state.idle > 0 {
            self.changed.notify_one();
        } else if state.threads < self.parallel {
            let thread = Builder::new().name("step".into());
            // Where no thread can be had, those that are there do the work.
            if thread.spawn_scoped(scope, || self.work(scope)).is_ok() {
                state.threads += 1;
            }
        }
    }

    /// One step as far as it goes on this thread, a panic in it caught.
    fn attempt(&self, number: usize) -> Outcome<W::Output, W::Error> {
        let inputs = {
            let mut state = self.lock();
            if state.begun[number].at.is_none() {
                state.begun[number].at = Some(Instant::now());
                self.events.send(Event::Started { vertex: VertexId(number) });
            }
            let inputs = self.graph[number].inputs.iter();
            inputs.map(|input| state.outputs[*input].clone().expect("ready steps have inputs")).collect()
        };
        catch_unwind(AssertUnwindSafe(|| self.perform(number, inputs))).unwrap_or_else(|panic| {
            let message = message(panic.as_ref());
            Outcome::Panic(message)
        })
    }

    fn perform(&self, number: usize, inputs: Vec<W::Output>) -> Outcome<W::Output, W::Error> {
        let work = &self.graph[number].work;
        loop {
            let keyed = match work.key(&inputs) {
                Ok(keyed) => keyed,
                Err(error) => return Outcome::Error(error),
            };
            let claim = keyed.as_ref().map(|keyed| Claim { key: keyed.key, no_cache: work.no_cache() });
            if let Some(outcome) = claim.and_then(|claim| self.claim(number, claim)) {
                return outcome;
            }
            match self.produce(number, keyed.as_ref(), &inputs) {
                Ok(Produced::Found(output)) => {
                    return Outcome::Output { output, claim, record: claim.map(|claim| claim.key) };
                }
                Ok(Produced::Made(output)) => return Outcome::Output { output, claim, record: None },
                Ok(Produced::Interrupted) => return Outcome::Interrupted,
                Ok(Produced::Stale(error)) => {
                    if !self.give_back(number, claim) {
                        return Outcome::Error(error);
                    }
                }
                Err(error) => return Outcome::Error(error),
            }
        }
    }

    /// Makes this step the one that runs `claim`, unless another one does or did.
    fn claim(&self, number: usize, claim: Claim) -> Option<Outcome<W::Output, W::Error>> {
        let mut state = self.lock();
        let state = &mut *state;
        match state.keys.get_mut(&claim) {
            None => {
                state.keys.insert(claim, Claimed::Running(Vec::new()));
                None
            }
            Some(Claimed::Running(waiting)) => {
                waiting.push(number);
                Some(Outcome::Parked)
            }
            Some(Claimed::Done(other)) => {
                let output = state.outputs[*other].clone().expect("set before the claim is done");
                Some(Outcome::Output { output, claim: None, record: Some(claim.key) })
            }
        }
    }

    /// Gives a claim back after a step's inputs changed under it; whoever waited for it looks at
    /// its own inputs again. False if that happened to this step before.
    fn give_back(&self, number: usize, claim: Option<Claim>) -> bool {
        let mut state = self.lock();
        if let Some(Claimed::Running(waiting)) = claim.and_then(|claim| state.keys.remove(&claim)) {
            state.ready.extend(waiting.into_iter().map(Reverse));
            self.changed.notify_all();
        }
        !std::mem::replace(&mut state.begun[number].stale, true)
    }

    /// Finds the output of a claimed step in the records, or runs the step and records it.
    fn produce(
        &self,
        number: usize,
        keyed: Option<&Keyed>,
        inputs: &[W::Output],
    ) -> Result<Produced<W::Output, W::Error>, W::Error> {
        let work = &self.graph[number].work;
        let step = Step { vertex: VertexId(number), keyed, cancel: &self.cancel, events: self.events };
        let Some(keyed) = keyed else {
            return Ok(match work.run(&step, inputs)? {
                Ran::Done { output, .. } => Produced::Made(output),
                Ran::Stale(error) => Produced::Stale(error),
            });
        };
        if let Some(output) = self.find(work, keyed, inputs)? {
            return Ok(Produced::Found(output));
        }
        if self.cancel.is_cancelled() {
            return Ok(Produced::Interrupted);
        }
        let _lock = self.records.lock(keyed.key, &self.cancel)?;
        // Whoever held the lock may have made it.
        if let Some(output) = self.find(work, keyed, inputs)? {
            return Ok(Produced::Found(output));
        }
        if self.cancel.is_cancelled() {
            return Ok(Produced::Interrupted);
        }
        match work.run(&step, inputs)? {
            Ran::Done { output, record } => {
                self.records.store(keyed, record)?;
                Ok(Produced::Made(output))
            }
            Ran::Stale(error) => Ok(Produced::Stale(error)),
        }
    }

    fn find(&self, work: &W, keyed: &Keyed, inputs: &[W::Output]) -> Result<Option<W::Output>, W::Error> {
        if work.no_cache() {
            return Ok(None);
        }
        match self.records.lookup(keyed.key)? {
            Some(record) => work.load(record, inputs),
            None => Ok(None),
        }
    }

    /// What the end of a step means for the others.
    fn settle(
        &self,
        state: &mut State<W::Output, W::Error>,
        number: usize,
        outcome: Outcome<W::Output, W::Error>,
    ) {
        let vertex = VertexId(number);
        let failure = match outcome {
            Outcome::Parked => return,
            Outcome::Output { output, claim, record } => {
                let done = claim.and_then(|claim| state.keys.insert(claim, Claimed::Done(number)));
                if let (Some(Claimed::Running(waiting)), Some(claim)) = (done, claim) {
                    for other in waiting {
                        self.finish(state, other, output.clone(), Some(claim.key));
                    }
                }
                return self.finish(state, number, output, record);
            }
            Outcome::Interrupted => SolveError::Cancelled,
            Outcome::Error(source) => SolveError::Step { vertex, source },
            Outcome::Panic(message) => SolveError::Panicked { vertex, message },
        };
        // A step that stopped because it was told to has nothing to say about why.
        let failure = if self.cancel.is_cancelled() { SolveError::Cancelled } else { failure };
        self.events.send(Event::Failed { vertex, error: failure.to_string() });
        if state.failure.is_none() {
            state.failure = Some(failure);
            self.cancel.cancel();
        }
        self.changed.notify_all();
    }

    fn finish(
        &self,
        state: &mut State<W::Output, W::Error>,
        number: usize,
        output: W::Output,
        record: Option<CacheKey>,
    ) {
        let vertex = VertexId(number);
        self.events.send(match record {
            Some(key) => Event::Cached { vertex, record: key.to_string() },
            None => {
                let took = state.begun[number].at.map(|at| at.elapsed()).unwrap_or_default();
                Event::Finished { vertex, took }
            }
        });
        state.outputs[number] = Some(output);
        state.left -= 1;
        for &user in &self.users[number] {
            state.missing[user] -= 1;
            if state.missing[user] == 0 {
                state.ready.push(Reverse(user));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W::Output, W::Error>> {
        // A panic under this lock could only come from a receiver of events; the state is whole.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Lets no thread wait for one that is gone: what a receiver of events throws must not hang the
/// others.
struct WakeOthers<'s, 'a, W: Work, R>(&'s Solver<'a, W, R>);

impl<W: Work, R> Drop for WakeOthers<'_, '_, W, R> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if std::thread::panicking() {
            state.failure.get_or_insert(SolveError::Cancelled);
        }
        self.0.changed.notify_all();
    }
}

/// Where an output came from.
enum Produced<O, E> {
    Found(O),
    Made(O),
    Stale(E),
    Interrupted,
}

/// The text of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
