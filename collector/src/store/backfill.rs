//! How far each back-fill of a bucket is: behind which object it goes on, and what it came to so far.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{signed, unsigned};

/// The place of an object in the order of a back-fill: by day, then by the time in its name, then by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    /// `20260131`; empty for objects that lie in no folder of a day.
    pub(crate) day: String,
    /// `20260131T1205Z`; empty where the name has none.
    pub(crate) stamp: String,
    /// The key.
    pub(crate) key: String,
}

/// How far a back-fill is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The last object that is done with.
    pub(crate) mark: Mark,
    /// Objects done with.
    pub(crate) objects: u64,
    /// Their bytes as they are stored there.
    pub(crate) bytes: u64,
    /// Events found in them.
    pub(crate) events: u64,
    /// Of the objects, those of which a part could not be read.
    pub(crate) damaged: u64,
    /// When it began, milliseconds since the epoch.
    pub(crate) started_ms: u64,
    /// Whether there is nothing left.
    pub(crate) is_done: bool,
}

const COLUMNS: &str = "day, stamp, key, objects, bytes, events, damaged, started_at, is_done, name";

fn read(row: &Row<'_>) -> rusqlite::Result<Progress> {
    Ok(Progress {
        mark: Mark {
            day: row.get(0)?,
            stamp: row.get(1)?,
            key: row.get(2)?,
        },
        objects: unsigned(row.get(3)?),
        bytes: unsigned(row.get(4)?),
        events: unsigned(row.get(5)?),
        damaged: unsigned(row.get(6)?),
        started_ms: unsigned(row.get(7)?),
        is_done: row.get(8)?,
    })
}

/// How far one is, if it ever began.
pub(crate) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<Progress>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM backfill WHERE name = ?1"))?
        .query_row([name], read)
        .optional()
}

/// All of them with their names.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<(String, Progress)>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM backfill ORDER BY name"))?;
    let rows = statement.query_map([], |row| Ok((row.get(9)?, read(row)?)))?;
    rows.collect()
}

/// Notes how far one is.
pub(crate) fn put(
    transaction: &Transaction<'_>,
    name: &str,
    progress: &Progress,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO backfill VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (name) DO UPDATE SET day = excluded.day, stamp = excluded.stamp,
                key = excluded.key, objects = excluded.objects, bytes = excluded.bytes,
                events = excluded.events, damaged = excluded.damaged,
                updated_at = excluded.updated_at, is_done = excluded.is_done",
        )?
        .execute(params![
            name,
            progress.mark.day,
            progress.mark.stamp,
            progress.mark.key,
            signed(progress.objects),
            signed(progress.bytes),
            signed(progress.events),
            signed(progress.damaged),
            signed(progress.started_ms),
            signed(now_ms),
            progress.is_done,
        ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn progress_is_remembered_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut progress = Progress {
            mark: Mark {
                day: "20260131".to_owned(),
                stamp: "20260131T1205Z".to_owned(),
                key: "a".to_owned(),
            },
            objects: 1,
            bytes: 2,
            events: 3,
            damaged: 0,
            started_ms: 4,
            is_done: false,
        };
        for is_done in [false, true] {
            progress.is_done = is_done;
            let put_in = progress.clone();
            store
                .write_blocking(move |t| put(t, "x", &put_in, 9))
                .unwrap();
            assert_eq!(store.read(|c| get(c, "x")).unwrap(), Some(progress.clone()));
        }
        assert_eq!(store.read(list).unwrap(), [("x".to_owned(), progress)]);
        assert_eq!(store.read(|c| get(c, "y")).unwrap(), None);
    }
}
