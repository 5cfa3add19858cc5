//! The merged file system of an image as a sequence of entries, straight from the indexes: for
//! the tar and the local output. Nothing is mounted and no tree is made.

use std::collections::HashMap;
use std::io::Read;

use crate::base::digest::LayerId;
use crate::layer::entry::{EntryRef, KindRef};
use crate::layer::merged::{Found, Merged};
use crate::store::Store;

use super::ExportError;

/// Shows every entry below the root, directories first, names of one file after the file, with
/// the content of files.
pub fn each(
    store: &Store,
    layers: &[LayerId],
    mut visit: impl FnMut(EntryRef<'_>, Option<&mut dyn Read>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let merged = store.merged(layers)?;
    let mut links = Links { merged: &merged, first: HashMap::new() };
    for found in merged.walk(b"").skip(1) {
        let mut entry = found.entry;
        let mut content = None;
        match entry.kind {
            KindRef::Directory { .. } => entry.kind = KindRef::Directory { opaque: false },
            KindRef::HardLink(target) => match links.earlier(&found, target) {
                Some(path) => {
                    visit(EntryRef { kind: KindRef::HardLink(&path), ..entry }, None)?;
                    continue;
                }
                None => {
                    // The other names are gone or somebody else's: this is the file now.
                    let file = merged.layers()[found.layer].get(target);
                    entry.kind = file.map_or(entry.kind, |file| file.kind);
                    content = file;
                }
            },
            KindRef::File { .. } => content = Some(entry),
            _ => {}
        }
        match content.filter(|file| matches!(file.kind, KindRef::File { .. })) {
            Some(file) => {
                let mut data = store.open_file(layers[found.layer], &file.to_entry())?;
                visit(entry, Some(&mut data))?;
            }
            None => visit(entry, None)?,
        }
    }
    Ok(())
}

/// Which paths were shown for files with several names.
struct Links<'a> {
    merged: &'a Merged,
    /// By layer and path of the file itself: the first name that was shown, where that is another.
    first: HashMap<(usize, Vec<u8>), Vec<u8>>,
}

impl Links<'_> {
    /// The name under which the file of a link was shown before, if it was.
    fn earlier(&mut self, link: &Found<'_>, target: &[u8]) -> Option<Vec<u8>> {
        // The file sorts before its links, so if it is seen at all, it was shown.
        let own = self.merged.get(target).filter(|file| file.layer == link.layer);
        if own.is_some_and(|file| !matches!(file.entry.kind, KindRef::HardLink(_))) {
            return Some(target.to_vec());
        }
        let file = (link.layer, target.to_vec());
        if let Some(first) = self.first.get(&file) {
            return Some(first.clone());
        }
        self.first.insert(file, link.entry.path.to_vec());
        None
    }
}
