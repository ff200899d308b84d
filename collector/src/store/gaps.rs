//! Gaps in chains of which nobody is told yet, so that a restart forgets none of them.

use picket_detect::Gap;
use picket_wire::{AgentId, BootId};
use rusqlite::{Connection, Transaction, params};

use crate::registry::Registry;

use super::{signed, unsigned};

/// Puts these in the place of those that were held before.
pub(crate) fn replace(transaction: &Transaction<'_>, held: &[Gap]) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM gap", [])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO gap (agent, boot, before, missing_from, missing, time_ns, received_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for gap in held {
        insert.execute(params![
            gap.agent.0,
            gap.boot.0,
            signed(gap.before),
            signed(gap.from),
            signed(gap.missing),
            signed(gap.time_ns),
            signed(gap.received_at_ms),
        ])?;
    }
    Ok(())
}

/// Those that were held. Of an agent that may not speak any more nothing is missing.
pub(crate) fn held(connection: &Connection, agents: &Registry) -> rusqlite::Result<Vec<Gap>> {
    let mut statement = connection.prepare(
        "SELECT agent, boot, before, missing_from, missing, time_ns, received_at FROM gap",
    )?;
    let rows = statement.query_map([], |row| {
        let agent = AgentId(row.get(0)?);
        let Some(entry) = agents.find(agent).filter(|entry| !entry.known.revoked) else {
            return Ok(None);
        };
        Ok(Some(Gap {
            agent,
            boot: BootId(row.get(1)?),
            before: unsigned(row.get(2)?),
            from: unsigned(row.get(3)?),
            missing: unsigned(row.get(4)?),
            host: entry.known.host(),
            time_ns: unsigned(row.get(5)?),
            received_at_ms: unsigned(row.get(6)?),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
