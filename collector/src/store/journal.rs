//! The journal: every accepted envelope as it came, in the order of acceptance, and the links of the
//! chains that admission goes on from.
//!
//! The analysis reads behind its cursor, which moves in the same transaction that stores what came
//! of the envelopes; so a crash between neither loses nor doubles.

use axum::body::Bytes;
use picket_detect::limits::LINKS_MAX;
use picket_detect::{Link, Standing};
use picket_wire::{AgentId, BootId, Digest};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{signed, unsigned};

/// Rows deleted in one job, so that a clean-up never holds the writer for long.
const PRUNED_ROWS_MAX: i64 = 2_000;

/// Envelopes looked at again after a restart: a hundred hosts' of the hour that the analysis
/// remembers, and a few seconds' work.
const REMEMBERED_MAX: i64 = 40_000;

/// Links kept of one run: those admission goes on from, and a few more for numbers that never came.
const LINKS_KEPT: u64 = LINKS_MAX as u64 + 512;

/// An accepted envelope to be written down.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its place in its chain.
    pub(crate) link: Link,
    /// How it stood there when it came.
    pub(crate) standing: Standing,
    /// When it came.
    pub(crate) received_at_ms: u64,
    /// The envelope.
    pub(crate) envelope: Bytes,
}

/// A row of the journal.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place; the next is larger, not always by one.
    pub(crate) id: u64,
    /// Who spoke.
    pub(crate) agent: AgentId,
    /// How it stood in its chain when it came.
    pub(crate) standing: Standing,
    /// When it came.
    pub(crate) received_at_ms: u64,
    /// The envelope.
    pub(crate) envelope: Vec<u8>,
    /// Its digest when it was admitted; none in a journal written before digests were kept.
    pub(crate) digest: Option<Digest>,
}

/// Writes an envelope down and its chain on.
pub(crate) fn append(transaction: &Transaction<'_>, arrival: &Arrival) -> rusqlite::Result<()> {
    let (standing, from, missing) = words(arrival.standing);
    let link = &arrival.link;
    transaction
        .prepare_cached(
            "INSERT INTO journal
                (agent, received_at, standing, missing, missing_from, envelope, digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            link.agent.0,
            signed(arrival.received_at_ms),
            standing,
            signed(missing),
            signed(from),
            &arrival.envelope[..],
            link.digest.0,
        ])?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO link (agent, boot, sequence, digest, previous, signed_at, ahead)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            link.agent.0,
            link.boot.0,
            signed(link.sequence),
            link.digest.0,
            link.previous.0,
            signed(link.signed_at_ms),
            link.ahead,
        ])?;
    if let Some(old) = link.sequence.checked_sub(LINKS_KEPT) {
        transaction
            .prepare_cached("DELETE FROM link WHERE agent = ?1 AND boot = ?2 AND sequence = ?3")?
            .execute(params![link.agent.0, link.boot.0, signed(old)])?;
    }
    Ok(())
}

/// How a standing is written: its word, from where envelopes are missing, and how many.
fn words(standing: Standing) -> (&'static str, u64, u64) {
    match standing {
        Standing::Next => ("next", 0, 0),
        Standing::First => ("first", 0, 0),
        Standing::Ahead => ("ahead", 0, 0),
        Standing::Gap { from, missing } => ("gap", from, missing),
        Standing::Late { missing } => ("late", 0, missing),
    }
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let text: String = row.get("standing")?;
    let missing = unsigned(row.get("missing")?);
    match text.as_str() {
        "next" => Ok(Standing::Next),
        "first" => Ok(Standing::First),
        "ahead" => Ok(Standing::Ahead),
        "gap" => Ok(Standing::Gap {
            from: unsigned(row.get("missing_from")?),
            missing,
        }),
        "late" => Ok(Standing::Late { missing }),
        other => Err(rusqlite::Error::FromSqlConversionFailure(
            row.as_ref().column_index("standing")?,
            Type::Text,
            format!("{other:?} is no standing").into(),
        )),
    }
}

/// Every link, runs that were signed long ago first, so that admission forgets those it would have
/// forgotten.
pub(crate) fn links(connection: &Connection) -> rusqlite::Result<Vec<Link>> {
    let mut statement = connection.prepare(
        "SELECT agent, boot, sequence, digest, previous, signed_at, ahead,
            max(signed_at) OVER (PARTITION BY agent, boot) AS last
         FROM link ORDER BY last, agent, boot, sequence",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Link {
            agent: AgentId(row.get(0)?),
            boot: BootId(row.get(1)?),
            sequence: unsigned(row.get(2)?),
            digest: Digest(row.get(3)?),
            previous: Digest(row.get(4)?),
            signed_at_ms: unsigned(row.get(5)?),
            ahead: row.get(6)?,
        })
    })?;
    rows.collect()
}

/// The next envelopes behind the analysis, at most `entries_max` and about `bytes_max`.
pub(crate) fn unanalysed(
    connection: &Connection,
    entries_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, agent, received_at, standing, missing, missing_from, envelope, digest
         FROM journal
         WHERE id > (SELECT journal_id FROM cursor WHERE reader = 'analysis')
         ORDER BY id LIMIT ?1",
    )?;
    let mut rows = statement.query([entries_max as i64])?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(row) = rows.next()?
    {
        let entry = entry(row)?;
        bytes += entry.envelope.len();
        entries.push(entry);
    }
    Ok(entries)
}

/// The next envelopes behind `after` that came at `since_ms` or later and are analysed, oldest first,
/// at most `entries_max`. Only the last [`REMEMBERED_MAX`] are looked at.
pub(crate) fn analysed(
    connection: &Connection,
    after: u64,
    since_ms: u64,
    entries_max: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, agent, received_at, standing, missing, missing_from, envelope, digest
         FROM journal
         WHERE id > max(?1, (SELECT journal_id FROM cursor WHERE reader = 'analysis') - ?2)
           AND id <= (SELECT journal_id FROM cursor WHERE reader = 'analysis')
           AND received_at >= ?3
         ORDER BY id LIMIT ?4",
    )?;
    let rows = statement.query_map(
        params![
            signed(after),
            REMEMBERED_MAX,
            signed(since_ms),
            entries_max as i64
        ],
        entry,
    )?;
    rows.collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: unsigned(row.get("id")?),
        agent: AgentId(row.get("agent")?),
        standing: standing(row)?,
        received_at_ms: unsigned(row.get("received_at")?),
        envelope: row.get("envelope")?,
        digest: row.get::<_, Option<_>>("digest")?.map(Digest),
    })
}

/// Moves the analysis' cursor to `id`.
pub(crate) fn advance(transaction: &Transaction<'_>, id: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE cursor SET journal_id = ?1 WHERE reader = 'analysis'")?
        .execute([signed(id)])?;
    Ok(())
}

/// Envelopes that wait for the analysis, and when the oldest of them came.
pub(crate) fn depth(connection: &Connection) -> rusqlite::Result<(u64, Option<u64>)> {
    let waiting: i64 = connection.query_row(
        "SELECT count(*) FROM journal
         WHERE id > (SELECT journal_id FROM cursor WHERE reader = 'analysis')",
        [],
        |row| row.get(0),
    )?;
    let oldest: Option<i64> = connection
        .query_row(
            "SELECT received_at FROM journal
             WHERE id > (SELECT journal_id FROM cursor WHERE reader = 'analysis')
             ORDER BY id LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok((unsigned(waiting), oldest.map(unsigned)))
}

/// Deletes analysed envelopes that came before `before_ms`; says how many.
pub(crate) fn prune(transaction: &Transaction<'_>, before_ms: u64) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM journal WHERE id IN (
            SELECT id FROM journal
            WHERE received_at < ?1
              AND id <= (SELECT journal_id FROM cursor WHERE reader = 'analysis')
            ORDER BY id LIMIT ?2)",
        params![signed(before_ms), PRUNED_ROWS_MAX],
    )
}

/// Deletes the chains of runs that signed nothing since `before_ms`: what they signed is refused for
/// its age. Says how many links.
pub(crate) fn prune_links(
    transaction: &Transaction<'_>,
    before_ms: u64,
) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM link WHERE (agent, boot) IN (
            SELECT agent, boot FROM link GROUP BY agent, boot HAVING max(signed_at) < ?1)",
        [signed(before_ms)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn arrival(boot: u8, sequence: u64, at_ms: u64, standing: Standing) -> Arrival {
        Arrival {
            link: Link {
                agent: AgentId([1; 16]),
                boot: BootId([boot; 16]),
                sequence,
                digest: Digest([sequence as u8; 32]),
                previous: Digest::default(),
                signed_at_ms: at_ms,
                ahead: standing == Standing::Ahead,
            },
            standing,
            received_at_ms: at_ms,
            envelope: Bytes::from(vec![sequence as u8; 10]),
        }
    }

    fn opened() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn the_cursor_divides_what_is_analysed_from_what_is_not() {
        let (_folder, store) = opened();
        store
            .write_blocking(|t| {
                append(t, &arrival(1, 0, 100, Standing::First))?;
                append(
                    t,
                    &arrival(
                        1,
                        4,
                        200,
                        Standing::Gap {
                            from: 1,
                            missing: 3,
                        },
                    ),
                )?;
                append(t, &arrival(1, 5, 300, Standing::Next))
            })
            .unwrap();
        assert_eq!(store.read(depth).unwrap(), (3, Some(100)));
        // A bound in bytes is reached by the second of ten bytes each.
        let entries = store.read(|c| unanalysed(c, 9, 11)).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[1].standing,
            Standing::Gap {
                from: 1,
                missing: 3
            }
        );
        let last = entries[1].id;
        store.write_blocking(move |t| advance(t, last)).unwrap();
        assert_eq!(store.read(depth).unwrap(), (1, Some(300)));
        let again = |after, since_ms| {
            let entries = store.read(|c| analysed(c, after, since_ms, 9)).unwrap();
            entries.iter().map(|entry| entry.id).collect::<Vec<_>>()
        };
        assert_eq!(again(0, 0), [last - 1, last]);
        assert_eq!(again(last - 1, 0), [last]);
        assert_eq!(again(0, 200), [last]);
        // Age alone does not delete: the third is not analysed.
        assert_eq!(store.write_blocking(|t| prune(t, 1_000)).unwrap(), 2);
        assert_eq!(store.read(|c| unanalysed(c, 9, 99)).unwrap().len(), 1);
    }

    #[test]
    fn links_come_back_run_by_run_and_old_runs_go() {
        let (_folder, store) = opened();
        store
            .write_blocking(|t| {
                append(t, &arrival(2, 0, 500, Standing::First))?;
                append(t, &arrival(1, 0, 100, Standing::First))?;
                append(t, &arrival(1, 1, 200, Standing::Next))
            })
            .unwrap();
        let runs = |store: &Store| {
            let links = store.read(links).unwrap();
            links
                .iter()
                .map(|link| (link.boot.0[0], link.sequence))
                .collect::<Vec<_>>()
        };
        assert_eq!(runs(&store), [(1, 0), (1, 1), (2, 0)]);
        assert_eq!(store.write_blocking(|t| prune_links(t, 200)).unwrap(), 0);
        assert_eq!(store.write_blocking(|t| prune_links(t, 201)).unwrap(), 2);
        assert_eq!(runs(&store), [(2, 0)]);
    }

    #[test]
    fn a_run_keeps_its_latest_links() {
        let (_folder, store) = opened();
        let last = LINKS_KEPT + 2;
        store
            .write_blocking(move |t| {
                (0..=last).try_for_each(|n| append(t, &arrival(1, n, n, Standing::Next)))
            })
            .unwrap();
        let links = store.read(links).unwrap();
        assert_eq!(links.len() as u64, LINKS_KEPT);
        assert_eq!(links.first().unwrap().sequence, 3);
    }
}
