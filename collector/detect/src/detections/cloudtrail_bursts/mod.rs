//! Calls that say little alone and much together: many different secrets, hosts, regions, denials by one
//! caller within minutes.
//! Reads: CloudTrail calls; how many different things each caller touched in each rule's window.
//! Fires: with the call that completes a number of different things, and with those that follow.
//! Evidence: the calls of the window. Severity: by the number reached; one band lower while calls are
//! denied, except where denials are what is counted.
//! Innocent look-alikes: each rule's. Infrastructure code that has shown to be such does not count, nor do
//! AWS services. ATT&CK: each rule's.
//! First look: each rule's.
//! Actor key: the rule, and what the rule counts by.

mod destruction;
mod discovery;
mod guessing;
mod harvest;
mod movement;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize};

use super::by_call::{ByCall, known_id, types};
use super::evidence_of::{self, quote};
use super::look::Look;
use super::outcome::Outcome;
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::cloudtrail::ApiCall;

/// Every rule, by what it counts. Numbers without another source are chosen by hand: what a person does in
/// ten minutes stays below them.
const LISTS: [&[Rule]; 5] = [
    destruction::RULES,
    discovery::RULES,
    guessing::RULES,
    harvest::RULES,
    movement::RULES,
];

fn rules() -> impl Iterator<Item = &'static Rule> {
    LISTS.into_iter().flatten()
}

const TEN_MINUTES: u64 = 600;
const HOUR: u64 = 3_600;

/// The rule that counts by address.
const SPRAY: &str = "passwords_sprayed";

/// The rule that counts by session: roles are taken by many, each at home elsewhere.
const SIGNED_IN: &str = "signed_in_from_places";

/// The rule that counts by key.
const PLACES: &str = "key_in_many_places";

/// Settings of `cloudtrail_bursts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Multiplies every number of different things that a rule asks for. 1.0: each rule's own, as its
    /// file tells. Raise it where callers are many and busy.
    pub things_factor: f64,
    /// Rules that are not reported, by id. None by default.
    pub off: Vec<RuleId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            things_factor: 1.0,
            off: Vec::new(),
        }
    }
}

/// The id of a rule that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RuleId(&'static str);

impl<'de> Deserialize<'de> for RuleId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        known_id(from, "rule", rules().map(|rule| rule.id)).map(Self)
    }
}

/// A rule that counts different things.
struct Rule {
    id: &'static str,
    kind: &'static FindingType,
    /// Seconds within which things count together.
    window_s: u64,
    /// Numbers of different things with the severity each is worth, rising.
    steps: &'static [(usize, f64)],
    calls: Calls,
    /// Whose calls are counted.
    by: Callers,
    /// Which of them.
    counts: Counts,
    /// The things that a call touches; none if it is not one to count.
    things: fn(&Look<'_>) -> Vec<String>,
    /// What the things are, in words.
    noun: &'static str,
    mitre: &'static [&'static str],
    look_alikes: &'static str,
    first_look: &'static [&'static str],
}

/// Which calls a rule looks at.
enum Calls {
    /// Those of these services and names.
    Named(&'static [(&'static str, &'static [&'static str])]),
    /// Every call that was denied.
    Denied,
    /// Every call that only reads.
    Reading,
    /// Every call.
    All,
}

/// Whose calls a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callers {
    /// Everybody's.
    All,
    /// People's and hosts'. What machines read all day is their work; where they are denied it is not.
    NotMachines,
    /// Hosts'.
    Hosts,
}

/// Which outcomes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Done or denied; a denied one is worth less.
    Attempts,
    /// Denials, or failures that tell something: they are what it is about.
    Failures,
}

impl Rule {
    /// Whom it counts by: the place for failed sign-ins, where nobody is somebody yet, and the session for
    /// those that succeed; else the caller, by its address where it has no name.
    fn who(&self, call: &ApiCall) -> String {
        let account = call.account().unwrap_or_default();
        let one = match self.id {
            SPRAY => call.source_ip.as_deref(),
            PLACES => call.identity.access_key_id.as_deref(),
            SIGNED_IN => call.identity.arn.as_deref().or(call.identity.actor()),
            _ => (call.identity.bearer())
                .or(call.identity.user_name.as_deref())
                .or(call.source_ip.as_deref()),
        };
        [account, one.unwrap_or_default()].join(" ")
    }

    fn wants(&self, look: &Look<'_>, outcome: Outcome) -> bool {
        let counted = match self.counts {
            Counts::Attempts => outcome != Outcome::Failed,
            Counts::Failures => true,
        };
        let of_caller = match self.by {
            Callers::All => true,
            Callers::NotMachines => {
                look.is_person() || look.is_instance() || outcome == Outcome::Denied
            }
            Callers::Hosts => look.is_instance(),
        };
        counted && of_caller
    }
}

/// Rules by the call's name, and those that look at others.
static BY_CALL: LazyLock<ByCall<Rule>> = LazyLock::new(|| {
    let named = rules().filter_map(|rule| match &rule.calls {
        Calls::Named(services) => Some((*services, rule)),
        _ => None,
    });
    ByCall::new(named)
});

static OF_ALL: LazyLock<Vec<&'static Rule>> = LazyLock::new(|| {
    let unnamed = rules().filter(|rule| !matches!(rule.calls, Calls::Named(_)));
    unnamed.collect()
});

static TYPES: LazyLock<Vec<&'static FindingType>> =
    LazyLock::new(|| types(rules().map(|rule| rule.kind)));

/// Calls that say much together.
pub(crate) struct CloudtrailBursts;

impl Detection for CloudtrailBursts {
    fn id(&self) -> &'static str {
        "cloudtrail_bursts"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &TYPES
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        if call.is_by_service() {
            return;
        }
        let outcome = Outcome::of(call);
        let reads = is_reading(call);
        for rule in BY_CALL.of(call) {
            count(rule, call, outcome, context, out);
        }
        for rule in OF_ALL.iter() {
            let is_one = match rule.calls {
                Calls::Named(_) => false,
                Calls::Denied => outcome == Outcome::Denied,
                Calls::Reading => reads,
                Calls::All => true,
            };
            if is_one {
                count(rule, call, outcome, context, out);
            }
        }
    }
}

/// Counts one call for one rule, and reports what is reached.
fn count(
    rule: &'static Rule,
    call: &ApiCall,
    outcome: Outcome,
    context: &mut Context<'_>,
    out: &mut Vec<Occurrence>,
) {
    let settings = &context.settings.detections.cloudtrail_bursts;
    let look = Look {
        call,
        history: context.history,
        accounts: &context.settings.accounts,
    };
    if !rule.wants(&look, outcome) || settings.off.contains(&RuleId(rule.id)) {
        return;
    }
    let things = (rule.things)(&look);
    if things.is_empty() || look.is_planned() {
        return;
    }
    let who = rule.who(call);
    let bursts = &mut context.history.bursts;
    let names = things.iter().map(String::as_str);
    let window_ns = rule.window_s * 1_000_000_000;
    let reach = bursts.note(rule.id, &who, names, call.event_time_ns, window_ns);
    let needed = |things: usize| things as f64 * settings.things_factor;
    let reached = rule
        .steps
        .iter()
        .rfind(|(things, _)| reach.things as f64 >= needed(*things));
    let Some((_, severity)) = reached else {
        let evidence = || evidence_of::call(call);
        bursts.wait(rule.id, &who, call.event_time_ns, evidence);
        return;
    };
    let severity = match rule.counts {
        Counts::Attempts => outcome.lower(*severity),
        Counts::Failures => *severity,
    };
    let mut all = bursts.waiting(rule.id, &who);
    all.push(evidence_of::call(call));
    out.push(occurrence(rule, call, &who, &reach, all, severity));
}

fn occurrence(
    rule: &Rule,
    call: &ApiCall,
    by: &str,
    reach: &crate::history::Reach,
    evidence: Vec<crate::finding::Evidence>,
    severity: f64,
) -> Occurrence {
    let who = principal(call);
    let (name, things, noun) = (quote(&who.name), reach.things, rule.noun);
    let took_s = (call.event_time_ns.saturating_sub(reach.first_ns)) / 1_000_000_000;
    let title = format!(
        "{name} {noun}: {things} within {} minutes",
        rule.window_s / 60
    );
    let mut additional_info = BTreeMap::new();
    additional_info.insert("behaviour".to_owned(), rule.id.to_owned());
    Occurrence {
        kind: rule.kind,
        rule: CloudtrailBursts.id(),
        severity,
        confidence: 0.7,
        account: who.account,
        region: who.region,
        subject: if rule.id == SPRAY {
            String::new()
        } else {
            who.subject
        },
        actor: format!("{} {by}", rule.id),
        resource: who.resource,
        role: Role::Actor,
        count: evidence.len() as u64,
        first_ns: reach.first_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info,
        evidence,
        mitre: rule.mitre,
        description: format!("{title}. Innocent look-alikes: {}.", rule.look_alikes),
        why: format!(
            "{name} {noun}: {things} different ones in {took_s} s, the last by {} from {}",
            call.event_name,
            quote(origin(call))
        ),
        title,
        first_look: rule.first_look,
    }
}

/// Says whether a call only reads: by what it says, else by its name.
fn is_reading(call: &ApiCall) -> bool {
    call.read_only.unwrap_or_else(|| {
        ["Describe", "Get", "Head", "List"]
            .iter()
            .any(|verb| call.event_name.starts_with(verb))
    })
}

fn one(thing: Option<&str>) -> Vec<String> {
    thing.into_iter().map(str::to_owned).collect()
}
