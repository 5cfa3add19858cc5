//! What `docker run` was asked for, taken apart.

use std::path::PathBuf;

use crate::sandbox::defaults::Network;

/// The options of one container. The default is what no option gives; what is not said here comes
/// from the image.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Replaces the image's entrypoint and drops its CMD; an empty list for none.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD, unless empty.
    pub command: Vec<String>,
    /// Added to the image's environment, replacing equal names.
    pub env: Vec<(String, String)>,
    /// The working directory; made if it is not there.
    pub workdir: Option<String>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// The host name; else the first twelve digits of the container's ID.
    pub hostname: Option<String>,
    /// The network.
    pub network: Network,
    /// Names with addresses for /etc/hosts.
    pub add_hosts: Vec<(String, String)>,
    /// Mounts beside Docker's own.
    pub mounts: Vec<Mount>,
    /// Whether the root file system cannot be written to.
    pub read_only: bool,
    /// Whether it gets every privilege that kiln has.
    pub privileged: bool,
    /// Whether PID 1 is an init that forwards signals and reaps.
    pub init: bool,
    /// Whether it gets a terminal; `stdio` must agree.
    pub tty: bool,
    /// Whether standard input is handed on; the caller does that.
    pub interactive: bool,
    /// Whether nothing is kept of it when it ends.
    pub rm: bool,
    /// Capabilities to add, `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities to drop, `ALL` for all.
    pub cap_drop: Vec<String>,
    /// `seccomp=…`, `no-new-privileges`, …
    pub security_opts: Vec<String>,
    /// Groups to be in, names or numbers.
    pub group_add: Vec<String>,
    /// Most memory, in bytes.
    pub memory: Option<u64>,
    /// Most memory and swap together, in bytes; -1 for no limit. Else twice the memory.
    pub memory_swap: Option<i64>,
    /// How many CPUs' worth of time.
    pub cpus: Option<f64>,
    /// Its share of the CPUs when they are busy; 1024 is the usual.
    pub cpu_shares: Option<u64>,
    /// Which CPUs, `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Most processes; 0 and below for no limit.
    pub pids_limit: Option<i64>,
    /// The size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// Name, soft and hard limit; -1 for no limit.
    pub ulimits: Vec<(String, i64, i64)>,
    /// Kernel parameters of its namespaces.
    pub sysctls: Vec<(String, String)>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file or directory of the host.
    Bind {
        /// Its absolute path on the host.
        source: PathBuf,
        /// The absolute path in the container.
        target: String,
        /// Whether it cannot be written to.
        readonly: bool,
        /// `rprivate` if not given.
        propagation: Option<String>,
        /// Whether a missing source is made, as a directory.
        create: bool,
    },
    /// Memory.
    Tmpfs {
        /// The absolute path in the container.
        target: String,
        /// Mount options beside `noexec,nosuid,nodev`.
        options: Vec<String>,
    },
}

impl Mount {
    /// Where it is in the container.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}
