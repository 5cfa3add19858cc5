//! Follows symbolic links inside a context, through what the scan saw and never through the live
//! directory: an absolute link starts at the context's root, and `..` ends there.

use super::error::{ContextError, show};
use super::{Context, ContextEntry, ContextKind};

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

impl Context {
    /// The entry that `path` leads to, `None` if there is none or it is ignored. Links on the way
    /// are followed, one at the end only if `follow_last`. Slashes and dots may stand anywhere.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Option<ContextEntry<'_>>, ContextError> {
        let mut left: Vec<&[u8]> = components(path).rev().collect();
        let mut here: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == b".." {
                let parent = here.iter().rposition(|byte| *byte == b'/');
                here.truncate(parent.unwrap_or(0));
                continue;
            }
            let parent = here.len();
            if parent > 0 {
                here.push(b'/');
            }
            here.extend_from_slice(name);
            let Some(entry) = self.get(&here) else { return Ok(None) };
            match entry.kind() {
                ContextKind::Symlink(target) if follow_last || !left.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(ContextError::Loop { path: show(path) });
                    }
                    here.truncate(if target.starts_with(b"/") { 0 } else { parent });
                    left.extend(components(target).rev());
                }
                ContextKind::Directory => {}
                _ if !left.is_empty() => return Ok(None),
                _ => {}
            }
        }
        Ok(self.get(&here))
    }
}

/// The names in `path` that mean something.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}
