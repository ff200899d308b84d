//! Orders to block, and what each agent did with them.

use picket_wire::{AgentId, BlockAct, BlockEvent};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{signed, unsigned};

/// Bytes of a reason that are kept of an agent's.
const WHY_BYTES_MAX: usize = 256;

/// An order as an operator gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockOrder {
    /// Its number: the version from which on it is in bundles.
    pub(crate) id: u64,
    /// What is blocked, as indicators are written: address, net or address:port.
    pub(crate) value: String,
    /// The account whose hosts it is for; `None` for all.
    pub(crate) account: Option<String>,
    /// The host of that account; `None` for all of them.
    pub(crate) instance: Option<String>,
    /// Why, in the operator's words.
    pub(crate) reason: String,
    /// Who gave it.
    pub(crate) who: String,
    /// When, milliseconds since the epoch.
    pub(crate) added_ms: u64,
    /// When it ends by itself.
    pub(crate) expires_ms: u64,
    /// When it was taken back, and by whom.
    pub(crate) ended: Option<(u64, String)>,
}

impl BlockOrder {
    /// Whether it is in force.
    pub(crate) fn holds(&self, now_ms: u64) -> bool {
        self.ended.is_none() && self.expires_ms > now_ms
    }
}

/// What an agent did with an order, as it last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockOutcome {
    /// The order; 0 for a bundle that it refused as a whole.
    pub(crate) order: u64,
    /// The agent.
    pub(crate) agent: AgentId,
    /// `applied`, `refused`, `lifted` or `expired`.
    pub(crate) act: String,
    /// Whether blocking is off there, so that it was only told.
    pub(crate) is_dry_run: bool,
    /// Why it was refused.
    pub(crate) why: Option<String>,
    /// When, milliseconds since the epoch.
    pub(crate) at_ms: u64,
    /// Flows of which packets were dropped, or would have been.
    pub(crate) flows: u64,
    /// The last of them and when it began to be.
    pub(crate) last: Option<(String, u64)>,
}

/// Keeps an order, and the version that has it. The same of the same hosts ends.
pub(crate) fn add(transaction: &Transaction<'_>, order: &BlockOrder) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE block_order SET ended_at = ?4, ended_by = ?5
         WHERE value = ?1 AND account IS ?2 AND instance IS ?3
            AND ended_at IS NULL AND expires_at > ?4",
        params![
            order.value,
            order.account,
            order.instance,
            signed(order.added_ms),
            order.who
        ],
    )?;
    transaction.execute(
        "INSERT INTO block_order
            (id, value, account, instance, reason, who, added_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            signed(order.id),
            order.value,
            order.account,
            order.instance,
            order.reason,
            order.who,
            signed(order.added_ms),
            signed(order.expires_ms),
        ],
    )?;
    publish(transaction, order.id, order.added_ms)
}

/// Takes orders back.
pub(crate) fn end(
    transaction: &Transaction<'_>,
    ids: &[u64],
    who: &str,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "UPDATE block_order SET ended_at = ?2, ended_by = ?3 WHERE id = ?1 AND ended_at IS NULL",
    )?;
    for id in ids {
        statement.execute(params![signed(*id), signed(now_ms), who])?;
    }
    Ok(())
}

/// Forgets what was over by `before_ms`, and of what is over at `now_ms` all but the last `kept`.
pub(crate) fn forget(
    transaction: &Transaction<'_>,
    now_ms: u64,
    before_ms: u64,
    kept: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM block_order WHERE min(expires_at, ifnull(ended_at, expires_at)) <= ?1",
        [signed(before_ms)],
    )?;
    transaction.execute(
        "DELETE FROM block_order WHERE id IN (
            SELECT id FROM block_order WHERE ended_at IS NOT NULL OR expires_at <= ?1
            ORDER BY id DESC LIMIT -1 OFFSET ?2)",
        [signed(now_ms), signed(kept)],
    )?;
    transaction.execute(
        "DELETE FROM block_outcome
         WHERE order_id <> 0 AND order_id NOT IN (SELECT id FROM block_order)",
        [],
    )?;
    Ok(())
}

/// Every order that is remembered, the oldest first.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<BlockOrder>> {
    let mut statement = connection.prepare(
        "SELECT id, value, account, instance, reason, who, added_at, expires_at, ended_at, ended_by
         FROM block_order ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        let ended: Option<i64> = row.get(8)?;
        let by: Option<String> = row.get(9)?;
        Ok(BlockOrder {
            id: unsigned(row.get(0)?),
            value: row.get(1)?,
            account: row.get(2)?,
            instance: row.get(3)?,
            reason: row.get(4)?,
            who: row.get(5)?,
            added_ms: unsigned(row.get(6)?),
            expires_ms: unsigned(row.get(7)?),
            ended: ended.map(|at| (unsigned(at), by.unwrap_or_default())),
        })
    })?;
    rows.collect()
}

/// Remembers the version that is about to be given out.
pub(crate) fn publish(
    transaction: &Transaction<'_>,
    version: u64,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO published (what, version, content, issued_at)
         VALUES ('orders', ?1, 0, ?2)",
        [signed(version), signed(now_ms)],
    )?;
    Ok(())
}

/// The highest version that was given out; 0 for none.
pub(crate) fn published(connection: &Connection) -> rusqlite::Result<u64> {
    let version = connection
        .query_row(
            "SELECT version FROM published WHERE what = 'orders'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(version.map_or(0, unsigned))
}

/// Notes what an agent says of orders. What it says of orders that were never given is not kept.
pub(crate) fn note(
    transaction: &Transaction<'_>,
    agent: AgentId,
    events: &[BlockEvent],
) -> rusqlite::Result<()> {
    for event in events {
        let at_ms = signed(event.time_ns / 1_000_000);
        let order = signed(event.order);
        let is_dry_run = event.is_dry_run();
        if event.act == BlockAct::Dropped {
            transaction
                .prepare_cached(
                    "INSERT INTO block_outcome
                        (order_id, agent, act, is_dry_run, at, flows, last_flow, last_at)
                     SELECT ?1, ?2, 'applied', ?3, ?4, 1, ?5, ?4
                     WHERE EXISTS (SELECT 1 FROM block_order WHERE id = ?1)
                     ON CONFLICT (order_id, agent) DO UPDATE SET
                        flows = min(flows + 1, 1 << 40), last_flow = excluded.last_flow,
                        last_at = excluded.last_at, is_dry_run = excluded.is_dry_run",
                )?
                .execute(params![order, agent.0, is_dry_run, at_ms, flow(event)])?;
            continue;
        }
        if matches!(event.act, BlockAct::Applied | BlockAct::Lifted) {
            // It has taken a bundle since it refused one.
            transaction
                .prepare_cached("DELETE FROM block_outcome WHERE order_id = 0 AND agent = ?1")?
                .execute([agent.0])?;
        }
        let why = event.why.as_deref().filter(|_| is_refused(event));
        let why = why.map(|why| &why[..why.floor_char_boundary(WHY_BYTES_MAX)]);
        transaction
            .prepare_cached(
                "INSERT INTO block_outcome (order_id, agent, act, is_dry_run, why, at, flows)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, 0
                 WHERE ?1 = 0 OR EXISTS (SELECT 1 FROM block_order WHERE id = ?1)
                 ON CONFLICT (order_id, agent) DO UPDATE SET
                    act = excluded.act, is_dry_run = excluded.is_dry_run,
                    why = excluded.why, at = excluded.at",
            )?
            .execute(params![
                order,
                agent.0,
                word(event.act),
                is_dry_run,
                why,
                at_ms
            ])?;
    }
    Ok(())
}

fn is_refused(event: &BlockEvent) -> bool {
    event.act == BlockAct::Refused
}

fn word(act: BlockAct) -> &'static str {
    match act {
        BlockAct::Applied | BlockAct::Dropped => "applied",
        BlockAct::Refused => "refused",
        BlockAct::Lifted => "lifted",
        BlockAct::Expired => "expired",
    }
}

/// A flow in words.
fn flow(event: &BlockEvent) -> Option<String> {
    let flow = event.flow.as_ref()?;
    let (from, to) = ((flow.src, flow.src_port), (flow.dst, flow.dst_port));
    let [from, to] = [from, to].map(|end| std::net::SocketAddr::from(end).to_string());
    Some(format!("{from} -> {to} protocol {}", flow.protocol))
}

/// What agents said, of every order that is remembered and of bundles.
pub(crate) fn outcomes(connection: &Connection) -> rusqlite::Result<Vec<BlockOutcome>> {
    let mut statement = connection.prepare(
        "SELECT order_id, agent, act, is_dry_run, why, at, flows, last_flow, last_at
         FROM block_outcome ORDER BY order_id, agent",
    )?;
    let rows = statement.query_map([], outcome)?;
    rows.collect()
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<BlockOutcome> {
    let (flow, at): (Option<String>, Option<i64>) = (row.get(7)?, row.get(8)?);
    Ok(BlockOutcome {
        order: unsigned(row.get(0)?),
        agent: AgentId(row.get(1)?),
        act: row.get(2)?,
        is_dry_run: row.get(3)?,
        why: row.get(4)?,
        at_ms: unsigned(row.get(5)?),
        flows: unsigned(row.get(6)?),
        last: flow.zip(at.map(unsigned)),
    })
}
