//! A conflict in the words of the Dockerfile.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::error::CopyError;
use super::pattern::SourceError;
use super::selection::Conflict;
use super::source::SourceTree;
use super::tree::{Tree, join, name, parent};
use crate::base::similar::nearest;
use crate::build::exec::Exec;
use crate::build::plan::operation::{CopyOperation, Source};

/// What `conflict` is called, with the place that a missing source was looked for in.
pub fn explain(
    exec: &Exec<'_>,
    copy: &CopyOperation,
    sources: &[SourceTree],
    conflict: Conflict,
) -> CopyError {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let absolute = |path: &[u8]| format!("/{}", text(path));
    let place = |source: usize| match &copy.sources[source] {
        Source::Path { from, .. } => exec.place(*from),
        Source::Inline { .. } | Source::Remote(_) => "the Dockerfile".to_owned(),
    };
    match conflict {
        Conflict::Source(source, SourceError::NotFound(path)) => {
            not_found(&sources[source], &path, place(source))
        }
        Conflict::Source(source, SourceError::NotDirectory(path)) => {
            CopyError::NotDirectory { path: text(&path), place: place(source) }
        }
        Conflict::Source(source, SourceError::Loop(path)) => {
            CopyError::Loop { path: text(&path), place: place(source) }
        }
        Conflict::Source(_, SourceError::Pattern(part, error)) => CopyError::Pattern(part, error),
        Conflict::Socket(path) => CopyError::Socket(absolute(&path)),
        Conflict::Whiteout(path) => CopyError::Whiteout(absolute(&path)),
        Conflict::OntoFile { path, link } => {
            CopyError::OntoFile { path: absolute(&path), link: link.map(|link| text(&link)) }
        }
        Conflict::OntoDirectory(path) => CopyError::OntoDirectory(absolute(&path)),
        Conflict::Several(path) => CopyError::Several(absolute(&path)),
        Conflict::Destination(path) => CopyError::Destination(absolute(&path)),
        Conflict::DestinationLoop => CopyError::DestinationLoop(copy.destination.clone()),
    }
}

fn not_found(source: &SourceTree, path: &[u8], place: String) -> CopyError {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let names = source.names(parent(path));
    let names: Vec<&str> = names.iter().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let near = nearest(&text(name(path)), names).map(|near| join(parent(path), near.as_bytes()));
    let slash = if matches!(source, SourceTree::Layers { .. }) { "/" } else { "" };
    CopyError::NotFound {
        path: format!("{slash}{}", text(path)),
        place,
        nearest: near.map(|near| format!("{slash}{}", text(&near))),
        ignored: is_ignored(source, path),
    }
}

/// Whether a path is there on the host and an ignore file leaves it out.
fn is_ignored(source: &SourceTree, path: &[u8]) -> bool {
    let SourceTree::Context(context) = source else { return false };
    context.excluded(path) && context.directory().join(OsStr::from_bytes(path)).symlink_metadata().is_ok()
}
