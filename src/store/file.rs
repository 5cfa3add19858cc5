//! Single files out of layers, without unpacking what need not be unpacked.

use std::fs;
use std::io::Read;
use std::path::Path;

use rustix::fs::OFlags;

use crate::base::digest::{Digest, LayerId};
use crate::base::rooted::Root;
use crate::layer::LayerError;
use crate::layer::decompress::Format;
use crate::layer::entry::{Entry, EntryRef, KindRef};

use super::content::{copy, format_of, section};
use super::{Layer, Original, Store, StoreError};

/// Where the content of a file is.
struct Content<'a> {
    path: &'a [u8],
    size: u64,
    digest: Digest,
    offset: Option<u64>,
}

impl Store {
    /// Reads a whole file of at most `limit` bytes out of a stack of layers, bottom first.
    /// Symbolic links are followed inside the stack. `None` if there is no such file; an error if it
    /// is larger, no regular file, or not what the index says.
    pub fn read_file(
        &self,
        layers: &[LayerId],
        path: &[u8],
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(top) = layers.last() else { return Ok(None) };
        let merged = self.merged(layers)?;
        let resolved = match merged.resolve(path, true) {
            Ok(resolved) => resolved,
            Err(LayerError::NotADirectory { .. }) => return Ok(None),
            Err(error) => return Err(StoreError::layer("find a file", *top)(error)),
        };
        let Some(found) = resolved.found else { return Ok(None) };
        let (layer, index) = self.opened(layers[found.layer])?;
        let content = content(&layer, found.entry, |path| index.get(path))?;
        if content.size > limit {
            let reason = format!("{} has more than {limit} bytes", shown(path));
            return Err(StoreError::NoFile { layer: layer.id, reason });
        }
        let bytes = self.read_small(&layer, &content)?;
        if Digest::of(&bytes) != content.digest {
            let reason = format!("its {} is not what its index says", shown(path));
            return Err(StoreError::Damaged { path: layer.path.clone(), reason });
        }
        Ok(Some(bytes))
    }

    /// Opens the content of one file of one layer.
    pub fn open_file(&self, id: LayerId, entry: &Entry) -> Result<Box<dyn Read + Send>, StoreError> {
        let (layer, index) = self.opened(id)?;
        let content = content(&layer, entry.into(), |path| index.get(path))?;
        if let Some(reader) = self.open_in_place(&layer, &content)? {
            return Ok(reader);
        }
        let tree = self.own_tree(&layer)?;
        open_in_tree(&tree, content.path)
    }

    /// Opens a file if that needs no tree to be made.
    fn open_in_place(
        &self,
        layer: &Layer,
        content: &Content<'_>,
    ) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        match (layer.original, content.offset) {
            (Original::Tree, _) => open_in_tree(&layer.path.join("tree"), content.path).map(Some),
            (Original::Tar, Some(offset)) => section(&layer.path.join("tar"), offset, content.size).map(Some),
            (Original::Blob, Some(offset)) => {
                let path = self.blob_path(layer.own_blob()?);
                match format_of(&path)? {
                    Format::Plain => section(&path, offset, content.size).map(Some),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// Reads a small file. One of a compressed layer that has no tree is read out of the stream
    /// and kept beside the layer, so that the next look costs nothing.
    fn read_small(&self, layer: &Layer, content: &Content<'_>) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let kept = layer.path.join("files").join(content.digest.hex());
        if let Some(mut reader) = self.open_in_place(layer, content)? {
            reader.read_to_end(&mut bytes).map_err(StoreError::io("read a file of", &layer.path))?;
        } else if let Ok(known) = fs::read(&kept)
            && Digest::of(&known) == content.digest
        {
            bytes = known;
        } else if let Some(tree) = self.form(&format!("{}/tree", layer.id.0.hex()))? {
            let mut reader = open_in_tree(&tree, content.path)?;
            reader.read_to_end(&mut bytes).map_err(StoreError::io("read a file of", &layer.path))?;
        } else if let Some(offset) = content.offset {
            let fail = || StoreError::io("read the stream of", &layer.path);
            let mut stream = self.open_tar(layer.id)?;
            copy(&mut (&mut stream).take(offset), &mut std::io::sink()).map_err(fail())?;
            stream.take(content.size).read_to_end(&mut bytes).map_err(fail())?;
            self.keep_small(&kept, &bytes);
        } else {
            let mut reader = open_in_tree(&self.own_tree(layer)?, content.path)?;
            reader.read_to_end(&mut bytes).map_err(StoreError::io("read a file of", &layer.path))?;
        }
        Ok(bytes)
    }

    /// Keeps a file that was read; if that fails, it is read again next time. Whoever reads it
    /// checks its digest.
    fn keep_small(&self, path: &Path, bytes: &[u8]) {
        let Ok(temp) = self.temp_file() else { return };
        let directory = path.parent().map(fs::create_dir);
        if fs::write(&temp.path, bytes).is_ok() && directory.is_some() {
            let _ = fs::rename(&temp.path, path);
        }
    }
}

/// Where the content of `entry` is: its own, or that of the file it is a hard link to.
fn content<'a>(
    layer: &Layer,
    entry: EntryRef<'a>,
    get: impl Fn(&[u8]) -> Option<EntryRef<'a>>,
) -> Result<Content<'a>, StoreError> {
    let entry = match entry.kind {
        KindRef::HardLink(target) => get(target).unwrap_or(entry),
        _ => entry,
    };
    match entry.kind {
        KindRef::File { size, digest, offset } => Ok(Content { path: entry.path, size, digest, offset }),
        _ => {
            let reason = format!("{} is no regular file", shown(entry.path));
            Err(StoreError::NoFile { layer: layer.id, reason })
        }
    }
}

fn open_in_tree(tree: &Path, path: &[u8]) -> Result<Box<dyn Read + Send>, StoreError> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Root::open(tree)?.open_plain(path, flags)
    };
    let file = open().map_err(StoreError::io("open a file of", tree))?;
    Ok(Box::new(fs::File::from(file)))
}

fn shown(path: &[u8]) -> String {
    format!("`/{}`", String::from_utf8_lossy(path))
}
