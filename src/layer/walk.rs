//! Goes through a stack of indexes at once, in component order, and shows each path once.

use std::collections::VecDeque;
use std::ops::Range;

use super::entry::{KindRef, ancestors, compare_paths, is_under};
use super::index::Index;
use super::merged::{Found, hides_below, implied_directory, is_at_or_under, look};

/// The entries of a subtree of the merged view. Made by [`Merged::walk`](super::merged::Merged::walk).
#[derive(Debug)]
pub struct Walk<'a> {
    layers: &'a [Index],
    /// Where each layer stands; what is before it is done with.
    cursors: Vec<Range<usize>>,
    /// The chain of paths that lead to the current one.
    open: Vec<Open<'a>>,
    /// Found and not given yet.
    pending: VecDeque<Found<'a>>,
}

#[derive(Debug)]
struct Open<'a> {
    path: &'a [u8],
    /// Layers below this one are hidden here.
    floor: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(layers: &'a [Index], start: Option<Found<'a>>, path: &[u8]) -> Self {
        let mut walk = Self { layers, cursors: Vec::new(), open: Vec::new(), pending: VecDeque::new() };
        let Some(start) = start else { return walk };
        let mut floor = 0;
        for (layer, index) in layers.iter().enumerate() {
            let look = look(index, path);
            let mut range = index.subtree_range(0..index.len(), path);
            range.start += usize::from(look.entry.is_some());
            walk.cursors.push(range);
            if look.hides || look.entry.is_some_and(|entry| hides_below(&entry.kind)) {
                floor = layer;
            }
        }
        walk.pending.push_back(start);
        walk.open.push(Open { path: start.entry.path, floor });
        walk
    }

    /// Leaves out what is below `path`, the one given last.
    pub fn skip_subtree(&mut self, path: &[u8]) {
        self.pending.retain(|found| !is_under(found.entry.path, path));
        for (index, cursor) in self.layers.iter().zip(&mut self.cursors) {
            if cursor.start < cursor.end && is_at_or_under(index.path(cursor.start), path) {
                cursor.start = index.subtree_range(cursor.clone(), path).end;
            }
        }
    }

    /// The path that the cursor of `layer` stands at.
    fn at(&self, layer: usize) -> Option<&'a [u8]> {
        let cursor = &self.cursors[layer];
        (cursor.start < cursor.end).then(|| self.layers[layer].path(cursor.start))
    }

    /// Takes the first path of all cursors, and queues what it shows.
    fn advance(&mut self) -> Option<()> {
        let paths = (0..self.cursors.len()).filter_map(|layer| self.at(layer));
        let path = paths.min_by(|a, b| compare_paths(a, b))?;
        while self.open.len() > 1 && self.open.last().is_some_and(|open| !is_under(path, open.path)) {
            self.open.pop();
        }
        let floor = self.open.last().map_or(0, |open| open.floor);
        let mut top = None;
        let mut floor_below = floor;
        for layer in 0..self.cursors.len() {
            if self.at(layer) != Some(path) {
                continue;
            }
            let entry = self.layers[layer].entry(self.cursors[layer].start);
            self.cursors[layer].start += 1;
            if layer >= floor {
                top = Some(Found { entry, layer });
                if hides_below(&entry.kind) {
                    floor_below = layer;
                }
            }
        }
        let Some(top) = top else { return Some(()) };
        self.imply_parents(path, floor, top.layer);
        self.open.push(Open { path, floor: floor_below });
        let implied = (top.layer + 1..self.cursors.len()).rev().find_map(|layer| {
            self.at(layer).filter(|below| is_under(below, path)).map(|below| (below, layer))
        });
        match (top.entry.kind, implied) {
            (KindRef::Directory { .. }, _) => self.pending.push_back(top),
            (_, Some((below, layer))) => {
                self.pending.push_back(implied_directory(&below[..path.len()], layer))
            }
            (KindRef::Whiteout, None) => {}
            (_, None) => self.pending.push_back(top),
        }
        Some(())
    }

    /// Queues the directories between the innermost open one and `path`, which no layer has an
    /// entry for; such a one counts to the highest layer that has something in it.
    fn imply_parents(&mut self, path: &'a [u8], floor: usize, layer: usize) {
        let known = self.open.last().map_or(0, |open| open.path.len());
        for ancestor in ancestors(path).filter(|ancestor| ancestor.len() > known) {
            let higher = (layer + 1..self.cursors.len())
                .rev()
                .find(|layer| self.at(*layer).is_some_and(|other| is_under(other, ancestor)));
            self.pending.push_back(implied_directory(ancestor, higher.unwrap_or(layer)));
            self.open.push(Open { path: ancestor, floor });
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        while self.pending.is_empty() {
            self.advance()?;
        }
        self.pending.pop_front()
    }
}
