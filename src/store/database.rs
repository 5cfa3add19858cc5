//! The database: one connection per process, SQLite in WAL mode with `synchronous=NORMAL`.
//!
//! Every write is one short `BEGIN IMMEDIATE`, so that it is also the lock on what the rows speak
//! of: files appear in, and leave, `layers/` and `blobs/` inside such a transaction. Creation and WAL mode
//! happen under a lock file.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::StoreError;

/// The version of `schema.sql`, kept in `user_version`.
const VERSION: i64 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// How many bytes the log may have after a command that synced.
const LONG_LOG: u64 = 256 << 10;
/// How long a write waits for those of other processes.
const BUSY: Duration = Duration::from_secs(60);

/// The open database.
pub(super) struct Database {
    connection: Mutex<Connection>,
    root: PathBuf,
    path: PathBuf,
}

/// Why a closure on the database stopped.
pub(super) enum Stop {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Database {
    /// Opens the database of the store at `root`, or makes it, calling `prepare` first to make
    /// the directories.
    pub(super) fn open(
        root: &Path,
        prepare: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let path = root.join("kiln.db");
        if let Some(database) = Self::open_current(root, &path)? {
            return Ok(database);
        }
        prepare()?;
        let lock = root.join("locks/database");
        let file = File::create(&lock).map_err(StoreError::io("make the lock", &lock))?;
        file.lock().map_err(StoreError::io("take the lock", &lock))?;
        if let Some(database) = Self::open_current(root, &path)? {
            return Ok(database);
        }
        // Records hold build arguments: nobody else is to read them. The log inherits the mode.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("make the database", &path))?;
        let database = Self::connect(root, &path)?;
        database.create()?;
        Ok(database)
    }

    /// The database if it is there with the version this kiln writes.
    fn open_current(root: &Path, path: &Path) -> Result<Option<Self>, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open the database", path)(error)),
        }
        let database = Self::connect(root, path)?;
        let found = database.version()?;
        if found > VERSION {
            return Err(StoreError::Newer { root: root.to_owned(), found, known: VERSION });
        }
        Ok((found == VERSION).then_some(database))
    }

    fn connect(root: &Path, path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let fail = |source| failed(root, path, "open the store", source);
        let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        connection.busy_timeout(BUSY).map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(fail)?;
        // Folding the log back at every command's end would cost more than the command.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fail)?;
        Ok(Self { connection: Mutex::new(connection), root: root.to_owned(), path: path.to_owned() })
    }

    fn version(&self) -> Result<i64, StoreError> {
        self.read("read the store's version", |db| {
            Ok(db.pragma_query_value(None, "user_version", |row| row.get(0))?)
        })
    }

    fn create(&self) -> Result<(), StoreError> {
        self.read("make the store", |db| Ok(db.pragma_update(None, "journal_mode", "WAL")?))?;
        self.write("make the store", |db| {
            db.execute_batch(SCHEMA)?;
            Ok(db.pragma_update(None, "user_version", VERSION)?)
        })
    }

    /// Runs `queries`, each a transaction of its own. Must not call the store again.
    pub(super) fn read<T>(
        &self,
        doing: &'static str,
        queries: impl FnOnce(&Connection) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        queries(&self.connection()).map_err(|stop| self.stopped(doing, stop))
    }

    /// As [`Database::read`], and all queries see the same state.
    pub(super) fn snapshot<T>(
        &self,
        doing: &'static str,
        queries: impl FnOnce(&Connection) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let connection = self.connection();
        let attempt = || {
            let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Deferred)?;
            let value = queries(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|stop| self.stopped(doing, stop))
    }

    /// Runs `changes` in one transaction that excludes all other writers, of other processes too.
    /// Nothing is changed if it fails. Must not call the store again.
    pub(super) fn write<T>(
        &self,
        doing: &'static str,
        changes: impl FnOnce(&Transaction<'_>) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        self.transact(&self.connection(), doing, changes)
    }

    /// As [`Database::write`], and what it changed outlives a loss of power.
    pub(super) fn write_durably<T>(
        &self,
        doing: &'static str,
        changes: impl FnOnce(&Transaction<'_>) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let connection = self.connection();
        let set = |mode: &str| {
            connection
                .pragma_update(None, "synchronous", mode)
                .map_err(|error| self.stopped(doing, error.into()))
        };
        set("FULL")?;
        let done = self.transact(&connection, doing, changes);
        set("NORMAL")?;
        done
    }

    /// Folds a long log back into the database, unless others are using it: who opens the store
    /// next reads the whole log first. To be called where syncs are waited for anyway.
    pub(super) fn fold_log(&self) -> Result<(), StoreError> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        if fs::metadata(log).map_or(0, |status| status.len()) <= LONG_LOG {
            return Ok(());
        }
        self.read("fold the log back", |db| {
            db.busy_timeout(Duration::ZERO)?;
            let folded = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            db.busy_timeout(BUSY)?;
            match folded {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
                folded => Ok(folded?),
            }
        })
    }

    fn transact<T>(
        &self,
        connection: &Connection,
        doing: &'static str,
        changes: impl FnOnce(&Transaction<'_>) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let attempt = || {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let value = changes(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|stop| self.stopped(doing, stop))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back: the connection itself is sound.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn stopped(&self, doing: &'static str, stop: Stop) -> StoreError {
        match stop {
            Stop::Store(error) => error,
            Stop::Sql(source) => failed(&self.root, &self.path, doing, source),
        }
    }
}

fn failed(root: &Path, path: &Path, doing: &'static str, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { doing, path },
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { doing, path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { doing, path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::DatabaseDamaged { path, root: root.to_owned(), source }
        }
        _ => StoreError::Database { doing, path, source },
    }
}
