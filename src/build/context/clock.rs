//! Whether a file's times prove that it has not been written since it was hashed.
//!
//! Times move in steps: a file written twice within one step has the same times twice. So a
//! digest is kept for later builds only if both times of its file are older than the start of
//! the scan by more than a step: 10 ms, or 2 s where a file system seems to keep whole seconds.
//! What counts is the clock that the file system stamps with, which for a network file system is
//! not ours.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};
use rustix::time::ClockId;

use crate::base::clock::Time;

const STEP: i128 = 10_000_000;
const COARSE_STEP: i128 = 2_000_000_000;

/// When a scan began, by the clock of the context's file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    nanoseconds: i128,
}

impl Start {
    /// Now, by the system's clock: to be taken before the first file is looked at.
    pub(super) fn now() -> Self {
        // The coarse clock is the one that the kernel stamps files with.
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Self { nanoseconds: i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec) }
    }

    /// Corrects the start by the file system's own clock. An unnamed file in `directory` tells
    /// it; where there can be none (read-only, some network file systems), the newest change
    /// that the scan saw is the latest time that is known to have come.
    pub(super) fn on(self, directory: BorrowedFd<'_>, newest_change: Time) -> Self {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let probe = rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| rustix::fs::fstat(&file));
        let known = match probe {
            Ok(stat) => {
                let stamp = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
                self.nanoseconds + nanoseconds(stamp) - Self::now().nanoseconds
            }
            Err(_) => nanoseconds(newest_change),
        };
        Self { nanoseconds: known.min(self.nanoseconds) }
    }

    /// Whether a file with these times cannot be written again without a change of them.
    pub(super) fn settled(&self, mtime: Time, ctime: Time) -> bool {
        let whole = mtime.nanoseconds == 0 && ctime.nanoseconds == 0;
        let step = if whole { COARSE_STEP } else { STEP };
        nanoseconds(mtime.max(ctime)) < self.nanoseconds - step
    }
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_times_before_the_start_count() {
        let start = Start { nanoseconds: 100_000_000_000 };
        let at = |seconds, nanoseconds| Time { seconds, nanoseconds };
        for (mtime, ctime, settled) in [
            (at(99, 989_999_999), at(99, 1), true),
            (at(99, 990_000_000), at(99, 1), false),
            (at(5, 1), at(99, 995_000_000), false),
            (at(97, 0), at(97, 0), true),
            (at(98, 0), at(5, 0), false),
            (at(98, 0), at(5, 1), true),
            (at(200, 0), at(5, 1), false),
        ] {
            assert_eq!(start.settled(mtime, ctime), settled, "{mtime:?} {ctime:?}");
        }
    }

    #[test]
    fn a_read_only_file_system_counts_from_its_newest_change() {
        let proc = std::fs::File::open("/proc/self").unwrap();
        let start = Start::now().on(proc.as_fd(), Time::from_seconds(50));
        assert_eq!(start.nanoseconds, 50_000_000_000);
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(dir.path()).unwrap();
        let now = Start::now();
        let start = now.on(dir.as_fd(), Time::default());
        assert!(now.nanoseconds - start.nanoseconds < 1_000_000_000);
    }
}
