//! What a rule matched, as an occurrence of a finding.
//!
//! The finding names the rule (`picket.rule` is `sigma/<id>`), its author and licence, and shows the
//! fields that made it match. Its actor key is the rule and where the call came from, so that two
//! rules never share a finding.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Alike;
use super::correlate::{Fired, Plan};
use super::document::Kinds;
use super::limits::{FIELDS_SHOWN_MAX, VALUE_SHOWN_BYTES};
use super::program::{Program, Scratch};
use super::record::Record;
use super::rule::Rule;
use super::set::RuleSet;
use crate::detections::Occurrence;
use crate::detections::evidence_of::{self, quote};
use crate::detections::principal::{Principal, origin, principal};
use crate::finding::{ApiEvidence, Evidence, Finding, Role};
use crate::logs::cloudtrail::ApiCall;

/// What a rule matched.
#[derive(Debug)]
pub(crate) enum Ruled {
    /// Something that was not told before.
    New(Box<Told>),
    /// What was told before in all but its time: it counts, and goes to the evidence.
    Again {
        /// The finding it was told by.
        finding: Arc<str>,
        /// What was told.
        like: Arc<ApiEvidence>,
    },
}

/// An occurrence and its rule.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) occurrence: Occurrence,
    pub(crate) set: Arc<RuleSet>,
    pub(crate) number: u32,
    /// By what the same is known when it comes again.
    pub(crate) kind: Option<Alike>,
}

impl Ruled {
    /// By what the same is known when it comes again, if it was not told before.
    pub(crate) fn kind(&self) -> Option<Alike> {
        match self {
            Self::New(told) => told.kind,
            Self::Again { .. } => None,
        }
    }
}

impl Told {
    /// Writes into a finding that has just been opened what its rule says of itself, which stays the
    /// same over all its occurrences.
    pub(crate) fn introduce(set: &RuleSet, number: u32, finding: &mut Finding) {
        let Some(rule) = set.rules.get(number as usize) else {
            return;
        };
        let info = &mut finding.service.additional_info;
        let mut note = |key: &str, text: Option<&str>| {
            if let Some(text) = text {
                info.insert(key.to_owned(), quote(text));
            }
        };
        note("ruleId", Some(&rule.id));
        note("ruleTitle", Some(&rule.title));
        note("ruleLevel", Some(rule.level.name()));
        note("ruleAuthor", rule.author.as_deref());
        note("ruleLicense", rule.license.as_deref());
        note("ruleFile", Some(&rule.file));
        note("ruleDigest", Some(&rule.digest));
        let innocent = rule
            .false_positives
            .iter()
            .map(|text| format!("Innocent if: {}", quote(text.trim())));
        let first_look = FIRST_LOOK.iter().map(|&line| line.to_owned());
        let picket = &mut finding.picket;
        picket.rule = format!("sigma/{}", rule.id);
        picket.mitre = rule.techniques();
        picket.first_look = first_look.chain(innocent.take(5)).collect();
    }
}

/// What is there to look at whatever the rule says.
const FIRST_LOOK: [&str; 2] = [
    "Whether this principal does such a thing, and from there.",
    "What it did in the hour before and since.",
];

/// The fields that made a rule match, with a value each.
pub(super) fn fields(
    program: &Program,
    number: u32,
    record: &dyn Record,
    scratch: &mut Scratch,
) -> Vec<(String, String)> {
    let mut out = Vec::new();
    program.reasons(number, record, scratch, &mut |field, value| {
        if out.len() < FIELDS_SHOWN_MAX && !field.is_empty() {
            out.push((field.to_owned(), shortened(value)));
        }
    });
    out.sort_unstable();
    out
}

/// A call that a rule matched.
pub(super) fn of_event(
    set: &Arc<RuleSet>,
    number: u32,
    call: &ApiCall,
    kind: Alike,
    fields: &[(String, String)],
) -> Option<Ruled> {
    let rule = set.rules.get(number as usize)?;
    let who = principal(call);
    let came_from = call.source_ip.as_deref().unwrap_or_default();
    let actor = format!("{} {came_from}", rule.id);
    let why = format!(
        "{} called {} from {}, which the rule {:?} matches by {}",
        quote(&who.name),
        quote(&call.event_name),
        quote(origin(call)),
        quote(&rule.title),
        in_words(fields)
    );
    let evidence = vec![evidence(call)];
    let times = (call.event_time_ns, call.event_time_ns);
    let tale = Tale {
        who,
        actor,
        why,
        times,
        evidence,
        kind: Some(kind),
    };
    Some(ruled(set, number, rule, call, tale))
}

/// A correlation that came true with a call.
pub(super) fn of_correlation(
    set: &Arc<RuleSet>,
    plan: &Plan,
    call: &ApiCall,
    fired: Fired,
) -> Option<Ruled> {
    let rule = set.rules.get(plan.rule as usize)?;
    let who = principal(call);
    let group: Vec<(String, String)> = fired
        .group
        .into_iter()
        .map(|(field, value)| (field, shortened(&value)))
        .collect();
    let of = if group.is_empty() {
        String::new()
    } else {
        format!(" of {}", in_words(&group))
    };
    let what = match &plan.kind {
        Kinds::EventCount => "events".to_owned(),
        Kinds::ValueCount(fields) => format!("different values of {}", fields.join(" and ")),
        Kinds::Temporal => "rules".to_owned(),
        Kinds::TemporalOrdered => "rules in order".to_owned(),
    };
    let seconds = fired.last_ns.saturating_sub(fired.first_ns) / 1_000_000_000;
    let why = format!(
        "the rule {:?} counted {} {what}{of} within {seconds} s; the last was {} by {}",
        quote(&rule.title),
        fired.count,
        quote(&call.event_name),
        quote(&who.name)
    );
    let key: Vec<&str> = group.iter().map(|(_, value)| &**value).collect();
    let actor = format!("{} {}", rule.id, key.join(" "));
    let times = (fired.first_ns, fired.last_ns);
    let tale = Tale {
        who,
        actor,
        why,
        times,
        evidence: fired.evidence,
        kind: None,
    };
    Some(ruled(set, plan.rule, rule, call, tale))
}

/// A call as evidence.
pub(super) fn evidence(call: &ApiCall) -> Evidence {
    evidence_of::call(call)
}

/// What an occurrence is made of, besides its rule and its call.
struct Tale {
    who: Principal,
    actor: String,
    why: String,
    /// First and last, nanoseconds.
    times: (u64, u64),
    evidence: Vec<Evidence>,
    kind: Option<Alike>,
}

fn ruled(set: &Arc<RuleSet>, number: u32, rule: &Rule, call: &ApiCall, tale: Tale) -> Ruled {
    let Tale {
        who,
        actor,
        why,
        times: (first_ns, last_ns),
        evidence,
        kind,
    } = tale;
    let occurrence = Occurrence {
        kind: rule.finding_type(),
        rule: "sigma",
        severity: rule.level.severity(),
        // The rule says how bad it is; how sure it is nobody says.
        confidence: 0.5,
        title: format!(
            "{}: {} by {}",
            quote(&rule.title),
            quote(&call.event_name),
            quote(&who.name)
        ),
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor,
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns,
        last_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::new(),
        evidence,
        mitre: &[],
        description: match &rule.description {
            Some(text) => quote(text.trim()),
            None => format!("{}.", quote(&rule.title)),
        },
        why,
        first_look: &[],
    };
    Ruled::New(Box::new(Told {
        occurrence,
        set: set.clone(),
        number,
        kind,
    }))
}

fn in_words(fields: &[(String, String)]) -> String {
    if fields.is_empty() {
        return "what it does not say".to_owned();
    }
    let words: Vec<String> = fields
        .iter()
        .map(|(field, value)| format!("{field} {value:?}"))
        .collect();
    words.join(", ")
}

fn shortened(text: &str) -> String {
    if text.len() <= VALUE_SHOWN_BYTES {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(VALUE_SHOWN_BYTES);
    format!("{}…", &text[..cut])
}
