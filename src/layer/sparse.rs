//! Files with holes: read without touching the holes, written without filling them.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

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

/// Zeros of this length, beginning at a multiple of it, become a hole.
const HOLE: usize = 64 * 1024;

/// Writes the `size` bytes of `data` to the empty `file`, with holes for long runs of zeros. The
/// error is that of the reader (`Ok`) or that of the file (`Err`).
pub(crate) fn write_with_holes(
    data: &mut dyn Read,
    file: &File,
    size: u64,
    buffer: &mut [u8],
) -> Result<(), Result<io::Error, io::Error>> {
    let mut at = 0;
    let mut end = 0;
    while at < size {
        let room = (size - at).min(buffer.len() as u64) as usize;
        data.read_exact(&mut buffer[..room]).map_err(Ok)?;
        for (start, length) in runs(&buffer[..room]) {
            end = at + (start + length) as u64;
            file.write_all_at(&buffer[start..start + length], at + start as u64).map_err(Err)?;
        }
        at += room as u64;
    }
    if end < size { file.set_len(size).map_err(Err) } else { Ok(()) }
}

/// Where in `bytes` there is anything but long runs of zeros: start and length.
fn runs(bytes: &[u8]) -> Vec<(usize, usize)> {
    static ZEROS: [u8; HOLE] = [0; HOLE];
    let mut runs: Vec<(usize, usize)> = Vec::with_capacity(1);
    for (number, chunk) in bytes.chunks(HOLE).enumerate() {
        let start = number * HOLE;
        if chunk == ZEROS {
            continue;
        }
        match runs.last_mut() {
            Some((from, length)) if *from + *length == start => *length += chunk.len(),
            _ => runs.push((start, chunk.len())),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;

    use super::*;

    #[test]
    fn zeros_become_holes() {
        let dir = crate::layer::testing::scratch();
        let mut content = vec![0; 40 * HOLE + 17];
        content[3 * HOLE + 5] = 1;
        content[20 * HOLE] = 2;
        for (name, content) in
            [("middle", &content[..]), ("zeros", &vec![0; 5 * HOLE]), ("none", &[]), ("one", b"x")]
        {
            let path = dir.path().join(name);
            let file = File::create(&path).unwrap();
            write_with_holes(&mut &content[..], &file, content.len() as u64, &mut [0; 4 * HOLE]).unwrap();
            assert!(std::fs::read(&path).unwrap() == content);
            assert!(fstat(&file).unwrap().st_blocks as u64 * 512 <= 3 * HOLE as u64, "{name}");
        }
        let short =
            write_with_holes(&mut &b"x"[..], &File::create(dir.path().join("f")).unwrap(), 2, &mut [0; 8]);
        assert!(matches!(short, Err(Ok(_))));
    }

    #[test]
    fn holes_read_as_zeros() {
        let dir = crate::layer::testing::scratch();
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
