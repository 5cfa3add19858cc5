//! Where a test builds: a store, a context, a base image, and what is asked of a build.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln::base::clock::Clock;
use kiln::base::event::{Event, Events, Recorded, Stream};
use kiln::base::platform::Platform;
use kiln::base::span::Source;
use kiln::build::request::{BuildRequest, BuildResult, ContextInput, NoCache};
use kiln::build::solve::Cancel;
use kiln::build::{BuildError, build};
use kiln::dockerfile::instruction::RunNetwork;
use kiln::image::config::{History, ImageConfig};
use kiln::store::{Image, Store};

/// The busybox that base images are made of.
const BUSYBOX: &str = "/bin/busybox";

/// A directory with everything a test needs; gone when dropped.
pub struct Yard {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

/// What one build did.
pub struct Outcome {
    pub result: Result<BuildResult, BuildError>,
    /// What its commands wrote, both streams.
    pub log: String,
    /// The names of the steps that ran, and of those that were cached.
    pub ran: Vec<String>,
    pub cached: Vec<String>,
    pub warnings: Vec<String>,
}

impl Yard {
    /// A yard, or `None` with a word why not.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: this test needs root");
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            eprintln!("skipped: this test needs {BUSYBOX} (busybox-static)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Clock::System).unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        let yard = Self { dir, store };
        yard.import_busybox();
        Some(yard)
    }

    fn import_busybox(&self) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_mtime(1_000_000_000);
            header.set_size(content.len() as u64);
            header.set_uid(0);
            header.set_gid(0);
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            tar.append_data(&mut header, path, content).unwrap();
        };
        use tar::EntryType::{Directory, Regular, Symlink};
        for dir in ["bin", "etc", "root", "usr", "usr/bin", "var"] {
            add(&format!("{dir}/"), Directory, 0o755, b"", "");
        }
        add("tmp/", Directory, 0o1777, b"", "");
        add("bin/busybox", Regular, 0o755, &std::fs::read(BUSYBOX).unwrap(), "");
        for name in [
            "sh",
            "cat",
            "ls",
            "mkdir",
            "rm",
            "touch",
            "ln",
            "chmod",
            "chown",
            "id",
            "echo",
            "sleep",
            "stat",
            "mv",
            "cp",
            "env",
            "pwd",
            "mount",
            "hostname",
            "wc",
            "date",
            "dd",
            "grep",
            "test",
            "true",
            "false",
            "mknod",
            "find",
            "sha256sum",
            "readlink",
            "seq",
            "head",
            "awk",
            "kill",
            "mkfifo",
            "rmdir",
            "df",
            "tr",
            "sort",
            "setfattr",
        ] {
            add(&format!("bin/{name}"), Symlink, 0o777, b"", "busybox");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
        add("etc/passwd", Regular, 0o644, passwd.as_bytes(), "");
        add("etc/group", Regular, 0o644, b"root:x:0:\napps:x:1001:\nextra:x:1002:app\n", "");
        add("lib", Symlink, 0o777, b"", "usr/lib");
        add("usr/lib/", Directory, 0o755, b"", "");
        let tar = tar.into_inner().unwrap();
        let (layer, diff_id) = self.store.import_layer(&tar[..], "busybox").unwrap();
        let mut config = ImageConfig::new(&Platform::host());
        config.rootfs.diff_ids = vec![diff_id];
        config.created = Some("2001-01-01T00:00:00Z".to_owned());
        config.history = vec![History { created_by: "import".to_owned(), ..History::default() }];
        config.config.env = vec!["PATH=/bin:/usr/bin".to_owned()];
        let id = self.store.put_image(&config.to_bytes(), &[layer], None).unwrap();
        self.store.tag(&"busybox:latest".parse().unwrap(), id).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the context; directories are made.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path("context").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// A request for an image `test` of the context.
    pub fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            dockerfile: Source::new("Dockerfile", dockerfile),
            dockerfile_path: None,
            context: ContextInput::Directory(self.path("context")),
            named_contexts: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            tags: vec!["test".parse().unwrap()],
            outputs: Vec::new(),
            no_cache: NoCache::None,
            secrets: Vec::new(),
            add_hosts: Vec::new(),
            network: RunNetwork::None,
            shm_size: None,
            ulimits: Vec::new(),
            platform: None,
            hostname: String::new(),
        }
    }

    pub fn build(&self, dockerfile: &str) -> Outcome {
        self.run(self.request(dockerfile))
    }

    pub fn run(&self, request: BuildRequest) -> Outcome {
        self.run_until(request, &Cancel::new())
    }

    pub fn run_until(&self, request: BuildRequest, cancel: &Cancel) -> Outcome {
        let recorded = Recorded::default();
        let events: &dyn Events = &recorded;
        let result = build(&self.store, request, events, cancel);
        let mut outcome =
            Outcome { result, log: String::new(), ran: Vec::new(), cached: Vec::new(), warnings: Vec::new() };
        let mut names = BTreeMap::new();
        for event in recorded.take() {
            match event {
                Event::Declared { vertex, name, .. } => drop(names.insert(vertex, name.to_string())),
                Event::Log { bytes, stream: Stream::Stdout | Stream::Stderr, .. } => {
                    outcome.log.push_str(&String::from_utf8_lossy(&bytes));
                }
                Event::Cached { vertex, .. } => outcome.cached.push(names[&vertex].clone()),
                Event::Finished { vertex, .. } => outcome.ran.push(names[&vertex].clone()),
                Event::Warning { message, .. } => outcome.warnings.push(message),
                _ => {}
            }
        }
        outcome
    }

    /// Builds, and gives the log; a failure ends the test.
    pub fn log(&self, dockerfile: &str) -> String {
        let outcome = self.build(dockerfile);
        outcome.expect();
        outcome.log
    }

    /// The image that `result` names.
    pub fn image(&self, result: &BuildResult) -> Image {
        self.store.image(result.image.unwrap()).unwrap().unwrap()
    }

    /// The entries of the last layer of the built image: `path mode uid:gid what`, one line each.
    pub fn last_layer(&self, dockerfile: &str) -> String {
        let outcome = self.build(dockerfile);
        let image = self.image(outcome.expect());
        let mut tar = Vec::new();
        let layer = *image.layers.last().unwrap();
        std::io::copy(&mut self.store.open_tar(layer).unwrap(), &mut tar).unwrap();
        listing(&tar)
    }
}

/// A tar's entries, one line each.
pub fn listing(tar: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let header = entry.header().clone();
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        let mut text = String::new();
        let what = match header.entry_type() {
            tar::EntryType::Regular => {
                use std::io::Read;
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                text.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
                format!(" {:?}", text)
            }
            tar::EntryType::Directory => String::new(),
            tar::EntryType::Symlink => format!(" -> {}", link.unwrap()),
            tar::EntryType::Link => format!(" = {}", link.unwrap()),
            other => format!(" {other:?}"),
        };
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        lines.push(format!("{path} {mode:o} {uid}:{gid}{what}"));
    }
    lines.join("\n")
}

impl Outcome {
    /// The result of a build that must not fail.
    #[track_caller]
    pub fn expect(&self) -> &BuildResult {
        match &self.result {
            Ok(result) => result,
            Err(error) => panic!("the build failed: {}\n{}", self.error_text(error), self.log),
        }
    }

    fn error_text(&self, error: &BuildError) -> String {
        let mut text = match error.diagnostics() {
            Some(diagnostics) => diagnostics.render(false),
            None => error.to_string(),
        };
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}\n  because: {error}");
            cause = error.source();
        }
        text
    }

    /// The message of a build that must fail.
    #[track_caller]
    pub fn failure(&self) -> String {
        match &self.result {
            Ok(_) => panic!("the build did not fail:\n{}", self.log),
            Err(error) => self.error_text(error),
        }
    }
}
