//! Listed callers: somebody calls the AWS API from a listed address.
//! Reads: calls whose source is an address. Fires: at once; by what is called as reconnaissance
//! (listing, describing) or as unauthorised access (the rest); calls on buckets and objects by what they
//! do there: look round, take out, change.
//! Evidence: the call, with the list and its entry. Severity: GuardDuty's, medium, and high where it is
//! about what buckets hold; low for a sign-in or an anonymous call that failed, which takes no credential,
//! or where the list is not sure.
//! Innocent look-alikes: services that call on somebody's behalf (their source is a name), a list
//! that names our own way out. ATT&CK T1078.004, T1580.
//! First look: whether the principal's owner was behind that address; what else came from it; what
//! the principal did elsewhere at the same time.
//! Actor key: the address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::{Category, Match};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::principal::principal;
use super::verdict::{Standing, graded};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::IdentityKind;
use crate::logs::cloudtrail::ApiCall;

/// Settings of `indicator_caller`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a call made with a credential: 5.0, GuardDuty's. A denied one counts as much,
    /// since the credential is in the wrong hands all the same.
    pub severity: f64,
    /// Severity of a call on a bucket or object: 8.0, GuardDuty's; it has 5.0 for one that only looks
    /// round there from Tor, where [`Settings::severity`] holds.
    pub bucket_severity: f64,
    /// Severity of a failed sign-in or anonymous call: 2.0, since anybody can make one.
    pub knock_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            severity: 5.0,
            bucket_severity: 8.0,
            knock_severity: 2.0,
        }
    }
}

const RECON: FindingType = FindingType::guardduty("Recon:IAMUser/MaliciousIPCaller", 5.0);
const RECON_CUSTOM: FindingType =
    FindingType::guardduty("Recon:IAMUser/MaliciousIPCaller.Custom", 5.0);
const RECON_TOR: FindingType = FindingType::guardduty("Recon:IAMUser/TorIPCaller", 5.0);
const ACCESS: FindingType =
    FindingType::guardduty("UnauthorizedAccess:IAMUser/MaliciousIPCaller", 5.0);
const ACCESS_CUSTOM: FindingType =
    FindingType::guardduty("UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom", 5.0);
const ACCESS_TOR: FindingType =
    FindingType::guardduty("UnauthorizedAccess:IAMUser/TorIPCaller", 5.0);
const S3_RECON: FindingType = FindingType::guardduty("Discovery:S3/MaliciousIPCaller", 8.0);
const S3_RECON_CUSTOM: FindingType =
    FindingType::guardduty("Discovery:S3/MaliciousIPCaller.Custom", 8.0);
const S3_RECON_TOR: FindingType = FindingType::guardduty("Discovery:S3/TorIPCaller", 5.0);
const S3_TAKEN: FindingType = FindingType::guardduty("Exfiltration:S3/MaliciousIPCaller", 8.0);
const S3_CHANGED: FindingType = FindingType::guardduty("Impact:S3/MaliciousIPCaller", 8.0);
const S3_CUSTOM: FindingType =
    FindingType::guardduty("UnauthorizedAccess:S3/MaliciousIPCaller.Custom", 8.0);
const S3_TOR: FindingType = FindingType::guardduty("UnauthorizedAccess:S3/TorIPCaller", 8.0);

/// Listed callers.
pub(crate) struct IndicatorCaller;

impl Detection for IndicatorCaller {
    fn id(&self) -> &'static str {
        "indicator_caller"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[
            &RECON,
            &RECON_CUSTOM,
            &RECON_TOR,
            &ACCESS,
            &ACCESS_CUSTOM,
            &ACCESS_TOR,
            &S3_RECON,
            &S3_RECON_CUSTOM,
            &S3_RECON_TOR,
            &S3_TAKEN,
            &S3_CHANGED,
            &S3_CUSTOM,
            &S3_TOR,
        ]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        let Some(address) = call.source_address else {
            return;
        };
        if context.intel.is_empty() {
            return;
        }
        let settings = &context.settings.detections.indicator_caller;
        let mut seen: Vec<&FindingType> = Vec::new();
        // A caller's port is not told, so entries with one never match.
        for found in context.intel.match_address(address, 0) {
            let kind = kind(found.list.category, call);
            if !seen.contains(&kind) {
                seen.push(kind);
                out.push(occurrence(call, address, kind, &found, settings));
            }
        }
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To look round.
    Recon,
    /// To get or change something.
    Access,
}

impl Purpose {
    fn of(api: &str) -> Self {
        let looks = ["List", "Describe", "Get", "Head", "Lookup", "Search"];
        // These give something away rather than describe it.
        let gives = [
            "GetAuthorizationToken",
            "GetCredentials",
            "GetFederationToken",
            "GetObject",
            "GetParameter",
            "GetPasswordData",
            "GetRoleCredentials",
            "GetSecretValue",
            "GetSessionToken",
            "GetSigninToken",
        ];
        let starts = |words: &[&str]| words.iter().any(|word| api.starts_with(word));
        // `GetObjectAcl` and its like describe an object again.
        if starts(&["GetObjectAcl", "GetObjectAttributes", "GetObjectTagging"]) {
            return Self::Recon;
        }
        if starts(&looks) && !starts(&gives) {
            Self::Recon
        } else {
            Self::Access
        }
    }
}

fn kind(category: Category, call: &ApiCall) -> &'static FindingType {
    let name = &*call.event_name;
    let purpose = Purpose::of(name);
    if call.service() == "s3" {
        let takes = ["CopyObject", "GetObject", "SelectObjectContent"];
        return match (category, purpose) {
            (Category::Custom, Purpose::Recon) => &S3_RECON_CUSTOM,
            (Category::Custom, Purpose::Access) => &S3_CUSTOM,
            (Category::Tor, Purpose::Recon) => &S3_RECON_TOR,
            (Category::Tor, Purpose::Access) => &S3_TOR,
            (_, Purpose::Recon) => &S3_RECON,
            (_, Purpose::Access) if takes.iter().any(|one| name.starts_with(one)) => &S3_TAKEN,
            (_, Purpose::Access) => &S3_CHANGED,
        };
    }
    match (category, purpose) {
        (Category::Custom, Purpose::Recon) => &RECON_CUSTOM,
        (Category::Custom, Purpose::Access) => &ACCESS_CUSTOM,
        (Category::Tor, Purpose::Recon) => &RECON_TOR,
        (Category::Tor, Purpose::Access) => &ACCESS_TOR,
        (_, Purpose::Recon) => &RECON,
        (_, Purpose::Access) => &ACCESS,
    }
}

/// Says whether a call took no credential to make and changed nothing: a failed sign-in, or an anonymous
/// call that was denied or read what everybody may read.
fn is_knock(call: &ApiCall) -> bool {
    let anonymous = call.identity.access_key_id.is_none()
        && matches!(
            call.identity.kind,
            IdentityKind::AwsAccount | IdentityKind::Unknown
        );
    let sign_in_failed = &*call.event_name == "ConsoleLogin"
        && call.response_elements.text("ConsoleLogin") != Some("Success");
    sign_in_failed || anonymous && (!call.succeeded() || call.read_only == Some(true))
}

fn occurrence(
    call: &ApiCall,
    address: IpAddr,
    kind: &'static FindingType,
    found: &Match<'_>,
    settings: &Settings,
) -> Occurrence {
    let who = principal(call);
    let (name, api) = (quote(&who.name), &call.event_name);
    let list = &found.list.name;
    let standing = Standing::from(found.list);
    let severity = if is_knock(call) {
        settings.knock_severity
    } else if call.service() == "s3" && kind.severity > S3_RECON_TOR.severity {
        settings.bucket_severity
    } else {
        settings.severity
    };
    let title = format!("{name} called {api} from {address}, which is listed");
    Occurrence {
        kind,
        rule: IndicatorCaller.id(),
        severity: graded(severity, standing.confidence),
        confidence: standing.at_most(0.8),
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: address.to_string(),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::from([
            ("threatListName".to_owned(), list.clone()),
            ("threatName".to_owned(), found.list.category.to_string()),
        ]),
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1078.004", "T1580"],
        description: format!("{title} as {} on {list}.", found.indicator),
        why: format!(
            "{name} called {api} of {} from {address}; {} stands on {list} ({})",
            call.event_source, found.indicator, found.list.category
        ),
        title,
        first_look: &[
            "Whether the principal's owner was behind that address.",
            "What else came from it, by any principal.",
            "What the principal did from elsewhere at the same time.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, api, brief, intel};

    #[track_caller]
    fn check(api_name: &str, from: &str, rest: &str, expected: &[(&str, f64, u64)]) {
        let lists = intel(&[
            (Category::Custom, "192.0.2.0/24"),
            (Category::Tor, "198.51.100.1"),
            (Category::Scanner, "198.51.100.2"),
            (Category::C2, "198.51.100.3:443"),
        ]);
        let event = Event::Api(api(&format!(
            r#"{{"eventID":"e","eventTime":"2023-11-14T22:13:20Z","eventSource":"iam.amazonaws.com",
            "eventName":"{api_name}","awsRegion":"eu-west-1","recipientAccountId":"111122223333",
            "sourceIPAddress":"{from}","userIdentity":{{"type":"IAMUser","userName":"eve",
            "accessKeyId":"AKIAEXAMPLE","arn":"arn:aws:iam::111122223333:user/eve"}}{rest}}}"#
        )));
        let (findings, _) = analyze(lists, [event]);
        assert_eq!(brief(&findings), expected);
    }

    #[test]
    fn buckets_from_listed_addresses() {
        let check = |name: &str, from: &str, kind: &str, severity: f64| {
            let s3 = r#","eventSource":"s3.amazonaws.com""#;
            // The name of the source comes twice: the last one counts.
            check(name, from, s3, &[(kind, severity, 1)]);
        };
        let (custom, tor, scanner) = ("192.0.2.9", "198.51.100.1", "198.51.100.2");
        check(
            "ListObjects",
            custom,
            "Discovery:S3/MaliciousIPCaller.Custom",
            8.0,
        );
        check(
            "GetObject",
            custom,
            "UnauthorizedAccess:S3/MaliciousIPCaller.Custom",
            8.0,
        );
        check("ListObjects", tor, "Discovery:S3/TorIPCaller", 5.0);
        check("PutObject", tor, "UnauthorizedAccess:S3/TorIPCaller", 8.0);
        check(
            "GetObjectAcl",
            scanner,
            "Discovery:S3/MaliciousIPCaller",
            8.0,
        );
        check(
            "GetObject",
            scanner,
            "Exfiltration:S3/MaliciousIPCaller",
            8.0,
        );
        check("DeleteObject", scanner, "Impact:S3/MaliciousIPCaller", 8.0);
    }

    #[test]
    fn guests_who_read_are_weather_and_those_who_write_are_not() {
        let lists = || intel(&[(Category::Scanner, "198.51.100.2")]);
        let guest = |name: &str, reads: bool| {
            let event = Event::Api(api(&format!(
                r#"{{"eventName":"{name}","eventSource":"s3.amazonaws.com","readOnly":{reads},
                "recipientAccountId":"111122223333","sourceIPAddress":"198.51.100.2",
                "userIdentity":{{"type":"AWSAccount","accountId":"ANONYMOUS_PRINCIPAL"}}}}"#
            )));
            let (findings, _) = analyze(lists(), [event]);
            let own = findings
                .iter()
                .find(|f| f.picket.rule == IndicatorCaller.id());
            own.map(|f| f.severity)
        };
        assert_eq!(guest("GetObject", true), Some(2.0));
        assert_eq!(guest("PutObject", false), Some(8.0));
    }

    #[test]
    fn calls_from_listed_addresses() {
        let custom = [(
            "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom",
            5.0,
            1,
        )];
        let recon = [("Recon:IAMUser/MaliciousIPCaller.Custom", 5.0, 1)];
        check("TagUser", "192.0.2.9", "", &custom);
        check(
            "TagUser",
            "192.0.2.9",
            r#","errorCode":"AccessDenied""#,
            &custom,
        );
        check("GetSecretValue", "192.0.2.9", "", &custom);
        check("AssumeRole", "192.0.2.9", r#","readOnly":true"#, &custom);
        check("ListUsers", "192.0.2.9", "", &recon);
        check("GetObjectAcl", "192.0.2.9", "", &recon);
        check(
            "TagUser",
            "198.51.100.1",
            "",
            &[("UnauthorizedAccess:IAMUser/TorIPCaller", 5.0, 1)],
        );
        check(
            "ListUsers",
            "198.51.100.2",
            "",
            &[("Recon:IAMUser/MaliciousIPCaller", 5.0, 1)],
        );
    }

    #[test]
    fn calls_from_elsewhere() {
        check("TagUser", "192.0.3.9", "", &[]);
        check("TagUser", "198.51.100.3", "", &[]);
        check("TagUser", "cloudformation.amazonaws.com", "", &[]);
        check("TagUser", "", "", &[]);
    }

    #[test]
    fn knocking_takes_no_credential() {
        let failed = r#","responseElements":{"ConsoleLogin":"Failure"}"#;
        let worked = r#","responseElements":{"ConsoleLogin":"Success"}"#;
        let name = "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom";
        check("ConsoleLogin", "192.0.2.9", failed, &[(name, 2.0, 1)]);
        check("ConsoleLogin", "192.0.2.9", worked, &[(name, 5.0, 1)]);
    }
}
