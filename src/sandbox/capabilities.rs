//! Capabilities by name (capabilities(7)): the numbers are the kernel's and never change.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Every capability in the order of its number, which is its place in this list.
pub const ALL: [Capability; 41] = {
    use Capability::*;
    [
        Chown,
        DacOverride,
        DacReadSearch,
        Fowner,
        Fsetid,
        Kill,
        Setgid,
        Setuid,
        Setpcap,
        LinuxImmutable,
        NetBindService,
        NetBroadcast,
        NetAdmin,
        NetRaw,
        IpcLock,
        IpcOwner,
        SysModule,
        SysRawio,
        SysChroot,
        SysPtrace,
        SysPacct,
        SysAdmin,
        SysBoot,
        SysNice,
        SysResource,
        SysTime,
        SysTtyConfig,
        Mknod,
        Lease,
        AuditWrite,
        AuditControl,
        Setfcap,
        MacOverride,
        MacAdmin,
        Syslog,
        WakeAlarm,
        BlockSuspend,
        AuditRead,
        Perfmon,
        Bpf,
        CheckpointRestore,
    ]
};

/// The capability that `name` names, in any case, with or without `CAP_`.
pub fn by_name(name: &str) -> Option<Capability> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    ALL.into_iter().find(|capability| capability.to_string() == name)
}

/// `CAP_…`, as people know it.
pub fn name(capability: Capability) -> String {
    format!("CAP_{capability}")
}

/// The sets for a spec, without what this process could not give: it says which those are.
pub(super) struct Resolved {
    /// To drop from the bounding set, in rising order, those that no kernel knows included.
    pub drop: Vec<u32>,
    /// Effective, permitted, inheritable.
    pub sets: CapabilitySets,
    /// Ambient.
    pub ambient: Vec<u32>,
    /// Asked for but not kiln's own to give.
    pub refused: Vec<Capability>,
}

/// Resolves a spec's sets against what this process `own`s (its permitted set).
pub(super) fn resolve(wanted: Option<&LinuxCapabilities>, own: CapabilitySet) -> Resolved {
    let bits = |set: Option<&HashSet<Capability>>| -> u64 {
        let numbers = ALL.iter().enumerate();
        numbers.filter(|(_, one)| set.is_some_and(|set| set.contains(one))).map(|(at, _)| 1u64 << at).sum()
    };
    let set = |choose: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
        bits(wanted.and_then(|wanted| choose(wanted).as_ref()))
    };
    let own = own.bits();
    let bounding = set(LinuxCapabilities::bounding);
    let permitted = set(LinuxCapabilities::permitted) & own;
    let inheritable = set(LinuxCapabilities::inheritable) & own;
    let ambient = set(LinuxCapabilities::ambient) & permitted & inheritable;
    let numbers = |bits: u64| (0..64u32).filter(move |at| bits >> at & 1 == 1);
    Resolved {
        drop: numbers(!bounding).collect(),
        sets: CapabilitySets {
            effective: CapabilitySet::from_bits_retain(set(LinuxCapabilities::effective) & permitted),
            permitted: CapabilitySet::from_bits_retain(permitted),
            inheritable: CapabilitySet::from_bits_retain(inheritable),
        },
        ambient: numbers(ambient).collect(),
        refused: numbers(bounding & !own).filter_map(|at| ALL.get(at as usize).copied()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, number) in [("CAP_CHOWN", 0), ("sys_admin", 21), ("Cap_Mknod", 27), ("BPF", 39)] {
            assert_eq!(by_name(name), Some(ALL[number]), "{name}");
        }
        assert_eq!(by_name("CAP_ALL"), None);
        assert_eq!(name(Capability::CheckpointRestore), "CAP_CHECKPOINT_RESTORE");
        let known = CapabilitySet::all().bits();
        assert_eq!(known & ((1 << ALL.len()) - 1), (1 << ALL.len()) - 1);
    }

    #[test]
    fn what_is_not_ones_own_cannot_be_given() {
        let mut wanted = LinuxCapabilities::default();
        let set = HashSet::from([Capability::Chown, Capability::SysResource]);
        wanted.set_bounding(Some(set.clone())).set_permitted(Some(set.clone())).set_effective(Some(set));
        wanted.set_inheritable(None).set_ambient(None);
        let own = CapabilitySet::CHOWN | CapabilitySet::KILL;
        let resolved = resolve(Some(&wanted), own);
        assert_eq!(resolved.drop[..3], [1, 2, 3]);
        assert!(!resolved.drop.contains(&0) && !resolved.drop.contains(&24));
        assert_eq!(resolved.sets.permitted, CapabilitySet::CHOWN);
        assert_eq!(resolved.refused, [Capability::SysResource]);
    }
}
