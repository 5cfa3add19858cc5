//! Blobs: content by its SHA-256, in `blobs/sha256/`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, Transaction, params};

use crate::base::digest::{Digest, HashingWriter};

use super::database::Stop;
use super::scratch::TempFile;
use super::{Store, StoreError};

/// A blob in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is.
    pub path: PathBuf,
}

impl Store {
    /// Keeps everything `reader` gives, and gives its digest and size. With `expected`, other
    /// content is refused.
    pub fn put_blob(&self, reader: impl Read, expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        let mut reader = reader;
        if let Some(digest) = expected
            && let Some(blob) = self.blob(digest)?
        {
            // What is given must still be what was promised.
            let mut hash = HashingWriter::new(io::sink());
            io::copy(&mut reader, &mut hash).map_err(StoreError::io("read what becomes", &blob.path))?;
            let (_, got, size) = hash.finish();
            self.refresh(&blob);
            return if got == digest { Ok((digest, size)) } else { Err(unexpected(digest, got)) };
        }
        let temp = self.temp_file()?;
        let mut writer = HashingWriter::new(&temp.file);
        io::copy(&mut reader, &mut writer).map_err(StoreError::io("write the blob", &temp.path))?;
        let (_, digest, size) = writer.finish();
        if let Some(expected) = expected
            && digest != expected
        {
            return Err(unexpected(expected, digest));
        }
        self.adopt_blob(temp, digest, size)?;
        Ok((digest, size))
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: Digest) -> Result<File, StoreError> {
        let blob = self.blob(digest)?.ok_or(StoreError::NoBlob(digest))?;
        File::open(&blob.path).map_err(StoreError::io("open the blob", &blob.path))
    }

    /// Reads a whole blob of at most `limit` bytes and checks it against its digest.
    pub fn read_blob(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let blob = self.blob(digest)?.ok_or(StoreError::NoBlob(digest))?;
        let mut bytes = Vec::new();
        File::open(&blob.path)
            .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
            .map_err(StoreError::io("read the blob", &blob.path))?;
        let got = bytes.len() as u64;
        if got > limit {
            let reason = format!("it has more than {limit} bytes");
            return Err(StoreError::Damaged { path: blob.path, reason });
        }
        let actual = Digest::of(&bytes);
        if actual != digest {
            let reason = format!("its digest is {actual}, not {digest}");
            return Err(StoreError::Damaged { path: blob.path, reason });
        }
        Ok(bytes)
    }

    /// Whether a blob is there.
    pub fn has_blob(&self, digest: Digest) -> Result<bool, StoreError> {
        Ok(self.blob(digest)?.is_some())
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// A blob, if it is there.
    pub fn blob(&self, digest: Digest) -> Result<Option<Blob>, StoreError> {
        let size = self.database().read("look for the blob", |db| {
            let mut query =
                db.prepare_cached("SELECT size FROM blobs WHERE digest = ?1 AND (synced OR boot = ?2)")?;
            Ok(query
                .query_row(params![digest.as_bytes(), self.boot()], |row| row.get::<_, i64>(0))
                .optional()?)
        })?;
        Ok(size.map(|size| Blob { digest, size: size as u64, path: self.blob_path(digest) }))
    }

    /// Gives a written file its place. Its digest and size must be known to be right.
    pub(super) fn adopt_blob(&self, temp: TempFile, digest: Digest, size: u64) -> Result<Blob, StoreError> {
        let path = self.blob_path(digest);
        self.database().write("keep the blob", |db| {
            if blob_counts(db, digest, self.boot())? && path.exists() {
                return Ok(());
            }
            // Renamed before its row is there, and over whatever a crash left.
            fs::rename(&temp.path, &path).map_err(StoreError::io("keep the blob", &path))?;
            let sql = "INSERT OR REPLACE INTO blobs (digest, size, boot) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(params![digest.as_bytes(), size as i64, self.boot()])?;
            Ok(())
        })?;
        let blob = Blob { digest, size, path };
        self.refresh(&blob);
        Ok(blob)
    }

    /// Keeps a blob that nothing refers to yet from being collected while its user is on its way.
    fn refresh(&self, blob: &Blob) {
        // If it fails, the blob is collected at worst, and its user is told that it is missing.
        let _ = File::open(&blob.path).and_then(|file| file.set_modified(SystemTime::now()));
    }
}

fn blob_counts(db: &Transaction<'_>, digest: Digest, boot: &str) -> Result<bool, Stop> {
    let mut query = db.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1 AND (synced OR boot = ?2)")?;
    Ok(query.exists(params![digest.as_bytes(), boot])?)
}

fn unexpected(expected: Digest, got: Digest) -> StoreError {
    StoreError::Digest { what: "the blob".to_owned(), expected, got }
}
