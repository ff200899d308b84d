//! Somebody who is denied one call after the other tries on until one of them is allowed: a way to more
//! power was found.
//! Reads: CloudTrail calls; what was denied to each caller in the last minutes.
//! Fires: when a call succeeds that was denied to the caller within `window_s`, after `apis_min` different
//! calls of `services_min` services were denied to it in that time. What only reads must be about the same: a
//! scanner is let look into one bucket and not into the next, by the same call, all day.
//! Evidence: the call. Severity: high where what is allowed changes something, medium where it only reads.
//! Innocent look-alikes: a new program whose role is put right while it runs. Infrastructure code that has
//! shown to be such and the console, a page of which is denied many calls, do not count. ATT&CK T1068, T1078.004.
//! First look: what was changed between the denial and the success, and by whom.
//! Actor key: the call that was allowed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::look::Look;
use super::outcome::Outcome;
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Alike, CALL_FACTS_NS, Denied};
use crate::logs::cloudtrail::ApiCall;

/// Settings of `escalation_found`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Different calls that must have been denied: 6, more than a program that lacks one permission makes.
    /// Chosen by hand.
    pub apis_min: usize,
    /// Services that they must be of: 3, since a program mostly lacks permissions for one. Chosen by hand.
    pub services_min: usize,
    /// Seconds within which they count together: 1800, in which somebody tries what there is. A day at most.
    pub window_s: u64,
    /// Severity where what is allowed changes something: 8.0, high.
    pub severity: f64,
    /// Severity where it only reads: 5.0, medium.
    pub read_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            apis_min: 6,
            services_min: 3,
            window_s: 1_800,
            severity: 8.0,
            read_severity: 5.0,
        }
    }
}

const FOUND: FindingType =
    FindingType::picket("PrivilegeEscalation:IAMUser/DeniedThenAllowed", 5.0);

/// Escalations found.
pub(crate) struct EscalationFound;

impl Detection for EscalationFound {
    fn id(&self) -> &'static str {
        "escalation_found"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&FOUND]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        let is_denied = call.error_code.is_some() && Outcome::of(call) == Outcome::Denied;
        if !is_denied && !call.succeeded() || call.is_by_service() {
            return;
        }
        let settings = &context.settings.detections.escalation_found;
        if is_denied {
            let look = Look {
                call,
                history: context.history,
                accounts: &context.settings.accounts,
            };
            if !look.is_console() && !look.is_planned() {
                context.history.refusals.note(call);
            }
            return;
        }
        let window_ns = settings.window_s.saturating_mul(1_000_000_000);
        let window_ns = window_ns.min(CALL_FACTS_NS);
        let refusals = &mut context.history.refusals;
        let alike = if reads(call) {
            Alike::InWhatIsAsked
        } else {
            Alike::InName
        };
        let Some(denied) = refusals.allowed_at_last(call, alike, window_ns) else {
            return;
        };
        if denied.apis >= settings.apis_min && denied.services >= settings.services_min {
            let severity = if reads(call) {
                settings.read_severity
            } else {
                settings.severity
            };
            out.push(occurrence(call, denied, severity));
        }
    }
}

/// Says whether a call only reads: by what it says, else by its name.
fn reads(call: &ApiCall) -> bool {
    call.read_only.unwrap_or_else(|| {
        let verbs = ["Describe", "Get", "Head", "List"];
        verbs.iter().any(|verb| call.event_name.starts_with(verb))
    })
}

fn occurrence(call: &ApiCall, denied: Denied, severity: f64) -> Occurrence {
    let who = principal(call);
    let (name, api) = (quote(&who.name), &call.event_name);
    let title = format!("{name} was denied one call after the other, and then allowed {api}");
    let after_s = call.event_time_ns.saturating_sub(denied.since_ns) / 1_000_000_000;
    Occurrence {
        kind: &FOUND,
        rule: EscalationFound.id(),
        severity,
        confidence: 0.6,
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: format!("{} {api}", call.service()),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: denied.since_ns.min(call.event_time_ns),
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::new(),
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1068", "T1078.004"],
        description: format!(
            "{title}. Innocent look-alikes: a new program whose role is put right while it runs."
        ),
        why: format!(
            "{} different calls of {} services were denied to {name}; {api} was one of them, and was allowed \
             {after_s} s later from {}",
            denied.apis,
            denied.services,
            quote(origin(call))
        ),
        title,
        first_look: &[
            "What was changed between the denial and the success, and by whom.",
            "Whether the caller did it itself: by another role, a policy, a group.",
            "What it did next.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, analyze, api};
    use picket_intel::IndicatorSet;

    const DENIED: &str = r#","errorCode":"AccessDenied""#;

    fn call(service: &str, name: &str, second: u64, rest: &str) -> Event {
        let mut call = api(&format!(
            r#"{{"eventName":"{name}","eventSource":"{service}.amazonaws.com","recipientAccountId":"111122223333",
            "sourceIPAddress":"192.0.2.1","userAgent":"aws-cli/2","userIdentity":{{"type":"IAMUser",
            "userName":"eve","arn":"arn:aws:iam::111122223333:user/eve"}}{rest}}}"#
        ));
        call.event_time_ns = START + second * 1_000_000_000;
        Event::Api(call)
    }

    /// So many denied calls of so many services, a second apart, and then what follows.
    fn after(apis: usize, services: usize, rest: &str, last: Event) -> Vec<Event> {
        let names = ["iam", "ec2", "s3", "kms", "lambda"];
        let of = |n: usize| call(names[n % services], &format!("Create{n}"), n as u64, rest);
        (0..apis).map(of).chain([last]).collect()
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[f64]) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = findings
            .iter()
            .filter(|f| f.picket.rule == EscalationFound.id());
        let found: Vec<f64> = own.map(|f| f.severity).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_allowed_at_last() {
        let won = |second| call("iam", "Create0", second, "");
        check(after(6, 3, DENIED, won(60)), &[8.0]);
        let only_reads = call("iam", "Create0", 60, r#","readOnly":true"#);
        check(after(6, 3, DENIED, only_reads), &[5.0]);
        check(after(5, 3, DENIED, won(60)), &[]);
        // Another bucket is another door.
        let of = |bucket: &str| format!(r#","requestParameters":{{"bucketName":"{bucket}"}}"#);
        let denied = format!("{DENIED}{}", of("a"));
        let look = |bucket: &str| {
            let rest = format!(r#"{},"readOnly":true"#, of(bucket));
            call("iam", "Create0", 60, &rest)
        };
        check(after(6, 3, &denied, look("b")), &[]);
        check(after(6, 3, &denied, look("a")), &[5.0]);
        let write = call("iam", "Create0", 60, &of("b"));
        check(after(6, 3, &denied, write), &[8.0]);
        check(after(6, 2, DENIED, won(60)), &[]);
        check(after(6, 3, "", won(60)), &[]);
        check(after(6, 3, r#","errorCode":"NoSuchEntity""#, won(60)), &[]);
        check(after(6, 3, DENIED, won(3_600)), &[]);
        check(after(6, 3, DENIED, call("iam", "Other", 60, "")), &[]);
        let again = after(6, 3, DENIED, won(60));
        check(again.into_iter().chain([won(61)]).collect(), &[8.0]);
        let console = format!(r#"{DENIED},"sessionCredentialFromConsole":"true""#);
        check(after(6, 3, &console, won(60)), &[]);
    }
}
