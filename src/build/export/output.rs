//! Where an output goes: a stream, or a file that appears when it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::build::request::Destination;
use crate::build::solve::Cancel;

use super::ExportError;

/// Writes an output with `write`.
pub fn write_to(
    to: Destination,
    cancel: &Cancel,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    match to {
        Destination::Stream(stream) => into(stream, cancel, write, ExportError::Stream).map(drop),
        Destination::Path(path) => {
            // A pipe or a device is written to as it is.
            if path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
                let file =
                    File::options().write(true).open(&path).map_err(ExportError::file("open", &path))?;
                return into(file, cancel, write, ExportError::file("write", &path)).map(drop);
            }
            whole_file(&path, cancel, write)
        }
    }
}

fn whole_file(
    path: &Path,
    cancel: &Cancel,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let path: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(ExportError::file("make the directory of", &path))?;
    let temporary = tempfile::Builder::new().prefix(".kiln-").permissions(mode()).tempfile_in(directory);
    let temporary: NamedTempFile = temporary.map_err(ExportError::file("make", &path))?;
    let temporary = into(temporary, cancel, write, ExportError::file("write", &path))?;
    temporary.persist(&path).map_err(|error| ExportError::file("put in place", &path)(error.error))?;
    Ok(())
}

/// As any program would make a file; the umask takes its part.
fn mode() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

fn into<W: Write>(
    to: W,
    cancel: &Cancel,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
    failed: impl FnOnce(io::Error) -> ExportError,
) -> Result<W, ExportError> {
    let mut writer = BufWriter::with_capacity(256 << 10, Watched { to, cancel });
    match write(&mut writer) {
        Err(_) if cancel.is_cancelled() => return Err(ExportError::Cancelled),
        result => result?,
    }
    match writer.into_inner() {
        Ok(watched) => {
            let mut to = watched.to;
            to.flush().map_err(failed)?;
            Ok(to)
        }
        Err(error) => Err(failed(error.into_error())),
    }
}

/// A writer that fails once the build is cancelled.
struct Watched<'a, W> {
    to: W,
    cancel: &'a Cancel,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(ExportError::Cancelled));
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
