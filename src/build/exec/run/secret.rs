//! Secrets of a RUN: read when the step runs, shown to it as a file in memory or as a variable,
//! and in no layer, history, log or key.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::build::exec::error::ExecError;
use crate::build::request::{Secret, SecretSource};

/// The largest secret, in bytes.
const LIMIT: u64 = 500 << 10;

/// `f_type` of a tmpfs (statfs(2)).
const TMPFS: u64 = 0x0102_1994;

/// The value of the secret `id`; `None` if it was not given and need not be.
pub fn value(secrets: &[Secret], id: &str, required: bool) -> Result<Option<Vec<u8>>, ExecError> {
    let failed = |source| ExecError::Secret { id: id.to_owned(), source };
    let Some(secret) = secrets.iter().rev().find(|secret| secret.id == id) else {
        return if required { Err(ExecError::NoSecret(id.to_owned())) } else { Ok(None) };
    };
    match &secret.source {
        SecretSource::File(path) => {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes));
            read.map_err(failed)?;
            if bytes.len() as u64 > LIMIT {
                let large = format!("it is larger than {LIMIT} bytes");
                return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, large)));
            }
            Ok(Some(bytes))
        }
        SecretSource::Variable(name) => {
            use std::os::unix::ffi::OsStringExt;
            let unset = || failed(io::Error::new(io::ErrorKind::NotFound, format!("`{name}` is not set")));
            Ok(Some(std::env::var_os(name).ok_or_else(unset)?.into_vec()))
        }
    }
}

/// A secret as a file. It is gone when this is dropped, which may be as soon as it is mounted.
pub struct SecretFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl SecretFile {
    /// Writes `value` to a file in memory; where the host has no memory file system, to one
    /// under `scratch` that nobody else can read.
    pub fn new(
        id: &str,
        value: &[u8],
        mode: u32,
        owner: (u32, u32),
        scratch: &Path,
    ) -> Result<Self, ExecError> {
        let failed = |source| ExecError::Secret { id: id.to_owned(), source };
        let in_memory = ["/dev/shm", "/run"].into_iter().map(Path::new).find(|path| is_memory(path));
        let directory = tempfile::Builder::new().prefix("kiln-").tempdir_in(in_memory.unwrap_or(scratch));
        let directory = directory.map_err(failed)?;
        let path = directory.path().join("secret");
        let write = || {
            let mut file = File::create_new(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(value)?;
            fchown(&file, Some(owner.0), Some(owner.1))?;
            file.set_permissions(Permissions::from_mode(mode & 0o7777))
        };
        write().map_err(failed)?;
        Ok(Self { _directory: directory, path })
    }

    /// Where it is on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_memory(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|status| status.f_type as u64 == TMPFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("token");
        std::fs::write(&source, "abc").unwrap();
        let secret = |id: &str, path: PathBuf| Secret { id: id.into(), source: SecretSource::File(path) };
        let secrets = [secret("token", source), secret("gone", dir.path().join("gone"))];
        assert_eq!(value(&secrets, "token", true).unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(value(&secrets, "other", false).unwrap(), None);
        assert!(matches!(value(&secrets, "other", true), Err(ExecError::NoSecret(_))));
        assert!(matches!(value(&secrets, "gone", false), Err(ExecError::Secret { .. })));
        let file = SecretFile::new("token", b"abc", 0o440, (0, 0), dir.path()).unwrap();
        let path = file.path().to_owned();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o440);
        drop(file);
        assert!(!path.exists());
    }
}
