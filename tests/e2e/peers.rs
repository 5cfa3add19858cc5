//! What other programs make of kiln's images.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Ran, path_text, run, tool};

/// Copies an OCI archive to a layout with skopeo, which must not have anything to say about it,
/// and gives the layout.
#[track_caller]
pub fn skopeo_layout(archive: &Path, dir: &Path) -> PathBuf {
    let layout = dir.join("layout");
    let from = format!("oci-archive:{}", path_text(archive));
    let to = format!("oci:{}:latest", path_text(&layout));
    let ran = tool("skopeo", ["copy", "--quiet", "--insecure-policy", &from, &to]);
    assert_eq!(ran.stderr(), "", "skopeo warns\n{ran}");
    layout
}

/// The image's config as skopeo reads it.
pub fn skopeo_config(archive: &Path) -> serde_json::Value {
    let from = format!("oci-archive:{}", path_text(archive));
    tool("skopeo", ["inspect", "--config", &from]).json()
}

/// Unpacks an OCI archive to a runtime bundle with umoci.
#[track_caller]
pub fn umoci_bundle(archive: &Path, dir: &Path) -> PathBuf {
    let layout = skopeo_layout(archive, dir);
    let bundle = dir.join("bundle");
    tool("umoci", ["unpack", "--image", &format!("{}:latest", path_text(&layout)), path_text(&bundle)]);
    bundle
}

/// Runs a bundle's process with crun, without a terminal and in the host's network.
pub fn crun(bundle: &Path, name: &str) -> Ran {
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value =
        serde_json::from_slice(&fs::read(&config).expect("umoci wrote a config")).expect("it is JSON");
    spec["process"]["terminal"] = false.into();
    let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a bundle has namespaces");
    namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "user");
    fs::write(&config, spec.to_string()).expect("the config can be written");
    // Where cgroup v1 controllers are mounted beside v2, crun wants the v2 mount out of the way.
    let script = r#"umount /sys/fs/cgroup/unified 2>/dev/null; exec crun run --bundle "$0" "$1""#;
    run(std::process::Command::new("unshare").args(["-m", "sh", "-c", script, path_text(bundle), name]))
}
