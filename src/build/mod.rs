//! A build request to a build result.
//!
//! ```text
//! request ─parse, lower─▶ plan ─solve (exec)─▶ snapshots ─commit─▶ config, layers ─export─▶ outputs
//! ```
//!
//! In: a [`BuildRequest`]. Out: a [`BuildResult`], whatever outputs it asked for, and the image in
//! the store if that is one of them. What happens on the way is told as events. A failed build
//! leaves only garbage and the records of the steps that ended well.

pub mod context;
mod error;
pub mod exec;
pub mod export;
pub mod plan;
pub mod request;
pub mod solve;

use std::path::PathBuf;
use std::time::Duration;

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::base::event::{Event, Events};
use crate::base::platform::Platform;
use crate::base::span::Source;
use crate::dockerfile;
use crate::store::Store;

use exec::contexts::Contexts;
use exec::error::ExecError;
use exec::images::StoreImages;
use exec::snapshot::Snapshot;
use exec::{Exec, StoreRecords};
use plan::request::{NamedContext as PlannedContext, PlanRequest};
use plan::{Plan, lower};
use request::{BuildRequest, BuildResult, ContextInput, NamedContext};
use solve::{Cancel, SolveError, solve};

pub use error::BuildError;

/// How many steps run at once: more than there are processors, since steps wait for commands.
const PARALLEL: usize = 32;

/// How long a build cleans up behind itself before it gives back control.
const CLEANING: Duration = Duration::from_millis(2);

/// Builds what `request` asks for, with the results of earlier builds in `store`.
pub fn build(
    store: &Store,
    request: BuildRequest,
    events: &dyn Events,
    cancel: &Cancel,
) -> Result<BuildResult, BuildError> {
    let lease = store.lease()?;
    let source = &request.dockerfile;
    let parsed =
        dockerfile::parse(source.name(), source.text().as_bytes()).map_err(BuildError::Dockerfile)?;
    let plan = lower(&plan_request(&request, &parsed), &StoreImages(store))?;
    for message in &plan.notices {
        events.send(Event::Warning { vertex: None, message: message.clone() });
    }
    let contexts = contexts(&request);
    let exec = Exec::new(store, &plan.graph, &contexts, &request.secrets, &lease, cancel);
    let solved = solve(&exec.nodes(), &StoreRecords(store), events, PARALLEL, cancel);
    let outputs = match solved {
        Ok(outputs) => outputs,
        // Whatever a step says that was stopped on the way.
        Err(_) if cancel.is_cancelled() => return Err(BuildError::Cancelled),
        Err(error) => return Err(step_error(error, &plan, &parsed.source)),
    };
    save_scans(&outputs, events);
    exec.touch(&outputs)?;
    drop(exec);
    let result = export::export(store, &plan, &outputs, request, events, cancel)?;
    store.sync()?;
    // What is left stays for the next command.
    let _ = store.empty_trash(CLEANING);
    Ok(BuildResult { warnings: plan.warnings, ..result })
}

fn plan_request<'a>(
    request: &BuildRequest,
    dockerfile: &'a dockerfile::instruction::Dockerfile,
) -> PlanRequest<'a> {
    let named = |(name, context): &(String, NamedContext)| {
        let context = match context {
            NamedContext::Directory(_) => PlannedContext::Directory,
            NamedContext::Image(reference) => PlannedContext::Image(reference.clone()),
            NamedContext::Layout(layout) => PlannedContext::Layout(layout.clone()),
        };
        (name.clone(), context)
    };
    PlanRequest {
        dockerfile,
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        labels: request.labels.clone(),
        platform: request.platform.clone(),
        host: Platform::host(),
        named_contexts: request.named_contexts.iter().map(named).collect(),
        add_hosts: request.add_hosts.clone(),
        network: request.network,
        shm_size: request.shm_size,
        ulimits: request.ulimits.clone(),
        hostname: request.hostname.clone(),
        no_cache: request.no_cache.clone(),
    }
}

fn contexts(request: &BuildRequest) -> Contexts {
    let named = request.named_contexts.iter().filter_map(|(name, context)| match context {
        NamedContext::Directory(directory) => Some((name.clone(), directory.clone())),
        NamedContext::Image(_) | NamedContext::Layout(_) => None,
    });
    Contexts {
        main: match &request.context {
            ContextInput::Directory(directory) => Some(directory.clone()),
            ContextInput::Empty => None,
        },
        dockerfile: request.dockerfile_path.clone(),
        named: named.collect::<Vec<(String, PathBuf)>>(),
    }
}

/// What the scans of the contexts learned is kept for the next build; failing to is no failure.
fn save_scans(outputs: &[Snapshot], events: &dyn Events) {
    for output in outputs {
        if let Snapshot::Context(context) = output
            && let Err(error) = context.save()
        {
            events.send(Event::Warning { vertex: None, message: error.to_string() });
        }
    }
}

/// An error of a step, with its place in the Dockerfile.
fn step_error(error: SolveError<ExecError>, plan: &Plan, source: &Source) -> BuildError {
    match error {
        SolveError::Cancelled | SolveError::Step { source: ExecError::Cancelled, .. } => {
            BuildError::Cancelled
        }
        SolveError::Step { vertex, source: error } => {
            let vertex = &plan.graph.vertices[vertex.0];
            let diagnostics = vertex.span.map(|span| {
                let fault = Diagnostic::error(span, error::chain(&error));
                Diagnostics::one(source, error.help().into_iter().fold(fault, Diagnostic::help))
            });
            BuildError::Step { step: vertex.name.clone(), diagnostics, error: Box::new(error) }
        }
        fault @ (SolveError::Panicked { .. } | SolveError::Order { .. }) => {
            BuildError::Fault { message: fault.to_string() }
        }
    }
}
