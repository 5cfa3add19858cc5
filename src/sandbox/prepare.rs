//! The parts of a spec in the form that the child uses: namespaces, limits, credentials, filter,
//! arguments.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use oci_spec::runtime::{LinuxNamespaceType, PosixRlimitType, Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, Gid, LinkNameSpaceType, Uid};

use super::child::{Credentials, Filter};
use super::error::SandboxError;
use super::mounts::c_text;
use super::sys::StringList;
use super::{capabilities, seccomp};

/// The namespaces of a spec.
pub(super) struct Namespaces {
    /// CLONE_NEW* for clone3.
    pub flags: u64,
    /// Whether there is a cgroup namespace to make.
    pub cgroup: bool,
    /// Those to join.
    pub join: Vec<(OwnedFd, LinkNameSpaceType)>,
}

/// Which namespaces are new and which are joined.
pub(super) fn namespaces(spec: &Spec) -> Result<Namespaces, SandboxError> {
    let mut found = Namespaces { flags: 0, cgroup: false, join: Vec::new() };
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    for namespace in listed.unwrap_or_default() {
        let (flag, link) = match namespace.typ() {
            LinuxNamespaceType::Mount => (libc::CLONE_NEWNS, None),
            LinuxNamespaceType::Pid => (libc::CLONE_NEWPID, None),
            LinuxNamespaceType::Cgroup => (0, Some(LinkNameSpaceType::ControlGroup)),
            LinuxNamespaceType::Uts => {
                (libc::CLONE_NEWUTS, Some(LinkNameSpaceType::HostNameAndNISDomainName))
            }
            LinuxNamespaceType::Ipc => {
                (libc::CLONE_NEWIPC, Some(LinkNameSpaceType::InterProcessCommunication))
            }
            LinuxNamespaceType::Network => (libc::CLONE_NEWNET, Some(LinkNameSpaceType::Network)),
            other @ (LinuxNamespaceType::User | LinuxNamespaceType::Time) => {
                return Err(SandboxError::Unsupported(format!("a {other} namespace")));
            }
        };
        match (namespace.path(), link) {
            (None, _) if flag == 0 => found.cgroup = true,
            (None, _) => found.flags |= flag as u64,
            (Some(path), Some(link)) => {
                let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                let wrap =
                    |errno: Errno| SandboxError::Namespace { path: path.clone(), source: errno.into() };
                found.join.push((fd.map_err(wrap)?, link));
            }
            (Some(_), None) => {
                return Err(SandboxError::Unsupported(format!("joining a {} namespace", namespace.typ())));
            }
        }
    }
    if found.flags & libc::CLONE_NEWNS as u64 == 0 {
        return Err(SandboxError::Unsupported("a process in the mount namespace of the host".into()));
    }
    if spec.hostname().is_some() && found.flags & libc::CLONE_NEWUTS as u64 == 0 && found.join.is_empty() {
        return Err(SandboxError::Spec("a host name without a UTS namespace".into()));
    }
    Ok(found)
}

/// The kernel parameters of a spec, as files of /proc/sys.
pub(super) fn sysctl(spec: &Spec) -> Result<Vec<(CString, Vec<u8>)>, SandboxError> {
    let values = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut values: Vec<_> = values.into_iter().flatten().collect();
    values.sort();
    let prepare = |(name, value): (&String, &String)| {
        if name.split('.').any(|part| part.is_empty() || part.contains('/')) {
            return Err(SandboxError::Spec(format!("the kernel parameter {name:?}")));
        }
        Ok((c_text(&format!("/proc/sys/{}", name.replace('.', "/")))?, value.clone().into_bytes()))
    };
    values.into_iter().map(prepare).collect()
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// The limits; one above what this process may give is lowered to that, with a warning.
pub(super) fn limits(process: &Process, warnings: &mut Vec<String>) -> Vec<(Resource, Rlimit)> {
    let may_raise = own_capabilities().contains(CapabilitySet::SYS_RESOURCE);
    let mut prepared = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let kind = resource(limit.typ());
        let some = |value: u64| (value != u64::MAX).then_some(value);
        let (mut soft, mut hard) = (some(limit.soft()), some(limit.hard()));
        let most = rustix::process::getrlimit(kind).maximum;
        if let Some(most) = most.filter(|most| !may_raise && hard.is_none_or(|hard| hard > *most)) {
            warnings.push(format!("{} is lowered to {most}: kiln may not raise its own limit", limit.typ()));
            hard = Some(most);
        }
        if let Some(hard) = hard.filter(|hard| soft.is_none_or(|soft| soft > *hard)) {
            soft = Some(hard);
        }
        prepared.push((kind, Rlimit { current: soft, maximum: hard }));
    }
    prepared
}

fn own_capabilities() -> CapabilitySet {
    rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |own| own.permitted)
}

/// Who the process is and what it may do; what cannot be given is a warning.
pub(super) fn credentials(process: &Process, warnings: &mut Vec<String>) -> Credentials {
    let user = process.user();
    let resolved = capabilities::resolve(process.capabilities().as_ref(), own_capabilities());
    if !resolved.refused.is_empty() {
        let names: Vec<String> = resolved.refused.iter().map(|one| capabilities::name(*one)).collect();
        warnings.push(format!("kiln cannot give {}: it does not have it itself", names.join(", ")));
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    Credentials {
        uid: Uid::from_raw(user.uid()),
        gid: Gid::from_raw(user.gid()),
        groups: groups.iter().copied().map(Gid::from_raw).collect(),
        umask: Mode::from_raw_mode(user.umask().unwrap_or(0o022)),
        drop: resolved.drop,
        sets: resolved.sets,
        ambient: resolved.ambient,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
    }
}

/// The seccomp filter of a spec.
pub(super) fn filter(spec: &Spec) -> Result<Option<Filter>, SandboxError> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    profile.map(seccomp::compile).transpose()
}

/// The arguments of the init program; see `sys/init.rs`.
pub(super) fn arguments(process: &Process, init: bool) -> Result<StringList, SandboxError> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(command) = args.first().filter(|command| !command.is_empty()) else {
        return Err(SandboxError::Spec("no command to execute".into()));
    };
    let path = process.env().iter().flatten().rev().find_map(|pair| pair.strip_prefix("PATH="));
    let candidates: Vec<String> = if command.contains('/') {
        vec![command.clone()]
    } else {
        // Relative directories are left out, as they would mean another file in every directory.
        let directories = path.unwrap_or_default().split(':').filter(|directory| directory.starts_with('/'));
        directories.map(|directory| format!("{}/{command}", directory.trim_end_matches('/'))).collect()
    };
    let order = format!("{}{}", if init { 'i' } else { 'e' }, candidates.len());
    let mut arguments = vec!["kiln-init".to_owned(), order];
    arguments.extend(candidates);
    arguments.extend(args.iter().cloned());
    Ok(StringList::new(c_texts(&arguments)?))
}

pub(super) fn c_texts(texts: &[String]) -> Result<Vec<CString>, SandboxError> {
    texts.iter().map(|text| c_text(text)).collect()
}

/// The init program, in memory and sealed: a container that got hold of it could not change it.
pub(super) fn init_program() -> Result<BorrowedFd<'static>, SandboxError> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.as_fd());
    }
    let wrap = |source: io::Error| SandboxError::Start { doing: "making the init program", source };
    let program = make_init_program().map_err(wrap)?;
    Ok(PROGRAM.get_or_init(|| program).as_fd())
}

fn make_init_program() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create(c"kiln-init", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file is executable and the flag unknown.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"kiln-init", flags)?,
        other => other?,
    };
    let mut file = std::fs::File::from(memory);
    file.write_all(include_bytes!(concat!(env!("OUT_DIR"), "/init")))?;
    let memory = OwnedFd::from(file);
    rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}
