//! Limits: options to the form of the runtime spec, checked as Docker checks them.

use oci_spec::runtime::{
    LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use super::error::ContainerError;
use super::options::RunOptions;

/// Docker refuses less: nothing would start.
const LEAST_MEMORY: u64 = 6 << 20;
/// The length of a period of CPU time in microseconds.
const PERIOD: u64 = 100_000;

/// The limits of the container's cgroup.
pub(super) fn resources(options: &RunOptions) -> Result<LinuxResources, ContainerError> {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory(options)?).set_cpu(cpu(options)?);
    if let Some(limit) = options.pids_limit.filter(|limit| *limit != 0) {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit.max(-1));
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn memory(options: &RunOptions) -> Result<Option<LinuxMemory>, ContainerError> {
    let limit = options.memory.filter(|limit| *limit > 0);
    let swap = options.memory_swap.filter(|swap| *swap != 0);
    let refused = |value: String, reason: &str| Err(ContainerError::option("--memory", value, reason));
    let Some(limit) = limit else {
        return match swap {
            Some(swap) if swap > 0 => refused(String::new(), "--memory-swap needs --memory"),
            _ => Ok(None),
        };
    };
    if limit < LEAST_MEMORY {
        return refused(limit.to_string(), "the minimum is 6 MiB");
    }
    let Ok(limit) = i64::try_from(limit) else {
        return refused(limit.to_string(), "no machine has that much");
    };
    let swap = match swap {
        None => limit.saturating_mul(2),
        Some(swap) if swap > 0 && swap < limit => {
            let reason = "it counts memory and swap together, so it must be at least --memory";
            return Err(ContainerError::option("--memory-swap", swap, reason));
        }
        Some(swap) => swap.max(-1),
    };
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(limit)).set_swap(Some(swap));
    Ok(Some(memory))
}

fn cpu(options: &RunOptions) -> Result<Option<LinuxCpu>, ContainerError> {
    let mut cpu = LinuxCpu::default();
    let mut asked = false;
    if let Some(cpus) = options.cpus.filter(|cpus| *cpus != 0.0) {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        if !(0.01..=most as f64).contains(&cpus) {
            let reason = format!("the range is from 0.01 to {most}.00, as there are {most} CPUs");
            return Err(ContainerError::option("--cpus", cpus, reason));
        }
        cpu.set_quota(Some((cpus * PERIOD as f64) as i64)).set_period(Some(PERIOD));
        asked = true;
    }
    if let Some(shares) = options.cpu_shares.filter(|shares| *shares > 0) {
        cpu.set_shares(Some(shares));
        asked = true;
    }
    if let Some(cpus) = options.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
        if !cpus.bytes().all(|byte| byte.is_ascii_digit() || b",-".contains(&byte)) {
            let reason = "expected numbers and ranges, as in 0-3,5";
            return Err(ContainerError::option("--cpuset-cpus", cpus, reason));
        }
        cpu.set_cpus(Some(cpus.clone()));
        asked = true;
    }
    Ok(asked.then_some(cpu))
}

/// The limits of the process.
pub(super) fn rlimits(options: &RunOptions) -> Result<Option<Vec<PosixRlimit>>, ContainerError> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for (name, soft, hard) in &options.ulimits {
        let kind = format!("RLIMIT_{}", name.to_ascii_uppercase()).parse::<PosixRlimitType>();
        let kind = kind.map_err(|_| ContainerError::option("--ulimit", name, "no limit has this name"))?;
        let value = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        if value(*soft) > value(*hard) {
            let reason = format!("the soft limit {soft} is above the hard limit {hard}");
            return Err(ContainerError::option("--ulimit", name, reason));
        }
        let limit = PosixRlimitBuilder::default().typ(kind).soft(value(*soft)).hard(value(*hard)).build();
        let limit = limit.map_err(|error| ContainerError::option("--ulimit", name, error.to_string()))?;
        // The last one of a name counts.
        limits.retain(|known| known.typ() != kind);
        limits.push(limit);
    }
    Ok((!limits.is_empty()).then_some(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(change: fn(&mut RunOptions)) -> RunOptions {
        let mut options = RunOptions::default();
        change(&mut options);
        options
    }

    fn json(change: fn(&mut RunOptions)) -> String {
        serde_json::to_string(&resources(&options(change)).unwrap()).unwrap()
    }

    #[test]
    fn limits() {
        assert_eq!(json(|_| {}), "{}");
        let memory = json(|options| options.memory = Some(64 << 20));
        assert_eq!(memory, r#"{"memory":{"limit":67108864,"swap":134217728}}"#);
        let cpu = json(|options| {
            options.cpus = Some(0.5);
            options.pids_limit = Some(-7);
        });
        assert_eq!(cpu, r#"{"cpu":{"quota":50000,"period":100000},"pids":{"limit":-1}}"#);
    }

    #[test]
    fn what_docker_refuses() {
        let changes: [fn(&mut RunOptions); 6] = [
            |options| options.memory = Some(1 << 20),
            |options| options.memory_swap = Some(1 << 30),
            |options| (options.memory, options.memory_swap) = (Some(1 << 30), Some(1 << 20)),
            |options| options.cpus = Some(0.001),
            |options| options.cpus = Some(100_000.0),
            |options| options.cpuset_cpus = Some("all".to_owned()),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            assert!(resources(&options(change)).is_err(), "{at}");
        }
        for limit in [("nofiles", 1, 1), ("nofile", 2, 1), ("nofile", -1, 1)] {
            let ulimits = vec![(limit.0.to_owned(), limit.1, limit.2)];
            assert!(rlimits(&RunOptions { ulimits, ..RunOptions::default() }).is_err(), "{limit:?}");
        }
    }

    #[test]
    fn the_last_limit_of_a_name_counts() {
        let ulimits = vec![("nofile".into(), 1, 2), ("core".into(), 0, -1), ("nofile".into(), 3, 4)];
        let limits = rlimits(&RunOptions { ulimits, ..RunOptions::default() }).unwrap().unwrap();
        let limits: Vec<_> = limits.iter().map(|limit| (limit.typ(), limit.soft(), limit.hard())).collect();
        assert_eq!(
            limits,
            [(PosixRlimitType::RlimitCore, 0, u64::MAX), (PosixRlimitType::RlimitNofile, 3, 4)]
        );
    }
}
