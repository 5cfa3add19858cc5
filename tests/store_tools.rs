//! Archives and layouts between the store and tools that others wrote: skopeo and umoci read what
//! is written here, and what they write is loaded.

use std::fs;
use std::path::Path;
use std::process::Command;

use kiln::base::clock::Clock;
use kiln::base::digest::LayerId;
use kiln::base::platform::Platform;
use kiln::image::config::{History, ImageConfig};
use kiln::image::manifest::{Descriptor, Manifest, media_type};
use kiln::image::write::{Form, TargetImage, TargetLayer, write_archive, write_layout};
use kiln::layer::compress::Compression;
use kiln::layer::scan::scan_tree;
use kiln::store::Store;
use tempfile::TempDir;

fn installed(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

/// Runs a tool that must succeed without a warning; gives what it printed.
fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {errors}");
    assert!(!errors.to_lowercase().contains("warn"), "{tool} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn layer(store: &Store, name: &str, content: &str) -> LayerId {
    let prepared = store.prepare().unwrap();
    let tree = prepared.path().join("tree");
    fs::create_dir_all(tree.join("dir")).unwrap();
    fs::write(tree.join("dir").join(name), content).unwrap();
    let index = scan_tree(&tree).unwrap();
    store.commit_tree(prepared, &index, None).unwrap()
}

/// An image of two layers, ready to be written.
fn image(store: &Store, how: Compression) -> TargetImage {
    let layers = [layer(store, "one", "1"), layer(store, "two", "2")];
    let mut config = ImageConfig::new(&Platform::host());
    config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
    config.rootfs.diff_ids = layers.iter().map(|layer| store.diff_id(*layer).unwrap()).collect();
    config.history = layers.iter().map(|_| History::default()).collect();
    let config = config.to_bytes();
    store.put_image(&config, &layers, None).unwrap();
    let blobs: Vec<_> = layers.iter().map(|layer| store.compressed(*layer, how, false).unwrap()).collect();
    let descriptor =
        |blob: &kiln::store::LayerBlob| Descriptor::new(how.media_type(), blob.digest, blob.size);
    let layers = blobs.iter().map(descriptor).collect();
    TargetImage {
        names: vec!["example/image:tag".parse().unwrap()],
        manifest: Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), layers).to_bytes(),
        config,
        platform: Platform::host(),
        layers: blobs
            .into_iter()
            .map(|blob| TargetLayer { digest: blob.digest, size: blob.size, path: blob.path })
            .collect(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn others_read_what_is_written() {
    if !installed("skopeo") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store"), Clock::System).unwrap();
    let ways = [Compression::None, Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }];
    for (number, how) in ways.into_iter().enumerate() {
        let image = image(&store, how);
        let at = |name: &str| dir.path().join(format!("{number}-{name}"));
        let (layout, oci, docker) = (at("layout"), at("oci.tar"), at("docker.tar"));
        write_layout(std::slice::from_ref(&image), &layout).unwrap();
        let write = |path: &Path, form| {
            write_archive(std::slice::from_ref(&image), form, fs::File::create(path).unwrap()).unwrap();
        };
        write(&oci, Form::Oci);
        write(&docker, Form::Docker);
        let sources = [
            format!("oci:{}:tag", text(&layout)),
            format!("oci-archive:{}:tag", text(&oci)),
            format!("docker-archive:{}:docker.io/example/image:tag", text(&docker)),
        ];
        for (form, source) in sources.iter().enumerate() {
            let copy = at(&format!("copy-{form}"));
            run("skopeo", &["copy", "--quiet", source, &format!("oci:{}:copied", text(&copy))]);
            let config = run("skopeo", &["inspect", "--config", "--raw", source]);
            assert_eq!(config.as_bytes(), image.config, "{source}");
        }
        // umoci wants root to give files their owners, and knows no zstd.
        if rustix::process::geteuid().is_root() && installed("umoci") && number < 2 {
            let bundle = at("bundle");
            run("umoci", &["unpack", "--image", &format!("{}:tag", text(&layout)), text(&bundle)]);
            assert_eq!(fs::read_to_string(bundle.join("rootfs/dir/two")).unwrap(), "2");
        }
    }
}

#[test]
fn what_others_write_is_loaded() {
    if !installed("skopeo") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store"), Clock::System).unwrap();
    let image = image(&store, Compression::Gzip { level: 6 });
    let layout = dir.path().join("layout");
    write_layout(std::slice::from_ref(&image), &layout).unwrap();
    let source = format!("oci:{}:tag", text(&layout));
    for (number, form) in ["oci-archive", "docker-archive"].into_iter().enumerate() {
        let archive = dir.path().join(form);
        run("skopeo", &["copy", "--quiet", &source, &format!("{form}:{}:other/name:1", text(&archive))]);
        let other = Store::open(&dir.path().join(number.to_string()), Clock::System).unwrap();
        let loaded = other.load_file(&archive, &Platform::host()).unwrap();
        assert_eq!(loaded[0].id, ImageConfig::id(&image.config), "{form}");
        assert_eq!(loaded[0].names, ["other/name:1".parse().unwrap()], "{form}");
        let found = other.image(loaded[0].id).unwrap().unwrap();
        assert_eq!(other.read_file(&found.layers, b"dir/one", 10).unwrap().unwrap(), b"1");
        assert_eq!(other.check().unwrap().problems, Vec::<String>::new());
    }
}
