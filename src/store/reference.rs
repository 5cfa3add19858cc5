//! Names of images: tags and repository digests, and what a user's word for an image means.

use rusqlite::{Connection, OptionalExtension, params};

use crate::base::digest::{Digest, ImageId};
use crate::base::reference::Reference;

use super::database::Stop;
use super::{Store, StoreError};

/// What a word for an image was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A name.
    Name,
    /// An ID or its beginning.
    Id,
}

impl Store {
    /// Gives an image a name, which no other image has from then on. Gives the image that had it.
    pub fn tag(&self, name: &Reference, id: ImageId) -> Result<Option<ImageId>, StoreError> {
        if name.digest.is_some() {
            let reason = "a digest cannot be given as a name";
            return Err(StoreError::Name { name: name.familiar(), reason });
        }
        let canonical = name.canonical();
        self.database().write("tag the image", |db| {
            self.must_exist(db, id)?;
            let earlier = tagged(db, &canonical, self.boot())?;
            let sql = "INSERT OR REPLACE INTO tags (name, image, tagged) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(params![canonical, id.0.as_bytes(), self.now()])?;
            Ok(earlier.filter(|earlier| *earlier != id))
        })
    }

    /// Notes that `repository` has this image under the digest of a manifest.
    pub fn add_repo_digest(
        &self,
        repository: &Reference,
        digest: Digest,
        id: ImageId,
    ) -> Result<(), StoreError> {
        self.database().write("note the digest", |db| {
            self.must_exist(db, id)?;
            let sql = "INSERT OR REPLACE INTO repo_digests (repository, digest, image) VALUES (?1, ?2, ?3)";
            let name = repository_of(repository);
            db.prepare_cached(sql)?.execute(params![name, digest.as_bytes(), id.0.as_bytes()])?;
            Ok(())
        })
    }

    /// Takes a name away; gives the image that had it, which stays.
    pub fn untag(&self, name: &Reference) -> Result<Option<ImageId>, StoreError> {
        let canonical = name.canonical();
        self.database().write("untag the image", |db| {
            let id = tagged(db, &canonical, self.boot())?;
            db.prepare_cached("DELETE FROM tags WHERE name = ?1")?.execute([&canonical])?;
            Ok(id)
        })
    }

    /// The image that has a name. With a digest, it is the digest that counts: one of a manifest
    /// of that repository.
    pub fn resolve(&self, name: &Reference) -> Result<Option<ImageId>, StoreError> {
        self.database().read("look for the image", |db| by_name(db, name, self.boot()))
    }

    /// The image that a user means: by name, else by ID or the beginning of one, with or without
    /// `sha256:` before it. A beginning that fits several images is an error.
    pub fn find(&self, text: &str) -> Result<ImageId, StoreError> {
        self.database().read("look for the image", |db| Ok(find(db, text, self.boot())?.0))
    }

    fn must_exist(&self, db: &Connection, id: ImageId) -> Result<(), Stop> {
        let sql = "SELECT 1 FROM images WHERE id = ?1 AND (synced OR boot = ?2)";
        if db.prepare_cached(sql)?.exists(params![id.0.as_bytes(), self.boot()])? {
            return Ok(());
        }
        Err(StoreError::NoImageId(id).into())
    }
}

/// What `text` means, by the rules of [`Store::find`].
pub(super) fn find(db: &Connection, text: &str, boot: &str) -> Result<(ImageId, Meaning), Stop> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digits = !hex.is_empty() && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // A name is never 64 digits, nor `sha256` with a tag of digits only.
    let whole = digits && (hex.len() == 64 || hex.len() < text.len());
    let name = if whole { None } else { text.parse::<Reference>().ok() };
    if let Some(name) = &name
        && let Some(id) = by_name(db, name, boot)?
    {
        return Ok((id, Meaning::Name));
    }
    if digits && hex.len() <= 64 {
        match &by_prefix(db, hex, boot)?[..] {
            [] => {}
            [id] => return Ok((*id, Meaning::Id)),
            several => {
                let (prefix, count) = (text.to_owned(), several.len());
                return Err(StoreError::Ambiguous { prefix, count }.into());
            }
        }
    }
    Err(StoreError::NoImage(name.map_or_else(|| text.to_owned(), |name| name.familiar())).into())
}

fn by_prefix(db: &Connection, hex: &str, boot: &str) -> Result<Vec<ImageId>, Stop> {
    let sql = "SELECT id FROM images WHERE id >= ?1 AND id <= ?2 AND (synced OR boot = ?3) ORDER BY id";
    let bound = |fill: &str| {
        let full: String = hex.chars().chain(fill.chars().cycle().take(64 - hex.len())).collect();
        *Digest::from_hex(&full).expect("64 digits").as_bytes()
    };
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params![bound("0"), bound("f"), boot], |row| row.get(0))?;
    Ok(rows.map(|row| row.map(|bytes| ImageId(Digest::from_bytes(bytes)))).collect::<Result<_, _>>()?)
}

fn by_name(db: &Connection, name: &Reference, boot: &str) -> Result<Option<ImageId>, Stop> {
    let Some(digest) = name.digest else { return tagged(db, &name.canonical(), boot) };
    // The digest is that of the repository, or of the manifest that a tagged image came with.
    let sql = "SELECT image FROM repo_digests WHERE repository = ?1 AND digest = ?2 \
        UNION SELECT t.image FROM tags t JOIN images i ON i.id = t.image \
            WHERE i.manifest = ?2 AND substr(t.name, 1, length(?1) + 1) = ?1 || ':'";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params![repository_of(name), digest.as_bytes()], |row| row.get(0))?;
    for row in rows {
        let id = ImageId(Digest::from_bytes(row?));
        if counts(db, id, boot)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn tagged(db: &Connection, canonical: &str, boot: &str) -> Result<Option<ImageId>, Stop> {
    let sql = "SELECT t.image FROM tags t JOIN images i ON i.id = t.image \
        WHERE t.name = ?1 AND (i.synced OR i.boot = ?2)";
    let found = db.prepare_cached(sql)?.query_row(params![canonical, boot], |row| row.get(0)).optional()?;
    Ok(found.map(|bytes| ImageId(Digest::from_bytes(bytes))))
}

fn counts(db: &Connection, id: ImageId, boot: &str) -> Result<bool, Stop> {
    let sql = "SELECT 1 FROM images WHERE id = ?1 AND (synced OR boot = ?2)";
    Ok(db.prepare_cached(sql)?.exists(params![id.0.as_bytes(), boot])?)
}

/// The names of an image in their long form.
pub(super) fn tags_of(db: &Connection, id: ImageId) -> Result<Vec<String>, Stop> {
    let mut query = db.prepare_cached("SELECT name FROM tags WHERE image = ?1 ORDER BY name")?;
    let rows = query.query_map([id.0.as_bytes()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The repository digests of an image, repositories in their long form.
pub(super) fn digests_of(db: &Connection, id: ImageId) -> Result<Vec<(String, Digest)>, Stop> {
    let sql = "SELECT repository, digest FROM repo_digests WHERE image = ?1 ORDER BY repository, digest";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([id.0.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows
        .map(|row| row.map(|(repository, digest)| (repository, Digest::from_bytes(digest))))
        .collect::<Result<_, _>>()?)
}

/// The long form of a reference without tag and digest.
pub(super) fn repository_of(name: &Reference) -> String {
    format!("{}/{}", name.domain, name.path)
}

/// The short form of a name that the store keeps in its long form.
pub(super) fn familiar(canonical: &str) -> String {
    canonical.parse::<Reference>().map_or_else(|_| canonical.to_owned(), |name| name.familiar())
}
