//! Capabilities and security options, by Docker's rules.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{Capability, Spec};

use super::error::ContainerError;
use super::options::RunOptions;
use crate::sandbox::seccomp::{Circumstances, Profile};
use crate::sandbox::{capabilities, defaults};

/// A larger profile is not one.
const LARGEST_PROFILE: u64 = 4 << 20;

/// The capabilities of a container: everything but what is dropped if ALL is added, what is added
/// if ALL is dropped, else Docker's own with the changes.
pub(super) fn capability_set(options: &RunOptions) -> Result<HashSet<Capability>, ContainerError> {
    let all = |names: &[String]| {
        names.iter().any(|name| name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL"))
    };
    let add = named("--cap-add", &options.cap_add)?;
    let drop = named("--cap-drop", &options.cap_drop)?;
    if all(&options.cap_add) {
        let owned = rustix::thread::capabilities(None).map_or(u64::MAX, |own| own.permitted.bits());
        let owned = capabilities::ALL.into_iter().enumerate().filter(|(at, _)| owned >> at & 1 == 1);
        return Ok(owned.map(|(_, one)| one).filter(|one| !drop.contains(one)).collect());
    }
    if all(&options.cap_drop) {
        return Ok(add);
    }
    let kept = defaults::capabilities().into_iter().filter(|one| !drop.contains(one));
    Ok(kept.chain(add.iter().copied()).collect())
}

fn named(option: &'static str, names: &[String]) -> Result<HashSet<Capability>, ContainerError> {
    let known = names
        .iter()
        .filter(|name| !name.eq_ignore_ascii_case("ALL") && !name.eq_ignore_ascii_case("CAP_ALL"));
    known
        .map(|name| {
            let unknown = || ContainerError::option(option, name, "no capability has this name");
            capabilities::by_name(name).ok_or_else(unknown)
        })
        .collect()
}

/// What the security options say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Security {
    seccomp: Seccomp,
    no_new_privileges: bool,
    apparmor: Option<String>,
    unmask: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Seccomp {
    #[default]
    Docker,
    Unconfined,
    File(String),
}

fn parse(options: &[String]) -> Result<Security, ContainerError> {
    let mut security = Security::default();
    for option in options {
        let refused = |reason: &str| ContainerError::option("--security-opt", option, reason);
        // `name:value` is the older form.
        let (name, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        match (name, value) {
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = Seccomp::Docker,
            ("seccomp", "") => return Err(refused("it needs a file, or `unconfined`")),
            ("seccomp", file) => security.seccomp = Seccomp::File(file.to_owned()),
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("apparmor", profile) if !profile.is_empty() => security.apparmor = Some(profile.to_owned()),
            ("systempaths", "unconfined") => security.unmask = true,
            // SELinux labels, where there is no SELinux: Docker takes them and does nothing.
            ("label", label) if !label.is_empty() => {}
            _ => {
                return Err(refused(
                    "expected seccomp=, apparmor=, label=, systempaths= or no-new-privileges",
                ));
            }
        }
    }
    Ok(security)
}

/// Puts capabilities and security options into a spec that has Docker's defaults.
pub(super) fn apply(spec: &mut Spec, options: &RunOptions, uid: u32) -> Result<(), ContainerError> {
    let security = parse(&options.security_opts)?;
    let set = capability_set(options)?;
    if let Some(profile) = security.apparmor.as_ref().filter(|profile| *profile != "unconfined")
        && Path::new("/sys/module/apparmor").exists()
    {
        return Err(ContainerError::Unsupported(format!("the AppArmor profile `{profile}`")));
    }
    if options.privileged {
        defaults::privilege(spec);
    }
    let filter = match &security.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Docker if options.privileged => None,
        Seccomp::Docker => Some(defaults::seccomp(&set)?),
        Seccomp::File(path) => {
            let profile = Profile::parse(&read_profile(Path::new(path))?)?;
            Some(profile.resolve(&Circumstances::here(set.clone()))?)
        }
    };
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(filter);
        if security.unmask {
            linux.set_masked_paths(None).set_readonly_paths(None);
        }
    }
    if let Some(process) = spec.process_mut() {
        if !options.privileged {
            process.set_capabilities(Some(defaults::capability_sets(set, uid)));
        }
        process.set_no_new_privileges(Some(security.no_new_privileges));
        process.set_apparmor_profile(security.apparmor);
    }
    Ok(())
}

fn read_profile(path: &Path) -> Result<Vec<u8>, ContainerError> {
    use std::io::Read;
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(LARGEST_PROFILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(ContainerError::file("read the seccomp profile", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let options = RunOptions { cap_add: words(add), cap_drop: words(drop), ..RunOptions::default() };
        capability_set(&options).unwrap()
    }

    #[test]
    fn capabilities_by_dockers_rules() {
        assert_eq!(set(&[], &[]).len(), 14);
        assert_eq!(set(&["SYS_ADMIN"], &["cap_chown", "CAP_KILL"]).len(), 13);
        assert_eq!(set(&["sys_time"], &["ALL"]), HashSet::from([Capability::SysTime]));
        assert!(!set(&["all"], &["SYS_ADMIN"]).contains(&Capability::SysAdmin));
        let options = RunOptions { cap_add: vec!["CAP_NOPE".into()], ..RunOptions::default() };
        assert!(capability_set(&options).is_err());
    }

    #[test]
    fn options_in_both_forms() {
        let parse = |options: &[&str]| parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
        let security =
            parse(&["seccomp:unconfined", "no-new-privileges", "apparmor=unconfined", "label=disable"]);
        let security = security.unwrap();
        assert_eq!(security.seccomp, Seccomp::Unconfined);
        assert!(security.no_new_privileges);
        assert_eq!(parse(&["seccomp=/a=b.json"]).unwrap().seccomp, Seccomp::File("/a=b.json".into()));
        assert!(!parse(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        for option in ["seccomp", "seccomp=", "nonsense", "no-new-privileges=maybe", "systempaths=x"] {
            assert!(parse(&[option]).is_err(), "{option}");
        }
    }
}
