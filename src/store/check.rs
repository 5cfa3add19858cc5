//! Whether everything in the store is what it says: every blob by its digest, every layer by its
//! index, every image and record by what it stands on.

use std::fs::File;

use rayon::prelude::*;

use crate::base::digest::{Digest, LayerId};
use crate::layer::entry::{Entry, Kind};
use crate::layer::from_tar::index_tar;
use crate::layer::index::Index;
use crate::layer::scan::scan_tree;

use super::content::digest_of;
use super::{Layer, Original, Store, StoreError};

/// What [`Store::check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many blobs were looked at.
    pub blobs: usize,
    /// How many layers were looked at.
    pub layers: usize,
    /// How many images were looked at.
    pub images: usize,
    /// How many records were looked at.
    pub records: usize,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

impl Store {
    /// Reads the whole store and tells what is wrong with it. Errors are for what keeps it from
    /// reading on; damage is in the report.
    pub fn check(&self) -> Result<Report, StoreError> {
        let blobs = self.all_blobs()?;
        let layers = self.layers()?;
        let mut problems: Vec<String> = blobs
            .par_iter()
            .filter_map(|(digest, size)| self.check_blob(*digest, *size).err())
            .chain(layers.par_iter().filter_map(|layer| self.check_layer(layer).err()))
            .collect();
        let images = self.check_images(&layers, &mut problems)?;
        let records = self.records()?.len();
        problems.sort();
        Ok(Report { blobs: blobs.len(), layers: layers.len(), images, records, problems })
    }

    fn all_blobs(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        self.database().read("list the blobs", |db| {
            let mut query = db.prepare_cached("SELECT digest, size FROM blobs WHERE synced OR boot = ?1")?;
            let rows = query.query_map([self.boot()], |row| {
                Ok((Digest::from_bytes(row.get(0)?), row.get::<_, i64>(1)? as u64))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn check_blob(&self, digest: Digest, size: u64) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("blob {digest}: {error}");
        let file = File::open(self.blob_path(digest)).map_err(fail)?;
        match digest_of(file).map_err(fail)? {
            (got, _) if got != digest => Err(format!("blob {digest}: its digest is {got}")),
            (_, got) if got != size => Err(format!("blob {digest}: it has {got} bytes, its row says {size}")),
            _ => Ok(()),
        }
    }

    fn check_layer(&self, layer: &Layer) -> Result<(), String> {
        let id = layer.id;
        let fail = |error: &dyn std::error::Error| format!("layer {id}: {error}");
        let index = Index::open(&layer.path.join("index")).map_err(|error| fail(&error))?;
        let actual = match layer.original {
            Original::Tree => scan_tree(&layer.path.join("tree")).map_err(|error| fail(&error))?,
            Original::Tar | Original::Blob => {
                let stream = self.open_tar(id).map_err(|error| fail(&error))?;
                index_tar(stream).map_err(|error| fail(&error))?
            }
        };
        if let Some(path) = difference(&index, &actual) {
            return Err(format!("layer {id}: `/{path}` is not what its index says"));
        }
        let stream = || self.open_tar(id).map_err(|error| fail(&error));
        if let Some(diff_id) = layer.diff_id
            && layer.original != Original::Tree
        {
            let (got, _) = digest_of(stream()?).map_err(|error| fail(&error))?;
            if got != diff_id.0 {
                return Err(format!("layer {id}: its uncompressed digest is {got}, not {diff_id}"));
            }
        }
        Ok(())
    }

    fn check_images(&self, layers: &[Layer], problems: &mut Vec<String>) -> Result<usize, StoreError> {
        let ids: Vec<[u8; 32]> = self.database().read("list the images", |db| {
            let mut query = db.prepare_cached("SELECT id FROM images WHERE synced OR boot = ?1")?;
            Ok(query.query_map([self.boot()], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        let known = |id: &LayerId| layers.iter().find(|layer| layer.id == *id);
        for bytes in &ids {
            let id = crate::base::digest::ImageId(Digest::from_bytes(*bytes));
            let image = match self.image(id) {
                Ok(Some(image)) => image,
                Ok(None) => continue,
                Err(error) => {
                    problems.push(format!("image {id}: {error}"));
                    continue;
                }
            };
            for (layer, diff_id) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
                match known(layer) {
                    None => problems.push(format!("image {id}: layer {layer} is missing")),
                    Some(layer) if layer.diff_id.is_some_and(|known| known != *diff_id) => {
                        problems.push(format!("image {id}: layer {} is not {diff_id}", layer.id));
                    }
                    Some(_) => {}
                }
            }
        }
        let dangling: Vec<String> = self.database().read("check the names", |db| {
            let sql = "SELECT name FROM tags WHERE image NOT IN (SELECT id FROM images)";
            Ok(db.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        problems.extend(dangling.into_iter().map(|name| format!("name {name}: its image is missing")));
        Ok(ids.len())
    }
}

/// The first path at which two indexes differ; offsets are no difference.
fn difference(told: &Index, actual: &Index) -> Option<String> {
    let plain = |mut entry: Entry| {
        if let Kind::File { offset, .. } = &mut entry.kind {
            *offset = None;
        }
        entry.mtime.nanoseconds = 0;
        entry
    };
    let (mut told, mut actual) = (told.iter(), actual.iter());
    loop {
        let (one, other) = (told.next(), actual.next());
        let path = one.or(other)?.path;
        let same = one.map(|entry| plain(entry.to_entry())) == other.map(|entry| plain(entry.to_entry()));
        if !same {
            return Some(String::from_utf8_lossy(path).into_owned());
        }
    }
}
