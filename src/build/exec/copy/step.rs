//! COPY and ADD as steps: their key, and the layer that they make.
//!
//! The key is what is copied and where to (design rule 3): of the layers below only what the
//! destination resolves to, the directories on the way and the ids that names stand for. An ADD
//! that unpacks an archive is keyed on the layers below as a whole, since the archive's own
//! entries meet them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use super::archive;
use super::chmod::ModeChange;
use super::error::CopyError;
use super::explain::explain;
use super::layers::LayersTree;
use super::owner;
use super::placing::select;
use super::selection::{From, Item, ItemKind, Rules, Selection, What};
use super::source::{Data, Files, SourceTree, hashed};
use super::tree::{Resolved, name, resolve};
use crate::base::digest::{Hasher, LayerId};
use crate::base::event::{Event, Unit};
use crate::build::context::{Context, ContextError};
use crate::build::exec::error::ExecError;
use crate::build::exec::key::KeyBuilder;
use crate::build::exec::snapshot::{Inputs, Snapshot};
use crate::build::exec::{Exec, StepRecord, StoreRecords};
use crate::build::plan::operation::{CopyOperation, Source};
use crate::build::solve::{Cancel, Keyed, Records, Step};
use crate::dockerfile::ignore::IgnoreFile;
use crate::image::user::MAX_FILE;
use crate::layer::LayerError;
use crate::layer::entry::{EntryRef, KindRef, Xattrs};
use crate::layer::writer::LayerWriter;
use crate::store::Prepared;

/// How many selected entries a record lists by name.
const LISTED: usize = 500;

/// A COPY or ADD whose sources were looked at.
pub struct Planned {
    selection: Selection,
    sources: Vec<SourceTree>,
    base: LayersTree,
    mode: Option<ModeChange>,
    owner: Option<(u32, u32)>,
}

/// What a COPY came to.
pub enum Copied {
    /// The layer.
    Layer(LayerId),
    /// A file is not what it was when the key was made.
    Stale(ExecError),
}

/// Looks at the sources of `copy`; a context is scanned again if `rescan`.
pub fn plan(
    exec: &Exec<'_>,
    copy: &CopyOperation,
    inputs: &Inputs<'_>,
    rescan: bool,
) -> Result<Planned, ExecError> {
    let stack = inputs.stack(copy.base);
    let base = if copy.link { exec.layers_tree(&[])? } else { exec.layers_tree(&stack.layers)? };
    let mode = match &copy.chmod {
        Some(text) => Some(ModeChange::parse(text).ok_or_else(|| CopyError::Mode(text.clone()))?),
        None => None,
    };
    let owner = match &copy.chown {
        Some(text) => Some(resolve_owner(exec, text, &stack.layers)?),
        None => None,
    };
    let sources = source_trees(exec, copy, inputs, rescan)?;
    let excludes = IgnoreFile::from_patterns(copy.excludes.iter().map(String::as_str));
    let excludes = excludes.map_err(CopyError::Exclude)?;
    let rules = Rules {
        destination: &copy.destination,
        parents: copy.parents,
        mode: mode.as_ref(),
        owner,
        excluded: &|path| !excludes.is_empty() && excludes.is_ignored(path),
    };
    let unpacks: Vec<_> = (0..sources.len())
        .map(|number| {
            let sources = &sources;
            move |path: &[u8]| copy.unpack && is_archive(exec, sources, number, path)
        })
        .collect();
    let from = |number: usize| From {
        tree: &sources[number],
        what: match &copy.sources[number] {
            Source::Path { pattern, .. } => What::Pattern(pattern),
            Source::Inline { name, .. } | Source::Remote(name) => What::Path(name.as_bytes()),
        },
        keep_owner: sources[number].keeps_owner(),
        unpack: &unpacks[number],
    };
    let froms: Vec<From<'_>> = (0..sources.len()).map(from).collect();
    let selection =
        select(&base, &froms, &rules).map_err(|conflict| explain(exec, copy, &sources, conflict))?;
    drop(froms);
    drop(unpacks);
    Ok(Planned { selection, sources, base, mode, owner })
}

/// Looks at everything at `path` of a step's result, or at the one file there, as the content
/// of a layer of its own. Gives its path in that layer; `None` if there is nothing.
pub fn plan_tree(
    exec: &Exec<'_>,
    snapshot: &Snapshot,
    path: &str,
    rescan: bool,
) -> Result<Option<(Planned, Vec<u8>)>, ExecError> {
    let source = match snapshot {
        Snapshot::Layers(stack) => {
            SourceTree::Layers { layers: stack.layers.clone(), tree: exec.layers_tree(&stack.layers)? }
        }
        Snapshot::Context(context) if rescan => SourceTree::Context(Arc::new(context.rescan()?)),
        Snapshot::Context(context) => SourceTree::Context(context.clone()),
    };
    let Resolved::Found(path, node) = resolve(&source, path.as_bytes(), true) else { return Ok(None) };
    let keep_owner = source.keeps_owner();
    let base = exec.layers_tree(&[])?;
    let rules = Rules { destination: "/", parents: false, mode: None, owner: None, excluded: &|_| false };
    let from = From { tree: &source, what: What::Path(&path), keep_owner, unpack: &|_| false };
    let Ok(selection) = select(&base, &[from], &rules) else { return Ok(None) };
    let inside = if node.kind.is_directory() { Vec::new() } else { name(&path).to_vec() };
    Ok(Some((Planned { selection, sources: vec![source], base, mode: None, owner: None }, inside)))
}

fn source_trees(
    exec: &Exec<'_>,
    copy: &CopyOperation,
    inputs: &Inputs<'_>,
    rescan: bool,
) -> Result<Vec<SourceTree>, ExecError> {
    let mut scanned: HashMap<usize, Arc<Context>> = HashMap::new();
    let mut trees = Vec::new();
    for source in &copy.sources {
        trees.push(match source {
            Source::Remote(url) => return Err(ExecError::NotSupported(format!("ADD of `{url}`"))),
            Source::Inline { name, content } => {
                SourceTree::Inline { name: name.as_bytes().to_vec(), content: content.as_bytes().to_vec() }
            }
            Source::Path { from, .. } => match inputs.get(*from) {
                Snapshot::Layers(stack) => SourceTree::Layers {
                    layers: stack.layers.clone(),
                    tree: exec.layers_tree(&stack.layers)?,
                },
                Snapshot::Context(context) if rescan => {
                    let context = match scanned.get(&from.0) {
                        Some(context) => context.clone(),
                        None => Arc::new(context.rescan()?),
                    };
                    scanned.insert(from.0, context.clone());
                    SourceTree::Context(context)
                }
                Snapshot::Context(context) => SourceTree::Context(context.clone()),
            },
        });
    }
    Ok(trees)
}

fn resolve_owner(exec: &Exec<'_>, text: &str, layers: &[LayerId]) -> Result<(u32, u32), ExecError> {
    let (mut passwd, mut group) = (None, None);
    if owner::needs_files(text) {
        passwd = exec.store.read_file(layers, b"etc/passwd", MAX_FILE)?;
        group = exec.store.read_file(layers, b"etc/group", MAX_FILE)?;
    }
    Ok(owner::resolve(text, passwd.as_deref(), group.as_deref()).map_err(CopyError::from)?)
}

/// Whether a file is an archive; one that cannot be read fails later, where it is copied.
fn is_archive(exec: &Exec<'_>, sources: &[SourceTree], number: usize, path: &[u8]) -> bool {
    match Files::new(exec.store, sources).open(number, path) {
        Ok(data) => archive::is_archive(data),
        Err(_) => false,
    }
}

impl Planned {
    /// Hashes what is copied, and makes the key.
    pub fn key(
        &mut self,
        copy: &CopyOperation,
        inputs: &Inputs<'_>,
        cancel: &Cancel,
    ) -> Result<Keyed, ExecError> {
        self.hash(cancel)?;
        let mut key = KeyBuilder::new("copy 1");
        key.field("destination", &copy.destination);
        for group in &self.selection.groups {
            key.field("copied to", &group.to);
        }
        self.key_entries(&mut key);
        self.key_archives(copy, inputs, &mut key);
        Ok(key.finish())
    }

    /// Hashes what is copied, and makes the key of a tree that only holds it.
    pub fn tree_key(&mut self, cancel: &Cancel) -> Result<Keyed, ExecError> {
        self.hash(cancel)?;
        let mut key = KeyBuilder::new("tree 1");
        self.key_entries(&mut key);
        Ok(key.finish())
    }

    fn key_entries(&self, key: &mut KeyBuilder) {
        let mut files = Hasher::new();
        let mut bytes = Vec::new();
        for item in &self.selection.items {
            self.identify(item, &mut bytes);
            if bytes.len() > 1 << 15 {
                files.update(&bytes);
                bytes.clear();
            }
        }
        files.update(&bytes);
        let count = self.selection.items.len();
        key.digest("entries", files.finish(), format_args!("{count} entries"));
        for item in self.selection.items.iter().take(LISTED) {
            key.note(&format!("/{}", String::from_utf8_lossy(&item.path)), describe(item));
        }
    }

    /// An archive's content is its digest; where its entries go depends on all layers below.
    fn key_archives(&self, copy: &CopyOperation, inputs: &Inputs<'_>, key: &mut KeyBuilder) {
        for archive in &self.selection.archives {
            let path = String::from_utf8_lossy(&archive.path).into_owned();
            if let Some((digest, _)) = self.sources[archive.source].content(&archive.path) {
                key.digest("archive", digest, &path);
            }
            key.field("unpacked to", &archive.to);
            key.field("mode", copy.chmod.as_deref().unwrap_or_default());
            key.field("owner", format!("{:?}", self.owner));
        }
        if !self.selection.archives.is_empty() && !copy.link {
            for layer in inputs.stack(copy.base).layers.iter() {
                key.field("layer", layer.to_string());
            }
        }
    }

    /// Learns the digests of all files.
    fn hash(&mut self, cancel: &Cancel) -> Result<(), ExecError> {
        let watch =
            |_, _| if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        for (number, source) in self.sources.iter().enumerate() {
            let SourceTree::Context(context) = source else { continue };
            let is_file = |item: &&Item| matches!(item.kind, ItemKind::File { .. });
            let of_source = |item: &&Item| self.selection.source(item) == Some(number);
            let files = self.selection.items.iter().filter(is_file).filter(of_source);
            let files = files.filter_map(|item| context.numbered(item.part));
            let archives = self.selection.archives.iter().filter(|archive| archive.source == number);
            let archives = archives.filter_map(|archive| context.get(&archive.path));
            context.hash(files.chain(archives), &watch)?;
        }
        for at in 0..self.selection.items.len() {
            let item = &self.selection.items[at];
            let (ItemKind::File { .. }, Some(source)) = (&item.kind, self.selection.source(item)) else {
                continue;
            };
            let content = match &self.sources[source] {
                SourceTree::Context(context) => context.numbered(item.part).and_then(hashed),
                source => self.selection.source_path(item).and_then(|(_, path)| source.content(&path)),
            };
            let Some((found, xattrs)) = content else { continue };
            let item = &mut self.selection.items[at];
            if let ItemKind::File { digest, .. } = &mut item.kind {
                *digest = found;
            }
            if !xattrs.is_empty() {
                item.xattrs = xattrs.to_vec();
            }
        }
        Ok(())
    }

    /// Adds what an entry is to `out`.
    fn identify(&self, item: &Item, out: &mut Vec<u8>) {
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        field(&item.path);
        match &item.kind {
            ItemKind::File { size, digest } => {
                field(b"file");
                field(&size.to_le_bytes());
                field(digest.as_bytes());
            }
            ItemKind::Directory => field(b"directory"),
            ItemKind::Symlink(target) => {
                field(b"symlink");
                field(target);
            }
            ItemKind::HardLink(target) => {
                field(b"link");
                field(target);
            }
            ItemKind::CharDevice(major, minor) => field(format!("char {major} {minor}").as_bytes()),
            ItemKind::BlockDevice(major, minor) => field(format!("block {major} {minor}").as_bytes()),
            ItemKind::Fifo => field(b"fifo"),
        }
        field(&item.mode.to_le_bytes());
        field(&item.uid.to_le_bytes());
        field(&item.gid.to_le_bytes());
        for (name, value) in &item.xattrs {
            field(name);
            field(value);
        }
        let mtime = match self.selection.source(item).map(|source| &self.sources[source]) {
            Some(SourceTree::Layers { tree, .. }) => tree.keyed_mtime(item.part, item.mtime),
            _ => None,
        };
        field(&mtime.map(|time| time.seconds.to_le_bytes().to_vec()).unwrap_or_default());
    }

    /// The layer of a tree: the one that was made of it before, or a new one.
    pub fn layer(self, exec: &Exec<'_>, keyed: &Keyed, step: &Step<'_>) -> Result<Copied, ExecError> {
        let records = StoreRecords(exec.store);
        let began = Instant::now();
        if let Some(layer) = records.lookup(keyed.key)?.and_then(|record| record.layer)
            && exec.store.layer(layer)?.is_some()
        {
            exec.lease.hold(&[layer])?;
            return Ok(Copied::Layer(layer));
        }
        let copied = self.run(exec, step)?;
        if let Copied::Layer(layer) = copied {
            let created = exec.store.clock().now();
            let step = "files for a mount".to_owned();
            let record = StepRecord { key: None, layer: Some(layer), created, took: began.elapsed(), step };
            records.store(keyed, record)?;
        }
        Ok(copied)
    }

    /// Makes the layer.
    pub fn run(mut self, exec: &Exec<'_>, step: &Step<'_>) -> Result<Copied, ExecError> {
        let prepared = exec.store.prepare()?;
        let unpacked = match self.unpack(exec, &prepared, step.cancel) {
            Ok(unpacked) => unpacked,
            Err(error) if is_stale(&error) => return Ok(Copied::Stale(error)),
            Err(error) => return Err(error),
        };
        match self.write(exec, &prepared, &unpacked, step) {
            Ok(index) => Ok(Copied::Layer(exec.store.commit_tar(prepared, &index, None)?)),
            Err(error) if is_stale(&error) => Ok(Copied::Stale(error)),
            Err(error) => Err(error),
        }
    }

    /// Reads the archives and adds their entries to the selection.
    fn unpack(
        &mut self,
        exec: &Exec<'_>,
        prepared: &Prepared,
        cancel: &Cancel,
    ) -> Result<Vec<archive::Unpacked>, ExecError> {
        let mut all = Vec::new();
        let archives = std::mem::take(&mut self.selection.archives);
        for (number, archive) in archives.into_iter().enumerate() {
            let mut files = Files::new(exec.store, &self.sources);
            let data = files.open(archive.source, &archive.path)?;
            let expected = self.sources[archive.source].content(&archive.path).map(|(digest, _)| digest);
            let spool = prepared.path().join(format!("archive-{number}"));
            let change = archive::Change { owner: self.owner, mode: self.mode.as_ref() };
            let data = Watched { data, cancel };
            let unpacked = archive::unpack(data, expected, &spool, &archive, &self.base, &change)?;
            self.selection.items.extend(unpacked.items.iter().cloned());
            all.push(unpacked);
        }
        if !all.is_empty() {
            archive::merge(&mut self.selection.items, &self.base);
        }
        Ok(all)
    }

    fn write(
        &self,
        exec: &Exec<'_>,
        prepared: &Prepared,
        unpacked: &[archive::Unpacked],
        step: &Step<'_>,
    ) -> Result<crate::layer::index::Index, ExecError> {
        let path = prepared.path().join("tar");
        let out = File::create_new(&path).map_err(ExecError::file("make the file", &path))?;
        let mut writer = LayerWriter::new(out);
        let mut files = Files::new(exec.store, &self.sources);
        let total = self.selection.items.len() as u64;
        for (number, item) in self.selection.items.iter().enumerate() {
            if step.cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            if number % 1024 == 1023 {
                let (current, total, unit) = (number as u64, Some(total), Unit::Files);
                step.events.send(Event::Progress {
                    vertex: step.vertex,
                    what: "copying".into(),
                    current,
                    total,
                    unit,
                });
            }
            let entry = entry(item);
            if !matches!(item.kind, ItemKind::File { .. }) {
                writer.entry(entry)?;
                continue;
            }
            if let Some(content) = unpacked.iter().find_map(|unpacked| unpacked.content(item)) {
                writer.file(entry, content?)?;
                continue;
            }
            match files.open_item(&self.selection, item)? {
                Some(Data::Checked(data)) => {
                    writer.known_file(entry, Watched { data, cancel: step.cancel })?
                }
                Some(Data::Plain(data)) => writer.file(entry, Watched { data, cancel: step.cancel })?,
                None => {}
            }
        }
        Ok(writer.finish()?.1)
    }
}

/// An entry of the layer.
fn entry(item: &Item) -> EntryRef<'_> {
    let kind = match &item.kind {
        ItemKind::File { size, digest } => KindRef::File { size: *size, digest: *digest, offset: None },
        ItemKind::Directory => KindRef::Directory { opaque: false },
        ItemKind::Symlink(target) => KindRef::Symlink(target),
        ItemKind::HardLink(target) => KindRef::HardLink(target),
        ItemKind::CharDevice(major, minor) => KindRef::CharDevice { major: *major, minor: *minor },
        ItemKind::BlockDevice(major, minor) => KindRef::BlockDevice { major: *major, minor: *minor },
        ItemKind::Fifo => KindRef::Fifo,
    };
    let Item { mode, uid, gid, mtime, .. } = *item;
    EntryRef { path: &item.path, mode, uid, gid, mtime, xattrs: Xattrs::Listed(&item.xattrs), kind }
}

/// An entry for people.
fn describe(item: &Item) -> String {
    let what = match &item.kind {
        ItemKind::File { digest, .. } => digest.to_string(),
        ItemKind::Directory => "directory".to_owned(),
        ItemKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
        ItemKind::HardLink(target) => format!("link to /{}", String::from_utf8_lossy(target)),
        ItemKind::CharDevice(major, minor) => format!("character device {major}:{minor}"),
        ItemKind::BlockDevice(major, minor) => format!("block device {major}:{minor}"),
        ItemKind::Fifo => "fifo".to_owned(),
    };
    format!("{:o} {}:{} {what}", item.mode, item.uid, item.gid)
}

/// Whether an error says that a file changed after it was looked at.
fn is_stale(error: &ExecError) -> bool {
    matches!(error, ExecError::Layer(LayerError::Changed { .. }))
        || ContextError::find_change(error).is_some()
}

/// Data that ends with an error once the build is cancelled.
struct Watched<'a, R> {
    data: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(ExecError::Cancelled));
        }
        self.data.read(buffer)
    }
}
