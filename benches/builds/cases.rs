//! What is timed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Sample, number, spread, timed};
use crate::peers::{Build, Peer, buildah_command, kiln_command, works};
use crate::trees;

/// One case.
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is timed, in words.
    pub what: &'static str,
    run: fn(&Bench),
}

/// A name in the table, and what makes its command.
type Named<'a> = (&'a str, Box<dyn FnMut() -> Command + 'a>);

/// What a case works with.
struct Bench<'a> {
    peers: &'a [Peer],
    place: PathBuf,
    samples: usize,
    stores: Cell<usize>,
}

/// All cases, in the order of the table in `docs/performance.md`.
pub fn all() -> Vec<Case> {
    vec![
        Case {
            name: "run-20",
            what: "20 RUN steps, none cached (floor: 20 times unshare and chroot)",
            run: run_steps,
        },
        Case { name: "cached-20", what: "the same 20 steps, all cached", run: cached_steps },
        Case {
            name: "copy-10k-same",
            what: "COPY of 10,000 files, nothing changed",
            run: |b| copy_same(b, 10_000),
        },
        Case {
            name: "copy-100k-same",
            what: "COPY of 100,000 files, nothing changed",
            run: |b| copy_same(b, 100_000),
        },
        Case {
            name: "copy-10k-cold",
            what: "COPY of 10,000 files into an uncompressed OCI archive, new store (floor: tar | sha256sum)",
            run: |b| copy_cold(b, 10_000, true),
        },
        Case {
            name: "copy-100k-cold",
            what: "COPY of 100,000 files, new store",
            run: |b| copy_cold(b, 100_000, false),
        },
        Case {
            name: "copy-10k-one",
            what: "COPY of 10,000 files, one of them changed",
            run: |b| copy_one_changed(b, 10_000),
        },
        Case {
            name: "copy-100k-one",
            what: "COPY of 100,000 files, one of them changed",
            run: |b| copy_one_changed(b, 100_000),
        },
        Case { name: "copy-1g", what: "COPY of one file of 1 GiB, new store", run: copy_large },
        Case { name: "stages-4", what: "four independent stages of `sleep 2`", run: stages },
        Case { name: "export", what: "export of one 500 MB layer (MB/s, with both digests)", run: export },
        Case { name: "start", what: "run --rm --network host busybox true", run: start },
    ]
}

/// Runs one case and prints its table.
pub fn run(case: &Case, peers: &[Peer], place: &Path, samples: usize) {
    println!("\n{}: {}", case.name, case.what);
    let place = place.join(case.name);
    fs::create_dir_all(&place).expect("a directory can be made");
    (case.run)(&Bench { peers, place, samples, stores: Cell::new(0) });
}

impl Bench<'_> {
    fn context(&self, name: &str) -> PathBuf {
        let dir = self.place.join(name);
        fs::create_dir_all(&dir).expect("a directory can be made");
        dir
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.place.join("Dockerfile");
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// `peer` on a store nobody has used.
    fn fresh(&self, peer: &Peer) -> Peer {
        self.stores.set(self.stores.get() + 1);
        let store = self.place.join(format!("store-{}-{}", peer.name, self.stores.get()));
        fs::create_dir_all(&store).expect("a directory can be made");
        peer.on(store)
    }

    /// Times each command in turns, after one round that is not counted, and prints the table.
    fn compare(&self, commands: &mut [(&str, &mut dyn FnMut() -> Command)], warm: bool) {
        let mut all: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
        for round in 0..self.samples + usize::from(warm) {
            for (at, (_, command)) in commands.iter_mut().enumerate() {
                let sample = timed(&mut command());
                if round > 0 || !warm {
                    all.entry(at).or_default().push(sample);
                }
            }
        }
        let (_, base) = spread(&all[&0]);
        for (at, (name, _)) in commands.iter().enumerate() {
            let (min, median) = spread(&all[&at]);
            let peak = all[&at].iter().map(|sample| sample.peak).max().unwrap_or(0) / 1024;
            let (min, median, ratio) = (number(min), number(median), median / base);
            println!("  {name:<22} {min:>8} / {median:<8} {ratio:>7.2} x   peak {peak} MiB");
        }
    }

    /// Times `build` with every peer, each on the store `stores` gives.
    fn builds(
        &self,
        peers: Vec<Peer>,
        build: impl Fn(&Peer) -> Command,
        floor: Option<&dyn Fn() -> Command>,
    ) {
        let mut closures: Vec<Named> = Vec::new();
        for peer in &peers {
            closures.push((peer.name, Box::new(|| build(peer))));
        }
        if let Some(floor) = floor {
            closures.push(("floor", Box::new(floor)));
        }
        let mut commands: Vec<(&str, &mut dyn FnMut() -> Command)> = Vec::new();
        for (name, closure) in &mut closures {
            commands.push((name, closure.as_mut()));
        }
        self.compare(&mut commands, true);
    }

    /// All peers on fresh stores that have the image `busybox`.
    fn with_busybox(&self) -> Vec<Peer> {
        let archive = busybox(&self.place);
        let fresh: Vec<Peer> = self.peers.iter().map(|peer| self.fresh(peer)).collect();
        for peer in &fresh {
            let mut import = match peer.name {
                "kiln" => kiln_command(&peer.store),
                "buildah" => {
                    let dockerfile = self.place.join("Dockerfile.busybox");
                    fs::write(&dockerfile, "FROM scratch\nADD busybox.tar /\n")
                        .expect("a file can be written");
                    let mut command = buildah_command(&peer.store);
                    command
                        .args(["build", "-q", "-t", "docker.io/library/busybox", "-f"])
                        .arg(&dockerfile)
                        .arg(&self.place);
                    timed(&mut command);
                    continue;
                }
                _ => Command::new("docker"),
            };
            timed(import.arg("import").arg(&archive).arg("busybox"));
        }
        fresh
    }
}

/// A root file system of busybox-static as a tar; also unpacked beside it.
fn busybox(place: &Path) -> PathBuf {
    let archive = place.join("busybox.tar");
    if !archive.exists() {
        let root = place.join("busybox");
        fs::create_dir_all(root.join("bin")).expect("a directory can be made");
        fs::create_dir_all(root.join("proc")).expect("a directory can be made");
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "true", "sleep", "echo"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link can be made");
        }
        timed(
            Command::new("tar").arg("-C").arg(&root).args(["--numeric-owner", "-cf"]).arg(&archive).arg("."),
        );
    }
    archive
}

fn twenty_steps() -> String {
    let steps: String = (0..20).map(|at| format!("RUN echo {at} > /f\n")).collect();
    format!("FROM busybox\n{steps}")
}

fn run_steps(bench: &Bench) {
    let (context, file) = (bench.context("empty"), bench.file(&twenty_steps()));
    let peers = bench.with_busybox();
    let root = bench.place.join("busybox");
    let script = "i=0; while [ $i -lt 20 ]; do unshare -Urmpf chroot \"$0\" /bin/sh -c \"echo $i > /f\" || exit 1; i=$((i+1)); done";
    let floor = || {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&root);
        command
    };
    let build =
        |peer: &Peer| peer.build(&Build { context: &context, file: &file, cache: false, archive: None });
    bench.builds(peers, build, Some(&floor));
}

fn cached_steps(bench: &Bench) {
    let (context, file) = (bench.context("empty"), bench.file(&twenty_steps()));
    let build =
        |peer: &Peer| peer.build(&Build { context: &context, file: &file, cache: true, archive: None });
    bench.builds(bench.with_busybox(), build, None);
}

fn copy_same(bench: &Bench, count: usize) {
    let (context, file) = (bench.context("tree"), bench.file("FROM scratch\nCOPY . /srv/\n"));
    trees::small_files(&context, count);
    let peers = bench.peers.iter().map(|peer| bench.fresh(peer)).collect();
    let build =
        |peer: &Peer| peer.build(&Build { context: &context, file: &file, cache: true, archive: None });
    bench.builds(peers, build, None);
}

fn copy_cold(bench: &Bench, count: usize, archive: bool) {
    let (context, file) = (bench.context("tree"), bench.file("FROM scratch\nCOPY . /srv/\n"));
    trees::small_files(&context, count);
    let build = |peer: &Peer| {
        let peer = bench.fresh(peer);
        let out = peer.store.join("image.tar");
        let archive = archive.then_some(out.as_path());
        peer.build(&Build { context: &context, file: &file, cache: true, archive })
    };
    let floor = || {
        let mut command = Command::new("sh");
        command.args(["-c", "tar -C \"$0\" -c . | sha256sum"]).arg(&context);
        command
    };
    bench.builds(bench.peers.iter().map(|peer| peer.on(peer.store.clone())).collect(), build, Some(&floor));
}

fn copy_one_changed(bench: &Bench, count: usize) {
    let (context, file) = (bench.context("tree"), bench.file("FROM scratch\nCOPY . /srv/\n"));
    trees::small_files(&context, count);
    let peers = bench.peers.iter().map(|peer| bench.fresh(peer)).collect();
    let round = Cell::new(0);
    let build = |peer: &Peer| {
        round.set(round.get() + 1);
        fs::write(context.join("d000/s00/file000000.txt"), format!("round {}", round.get()))
            .expect("a file can be written");
        peer.build(&Build { context: &context, file: &file, cache: true, archive: None })
    };
    bench.builds(peers, build, None);
}

fn copy_large(bench: &Bench) {
    let (context, file) = (bench.context("tree"), bench.file("FROM scratch\nCOPY . /srv/\n"));
    trees::large_file(&context.join("large"), 1 << 30);
    let build = |peer: &Peer| {
        bench.fresh(peer).build(&Build { context: &context, file: &file, cache: true, archive: None })
    };
    let floor = || {
        let mut command = Command::new("sha256sum");
        command.arg(context.join("large"));
        command
    };
    bench.builds(bench.peers.iter().map(|peer| peer.on(peer.store.clone())).collect(), build, Some(&floor));
}

fn stages(bench: &Bench) {
    let names = ["a", "b", "c", "d"];
    let stages: String =
        names.map(|name| format!("FROM busybox AS {name}\nRUN sleep 2; echo {name} > /{name}\n")).concat();
    let copies: String = names.map(|name| format!("COPY --from={name} /{name} /\n")).concat();
    let (context, file) = (bench.context("empty"), bench.file(&format!("{stages}FROM scratch\n{copies}")));
    let build =
        |peer: &Peer| peer.build(&Build { context: &context, file: &file, cache: false, archive: None });
    bench.builds(bench.with_busybox(), build, None);
}

fn export(bench: &Bench) {
    const SIZE: usize = 500_000_000;
    let (context, file) = (bench.context("tree"), bench.file("FROM scratch\nCOPY large /\n"));
    trees::large_file(&context.join("large"), SIZE);
    for compression in ["uncompressed", "gzip", "zstd"] {
        let one = |_| {
            // What was compressed once is kept, so every sample has a store of its own.
            let kiln = bench.fresh(&bench.peers[0]);
            timed(&mut kiln.build(&Build { context: &context, file: &file, cache: true, archive: None }));
            let dest = kiln.store.join("image.tar");
            let output = format!("type=oci,compression={compression},dest={}", dest.display());
            let mut command = kiln_command(&kiln.store);
            command.args(["build", "-q", "-f"]).arg(&file).arg("-o").arg(output).arg(&context);
            timed(&mut command)
        };
        let samples: Vec<Sample> = (0..bench.samples).map(one).collect();
        let (best, median) = spread(&samples);
        let speed = |ms: f64| number(SIZE as f64 / 1e3 / ms);
        println!("  {compression:<22} {:>8} MB/s best, {} MB/s median", speed(best), speed(median));
    }
}

fn start(bench: &Bench) {
    let kiln = bench.fresh(&bench.peers[0]);
    let archive = busybox(&bench.place);
    timed(kiln_command(&kiln.store).arg("import").arg(&archive).arg("busybox"));
    let bundle = bench.context("bundle");
    let spec =
        include_str!("bundle.json").replace("ROOTFS", &bench.place.join("busybox").display().to_string());
    fs::write(bundle.join("config.json"), spec).expect("a file can be written");
    let mut run_kiln = || {
        let mut command = kiln_command(&kiln.store);
        command.args(["run", "--rm", "--network", "host", "busybox", "true"]);
        command
    };
    let mut run_crun = || {
        let mut command = Command::new("crun");
        command.args(["run", "--bundle"]).arg(&bundle).arg("kiln-bench");
        command
    };
    let mut run_runc = || {
        let mut command = Command::new("runc");
        command.args(["run", "--bundle"]).arg(&bundle).arg("kiln-bench");
        command
    };
    let mut commands: Vec<(&str, &mut dyn FnMut() -> Command)> = vec![("kiln", &mut run_kiln)];
    if runs(&mut run_crun) {
        commands.push(("crun", &mut run_crun));
    } else {
        println!("  crun does not run a bundle here (plain cgroup v2 is needed: see docs/performance.md)");
    }
    if runs(&mut run_runc) {
        commands.push(("runc", &mut run_runc));
    }
    bench.compare(&mut commands, true);
}

/// Whether a runtime is installed and can run the bundle.
fn runs(command: &mut dyn FnMut() -> Command) -> bool {
    let mut command = command();
    let program = command.get_program().to_str().unwrap_or_default().to_owned();
    works(&program, &["--version"]) && command.output().is_ok_and(|output| output.status.success())
}
