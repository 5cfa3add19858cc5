//! Where a COPY's files come from: one tree to look into and to read from, whatever it is.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use super::context::ContextTree;
use super::layers::LayersTree;
use super::selection::{Item, Selection};
use super::tree::{Descend, Node, NodeKind, Tree};
use crate::base::digest::{Digest, LayerId};
use crate::build::context::{Content, Context, ContextEntry, ContextError, Reader};
use crate::build::exec::error::ExecError;
use crate::layer::entry::KindRef;
use crate::store::Store;

/// A tree that can be read from.
pub enum SourceTree {
    /// A context.
    Context(Arc<Context>),
    /// A stack of layers.
    Layers {
        /// The stack, bottom first.
        layers: Arc<[LayerId]>,
        /// Its merged view.
        tree: LayersTree,
    },
    /// One file that the Dockerfile itself holds.
    Inline {
        /// Its name.
        name: Vec<u8>,
        /// Its content.
        content: Vec<u8>,
    },
}

/// Names and values of extended attributes.
pub type Attributes = [(Vec<u8>, Vec<u8>)];

impl SourceTree {
    /// Whether what is copied from it keeps its owners.
    pub fn keeps_owner(&self) -> bool {
        matches!(self, Self::Layers { .. })
    }

    /// The digest and the attributes of the file at `path`; a context's file must have been hashed.
    pub fn content(&self, path: &[u8]) -> Option<(Digest, &Attributes)> {
        match self {
            Self::Context(context) => hashed(context.get(path)?),
            Self::Layers { tree, .. } => match tree.file(path)?.1.kind {
                KindRef::File { digest, .. } => Some((digest, &[])),
                _ => None,
            },
            Self::Inline { content, .. } => Some((Digest::of(content), &[])),
        }
    }
}

/// What hashing found out about a context's file.
pub fn hashed(entry: ContextEntry<'_>) -> Option<(Digest, &Attributes)> {
    Some((entry.digest()?, entry.attributes()))
}

impl Tree for SourceTree {
    fn get(&self, path: &[u8]) -> Option<Node> {
        match self {
            Self::Context(context) => ContextTree(context).get(path),
            Self::Layers { tree, .. } => tree.get(path),
            Self::Inline { name, content } => {
                let kind = match path {
                    b"" => NodeKind::Directory,
                    path if path == name => NodeKind::File { size: content.len() as u64, link: None },
                    _ => return None,
                };
                let mode = if path.is_empty() { 0o755 } else { 0o644 };
                let mtime = super::selection::MADE;
                Some(Node { kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), part: 0 })
            }
        }
    }

    fn names(&self, path: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Context(context) => ContextTree(context).names(path),
            Self::Layers { tree, .. } => tree.names(path),
            Self::Inline { name, .. } => vec![name.clone()],
        }
    }

    fn walk(&self, path: &[u8], visit: &mut dyn FnMut(&[u8], Node) -> Descend) {
        match self {
            Self::Context(context) => ContextTree(context).walk(path, visit),
            Self::Layers { tree, .. } => tree.walk(path, visit),
            Self::Inline { name, .. } => {
                if let Some(node) = self.get(name) {
                    visit(name, node);
                }
            }
        }
    }
}

/// Opens files of many sources, in any order; fastest in the order of their trees.
pub struct Files<'a> {
    store: &'a Store,
    sources: &'a [SourceTree],
    readers: HashMap<usize, Reader<'a>>,
}

/// The content of one file.
pub enum Data<'a> {
    /// Of a context: it holds itself against the scan and its digest.
    Checked(Content<'a>),
    /// Of something else.
    Plain(Box<dyn Read + Send + 'a>),
}

impl<'a> Files<'a> {
    /// The files of `sources`.
    pub fn new(store: &'a Store, sources: &'a [SourceTree]) -> Self {
        Self { store, sources, readers: HashMap::new() }
    }

    /// Opens the file of an item; `None` if it has no source.
    pub fn open_item(&mut self, selection: &Selection, item: &Item) -> Result<Option<Data<'a>>, ExecError> {
        let Some(source) = selection.source(item) else { return Ok(None) };
        if let SourceTree::Context(context) = &self.sources[source]
            && let Some(entry) = context.numbered(item.part)
        {
            let reader = self.readers.entry(source).or_insert_with(|| Reader::new(context));
            return Ok(Some(Data::Checked(reader.open(entry)?)));
        }
        let Some((source, path)) = selection.source_path(item) else { return Ok(None) };
        self.open(source, &path).map(Some)
    }

    /// Opens the file at `path` of the source `number`, which is one of what was selected there.
    pub fn open(&mut self, number: usize, path: &[u8]) -> Result<Data<'a>, ExecError> {
        match &self.sources[number] {
            SourceTree::Context(context) => {
                let reader = self.readers.entry(number).or_insert_with(|| Reader::new(context));
                let Some(entry) = context.get(path) else { return Err(gone(path)) };
                Ok(Data::Checked(reader.open(entry)?))
            }
            SourceTree::Layers { layers, tree } => {
                let Some((layer, entry)) = tree.file(path) else { return Err(gone(path)) };
                Ok(Data::Plain(self.store.open_file(layers[layer], &entry.to_entry())?))
            }
            SourceTree::Inline { content, .. } => Ok(Data::Plain(Box::new(&content[..]))),
        }
    }
}

/// What cannot be: a path that was selected from a scan is in it.
fn gone(path: &[u8]) -> ExecError {
    let path = String::from_utf8_lossy(path).into_owned();
    ContextError::Changed { path, what: crate::build::context::Change::Gone }.into()
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Checked(content) => content.read(buffer),
            Self::Plain(data) => data.read(buffer),
        }
    }
}
