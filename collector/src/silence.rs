//! Notices agents that have gone silent: each was heard before, is still expected to speak, and says
//! nothing for longer than the settings allow. One remark per silence.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use picket_detect::{SensorEvent, SensorWord};
use picket_wire::AgentId;

use crate::analysis::Inbox;
use crate::clock;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::stop::Stop;
use crate::store::Store;
use crate::store::agents::{self, AgentRow};

/// Pause between two looks: a window of an agent.
const PAUSE: Duration = Duration::from_secs(10);

/// Looks again and again until told to stop. With `silence_s` 0 it only waits.
pub(crate) async fn watch(
    silence_s: u64,
    store: Store,
    known: Arc<Registry>,
    inbox: Inbox,
    metrics: Arc<Metrics>,
    mut stop: Stop,
) {
    let mut told = HashSet::new();
    // While the collector was down nobody could be heard: silence counts from its start.
    let started_ms = clock::now_ms();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.told() => return,
        }
        if silence_s == 0 {
            continue;
        }
        match store.read_async(agents::list).await {
            Ok(rows) => {
                let now_ms = clock::now_ms();
                let since_ms = now_ms.saturating_sub(silence_s.saturating_mul(1_000));
                if started_ms > since_ms {
                    continue;
                }
                for event in silent(&rows, &known, since_ms, &mut told) {
                    tracing::warn!(agent_id = %event.agent, "agent silent");
                    if !inbox.sensor(event) {
                        metrics.sensor_events_dropped.add(1);
                    }
                }
            }
            Err(error) => tracing::error!(%error, "agents not readable"),
        }
    }
}

/// Remarks on agents last heard before `since_ms` of which that was not said yet.
fn silent(
    rows: &[AgentRow],
    known: &Registry,
    since_ms: u64,
    told: &mut HashSet<AgentId>,
) -> Vec<SensorEvent> {
    let mut events = Vec::new();
    for row in rows {
        let Some(agent) = known.find(row.agent).filter(|agent| agent.is_expected()) else {
            told.remove(&row.agent);
            continue;
        };
        if row.last_seen_ms >= since_ms {
            told.remove(&row.agent);
        } else if told.insert(row.agent) {
            let last_ns = row.last_seen_ms.saturating_mul(1_000_000);
            events.push(SensorEvent {
                agent: row.agent,
                host: agent.known.host(),
                time_ns: last_ns,
                word: SensorWord::Silent { since_ns: last_ns },
            });
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use picket_wire::{BootId, PublicKey};

    use crate::config::Agent;

    use super::*;

    #[test]
    fn one_remark_per_silence() {
        let key = PublicKey([1; 32]);
        let id = AgentId::of_key(&key.0);
        let agent = Agent {
            id,
            public_key: key,
            account: "111122223333".into(),
            region: "r".into(),
            instance: "i-1".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let known = Registry::open(&[agent], store).unwrap();
        let row = |agent: AgentId, last_seen_ms| AgentRow {
            agent,
            boot: BootId::default(),
            sequence: 0,
            last_seen_ms,
            envelopes: 1,
            instance: "i-1".into(),
            hostname: None,
            version: "0".into(),
            capture: "tcx".into(),
            indicators: 0,
            packets_seen: 0,
            packets_lost: 0,
            gaps: 0,
            cut: 0,
            sensor: None,
        };
        let mut told = HashSet::new();
        let mut look =
            |rows: &[AgentRow], since_ms| silent(rows, &known, since_ms, &mut told).len();
        assert_eq!(look(&[row(id, 100)], 100), 0);
        assert_eq!(look(&[row(id, 100)], 101), 1);
        assert_eq!(look(&[row(id, 100)], 150), 0);
        assert_eq!(look(&[row(id, 200)], 150), 0);
        assert_eq!(look(&[row(id, 200)], 201), 1);
        assert_eq!(look(&[row(AgentId([2; 16]), 0)], 201), 0);
    }
}
