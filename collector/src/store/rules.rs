//! Which rules may page, and when each last fired.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

use super::{signed, unsigned};

/// What is stored of a rule's findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fired {
    /// Findings.
    pub(crate) findings: u64,
    /// Their occurrences.
    pub(crate) occurrences: u64,
    /// The last of them, in event time.
    pub(crate) last_ms: u64,
}

/// Lets a rule page as long as it says what it says now.
pub(crate) fn put_live(
    transaction: &Transaction<'_>,
    id: &str,
    digest: &str,
    how: &str,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO rule_live (id, digest, how, since) VALUES (?1, ?2, ?3, ?4)",
        params![id, digest, how, signed(now_ms)],
    )?;
    Ok(())
}

/// Puts a rule on trial.
pub(crate) fn remove_live(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM rule_live WHERE id = ?1", [id])?;
    Ok(())
}

/// The rules that may page, with the digest of what they say.
pub(crate) fn live(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = connection.prepare("SELECT id, digest FROM rule_live")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// What is stored of the findings of each rule and detection, by the name findings have for it.
pub(crate) fn fired(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Fired>> {
    let mut statement = connection.prepare(
        "SELECT json_extract(body, '$.picket.rule') AS rule, COUNT(*), SUM(count), MAX(last_seen)
         FROM finding WHERE rule IS NOT NULL GROUP BY rule",
    )?;
    let rows = statement.query_map([], |row| {
        let fired = Fired {
            findings: unsigned(row.get(1)?),
            occurrences: unsigned(row.get(2)?),
            last_ms: unsigned(row.get(3)?),
        };
        Ok((row.get(0)?, fired))
    })?;
    rows.collect()
}
