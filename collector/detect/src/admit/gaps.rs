//! Gaps in chains that may close by themselves.
//!
//! An agent ships hits before windows and tries again what failed, so a window may overtake what has
//! a lower number by a post or two. A gap is told when it has lasted for the grace; one that closes
//! before is not. The caller says how far everything that was accepted has been shown, so a collector
//! that reads its journal with delay tells no gap whose other half it has yet to read.
//!
//! What is held may be kept by the caller and given back after a restart.

use std::collections::BTreeMap;

use picket_wire::{AgentId, BootId};

use super::{Admitted, Standing};
use crate::event::{SensorEvent, SensorWord};
use crate::finding::Host;
use crate::limits::GAPS_HELD_MAX;

/// Numbers of one run that have not come, of which nobody has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Who left them out.
    pub agent: AgentId,
    /// In which run.
    pub boot: BootId,
    /// The number of the envelope that came too early; they all are below it.
    pub before: u64,
    /// None of them is below this.
    pub from: u64,
    /// How many.
    pub missing: u64,
    /// The host that the agent speaks for.
    pub host: Host,
    /// Begin of the window that came too early, nanoseconds since the epoch.
    pub time_ns: u64,
    /// When it came, by the collector's clock, milliseconds since the epoch.
    pub received_at_ms: u64,
}

/// The gaps that are held back.
#[derive(Debug)]
pub struct Gaps {
    grace_ms: u64,
    held: BTreeMap<(AgentId, BootId, u64), Gap>,
    has_changed: bool,
}

impl Gaps {
    /// Begins with none. With a grace of 0 each gap is told at once.
    pub fn new(grace_ms: u64) -> Self {
        Self {
            grace_ms,
            held: BTreeMap::new(),
            has_changed: false,
        }
    }

    /// Takes back those that were held before a restart.
    pub fn restore(&mut self, held: impl IntoIterator<Item = Gap>) {
        self.held
            .extend(held.into_iter().map(|gap| (gap.key(), gap)));
    }

    /// Looks at where an envelope stands that came at `received_at_ms`. Gives what is to be told of
    /// it now: a missing one that has come, or a gap where too many are held already.
    pub fn note(&mut self, admitted: &Admitted, received_at_ms: u64) -> Option<SensorEvent> {
        let header = &admitted.header;
        let time_ns = admitted.summary.window.start_ns;
        match admitted.standing {
            Standing::Next | Standing::First | Standing::Ahead => None,
            Standing::Gap { from, missing } => {
                let gap = Gap {
                    agent: header.agent,
                    boot: header.boot,
                    before: header.sequence,
                    from,
                    missing,
                    host: admitted.host.clone(),
                    time_ns,
                    received_at_ms,
                };
                if self.grace_ms == 0 || self.held.len() >= GAPS_HELD_MAX {
                    return Some(gap.event());
                }
                self.held.insert(gap.key(), gap);
                self.has_changed = true;
                None
            }
            Standing::Late { missing } => {
                let (boot, sequence) = (header.boot, header.sequence);
                if self.close(header.agent, boot, sequence) {
                    return None;
                }
                let held: u64 = self.of(header.agent, boot).map(|gap| gap.missing).sum();
                Some(SensorEvent {
                    agent: header.agent,
                    host: admitted.host.clone(),
                    time_ns,
                    word: SensorWord::Filled {
                        boot,
                        missing: missing.saturating_sub(held),
                    },
                })
            }
        }
    }

    /// Gives the gaps that have lasted for the grace, oldest first, once everything that was accepted
    /// until `shown_to_ms` was shown to [`Gaps::note`].
    pub fn due(&mut self, shown_to_ms: u64) -> Vec<SensorEvent> {
        let grace_ms = self.grace_ms;
        for gap in self.held.values_mut() {
            // The clock was set back: nobody waits for longer than the grace.
            if gap.received_at_ms > shown_to_ms {
                gap.received_at_ms = shown_to_ms;
                self.has_changed = true;
            }
        }
        let is_due = |_: &_, gap: &mut Gap| gap.due_ms(grace_ms) <= shown_to_ms;
        let mut due: Vec<Gap> = self
            .held
            .extract_if(.., is_due)
            .map(|(_, gap)| gap)
            .collect();
        self.has_changed |= !due.is_empty();
        due.sort_by_key(|gap| (gap.received_at_ms, gap.before));
        due.iter().map(Gap::event).collect()
    }

    /// When the next one is due, milliseconds since the epoch by the collector's clock.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let due = self.held.values().map(|gap| gap.due_ms(self.grace_ms));
        due.min()
    }

    /// Those that are held, if they are others than when this was last asked.
    pub fn poll_changed(&mut self) -> Option<Vec<Gap>> {
        std::mem::take(&mut self.has_changed).then(|| self.held.values().cloned().collect())
    }

    /// Takes a number out of the gap that it was missing in; says whether one that is held.
    fn close(&mut self, agent: AgentId, boot: BootId, sequence: u64) -> bool {
        let found = self.of(agent, boot).find(|gap| gap.holds(sequence));
        let Some(key) = found.map(Gap::key) else {
            return false;
        };
        if let Some(gap) = self.held.get_mut(&key) {
            gap.missing = gap.missing.saturating_sub(1);
            if gap.missing == 0 {
                self.held.remove(&key);
            }
        }
        self.has_changed = true;
        true
    }

    fn of(&self, agent: AgentId, boot: BootId) -> impl Iterator<Item = &Gap> {
        let run = (agent, boot, 0)..=(agent, boot, u64::MAX);
        self.held.range(run).map(|(_, gap)| gap)
    }
}

impl Gap {
    const fn key(&self) -> (AgentId, BootId, u64) {
        (self.agent, self.boot, self.before)
    }

    const fn due_ms(&self, grace_ms: u64) -> u64 {
        self.received_at_ms.saturating_add(grace_ms)
    }

    fn holds(&self, sequence: u64) -> bool {
        (self.from..self.before).contains(&sequence)
    }

    fn event(&self) -> SensorEvent {
        SensorEvent {
            agent: self.agent,
            host: self.host.clone(),
            time_ns: self.time_ns,
            word: SensorWord::Missing {
                boot: self.boot,
                envelopes: self.missing,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{speaker, summary};
    use picket_wire::{Digest, Header, PublicKey};

    const GRACE: u64 = 10_000;
    const START: u64 = 1_700_000_000_000;

    /// One step: an envelope of a run that came some milliseconds after the start, or that much time
    /// that has passed.
    #[derive(Clone, Copy)]
    enum Step {
        Came(u8, u64, Standing, u64),
        Passed(u64),
    }
    use Step::{Came, Passed};

    fn gap(from: u64, missing: u64) -> Standing {
        Standing::Gap { from, missing }
    }

    fn late(missing: u64) -> Standing {
        Standing::Late { missing }
    }

    fn admitted(boot: u8, sequence: u64, standing: Standing) -> Admitted {
        let summary = summary(speaker());
        Admitted {
            header: Header {
                agent: AgentId([1; 16]),
                key: PublicKey([1; 32]),
                boot: BootId([boot; 16]),
                sequence,
                previous: Digest::default(),
                signed_at_ms: START,
            },
            digest: Digest::default(),
            host: Host {
                account: summary.host.account.clone(),
                region: summary.host.region.clone(),
                instance: summary.host.instance.clone(),
            },
            summary,
            standing,
        }
    }

    /// What is told after which step, as `step:run word`; with a restart between any two steps as
    /// without.
    #[track_caller]
    fn check(steps: &[Step], expected: &[&str]) {
        for restarts in [false, true] {
            let mut gaps = Gaps::new(GRACE);
            let mut kept = Vec::new();
            let mut told = Vec::new();
            for (at, step) in steps.iter().enumerate() {
                if restarts {
                    gaps = Gaps::new(GRACE);
                    gaps.restore(kept.clone());
                }
                let words = match *step {
                    Came(boot, sequence, standing, after_ms) => {
                        let admitted = admitted(boot, sequence, standing);
                        gaps.note(&admitted, START + after_ms).into_iter().collect()
                    }
                    Passed(after_ms) => gaps.due(START + after_ms),
                };
                if let Some(held) = gaps.poll_changed() {
                    kept = held;
                }
                told.extend(words.into_iter().map(|event| match event.word {
                    SensorWord::Missing { boot, envelopes } => {
                        format!("{at}:{} missing {envelopes}", boot.0[0])
                    }
                    SensorWord::Filled { boot, missing } => {
                        format!("{at}:{} filled {missing}", boot.0[0])
                    }
                    other => format!("{other:?}"),
                }));
            }
            assert_eq!(told, expected, "restarts: {restarts}");
        }
    }

    #[test]
    fn a_gap_is_told_when_the_grace_has_passed() {
        let early = Came(1, 3, gap(2, 1), 0);
        check(&[early, Passed(GRACE - 1)], &[]);
        check(&[early, Passed(GRACE)], &["1:1 missing 1"]);
        check(
            &[early, Passed(GRACE), Passed(2 * GRACE)],
            &["1:1 missing 1"],
        );
        // Nothing else needs to come from that agent, and what comes does not put it off.
        let next = Came(1, 4, Standing::Next, 5_000);
        check(&[early, next, Passed(GRACE)], &["2:1 missing 1"]);
    }

    #[test]
    fn one_that_closes_in_time_is_not_told() {
        let early = Came(1, 3, gap(2, 1), 0);
        let came = Came(1, 2, late(0), GRACE - 1);
        check(&[early, came, Passed(GRACE)], &[]);
        // In part.
        let early = Came(1, 4, gap(2, 2), 0);
        let half = Came(1, 3, late(1), 1);
        check(&[early, half, Passed(GRACE)], &["2:1 missing 1"]);
        // Too late.
        let came = Came(1, 3, late(1), GRACE + 1);
        check(
            &[early, Passed(GRACE), came],
            &["1:1 missing 2", "2:1 filled 1"],
        );
    }

    /// An agent whose windows keep overtaking hits, each for a moment.
    #[test]
    fn each_gap_has_its_own_grace() {
        let mut steps = vec![Came(1, 1, gap(0, 1), 0)];
        for n in 1..10 {
            let (at, first) = (n * 4_000, n * 2);
            steps.extend([
                Came(1, first + 1, gap(first, 1), at),
                Passed(at + 1_000),
                Came(1, first - 2, late(1), at + 2_000),
            ]);
        }
        check(&steps, &[]);
        steps.push(Passed(9 * 4_000 + GRACE));
        check(&steps, &["28:1 missing 1"]);
    }

    /// What was told is put away when the last of it has come, whatever is held meanwhile; and what
    /// fills the one says nothing of the other.
    #[test]
    fn what_was_told_and_what_is_held_are_told_apart() {
        let told = [Came(1, 5, gap(3, 2), 0), Passed(GRACE)];
        let held = Came(1, 9, gap(8, 1), GRACE);
        let steps = |more: &[Step]| [&told[..], &[held], more].concat();
        check(
            &steps(&[Came(1, 8, late(2), GRACE + 1)]),
            &["1:1 missing 2"],
        );
        let filled = [
            Came(1, 3, late(2), GRACE + 1),
            Came(1, 4, late(1), GRACE + 2),
        ];
        check(
            &steps(&filled),
            &["1:1 missing 2", "3:1 filled 1", "4:1 filled 0"],
        );
        // Runs are apart as well.
        let other = Came(2, 1, gap(0, 1), GRACE);
        let of_other = Came(2, 0, late(0), GRACE + 1);
        check(&steps(&[other, of_other]), &["1:1 missing 2"]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_for_longer() {
        let early = Came(1, 3, gap(2, 1), 1_000_000);
        check(&[early, Passed(0), Passed(GRACE - 1)], &[]);
        check(&[early, Passed(0), Passed(GRACE)], &["2:1 missing 1"]);
    }

    #[test]
    fn one_too_many_is_told_at_once_and_so_is_each_without_grace() {
        let mut gaps = Gaps::new(GRACE);
        for n in 0..GAPS_HELD_MAX as u64 {
            assert_eq!(
                gaps.note(&admitted(1, n * 2 + 1, gap(n * 2, 1)), START),
                None
            );
        }
        let one_more = admitted(2, 1, gap(0, 1));
        assert!(gaps.note(&one_more, START).is_some());
        assert_eq!(gaps.next_deadline_ms(), Some(START + GRACE));
        assert_eq!(gaps.due(START + GRACE).len(), GAPS_HELD_MAX);
        assert_eq!(gaps.next_deadline_ms(), None);
        assert!(Gaps::new(0).note(&one_more, START).is_some());
    }
}
