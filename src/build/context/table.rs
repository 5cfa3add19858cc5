//! The entries of a scan: fixed rows over one arena of paths, sorted in component order, so that
//! a directory comes before what is in it and a subtree is one run of rows.

use rustix::fs::{FileType, Stat};

use crate::base::clock::Time;
use crate::layer::entry::compare_paths;

/// What the kernel says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// `st_mode`, type bits included.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file; the device number of a device.
    pub size: u64,
    pub inode: u64,
    pub mtime: Time,
    pub ctime: Time,
    /// On the same file system as the context's root.
    pub local: bool,
}

impl Status {
    pub(super) fn new(stat: &Stat, device: u64) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if is_device { stat.st_rdev } else { stat.st_size as u64 },
            inode: stat.st_ino,
            mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
            ctime: Time { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 },
            local: stat.st_dev == device,
        }
    }

    /// The same from the standard library's call.
    pub(super) fn from_metadata(metadata: &std::fs::Metadata, device: u64) -> Self {
        use std::os::unix::fs::MetadataExt;
        let kind = FileType::from_raw_mode(metadata.mode());
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        Self {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if is_device { metadata.rdev() } else { metadata.size() },
            inode: metadata.ino(),
            mtime: Time { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() as u32 },
            ctime: Time { seconds: metadata.ctime(), nanoseconds: metadata.ctime_nsec() as u32 },
            local: metadata.dev() == device,
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether a digest made of a file with status `other` holds for this one.
    pub(super) fn same_content(&self, other: &Status) -> bool {
        let of = |status: &Status| (status.size, status.mode, status.inode, status.mtime, status.ctime);
        of(self) == of(other)
    }
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Where its path starts in the arena; the target of a link follows the path.
    path: u32,
    path_length: u16,
    target_length: u16,
    /// The first row behind its subtree.
    pub end: u32,
    pub status: Status,
}

/// All entries, the root with the empty path first.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    arena: Vec<u8>,
}

/// More entries or names than a table counts.
#[derive(Debug)]
pub(super) struct Full;

impl Table {
    pub(super) fn with_capacity(rows: usize, arena: usize) -> Self {
        Self { rows: Vec::with_capacity(rows), arena: Vec::with_capacity(arena) }
    }

    pub(super) fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    pub(super) fn row(&self, number: u32) -> &Row {
        &self.rows[number as usize]
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn path(&self, number: u32) -> &[u8] {
        let row = self.row(number);
        &self.arena[row.path as usize..][..usize::from(row.path_length)]
    }

    pub(super) fn target(&self, number: u32) -> &[u8] {
        let row = self.row(number);
        let start = row.path as usize + usize::from(row.path_length);
        &self.arena[start..][..usize::from(row.target_length)]
    }

    /// Adds an entry, which must sort behind all others. `parts` joined are its path; `target` is
    /// where a link leads. Both are shorter than 4096 bytes.
    pub(super) fn push(&mut self, parts: &[&[u8]], target: &[u8], status: Status) -> Result<u32, Full> {
        let number = u32::try_from(self.rows.len()).map_err(|_| Full)?;
        let path = u32::try_from(self.arena.len()).map_err(|_| Full)?;
        parts.iter().for_each(|part| self.arena.extend_from_slice(part));
        let path_length = u16::try_from(self.arena.len() - path as usize).map_err(|_| Full)?;
        self.arena.extend_from_slice(target);
        let target_length = u16::try_from(target.len()).map_err(|_| Full)?;
        let end = number.checked_add(1).ok_or(Full)?;
        self.rows.push(Row { path, path_length, target_length, end, status });
        Ok(number)
    }

    /// Says that everything pushed after `number` is in its subtree.
    pub(super) fn close(&mut self, number: u32) {
        self.rows[number as usize].end = self.len();
    }

    /// Takes `number`, the last row, back out.
    pub(super) fn take_back(&mut self, number: u32) {
        self.arena.truncate(self.rows[number as usize].path as usize);
        self.rows.truncate(number as usize);
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        let mut range = 0..self.len();
        while !range.is_empty() {
            let middle = range.start + (range.end - range.start) / 2;
            match compare_paths(self.path(middle), path) {
                std::cmp::Ordering::Less => range.start = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => range.end = middle,
            }
        }
        None
    }

    /// Gives back what was reserved too much.
    pub(super) fn shrink(&mut self) {
        self.rows.shrink_to_fit();
        self.arena.shrink_to_fit();
    }
}
