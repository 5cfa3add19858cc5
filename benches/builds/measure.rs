//! Times one command and its peak memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One timed run.
#[derive(Clone, Copy)]
pub struct Sample {
    /// From start to end.
    pub took: Duration,
    /// The largest resident set of the process itself, in KiB.
    pub peak: i64,
}

/// Runs `command` to its end; it must succeed.
// wait4 is what waits: it alone tells the peak memory of this one child.
#[allow(unsafe_code, clippy::zombie_processes)]
pub fn timed(command: &mut Command) -> Sample {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut errors = child.stderr.take().expect("standard error is a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut errors, &mut text);
        text
    });
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value that wait4 overwrites.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; the pid is a child that nothing else waits for.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    let took = started.elapsed();
    let text = reader.join().unwrap_or_default();
    assert!(waited > 0 && status == 0, "{command:?} failed ({status}):\n{text}");
    Sample { took, peak: usage.ru_maxrss }
}

/// Minimum and median in milliseconds.
pub fn spread(samples: &[Sample]) -> (f64, f64) {
    let mut times: Vec<f64> = samples.iter().map(|sample| sample.took.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

/// `12.3` or `1234`.
pub fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
