//! The whole of it: a request to a plan.

use std::collections::BTreeSet;

use crate::base::diagnostic::{Diagnostic, Diagnostics};
use crate::dockerfile::instruction::Kind;

use super::PlanError;
use super::arguments;
use super::expansion::expand;
use super::images::Images;
use super::names::Names;
use super::planner::{MAX_SIZE, Planner};
use super::reach::{Base, reach};
use super::request::PlanRequest;
use super::result::Plan;
use super::scope::Variables;
use super::stage::{self, Finished, State};

/// Lowers the stages that the target needs.
///
/// All faults are found that do not follow from another one; the target is looked up before any
/// image is.
pub fn lower(request: &PlanRequest<'_>, images: &dyn Images) -> Result<Plan, PlanError> {
    let target = Names::new(request.dockerfile, &request.named_contexts).target(request)?;
    let (globals, faults) = globals(request);
    let source_date_epoch = arguments::source_date_epoch(request, &globals)?;
    let mut planner = Planner::new(request, images, globals);
    planner.faults = faults;
    let reached = reach(&mut planner, target);
    for entry in reached.values() {
        if let Base::Stage(below) = entry.base {
            *planner.users.entry(below).or_default() += 1;
        }
    }
    // Whoever is based on the target is not needed for it, so that it stays whole.
    for (number, entry) in &reached {
        if let Some(finished) = stage::lower(&mut planner, *number, entry) {
            planner.stages.insert(*number, finished);
        }
    }
    let state = match planner.stages.remove(&target) {
        Some(Finished::Steps(state)) => Some(*state),
        Some(Finished::Directory(name, _)) => stage::of_directory(&mut planner, target, name),
        Some(Finished::Files(_)) | None => None,
    };
    match state {
        Some(state) if planner.faults.is_empty() => Ok(plan(planner, state, source_date_epoch)),
        _ => Err(faulty(planner)),
    }
}

/// The automatic arguments and the ARGs above the first FROM.
fn globals(request: &PlanRequest<'_>) -> (Variables, Vec<Diagnostic>) {
    let mut globals = arguments::automatic(request);
    let mut faults = Vec::new();
    for declaration in request.dockerfile.global_args.iter().flat_map(|arg| &arg.declarations) {
        let name = &declaration.name.value;
        match (request.build_args.get(name), &declaration.default) {
            (Some(given), _) => globals.set(name, given),
            (None, Some(default)) => match expand(default, &globals) {
                Ok(value) if globals.size() + value.len() > MAX_SIZE => {
                    let fault = "the ARGs before the first FROM come to too much";
                    faults.push(Diagnostic::error(declaration.name.span, fault));
                    break;
                }
                Ok(value) => globals.set(name, value),
                Err(fault) => faults.push(fault),
            },
            (None, None) => {}
        }
    }
    (globals, faults)
}

fn faulty(planner: Planner<'_>) -> PlanError {
    let mut all = planner.faults;
    all.sort_by_key(|fault| fault.span.start);
    // A name that is used twice is at fault once.
    all.dedup();
    PlanError::Dockerfile(Diagnostics { source: planner.request.dockerfile.source.clone(), all })
}

fn plan(planner: Planner<'_>, state: State, source_date_epoch: Option<i64>) -> Plan {
    let request = planner.request;
    let mut config = state.config;
    config.config.env = state.scope.image.pairs();
    config.config.labels.extend(request.labels.iter().cloned());
    if let Some(platform) = &request.platform {
        config.os.clone_from(&platform.os);
        config.architecture.clone_from(&platform.architecture);
        config.variant.clone_from(&platform.variant);
    }
    let notices = unused(request, &planner.triggered_args).into_iter().collect();
    Plan {
        graph: planner.graph,
        result: state.vertex,
        config,
        base_layers: state.base_layers,
        history: state.history,
        platform: state.platform,
        source_date_epoch,
        warnings: planner.warnings,
        notices,
    }
}

/// Docker's words for build arguments that no ARG takes.
fn unused(request: &PlanRequest<'_>, triggered: &[String]) -> Option<String> {
    let instructions = request.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let local = instructions.filter_map(|instruction| match &instruction.kind {
        Kind::Arg(arg) => Some(arg),
        _ => None,
    });
    let args = request.dockerfile.global_args.iter().chain(local);
    let mut declared: BTreeSet<&str> =
        args.flat_map(|arg| &arg.declarations).map(|declaration| declaration.name.value.as_str()).collect();
    declared.extend(triggered.iter().map(String::as_str));
    let unused: Vec<&str> = request
        .build_args
        .keys()
        .filter(|name| !declared.contains(name.as_str()) && !arguments::is_predefined(name))
        .map(String::as_str)
        .collect();
    (!unused.is_empty()).then(|| format!("One or more build-args [{}] were not consumed", unused.join(" ")))
}
