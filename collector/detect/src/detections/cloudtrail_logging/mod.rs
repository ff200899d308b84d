//! CloudTrail weakened: a trail or event store stopped, deleted or narrowed, or its bucket deleted.
//! Reads: calls of CloudTrail and S3; which bucket each trail writes to, as earlier calls told.
//! Fires: at once, on success and on attempts that were denied or named a trail that is not there.
//! Evidence: the call. Severity: high when the record stops, medium when it is narrowed; an attempt
//! one band lower, a malformed one low; so is the end of a trail that the same principal's
//! infrastructure code made. GuardDuty has all of them low; we do not, since whoever does this hides
//! what comes next.
//! Innocent look-alikes: selectors that widen, updates that keep what is recorded, the deletion of
//! other buckets, plans that are undone. ATT&CK T1562.008.
//! First look: whether a change was announced; what else this principal did in the hour before and
//! what it did since; whether the record runs again.
//! Actor key: the trail, event store or bucket.

mod blow;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::cloudtrail::ApiCall;
use blow::{Blow, Harm, blow};

/// Settings of `cloudtrail_logging`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity when the record stops: 7.0, high, since nothing after it would be seen.
    pub stopped_severity: f64,
    /// Severity when it is narrowed: 5.0, medium, since the rest is still seen.
    pub narrowed_severity: f64,
    /// Severity of an attempt to stop it: 5.0, one band below.
    pub stop_attempt_severity: f64,
    /// Severity of an attempt to narrow it, and of a call that could not have worked: 2.0, low.
    pub other_attempt_severity: f64,
    /// Severity when infrastructure code deletes a trail, or the bucket of one, that the same
    /// principal's infrastructure code made: 2.0, low. A user agent can be forged; having made the
    /// trail cannot.
    pub undone_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stopped_severity: 7.0,
            narrowed_severity: 5.0,
            stop_attempt_severity: 5.0,
            other_attempt_severity: 2.0,
            undone_severity: 2.0,
        }
    }
}

const DISABLED: FindingType =
    FindingType::guardduty("Stealth:IAMUser/CloudTrailLoggingDisabled", 7.0);

/// CloudTrail weakened.
pub(crate) struct CloudtrailLogging;

impl Detection for CloudtrailLogging {
    fn id(&self) -> &'static str {
        "cloudtrail_logging"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&DISABLED]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        let settings = &context.settings.detections.cloudtrail_logging;
        let Some(blow) = blow(call, &context.history.trails) else {
            return;
        };
        let trails = &context.history.trails;
        let outcome = Outcome::of(call);
        let is_undone = call.event_name.starts_with("Delete")
            && trails.is_own_plan(call, blow.trail.as_deref().unwrap_or(&blow.target));
        let severity = if is_undone {
            settings.undone_severity
        } else {
            severity(blow.harm, outcome, settings)
        };
        out.push(occurrence(call, &blow, severity, outcome));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Denied, or of something that is not there: the intent is plain.
    Attempted,
    /// Malformed, throttled: it could not have worked.
    Failed,
}

impl Outcome {
    fn of(call: &ApiCall) -> Self {
        let Some(code) = call.error_code.as_deref() else {
            return Self::Done;
        };
        let plain = ["AccessDenied", "Unauthorized", "NotFound", "NoSuchBucket"];
        if plain.iter().any(|word| code.contains(word)) {
            Self::Attempted
        } else {
            Self::Failed
        }
    }
}

fn severity(harm: Harm, outcome: Outcome, settings: &Settings) -> f64 {
    match (harm, outcome) {
        (Harm::Stops, Outcome::Done) => settings.stopped_severity,
        (Harm::Stops, Outcome::Attempted) => settings.stop_attempt_severity,
        (Harm::Narrows, Outcome::Done) => settings.narrowed_severity,
        (_, Outcome::Attempted | Outcome::Failed) => settings.other_attempt_severity,
    }
}

fn occurrence(call: &ApiCall, blow: &Blow, severity: f64, outcome: Outcome) -> Occurrence {
    let who = principal(call);
    let tried = match outcome {
        Outcome::Done => String::new(),
        Outcome::Attempted | Outcome::Failed => {
            format!(
                " (it failed: {})",
                quote(call.error_code.as_deref().unwrap_or_default())
            )
        }
    };
    let of = if blow.target.is_empty() {
        String::new()
    } else {
        format!(" {}", quote(&blow.target))
    };
    let (name, what) = (quote(&who.name), &blow.what);
    let title = format!("{name} {what}{of}{tried}");
    Occurrence {
        kind: &DISABLED,
        rule: CloudtrailLogging.id(),
        severity,
        confidence: match outcome {
            Outcome::Done => 0.9,
            Outcome::Attempted => 0.7,
            Outcome::Failed => 0.4,
        },
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: blow.target.clone(),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::new(),
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1562.008"],
        description: format!(
            "{title}. What it recorded is not recorded any more, unless it failed."
        ),
        why: format!(
            "{name} called {} from {}: {what}{of}{tried}",
            call.event_name,
            quote(origin(call))
        ),
        title,
        first_look: &[
            "Whether the change was announced, and by whom.",
            "What this principal did in the hour before, and from where.",
            "Whether the trail records again, and what other trails saw meanwhile.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, api};
    use picket_intel::IndicatorSet;

    fn call(name: &str, parameters: &str, error: &str) -> Event {
        let error = if error.is_empty() {
            String::new()
        } else {
            format!(r#""errorCode":"{error}","#)
        };
        let source = if name == "DeleteBucket" {
            "s3"
        } else {
            "cloudtrail"
        };
        Event::Api(api(&format!(
            r#"{{"eventID":"e","eventTime":"2023-11-14T22:13:20Z","eventSource":"{source}.amazonaws.com",
            "eventName":"{name}","awsRegion":"eu-west-1","recipientAccountId":"111122223333",{error}
            "sourceIPAddress":"192.0.2.1","userIdentity":{{"type":"IAMUser","userName":"eve",
            "arn":"arn:aws:iam::111122223333:user/eve","accountId":"111122223333"}},
            "requestParameters":{parameters}}}"#
        )))
    }

    #[track_caller]
    fn check_all(events: Vec<Event>, expected: Option<f64>) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(findings.first().map(|f| f.severity), expected);
    }

    #[track_caller]
    fn check(name: &str, parameters: &str, error: &str, expected: Option<f64>) {
        check_all(vec![call(name, parameters, error)], expected);
    }

    #[test]
    fn stopping_and_deleting() {
        let named = r#"{"name":"main"}"#;
        check("StopLogging", named, "", Some(7.0));
        check("DeleteTrail", named, "", Some(7.0));
        check(
            "StopEventDataStoreIngestion",
            r#"{"eventDataStore":"x"}"#,
            "",
            Some(7.0),
        );
        check("StopLogging", named, "AccessDenied", Some(5.0));
        check("DeleteTrail", named, "TrailNotFoundException", Some(5.0));
        check("DeleteTrail", "null", "AccessDenied", Some(5.0));
        check("StopLogging", named, "InvalidTrailNameException", Some(2.0));
        check("StartLogging", named, "", None);
        check("CreateTrail", named, "", None);
        check("GetTrailStatus", named, "", None);
        check("DescribeTrails", "null", "AccessDenied", None);
    }

    #[test]
    fn updates_that_take_away() {
        check(
            "UpdateTrail",
            r#"{"name":"main","isMultiRegionTrail":false}"#,
            "",
            Some(5.0),
        );
        check(
            "UpdateTrail",
            r#"{"name":"main","includeGlobalServiceEvents":false}"#,
            "",
            Some(5.0),
        );
        check(
            "UpdateTrail",
            r#"{"name":"main","enableLogFileValidation":false}"#,
            "",
            Some(5.0),
        );
        check(
            "UpdateTrail",
            r#"{"name":"main","cloudWatchLogsLogGroupArn":""}"#,
            "",
            Some(5.0),
        );
        let key = |account| {
            format!(r#"{{"name":"main","kmsKeyId":"arn:aws:kms:eu-west-1:{account}:key/k"}}"#)
        };
        check("UpdateTrail", &key("999999999999"), "", Some(5.0));
        check("UpdateTrail", "null", "AccessDenied", Some(2.0));
        check("UpdateTrail", &key("111122223333"), "", None);
        check(
            "UpdateTrail",
            r#"{"name":"main","isMultiRegionTrail":true}"#,
            "",
            None,
        );
        check(
            "UpdateTrail",
            r#"{"name":"main","enableLogFileValidation":true}"#,
            "",
            None,
        );
        check(
            "UpdateTrail",
            r#"{"name":"main","s3BucketName":"logs"}"#,
            "",
            None,
        );
        check("UpdateTrail", r#"{"name":"main"}"#, "", None);
    }

    #[test]
    fn selectors_that_leave_out() {
        let check = |selectors: &str, expected| {
            check("PutEventSelectors", selectors, "", expected);
        };
        let plain =
            |selector: &str| format!(r#"{{"trailName":"main","eventSelectors":[{selector}]}}"#);
        check(
            &plain(r#"{"includeManagementEvents":false,"readWriteType":"All"}"#),
            Some(5.0),
        );
        check(
            &plain(r#"{"includeManagementEvents":true,"readWriteType":"ReadOnly"}"#),
            Some(5.0),
        );
        check(
            &plain(
                r#"{"readWriteType":"All","excludeManagementEventSources":["iam.amazonaws.com"]}"#,
            ),
            Some(5.0),
        );
        check(
            r#"{"trailName":"main","advancedEventSelectors":[{"fieldSelectors":[
                {"field":"eventCategory","equals":["Data"]}]}]}"#,
            Some(5.0),
        );
        check(
            r#"{"trailName":"main","advancedEventSelectors":[{"fieldSelectors":[
                {"field":"eventCategory","equals":["Management"]},{"field":"readOnly","equals":["true"]}]}]}"#,
            Some(5.0),
        );
        check(
            &plain(r#"{"includeManagementEvents":true,"readWriteType":"All"}"#),
            None,
        );
        check(
            &plain(
                r#"{"readWriteType":"All","excludeManagementEventSources":["kms.amazonaws.com"]}"#,
            ),
            None,
        );
        check(
            &plain(
                r#"{"includeManagementEvents":false},{"includeManagementEvents":true,"readWriteType":"All"}"#,
            ),
            None,
        );
        check(
            r#"{"trailName":"main","advancedEventSelectors":[{"fieldSelectors":[
                {"field":"eventCategory","equals":["Management"]}]}]}"#,
            None,
        );
        let sources = |condition: &str| {
            format!(
                r#"{{"trailName":"main","advancedEventSelectors":[{{"fieldSelectors":[
                {{"field":"eventCategory","equals":["Management"]}},{{"field":"eventSource",{condition}}}]}}]}}"#
            )
        };
        let volume = r#""notEquals":["kms.amazonaws.com","rdsdata.amazonaws.com"]"#;
        check(&sources(volume), None);
        let more = r#""notEquals":["kms.amazonaws.com","iam.amazonaws.com"]"#;
        check(&sources(more), Some(5.0));
        check(&sources(r#""equals":["kms.amazonaws.com"]"#), Some(5.0));
        let both = r#""notEquals":["kms.amazonaws.com"],"notStartsWith":["iam"]"#;
        check(&sources(both), Some(5.0));
        check("null", None);
        check(r#"{"eventSelectors":"odd"}"#, None);
    }

    #[test]
    fn the_bucket_of_a_trail() {
        let trail = || {
            call(
                "CreateTrail",
                r#"{"name":"main","s3BucketName":"logs"}"#,
                "",
            )
        };
        let deleted = |bucket: &str, error| {
            call(
                "DeleteBucket",
                &format!(r#"{{"bucketName":"{bucket}"}}"#),
                error,
            )
        };
        check_all(vec![trail(), deleted("logs", "")], Some(7.0));
        check_all(vec![trail(), deleted("logs", "AccessDenied")], Some(5.0));
        check_all(vec![trail(), deleted("other", "")], None);
        check_all(vec![deleted("logs", "")], None);
        let moved = |bucket: &str| {
            call(
                "UpdateTrail",
                &format!(r#"{{"name":"main","s3BucketName":"{bucket}"}}"#),
                "",
            )
        };
        check_all(vec![trail(), moved("elsewhere")], Some(5.0));
        check_all(vec![trail(), moved("logs")], None);
    }

    #[test]
    fn a_plan_that_its_maker_undoes() {
        let by = |event: Event, agent: &str| {
            let Event::Api(mut call) = event else {
                return event;
            };
            call.user_agent = Some(agent.into());
            Event::Api(call)
        };
        let make = || {
            call(
                "CreateTrail",
                r#"{"name":"main","s3BucketName":"logs"}"#,
                "",
            )
        };
        let delete = || call("DeleteTrail", r#"{"name":"main"}"#, "");
        let bucket = || call("DeleteBucket", r#"{"bucketName":"logs"}"#, "");
        let terraform = "APN/1.0 HashiCorp/1.0 Terraform/1.1.2";
        let check = |made_by, ended: Event, ended_by, expected| {
            check_all(
                vec![by(make(), made_by), by(ended, ended_by)],
                Some(expected),
            );
        };
        check(terraform, delete(), terraform, 2.0);
        check(terraform, bucket(), terraform, 2.0);
        // Ended by hand, or made by hand, or only stopped.
        check(terraform, delete(), "aws-cli/2", 7.0);
        check("aws-cli/2", delete(), terraform, 7.0);
        check(terraform, bucket(), "aws-cli/2", 7.0);
        let stop = call("StopLogging", r#"{"name":"main"}"#, "");
        check(terraform, stop, terraform, 7.0);
        check_all(vec![by(delete(), terraform)], Some(7.0));
    }

    #[test]
    fn each_trail_is_a_finding_of_its_own() {
        let stop = |name: &str| call("StopLogging", &format!(r#"{{"name":"{name}"}}"#), "");
        let arn = "arn:aws:cloudtrail:eu-west-1:111122223333:trail/main";
        let (findings, _) = analyze(
            IndicatorSet::default(),
            [stop("main"), stop(arn), stop("b")],
        );
        let counts: Vec<u64> = findings.iter().map(crate::Finding::count).collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!(findings[0].title, "eve stopped the trail main");
    }
}
