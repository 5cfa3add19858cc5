//! Builds that need no network.

use std::fs;
use std::path::Path;

use crate::harness::{Kiln, copy_of, fixture, path_text, run, tool};
use crate::peers::{crun, skopeo_config, skopeo_layout, umoci_bundle};

fn static_program(to: &Path) {
    let source = fixture("static").join("hello.c");
    tool("gcc", ["-O2", "-static", "-o", path_text(to), path_text(&source)]);
}

#[test]
fn a_static_program_on_scratch() {
    let kiln = Kiln::new();
    let context = kiln.dir("context");
    copy_of("static", &context);
    static_program(&context.join("hello"));
    let archive = kiln.dir("out").join("image.tar");
    let output = format!("type=oci,dest={}", path_text(&archive));
    kiln.ok(["build", "-t", "hello", "-o", "type=image", "-o", &output, path_text(&context)]);

    assert_eq!(kiln.ok(["run", "--rm", "hello"]).stdout(), "hello world\n");
    assert_eq!(kiln.ok(["run", "--rm", "hello", "a", "b"]).stdout(), "hello a\nhello b\n");

    let bundle = umoci_bundle(&archive, &kiln.dir("umoci"));
    let ran = crun(&bundle, &format!("kiln-e2e-static-{}", std::process::id()));
    assert_eq!((ran.code(), ran.stdout().as_str()), (0, "hello world\n"), "{ran}");
}

#[test]
fn every_instruction_on_busybox() {
    let kiln = Kiln::with_busybox();
    let context = kiln.dir("context");
    copy_of("busybox", &context);
    fs::write(context.join("packed"), "from an archive\n").expect("a file can be written");
    tool("tar", ["-C", path_text(&context), "-czf", path_text(&context.join("archive.tar.gz")), "packed"]);
    let archive = kiln.dir("out").join("image.tar");
    let output = format!("type=oci,dest={}", path_text(&archive));
    let args = ["build", "-t", "all", "-o", "type=image", "-o", &output, "--build-arg", "VERSION=7"];
    kiln.ok(args.into_iter().chain([path_text(&context)]));

    let greeting = "hello there world 7\nexec form\nfrom a here-document\n";
    assert_eq!(kiln.ok(["run", "--rm", "all"]).stdout(), greeting);

    let config = skopeo_config(&archive);
    let run = &config["config"];
    assert_eq!(config["author"], "Ada <ada@example.org>");
    assert_eq!(run["User"], "app");
    assert_eq!(run["WorkingDir"], "/srv/app/data");
    assert_eq!(run["StopSignal"], "SIGUSR1");
    assert_eq!(run["Labels"]["org.example.purpose"], "every instruction");
    assert_eq!(run["Entrypoint"], serde_json::json!(["/bin/sh", "-c"]));
    assert_eq!(run["Cmd"], serde_json::json!(["cat /srv/app/data/greeting"]));
    assert_eq!(run["Volumes"], serde_json::json!({ "/srv/volume": {} }));
    let ports: Vec<&String> = run["ExposedPorts"].as_object().expect("ports").keys().collect();
    assert_eq!(ports, ["443/tcp", "5000/udp", "5001/udp", "5002/udp", "80/tcp"]);
    let env: Vec<&str> =
        run["Env"].as_array().expect("env").iter().filter_map(|word| word.as_str()).collect();
    assert!(env.contains(&"GREETING=hello there") && env.contains(&"LEGACY=one two"), "{env:?}");
    assert!(!env.iter().any(|word| word.starts_with("VERSION")), "{env:?}");

    let bundle = umoci_bundle(&archive, &kiln.dir("umoci"));
    let root = bundle.join("rootfs");
    let read =
        |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(read("srv/app/data/greeting"), greeting);
    assert_eq!(read("etc/app/inline.conf"), "version=7\n");
    assert_eq!(read("etc/app/raw.conf"), "version=${VERSION}\n");
    assert_eq!(read("srv/unpacked/packed"), "from an archive\n");
    assert_eq!(read("srv/tree/replaced/new"), "new\n");
    assert!(!root.join("srv/tree/replaced/old").exists() && !root.join("srv/tree/gone").exists());
    assert!(!root.join("srv/tree/secret.key").exists(), "an ignored file was copied");
    let stat = |path: &str| tool("stat", ["-c", "%a %u %g %h %F", path_text(&root.join(path))]).stdout();
    assert_eq!(stat("srv/app/data/file.txt"), "640 1000 1000 1 regular file\n");
    assert_eq!(stat("srv/tree/kept"), "4755 0 0 2 regular file\n");
    assert_eq!(stat("srv/fifo"), "644 0 0 1 fifo\n");
    assert_eq!(stat("srv/sticky"), "1777 0 0 2 directory\n");
    let ran = crun(&bundle, &format!("kiln-e2e-all-{}", std::process::id()));
    assert_eq!((ran.code(), ran.stdout().as_str()), (0, greeting), "{ran}");
}

#[test]
fn a_monorepo_of_six_stages() {
    let kiln = Kiln::with_busybox();
    let config = format!("config={}", path_text(&fixture("monorepo-config")));
    let token = kiln.dir("secrets").join("token");
    fs::write(&token, "a secret").expect("a file can be written");
    let secret = format!("id=token,src={}", path_text(&token));
    let out = kiln.dir("out");
    let context = fixture("monorepo");
    let build = |more: &[&str]| {
        let mut args = vec!["build", "--progress=plain", "-t", "mono", "--build-context", &config];
        args.extend(["--secret", &secret, "--secret", "id=signature,env=KILN_E2E_SIGNATURE"]);
        args.extend_from_slice(more);
        args.push(path_text(&context));
        run(kiln.command(args).env("KILN_E2E_SIGNATURE", "signed")).success()
    };
    build(&["-o", path_text(&out)]);
    let read = |name: &str| fs::read_to_string(out.join(name)).expect("the file was put out");
    assert_eq!(read("api.txt"), "api in eu-north\n");
    assert_eq!(read("web.txt"), "web in everywhere\n");
    assert_eq!(read("result"), "passed\n");
    assert_eq!(read("manifest"), "api\nweb\n");
    assert_eq!(read("config/region"), "eu-north\n");

    build(&[]);
    let history = kiln.ok(["history", "--no-trunc", "mono"]).stdout();
    let saved = kiln.dir("saved").join("mono.tar");
    kiln.ok(["save", "-o", path_text(&saved), "mono"]);
    let bytes = fs::read(&saved).expect("the archive was written");
    for secret in ["a secret", "SIGNATURE=signed"] {
        assert!(!history.contains(secret), "{history}");
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "{secret} is in the image"
        );
    }
}

#[test]
fn a_second_build_is_cached_and_the_same_image() {
    let kiln = Kiln::with_busybox();
    let context = kiln.dir("context");
    fs::write(context.join("file"), "content\n").expect("a file can be written");
    fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nWORKDIR /w\nCOPY file .\nRUN cat file > copy\nRUN date +%N > time\nCMD [\"true\"]\n",
    )
    .expect("a file can be written");
    let build = || {
        let ran = kiln.ok([
            "build",
            "--progress=plain",
            "--iidfile",
            path_text(&context.join("../iid")),
            path_text(&context),
        ]);
        (fs::read_to_string(context.join("../iid")).expect("the image ID was written"), ran)
    };
    let (first, _) = build();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    tool("touch", [path_text(&context.join("file"))]);
    let (second, ran) = build();
    assert_eq!(first, second, "{ran}");
    assert_eq!(ran.stderr().matches("CACHED").count(), 4, "{ran}");

    fs::write(context.join("file"), "other content\n").expect("a file can be written");
    let (third, ran) = build();
    assert_ne!(first, third);
    assert_eq!(ran.stderr().matches("CACHED").count(), 1, "{ran}");
}

#[test]
fn the_same_tree_gives_the_same_layers_on_two_stores() {
    let digests = || {
        let kiln = Kiln::with_busybox();
        let context = kiln.dir("context");
        copy_of("busybox/tree", &context);
        tool("find", [path_text(&context), "-exec", "touch", "-d", "2020-01-01", "{}", "+"]);
        let (file, archive) = (kiln.dir("out").join("Dockerfile"), kiln.dir("out").join("image.tar"));
        fs::write(&file, "FROM busybox\nCOPY . /srv/\n").expect("a file can be written");
        let output = format!("type=oci,dest={}", path_text(&archive));
        kiln.ok(["build", "-f", path_text(&file), "-o", &output, path_text(&context)]);
        skopeo_config(&archive)["rootfs"].clone()
    };
    assert_eq!(digests(), digests());
}

#[test]
fn every_compression_is_read_by_others() {
    let kiln = Kiln::with_busybox();
    let context = fixture("busybox/tree");
    for (compression, media_type) in
        [("gzip", "tar+gzip"), ("zstd", "tar+zstd"), ("uncompressed", "layer.v1.tar")]
    {
        let dir = kiln.dir(compression);
        let archive = dir.join("image.tar");
        let output =
            format!("type=oci,dest={},compression={compression},force-compression=true", path_text(&archive));
        let text = "FROM busybox\nCOPY . /srv/\n";
        fs::write(dir.join("Dockerfile"), text).expect("a file can be written");
        kiln.ok(["build", "-f", path_text(&dir.join("Dockerfile")), "-o", &output, path_text(&context)]);
        skopeo_layout(&archive, &dir);
        let raw =
            tool("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", path_text(&archive))]).json();
        for layer in raw["layers"].as_array().expect("a manifest has layers") {
            let found = layer["mediaType"].as_str().expect("a media type");
            assert!(found.ends_with(media_type), "{compression}: {found}");
        }
    }
}

#[test]
fn a_failing_step_names_its_line_and_code() {
    let kiln = Kiln::with_busybox();
    let ran = kiln.build_text("FROM busybox\n\nRUN echo some output; exit 7\n", &[]);
    assert_eq!(ran.code(), 1, "{ran}");
    ran.says("Dockerfile:3").says("some output").says("exit code: 7");
}

#[test]
fn faults_of_a_dockerfile_are_shown_together() {
    let kiln = Kiln::new();
    let ran = kiln.build_text("FROM scratch\nRNU true\nCOPY a\nWORKDIR\n", &[]);
    assert_eq!(ran.code(), 1, "{ran}");
    ran.says("Dockerfile:2").says("did you mean `RUN`?").says("Dockerfile:3").says("Dockerfile:4");
}
