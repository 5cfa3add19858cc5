//! Outputs, judged by tools that are not kiln's where they are installed.

use std::process::Command;

use kiln::build::request::{Destination, Output};
use kiln::layer::compress::Compression;

use crate::yard::Yard;

const DOCKERFILE: &str = "FROM busybox\nLABEL a=b\nRUN echo 1 > /f; ln /f /g; rm -r /var; chmod 4755 /f\nCOPY a /a\nRUN rm /f; mkdir /d; echo > /d/x\n";

fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

fn oci(to: std::path::PathBuf, archive: bool, compression: Compression) -> Output {
    Output::Oci { to: Destination::Path(to), archive, compression, force: false }
}

#[test]
fn archives_and_layouts() {
    let Some(yard) = Yard::new() else { return };
    yard.write("a", "a");
    let mut request = yard.request(DOCKERFILE);
    request.outputs = vec![
        oci(yard.path("plain.tar"), true, Compression::None),
        oci(yard.path("gzip"), false, Compression::default()),
        oci(yard.path("zstd.tar"), true, Compression::Zstd { level: 3 }),
        Output::Docker {
            to: Destination::Path(yard.path("docker.tar")),
            compression: Compression::default(),
        },
        Output::Store,
    ];
    let outcome = yard.run(request);
    let id = outcome.expect().image.unwrap();
    if !tool("skopeo") {
        return;
    }
    for from in ["oci-archive:plain.tar", "oci:gzip", "oci-archive:zstd.tar", "docker-archive:docker.tar"] {
        let (kind, name) = from.split_once(':').unwrap();
        let inspect = Command::new("skopeo")
            .args(["inspect", "--config", "--raw", &format!("{kind}:{}", yard.path(name).display())])
            .output()
            .unwrap();
        assert!(inspect.status.success(), "{from}: {}", String::from_utf8_lossy(&inspect.stderr));
        let copy = Command::new("skopeo")
            .args(["--insecure-policy", "copy", &format!("{kind}:{}", yard.path(name).display())])
            .arg(format!("dir:{}", yard.path(&format!("copy-{kind}-{name}")).display()))
            .output()
            .unwrap();
        assert!(copy.status.success(), "{from}: {}", String::from_utf8_lossy(&copy.stderr));
        if kind != "docker-archive" {
            assert_eq!(kiln::image::config::ImageConfig::id(&inspect.stdout), id, "{from}");
        }
    }
    if tool("umoci") {
        let unpack = Command::new("umoci")
            .args(["unpack", "--image", &format!("{}:latest", yard.path("gzip").display())])
            .arg(yard.path("bundle"))
            .output()
            .unwrap();
        assert!(unpack.status.success(), "{}", String::from_utf8_lossy(&unpack.stderr));
        let rootfs = yard.path("bundle/rootfs");
        assert!(rootfs.join("a").exists() && !rootfs.join("f").exists() && !rootfs.join("var").exists());
        assert_eq!(std::fs::read_to_string(rootfs.join("g")).unwrap(), "1\n");
    }
}

#[test]
fn a_tar_and_a_directory_hold_the_same() {
    let Some(yard) = Yard::new() else { return };
    yard.write("a", "a");
    std::fs::create_dir(yard.path("local")).unwrap();
    std::fs::write(yard.path("local/mine"), "stays").unwrap();
    let mut request = yard.request(DOCKERFILE);
    request.outputs = vec![
        Output::Local { to: yard.path("local") },
        Output::Tar { to: Destination::Path(yard.path("files.tar")) },
    ];
    let outcome = yard.run(request);
    assert_eq!(outcome.expect().image, None);
    std::fs::create_dir(yard.path("gnu")).unwrap();
    let tar = Command::new("tar")
        .args(["-xpf"])
        .arg(yard.path("files.tar"))
        .arg("-C")
        .arg(yard.path("gnu"))
        .status();
    assert!(tar.unwrap().success());
    let list = |name: &str| {
        let script = "find . ! -path . -printf '%P %y %m %l %s\\n' | grep -v '^mine' | grep -v ' d ' | sort";
        let out = Command::new("sh").args(["-c", script]).current_dir(yard.path(name)).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(list("local"), list("gnu"));
    assert!(list("gnu").contains("g f 4755  2\n"), "{}", list("gnu"));
    assert_eq!(std::fs::read(yard.path("local/mine")).unwrap(), b"stays");
}

#[test]
fn the_config_tells_of_every_step() {
    let Some(yard) = Yard::new() else { return };
    yard.write("a", "a");
    let outcome = yard.build(DOCKERFILE);
    let config = yard.image(outcome.expect()).config;
    let history: Vec<String> =
        config.history.iter().map(|entry| format!("{} {}", entry.empty_layer, entry.created_by)).collect();
    insta::assert_snapshot!(history.join("\n"), @r"
    false import
    true LABEL a=b
    false RUN /bin/sh -c echo 1 > /f; ln /f /g; rm -r /var; chmod 4755 /f
    false COPY a /a
    false RUN /bin/sh -c rm /f; mkdir /d; echo > /d/x
    ");
    assert_eq!(config.created, config.history.last().unwrap().created);
    assert!(config.history[1].created.as_deref() > Some("2020"));
    assert_eq!(config.rootfs.diff_ids.len(), 4);
}
