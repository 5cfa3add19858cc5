//! Files and standard input that commands read whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{Error, Result};

/// The bytes of a file, or of standard input for `-`; an error past `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let fail = |source| Error::File { doing: "read", path: path.to_owned(), source };
    if path.as_os_str() == "-" {
        return bounded(io::stdin().lock(), limit).map_err(fail);
    }
    let file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    bounded(file, limit).map_err(fail)
}

fn bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > limit {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"))),
        false => Ok(bytes),
    }
}
