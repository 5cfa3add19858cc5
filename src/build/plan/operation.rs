//! The graph: vertices of plain data. Everything that needs the Dockerfile, the arguments and
//! the base images' configs is settled here; nothing here has been read from the context or run.

use crate::base::digest::LayerId;
use crate::base::event::VertexId;
use crate::base::platform::Platform;
use crate::base::span::Span;
use crate::dockerfile::instruction::{CacheSharing, RunNetwork};

/// All vertices that the target needs, inputs before users; a [`VertexId`] is the place in
/// `vertices`.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The vertices.
    pub vertices: Vec<Vertex>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// `[build 2/5] RUN make`.
    pub name: String,
    /// The stage it belongs to, by its name or as `stage-0`; empty for sources.
    pub stage: String,
    /// Its instruction in the Dockerfile, for errors; `None` for an ONBUILD trigger's.
    pub span: Option<Span>,
    /// What it does.
    pub operation: Operation,
    /// Whether no record may be read for it (`--no-cache`, `--no-cache-filter`).
    pub no_cache: bool,
}

/// What a vertex does. Inputs are named where they are used; [`Operation::inputs`] lists them.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A stack of layers that is there already (an image's), or none (`scratch`).
    Layers(Vec<LayerId>),
    /// A build context's selected files, scanned once.
    Context(ContextSource),
    /// RUN
    Run(Box<RunOperation>),
    /// COPY, ADD
    Copy(Box<CopyOperation>),
    /// WORKDIR: makes the directory if it is not there.
    Workdir {
        /// What it is made on.
        base: VertexId,
        /// The absolute path.
        path: String,
        /// The user as written whose directory it becomes; `None` for root.
        user: Option<String>,
    },
}

/// A directory on the host that files are copied from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSource {
    /// `context` for the main one, else the name as given to `--build-context`.
    pub name: String,
}

/// RUN. Everything but `resources` and secret values goes into the key.
#[derive(Debug, Clone)]
pub struct RunOperation {
    /// The root file system.
    pub base: VertexId,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// `NAME=value` in the order the process gets them.
    pub env: Vec<String>,
    /// Predefined proxy arguments given but not declared: set for the process, in no key.
    pub unkeyed_env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// The user as written in USER; empty for root.
    pub user: String,
    /// The platform of the stage.
    pub platform: Platform,
    /// `--network`.
    pub network: RunNetwork,
    /// Whether `--security=insecure`.
    pub insecure: bool,
    /// `name:address` of `--add-host`.
    pub add_hosts: Vec<(String, String)>,
    /// The host name; empty for kiln's own default.
    pub hostname: String,
    /// The size of /dev/shm in bytes; 64 MiB if `None`.
    pub shm_size: Option<u64>,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// `--mount`, in their order.
    pub mounts: Vec<RunMount>,
    /// `--device`, as written.
    pub devices: Vec<String>,
    /// A here-document with an interpreter line of its own, which `argv` runs.
    pub script: Option<Script>,
}

/// A file that is there while a RUN works and in no layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The absolute path in the sandbox, in a directory that holds nothing else.
    pub path: String,
    /// What is in it; its mode is 0755, it cannot be written to.
    pub content: String,
}

/// One `--mount` of a RUN, expanded.
#[derive(Debug, Clone)]
pub struct RunMount {
    /// The absolute path in the sandbox; empty for a secret that is only an environment variable.
    pub target: String,
    /// What is mounted there.
    pub kind: RunMountKind,
}

/// What a `--mount` shows.
#[derive(Debug, Clone)]
pub enum RunMountKind {
    /// A path of another step's result or of a context.
    Bind {
        /// Whose.
        from: VertexId,
        /// The path in it, `/` for all.
        source: String,
        /// Whether writes are allowed (and thrown away).
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// What it starts as.
        from: Option<VertexId>,
        /// The path in `from`.
        source: String,
        /// Who may use it at once.
        sharing: CacheSharing,
        /// Whether writes are refused.
        readonly: bool,
        /// The mode of a new directory.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// The limit in bytes.
        size: Option<u64>,
    },
    /// A secret as a file, an environment variable or both.
    Secret {
        /// Its name.
        id: String,
        /// The variable.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// The file's mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An ssh agent's socket: not supported yet, an error when reached.
    Ssh,
}

/// COPY and ADD.
#[derive(Debug, Clone)]
pub struct CopyOperation {
    /// What is copied onto.
    pub base: VertexId,
    /// The sources, in their order.
    pub sources: Vec<Source>,
    /// The destination as expanded, made absolute with the working directory; a trailing slash
    /// says that it is a directory.
    pub destination: String,
    /// `user[:group]` as written.
    pub chown: Option<String>,
    /// `--chmod` as written: octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude` patterns.
    pub excludes: Vec<String>,
    /// Whether local archives are unpacked (ADD).
    pub unpack: bool,
}

/// One source of a COPY or ADD.
#[derive(Debug, Clone)]
pub enum Source {
    /// A path with wildcards in a context or another step's result.
    Path {
        /// Whose.
        from: VertexId,
        /// The pattern, as expanded: it may hold `..`, slashes at its ends and the `/./` of
        /// `--parents`, all of which are resolved inside the root of `from`.
        pattern: String,
    },
    /// A here-document: a regular file with mode 0644.
    Inline {
        /// Its name.
        name: String,
        /// Its content, expanded and without leading tabs where asked for.
        content: String,
    },
    /// A URL or git repository: not supported yet, an error when reached.
    Remote(String),
}

impl Operation {
    /// The bytes of the texts that grow with a Dockerfile's variables.
    pub(super) fn size(&self) -> usize {
        let sum = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        match self {
            Self::Layers(_) | Self::Context(_) => 0,
            Self::Workdir { path, .. } => path.len(),
            Self::Run(run) => sum(&run.env) + sum(&run.argv) + sum(&run.unkeyed_env),
            Self::Copy(copy) => {
                let source = |source: &Source| match source {
                    Source::Path { pattern, .. } => pattern.len(),
                    Source::Inline { content, .. } => content.len(),
                    Source::Remote(place) => place.len(),
                };
                copy.sources.iter().map(source).sum::<usize>() + sum(&copy.excludes) + copy.destination.len()
            }
        }
    }

    /// The vertices whose results this one needs, in a fixed order, each once.
    pub fn inputs(&self) -> Vec<VertexId> {
        let mut inputs = Vec::new();
        match self {
            Self::Layers(_) | Self::Context(_) => {}
            Self::Workdir { base, .. } => inputs.push(*base),
            Self::Run(run) => {
                inputs.push(run.base);
                for mount in &run.mounts {
                    match &mount.kind {
                        RunMountKind::Bind { from, .. } => inputs.push(*from),
                        RunMountKind::Cache { from, .. } => inputs.extend(*from),
                        _ => {}
                    }
                }
            }
            Self::Copy(copy) => {
                inputs.push(copy.base);
                for source in &copy.sources {
                    if let Source::Path { from, .. } = source {
                        inputs.push(*from);
                    }
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        inputs.retain(|input| seen.insert(*input));
        inputs
    }
}
