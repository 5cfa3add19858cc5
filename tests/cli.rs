//! The command line from outside: exit codes, streams, and the commands that need no sandbox.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A store and a directory of its own for each test.
struct Place {
    directory: tempfile::TempDir,
}

/// What a command did.
struct Outcome {
    words: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        for name in ["BUILDKIT_PROGRESS", "DOCKER_DEFAULT_PLATFORM", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.args(words).env("KILN_ROOT", self.path("store")).current_dir(self.directory.path());
        command
    }

    fn kiln(&self, words: &[&str]) -> Outcome {
        self.kiln_with(words, b"")
    }

    fn kiln_with(&self, words: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads no input may be gone before all of it is written.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Outcome {
            words: words.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Imports a small root file system as `name`; gives its ID.
    fn import(&self, name: &str) -> String {
        let words = ["import", "-m", "made", "-c", "CMD [\"/bin/x\"]", "-c", "LABEL a=b", "-", name];
        self.kiln_with(&words, &archive()).ok().stdout.trim().to_owned()
    }
}

impl Outcome {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        let Self { words, stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "kiln {words}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        assert!(!stderr.contains('\x1b'), "escape sequences: {stderr}");
        self
    }

    #[track_caller]
    fn ok(self) -> Self {
        self.exits(0)
    }

    /// That it failed with `code`, said `message`, and nothing on standard output.
    #[track_caller]
    fn fails(self, code: i32, message: &str) {
        let this = self.exits(code);
        assert!(this.stderr.contains(message), "kiln {}: {}", this.words, this.stderr);
        assert_eq!(this.stdout, "", "kiln {}", this.words);
    }
}

/// A tar with a directory and a file.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    tar.append_data(&mut header, "bin/", &b""[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(5);
    tar.append_data(&mut header, "bin/x", &b"hello"[..]).unwrap();
    tar.into_inner().unwrap()
}

/// Commands that use the store need root.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: the store needs root for now");
    }
    root
}

#[test]
fn usage_errors_have_dockers_words_and_codes() {
    let place = Place::new();
    for (words, code, message) in [
        (&["nope"][..], 1, "kiln: unknown command: kiln nope"),
        (&["image", "nope"], 1, "kiln: unknown command: kiln image nope"),
        (&["--nope"], 125, "unknown flag: --nope"),
        (&["run"], 1, "'kiln run' requires at least 1 argument"),
        (&["run", "--rm"], 1, "'kiln run' requires at least 1 argument"),
        (&["run", "-e"], 125, "flag needs an argument: -e, --env"),
        (&["run", "--rm=foo", "x"], 125, "invalid argument \"foo\" for \"--rm\" flag"),
        (&["run", "--memory", "foo", "x"], 125, "for \"-m, --memory\" flag: invalid size: 'foo'"),
        (&["run", "--detach", "x"], 125, "`--detach` is not supported yet"),
        (&["images", "a", "b"], 1, "'kiln images' requires at most 1 argument"),
        (&["rmi"], 1, "'kiln rmi' requires at least 1 argument"),
        (&["tag", "a"], 1, "'kiln tag' requires 2 arguments"),
        (&["info", "x"], 1, "'kiln info' accepts no arguments"),
    ] {
        place.kiln(words).fails(code, message);
    }
}

#[test]
fn help_goes_to_standard_output_when_asked_for() {
    let place = Place::new();
    let help = place.kiln(&["help", "run"]).ok();
    assert!(
        help.stdout.starts_with("Usage:  kiln run [OPTIONS] IMAGE [COMMAND] [ARG...]\n"),
        "{}",
        help.stdout
    );
    assert!(place.kiln(&["run", "-h"]).code == Some(125), "-h is the host name of a container");
    let bare = place.kiln(&[]).ok();
    assert_eq!((bare.stdout.as_str(), bare.stderr.contains("Common Commands:")), ("", true));
    assert_eq!(place.kiln(&["image"]).ok().stdout, "");
}

#[test]
fn what_needs_no_root_works_without() {
    if !is_root() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let binary = place.path("kiln");
    std::fs::copy(env!("CARGO_BIN_EXE_kiln"), &binary).unwrap();
    std::fs::set_permissions(place.directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let run = |words: &[&str]| Command::new(&binary).args(words).uid(65534).output().unwrap();
    for words in [&["version"][..], &["completion", "bash"], &["run", "--help"]] {
        assert!(run(words).status.success(), "{words:?}");
    }
    let output = run(&["images"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).trim(),
        "ERROR: `kiln images` needs root for now: run it with sudo"
    );
}

#[test]
fn parse_prints_json_and_nothing_else() {
    let place = Place::new();
    let file = place.write("Dockerfile", "FROM a\nRUN --x b\n");
    let parsed = place.kiln(&["parse", "--json", file.to_str().unwrap()]).ok();
    assert_eq!(parsed.stderr, "");
    let value: serde_json::Value = serde_json::from_str(&parsed.stdout).unwrap();
    assert_eq!(value["instructions"][1]["flags"][0], "--x");
    place.kiln_with(&["parse", "--json", "-"], b"FROM a\nENV b\n").fails(1, "Dockerfile:2");
    place.kiln(&["parse", "--json", "none"]).fails(1, "cannot read none");
}

#[test]
fn version_and_completions() {
    let place = Place::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(place.kiln(&["--version"]).ok().stdout, format!("kiln version {version}\n"));
    let format = ["version", "--format", "{{.Server.Version}}"];
    assert_eq!(place.kiln(&format).ok().stdout, format!("{version}\n"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.kiln(&["completion", shell]).ok().stdout.contains("no-trunc"), "{shell}");
    }
    place.kiln(&["completion", "tcsh"]).fails(1, "the shells are bash, zsh and fish");
}

#[test]
fn closed_output_is_no_panic() {
    let place = Place::new();
    let mut child =
        place.command(&["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr), "");
}

#[test]
fn an_image_through_its_life() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let id = place.import("first:1");
    let hex = id.strip_prefix("sha256:").expect("an ID");
    assert_eq!(hex.len(), 64);
    place.kiln(&["tag", "first:1", "localhost:5000/second"]).ok();

    let list = place.kiln(&["images"]).ok();
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(lines[0].starts_with("REPOSITORY"), "{}", list.stdout);
    assert_eq!(lines.len(), 3, "{}", list.stdout);
    let short = &hex[..12];
    assert_eq!(place.kiln(&["images", "-q", "first"]).ok().stdout, format!("{short}\n"));
    assert_eq!(place.kiln(&["image", "ls", "-q", "--no-trunc", "first:1"]).ok().stdout, format!("{id}\n"));
    let format = ["images", "--filter", "label=a=b", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"];
    assert_eq!(place.kiln(&format).ok().stdout, "first:1 5B\nlocalhost:5000/second:latest 5B\n");
    assert_eq!(place.kiln(&["images", "-q", "--filter", "dangling=true"]).ok().stdout, "");
    place.kiln(&["images", "--filter", "nope=1"]).fails(1, "invalid filter `nope=1`");

    let inspected = place.kiln(&["inspect", short]).ok().stdout;
    let value: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(value[0]["Id"], id);
    assert_eq!(value[0]["Config"]["Cmd"], serde_json::json!(["/bin/x"]));
    assert_eq!(value[0]["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let template = "{{.Config.Cmd}} {{index .Config.Labels \"a\"}} {{.Config.Entrypoint}}";
    assert_eq!(place.kiln(&["inspect", "-f", template, "first:1"]).ok().stdout, "[/bin/x] b []\n");
    let missing = place.kiln(&["inspect", "nope"]).exits(1);
    assert_eq!((missing.stdout.as_str(), missing.stderr.contains("No such image: nope")), ("[]\n", true));

    let history = place.kiln(&["history", "--format", "{{.ID}} {{.Size}} {{.Comment}}", "first:1"]).ok();
    assert_eq!(history.stdout, format!("{short} 5B made\n"));
    assert!(place.kiln(&["system", "df"]).ok().stdout.contains("Images"));
    assert!(place.kiln(&["info", "-f", "{{.Images}}"]).ok().stdout == "1\n");

    let untagged = place.kiln(&["rmi", "localhost:5000/second"]).ok();
    assert_eq!(untagged.stdout, "Untagged: localhost:5000/second:latest\n");
    let removed = place.kiln(&["rmi", "first:1", "nope"]).exits(1);
    assert_eq!(removed.stdout, format!("Untagged: first:1\nDeleted: {id}\n"));
    assert_eq!(place.kiln(&["images", "-aq"]).ok().stdout, "");
}

#[test]
fn pruning_asks_first() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.import("a:1");
    place.kiln(&["tag", "a:1", "b:1"]).ok();
    let id = place.kiln_with(&["import", "-c", "LABEL x=y", "-", "a:1"], &archive()).ok().stdout;
    place.kiln(&["rmi", "a:1"]).ok();
    assert_eq!(place.kiln(&["images", "-q", "--no-trunc", "--filter", "label=x"]).ok().stdout, "");
    let dangling = place.kiln_with(&["import", "-c", "LABEL x=z", "-"], &archive()).ok().stdout;
    assert_ne!(id, dangling);
    let asked = place.kiln_with(&["image", "prune"], b"n\n").ok();
    assert!(asked.stdout.ends_with("Are you sure you want to continue? [y/N] "), "{}", asked.stdout);
    let pruned = place.kiln_with(&["image", "prune"], b"y\n").ok();
    assert!(pruned.stdout.contains(&format!("deleted: {dangling}")), "{}", pruned.stdout);
    let pruned = place.kiln(&["image", "prune", "-af"]).ok();
    assert!(pruned.stdout.contains("untagged: b:1") && pruned.stdout.contains("Total reclaimed space: "));
    let pruned = place.kiln(&["builder", "prune", "-f"]).ok();
    assert!(pruned.stdout.contains("Total reclaimed space: "), "{}", pruned.stdout);
}
