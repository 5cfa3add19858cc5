//! The directories that a build may copy from, and their ignore files (reference, ".dockerignore
//! file"): the main one's is `<Dockerfile>.dockerignore` if that is there, every other context
//! has its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::rooted::Root;
use crate::build::context::Context;
use crate::build::solve::Cancel;
use crate::dockerfile::ignore::IgnoreFile;
use crate::store::Store;

use super::error::ExecError;

/// What the main context is called in a graph.
pub const MAIN: &str = "context";

/// The largest ignore file that is read.
const LIMIT: u64 = 4 << 20;

/// The contexts of a request, by name.
#[derive(Debug, Default)]
pub struct Contexts {
    /// The main one; `None` if there is none.
    pub main: Option<PathBuf>,
    /// Where the Dockerfile is, if it is a file.
    pub dockerfile: Option<PathBuf>,
    /// `--build-context` directories.
    pub named: Vec<(String, PathBuf)>,
}

impl Contexts {
    /// Scans the context called `name`.
    pub fn scan(&self, store: &Store, name: &str, cancel: &Cancel) -> Result<Arc<Context>, ExecError> {
        let named = self.named.iter().rev().find(|(known, _)| known == name);
        let directory = match named {
            Some((_, directory)) => directory,
            None => match &self.main {
                Some(directory) => directory,
                None => return Err(ExecError::NoContext),
            },
        };
        let main = named.is_none();
        let ignore = Arc::new(self.ignore_file(directory, main)?);
        let index = store.root().join("contexts").join(Context::index_name(directory));
        Ok(Arc::new(Context::scan_until(directory, ignore, &index, &|| cancel.is_cancelled())?))
    }

    fn ignore_file(&self, directory: &Path, main: bool) -> Result<IgnoreFile, ExecError> {
        if main && let Some(dockerfile) = &self.dockerfile {
            let mut beside = dockerfile.clone().into_os_string();
            beside.push(".dockerignore");
            let beside = PathBuf::from(beside);
            let parent = beside.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = beside.file_name().unwrap_or_default().to_owned();
            if let Some(file) = read(parent.unwrap_or(Path::new(".")), Path::new(&name))? {
                return Ok(file);
            }
        }
        Ok(read(directory, Path::new(".dockerignore"))?.unwrap_or_else(IgnoreFile::empty))
    }
}

/// Reads the ignore file `name` in `directory`, if it is there.
fn read(directory: &Path, name: &Path) -> Result<Option<IgnoreFile>, ExecError> {
    use std::os::unix::ffi::OsStrExt;
    let path = directory.join(name);
    let root = match Root::open(directory) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ExecError::file("open", directory)(source)),
    };
    let bytes = root.read(name.as_os_str().as_bytes(), LIMIT).map_err(ExecError::file("read", &path))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let shown = name.to_string_lossy();
    IgnoreFile::parse(&shown, &bytes).map(Some).map_err(|faults| ExecError::Ignore { path, faults })
}
