//! Makes the static program that every container starts with, `src/sandbox/sys/init.rs`, for the
//! library to include: one file without libraries, so that it runs in any image.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let source = "src/sandbox/sys/init.rs";
    println!("cargo::rerun-if-changed={source}");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = Path::new(&variable("OUT_DIR")).join("init");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-name=init", "--crate-type=bin", "--target", &variable("TARGET")]);
    for option in ["opt-level=s", "panic=abort", "relocation-model=static", "strip=symbols", "debuginfo=0"] {
        rustc.args(["-C", option]);
    }
    for argument in
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,norelro"]
    {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    let status = rustc.arg("-o").arg(&output).arg(source).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("rustc failed for {source}: {status}"),
        Err(error) => panic!("cannot run rustc for {source}: {error}"),
    }
}
