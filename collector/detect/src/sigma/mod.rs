//! Sigma: rules that others wrote, over CloudTrail.
//!
//! ```text
//! files ─ yaml ─ document ─┬─ search, condition ─ program ─┐
//!                          └─ correlation ─────── correlate ┴→ matches ─ report → occurrences
//! ```
//!
//! [`RuleSet::load`] takes the texts of files and says of each rule that it cannot put in force why
//! not and where; nothing of a rule is left out silently. [`Sigma`] shows events to the rules. What
//! is supported and how fields are found is in `docs/rules.md`.

mod build;
mod condition;
mod correlate;
#[cfg(test)]
mod correlation_tests;
mod document;
mod encoding;
mod fault;
pub mod limits;
mod number;
mod pattern;
mod program;
mod record;
mod report;
mod rule;
mod search;
mod set;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::quality::RandomState;

pub use fault::{Fault, Why};
pub use record::{Quick, Record};
pub(crate) use report::{Ruled, Told};
pub(crate) use rule::types;
pub use rule::{Level, Rule};
pub use search::Placeholders;
pub use set::{Loaded, RuleSet};

use crate::detections::evidence_of;
use crate::finding::ApiEvidence;
use crate::logs::cloudtrail::ApiCall;
use correlate::Correlator;
use limits::TOLD_MAX;
use program::Scratch;

/// What a finding says of a call, as a number: alike calls that a rule matched have the same.
pub(crate) type Alike = u128;

/// The rules in force and what they remember.
#[derive(Debug, Default)]
pub(crate) struct Sigma {
    set: Arc<RuleSet>,
    scratch: Scratch,
    correlator: Correlator,
    matched: Vec<u32>,
    /// The findings of what was told already, and the call that was, by what is told of it.
    told: HashMap<Alike, (Arc<str>, Arc<ApiEvidence>), RandomState>,
    /// Two, keyed anew in every process: what meets in both counts as the same, so nobody outside may know
    /// how to make things meet, and nothing may meet by chance.
    hashers: [RandomState; 2],
    /// Room for what is hashed: one long text is hashed faster than many short ones.
    room: Vec<u8>,
}

impl Sigma {
    /// Puts other rules in force. Correlations begin anew.
    pub(crate) fn set_rules(&mut self, set: Arc<RuleSet>) {
        *self = Self {
            set,
            ..Self::default()
        };
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> &[Rule] {
        self.set.rules()
    }

    /// Shows a call to the rules. `is_open` says which findings are.
    pub(crate) fn evaluate(
        &mut self,
        call: &ApiCall,
        is_open: impl Fn(&str) -> bool,
        out: &mut Vec<Ruled>,
    ) {
        if self.set.is_empty() {
            return;
        }
        let set = self.set.clone();
        set.program.run(call, &mut self.scratch, &mut self.matched);
        let matched = std::mem::take(&mut self.matched);
        let mut of_call = None;
        for &number in &matched {
            let Some(rule) = set.rules.get(number as usize) else {
                continue;
            };
            if !rule.is_silent {
                let of_call = *of_call.get_or_insert_with(|| self.kind(call));
                let kind = of_call ^ Alike::from(number);
                let known = self.told.get(&kind);
                if let Some((finding, like)) = known.filter(|(finding, _)| is_open(finding)) {
                    out.push(Ruled::Again {
                        finding: finding.clone(),
                        like: like.clone(),
                    });
                } else {
                    let fields = report::fields(&set.program, number, call, &mut self.scratch);
                    out.extend(report::of_event(&set, number, call, kind, &fields));
                }
            }
            self.correlate(&set, number, call, out);
        }
        self.matched = matched;
    }

    /// Everything that a finding says of a call that a rule matched, but for its time and for fields that
    /// the rule alone asks about.
    fn kind(&mut self, call: &ApiCall) -> Alike {
        let who = &call.identity;
        self.room.clear();
        for text in [
            call.account(),
            call.region.as_deref(),
            call.source_ip.as_deref(),
            call.user_agent.as_deref(),
            Some(&*call.event_source),
            Some(&*call.event_name),
            call.error_code.as_deref(),
            who.actor(),
            who.arn.as_deref(),
            who.principal_id.as_deref(),
            who.access_key_id.as_deref(),
        ] {
            // Each behind its length, so that no two lists read alike.
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            self.room.extend_from_slice(&length.to_le_bytes());
            self.room
                .extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        let [high, low] = self.hashers.each_ref().map(|one| one.hash_one(&*self.room));
        Alike::from(high) << 64 | Alike::from(low)
    }

    /// Notes by which finding a call was told.
    pub(crate) fn note_told(&mut self, kind: Alike, finding: &str, call: &ApiCall) {
        if self.told.len() >= TOLD_MAX {
            // What comes again is told again, which costs time and loses nothing.
            self.told.clear();
        }
        let like = evidence_of::api(call).into();
        self.told.insert(kind, (finding.into(), like));
    }

    /// Tells the correlations that a rule matched, and those that correlate them.
    fn correlate(&mut self, set: &Arc<RuleSet>, number: u32, call: &ApiCall, out: &mut Vec<Ruled>) {
        if set.members.get(number as usize).is_none_or(Vec::is_empty) {
            return;
        }
        let mut matched = vec![number];
        while let Some(number) = matched.pop() {
            for &plan_number in set.members.get(number as usize).into_iter().flatten() {
                let Some(plan) = set.plans.get(plan_number as usize) else {
                    continue;
                };
                let fired = self.correlator.note(
                    plan_number,
                    plan,
                    number,
                    call,
                    call.event_time_ns,
                    || report::evidence(call),
                );
                let rule = set.rules.get(plan.rule as usize);
                if let (Some(fired), Some(rule)) = (fired, rule) {
                    if !rule.is_silent {
                        out.extend(report::of_correlation(set, plan, call, fired));
                    }
                    // A correlation comes behind its rules: this ends.
                    matched.push(plan.rule);
                }
            }
        }
    }

    /// Forgets what is older than any event to come can meet.
    pub(crate) fn expire(&mut self, watermark_ns: u64) {
        self.correlator.expire(&self.set.plans, watermark_ns);
    }

    /// What was turned away, by reason.
    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 3] {
        let counters = self.correlator.counters;
        [
            ("rule_groups_evicted", counters.groups_evicted),
            ("rule_events_left_out", counters.events_left_out),
            ("rule_events_late", counters.late),
        ]
    }
}

impl RuleSet {
    /// The rules that match an event by itself: for trying them out. Correlations are not asked.
    pub fn matches(&self, record: &dyn Record) -> Vec<&Rule> {
        let mut numbers = Vec::new();
        self.program
            .run(record, &mut Scratch::default(), &mut numbers);
        let rules = numbers.iter().filter_map(|&n| self.rules.get(n as usize));
        rules.collect()
    }
}
