//! Real sandboxes, looked at from the inside by busybox and from the outside by what they leave
//! behind. They need root and a static busybox, and say so where one is missing.

mod sandbox_bench;

use sandbox_bench::{Bench, Ran};

/// A bench with busybox in its lowest layer, or the reason why there is none.
macro_rules! bench {
    () => {
        match Bench::new() {
            Ok(bench) => bench,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return;
            }
        }
    };
}

#[test]
fn a_command_runs_as_pid_1_and_its_code_comes_back() {
    let bench = bench!();
    let Ran { code, stdout, .. } = bench.sh("echo pid $$; exit 7");
    assert_eq!((code, stdout.as_str()), (7, "pid 1\n"));
}

#[test]
fn the_upper_is_the_diff_and_devices_of_the_host_stay_closed() {
    let bench = bench!();
    let ran = bench.sh("echo new > /file; busybox mknod /disk b 254 0; cat /disk; cat /dev/disk");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("'/disk': Operation not permitted"), "{ran:?}");
    assert_eq!(bench.changes(), ["disk", "file"]);
}
