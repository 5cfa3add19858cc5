//! Times whole commands: kiln, and every peer that is installed, in turns within one run, so that
//! what disturbs one disturbs all. Prints each one's minimum and median, and its ratio to kiln.
//!
//! ```text
//! cargo bench --bench builds                      # all cases
//! cargo bench --bench builds -- copy-10k run      # the cases whose names start so
//! cargo bench --bench builds -- --samples 20 --dir /mnt/fast
//! ```
//!
//! Root and busybox-static are needed. Files are made under `--dir` (default: the target
//! directory) and taken away at the end; nothing that is timed deletes before it creates, since
//! some file systems make creation slow after that.

mod cases;
mod measure;
mod peers;
mod trees;

use std::path::PathBuf;

fn main() {
    let mut wanted = Vec::new();
    let mut samples = 7;
    let mut dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Passed by cargo.
            "--bench" => {}
            "--samples" => {
                samples = args.next().and_then(|text| text.parse().ok()).expect("--samples takes a number")
            }
            "--dir" => dir = args.next().expect("--dir takes a path").into(),
            name => wanted.push(name.to_owned()),
        }
    }
    let place = dir.join(std::process::id().to_string());
    std::fs::create_dir_all(&place).expect("the directory for the trees can be made");
    let peers = peers::found(&place);
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    println!("peers: {}; {samples} samples each, in turns; times in ms, min / median", names.join(", "));
    for case in cases::all() {
        if wanted.is_empty() || wanted.iter().any(|name| case.name.starts_with(name.as_str())) {
            cases::run(&case, &peers, &place, samples);
        }
    }
    let _ = std::fs::remove_dir_all(&place);
}
