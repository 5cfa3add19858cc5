//! `kiln build`

mod finish;
mod output;
mod source;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::command::{Later, Run};
use super::error::{Error, Result};
use super::interrupt::Interrupt;
use super::progress::{Display, Mode};
use super::session::Session;
use super::{units, value};
use crate::base::event::{Event, Events};
use crate::base::platform::Platform;
use crate::base::reference::Reference;
use crate::build::request::{BuildRequest, NamedContext, NoCache, Secret, SecretSource};
use crate::dockerfile::instruction::RunNetwork;
use output::Output;

/// Build an image from a Dockerfile
#[derive(clap::Parser)]
pub struct Args {
    /// Add a custom host-to-IP mapping ("host:ip")
    #[arg(long, value_name = "list", value_parser = value::host)]
    add_host: Vec<(String, String)>,
    /// Allow extra privileged entitlement (accepted for compatibility)
    #[arg(long, value_name = "stringArray", hide = true)]
    allow: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "list")]
    build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "stringArray", value_parser = source::named_context)]
    build_context: Vec<(String, NamedContext)>,
    /// The builder to use (there is one, whatever its name)
    #[arg(long, value_name = "string", hide = true)]
    builder: Option<String>,
    /// Compress the build context using gzip (has no effect)
    #[arg(long)]
    compress: bool,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "string")]
    file: Option<PathBuf>,
    /// Always remove intermediate containers (there are none)
    #[arg(long)]
    force_rm: bool,
    /// Write the image ID to a file
    #[arg(long, value_name = "string")]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "list", value_parser = value::label)]
    label: Vec<(String, String)>,
    /// Shorthand for "--output=type=docker"
    #[arg(long)]
    load: bool,
    /// Write build result metadata to a file
    #[arg(long, value_name = "string")]
    metadata_file: Option<PathBuf>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "string", default_value = "default", value_parser = network)]
    network: RunNetwork,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "stringArray", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Output destination (format: "type=local,dest=path")
    #[arg(short, long, value_name = "stringArray", value_parser = output::parse)]
    output: Vec<Output>,
    /// Set target platform for build
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    platform: Option<String>,
    /// Set type of progress output ("auto", "plain", "tty", "rawjson", "quiet")
    #[arg(long, value_name = "string", default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env = true)]
    progress: Mode,
    /// Provenance attestations: `false` only
    #[arg(long, value_name = "string", hide = true, value_parser = no_attestation)]
    provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long, hide = true)]
    pull: bool,
    /// Shorthand for "--output=type=registry"
    #[arg(long, hide = true)]
    push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Remove intermediate containers after a successful build (there are none)
    #[arg(long, default_value = "true")]
    rm: bool,
    /// SBOM attestations: `false` only
    #[arg(long, value_name = "string", hide = true, value_parser = no_attestation)]
    sbom: Option<String>,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "stringArray", value_parser = source::secret)]
    secret: Vec<(String, SecretSource)>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "bytes", value_parser = units::parse_size)]
    shm_size: Option<u64>,
    /// SSH agent socket or keys to expose to the build (accepted; ssh mounts come later)
    #[arg(long, value_name = "stringArray", hide = true)]
    ssh: Vec<String>,
    /// Image identifier (format: "[registry/]repository[:tag]")
    #[arg(short, long, value_name = "stringArray")]
    tag: Vec<Reference>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = value::ulimit)]
    ulimit: Vec<(String, i64, i64)>,
    context: OsString,
}

fn network(text: &str) -> std::result::Result<RunNetwork, String> {
    match text {
        "default" => Ok(RunNetwork::Default),
        "none" => Ok(RunNetwork::None),
        "host" => Ok(RunNetwork::Host),
        other => Err(format!("network mode \"{other}\" is not supported: one of default, none, host")),
    }
}

fn no_attestation(text: &str) -> std::result::Result<String, String> {
    match text {
        "false" | "0" | "disabled=true" => Ok(text.to_owned()),
        _ => Err("attestations are not supported yet".to_owned()),
    }
}

impl Run for Args {
    const LATER: &'static [Later] = &[
        Later::value("annotation"),
        Later::value("attest"),
        Later::value("cache-from"),
        Later::value("cache-to"),
        Later::value("call"),
        Later::value("cgroup-parent"),
        Later::switch("check"),
        Later::value("cpu-period"),
        Later::value("cpu-quota"),
        Later::value("cpu-shares").short('c'),
        Later::value("cpuset-cpus"),
        Later::value("cpuset-mems"),
        Later::value("isolation"),
        Later::value("memory").short('m'),
        Later::value("memory-swap"),
        Later::value("security-opt"),
        Later::switch("squash"),
    ];

    fn run(mut self, session: &mut Session) -> Result<u8> {
        self.refuse_what_comes_later()?;
        let mode = if self.quiet { Mode::Quiet } else { self.progress };
        let finish = finish::Finish {
            iidfile: self.iidfile.take(),
            metadata_file: self.metadata_file.take(),
            quiet: self.quiet,
        };
        let request = self.request(session)?;
        let source = request.dockerfile.clone();
        let store = session.store()?;
        let interrupt = Interrupt::new()?;
        let display = Display::new(mode, session.can_draw, session.colour);
        let result = crate::build::build(&store, request, &display, interrupt.cancel());
        for warning in result.iter().flat_map(|result| &result.warnings) {
            let message = format!("{}: {}", warning.place(&source), warning.message);
            display.send(Event::Warning { vertex: None, message });
        }
        display.finish(result.is_ok());
        match result {
            Ok(result) => finish.write(session, &result).map(|()| 0),
            Err(error) => match interrupt.caught() {
                Some(signal) => {
                    session.note(&Error::from(error).render(session.colour));
                    Ok(128 + signal)
                }
                None => Err(error.into()),
            },
        }
    }
}

impl Args {
    fn refuse_what_comes_later(&self) -> Result<()> {
        let what = match () {
            () if self.push => "pushing to a registry (--push)",
            () if self.pull => "pulling from a registry (--pull)",
            () => return Ok(()),
        };
        Err(Error::NotYet { what: what.to_owned() })
    }

    /// What was typed as a request: names parsed, variables looked up, the Dockerfile read.
    fn request(self, session: &Session) -> Result<BuildRequest> {
        let (context, dockerfile, dockerfile_path) = source::read(&self.context, self.file.as_deref())?;
        let platform = self.platform.as_deref().filter(|text| !text.is_empty());
        let platform: Option<Platform> = platform.map(str::parse).transpose()?;
        let outputs = output::resolve(self.output, self.load, session.stdout_terminal)?;
        let build_args: BTreeMap<String, String> =
            self.build_arg.iter().filter_map(|text| value::environment(text)).collect();
        let no_cache = match (self.no_cache, self.no_cache_filter) {
            (true, _) => NoCache::All,
            (false, stages) if stages.is_empty() => NoCache::None,
            (false, stages) => NoCache::Stages(stages),
        };
        Ok(BuildRequest {
            dockerfile,
            dockerfile_path,
            context,
            named_contexts: self.build_context,
            target: self.target.filter(|target| !target.is_empty()),
            build_args,
            labels: self.label,
            tags: self.tag,
            outputs,
            no_cache,
            secrets: self.secret.into_iter().map(|(id, source)| Secret { id, source }).collect(),
            add_hosts: self.add_host,
            network: self.network,
            shm_size: self.shm_size,
            ulimits: self.ulimit,
            platform,
            hostname: String::new(),
        })
    }
}
