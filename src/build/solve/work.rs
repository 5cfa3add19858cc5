//! What the scheduler asks of operations and of the store of records.

use std::sync::Arc;

use crate::base::digest::CacheKey;
use crate::base::event::{Events, VertexId};

use super::Cancel;

/// One step of a graph.
pub struct Node<W> {
    /// What people see: `[build 2/5] RUN make`.
    pub name: Arc<str>,
    /// The nodes whose outputs it needs, in the order in which its work gets them. All of them
    /// come before it in the graph.
    pub inputs: Vec<usize>,
    /// What it does.
    pub work: W,
}

/// The key of a step and what went into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The key.
    pub key: CacheKey,
    /// Everything that went into the key as (what, value), for "why did this run again?".
    pub parts: Vec<(String, String)>,
}

/// What an operation did.
pub enum Ran<O, R, E> {
    /// It ran.
    Done {
        /// What came out.
        output: O,
        /// What the next build needs to find the output again.
        record: R,
    },
    /// What the key was made of changed while the step read it. The step is keyed anew once; if
    /// this happens again, the error is the step's.
    Stale(E),
}

/// What running a step gives.
pub type RunResult<W> =
    Result<Ran<<W as Work>::Output, <W as Work>::Record, <W as Work>::Error>, <W as Work>::Error>;

/// What a running step knows about where it runs.
pub struct Step<'a> {
    /// Its place in the graph, for events.
    pub vertex: VertexId,
    /// Its key, if it has one.
    pub keyed: Option<&'a Keyed>,
    /// Set when the build is cancelled or another step failed. A step that runs long must watch it.
    pub cancel: &'a Cancel,
    /// Takes the step's logs and progress. Started, finished and failed are sent by the scheduler.
    pub events: &'a dyn Events,
}

/// An operation. Called from many threads, but never twice at once for one node.
pub trait Work: Send + Sync {
    /// The output; cheap to clone. Keys are made of its content identity.
    type Output: Clone + Send + Sync;
    /// What is kept of a run between builds.
    type Record;
    /// Why it failed.
    type Error: std::error::Error + Send + 'static;

    /// The key on these inputs, or `None` for what is never recorded. May be called again after
    /// [`Ran::Stale`], and must then look at the inputs anew.
    fn key(&self, inputs: &[Self::Output]) -> Result<Option<Keyed>, Self::Error>;

    /// Whether no record may be read for it. What it makes is recorded all the same.
    fn no_cache(&self) -> bool {
        false
    }

    /// The output that `record` tells of, or `None` if it is not there any more.
    fn load(
        &self,
        record: Self::Record,
        inputs: &[Self::Output],
    ) -> Result<Option<Self::Output>, Self::Error>;

    /// Runs it.
    fn run(&self, step: &Step<'_>, inputs: &[Self::Output]) -> RunResult<Self>;
}

/// Results of earlier builds, shared with other processes.
pub trait Records: Sync {
    /// What is kept for a key.
    type Record;
    /// Why records could not be read, written or locked.
    type Error;
    /// Held while a key's step runs; dropping it gives the key free.
    type Lock;

    /// The record of `key`, if there is one.
    fn lookup(&self, key: CacheKey) -> Result<Option<Self::Record>, Self::Error>;

    /// Keeps `record` for `keyed`, in the place of an older one.
    fn store(&self, keyed: &Keyed, record: Self::Record) -> Result<(), Self::Error>;

    /// Waits until nobody else, in this process or another, holds `key`. Must end soon, with an
    /// error, once `cancel` is set.
    fn lock(&self, key: CacheKey, cancel: &Cancel) -> Result<Self::Lock, Self::Error>;
}
