//! What is usual, kept over restarts: one row for each principal, group of peers and account.

use rusqlite::{Connection, Transaction, params};

use super::{signed, unsigned};

/// The layout of the rows' bodies. A row of another one is refused, and what it told is learned anew.
pub(crate) const VERSION: u64 = 1;

/// Rows of one kind that are kept, those that were busy last: as many as the analysis holds
/// (`BASELINES_MAX`).
const ROWS_MAX: usize = picket_detect::limits::BASELINES_MAX;

/// The same of hosts, with a sensor and without, and of hosts alike.
const TRAFFICS_MAX: usize =
    picket_detect::limits::TRAFFICS_MAX + picket_detect::limits::TRAFFICS_OTHERS_MAX;
const TRAFFICS_ALIKE_MAX: usize = picket_detect::limits::TRAFFICS_ALIKE_MAX;

/// One baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaselineRow {
    /// Whose: `principal`, `peers`, `account`, `host` or `hosts_alike`.
    pub(crate) whose: String,
    /// Its name.
    pub(crate) name: String,
    /// [`VERSION`], for rows that this program wrote.
    pub(crate) version: u64,
    /// Its last call, milliseconds since the epoch.
    pub(crate) last_ms: u64,
    /// The baseline as JSON.
    pub(crate) body: String,
}

/// Keeps rows, in place of those of the same names, and lets go of what is too much.
pub(crate) fn put(transaction: &Transaction<'_>, rows: &[BaselineRow]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO baseline (whose, name, version, last_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for row in rows {
        statement.execute(params![
            row.whose,
            row.name,
            signed(row.version),
            signed(row.last_ms),
            row.body,
        ])?;
    }
    let mut statement = transaction.prepare_cached(
        "DELETE FROM baseline WHERE whose = ?1 AND name IN (
            SELECT name FROM baseline WHERE whose = ?1
            ORDER BY last_at DESC, name LIMIT -1 OFFSET ?2)",
    )?;
    for (whose, rows_max) in [
        ("principal", ROWS_MAX),
        ("peers", ROWS_MAX),
        ("account", ROWS_MAX),
        ("host", TRAFFICS_MAX),
        ("hosts_alike", TRAFFICS_ALIKE_MAX),
    ] {
        statement.execute(params![whose, rows_max as i64])?;
    }
    Ok(())
}

/// Forgets a principal.
pub(crate) fn remove(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM baseline WHERE whose IN ('principal', 'host') AND name = ?1",
        [name],
    )?;
    Ok(())
}

/// Every row, the one that was busy longest ago first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<BaselineRow>> {
    let mut statement = connection.prepare(
        "SELECT whose, name, version, last_at, body FROM baseline ORDER BY last_at, whose, name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(BaselineRow {
            whose: row.get(0)?,
            name: row.get(1)?,
            version: unsigned(row.get(2)?),
            last_ms: unsigned(row.get(3)?),
            body: row.get(4)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn row(name: &str, last_ms: u64) -> BaselineRow {
        BaselineRow {
            whose: "principal".to_owned(),
            name: name.to_owned(),
            version: VERSION,
            last_ms,
            body: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn rows_are_kept_replaced_forgotten_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let put_all = |rows: Vec<BaselineRow>| store.write(move |t| put(t, &rows));
        put_all(vec![row("b", 2), row("a", 1)]).await.unwrap();
        put_all(vec![row("a", 3)]).await.unwrap();
        let names = |rows: Vec<BaselineRow>| -> Vec<(String, u64)> {
            rows.into_iter()
                .map(|row| (row.name, row.last_ms))
                .collect()
        };
        let kept = names(store.read(all).unwrap());
        assert_eq!(kept, [("b".to_owned(), 2), ("a".to_owned(), 3)]);
        store.write(|t| remove(t, "b")).await.unwrap();
        assert_eq!(store.read(all).unwrap().len(), 1);
        let many = (0..ROWS_MAX as u64).map(|n| row(&format!("n{n}"), 10 + n));
        put_all(many.collect()).await.unwrap();
        let kept = store.read(all).unwrap();
        assert_eq!(kept.len(), ROWS_MAX);
        assert!(kept.iter().all(|row| row.name != "a"));
    }
}
