//! An overlay as the root file system, made so that its upper directory is the diff: `volatile`
//! (an unmount would sync the whole file system below), and nothing that lets the upper refer to
//! the lowers by anything but names: no redirects, no metadata-only copies, no index.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags};

use super::error::SandboxError;
use super::{mountpoints, sys};

const OPTIONS: [&str; 4] = ["volatile", "redirect_dir=nofollow", "metacopy=off", "index=off"];

/// The directories of an overlay. `upper` and `work` are on one file system, `work` is empty;
/// what the process changes is in `upper` once the process has been waited for.
#[derive(Debug, Clone)]
pub struct OverlayRoot {
    /// The trees of the layers, bottom first; may be empty.
    pub lowers: Vec<PathBuf>,
    /// Takes the changes. Its own mode and owner are those of `/`.
    pub upper: PathBuf,
    /// The kernel's scratch directory; left with a directory of mode 0000 in it.
    pub work: PathBuf,
}

impl OverlayRoot {
    /// Makes this overlay the root file system of `spec`, whose other mounts must be there
    /// already: the first of its mounts, on `/`.
    ///
    /// Below the lowers comes a directory with all mount points of the spec, so that none has to
    /// be made in the upper. These directories are kept under `mount_points` and shared by all
    /// specs with the same mount points; they are a cache and may be deleted when nothing runs.
    pub fn install(&self, spec: &mut Spec, mount_points: &Path) -> Result<(), SandboxError> {
        let lowest = mountpoints::layer(spec, mount_points)?;
        let mut options = Vec::with_capacity(self.lowers.len() + 7);
        // A layer that stands in the stack twice is shown by its upper place; the kernel refuses
        // a directory that it is given again.
        let mut seen = HashSet::new();
        for lower in self.lowers.iter().rev().chain([&lowest]).filter(|lower| seen.insert(*lower)) {
            options.push(format!("lowerdir+={}", text(lower)?));
        }
        options.push(format!("upperdir={}", text(&self.upper)?));
        options.push(format!("workdir={}", text(&self.work)?));
        options.extend(OPTIONS.map(str::to_owned));
        let mut mount = Mount::default();
        mount.set_destination("/".into()).set_typ(Some("overlay".into())).set_source(Some("overlay".into()));
        mount.set_options(Some(options));
        spec.mounts_mut().get_or_insert_default().insert(0, mount);
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str, SandboxError> {
    path.to_str().ok_or_else(|| SandboxError::Spec(format!("the path {path:?} is not UTF-8")))
}

/// The overlay of a spec, read back from its mount.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Top first.
    lowers: Vec<String>,
    pub upper: Option<String>,
    work: Option<String>,
    rest: Vec<(String, Option<String>)>,
}

impl Overlay {
    /// Reads the file system's own options. Paths with `\,` or `\:` in a `lowerdir=` list are the
    /// caller's affair: `lowerdir+=` takes any path as it is.
    pub(super) fn parse(data: Vec<(String, Option<String>)>) -> Self {
        let mut overlay = Self::default();
        for (key, value) in data {
            match (key.as_str(), value) {
                ("lowerdir+", Some(path)) => overlay.lowers.push(path),
                ("lowerdir", Some(list)) => overlay.lowers.extend(list.split(':').map(str::to_owned)),
                ("upperdir", Some(path)) => overlay.upper = Some(path),
                ("workdir", Some(path)) => overlay.work = Some(path),
                (_, value) => overlay.rest.push((key, value)),
            }
        }
        overlay
    }

    /// Any directory of the host that is there while the overlay is.
    pub(super) fn directory(&self) -> Option<&str> {
        self.upper.as_deref().or(self.lowers.first().map(String::as_str))
    }

    /// The mount, attached nowhere.
    pub(super) fn mount(&self, attributes: u64) -> Result<OwnedFd, SandboxError> {
        let context = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC);
        let context = context.map_err(|errno| failed(String::new(), errno.into()))?;
        if let Err(errno) = self.configure(&context) {
            let words = said(&context);
            // Before Linux 6.5 the layers have to come in one string, and a refusal says nothing.
            if errno == Errno::INVAL && words.is_empty() && !self.lowers.is_empty() {
                return self.mount_classic(attributes);
            }
            return Err(failed(words, errno.into()));
        }
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| failed(said(&context), errno.into()))
    }

    fn configure(&self, context: &OwnedFd) -> Result<(), Errno> {
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context, key, value);
        for lower in &self.lowers {
            set("lowerdir+", lower)?;
        }
        for (key, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(path) = path {
                set(key, path)?;
            }
        }
        for (key, value) in &self.rest {
            match value {
                Some(value) => set(key, value)?,
                None => rustix::mount::fsconfig_set_flag(context, key.as_str())?,
            }
        }
        rustix::mount::fsconfig_create(context)
    }

    /// mount(2) takes at most a page of options, so the layers are named relative to a directory
    /// that they have in common. A thread with a mount namespace of its own makes the mount there
    /// and hands over a copy that is attached nowhere.
    fn mount_classic(&self, attributes: u64) -> Result<OwnedFd, SandboxError> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("overlay".into());
            let made = thread.spawn_scoped(scope, || self.mount_in_own_namespace(attributes));
            let made = made.map_err(|error| failed(String::new(), error))?;
            made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn mount_in_own_namespace(&self, attributes: u64) -> Result<OwnedFd, SandboxError> {
        let wrap = |error: io::Error| failed(String::new(), error);
        sys::own_mount_namespace().map_err(wrap)?;
        let private = sys::Attributes { propagation: libc::MS_PRIVATE, ..Default::default() };
        sys::mount_setattr(rustix::fs::CWD, c"/", true, private).map_err(|errno| wrap(errno.into()))?;
        let paths = self.lowers.iter().chain(&self.upper).chain(&self.work);
        let common = common_directory(paths.map(Path::new));
        rustix::process::chdir(&common).map_err(|errno| wrap(errno.into()))?;
        let short = |path: &String| {
            let path = Path::new(path).strip_prefix(&common).unwrap_or(Path::new(path));
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            escape(path)
        };
        let lowers: Vec<String> = self.lowers.iter().map(short).collect();
        let mut options = format!("lowerdir={}", lowers.join(":"));
        for (key, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(path) = path {
                options.push_str(&format!(",{key}={}", short(path).replace("\\:", ":")));
            }
        }
        for (key, value) in &self.rest {
            options.push_str(&match value {
                Some(value) => format!(",{key}={value}"),
                None => format!(",{key}"),
            });
        }
        if options.len() >= 4096 {
            let error = io::Error::from(Errno::TOOBIG);
            let detail = ": this kernel takes the names of all layers in 4096 bytes".to_owned();
            return Err(failed(detail, error));
        }
        let target = self.upper.as_deref().map_or_else(|| common.clone(), PathBuf::from);
        let options = CString::new(options).map_err(|error| wrap(error.into()))?;
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(c"overlay", &target, c"overlay", flags, options.as_c_str())
            .map_err(|errno| wrap(errno.into()))?;
        let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount =
            rustix::mount::open_tree(rustix::fs::CWD, &target, copy).map_err(|errno| wrap(errno.into()))?;
        let _ = rustix::mount::unmount(&target, UnmountFlags::DETACH);
        let attributes = sys::Attributes { set: attributes, ..Default::default() };
        sys::mount_setattr(mount.as_fd(), c"", false, attributes).map_err(|errno| wrap(errno.into()))?;
        Ok(mount)
    }
}

/// The kernel's own words about what failed, as `: …`, or nothing.
pub(super) fn said(context: &OwnedFd) -> String {
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    // Each read gives one message, `e text` (an error), `w` or `i`; none left is ENODATA.
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]);
        words.push(message.trim_end().get(2..).unwrap_or_default().to_owned());
        if length == 0 || words.len() == 8 {
            break;
        }
    }
    if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) }
}

fn failed(detail: String, source: io::Error) -> SandboxError {
    SandboxError::Mount { kind: "overlay".into(), target: "/".into(), detail, source }
}

/// The deepest directory that holds all paths.
fn common_directory<'p>(mut paths: impl Iterator<Item = &'p Path>) -> PathBuf {
    let Some(first) = paths.next() else { return "/".into() };
    let mut common = first.parent().unwrap_or(Path::new("/")).to_owned();
    for path in paths {
        while !path.starts_with(&common) {
            if !common.pop() {
                return "/".into();
            }
        }
    }
    common
}

/// A path for a `lowerdir=` list: the separators in it are marked.
fn escape(path: &Path) -> String {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
    text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// Opens a directory as a root that is no overlay: a copy of its mount with all below it,
/// attached nowhere.
pub(super) fn plain(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let copy = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(&directory, c"", copy)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_layer_that_comes_twice_is_given_once_at_its_upper_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let lowers = vec![path("a"), path("b"), path("a")];
        let root = OverlayRoot { lowers, upper: path("upper"), work: path("work") };
        let mut spec = Spec::default();
        spec.set_mounts(None);
        root.install(&mut spec, &path("mount-points")).unwrap();
        let mount = &spec.mounts().as_ref().unwrap()[0];
        let options = mount.options().as_ref().unwrap();
        let lowers: Vec<&str> =
            options.iter().filter_map(|option| option.strip_prefix("lowerdir+=")).collect();
        assert_eq!(lowers[..2], [path("a").to_str().unwrap(), path("b").to_str().unwrap()]);
        assert_eq!(lowers.len(), 3);
    }

    #[test]
    fn the_way_of_older_kernels_gives_the_same_mount() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        for name in ["a,b:c", "second", "upper", "work"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("a,b:c/top"), "top").unwrap();
        fs::write(path("second/top"), "hidden").unwrap();
        fs::write(path("second/bottom"), "bottom").unwrap();
        let overlay = Overlay {
            lowers: vec![path("a,b:c"), path("second")],
            upper: Some(path("upper")),
            work: Some(path("work")),
            rest: vec![("volatile".into(), None), ("index".into(), Some("off".into()))],
        };
        let mount = overlay.mount_classic(libc::MOUNT_ATTR_NOSUID).unwrap();
        let read = |name: &str| {
            let file = rustix::fs::openat(&mount, name, OFlags::RDONLY, Mode::empty()).unwrap();
            io::read_to_string(fs::File::from(file)).unwrap()
        };
        assert_eq!((read("top").as_str(), read("bottom").as_str()), ("top", "bottom"));
        rustix::fs::mkdirat(&mount, "new", Mode::from_raw_mode(0o700)).unwrap();
        assert!(directory.path().join("upper/new").is_dir());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&path("upper")));
    }

    #[test]
    fn errors_are_the_kernels_words() {
        let overlay = Overlay::parse(vec![("lowerdir+".into(), Some("/no/such".into()))]);
        let error = overlay.mount(0).unwrap_err().to_string();
        assert!(error.starts_with("cannot make the overlay file system for \"/\""), "{error}");
        let nothing = Overlay { rest: vec![("nonsense".into(), None)], ..Overlay::default() };
        let error = nothing.mount(0).unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }

    #[test]
    fn what_paths_have_in_common() {
        let common = |paths: &[&str]| common_directory(paths.iter().map(Path::new));
        assert_eq!(common(&["/a/b/c", "/a/b/d/e", "/a/bc"]), Path::new("/a"));
        assert_eq!(common(&["/a/b"]), Path::new("/a"));
        assert_eq!(common(&["/a/b", "/c"]), Path::new("/"));
    }
}
