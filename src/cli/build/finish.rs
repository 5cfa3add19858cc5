//! What a build leaves besides its outputs: the files that were asked for, and the ID.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::build::request::BuildResult;
use crate::cli::error::{Error, Result};
use crate::cli::session::Session;

/// What is to be written.
pub struct Finish {
    /// `--iidfile`
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`
    pub metadata_file: Option<PathBuf>,
    /// `--quiet`: the ID to standard output.
    pub quiet: bool,
}

impl Finish {
    /// Writes it.
    pub fn write(&self, session: &Session, result: &BuildResult) -> Result<()> {
        let id = result.image.map(|id| id.to_string());
        if let (Some(path), Some(id)) = (&self.iidfile, &id) {
            replace(path, id.as_bytes())?;
        }
        if let Some(path) = &self.metadata_file {
            let mut text = serde_json::Value::from(result.metadata.clone());
            text.sort_all_objects();
            replace(path, format!("{text:#}\n").as_bytes())?;
        }
        match id {
            Some(id) if self.quiet => session.print(&format!("{id}\n")),
            _ => Ok(()),
        }
    }
}

/// Writes a file so that a reader sees the old bytes or the new ones. What is no regular file (a
/// pipe, `/dev/stderr`) is written as it is.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |source| Error::File { doing: "write", path: path.to_owned(), source };
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        return fs::write(path, bytes).map_err(fail);
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id");
        replace(&path, b"one").unwrap();
        replace(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        replace(Path::new("/dev/null"), b"x").unwrap();
        assert!(replace(Path::new("/no/such/directory/x"), b"x").is_err());
    }
}
