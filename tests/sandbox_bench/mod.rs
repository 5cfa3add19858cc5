//! What the sandbox tests stand on: layers in a temporary directory, and a way to run a command
//! on them.
// The tests and the benches each use a part of it.
#![allow(dead_code)]

pub mod probe;

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kiln::sandbox::defaults::{self, Network};
use kiln::sandbox::{Launch, OverlayRoot, Process, SandboxError, Stdio, spawn};
use oci_spec::runtime::Spec;
use tempfile::TempDir;

const APPLETS: [&str; 28] = [
    "sort", "sh", "true", "sleep", "cat", "mknod", "hostname", "id", "env", "ls", "grep", "readlink",
    "chmod", "touch", "setsid", "ps", "ip", "mount", "cut", "tty", "stty", "ln", "rm", "mkdir", "echo",
    "unshare", "test", "[",
];

/// A directory with layers and an upper.
pub struct Bench {
    directory: TempDir,
    layers: Vec<PathBuf>,
    runs: Cell<u32>,
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Bench {
    /// Busybox in the lowest layer.
    pub fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("sandboxes need root".into());
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox.ok_or("no static busybox is installed (package busybox-static)")?;
        let directory = TempDir::new().map_err(|error| error.to_string())?;
        let mut bench = Self { directory, layers: Vec::new(), runs: Cell::new(0) };
        let layer = bench.layer();
        fs::create_dir(layer.join("bin")).expect("a fresh layer");
        fs::copy(busybox, layer.join("bin/busybox")).expect("busybox can be copied");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).expect("a fresh layer");
        }
        bench.fresh_upper();
        Ok(bench)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Gives the next run an upper of its own: an overlay that was mounted `volatile` takes its
    /// work directory only once.
    pub fn fresh_upper(&self) {
        self.runs.set(self.runs.get() + 1);
        fs::create_dir(self.upper()).expect("a fresh directory");
        fs::create_dir(self.path(&format!("work-{}", self.runs.get()))).expect("a fresh directory");
    }

    /// The directory that takes the changes.
    pub fn upper(&self) -> PathBuf {
        self.path(&format!("upper-{}", self.runs.get()))
    }

    /// A new layer on top.
    pub fn layer(&mut self) -> PathBuf {
        let layer = self.path(&format!("layer-{}", self.layers.len()));
        fs::create_dir(&layer).expect("a fresh directory");
        self.layers.push(layer.clone());
        layer
    }

    /// Docker's defaults, with `args` as the command.
    pub fn spec(&self, args: &[&str]) -> Spec {
        let mut spec = defaults::spec(Network::Host).expect("the default spec");
        let process = spec.process_mut().as_mut().expect("a process");
        process.set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
        spec
    }

    /// The same with a shell script.
    pub fn script(&self, script: &str) -> Spec {
        self.spec(&["/bin/sh", "-c", script])
    }

    /// Starts a spec on the layers.
    pub fn start(&self, mut spec: Spec, stdio: Stdio, init: bool) -> Result<Process, SandboxError> {
        let root = OverlayRoot {
            lowers: self.layers.clone(),
            upper: self.upper(),
            work: self.path(&format!("work-{}", self.runs.get())),
        };
        root.install(&mut spec, &self.path("mount-points"))?;
        spawn(Launch { spec: &spec, stdio, init })
    }

    /// Runs a spec to its end.
    pub fn try_run(&self, spec: Spec, init: bool) -> Result<Ran, SandboxError> {
        collect(|stdio| self.start(spec, stdio, init))
    }

    /// Runs a spec that has its own root.
    pub fn run_on(&self, spec: &Spec) -> Ran {
        collect(|stdio| spawn(Launch { spec, stdio, init: false })).expect("the sandbox starts")
    }

    /// Runs a spec that must start.
    pub fn run(&self, spec: Spec) -> Ran {
        self.try_run(spec, false).expect("the sandbox starts")
    }

    /// Runs a shell script.
    pub fn sh(&self, script: &str) -> Ran {
        self.run(self.script(script))
    }

    /// What is in the upper directory, sorted, as paths.
    pub fn changes(&self) -> Vec<String> {
        let upper = self.upper();
        let mut found = Vec::new();
        let mut ahead = vec![upper.clone()];
        while let Some(directory) = ahead.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let entry = entry.expect("an entry");
                let path = entry.path();
                found.push(path.strip_prefix(&upper).expect("below").to_string_lossy().into_owned());
                if entry.file_type().expect("a type").is_dir() {
                    ahead.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

/// Starts a process with pipes and reads them to the end.
fn collect(start: impl FnOnce(Stdio) -> Result<Process, SandboxError>) -> Result<Ran, SandboxError> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let (stdout, stderr) = (pipe(), pipe());
    let stdin = fs::File::open("/dev/null").expect("/dev/null").into();
    let process = start(Stdio::Streams { stdin, stdout: stdout.1, stderr: stderr.1 })?;
    let read = |fd: OwnedFd| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            fs::File::from(fd).read_to_end(&mut bytes).expect("a pipe can be read");
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (stdout, stderr) = (read(stdout.0), read(stderr.0));
    let code = process.wait()?.code();
    let text = |reader: std::thread::JoinHandle<String>| reader.join().expect("the reader ends");
    Ok(Ran { code, stdout: text(stdout), stderr: text(stderr) })
}
