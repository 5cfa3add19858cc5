//! Builds whose RUN steps reach package registries through the host's network. The machine's own
//! settings are handed over as secrets; nothing of them is written here or ends up in the image.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Kiln, Ran, debian_archive, fixture, path_text, run};
use crate::peers::{crun, umoci_bundle};

/// Whether the tests of this file are left out, with a word about it.
fn offline() -> bool {
    let offline = std::env::var_os("KILN_TEST_OFFLINE").is_some_and(|value| value != "0");
    if offline {
        eprintln!("skipped: KILN_TEST_OFFLINE is set");
    }
    offline
}

/// The machine's settings that exist, as secrets by their ids in the fixtures.
fn machine_secrets() -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let variable = |name: &str| std::env::var(name).map(PathBuf::from).ok();
    let candidates = [
        ("apt-sources", Some(PathBuf::from("/etc/apt/sources.list.d/debian.sources"))),
        ("apt-conf", Some(PathBuf::from("/etc/apt/apt.conf"))),
        ("pip-conf", variable("PIP_CONFIG_FILE").or(Some(PathBuf::from("/etc/pip.conf")))),
        ("npm-conf", variable("NPM_CONFIG_USERCONFIG").or(Some(Path::new(&home).join(".npmrc")))),
        ("ca", variable("SSL_CERT_FILE").or(Some(PathBuf::from("/etc/ssl/certs/ca-certificates.crt")))),
    ];
    let mut args = Vec::new();
    for (id, path) in candidates {
        if let Some(path) = path.filter(|path| path.is_file()) {
            args.extend(["--secret".to_owned(), format!("id={id},src={}", path.display())]);
        }
    }
    for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        if std::env::var_os(name).is_some() {
            args.extend(["--build-arg".to_owned(), name.to_owned()]);
        }
    }
    args
}

/// Builds `fixtures/e2e/NAME` on Debian twice, the second time from the cache, and gives its OCI archive.
fn build(kiln: &Kiln, name: &str) -> PathBuf {
    kiln.ok(["import", path_text(&debian_archive()), "debian:bookworm"]);
    let archive = kiln.dir("out").join("image.tar");
    let iidfile = kiln.dir("out").join("iid");
    let build = || -> (Ran, String) {
        let output = format!("type=oci,dest={}", path_text(&archive));
        let mut args =
            vec!["build".to_owned(), "--progress=plain".to_owned(), "-t".to_owned(), name.to_owned()];
        args.extend(["-o".to_owned(), "type=image".to_owned(), "-o".to_owned(), output]);
        args.extend(["--iidfile".to_owned(), path_text(&iidfile).to_owned()]);
        args.extend(machine_secrets());
        args.push(path_text(&fixture(name)).to_owned());
        let ran = run(&mut kiln.command(args)).success();
        (ran, fs::read_to_string(&iidfile).expect("the image ID was written"))
    };
    let (_, first) = build();
    let (ran, second) = build();
    assert_eq!(first, second, "{ran}");
    assert!(!ran.stderr().contains("DONE") || ran.stderr().contains("CACHED"), "{ran}");
    archive
}

#[test]
fn debian_compiles_in_one_stage_and_runs_in_another() {
    if offline() {
        return;
    }
    let kiln = Kiln::new();
    let archive = build(&kiln, "debian");
    assert_eq!(kiln.ok(["run", "--rm", "debian"]).stdout(), "hello from\nhello debian\n");
    let bundle = umoci_bundle(&archive, &kiln.dir("umoci"));
    assert!(!bundle.join("rootfs/usr/bin/gcc").exists(), "the compiler is in the second stage");
    assert!(!bundle.join("rootfs/run/secrets").exists(), "a mount point is in the image");
    let ran = crun(&bundle, &format!("kiln-e2e-debian-{}", std::process::id()));
    assert_eq!((ran.code(), ran.stdout().as_str()), (0, "hello from\nhello debian\n"), "{ran}");
}

#[test]
fn python_with_a_cache_mount_for_pip() {
    if offline() {
        return;
    }
    let kiln = Kiln::new();
    let archive = build(&kiln, "python");
    assert_eq!(kiln.ok(["run", "--rm", "python", "signed", "words"]).stdout(), "signed words\n");
    let bundle = umoci_bundle(&archive, &kiln.dir("umoci"));
    let cache = bundle.join("rootfs/root/.cache");
    assert!(!cache.exists(), "the cache mount is in the image");
}

#[test]
fn node_with_npm_install() {
    if offline() {
        return;
    }
    let kiln = Kiln::new();
    let archive = build(&kiln, "node");
    assert_eq!(kiln.ok(["run", "--rm", "node"]).stdout(), "5e3 true\nkiln false\n");
    let bundle = umoci_bundle(&archive, &kiln.dir("umoci"));
    assert!(bundle.join("rootfs/app/node_modules/is-number/package.json").exists());
    assert!(!bundle.join("rootfs/root/.npmrc").exists(), "a secret's mount point is in the image");
}
