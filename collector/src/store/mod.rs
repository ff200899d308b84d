//! What the collector remembers: one SQLite database with one writer.
//!
//! Every change is a job for the writer thread, which runs the jobs that wait in one transaction
//! (write-ahead log, `synchronous=FULL`): the disk is flushed once for many, and whoever awaits a
//! job's answer knows that it survives a power cut. Readers have connections of their own and see
//! the last commit. The SQL of each noun stands in its own file: `journal`, `gaps`, `agents`,
//! `backfill`, `baselines`, `blocks`, `enrolled`, `feeds`, `findings`, `intel`, `join_tokens`, `outbox`, `sources`,
//! `usage`.

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod backfill;
pub(crate) mod baselines;
pub(crate) mod blocks;
pub(crate) mod enrolled;
pub(crate) mod feeds;
pub(crate) mod findings;
pub(crate) mod gaps;
pub(crate) mod intel;
pub(crate) mod join_tokens;
pub(crate) mod journal;
pub(crate) mod operators;
pub(crate) mod outbox;
pub(crate) mod rules;
mod schema;
pub(crate) mod sources;
pub(crate) mod upkeep;
pub(crate) mod usage;
mod writer;

use std::fs::Permissions;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction};
use serde::Deserialize;

use writer::Writer;

/// Name of the database in the state folder.
const FILE: &str = "picket.db";

/// Connections kept for readers; more are opened and closed as needed (chosen by hand: the
/// operator's tool is one person).
const READERS_KEPT: usize = 4;

/// How long what was analysed stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Envelopes not yet analysed, at most; beyond it agents are told to come back later.
    pub journal_envelopes_max: u64,
    /// Seconds an envelope stays after its analysis.
    pub journal_keep_s: u64,
    /// Seconds the identity of a CloudTrail event is remembered, so that the same event in a second
    /// file is seen to be the same.
    pub api_calls_keep_s: u64,
    /// Seconds a finding or an incident stays after its last change, archived or not, and a message
    /// that could not be delivered.
    pub findings_keep_s: u64,
    /// Seconds that the record of who changed what goes back, and that ended tokens are listed.
    pub audit_keep_s: u64,
    /// Seconds between two writings of what was learned of who usually does what.
    pub baselines_every_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A day of 100 hosts at six windows a minute, should the analysis stand still.
            journal_envelopes_max: 1_000_000,
            // Long enough to look at what led to a finding, short enough to stay small.
            journal_keep_s: 3_600,
            // CloudTrail delivers a file again for days at most; a week is the safe side of it.
            api_calls_keep_s: 7 * 86_400,
            // As GuardDuty keeps its findings.
            findings_keep_s: 90 * 86_400,
            // A year: what auditors ask for.
            audit_keep_s: 365 * 86_400,
            // What a crash loses of weeks of learning; each writes only what has changed.
            baselines_every_s: 300,
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// SQLite's words.
    #[error("store: {0}")]
    Sqlite(String),
    /// The database was made by a later version.
    #[error("the store has layout {found}, this version knows up to {known}")]
    TooNew {
        /// What the file says.
        found: i64,
        /// The latest we know.
        known: i64,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.to_string())
    }
}

/// The open store. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    file: PathBuf,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens the database in `folder`, makes it if need be, and brings its layout up to date.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let file = folder.join(FILE);
        make_private(&file)?;
        let mut connection = Connection::open(&file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        schema::migrate(&mut connection)?;
        Ok(Self {
            inner: Arc::new(Inner {
                file,
                writer: Writer::start(connection)?,
                readers: Mutex::new(Vec::new()),
            }),
        })
    }

    /// Runs `work` in the next transaction and answers when that is on disk. If `work` fails,
    /// nothing of it remains.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.inner.writer.write(work).await
    }

    /// Like [`Store::write`], for threads outside the runtime.
    pub(crate) fn write_blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.inner.writer.write_blocking(work)
    }

    /// Reads the last commit. Blocks for as long as the query takes.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let kept = self.lock_readers().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => Connection::open_with_flags(
                &self.inner.file,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?,
        };
        let answer = work(&connection)?;
        let mut readers = self.lock_readers();
        if readers.len() < READERS_KEPT {
            readers.push(connection);
        }
        Ok(answer)
    }

    /// Reads on a thread where blocking is allowed.
    pub(crate) async fn read_async<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read(work))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    fn lock_readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A panic while it was held can only have left fewer connections behind.
        self.inner
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the database's file readable by its owner alone, be its folder as it may. SQLite gives the
/// files beside it the same mode.
fn make_private(file: &Path) -> Result<(), StoreError> {
    let told = |error| StoreError::Sqlite(format!("make {} private: {error}", file.display()));
    let mut options = std::fs::OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).open(file);
    let owned = opened.and_then(|opened| {
        // One made by an earlier version, or brought from elsewhere.
        let mode = Permissions::from_mode(0o600);
        opened.set_permissions(mode)
    });
    owned.map_err(told)
}

/// Takes the bits of an unsigned number as SQLite's signed one.
pub(crate) fn signed(value: u64) -> i64 {
    value.cast_signed()
}

/// The way back.
pub(crate) fn unsigned(value: i64) -> u64 {
    value.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_reads_the_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        // One that is there already is no exception.
        let old = folder.path().join(FILE);
        std::fs::write(&old, "").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        let _store = Store::open(folder.path()).unwrap();
        let mut files = 0;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
            files += 1;
        }
        assert!(files >= 2, "the log beside the database is not there");
    }
}
