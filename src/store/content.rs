//! A layer's stream: uncompressed, hashed, compressed.

use std::fs::File;
use std::io::{self, BufWriter, PipeReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::{OptionalExtension, params};

use crate::base::digest::{DiffId, Digest, HashingReader, HashingWriter, LayerId};
use crate::layer::LayerError;
use crate::layer::compress::{Compression, compress};
use crate::layer::decompress::{Format, decompress};
use crate::layer::from_tree::write_tar;

use super::form::NewForm;
use super::{Layer, Original, Store, StoreError};

const BUFFER: usize = 1 << 20;

/// A layer as it is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// How it is compressed; the exporter knows the media type that goes with it.
    pub format: Format,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The file that holds exactly these bytes.
    pub path: PathBuf,
}

impl Store {
    /// The layer's uncompressed stream.
    pub fn open_tar(&self, id: LayerId) -> Result<Box<dyn Read + Send>, StoreError> {
        let layer = self.need_layer(id)?;
        match layer.original {
            Original::Tar => Ok(Box::new(open(&layer.path.join("tar"))?)),
            Original::Blob => {
                let blob = self.open_blob(layer.own_blob()?)?;
                let (_, reader) = decompress(blob).map_err(StoreError::layer("read the stream", id))?;
                Ok(reader)
            }
            Original::Tree => match self.form(&tar_form(id))? {
                Some(path) => Ok(Box::new(open(&path)?)),
                None => self.stream_tree(&layer),
            },
        }
    }

    /// The digest of the layer's uncompressed stream; found out once and kept.
    pub fn diff_id(&self, id: LayerId) -> Result<DiffId, StoreError> {
        let layer = self.need_layer(id)?;
        if let Some(diff_id) = layer.diff_id {
            return Ok(diff_id);
        }
        let mut hash = HashingWriter::new(io::sink());
        if layer.original == Original::Tree {
            self.tree_to(&layer, &mut hash)?;
        } else {
            copy(&mut *self.open_tar(id)?, &mut hash).map_err(StoreError::io("read", &layer.path))?;
        }
        let diff_id = DiffId(hash.finish().1);
        self.note_diff_id(&layer, diff_id)?;
        Ok(diff_id)
    }

    /// The layer compressed as `how` says; made once and kept. One from outside is given as it
    /// came, unless `force` asks for `how` in any case, or it came compressed in a way that
    /// images do not know.
    pub fn compressed(&self, id: LayerId, how: Compression, force: bool) -> Result<LayerBlob, StoreError> {
        let layer = self.need_layer(id)?;
        if let Some(digest) = layer.blob {
            let blob = self.blob(digest)?.ok_or(StoreError::NoBlob(digest))?;
            let format = format_of(&blob.path)?;
            let common = matches!(format, Format::Plain | Format::Gzip | Format::Zstd);
            if (common && !force) || (format == Format::Plain && how == Compression::None) {
                return Ok(LayerBlob { format, digest, size: blob.size, path: blob.path });
            }
        }
        if how == Compression::None {
            return self.plain(&layer);
        }
        if let Some(known) = self.exported(id, how)? {
            return Ok(known);
        }
        let _lock = self.lock(&format!("export-{}", id.0.hex()))?;
        if let Some(known) = self.exported(id, how)? {
            return Ok(known);
        }
        let temp = self.temp_file()?;
        let made = compress(self.open_tar(id)?, &temp.file, how);
        let made = made.map_err(StoreError::layer("compress the stream", id))?;
        self.note_diff_id(&layer, made.diff_id)?;
        let blob = self.adopt_blob(temp, made.digest, made.size)?;
        self.database().write("keep the compressed layer", |db| {
            let sql = "INSERT OR REPLACE INTO compressed (layer, how, digest) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(params![
                id.0.as_bytes(),
                name_of(how),
                made.digest.as_bytes()
            ])?;
            Ok(())
        })?;
        Ok(LayerBlob { format: format_for(how), digest: blob.digest, size: blob.size, path: blob.path })
    }

    /// The layer as it was exported before.
    fn exported(&self, id: LayerId, how: Compression) -> Result<Option<LayerBlob>, StoreError> {
        let digest: Option<[u8; 32]> = self.database().read("look for the compressed layer", |db| {
            let sql = "SELECT digest FROM compressed WHERE layer = ?1 AND how = ?2";
            let mut query = db.prepare_cached(sql)?;
            Ok(query.query_row(params![id.0.as_bytes(), name_of(how)], |row| row.get(0)).optional()?)
        })?;
        let Some(digest) = digest.map(Digest::from_bytes) else { return Ok(None) };
        let blob = self.blob(digest)?.filter(|blob| blob.path.exists());
        Ok(blob.map(|blob| LayerBlob { format: format_for(how), digest, size: blob.size, path: blob.path }))
    }

    /// The layer's uncompressed stream as a file.
    fn plain(&self, layer: &Layer) -> Result<LayerBlob, StoreError> {
        let path = self.plain_file(layer)?;
        let size = std::fs::metadata(&path).map_err(StoreError::io("look at", &path))?.len();
        Ok(LayerBlob { format: Format::Plain, digest: self.diff_id(layer.id)?.0, size, path })
    }

    fn plain_file(&self, layer: &Layer) -> Result<PathBuf, StoreError> {
        if layer.original == Original::Tar {
            return Ok(layer.path.join("tar"));
        }
        let name = tar_form(layer.id);
        if let Some(path) = self.form(&name)? {
            return Ok(path);
        }
        let _lock = self.lock(&format!("tar-{}", layer.id.0.hex()))?;
        if let Some(path) = self.form(&name)? {
            return Ok(path);
        }
        let temp = self.temp_file()?;
        let mut hash = HashingWriter::new(&temp.file);
        if layer.original == Original::Tree {
            self.tree_to(layer, &mut hash)?;
        } else {
            copy(&mut *self.open_tar(layer.id)?, &mut hash).map_err(StoreError::io("write", &temp.path))?;
        }
        let (_, digest, size) = hash.finish();
        self.note_diff_id(layer, DiffId(digest))?;
        self.adopt_form(&temp.path, &NewForm { name: &name, layer: layer.id, size, entries: 1 })
    }

    /// Writes the tar of a layer whose original form is a tree.
    fn tree_to(&self, layer: &Layer, out: &mut dyn Write) -> Result<(), StoreError> {
        let index = self.index(layer.id)?;
        write_tar(&index, &layer.path.join("tree"), out).map_err(StoreError::layer("write the tar", layer.id))
    }

    /// The tar of a tree, written by a thread while it is read.
    fn stream_tree(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError> {
        let fail = |error| StoreError::io("stream", &layer.path)(error);
        let (reader, writer) = io::pipe().map_err(fail)?;
        // Larger than the usual 64 KiB: fewer changes between the two threads. Smaller will do.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, BUFFER);
        let (index, tree) = (self.index(layer.id)?, layer.path.join("tree"));
        let write = move || write_tar(&index, &tree, BufWriter::with_capacity(BUFFER, writer));
        let writer = std::thread::Builder::new().name("tar".to_owned()).spawn(write).map_err(fail)?;
        Ok(Box::new(Streamed { reader, writer: Some(writer) }))
    }

    /// Keeps a layer's uncompressed digest; another one than is known says that its files changed.
    fn note_diff_id(&self, layer: &Layer, diff_id: DiffId) -> Result<(), StoreError> {
        match layer.diff_id {
            Some(known) if known == diff_id => Ok(()),
            Some(known) => {
                let reason = format!("its uncompressed digest is {diff_id}, not {known}");
                Err(StoreError::Damaged { path: layer.path.clone(), reason })
            }
            None => self.database().write("keep the diff ID", |db| {
                let sql = "UPDATE layers SET diff_id = ?2 WHERE id = ?1";
                db.prepare_cached(sql)?.execute(params![layer.id.0.as_bytes(), diff_id.0.as_bytes()])?;
                Ok(())
            }),
        }
    }
}

impl Layer {
    /// The stream that a layer from outside came as.
    pub(super) fn own_blob(&self) -> Result<Digest, StoreError> {
        let missing =
            || StoreError::Damaged { path: self.path.clone(), reason: "its row names no blob".to_owned() };
        self.blob.ok_or_else(missing)
    }
}

/// What a thread writes into the other end of a pipe. Its error ends the stream.
struct Streamed {
    reader: PipeReader,
    writer: Option<JoinHandle<Result<(), LayerError>>>,
}

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(writer) = self.writer.take()
        {
            match writer.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(io::Error::other(error)),
                Err(_) => return Err(io::Error::other("the thread that wrote the tar panicked")),
            }
        }
        Ok(count)
    }
}

/// How the file at `path` is compressed.
pub(super) fn format_of(path: &Path) -> Result<Format, StoreError> {
    let mut head = Vec::new();
    open(path)?.take(6).read_to_end(&mut head).map_err(StoreError::io("read", path))?;
    Ok(Format::of(&head))
}

/// A part of a file.
pub(super) fn section(path: &Path, offset: u64, size: u64) -> Result<Box<dyn Read + Send>, StoreError> {
    let mut file = open(path)?;
    file.seek(io::SeekFrom::Start(offset)).map_err(StoreError::io("read", path))?;
    Ok(Box::new(file.take(size)))
}

/// The digest and size of everything that `reader` gives.
pub(super) fn digest_of(reader: impl Read) -> io::Result<(Digest, u64)> {
    let mut reader = HashingReader::new(reader);
    copy(&mut reader, &mut io::sink())?;
    let (_, digest, size) = reader.finish();
    Ok((digest, size))
}

/// As [`io::copy`], in pieces that keep a hash busy.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(StoreError::io("open", path))
}

fn tar_form(id: LayerId) -> String {
    format!("{}/tar", id.0.hex())
}

fn format_for(how: Compression) -> Format {
    match how {
        Compression::None => Format::Plain,
        Compression::Gzip { .. } => Format::Gzip,
        Compression::Zstd { .. } => Format::Zstd,
    }
}

/// What the database calls a way to compress. Part of the store's format.
fn name_of(how: Compression) -> String {
    match how {
        Compression::None => "none".to_owned(),
        Compression::Gzip { level } => format!("gzip:{level}"),
        Compression::Zstd { level } => format!("zstd:{level}"),
    }
}
