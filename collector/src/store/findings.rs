//! Findings and incidents, each kept in its last state.
//!
//! The columns are what one filters by; the body is the whole finding as it is shown to others.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params, params_from_iter};

use super::{signed, unsigned};

/// Findings in one answer, at most (chosen by hand: what a person looks through, and more).
pub(crate) const LISTED_MAX: usize = 10_000;

/// Findings deleted in one job, and incidents as many.
const PRUNED_ROWS_MAX: i64 = 500;

/// A finding to be kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FindingRow {
    /// Its id, stable over occurrences.
    pub(crate) id: String,
    /// Its type, in GuardDuty's grammar.
    pub(crate) kind: String,
    /// 1.0 to 10.0.
    pub(crate) severity: f64,
    /// AWS account.
    pub(crate) account: String,
    /// AWS region.
    pub(crate) region: String,
    /// One line for a person.
    pub(crate) title: String,
    /// First occurrence, event time.
    pub(crate) first_seen_ms: u64,
    /// Last occurrence, event time.
    pub(crate) last_seen_ms: u64,
    /// Occurrences.
    pub(crate) count: u64,
    /// The incident it belongs to.
    pub(crate) incident: Option<String>,
    /// The whole, as JSON.
    pub(crate) body: String,
}

/// What was last told to others about a finding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// When.
    pub(crate) at_ms: u64,
    /// Its severity then.
    pub(crate) severity: f64,
    /// Its incident then.
    pub(crate) incident: Option<String>,
}

/// An incident to be kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncidentRow {
    /// Its id.
    pub(crate) id: String,
    /// 1.0 to 10.0.
    pub(crate) severity: f64,
    /// One line for a person.
    pub(crate) title: String,
    /// When its last stage happened, event time.
    pub(crate) updated_at_ms: u64,
    /// The whole, as JSON.
    pub(crate) body: String,
}

/// Which findings to list; every condition that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filter {
    /// At least this severe.
    pub(crate) severity_min: Option<f64>,
    /// The type, or its beginning if it ends in `*`.
    pub(crate) kind: Option<String>,
    /// Not archived.
    pub(crate) is_open: bool,
    /// With an occurrence between these two times, both included.
    pub(crate) between_ms: Option<(u64, u64)>,
    /// Of one of these accounts.
    pub(crate) accounts: Option<Vec<String>>,
}

/// A finding as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    /// AWS account.
    pub(crate) account: String,
    /// When it was archived, if it was.
    pub(crate) archived_at_ms: Option<u64>,
    /// How often it was stored.
    pub(crate) revision: u64,
    /// First occurrence, event time.
    pub(crate) first_seen_ms: u64,
    /// Last occurrence, event time.
    pub(crate) last_seen_ms: u64,
    /// The whole, as JSON.
    pub(crate) body: String,
}

/// Stores the finding in its new state; returns its revision and what was told about it so far.
/// An archived finding stays archived.
pub(crate) fn put(
    transaction: &Transaction<'_>,
    row: &FindingRow,
    now_ms: u64,
) -> rusqlite::Result<(u64, Option<Told>)> {
    transaction
        .prepare_cached(
            "INSERT INTO finding (id, type, severity, account, region, title, first_seen,
                last_seen, count, incident, body, stored_at, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 1)
             ON CONFLICT (id) DO UPDATE SET
                severity = excluded.severity, title = excluded.title,
                first_seen = excluded.first_seen, last_seen = excluded.last_seen,
                count = excluded.count, incident = excluded.incident, body = excluded.body,
                stored_at = excluded.stored_at,
                revision = revision + 1
             RETURNING revision, alerted_at, alerted_severity, alerted_incident",
        )?
        .query_row(
            params![
                row.id,
                row.kind,
                row.severity,
                row.account,
                row.region,
                row.title,
                signed(row.first_seen_ms),
                signed(row.last_seen_ms),
                signed(row.count),
                row.incident,
                row.body,
                signed(now_ms),
            ],
            |answer| {
                let at_ms: Option<i64> = answer.get(1)?;
                let told = match at_ms {
                    None => None,
                    Some(at_ms) => Some(Told {
                        at_ms: unsigned(at_ms),
                        severity: answer.get(2)?,
                        incident: answer.get(3)?,
                    }),
                };
                Ok((unsigned(answer.get(0)?), told))
            },
        )
}

/// Notes what is now told to others about a finding.
pub(crate) fn note_told(
    transaction: &Transaction<'_>,
    id: &str,
    told: &Told,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE finding SET alerted_at = ?2, alerted_severity = ?3, alerted_incident = ?4
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            signed(told.at_ms),
            told.severity,
            told.incident
        ])?;
    Ok(())
}

/// Stores the incident in its new state.
pub(crate) fn put_incident(
    transaction: &Transaction<'_>,
    row: &IncidentRow,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO incident (id, severity, title, updated_at, body, stored_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, title = excluded.title,
                updated_at = excluded.updated_at, body = excluded.body,
                stored_at = excluded.stored_at",
        )?
        .execute(params![
            row.id,
            row.severity,
            row.title,
            signed(row.updated_at_ms),
            row.body,
            signed(now_ms),
        ])?;
    Ok(())
}

/// Marks a finding as archived; says whether there is such a finding.
pub(crate) fn archive(
    transaction: &Transaction<'_>,
    id: &str,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let changed = transaction.execute(
        "UPDATE finding SET archived_at = coalesce(archived_at, ?2),
            body = json_set(body, '$.service.archived', json('true'))
         WHERE id = ?1",
        params![id, signed(now_ms)],
    )?;
    Ok(changed > 0)
}

/// Lists findings, the latest occurrence first, at most [`LISTED_MAX`].
pub(crate) fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Kept>> {
    let mut conditions = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut hold = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(severity) = filter.severity_min {
        hold("severity >= ?", Value::Real(severity));
    }
    match filter
        .kind
        .as_deref()
        .map(|kind| (kind.strip_suffix('*'), kind))
    {
        None => {}
        Some((None, kind)) => hold("type = ?", Value::Text(kind.to_owned())),
        Some((Some(beginning), _)) => {
            // Not LIKE: types hold no wildcard of it, but what was typed may.
            hold("instr(type, ?) = 1", Value::Text(beginning.to_owned()));
        }
    }
    if let Some((from_ms, to_ms)) = filter.between_ms {
        hold("last_seen >= ?", Value::Integer(signed(from_ms)));
        hold("first_seen <= ?", Value::Integer(signed(to_ms)));
    }
    if let Some(accounts) = &filter.accounts {
        let accounts = Value::Text(json_list(accounts));
        hold("account IN (SELECT value FROM json_each(?))", accounts);
    }
    if filter.is_open {
        conditions.push("archived_at IS NULL".to_owned());
    }
    if conditions.is_empty() {
        conditions.push("true".to_owned());
    }
    let query = format!(
        "SELECT archived_at, revision, first_seen, last_seen, body, account FROM finding WHERE {}
         ORDER BY last_seen DESC, id LIMIT {LISTED_MAX}",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare(&query)?;
    let rows = statement.query_map(params_from_iter(values), kept)?;
    rows.collect()
}

/// One finding by its id.
pub(crate) fn show(connection: &Connection, id: &str) -> rusqlite::Result<Option<Kept>> {
    connection
        .query_row(
            "SELECT archived_at, revision, first_seen, last_seen, body, account FROM finding WHERE id = ?1",
            [id],
            kept,
        )
        .optional()
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let archived_at: Option<i64> = row.get(0)?;
    Ok(Kept {
        account: row.get(5)?,
        archived_at_ms: archived_at.map(unsigned),
        revision: unsigned(row.get(1)?),
        first_seen_ms: unsigned(row.get(2)?),
        last_seen_ms: unsigned(row.get(3)?),
        body: row.get(4)?,
    })
}

/// Holds for incidents of the accounts in parameter 1, for all if it is null.
const OF_ACCOUNTS: &str = "(?1 IS NULL OR
    json_extract(body, '$.entities.account') IN (SELECT value FROM json_each(?1)))";

/// Texts as JSON, for SQLite's `json_each`.
fn json_list(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

/// Every incident's body, the latest first, at most [`LISTED_MAX`]; with `accounts`, only theirs.
pub(crate) fn incidents(
    connection: &Connection,
    accounts: Option<&[String]>,
) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!(
        "SELECT body FROM incident WHERE {OF_ACCOUNTS}
         ORDER BY updated_at DESC, id LIMIT {LISTED_MAX}"
    ))?;
    let rows = statement.query_map([accounts.map(json_list)], |row| row.get(0))?;
    rows.collect()
}

/// Instances that open findings of a type are about.
pub(crate) fn open_instances(connection: &Connection, kind: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT json_extract(body, '$.resource.instanceDetails.instanceId') FROM finding
         WHERE type = ?1 AND archived_at IS NULL",
    )?;
    let rows = statement.query_map([kind], |row| row.get::<_, Option<String>>(0))?;
    rows.filter_map(Result::transpose).collect()
}

/// The feeds or lists that open findings of a type are about.
pub(crate) fn open_feeds(connection: &Connection, kind: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT json_extract(body, '$.service.additionalInfo.feed') FROM finding
         WHERE type = ?1 AND archived_at IS NULL",
    )?;
    let rows = statement.query_map([kind], |row| row.get::<_, Option<String>>(0))?;
    rows.filter_map(Result::transpose).collect()
}

/// One incident by its id; with `accounts`, only if it is theirs.
pub(crate) fn incident(
    connection: &Connection,
    id: &str,
    accounts: Option<&[String]>,
) -> rusqlite::Result<Option<String>> {
    let query = format!("SELECT body FROM incident WHERE {OF_ACCOUNTS} AND id = ?2");
    connection
        .query_row(&query, params![accounts.map(json_list), id], |row| {
            row.get(0)
        })
        .optional()
}

/// Bodies of every finding and every incident, for the analysis to go on from.
pub(crate) fn restore(connection: &Connection) -> rusqlite::Result<(Vec<String>, Vec<String>)> {
    let bodies = |query: &str| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(query)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    };
    Ok((
        bodies("SELECT body FROM finding ORDER BY id")?,
        bodies("SELECT body FROM incident ORDER BY id")?,
    ))
}

/// Open findings by severity band: low, medium, high, critical.
pub(crate) fn open_by_band(connection: &Connection) -> rusqlite::Result<[u64; 4]> {
    connection.query_row(
        "SELECT coalesce(sum(severity < 4), 0), coalesce(sum(severity >= 4 AND severity < 7), 0),
            coalesce(sum(severity >= 7 AND severity < 9), 0), coalesce(sum(severity >= 9), 0)
         FROM finding WHERE archived_at IS NULL",
        [],
        |row| {
            Ok([
                unsigned(row.get(0)?),
                unsigned(row.get(1)?),
                unsigned(row.get(2)?),
                unsigned(row.get(3)?),
            ])
        },
    )
}

/// Deletes findings and incidents that last changed before `before_ms`; says how many.
pub(crate) fn prune(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for table in ["finding", "incident"] {
        let statement = format!(
            "DELETE FROM {table} WHERE id IN (
                SELECT id FROM {table} WHERE stored_at < ?1 ORDER BY id LIMIT ?2)"
        );
        deleted += transaction.execute(&statement, params![signed(before_ms), PRUNED_ROWS_MAX])?;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn row(id: &str, kind: &str, severity: f64, seen_ms: u64) -> FindingRow {
        FindingRow {
            id: id.into(),
            kind: kind.into(),
            severity,
            account: "111122223333".into(),
            region: "eu-central-1".into(),
            title: "t".into(),
            first_seen_ms: seen_ms,
            last_seen_ms: seen_ms,
            count: 1,
            incident: None,
            body: format!("{{\"id\":\"{id}\"}}"),
        }
    }

    fn filled() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store
            .write_blocking(|t| {
                put(t, &row("a", "Recon:EC2/Portscan", 5.0, 1_000), 5)?;
                put(
                    t,
                    &row("b", "Backdoor:EC2/C&CActivity.B!DNS", 8.0, 60_000),
                    5,
                )?;
                put(t, &row("c", "Backdoor:EC2/C&CActivity.B", 8.0, 700_000), 8)?;
                archive(t, "c", 9)
            })
            .unwrap();
        (folder, store)
    }

    #[track_caller]
    fn check(filter: &Filter, expected: &[&str]) {
        let (_folder, store) = filled();
        let found = store.read(|c| list(c, filter)).unwrap();
        let ids: Vec<_> = found
            .iter()
            .map(|kept| kept.body.split('"').nth(3).unwrap())
            .collect();
        assert_eq!(ids, expected, "{filter:?}");
    }

    #[test]
    fn filters() {
        let any = Filter::default;
        check(&any(), &["c", "b", "a"]);
        check(
            &Filter {
                severity_min: Some(8.0),
                ..any()
            },
            &["c", "b"],
        );
        check(
            &Filter {
                is_open: true,
                ..any()
            },
            &["b", "a"],
        );
        let kind = |kind: &str| Filter {
            kind: Some(kind.into()),
            ..any()
        };
        check(&kind("Backdoor:EC2/C&CActivity.B"), &["c"]);
        check(&kind("Backdoor:*"), &["c", "b"]);
        check(&kind("%"), &[]);
        check(&kind("*"), &["c", "b", "a"]);
        check(
            &Filter {
                between_ms: Some((0, 60_000)),
                ..any()
            },
            &["b", "a"],
        );
        check(
            &Filter {
                between_ms: Some((60_001, 699_999)),
                ..any()
            },
            &[],
        );
    }

    #[test]
    fn what_was_told_is_remembered_and_an_archived_finding_stays_so() {
        let (_folder, store) = filled();
        let told = Told {
            at_ms: 5,
            severity: 8.0,
            incident: Some("x".into()),
        };
        let noted = told.clone();
        let answer = store
            .write_blocking(move |t| {
                assert_eq!(put(t, &row("c", "k", 8.0, 1), 9)?, (2, None));
                note_told(t, "c", &noted)?;
                put(t, &row("c", "k", 8.0, 1), 9)
            })
            .unwrap();
        assert_eq!(answer, (3, Some(told)));
        let kept = store.read(|c| show(c, "c")).unwrap().unwrap();
        assert_eq!((kept.archived_at_ms, kept.revision), (Some(9), 3));
        assert_eq!(store.read(open_by_band).unwrap(), [0, 1, 1, 0]);
    }

    #[test]
    fn an_account_sees_its_own() {
        let (_folder, store) = filled();
        let all = store.read(|c| list(c, &Filter::default())).unwrap();
        let account = all[0].account.clone();
        let listed = |accounts: Vec<String>| {
            let filter = Filter {
                accounts: Some(accounts),
                ..Filter::default()
            };
            store.read(|c| list(c, &filter)).unwrap().len()
        };
        let own = all.iter().filter(|kept| kept.account == account).count();
        assert_eq!(listed(vec![account.clone(), "x' OR 1".into()]), own);
        assert_eq!(listed(vec!["999999999999".into()]), 0);
        assert_eq!(listed(Vec::new()), 0);
        let story = IncidentRow {
            id: "x".into(),
            severity: 8.0,
            title: "t".into(),
            updated_at_ms: 1,
            body: format!(r#"{{"entities":{{"account":"{account}"}}}}"#),
        };
        store
            .write_blocking(move |t| put_incident(t, &story, 5))
            .unwrap();
        for (accounts, expected) in [
            (None, 1),
            (Some([account]), 1),
            (Some(["999999999999".to_owned()]), 0),
        ] {
            let accounts = accounts.as_ref().map(<[String; 1]>::as_slice);
            let listed = store.read(|c| incidents(c, accounts)).unwrap();
            let shown = store.read(|c| incident(c, "x", accounts)).unwrap();
            assert_eq!((listed.len(), shown.iter().count()), (expected, expected));
        }
    }

    #[test]
    fn what_has_not_changed_for_long_goes() {
        let (_folder, store) = filled();
        let incident = IncidentRow {
            id: "x".into(),
            severity: 8.0,
            title: "t".into(),
            updated_at_ms: 1,
            body: "{}".into(),
        };
        store
            .write_blocking(move |t| put_incident(t, &incident, 5))
            .unwrap();
        assert_eq!(store.write_blocking(|t| prune(t, 5)).unwrap(), 0);
        assert_eq!(store.write_blocking(|t| prune(t, 6)).unwrap(), 3);
        assert!(store.read(|c| incidents(c, None)).unwrap().is_empty());
        let left = store.read(|c| list(c, &Filter::default())).unwrap();
        assert_eq!(left.len(), 1);
    }
}
