//! `kiln run` as its users see it.

use std::io::Write;
use std::process::Stdio;

use crate::harness::Kiln;

#[test]
fn exit_codes_are_dockers() {
    let kiln = Kiln::with_busybox();
    let code = |args: &[&str]| {
        let ran = crate::harness::run(&mut kiln.command(["run", "--rm"].iter().chain(args)));
        (ran.code(), ran.stderr())
    };
    assert_eq!(code(&["busybox", "true"]).0, 0);
    assert_eq!(code(&["busybox", "sh", "-c", "exit 3"]).0, 3);
    // What a process does to itself as PID 1 has no effect; below an init it has.
    assert_eq!(code(&["--init", "busybox", "sh", "-c", "kill -9 $$"]).0, 137);
    assert_eq!(code(&["busybox", "no-such-command"]).0, 127);
    assert_eq!(code(&["busybox", "/etc/passwd"]).0, 126);
    assert_eq!(code(&["--no-such-flag", "busybox"]).0, 125);
    let (status, message) = code(&["no-such-image"]);
    assert_eq!(status, 125, "{message}");
    assert!(message.contains("no-such-image"), "{message}");
}

#[test]
fn streams_environment_and_user() {
    let kiln = Kiln::with_busybox();
    let mut child = kiln
        .command([
            "run",
            "--rm",
            "-i",
            "-e",
            "A=1",
            "-u",
            "app",
            "-w",
            "/tmp",
            "busybox",
            "sh",
            "-c",
            "cat; echo $A; id -un; pwd; echo no >&2",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kiln starts");
    child.stdin.take().expect("a pipe").write_all(b"input\n").expect("the container reads");
    let output = child.wait_with_output().expect("kiln ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "input\n1\napp\n/tmp\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "no\n");
}

#[test]
fn a_container_sees_its_own_world() {
    let kiln = Kiln::with_busybox();
    let script = "echo $$; hostname; ls /dev | tr '\\n' ' '; grep -c . /proc/mounts > /dev/null; \
                  grep Seccomp: /proc/self/status; grep CapEff /proc/self/status; ls /sys/firmware | wc -l; \
                  touch /proc/sys/kernel/domainname 2>&1 | head -1; cat /etc/hosts | grep -c localhost";
    let ran = kiln.ok(["run", "--rm", "--hostname", "box", "busybox", "sh", "-c", script]);
    let text = ran.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "1", "{ran}");
    assert_eq!(lines[1], "box", "{ran}");
    assert!(lines[2].contains("null") && !lines[2].contains("vda"), "{ran}");
    assert!(text.contains("Seccomp:\t2") && text.contains("CapEff:\t00000000a80425fb"), "{ran}");
}

#[test]
fn mounts_networks_and_read_only_roots() {
    let kiln = Kiln::with_busybox();
    let dir = kiln.dir("shared");
    let bind = format!("{}:/shared", dir.display());
    kiln.ok(["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo x > /shared/x"]);
    assert_eq!(std::fs::read_to_string(dir.join("x")).expect("written through the mount"), "x\n");
    kiln.fails(["run", "--rm", "-v", &format!("{bind}:ro"), "busybox", "touch", "/shared/y"]);
    kiln.fails(["run", "--rm", "--read-only", "busybox", "touch", "/y"]);
    kiln.ok(["run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "touch", "/t/y"]);
    let none = kiln.ok(["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"]).stdout();
    assert_eq!(none, "lo\n");
    let gone = kiln.ok(["run", "--rm", "busybox", "ls", "/"]).stdout();
    assert!(!gone.contains("shared") && !gone.lines().any(|name| name == "t"), "{gone}");
}
