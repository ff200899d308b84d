//! Join tokens: by which hosts enrol that nobody else can vouch for. The token itself is not kept,
//! only its hash.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{signed, unsigned};

/// The hosts that a token is for; what is left out may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scope {
    /// The account.
    pub(crate) account: Option<String>,
    /// The region.
    pub(crate) region: Option<String>,
    /// The instance, or its beginning and `*`.
    pub(crate) instance: Option<String>,
}

impl Scope {
    /// Whether it holds a host.
    pub(crate) fn holds(&self, account: &str, region: &str, instance: &str) -> bool {
        let is = |scope: &Option<String>, value: &str| {
            scope
                .as_ref()
                .is_none_or(|scope| match scope.strip_suffix('*') {
                    Some(beginning) => value.starts_with(beginning),
                    None => scope == value,
                })
        };
        is(&self.account, account) && is(&self.region, region) && is(&self.instance, instance)
    }
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinToken {
    /// Its id, the part of it that is no secret.
    pub(crate) id: String,
    /// SHA-256 of its secret.
    pub(crate) hash: [u8; 32],
    /// What it is for, in the operator's words.
    pub(crate) label: String,
    /// The hosts it is for.
    pub(crate) scope: Scope,
    /// When it was made.
    pub(crate) created_ms: u64,
    /// When it ends.
    pub(crate) expires_ms: u64,
    /// Hosts that may enrol with it in all.
    pub(crate) uses_max: u64,
    /// Hosts that have.
    pub(crate) uses: u64,
    /// Whether it was revoked.
    pub(crate) is_revoked: bool,
}

const COLUMNS: &str = "id, hash, label, account, region, instance, created_at, expires_at, uses_max, \
                       uses, is_revoked";

/// Every token, by age.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<JoinToken>> {
    let sql = format!("SELECT {COLUMNS} FROM join_token ORDER BY created_at, id");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

/// One token.
pub(crate) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<JoinToken>> {
    let sql = format!("SELECT {COLUMNS} FROM join_token WHERE id = ?1");
    connection.query_row(&sql, [id], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<JoinToken> {
    Ok(JoinToken {
        id: row.get(0)?,
        hash: row.get(1)?,
        label: row.get(2)?,
        scope: Scope {
            account: row.get(3)?,
            region: row.get(4)?,
            instance: row.get(5)?,
        },
        created_ms: unsigned(row.get(6)?),
        expires_ms: unsigned(row.get(7)?),
        uses_max: unsigned(row.get(8)?),
        uses: unsigned(row.get(9)?),
        is_revoked: row.get(10)?,
    })
}

/// How many there are.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM join_token", [], |row| {
        row.get(0).map(unsigned)
    })
}

/// Adds a token.
pub(crate) fn add(transaction: &Transaction<'_>, token: &JoinToken) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO join_token ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    transaction.execute(
        &sql,
        params![
            token.id,
            token.hash,
            token.label,
            token.scope.account,
            token.scope.region,
            token.scope.instance,
            signed(token.created_ms),
            signed(token.expires_ms),
            signed(token.uses_max),
            signed(token.uses),
            token.is_revoked,
        ],
    )?;
    Ok(())
}

/// Whether a token may still be used.
pub(crate) fn is_good(connection: &Connection, id: &str, now_ms: u64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM join_token
               WHERE id = ?1 AND uses < uses_max AND expires_at > ?2 AND NOT is_revoked";
    connection
        .prepare_cached(sql)?
        .exists(params![id, signed(now_ms)])
}

/// Uses a token once, if it may still be used; says whether it was.
pub(crate) fn spend(
    transaction: &Transaction<'_>,
    id: &str,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let changed = transaction.execute(
        "UPDATE join_token SET uses = uses + 1
         WHERE id = ?1 AND uses < uses_max AND expires_at > ?2 AND NOT is_revoked",
        params![id, signed(now_ms)],
    )?;
    Ok(changed == 1)
}

/// Ends a token; says whether there is one.
pub(crate) fn revoke(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<bool> {
    let changed =
        transaction.execute("UPDATE join_token SET is_revoked = 1 WHERE id = ?1", [id])?;
    Ok(changed == 1)
}

/// Forgets tokens that ended before this.
pub(crate) fn forget(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM join_token WHERE expires_at < ?1",
        [signed(before_ms)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_scope_holds_what_it_names() {
        let scope = |account: &str, instance: &str| Scope {
            account: Some(account.to_owned()).filter(|text| !text.is_empty()),
            region: None,
            instance: Some(instance.to_owned()).filter(|text| !text.is_empty()),
        };
        let check = |scope: Scope, expected: bool| {
            assert_eq!(scope.holds("1", "r", "web-7"), expected, "{scope:?}");
        };
        check(scope("", ""), true);
        check(scope("1", "web-*"), true);
        check(scope("1", "web-7"), true);
        check(scope("2", "web-*"), false);
        check(scope("1", "web-"), false);
        check(scope("1", "db-*"), false);
    }

    #[test]
    fn a_token_is_spent_as_often_as_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let token = JoinToken {
            id: "a".into(),
            hash: [1; 32],
            label: "racks".into(),
            scope: Scope::default(),
            created_ms: 1,
            expires_ms: 100,
            uses_max: 2,
            uses: 0,
            is_revoked: false,
        };
        let kept = token.clone();
        store.write_blocking(move |t| add(t, &kept)).unwrap();
        let use_at = |now_ms| {
            store
                .write_blocking(move |t| spend(t, "a", now_ms))
                .unwrap()
        };
        let good_at = |now_ms| store.read(|c| is_good(c, "a", now_ms)).unwrap();
        assert!(!use_at(100) && !good_at(100), "it has ended");
        assert!(use_at(99) && good_at(1) && use_at(1));
        assert!(!use_at(1) && !good_at(1), "it was used twice");
        let found = store.read(|c| find(c, "a")).unwrap().unwrap();
        assert_eq!(found, JoinToken { uses: 2, ..token });
        assert!(store.write_blocking(|t| revoke(t, "a")).unwrap());
        assert!(!store.write_blocking(|t| revoke(t, "b")).unwrap());
        assert!(store.read(list).unwrap()[0].is_revoked);
        assert_eq!(store.write_blocking(|t| forget(t, 101)).unwrap(), 1);
        assert_eq!(store.read(count).unwrap(), 0);
    }
}
