//! The VOLUMEs of an image: a directory of the container's own each, which starts as what the
//! image has there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::runtime::Mount as SpecMount;

use super::error::ContainerError;
use super::home::Home;
use super::mounts::clean;
use crate::base::digest::LayerId;
use crate::image::config::RunConfig;
use crate::layer::LayerError;
use crate::layer::apply::unpack;
use crate::layer::entry::{Entry, Kind};
use crate::layer::merged::Merged;
use crate::layer::writer::LayerWriter;
use crate::sandbox::defaults;
use crate::store::Store;

/// Makes the volumes of `image`, except where something else is mounted.
pub(super) fn volumes(
    store: &Store,
    home: &Home,
    image: &RunConfig,
    layers: &[LayerId],
    asked: &[SpecMount],
) -> Result<Vec<SpecMount>, ContainerError> {
    let mut mounts = Vec::new();
    for path in &image.volumes {
        let target = clean(path)?;
        if asked.iter().any(|mount| mount.destination() == Path::new(&target)) {
            continue;
        }
        if mounts.is_empty() {
            home.directory("volumes", 0o711)?;
        }
        let directory = home.directory(&format!("volumes/{}", mounts.len()), 0o755)?;
        fill(store, layers, &target, &directory)?;
        mounts.push(defaults::bind(&directory, &target, false));
    }
    Ok(mounts)
}

/// Copies what the layers have at `target` into the empty `directory`.
fn fill(store: &Store, layers: &[LayerId], target: &str, directory: &Path) -> Result<(), ContainerError> {
    let wrap = |source| ContainerError::Volume { path: target.to_owned(), source };
    let merged = store.merged(layers)?;
    let resolved = merged.resolve(target.as_bytes(), true).map_err(wrap)?;
    let Some(found) = resolved.found.filter(|found| found.entry.kind.is_directory()) else { return Ok(()) };
    let root = found.entry;
    let own = || {
        std::os::unix::fs::chown(directory, Some(root.uid), Some(root.gid))?;
        fs::set_permissions(directory, Permissions::from_mode(root.mode & 0o7777))
    };
    own().map_err(ContainerError::file("set the owner of", directory))?;
    if merged.walk(&resolved.path).nth(1).is_none() {
        return Ok(());
    }
    let (reader, writer) = io::pipe().map_err(ContainerError::file("fill", directory))?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(store, layers, &merged, &resolved.path, writer));
        let unpacked = unpack(reader, directory, &Merged::default());
        // What stopped the writer is the reason; the reader then only sees a short stream.
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        unpacked.map(drop).map_err(wrap)
    })
}

/// Writes everything below `root` as a tar, with paths from there.
fn write(
    store: &Store,
    layers: &[LayerId],
    merged: &Merged,
    root: &[u8],
    out: impl io::Write,
) -> Result<(), ContainerError> {
    let mut tar = LayerWriter::new(out);
    for found in merged.walk(root).skip(1) {
        let mut entry = found.entry.to_entry();
        // A hard link leads to a file of its layer, maybe outside: the copy is one of its own.
        if let Kind::HardLink(target) = &entry.kind
            && let Some(file) = merged.layers().get(found.layer).and_then(|index| index.get(target))
        {
            entry = Entry { path: entry.path, ..file.to_entry() };
        }
        let content = match entry.kind {
            Kind::File { size: 1.., .. } => {
                layers.get(found.layer).map(|layer| store.open_file(*layer, &found.entry.to_entry()))
            }
            _ => None,
        };
        entry.path = below(&entry.path, root).to_vec();
        let wrap = |source: LayerError| ContainerError::Volume {
            path: String::from_utf8_lossy(root).into_owned(),
            source,
        };
        match content.transpose()? {
            Some(content) => tar.known_file(&entry, content).map_err(wrap)?,
            None => tar.entry(&entry).map_err(wrap)?,
        }
    }
    let wrap = |source| ContainerError::Volume { path: String::from_utf8_lossy(root).into_owned(), source };
    tar.finish().map(drop).map_err(wrap)
}

fn below<'p>(path: &'p [u8], root: &[u8]) -> &'p [u8] {
    let rest = path.strip_prefix(root).unwrap_or(path);
    rest.strip_prefix(b"/").unwrap_or(rest)
}
