//! `kiln inspect`, `kiln image inspect`

use serde_json::{Map, Value, json};

use super::command::Run;
use super::error::{Error, Result};
use super::listing;
use super::session::Session;
use super::template::Template;
use crate::base::clock::Time;
use crate::image::config::{Healthcheck, RunConfig};
use crate::store::{Image, Store};

/// Return low-level information on images
#[derive(clap::Parser)]
pub struct Args {
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true, help = listing::OBJECT_HELP)]
    format: String,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string", value_parser = kind)]
    kind: Option<String>,
    #[arg(required = true)]
    name: Vec<String>,
}

fn kind(text: &str) -> std::result::Result<String, String> {
    match text {
        "image" => Ok(text.to_owned()),
        other => Err(format!("\"{other}\" is no type that can be inspected: only images are kept")),
    }
}

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let store = session.store()?;
        let template = match self.format.as_str() {
            "" | "json" => None,
            format => Some(Template::parse(format)?),
        };
        let mut values = Vec::new();
        let mut failed = Vec::new();
        for name in &self.name {
            match find(&store, name) {
                Ok(image) => values.push(value(&image)),
                Err(error) => failed.push(error),
            }
        }
        let mut text = String::new();
        match &template {
            Some(template) => {
                for value in &values {
                    text.push_str(&template.render(value)?);
                    text.push('\n');
                }
            }
            None if self.format == "json" => text = format!("{}\n", Value::Array(values)),
            None => text = format!("{}\n", indented(&Value::Array(values))),
        }
        session.print(&text)?;
        Error::all(failed).map(|()| 0)
    }
}

fn find(store: &Store, name: &str) -> Result<Image> {
    let id = store.find(name)?;
    store.image(id)?.ok_or_else(|| Error::Gone { name: name.to_owned() })
}

/// JSON with four blanks a level, as Docker prints it.
fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing a JSON value to memory cannot fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An image with the fields of the Engine API's ImageInspect.
fn value(image: &Image) -> Value {
    let config = &image.config;
    let comment = config.history.last().map(|last| last.comment.clone()).unwrap_or_default();
    let created = config.created.clone().unwrap_or_else(|| Time::from_seconds(-62_135_596_800).rfc3339());
    let mut value = json!({
        "Id": image.id.to_string(),
        "RepoTags": image.names,
        "RepoDigests": image.digests,
        "Parent": "",
        "Comment": comment,
        "Created": created,
        "DockerVersion": "",
        "Author": config.author,
        "Config": run_config(&config.config),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": image.size,
        "GraphDriver": { "Data": null, "Name": "overlay2" },
        "RootFS": {
            "Type": config.rootfs.kind,
            "Layers": config.rootfs.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "Metadata": { "LastTagTime": image.added.rfc3339() },
    });
    if let Value::Object(fields) = &mut value {
        fields.retain(|key, value| {
            !matches!(key.as_str(), "Variant" | "OsVersion") || value.as_str() != Some("")
        });
    }
    value
}

fn run_config(config: &RunConfig) -> Value {
    let set = |items: &std::collections::BTreeSet<String>| match items.is_empty() {
        true => Value::Null,
        false => Value::Object(items.iter().map(|item| (item.clone(), json!({}))).collect()),
    };
    let labels = match config.labels.is_empty() {
        true => Value::Null,
        false => json!(config.labels),
    };
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.to_owned(), value);
    };
    put("User", config.user.as_str().into());
    if !config.exposed_ports.is_empty() {
        put("ExposedPorts", set(&config.exposed_ports));
    }
    put("Env", config.env.as_slice().into());
    put("Cmd", json!(config.cmd));
    if let Some(healthcheck) = &config.healthcheck {
        put("Healthcheck", health(healthcheck));
    }
    put("Volumes", set(&config.volumes));
    put("WorkingDir", config.working_dir.as_str().into());
    put("Entrypoint", json!(config.entrypoint));
    put("OnBuild", if config.on_build.is_empty() { Value::Null } else { json!(config.on_build) });
    put("Labels", labels);
    if let Some(signal) = &config.stop_signal {
        put("StopSignal", signal.as_str().into());
    }
    if let Some(shell) = &config.shell {
        put("Shell", json!(shell));
    }
    Value::Object(fields)
}

/// Durations in nanoseconds; those not set are left out.
fn health(check: &Healthcheck) -> Value {
    let mut fields = Map::new();
    fields.insert("Test".to_owned(), json!(check.test));
    for (key, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", check.retries.into()),
    ] {
        if value > 0 {
            fields.insert(key.to_owned(), value.into());
        }
    }
    Value::Object(fields)
}
