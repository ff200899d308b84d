//! What each agent last said about itself.

use picket_wire::{AgentId, BootId};
use rusqlite::{Connection, Transaction, params};

use super::{signed, unsigned};

/// What one envelope adds to what is known of its agent.
#[derive(Debug)]
pub(crate) struct Report {
    /// Who.
    pub(crate) agent: AgentId,
    /// In which run.
    pub(crate) boot: BootId,
    /// Number of the envelope.
    pub(crate) sequence: u64,
    /// When it came.
    pub(crate) received_at_ms: u64,
    /// What it calls itself.
    pub(crate) instance: String,
    /// The host's name.
    pub(crate) hostname: Option<String>,
    /// Version of the agent.
    pub(crate) version: String,
    /// Rung of the capture ladder in use.
    pub(crate) capture: String,
    /// Version of its indicator set.
    pub(crate) indicators: u64,
    /// Packets seen since the envelope before.
    pub(crate) packets_seen: u64,
    /// Packets counted as lost since then.
    pub(crate) packets_lost: u64,
    /// Whether it tells of a time in which it was blind.
    pub(crate) has_gap: bool,
    /// Conversations, questions and hits that did not fit.
    pub(crate) cut: u64,
}

/// One agent as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentRow {
    /// Who.
    pub(crate) agent: AgentId,
    /// Its last run.
    pub(crate) boot: BootId,
    /// Number of its last envelope.
    pub(crate) sequence: u64,
    /// When that came.
    pub(crate) last_seen_ms: u64,
    /// Envelopes accepted in all.
    pub(crate) envelopes: u64,
    /// What it calls itself.
    pub(crate) instance: String,
    /// The host's name.
    pub(crate) hostname: Option<String>,
    /// Version of the agent.
    pub(crate) version: String,
    /// Rung of the capture ladder in use.
    pub(crate) capture: String,
    /// Version of its indicator set.
    pub(crate) indicators: u64,
    /// Packets seen in all.
    pub(crate) packets_seen: u64,
    /// Packets counted as lost in all.
    pub(crate) packets_lost: u64,
    /// Times in which it was blind, as told by itself.
    pub(crate) gaps: u64,
    /// What did not fit into its summaries, in all.
    pub(crate) cut: u64,
}

/// Adds a report to what is known.
pub(crate) fn note(transaction: &Transaction<'_>, report: &Report) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO agent (agent, boot, sequence, last_seen, envelopes, instance, hostname,
                version, capture, indicators, packets_seen, packets_lost, gaps, cut)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (agent) DO UPDATE SET
                boot = excluded.boot, sequence = excluded.sequence,
                last_seen = excluded.last_seen, envelopes = envelopes + 1,
                instance = excluded.instance, hostname = excluded.hostname,
                version = excluded.version, capture = excluded.capture,
                indicators = excluded.indicators,
                packets_seen = packets_seen + excluded.packets_seen,
                packets_lost = packets_lost + excluded.packets_lost,
                gaps = gaps + excluded.gaps, cut = cut + excluded.cut",
        )?
        .execute(params![
            report.agent.0,
            report.boot.0,
            signed(report.sequence),
            signed(report.received_at_ms),
            report.instance,
            report.hostname,
            report.version,
            report.capture,
            signed(report.indicators),
            summable(report.packets_seen),
            summable(report.packets_lost),
            i64::from(report.has_gap),
            summable(report.cut),
        ])?;
    Ok(())
}

/// Bounds what an agent claims, so that sums of it stay integers: SQLite turns an integer sum that
/// overflows into a floating-point number.
fn summable(count: u64) -> i64 {
    count.min(1 << 40).cast_signed()
}

/// Every agent that was ever heard, by id.
pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<AgentRow>> {
    let mut statement = connection.prepare(
        "SELECT agent, boot, sequence, last_seen, envelopes, instance, hostname, version, capture,
            indicators, packets_seen, packets_lost, gaps, cut
         FROM agent ORDER BY agent",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(AgentRow {
            agent: AgentId(row.get(0)?),
            boot: BootId(row.get(1)?),
            sequence: unsigned(row.get(2)?),
            last_seen_ms: unsigned(row.get(3)?),
            envelopes: unsigned(row.get(4)?),
            instance: row.get(5)?,
            hostname: row.get(6)?,
            version: row.get(7)?,
            capture: row.get(8)?,
            indicators: unsigned(row.get(9)?),
            packets_seen: unsigned(row.get(10)?),
            packets_lost: unsigned(row.get(11)?),
            gaps: unsigned(row.get(12)?),
            cut: unsigned(row.get(13)?),
        })
    })?;
    rows.collect()
}
