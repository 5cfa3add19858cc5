//! RUN, its mounts and its sandbox, as a Dockerfile sees them.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Kiln, path_text, run};

#[test]
fn a_cache_mount_outlives_the_step_and_is_in_no_layer() {
    let kiln = Kiln::with_busybox();
    let step = |mark: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/var/cache/deep/dir,uid=1000,mode=0700 \
             stat -c '%u %a' /var/cache/deep/dir > /stat; ls /var/cache/deep/dir > /before; touch /var/cache/deep/dir/{mark}\n"
        )
    };
    kiln.build_text(&step("one"), &["-t", "one"]).success();
    kiln.build_text(&step("two"), &["-t", "two"]).success();
    let read = |image: &str, path: &str| kiln.ok(["run", "--rm", image, "cat", path]).stdout();
    assert_eq!(read("one", "/before"), "");
    assert_eq!(read("one", "/stat"), "1000 700\n");
    assert_eq!(read("two", "/before"), "one\n");
    let gone = run(&mut kiln.command(["run", "--rm", "two", "ls", "/var/cache"]));
    assert_ne!(gone.code(), 0, "a mount point is in the layer\n{gone}");
}

#[test]
fn a_locked_cache_is_used_by_one_step_at_a_time() {
    let kiln = Kiln::with_busybox();
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,target=/c,sharing=locked \
             mkdir /c/busy && sleep 0.3 && rmdir /c/busy && echo {name} > /{name}\n"
        )
    };
    let text = format!("{}{}FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n", stage("a"), stage("b"));
    kiln.build_text(&text, &[]).success();
}

#[test]
fn bind_mounts_show_other_stages_and_forget_what_is_written() {
    let kiln = Kiln::with_busybox();
    let text = "FROM busybox AS source\nRUN mkdir /d && echo 1 > /d/f\n\
                FROM busybox\n\
                RUN --mount=type=bind,from=source,source=/d,target=/m cat /m/f > /read; ! touch /m/g 2>/dev/null\n\
                RUN --mount=type=bind,from=source,source=/d,target=/m,rw echo 2 > /m/f && cat /m/f > /written\n\
                RUN --mount=type=bind,from=source,source=/d/f,target=/file cat /file > /again\n";
    kiln.build_text(text, &["-t", "x"]).success();
    let shown =
        kiln.ok(["run", "--rm", "x", "sh", "-c", "cat /read /written /again; ls -d /m /file 2>&1 | wc -l"]);
    assert_eq!(shown.stdout(), "1\n2\n1\n2\n");
    let listed = kiln.ok(["run", "--rm", "x", "sh", "-c", "ls /"]).stdout();
    assert!(!listed.lines().any(|name| name == "m" || name == "file"), "{listed}");
}

#[test]
fn the_context_can_be_mounted_without_its_ignored_files() {
    let kiln = Kiln::with_busybox();
    let context = kiln.dir("context");
    fs::write(context.join("seen"), "seen\n").expect("a file can be written");
    fs::write(context.join("hidden"), "hidden\n").expect("a file can be written");
    fs::write(context.join(".dockerignore"), "hidden\nDockerfile\n").expect("a file can be written");
    fs::write(context.join("Dockerfile"), "FROM busybox\nRUN --mount=target=/context ls /context > /list\n")
        .expect("a file can be written");
    kiln.ok(["build", "-t", "x", path_text(&context)]);
    assert_eq!(kiln.ok(["run", "--rm", "x", "cat", "/list"]).stdout(), "seen\n");
}

#[test]
fn secrets_are_files_or_variables_and_nowhere_else() {
    let kiln = Kiln::with_busybox();
    let secret = kiln.dir("secrets").join("s");
    fs::write(&secret, "hush").expect("a file can be written");
    let source = format!("id=s,src={}", path_text(&secret));
    let text = "FROM busybox\nRUN --mount=type=secret,id=s stat -c '%a %u' /run/secrets/s > /stat; test \"$(cat /run/secrets/s)\" = hush\n\
                RUN --mount=type=secret,id=s,env=TOKEN,target=/etc/token,mode=0444 test \"$TOKEN\" = hush && test \"$(cat /etc/token)\" = hush\n\
                RUN --mount=type=secret,id=absent true\n";
    kiln.build_text(text, &["-t", "x", "--secret", &source]).success();
    assert_eq!(kiln.ok(["run", "--rm", "x", "cat", "/stat"]).stdout(), "400 0\n");
    let left = run(&mut kiln.command(["run", "--rm", "x", "ls", "/run/secrets", "/etc/token"]));
    assert_ne!(left.code(), 0, "{left}");

    // Another value is no other step.
    fs::write(&secret, "hush").expect("a file can be written");
    let again = kiln.build_text(text, &["-t", "x", "--secret", &source]).success();
    assert_eq!(again.stderr().matches("CACHED").count(), 3, "{again}");

    let required = kiln.build_text("FROM busybox\nRUN --mount=type=secret,id=no,required true\n", &[]);
    assert_eq!(required.code(), 1, "{required}");
    required.says("Dockerfile:2").says("no");
}

#[test]
fn the_sandbox_is_dockers() {
    let kiln = Kiln::with_busybox();
    let text = "FROM busybox\nRUN echo $$ > /pid; hostname > /host; grep CapEff /proc/self/status > /caps; \
                grep Seccomp: /proc/self/status > /seccomp; cat /etc/resolv.conf > /dns; grep localhost /etc/hosts > /hosts; \
                ! mount -t tmpfs none /mnt 2>/dev/null; ls /sys/firmware | wc -l > /masked; ! touch /proc/sys/x 2>/dev/null\n\
                RUN --network=none ls /sys/class/net > /net\n";
    kiln.build_text(text, &["-t", "x"]).success();
    let shown = kiln.ok(["run", "--rm", "x", "sh", "-c", "cat /pid /caps /seccomp /masked /net"]).stdout();
    assert_eq!(shown, "1\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n0\nlo\n");
}

#[test]
fn nothing_made_for_a_mount_is_in_the_layer() {
    let kiln = Kiln::with_busybox();
    let out = kiln.dir("out");
    let text = "FROM busybox AS b\nRUN --mount=type=tmpfs,target=/etc/deep/tmp --mount=type=cache,target=/opt/cache true\n\
                RUN touch /made\nFROM scratch\nCOPY --from=b / /\n";
    kiln.build_text(text, &["-o", path_text(&out)]).success();
    for absent in ["etc/deep", "opt", "etc/resolv.conf", "etc/hosts", "run"] {
        assert!(!out.join(absent).exists(), "{absent} is left");
    }
    assert!(out.join("made").exists());
}

#[test]
fn an_interrupt_ends_a_build_within_a_second() {
    let kiln = Kiln::with_busybox();
    let dir = kiln.dir("context");
    fs::write(dir.join("Dockerfile"), "FROM busybox\nRUN echo started; sleep 61.5\n")
        .expect("a file can be written");
    let mut child = kiln
        .command(["build", "--progress=plain", path_text(&dir)])
        .stderr(Stdio::piped())
        .spawn()
        .expect("kiln starts");
    let mut errors = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("started\n") || line.contains("echo") {
        line.clear();
        assert!(
            std::io::BufRead::read_line(&mut errors, &mut line).expect("a line") > 0,
            "the step never started"
        );
    }
    let interrupted = Instant::now();
    run(std::process::Command::new("kill").args(["-INT", &child.id().to_string()])).success();
    let status = child.wait().expect("kiln ends");
    assert!(interrupted.elapsed() < Duration::from_secs(1), "it took {:?}", interrupted.elapsed());
    assert!(!status.success());
    let left = run(std::process::Command::new("pgrep").args(["-f", "sleep 61.5"]));
    assert_eq!(left.stdout(), "", "the step's process is left behind");
}

#[test]
fn triggers_of_a_base_run_in_the_child() {
    let kiln = Kiln::with_busybox();
    let base = "FROM busybox\nONBUILD RUN echo triggered > /t\nONBUILD ENV A=b\n";
    kiln.build_text(base, &["-t", "base"]).success();
    kiln.build_text("FROM base\nRUN test \"$A\" = b && cat /t > /u\n", &["-t", "child"]).success();
    assert_eq!(kiln.ok(["run", "--rm", "child", "cat", "/u"]).stdout(), "triggered\n");
    let config = kiln.ok(["inspect", "--format", "{{json .Config.OnBuild}}", "child"]).stdout();
    assert!(config.trim() == "null" || config.trim() == "[]", "{config}");
}

#[test]
fn only_what_the_target_needs_is_built() {
    let kiln = Kiln::with_busybox();
    let text =
        "FROM no-such-image AS broken\nRUN false\nFROM busybox AS good\nRUN echo ok > /ok\nFROM broken\n";
    kiln.build_text(text, &["--target", "GOOD", "-t", "x"]).success();
    let wrong = kiln.build_text(text, &["--target", "god"]);
    assert_eq!(wrong.code(), 1, "{wrong}");
    wrong.says("god").says("good");
}

#[test]
fn what_belongs_to_later_is_refused_at_its_line_when_reached() {
    let kiln = Kiln::with_busybox();
    for (text, line) in [
        ("FROM busybox\nADD https://example.org/x /\n", 2),
        ("FROM busybox\n\nRUN --mount=type=ssh true\n", 3),
        ("FROM busybox\nRUN --security=insecure true\n", 2),
    ] {
        let ran = kiln.build_text(text, &[]);
        assert_eq!(ran.code(), 1, "{ran}");
        ran.says("not supported yet").says(&format!("Dockerfile:{line}"));
        let unreached = format!(
            "{}FROM busybox AS last\nRUN true\n",
            text.replace("FROM busybox", "FROM busybox AS first")
        );
        kiln.build_text(&unreached, &[]).success();
    }
}
