//! RUN: a command in a sandbox over the layers below; what it changed becomes a layer.
//!
//! In: a [`RunOperation`] and the outputs it stands on. Out: the layer that the overlay's upper
//! directory is. Nothing else of a run is kept: mounts, secrets, what /etc gets for its time and
//! the mount points that all these need leave no trace.

pub mod etc;
mod key;
pub mod log;
mod mounts;
mod process;
mod root;
mod secret;
mod submount;

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Spec, User as SpecUser};

use crate::base::digest::{Digest, LayerId};
use crate::base::platform::Platform;
use crate::build::plan::operation::{RunMountKind, RunOperation};
use crate::build::solve::{Keyed, Step};
use crate::dockerfile::instruction::RunNetwork;
use crate::image::user::User;
use crate::layer::scan::scan_tree;
use crate::sandbox::{OverlayRoot, defaults};

use super::Exec;
use super::copy::step::{self as copying, Copied, Planned as Tree};
use super::error::ExecError;
use super::snapshot::{Inputs, Snapshot};
use super::workdir;
use mounts::{Mounted, Place};

/// How much of the output an error repeats.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 64 << 10;

/// A RUN whose key was made.
pub struct Planned {
    /// For each mount that shows a context: what it shows, its key, and the path in it.
    contexts: Vec<Option<(Tree, Keyed, Vec<u8>)>>,
}

/// Makes the key of `run`. What its mounts show of contexts is looked at, and scanned again if
/// `rescan`.
pub fn plan(
    exec: &Exec<'_>,
    run: &RunOperation,
    inputs: &Inputs<'_>,
    rescan: bool,
) -> Result<(Planned, Keyed), ExecError> {
    refuse_unsupported(run)?;
    let mut contexts = Vec::new();
    for mount in &run.mounts {
        let RunMountKind::Bind { from, source, .. } = &mount.kind else {
            contexts.push(None);
            continue;
        };
        let snapshot = inputs.get(*from);
        contexts.push(match snapshot {
            Snapshot::Layers(_) => None,
            Snapshot::Context(_) => {
                let planned = copying::plan_tree(exec, snapshot, source, rescan)?;
                let (mut tree, path) = planned.ok_or_else(|| ExecError::MountSource {
                    path: source.clone(),
                    target: mount.target.clone(),
                    place: exec.place(*from),
                })?;
                let keyed = tree.tree_key(exec.cancel)?;
                Some((tree, keyed, path))
            }
        });
    }
    let digests: Vec<Option<Digest>> =
        contexts.iter().map(|context| context.as_ref().map(|(_, keyed, _)| keyed.key.0)).collect();
    let keyed = key::key(run, inputs, &digests);
    Ok((Planned { contexts }, keyed))
}

/// What is parsed and left for later is an error where it is reached.
fn refuse_unsupported(run: &RunOperation) -> Result<(), ExecError> {
    let refuse = |what: String| Err(ExecError::NotSupported(what));
    if !Platform::host().satisfies(&run.platform) {
        return refuse(format!("RUN for the platform {} on this machine", run.platform));
    }
    if run.insecure {
        return refuse("`--security=insecure`".to_owned());
    }
    if !run.devices.is_empty() {
        return refuse("`--device`".to_owned());
    }
    if run.mounts.iter().any(|mount| matches!(mount.kind, RunMountKind::Ssh)) {
        return refuse("`--mount=type=ssh`".to_owned());
    }
    Ok(())
}

impl Planned {
    /// Runs the command and keeps what it changed.
    pub fn run(
        self,
        exec: &Exec<'_>,
        run: &RunOperation,
        inputs: &Inputs<'_>,
        step: &Step<'_>,
    ) -> Result<Copied, ExecError> {
        let mut contexts = Vec::new();
        for context in self.contexts {
            contexts.push(match context {
                None => None,
                Some((tree, keyed, path)) => match tree.layer(exec, &keyed, step)? {
                    Copied::Layer(layer) => Some((layer, path)),
                    stale @ Copied::Stale(_) => return Ok(stale),
                },
            });
        }
        execute(exec, run, inputs, step, &contexts).map(Copied::Layer)
    }
}

fn execute(
    exec: &Exec<'_>,
    run: &RunOperation,
    inputs: &Inputs<'_>,
    step: &Step<'_>,
    contexts: &[Option<(LayerId, Vec<u8>)>],
) -> Result<LayerId, ExecError> {
    let stack = inputs.stack(run.base);
    let prepared = exec.store.prepare()?;
    let tree = exec.layers_tree(&stack.layers)?;
    let user = workdir::look_up(exec, &stack, &run.user)?;
    let overlay = OverlayRoot {
        lowers: exec.trees(&stack.layers)?,
        upper: prepared.path().join("tree"),
        work: prepared.path().join("work"),
    };
    make(&overlay.upper, 0o755)?;
    make(&overlay.work, 0o700)?;
    root::same_root(&tree, &overlay.upper)?;
    let cwd = root::make_working_directory(&tree, &overlay.upper, &run.cwd)?;
    let place = Place { exec, inputs, scratch: prepared.path(), step };
    let Mounted { mounts, env, secrets, .. } = &mut place.prepare(&run.mounts, contexts)?;
    let mut spec = spec(run, &user, cwd)?;
    let all = spec.mounts_mut().get_or_insert_default();
    all.append(&mut etc::mounts(exec, run)?);
    if let Some(script) = &run.script {
        all.push(script_mount(&prepared.path().join("script"), &script.path, &script.content)?);
    }
    all.append(mounts);
    if let Some(process) = spec.process_mut() {
        process.env_mut().get_or_insert_default().append(env);
    }
    overlay.install(&mut spec, &exec.store.root().join("mount-points"))?;
    let first = seconds();
    let ended = process::run(&spec, step, || secrets.clear())?;
    let last = seconds();
    match ended.exit.code() {
        0 => {}
        code => {
            let tail = ended.log.tail(TAIL_LINES, TAIL_BYTES);
            return Err(ExecError::Exited { command: run.argv.join(" "), code, tail });
        }
    }
    let index = scan_tree(&overlay.upper)?;
    Ok(exec.store.commit_tree(prepared, &index, Some((first, last)))?)
}

/// The spec of a RUN, without its root file system.
fn spec(run: &RunOperation, user: &User, cwd: String) -> Result<Spec, ExecError> {
    let network = match run.network {
        RunNetwork::None => defaults::Network::None,
        RunNetwork::Default | RunNetwork::Host => defaults::Network::Host,
    };
    let mut spec = defaults::spec(network)?;
    spec.set_hostname(Some(hostname(run).to_owned()));
    spec.set_mounts(Some(defaults::mounts(run.shm_size.unwrap_or(defaults::SHM_SIZE), false)));
    let Some(process) = spec.process_mut() else { return Ok(spec) };
    process.set_args(Some(run.argv.clone())).set_cwd(cwd.into());
    process.set_env(Some(environment(run, user)));
    let mut ids = SpecUser::default();
    // The primary group is among the others too, so that no group permission can be got around by
    // dropping it.
    let others = user.additional_gids.iter().copied().filter(|gid| *gid != user.gid);
    let groups = std::iter::once(user.gid).chain(others).collect();
    ids.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(groups));
    process.set_user(ids);
    process.set_capabilities(Some(defaults::capability_sets(defaults::capabilities(), user.uid)));
    process.set_rlimits(Some(run.ulimits.iter().filter_map(limit).collect()));
    Ok(spec)
}

/// The host name that the command sees.
fn hostname(run: &RunOperation) -> &str {
    if run.hostname.is_empty() { etc::HOSTNAME } else { &run.hostname }
}

/// What the command finds in its environment: a search path and a home if nobody set them.
fn environment(run: &RunOperation, user: &User) -> Vec<String> {
    let mut env: Vec<String> = run.env.iter().chain(&run.unkeyed_env).cloned().collect();
    let has = |env: &[String], name: &str| {
        env.iter().any(|variable| variable.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
    };
    if !has(&env, "PATH") {
        env.insert(0, format!("PATH={}", defaults::PATH));
    }
    if !has(&env, "HOME") {
        env.push(format!("HOME={}", user.home));
    }
    env
}

/// A limit of `--ulimit`; -1 is none.
fn limit((name, soft, hard): &(String, i64, i64)) -> Option<PosixRlimit> {
    let kind: PosixRlimitType =
        serde_json::from_value(format!("RLIMIT_{}", name.to_uppercase()).into()).ok()?;
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    PosixRlimitBuilder::default().typ(kind).soft(value(*soft)).hard(value(*hard)).build().ok()
}

/// A here-document as a file that only the command sees.
fn script_mount(file: &Path, target: &str, content: &str) -> Result<oci_spec::runtime::Mount, ExecError> {
    let failed = || ExecError::file("write the script", file);
    fs::write(file, content).map_err(failed())?;
    fs::set_permissions(file, Permissions::from_mode(0o755)).map_err(failed())?;
    Ok(defaults::bind(file, target, true))
}

fn make(path: &Path, mode: u32) -> Result<(), ExecError> {
    DirBuilder::new().mode(mode).create(path).map_err(ExecError::file("make the directory", path))
}

/// The time of the clock that files are stamped with, whatever clock the store is given.
fn seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
