//! `kiln run`

mod mount;
mod stream;

use std::path::PathBuf;

use super::command::{Later, Run};
use super::error::{Error, Result};
use super::session::Session;
use super::{units, value};
use crate::base::platform::Platform;
use crate::container::{self, Mount, Network, RunOptions};

/// Create and run a new container from an image
#[derive(clap::Parser)]
pub struct Args {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = value::host)]
    add_host: Vec<(String, String)>,
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = cpus)]
    cpus: Option<f64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Set meta data on a container (has no effect yet)
    #[arg(short, long, value_name = "list", hide = true)]
    label: Vec<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = units::parse_size)]
    memory: Option<u64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = swap)]
    memory_swap: Option<i64>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", value_parser = mount::long)]
    mount: Vec<Mount>,
    /// Assign a name to the container (has no effect yet)
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Connect a container to a network: host (default) or none
    #[arg(long, value_name = "network", alias = "net", default_value = "default", hide_default_value = true)]
    #[arg(value_parser = network)]
    network: Network,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    platform: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    rm: bool,
    /// Security Options
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = units::parse_size)]
    shm_size: Option<u64>,
    /// Proxy received signals to the process
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    /// Sysctl options
    #[arg(long, value_name = "map", value_parser = pair)]
    sysctl: Vec<(String, String)>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list", value_parser = mount::tmpfs)]
    tmpfs: Vec<Mount>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = value::ulimit)]
    ulimit: Vec<(String, i64, i64)>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "list", value_parser = mount::short)]
    volume: Vec<Mount>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// The image, then the command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

fn cpus(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(count) if count.is_finite() && count >= 0.0 => Ok(count),
        _ => Err(format!("failed to parse {text} as a rational number")),
    }
}

fn swap(text: &str) -> std::result::Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => units::parse_size(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}

fn variable(text: &str) -> std::result::Result<String, String> {
    match text.is_empty() || text.starts_with('=') {
        true => Err(format!("invalid environment variable: {text}")),
        false => Ok(text.to_owned()),
    }
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected name=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The network that is not named is the host's.
fn network(text: &str) -> std::result::Result<Network, String> {
    match text {
        "default" | "bridge" | "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        other => Err(format!("network \"{other}\" is not supported yet: only host and none")),
    }
}

impl Run for Args {
    const LATER: &'static [Later] = &[
        Later::value("annotation"),
        Later::value("attach").short('a'),
        Later::value("blkio-weight"),
        Later::value("cgroup-parent"),
        Later::value("cgroupns"),
        Later::value("cidfile"),
        Later::value("cpu-period"),
        Later::value("cpu-quota"),
        Later::value("cpuset-mems"),
        Later::switch("detach").short('d'),
        Later::value("detach-keys"),
        Later::value("device"),
        Later::value("device-cgroup-rule"),
        Later::value("dns"),
        Later::value("dns-option"),
        Later::value("dns-search"),
        Later::value("domainname"),
        Later::value("expose"),
        Later::value("gpus"),
        Later::value("health-cmd"),
        Later::value("ip"),
        Later::value("ipc"),
        Later::value("label-file"),
        Later::value("link"),
        Later::value("log-driver"),
        Later::value("log-opt"),
        Later::value("mac-address"),
        Later::value("memory-reservation"),
        Later::value("network-alias"),
        Later::switch("no-healthcheck"),
        Later::switch("oom-kill-disable"),
        Later::value("oom-score-adj"),
        Later::value("pid"),
        Later::value("publish").short('p'),
        Later::switch("publish-all").short('P'),
        Later::value("restart"),
        Later::value("runtime"),
        Later::value("stop-signal"),
        Later::value("stop-timeout"),
        Later::value("storage-opt"),
        Later::value("userns"),
        Later::value("uts"),
        Later::value("volume-driver"),
        Later::value("volumes-from"),
    ];

    fn run(self, session: &mut Session) -> Result<u8> {
        // All that fails before the command runs ends with 125, as Docker has it.
        self.start(session).map_err(|error| Error::Run(Box::new(error)))
    }
}

impl Args {
    fn start(mut self, session: &mut Session) -> Result<u8> {
        if self.pull == "always" {
            return Err(Error::NotYet { what: "pulling from a registry (--pull=always)".to_owned() });
        }
        let sig_proxy = self.sig_proxy;
        let name = self.words.remove(0);
        let platform = self.platform.take().filter(|text| !text.is_empty());
        let platform: Option<Platform> = platform.map(|text| text.parse()).transpose()?;
        let options = self.options()?;
        if options.tty && options.interactive && !stream::stdin_is_terminal() {
            return Err(Error::NoTerminal);
        }
        let store = session.store()?;
        let image = store.image(store.find(&name)?)?.ok_or(Error::Gone { name: name.clone() })?;
        let found = image.config.platform();
        if let Some(wanted) = platform.filter(|wanted| !found.satisfies(wanted)) {
            let (found, wanted) = (found.to_string(), wanted.to_string());
            return Err(Error::WrongPlatform { name, found, wanted });
        }
        let (streams, stdio) = stream::Streams::open(options.tty, options.interactive)?;
        let signals = stream::signals(sig_proxy)?;
        let container = container::start(&store, &image, &options, stdio)?;
        container.warnings().iter().for_each(|warning| session.note(&format!("WARNING: {warning}")));
        let exit = streams.attend(&container, signals)?;
        Ok(u8::try_from(exit.code()).unwrap_or(255))
    }

    fn options(self) -> Result<RunOptions> {
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(value::env_file(file)?);
        }
        env.extend(self.env.iter().filter_map(|text| value::environment(text)));
        let entrypoint = self.entrypoint.map(|text| if text.is_empty() { Vec::new() } else { vec![text] });
        let mut mounts = self.volume;
        mounts.extend(self.mount);
        mounts.extend(self.tmpfs);
        Ok(RunOptions {
            entrypoint,
            command: self.words,
            env,
            workdir: self.workdir,
            user: self.user,
            hostname: self.hostname,
            network: self.network,
            add_hosts: self.add_host,
            mounts,
            read_only: self.read_only,
            privileged: self.privileged,
            init: self.init,
            tty: self.tty,
            interactive: self.interactive,
            // Nothing could find or remove yet what would be kept without --rm.
            rm: true,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            security_opts: self.security_opt,
            group_add: self.group_add,
            memory: self.memory,
            memory_swap: self.memory_swap,
            cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus,
            pids_limit: self.pids_limit,
            shm_size: self.shm_size,
            ulimits: self.ulimit,
            sysctls: self.sysctl,
        })
    }
}
