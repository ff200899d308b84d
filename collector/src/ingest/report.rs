//! What an envelope says about its sensor, as `agents` shows it.

use picket_detect::Admitted;
use picket_wire::{Balance, Summary};

use crate::store::agents::{Report, Sensor};

/// Stages whose losses are packets of the host's: capture, decoding, the flow table.
const LOSING_STAGES: [&str; 3] = ["kernel", "decode", "flow"];

/// Reasons of losses kept of a window. Agents have a dozen; chosen by hand.
const LOST_REASONS_MAX: usize = 32;

/// Names of interfaces kept, and stages; a host with a tap for each guest has hundreds of the first.
const NAMES_MAX: usize = 256;

/// What an envelope says about its sensor.
pub(super) fn report(admitted: &Admitted, received_at_ms: u64) -> Report {
    let summary = &admitted.summary;
    let balance = summary.balance().unwrap_or_default();
    let cut = &summary.cut;
    Report {
        agent: admitted.header.agent,
        boot: admitted.header.boot,
        sequence: admitted.header.sequence,
        received_at_ms,
        instance: summary.host.instance.clone(),
        hostname: summary.host.hostname.clone(),
        version: summary.host.agent_version.clone(),
        capture: summary.host.capture.clone(),
        indicators: summary.host.indicators,
        packets_seen: u64::try_from(balance.seen).unwrap_or(u64::MAX),
        packets_lost: u64::try_from(balance.lost_in_all()).unwrap_or(u64::MAX),
        has_gap: summary.gap.is_some(),
        cut: cut
            .conversations
            .saturating_add(cut.questions)
            .saturating_add(cut.hits),
        blocks: summary.blocks.clone(),
        sensor: (!summary.immediate).then(|| sensor(summary, &balance)),
    }
}

/// How the sensor was in a window.
fn sensor(summary: &Summary, balance: &Balance) -> Sensor {
    let counters = || summary.counters.iter();
    let user_space = counters().filter_map(|counter| {
        let stage = counter.reason.strip_suffix("_in_user_space");
        stage.filter(|_| counter.stage == "match")
    });
    let lost = counters().filter(|counter| {
        LOSING_STAGES.contains(&counter.stage.as_str()) && counter.reason.starts_with("lost_")
    });
    let lost = lost.map(|counter| {
        let reason = format!("{}/{}", counter.stage, counter.reason);
        (reason, counter.count)
    });
    let health = summary.health.as_ref();
    let interfaces = health.map_or(&[][..], |health| &health.interfaces);
    let canary = health.and_then(|health| health.canary.as_ref());
    let canary = canary.map_or("none", |canary| canary.failed().unwrap_or("well"));
    let filtered = summary.filtered.unwrap_or_default();
    Sensor {
        interfaces: interfaces
            .iter()
            .take(NAMES_MAX)
            .map(|one| one.name.clone())
            .collect(),
        canary: canary.to_owned(),
        user_space: user_space.take(NAMES_MAX).map(str::to_owned).collect(),
        window_seen: u64::try_from(balance.seen).unwrap_or(u64::MAX),
        window_lost: lost.take(LOST_REASONS_MAX).collect(),
        filtered: filtered.conversations.saturating_add(filtered.questions),
        privacy: summary.privacy.clone(),
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::{Canary, Counter, Filtered, Health, Watched};

    use super::*;

    #[test]
    fn a_window_tells_how_its_sensor_was() {
        let counter = |stage: &str, reason: &str, count| Counter {
            stage: stage.into(),
            reason: reason.into(),
            count,
            bytes: 0,
        };
        let mut summary = Summary {
            counters: vec![
                counter("kernel", "seen", 100),
                counter("kernel", "lost_ring_full", 3),
                counter("flow", "lost_table_full", 2),
                counter("spool", "lost_full", 7),
                counter("match", "names_in_user_space", 1),
            ],
            health: Some(Health {
                interfaces: vec![Watched {
                    index: 2,
                    name: "ens5".into(),
                    attached: "tcx".into(),
                }],
                canary: Some(Canary {
                    sent: 2,
                    counted: 2,
                    hit: 1,
                    copied: 2,
                    ..Canary::default()
                }),
                ..Health::default()
            }),
            filtered: Some(Filtered {
                conversations: 4,
                questions: 1,
                ..Filtered::default()
            }),
            ..Summary::default()
        };
        let tell = |summary: &Summary| sensor(summary, &summary.balance().unwrap());
        let told = tell(&summary);
        assert_eq!(told.interfaces, ["ens5"]);
        assert_eq!((told.canary.as_str(), told.filtered), ("hit", 5));
        assert_eq!(told.user_space, ["names"]);
        assert_eq!((told.window_seen, told.window_lost.len()), (100, 2));
        assert_eq!(told.window_lost["flow/lost_table_full"], 2);
        summary.health = None;
        assert_eq!(tell(&summary).canary, "none");
    }
}
