//! What each agent last said about itself.

use std::collections::BTreeMap;

use picket_wire::{AgentId, BlockEvent, BootId};
use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{signed, unsigned};

/// How an agent's sensor was in a window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sensor {
    /// Interfaces it watched.
    pub(crate) interfaces: Vec<String>,
    /// Whether the kernel side proved that it reports: `well`, what failed, or `none` where there is
    /// none to prove.
    pub(crate) canary: String,
    /// Stages of matching that did not run in the kernel.
    pub(crate) user_space: Vec<String>,
    /// Packets seen in the window.
    pub(crate) window_seen: u64,
    /// Packets lost in it, by stage and reason.
    pub(crate) window_lost: BTreeMap<String, u64>,
    /// Conversations and questions that the host's operator had left out of it.
    pub(crate) filtered: u64,
    /// What of names and paths is hidden, in words.
    pub(crate) privacy: Option<String>,
}

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
    /// What became of orders to block there.
    pub(crate) blocks: Vec<BlockEvent>,
    /// How its sensor was; `None` from an envelope that is no window's.
    pub(crate) sensor: Option<Sensor>,
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
    /// How its sensor was in the last window; `None` before one came.
    pub(crate) sensor: Option<Sensor>,
}

/// Adds a report to what is known.
pub(crate) fn note(transaction: &Transaction<'_>, report: &Report) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO agent (agent, boot, sequence, last_seen, envelopes, instance, hostname,
                version, capture, indicators, packets_seen, packets_lost, gaps, cut, sensor)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (agent) DO UPDATE SET
                boot = excluded.boot, sequence = excluded.sequence,
                last_seen = excluded.last_seen, envelopes = envelopes + 1,
                instance = excluded.instance, hostname = excluded.hostname,
                version = excluded.version, capture = excluded.capture,
                indicators = excluded.indicators,
                packets_seen = packets_seen + excluded.packets_seen,
                packets_lost = packets_lost + excluded.packets_lost,
                gaps = gaps + excluded.gaps, cut = cut + excluded.cut,
                sensor = COALESCE(excluded.sensor, sensor)",
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
            report.sensor.as_ref().map(as_text),
        ])?;
    Ok(())
}

/// How it is kept. Its parts all have a form in JSON.
fn as_text(sensor: &Sensor) -> String {
    serde_json::to_string(sensor).unwrap_or_default()
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
            indicators, packets_seen, packets_lost, gaps, cut, sensor
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
            sensor: row
                .get::<_, Option<String>>(14)?
                .and_then(|text| serde_json::from_str(&text).ok()),
        })
    })?;
    rows.collect()
}
