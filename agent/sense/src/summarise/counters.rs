//! What every stage took in, passed on and lost, as differences for the next summary and as totals
//! since the start.
//!
//! The loss equation of a stage that sees packets: seen = flow + not flow + lost. The kernel's
//! counters and its flows cannot be read at one instant, so packets that are counted but whose
//! flow has not been read yet are shown apart as `unsettled`, and `seen` names the settled ones.
//! `unsettled` is a level, not a difference: it falls to 0 when traffic pauses, and one that grows
//! without end is a hole in the sensor.

use std::collections::BTreeMap;

use picket_wire::Counter;

/// Where, and why: the stage, a prefix (`not_flow_`, `lost_` or nothing), the name.
type Key = (&'static str, &'static str, &'static str);

/// Packets (or messages, records) and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their bytes, where they have any.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, count: u64, bytes: u64) {
        self.count = self.count.saturating_add(count);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn less(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_sub(other.count),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The two sides of the loss equation of one stage, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Equation {
    /// Packets that came in.
    pub seen: Tally,
    /// Those that went into flows.
    pub flow: Tally,
    /// Those that are no flow.
    pub not_flow: Tally,
    /// Those that were lost.
    pub lost: Tally,
    /// Those that came in and are in none of the three yet.
    pub unsettled: Tally,
}

impl Equation {
    /// Says whether every packet is accounted for: seen = flow + not flow + lost + unsettled.
    pub fn holds(&self) -> bool {
        self.flow.count + self.not_flow.count + self.lost.count + self.unsettled.count
            == self.seen.count
    }
}

/// The stage whose packets are counted by the kernel.
pub(crate) const KERNEL: &str = "kernel";

/// The stage whose packets were found inside tunnels.
pub(crate) const INNER: &str = "inner";

/// Stages whose packets and flows the kernel tells by different ways.
const COUNTED_APART: [&str; 2] = [KERNEL, INNER];

/// Counters by stage and reason. The keys come from closed sets, so there are never many.
#[derive(Debug, Default)]
pub struct Counters {
    since_start: BTreeMap<Key, Tally>,
    since_summary: BTreeMap<Key, Tally>,
    unsettled_before: [Tally; COUNTED_APART.len()],
}

impl Counters {
    /// Counts `count` things of `bytes` bytes under a stage and a reason.
    pub(crate) fn add(
        &mut self,
        stage: &'static str,
        reason: &'static str,
        count: u64,
        bytes: u64,
    ) {
        self.add_class(stage, "", reason, count, bytes);
    }

    /// As [`Counters::add`], the reason being put together from a prefix and a name.
    pub(crate) fn add_class(
        &mut self,
        stage: &'static str,
        prefix: &'static str,
        name: &'static str,
        count: u64,
        bytes: u64,
    ) {
        for map in [&mut self.since_start, &mut self.since_summary] {
            map.entry((stage, prefix, name))
                .or_default()
                .add(count, bytes);
        }
    }

    /// The loss equation of `stage` since the start.
    pub fn equation(&self, stage: &str) -> Equation {
        let mut sum = Equation::default();
        for ((at, prefix, name), tally) in &self.since_start {
            if *at != stage {
                continue;
            }
            let side = match class(prefix, name) {
                Class::Seen => &mut sum.seen,
                Class::Flow => &mut sum.flow,
                Class::NotFlow => &mut sum.not_flow,
                Class::Lost => &mut sum.lost,
                Class::Other => continue,
            };
            side.add(tally.count, tally.bytes);
        }
        let mut settled = sum.flow;
        for side in [sum.not_flow, sum.lost] {
            settled.add(side.count, side.bytes);
        }
        if COUNTED_APART.contains(&stage) {
            sum.unsettled = sum.seen.less(settled);
            // A flow may be read before the counter that saw its packets is.
            sum.seen.count = sum.seen.count.max(settled.count);
        }
        sum
    }

    /// Every counter since the start.
    pub fn totals(&self) -> impl Iterator<Item = Counter> + '_ {
        self.since_start
            .iter()
            .map(|(key, tally)| counter(key, *tally))
    }

    /// The differences since the last call, sorted.
    pub(crate) fn take(&mut self) -> Vec<Counter> {
        self.settle();
        let taken = std::mem::take(&mut self.since_summary);
        taken
            .iter()
            .map(|(key, tally)| counter(key, *tally))
            .collect()
    }

    /// Moves what the kernel has seen and not told yet out of this summary's `seen`.
    fn settle(&mut self) {
        for (at, stage) in COUNTED_APART.into_iter().enumerate() {
            let unsettled = self.equation(stage).unsettled;
            let Some(before) = self.unsettled_before.get_mut(at) else {
                continue;
            };
            let before = std::mem::replace(before, unsettled);
            let key = (stage, "", "seen");
            if let Some(seen) = self.since_summary.get_mut(&key) {
                seen.add(before.count, before.bytes);
                *seen = seen.less(unsettled);
            } else if before != unsettled {
                self.since_summary.insert(key, before.less(unsettled));
            }
            if unsettled != Tally::default() {
                self.since_summary
                    .insert((stage, "", "unsettled"), unsettled);
            }
        }
    }
}

enum Class {
    Seen,
    Flow,
    NotFlow,
    Lost,
    Other,
}

fn class(prefix: &str, name: &str) -> Class {
    match (prefix, name) {
        ("", "seen") => Class::Seen,
        ("", "flow") => Class::Flow,
        ("", "not_flow") => Class::NotFlow,
        ("", "lost") => Class::Lost,
        ("not_flow_", _) => Class::NotFlow,
        ("lost_", _) => Class::Lost,
        (_, name) if name.starts_with("not_flow_") => Class::NotFlow,
        (_, name) if name.starts_with("lost_") => Class::Lost,
        _ => Class::Other,
    }
}

fn counter((stage, prefix, name): &Key, tally: Tally) -> Counter {
    Counter {
        stage: (*stage).to_owned(),
        reason: format!("{prefix}{name}"),
        count: tally.count,
        bytes: tally.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counters: &[Counter], reason: &str) -> u64 {
        let mut all = counters.iter();
        all.find(|counter| counter.reason == reason)
            .map_or(0, |counter| counter.count)
    }

    #[track_caller]
    fn settled(taken: &[Counter], seen: u64, unsettled: u64) {
        assert_eq!(
            (of(taken, "seen"), of(taken, "unsettled")),
            (seen, unsettled),
            "{taken:?}"
        );
        let rest = ["flow", "not_flow_arp", "lost_ring_full"].map(|reason| of(taken, reason));
        assert_eq!(of(taken, "seen"), rest.iter().sum::<u64>(), "{taken:?}");
    }

    #[test]
    fn packets_whose_flow_is_read_later_wait_for_it() {
        let mut counters = Counters::default();
        counters.add(KERNEL, "seen", 100, 0);
        counters.add(KERNEL, "flow", 90, 0);
        counters.add(KERNEL, "not_flow_arp", 3, 0);
        settled(&counters.take(), 93, 7);
        counters.add(KERNEL, "flow", 6, 0);
        counters.add(KERNEL, "lost_ring_full", 1, 0);
        settled(&counters.take(), 7, 0);
        let equation = counters.equation(KERNEL);
        assert!(equation.holds());
        assert_eq!((equation.seen.count, equation.unsettled.count), (100, 0));
    }

    #[test]
    fn a_hole_shows_as_packets_that_never_settle() {
        let mut counters = Counters::default();
        for round in 1..4 {
            counters.add(KERNEL, "seen", 10, 0);
            counters.add(KERNEL, "flow", 9, 0);
            settled(&counters.take(), 9, round);
        }
    }

    #[test]
    fn a_summary_has_differences_and_the_totals_go_on() {
        let mut counters = Counters::default();
        counters.add("decode", "seen", 2, 120);
        counters.add_class("decode", "lost_", "truncated", 2, 120);
        assert_eq!(counters.take().len(), 2);
        assert!(counters.take().is_empty());
        assert_eq!(
            of(&counters.totals().collect::<Vec<_>>(), "lost_truncated"),
            2
        );
        assert!(counters.equation("decode").holds());
    }
}
