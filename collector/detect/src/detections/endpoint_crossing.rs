//! A VPC endpoint that somebody uses who has no business there: credentials that are not ours come through
//! an endpoint of ours, or ours through one that is not.
//! Reads: CloudTrail calls and network activity events that name the account of an endpoint.
//! Fires: at once, on calls that an endpoint's policy denied (`VpceAccessDenied`) too: by such an event
//! alone the owner of the endpoint learns of the call.
//! Evidence: the call. Severity: medium for a stranger at our endpoint; high where a user's or a person's
//! credential of ours is used in a stranger's network, low for other roles of ours, which we let vendors
//! take; low for one of ours that an endpoint's policy denied.
//! Innocent look-alikes: vendors whose software runs on our hosts with keys of theirs, vendors who work
//! with a role of ours from their own network, accounts of ours that are not named in `accounts.own`.
//! ATT&CK T1078.004, T1567, T1537.
//! First look: which host the call came from, and which credentials are on it.
//! Actor key: which way, and the stranger's account.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::look::Look;
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::cloudtrail::ApiCall;

/// Settings of `endpoint_crossing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a stranger's credential at an endpoint of ours: 5.0, medium; its policy may stop it, and
    /// then whoever brought it is on a host of ours all the same.
    pub stranger_severity: f64,
    /// Severity of a credential of ours, of a user or a person, at an endpoint of a stranger's: 8.0, high,
    /// since such credentials are handed to nobody.
    pub own_severity: f64,
    /// Severity of a session of another role of ours there: 3.0, low, since vendors are given roles.
    pub role_severity: f64,
    /// Severity of a call of ours that the policy of our own endpoint denied: 2.0, low, mostly a mistake.
    pub denied_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stranger_severity: 5.0,
            own_severity: 8.0,
            role_severity: 3.0,
            denied_severity: 2.0,
        }
    }
}

const STRANGER: FindingType =
    FindingType::picket("UnauthorizedAccess:IAMUser/ForeignPrincipalAtEndpoint", 5.0);
const OWN: FindingType = FindingType::picket(
    "UnauthorizedAccess:IAMUser/CredentialAtForeignEndpoint",
    8.0,
);
const DENIED: FindingType = FindingType::picket("UnauthorizedAccess:IAMUser/DeniedByEndpoint", 2.0);

/// Endpoints used across accounts.
pub(crate) struct EndpointCrossing;

impl Detection for EndpointCrossing {
    fn id(&self) -> &'static str {
        "endpoint_crossing"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&OWN, &DENIED, &STRANGER]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        // Few calls come through an endpoint, and fewer say whose it is.
        let is_denied = call.error_code.as_deref() == Some("VpceAccessDenied");
        let Some(endpoint) = endpoint_account(call, is_denied) else {
            return;
        };
        let Some(caller) = call.identity.account.as_deref() else {
            return;
        };
        if call.is_by_service() {
            return;
        }
        let look = Look {
            call,
            history: context.history,
            accounts: &context.settings.accounts,
        };
        let settings = &context.settings.detections.endpoint_crossing;
        let strange = (look.is_foreign(caller), look.is_foreign(endpoint));
        let (kind, severity, stranger, how) = match strange {
            (true, false) => (
                &STRANGER,
                settings.stranger_severity,
                caller,
                format!("of account {caller}, which is not ours, came through an endpoint of ours"),
            ),
            // Those of hosts and functions have types of their own (`stolen_credential`).
            (false, true) if !look.is_instance() && !in_runtime(call) => (
                &OWN,
                if look.is_person() {
                    settings.own_severity
                } else {
                    settings.role_severity
                },
                endpoint,
                format!("came through an endpoint of account {endpoint}, which is not ours"),
            ),
            (false, false) if is_denied => (
                &DENIED,
                settings.denied_severity,
                "",
                "was denied by the policy of an endpoint of ours".to_owned(),
            ),
            _ => return,
        };
        out.push(occurrence(call, kind, severity, stranger, &how));
    }
}

/// The account of the endpoint that a call came through. Only its owner is told that its policy denied one.
fn endpoint_account(call: &ApiCall, is_denied: bool) -> Option<&str> {
    let told = call.vpc_endpoint_account.as_deref();
    let of_owner = call.recipient_account.as_deref().filter(|_| is_denied);
    told.or(of_owner)
}

fn in_runtime(call: &ApiCall) -> bool {
    call.agent_words()
        .has(crate::logs::agent_words::Says::Runtime)
}

fn occurrence(
    call: &ApiCall,
    kind: &'static FindingType,
    severity: f64,
    stranger: &str,
    how: &str,
) -> Occurrence {
    let who = principal(call);
    let name = quote(&who.name);
    let title = format!("{name} {how}");
    let endpoint = call.vpc_endpoint_id.as_deref().unwrap_or("?");
    Occurrence {
        kind,
        rule: EndpointCrossing.id(),
        severity,
        confidence: if severity >= 7.0 { 0.8 } else { 0.6 },
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: format!("{} {stranger}", kind.name),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::from([("endpoint".to_owned(), quote(endpoint))]),
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1078.004", "T1567", "T1537"],
        description: format!(
            "{title}. Innocent look-alikes: vendors whose software runs on our hosts with keys of their own, \
             vendors who work with a role of ours from their network, accounts of ours that \
             `accounts.own` does not name."
        ),
        why: format!(
            "{name} called {} from {} by endpoint {}: it {how}",
            call.event_name,
            quote(origin(call)),
            quote(endpoint)
        ),
        title,
        first_look: &[
            "Which host the call came from, and which credentials are on it.",
            "What was read and written by these credentials.",
            "Whether the other account is one of ours, or a vendor's.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, api};
    use picket_intel::IndicatorSet;

    const ME: &str = "111122223333";
    const OTHER: &str = "999988887777";

    #[track_caller]
    fn check(identity: &str, rest: &str, expected: Option<(&str, f64)>) {
        let event = Event::Api(api(&format!(
            r#"{{"eventName":"GetObject","eventSource":"s3.amazonaws.com","recipientAccountId":"{ME}",
            "vpcEndpointId":"vpce-1","sourceIPAddress":"10.0.0.1","userIdentity":{{{identity}}},{rest}}}"#
        )));
        let (findings, _) = analyze(IndicatorSet::default(), [event]);
        let own = findings
            .iter()
            .find(|f| f.picket.rule == EndpointCrossing.id());
        let found = own.map(|f| (f.type_name(), f.severity));
        assert_eq!(found, expected, "{identity} {rest}");
    }

    fn at(account: &str) -> String {
        format!(r#""vpcEndpointAccountId":"{account}""#)
    }

    #[test]
    fn strangers_at_our_endpoint() {
        let stranger = format!(r#""type":"AWSAccount","accountId":"{OTHER}""#);
        let ours = format!(r#""type":"IAMUser","accountId":"{ME}","userName":"eve""#);
        let denied = format!(r#"{},"errorCode":"VpceAccessDenied""#, at(ME));
        check(&stranger, &at(ME), Some((STRANGER.name, 5.0)));
        check(&stranger, &denied, Some((STRANGER.name, 5.0)));
        // Whose endpoint denied it is told by whose event it is.
        let untold = r#""errorCode":"VpceAccessDenied","eventType":"AwsVpceEvent""#;
        check(&stranger, untold, Some((STRANGER.name, 5.0)));
        check(&ours, &denied, Some((DENIED.name, 2.0)));
        check(&ours, &at(ME), None);
        check(&stranger, &at(OTHER), None);
        check(&stranger, r#""errorCode":"AccessDenied""#, None);
        let service = r#""type":"AWSService","invokedBy":"s3.amazonaws.com""#;
        check(service, &at(ME), None);
    }

    #[test]
    fn ours_at_the_endpoint_of_a_stranger() {
        let role = |session: &str| {
            format!(
                r#""type":"AssumedRole","accountId":"{ME}",
                "arn":"arn:aws:sts::{ME}:assumed-role/app/{session}""#
            )
        };
        let user = format!(r#""type":"IAMUser","accountId":"{ME}","userName":"eve""#);
        check(&user, &at(OTHER), Some((OWN.name, 8.0)));
        check(&role("ann@example.com"), &at(OTHER), Some((OWN.name, 8.0)));
        check(&role("vendor"), &at(OTHER), Some((OWN.name, 3.0)));
        // A host's has a type of its own.
        check(&role("i-0abc"), &at(OTHER), None);
        check(&user, &at(ME), None);
        check(&role("vendor"), &at(ME), None);
    }
}
