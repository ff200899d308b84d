//! What operators have agents look for, and the version of the bundle that was last published.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{signed, unsigned};

/// An indicator that an operator entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperatorEntry {
    /// The indicator, as it is written in lists.
    pub(crate) value: String,
    /// Its category.
    pub(crate) category: String,
    /// What the operator said about it.
    pub(crate) comment: Option<String>,
    /// Who entered it.
    pub(crate) who: String,
    /// When, milliseconds since the epoch.
    pub(crate) added_ms: u64,
    /// When it ends, milliseconds since the epoch.
    pub(crate) expires_ms: Option<u64>,
}

/// Enters an indicator, in place of the same one of the same category.
pub(crate) fn put(transaction: &Transaction<'_>, entry: &OperatorEntry) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO operator_indicator
                (value, category, comment, who, added_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            entry.value,
            entry.category,
            entry.comment,
            entry.who,
            signed(entry.added_ms),
            entry.expires_ms.map(signed),
        ])?;
    Ok(())
}

/// Takes an indicator away, of one category or of all; says how many entries that were.
pub(crate) fn remove(
    transaction: &Transaction<'_>,
    value: &str,
    category: Option<&str>,
) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM operator_indicator
         WHERE value = ?1 AND (?2 IS NULL OR category = ?2)",
        params![value, category],
    )
}

/// Forgets what was over by then.
pub(crate) fn forget(transaction: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM operator_indicator WHERE expires_at <= ?1",
        [signed(now_ms)],
    )
}

/// How many there are.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT count(*) FROM operator_indicator", [], |row| {
            row.get(0)
        })
        .map(unsigned)
}

/// Every entry, by value.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<OperatorEntry>> {
    let mut statement = connection.prepare(
        "SELECT value, category, comment, who, added_at, expires_at
         FROM operator_indicator ORDER BY value, category",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(OperatorEntry {
            value: row.get(0)?,
            category: row.get(1)?,
            comment: row.get(2)?,
            who: row.get(3)?,
            added_ms: unsigned(row.get(4)?),
            expires_ms: row.get::<_, Option<i64>>(5)?.map(unsigned),
        })
    })?;
    rows.collect()
}

/// A bundle that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Published {
    /// Its version.
    pub(crate) version: u64,
    /// What its content is named.
    pub(crate) set: u64,
    /// When it was issued, milliseconds since the epoch.
    pub(crate) issued_ms: u64,
}

/// Remembers what is about to be published.
pub(crate) fn publish(transaction: &Transaction<'_>, last: &Published) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO published (what, version, content, issued_at)
         VALUES ('indicators', ?1, ?2, ?3)",
        params![
            signed(last.version),
            signed(last.set),
            signed(last.issued_ms)
        ],
    )?;
    Ok(())
}

/// What was published last.
pub(crate) fn published(connection: &Connection) -> rusqlite::Result<Option<Published>> {
    connection
        .query_row(
            "SELECT version, content, issued_at FROM published WHERE what = 'indicators'",
            [],
            |row| {
                Ok(Published {
                    version: unsigned(row.get(0)?),
                    set: unsigned(row.get(1)?),
                    issued_ms: unsigned(row.get(2)?),
                })
            },
        )
        .optional()
}
