//! Real sandboxes, looked at from the inside by busybox and a probe, and from the outside by what
//! they leave behind. They need root and a static busybox, and say so where one is missing.

mod sandbox_bench;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use kiln::sandbox::defaults::{self, Network};
use kiln::sandbox::{Exit, SandboxError, Stdio};
use oci_spec::runtime::Spec;
use sandbox_bench::{Bench, Ran};

/// A bench with busybox in its lowest layer; without one the test ends here and says why.
macro_rules! bench {
    () => {
        match Bench::new() {
            Ok(bench) => bench,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return;
            }
        }
    };
}

#[test]
fn a_command_runs_as_pid_1_and_its_code_comes_back() {
    let bench = bench!();
    let Ran { code, stdout, .. } = bench.sh("echo pid $$; exit 7");
    assert_eq!((code, stdout.as_str()), (7, "pid 1\n"));
    bench.fresh_upper();
    let process = bench.start(bench.spec(&["sleep", "1000"]), null(), false).unwrap();
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap(), Exit::Signal(9));
    assert_eq!(process.wait().unwrap().code(), 137);
}

fn null() -> Stdio {
    Stdio::null().unwrap()
}

#[test]
fn the_upper_is_the_diff_and_devices_of_the_host_stay_closed() {
    let bench = bench!();
    let ran =
        bench.sh("echo new > /file; mknod /disk b 254 0; cat /disk; mknod /dev/disk b 254 0; cat /dev/disk");
    assert_eq!(ran.code, 1, "{ran:?}");
    for name in ["/disk", "/dev/disk"] {
        assert!(ran.stderr.contains(&format!("'{name}': Operation not permitted")), "{ran:?}");
    }
    assert_eq!(bench.changes(), ["disk", "file"]);
}

#[test]
fn what_the_process_is() {
    let bench = bench!();
    let mut spec = bench.script(
        "hostname; id; pwd; umask; env; ls /proc/1/fd; cat /proc/sys/kernel/domainname
         grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status",
    );
    spec.set_hostname(Some("box".into())).set_domainname(Some("example".into()));
    spec.process_mut().as_mut().unwrap().set_cwd("/made/for/it".into());
    let ran = bench.run(spec);
    insta::assert_snapshot!(ran.stdout.replace('\t', " "), @r"
    box
    uid=0 gid=0
    /made/for/it
    0022
    SHLVL=1
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    PWD=/made/for/it
    0
    1
    2
    example
    CapInh: 0000000000000000
    CapPrm: 00000000a80425fb
    CapEff: 00000000a80425fb
    CapBnd: 00000000a80425fb
    CapAmb: 0000000000000000
    NoNewPrivs: 0
    Seccomp: 2
    ");
    assert_eq!(bench.changes(), ["made", "made/for", "made/for/it"]);
    bench.fresh_upper();
    let ran = bench.run(bench.spec(&["grep", "-hE", "^Sig(Blk|Ign|Cgt)", "/proc/1/status"]));
    assert_eq!(ran.stdout.replace(['0', '\t'], ""), "SigBlk:\nSigIgn:\nSigCgt:\n");
}

#[test]
fn what_is_mounted() {
    let bench = bench!();
    let ran = bench.sh("while read -r id parent dev root point options rest; do
           case $point in /proc/*|/sys/firmware|/sys/devices/*) continue;; esac
           echo $point $options ${rest%% *}
         done < /proc/self/mountinfo | sort; ls /dev /dev/pts; readlink /dev/fd; readlink /dev/ptmx");
    insta::assert_snapshot!(ran.stdout, @r"
    / rw,relatime -
    /dev rw,nosuid -
    /dev/mqueue rw,nosuid,nodev,noexec,relatime -
    /dev/pts rw,nosuid,noexec,relatime -
    /dev/shm rw,nosuid,nodev,noexec,relatime -
    /proc rw,nosuid,nodev,noexec,relatime -
    /sys ro,nosuid,nodev,noexec,relatime -
    /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime -
    /dev:
    fd
    full
    mqueue
    null
    ptmx
    pts
    random
    shm
    stderr
    stdin
    stdout
    tty
    urandom
    zero

    /dev/pts:
    ptmx
    /proc/self/fd
    pts/ptmx
    ");
}

#[test]
fn masked_and_read_only_paths() {
    let bench = bench!();
    let ran = bench.sh(
        "for path in /proc/acpi /proc/scsi /sys/firmware; do [ -e $path ] && ls -A $path; done
         for path in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -e $path ] && cat $path; done
         for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run; do
           [ -e $path ] && { echo x > $path; } 2>/dev/null && echo wrote $path; done
         chmod 777 /proc/timer_list 2>/dev/null && echo changed; true",
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn failures_of_the_command_have_dockers_codes() {
    let mut bench = bench!();
    let layer = bench.layer();
    let file = |name: &str, content: &str, mode| {
        fs::write(layer.join(name), content).unwrap();
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    file("plain", "no program", 0o644);
    file("garbage", "\x7fELF garbage", 0o755);
    file("script", "#!/no/interpreter\n", 0o755);
    for (command, code) in [
        ("/no/such", 127),
        ("no-such", 127),
        ("/plain/below", 127),
        ("/script", 127),
        ("/plain", 126),
        ("/bin", 126),
        ("/garbage", 126),
    ] {
        bench.fresh_upper();
        let error = bench.try_run(bench.spec(&[command]), false).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(command), "{error}");
        bench.fresh_upper();
        let error = bench.try_run(bench.spec(&[command]), true).unwrap_err();
        assert_eq!(error.exit_code(), code, "with init: {error}");
    }
    bench.fresh_upper();
    let mut spec = bench.spec(&["/bin/true"]);
    spec.process_mut().as_mut().unwrap().set_cwd("/plain".into());
    let error = bench.try_run(spec, false).unwrap_err();
    assert_eq!(error.exit_code(), 125);
    assert_eq!(
        error.to_string(),
        "cannot set up the container: changing to the working directory \"/plain\": Not a directory (os error 20)"
    );
}

#[test]
fn the_search_path_is_the_containers() {
    let mut bench = bench!();
    let layer = bench.layer();
    for (directory, mode) in [("first", 0o644), ("second", 0o755)] {
        fs::create_dir(layer.join(directory)).unwrap();
        fs::write(layer.join(directory).join("tool"), "#!/bin/sh\necho $0").unwrap();
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(layer.join(directory).join("tool"), permissions).unwrap();
    }
    let mut spec = bench.spec(&["tool"]);
    let path = "PATH=relative:/missing:/first:/second".to_owned();
    spec.process_mut().as_mut().unwrap().set_env(Some(vec![path]));
    assert_eq!(bench.run(spec).stdout, "/second/tool\n");
}

/// An image that names what is behind /proc/self gets nothing of the caller.
#[test]
fn nothing_of_the_caller_is_in_reach() {
    let mut bench = bench!();
    let layer = bench.layer();
    fs::write(layer.join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(layer.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", layer.join("link")).unwrap();
    for command in ["/proc/self/exe", "/link", "/script"] {
        bench.fresh_upper();
        // The file behind it is the init program, read-only memory that fails for want of orders.
        if let Ok(ran) = bench.try_run(bench.spec(&[command, "x"]), false) {
            assert!(ran.stdout.is_empty() && ran.code != 0, "{command}: {ran:?}");
        }
    }
    for number in 0..40 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}/..")] {
            bench.fresh_upper();
            let mut spec = bench.spec(&["/bin/true"]);
            spec.process_mut().as_mut().unwrap().set_cwd(path.clone().into());
            assert!(bench.try_run(spec, false).is_err(), "{path}");
            if number > 2 {
                bench.fresh_upper();
                let command = format!("{path}/bin/true");
                assert!(bench.try_run(bench.spec(&[&command]), false).is_err(), "{command}");
            }
        }
    }
}

#[test]
fn a_mount_point_never_leads_out_of_the_image() {
    let mut bench = bench!();
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    let source = bench.path("source");
    fs::write(&source, "mounted\n").unwrap();
    let layer = bench.layer();
    let climbing = format!("../../../../../../../..{}", outside.display());
    symlink(&outside, layer.join("absolute")).unwrap();
    symlink(climbing, layer.join("climbing")).unwrap();
    symlink("/proc/self/root/tmp", layer.join("magic")).unwrap();
    for target in ["/absolute/new", "/climbing/new"] {
        bench.fresh_upper();
        let mut spec = bench.script(&format!("cat {target}"));
        spec.mounts_mut().as_mut().unwrap().push(defaults::bind(&source, target, true));
        assert_eq!(bench.run(spec).stdout, "mounted\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(bench.changes(), [""; 0], "{target}");
    }
    bench.fresh_upper();
    let mut spec = bench.spec(&["true"]);
    spec.mounts_mut().as_mut().unwrap().push(defaults::bind(&source, "/magic/new", true));
    assert!(bench.try_run(spec, false).is_err());
    bench.fresh_upper();
    fs::remove_file(layer.join("magic")).unwrap();
    symlink("/bin", layer.join("proc")).unwrap();
    let error = bench.try_run(bench.spec(&["true"]), false).unwrap_err();
    assert!(error.to_string().contains("/proc"), "{error}");
}

/// What a layer says about the place of a mount, and what the process does around it.
#[test]
fn mount_points_leave_no_trace() {
    // What it is, what a layer has, the target, what the process does, what it changes by that.
    type Case = (&'static str, fn(&Path), &'static str, &'static str, &'static [&'static str]);
    let cases: [Case; 9] = [
        ("no parents", |_| {}, "/a/b/c", "true", &[]),
        ("a file", |_| {}, "/a/b/file", "true", &[]),
        (
            "a dangling link",
            |layer| symlink("../run/x/real", layer.join("etc/link")).unwrap(),
            "/etc/link",
            "true",
            &[],
        ),
        ("a linked directory", |layer| symlink("/run", layer.join("var")).unwrap(), "/var/lock", "true", &[]),
        ("an opaque directory", |layer| opaque(layer, "opt"), "/opt/in/it", "true", &[]),
        ("a whiteout", |layer| whiteout(layer, "gone"), "/gone/again", "true", &[]),
        (
            "changes beside it",
            |layer| opaque(layer, "opt"),
            "/opt/in/it",
            "echo > /opt/beside",
            &["opt", "opt/beside"],
        ),
        (
            "changes above it",
            |layer| opaque(layer, "opt"),
            "/opt/in/it",
            "chmod 700 /opt/in",
            &["opt", "opt/in"],
        ),
        ("changes of a copied parent", |layer| opaque(layer, "opt"), "/opt/it", "chmod 700 /opt", &["opt"]),
    ];
    for (name, make, target, script, changes) in cases {
        let mut bench = bench!();
        let below = bench.layer();
        for directory in ["etc", "opt", "run", "gone"] {
            fs::create_dir(below.join(directory)).unwrap();
        }
        let layer = bench.layer();
        fs::create_dir(layer.join("etc")).unwrap();
        make(&layer);
        let source = bench.path("source");
        if target.ends_with("file") {
            fs::write(&source, "").unwrap()
        } else {
            fs::create_dir(&source).unwrap()
        };
        let before = fs::symlink_metadata(bench.upper()).unwrap();
        let script =
            format!("[ -e {target} ] && grep -q ' {target} \\| /run' /proc/self/mountinfo && {script}");
        let mut spec = bench.script(&script);
        spec.mounts_mut().as_mut().unwrap().push(defaults::bind(&source, target, false));
        let ran = bench.run(spec);
        assert_eq!(ran.code, 0, "{name}: {ran:?}");
        assert_eq!(bench.changes(), *changes, "{name}");
        let after = fs::symlink_metadata(bench.upper()).unwrap();
        if changes.is_empty() {
            assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()), "{name}");
        }
    }
}

fn opaque(layer: &Path, name: &str) {
    fs::create_dir(layer.join(name)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(layer.join(name), "trusted.overlay.opaque", b"y", flags).unwrap();
}

fn whiteout(layer: &Path, name: &str) {
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, layer.join(name), kind, mode, 0).unwrap();
}

#[test]
fn the_times_of_a_changed_directory_are_the_processs() {
    let mut bench = bench!();
    fs::create_dir(bench.layer().join("opt")).unwrap();
    opaque(&bench.layer(), "opt");
    let source = bench.path("source");
    fs::create_dir(&source).unwrap();
    let mut spec = bench.script("chmod 711 /opt; touch -d @1000000000 /opt");
    spec.mounts_mut().as_mut().unwrap().push(defaults::bind(&source, "/opt/it", false));
    assert_eq!(bench.run(spec).code, 0);
    assert_eq!(bench.changes(), ["opt"]);
    let status = fs::symlink_metadata(bench.upper().join("opt")).unwrap();
    assert_eq!((status.mtime(), status.mode() & 0o777), (1_000_000_000, 0o711));
}

#[test]
fn mounts_inside_mounts() {
    let bench = bench!();
    let (volume, file) = (bench.path("volume"), bench.path("file"));
    fs::create_dir(&volume).unwrap();
    fs::write(&file, "content\n").unwrap();
    let mut spec = bench.script("cat /volume/deep/file /tmp/dir/file; echo > /tmp/dir/file; true");
    let tmpfs = defaults::mount("/tmp", "tmpfs", Path::new("tmpfs"), &["size=1m", "mode=1777"]);
    spec.mounts_mut().as_mut().unwrap().extend([
        defaults::bind(&volume, "/volume", false),
        tmpfs,
        defaults::bind(&file, "/volume/deep/file", true),
        defaults::bind(&file, "/tmp/dir/file", true),
    ]);
    let ran = bench.run(spec);
    assert_eq!(ran.stdout, "content\ncontent\n", "{ran:?}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
    assert!(volume.join("deep/file").exists());
    assert_eq!(bench.changes(), [""; 0]);
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let bench = bench!();
    let start = Instant::now();
    let ran = bench.sh("sleep 1000 & setsid sleep 1000 & echo done");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "done\n"));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn dropping_a_process_kills_it() {
    let bench = bench!();
    let process = bench.start(bench.spec(&["sleep", "1000"]), null(), false).unwrap();
    let pid = process.pid();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(process);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn init_reaps_forwards_and_passes_the_code_on() {
    let bench = bench!();
    let script = |text: &str| bench.spec(&["sh", "-c", text]);
    let ran =
        bench.try_run(script("echo $$; (sleep 0.05 &); sleep 0.2; ps -o comm | grep -c sleep; exit 9"), true);
    let ran = ran.unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (9, "2\n0\n"));
    bench.fresh_upper();
    let process = bench.start(script("sleep 1000"), null(), true).unwrap();
    process.signal(15).unwrap();
    assert_eq!(process.wait().unwrap().code(), 128 + 15);
    // Without init, PID 1 is deaf to signals it does not handle.
    bench.fresh_upper();
    let process = bench.start(bench.spec(&["sleep", "1"]), null(), false).unwrap();
    process.signal(15).unwrap();
    assert_eq!(process.wait().unwrap().code(), 0);
}

#[test]
fn another_user_has_its_groups_and_no_capabilities() {
    let bench = bench!();
    let mut spec =
        bench.script("id; grep CapEff /proc/self/status; umask; echo to a name > /dev/stdout; echo x > /new");
    let process = spec.process_mut().as_mut().unwrap();
    process
        .user_mut()
        .set_uid(1000)
        .set_gid(100)
        .set_umask(Some(0o077))
        .set_additional_gids(Some(vec![7, 8]));
    process.set_capabilities(Some(defaults::capability_sets(defaults::capabilities(), 1000)));
    let ran = bench.run(spec);
    insta::assert_snapshot!(ran.stdout.replace('\t', " "), @r"
    uid=1000 gid=100 groups=7,8
    CapEff: 0000000000000000
    0077
    to a name
    ");
    assert!(ran.stderr.contains("Permission denied"), "{ran:?}");
}

#[test]
fn no_new_privileges_and_a_read_only_root() {
    let bench = bench!();
    let mut spec = bench.script("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; echo x > /new");
    spec.process_mut().as_mut().unwrap().set_no_new_privileges(Some(true));
    spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
    let ran = bench.run(spec);
    assert_eq!(ran.stdout, "NoNewPrivs:\t1\nSeccomp:\t2\n");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
}

#[test]
fn a_network_of_ones_own_has_only_loopback() {
    let bench = bench!();
    let mut spec = bench.script("ls /sys/class/net; ip addr show lo | grep -o 'inet [0-9./]*'; cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    let linux = defaults::spec(Network::None).unwrap().linux().clone();
    spec.set_linux(linux);
    assert_eq!(bench.run(spec).stdout, "lo\ninet 127.0.0.1/8\n0\n");
}

#[test]
fn privileged_has_everything_the_caller_has() {
    let bench = bench!();
    let mut spec = bench.script("grep -E 'CapEff|Seccomp:' /proc/self/status; [ -w /sys/kernel ] && mount -t tmpfs x /bin && echo mounted");
    defaults::privilege(&mut spec);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapPrm")).unwrap().replace("CapPrm", "CapEff");
    assert_eq!(bench.run(spec).stdout, format!("{own}\nSeccomp:\t0\nmounted\n"));
}

fn with_resources(spec: &mut Spec, json: &str) {
    let mut resources: oci_spec::runtime::LinuxResources = serde_json::from_str(json).unwrap();
    resources.set_devices(Some(defaults::device_rules()));
    spec.linux_mut().as_mut().unwrap().set_resources(Some(resources));
}

#[test]
fn limits_hold_and_their_cgroup_goes() {
    let bench = bench!();
    let mut spec = bench.script("cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait");
    with_resources(
        &mut spec,
        r#"{"pids": {"limit": 5}, "memory": {"limit": 67108864}, "cpu": {"quota": 50000}}"#,
    );
    let name = format!("kiln/test-{}", std::process::id());
    spec.linux_mut().as_mut().unwrap().set_cgroups_path(Some(format!("/{name}").into()));
    let process = bench.start(spec, null(), false).unwrap();
    let limited = process.warnings().is_empty();
    if !limited {
        eprintln!("not looked at: {:?}", process.warnings());
    }
    process.wait().unwrap();
    let left = walk_for(Path::new("/sys/fs/cgroup"), &name);
    assert_eq!(left, [""; 0]);
    if limited {
        bench.fresh_upper();
        let mut spec = bench.script("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait");
        with_resources(&mut spec, r#"{"pids": {"limit": 5}}"#);
        let ran = bench.run(spec);
        assert!(ran.stderr.contains("can't fork"), "{ran:?}");
    }
}

#[test]
fn the_own_cgroup_is_the_root_of_its_namespace() {
    let bench = bench!();
    let mut spec = bench.script(
        "grep ^0:: /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; echo x > /sys/fs/cgroup/cgroup.freeze",
    );
    for mount in spec.mounts_mut().as_mut().unwrap() {
        if mount.typ().as_deref() == Some("cgroup") {
            mount.set_typ(Some("cgroup2".into()));
        }
    }
    let ran = bench.run(spec);
    assert!(ran.stdout.starts_with("0::/\n1\n"), "{ran:?}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
}

/// Hierarchies below `root` that have the cgroup `name`.
fn walk_for(root: &Path, name: &str) -> Vec<String> {
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([root.to_owned()]).map(|path| path.join(name));
    all.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

#[test]
fn a_limit_that_cannot_be_raised_is_a_warning() {
    let bench = bench!();
    let mut spec = bench.script("ulimit -n; ulimit -Hn");
    let limit =
        |soft: u64, hard: u64| serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]);
    let set = |spec: &mut Spec, value| {
        let limits = serde_json::from_value(value).unwrap();
        spec.process_mut().as_mut().unwrap().set_rlimits(Some(limits));
    };
    set(&mut spec, limit(64, 128));
    assert_eq!(bench.run(spec).stdout, "64\n128\n");
    bench.fresh_upper();
    let mut spec = bench.spec(&["true"]);
    set(&mut spec, limit(1 << 40, 1 << 40));
    if let Ok(process) = bench.start(spec, null(), false) {
        assert_eq!(process.warnings().len(), 1, "{:?}", process.warnings());
        assert_eq!(process.wait().unwrap().code(), 0);
    }
}

#[test]
fn a_directory_can_be_the_root() {
    let bench = bench!();
    let root = bench.path("layer-0");
    fs::create_dir(root.join("proc")).unwrap();
    let mut spec = bench.script("ls /; echo kept > /file");
    spec.root_mut().as_mut().unwrap().set_path(root.clone());
    let ran = bench.run_on(&spec);
    assert_eq!(ran.stdout, "bin\ndev\nproc\nsys\n", "{ran:?}");
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "kept\n");
    assert!(!root.join("sys").exists() && root.join("proc").exists());
}

#[test]
fn many_at_once_leave_no_descriptor() {
    let bench = bench!();
    assert_eq!(bench.sh("true").code, 0);
    let errors: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                scope.spawn(move || {
                    let bench = Bench::new().unwrap();
                    let ran = (0..5).map(|run| {
                        bench.fresh_upper();
                        let ran = bench.sh(&format!("echo {thread} {run} > /file; cat /file; (sleep 9 &)"));
                        (ran.stdout != format!("{thread} {run}\n")).then(|| format!("{ran:?}"))
                    });
                    ran.flatten().collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(errors, [""; 0]);
}

#[test]
fn a_terminal_of_its_own() {
    let bench = bench!();
    let mut spec = bench.script(
        "tty; stty size; ls -l /dev/console | cut -c1; ls -1 /dev/pts; tty < /dev/console; sleep 1000",
    );
    spec.process_mut().as_mut().unwrap().set_terminal(Some(true));
    let process = bench.start(spec, Stdio::Terminal { size: Some((33, 77)) }, true).unwrap();
    let terminal = process.terminal().unwrap().try_clone().unwrap();
    let text = read_until(&terminal, "console\r\n");
    assert_eq!(text.replace('\r', ""), "/dev/pts/0\n33 77\nc\n0\nptmx\n/dev/console\n");
    process.resize(10, 20).unwrap();
    assert_eq!(rustix::termios::tcgetwinsize(&terminal).unwrap().ws_col, 20);
    rustix::io::write(&terminal, b"\x03").unwrap();
    assert_eq!(process.wait().unwrap().code(), 128 + 2);
}

fn read_until(fd: &std::os::fd::OwnedFd, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.ends_with(end) {
        let length = rustix::io::read(fd, &mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    text
}

#[test]
fn a_spec_that_asks_for_too_much_is_refused() {
    let bench = bench!();
    let refused = |change: fn(&mut Spec)| {
        bench.fresh_upper();
        let mut spec = bench.spec(&["true"]);
        change(&mut spec);
        bench.try_run(spec, false).unwrap_err()
    };
    let error = refused(|spec| {
        let mut namespaces = defaults::namespaces(Network::Host);
        namespaces.retain(|namespace| namespace.typ() != oci_spec::runtime::LinuxNamespaceType::Mount);
        spec.linux_mut().as_mut().unwrap().set_namespaces(Some(namespaces));
    });
    assert!(matches!(error, SandboxError::Unsupported(_)), "{error}");
    let error = refused(|spec| {
        spec.process_mut().as_mut().unwrap().set_args(None);
    });
    assert!(matches!(error, SandboxError::Spec(_)), "{error}");
    let error = refused(|spec| {
        spec.mounts_mut().as_mut().unwrap().push(defaults::bind(Path::new("/no/such"), "/x", true));
    });
    assert!(error.to_string().contains("/no/such"), "{error}");
    let error = refused(|spec| {
        let tmpfs = defaults::mount("/x", "tmpfs", Path::new("tmpfs"), &["size=lots"]);
        spec.mounts_mut().as_mut().unwrap().push(tmpfs);
    });
    insta::assert_snapshot!(error, @r#"cannot make the tmpfs file system for "/x" with "size": tmpfs: Bad value for 'size': Invalid argument (os error 22)"#);
}

/// Runs one test of this file in a process of its own, with `part` to play.
fn play(test: &str, part: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("KILN_TEST_PART", part);
    command
}

fn part() -> Option<String> {
    std::env::var("KILN_TEST_PART").ok()
}

#[test]
fn a_killed_parent_takes_its_sandbox_with_it() {
    let bench = bench!();
    if part().is_some() {
        let process = bench.start(bench.spec(&["sleep", "1000"]), null(), false).unwrap();
        println!("\nsandbox {}", process.pid());
        process.wait().unwrap();
        return;
    }
    let mut command = play("a_killed_parent_takes_its_sandbox_with_it", "parent");
    let mut parent = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(parent.stdout.take().unwrap()));
    let pid = lines.find_map(|line| line.unwrap().strip_prefix("sandbox ").map(str::to_owned)).unwrap();
    assert!(Path::new("/proc").join(&pid).exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let alive = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive() {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nothing_stays_open_in_the_caller() {
    let bench = bench!();
    if part().is_none() {
        let status = play("nothing_stays_open_in_the_caller", "caller").status().unwrap();
        return assert!(status.success());
    }
    let open = || {
        let mut open: Vec<_> =
            fs::read_dir("/proc/self/fd").unwrap().flatten().map(|fd| fd.file_name()).collect();
        open.sort();
        open
    };
    // The init program and the device filter stay open on purpose.
    assert_eq!(bench.sh("true").code, 0);
    let before = open();
    for command in ["true", "/no/such"] {
        for _ in 0..5 {
            bench.fresh_upper();
            let _ = bench.try_run(bench.spec(&[command]), false);
        }
    }
    assert_eq!(open(), before);
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads() > 2 {
        assert!(Instant::now() < deadline, "{} threads", threads());
    }
}

/// The filter as the kernel applies it: this program, inside a sandbox, tries system calls.
#[cfg(target_arch = "x86_64")]
#[test]
fn system_calls_tried_from_the_inside() {
    let bench = bench!();
    if part().is_some() {
        return sandbox_bench::probe::print();
    }
    let mut spec = bench.spec(&["/probe", "--exact", "system_calls_tried_from_the_inside", "--nocapture"]);
    let mounts = spec.mounts_mut().as_mut().unwrap();
    mounts.push(defaults::bind(&std::env::current_exe().unwrap(), "/probe", true));
    for directory in ["/usr", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).is_dir()) {
        mounts.push(defaults::bind(Path::new(directory), directory, true));
    }
    let env = vec!["KILN_TEST_PART=probe".to_owned(), "PATH=/bin".to_owned(), "TMPDIR=/dev/shm".to_owned()];
    spec.process_mut().as_mut().unwrap().set_env(Some(env));
    let ran = bench.run(spec);
    let lines: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix("probe ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    getpid: allowed
    clone3: Function not implemented (os error 38)
    clone with a user namespace: Operation not permitted (os error 1)
    unshare: Operation not permitted (os error 1)
    setns: Operation not permitted (os error 1)
    mount: Operation not permitted (os error 1)
    open_tree: Operation not permitted (os error 1)
    bpf: Operation not permitted (os error 1)
    keyctl: Operation not permitted (os error 1)
    kexec_load: Operation not permitted (os error 1)
    ptrace: No such process (os error 3)
    personality, a usual one: allowed
    personality, another: Operation not permitted (os error 1)
    socket, vsock: Operation not permitted (os error 1)
    socket, alg: Operation not permitted (os error 1)
    socket, unix: allowed
    a number that no kernel has: Function not implemented (os error 38)
    mount of x32: Operation not permitted (os error 1)
    getppid of i386: allowed
    mount of i386: -1
    ");
}
