//! Puts what a walk found into one sorted table, joining it on the way with what the last scan
//! knew. Both are in the same order, so one pass over each is enough.

use std::sync::OnceLock;

use rustix::fs::FileType;

use super::hash::Known;
use super::index::Index;
use super::table::{Full, Status, Table};
use super::walk::{NONE, Part, Walked};

/// A table and what is known of the content of its files.
pub(super) struct Assembled {
    pub table: Table,
    /// For each row.
    pub known: Vec<OnceLock<Known>>,
}

/// Where the assembly stands in one directory.
struct Place {
    directory: u32,
    part: usize,
    found: usize,
    /// The row of the directory itself, and whether it stays without entries.
    row: u32,
    ignored: bool,
    /// How long the path of the directory above is in the path buffer.
    above: usize,
}

/// Sorts `walked` into a table below a root with status `root`. Directories that are ignored
/// and hold nothing that is not are left out.
pub(super) fn assemble(walked: Walked, root: Status, index: Option<&Index>) -> Result<Assembled, Full> {
    let Walked { mut directories, entries, names } = walked;
    // Names are counted, paths are longer: a guess, which the arena outgrows or gives back.
    let mut table = Table::with_capacity(entries + 1, names * 3);
    let mut known = Vec::with_capacity(entries + 1);
    let mut join = Join { index, next: 0 };
    let row = table.push(&[], &[], root)?;
    known.push(OnceLock::new());
    let mut path = Vec::new();
    let mut places = vec![Place { directory: 0, part: 0, found: 0, row, ignored: false, above: 0 }];
    while let Some(place) = places.last_mut() {
        let parts: &[Part] = &directories[place.directory as usize];
        let Some(part) = parts.get(place.part) else {
            let Place { directory, row, ignored, above, .. } = *place;
            places.pop();
            // Its entries are in the table now.
            directories[directory as usize] = Vec::new();
            table.close(row);
            if ignored && table.len() == row + 1 {
                table.take_back(row);
                known.pop();
            }
            path.truncate(above);
            continue;
        };
        let Some(found) = part.found.get(place.found) else {
            place.part += 1;
            place.found = 0;
            continue;
        };
        place.found += 1;
        let name = part.name(found);
        let row = table.push(&[&path, name], part.target(found), found.status)?;
        let knowledge = join.look_up(table.path(row), &found.status);
        known.push(knowledge.map_or_else(OnceLock::new, OnceLock::from));
        if found.directory != NONE {
            let above = path.len();
            let (directory, ignored) = (found.directory, found.ignored);
            path.extend_from_slice(name);
            path.push(b'/');
            places.push(Place { directory, part: 0, found: 0, row, ignored, above });
        }
    }
    table.shrink();
    Ok(Assembled { table, known })
}

/// A place in the index of the last scan that moves along with the table.
struct Join<'a> {
    index: Option<&'a Index>,
    next: usize,
}

impl Join<'_> {
    fn look_up(&mut self, path: &[u8], status: &Status) -> Option<Known> {
        if status.kind() != FileType::RegularFile {
            return None;
        }
        let place = self.index?.seek(&mut self.next, path)?;
        self.index?.known(place, status)
    }
}
