//! What is known of each feed that is fetched: which version is in use, which is held back, when it
//! is looked at again.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{signed, unsigned};

/// What a server calls the version that it sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Validators {
    /// `ETag`.
    pub(crate) etag: Option<String>,
    /// `Last-Modified`.
    pub(crate) last_modified: Option<String>,
}

/// One version of a feed's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Its file or folder.
    pub(crate) content: String,
    /// Entries that were taken from it.
    pub(crate) entries: u64,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of it, in hex.
    pub(crate) digest: String,
    /// What the server calls it.
    pub(crate) validators: Validators,
    /// From where to go on, in the words of the protocol.
    pub(crate) cursor: Option<String>,
    /// What is to be known about it: what was left out.
    pub(crate) note: Option<String>,
}

/// A version that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Which.
    pub(crate) version: Version,
    /// Why not.
    pub(crate) why: String,
    /// Since when one is held back.
    pub(crate) since_ms: u64,
}

/// One feed as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FeedRow {
    /// Its name.
    pub(crate) name: String,
    /// What is fetched: of another, nothing that is known here holds.
    pub(crate) origin: String,
    /// When it was first configured.
    pub(crate) added_ms: u64,
    /// The version in use.
    pub(crate) current: Option<Version>,
    /// The version that an operator may take in its place.
    pub(crate) held: Option<Held>,
    /// When it was last asked for.
    pub(crate) checked_ms: u64,
    /// When the server last answered in full.
    pub(crate) success_ms: u64,
    /// When the version in use took its place.
    pub(crate) changed_ms: u64,
    /// When it is asked for again.
    pub(crate) next_ms: u64,
    /// Failures since the last success.
    pub(crate) failures: u64,
    /// The last of them.
    pub(crate) last_error: Option<String>,
    /// Whether it was said that it is stale.
    pub(crate) is_stale_told: bool,
}

/// Makes the table one of exactly these feeds, given as name and origin; those that are new, or have
/// another origin, begin anew at `now_ms`.
pub(crate) fn settle(
    transaction: &Transaction<'_>,
    feeds: &[(String, String)],
    now_ms: u64,
) -> rusqlite::Result<()> {
    for row in list(transaction)? {
        let is_same =
            |(name, origin): &(String, String)| *name == row.name && *origin == row.origin;
        if !feeds.iter().any(is_same) {
            transaction.execute("DELETE FROM feed WHERE name = ?1", [&row.name])?;
        }
    }
    for (name, origin) in feeds {
        if one(transaction, name)?.is_none() {
            let row = FeedRow {
                name: name.clone(),
                origin: origin.clone(),
                added_ms: now_ms,
                next_ms: now_ms,
                ..FeedRow::default()
            };
            put(transaction, &row)?;
        }
    }
    Ok(())
}

/// Stores a feed in its new state.
pub(crate) fn put(transaction: &Transaction<'_>, row: &FeedRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO feed (name, origin, added_at, current, held, checked_at,
                success_at, changed_at, next_at, failures, last_error, is_stale_told)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            row.name,
            row.origin,
            signed(row.added_ms),
            row.current.as_ref().map(as_text),
            row.held.as_ref().map(as_text),
            signed(row.checked_ms),
            signed(row.success_ms),
            signed(row.changed_ms),
            signed(row.next_ms),
            signed(row.failures),
            row.last_error,
            row.is_stale_told,
        ])?;
    Ok(())
}

/// Everything in it has a form in JSON.
fn as_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

const COLUMNS: &str = "name, origin, added_at, current, held, checked_at, success_at, changed_at,
    next_at, failures, last_error, is_stale_told";

/// Every feed, by name.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<FeedRow>> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM feed ORDER BY name"))?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

/// One feed by its name.
pub(crate) fn one(connection: &Connection, name: &str) -> rusqlite::Result<Option<FeedRow>> {
    let query = format!("SELECT {COLUMNS} FROM feed WHERE name = ?1");
    connection.query_row(&query, [name], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<FeedRow> {
    let json = |at| row.get::<_, Option<String>>(at);
    let time = |at| row.get(at).map(unsigned);
    Ok(FeedRow {
        name: row.get(0)?,
        origin: row.get(1)?,
        added_ms: time(2)?,
        current: json(3)?.and_then(|text| serde_json::from_str(&text).ok()),
        held: json(4)?.and_then(|text| serde_json::from_str(&text).ok()),
        checked_ms: time(5)?,
        success_ms: time(6)?,
        changed_ms: time(7)?,
        next_ms: time(8)?,
        failures: time(9)?,
        last_error: row.get(10)?,
        is_stale_told: row.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn what_is_kept_of_a_feed_comes_back_and_goes_with_its_origin() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let named = |names: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |(name, origin): &(&str, &str)| ((*name).into(), (*origin).into());
            names.iter().map(owned).collect()
        };
        let feeds = named(&[("a", "x"), ("b", "y")]);
        store.write_blocking(move |t| settle(t, &feeds, 5)).unwrap();
        let version = Version {
            content: "a.txt".into(),
            entries: 3,
            validators: Validators {
                etag: Some("\"1\"".into()),
                last_modified: None,
            },
            ..Version::default()
        };
        let row = FeedRow {
            current: Some(version.clone()),
            held: Some(Held {
                version,
                why: "it shrank".into(),
                since_ms: 9,
            }),
            next_ms: u64::MAX,
            last_error: Some("e".into()),
            is_stale_told: true,
            ..store.read(|c| one(c, "a")).unwrap().unwrap()
        };
        let kept = row.clone();
        store.write_blocking(move |t| put(t, &kept)).unwrap();
        // The same feeds again change nothing; another origin begins anew; what is gone is gone.
        let feeds = named(&[("a", "x"), ("b", "z")]);
        store.write_blocking(move |t| settle(t, &feeds, 7)).unwrap();
        assert_eq!(store.read(|c| one(c, "a")).unwrap(), Some(row));
        let other = store.read(|c| one(c, "b")).unwrap().unwrap();
        assert_eq!((other.origin.as_str(), other.added_ms), ("z", 7));
        store.write_blocking(|t| settle(t, &[], 8)).unwrap();
        assert!(store.read(list).unwrap().is_empty());
    }
}
