//! `RUN --mount` to the mounts of a vertex (reference, "RUN --mount").

use crate::base::diagnostic::Diagnostic;
use crate::base::event::VertexId;
use crate::dockerfile::instruction::{Mount, MountKind, SecretMount, Word};
use crate::dockerfile::values;

use super::arguments;
use super::operation::{RunMount, RunMountKind};
use super::paths;
use super::stage::Stage;

const SECRETS: &str = "/run/secrets";
const SECRET_MODE: u32 = 0o400;
const CACHE_MODE: u32 = 0o755;

impl Stage<'_, '_> {
    /// The mounts of a RUN; `None` if one is of something that has failed.
    pub(super) fn mounts(&mut self, mounts: &[Mount]) -> Result<Option<Vec<RunMount>>, Diagnostic> {
        let mut done: Vec<RunMount> = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let Some(lowered) = self.mount(mount)? else { return Ok(None) };
            let covered =
                done.iter().position(|other| other.target == lowered.target && !other.target.is_empty());
            if let Some(covered) = covered {
                let message = format!("this mount covers the one before it at `{}`", lowered.target);
                self.planner.warnings.push(Diagnostic::warning(mount.span, message));
                done.remove(covered);
            }
            done.push(lowered);
        }
        Ok(Some(done))
    }

    fn mount(&mut self, mount: &Mount) -> Result<Option<RunMount>, Diagnostic> {
        match &mount.kind {
            MountKind::Bind { from, source, writable } => {
                let target = self.target(mount, "bind")?;
                let source = self.source_path(source.as_ref())?;
                let Some(from) = self.mounted_from(from.as_ref())? else { return Ok(None) };
                let from = from.unwrap_or_else(|| self.planner.main_context());
                Ok(Some(RunMount { target, kind: RunMountKind::Bind { from, source, writable: *writable } }))
            }
            MountKind::Cache { id, from, source, sharing, readonly, mode, uid, gid } => {
                let target = self.target(mount, "cache")?;
                let id = self.cache_id(id.as_ref(), mount)?;
                let source = self.source_path(source.as_ref())?;
                let Some(from) = self.mounted_from(from.as_ref())? else { return Ok(None) };
                let kind = RunMountKind::Cache {
                    id,
                    from,
                    source,
                    sharing: *sharing,
                    readonly: *readonly,
                    mode: self.value(mode.as_ref(), values::mode)?.unwrap_or(CACHE_MODE),
                    uid: self.value(uid.as_ref(), values::id)?.unwrap_or(0),
                    gid: self.value(gid.as_ref(), values::id)?.unwrap_or(0),
                };
                Ok(Some(RunMount { target, kind }))
            }
            MountKind::Tmpfs { size } => {
                let target = self.target(mount, "tmpfs")?;
                let size = self.value(size.as_ref(), values::size)?;
                Ok(Some(RunMount { target, kind: RunMountKind::Tmpfs { size } }))
            }
            MountKind::Secret(secret) => self.secret(mount, secret).map(Some),
            MountKind::Ssh(_) => {
                let target = self.written(mount.target.as_ref())?;
                let target = target.map(|target| paths::absolute(self.directory(), &target));
                Ok(Some(RunMount { target: target.unwrap_or_default(), kind: RunMountKind::Ssh }))
            }
        }
    }

    /// The path a mount must have.
    fn target(&self, mount: &Mount, kind: &str) -> Result<String, Diagnostic> {
        let Some(word) = &mount.target else {
            return Err(Diagnostic::error(mount.span, format!("a mount of type `{kind}` needs a target"))
                .help("add `target=/path`"));
        };
        let target = paths::absolute(self.directory(), &self.expand(word)?);
        if target == "/" {
            return Err(Diagnostic::error(word.span, "nothing can be mounted at `/`"));
        }
        Ok(target)
    }

    /// A path in what is mounted.
    fn source_path(&self, source: Option<&Word>) -> Result<String, Diagnostic> {
        Ok(paths::absolute("/", &self.written(source)?.unwrap_or_default()))
    }

    /// The vertex that is mounted: `None` for one that has failed, `Some(None)` where none was
    /// named.
    fn mounted_from(&mut self, from: Option<&Word>) -> Result<Option<Option<VertexId>>, Diagnostic> {
        let Some(word) = from else { return Ok(Some(None)) };
        match self.planner.names.from(word, self.number)? {
            None => Ok(Some(None)),
            Some(origin) => Ok(self.planner.files(&origin, word.span, self.number).map(Some)),
        }
    }

    /// An option that was given and did not come to nothing.
    fn written(&self, word: Option<&Word>) -> Result<Option<String>, Diagnostic> {
        let text = word.map(|word| self.expand(word)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// An option with a form of its own, which an empty one need not have.
    fn value<T>(
        &self,
        word: Option<&Word>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Diagnostic> {
        let (Some(word), Some(text)) = (word, self.written(word)?) else { return Ok(None) };
        parse(&text).map(Some).map_err(|fault| Diagnostic::error(word.span, fault))
    }

    fn cache_id(&self, id: Option<&Word>, mount: &Mount) -> Result<String, Diagnostic> {
        let id = match self.written(id)? {
            Some(id) => id,
            None => self.target(mount, "cache")?,
        };
        Ok(arguments::cache_id(self.planner.request, id))
    }

    fn secret(&self, mount: &Mount, secret: &SecretMount) -> Result<RunMount, Diagnostic> {
        let written = self.written(mount.target.as_ref())?;
        let id = self
            .written(secret.id.as_ref())?
            .or_else(|| written.as_deref().map(|target| paths::base_name(target).to_owned()));
        let Some(id) = id else {
            return Err(Diagnostic::error(mount.span, "a secret needs an `id` or a `target`"));
        };
        let env = self.written(secret.env.as_ref())?;
        if let (Some(name), Some(word)) = (&env, &secret.env)
            && name.contains('=')
        {
            return Err(Diagnostic::error(word.span, format!("`{name}` cannot be the name of a variable")));
        }
        let target = match written {
            Some(target) => paths::absolute(self.directory(), &target),
            None if env.is_some() => String::new(),
            None => format!("{SECRETS}/{}", paths::base_name(&id)),
        };
        let kind = RunMountKind::Secret {
            id,
            env,
            required: secret.required,
            mode: self.value(secret.mode.as_ref(), values::mode)?.unwrap_or(SECRET_MODE),
            uid: self.value(secret.uid.as_ref(), values::id)?.unwrap_or(0),
            gid: self.value(secret.gid.as_ref(), values::id)?.unwrap_or(0),
        };
        Ok(RunMount { target, kind })
    }
}
