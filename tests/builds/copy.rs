//! COPY and ADD.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use kiln::build::request::NamedContext;

use crate::yard::Yard;

#[test]
fn files_directories_and_links() {
    let Some(yard) = Yard::new() else { return };
    yard.write("a.txt", "a");
    yard.write("dir/b.txt", "b");
    yard.write("dir/sub/run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(yard.path("context/dir/sub/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("b.txt", yard.path("context/dir/link")).unwrap();
    insta::assert_snapshot!(yard.last_layer("FROM busybox\nWORKDIR /w\nCOPY . ./\n"), @r##"
    w/ 755 0:0
    w/a.txt 644 0:0 "a"
    w/dir/ 755 0:0
    w/dir/b.txt 644 0:0 "b"
    w/dir/link 777 0:0 -> b.txt
    w/dir/sub/ 755 0:0
    w/dir/sub/run.sh 755 0:0 "#!/bin/sh\n"
    "##);
    insta::assert_snapshot!(yard.last_layer("FROM busybox\nCOPY --chown=app:extra --chmod=u=rwX,go= dir /lib/x/\n"), @r##"
    usr/ 755 0:0
    usr/lib/ 755 0:0
    usr/lib/x/ 755 1000:1002
    usr/lib/x/b.txt 600 1000:1002 "b"
    usr/lib/x/link 777 1000:1002 -> b.txt
    usr/lib/x/sub/ 700 1000:1002
    usr/lib/x/sub/run.sh 700 1000:1002 "#!/bin/sh\n"
    "##);
    insta::assert_snapshot!(yard.last_layer("FROM busybox\nCOPY --link a.txt /lib/x/\n"), @r#"
    lib/ 755 0:0
    lib/x/ 755 0:0
    lib/x/a.txt 644 0:0 "a"
    "#);
    insta::assert_snapshot!(yard.last_layer("FROM busybox\nCOPY --parents --exclude=**/*.sh dir/./sub dir/b.txt /p/\n"), @r#"
    p/ 755 0:0
    p/dir/ 755 0:0
    p/dir/b.txt 644 0:0 "b"
    p/sub/ 755 0:0
    "#);
    insta::assert_snapshot!(yard.last_layer("FROM busybox\nCOPY dir/link /tmp/\n"), @r#"
    tmp/ 1777 0:0
    tmp/link 644 0:0 "b"
    "#);
    insta::assert_snapshot!(yard.last_layer("FROM busybox\nCOPY <<EOF <<-'E2' /etc/\nx=$PATH\nEOF\n\t$y\nE2\n"), @r#"
    etc/ 755 0:0
    etc/E2 644 0:0 "$y\n"
    etc/EOF 644 0:0 "x=/bin:/usr/bin\n"
    "#);
}

#[test]
fn from_stages_and_contexts() {
    let Some(yard) = Yard::new() else { return };
    std::fs::create_dir(yard.path("named")).unwrap();
    std::fs::write(yard.path("named/n"), "named").unwrap();
    std::fs::write(yard.path("named/ignored"), "x").unwrap();
    std::fs::write(yard.path("named/.dockerignore"), "ignored").unwrap();
    let mut request = yard.request(
        "FROM busybox AS one\nRUN mkdir /d && echo 1 > /d/f && chown -R 5:6 /d && ln /d/f /d/g && touch /d/x\nRUN rm /d/x\n\
         FROM scratch\nCOPY --from=one /d /d2\nCOPY --from=extra . /n/\nCOPY --from=busybox /etc/group /\n",
    );
    request.named_contexts = vec![("extra".to_owned(), NamedContext::Directory(yard.path("named")))];
    let outcome = yard.run(request);
    let image = yard.image(outcome.expect());
    let layers: Vec<String> = image
        .layers
        .iter()
        .map(|layer| {
            let mut tar = Vec::new();
            std::io::copy(&mut yard.store.open_tar(*layer).unwrap(), &mut tar).unwrap();
            crate::yard::listing(&tar)
        })
        .collect();
    insta::assert_snapshot!(layers.join("\n--\n"), @r#"
    d2/ 755 0:0
    d2/f 644 5:6 "1\n"
    d2/g 644 5:6 = d2/f
    --
    n/ 755 0:0
    n/.dockerignore 644 0:0 "ignored"
    n/n 644 0:0 "named"
    --
    group 644 0:0 "root:x:0:\napps:x:1001:\nextra:x:1002:app\n"
    "#);
}

#[test]
fn archives_are_unpacked_by_add_only() {
    let Some(yard) = Yard::new() else { return };
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(77);
        header.set_uid(9);
        header.set_gid(9);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, path, content).unwrap();
    };
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    add("./z/", Directory, 0o750, b"", "");
    add("./z/f", Regular, 0o600, b"content", "");
    add("./z/h", Link, 0o600, b"", "./z/f");
    add("lib/in", Regular, 0o644, b"through the link", "");
    add("s", Symlink, 0o777, b"", "z");
    let plain = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    yard.write("a.tgz", gzip.finish().unwrap());
    yard.write("a.zst", zstd::encode_all(&plain[..], 1).unwrap());
    yard.write("a.tar", &plain);
    yard.write("fake.tar.gz", "no archive");
    let from = |name: &str| yard.last_layer(&format!("FROM busybox\nADD {name} /\n"));
    insta::assert_snapshot!(from("a.tar"), @r#"
    s 777 9:9 -> z
    usr/ 755 0:0
    usr/lib/ 755 0:0
    usr/lib/in 644 9:9 "through the link"
    z/ 750 9:9
    z/f 600 9:9 "content"
    z/h 600 9:9 = z/f
    "#);
    assert_eq!(from("a.tgz"), from("a.tar"));
    assert_eq!(from("a.zst"), from("a.tar"));
    insta::assert_snapshot!(from("--chown=1:2 --chmod=700 a.tgz"), @r#"
    s 777 1:2 -> z
    usr/ 755 0:0
    usr/lib/ 755 0:0
    usr/lib/in 700 1:2 "through the link"
    z/ 700 1:2
    z/f 700 1:2 "content"
    z/h 700 1:2 = z/f
    "#);
    insta::assert_snapshot!(from("fake.tar.gz"), @r#"
    fake.tar.gz 644 0:0 "no archive"
    "#);
    assert!(yard.last_layer("FROM busybox\nCOPY a.tar /\n").starts_with("a.tar 644 0:0"));
    assert!(yard.last_layer("FROM busybox\nADD --unpack=false a.tar /\n").starts_with("a.tar 644 0:0"));
}

#[test]
fn faults_name_their_line() {
    let Some(yard) = Yard::new() else { return };
    yard.write("hello.txt", "x");
    yard.write("kept/hidden", "x");
    yard.write(".dockerignore", "**/hidden\n");
    yard.write("dir/f", "x");
    let fault = |line: &str| yard.build(&format!("FROM busybox\n{line}\n")).failure();
    insta::assert_snapshot!(fault("COPY helo.txt /"), @r"
    error: Dockerfile:2: `helo.txt` is not in the build context
     --> Dockerfile:2:1
      |
    2 | COPY helo.txt /
      | ^^^^^^^^^^^^^^^
      |
      = help: did you mean `hello.txt`?
    ");
    insta::assert_snapshot!(fault("COPY kept/hidden /"), @r"
    error: Dockerfile:2: `kept/hidden` is not in the build context
     --> Dockerfile:2:1
      |
    2 | COPY kept/hidden /
      | ^^^^^^^^^^^^^^^^^^
      |
      = help: it is there but ignored: see `.dockerignore`
    ");
    insta::assert_snapshot!(fault("COPY . /etc/passwd"), @r"
    error: Dockerfile:2: cannot copy a directory onto `/etc/passwd`, which is not a directory
     --> Dockerfile:2:1
      |
    2 | COPY . /etc/passwd
      | ^^^^^^^^^^^^^^^^^^
    ");
    insta::assert_snapshot!(fault("COPY --chown=nobody hello.txt /"), @r"
    error: Dockerfile:2: there is no user `nobody` in the image's /etc/passwd
     --> Dockerfile:2:1
      |
    2 | COPY --chown=nobody hello.txt /
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    ");
    insta::assert_snapshot!(fault("COPY --chmod=abc hello.txt /"), @r"
    error: Dockerfile:2: `abc` is no file mode
     --> Dockerfile:2:14
      |
    2 | COPY --chmod=abc hello.txt /
      |              ^^^
      |
      = help: write it in octal, such as 0755, or symbolic, such as u=rwX,go=rX
    ");
    insta::assert_snapshot!(fault("COPY --from=busybox /etc/pass /"), @r"
    error: Dockerfile:2: `/etc/pass` is not in the image `docker.io/library/busybox:latest`
     --> Dockerfile:2:1
      |
    2 | COPY --from=busybox /etc/pass /
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    ");
}
