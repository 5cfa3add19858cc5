//! Docker's seccomp profile format: the OCI form plus conditions on capabilities, architecture
//! and kernel, and a map from an architecture to those it can also execute.

use std::collections::HashSet;
use std::sync::OnceLock;

use oci_spec::runtime::{Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};
use serde::Deserialize;

use crate::sandbox::capabilities;
use crate::sandbox::error::SandboxError;

/// A profile as its JSON has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// What the conditions of a profile are about.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The process's capabilities.
    pub capabilities: HashSet<Capability>,
    /// Docker's name of the machine's architecture.
    pub architecture: &'static str,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

impl Circumstances {
    /// Those of a process with `capabilities` on this machine.
    pub fn here(capabilities: HashSet<Capability>) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let release = rustix::system::uname();
        let kernel = version(&release.release().to_string_lossy()).unwrap_or((0, 0));
        Self { capabilities, architecture, kernel }
    }
}

/// `6.1` of `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

impl Profile {
    /// Docker's default profile.
    pub fn docker() -> &'static Self {
        static DOCKER: OnceLock<Profile> = OnceLock::new();
        DOCKER.get_or_init(|| {
            let json = include_bytes!("../../../fixtures/sandbox/docker-default-seccomp.json");
            Self::parse(json).expect("a test reads this file")
        })
    }

    /// Reads a profile; Docker's form and the OCI form are both understood.
    pub fn parse(json: &[u8]) -> Result<Self, SandboxError> {
        serde_json::from_slice(json).map_err(|error| SandboxError::Seccomp(error.to_string()))
    }

    /// The rules that apply under `circumstances`.
    pub fn resolve(&self, circumstances: &Circumstances) -> Result<LinuxSeccomp, SandboxError> {
        let mut resolved = LinuxSeccomp::default();
        resolved.set_default_action(self.default_action).set_default_errno_ret(self.default_errno_ret);
        resolved.set_architectures(self.architectures());
        let mut syscalls = Vec::new();
        for rule in &self.syscalls {
            if !rule.applies(circumstances)? {
                continue;
            }
            let mut syscall = LinuxSyscall::default();
            let names = rule.names.iter().chain(&rule.name).cloned().collect();
            syscall.set_names(names).set_action(rule.action).set_errno_ret(rule.errno_ret);
            syscall.set_args(rule.args.clone().filter(|args| !args.is_empty()));
            syscalls.push(syscall);
        }
        resolved.set_syscalls(Some(syscalls));
        Ok(resolved)
    }

    /// The architectures of the filter: those listed, else this machine's with those it can also
    /// execute.
    fn architectures(&self) -> Option<Vec<Arch>> {
        if let Some(listed) = self.architectures.as_ref().filter(|listed| !listed.is_empty()) {
            return Some(listed.clone());
        }
        let native = native()?;
        let map = self.arch_map.iter().flatten().find(|map| arch(&map.architecture) == Some(native));
        let others = map.and_then(|map| map.sub_architectures.as_ref());
        let others = others.into_iter().flatten().filter_map(|name| arch(name));
        Some(std::iter::once(native).chain(others).collect())
    }
}

/// This machine's architecture.
pub(super) fn native() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::ScmpArchX86_64),
        "aarch64" => Some(Arch::ScmpArchAarch64),
        _ => None,
    }
}

/// The architecture of a name; `None` for one that neither the map nor a filter here needs.
fn arch(name: &str) -> Option<Arch> {
    name.parse().ok()
}

impl Rule {
    fn applies(&self, circumstances: &Circumstances) -> Result<bool, SandboxError> {
        let (includes, excludes) = (&self.includes, &self.excludes);
        let has = |name: &String| {
            capabilities::by_name(name).is_some_and(|one| circumstances.capabilities.contains(&one))
        };
        let here = |name: &String| name == circumstances.architecture;
        let at_least = |version_: &Option<String>| match version_ {
            Some(text) => match version(text) {
                Some(wanted) => Ok(Some(circumstances.kernel >= wanted)),
                None => Err(SandboxError::Seccomp(format!("{text:?} is no kernel version"))),
            },
            None => Ok(None),
        };
        let included = (includes.arches.is_empty() || includes.arches.iter().any(here))
            && includes.caps.iter().all(has)
            && at_least(&includes.min_kernel)? != Some(false);
        let excluded = excludes.arches.iter().any(here)
            || excludes.caps.iter().any(has)
            || at_least(&excludes.min_kernel)? == Some(true);
        Ok(included && !excluded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &LinuxSeccomp, action: LinuxSeccompAction) -> HashSet<String> {
        let rules = profile.syscalls().iter().flatten().filter(|rule| rule.action() == action);
        rules.flat_map(|rule| rule.names().iter().cloned()).collect()
    }

    #[test]
    fn conditions_on_capabilities_and_kernel() {
        let mut circumstances =
            Circumstances { capabilities: HashSet::new(), architecture: "amd64", kernel: (4, 7) };
        let old = Profile::docker().resolve(&circumstances).unwrap();
        assert!(!names(&old, LinuxSeccompAction::ScmpActAllow).contains("ptrace"));
        assert!(names(&old, LinuxSeccompAction::ScmpActErrno).contains("clone3"));
        circumstances.kernel = (4, 8);
        circumstances.capabilities.insert(Capability::SysAdmin);
        let new = Profile::docker().resolve(&circumstances).unwrap();
        let allowed = names(&new, LinuxSeccompAction::ScmpActAllow);
        for name in ["ptrace", "clone3", "mount", "arch_prctl"] {
            assert!(allowed.contains(name), "{name}");
        }
        assert!(!allowed.contains("s390_pci_mmio_read") && !allowed.contains("open_by_handle_at"));
        assert!(!names(&new, LinuxSeccompAction::ScmpActErrno).contains("clone3"));
    }

    #[test]
    fn versions() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("4.8"), Some((4, 8)));
        assert_eq!(version("six"), None);
    }

    #[test]
    fn what_is_no_profile() {
        assert!(Profile::parse(b"{}").is_err());
        assert!(Profile::parse(br#"{"defaultAction": "SCMP_ACT_MAYBE"}"#).is_err());
        let bad = br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "x"}}]}"#;
        let circumstances = Circumstances::here(HashSet::new());
        assert!(Profile::parse(bad).unwrap().resolve(&circumstances).is_err());
    }
}
