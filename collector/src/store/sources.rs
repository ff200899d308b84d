//! How far each log file was read, and which of their events were seen.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{signed, unsigned};

/// Rows deleted in one job.
const PRUNED_ROWS_MAX: i64 = 5_000;

/// Calls kept whole: as many as instances whose launch the analysis knows, about 10 KB each.
const KEPT_MAX: i64 = 50_000;

/// Files of a folder among which one that was renamed is looked for: logs of an hour for a month.
const BESIDE_MAX: i64 = 1_000;

/// Bytes by which a file that has grown is known to be the same: no two events end alike, because
/// an event's id is among its last members or its account is.
pub(crate) const MARK_BYTES: usize = 256;

/// A log file as it was when it was last read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileState {
    /// Its size then.
    pub(crate) bytes: u64,
    /// When it was last written then.
    pub(crate) modified_ms: u64,
    /// Where to go on in it; 0 if it must be read from its beginning.
    pub(crate) read_to: u64,
    /// The bytes before that place, at most [`MARK_BYTES`], to know the file by.
    pub(crate) mark: Vec<u8>,
}

/// What is known of a file, if it was ever read.
pub(crate) fn file(connection: &Connection, path: &str) -> rusqlite::Result<Option<FileState>> {
    connection
        .prepare_cached("SELECT size, modified, read_to, mark FROM source_file WHERE path = ?1")?
        .query_row([path], |row| {
            Ok(FileState {
                bytes: unsigned(row.get(0)?),
                modified_ms: unsigned(row.get(1)?),
                read_to: unsigned(row.get(2)?),
                mark: row.get(3)?,
            })
        })
        .optional()
}

/// What is known of the files in the folder of this one and those below it, the largest first, a bounded number.
pub(crate) fn beside(connection: &Connection, path: &Path) -> rusqlite::Result<Vec<FileState>> {
    let folder = path.parent().unwrap_or(path).to_string_lossy();
    // What follows on a slash is a nought.
    connection
        .prepare_cached(
            "SELECT size, modified, read_to, mark FROM source_file
             WHERE path > ?1 AND path < ?2 AND size > 0 ORDER BY size DESC LIMIT ?3",
        )?
        .query_map(
            params![format!("{folder}/"), format!("{folder}0"), BESIDE_MAX],
            |row| {
                Ok(FileState {
                    bytes: unsigned(row.get(0)?),
                    modified_ms: unsigned(row.get(1)?),
                    read_to: unsigned(row.get(2)?),
                    mark: row.get(3)?,
                })
            },
        )?
        .collect()
}

/// Notes how far a file was read.
pub(crate) fn put_file(
    transaction: &Transaction<'_>,
    path: &str,
    state: &FileState,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO source_file (path, size, modified, read_to, mark, read_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (path) DO UPDATE SET size = excluded.size, modified = excluded.modified,
                read_to = excluded.read_to, mark = excluded.mark, read_at = excluded.read_at",
        )?
        .execute(params![
            path,
            signed(state.bytes),
            signed(state.modified_ms),
            signed(state.read_to),
            state.mark,
            signed(now_ms),
        ])?;
    Ok(())
}

/// Paths of files on disk that were last read before `before_ms`.
pub(crate) fn files_read_before(
    connection: &Connection,
    before_ms: u64,
) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection
        .prepare("SELECT path FROM source_file WHERE read_at < ?1 AND path NOT LIKE 's3://%'")?;
    let rows = statement.query_map([signed(before_ms)], |row| row.get(0))?;
    rows.collect()
}

/// Forgets objects of buckets read before this, a bounded number; says how many.
pub(crate) fn prune_objects(
    transaction: &Transaction<'_>,
    before_ms: u64,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "DELETE FROM source_file WHERE path IN (
                SELECT path FROM source_file
                WHERE path >= 's3://' AND path < 's3:0' AND read_at < ?1 LIMIT ?2)",
        )?
        .execute(params![signed(before_ms), PRUNED_ROWS_MAX])
}

/// Forgets a file.
pub(crate) fn forget_file(transaction: &Transaction<'_>, path: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM source_file WHERE path = ?1")?
        .execute([path])?;
    Ok(())
}

/// Says whether an event was seen before.
pub(crate) fn is_seen(connection: &Connection, identity: &[u8; 24]) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM api_call WHERE identity = ?1")?
        .exists([identity])
}

/// Remembers an event.
pub(crate) fn note_seen(
    transaction: &Transaction<'_>,
    identity: &[u8; 24],
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO api_call VALUES (?1, ?2)")?
        .execute(params![identity, signed(now_ms)])?;
    Ok(())
}

/// A call that explains findings long after it: it is kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memorable {
    /// Its identity.
    pub(crate) identity: [u8; 24],
    /// When it happened.
    pub(crate) time_ns: u64,
    /// The event as it came.
    pub(crate) event: String,
}

/// Keeps a call.
pub(crate) fn keep(transaction: &Transaction<'_>, call: &Memorable) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO memorable_call VALUES (?1, ?2, ?3)")?
        .execute(params![call.identity, signed(call.time_ns), call.event])?;
    Ok(())
}

/// The events of all calls that were kept, the oldest first.
pub(crate) fn kept(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        connection.prepare("SELECT event FROM memorable_call ORDER BY event_time_ns, identity")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// Lets the oldest calls go when there are more than may be; says how many.
pub(crate) fn prune_kept(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM memorable_call WHERE identity IN (
            SELECT identity FROM memorable_call ORDER BY event_time_ns DESC, identity
            LIMIT ?1 OFFSET ?2)",
        params![PRUNED_ROWS_MAX, KEPT_MAX],
    )
}

/// Forgets events seen before `before_ms`; says how many.
pub(crate) fn prune(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM api_call WHERE identity IN (
            SELECT identity FROM api_call WHERE seen_at < ?1 LIMIT ?2)",
        params![signed(before_ms), PRUNED_ROWS_MAX],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn files_and_events_are_remembered_and_events_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (x, y) = ([1; 24], [2; 24]);
        let state = FileState {
            bytes: 10,
            modified_ms: 20,
            read_to: 5,
            mark: b"xyz".to_vec(),
        };
        let put = state.clone();
        store
            .write_blocking(move |t| {
                put_file(t, "a.json", &put, 1)?;
                note_seen(t, &x, 100)?;
                note_seen(t, &x, 900)?;
                note_seen(t, &y, 200)
            })
            .unwrap();
        assert_eq!(store.read(|c| file(c, "a.json")).unwrap(), Some(state));
        assert_eq!(store.read(|c| file(c, "b.json")).unwrap(), None);
        assert_eq!(store.write_blocking(|t| prune(t, 150)).unwrap(), 1);
        assert!(!store.read(|c| is_seen(c, &x)).unwrap());
        assert!(store.read(|c| is_seen(c, &y)).unwrap());
    }
}
