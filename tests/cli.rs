//! The command line from outside: exit codes, streams, and the commands that need no sandbox.

use std::io::Write;
use std::path::{Path, PathBuf};
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
    bytes: Vec<u8>,
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
            bytes: output.stdout,
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
        (&["biuld"], 1, "Did you mean build?"),
        (&["image", "nope"], 1, "kiln: unknown command: kiln image nope"),
        (&["--nope"], 125, "unknown flag: --nope"),
        (&["build", "--nope"], 125, "unknown flag: --nope"),
        (&["build"], 1, "'kiln build' requires 1 argument"),
        (&["build", "a", "b"], 1, "'kiln build' requires 1 argument"),
        (&["builder", "build"], 1, "'kiln builder build' requires 1 argument"),
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
        (&["build", "--push", "."], 1, "pushing to a registry (--push) is not supported yet"),
        (&["build", "--ulimit", "nope=3", "."], 125, "invalid ulimit type: nope"),
        (&["build", "/no/such/directory"], 1, "cannot use the build context /no/such/directory"),
        (&["build", "."], 1, "failed to read dockerfile"),
        (&["build", "-f", "-", "-"], 1, "standard input cannot be both"),
    ] {
        place.kiln(words).fails(code, message);
    }
}

#[test]
fn help_goes_to_standard_output_when_asked_for() {
    let place = Place::new();
    let help = place.kiln(&["help", "build"]).ok();
    assert_eq!(help.stdout, place.kiln(&["build", "--help"]).ok().stdout);
    assert!(help.stdout.starts_with("Usage:  kiln build [OPTIONS] PATH | -\n"), "{}", help.stdout);
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
    for words in [&["version"][..], &["completion", "bash"], &["build", "--help"]] {
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
        assert!(place.kiln(&["completion", shell]).ok().stdout.contains("no-cache"), "{shell}");
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
    assert!(place.kiln(&["rmi", "-f", "nope"]).ok().stderr.contains("No such image: nope:latest"));
}

#[test]
fn lists_are_filtered_by_name_age_and_label() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let make = |name: &str, label: &str| {
        place.kiln_with(&["import", "-c", label, "-", name], &archive()).ok();
        // Ages are compared by the time in the config, which must differ.
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    make("old:1", "LABEL n=1");
    make("example.org/team/mid:1", "LABEL n=2");
    make("new:1", "LABEL n=3");
    for (words, expected) in [
        (&[][..], "new example.org/team/mid old"),
        (&["--filter", "before=new:1"], "example.org/team/mid old"),
        (&["--filter", "since=old:1"], "new example.org/team/mid"),
        (&["--filter", "since=old:1", "-f", "before=new:1"], "example.org/team/mid"),
        (&["--filter", "label=n=3"], "new"),
        (&["--filter", "label=n", "--filter", "reference=*/team/*"], "example.org/team/mid"),
        (&["--filter", "reference=o?d:*"], "old"),
        (&["--filter", "until=1h"], ""),
        (&["--filter", "until=2100-01-01"], "new example.org/team/mid old"),
        (&["--filter", "dangling=true"], ""),
        (&["nothing"], ""),
    ] {
        let words: Vec<&str> =
            ["images", "--format", "{{.Repository}}"].iter().chain(words).copied().collect();
        let list = place.kiln(&words).ok().stdout;
        assert_eq!(list.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{words:?}");
    }
    place.kiln(&["images", "--filter", "before=none"]).fails(1, "No such image: none:latest");
    place.kiln(&["images", "--filter", "label"]).fails(125, "invalid filter (expected name=value)");
}

#[test]
fn save_and_load_bring_back_the_same_image() {
    if !is_root() {
        return;
    }
    let (place, other) = (Place::new(), Place::new());
    let id = place.import("a:1");
    place.kiln(&["tag", "a:1", "a:2"]).ok();
    let streamed = place.kiln(&["save", "a"]).ok();
    let loaded = other.kiln_with(&["load"], &streamed.bytes).ok();
    assert_eq!(loaded.stdout, "Loaded image: a:1\nLoaded image: a:2\n");
    assert_eq!(other.kiln(&["images", "-q", "--no-trunc", "a:2"]).ok().stdout, format!("{id}\n"));

    let file = place.path("x.tar");
    place.kiln(&["save", "-o", file.to_str().unwrap(), &id]).ok();
    let third = Place::new();
    let loaded = third.kiln(&["load", "-i", file.to_str().unwrap()]).ok();
    assert_eq!(loaded.stdout, format!("Loaded image ID: {id}\n"));
    place.kiln(&["save", "nope"]).fails(1, "No such image: nope:latest");
    place.kiln_with(&["load"], b"this is no archive").exits(1);
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

/// Imports an image with busybox under `name`; `None`, said aloud, where that cannot be tested.
fn busybox(place: &Place, name: &str) -> Option<()> {
    let binary = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let Some(binary) = binary.filter(|_| is_root()) else {
        eprintln!("skipped: needs root and a static busybox (package busybox-static)");
        return None;
    };
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(binary, "bin/busybox").unwrap();
    for applet in ["sh", "echo", "cat", "sleep", "id", "ls", "stty", "touch"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let words = ["import", "-c", "ENV FROM=image", "-c", "CMD [\"echo\", \"default\"]", "-", name];
    place.kiln_with(&words, &tar.into_inner().unwrap()).ok();
    Some(())
}

#[test]
fn a_container_in_the_foreground() {
    let place = Place::new();
    if busybox(&place, "bb").is_none() {
        return;
    }
    place.write("env", "FILE=1\nBOTH=file\n");
    place.write("shared/f", "shared\n");
    let shared = format!("{}:/m:ro", place.path("shared").display());
    for (words, expected) in [
        (&["bb"][..], "default\n"),
        (&["--rm", "bb", "echo", "--rm", "-x"], "--rm -x\n"),
        (&["--entrypoint", "echo", "bb", "a"], "a\n"),
        (
            &[
                "-e",
                "A=b",
                "--env-file",
                "env",
                "-e",
                "BOTH=flag",
                "bb",
                "sh",
                "-c",
                "echo $A $FILE $BOTH $FROM",
            ],
            "b 1 flag image\n",
        ),
        (&["-w", "/made/here", "bb", "sh", "-c", "pwd"], "/made/here\n"),
        (&["-u", "7:8", "bb", "id", "-u"], "7\n"),
        (&["-h", "me", "bb", "sh", "-c", "echo $HOSTNAME; cat /etc/hostname"], "me\nme\n"),
        (&["-v", &shared, "bb", "sh", "-c", "cat /m/f; touch /m/x || echo refused"], "shared\nrefused\n"),
        (&["--tmpfs", "/t:size=64k", "bb", "sh", "-c", "touch /t/x && ls /t"], "x\n"),
        (&["--read-only", "bb", "sh", "-c", "touch /x || echo refused"], "refused\n"),
        (&["bb", "sh", "-c", "[ -t 1 ] || echo none; cat"], "none\n"),
    ] {
        let words: Vec<&str> = std::iter::once("run").chain(words.iter().copied()).collect();
        assert_eq!(place.kiln_with(&words, b"not for it").ok().stdout, expected, "{words:?}");
    }
    assert_eq!(place.kiln_with(&["run", "-i", "bb", "cat"], b"to it").ok().stdout, "to it");
    place.kiln(&["run", "bb", "sh", "-c", "exit 7"]).exits(7);
    place.kiln(&["run", "--init", "bb", "sh", "-c", "kill -9 $$"]).exits(137);
    place.kiln(&["run", "bb", "nope"]).fails(127, "nope");
    place.kiln(&["run", "bb", "/bin"]).fails(126, "/bin");
    place.kiln(&["run", "nope"]).fails(125, "No such image: nope:latest");
    place.kiln(&["run", "--network", "some", "bb"]).fails(125, "not supported yet");
    place.kiln(&["run", "-it", "bb"]).fails(1, "the input device is not a TTY");
    place.kiln(&["run", "-d", "bb"]).fails(125, "`--detach` is not supported yet");
    place.kiln(&["run", "-v", "name:/x", "bb"]).fails(125, "named volumes (`name`) are not supported yet");
}

#[test]
fn signals_reach_the_container() {
    let place = Place::new();
    if busybox(&place, "bb").is_none() {
        return;
    }
    let script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = place.command(&["run", "bb", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

/// What `kiln` does on a terminal of `script`(1), with `input` typed; `None` where there is none.
fn on_a_terminal(place: &Place, words: &str, input: &[u8]) -> Option<(String, Option<i32>)> {
    let line = format!("stty cols 90 rows 33; exec {} {words}", env!("CARGO_BIN_EXE_kiln"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("KILN_ROOT", place.path("store"));
    command.env("TERM", "xterm").current_dir(place.directory.path());
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: script(1) is missing");
        return None;
    };
    child.stdin.as_mut().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code()))
}

#[test]
fn a_terminal_of_its_own() {
    let place = Place::new();
    if busybox(&place, "bb").is_none() {
        return;
    }
    let script = "run -it bb sh -c '[ -t 0 ] && [ -t 2 ] && stty size; read x; echo \"<$x>\"; exit 9'";
    let Some((shown, code)) = on_a_terminal(&place, script, b"typed\r") else { return };
    assert!(shown.contains("33 90\r\n") && shown.contains("<typed>"), "{shown}");
    assert_eq!(code, Some(9));
    let without = "run bb sh -c '[ -t 1 ] || echo no terminal'";
    let Some((shown, _)) = on_a_terminal(&place, without, b"") else { return };
    assert!(shown.contains("no terminal"), "{shown}");
}

#[test]
fn a_build_draws_on_a_terminal() {
    let place = Place::new();
    if !is_root() {
        return;
    }
    let context = context(&place);
    let Some((shown, code)) = on_a_terminal(&place, &format!("build {context}"), b"") else { return };
    assert!(shown.contains("[+] Building") && shown.contains("FINISHED"), "{shown}");
    assert_eq!(code, Some(0));
}

#[test]
fn an_interrupt_ends_a_build_within_a_second() {
    let place = Place::new();
    if busybox(&place, "bb").is_none() {
        return;
    }
    place.write("slow/Dockerfile", "FROM bb\nRUN echo started; sleep 60\n");
    let mut child = place.command(&["build", "slow"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().ends_with("started")));
    let began = std::time::Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(rest.iter().any(|line| line.ends_with("CANCELED")), "{rest:?}");
}

/// A directory with a Dockerfile of instructions that run nothing.
fn context(place: &Place) -> String {
    place.write("context/file", "content\n");
    place.write(
        "context/Dockerfile",
        "FROM scratch\nARG NAME\nCOPY file /a/\nLABEL name=$NAME\nCMD [\"/a/file\"]\n",
    );
    place.path("context").to_str().unwrap().to_owned()
}

#[test]
fn a_build_says_where_it_is_on_standard_error_only() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let context = context(&place);
    let (iid, metadata) = (place.path("iid"), place.path("meta.json"));
    let words = [
        "build",
        "-t",
        "x:1",
        "--tag=x:2",
        "--iidfile",
        iid.to_str().unwrap(),
        "--metadata-file",
        metadata.to_str().unwrap(),
        "--build-arg",
        "NAME=me",
        "--label",
        "l=1",
        "--load",
        "--rm",
        "--compress",
        &context,
    ];
    let built = place.kiln(&words).ok();
    assert_eq!(built.stdout, "");
    assert!(
        built.stderr.contains("COPY file /a/") && built.stderr.contains("exporting to image"),
        "{}",
        built.stderr
    );
    let id = std::fs::read_to_string(&iid).unwrap();
    assert_eq!(
        place.kiln(&["inspect", "-f", "{{.Id}} {{index .Config.Labels \"name\"}}", "x:2"]).ok().stdout,
        format!("{id} me\n")
    );
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(value["containerimage.config.digest"], id);

    let again = place.kiln(&words).ok();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&iid).unwrap(), id, "a cached build is the same image");

    let quiet = place.kiln(&["build", "-q", "--build-arg", "NAME=me", "--label", "l=1", &context]).ok();
    assert_eq!((quiet.stdout.trim(), quiet.stderr.as_str()), (id.as_str(), ""));
    let raw = place.kiln(&["build", "--progress=rawjson", &context]).ok();
    for line in raw.stderr.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn outputs_of_a_build() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let context = context(&place);
    let out = place.path("out");
    place.kiln(&["build", "-o", out.to_str().unwrap(), &context]).ok();
    assert_eq!(std::fs::read(out.join("a/file")).unwrap(), b"content\n");
    let streamed = place.kiln(&["build", "-o", "-", &context]).ok();
    let mut tar = tar::Archive::new(&streamed.bytes[..]);
    let names: Vec<PathBuf> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.iter().any(|name| name == Path::new("a/file")), "{names:?}");
    let archive = place.path("x.tar");
    let to = format!("type=oci,dest={}", archive.display());
    place.kiln(&["build", "-t", "y:1", "-o", &to, "-o", "type=docker", &context]).ok();
    let other = Place::new();
    assert_eq!(other.kiln(&["load", "-i", archive.to_str().unwrap()]).ok().stdout, "Loaded image: y:1\n");
    place.kiln(&["inspect", "y:1"]).ok();
}

#[test]
fn the_dockerfile_from_elsewhere() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let context = context(&place);
    place.kiln_with(&["build", "-f", "-", &context], b"FROM scratch\nCOPY file /b\n").ok();
    place.kiln_with(&["build", "-"], b"FROM scratch\nLABEL a=b\n").ok();
    place
        .kiln_with(&["build", "-"], b"\x1f\x8b\x08\x00")
        .fails(1, "a build context as an archive is not supported yet");
    let other = place.write("other/web.Dockerfile", "FROM scratch\nCOPY none /\n");
    let failed = place.kiln(&["build", "-f", other.to_str().unwrap(), &context]).exits(1);
    assert!(
        failed.stderr.contains("web.Dockerfile:2") && failed.stderr.contains("ERROR: "),
        "{}",
        failed.stderr
    );
    let wrong = place.kiln_with(&["build", "-f", "-", &context], b"FROM scratch\nCPOY a b\nRNU x\n").exits(1);
    for part in ["Dockerfile:2", "Dockerfile:3", "did you mean `COPY`", "ERROR: "] {
        assert!(wrong.stderr.contains(part), "{part}: {}", wrong.stderr);
    }
}
