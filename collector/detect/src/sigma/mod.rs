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
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

pub use fault::{Fault, Why};
pub use record::{Quick, Record};
pub(crate) use report::{Ruled, Told};
pub(crate) use rule::types;
pub use rule::{Level, Rule};
pub use search::Placeholders;
pub use set::{Loaded, RuleSet};

use crate::logs::cloudtrail::ApiCall;
use correlate::Correlator;
use limits::TOLD_MAX;
use program::Scratch;

/// The rules in force and what they remember.
#[derive(Debug, Default)]
pub(crate) struct Sigma {
    set: Arc<RuleSet>,
    scratch: Scratch,
    correlator: Correlator,
    matched: Vec<u32>,
    /// The findings of what was told already, by what is told of it.
    told: HashMap<u64, Arc<str>>,
    /// Keyed anew in every process: what meets in this hash counts as the same, so nobody outside may
    /// know how to make things meet.
    hasher: RandomState,
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
        for &number in &matched {
            let Some(rule) = set.rules.get(number as usize) else {
                continue;
            };
            if !rule.is_silent {
                let kind = self.kind(number, call);
                let known = self.told.get(&kind).filter(|finding| is_open(finding));
                if let Some(finding) = known {
                    out.push(Ruled::Again {
                        finding: finding.clone(),
                        time_ns: call.event_time_ns,
                        evidence: Box::new(report::evidence(call)),
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
    fn kind(&self, number: u32, call: &ApiCall) -> u64 {
        let who = &call.identity;
        self.hasher.hash_one((
            number,
            (
                call.account(),
                &call.region,
                &call.source_ip,
                &call.user_agent,
            ),
            (&call.event_source, &call.event_name, &call.error_code),
            (who.actor(), &who.arn, &who.principal_id, &who.access_key_id),
        ))
    }

    /// Notes by which finding something was told.
    pub(crate) fn note_told(&mut self, kind: u64, finding: &str) {
        if self.told.len() >= TOLD_MAX {
            // What comes again is told again, which costs time and loses nothing.
            self.told.clear();
        }
        self.told.insert(kind, finding.into());
    }

    /// Tells the correlations that a rule matched, and those that correlate them.
    fn correlate(&mut self, set: &Arc<RuleSet>, number: u32, call: &ApiCall, out: &mut Vec<Ruled>) {
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
