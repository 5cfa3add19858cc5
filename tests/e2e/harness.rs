//! Runs the `kiln` under test on a store of its own and prints everything when it fails.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A store in a temporary directory, and the command that uses it.
pub struct Kiln {
    root: TempDir,
}

impl Kiln {
    /// An empty store.
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a temporary directory can be made") }
    }

    /// A store with the image `busybox`.
    pub fn with_busybox() -> Self {
        let kiln = Self::new();
        kiln.ok(["import", path_text(busybox_archive()), "busybox"]);
        kiln
    }

    /// A scratch directory that goes with the store.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.root.path().join("work").join(name);
        fs::create_dir_all(&dir).expect("a scratch directory can be made");
        dir
    }

    /// `kiln ARGS`, with an environment that says nothing but where the store is.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.args(args).env("KILN_ROOT", self.root.path().join("store")).stdin(Stdio::null());
        for name in ["BUILDKIT_PROGRESS", "DOCKER_DEFAULT_PLATFORM", "NO_COLOR", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `kiln ARGS`, which must succeed.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        run(&mut self.command(args)).success()
    }

    /// Runs `kiln ARGS`, which must fail.
    pub fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let ran = run(&mut self.command(args));
        assert!(!ran.output.status.success(), "this should have failed\n{ran}");
        ran
    }

    /// Builds the Dockerfile `text` on an empty context.
    pub fn build_text(&self, text: &str, more: &[&str]) -> Ran {
        let context = self.dir("empty-context");
        let file = self.dir("dockerfiles").join("Dockerfile");
        fs::write(&file, text).expect("a Dockerfile can be written");
        let mut args = vec!["build", "--progress=plain", "-f", path_text(&file)];
        args.extend_from_slice(more);
        args.push(path_text(&context));
        run(&mut self.command(args))
    }
}

/// A command that ended, shown whole when a test fails on it.
pub struct Ran {
    command: String,
    /// Its status and both streams.
    pub output: Output,
}

impl Ran {
    /// Itself, if it exited with 0.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.output.status.success(), "this should have succeeded\n{self}");
        self
    }

    /// The exit code.
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    /// Standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.output.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// Fails unless standard error holds `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr().contains(text), "standard error should hold `{text}`\n{self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}\n{}", self.command, self.output.status)?;
        write!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let text = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{text}: {error} (see tests/run)"));
    Ran { command: text, output }
}

/// Runs a program that is not kiln's; it must succeed.
#[track_caller]
pub fn tool<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Ran {
    run(Command::new(program).args(args).stdin(Stdio::null())).success()
}

/// A path as text; every path of these tests is.
pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("the paths of these tests are UTF-8")
}

/// A directory of `fixtures/e2e`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/e2e").join(name)
}

/// Copies a fixture to where files can be added to it.
pub fn copy_of(name: &str, to: &Path) {
    tool("cp", ["-a", &format!("{}/.", path_text(&fixture(name))), path_text(to)]);
}

/// What later runs can use again: `target/e2e`.
pub fn kept_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

/// A root file system of Debian's busybox-static and a few users, as a tar.
pub fn busybox_archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let dir = tempfile::tempdir_in(kept_dir()).expect("a temporary directory can be made");
        let root = dir.path().join("rootfs");
        for name in ["bin", "dev", "etc", "home/app", "proc", "root", "sys", "tmp", "var/tmp"] {
            fs::create_dir_all(root.join(name)).expect("a directory can be made");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("busybox-static is installed (see tests/run)");
        let applets = tool("/bin/busybox", ["--list"]).stdout();
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("a link can be made");
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
        )
        .expect("a file can be written");
        fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:1001:app\n")
            .expect("a file can be written");
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode can be set");
        let archive = dir.path().join("busybox.tar");
        tool(
            "tar",
            [
                "-C",
                path_text(&root),
                "--numeric-owner",
                "--owner=0",
                "--group=0",
                "-cf",
                path_text(&archive),
                ".",
            ],
        );
        let kept = kept_dir().join(format!("busybox-{}.tar", std::process::id()));
        fs::rename(&archive, &kept).expect("a file can be renamed");
        kept
    })
}

/// Debian minbase, made once by debootstrap and kept.
pub fn debian_archive() -> PathBuf {
    let kept = kept_dir().join("debian-minbase.tar");
    let lock = fs::File::create(kept_dir().join("debian-minbase.lock")).expect("a lock file can be made");
    lock.lock().expect("a file can be locked");
    if kept.exists() {
        return kept;
    }
    let dir = tempfile::tempdir_in(kept_dir()).expect("a temporary directory can be made");
    let root = dir.path().join("rootfs");
    tool("debootstrap", ["--variant=minbase", "bookworm", path_text(&root)]);
    let archive = dir.path().join("debian.tar");
    tool("tar", ["-C", path_text(&root), "--numeric-owner", "-cf", path_text(&archive), "."]);
    fs::rename(&archive, &kept).expect("a file can be renamed");
    kept
}
