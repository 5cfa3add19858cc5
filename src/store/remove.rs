//! Removing images by Docker's rules for `rmi`, and the rows and files that nothing needs then.
//!
//! Rows go first, in one transaction; files are moved to the trash in a second one, if still no
//! row speaks of them. A crash between the two leaves garbage that the collector finds.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::base::digest::{Digest, ImageId, LayerId};
use crate::base::reference::Reference;

use super::database::Stop;
use super::reference::{self, Meaning, familiar};
use super::{Store, StoreError, image, lease};

/// One line of what `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name or repository digest was taken away.
    Untagged(String),
    /// An image was deleted.
    Deleted(String),
}

/// What rows were deleted, so that their files can go.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) blobs: BTreeSet<Digest>,
    /// Below `layers/`.
    pub(super) layers: BTreeSet<String>,
    /// The space that becomes free, in bytes, as far as rows tell.
    pub(super) bytes: u64,
}

impl Store {
    /// Removes what `text` means. By name, only the name goes unless it is the image's last. By
    /// ID, the image goes with all its names, of which more than one repository need `force`.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Vec<Removed>, StoreError> {
        let (removed, gone) = self.database().write("remove the image", |db| {
            lease::end_dead(db, self.boot())?;
            let (id, meaning) = reference::find(db, text, self.boot())?;
            let mut removed = Vec::new();
            match meaning {
                Meaning::Name => self.remove_name(db, text, id, &mut removed)?,
                Meaning::Id => remove_names(db, text, id, force, &mut removed)?,
            }
            let mut gone = Gone::default();
            if reference::tags_of(db, id)?.is_empty() && reference::digests_of(db, id)?.is_empty() {
                delete_image(db, id, &mut gone)?;
                removed.push(Removed::Deleted(id.to_string()));
            }
            Ok((removed, gone))
        })?;
        self.discard(&gone)?;
        Ok(removed)
    }

    fn remove_name(
        &self,
        db: &Transaction<'_>,
        text: &str,
        id: ImageId,
        removed: &mut Vec<Removed>,
    ) -> Result<(), Stop> {
        let name: Reference = text.parse().map_err(|_| StoreError::NoImage(text.to_owned()))?;
        let repository = reference::repository_of(&name);
        if let Some(digest) = name.digest {
            take_digest(db, &repository, digest, removed)?;
            // An image found by the manifest it came with has no such row: its names go instead.
            let others = reference::digests_of(db, id)?;
            if removed.is_empty() && others.is_empty() {
                for tag in reference::tags_of(db, id)? {
                    take_tag(db, &tag, removed)?;
                }
            }
            return Ok(());
        }
        take_tag(db, &name.canonical(), removed)?;
        // Digests of a repository go with its last tag.
        let prefix = format!("{repository}:");
        if !reference::tags_of(db, id)?.iter().any(|tag| tag.starts_with(&prefix)) {
            for (its_repository, digest) in reference::digests_of(db, id)? {
                if its_repository == repository {
                    take_digest(db, &its_repository, digest, removed)?;
                }
            }
        }
        Ok(())
    }

    /// Moves the files of deleted rows to the trash, unless rows for them came back meanwhile.
    pub(super) fn discard(&self, gone: &Gone) -> Result<(), StoreError> {
        if gone.blobs.is_empty() && gone.layers.is_empty() {
            return Ok(());
        }
        self.database().write("remove files", |db| {
            for blob in &gone.blobs {
                let sql = "SELECT 1 FROM blobs WHERE digest = ?1";
                if !db.prepare_cached(sql)?.exists([blob.as_bytes()])? {
                    self.trash(&self.blob_path(*blob));
                }
            }
            for name in &gone.layers {
                if !layer_path_has_row(db, name)? {
                    if let Some(id) = Digest::from_hex(name) {
                        self.open_layers().remove(&LayerId(id));
                    }
                    self.trash(&self.root().join("layers").join(name));
                }
            }
            Ok(())
        })
    }
}

fn remove_names(
    db: &Transaction<'_>,
    text: &str,
    id: ImageId,
    force: bool,
    removed: &mut Vec<Removed>,
) -> Result<(), Stop> {
    let tags = reference::tags_of(db, id)?;
    let digests = reference::digests_of(db, id)?;
    let repositories: BTreeSet<&str> = tags
        .iter()
        .map(|tag| tag.rsplit_once(':').map_or(tag.as_str(), |(repository, _)| repository))
        .chain(digests.iter().map(|(repository, _)| repository.as_str()))
        .collect();
    if repositories.len() > 1 && !force {
        let reason = "image is referenced in multiple repositories".to_owned();
        return Err(StoreError::InUse { image: text.to_owned(), reason }.into());
    }
    for tag in tags {
        take_tag(db, &tag, removed)?;
    }
    for (repository, digest) in digests {
        take_digest(db, &repository, digest, removed)?;
    }
    Ok(())
}

fn take_tag(db: &Transaction<'_>, name: &str, removed: &mut Vec<Removed>) -> Result<(), Stop> {
    if db.prepare_cached("DELETE FROM tags WHERE name = ?1")?.execute([name])? > 0 {
        removed.push(Removed::Untagged(familiar(name)));
    }
    Ok(())
}

fn take_digest(
    db: &Transaction<'_>,
    repository: &str,
    digest: Digest,
    removed: &mut Vec<Removed>,
) -> Result<(), Stop> {
    let sql = "DELETE FROM repo_digests WHERE repository = ?1 AND digest = ?2";
    if db.prepare_cached(sql)?.execute(rusqlite::params![repository, digest.as_bytes()])? > 0 {
        removed.push(Removed::Untagged(familiar(&format!("{repository}@{digest}"))));
    }
    Ok(())
}

/// Deletes an image's rows, and those of its layers that nothing else needs.
pub(super) fn delete_image(db: &Connection, id: ImageId, gone: &mut Gone) -> Result<(), Stop> {
    let image = id.0.as_bytes();
    let layers = image::layers_of(db, id)?;
    let sql = "SELECT manifest FROM images WHERE id = ?1";
    let manifest: Option<Option<[u8; 32]>> =
        db.prepare_cached(sql)?.query_row([image], |row| row.get(0)).optional()?;
    for table in
        ["tags WHERE image", "repo_digests WHERE image", "image_layers WHERE image", "images WHERE id"]
    {
        db.execute(&format!("DELETE FROM {table} = ?1"), [image])?;
    }
    delete_blob(db, id.0, gone)?;
    if let Some(Some(manifest)) = manifest {
        delete_blob(db, Digest::from_bytes(manifest), gone)?;
    }
    for layer in layers {
        if !is_needed(db, layer)? {
            delete_layer(db, layer, gone)?;
        }
    }
    Ok(())
}

/// Whether an image, a record or a live process needs a layer. Leases of dead processes must have
/// been ended before.
pub(super) fn is_needed(db: &Connection, layer: LayerId) -> Result<bool, Stop> {
    let sql = "SELECT EXISTS (SELECT 1 FROM image_layers WHERE layer = ?1) \
        OR EXISTS (SELECT 1 FROM records WHERE layer = ?1) \
        OR EXISTS (SELECT 1 FROM holds WHERE digest = ?1)";
    Ok(db.prepare_cached(sql)?.query_row([layer.0.as_bytes()], |row| row.get(0))?)
}

/// Deletes the rows of a layer and of its blobs.
pub(super) fn delete_layer(db: &Connection, layer: LayerId, gone: &mut Gone) -> Result<(), Stop> {
    let id = layer.0.as_bytes();
    let sql = "SELECT original, blob, size FROM layers WHERE id = ?1";
    let row = db.prepare_cached(sql)?.query_row([id], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<[u8; 32]>>(1)?, row.get::<_, i64>(2)?))
    });
    let Some((original, blob, size)) = row.optional()? else { return Ok(()) };
    let exported: Vec<[u8; 32]> = db
        .prepare_cached("SELECT digest FROM compressed WHERE layer = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    db.prepare_cached("DELETE FROM layers WHERE id = ?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM compressed WHERE layer = ?1")?.execute([id])?;
    let name = layer.0.hex();
    for form in ["tree", "tar"] {
        delete_form(db, &format!("{name}/{form}"), gone)?;
    }
    if original != "blob" {
        gone.bytes += size.unsigned_abs();
    }
    gone.layers.insert(name);
    for blob in blob.into_iter().chain(exported) {
        delete_blob(db, Digest::from_bytes(blob), gone)?;
    }
    Ok(())
}

/// Deletes the row of a form that can be made again.
pub(super) fn delete_form(db: &Connection, path: &str, gone: &mut Gone) -> Result<(), Stop> {
    let size = db
        .prepare_cached("DELETE FROM forms WHERE path = ?1 RETURNING size")?
        .query_row([path], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(size) = size {
        gone.bytes += size.unsigned_abs();
        gone.layers.insert(path.to_owned());
    }
    Ok(())
}

/// Deletes the row of a blob unless something needs it.
pub(super) fn delete_blob(db: &Connection, digest: Digest, gone: &mut Gone) -> Result<(), Stop> {
    let sql = "DELETE FROM blobs WHERE digest = ?1 \
        AND NOT EXISTS (SELECT 1 FROM images WHERE id = ?1 OR manifest = ?1) \
        AND NOT EXISTS (SELECT 1 FROM layers WHERE blob = ?1) \
        AND NOT EXISTS (SELECT 1 FROM compressed WHERE digest = ?1) RETURNING size";
    let size =
        db.prepare_cached(sql)?.query_row([digest.as_bytes()], |row| row.get::<_, i64>(0)).optional()?;
    if let Some(size) = size {
        gone.bytes += size.unsigned_abs();
        gone.blobs.insert(digest);
    }
    Ok(())
}

/// Whether a row speaks of `name` below `layers/`: `HEX`, `HEX/tree`, `trees-HEX`, …
pub(super) fn layer_path_has_row(db: &Connection, name: &str) -> Result<bool, Stop> {
    if db.prepare_cached("SELECT 1 FROM forms WHERE path = ?1")?.exists([name])? {
        return Ok(true);
    }
    let (directory, form) = name.split_once('/').unwrap_or((name, ""));
    let Some(id) = Digest::from_hex(directory) else { return Ok(false) };
    let sql = "SELECT original FROM layers WHERE id = ?1";
    let original: Option<String> =
        db.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
    Ok(original.is_some_and(|original| form.is_empty() || form == original))
}

/// Whether a row speaks of the blob that is called `name`.
pub(super) fn blob_name_has_row(db: &Connection, name: &str) -> Result<bool, Stop> {
    let Some(digest) = Digest::from_hex(name) else { return Ok(false) };
    Ok(db.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?.exists([digest.as_bytes()])?)
}
