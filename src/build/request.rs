//! What a build is asked for, and what it gives back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use crate::base::diagnostic::Diagnostic;
use crate::base::digest::{Digest, ImageId};
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::base::span::Source;
use crate::dockerfile::instruction::RunNetwork;
use crate::layer::compress::Compression;

/// Everything a build is asked for. Names are resolved and files of options read: what is here
/// stands for itself.
pub struct BuildRequest {
    /// The Dockerfile's text under the name that messages give it.
    pub dockerfile: Source,
    /// Where the Dockerfile is, for `<Dockerfile>.dockerignore`; `None` if it came another way.
    pub dockerfile_path: Option<PathBuf>,
    /// The build context.
    pub context: ContextInput,
    /// `--build-context`, in their order; of two with one name the last counts.
    pub named_contexts: Vec<(String, NamedContext)>,
    /// `--target`
    pub target: Option<String>,
    /// `--build-arg`, those without a value already looked up.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in their order.
    pub labels: Vec<(String, String)>,
    /// `--tag`
    pub tags: Vec<Reference>,
    /// What is put out; none means the store.
    pub outputs: Vec<Output>,
    /// `--no-cache`, `--no-cache-filter`
    pub no_cache: NoCache,
    /// `--secret`
    pub secrets: Vec<Secret>,
    /// `--add-host`: name and address.
    pub add_hosts: Vec<(String, String)>,
    /// `--network`
    pub network: RunNetwork,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// `--platform`; the host's if `None`.
    pub platform: Option<Platform>,
    /// The host name of RUN steps; empty for kiln's own default.
    pub hostname: String,
}

/// Where the main build context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextInput {
    /// A directory on the host.
    Directory(PathBuf),
    /// There is none.
    Empty,
}

/// What `--build-context NAME=` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory on the host.
    Directory(PathBuf),
    /// `docker-image://REF`
    Image(Reference),
    /// `oci-layout://DIR[:tag|@digest]`, without the scheme.
    Layout(String),
}

pub use crate::build::plan::request::NoCache;

/// A secret that RUN steps may mount.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// `id=`
    pub id: String,
    /// Where its value is.
    pub source: SecretSource,
}

/// Where a secret's value is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `src=`: a file, read when a step first needs it.
    File(PathBuf),
    /// `env=`: an environment variable of the caller's.
    Variable(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One `--output`.
pub enum Output {
    /// An image in the store, under the request's tags.
    Store,
    /// An OCI image layout.
    Oci {
        /// Where to.
        to: Destination,
        /// One archive, or else a directory of files.
        archive: bool,
        /// How layers are compressed.
        compression: Compression,
        /// Whether layers from outside are compressed anew.
        force: bool,
    },
    /// An archive that `docker load` takes.
    Docker {
        /// Where to.
        to: Destination,
        /// How layers are compressed.
        compression: Compression,
    },
    /// The merged file system as one tar.
    Tar {
        /// Where to.
        to: Destination,
    },
    /// The merged file system as files in a directory.
    Local {
        /// The directory; made if it is not there.
        to: PathBuf,
    },
}

/// Where an output goes.
pub enum Destination {
    /// A file (or a directory where the output is one) that appears when it is whole.
    Path(PathBuf),
    /// A stream, such as standard output.
    Stream(Box<dyn Write + Send>),
}

/// What a build came to.
#[derive(Debug, Clone)]
pub struct BuildResult {
    /// The image's ID: the digest of its config. `None` if only files were put out.
    pub image: Option<ImageId>,
    /// The digest of the manifest that describes it, where one was made.
    pub manifest: Option<Digest>,
    /// What `--metadata-file` is to hold, keys as BuildKit names them.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What the user should know of the Dockerfile; spans point into the request's.
    pub warnings: Vec<Diagnostic>,
}
