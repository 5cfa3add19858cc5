//! What is to be planned: a Dockerfile and the arguments of a build that bear on the graph.

use std::collections::BTreeMap;

use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::dockerfile::instruction::{Dockerfile, RunNetwork};

/// A Dockerfile with the arguments of one build.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Dockerfile,
    /// `--target`: a stage by name or number; the last one if `None`.
    pub target: Option<String>,
    /// `--build-arg`, those without a value already looked up.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in their order.
    pub labels: Vec<(String, String)>,
    /// `--platform`; the host's if `None`.
    pub platform: Option<Platform>,
    /// The platform the build runs on.
    pub host: Platform,
    /// `--build-context`, in their order; of two with one name the last counts.
    pub named_contexts: Vec<(String, NamedContext)>,
    /// `--add-host`: name and address.
    pub add_hosts: Vec<(String, String)>,
    /// `--network`, for each RUN that names none.
    pub network: RunNetwork,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// The host name of RUN steps; empty for kiln's own default.
    pub hostname: String,
    /// `--no-cache`, `--no-cache-filter`.
    pub no_cache: NoCache,
}

/// Whose records may not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// All may.
    #[default]
    None,
    /// None may.
    All,
    /// Those of these stages may not; names without regard to case.
    Stages(Vec<String>),
}

/// What `--build-context NAME=` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory on the host; the builder knows where.
    Directory,
    /// `docker-image://REF`
    Image(Reference),
    /// `oci-layout://DIR[:tag|@digest]`, without the scheme.
    Layout(String),
}

impl<'a> PlanRequest<'a> {
    /// A request for the last stage of `dockerfile`, everything else at its default.
    pub fn new(dockerfile: &'a Dockerfile) -> Self {
        Self {
            dockerfile,
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            platform: None,
            host: Platform::host(),
            named_contexts: Vec::new(),
            add_hosts: Vec::new(),
            network: RunNetwork::Default,
            shm_size: None,
            ulimits: Vec::new(),
            hostname: String::new(),
            no_cache: NoCache::None,
        }
    }

    /// The platform of the result and of all stages that name none.
    pub fn target_platform(&self) -> &Platform {
        self.platform.as_ref().unwrap_or(&self.host)
    }

    /// Whether no record may be read for the steps of the stage called `name`.
    pub(super) fn ignores_cache(&self, name: Option<&str>) -> bool {
        match &self.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(stages) => {
                name.is_some_and(|name| stages.iter().any(|stage| stage.eq_ignore_ascii_case(name)))
            }
        }
    }
}
