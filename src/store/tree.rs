//! Layers as directories: what a RUN is mounted on.
//!
//! A layer that a RUN made is its own tree. Others are unpacked when something is to run on them,
//! once, under a lock. The tree of a layer that leaves parents out takes their metadata from
//! below, and so belongs to the stack it was made for.

use std::fs;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::base::digest::{Digest, Hasher, LayerId};
use crate::layer::apply::unpack;
use crate::layer::merged::Merged;

use super::form::NewForm;
use super::{Layer, Original, Store, StoreError};

/// How many lower directories an overlay gets at most.
const MAX_LOWERS: usize = 64;
/// Stacks are joined at multiples of this, so that one step more needs no new joining.
const JOIN_STEP: usize = 32;

impl Store {
    /// The overlay lower directories of a stack of layers, bottom first. What is missing is made.
    /// Of a deep stack the lower part is joined into one directory.
    pub fn trees(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>, StoreError> {
        if layers.len() <= MAX_LOWERS {
            return self.plain_trees(layers, 0);
        }
        let joined = (layers.len() - (MAX_LOWERS - 1)).next_multiple_of(JOIN_STEP);
        match self.joined(&layers[..joined])? {
            Some(bottom) => {
                let mut trees = vec![bottom];
                trees.extend(self.plain_trees(layers, joined)?);
                Ok(trees)
            }
            None => self.plain_trees(layers, 0),
        }
    }

    /// The trees of the layers from `first` on, each its own.
    fn plain_trees(&self, layers: &[LayerId], first: usize) -> Result<Vec<PathBuf>, StoreError> {
        (first..layers.len()).into_par_iter().map(|at| self.tree(layers, at)).collect()
    }

    /// The tree of one layer on those below it.
    fn tree(&self, layers: &[LayerId], at: usize) -> Result<PathBuf, StoreError> {
        let layer = self.need_layer(layers[at])?;
        if !layer.parents_missing {
            return self.own_tree(&layer);
        }
        let below = self.merged(&layers[..at])?;
        self.unpacked(&layer, &format!("trees-{}", stack(&layers[..=at]).hex()), &below)
    }

    /// The tree of one layer without regard to those below: as a lower directory only good for a
    /// layer that has all its parents.
    pub(super) fn own_tree(&self, layer: &Layer) -> Result<PathBuf, StoreError> {
        if layer.original == Original::Tree {
            return Ok(layer.path.join("tree"));
        }
        self.unpacked(layer, &format!("{}/tree", layer.id.0.hex()), &Merged::default())
    }

    fn unpacked(&self, layer: &Layer, name: &str, below: &Merged) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.form(name)? {
            return Ok(path);
        }
        let _lock = self.lock(&format!("unpack-{}", name.replace('/', "-")))?;
        // Whoever had the lock may have made it.
        if let Some(path) = self.form(name)? {
            return Ok(path);
        }
        let prepared = self.prepare()?;
        let tree = prepared.path().join("tree");
        fs::create_dir(&tree).map_err(StoreError::io("make the directory", &tree))?;
        unpack(self.open_tar(layer.id)?, &tree, below)
            .map_err(StoreError::layer("unpack the stream", layer.id))?;
        let form = NewForm { name, layer: layer.id, size: layer.size, entries: layer.entries };
        self.adopt_form(&tree, &form)
    }

    /// One directory that shows a whole stack. `None` if its files cannot be linked once more.
    fn joined(&self, layers: &[LayerId]) -> Result<Option<PathBuf>, StoreError> {
        let name = format!("joined-{}", stack(layers).hex());
        if let Some(path) = self.form(&name)? {
            return Ok(Some(path));
        }
        let _lock = self.lock(&name)?;
        if let Some(path) = self.form(&name)? {
            return Ok(Some(path));
        }
        let merged = self.merged(layers)?;
        let prepared = self.prepare()?;
        let tree = prepared.path().join("tree");
        fs::create_dir(&tree).map_err(StoreError::io("make the directory", &tree))?;
        let Some(entries) = super::join::join(&merged, &self.plain_trees(layers, 0)?, &tree)? else {
            return Ok(None);
        };
        let layer = *layers.last().expect("only deep stacks are joined");
        // Its files are those of the layers: it takes no space of its own worth counting.
        let form = NewForm { name: &name, layer, size: 0, entries };
        self.adopt_form(&tree, &form).map(Some)
    }
}

/// What a stack is called.
fn stack(layers: &[LayerId]) -> Digest {
    let mut hasher = Hasher::new();
    layers.iter().for_each(|layer| hasher.update(layer.0.as_bytes()));
    hasher.finish()
}
