//! A plan as text for people: `kiln debug plan` and the tests print it.

use std::fmt::{Display, Write as _};

use crate::base::event::VertexId;
use crate::dockerfile::instruction::{CacheSharing, RunNetwork};
use crate::image::config::ImageConfig;

use super::operation::{CopyOperation, Operation, RunMount, RunMountKind, RunOperation, Source, Vertex};
use super::result::Plan;

/// The plan, a block for each vertex, then the config and the history; ends in a line break.
pub fn dump(plan: &Plan) -> String {
    let mut out = String::new();
    for (at, vertex) in plan.graph.vertices.iter().enumerate() {
        block(&mut out, at, vertex);
    }
    let _ = writeln!(out, "result {} for {}", id(plan.result), plan.platform);
    if let Some(epoch) = plan.source_date_epoch {
        field(&mut out, "epoch", epoch);
    }
    config(&mut out, &plan.config);
    out.push_str("history\n");
    if plan.base_layers > 0 || !plan.config.history.is_empty() {
        let _ = writeln!(out, "  base: {} layers, {} entries", plan.base_layers, plan.config.history.len());
    }
    for entry in &plan.history {
        let vertex = entry.vertex.map_or_else(|| "empty".to_owned(), id);
        let _ = writeln!(out, "  {vertex}: {}", escaped(&entry.created_by));
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {}", warning.message);
    }
    for notice in &plan.notices {
        let _ = writeln!(out, "notice: {notice}");
    }
    out
}

fn block(out: &mut String, at: usize, vertex: &Vertex) {
    let _ = writeln!(out, "{} {}", id(VertexId(at)), vertex.name);
    if vertex.no_cache {
        out.push_str("  no cache\n");
    }
    match &vertex.operation {
        Operation::Layers(layers) => {
            let list: Vec<String> = layers.iter().map(|layer| layer.0.short()).collect();
            field(out, "layers", format!("[{}]", list.join(" ")));
        }
        Operation::Context(context) => field(out, "context", &context.name),
        Operation::Workdir { base, path, user } => {
            field(out, "workdir", format!("{path} on {}", id(*base)));
            option(out, "user", user.as_ref());
        }
        Operation::Run(operation) => run(out, operation),
        Operation::Copy(operation) => copy(out, operation),
    }
}

fn run(out: &mut String, run: &RunOperation) {
    field(out, "run", format!("{} on {}", list(&run.argv), id(run.base)));
    field(out, "env", list(&run.env));
    if !run.unkeyed_env.is_empty() {
        field(out, "unkeyed env", list(&run.unkeyed_env));
    }
    field(out, "cwd", &run.cwd);
    option(out, "user", Some(&run.user).filter(|user| !user.is_empty()));
    field(out, "platform", &run.platform);
    let network = match run.network {
        RunNetwork::Default => None,
        RunNetwork::None => Some("none"),
        RunNetwork::Host => Some("host"),
    };
    option(out, "network", network);
    option(out, "security", run.insecure.then_some("insecure"));
    for (name, address) in &run.add_hosts {
        field(out, "host", format!("{name}:{address}"));
    }
    option(out, "hostname", Some(&run.hostname).filter(|name| !name.is_empty()));
    option(out, "shm size", run.shm_size);
    for (name, soft, hard) in &run.ulimits {
        field(out, "ulimit", format!("{name}={soft}:{hard}"));
    }
    for device in &run.devices {
        field(out, "device", device);
    }
    if let Some(script) = &run.script {
        field(out, "script", format!("{}: {}", script.path, escaped(&script.content)));
    }
    for mount in &run.mounts {
        field(out, "mount", mounted(mount));
    }
}

fn mounted(mount: &RunMount) -> String {
    let target = if mount.target.is_empty() { "(no path)" } else { &mount.target };
    let what = match &mount.kind {
        RunMountKind::Bind { from, source, writable } => {
            format!("bind {} {source}{}", id(*from), if *writable { " rw" } else { "" })
        }
        RunMountKind::Cache { id: name, from, source, sharing, readonly, mode, uid, gid } => {
            let sharing = match sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            };
            let from = from.map(|from| format!(" from {} {source}", id(from))).unwrap_or_default();
            let readonly = if *readonly { " ro" } else { "" };
            format!("cache {name} {sharing}{readonly} {mode:04o} {uid}:{gid}{from}")
        }
        RunMountKind::Tmpfs { size } => {
            format!("tmpfs{}", size.map(|size| format!(" {size}")).unwrap_or_default())
        }
        RunMountKind::Secret { id, env, required, mode, uid, gid } => {
            let env = env.as_ref().map(|env| format!(" as ${env}")).unwrap_or_default();
            let required = if *required { " required" } else { "" };
            format!("secret {id}{env}{required} {mode:04o} {uid}:{gid}")
        }
        RunMountKind::Ssh => "ssh".to_owned(),
    };
    format!("{target}: {what}")
}

fn copy(out: &mut String, copy: &CopyOperation) {
    field(out, "copy", format!("to {} on {}", copy.destination, id(copy.base)));
    for source in &copy.sources {
        let text = match source {
            Source::Path { from, pattern } => format!("{} {pattern}", id(*from)),
            Source::Inline { name, content } => format!("<<{name} {}", escaped(content)),
            Source::Remote(place) => format!("remote {place}"),
        };
        field(out, "source", text);
    }
    option(out, "chown", copy.chown.as_ref());
    option(out, "chmod", copy.chmod.as_ref());
    for pattern in &copy.excludes {
        field(out, "exclude", pattern);
    }
    let flags = [("link", copy.link), ("parents", copy.parents), ("unpack", copy.unpack)];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        let _ = writeln!(out, "  {name}");
    }
}

fn config(out: &mut String, config: &ImageConfig) {
    let run = &config.config;
    field(out, "for", config.platform());
    option(out, "author", Some(&config.author).filter(|author| !author.is_empty()));
    field(out, "env", list(&run.env));
    option(out, "entrypoint", run.entrypoint.as_ref().map(|words| list(words)));
    option(out, "cmd", run.cmd.as_ref().map(|words| list(words)));
    option(out, "shell", run.shell.as_ref().map(|words| list(words)));
    option(out, "workdir", Some(&run.working_dir).filter(|path| !path.is_empty()));
    option(out, "user", Some(&run.user).filter(|user| !user.is_empty()));
    for port in &run.exposed_ports {
        field(out, "port", port);
    }
    for volume in &run.volumes {
        field(out, "volume", volume);
    }
    for (key, value) in &run.labels {
        field(out, "label", format!("{key}={}", escaped(value)));
    }
    option(out, "stop signal", run.stop_signal.as_ref());
    if let Some(check) = &run.healthcheck {
        field(out, "healthcheck", list(&check.test));
    }
    for trigger in &run.on_build {
        field(out, "onbuild", escaped(trigger));
    }
}

fn field(out: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(out, "  {name}: {value}");
}

fn option(out: &mut String, name: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        field(out, name, value);
    }
}

fn id(vertex: VertexId) -> String {
    format!("#{}", vertex.0)
}

fn list(words: &[String]) -> String {
    format!("{words:?}")
}

/// One line, whatever is in it.
fn escaped(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
