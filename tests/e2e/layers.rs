//! What layers carry, judged by umoci and GNU tar.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::harness::{Kiln, path_text, tool};
use crate::peers::umoci_bundle;

/// Builds `text` on `context` and unpacks the result with umoci.
fn unpacked(kiln: &Kiln, text: &str, context: &Path) -> PathBuf {
    let dir = kiln.dir("unpacked");
    let file = dir.join("Dockerfile");
    fs::write(&file, text).expect("a file can be written");
    let archive = dir.join("image.tar");
    let output = format!("type=oci,dest={}", path_text(&archive));
    kiln.ok(["build", "-f", path_text(&file), "-o", &output, path_text(context)]);
    umoci_bundle(&archive, &dir).join("rootfs")
}

#[test]
fn metadata_survives_run_and_copy() {
    let kiln = Kiln::with_busybox();
    let context = kiln.dir("context");
    let long = "n".repeat(200);
    fs::create_dir_all(context.join("deep").join(&long)).expect("a directory can be made");
    fs::write(context.join("deep").join(&long).join("f".repeat(255)), "long\n")
        .expect("a file can be written");
    fs::write(context.join(OsStr::from_bytes(b"caf\xe9")), "latin\n").expect("a file can be written");
    fs::write(context.join("capable"), "x").expect("a file can be written");
    tool("setcap", ["cap_net_raw=ep", path_text(&context.join("capable"))]);
    tool("setfattr", ["-n", "user.note", "-v", "kept", path_text(&context.join("capable"))]);
    tool("chmod", ["4711", path_text(&context.join("deep"))]);
    let root = unpacked(
        &kiln,
        "FROM busybox\nCOPY . /c/\nRUN mknod /null c 1 3 && mkfifo /fifo && echo 1 > /a && ln /a /b && ln -s a /l \
         && chown 7:8 /a && truncate -s 64M /sparse && echo end >> /sparse && mv /c/capable /moved\n",
        &context,
    );
    assert_eq!(fs::read(root.join("c").join(OsStr::from_bytes(b"caf\xe9"))).expect("a file"), b"latin\n");
    assert_eq!(fs::read(root.join("c/deep").join(&long).join("f".repeat(255))).expect("a file"), b"long\n");
    let stat =
        |path: &str| fs::symlink_metadata(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(stat("c/deep").mode() & 0o7777, 0o4711);
    assert_eq!((stat("a").uid(), stat("a").gid(), stat("a").nlink()), (7, 8, 2));
    assert_eq!(stat("a").ino(), stat("b").ino());
    assert_eq!(stat("sparse").size(), (64 << 20) + 4);
    let caps =
        tool("getfattr", ["-n", "security.capability", "--only-values", path_text(&root.join("moved"))]);
    assert!(!caps.output.stdout.is_empty(), "the capability is lost");
    assert!(!root.join("c/capable").exists());
}

#[test]
fn whiteouts_hide_what_is_below_for_others_too() {
    let kiln = Kiln::with_busybox();
    let root = unpacked(
        &kiln,
        "FROM busybox\nRUN mkdir -p /d/e && touch /d/a /d/b /d/e/f\nRUN rm /d/a && rm -r /d/e && mkdir /d/e && touch /d/e/new\n\
         RUN mv /d/b /d/c\n",
        &kiln.dir("empty"),
    );
    let list = tool("find", [path_text(&root.join("d")), "-mindepth", "1", "-printf", "%P\n"]).stdout();
    let mut names: Vec<&str> = list.lines().collect();
    names.sort();
    assert_eq!(names, ["c", "e", "e/new"]);
}

#[test]
fn sparse_files_cost_their_data_in_trees() {
    let kiln = Kiln::with_busybox();
    let text = "FROM busybox\nRUN truncate -s 200M /sparse && echo end >> /sparse\nRUN stat -c %b /sparse > /blocks\n";
    kiln.build_text(text, &["-t", "x"]).success();
    let blocks = kiln.ok(["run", "--rm", "x", "cat", "/blocks"]).stdout();
    assert!(blocks.trim().parse::<u64>().expect("a number") < 1000, "{blocks}");
    let archive = kiln.dir("out").join("saved.tar");
    kiln.ok(["save", "-o", path_text(&archive), "x"]);
    let other = Kiln::new();
    other.ok(["load", "-i", path_text(&archive)]);
    let size = other.ok(["run", "--rm", "x", "stat", "-c", "%s %b", "/sparse"]).stdout();
    let (size, blocks) = size.trim().split_once(' ').expect("two numbers");
    assert_eq!(size, ((200 << 20) + 4).to_string());
    assert!(blocks.parse::<u64>().expect("a number") < 1000, "{blocks}");
}

#[test]
fn add_unpacks_every_kind_of_local_archive() {
    let kiln = Kiln::with_busybox();
    let context = kiln.dir("context");
    let mut text = String::from("FROM busybox\n");
    for (flag, name) in
        [("", "tar"), ("--gzip", "tgz"), ("--bzip2", "tbz"), ("--xz", "txz"), ("--zstd", "tzst")]
    {
        let tree = kiln.dir(&format!("tree-{name}"));
        fs::write(tree.join(name), name).expect("a file can be written");
        let mut args = vec!["-C", path_text(&tree), "-cf"];
        let archive = context.join(format!("archive-{name}"));
        args.push(path_text(&archive));
        args.extend(Some(flag).filter(|flag| !flag.is_empty()));
        args.push(name);
        tool("tar", args);
        text.push_str(&format!("ADD archive-{name} /added/\n"));
    }
    fs::write(context.join("plain.tar.gz"), "no archive").expect("a file can be written");
    text.push_str(
        "ADD plain.tar.gz /added/\nADD --unpack=false archive-tgz /kept/\nCOPY archive-tar /kept/\n",
    );
    let root = unpacked(&kiln, &text, &context);
    let mut names: Vec<String> = fs::read_dir(root.join("added"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["plain.tar.gz", "tar", "tbz", "tgz", "txz", "tzst"]);
    assert!(root.join("kept/archive-tgz").is_file() && root.join("kept/archive-tar").is_file());
}

#[test]
fn copy_has_all_of_its_flags() {
    let kiln = Kiln::with_busybox();
    let context = kiln.dir("context");
    for path in ["a/b/one.txt", "a/b/two.md", "a/c/three.txt", "script"] {
        fs::create_dir_all(context.join(path).parent().expect("a parent")).expect("a directory can be made");
        fs::write(context.join(path), path).expect("a file can be written");
    }
    let root = unpacked(
        &kiln,
        "FROM busybox\nCOPY --parents a/*/*.txt /parents/\nCOPY --parents ./a/./b/one.txt /pivot/\nCOPY --exclude=**/*.md --exclude=c/three.* a /exclude/\n\
         COPY --link --chown=5:6 --chmod=u=rwx,go=rx script /link/dir/\nCOPY a/?/*.txt /flat/\nRUN ln -s /real /alias && mkdir /real\nCOPY script /alias/\n",
        &context,
    );
    for path in [
        "parents/a/b/one.txt",
        "parents/a/c/three.txt",
        "pivot/b/one.txt",
        "exclude/b/one.txt",
        "link/dir/script",
        "flat/one.txt",
        "flat/three.txt",
        "real/script",
    ] {
        assert!(root.join(path).is_file(), "{path} is missing");
    }
    for path in ["exclude/b/two.md", "exclude/c/three.txt", "parents/a/b/two.md"] {
        assert!(!root.join(path).exists(), "{path} should not be there");
    }
    let script = fs::metadata(root.join("link/dir/script")).expect("a file");
    assert_eq!((script.uid(), script.gid(), script.mode() & 0o7777), (5, 6, 0o755));
}
