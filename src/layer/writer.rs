//! Writes a layer's tar and its index in one pass, for steps that stream what they make (COPY,
//! ADD): each file is hashed as it passes and compared with the digest that the step is keyed on.

use std::io::{Read, Write};

use crate::base::digest::{Digest, HashingReader};

use super::builder::IndexBuilder;
use super::entry::{EntryRef, KindRef};
use super::error::shown;
use super::hashing::BackgroundReader;
use super::index::Index;
use super::tar::TarWriter;
use super::{LayerError, Result};

/// From this size on a file is hashed on a thread of its own.
const LARGE: u64 = 1 << 20;

/// A [`TarWriter`] and the index of what went into it. Entries come in the order of an index.
/// After an error the tar is of no use.
pub struct LayerWriter<W: Write> {
    tar: TarWriter<W>,
    index: IndexBuilder,
}

impl<W: Write> LayerWriter<W> {
    /// A layer whose tar goes to `out`.
    pub fn new(out: W) -> Self {
        Self { tar: TarWriter::new(out), index: IndexBuilder::new() }
    }

    /// Adds an entry without content, or an empty file.
    pub fn entry<'e>(&mut self, entry: impl Into<EntryRef<'e>>) -> Result<()> {
        self.append(entry.into(), &mut std::io::empty())
    }

    /// Adds a file with the content that `data` gives. Another size or digest than the entry has
    /// is an error that names the file.
    pub fn file<'e>(&mut self, entry: impl Into<EntryRef<'e>>, mut data: impl Read) -> Result<()> {
        let entry = entry.into();
        let KindRef::File { size, digest, .. } = entry.kind else { return self.entry(entry) };
        let got = checked(size, &mut data, |data| self.append(entry, data))?;
        same(entry.path, digest, got)
    }

    /// Adds a file with content that is known to have the digest in the entry, such as that of a
    /// committed layer; only its size is checked.
    pub fn known_file<'e>(&mut self, entry: impl Into<EntryRef<'e>>, mut data: impl Read) -> Result<()> {
        self.append(entry.into(), &mut data)
    }

    /// Ends the tar; gives what it was written to and the index, with the offsets of the data.
    pub fn finish(self) -> Result<(W, Index)> {
        Ok((self.tar.finish()?, self.index.finish()))
    }

    fn append(&mut self, mut entry: EntryRef<'_>, data: &mut dyn Read) -> Result<()> {
        let at = self.tar.append(entry, Some(data))?;
        if let KindRef::File { offset, .. } = &mut entry.kind {
            *offset = Some(at);
        }
        self.index.push(entry)
    }
}

/// Hands `data` to `use_it` and gives the digest of what was read.
pub(crate) fn checked(
    size: u64,
    data: &mut dyn Read,
    use_it: impl FnOnce(&mut dyn Read) -> Result<()>,
) -> Result<Digest> {
    if size < LARGE {
        let mut reader = HashingReader::new(data);
        use_it(&mut reader)?;
        Ok(reader.finish().1)
    } else {
        let mut reader = BackgroundReader::new(data);
        use_it(&mut reader)?;
        Ok(reader.finish())
    }
}

pub(crate) fn same(path: &[u8], expected: Digest, got: Digest) -> Result<()> {
    if expected == got { Ok(()) } else { Err(LayerError::Changed { path: shown(path), expected, got }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::{content, dir, file};

    #[test]
    fn the_index_leads_to_the_content() {
        let mut writer = LayerWriter::new(Vec::new());
        let large = content(LARGE + 3);
        writer.entry(&dir("d")).unwrap();
        writer.file(&file("d/small", b"small"), &b"small"[..]).unwrap();
        writer.file(&file("d/tall", &large), &large[..]).unwrap();
        writer.known_file(&file("known", b"known"), &b"known"[..]).unwrap();
        let (tar, index) = writer.finish().unwrap();
        for (path, content) in [("d/small", &b"small"[..]), ("d/tall", &large), ("known", b"known")] {
            let KindRef::File { offset: Some(offset), .. } = index.get(path.as_bytes()).unwrap().kind else {
                panic!("{path} has no offset");
            };
            assert!(&tar[offset as usize..offset as usize + content.len()] == content);
        }
    }

    #[test]
    fn other_content_is_an_error() {
        let large = content(LARGE);
        let mut changed = large.clone();
        changed[5] ^= 1;
        for (expected, got) in [(&b"one"[..], &b"two"[..]), (&large, &changed)] {
            let error = LayerWriter::new(Vec::new()).file(&file("f", expected), got).unwrap_err();
            assert!(matches!(error, LayerError::Changed { .. }));
        }
        assert!(LayerWriter::new(Vec::new()).entry(&file("f", b"x")).is_err());
    }
}
