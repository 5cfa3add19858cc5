//! Images: a config, the blob of the image's ID, and the layers it is made of.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::base::clock::Time;
use crate::base::digest::{Digest, ImageId, LayerId};
use crate::image::config::{ImageConfig, MAX_DOCUMENT};

use super::database::Stop;
use super::reference::{self, familiar};
use super::{Store, StoreError};

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its config.
    pub id: ImageId,
    /// Its config.
    pub config: ImageConfig,
    /// Its config as it is kept.
    pub config_bytes: Vec<u8>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerId>,
    /// The sum of the sizes of all files of its layers, in bytes.
    pub size: u64,
    /// Its names, short form with tag, sorted: `busybox:latest`.
    pub names: Vec<String>,
    /// Its repository digests, short form, sorted: `busybox@sha256:…`.
    pub digests: Vec<String>,
    /// The manifest it came with, a blob.
    pub manifest: Option<Digest>,
    /// When it came into the store.
    pub added: Time,
}

/// The row of an image with what hangs on it.
struct Stored {
    id: ImageId,
    manifest: Option<Digest>,
    added: i64,
    layers: Vec<LayerId>,
    size: u64,
    names: Vec<String>,
    digests: Vec<String>,
}

impl Store {
    /// Keeps an image. Its layers must be there, as many as its config names. An image that is
    /// there already keeps its names.
    pub fn put_image(
        &self,
        config: &[u8],
        layers: &[LayerId],
        manifest: Option<&[u8]>,
    ) -> Result<ImageId, StoreError> {
        let parsed = ImageConfig::parse(config)?;
        let id = ImageConfig::id(config);
        let count = parsed.rootfs.diff_ids.len();
        if count != layers.len() {
            return Err(StoreError::LayerCount { image: id, config: count, given: layers.len() });
        }
        self.put_blob(config, Some(id.0))?;
        let manifest =
            manifest.map(|bytes| self.put_blob(bytes, None)).transpose()?.map(|(digest, _)| digest);
        self.database().write("keep the image", |db| {
            for blob in [Some(id.0), manifest].into_iter().flatten() {
                if !db.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?.exists([blob.as_bytes()])? {
                    return Err(StoreError::NoBlob(blob).into());
                }
            }
            for layer in layers {
                let sql = "SELECT 1 FROM layers WHERE id = ?1 AND (synced OR boot = ?2)";
                if !db.prepare_cached(sql)?.exists(params![layer.0.as_bytes(), self.boot()])? {
                    return Err(StoreError::NoLayer(*layer).into());
                }
            }
            self.insert_image(db, id, layers, manifest)?;
            self.hold_new(db, id.0)
        })?;
        Ok(id)
    }

    fn insert_image(
        &self,
        db: &Connection,
        id: ImageId,
        layers: &[LayerId],
        manifest: Option<Digest>,
    ) -> Result<(), Stop> {
        let image = id.0.as_bytes();
        let there = "SELECT 1 FROM images WHERE id = ?1 AND (synced OR boot = ?2)";
        let there = db.prepare_cached(there)?.exists(params![image, self.boot()])?;
        if there && layers_of(db, id)? == layers {
            if let Some(manifest) = manifest {
                let sql = "UPDATE images SET manifest = ?2 WHERE id = ?1";
                db.prepare_cached(sql)?.execute(params![image, manifest.as_bytes()])?;
            }
            return Ok(());
        }
        let manifest = manifest.map(|digest| *digest.as_bytes());
        let sql = "INSERT OR REPLACE INTO images (id, manifest, added, boot) VALUES (?1, ?2, ?3, ?4)";
        db.prepare_cached(sql)?.execute(params![image, manifest, self.now(), self.boot()])?;
        db.prepare_cached("DELETE FROM image_layers WHERE image = ?1")?.execute([image])?;
        let mut insert =
            db.prepare_cached("INSERT INTO image_layers (image, position, layer) VALUES (?1, ?2, ?3)")?;
        for (position, layer) in layers.iter().enumerate() {
            insert.execute(params![image, position as i64, layer.0.as_bytes()])?;
        }
        Ok(())
    }

    /// An image by its ID.
    pub fn image(&self, id: ImageId) -> Result<Option<Image>, StoreError> {
        let stored = self.database().snapshot("look for the image", |db| {
            let sql = "SELECT manifest, added FROM images WHERE id = ?1 AND (synced OR boot = ?2)";
            let row = db.prepare_cached(sql)?.query_row(params![id.0.as_bytes(), self.boot()], |row| {
                Ok((row.get::<_, Option<[u8; 32]>>(0)?, row.get(1)?))
            });
            let Some((manifest, added)) = row.optional()? else { return Ok(None) };
            Ok(Some(gather(db, id, manifest.map(Digest::from_bytes), added)?))
        })?;
        stored.map_or(Ok(None), |stored| self.complete_listed(stored))
    }

    /// All images, the newest first. Untagged ones are among them.
    pub fn images(&self) -> Result<Vec<Image>, StoreError> {
        let stored: Vec<Stored> = self.database().snapshot("list the images", |db| {
            let sql = "SELECT id, manifest, added FROM images WHERE synced OR boot = ?1";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([self.boot()], |row| {
                Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, Option<[u8; 32]>>(1)?, row.get(2)?))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            rows.into_iter()
                .map(|(id, manifest, added)| {
                    gather(db, ImageId(Digest::from_bytes(id)), manifest.map(Digest::from_bytes), added)
                })
                .collect()
        })?;
        let mut images: Vec<Image> = stored
            .into_iter()
            .filter_map(|stored| self.complete_listed(stored).transpose())
            .collect::<Result<_, _>>()?;
        images.sort_by_cached_key(|image| {
            let created = image.config.created.as_deref().and_then(Time::parse_rfc3339).unwrap_or_default();
            (std::cmp::Reverse((created, image.added)), image.id)
        });
        Ok(images)
    }

    /// As [`Store::complete`]; `None` for an image that somebody removed since it was listed.
    fn complete_listed(&self, stored: Stored) -> Result<Option<Image>, StoreError> {
        let id = stored.id;
        match self.complete(stored) {
            Err(_) if self.is_gone(id)? => Ok(None),
            completed => completed.map(Some),
        }
    }

    fn is_gone(&self, id: ImageId) -> Result<bool, StoreError> {
        self.database().read("look for the image", |db| {
            Ok(!db.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?.exists([id.0.as_bytes()])?)
        })
    }

    fn complete(&self, stored: Stored) -> Result<Image, StoreError> {
        let config_bytes = self.read_blob(stored.id.0, MAX_DOCUMENT)?;
        Ok(Image {
            id: stored.id,
            config: ImageConfig::parse(&config_bytes)?,
            config_bytes,
            layers: stored.layers,
            size: stored.size,
            names: stored.names,
            digests: stored.digests,
            manifest: stored.manifest,
            added: Time::from_seconds(stored.added),
        })
    }
}

fn gather(db: &Connection, id: ImageId, manifest: Option<Digest>, added: i64) -> Result<Stored, Stop> {
    let layers = layers_of(db, id)?;
    let mut sizes: HashMap<LayerId, u64> = HashMap::new();
    let mut query = db.prepare_cached("SELECT size FROM layers WHERE id = ?1")?;
    for layer in &layers {
        let size = query.query_row([layer.0.as_bytes()], |row| row.get::<_, i64>(0)).optional()?;
        sizes.insert(*layer, size.unwrap_or(0).unsigned_abs());
    }
    let size = layers.iter().map(|layer| sizes[layer]).sum();
    let mut names: Vec<String> = reference::tags_of(db, id)?.iter().map(|name| familiar(name)).collect();
    names.sort();
    let mut digests: Vec<String> = reference::digests_of(db, id)?
        .iter()
        .map(|(repository, digest)| familiar(&format!("{repository}@{digest}")))
        .collect();
    digests.sort();
    Ok(Stored { id, manifest, added, layers, size, names, digests })
}

/// The layers of an image, bottom first.
pub(super) fn layers_of(db: &Connection, id: ImageId) -> Result<Vec<LayerId>, Stop> {
    let sql = "SELECT layer FROM image_layers WHERE image = ?1 ORDER BY position";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([id.0.as_bytes()], |row| row.get(0))?;
    Ok(rows.map(|row| row.map(|bytes| LayerId(Digest::from_bytes(bytes)))).collect::<Result<_, _>>()?)
}
