//! Files with holes: read without touching the holes, written without filling them.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

use rustix::fs::{SeekFrom, Statx};
use rustix::io::Errno;

/// Whether a file takes less room than its size, so that looking for holes may pay.
pub(crate) fn may_have_holes(stat: &Statx) -> bool {
    stat.stx_blocks.saturating_mul(512) < stat.stx_size
}

/// Reads a file of a known size and gives its holes as zeros without reading them.
pub(crate) struct SparseReader {
    file: File,
    at: u64,
    /// Where the next data is.
    data: Range<u64>,
    size: u64,
}

impl SparseReader {
    pub fn new(file: File, size: u64) -> Self {
        Self { file, at: 0, data: 0..0, size }
    }

    fn find_data(&mut self) -> io::Result<()> {
        self.data = match rustix::fs::seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(start) => match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
                Ok(end) => start..end,
                Err(error) => return Err(error.into()),
            },
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => self.size..self.size,
            // The file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.at..self.size,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }
}

impl Read for SparseReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        if self.at >= self.data.end {
            self.find_data()?;
        }
        let until = if self.at < self.data.start { self.data.start } else { self.data.end };
        let room = (until.min(self.size) - self.at).min(buffer.len() as u64) as usize;
        let count = if self.at < self.data.start {
            buffer[..room].fill(0);
            room
        } else {
            rustix::io::pread(&self.file, &mut buffer[..room], self.at)?
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_read_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(9_000_000).unwrap();
        file.write_all_at(b"middle", 5_000_000).unwrap();
        file.write_all_at(&[1; 10_000], 6_000_123).unwrap();
        let mut plain = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut plain).unwrap();
        let mut read = Vec::new();
        SparseReader::new(File::open(&path).unwrap(), 9_000_000).read_to_end(&mut read).unwrap();
        assert!(read == plain);
    }
}
