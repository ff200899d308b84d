//! Correlations: what rules match, counted or put in order within a time, by group.
//!
//! Time is that of the events. An event that comes late takes its place among the others as long as
//! the group's newest is no further ahead than the correlation looks back; later than that it is
//! counted and left out. A correlation that comes true forgets what made it true, so that a
//! thousand failures are ten stories of a hundred and not nine hundred.
//!
//! An event that lacks a field of `group-by` belongs to no group.

use std::collections::{HashMap, VecDeque};

use picket_wire::Digest;

use super::document::{Bounds, Kinds};
use super::limits::{EVENTS_MAX, GROUP_EVENTS_MAX, GROUP_EVIDENCE_MAX, GROUPS_MAX};
use super::record::{Path, Record, text_of};
use crate::finding::Evidence;

/// A correlation, everything looked up.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its number among the rules.
    pub(super) rule: u32,
    /// In the order in which it names them.
    pub(super) members: Vec<Member>,
    /// What the fields of a group are called.
    pub(super) group_names: Vec<String>,
    /// Fields whose values are counted.
    pub(super) values: Vec<Path>,
    pub(super) kind: Kinds,
    pub(super) timespan_ns: u64,
    pub(super) bounds: Bounds,
    pub(super) generate: bool,
}

/// A rule in a correlation.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) rule: u32,
    pub(super) group_by: Vec<Path>,
}

/// A correlation that came true.
#[derive(Debug)]
pub(super) struct Fired {
    /// Fields of the group and their values.
    pub(super) group: Vec<(String, String)>,
    /// Events, values or rules: what it counts.
    pub(super) count: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) evidence: Vec<Evidence>,
}

/// What correlations remember.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    groups: HashMap<(u32, Box<str>), Group>,
    events: usize,
    expired_to_ns: u64,
    pub(super) counters: Counters,
}

/// What was turned away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Groups that left to make room.
    pub(super) groups_evicted: u64,
    /// Events of a group beyond what one may hold.
    pub(super) events_left_out: u64,
    /// Events later than their correlation looks back.
    pub(super) late: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// By time. What is noted is a value's digest, or the rule's number.
    events: VecDeque<(u64, u64)>,
    newest_ns: u64,
    evidence: VecDeque<Evidence>,
}

/// Between two looks for groups whose time is over: a minute of event time.
const EXPIRE_EVERY_NS: u64 = 60_000_000_000;

impl Correlator {
    /// Notes that a member of `plan` matched; says whether the correlation came true.
    pub(super) fn note(
        &mut self,
        number: u32,
        plan: &Plan,
        rule: u32,
        record: &dyn Record,
        time_ns: u64,
        evidence: impl FnOnce() -> Evidence,
    ) -> Option<Fired> {
        let member = plan.members.iter().find(|member| member.rule == rule)?;
        let values = member.group_by.iter().map(|path| value(path, record));
        let values: Vec<String> = values.collect::<Option<_>>()?;
        let noted = match plan.kind {
            Kinds::EventCount => 0,
            Kinds::ValueCount(_) => {
                let values = plan.values.iter().map(|path| value(path, record));
                let values: Vec<String> = values.collect::<Option<_>>()?;
                let digest = Digest::of(joined(&values).as_bytes());
                let bytes = digest.0.first_chunk().copied().unwrap_or_default();
                u64::from_be_bytes(bytes)
            }
            Kinds::Temporal | Kinds::TemporalOrdered => u64::from(rule),
        };
        let key = (number, joined(&values).into_boxed_str());
        if !self.groups.contains_key(&key) {
            self.make_room();
        }
        let group = self.groups.entry(key).or_default();
        let before = group.events.len();
        let is_taken = group.take(plan, time_ns, noted, &mut self.counters);
        let fired = is_taken.then(|| {
            if group.evidence.len() >= GROUP_EVIDENCE_MAX {
                group.evidence.pop_front();
            }
            group.evidence.push_back(evidence());
            group.count(plan)
        });
        let fired = fired.flatten().map(|count| {
            let taken = std::mem::take(group);
            let times = || taken.events.iter().map(|(time, _)| *time);
            Fired {
                group: plan.group_names.iter().cloned().zip(values).collect(),
                count,
                first_ns: times().min().unwrap_or(time_ns),
                last_ns: times().max().unwrap_or(time_ns),
                evidence: taken.evidence.into(),
            }
        });
        self.events = self.events + group.events.len() - before;
        fired
    }

    /// Forgets groups that nothing newer than `watermark_ns` less their time can join.
    pub(super) fn expire(&mut self, plans: &[Plan], watermark_ns: u64) {
        if watermark_ns.saturating_sub(self.expired_to_ns) < EXPIRE_EVERY_NS {
            return;
        }
        self.expired_to_ns = watermark_ns;
        self.keep(|plan, group| {
            let span = plans.get(plan as usize).map_or(0, |plan| plan.timespan_ns);
            !group.events.is_empty() && group.newest_ns.saturating_add(span) >= watermark_ns
        });
    }

    /// When there is no room, lets the sixteenth that was quiet longest leave.
    fn make_room(&mut self) {
        if self.groups.len() < GROUPS_MAX && self.events < EVENTS_MAX {
            return;
        }
        let mut ages: Vec<u64> = self.groups.values().map(|group| group.newest_ns).collect();
        ages.sort_unstable();
        let oldest = ages.get(ages.len() / 16).copied().unwrap_or_default();
        let before = self.groups.len();
        self.keep(|_, group| group.newest_ns > oldest);
        self.counters.groups_evicted += (before - self.groups.len()) as u64;
    }

    fn keep(&mut self, mut is_kept: impl FnMut(u32, &Group) -> bool) {
        let mut events = 0;
        self.groups.retain(|(plan, _), group| {
            let is_kept = is_kept(*plan, group);
            events += if is_kept { group.events.len() } else { 0 };
            is_kept
        });
        self.events = events;
    }
}

impl Group {
    /// Takes an event in at its place in time; says whether it counts.
    fn take(&mut self, plan: &Plan, time_ns: u64, noted: u64, counters: &mut Counters) -> bool {
        self.newest_ns = self.newest_ns.max(time_ns);
        let from_ns = self.newest_ns.saturating_sub(plan.timespan_ns);
        if time_ns < from_ns {
            counters.late += 1;
            return false;
        }
        while self.events.front().is_some_and(|(time, _)| *time < from_ns) {
            self.events.pop_front();
        }
        // Of a value, and of a rule where the order is free, only the latest time matters.
        if matches!(plan.kind, Kinds::ValueCount(_) | Kinds::Temporal)
            && let Some(at) = self.events.iter().position(|(_, known)| *known == noted)
        {
            match self.events.get(at) {
                Some((known, _)) if *known >= time_ns => return true,
                _ => self.events.remove(at),
            };
        }
        if self.events.len() >= GROUP_EVENTS_MAX {
            self.events.pop_front();
            counters.events_left_out += 1;
        }
        let at = self.events.partition_point(|(time, _)| *time <= time_ns);
        self.events.insert(at, (time_ns, noted));
        true
    }

    /// What it counts, if that makes the correlation true.
    fn count(&self, plan: &Plan) -> Option<u64> {
        let count = self.events.len() as u64;
        match plan.kind {
            Kinds::EventCount | Kinds::ValueCount(_) | Kinds::Temporal => {
                plan.bounds.hold(count).then_some(count)
            }
            Kinds::TemporalOrdered => self
                .is_in_order(&plan.members)
                .then_some(plan.members.len() as u64),
        }
    }

    /// Says whether the members matched one after the other. What happened at the same time may
    /// have happened in any order: logs tell whole seconds.
    fn is_in_order(&self, members: &[Member]) -> bool {
        let mut wanted = members.iter().map(|member| u64::from(member.rule));
        let mut next = wanted.next();
        let events: Vec<(u64, u64)> = self.events.iter().copied().collect();
        for same_time in events.chunk_by(|(one, _), (other, _)| one == other) {
            let mut left: Vec<u64> = same_time.iter().map(|(_, rule)| *rule).collect();
            while let Some(rule) = next
                && let Some(at) = left.iter().position(|left| *left == rule)
            {
                left.swap_remove(at);
                next = wanted.next();
            }
        }
        next.is_none()
    }
}

/// The first value of a field; `None` if it is absent or null.
fn value(path: &Path, record: &dyn Record) -> Option<String> {
    if let Some(text) = path.quick.and_then(|quick| record.quick(quick)) {
        return Some(text.to_owned());
    }
    let mut found = None;
    let mut room = String::new();
    path.values(record, &mut |value| {
        found = text_of(value, &mut room).map(str::to_owned);
        found.is_some()
    });
    found
}

/// Values as one text, so that no two lists of values read alike.
fn joined(values: &[String]) -> String {
    let mut out = String::new();
    for value in values {
        out.push_str(&value.len().to_string());
        out.push(':');
        out.push_str(value);
    }
    out
}
