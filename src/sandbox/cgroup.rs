//! An own cgroup per process, under `/kiln`: cgroup v1, v2 and both at once (hybrid).
//!
//! A cgroup costs time in each hierarchy, so one is made in cgroup2 where that is mounted (it
//! holds the device filter), and in those v1 hierarchies that have a limit to set. A limit that
//! cannot be set is left out and told as a warning, as Docker does.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources, Mount, Spec};
use rustix::fs::{Mode, OFlags};

use super::child::{PreparedMount, What};
use super::error::SandboxError;
use super::options::Options;
use super::{device_filter, limits, mounts, sys};

/// Where the hierarchies of this host are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Each v1 controller and where it is.
    pub v1: Vec<(String, PathBuf)>,
    /// cgroup2.
    pub v2: Option<PathBuf>,
}

impl Hierarchies {
    /// This host's, looked up once.
    fn host() -> &'static Self {
        static HOST: OnceLock<Hierarchies> = OnceLock::new();
        HOST.get_or_init(|| Self::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()))
    }

    /// Reads mountinfo (proc_pid_mountinfo(5)).
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut after = after.split(' ');
            let (Some(path), Some(kind)) = (before.split(' ').nth(4), after.next()) else { continue };
            let path = PathBuf::from(path.replace("\\040", " "));
            match kind {
                "cgroup2" if found.v2.is_none() => found.v2 = Some(path),
                "cgroup" => {
                    for controller in after.nth(1).unwrap_or_default().split(',').filter(|name| known(name)) {
                        if !found.v1.iter().any(|(name, _)| name == controller) {
                            found.v1.push((controller.to_owned(), path.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(name, _)| name == controller).map(|(_, path)| path.as_path())
    }
}

fn known(controller: &str) -> bool {
    const CONTROLLERS: [&str; 11] = [
        "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls",
        "net_prio", "pids",
    ];
    CONTROLLERS.contains(&controller)
}

/// The cgroup of one process. Removed when it is dropped, after the process has ended.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    /// The directory in cgroup2.
    v2: Option<OwnedFd>,
    /// `cgroup.procs` of each v1 hierarchy.
    procs: Vec<OwnedFd>,
    /// v1 controllers with their directories.
    v1: Vec<(String, PathBuf)>,
    directories: Vec<PathBuf>,
    /// What could not be set.
    pub warnings: Vec<String>,
}

impl Cgroup {
    /// Makes the cgroup for a spec and sets its limits.
    pub(super) fn create(spec: &Spec) -> Result<Self, SandboxError> {
        Self::create_on(Hierarchies::host(), spec)
    }

    fn create_on(host: &Hierarchies, spec: &Spec) -> Result<Self, SandboxError> {
        let linux = spec.linux().as_ref();
        let nothing = LinuxResources::default();
        let resources = linux.and_then(|linux| linux.resources().as_ref()).unwrap_or(&nothing);
        let rules = resources.devices().as_deref().unwrap_or_default();
        let filter = device_filter::filters(rules);
        let given = linux.and_then(|linux| linux.cgroups_path().as_ref());
        // To attach a program takes longer than all else here. Cgroups that kiln names itself
        // stand in one that has it already, one for each set of rules.
        let shared =
            (filter && given.is_none()).then(|| format!("kiln/devices-{}", device_filter::name(rules)));
        let path = match given {
            Some(path) => clean(path)?,
            None => unused_name(host, shared.as_deref().unwrap_or("kiln")),
        };
        let mut cgroup = Self::default();
        let (v1, v2) = cgroup.assign(host, resources);
        if let Some(root) = host.v2.as_deref().filter(|_| filter || !v2.is_empty()) {
            let rules = filter.then_some((rules, shared.as_deref()));
            if let Err(error) = cgroup.create_v2(root, &path, &v2, rules) {
                cgroup.warnings.push(format!("no own cgroup, and so no device filter: {error}"));
            }
        } else if filter {
            cgroup.devices_v1(host, &path, rules);
        }
        for (controller, settings) in v1 {
            if let Err(error) = cgroup.create_v1(host, &controller, &path, &settings) {
                cgroup.warnings.push(format!("the {controller} limit is not set: {error}"));
            }
        }
        Ok(cgroup)
    }

    /// Which controller gets which settings, and where.
    fn assign(&mut self, host: &Hierarchies, resources: &LinuxResources) -> (ByController, Settings) {
        let (mut v1, mut v2) = (ByController::new(), Settings::new());
        let available = host.v2.as_ref().map(|root| fs::read_to_string(root.join("cgroup.controllers")));
        let available = available.and_then(Result::ok).unwrap_or_default();
        for limit in limits::limits(resources) {
            if host.v1(limit.controller).is_some() {
                match v1.iter_mut().find(|(name, _)| name == limit.controller) {
                    Some((_, settings)) => settings.push(limit.v1),
                    None => v1.push((limit.controller.to_owned(), vec![limit.v1])),
                }
            } else if available.split_whitespace().any(|name| name == limit.controller) {
                v2.push(limit.v2);
            } else {
                let warning = format!(
                    "the {} is not set: this kernel has no {} controller, or it is not mounted",
                    limit.name, limit.controller
                );
                self.warnings.push(warning);
            }
        }
        (v1, v2)
    }

    fn create_v2(
        &mut self,
        root: &Path,
        path: &Path,
        settings: &Settings,
        rules: Option<(&[LinuxDeviceCgroup], Option<&str>)>,
    ) -> io::Result<()> {
        let directory = root.join(path);
        if let Some((rules, Some(shared))) = rules {
            let shared = root.join(shared);
            make(&shared)?;
            device_filter::ensure(open(&shared, OFlags::RDONLY)?.as_fd(), rules)?;
        }
        make(&directory)?;
        self.directories.push(directory.clone());
        if !settings.is_empty() {
            enable(root, path, settings);
        }
        for (file, value) in settings {
            if let Err(error) = fs::write(directory.join(file), value) {
                self.warnings.push(format!("{file} is not set to {value}: {error}"));
            }
        }
        if let Some((rules, None)) = rules {
            device_filter::attach(open(&directory, OFlags::RDONLY)?.as_fd(), rules)?;
        }
        self.v2 = Some(open(&directory, OFlags::PATH)?);
        Ok(())
    }

    fn create_v1(
        &mut self,
        host: &Hierarchies,
        controller: &str,
        path: &Path,
        settings: &Settings,
    ) -> io::Result<()> {
        let Some(root) = host.v1(controller) else { return Ok(()) };
        let directory = root.join(path);
        make(&directory)?;
        self.directories.push(directory.clone());
        if controller == "cpuset" {
            inherit_cpuset(root, path)?;
        }
        for (file, value) in settings {
            if let Err(error) = fs::write(directory.join(file), value) {
                self.warnings.push(format!("{file} is not set to {value}: {error}"));
            }
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        self.procs.push(rustix::fs::open(directory.join("cgroup.procs"), flags, Mode::empty())?);
        self.v1.push((controller.to_owned(), directory));
        Ok(())
    }

    /// The device filter where there is no cgroup2.
    fn devices_v1(&mut self, host: &Hierarchies, path: &Path, rules: &[LinuxDeviceCgroup]) {
        if host.v1("devices").is_none() {
            let warning = "no device filter: neither cgroup2 nor the devices controller is mounted";
            return self.warnings.push(warning.to_owned());
        }
        let settings = device_filter::v1(rules);
        if let Err(error) = self.create_v1(host, "devices", path, &settings) {
            self.warnings.push(format!("no device filter: {error}"));
        }
    }

    /// The cgroup2 directory the child is born in.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// The `cgroup.procs` files that the child joins itself.
    pub(super) fn take_procs(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.procs)
    }

    /// The mount of type cgroup in the container. With v2 alone, or where the spec asks for it:
    /// cgroup2, as the cgroup namespace shows it. Else a directory with the v1 controllers that this cgroup has a limit in.
    pub(super) fn mounts(&self, mount: &Mount) -> Result<Vec<PreparedMount>, SandboxError> {
        let destination = mount.destination();
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let attributes = options.attributes.set;
        let prepare = |what, path: &Path| {
            let target = mounts::target(path, true)?;
            Ok(PreparedMount { what, target, propagation: options.propagation, recursive: false })
        };
        if mount.typ().as_deref() == Some("cgroup2") || Hierarchies::host().v1.is_empty() {
            let kind = c"cgroup2".to_owned();
            let what = What::New { kind, options: Vec::new(), attributes: attributes as u32 };
            return Ok(vec![prepare(what, destination)?]);
        }
        let tmpfs = Options {
            attributes: options.attributes,
            ..Options::parse(&["mode=755".into(), "size=64k".into()])
        };
        let directory = mounts::file_system("tmpfs", destination, &tmpfs)?;
        let failed = |path: &Path, source: io::Error| SandboxError::MountSource {
            path: path.to_owned(),
            target: destination.clone(),
            source,
        };
        let mut prepared = Vec::new();
        for (controller, path) in &self.v1 {
            rustix::fs::mkdirat(&directory, controller.as_str(), Mode::from_raw_mode(0o755))
                .map_err(|errno| failed(path, errno.into()))?;
            let copy = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
                | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let bind = rustix::mount::open_tree(rustix::fs::CWD, path, copy)
                .map_err(|errno| failed(path, errno.into()))?;
            sys::mount_setattr(bind.as_fd(), c"", false, options.attributes)
                .map_err(|errno| failed(path, errno.into()))?;
            prepared.push(prepare(What::Detached(bind), &destination.join(controller))?);
        }
        sys::mount_setattr(directory.as_fd(), c"", false, options.attributes)
            .map_err(|errno| failed(destination, errno.into()))?;
        prepared.insert(0, prepare(What::Detached(directory), destination)?);
        Ok(prepared)
    }

    /// Removes the cgroup. Its processes have ended; the kernel may need a moment to notice.
    fn remove(&mut self) {
        for directory in self.directories.drain(..).rev() {
            for attempt in 0..10u32 {
                match fs::remove_dir(&directory) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        // Without a PID namespace something may have stayed behind.
                        let _ = fs::write(directory.join("cgroup.kill"), "1");
                        std::thread::sleep(Duration::from_millis(1 << attempt.min(5)));
                    }
                    // Gone, or not ours to remove: an empty cgroup costs nothing.
                    _ => break,
                }
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

type Settings = Vec<(String, String)>;
type ByController = Vec<(String, Settings)>;

fn open(directory: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(directory, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes a cgroup directory; usually only the last component is missing.
fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Hands the controllers that the settings need down from the root to the cgroup. What cannot be
/// handed down shows as a setting that cannot be made.
fn enable(root: &Path, path: &Path, settings: &Settings) {
    let mut controllers: Vec<&str> = settings
        .iter()
        .filter_map(|(file, _)| file.split_once('.').map(|(controller, _)| controller))
        .collect();
    controllers.dedup();
    let mut directory = root.to_owned();
    for component in path.components() {
        for controller in &controllers {
            let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        directory.push(component);
    }
}

/// A new cpuset is empty and takes no process: each level starts as the one above.
fn inherit_cpuset(root: &Path, path: &Path) -> io::Result<()> {
    let mut above = root.to_owned();
    for component in path.components() {
        let directory = above.join(component);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(directory.join(file))?.trim().is_empty() {
                fs::write(directory.join(file), fs::read_to_string(above.join(file))?)?;
            }
        }
        above = directory;
    }
    Ok(())
}

/// The path below a hierarchy's root.
fn clean(path: &Path) -> Result<PathBuf, SandboxError> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let plain = path.components().all(|component| matches!(component, std::path::Component::Normal(_)));
    if !plain || path.as_os_str().is_empty() {
        return Err(SandboxError::Spec(format!("the cgroup path {path:?}")));
    }
    Ok(path.to_owned())
}

/// A name that no cgroup has: somebody in another PID namespace may have our pid, and so may what
/// a killed process left behind.
fn unused_name(host: &Hierarchies, parent: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = PathBuf::from(format!("{parent}/{}-{next}", std::process::id()));
        // Every cgroup is in cgroup2 where there is one.
        let roots = host.v2.iter().chain(host.v1.iter().map(|(_, root)| root).filter(|_| host.v2.is_none()));
        if !roots.into_iter().any(|root| root.join(&name).exists()) {
            return name;
        }
    }
}

/// Removes, once in the life of this process, the cgroups that killed ones left behind. One with a
/// process in it cannot be removed, and a young one may be about to get its first.
pub(super) fn sweep() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let host = Hierarchies::host();
        host.v2
            .iter()
            .chain(host.v1.iter().map(|(_, root)| root))
            .for_each(|root| sweep_below(&root.join("kiln"), true));
    });
}

/// `shared`: whether what `unused_name` calls a parent may be in it.
fn sweep_below(directory: &Path, shared: bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if shared && name.as_encoded_bytes().starts_with(b"devices-") {
            sweep_below(&entry.path(), false);
            continue;
        }
        let Some(pid) = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u32>().ok()) else {
            continue;
        };
        let old = || {
            let made = entry.metadata().and_then(|status| status.modified());
            made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > Duration::from_secs(60)))
        };
        if !Path::new(&format!("/proc/{pid}")).exists() && old() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_all_kinds() {
        let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let cpu = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct");
        let found = Hierarchies::parse(hybrid);
        assert_eq!(found.v1, [("cpu".to_owned(), cpu.clone()), ("cpuacct".to_owned(), cpu)]);
        assert_eq!(found.v2, Some("/sys/fs/cgroup/unified".into()));
        let unified = Hierarchies::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!((unified.v1.len(), unified.v2), (0, Some("/sys/fs/cgroup".into())));
        assert_eq!(Hierarchies::parse("nonsense\n"), Hierarchies::default());
    }

    #[test]
    fn what_a_hierarchy_lacks_is_a_warning_and_the_rest_is_made_and_removed() {
        let Some(root) = Hierarchies::host().v2.clone() else {
            return eprintln!("skipped: no cgroup2 is mounted");
        };
        let host = Hierarchies { v1: Vec::new(), v2: Some(root.clone()) };
        let name = format!("kiln/unit-{}", std::process::id());
        let json = r#"{"pids": {"limit": 5}, "memory": {"limit": 1048576}, "devices": [{"allow": false}]}"#;
        let mut spec = Spec::default();
        let linux = spec.linux_mut().as_mut().unwrap();
        linux.set_resources(serde_json::from_str(json).unwrap());
        linux.set_cgroups_path(Some(format!("/{name}").into()));
        let cgroup = Cgroup::create_on(&host, &spec).unwrap();
        if !root.join(&name).is_dir() {
            return eprintln!("skipped: {:?}", cgroup.warnings);
        }
        let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap();
        for controller in ["pids", "memory"] {
            let there = available.split_whitespace().any(|name| name == controller);
            let told = cgroup.warnings.iter().any(|warning| warning.contains(controller));
            assert!(there || told, "{:?}", cgroup.warnings);
        }
        assert!(cgroup.directory().is_some());
        drop(cgroup);
        assert!(!root.join(&name).exists());
        let nothing = Cgroup::create_on(&Hierarchies::default(), &spec).unwrap();
        assert_eq!(nothing.warnings.len(), 3, "{:?}", nothing.warnings);
    }

    #[test]
    fn only_what_dead_processes_left_behind_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let alive = std::process::id();
        let names = [
            "devices-0".to_owned(),
            "devices-0/4294967295-0".to_owned(),
            "4294967295-0".to_owned(),
            "4294967295-1".to_owned(),
            format!("{alive}-0"),
            "other".to_owned(),
        ];
        for name in &names {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            if !name.ends_with('1') {
                fs::File::open(&path).unwrap().set_modified(old).unwrap();
            }
        }
        sweep_below(directory.path(), true);
        let left = |name: &String| directory.path().join(name).exists();
        assert_eq!(names.iter().map(left).collect::<Vec<_>>(), [true, false, false, true, true, true]);
    }

    #[test]
    fn a_path_stays_below_its_root() {
        assert_eq!(clean(Path::new("/kiln/a")).unwrap(), Path::new("kiln/a"));
        for path in ["", "/", "../x", "/kiln/../.."] {
            assert!(clean(Path::new(path)).is_err(), "{path}");
        }
    }
}
