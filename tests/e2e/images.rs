//! Images in the store: named, listed, moved in and out.

use std::fs;

use crate::harness::{Kiln, path_text, tool};

#[test]
fn save_and_load_give_the_same_image() {
    let kiln = Kiln::with_busybox();
    kiln.build_text("FROM busybox\nRUN echo x > /x\nLABEL a=b\n", &["-t", "one:1", "-t", "two"]).success();
    let id = kiln.ok(["images", "-q", "--no-trunc", "one:1"]).stdout();
    let archive = kiln.dir("out").join("saved.tar");
    kiln.ok(["save", "-o", path_text(&archive), "one:1", "two"]);

    let other = Kiln::new();
    let loaded = other.ok(["load", "-i", path_text(&archive)]).stdout();
    assert!(
        loaded.contains("Loaded image: one:1\n") && loaded.contains("Loaded image: two:latest\n"),
        "{loaded}"
    );
    assert_eq!(other.ok(["images", "-q", "--no-trunc", "one:1"]).stdout(), id);
    assert_eq!(other.ok(["run", "--rm", "two", "cat", "/x"]).stdout(), "x\n");
}

#[test]
fn skopeo_reads_what_save_writes_and_load_reads_what_skopeo_writes() {
    let kiln = Kiln::with_busybox();
    kiln.build_text("FROM busybox\nRUN echo x > /x\n", &["-t", "one:1"]).success();
    let dir = kiln.dir("out");
    let saved = dir.join("saved.tar");
    kiln.ok(["save", "-o", path_text(&saved), "one:1"]);
    let layout = format!("oci:{}:moved", path_text(&dir.join("layout")));
    let docker = format!("docker-archive:{}:moved:2", path_text(&dir.join("docker.tar")));
    tool(
        "skopeo",
        ["copy", "--quiet", "--insecure-policy", &format!("docker-archive:{}", path_text(&saved)), &layout],
    );
    tool("skopeo", ["copy", "--quiet", "--insecure-policy", &layout, &docker]);

    let other = Kiln::new();
    let loaded = other.ok(["load", "-i", path_text(&dir.join("docker.tar"))]).stdout();
    assert_eq!(loaded, "Loaded image: moved:2\n");
    assert_eq!(other.ok(["run", "--rm", "moved:2", "cat", "/x"]).stdout(), "x\n");
}

#[test]
fn a_layout_is_a_base() {
    let kiln = Kiln::with_busybox();
    let dir = kiln.dir("out");
    let layout = dir.join("layout");
    let output = format!("type=oci,dest={},tar=false", path_text(&layout));
    kiln.build_text("FROM busybox\nRUN echo base > /base\n", &["-o", &output]).success();

    let other = Kiln::new();
    let context = format!("upstream=oci-layout://{}", path_text(&layout));
    other
        .build_text("FROM upstream\nRUN cat /base > /copy\n", &["-t", "x", "--build-context", &context])
        .success();
    assert_eq!(other.ok(["run", "--rm", "x", "cat", "/copy"]).stdout(), "base\n");
}

#[test]
fn names_come_and_go() {
    let kiln = Kiln::with_busybox();
    kiln.ok(["tag", "busybox", "localhost:5000/mine:v1"]);
    let list = kiln.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout();
    let mut names: Vec<&str> = list.lines().collect();
    names.sort();
    assert_eq!(names, ["busybox:latest", "localhost:5000/mine:v1"]);
    assert_eq!(kiln.ok(["rmi", "localhost:5000/mine:v1"]).stdout(), "Untagged: localhost:5000/mine:v1\n");
    let removed = kiln.ok(["rmi", "docker.io/library/busybox"]).stdout();
    assert!(removed.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{removed}");
    assert_eq!(kiln.ok(["images", "-q"]).stdout(), "");
    kiln.fails(["rmi", "busybox"]).says("No such image: busybox");
}

#[test]
fn a_local_output_is_the_merged_tree() {
    let kiln = Kiln::with_busybox();
    let out = kiln.dir("out");
    let text = "FROM busybox AS b\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b\nRUN rm /d/a && ln -s b /d/c\n\
                FROM scratch\nCOPY --from=b /d /d\n";
    kiln.build_text(text, &["-o", path_text(&out)]).success();
    assert!(!out.join("d/a").exists());
    assert_eq!(fs::read_to_string(out.join("d/c")).expect("the link leads to a file"), "2\n");

    let archive = kiln.dir("tar").join("root.tar");
    kiln.build_text(text, &["-o", &format!("type=tar,dest={}", path_text(&archive))]).success();
    let list = tool("tar", ["-tf", path_text(&archive)]).stdout();
    let names: Vec<&str> = list.lines().map(|name| name.trim_end_matches('/')).collect();
    assert_eq!(names, ["d", "d/b", "d/c"]);
}
