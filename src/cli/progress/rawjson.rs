//! Progress as JSON, a status per line, in the shape of BuildKit's `--progress=rawjson`.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::View;
use crate::base::clock::Clock;
use crate::base::digest::Digest;
use crate::base::event::{Event, Stream, VertexId};

/// The view.
pub struct RawJson<W> {
    output: W,
    clock: Clock,
    vertices: BTreeMap<VertexId, Map<String, Value>>,
}

impl<W: Write> RawJson<W> {
    /// A view that writes to `output`, with times of `clock`.
    pub fn new(output: W, clock: Clock) -> Self {
        Self { output, clock, vertices: BTreeMap::new() }
    }

    fn line(&mut self, kind: &str, item: Value) {
        let mut line = json!({ kind: [item] }).to_string();
        line.push('\n');
        let _ = self.output.write_all(line.as_bytes());
    }

    /// The digest that stands for a vertex in this stream.
    fn digest(&self, vertex: VertexId) -> String {
        let known = self.vertices.get(&vertex).and_then(|it| it.get("digest")).and_then(Value::as_str);
        known.map_or_else(|| Digest::of(vertex.0.to_le_bytes()).to_string(), str::to_owned)
    }

    fn declare(&mut self, vertex: VertexId, name: &Arc<str>, inputs: &[VertexId]) {
        let digest = Digest::of(format!("{}\0{name}", vertex.0)).to_string();
        let mut fields = Map::new();
        fields.insert("digest".to_owned(), digest.into());
        if !inputs.is_empty() {
            let inputs: Vec<String> = inputs.iter().map(|input| self.digest(*input)).collect();
            fields.insert("inputs".to_owned(), inputs.into());
        }
        fields.insert("name".to_owned(), name.as_ref().into());
        self.vertices.insert(vertex, fields.clone());
        self.line("vertexes", fields.into());
    }

    /// Says a vertex anew with `changes`; what began stays begun.
    fn vertex(&mut self, vertex: VertexId, changes: &[(&str, Value)]) {
        let digest = self.digest(vertex);
        let fields = self.vertices.entry(vertex).or_default();
        fields.entry("digest").or_insert_with(|| digest.into());
        let now = self.clock.now().rfc3339();
        fields.entry("started").or_insert_with(|| now.into());
        for (key, value) in changes {
            fields.insert((*key).to_owned(), value.clone());
        }
        let fields = fields.clone();
        self.line("vertexes", fields.into());
    }
}

impl<W: Write + Send> View for RawJson<W> {
    fn event(&mut self, event: &Event, _: Duration) {
        let now = self.clock.now().rfc3339();
        match event {
            Event::Declared { vertex, name, inputs } => self.declare(*vertex, name, inputs),
            Event::Started { vertex } => self.vertex(*vertex, &[]),
            Event::Cached { vertex, .. } => {
                self.vertex(*vertex, &[("cached", true.into()), ("completed", now.into())]);
            }
            Event::Finished { vertex, .. } => self.vertex(*vertex, &[("completed", now.into())]),
            Event::Failed { vertex, error } => {
                self.vertex(*vertex, &[("completed", now.into()), ("error", error.as_str().into())]);
            }
            Event::Progress { vertex, what, current, total, .. } => {
                let mut status = json!({ "id": what.as_ref(), "vertex": self.digest(*vertex) });
                if let Some(total) = total {
                    status["total"] = (*total).into();
                }
                status["current"] = (*current).into();
                status["timestamp"] = now.as_str().into();
                if total.is_some_and(|total| *current >= total) {
                    status["completed"] = now.into();
                }
                self.line("statuses", status);
            }
            Event::Log { vertex, stream, bytes } => {
                let stream = if *stream == Stream::Stdout { 1 } else { 2 };
                let log = json!({
                    "vertex": self.digest(*vertex), "stream": stream, "data": base64(bytes), "timestamp": now,
                });
                self.line("logs", log);
            }
            Event::Warning { vertex, message } => {
                let mut warning = Map::new();
                if let Some(vertex) = vertex {
                    warning.insert("vertex".to_owned(), self.digest(*vertex).into());
                }
                warning.insert("level".to_owned(), 1.into());
                warning.insert("short".to_owned(), base64(message.as_bytes()).into());
                self.line("warnings", warning.into());
            }
        }
    }

    fn tick(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, _: bool) {
        let _ = self.output.flush();
    }
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = bits >> (18 - 6 * place) & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\0\u{7f}", "AH8="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }
}
