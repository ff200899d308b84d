//! What is still to be told, and to whom: one row per channel and finding.
//!
//! A newer state of a finding replaces one that was not delivered yet, so an unreachable receiver
//! costs one row per finding at most, and gets the latest state when it is back.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{signed, unsigned};

/// A message to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    /// The finding it tells of.
    pub(crate) finding: String,
    /// The finding's revision it tells of.
    pub(crate) revision: u64,
    /// Deliveries tried before.
    pub(crate) attempts: u32,
    /// The message.
    pub(crate) body: String,
}

/// How a failed delivery goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Again at this time.
    At(u64),
    /// Not by itself: it goes to the dead letters.
    Never,
}

/// Puts a message out for `channel`, in place of an older one about the same finding.
pub(crate) fn put(
    transaction: &Transaction<'_>,
    channel: &str,
    letter: &Letter,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (channel, finding, revision, created_at, attempts, next_try,
                is_dead, body)
             VALUES (?1, ?2, ?3, ?4, 0, ?4, 0, ?5)
             ON CONFLICT (channel, finding) DO UPDATE SET
                revision = excluded.revision, created_at = excluded.created_at, attempts = 0,
                next_try = min(next_try, excluded.next_try), is_dead = 0, last_error = NULL,
                body = excluded.body",
        )?
        .execute(params![
            channel,
            letter.finding,
            signed(letter.revision),
            signed(now_ms),
            letter.body,
        ])?;
    Ok(())
}

/// The message of `channel` that is due first, if one is due at `now_ms`; else the time at which
/// the next one will be.
pub(crate) fn next(
    connection: &Connection,
    channel: &str,
    now_ms: u64,
) -> rusqlite::Result<Result<Letter, Option<u64>>> {
    let first = connection
        .prepare_cached(
            "SELECT next_try, finding, revision, attempts, body FROM outbox
             WHERE channel = ?1 AND is_dead = 0 ORDER BY next_try, finding LIMIT 1",
        )?
        .query_row([channel], |row| {
            Ok((
                unsigned(row.get(0)?),
                Letter {
                    finding: row.get(1)?,
                    revision: unsigned(row.get(2)?),
                    attempts: row.get(3)?,
                    body: row.get(4)?,
                },
            ))
        })
        .optional()?;
    Ok(match first {
        Some((due_ms, letter)) if due_ms <= now_ms => Ok(letter),
        Some((due_ms, _)) => Err(Some(due_ms)),
        None => Err(None),
    })
}

/// Takes a delivered message out, unless a newer one stands in its place.
pub(crate) fn delivered(
    transaction: &Transaction<'_>,
    channel: &str,
    letter: &Letter,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outbox WHERE channel = ?1 AND finding = ?2 AND revision = ?3")?
        .execute(params![channel, letter.finding, signed(letter.revision)])?;
    Ok(())
}

/// Notes a failed delivery, unless a newer message stands in its place.
pub(crate) fn failed(
    transaction: &Transaction<'_>,
    channel: &str,
    letter: &Letter,
    retry: Retry,
    error: &str,
) -> rusqlite::Result<()> {
    let (is_dead, at_ms) = match retry {
        Retry::At(at_ms) => (false, at_ms),
        Retry::Never => (true, 0),
    };
    transaction
        .prepare_cached(
            "UPDATE outbox SET attempts = attempts + 1, is_dead = ?4, next_try = ?5, last_error = ?6
             WHERE channel = ?1 AND finding = ?2 AND revision = ?3",
        )?
        .execute(params![
            channel,
            letter.finding,
            signed(letter.revision),
            is_dead,
            signed(at_ms),
            error,
        ])?;
    Ok(())
}

/// Lets dead letters from before `before_ms` go; says how many.
pub(crate) fn prune(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM outbox WHERE is_dead AND created_at < ?1",
        [signed(before_ms)],
    )
}

/// Messages that wait and messages that are dead, over all channels.
pub(crate) fn depth(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection.query_row(
        "SELECT coalesce(sum(is_dead = 0), 0), coalesce(sum(is_dead), 0) FROM outbox",
        [],
        |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn letter(revision: u64, body: &str) -> Letter {
        Letter {
            finding: "f".into(),
            revision,
            attempts: 0,
            body: body.into(),
        }
    }

    #[test]
    fn a_newer_state_replaces_an_undelivered_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let due = |now_ms| store.read(move |c| next(c, "hook", now_ms)).unwrap();
        store
            .write_blocking(|t| put(t, "hook", &letter(1, "one"), 10))
            .unwrap();
        assert_eq!(due(9), Err(Some(10)));
        let first = due(10).unwrap();
        assert_eq!(first.body, "one");
        // While it travels, the finding moves on: neither success nor failure touches the new one.
        let old = first.clone();
        store
            .write_blocking(move |t| {
                put(t, "hook", &letter(2, "two"), 20)?;
                delivered(t, "hook", &old)?;
                failed(t, "hook", &old, Retry::Never, "late")
            })
            .unwrap();
        assert_eq!(due(20).unwrap().body, "two");
        assert_eq!(store.read(depth).unwrap(), (1, 0));
    }

    #[test]
    fn a_dead_letter_waits_and_a_newer_state_revives_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store
            .write_blocking(|t| {
                put(t, "hook", &letter(1, "one"), 10)?;
                failed(t, "hook", &letter(1, "one"), Retry::At(50), "refused")?;
                failed(t, "hook", &letter(1, "one"), Retry::Never, "refused")
            })
            .unwrap();
        assert_eq!(store.read(|c| next(c, "hook", 99)).unwrap(), Err(None));
        assert_eq!(store.write_blocking(|t| prune(t, 10)).unwrap(), 0);
        assert_eq!(store.read(depth).unwrap(), (0, 1));
        store
            .write_blocking(|t| put(t, "hook", &letter(2, "two"), 60))
            .unwrap();
        let revived = store.read(|c| next(c, "hook", 99)).unwrap().unwrap();
        assert_eq!((revived.body.as_str(), revived.attempts), ("two", 0));
        // What waits does not go, however old.
        assert_eq!(store.write_blocking(|t| prune(t, 99)).unwrap(), 0);
        assert_eq!(store.read(depth).unwrap(), (1, 0));
    }
}
