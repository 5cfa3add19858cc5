//! What one sandbox costs: Docker's default spec on ten layers, `true` as the command, from the
//! spec to the end, beside what the shell's tools make of the same command.
//!
//! `cargo bench --bench sandbox`; needs root and a static busybox.

#[path = "../tests/sandbox_bench/mod.rs"]
mod sandbox_bench;

use std::process::Command;

use divan::Bencher;
use kiln::sandbox::defaults::{self, Network};
use kiln::sandbox::{Stdio, seccomp::Profile};
use sandbox_bench::Bench;

fn main() {
    match Bench::new() {
        Ok(_) => divan::main(),
        Err(reason) => eprintln!("nothing measured: {reason}"),
    }
}

fn layers(count: usize) -> Bench {
    let mut bench = Bench::new().expect("main has looked");
    for at in 1..count {
        let layer = bench.layer();
        std::fs::write(layer.join(format!("file-{at}")), "content").expect("a fresh layer");
    }
    bench
}

#[divan::bench(args = [1, 10, 59])]
fn run_true(bencher: Bencher<'_, '_>, count: usize) {
    let bench = layers(count);
    bencher.bench_local(|| {
        bench.fresh_upper();
        let spec = bench.spec(&["/bin/true"]);
        let process = bench.start(spec, Stdio::null().expect("/dev/null"), false).expect("it starts");
        assert_eq!(process.wait().expect("it ends").code(), 0);
    });
}

#[divan::bench]
fn run_true_without_network(bencher: Bencher<'_, '_>) {
    let bench = layers(10);
    bencher.bench_local(|| {
        bench.fresh_upper();
        let mut spec = bench.spec(&["/bin/true"]);
        let linux = spec.linux_mut().as_mut().expect("a default");
        linux.set_namespaces(Some(defaults::namespaces(Network::None)));
        let process = bench.start(spec, Stdio::null().expect("/dev/null"), false).expect("it starts");
        assert_eq!(process.wait().expect("it ends").code(), 0);
    });
}

#[divan::bench]
fn unshare_and_chroot(bencher: Bencher<'_, '_>) {
    let bench = layers(1);
    let root = bench.path("layer-0");
    bencher.bench_local(|| {
        let mut command = Command::new("unshare");
        let status = command.args(["-Urmpf", "chroot"]).arg(&root).arg("/bin/true").status();
        assert!(status.expect("unshare is installed").success());
    });
}

#[divan::bench]
fn default_spec() -> oci_spec::runtime::Spec {
    defaults::spec(Network::Host).expect("a default")
}

#[divan::bench]
fn read_profile() -> Profile {
    let json = include_bytes!("../fixtures/sandbox/docker-default-seccomp.json");
    Profile::parse(json).expect("it is one")
}
