//! One stage: its base and its instructions to vertices, a config and a history.

use crate::base::diagnostic::Diagnostic;
use crate::base::event::VertexId;
use crate::base::platform::Platform;
use crate::base::span::Span;
use crate::dockerfile::instruction::{Instruction, Kind, Word};
use crate::image::config::ImageConfig;

use super::expansion::expand;
use super::history::PlannedHistory;
use super::operation::{CopyOperation, Operation, Source, Vertex};
use super::paths;
use super::planner::{Image, Planner};
use super::reach::{Base, Reached};
use super::scope::Scope;
use super::triggers;

/// The search path where an image has none, as Docker sets it on Linux.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A point in a stage: what the next instruction finds.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The files.
    pub vertex: VertexId,
    /// The config; its variables are in `scope`, its history is the base image's.
    pub config: ImageConfig,
    /// The variables.
    pub scope: Scope,
    /// The entries added to the base image's history.
    pub history: Vec<PlannedHistory>,
    /// How many layers the base image has.
    pub base_layers: usize,
    /// The platform.
    pub platform: Platform,
}

/// A stage with nothing left to do.
#[derive(Debug, Clone)]
pub(super) enum Finished<'a> {
    /// Its end.
    Steps(Box<State>),
    /// Its files; no other stage is based on it.
    Files(VertexId),
    /// A directory stands in for it.
    Directory(&'a str, VertexId),
}

impl Finished<'_> {
    /// What others copy from.
    pub fn files(&self) -> VertexId {
        match self {
            Self::Steps(state) => state.vertex,
            Self::Files(vertex) | Self::Directory(_, vertex) => *vertex,
        }
    }
}

impl State {
    /// The bytes that grow with the stage.
    pub fn size(&self) -> usize {
        let history: usize = self.history.iter().map(|entry| entry.created_by.len()).sum();
        let labels: usize =
            self.config.config.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.scope.size() + history + labels
    }
}

/// A stage under way.
pub(super) struct Stage<'p, 'a> {
    /// What all stages share.
    pub planner: &'p mut Planner<'a>,
    /// Its number.
    pub number: usize,
    /// Where it stands.
    pub state: State,
    /// Whether CMD was given in this very stage.
    pub has_command: bool,
    /// The instruction being lowered; `None` for a trigger's.
    pub span: Option<Span>,
    label: String,
    no_cache: bool,
    steps: Vec<Step>,
}

struct Step {
    vertex: VertexId,
    text: String,
}

/// Lowers a stage whose needs are all lowered; `None` if its base has failed.
pub(super) fn lower<'a>(
    planner: &mut Planner<'a>,
    number: usize,
    entry: &Reached<'a>,
) -> Option<Finished<'a>> {
    let dockerfile = planner.request.dockerfile;
    let source = &dockerfile.stages[number];
    if let (true, Base::Directory(name)) = (entry.replaced, &entry.base) {
        return Some(Finished::Directory(name, planner.directory(name)));
    }
    let mut stage = Stage::start(planner, number, &entry.base, &entry.platform)?;
    if !entry.replaced {
        for trigger in &entry.triggers {
            if stage.planner.is_hopeless() {
                break;
            }
            if let Err(fault) = stage.instruction(trigger, None) {
                let fault = triggers::fault(source.from.span, &trigger.text, fault);
                stage.planner.faults.push(fault);
            }
        }
        for instruction in &source.instructions {
            if stage.planner.is_hopeless() {
                break;
            }
            if let Err(fault) = stage.instruction(instruction, Some(instruction.span)) {
                stage.planner.faults.push(fault);
            }
        }
    }
    Some(Finished::Steps(Box::new(stage.finish())))
}

/// The state of a build whose target is a directory: the files copied onto nothing.
pub(super) fn of_directory<'a>(planner: &mut Planner<'a>, number: usize, name: &'a str) -> Option<State> {
    let platform = planner.request.target_platform().clone();
    Some(Stage::start(planner, number, &Base::Directory(name), &platform)?.finish())
}

impl<'p, 'a> Stage<'p, 'a> {
    /// A stage before its first instruction.
    fn start(
        planner: &'p mut Planner<'a>,
        number: usize,
        base: &Base<'a>,
        platform: &Platform,
    ) -> Option<Self> {
        let from = &planner.request.dockerfile.stages[number].from;
        let name = from.name.as_ref().map(|name| name.value.as_str());
        let label = name.map_or_else(|| format!("stage-{number}"), str::to_owned);
        let no_cache = planner.request.ignores_cache(name);
        let span = Some(from.span);
        let (state, text, directory) = match base {
            Base::Stage(below) => match planner.base(*below, from.span) {
                Err(fault) => {
                    planner.faults.push(fault);
                    return None;
                }
                Ok(Some(Finished::Steps(state))) => (inherited(*state), None, None),
                Ok(Some(Finished::Directory(name, _))) => {
                    (empty(planner.layers(&[], "scratch", from.span), platform), None, Some(name))
                }
                Ok(Some(Finished::Files(_)) | None) => return None,
            },
            Base::Image(image) => {
                let vertex = planner.layers(&image.resolved.layers, &image.name, from.span);
                (of_image(image, vertex, platform), Some(format!("FROM {}", image.name)), None)
            }
            Base::Directory(name) => {
                (empty(planner.layers(&[], "scratch", from.span), platform), None, Some(*name))
            }
            Base::Scratch => (empty(planner.layers(&[], "scratch", from.span), platform), None, None),
        };
        let vertex = state.vertex;
        let mut stage =
            Self { planner, number, state, has_command: false, span, label, no_cache, steps: Vec::new() };
        if let Some(text) = text {
            stage.steps.push(Step { vertex, text });
        }
        if let Some(name) = directory
            && let Err(fault) = stage.unpack(name, from.span)
        {
            stage.planner.faults.push(fault);
        }
        Some(stage)
    }

    /// Makes the files of a directory on the host the files of this stage.
    fn unpack(&mut self, name: &'a str, span: Span) -> Result<(), Diagnostic> {
        let from = self.planner.directory(name);
        let operation = Operation::Copy(Box::new(CopyOperation {
            base: self.state.vertex,
            sources: vec![Source::Path { from, pattern: "/".to_owned() }],
            destination: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            excludes: Vec::new(),
            unpack: false,
        }));
        self.step(operation, span, &format!("FROM {name}"), format!("FROM {name}"))
    }

    /// Lowers one instruction; a fault leaves the stage as it was before.
    fn instruction(&mut self, instruction: &Instruction, span: Option<Span>) -> Result<(), Diagnostic> {
        self.span = span;
        match &instruction.kind {
            Kind::Run(run) => self.run(instruction, run),
            Kind::Copy(copy) => self.copy(instruction, copy, false),
            Kind::Add(copy) => self.copy(instruction, copy, true),
            Kind::Workdir(path) => self.workdir(instruction, path),
            _ => self.configure(instruction),
        }
    }

    /// WORKDIR
    fn workdir(&mut self, instruction: &Instruction, path: &Word) -> Result<(), Diagnostic> {
        let path = self.expand(path)?;
        let path = paths::absolute(&self.state.config.config.working_dir, &path);
        self.state.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            self.record(created_by);
            return Ok(());
        }
        let user = &self.state.config.config.user;
        let user = Some(user.clone()).filter(|user| !user.is_empty());
        let operation = Operation::Workdir { base: self.state.vertex, path, user };
        self.step(operation, instruction.span, &instruction.text, created_by)
    }

    /// A word with its variables replaced.
    pub fn expand(&self, word: &Word) -> Result<String, Diagnostic> {
        expand(word, &self.state.scope.environment)
    }

    /// Adds a vertex on top of the stage, with its entry in the history.
    pub fn step(
        &mut self,
        operation: Operation,
        span: Span,
        text: &str,
        created_by: String,
    ) -> Result<(), Diagnostic> {
        self.planner.spend(text.len() + created_by.len() + operation.size(), span)?;
        let trigger = if self.span.is_none() { "ONBUILD " } else { "" };
        let vertex = self.planner.push(Vertex {
            name: String::new(),
            stage: self.label.clone(),
            span: self.span,
            operation,
            no_cache: self.no_cache,
        });
        self.steps.push(Step { vertex, text: format!("{trigger}{}", one_line(text)) });
        self.state.history.push(PlannedHistory { created_by, vertex: Some(vertex) });
        self.state.vertex = vertex;
        Ok(())
    }

    /// Adds an entry without a layer to the history.
    pub fn record(&mut self, created_by: String) {
        self.state.history.push(PlannedHistory { created_by, vertex: None });
    }

    /// Names the vertices, now that their number is known.
    fn finish(self) -> State {
        let alone = self.planner.request.dockerfile.stages.len() == 1;
        let label = if alone { String::new() } else { format!("{} ", self.label) };
        let total = self.steps.len();
        let width = total.to_string().len();
        for (at, step) in self.steps.into_iter().enumerate() {
            let vertex = &mut self.planner.graph.vertices[step.vertex.0];
            // An image has the name it got from the first stage on it.
            if vertex.name.is_empty() || vertex.name == step.text {
                vertex.name = format!("[{label}{:>width$}/{total}] {}", at + 1, step.text);
            }
        }
        self.state
    }
}

/// The state on top of another stage: its triggers are used up.
fn inherited(mut state: State) -> State {
    state.config.config.on_build.clear();
    state.scope.inherit();
    state
}

/// The state on no files.
fn empty(vertex: VertexId, platform: &Platform) -> State {
    let mut config = ImageConfig::new(platform);
    config.config.working_dir = "/".to_owned();
    let scope = Scope::of_image(&[format!("PATH={DEFAULT_PATH}")]);
    State { vertex, config, scope, history: Vec::new(), base_layers: 0, platform: platform.clone() }
}

/// The state on an image.
fn of_image(image: &Image, vertex: VertexId, platform: &Platform) -> State {
    let mut config = image.resolved.config.clone();
    config.created = None;
    config.config.on_build.clear();
    let directory = &mut config.config.working_dir;
    if !directory.is_empty() {
        *directory = paths::absolute("/", directory);
    }
    let mut scope = Scope::of_image(&std::mem::take(&mut config.config.env));
    if scope.image.get("PATH").is_none() && platform.os != "windows" {
        scope.set_env("PATH", DEFAULT_PATH);
    }
    let base_layers = image.resolved.layers.len();
    State { vertex, config, scope, history: Vec::new(), base_layers, platform: platform.clone() }
}

/// An instruction as the name of a step: its command in upper case, on one line.
fn one_line(text: &str) -> String {
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.split_once(' ') {
        Some((name, rest)) => format!("{} {}", name.to_ascii_uppercase(), rest.trim_start()),
        None => text.to_ascii_uppercase(),
    }
}
