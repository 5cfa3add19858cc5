//! The first thread of a process makes the child itself and waits for it; others have a thread made
//! for that. Tests run in threads of their own, so this one is a program without a harness.

mod sandbox_bench;

use std::time::Duration;

use kiln::sandbox::Stdio;
use sandbox_bench::Bench;

fn main() {
    let bench = match Bench::new() {
        Ok(bench) => bench,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    assert_eq!(rustix::thread::gettid(), rustix::process::getpid());
    assert_eq!(bench.sh("echo > /file; exit 3").code, 3);
    assert_eq!(bench.changes(), ["file"]);
    bench.fresh_upper();
    assert_eq!(bench.try_run(bench.spec(&["/no/such"]), false).unwrap_err().exit_code(), 127);
    bench.fresh_upper();
    let null = || Stdio::null().unwrap();
    let process = bench.start(bench.spec(&["sleep", "1000"]), null(), true).unwrap();
    assert_eq!(std::fs::read_dir("/proc/self/task").unwrap().count(), 1);
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..3).map(|_| scope.spawn(|| process.wait().unwrap().code())).collect();
        std::thread::sleep(Duration::from_millis(20));
        process.signal(15).unwrap();
        assert!(waits.into_iter().all(|wait| wait.join().unwrap() == 128 + 15));
    });
    bench.fresh_upper();
    drop(bench.start(bench.spec(&["sleep", "1000"]), null(), false).unwrap());
    println!("the first thread waits itself: ok");
}
