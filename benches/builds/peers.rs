//! Who is timed: kiln, and what is installed of docker, buildah and podman for builds, crun, runc
//! and podman for containers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A builder.
pub struct Peer {
    /// Its name in the table.
    pub name: &'static str,
    /// Where it keeps its store.
    pub store: PathBuf,
    build: fn(&Peer, &Build) -> Command,
}

/// One build command.
pub struct Build<'a> {
    /// The context.
    pub context: &'a Path,
    /// The Dockerfile.
    pub file: &'a Path,
    /// Whether the step cache is used.
    pub cache: bool,
    /// An uncompressed OCI archive to write, if any.
    pub archive: Option<&'a Path>,
}

impl Peer {
    /// The command for `build`.
    pub fn build(&self, build: &Build) -> Command {
        (self.build)(self, build)
    }

    /// The same builder on another store.
    pub fn on(&self, store: PathBuf) -> Peer {
        Peer { store, ..*self }
    }
}

/// kiln, then the builders found on this machine.
pub fn found(place: &Path) -> Vec<Peer> {
    let mut peers = vec![Peer { name: "kiln", store: place.join("kiln"), build: kiln }];
    if works("buildah", &["--version"]) {
        peers.push(Peer { name: "buildah", store: place.join("buildah"), build: buildah });
    }
    if works("docker", &["info"]) {
        peers.push(Peer { name: "docker", store: place.join("docker"), build: docker });
    }
    peers
}

/// Whether `program args` succeeds.
pub fn works(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `kiln` on a store.
pub fn kiln_command(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.env("KILN_ROOT", store);
    command
}

fn kiln(peer: &Peer, build: &Build) -> Command {
    let mut command = kiln_command(&peer.store);
    command.args(["build", "-q", "-f"]).arg(build.file);
    if !build.cache {
        command.arg("--no-cache");
    }
    if let Some(archive) = build.archive {
        command.arg("-o").arg(format!("type=oci,compression=uncompressed,dest={}", archive.display()));
    }
    command.arg(build.context);
    command
}

/// buildah's global options: a store of its own, and chroot isolation, its fastest.
pub fn buildah_command(store: &Path) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
    command
}

fn buildah(peer: &Peer, build: &Build) -> Command {
    let mut command = buildah_command(&peer.store);
    command.args(["build", "-q", "--isolation", "chroot", "--layers", "--pull=never", "-t", "bench", "-f"]);
    command.arg(build.file);
    if !build.cache {
        command.arg("--no-cache");
    }
    command.arg(build.context);
    let Some(archive) = build.archive else { return command };
    // buildah puts an archive out with a second command.
    let mut push = buildah_command(&peer.store);
    push.args(["push", "-q", "--disable-compression", "bench"])
        .arg(format!("oci-archive:{}", archive.display()));
    in_turn(&command, &push)
}

/// A shell that runs one command and, if it succeeds, another.
fn in_turn(first: &Command, second: &Command) -> Command {
    let mut shell = Command::new("sh");
    let words = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ")
    };
    shell.arg("-c").arg(format!("{} && {}", words(first), words(second)));
    shell
}

fn docker(_: &Peer, build: &Build) -> Command {
    let mut command = Command::new("docker");
    command.args(["build", "-q", "-f"]).arg(build.file);
    if !build.cache {
        command.arg("--no-cache");
    }
    if let Some(archive) = build.archive {
        command.arg("-o").arg(format!("type=oci,compression=uncompressed,dest={}", archive.display()));
    }
    command.arg(build.context);
    command
}
