//! RUN and WORKDIR.

use std::time::{Duration, Instant};

use kiln::build::request::{Secret, SecretSource};
use kiln::build::solve::Cancel;

use crate::yard::Yard;

#[test]
fn a_command_makes_a_layer() {
    let Some(yard) = Yard::new() else { return };
    let layer = yard.last_layer("FROM busybox\nRUN echo hello > /f; mkdir -p /d/e; ln -s f /l; ln /f /d/hard; rm /etc/group; chmod 4755 /f; mkfifo /d/p\n");
    insta::assert_snapshot!(layer, @r#"
    d/ 755 0:0
    d/e/ 755 0:0
    d/hard 4755 0:0 "hello\n"
    d/p 644 0:0 Fifo
    etc/ 755 0:0
    etc/.wh.group 0 0:0 ""
    f 4755 0:0 = d/hard
    l 777 0:0 -> f
    "#);
}

#[test]
fn what_a_command_finds() {
    let Some(yard) = Yard::new() else { return };
    let log = yard.log(
        r#"FROM busybox
ENV A="b c"
ARG X=y
WORKDIR /w
USER app
RUN id; pwd; echo "$A $X $HOME $PATH"; hostname; cat /etc/hostname; grep buildkit /etc/hosts; ls -d /dev/null /proc/self; umask
"#,
    );
    insta::assert_snapshot!(log.replace('\t', " "), @r"
    uid=1000(app) gid=1001(apps) groups=1001(apps),1002(extra)
    /w
    b c y /home/app /bin:/usr/bin
    buildkitsandbox
    buildkitsandbox
    127.0.1.1 buildkitsandbox
    /dev/null
    /proc/self
    0022
    ");
}

#[test]
fn mounts_leave_no_trace() {
    let Some(yard) = Yard::new() else { return };
    yard.write("one/file", "from the context");
    yard.write("ignored", "secret");
    yard.write(".dockerignore", "ignored\n");
    let dockerfile = r#"FROM busybox AS other
RUN mkdir -p /deep/er && echo 1 > /deep/er/f && echo x > /gone
RUN rm /gone && echo 2 > /deep/er/g
FROM busybox
RUN --mount=target=/ctx --mount=type=bind,source=one/file,target=/one.txt \
    --mount=type=bind,from=other,source=/deep,target=/deep --mount=type=tmpfs,target=/mem,size=1m \
    --mount=type=cache,target=/cache,mode=0700,uid=5 --mount=type=bind,from=other,target=/all \
    --mount=type=bind,from=other,source=deep/er,target=/rw,rw \
    cat /one.txt /ctx/one/file; echo; ls /ctx; cat /deep/er/f /deep/er/g; ls /all/gone; \
    touch /ctx/x 2>&1 | grep -c Read-only; touch /mem/x /cache/x && echo changed > /rw/f && cat /rw/f && stat -c '%a %u' /cache
RUN --mount=type=cache,target=/cache ls /cache; ls -d /mem /ctx /deep /all /rw /one.txt || true
RUN ls /
"#;
    let log = yard.log(dockerfile);
    insta::assert_snapshot!(log, @r"
    from the contextfrom the context
    one
    1
    2
    ls: /all/gone: No such file or directory
    1
    changed
    700 5
    x
    ls: /mem: No such file or directory
    ls: /ctx: No such file or directory
    ls: /deep: No such file or directory
    ls: /all: No such file or directory
    ls: /rw: No such file or directory
    ls: /one.txt: No such file or directory
    bin
    dev
    etc
    lib
    proc
    root
    sys
    tmp
    usr
    var
    ");
    assert_eq!(yard.last_layer(&dockerfile.replace("RUN ls /\n", "")), "");
}

#[test]
fn secrets_are_seen_and_not_kept() {
    let Some(yard) = Yard::new() else { return };
    std::fs::write(yard.path("token"), "s3cr3t").unwrap();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=token,uid=7,mode=0440 --mount=type=secret,id=token,env=TOKEN,target=/t \
        cat /run/secrets/token /t; echo $TOKEN; stat -c '%a %u' /run/secrets/token; touch /f\nRUN ls /run /t 2>&1; true\n";
    let mut request = yard.request(dockerfile);
    request.secrets = vec![Secret { id: "token".into(), source: SecretSource::File(yard.path("token")) }];
    let outcome = yard.run(request);
    let image = yard.image(outcome.expect());
    insta::assert_snapshot!(outcome.log, @r"
    s3cr3ts3cr3ts3cr3t
    440 7
    ls: /run: No such file or directory
    ls: /t: No such file or directory
    ");
    assert!(!String::from_utf8_lossy(&image.config_bytes).contains("s3cr3t"));
    for record in yard.store.records().unwrap() {
        assert!(!format!("{record:?}").contains("s3cr3t"));
    }
    let missing = yard.build("FROM busybox\nRUN --mount=type=secret,id=gone,required=true true\n").failure();
    assert!(
        missing.contains("the secret `gone` is required") && missing.contains("Dockerfile:2"),
        "{missing}"
    );
}

#[test]
fn a_failure_names_line_and_code() {
    let Some(yard) = Yard::new() else { return };
    let outcome = yard.build("FROM busybox\nRUN echo one; \\\n  echo two >&2; exit 3\n");
    insta::assert_snapshot!(outcome.failure(), @r"
    error: Dockerfile:2: process `/bin/sh -c echo one;   echo two >&2; exit 3` did not complete successfully: exit code: 3
     --> Dockerfile:2:1
      |
    2 | / RUN echo one; \
    3 | |   echo two >&2; exit 3
      | |______________________^
    ");
    let Err(error) = &outcome.result else { unreachable!() };
    let (step, tail) = error.tail().unwrap();
    assert_eq!((step, tail), ("[2/2] RUN echo one;   echo two >&2; exit 3", &b"one\ntwo\n"[..]));
    let killed = yard.build("FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n").failure();
    assert!(killed.contains("exit code: 137"), "{killed}");
    let missing = yard.build("FROM busybox\nRUN [\"/nothing\"]\n").failure();
    assert!(missing.contains("/nothing"), "{missing}");
}

#[test]
fn a_cancelled_build_ends_at_once() {
    let Some(yard) = Yard::new() else { return };
    let cancel = Cancel::new();
    let thrown = cancel.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        thrown.cancel();
    });
    let began = Instant::now();
    let outcome = yard.run_until(yard.request("FROM busybox\nRUN sleep 60\n"), &cancel);
    assert!(outcome.failure().contains("cancelled"));
    assert!(began.elapsed() < Duration::from_millis(1300), "{:?}", began.elapsed());
    thread.join().unwrap();
}

#[test]
fn here_documents_run() {
    let Some(yard) = Yard::new() else { return };
    let log = yard.log("FROM busybox\nRUN <<EOF\necho one\necho two\nEOF\nRUN <<END\n#!/bin/awk -f\nBEGIN { print \"awk\" }\nEND\n");
    assert_eq!(log, "one\ntwo\nawk\n");
}

#[test]
fn working_directories() {
    let Some(yard) = Yard::new() else { return };
    let layer = yard.last_layer("FROM busybox\nUSER app\nWORKDIR /lib/a/b\n");
    insta::assert_snapshot!(layer, @r"
    usr/ 755 0:0
    usr/lib/ 755 0:0
    usr/lib/a/ 755 0:0
    usr/lib/a/b/ 755 1000:1001
    ");
    let outcome = yard.build("FROM busybox\nWORKDIR /usr/lib\n");
    let image = yard.image(outcome.expect());
    assert_eq!(image.layers.len(), 1);
    assert!(image.config.history.last().unwrap().empty_layer);
    let failure = yard.build("FROM busybox\nWORKDIR /etc/passwd/x\n").failure();
    assert!(failure.contains("`/etc/passwd` is not a directory"), "{failure}");
}

#[test]
fn what_comes_later_says_so() {
    let Some(yard) = Yard::new() else { return };
    for line in [
        "RUN --mount=type=ssh true",
        "RUN --security=insecure true",
        "RUN --device=a/b true",
        "ADD https://example.com/x /",
    ] {
        let failure = yard.build(&format!("FROM busybox\n{line}\n")).failure();
        assert!(
            failure.contains("not supported yet") && failure.contains("Dockerfile:2"),
            "{line}: {failure}"
        );
        yard.build(&format!("FROM busybox AS unused\n{line}\nFROM busybox\nRUN true\n")).expect();
    }
}
