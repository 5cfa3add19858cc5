//! What takes how much space, for `system df`, and what of the build cache may go.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};

use crate::base::digest::{CacheKey, Digest, ImageId, LayerId};

use super::database::Stop;
use super::{Store, StoreError, durable, image};

/// How the store's space is used.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// The images.
    pub images: Vec<ImageUsage>,
    /// What the layers of all images take, each counted once, in bytes.
    pub images_size: u64,
    /// The build cache.
    pub cache: Vec<CacheItem>,
    /// What pruning the whole build cache would free, in bytes.
    pub cache_size: u64,
}

/// The space of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Which one.
    pub id: ImageId,
    /// The size of its layers, in bytes.
    pub size: u64,
    /// The size of those that other images have too.
    pub shared: u64,
}

/// What a piece of the build cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKind {
    /// A layer with the records that lead to it.
    Layer(LayerId),
    /// A record without a layer.
    Record(CacheKey),
    /// A form that can be made again: its path below `layers/`.
    Form(String),
    /// A layer as it was exported: the digest of the blob.
    Exported(Digest),
    /// A cache mount: its id.
    Mount(String),
}

/// A piece of the build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheItem {
    /// What it is.
    pub kind: CacheKind,
    /// The step that made it, or what it is for.
    pub description: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was made, in seconds since 1970; when it was last used where that is not known.
    pub created: i64,
    /// When it was last used, in seconds since 1970.
    pub used: i64,
    /// Whether a live process holds it.
    pub in_use: bool,
    /// Whether an image has it too: pruning then frees nothing but the record.
    pub shared: bool,
}

impl Store {
    /// Adds up what the store holds.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let mut usage = self.database().snapshot("add up the sizes", |db| {
            let images = image_usage(db, self.boot())?;
            let sizes: HashMap<LayerId, u64> = images.iter().flat_map(|(_, layers)| layers.clone()).collect();
            let mut users: HashMap<LayerId, usize> = HashMap::new();
            for (_, layers) in &images {
                let unique: HashSet<_> = layers.iter().map(|(layer, _)| *layer).collect();
                unique.into_iter().for_each(|layer| *users.entry(layer).or_default() += 1);
            }
            let images = images
                .into_iter()
                .map(|(id, layers)| ImageUsage {
                    id,
                    size: layers.iter().map(|(_, size)| size).sum(),
                    shared: layers.iter().filter(|(layer, _)| users[layer] > 1).map(|(_, size)| size).sum(),
                })
                .collect();
            Ok(DiskUsage { images, images_size: sizes.values().sum(), ..DiskUsage::default() })
        })?;
        usage.cache = self.cache_items()?;
        usage.cache_size = usage.cache.iter().filter(|item| !item.shared).map(|item| item.size).sum();
        Ok(usage)
    }

    /// The pieces of the build cache, the one that was not used for longest first.
    pub(super) fn cache_items(&self) -> Result<Vec<CacheItem>, StoreError> {
        let mut items = self.database().snapshot("list the build cache", |db| {
            let mut items = layers(db, self.boot())?;
            items.extend(records(db, self.boot())?);
            items.extend(forms(db)?);
            items.extend(exported(db)?);
            items.extend(mounts(db)?);
            Ok(items)
        })?;
        for item in &mut items {
            if let CacheKind::Mount(id) = &item.kind {
                item.size = durable::size_below(&self.mount_path(id));
            }
        }
        items.sort_by_key(|item| item.used);
        Ok(items)
    }
}

type LayerSizes = Vec<(LayerId, u64)>;

fn image_usage(db: &Connection, boot: &str) -> Result<Vec<(ImageId, LayerSizes)>, Stop> {
    let mut query = db.prepare_cached("SELECT id FROM images WHERE synced OR boot = ?1 ORDER BY id")?;
    let ids: Vec<[u8; 32]> = query.query_map([boot], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut size = db.prepare_cached("SELECT size FROM layers WHERE id = ?1")?;
    ids.into_iter()
        .map(|id| {
            let id = ImageId(Digest::from_bytes(id));
            let layers = image::layers_of(db, id)?
                .into_iter()
                .map(|layer| {
                    let size = size.query_row([layer.0.as_bytes()], |row| row.get::<_, i64>(0)).optional()?;
                    Ok((layer, size.unwrap_or(0) as u64))
                })
                .collect::<Result<_, Stop>>()?;
            Ok((id, layers))
        })
        .collect()
}

/// Layers that a record leads to, and those that nothing leads to any more.
fn layers(db: &Connection, boot: &str) -> Result<Vec<CacheItem>, Stop> {
    let sql = "SELECT l.id, l.size, l.created, max(l.used, coalesce(max(r.used), 0)), coalesce(max(r.step), ''), \
            EXISTS (SELECT 1 FROM image_layers i WHERE i.layer = l.id), \
            EXISTS (SELECT 1 FROM holds h WHERE h.digest = l.id), count(r.key), \
            coalesce((SELECT b.size FROM blobs b WHERE b.digest = l.blob), 0) \
        FROM layers l LEFT JOIN records r ON r.layer = l.id WHERE l.synced OR l.boot = ?1 GROUP BY l.id";
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query([boot])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let (shared, records): (bool, i64) = (row.get(5)?, row.get(7)?);
        if shared && records == 0 {
            continue;
        }
        // A layer from outside takes the space of its stream.
        let (size, blob): (i64, i64) = (row.get(1)?, row.get(8)?);
        items.push(CacheItem {
            kind: CacheKind::Layer(LayerId(Digest::from_bytes(row.get(0)?))),
            size: if blob > 0 { blob } else { size } as u64,
            created: row.get(2)?,
            used: row.get(3)?,
            description: row.get(4)?,
            in_use: row.get(6)?,
            shared,
        });
    }
    Ok(items)
}

fn records(db: &Connection, boot: &str) -> Result<Vec<CacheItem>, Stop> {
    let sql = "SELECT key, step, created_s, used FROM records \
        WHERE layer IS NULL OR layer NOT IN (SELECT id FROM layers WHERE synced OR boot = ?1)";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([boot], |row| {
        Ok(CacheItem {
            kind: CacheKind::Record(CacheKey(Digest::from_bytes(row.get(0)?))),
            description: row.get(1)?,
            size: 0,
            created: row.get(2)?,
            used: row.get(3)?,
            in_use: false,
            shared: false,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn forms(db: &Connection) -> Result<Vec<CacheItem>, Stop> {
    let sql =
        "SELECT path, size, used, EXISTS (SELECT 1 FROM holds h WHERE h.digest = forms.layer) FROM forms";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| {
        let (path, used): (String, i64) = (row.get(0)?, row.get(2)?);
        Ok(CacheItem {
            description: "unpacked layers".to_owned(),
            kind: CacheKind::Form(path),
            size: row.get::<_, i64>(1)? as u64,
            created: used,
            used,
            in_use: row.get(3)?,
            shared: false,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn exported(db: &Connection) -> Result<Vec<CacheItem>, Stop> {
    let sql = "SELECT c.digest, max(b.size), max(l.used), max(c.how), \
            max(EXISTS (SELECT 1 FROM holds h WHERE h.digest = l.id)) \
        FROM compressed c JOIN blobs b ON b.digest = c.digest JOIN layers l ON l.id = c.layer \
        WHERE NOT EXISTS (SELECT 1 FROM layers o WHERE o.blob = c.digest) GROUP BY c.digest";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| {
        let used: i64 = row.get(2)?;
        Ok(CacheItem {
            kind: CacheKind::Exported(Digest::from_bytes(row.get(0)?)),
            description: format!("exported layer ({})", row.get::<_, String>(3)?),
            size: row.get::<_, i64>(1)? as u64,
            created: used,
            used,
            in_use: row.get(4)?,
            shared: false,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn mounts(db: &Connection) -> Result<Vec<CacheItem>, Stop> {
    let mut query = db.prepare_cached("SELECT id, used FROM mounts")?;
    let rows = query.query_map([], |row| {
        let (id, used): (String, i64) = (row.get(0)?, row.get(1)?);
        Ok(CacheItem {
            description: format!("cache mount {id}"),
            kind: CacheKind::Mount(id),
            size: 0,
            created: used,
            used,
            in_use: false,
            shared: false,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
