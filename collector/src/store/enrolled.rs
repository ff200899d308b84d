//! Agents that enrolled, to which key each instance is bound, and keys that are revoked.

use picket_wire::enrol::Level;
use picket_wire::{AgentId, PublicKey};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{signed, unsigned};

/// An agent that enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enrolled {
    /// Its id, made of its key.
    pub(crate) agent: AgentId,
    /// Its key.
    pub(crate) key: PublicKey,
    /// The account its host is in.
    pub(crate) account: String,
    /// The region its host is in.
    pub(crate) region: String,
    /// The instance its host is.
    pub(crate) instance: String,
    /// How it proved that.
    pub(crate) level: Level,
    /// By what, in words: the token's id, the role session.
    pub(crate) by: String,
    /// When.
    pub(crate) enrolled_ms: u64,
    /// Whether it waits for an operator to let it in.
    pub(crate) is_pending: bool,
    /// Its word counts no longer than this: another key has taken its place.
    pub(crate) until_ms: Option<u64>,
}

const COLUMNS: &str =
    "agent, public_key, account, region, instance, level, by, enrolled_at, is_pending, until";

/// Every agent that enrolled.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<Enrolled>> {
    let sql = format!("SELECT {COLUMNS} FROM enrolled ORDER BY agent");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

/// One agent that enrolled.
pub(crate) fn find(connection: &Connection, agent: AgentId) -> rusqlite::Result<Option<Enrolled>> {
    let sql = format!("SELECT {COLUMNS} FROM enrolled WHERE agent = ?1");
    connection
        .query_row(&sql, params![agent.0], read)
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Enrolled> {
    let level: String = row.get(5)?;
    Ok(Enrolled {
        agent: AgentId(row.get(0)?),
        key: PublicKey(row.get(1)?),
        account: row.get(2)?,
        region: row.get(3)?,
        instance: row.get(4)?,
        // Of one that a later version wrote we believe the least.
        level: level.parse().unwrap_or(Level::Token),
        by: row.get(6)?,
        enrolled_ms: unsigned(row.get(7)?),
        is_pending: row.get(8)?,
        until_ms: row.get::<_, Option<i64>>(9)?.map(unsigned),
    })
}

const PENDING: &str = "is_pending AND agent NOT IN (SELECT agent FROM revoked)";

/// How many wait for an operator, of all.
pub(crate) fn pending(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM enrolled WHERE {PENDING}");
    connection.query_row(&sql, [], |row| row.get(0).map(unsigned))
}

/// How many other keys wait for an operator for the instance that one is for.
pub(crate) fn pending_beside(connection: &Connection, one: &Enrolled) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM enrolled
         WHERE {PENDING} AND account = ?1 AND region = ?2 AND instance = ?3 AND agent <> ?4"
    );
    let host = params![one.account, one.region, one.instance, one.agent.0];
    connection.query_row(&sql, host, |row| row.get(0).map(unsigned))
}

/// Forgets those that have waited for an operator since before this, and names them.
pub(crate) fn forget_pending(
    transaction: &Transaction<'_>,
    before_ms: u64,
) -> rusqlite::Result<Vec<AgentId>> {
    let sql = "DELETE FROM enrolled WHERE is_pending AND enrolled_at < ?1 RETURNING agent";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([signed(before_ms)], |row| row.get(0).map(AgentId))?;
    rows.collect()
}

/// Adds an agent, or replaces what was known of it.
pub(crate) fn put(transaction: &Transaction<'_>, enrolled: &Enrolled) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR REPLACE INTO enrolled ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    );
    transaction.prepare_cached(&sql)?.execute(params![
        enrolled.agent.0,
        enrolled.key.0,
        enrolled.account,
        enrolled.region,
        enrolled.instance,
        enrolled.level.name(),
        enrolled.by,
        signed(enrolled.enrolled_ms),
        enrolled.is_pending,
        enrolled.until_ms.map(signed),
    ])?;
    Ok(())
}

/// The agent that an instance is bound to.
pub(crate) fn bound(
    connection: &Connection,
    account: &str,
    region: &str,
    instance: &str,
) -> rusqlite::Result<Option<AgentId>> {
    connection
        .query_row(
            "SELECT agent FROM instance_key WHERE account = ?1 AND region = ?2 AND instance = ?3",
            params![account, region, instance],
            |row| row.get(0).map(AgentId),
        )
        .optional()
}

/// Binds an agent's instance to it.
pub(crate) fn bind(transaction: &Transaction<'_>, enrolled: &Enrolled) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO instance_key (account, region, instance, agent)
         VALUES (?1, ?2, ?3, ?4)",
        params![
            enrolled.account,
            enrolled.region,
            enrolled.instance,
            enrolled.agent.0
        ],
    )?;
    Ok(())
}

/// Lets another key enrol for the instance that is bound to this agent.
pub(crate) fn release(transaction: &Transaction<'_>, agent: AgentId) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM instance_key WHERE agent = ?1", [agent.0])?;
    Ok(())
}

/// Never believes a key again.
pub(crate) fn revoke(
    transaction: &Transaction<'_>,
    agent: AgentId,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR IGNORE INTO revoked (agent, revoked_at) VALUES (?1, ?2)",
        params![agent.0, signed(now_ms)],
    )?;
    Ok(())
}

/// Every key that is revoked.
pub(crate) fn revoked(connection: &Connection) -> rusqlite::Result<Vec<AgentId>> {
    let mut statement = connection.prepare("SELECT agent FROM revoked")?;
    let rows = statement.query_map([], |row| row.get(0).map(AgentId))?;
    rows.collect()
}

/// Says whether a key is revoked.
pub(crate) fn is_revoked(connection: &Connection, agent: AgentId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM revoked WHERE agent = ?1")?
        .exists([agent.0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn enrolled(seed: u8, instance: &str) -> Enrolled {
        let key = PublicKey([seed; 32]);
        Enrolled {
            agent: AgentId::of_key(&key.0),
            key,
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: instance.into(),
            level: Level::Ec2Sts,
            by: "role/web".into(),
            enrolled_ms: 5,
            is_pending: false,
            until_ms: Some(u64::MAX),
        }
    }

    #[test]
    fn what_is_put_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (one, mut other) = (enrolled(1, "i-1"), enrolled(2, "i-2"));
        let both = [one.clone(), other.clone()];
        let bindings = move |transaction: &Transaction<'_>| {
            for enrolled in &both {
                put(transaction, enrolled)?;
                bind(transaction, enrolled)?;
            }
            revoke(transaction, both[0].agent, 7)?;
            release(transaction, both[0].agent)
        };
        store.write_blocking(bindings).unwrap();
        let bound_to = |instance: &'static str| {
            let read = |c: &Connection| bound(c, "111122223333", "eu-west-1", instance);
            store.read(read).unwrap()
        };
        assert_eq!(bound_to("i-1"), None);
        assert_eq!(bound_to("i-2"), Some(other.agent));
        assert_eq!(store.read(revoked).unwrap(), [one.agent]);
        assert!(!store.read(|c| is_revoked(c, other.agent)).unwrap());
        assert!(store.read(|c| is_revoked(c, one.agent)).unwrap());
        other.is_pending = true;
        let again = other.clone();
        store.write_blocking(move |t| put(t, &again)).unwrap();
        assert_eq!(
            store.read(|c| find(c, other.agent)).unwrap(),
            Some(other.clone())
        );
        assert_eq!(store.read(list).unwrap().len(), 2);
    }

    #[test]
    fn who_waits_is_counted_until_revoked_or_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let waits = |seed, instance, enrolled_ms| Enrolled {
            is_pending: true,
            enrolled_ms,
            ..enrolled(seed, instance)
        };
        let one = waits(1, "i-1", 5);
        let all = [
            one.clone(),
            waits(2, "i-1", 6),
            waits(3, "i-1", 7),
            waits(4, "i-2", 8),
        ];
        let (second, third) = (all[1].agent, all[2].agent);
        let write = move |t: &Transaction<'_>| all.iter().try_for_each(|one| put(t, one));
        store.write_blocking(write).unwrap();
        let counts = || {
            let beside = store.read(|c| pending_beside(c, &one)).unwrap();
            (store.read(pending).unwrap(), beside)
        };
        assert_eq!(counts(), (4, 2));
        store.write_blocking(move |t| revoke(t, third, 9)).unwrap();
        assert_eq!(counts(), (3, 1));
        let forgotten = store.write_blocking(|t| forget_pending(t, 7)).unwrap();
        assert_eq!(forgotten, [one.agent, second]);
        assert_eq!(counts(), (1, 0));
    }
}
