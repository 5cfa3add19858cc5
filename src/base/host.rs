//! What this boot and this process are called, so that rows and leases of an earlier boot or of
//! a dead process can be told from live ones.

use std::fs;

/// The kernel's id of this boot; empty where /proc does not tell.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When process `pid` started, in clock ticks since boot (proc(5), `stat` field 22), or `None`
/// if there is no such process. A pid with its start time names one process of a boot.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets; fields count from behind its last bracket.
    let after = &stat[stat.rfind(')')? + 1..];
    after.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_another_does_not() {
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(u32::MAX), None);
        assert_eq!(boot_id().len(), 36);
    }
}
