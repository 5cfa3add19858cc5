//! What a step gives to the steps after it.

use std::sync::Arc;

use crate::base::clock::Time;
use crate::base::digest::LayerId;
use crate::base::event::VertexId;
use crate::build::context::Context;

/// The output of a step.
#[derive(Clone)]
pub enum Snapshot {
    /// A file system.
    Layers(Stack),
    /// A build context.
    Context(Arc<Context>),
}

/// A stack of layers and what the last step added to it.
#[derive(Clone, Default)]
pub struct Stack {
    /// Bottom first.
    pub layers: Arc<[LayerId]>,
    /// What the step itself did; `None` for one that only names layers.
    pub own: Option<Own>,
}

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// The layer it made; `None` if there was nothing to do.
    pub layer: Option<LayerId>,
    /// When, by its record.
    pub created: Time,
}

impl Stack {
    /// The stack with one more step on it.
    pub fn with(&self, own: Own) -> Self {
        let layers = match own.layer {
            Some(layer) => self.layers.iter().copied().chain([layer]).collect(),
            None => self.layers.clone(),
        };
        Self { layers, own: Some(own) }
    }
}

/// The outputs that a step stands on, by the vertices they come from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    vertices: &'a [VertexId],
    snapshots: &'a [Snapshot],
}

impl<'a> Inputs<'a> {
    /// The outputs `snapshots` of `vertices`, in the same order.
    pub fn new(vertices: &'a [VertexId], snapshots: &'a [Snapshot]) -> Self {
        Self { vertices, snapshots }
    }

    /// The output of `vertex`, which the operation names as an input.
    pub fn get(&self, vertex: VertexId) -> &'a Snapshot {
        let at = self.vertices.iter().position(|input| *input == vertex);
        &self.snapshots[at.expect("an operation lists all the inputs it names")]
    }

    /// The stack of `vertex`; that of a context is empty.
    pub fn stack(&self, vertex: VertexId) -> Stack {
        match self.get(vertex) {
            Snapshot::Layers(stack) => stack.clone(),
            Snapshot::Context(_) => Stack::default(),
        }
    }
}
