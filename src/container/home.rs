//! A container's directory in the store.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::error::ContainerError;
use crate::base::digest::{Digest, ImageId};
use crate::store::Store;

/// What is known of a container beside its spec: `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it runs.
    pub image: ImageId,
    /// The command with its arguments.
    pub command: Vec<String>,
    /// When it was made, in RFC 3339.
    pub created: String,
    /// Whether nothing is kept of it when it ends.
    pub rm: bool,
    /// The process while it runs, with its start time and the boot, which together name one
    /// process of a machine: who finds it gone has found a container that nobody saw end.
    pub process: Option<(u32, u64, String)>,
    /// When it ended, in RFC 3339.
    pub finished: Option<String>,
    /// How it ended.
    pub exit_code: Option<i32>,
}

/// The directory `containers/ID`. Unless [`Home::keep`] was called it goes to the trash when it
/// is dropped.
#[derive(Debug)]
pub(super) struct Home {
    store: Store,
    path: PathBuf,
    gone: AtomicBool,
}

impl Home {
    /// Makes the directory of a new container: its ID and the directory.
    pub(super) fn new(store: &Store) -> Result<(String, Self), ContainerError> {
        let mut chance = [0; 32];
        rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| ContainerError::file("choose a name in", store.root())(errno.into()))?;
        let id = Digest::from_bytes(chance).hex();
        let path = store.root().join("containers").join(&id);
        // Closed to others: setuid programs and secrets of images are nobody's outside.
        make(&path, 0o700)?;
        Ok((id, Self { store: store.clone(), path, gone: AtomicBool::new(false) }))
    }

    /// Where something of the container is.
    pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory of the container's.
    pub(super) fn directory(&self, name: &str, mode: u32) -> Result<PathBuf, ContainerError> {
        let path = self.join(name);
        make(&path, mode)?;
        Ok(path)
    }

    /// Writes a file that the container sees.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf, ContainerError> {
        let path = self.join(name);
        let write = || {
            fs::write(&path, content)?;
            fs::set_permissions(&path, Permissions::from_mode(0o644))
        };
        write().map_err(ContainerError::file("write", &path))?;
        Ok(path)
    }

    /// Writes a document; one that is there is replaced whole or not at all.
    pub(super) fn document(&self, name: &str, document: &impl Serialize) -> Result<(), ContainerError> {
        let path = self.join(name);
        let bytes = serde_json::to_vec(document)
            .map_err(|source| ContainerError::Document { path: path.clone(), source })?;
        let replace = || {
            let unfinished = self.join(format!("{name}.new"));
            fs::write(&unfinished, &bytes)?;
            fs::rename(&unfinished, &path)
        };
        let written = match fs::File::create_new(&path) {
            Ok(mut file) => file.write_all(&bytes),
            Err(_) => replace(),
        };
        written.map_err(ContainerError::file("write", &path))
    }

    /// Lets the directory stay.
    pub(super) fn keep(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Moves the directory to the trash.
    pub(super) fn remove(&self) {
        if !self.gone.swap(true, Ordering::Relaxed) {
            self.store.trash(&self.path);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.remove();
    }
}

fn make(path: &Path, mode: u32) -> Result<(), ContainerError> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(ContainerError::file("make the directory", path))
}
