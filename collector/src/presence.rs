//! Notices agents that have gone silent or whose clock is off, and that they are back.
//!
//! Silent is who was heard before, is still expected to speak, and says nothing for longer than the
//! settings allow. A clock is off whose envelopes are refused for when they were signed; it is right
//! again when an envelope came after the last refusal and none was refused for a while: what was
//! signed wrongly is tried again until it is taken or dropped. One remark each, and one when it is
//! over, also if the collector was restarted in between.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use picket_detect::{SENSOR_CLOCK, SENSOR_SILENT, SensorEvent, SensorWord};
use picket_wire::AgentId;

use crate::analysis::Inbox;
use crate::clock;
use crate::ingest::gate::{Misdated, Refusals};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::stop::Stop;
use crate::store::Store;
use crate::store::agents::{self, AgentRow};
use crate::store::findings;

/// Pause between two looks: a window of an agent.
const PAUSE: Duration = Duration::from_secs(10);

/// Milliseconds without a refusal after which a clock is right again: longer than the longest pause
/// after which an agent tries again what was refused, which is a minute.
const MISDATED_MS: u64 = 90_000;

/// What the watch is made of.
pub(crate) struct Watch {
    /// Seconds after which an agent that says nothing is silent; 0 for never.
    pub(crate) silence_s: u64,
    /// Where it stands who was heard when.
    pub(crate) store: Store,
    /// Who is expected to speak.
    pub(crate) known: Arc<Registry>,
    /// Whose clock was off when.
    pub(crate) refusals: Arc<Refusals>,
    /// Who is told.
    pub(crate) inbox: Inbox,
    /// Where remarks are counted for which there was no room.
    pub(crate) metrics: Arc<Metrics>,
}

impl Watch {
    /// Looks again and again until told to stop.
    pub(crate) async fn run(self, mut stop: Stop) {
        // While the collector was down nobody could be heard: silence counts from its start.
        let started_ms = clock::now_ms();
        let mut told = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.told() => return,
            }
            if let Err(error) = self.look(started_ms, &mut told).await {
                tracing::error!(%error, "agents not readable");
            }
        }
    }

    async fn look(
        &self,
        started_ms: u64,
        told: &mut Option<Told>,
    ) -> Result<(), crate::store::StoreError> {
        let rows = self.store.read_async(agents::list).await?;
        let told = match told {
            Some(told) => told,
            None => {
                let open = |kind| move |store: &_| findings::open_instances(store, kind);
                let silent = self.store.read_async(open(SENSOR_SILENT.name)).await?;
                let misdated = self.store.read_async(open(SENSOR_CLOCK.name)).await?;
                told.insert(Told::before(&rows, &silent, &misdated))
            }
        };
        let now_ms = clock::now_ms();
        let since_ms = now_ms.saturating_sub(self.silence_s.saturating_mul(1_000));
        let mut events = Vec::new();
        if self.silence_s > 0 && started_ms <= since_ms {
            events = told.silence(&rows, &self.known, since_ms);
        }
        let misdated = self.refusals.misdated();
        events.extend(told.clocks(&rows, &self.known, &misdated, now_ms.max(started_ms)));
        for event in events {
            tracing::warn!(agent_id = %event.agent, word = ?event.word, "agent");
            if !self.inbox.sensor(event) {
                self.metrics.sensor_events_dropped.add(1);
            }
        }
        Ok(())
    }
}

/// Of whom it was told that it is silent, or that its clock is off.
#[derive(Debug, Default)]
struct Told {
    silent: HashSet<AgentId>,
    misdated: HashSet<AgentId>,
}

impl Told {
    /// What another run of the collector told and nobody put away.
    fn before(rows: &[AgentRow], silent: &[String], misdated: &[String]) -> Self {
        let of = |instances: &[String]| {
            rows.iter()
                .filter(|row| instances.contains(&row.instance))
                .map(|row| row.agent)
                .collect()
        };
        Self {
            silent: of(silent),
            misdated: of(misdated),
        }
    }

    /// Remarks on agents last heard before `since_ms` of which that was not said yet, and on those of
    /// which it was said and that were heard since.
    fn silence(&mut self, rows: &[AgentRow], known: &Registry, since_ms: u64) -> Vec<SensorEvent> {
        let mut events = Vec::new();
        for row in rows {
            let Some(agent) = known.find(row.agent).filter(|agent| agent.is_expected()) else {
                self.silent.remove(&row.agent);
                continue;
            };
            let last_ns = row.last_seen_ms.saturating_mul(1_000_000);
            let word = if row.last_seen_ms >= since_ms {
                self.silent.remove(&row.agent).then_some(SensorWord::Heard)
            } else {
                let since_ns = last_ns;
                let new = self.silent.insert(row.agent);
                new.then_some(SensorWord::Silent { since_ns })
            };
            events.extend(word.map(|word| SensorEvent {
                agent: row.agent,
                host: agent.known.host(),
                time_ns: last_ns,
                word,
            }));
        }
        events
    }

    /// Remarks on agents whose clock is off of which that was not said yet, and on those of which it
    /// was said and whose clock is right again.
    fn clocks(
        &mut self,
        rows: &[AgentRow],
        known: &Registry,
        misdated: &HashMap<AgentId, Misdated>,
        now_ms: u64,
    ) -> Vec<SensorEvent> {
        let mut events = Vec::new();
        for row in rows {
            let Some(agent) = known.find(row.agent).filter(|agent| agent.is_expected()) else {
                self.misdated.remove(&row.agent);
                continue;
            };
            let last = misdated.get(&row.agent);
            let last_ms = last.map_or(0, |last| last.at_ms);
            let is_off = last_ms.saturating_add(MISDATED_MS) > now_ms;
            let word = match last {
                Some(last) if is_off => {
                    let off_ms = last.off_ms;
                    let new = self.misdated.insert(row.agent);
                    new.then_some(SensorWord::Misdated { off_ms })
                }
                _ if row.last_seen_ms > last_ms => {
                    let was_off = self.misdated.remove(&row.agent);
                    was_off.then_some(SensorWord::Timely)
                }
                _ => None,
            };
            events.extend(word.map(|word| SensorEvent {
                agent: row.agent,
                host: agent.known.host(),
                time_ns: now_ms.saturating_mul(1_000_000),
                word,
            }));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::{BootId, PublicKey};

    use crate::config::Agent;

    use super::*;

    fn row(agent: AgentId, last_seen_ms: u64) -> AgentRow {
        AgentRow {
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
        }
    }

    fn registry(folder: &std::path::Path) -> (Registry, AgentId) {
        let key = PublicKey([1; 32]);
        let id = AgentId::of_key(&key.0);
        let agent = Agent {
            id,
            public_key: key,
            account: "111122223333".into(),
            region: "r".into(),
            instance: "i-1".into(),
        };
        let store = Store::open(folder).unwrap();
        (Registry::open(&[agent], store).unwrap(), id)
    }

    fn words(events: Vec<SensorEvent>) -> Vec<SensorWord> {
        events.into_iter().map(|event| event.word).collect()
    }

    #[test]
    fn one_remark_per_silence_and_one_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (known, id) = registry(folder.path());
        let mut told = Told::default();
        let mut look = |rows: &[AgentRow], since_ms| words(told.silence(rows, &known, since_ms));
        let silent = |since_ms: u64| SensorWord::Silent {
            since_ns: since_ms * 1_000_000,
        };
        assert_eq!(look(&[row(id, 100)], 100), []);
        assert_eq!(look(&[row(id, 100)], 101), [silent(100)]);
        assert_eq!(look(&[row(id, 100)], 150), []);
        assert_eq!(look(&[row(id, 200)], 150), [SensorWord::Heard]);
        assert_eq!(look(&[row(id, 200)], 150), []);
        assert_eq!(look(&[row(id, 200)], 201), [silent(200)]);
        assert_eq!(look(&[row(AgentId([2; 16]), 0)], 201), []);
        // What the run before told is put away by this one.
        let mut told = Told::before(&[row(id, 200)], &["i-1".to_owned()], &[]);
        let heard = told.silence(&[row(id, 300)], &known, 250);
        assert_eq!(words(heard), [SensorWord::Heard]);
    }

    #[test]
    fn a_clock_is_right_again_when_nothing_is_refused_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let (known, id) = registry(folder.path());
        let mut told = Told::default();
        let mut look = |seen_ms, refused_ms: Option<u64>, now_ms| {
            let misdated = refused_ms.map(|at_ms| (id, Misdated { at_ms, off_ms: -7 }));
            let misdated = misdated.into_iter().collect();
            words(told.clocks(&[row(id, seen_ms)], &known, &misdated, now_ms))
        };
        let off = SensorWord::Misdated { off_ms: -7 };
        assert_eq!(look(1_000, None, 1_000), []);
        assert_eq!(look(1_000, Some(2_000), 2_500), std::slice::from_ref(&off));
        assert_eq!(look(3_000, Some(2_000), 4_000), [], "not yet");
        assert_eq!(look(3_000, Some(50_000), 130_000), [], "refused again");
        assert_eq!(
            look(3_000, Some(50_000), 140_000),
            [],
            "and not heard since"
        );
        assert_eq!(look(51_000, Some(50_000), 140_000), [SensorWord::Timely]);
        assert_eq!(look(51_000, Some(50_000), 150_000), []);
        assert_eq!(look(51_000, Some(150_000), 150_000), [off]);
    }
}
