//! What was analysed, by day, source, account and region.

use rusqlite::{Connection, Transaction, params};

use crate::usage::{Row, Source};

use super::{signed, unsigned};

/// Days that are kept: those that a finding counts by too.
pub(crate) const DAYS_MAX: u32 = 400;

/// Adds to what was counted before.
pub(crate) fn add(transaction: &Transaction<'_>, rows: &[Row]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO usage (day, source, account, region, events, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (day, source, account, region) DO UPDATE
         SET events = events + excluded.events, bytes = bytes + excluded.bytes",
    )?;
    for row in rows {
        insert.execute(params![
            row.day,
            row.source.name(),
            row.account,
            row.region,
            signed(row.events),
            signed(row.bytes),
        ])?;
    }
    Ok(())
}

/// What was counted on `since` (`YYYY-MM-DD`) and later, of these accounts, or of all.
pub(crate) fn list(
    connection: &Connection,
    since: &str,
    accounts: Option<&[String]>,
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(
        "SELECT day, source, account, region, events, bytes FROM usage WHERE day >= ?1
         ORDER BY day, source, account, region",
    )?;
    let rows = statement.query_map([since], |row| {
        let source: String = row.get(1)?;
        // A later version may count what this one does not know.
        let Some(source) = Source::named(&source) else {
            return Ok(None);
        };
        Ok(Some(Row {
            day: row.get(0)?,
            source,
            account: row.get(2)?,
            region: row.get(3)?,
            events: unsigned(row.get(4)?),
            bytes: unsigned(row.get(5)?),
        }))
    })?;
    let is_theirs = |row: &Row| accounts.is_none_or(|accounts| accounts.contains(&row.account));
    let rows = rows.filter_map(Result::transpose);
    rows.filter(|row| row.as_ref().map_or(true, is_theirs))
        .collect()
}

/// Forgets days further back than [`DAYS_MAX`]; says how many rows.
pub(crate) fn prune(transaction: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM usage WHERE day < date(?1, 'unixepoch', ?2)",
        params![signed(now_ms / 1_000), format!("-{DAYS_MAX} days")],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::migrate;

    fn row(day: &str, account: &str, events: u64) -> Row {
        Row {
            day: day.to_owned(),
            source: Source::VpcFlow,
            account: account.to_owned(),
            region: "eu-west-1".to_owned(),
            events,
            bytes: 2 * events,
        }
    }

    #[test]
    fn counts_add_up_and_accounts_see_their_own() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let transaction = connection.transaction().unwrap();
        let old = row("2022-01-01", "1", 9);
        add(
            &transaction,
            &[row("2023-11-14", "1", 3), row("2023-11-14", "2", 4), old],
        )
        .unwrap();
        add(&transaction, &[row("2023-11-14", "1", 2)]).unwrap();
        let now_ms = 1_700_000_000_000;
        assert_eq!(prune(&transaction, now_ms).unwrap(), 1);
        let all = list(&transaction, "", None).unwrap();
        assert_eq!(all, [row("2023-11-14", "1", 5), row("2023-11-14", "2", 4)]);
        let own = ["2".to_owned()];
        assert_eq!(list(&transaction, "", Some(&own)).unwrap(), all[1..]);
        assert_eq!(list(&transaction, "2023-11-15", None).unwrap(), []);
    }
}
