//! Operators' tokens, of which only hashes are kept.

use rusqlite::{Connection, Row, Transaction, params};

use super::{signed, unsigned};

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperatorRow {
    /// Its id, which is part of it and no secret.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) name: String,
    /// What it is known by.
    pub(crate) hash: Vec<u8>,
    /// What it may do.
    pub(crate) role: String,
    /// The accounts it is bound to; `None` if to none.
    pub(crate) accounts: Option<Vec<String>>,
    /// When it was made.
    pub(crate) created_ms: u64,
    /// By whom.
    pub(crate) created_by: String,
    /// When it ends.
    pub(crate) expires_ms: u64,
    /// When it was revoked, if it was.
    pub(crate) revoked_ms: Option<u64>,
    /// When it was last used, to some minutes.
    pub(crate) used_ms: Option<u64>,
}

/// Keeps a new token, unless one of that name is in force; says whether it was kept.
pub(crate) fn add(transaction: &Transaction<'_>, row: &OperatorRow) -> rusqlite::Result<bool> {
    let accounts = row.accounts.as_ref();
    let accounts =
        accounts.map(|accounts| serde_json::Value::from(accounts.as_slice()).to_string());
    let added = transaction.execute(
        "INSERT INTO operator (id, name, hash, role, accounts, created_at, created_by, expires_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE NOT EXISTS (
            SELECT 1 FROM operator WHERE name = ?2 AND revoked_at IS NULL AND expires_at > ?6)",
        params![
            row.id,
            row.name,
            row.hash,
            row.role,
            accounts,
            signed(row.created_ms),
            row.created_by,
            signed(row.expires_ms),
        ],
    )?;
    Ok(added > 0)
}

/// Ends what is in force of a name; says how many tokens that were.
pub(crate) fn revoke(
    transaction: &Transaction<'_>,
    name: &str,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    transaction.execute(
        "UPDATE operator SET revoked_at = ?2 WHERE name = ?1 AND revoked_at IS NULL",
        params![name, signed(now_ms)],
    )
}

/// Notes that a token was used.
pub(crate) fn used(transaction: &Transaction<'_>, id: &str, now_ms: u64) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE operator SET used_at = ?2 WHERE id = ?1",
        params![id, signed(now_ms)],
    )?;
    Ok(())
}

/// Every token that is kept, by name, the latest first.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<OperatorRow>> {
    let mut statement = connection.prepare(
        "SELECT id, name, hash, role, accounts, created_at, created_by, expires_at, revoked_at,
            used_at
         FROM operator ORDER BY name, created_at DESC",
    )?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<OperatorRow> {
    let accounts: Option<String> = row.get(4)?;
    let time = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(unsigned));
    Ok(OperatorRow {
        id: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        role: row.get(3)?,
        // What cannot be read binds to no account at all, which sees nothing.
        accounts: accounts.map(|text| serde_json::from_str(&text).unwrap_or_default()),
        created_ms: unsigned(row.get(5)?),
        created_by: row.get(6)?,
        expires_ms: unsigned(row.get(7)?),
        revoked_ms: time(8)?,
        used_ms: time(9)?,
    })
}

/// Forgets tokens that ended before `before_ms`; says how many.
pub(crate) fn prune(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM operator WHERE min(expires_at, coalesce(revoked_at, expires_at)) < ?1",
        [signed(before_ms)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn row(id: &str, name: &str) -> OperatorRow {
        OperatorRow {
            id: id.into(),
            name: name.into(),
            hash: vec![7; 32],
            role: "viewer".into(),
            accounts: Some(vec!["111122223333".into()]),
            created_ms: 10,
            created_by: "uid 0".into(),
            expires_ms: 100,
            revoked_ms: None,
            used_ms: None,
        }
    }

    #[test]
    fn one_name_has_one_token_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let add = |row: OperatorRow| store.write_blocking(move |t| add(t, &row)).unwrap();
        assert!(add(row("1", "a")));
        assert!(!add(row("2", "a")));
        assert!(add(row("3", "b")));
        store.write_blocking(|t| used(t, "1", 15)).unwrap();
        assert_eq!(store.write_blocking(|t| revoke(t, "a", 20)).unwrap(), 1);
        assert_eq!(store.write_blocking(|t| revoke(t, "a", 21)).unwrap(), 0);
        let later = OperatorRow {
            created_ms: 30,
            accounts: None,
            ..row("4", "a")
        };
        assert!(add(later.clone()));
        let all = store.read(list).unwrap();
        assert_eq!(all[0], later);
        assert_eq!((all[1].revoked_ms, all[1].used_ms), (Some(20), Some(15)));
        assert_eq!(all[2], row("3", "b"));
        // After its end, a name is free again.
        let again = OperatorRow {
            created_ms: 100,
            expires_ms: 200,
            ..row("5", "b")
        };
        assert!(add(again));
        assert_eq!(store.write_blocking(|t| prune(t, 21)).unwrap(), 1);
        assert_eq!(store.write_blocking(|t| prune(t, 101)).unwrap(), 2);
    }
}
