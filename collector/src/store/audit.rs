//! The record of who changed what, and of who was refused.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::{signed, unsigned};
use crate::clock;

/// Rows kept at most; the oldest go first. A gigabyte at most, and years of operators' work.
const ROWS_MAX: i64 = 1_000_000;

/// Rows deleted in one job.
const PRUNED_ROWS_MAX: i64 = 5_000;

/// What a row says until it is known how it ended; one that still says so was cut off by the end of
/// the process.
const BEGUN: &str = "begun";

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    /// When.
    pub(crate) at_ms: u64,
    /// Who: `uid 0`, `token NAME ID`, `nobody`.
    pub(crate) who: String,
    /// From where: `socket` or an address.
    pub(crate) from: String,
    /// What: method and path.
    pub(crate) what: String,
}

/// One call as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditLine {
    /// Always `audit`.
    pub(crate) kind: String,
    /// When, RFC 3339.
    pub(crate) time: String,
    /// Who.
    pub(crate) who: String,
    /// From where.
    pub(crate) from: String,
    /// What.
    pub(crate) what: String,
    /// What it was about, where the path does not say.
    pub(crate) detail: Option<String>,
    /// `done`, `refused: …`, `failed: …`, or `begun`.
    pub(crate) outcome: String,
}

/// Which calls to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Since then, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_ms: Option<u64>,
    /// Of callers of whom this is a part of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) who: Option<String>,
    /// Only what was refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) refused: bool,
}

/// Writes down that a call begins; returns the number of its row.
pub(crate) fn begin(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<i64> {
    add(transaction, record, BEGUN)
}

/// Writes down a call that ended at once; returns the number of its row.
pub(crate) fn add(
    transaction: &Transaction<'_>,
    record: &Record,
    outcome: &str,
) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO audit (at, who, via, what, outcome) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            signed(record.at_ms),
            record.who,
            record.from,
            record.what,
            outcome
        ])?;
    Ok(transaction.last_insert_rowid())
}

/// Writes down how a call ended.
pub(crate) fn end(
    transaction: &Transaction<'_>,
    row: i64,
    outcome: &str,
    detail: Option<&str>,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE audit SET outcome = ?2, detail = ?3 WHERE id = ?1",
        params![row, outcome, detail],
    )?;
    Ok(())
}

/// Lists calls, the latest first, at most `rows_max`.
pub(crate) fn list(
    connection: &Connection,
    wanted: &Wanted,
    rows_max: usize,
) -> rusqlite::Result<Vec<AuditLine>> {
    let mut values = vec![Value::Integer(signed(
        wanted.since_ms.unwrap_or(0).min(i64::MAX as u64),
    ))];
    let mut query =
        "SELECT at, who, via, what, detail, outcome FROM audit WHERE at >= ?1".to_owned();
    if let Some(who) = &wanted.who {
        values.push(Value::Text(who.clone()));
        query.push_str(" AND instr(who, ?2) > 0");
    }
    if wanted.refused {
        query.push_str(" AND instr(outcome, 'refused') = 1");
    }
    query.push_str(&format!(" ORDER BY id DESC LIMIT {rows_max}"));
    let mut statement = connection.prepare(&query)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok(AuditLine {
            kind: "audit".to_owned(),
            time: clock::rfc3339(unsigned(row.get(0)?)),
            who: row.get(1)?,
            from: row.get(2)?,
            what: row.get(3)?,
            detail: row.get(4)?,
            outcome: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Forgets calls before `before_ms`, and the oldest beyond what is kept; says how many.
pub(crate) fn prune(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM audit WHERE id IN (
            SELECT id FROM audit
            WHERE at < ?1 OR id <= (SELECT max(id) FROM audit) - ?2
            ORDER BY id LIMIT ?3)",
        params![signed(before_ms), ROWS_MAX, PRUNED_ROWS_MAX],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn calls_are_kept_with_their_ends_and_go_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let record = |at_ms, who: &str| Record {
            at_ms,
            who: who.into(),
            from: "socket".into(),
            what: "POST /v1/x".into(),
        };
        let (one, two, three) = (
            record(1, "uid 0"),
            record(2, "nobody"),
            record(3, "token a 1"),
        );
        store
            .write_blocking(move |t| {
                let row = begin(t, &one)?;
                end(t, row, "done", Some("d"))?;
                add(t, &two, "refused: no token")?;
                begin(t, &three).map(drop)
            })
            .unwrap();
        let shown = |wanted: Wanted| -> Vec<(String, String)> {
            let lines = store.read(|c| list(c, &wanted, 10)).unwrap();
            lines
                .into_iter()
                .map(|line| (line.who, line.outcome))
                .collect()
        };
        let all = [
            ("token a 1", "begun"),
            ("nobody", "refused: no token"),
            ("uid 0", "done"),
        ];
        let owned = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
            rows.iter()
                .map(|(a, b)| ((*a).into(), (*b).into()))
                .collect()
        };
        assert_eq!(shown(Wanted::default()), owned(&all));
        let refused = Wanted {
            refused: true,
            ..Wanted::default()
        };
        assert_eq!(shown(refused), owned(&all[1..2]));
        let of = Wanted {
            who: Some("token a".into()),
            ..Wanted::default()
        };
        assert_eq!(shown(of), owned(&all[..1]));
        let since = Wanted {
            since_ms: Some(2),
            ..Wanted::default()
        };
        assert_eq!(shown(since), owned(&all[..2]));
        assert_eq!(store.write_blocking(|t| prune(t, 3)).unwrap(), 2);
        assert_eq!(shown(Wanted::default()), owned(&all[..1]));
    }
}
