//! The scheduler on arithmetic that counts its calls.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::base::digest::{CacheKey, Hasher};
use crate::base::event::{Event, NoEvents, Recorded};

use super::*;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
struct ToyError(&'static str);

type ToyRan = Result<Ran<i64, i64, ToyError>, ToyError>;
type Body = Box<dyn Fn(&Step<'_>, &[i64]) -> ToyRan + Send + Sync>;

/// An operation on numbers; its key is its label and its inputs.
struct Toy {
    label: String,
    body: Body,
    keyed: bool,
    no_cache: bool,
    calls: Arc<AtomicUsize>,
    /// Goes into the key, and one more each time the key is made.
    salt: Option<AtomicUsize>,
}

impl Work for Toy {
    type Output = i64;
    type Record = i64;
    type Error = ToyError;

    fn key(&self, inputs: &[i64]) -> Result<Option<Keyed>, ToyError> {
        let mut hasher = Hasher::new();
        hasher.field(&self.label);
        inputs.iter().for_each(|input| hasher.field(input.to_le_bytes()));
        if let Some(salt) = &self.salt {
            hasher.field(salt.fetch_add(1, SeqCst).to_le_bytes());
        }
        let parts = vec![("label".into(), self.label.clone())];
        Ok(self.keyed.then(|| Keyed { key: CacheKey(hasher.finish()), parts }))
    }

    fn no_cache(&self) -> bool {
        self.no_cache
    }

    fn load(&self, record: i64, _: &[i64]) -> Result<Option<i64>, ToyError> {
        // A record of what is gone.
        Ok((record != GONE).then_some(record))
    }

    fn run(&self, step: &Step<'_>, inputs: &[i64]) -> ToyRan {
        self.calls.fetch_add(1, SeqCst);
        (self.body)(step, inputs)
    }
}

const GONE: i64 = i64::MIN;

fn done(output: i64) -> ToyRan {
    Ok(Ran::Done { output, record: output })
}

/// A graph under construction.
#[derive(Default)]
struct Toys {
    nodes: Vec<Node<Toy>>,
    calls: Vec<Arc<AtomicUsize>>,
}

impl Toys {
    fn add(
        &mut self,
        label: &str,
        inputs: &[usize],
        body: impl Fn(&Step<'_>, &[i64]) -> ToyRan + Send + Sync + 'static,
    ) -> usize {
        let calls = Arc::new(AtomicUsize::new(0));
        self.calls.push(calls.clone());
        let body = Box::new(body);
        let work = Toy { label: label.into(), body, keyed: true, no_cache: false, calls, salt: None };
        self.nodes.push(Node { name: label.into(), inputs: inputs.to_vec(), work });
        self.nodes.len() - 1
    }

    fn number(&mut self, number: i64) -> usize {
        self.add(&format!("{number}"), &[], move |_, _| done(number))
    }

    fn sum(&mut self, inputs: &[usize]) -> usize {
        self.add("sum", inputs, |_, inputs| done(inputs.iter().sum()))
    }

    fn solve(&self, records: &Memory, parallel: usize) -> Result<Vec<i64>, SolveError<ToyError>> {
        solve(&self.nodes, records, &NoEvents, parallel, &Cancel::new())
    }

    fn calls(&self) -> Vec<usize> {
        self.calls.iter().map(|calls| calls.swap(0, SeqCst)).collect()
    }
}

/// Records in memory, locks among threads.
#[derive(Default)]
struct Memory {
    records: Mutex<HashMap<CacheKey, i64>>,
    locked: Arc<(Mutex<HashSet<CacheKey>>, Condvar)>,
}

struct MemoryLock(CacheKey, Arc<(Mutex<HashSet<CacheKey>>, Condvar)>);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.1.0.lock().unwrap().remove(&self.0);
        self.1.1.notify_all();
    }
}

impl Records for Memory {
    type Record = i64;
    type Error = ToyError;
    type Lock = MemoryLock;

    fn lookup(&self, key: CacheKey) -> Result<Option<i64>, ToyError> {
        Ok(self.records.lock().unwrap().get(&key).copied())
    }

    fn store(&self, keyed: &Keyed, record: i64) -> Result<(), ToyError> {
        self.records.lock().unwrap().insert(keyed.key, record);
        Ok(())
    }

    fn lock(&self, key: CacheKey, cancel: &Cancel) -> Result<MemoryLock, ToyError> {
        let mut locked = self.locked.0.lock().unwrap();
        while !locked.insert(key) {
            if cancel.is_cancelled() {
                return Err(ToyError("gave up waiting"));
            }
            locked = self.locked.1.wait_timeout(locked, Duration::from_millis(2)).unwrap().0;
        }
        Ok(MemoryLock(key, self.locked.clone()))
    }
}

/// Waits until the step is cancelled; gives up after ten seconds.
fn until_cancelled(step: &Step<'_>) -> ToyRan {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if step.cancel.is_cancelled() {
            return Err(ToyError("stopped"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(ToyError("nobody cancelled"))
}

#[test]
fn a_diamond_runs_once_and_then_comes_from_records() {
    for parallel in [1, 2, 8] {
        let records = Memory::default();
        let mut toys = Toys::default();
        let one = toys.number(1);
        let left = toys.add("left", &[one], |_, inputs| done(inputs[0] + 10));
        let right = toys.add("right", &[one], |_, inputs| done(inputs[0] + 100));
        toys.sum(&[left, right, left]);
        assert_eq!(toys.solve(&records, parallel).unwrap(), [1, 11, 101, 123]);
        assert_eq!(toys.calls(), [1, 1, 1, 1]);
        assert_eq!(toys.solve(&records, parallel).unwrap(), [1, 11, 101, 123]);
        assert_eq!(toys.calls(), [0, 0, 0, 0]);
    }
}

#[test]
fn an_equal_output_of_a_changed_step_disturbs_nothing_after_it() {
    let records = Memory::default();
    let chain = |label: &str, value: i64| {
        let mut toys = Toys::default();
        let first = toys.add(label, &[], move |_, _| done(value));
        let second = toys.sum(&[first]);
        toys.sum(&[second, second]);
        toys
    };
    let before = chain("echo 7", 7);
    before.solve(&records, 2).unwrap();
    let same = chain("echo 7 # a comment", 7);
    assert_eq!(same.solve(&records, 2).unwrap(), [7, 7, 14]);
    assert_eq!(same.calls(), [1, 0, 0]);
    let other = chain("echo 8", 8);
    assert_eq!(other.solve(&records, 2).unwrap(), [8, 8, 16]);
    assert_eq!(other.calls(), [1, 1, 1]);
}

#[test]
fn equal_steps_share_one_run() {
    for parallel in [1, 4] {
        let mut toys = Toys::default();
        let slow = |_: &Step<'_>, _: &[i64]| {
            std::thread::sleep(Duration::from_millis(20));
            done(5)
        };
        let twins: Vec<usize> = (0..4).map(|_| toys.add("twin", &[], slow)).collect();
        toys.sum(&twins);
        let events = Recorded::default();
        let outputs = solve(&toys.nodes, &Memory::default(), &events, parallel, &Cancel::new()).unwrap();
        assert_eq!(outputs[4], 20);
        assert_eq!(toys.calls().iter().sum::<usize>(), 2);
        let cached = events.take().iter().filter(|event| matches!(event, Event::Cached { .. })).count();
        assert_eq!(cached, 3);
    }
}

#[test]
fn steps_without_a_key_always_run_and_no_cache_only_writes() {
    let records = Memory::default();
    let mut toys = Toys::default();
    let plain = toys.number(1);
    toys.nodes[plain].work.keyed = false;
    let fresh = toys.number(2);
    toys.nodes[fresh].work.no_cache = true;
    for _ in 0..2 {
        assert_eq!(toys.solve(&records, 2).unwrap(), [1, 2]);
        assert_eq!(toys.calls(), [1, 1]);
    }
    toys.nodes[fresh].work.no_cache = false;
    toys.solve(&records, 2).unwrap();
    assert_eq!(toys.calls(), [1, 0]);
}

#[test]
fn a_record_of_what_is_gone_is_replaced() {
    let records = Memory::default();
    let mut toys = Toys::default();
    toys.number(3);
    toys.solve(&records, 1).unwrap();
    records.records.lock().unwrap().values_mut().for_each(|record| *record = GONE);
    toys.calls();
    toys.solve(&records, 1).unwrap();
    assert_eq!(toys.calls(), [1]);
    assert_eq!(records.records.lock().unwrap().values().copied().collect::<Vec<_>>(), [3]);
}

#[test]
fn independent_steps_run_at_the_same_time() {
    let mut toys = Toys::default();
    let barrier = Arc::new(Barrier::new(4));
    for number in 0..4 {
        let barrier = barrier.clone();
        toys.add(&format!("stage {number}"), &[], move |_, _| {
            // Hangs for good if fewer than four are let in.
            barrier.wait();
            done(number)
        });
    }
    toys.sum(&[0, 1, 2, 3]);
    assert_eq!(toys.solve(&Memory::default(), 4).unwrap()[4], 6);
}

#[test]
fn no_more_than_parallel_steps_run_at_the_same_time() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let mut toys = Toys::default();
    for number in 0..30 {
        let (now, most) = (now.clone(), most.clone());
        toys.add(&format!("{number}"), &[], move |_, _| {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            now.fetch_sub(1, SeqCst);
            done(0)
        });
    }
    toys.solve(&Memory::default(), 3).unwrap();
    assert!(most.load(SeqCst) <= 3);
}

#[test]
fn a_chain_stays_on_the_callers_thread() {
    let caller = std::thread::current().id();
    let mut toys = Toys::default();
    for number in 0..20usize {
        let inputs = number.checked_sub(1);
        toys.add(&format!("{number}"), inputs.as_slice(), move |_, _| {
            assert_eq!(std::thread::current().id(), caller);
            done(0)
        });
    }
    toys.solve(&Memory::default(), 8).unwrap();
}

#[test]
fn two_hundred_stages() {
    let mut toys = Toys::default();
    let mut ends = Vec::new();
    for stage in 0..200 {
        let mut last = toys.number(stage);
        for step in 0..5 {
            let mut inputs = vec![last];
            inputs.extend(ends.get(stage as usize / 2).filter(|_| step == 2));
            last = toys.add(&format!("step {stage} {step}"), &inputs, |_, inputs| {
                done(inputs.iter().fold(1, |sum: i64, input| sum.wrapping_mul(31).wrapping_add(*input)))
            });
        }
        ends.push(last);
    }
    toys.sum(&ends);
    let one = toys.solve(&Memory::default(), 1).unwrap();
    assert_eq!(toys.calls(), vec![1; 1201]);
    let records = Memory::default();
    assert_eq!(toys.solve(&records, 16).unwrap(), one);
    toys.calls();
    assert_eq!(toys.solve(&records, 16).unwrap(), one);
    assert_eq!(toys.calls(), vec![0; 1201]);
}

#[test]
fn the_first_failure_ends_the_build() {
    for parallel in [1, 4] {
        let mut toys = Toys::default();
        let both = Arc::new(Barrier::new(parallel.min(2)));
        let first = both.clone();
        let bad = toys.add("bad", &[], move |_, _| {
            first.wait();
            Err(ToyError("exit code 3"))
        });
        let running = toys.add("running", &[], move |step, _| {
            both.wait();
            until_cancelled(step)
        });
        let after = toys.sum(&[bad]);
        let records = Memory::default();
        let events = Recorded::default();
        let failure = solve(&toys.nodes, &records, &events, parallel, &Cancel::new()).unwrap_err();
        assert!(
            matches!(&failure, SolveError::Step { vertex, source: ToyError("exit code 3") } if vertex.0 == bad)
        );
        assert_eq!(toys.calls()[after], 0);
        assert!(records.records.lock().unwrap().is_empty());
        let failed = events.take();
        let failed = failed.iter().filter_map(|event| match event {
            Event::Failed { vertex, error } => Some((vertex.0, error.as_str())),
            _ => None,
        });
        let expected = [(bad, "exit code 3"), (running, "the build was cancelled")];
        assert!(failed.eq(expected.into_iter().take(if parallel == 1 { 1 } else { 2 })));
    }
}

#[test]
fn cancelling_stops_running_steps_and_starts_no_more() {
    let cancel = Cancel::new();
    let mut toys = Toys::default();
    let switch = cancel.clone();
    toys.add("running", &[], |step, _| until_cancelled(step));
    toys.add("cancels", &[], move |_, _| {
        switch.cancel();
        done(1)
    });
    toys.sum(&[1]);
    let result = solve(&toys.nodes, &Memory::default(), &NoEvents, 2, &cancel);
    assert!(matches!(result, Err(SolveError::Cancelled)));
    assert_eq!(toys.calls(), [1, 1, 0]);
    let again = solve(&toys.nodes, &Memory::default(), &NoEvents, 2, &cancel);
    assert!(matches!(again, Err(SolveError::Cancelled)));
    assert_eq!(toys.calls(), [0, 0, 0]);
}

#[test]
fn a_panic_is_an_error_with_its_step() {
    let mut toys = Toys::default();
    let one = toys.number(1);
    toys.add("panics", &[one], |_, inputs| panic!("no {}", inputs[0]));
    toys.add("running", &[], |step, _| until_cancelled(step));
    let failure = toys.solve(&Memory::default(), 2).unwrap_err();
    let SolveError::Panicked { vertex, message } = failure else { panic!("{failure}") };
    assert_eq!((vertex.0, message.as_str()), (1, "no 1"));
}

#[test]
fn a_step_whose_input_changes_is_keyed_anew_once() {
    for (changes, expected) in [(1, Ok(())), (2, Err("file changed"))] {
        let left = AtomicUsize::new(changes);
        let mut toys = Toys::default();
        let copy = toys.add("copy", &[], move |_, _| match left.load(SeqCst) {
            0 => done(1),
            some => {
                left.store(some - 1, SeqCst);
                Ok(Ran::Stale(ToyError("file changed")))
            }
        });
        toys.nodes[copy].work.salt = Some(AtomicUsize::new(0));
        let records = Memory::default();
        let result = toys.solve(&records, 1);
        assert_eq!(result.map(drop).map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        assert_eq!(toys.calls(), [2]);
    }
}

#[test]
fn who_waits_for_a_stale_step_looks_again() {
    let mut toys = Toys::default();
    let once = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let once = once.clone();
        toys.add("copy", &[], move |_, _| {
            std::thread::sleep(Duration::from_millis(10));
            match once.fetch_add(1, SeqCst) {
                0 => Ok(Ran::Stale(ToyError("file changed"))),
                _ => done(9),
            }
        });
    }
    assert_eq!(toys.solve(&Memory::default(), 4).unwrap(), [9; 4]);
    assert_eq!(once.load(SeqCst), 2);
}

#[test]
fn two_builds_at_once_run_equal_steps_once() {
    for round in 0..20 {
        let records = Memory::default();
        let total = Arc::new(AtomicUsize::new(0));
        let graph = || {
            let mut toys = Toys::default();
            let mut steps: Vec<usize> = (0..10).map(|number| toys.number(number)).collect();
            // The other build meets the same keys in another order.
            if round % 2 == 1 {
                steps.reverse();
            }
            for step in 0..10 {
                let total = total.clone();
                let inputs = [steps[step], steps[(step + 1) % 10]];
                toys.add(&format!("product {}", step % 5), &inputs[..1], move |_, inputs| {
                    total.fetch_add(1, SeqCst);
                    done(inputs[0] * 2)
                });
            }
            toys
        };
        let (first, second) = (graph(), graph());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| second.solve(&records, 3).unwrap());
            let mine = first.solve(&records, 2).unwrap();
            assert_eq!(mine, other.join().unwrap());
        });
        assert_eq!(total.load(SeqCst), 10);
    }
}

#[test]
fn a_graph_out_of_order_is_refused() {
    let mut toys = Toys::default();
    toys.sum(&[0]);
    let failure = toys.solve(&Memory::default(), 1).unwrap_err();
    assert!(matches!(failure, SolveError::Order { input: 0, .. }));
    assert_eq!(solve::<Toy, _>(&[], &Memory::default(), &NoEvents, 1, &Cancel::new()).unwrap(), [0i64; 0]);
}

#[test]
fn events_tell_the_whole_story() {
    let mut toys = Toys::default();
    let one = toys.number(1);
    toys.sum(&[one]);
    let records = Memory::default();
    let tell = || {
        let events = Recorded::default();
        solve(&toys.nodes, &records, &events, 1, &Cancel::new()).unwrap();
        let told = events.take().into_iter().map(|event| match event {
            Event::Declared { vertex, name, inputs } => format!("{} {name} {inputs:?}", vertex.0),
            Event::Started { vertex } => format!("{} started", vertex.0),
            Event::Cached { vertex, record } => format!("{} cached {}", vertex.0, &record[..7]),
            Event::Finished { vertex, .. } => format!("{} finished", vertex.0),
            other => format!("{other:?}"),
        });
        told.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(tell(), @r"
    0 1 []
    1 sum [VertexId(0)]
    0 started
    0 finished
    1 started
    1 finished
    ");
    insta::assert_snapshot!(tell(), @r"
    0 1 []
    1 sum [VertexId(0)]
    0 started
    0 cached sha256:
    1 started
    1 cached sha256:
    ");
}
