//! Docker's defaults as a spec: what a container gets when nobody asks for anything else.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount, Process, Root, Spec, User,
};

use super::capabilities;
use super::device;
use super::error::SandboxError;
use super::seccomp::{Circumstances, Profile};

/// The search path of a process whose image names none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The size of /dev/shm in bytes.
pub const SHM_SIZE: u64 = 64 << 20;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The network of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's own.
    #[default]
    Host,
    /// A new one with nothing but a loopback interface.
    None,
}

/// The 14 capabilities a container has.
pub fn capabilities() -> HashSet<Capability> {
    use Capability::*;
    HashSet::from([
        Chown,
        DacOverride,
        Fsetid,
        Fowner,
        Mknod,
        NetRaw,
        Setgid,
        Setuid,
        Setfcap,
        Setpcap,
        NetBindService,
        SysChroot,
        Kill,
        AuditWrite,
    ])
}

/// The sets of a process that may use `capabilities`: for root all but ambient ones; another user
/// has none effective, but can get them from files.
pub fn capability_sets(capabilities: HashSet<Capability>, uid: u32) -> LinuxCapabilities {
    let effective = if uid == 0 { capabilities.clone() } else { HashSet::new() };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities)).set_effective(Some(effective.clone()));
    sets.set_permitted(Some(effective)).set_inheritable(None).set_ambient(None);
    sets
}

/// Docker's default filter for a process that may use `capabilities`, on this machine.
pub fn seccomp(capabilities: &HashSet<Capability>) -> Result<LinuxSeccomp, SandboxError> {
    Profile::docker().resolve(&Circumstances::here(capabilities.clone()))
}

/// One mount.
pub fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into()).set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.to_owned()));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// A bind mount of `source` with what is mounted below it.
pub fn bind(source: &Path, destination: &str, readonly: bool) -> Mount {
    let access = if readonly { "ro" } else { "rw" };
    mount(destination, "bind", source, &["rbind", access, "rprivate"])
}

/// The file systems every container has, /dev/shm of `shm_size` bytes among them. `writable` is
/// for privileged containers: their /sys can be written to.
pub fn mounts(shm_size: u64, writable: bool) -> Vec<Mount> {
    let access = if writable { "rw" } else { "ro" };
    let shm = format!("size={shm_size}");
    let plain = ["nosuid", "noexec", "nodev"];
    let [nosuid, noexec, nodev] = plain;
    vec![
        mount("/proc", "proc", Path::new("proc"), &plain),
        mount("/dev", "tmpfs", Path::new("tmpfs"), &[nosuid, "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            Path::new("devpts"),
            &[nosuid, noexec, "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", Path::new("sysfs"), &[nosuid, noexec, nodev, access]),
        mount("/sys/fs/cgroup", "cgroup", Path::new("cgroup"), &[access, nosuid, noexec, nodev]),
        mount("/dev/mqueue", "mqueue", Path::new("mqueue"), &plain),
        mount("/dev/shm", "tmpfs", Path::new("shm"), &[nosuid, noexec, nodev, "mode=1777", &shm]),
    ]
}

/// The device rules every container has: its own devices, terminals, and making nodes of any.
pub fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |allow, kind, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow).set_typ(kind).set_major(major).set_minor(minor);
        rule.set_access(Some(access.to_owned()));
        rule
    };
    let (character, block) = (Some(LinuxDeviceType::C), Some(LinuxDeviceType::B));
    let mut rules = vec![
        rule(false, None, None, None, "rwm"),
        rule(true, character, None, None, "m"),
        rule(true, block, None, None, "m"),
    ];
    for (_, major, minor) in device::DEFAULT {
        rules.push(rule(true, character, Some(major.into()), Some(minor.into()), "rwm"));
    }
    // /dev/console, /dev/ptmx, and the terminals of devpts.
    for (major, minor) in [(5, Some(1)), (5, Some(2)), (136, None)] {
        rules.push(rule(true, character, Some(major), minor, "rwm"));
    }
    rules
}

/// The namespaces of a container.
pub fn namespaces(network: Network) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
    let kinds = [Mount, Pid, Ipc, Uts, Cgroup].into_iter().chain((network == Network::None).then_some(Net));
    kinds
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

/// The whole spec, for root in `/`, with everything of this module and no command. What is left
/// to say: `process.args`, `process.env`, more mounts, the host name, and the root file system.
pub fn spec(network: Network) -> Result<Spec, SandboxError> {
    let capabilities = capabilities();
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(device_rules()));
    let mut linux = Linux::default();
    linux.set_seccomp(Some(seccomp(&capabilities)?)).set_resources(Some(resources));
    linux.set_namespaces(Some(namespaces(network))).set_cgroups_path(None).set_devices(None);
    linux.set_masked_paths(Some(MASKED.map(str::to_owned).to_vec()));
    linux.set_readonly_paths(Some(READONLY.map(str::to_owned).to_vec()));
    linux.set_sysctl((network == Network::None).then(sysctl)).set_uid_mappings(None).set_gid_mappings(None);
    let mut process = Process::default();
    process.set_terminal(Some(false)).set_user(User::default()).set_args(None).set_cwd("/".into());
    process.set_env(Some(vec![format!("PATH={PATH}")])).set_no_new_privileges(Some(false));
    process.set_capabilities(Some(capability_sets(capabilities, 0))).set_rlimits(None);
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(false));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".into()).set_hostname(None).set_root(Some(root)).set_linux(Some(linux));
    spec.set_process(Some(process)).set_mounts(Some(mounts(SHM_SIZE, false))).set_annotations(None);
    Ok(spec)
}

/// In a network of its own a container may use low ports and ping without a capability.
fn sysctl() -> HashMap<String, String> {
    let values =
        [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
    HashMap::from(values.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

/// Makes `spec` one of a privileged process: every capability, every device, no filter, nothing
/// masked or read-only.
pub fn privilege(spec: &mut Spec) {
    let uid = spec.process().as_ref().map_or(0, |process| process.user().uid());
    if let Some(process) = spec.process_mut() {
        let owned = rustix::thread::capabilities(None).map_or(u64::MAX, |own| own.permitted.bits());
        let all = capabilities::ALL.into_iter().enumerate();
        let all = all.filter(|(number, _)| owned >> number & 1 == 1).map(|(_, one)| one).collect();
        process.set_capabilities(Some(capability_sets(all, uid)));
        process.set_no_new_privileges(Some(false)).set_apparmor_profile(None);
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(None).set_masked_paths(None).set_readonly_paths(None);
        let mut resources = linux.resources().clone().unwrap_or_default();
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true).set_typ(None).set_major(None).set_minor(None).set_access(Some("rwm".into()));
        resources.set_devices(Some(vec![rule]));
        linux.set_resources(Some(resources));
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if matches!(mount.typ().as_deref(), Some("sysfs" | "cgroup"))
            && let Some(options) = mount.options_mut()
        {
            options.retain(|option| option != "ro");
        }
    }
}
