//! Writes the canonical tar of a layer from its index and its tree.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use crate::base::rooted::stat_fd;

use super::Result;
use super::entry::{EntryRef, KindRef};
use super::index::Index;
use super::sparse::{SparseReader, may_have_holes};
use super::tar::TarWriter;
use super::tree::Tree;
use super::writer::{checked, same};

/// Smaller files are read whole, holes or not.
const WORTH_A_LOOK: u64 = 64 * 1024;

/// Writes the layer whose entries are in `index` and whose files are in `tree` to `out`. A file
/// that is not what the index says is an error that names it.
pub fn write_tar(index: &Index, tree: &Path, out: impl Write) -> Result<()> {
    let mut tree = Tree::open(tree)?;
    let mut writer = TarWriter::new(out);
    for entry in index.iter() {
        match entry.kind {
            KindRef::File { size, digest, .. } if size > 0 => {
                let mut file = open(&mut tree, &entry, size)?;
                let got = checked(size, &mut file, |data| writer.append(entry, Some(data)).map(drop))?;
                same(entry.path, digest, got)?;
            }
            _ => drop(writer.append(entry, None)?),
        }
    }
    writer.finish().map(drop)
}

fn open(tree: &mut Tree, entry: &EntryRef<'_>, size: u64) -> Result<Box<dyn Read>> {
    let file = tree.open_file(entry.path).map_err(|error| tree.error("open", entry.path, error))?;
    if size >= WORTH_A_LOOK && stat_fd(file.as_fd()).is_ok_and(|stat| may_have_holes(&stat)) {
        return Ok(Box::new(SparseReader::new(file, size)));
    }
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerError;
    use crate::layer::scan::scan_tree;
    use crate::layer::writer::LayerWriter;

    #[test]
    fn a_tree_and_a_stream_give_one_tar() {
        let dir = crate::layer::testing::scratch();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/small"), "small").unwrap();
        std::fs::write(dir.path().join("d/empty"), "").unwrap();
        let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(3 << 20).unwrap();
        let index = scan_tree(dir.path()).unwrap();
        let mut tar = Vec::new();
        write_tar(&index, dir.path(), &mut tar).unwrap();
        let mut writer = LayerWriter::new(Vec::new());
        for entry in index.iter() {
            match entry.path {
                b"d/small" => writer.file(entry, &b"small"[..]).unwrap(),
                b"sparse" => writer.file(entry, &vec![0; 3 << 20][..]).unwrap(),
                _ => writer.entry(entry).unwrap(),
            }
        }
        let (streamed, streamed_index) = writer.finish().unwrap();
        assert!(tar == streamed);
        assert_eq!(streamed_index.identity(None), index.identity(None));
    }

    #[test]
    fn a_tree_that_changed_is_an_error() {
        let dir = crate::layer::testing::scratch();
        let path = dir.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let index = scan_tree(dir.path()).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert!(matches!(write_tar(&index, dir.path(), Vec::new()), Err(LayerError::Changed { .. })));
        std::fs::write(&path, "longer").unwrap();
        assert!(matches!(write_tar(&index, dir.path(), Vec::new()), Err(LayerError::Size { .. })));
        std::fs::remove_file(&path).unwrap();
        let error = write_tar(&index, dir.path(), Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open `") && error.ends_with("/f`"), "{error}");
    }
}
