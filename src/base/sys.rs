//! The few calls of this room that the compiler cannot check.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

/// A file mapped for reading.
///
/// The file must be one that nobody changes in place: kiln's own files, which are written under
/// another name and renamed.
pub struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is read-only and private to this value, which owns it.
unsafe impl Send for Mapped {}
// SAFETY: as above; shared reads need no synchronisation.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the whole of `file`; an empty file gives an empty slice.
    pub fn new(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large to map"))?;
        if length == 0 {
            return Ok(Self { start: NonNull::dangling(), length });
        }
        // SAFETY: a fresh private read-only mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0)?
        };
        let start = NonNull::new(start.cast()).expect("mmap never maps the null page here");
        Ok(Self { start, length })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is valid for `length` bytes until drop, and never written.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: exactly the range that `new` mapped, and no reference outlives the value.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "content"] {
            let path = dir.path().join("file");
            std::fs::write(&path, content).unwrap();
            assert_eq!(&*Mapped::new(&File::open(&path).unwrap()).unwrap(), content.as_bytes());
        }
    }
}
