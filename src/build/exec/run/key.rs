//! The key of a RUN (design: "A RUN's operation"): what is run, how, and on which layers. Never
//! in it: values of secrets, contents of cache mounts, what the predefined proxy arguments say.

use crate::base::digest::Digest;
use crate::build::exec::key::KeyBuilder;
use crate::build::exec::snapshot::{Inputs, Snapshot};
use crate::build::plan::operation::{RunMount, RunMountKind, RunOperation};
use crate::build::solve::Keyed;

/// The key of `run`; `contexts` has, for each mount of a context, what it shows, in the order of
/// the mounts.
pub fn key(run: &RunOperation, inputs: &Inputs<'_>, contexts: &[Option<Digest>]) -> Keyed {
    let mut key = KeyBuilder::new("run 1");
    for argument in &run.argv {
        key.field("argument", argument);
    }
    for variable in &run.env {
        key.field("environment", variable);
    }
    key.field("directory", &run.cwd);
    key.field("user", &run.user);
    key.field("platform", run.platform.to_string());
    key.field("network", format!("{:?}", run.network));
    key.field("security", if run.insecure { "insecure" } else { "sandbox" });
    for (name, address) in &run.add_hosts {
        key.field("host", format!("{name} {address}"));
    }
    key.field("hostname", &run.hostname);
    key.field("shm", run.shm_size.map(|size| size.to_string()).unwrap_or_default());
    for (name, soft, hard) in &run.ulimits {
        key.field("ulimit", format!("{name} {soft} {hard}"));
    }
    for device in &run.devices {
        key.field("device", device);
    }
    if let Some(script) = &run.script {
        key.field("script path", &script.path);
        key.field("script", &script.content);
    }
    for (mount, context) in run.mounts.iter().zip(contexts) {
        add_mount(&mut key, mount, inputs, *context);
    }
    for layer in inputs.stack(run.base).layers.iter() {
        key.field("layer", layer.to_string());
    }
    key.finish()
}

fn add_mount(key: &mut KeyBuilder, mount: &RunMount, inputs: &Inputs<'_>, context: Option<Digest>) {
    let target = &mount.target;
    match &mount.kind {
        RunMountKind::Bind { source, writable, .. } => {
            key.field("mount", format!("bind {target} {writable} {source}"));
        }
        RunMountKind::Cache { id, source, sharing, readonly, mode, uid, gid, .. } => {
            key.field("mount", format!("cache {target} {sharing:?} {readonly} {mode:o} {uid} {gid}"));
            key.field("cache", id);
            key.field("cache source", source);
        }
        RunMountKind::Tmpfs { size } => {
            key.field("mount", format!("tmpfs {target} {size:?}"));
        }
        RunMountKind::Secret { id, env, required, mode, uid, gid } => {
            key.field("mount", format!("secret {target} {env:?} {required} {mode:o} {uid} {gid}"));
            key.field("secret", id);
        }
        RunMountKind::Ssh => key.field("mount", format!("ssh {target}")),
    }
    let from = match &mount.kind {
        RunMountKind::Bind { from, .. } => Some(*from),
        RunMountKind::Cache { from, .. } => *from,
        _ => None,
    };
    match (from.map(|from| inputs.get(from)), context) {
        (Some(Snapshot::Layers(stack)), _) => {
            for layer in stack.layers.iter() {
                key.field("mounted layer", layer.to_string());
            }
            key.field("mounted layers", stack.layers.len().to_string());
        }
        (Some(Snapshot::Context(_)), Some(digest)) => key.digest("mounted files", digest, "digest"),
        _ => {}
    }
}
