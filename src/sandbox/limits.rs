//! Resource limits of a spec as the files of cgroup v1 and v2 (OCI runtime spec config-linux.md,
//! "Control groups"; kernel documentation, cgroup-v1 and cgroup-v2).

use oci_spec::runtime::LinuxResources;

/// One limit: what it is called, whose it is, and file and value in both versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// For people.
    pub name: &'static str,
    pub controller: &'static str,
    pub v1: (String, String),
    pub v2: (String, String),
}

fn limit(name: &'static str, controller: &'static str, v1: (&str, String), v2: (&str, String)) -> Limit {
    Limit { name, controller, v1: (v1.0.to_owned(), v1.1), v2: (v2.0.to_owned(), v2.1) }
}

/// The limits that `resources` asks for, in the order in which they have to be set.
pub(super) fn limits(resources: &LinuxResources) -> Vec<Limit> {
    let mut limits = Vec::new();
    memory(resources, &mut limits);
    cpu(resources, &mut limits);
    if let Some(pids) = resources.pids() {
        let most = most(pids.limit());
        limits.push(limit("process limit", "pids", ("pids.max", most.clone()), ("pids.max", most)));
    }
    limits
}

/// `max` for no limit: zero and below.
fn most(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

fn memory(resources: &LinuxResources, limits: &mut Vec<Limit>) {
    let Some(memory) = resources.memory() else { return };
    let all = memory.limit().filter(|limit| *limit > 0);
    if let Some(limit_) = all {
        let value = limit_.to_string();
        let v1 = ("memory.limit_in_bytes", value.clone());
        limits.push(limit("memory limit", "memory", v1, ("memory.max", value)));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation > 0) {
        let value = reservation.to_string();
        let v1 = ("memory.soft_limit_in_bytes", value.clone());
        limits.push(limit("memory reservation", "memory", v1, ("memory.low", value)));
    }
    // v1 and the spec count memory and swap together, v2 swap alone. -1: no limit.
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        let alone = swap.saturating_sub(all.unwrap_or(0));
        let alone = if swap < 0 { "max".to_owned() } else { alone.max(0).to_string() };
        let v1 = ("memory.memsw.limit_in_bytes", swap.to_string());
        limits.push(limit("swap limit", "memory", v1, ("memory.swap.max", alone)));
    }
}

fn cpu(resources: &LinuxResources, limits: &mut Vec<Limit>) {
    let Some(cpu) = resources.cpu() else { return };
    if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
        // 2..=262144 to 1..=10000.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        let v1 = ("cpu.shares", shares.to_string());
        limits.push(limit("CPU share", "cpu", v1, ("cpu.weight", weight.to_string())));
    }
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        let v2 = format!("{} {period}", most(quota));
        // The period first: the kernel checks a quota against it.
        let both = [("cpu.cfs_period_us", period.to_string()), ("cpu.cfs_quota_us", quota.to_string())];
        for v1 in both {
            limits.push(limit("CPU limit", "cpu", v1, ("cpu.max", v2.clone())));
        }
    }
    for (name, file, value) in
        [("CPU set", "cpuset.cpus", cpu.cpus()), ("memory node set", "cpuset.mems", cpu.mems())]
    {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            limits.push(limit(name, "cpuset", (file, value.clone()), (file, value.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let pair = |(file, value): &(String, String)| format!("{file}={value}");
        limits(&resources).iter().map(|limit| format!("{} {}", pair(&limit.v1), pair(&limit.v2))).collect()
    }

    #[test]
    fn both_versions() {
        let json = r#"{"memory": {"limit": 1048576, "swap": 2097152}, "pids": {"limit": 7},
            "cpu": {"shares": 1024, "quota": 50000, "cpus": "0"}}"#;
        insta::assert_snapshot!(files(json).join("\n"), @r"
        memory.limit_in_bytes=1048576 memory.max=1048576
        memory.memsw.limit_in_bytes=2097152 memory.swap.max=1048576
        cpu.shares=1024 cpu.weight=39
        cpu.cfs_period_us=100000 cpu.max=50000 100000
        cpu.cfs_quota_us=50000 cpu.max=50000 100000
        cpuset.cpus=0 cpuset.cpus=0
        pids.max=7 pids.max=7
        ");
    }

    #[test]
    fn no_limit() {
        assert_eq!(files(r#"{"pids": {"limit": -1}}"#), ["pids.max=max pids.max=max"]);
        assert_eq!(files(r#"{"memory": {"limit": -1}}"#), [""; 0]);
        assert_eq!(files("{}"), [""; 0]);
    }
}
