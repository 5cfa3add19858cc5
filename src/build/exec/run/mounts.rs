//! The mounts of a RUN as those of a runtime spec, with what has to be held while it runs.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Mount;

use super::secret::{self, SecretFile};
use super::submount::contributors;
use crate::base::digest::LayerId;
use crate::base::event::VertexId;
use crate::build::exec::Exec;
use crate::build::exec::copy::step::{self as copying, Copied};
use crate::build::exec::copy::tree::{Resolved, resolve};
use crate::build::exec::error::ExecError;
use crate::build::exec::snapshot::Inputs;
use crate::build::plan::operation::{RunMount, RunMountKind};
use crate::build::solve::Step;
use crate::dockerfile::instruction::CacheSharing;
use crate::layer::entry::compare_paths;
use crate::sandbox::defaults;
use crate::store::{CacheMount, Hold};

/// How long a step waits before it looks again whether a cache mount is free.
const PAUSE: Duration = Duration::from_millis(10);

/// How many caches of one name `sharing=private` makes at most.
const PRIVATE: usize = 1000;

/// Mounts, variables, and what they stand on.
#[derive(Default)]
pub struct Mounted {
    /// For the spec, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Secrets for the environment: `NAME=value`.
    pub env: Vec<String>,
    /// Needed until the process runs.
    pub secrets: Vec<SecretFile>,
    caches: HashMap<String, CacheMount>,
}

/// Where the mounts of one step are made.
pub struct Place<'a> {
    /// The build.
    pub exec: &'a Exec<'a>,
    /// What the step stands on.
    pub inputs: &'a Inputs<'a>,
    /// A directory of the step's own, on the store's file system.
    pub scratch: &'a Path,
    /// The step.
    pub step: &'a Step<'a>,
}

impl Place<'_> {
    /// Prepares `mounts`; `contexts` has, for each that shows a context, the layer made of it and
    /// the path in there.
    pub fn prepare(
        &self,
        mounts: &[RunMount],
        contexts: &[Option<(LayerId, Vec<u8>)>],
    ) -> Result<Mounted, ExecError> {
        let mut mounted = Mounted::default();
        self.take_caches(mounts, &mut mounted)?;
        let mut order: Vec<usize> = (0..mounts.len()).collect();
        // A mount inside another one comes behind it.
        order.sort_by(|a, b| compare_paths(mounts[*a].target.as_bytes(), mounts[*b].target.as_bytes()));
        for number in order {
            self.add(number, &mounts[number], contexts[number].as_ref(), &mut mounted)?;
        }
        Ok(mounted)
    }

    fn add(
        &self,
        number: usize,
        mount: &RunMount,
        context: Option<&(LayerId, Vec<u8>)>,
        to: &mut Mounted,
    ) -> Result<(), ExecError> {
        let target = mount.target.as_str();
        match &mount.kind {
            RunMountKind::Bind { from, source, writable } => {
                let shown = match context {
                    Some((layer, path)) => Shown { layers: vec![*layer], source: path, from: *from, target },
                    None => {
                        let layers = self.inputs.stack(*from).layers.to_vec();
                        Shown { layers, source: source.as_bytes(), from: *from, target }
                    }
                };
                let upper = writable.then(|| self.scratch.join(format!("bind-{number}")));
                to.mounts.push(self.bind(&shown, upper.as_deref())?);
            }
            RunMountKind::Cache { id, readonly, .. } => {
                let cache = to.caches.get(id).expect("taken before");
                to.mounts.push(defaults::bind(&cache.path, target, *readonly));
            }
            RunMountKind::Tmpfs { size } => {
                let size = size.map(|size| format!("size={size}"));
                let options = ["nosuid", "nodev", "mode=1777"].into_iter().chain(size.as_deref());
                let options: Vec<&str> = options.collect();
                to.mounts.push(defaults::mount(target, "tmpfs", Path::new("tmpfs"), &options));
            }
            RunMountKind::Secret { id, env, required, mode, uid, gid } => {
                let Some(value) = secret::value(self.exec.secrets, id, *required)? else { return Ok(()) };
                if let Some(name) = env {
                    let text = String::from_utf8(value.clone()).ok().filter(|text| !text.contains('\0'));
                    to.env
                        .push(format!("{name}={}", text.ok_or_else(|| ExecError::SecretBytes(id.clone()))?));
                }
                if !target.is_empty() {
                    let file = SecretFile::new(id, &value, *mode, (*uid, *gid), self.scratch)?;
                    let options = ["bind", "ro", "nosuid", "nodev", "noexec", "private"];
                    to.mounts.push(defaults::mount(target, "bind", file.path(), &options));
                    to.secrets.push(file);
                }
            }
            RunMountKind::Ssh => return Err(ExecError::NotSupported("`--mount=type=ssh`".to_owned())),
        }
        Ok(())
    }

    /// A path of a stack of layers; what is written goes to `upper` if there is one.
    fn bind(&self, shown: &Shown<'_>, upper: Option<&Path>) -> Result<Mount, ExecError> {
        let store = self.exec.store;
        let tree = self.exec.layers_tree(&shown.layers)?;
        let Resolved::Found(path, node) = resolve(&tree, shown.source, true) else {
            return Err(self.missing(&String::from_utf8_lossy(shown.source), shown.target, shown.from));
        };
        if !node.kind.is_directory() {
            let layer = shown.layers[tree.file(&path).map_or(node.part as usize, |(layer, _)| layer)];
            let file = below(&store.trees(&[layer])?[0], &path);
            return bind_file(&file, shown.target, upper);
        }
        let indexes = shown.layers.iter().map(|layer| store.index(*layer)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<LayerId> =
            contributors(&indexes, &path).into_iter().map(|at| shown.layers[at]).collect();
        let trees = self.exec.trees(&parts)?;
        let lowers: Vec<PathBuf> =
            trees.iter().map(|tree| below(tree, &path)).filter(|tree| tree.is_dir()).collect();
        self.overlay(&lowers, shown.target, upper)
    }

    /// An overlay of `lowers`, bottom first, on `target`.
    fn overlay(&self, lowers: &[PathBuf], target: &str, upper: Option<&Path>) -> Result<Mount, ExecError> {
        let make = |path: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(ExecError::file("make the directory", path))
        };
        // Without an upper an overlay takes at least two lowers.
        let empty = self.scratch.join("empty");
        make(&empty)?;
        let mut options: Vec<String> = lowers
            .iter()
            .rev()
            .chain([&empty])
            .map(|lower| format!("lowerdir+={}", lower.display()))
            .collect();
        match upper {
            Some(upper) => {
                let (upper, work) = (upper.join("upper"), upper.join("work"));
                make(&upper)?;
                make(&work)?;
                if let Some(lower) = lowers.last() {
                    same_root(lower, &upper)?;
                }
                options.push(format!("upperdir={}", upper.display()));
                options.push(format!("workdir={}", work.display()));
                options.push("volatile".to_owned());
            }
            None => options.push("ro".to_owned()),
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Ok(defaults::mount(target, "overlay", Path::new("overlay"), &options))
    }

    fn missing(&self, path: &str, target: &str, from: VertexId) -> ExecError {
        ExecError::MountSource {
            path: path.to_owned(),
            target: target.to_owned(),
            place: self.exec.place(from),
        }
    }

    /// Takes the caches of a step, always in the same order, so that two steps never wait for
    /// each other.
    fn take_caches(&self, mounts: &[RunMount], to: &mut Mounted) -> Result<(), ExecError> {
        let mut caches: Vec<(&str, &RunMount)> = mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                RunMountKind::Cache { id, .. } => Some((id.as_str(), mount)),
                _ => None,
            })
            .collect();
        caches.sort_by_key(|(id, _)| *id);
        caches.dedup_by_key(|(id, _)| *id);
        for (id, mount) in caches {
            let cache = self.take_cache(id, mount)?;
            to.caches.insert(id.to_owned(), cache);
        }
        Ok(())
    }

    fn take_cache(&self, id: &str, mount: &RunMount) -> Result<CacheMount, ExecError> {
        let RunMountKind::Cache { sharing, .. } = &mount.kind else { unreachable!("only caches are taken") };
        let take = |id: &str, hold| {
            self.exec.store.cache_mount(id, hold, |directory| self.fill_cache(directory, mount))
        };
        loop {
            let taken = match sharing {
                CacheSharing::Shared => take(id, Hold::Shared)?,
                CacheSharing::Locked => take(id, Hold::TryExclusive)?,
                CacheSharing::Private => {
                    let names = (0..PRIVATE).map(|number| match number {
                        0 => id.to_owned(),
                        number => format!("{id} (private {number})"),
                    });
                    let mut taken = None;
                    for name in names {
                        taken = take(&name, Hold::TryExclusive)?;
                        if taken.is_some() {
                            break;
                        }
                    }
                    taken
                }
            };
            match taken {
                Some(cache) => return Ok(cache),
                None if self.step.cancel.is_cancelled() => return Err(ExecError::Cancelled),
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// What a new cache begins with.
    fn fill_cache(&self, directory: &Path, mount: &RunMount) -> Result<(), ExecError> {
        let RunMountKind::Cache { from, source, mode, uid, gid, .. } = &mount.kind else { return Ok(()) };
        if let Some(from) = from {
            let planned = copying::plan_tree(self.exec, self.inputs.get(*from), source, false)?;
            let Some((mut planned, _)) = planned else {
                return Err(self.missing(source, &mount.target, *from));
            };
            let keyed = planned.tree_key(self.step.cancel)?;
            let layer = match planned.layer(self.exec, &keyed, self.step)? {
                Copied::Layer(layer) => layer,
                Copied::Stale(error) => return Err(error),
            };
            let tar = self.exec.store.open_tar(layer)?;
            crate::layer::apply::unpack(tar, directory, &crate::layer::merged::Merged::default())?;
        }
        let failed = || ExecError::file("set up the cache mount", directory);
        chown(directory, Some(*uid), Some(*gid)).map_err(failed())?;
        fs::set_permissions(directory, Permissions::from_mode(mode & 0o7777)).map_err(failed())
    }
}

/// What a bind mount shows.
struct Shown<'a> {
    layers: Vec<LayerId>,
    source: &'a [u8],
    from: VertexId,
    target: &'a str,
}

/// One file; a copy of it where it is to be written to.
fn bind_file(file: &Path, target: &str, upper: Option<&Path>) -> Result<Mount, ExecError> {
    let Some(copy) = upper else { return Ok(defaults::bind(file, target, true)) };
    fs::copy(file, copy).map_err(ExecError::file("copy the file for a mount to", copy))?;
    Ok(defaults::bind(copy, target, false))
}

/// `path`, which is free of links, in the directory `tree`.
fn below(tree: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    tree.join(std::ffi::OsStr::from_bytes(path))
}

/// Gives `to` the owner and mode of `from`: the root of an overlay is that of its upper.
fn same_root(from: &Path, to: &Path) -> Result<(), ExecError> {
    use std::os::unix::fs::MetadataExt;
    let of = fs::metadata(from).map_err(ExecError::file("look at", from))?;
    chown(to, Some(of.uid()), Some(of.gid())).map_err(ExecError::file("change the owner of", to))?;
    fs::set_permissions(to, of.permissions()).map_err(ExecError::file("change the mode of", to))
}
