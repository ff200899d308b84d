//! Single calls that hurt: each behaviour is an entry of one of the lists beside this file.
//! Reads: CloudTrail calls; what earlier calls told of trails, of infrastructure code, of new users.
//! Fires: at once, on success and on attempts that were denied or ran into a limit. Not on calls that AWS
//! services make for themselves.
//! Evidence: the call. Severity: the behaviour's; an attempt one band lower; lower too, where the entry
//! says so, for infrastructure code that has shown to be such, or that `accounts.automation` names.
//! Innocent look-alikes, first look, ATT&CK: each entry's.
//! Actor key: the behaviour, and whom it let in where there is somebody.

mod compute;
mod credentials;
mod data;
mod exposure;
mod grants;
mod guards;
mod monitoring;
mod passing;
mod sessions;
mod sharing;
mod sign_in;
mod strangers;
#[cfg(test)]
mod testing;
mod triggers;
mod trust;

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

/// Settings of `cloudtrail_calls`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Behaviours that are not reported. None by default.
    pub off: Vec<BehaviourId>,
    /// Severities that replace those of behaviours. None by default: `docs/cloudtrail.md` lists them.
    pub severities: Vec<Replaced>,
}

/// A severity that replaces a behaviour's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// Of which behaviour.
    pub behaviour: BehaviourId,
    /// 1.0 to 10.0.
    pub severity: f64,
}

/// The id of a behaviour that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BehaviourId(&'static str);

impl<'de> Deserialize<'de> for BehaviourId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        known_id(
            from,
            "behaviour",
            behaviours().map(|behaviour| behaviour.id),
        )
        .map(Self)
    }
}

/// Something that a single call can be.
struct Behaviour {
    /// Its id, unique in all lists.
    id: &'static str,
    kind: &'static FindingType,
    /// When it was carried out.
    severity: f64,
    /// When infrastructure code did it, where that is everyday.
    planned: Option<f64>,
    /// Services without their domain, each with its calls, without Lambda's dates.
    calls: &'static [(&'static str, &'static [&'static str])],
    /// What the call does, if it is this.
    judge: fn(&Look<'_>) -> Option<Deed>,
    mitre: &'static [&'static str],
    /// Who does the same and means no harm.
    look_alikes: &'static str,
    first_look: &'static [&'static str],
}

/// What a call does.
struct Deed {
    /// In words that go on after the caller's name.
    what: String,
    /// Where it is not the behaviour's.
    severity: Option<f64>,
    /// What makes it another issue than the same of other calls: the account let in.
    issue: String,
}

impl Deed {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            severity: None,
            issue: String::new(),
        }
    }

    fn severity(self, severity: f64) -> Self {
        Self {
            severity: Some(severity),
            ..self
        }
    }

    fn issue(self, issue: impl Into<String>) -> Self {
        Self {
            issue: issue.into(),
            ..self
        }
    }
}

const LISTS: [&[Behaviour]; 14] = [
    compute::LIST,
    credentials::LIST,
    data::LIST,
    exposure::LIST,
    grants::LIST,
    guards::LIST,
    monitoring::LIST,
    passing::LIST,
    sessions::LIST,
    sharing::LIST,
    sign_in::LIST,
    strangers::LIST,
    triggers::LIST,
    trust::LIST,
];

fn behaviours() -> impl Iterator<Item = &'static Behaviour> {
    LISTS.into_iter().flatten()
}

/// What each behaviour is listed with: its type, its severity, and that of infrastructure code.
pub(crate) fn listed() -> impl Iterator<Item = (&'static str, &'static str, f64, Option<f64>)> {
    behaviours().map(|one| (one.id, one.kind.name, one.severity, one.planned))
}

/// Behaviours by the call's name.
static BY_CALL: LazyLock<ByCall<Behaviour>> =
    LazyLock::new(|| ByCall::new(behaviours().map(|one| (one.calls, one))));

static TYPES: LazyLock<Vec<&'static FindingType>> =
    LazyLock::new(|| types(behaviours().map(|behaviour| behaviour.kind)));

/// Single calls that hurt.
pub(crate) struct CloudtrailCalls;

impl Detection for CloudtrailCalls {
    fn id(&self) -> &'static str {
        "cloudtrail_calls"
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
        let mut entries = BY_CALL.of(call).peekable();
        if entries.peek().is_none() {
            return;
        }
        if call.is_by_service() && !grants::is_quarantine(call) {
            return;
        }
        let outcome = Outcome::of(call);
        if outcome != Outcome::Failed {
            let settings = &context.settings.detections.cloudtrail_calls;
            let look = Look {
                call,
                history: context.history,
                accounts: &context.settings.accounts,
            };
            for behaviour in entries {
                if settings.off.contains(&BehaviourId(behaviour.id)) {
                    continue;
                }
                if let Some(deed) = (behaviour.judge)(&look) {
                    let planned = behaviour.planned.filter(|_| look.is_planned());
                    let usual = deed.severity.unwrap_or(behaviour.severity);
                    let mut replaced = settings.severities.iter();
                    let replaced = replaced.find(|one| one.behaviour.0 == behaviour.id);
                    let severity = planned.map_or(usual, |planned| planned.min(usual));
                    let severity = outcome.lower(replaced.map_or(severity, |one| one.severity));
                    out.push(occurrence(call, behaviour, &deed, severity, outcome));
                }
            }
        }
        if outcome == Outcome::Done {
            grants::learn(call, context.history);
        }
    }
}

fn occurrence(
    call: &ApiCall,
    behaviour: &Behaviour,
    deed: &Deed,
    severity: f64,
    outcome: Outcome,
) -> Occurrence {
    let who = principal(call);
    let (name, what) = (quote(&who.name), quote(&deed.what));
    let what = match call.error_code.as_deref() {
        Some(code) => format!("was denied ({}) what it tried: {what}", quote(code)),
        None => what,
    };
    let title = format!("{name} {what}");
    let mut additional_info = BTreeMap::new();
    additional_info.insert("behaviour".to_owned(), behaviour.id.to_owned());
    Occurrence {
        kind: behaviour.kind,
        rule: CloudtrailCalls.id(),
        severity,
        confidence: if outcome == Outcome::Done { 0.8 } else { 0.6 },
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: format!("{} {}", behaviour.id, deed.issue),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info,
        evidence: vec![evidence_of::call(call)],
        mitre: behaviour.mitre,
        description: format!("{title}. Innocent look-alikes: {}.", behaviour.look_alikes),
        why: format!(
            "{name} called {} from {}: it {what}",
            call.event_name,
            quote(origin(call))
        ),
        title,
        first_look: behaviour.first_look,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_entries_say_what_a_reader_needs() {
        let mut ids = BTreeSet::new();
        for one in behaviours() {
            assert!(ids.insert(one.id), "{} twice", one.id);
            assert!(
                !one.mitre.is_empty() && !one.first_look.is_empty(),
                "{}",
                one.id
            );
            assert!(
                !one.look_alikes.is_empty() && !one.look_alikes.ends_with('.'),
                "{}",
                one.id
            );
            let planned = one.planned.unwrap_or(1.0);
            assert!(
                (1.0..=10.0).contains(&one.severity) && planned < one.severity,
                "{}",
                one.id
            );
        }
    }

    #[test]
    fn settings_name_behaviours_that_there_are() {
        let settings: Settings = toml::from_str(
            "off = ['key_for_another']\n[[severities]]\nbehaviour = 'admin_policy_attached'\nseverity = 9.5\n",
        )
        .unwrap();
        assert_eq!(
            settings.severities[0].behaviour,
            BehaviourId("admin_policy_attached")
        );
        let again: Settings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        let error = toml::from_str::<Settings>("off = ['nothing']").unwrap_err();
        assert!(
            error.to_string().contains("no behaviour `nothing`"),
            "{error}"
        );
    }
}
