//! Containers of images made on the spot, in a store of their own. They need root and a static
//! busybox, and say so where one is missing.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Container, ContainerError, Mount, Network, RunOptions, State, start};
use crate::base::clock::Clock;
use crate::base::platform::Platform;
use crate::image::config::{ImageConfig, RunConfig};
use crate::layer::scan::scan_tree;
use crate::sandbox::Stdio;
use crate::store::{Image, Store};

const APPLETS: [&str; 12] =
    ["sh", "cat", "id", "ls", "env", "hostname", "pwd", "true", "test", "touch", "grep", "stat"];

struct Bench {
    directory: TempDir,
    store: Store,
}

/// How a container ended and what it wrote.
#[derive(Debug)]
struct Ran {
    code: i32,
    output: String,
}

impl Bench {
    fn new() -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().any(|path| Path::new(path).exists());
        if !rustix::process::geteuid().is_root() || !busybox {
            eprintln!("skipped: containers need root and a static busybox (package busybox-static)");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("store"), Clock::System).unwrap();
        Some(Self { directory, store })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An image of one layer with busybox, users, and what `fill` adds.
    fn image(&self, config: RunConfig, fill: impl FnOnce(&Path)) -> Image {
        let prepared = self.store.prepare().unwrap();
        let tree = prepared.path().join("tree");
        for directory in ["bin", "etc", "data"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", tree.join("bin").join(applet)).unwrap();
        }
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nana:x:7:8::/home/ana:/bin/sh\n")
            .unwrap();
        fs::write(tree.join("etc/group"), "eight:x:8:\nnine:x:9:ana\nten:x:10:\n").unwrap();
        fill(&tree);
        let index = scan_tree(&tree).unwrap();
        let layer = self.store.commit_tree(prepared, &index, None).unwrap();
        let mut image = ImageConfig::new(&Platform::host());
        image.config = config;
        image.rootfs.diff_ids = vec![self.store.diff_id(layer).unwrap()];
        let id = self.store.put_image(&image.to_bytes(), &[layer], None).unwrap();
        self.store.image(id).unwrap().unwrap()
    }

    fn start(&self, image: &Image, options: &RunOptions) -> Result<(Container, File), ContainerError> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdin = File::open("/dev/null").unwrap().into();
        let stdio = Stdio::Streams { stdin, stdout: theirs.try_clone().unwrap(), stderr: theirs };
        Ok((start(&self.store, image, options, stdio)?, ours.into()))
    }

    fn run(&self, image: &Image, options: &RunOptions) -> Ran {
        let (container, mut output) = self.start(image, options).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        Ran { code: container.wait().unwrap().code(), output: text }
    }

    /// The directories of containers.
    fn homes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.store.root().join("containers")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn sh(script: &str) -> RunOptions {
    RunOptions { command: words(&["/bin/sh", "-c", script]), rm: true, ..RunOptions::default() }
}

#[test]
fn the_image_says_what_the_options_leave_open() {
    let Some(bench) = Bench::new() else { return };
    let config = RunConfig {
        user: "ana".into(),
        env: words(&["PATH=/bin", "A=1"]),
        cmd: Some(words(&["sh", "-c", "id; pwd; echo $A $HOME $HOSTNAME; hostname"])),
        working_dir: "/new/place".into(),
        ..RunConfig::default()
    };
    let image = bench.image(config, |_| {});
    let options = RunOptions { hostname: Some("box".into()), rm: true, ..RunOptions::default() };
    insta::assert_snapshot!(bench.run(&image, &options).output, @r"
    uid=7(ana) gid=8(eight) groups=9(nine)
    /new/place
    1 /home/ana box
    box
    ");
    let options = RunOptions {
        user: Some("0:10".into()),
        workdir: Some("/etc/../data".into()),
        env: vec![("A".into(), "2".into())],
        group_add: words(&["nine"]),
        ..options
    };
    insta::assert_snapshot!(bench.run(&image, &options).output, @r"
    uid=0(root) gid=10(ten) groups=9(nine)
    /data
    2 /root box
    box
    ");
    assert!(bench.homes().is_empty());
}

#[test]
fn what_stays_of_a_container() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.image(RunConfig::default(), |_| {});
    let options = RunOptions { rm: false, ..sh("echo x > /new; hostname; exit 3") };
    let ran = bench.run(&image, &options);
    assert_eq!(ran.code, 3);
    let homes = bench.homes();
    assert_eq!(homes.len(), 1);
    let state: State = serde_json::from_slice(&fs::read(homes[0].join("state.json")).unwrap()).unwrap();
    assert_eq!(ran.output.trim(), &state.id[..12]);
    assert_eq!((state.exit_code, state.process, state.image), (Some(3), None, image.id));
    let left: Vec<_> =
        fs::read_dir(homes[0].join("upper")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["new"]);
    let spec = oci_spec::runtime::Spec::load(homes[0].join("config.json")).unwrap();
    assert_eq!(spec.hostname().as_deref(), Some(ran.output.trim()));
    assert_eq!(fs::metadata(&homes[0]).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_container_that_does_not_start_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.image(RunConfig::default(), |_| {});
    let run = |change: fn(&mut RunOptions)| {
        let mut options = RunOptions { rm: false, ..sh("true") };
        change(&mut options);
        bench.start(&image, &options).unwrap_err()
    };
    let error = run(|options| options.command = words(&["no-such"]));
    assert_eq!(error.exit_code(), 127);
    let error = run(|options| options.command = words(&["/etc/passwd"]));
    assert_eq!(error.exit_code(), 126);
    let error = run(|options| options.user = Some("nobody-here".into()));
    assert_eq!(error.exit_code(), 125);
    assert!(error.to_string().contains("nobody-here"), "{error}");
    let error = run(|options| options.command.clear());
    assert!(matches!(error, ContainerError::NoCommand), "{error}");
    let error = run(|options| options.sysctls = vec![("kernel.panic".into(), "1".into())]);
    assert_eq!(error.exit_code(), 125);
    assert!(bench.homes().is_empty());
}

#[test]
fn files_of_etc_belong_to_the_container() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.image(RunConfig::default(), |tree| {
        symlink("../run/resolv.conf", tree.join("etc/resolv.conf")).unwrap();
    });
    let mut options = sh(
        "cat /etc/hosts | grep -E 'db|up|box'; cat /etc/hostname; echo x >> /etc/hosts && cat /etc/resolv.conf",
    );
    options.hostname = Some("box".into());
    options.add_hosts = vec![("db".into(), "10.0.0.7".into()), ("up".into(), "host-gateway".into())];
    options.rm = false;
    let ran = bench.run(&image, &options);
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(ran.output, format!("10.0.0.7\tdb\n127.0.0.1\tup\n127.0.1.1\tbox\nbox\n{resolver}"));
    assert_eq!(fs::read_dir(bench.homes()[0].join("upper")).unwrap().count(), 0);
}

#[test]
fn mounts_and_volumes() {
    let Some(bench) = Bench::new() else { return };
    let volumes = ["/data", "/fresh", "/taken"].map(str::to_owned).into();
    let image = bench.image(RunConfig { volumes, ..RunConfig::default() }, |tree| {
        fs::create_dir(tree.join("data/deep")).unwrap();
        fs::write(tree.join("data/deep/file"), "from the image\n").unwrap();
        fs::hard_link(tree.join("data/deep/file"), tree.join("data/link")).unwrap();
        symlink("deep/file", tree.join("data/symbolic")).unwrap();
        fs::set_permissions(tree.join("data"), fs::Permissions::from_mode(0o751)).unwrap();
    });
    let source = bench.path("made/for/it");
    let mut options = sh(
        "cat /data/deep/file /data/link /data/symbolic; stat -c %a /data; echo new > /data/new; echo new > /fresh/new
         echo new > /taken/new; cat /taken/new; echo no > /read-only/file; echo new > /memory/file; echo no > /root-is-not",
    );
    let bind = |target: &str, readonly| Mount::Bind {
        source: source.clone(),
        target: target.into(),
        readonly,
        propagation: None,
        create: true,
    };
    let tmpfs = Mount::Tmpfs { target: "/memory".into(), options: words(&["size=64k", "mode=700"]) };
    options.mounts = vec![bind("/taken", false), bind("/read-only", true), tmpfs];
    options.read_only = true;
    options.rm = false;
    let ran = bench.run(&image, &options);
    insta::assert_snapshot!(ran.output, @r"
    from the image
    from the image
    from the image
    751
    new
    /bin/sh: can't create /read-only/file: Read-only file system
    /bin/sh: can't create /root-is-not: Read-only file system
    ");
    assert_eq!(fs::read_to_string(source.join("new")).unwrap(), "new\n");
    let home = &bench.homes()[0];
    assert_eq!(fs::read_to_string(home.join("volumes/0/new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(home.join("volumes/1/new")).unwrap(), "new\n");
    assert!(!home.join("volumes/2").exists());
    assert_eq!(fs::read_dir(home.join("upper")).unwrap().count(), 0);
}

#[test]
fn security_options_reach_the_process() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.image(RunConfig::default(), |_| {});
    let profile = bench.path("profile.json");
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    fs::write(&profile, json).unwrap();
    let mut options = sh("grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; busybox mkdir /x");
    options.cap_drop = words(&["ALL"]);
    options.cap_add = words(&["CHOWN"]);
    options.security_opts = vec!["no-new-privileges".into(), format!("seccomp={}", profile.display())];
    options.network = Network::None;
    options.init = true;
    insta::assert_snapshot!(bench.run(&image, &options).output.replace('\t', " "), @r"
    CapEff: 0000000000000001
    NoNewPrivs: 1
    Seccomp: 2
    mkdir: can't create directory '/x': No space left on device
    ");
    options.security_opts = words(&["seccomp=unconfined"]);
    let output = bench.run(&image, &options).output;
    assert!(output.contains("Seccomp:\t0") && output.contains("NoNewPrivs:\t0"), "{output}");
    options.privileged = true;
    options.cap_drop.clear();
    options.cap_add.clear();
    assert!(bench.run(&image, &options).output.contains("Seccomp:\t0"));
}

#[test]
fn dropping_a_container_ends_it() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.image(RunConfig::default(), |_| {});
    let (container, mut output) = bench.start(&image, &sh("echo up; while true; do cat; done")).unwrap();
    let mut up = [0; 3];
    output.read_exact(&mut up).unwrap();
    assert_eq!(bench.homes().len(), 1);
    drop(container);
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(bench.homes().is_empty());
}
