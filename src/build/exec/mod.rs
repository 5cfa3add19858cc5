//! Runs the operations of a build graph: a file or a directory per operation.
//!
//! In: the plain data of [`plan`](crate::build::plan), the store, the contexts and secrets of a
//! request. Out: [`Snapshot`]s, and records in the store. The scheduler knows what is here only
//! as [`Work`] and [`Records`].

pub mod contexts;
pub mod copy;
pub mod error;
pub mod images;
mod key;
mod records;
pub mod run;
pub mod snapshot;
mod workdir;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::digest::{CacheKey, LayerId};
use crate::base::event::VertexId;
use crate::build::plan::operation::{Graph, Operation, Vertex};
use crate::build::request::Secret;
use crate::build::solve::{Cancel, Keyed, Node, Ran, RunResult, Step, Work};
use crate::store::{Lease, Prepared, Store, StoreError};

use contexts::Contexts;
use copy::layers::LayersTree;
use copy::step::{Copied, Planned};
use error::ExecError;
use snapshot::{Inputs, Own, Snapshot, Stack};

pub use records::{StepRecord, StoreRecords};

/// What all steps of one build share.
pub struct Exec<'a> {
    /// Where results are kept.
    pub store: &'a Store,
    /// The steps.
    pub graph: &'a Graph,
    /// The directories of the request.
    pub contexts: &'a Contexts,
    /// The secrets of the request.
    pub secrets: &'a [Secret],
    /// Keeps what the build uses from being pruned.
    pub lease: &'a Lease,
    /// Ends the build.
    pub cancel: &'a Cancel,
    /// A directory for what steps share and nobody keeps; made when it is first needed.
    scratch: Mutex<Option<Prepared>>,
    /// The keys whose records were of use.
    used: Mutex<Vec<CacheKey>>,
}

impl<'a> Exec<'a> {
    /// The steps of `graph` over `store`.
    pub fn new(
        store: &'a Store,
        graph: &'a Graph,
        contexts: &'a Contexts,
        secrets: &'a [Secret],
        lease: &'a Lease,
        cancel: &'a Cancel,
    ) -> Self {
        let (scratch, used) = (Mutex::default(), Mutex::default());
        Self { store, graph, contexts, secrets, lease, cancel, scratch, used }
    }

    /// Notes that the records and layers of this build were used now.
    pub fn touch(&self, outputs: &[Snapshot]) -> Result<(), StoreError> {
        let mut layers: Vec<LayerId> = Vec::new();
        for output in outputs {
            if let Snapshot::Layers(stack) = output {
                layers.extend(stack.layers.iter());
            }
        }
        layers.sort_unstable();
        layers.dedup();
        let keys = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() { Ok(()) } else { self.store.touch(&keys, &layers) }
    }

    /// The merged view of `layers`.
    fn layers_tree(&self, layers: &[LayerId]) -> Result<LayersTree, ExecError> {
        let mut spans = Vec::with_capacity(layers.len());
        for layer in layers {
            spans.push(self.store.run_span(*layer)?);
        }
        Ok(LayersTree::new(self.store.merged(layers)?, spans))
    }

    /// The trees of `layers` as an overlay takes them, bottom first. A layer that is there twice
    /// counts where it is highest: there it says again all that it said below, and an overlay
    /// takes no directory twice.
    fn trees(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>, ExecError> {
        let last = |(number, layer): (usize, &LayerId)| !layers[number + 1..].contains(layer);
        let once = layers.iter().enumerate().filter(|one| last(*one)).map(|(_, layer)| *layer);
        Ok(self.store.trees(&once.collect::<Vec<_>>())?)
    }

    /// A directory of the build's own.
    fn scratch(&self) -> Result<PathBuf, ExecError> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*scratch {
            Some(prepared) => Ok(prepared.path().to_owned()),
            None => Ok(scratch.insert(self.store.prepare()?).path().to_owned()),
        }
    }

    /// What `vertex` is called in messages.
    fn place(&self, vertex: VertexId) -> String {
        let vertex = &self.graph.vertices[vertex.0];
        match &vertex.operation {
            Operation::Context(context) if context.name == contexts::MAIN => "the build context".to_owned(),
            Operation::Context(context) => format!("the build context `{}`", context.name),
            Operation::Layers(_) => {
                let name = vertex.name.rsplit_once("FROM ").map_or(&*vertex.name, |(_, image)| image);
                format!("the image `{name}`")
            }
            _ => format!("the stage `{}`", vertex.stage),
        }
    }

    /// The graph as the scheduler takes it.
    pub fn nodes(&self) -> Vec<Node<StepWork<'_>>> {
        let node = |vertex| {
            let vertex: &Vertex = vertex;
            let inputs = vertex.operation.inputs();
            Node {
                name: vertex.name.as_str().into(),
                inputs: inputs.iter().map(|input| input.0).collect(),
                work: StepWork { exec: self, vertex, inputs, state: Mutex::default() },
            }
        };
        self.graph.vertices.iter().map(node).collect()
    }
}

/// One step.
pub struct StepWork<'a> {
    exec: &'a Exec<'a>,
    vertex: &'a Vertex,
    inputs: Vec<VertexId>,
    state: Mutex<State>,
}

/// What a step keeps between its key and its run.
#[derive(Default)]
struct State {
    copy: Option<Planned>,
    run: Option<run::Planned>,
    /// Whether the context changed under the step, so that it must be scanned again.
    stale: bool,
}

impl StepWork<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned state is one of a step that panicked, which ends the build.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inputs<'i>(&'i self, snapshots: &'i [Snapshot]) -> Inputs<'i> {
        Inputs::new(&self.inputs, snapshots)
    }

    /// A step that made `layer`, or nothing.
    fn done(
        &self,
        base: &Stack,
        layer: Option<LayerId>,
        began: Instant,
    ) -> Ran<Snapshot, StepRecord, ExecError> {
        let created = self.exec.store.clock().now();
        let (took, step) = (began.elapsed(), self.vertex.name.clone());
        let record = StepRecord { key: None, layer, created, took, step };
        Ran::Done { output: Snapshot::Layers(base.with(Own { layer, created })), record }
    }

    fn base(&self, inputs: &Inputs<'_>) -> Stack {
        match &self.vertex.operation {
            Operation::Run(run) => inputs.stack(run.base),
            Operation::Copy(copy) => inputs.stack(copy.base),
            Operation::Workdir { base, .. } => inputs.stack(*base),
            Operation::Layers(_) | Operation::Context(_) => Stack::default(),
        }
    }
}

impl Work for StepWork<'_> {
    type Output = Snapshot;
    type Record = StepRecord;
    type Error = ExecError;

    fn key(&self, snapshots: &[Snapshot]) -> Result<Option<Keyed>, ExecError> {
        let inputs = self.inputs(snapshots);
        match &self.vertex.operation {
            Operation::Layers(_) | Operation::Context(_) => Ok(None),
            Operation::Workdir { path, user, .. } => {
                let stack = self.base(&inputs);
                workdir::key(self.exec, &stack, path, user.as_deref()).map(Some)
            }
            Operation::Copy(copy) => {
                let stale = self.state().stale;
                let mut planned = copy::step::plan(self.exec, copy, &inputs, stale)?;
                let keyed = planned.key(copy, &inputs, self.exec.cancel)?;
                self.state().copy = Some(planned);
                Ok(Some(keyed))
            }
            Operation::Run(run) => {
                let stale = self.state().stale;
                let (planned, keyed) = run::plan(self.exec, run, &inputs, stale)?;
                self.state().run = Some(planned);
                Ok(Some(keyed))
            }
        }
    }

    fn no_cache(&self) -> bool {
        self.vertex.no_cache
    }

    fn load(&self, record: StepRecord, snapshots: &[Snapshot]) -> Result<Option<Snapshot>, ExecError> {
        if let Some(layer) = record.layer {
            if self.exec.store.layer(layer)?.is_none() {
                return Ok(None);
            }
            self.exec.lease.hold(&[layer])?;
        }
        self.exec.used.lock().unwrap_or_else(PoisonError::into_inner).extend(record.key);
        *self.state() = State::default();
        let own = Own { layer: record.layer, created: record.created };
        let stack = self.base(&self.inputs(snapshots));
        Ok(Some(Snapshot::Layers(stack.with(own))))
    }

    fn run(&self, step: &Step<'_>, snapshots: &[Snapshot]) -> RunResult<Self> {
        let began = Instant::now();
        let inputs = self.inputs(snapshots);
        let stack = self.base(&inputs);
        match &self.vertex.operation {
            Operation::Layers(layers) => {
                self.exec.lease.hold(layers)?;
                let stack = Stack { layers: layers.as_slice().into(), own: None };
                Ok(Ran::Done { output: Snapshot::Layers(stack), record: StepRecord::default() })
            }
            Operation::Context(source) => {
                let context = self.exec.contexts.scan(self.exec.store, &source.name, self.exec.cancel)?;
                Ok(Ran::Done { output: Snapshot::Context(context), record: StepRecord::default() })
            }
            Operation::Workdir { path, user, .. } => {
                let layer = workdir::run(self.exec, &stack, path, user.as_deref())?;
                Ok(self.done(&stack, layer, began))
            }
            Operation::Copy(_) => {
                let planned = self.state().copy.take().expect("a step is keyed before it runs");
                match planned.run(self.exec, step)? {
                    Copied::Layer(layer) => Ok(self.done(&stack, Some(layer), began)),
                    Copied::Stale(error) => {
                        self.state().stale = true;
                        Ok(Ran::Stale(error))
                    }
                }
            }
            Operation::Run(operation) => {
                let planned = self.state().run.take().expect("a step is keyed before it runs");
                let layer = match planned.run(self.exec, operation, &inputs, step)? {
                    Copied::Layer(layer) => layer,
                    Copied::Stale(error) => {
                        self.state().stale = true;
                        return Ok(Ran::Stale(error));
                    }
                };
                Ok(self.done(&stack, Some(layer), began))
            }
        }
    }
}
