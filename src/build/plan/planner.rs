//! What all stages of one plan share: the graph under construction, the images asked for, the
//! faults found.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::diagnostic::Diagnostic;
use crate::base::digest::LayerId;
use crate::base::event::VertexId;
use crate::base::platform::Platform;
use crate::base::span::Span;

use super::images::{ImageSource, Images, ImagesError, ResolvedImage, chain};
use super::names::{Names, Origin};
use super::operation::{ContextSource, Graph, Operation, Vertex};
use super::request::{NamedContext, PlanRequest};
use super::scope::Variables;
use super::stage::Finished;

/// How many bytes a plan may come to: variables that hold each other would grow without end.
pub(super) const MAX_SIZE: usize = 128 << 20;

/// After how many faults the search for more ends.
const MAX_FAULTS: usize = 50;

/// The plan under construction.
pub(super) struct Planner<'a> {
    /// What is planned.
    pub request: &'a PlanRequest<'a>,
    /// What names stand for.
    pub names: Names<'a>,
    /// The global scope.
    pub globals: Variables,
    /// The vertices so far.
    pub graph: Graph,
    /// What stopped the plan.
    pub faults: Vec<Diagnostic>,
    /// What should be known and stops nothing.
    pub warnings: Vec<Diagnostic>,
    /// Stages by number, once they are lowered without a fault in their base.
    pub stages: HashMap<usize, Finished<'a>>,
    /// How many stages are still to be based on each.
    pub users: HashMap<usize, usize>,
    /// Build arguments that ONBUILD triggers declare.
    pub triggered_args: Vec<String>,
    images: &'a dyn Images,
    resolved: HashMap<(String, Platform), Option<Arc<ResolvedImage>>>,
    layers: HashMap<Vec<LayerId>, VertexId>,
    contexts: HashMap<&'a str, VertexId>,
    main_context: Option<VertexId>,
    size: usize,
}

/// An image with the name it is shown by.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// What was found.
    pub resolved: Arc<ResolvedImage>,
    /// `docker.io/library/busybox:latest@sha256:…`
    pub name: String,
}

impl<'a> Planner<'a> {
    /// An empty plan.
    pub fn new(request: &'a PlanRequest<'a>, images: &'a dyn Images, globals: Variables) -> Self {
        Self {
            request,
            names: Names::new(request.dockerfile, &request.named_contexts),
            globals,
            graph: Graph::default(),
            faults: Vec::new(),
            warnings: Vec::new(),
            stages: HashMap::new(),
            users: HashMap::new(),
            triggered_args: Vec::new(),
            images,
            resolved: HashMap::new(),
            layers: HashMap::new(),
            contexts: HashMap::new(),
            main_context: None,
            size: 0,
        }
    }

    /// Whether so much is wrong that more of it helps nobody.
    pub fn is_hopeless(&self) -> bool {
        self.faults.len() >= MAX_FAULTS
    }

    /// Counts `bytes` more in the plan, which `span` is the reason for.
    pub fn spend(&mut self, bytes: usize, span: Span) -> Result<(), Diagnostic> {
        self.size = self.size.saturating_add(bytes);
        if self.size <= MAX_SIZE {
            return Ok(());
        }
        Err(Diagnostic::error(
            span,
            format!("the build comes to more than {} MiB of variables", MAX_SIZE >> 20),
        ))
    }

    /// The end of stage `below` for a stage on it: its last user takes it away.
    pub fn base(&mut self, below: usize, span: Span) -> Result<Option<Finished<'a>>, Diagnostic> {
        let users = self.users.entry(below).or_default();
        *users = users.saturating_sub(1);
        let last = *users == 0;
        let Some(finished) = self.stages.get_mut(&below) else { return Ok(None) };
        let size = match finished {
            Finished::Steps(state) if last => {
                let files = Finished::Files(state.vertex);
                return Ok(Some(std::mem::replace(finished, files)));
            }
            Finished::Steps(state) => state.size(),
            Finished::Files(_) | Finished::Directory(..) => 0,
        };
        let finished = finished.clone();
        self.spend(size, span)?;
        Ok(Some(finished))
    }

    /// Adds a vertex; its inputs are there already.
    pub fn push(&mut self, vertex: Vertex) -> VertexId {
        let id = VertexId(self.graph.vertices.len());
        self.graph.vertices.push(vertex);
        id
    }

    fn source(&mut self, name: String, span: Option<Span>, operation: Operation) -> VertexId {
        self.push(Vertex { name, stage: String::new(), span, operation, no_cache: false })
    }

    /// The vertex of a stack of layers; one for equal stacks.
    pub fn layers(&mut self, layers: &[LayerId], name: &str, span: Span) -> VertexId {
        if let Some(id) = self.layers.get(layers) {
            return *id;
        }
        let id = self.source(format!("FROM {name}"), Some(span), Operation::Layers(layers.to_vec()));
        self.layers.insert(layers.to_vec(), id);
        id
    }

    /// The vertex of the main context.
    pub fn main_context(&mut self) -> VertexId {
        if let Some(id) = self.main_context {
            return id;
        }
        let operation = Operation::Context(ContextSource { name: "context".to_owned() });
        let id = self.source("[internal] load build context".to_owned(), None, operation);
        *self.main_context.insert(id)
    }

    /// The vertex of a named context that is a directory.
    pub fn directory(&mut self, name: &'a str) -> VertexId {
        if let Some(id) = self.contexts.get(name) {
            return *id;
        }
        let operation = Operation::Context(ContextSource { name: name.to_owned() });
        let id = self.source(format!("[context {name}] load from client"), None, operation);
        self.contexts.insert(name, id);
        id
    }

    /// What `--from=` takes files from; `None` where that failed, which is reported already.
    pub fn files(&mut self, origin: &Origin<'a>, span: Span, stage: usize) -> Option<VertexId> {
        match origin {
            Origin::Scratch => Some(self.layers(&[], "scratch", span)),
            Origin::Stage(number) => self.stages.get(number).map(Finished::files),
            Origin::Context(name, NamedContext::Directory) => Some(self.directory(name)),
            Origin::Context(..) | Origin::Image(_) => {
                let platform = self.request.target_platform().clone();
                let image = self.image(origin, &platform, span, stage)?;
                Some(self.layers(&image.resolved.layers, &image.name, span))
            }
        }
    }

    /// The image that `origin`, an image or a context that is one, stands for; `None` where
    /// there is none, which is reported at its first use.
    pub fn image(
        &mut self,
        origin: &Origin<'a>,
        platform: &Platform,
        span: Span,
        stage: usize,
    ) -> Option<Image> {
        match origin {
            Origin::Image(reference) | Origin::Context(_, NamedContext::Image(reference)) => {
                self.find(reference.canonical(), ImageSource::Name(reference), platform, span, stage)
            }
            Origin::Context(_, NamedContext::Layout(layout)) => {
                let name = format!("oci-layout://{layout}");
                self.find(name, ImageSource::Layout(layout), platform, span, stage)
            }
            Origin::Scratch | Origin::Stage(_) | Origin::Context(_, NamedContext::Directory) => None,
        }
    }

    fn find(
        &mut self,
        name: String,
        source: ImageSource<'_>,
        platform: &Platform,
        span: Span,
        stage: usize,
    ) -> Option<Image> {
        let key = (name.clone(), platform.clone());
        if !self.resolved.contains_key(&key) {
            let resolved = match self.images.resolve(source, platform) {
                Ok(image) => Some(Arc::new(image)),
                Err(error) => {
                    let nearest = match source {
                        ImageSource::Name(reference) => self.names.nearest(&reference.familiar_name(), stage),
                        ImageSource::Layout(_) => None,
                    };
                    self.faults.push(no_image(&name, platform, &error, span, nearest));
                    None
                }
            };
            self.resolved.insert(key.clone(), resolved);
        }
        let resolved = self.resolved[&key].clone()?;
        let name = match resolved.digest {
            Some(digest) if !name.contains('@') => format!("{name}@{digest}"),
            _ => name,
        };
        Some(Image { resolved, name })
    }
}

fn no_image(
    name: &str,
    platform: &Platform,
    error: &ImagesError,
    span: Span,
    nearest_stage: Option<String>,
) -> Diagnostic {
    let diagnostic = Diagnostic::error(span, format!("cannot use image `{name}`: {}", chain(error)));
    match error {
        ImagesError::NotFound { nearest } => {
            let nearest = nearest_stage.or_else(|| nearest.clone());
            diagnostic
                .did_you_mean(nearest.as_deref())
                .help("images come into the store by `kiln build`, `kiln load` and `kiln import`")
        }
        ImagesError::Platform { found } => {
            let found: Vec<String> = found.iter().map(Platform::to_string).collect();
            diagnostic.help(format!("wanted is {platform}; there is {}", found.join(", ")))
        }
        ImagesError::Failed(_) => diagnostic,
    }
}
