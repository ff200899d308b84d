//! Root: the account's root user did something itself, or a session that was assumed as root did.
//! Reads: calls and sign-ins whose identity is Root. Fires: at once, unless a service acted for it or
//! the event is the service's own.
//! Evidence: the call. Severity: low for reading, medium for a sign-in or a change, high for a new
//! access key of root's own.
//! Innocent look-alikes: services that act on root's behalf (`invokedBy`), service events, the
//! creation of service-linked roles. ATT&CK T1078.004.
//! First look: who holds the root password and second factor; where the call came from; what else
//! came from there.
//! Actor key: where it came from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::IdentityKind;
use crate::logs::cloudtrail::ApiCall;

/// Settings of `root_usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of reading: 2.0, GuardDuty's for every use of root.
    pub read_severity: f64,
    /// Severity of a sign-in, a failed one included, and of a change: 5.0, since accounts are run
    /// without root, and what it does nothing else can forbid.
    pub use_severity: f64,
    /// Severity of a new access key of root's own: 8.0, since it is a key to everything that
    /// outlives the session.
    pub key_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_severity: 2.0,
            use_severity: 5.0,
            key_severity: 8.0,
        }
    }
}

const ROOT: FindingType = FindingType::guardduty("Policy:IAMUser/RootCredentialUsage", 2.0);
const SHORT_TERM: FindingType =
    FindingType::guardduty("Policy:IAMUser/ShortTermRootCredentialUsage", 2.0);

/// What the console itself names as the caller when a person clicks.
const CONSOLE: &str = "signin.amazonaws.com";

/// Use of the root user.
pub(crate) struct RootUsage;

impl Detection for RootUsage {
    fn id(&self) -> &'static str {
        "root_usage"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&ROOT, &SHORT_TERM]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        if call.identity.kind != IdentityKind::Root {
            return;
        }
        let settings = &context.settings.detections.root_usage;
        if let Some(deed) = Deed::of(call) {
            out.push(occurrence(call, deed, settings));
        }
    }
}

/// What root did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// It read, or tried something in vain, or a service-linked role came with something else.
    Read,
    /// It signed in, or somebody tried to.
    SignIn,
    /// It changed something.
    Change,
    /// It made itself an access key.
    OwnKey,
}

impl Deed {
    /// `None` where root did nothing itself.
    fn of(call: &ApiCall) -> Option<Self> {
        let invoked_by = call.identity.invoked_by.as_deref();
        let kind = call.event_type.as_deref();
        if kind == Some("AwsServiceEvent") || invoked_by.is_some_and(|by| by != CONSOLE) {
            return None;
        }
        let name = &*call.event_name;
        let done = call.succeeded();
        Some(match name {
            "CreateAccessKey" if done && call.request_parameters.text("userName").is_none() => {
                Self::OwnKey
            }
            "ConsoleLogin" => Self::SignIn,
            // Comes with other changes, which are told by themselves.
            "CreateServiceLinkedRole" => Self::Read,
            _ if !done || is_reading(call) => Self::Read,
            // A click in the console: its name is told, what it does is mostly housekeeping.
            _ if invoked_by.is_some() => Self::Read,
            _ if kind == Some("AwsConsoleSignIn") => Self::Read,
            _ => Self::Change,
        })
    }

    fn severity(self, settings: &Settings) -> f64 {
        match self {
            Self::Read => settings.read_severity,
            Self::SignIn | Self::Change => settings.use_severity,
            Self::OwnKey => settings.key_severity,
        }
    }
}

/// Says whether the session is one that the organisation's managers took by `AssumeRoot`, which may do one
/// task only: CloudTrail says so of the session (IAM user guide, "Perform a privileged task").
fn is_short_term(call: &ApiCall) -> bool {
    let assumed = call.field("userIdentity.sessionContext.assumedRoot");
    assumed.is_some_and(|assumed| assumed == true || assumed == "true")
}

/// Says whether a call changes nothing: by its own word, else by its name.
fn is_reading(call: &ApiCall) -> bool {
    call.read_only.unwrap_or_else(|| {
        ["Get", "List", "Describe", "Head", "Lookup"]
            .iter()
            .any(|prefix| call.event_name.starts_with(prefix))
    })
}

fn occurrence(call: &ApiCall, deed: Deed, settings: &Settings) -> Occurrence {
    let who = principal(call);
    let (api, from) = (&call.event_name, quote(origin(call)));
    let (what, mitre): (_, &[&str]) = match deed {
        Deed::Read => ("used", &["T1078.004"]),
        Deed::SignIn => ("was signed in to", &["T1078.004"]),
        Deed::Change => ("made a change", &["T1078.004"]),
        Deed::OwnKey => ("made itself an access key", &["T1078.004", "T1098.001"]),
    };
    let failed = match call.error_code.as_deref().or(login_failure(call)) {
        Some(error) => format!(" (it failed: {})", quote(error)),
        None => String::new(),
    };
    let account = who.account.clone();
    let title = format!("Root of account {} {what}: {api}{failed}", quote(&account));
    Occurrence {
        kind: if is_short_term(call) {
            &SHORT_TERM
        } else {
            &ROOT
        },
        rule: RootUsage.id(),
        severity: deed.severity(settings),
        confidence: 1.0,
        region: who.region,
        subject: who.subject,
        actor: call.source_ip.as_deref().unwrap_or_default().to_owned(),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::new(),
        evidence: vec![evidence_of::call(call)],
        mitre,
        description: format!("{title}. Accounts are run without their root user."),
        why: format!("root called {api} from {from}{failed}, and no service acted for it"),
        title,
        account,
        first_look: &[
            "Who holds root's password and second factor, and whether they were at it.",
            "Where it came from, and what else came from there.",
            "Whether root has access keys.",
        ],
    }
}

/// Why a sign-in failed: the console says it elsewhere than other services.
fn login_failure(call: &ApiCall) -> Option<&str> {
    let failed = &*call.event_name == "ConsoleLogin"
        && call.response_elements.text("ConsoleLogin") == Some("Failure");
    failed.then(|| call.error_message.as_deref().unwrap_or("Failure"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, api, brief};
    use picket_intel::IndicatorSet;

    #[track_caller]
    fn check(name: &str, identity: &str, rest: &str, expected: Option<f64>) {
        let event = Event::Api(api(&format!(
            r#"{{"eventID":"e","eventTime":"2023-11-14T22:13:20Z","eventSource":"iam.amazonaws.com",
            "eventName":"{name}","awsRegion":"us-east-1","recipientAccountId":"111122223333",
            "sourceIPAddress":"192.0.2.1","userIdentity":{{{identity}}}{rest}}}"#
        )));
        let (findings, _) = analyze(IndicatorSet::default(), [event]);
        let own = findings.iter().find(|f| f.picket.rule == RootUsage.id());
        assert_eq!(own.map(|f| f.severity), expected);
    }

    const ROOT: &str =
        r#""type":"Root","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333""#;

    #[test]
    fn what_root_does_itself() {
        check(
            "ConsoleLogin",
            ROOT,
            r#","responseElements":{"ConsoleLogin":"Success"}"#,
            Some(5.0),
        );
        check(
            "ConsoleLogin",
            ROOT,
            r#","responseElements":{"ConsoleLogin":"Failure"}"#,
            Some(5.0),
        );
        check("PutBucketVersioning", ROOT, "", Some(5.0));
        check(
            "CreateAccessKey",
            ROOT,
            r#","requestParameters":null"#,
            Some(8.0),
        );
        check("ListUsers", ROOT, "", Some(2.0));
        check("AssumeRole", ROOT, r#","readOnly":true"#, Some(2.0));
        check(
            "DeleteUser",
            ROOT,
            r#","errorCode":"AccessDenied""#,
            Some(2.0),
        );
        check("CreateServiceLinkedRole", ROOT, "", Some(2.0));
    }

    #[test]
    fn a_session_assumed_as_root_has_a_type_of_its_own() {
        let kind = |context: &str| {
            let event = Event::Api(api(&format!(
                r#"{{"eventName":"DeleteBucketPolicy","eventSource":"s3.amazonaws.com",
                "userIdentity":{{{ROOT},"sessionContext":{{{context}}}}}}}"#
            )));
            let (findings, _) = analyze(IndicatorSet::default(), [event]);
            let mut own = findings.iter().filter(|f| f.picket.rule == RootUsage.id());
            own.next().map(|f| f.type_name().to_owned())
        };
        let short = "Policy:IAMUser/ShortTermRootCredentialUsage";
        assert_eq!(kind(r#""assumedRoot":"true""#).as_deref(), Some(short));
        assert_eq!(kind(r#""assumedRoot":true"#).as_deref(), Some(short));
        let usual = Some("Policy:IAMUser/RootCredentialUsage");
        assert_eq!(kind(r#""assumedRoot":"false""#).as_deref(), usual);
        assert_eq!(kind("").as_deref(), usual);
    }

    #[test]
    fn what_root_does_not_do_itself() {
        let by = |service: &str| format!(r#"{ROOT},"invokedBy":"{service}""#);
        check("PutBucketVersioning", &by("backup.amazonaws.com"), "", None);
        check("CreateAccessKey", &by("backup.amazonaws.com"), "", None);
        check("RotateKey", ROOT, r#","eventType":"AwsServiceEvent""#, None);
        check(
            "PutBucketVersioning",
            r#""type":"IAMUser","userName":"root""#,
            "",
            None,
        );
        check("PutBucketVersioning", r#""type":"AssumedRole""#, "", None);
        check("PutBucketVersioning", "", "", None);
    }

    #[test]
    fn a_click_in_the_console_is_housekeeping_but_for_roots_own_key() {
        let clicked = format!(r#"{ROOT},"invokedBy":"signin.amazonaws.com""#);
        check("CreateAccessKey", &clicked, "", Some(8.0));
        check(
            "CreateAccessKey",
            &clicked,
            r#","requestParameters":{"userName":"bob"}"#,
            Some(2.0),
        );
    }

    #[test]
    fn a_second_place_is_a_second_finding() {
        let from = |address: &str| {
            Event::Api(api(&format!(
                r#"{{"eventName":"ListUsers","eventTime":"2023-11-14T22:13:20Z",
                "sourceIPAddress":"{address}","userIdentity":{{{ROOT}}}}}"#
            )))
        };
        let events = [from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.2")];
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let name = "Policy:IAMUser/RootCredentialUsage";
        assert_eq!(brief(&findings), [(name, 2.0, 2), (name, 2.0, 1)]);
    }
}
