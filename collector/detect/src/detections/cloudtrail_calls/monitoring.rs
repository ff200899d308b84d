//! Watchers put out: flow and resolver logs, detectors, log groups, log buckets.

use serde_json::Value;

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::policy::account_of;

const FLOW_LOGS: FindingType =
    FindingType::guardduty("DefenseImpairment:EC2/DisableOrModifyTools", 8.0);
const RESOLVER: FindingType = FindingType::guardduty(
    "DefenseImpairment:Route53Resolver/DisableOrModifyTools",
    5.0,
);
const LIFECYCLE: FindingType = FindingType::guardduty("Impact:S3/DataDestruction", 5.0);
const BUCKET_LOG: FindingType =
    FindingType::guardduty("Stealth:S3/ServerAccessLoggingDisabled", 2.0);
const TRAIL: FindingType = FindingType::guardduty("Stealth:IAMUser/CloudTrailLoggingDisabled", 7.0);
const BEDROCK: FindingType =
    FindingType::guardduty("DefenseEvasion:IAMUser/BedrockLoggingDisabled", 5.0);
const DETECTION: FindingType = FindingType::picket("DefenseEvasion:IAMUser/DetectionDisabled", 8.0);
const LOGS: FindingType = FindingType::picket("DefenseEvasion:IAMUser/LogsRemoved", 3.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "flow_logs_deleted",
        kind: &FLOW_LOGS,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("ec2", &["DeleteFlowLogs"])],
        judge: |_| Some(Deed::new("deleted flow logs")),
        mitre: &["T1562.008"],
        look_alikes: "networks being taken down",
        first_look: &[
            "Whether the network still stands, and what goes on in it.",
            "What the caller did next.",
        ],
    },
    Behaviour {
        id: "resolver_logs_removed",
        kind: &RESOLVER,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "route53resolver",
            &[
                "DeleteResolverQueryLogConfig",
                "DisassociateResolverQueryLogConfig",
            ],
        )],
        judge: |_| Some(Deed::new("removed a log of DNS queries")),
        mitre: &["T1562.008"],
        look_alikes: "networks being taken down",
        first_look: &[
            "What the network's hosts asked for just before.",
            "What the caller did next.",
        ],
    },
    Behaviour {
        id: "detector_disabled",
        kind: &DETECTION,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[
            (
                "guardduty",
                &[
                    "DeleteDetector",
                    "DeleteMembers",
                    "DisassociateFromAdministratorAccount",
                    "DisassociateFromMasterAccount",
                    "DisassociateMembers",
                    "StopMonitoringMembers",
                    "UpdateDetector",
                ],
            ),
            (
                "securityhub",
                &["BatchDisableStandards", "DisableSecurityHub"],
            ),
            (
                "config",
                &[
                    "DeleteConfigurationRecorder",
                    "DeleteDeliveryChannel",
                    "StopConfigurationRecorder",
                ],
            ),
            ("macie2", &["DisableMacie"]),
            ("inspector2", &["Disable"]),
            ("detective", &["DeleteGraph"]),
        ],
        judge: |look| {
            let updates = &*look.call.event_name == "UpdateDetector";
            let on = look.flag("enable").or_else(|| look.flag("Enable"));
            let deed = Deed::new(format!("put {} out of work", look.call.service()));
            (!updates || on == Some(false)).then_some(deed)
        },
        mitre: &["T1562.001"],
        look_alikes: "one product that takes the place of another, accounts being given up",
        first_look: &[
            "Whether the change was announced.",
            "What the caller did since.",
        ],
    },
    Behaviour {
        id: "findings_silenced",
        kind: &DETECTION,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            (
                "guardduty",
                &[
                    "CreateFilter",
                    "CreateIPSet",
                    "CreateTrustedEntitySet",
                    "DeletePublishingDestination",
                ],
            ),
            (
                "securityhub",
                &["DeleteInsight", "UpdateFindings", "BatchUpdateFindings"],
            ),
            ("access-analyzer", &["CreateArchiveRule", "DeleteAnalyzer"]),
        ],
        judge: findings_silenced,
        mitre: &["T1562.001"],
        look_alikes: "noise being put away by those who answer it",
        first_look: &["Which findings would have been told, and were not."],
    },
    Behaviour {
        id: "logs_removed",
        kind: &LOGS,
        severity: 3.0,
        planned: Some(2.0),
        calls: &[
            (
                "logs",
                &["DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy"],
            ),
            ("monitoring", &["DeleteAlarms", "DisableAlarmActions"]),
            ("events", &["DeleteRule", "DisableRule", "RemoveTargets"]),
        ],
        judge: logs_removed,
        mitre: &["T1070", "T1562.008"],
        look_alikes: "functions and alarms being taken down",
        first_look: &["What the log held, or the rule watched."],
    },
    Behaviour {
        id: "model_log_deleted",
        kind: &BEDROCK,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "bedrock",
            &[
                "DeleteModelInvocationLoggingConfiguration",
                "PutModelInvocationLoggingConfiguration",
            ],
        )],
        judge: |look| {
            let text = look.flag("loggingConfig.textDataDeliveryEnabled");
            let is_gone = look.call.event_name.starts_with("Delete");
            let what = "ended the log of what models are asked";
            (is_gone || text == Some(false)).then(|| Deed::new(what))
        },
        mitre: &["T1562.008"],
        look_alikes: "experiments being ended",
        first_look: &["What models were asked since, and at what price."],
    },
    Behaviour {
        id: "objects_expire_soon",
        kind: &LIFECYCLE,
        severity: 5.0,
        planned: Some(3.0),
        calls: &[(
            "s3",
            &["PutBucketLifecycle", "PutBucketLifecycleConfiguration"],
        )],
        judge: objects_expire_soon,
        mitre: &["T1485.001", "T1562.008"],
        look_alikes: "buckets for what is meant to be gone tomorrow",
        first_look: &["What the bucket holds, and whether it can be had back."],
    },
    Behaviour {
        id: "trail_bucket_touched",
        kind: &TRAIL,
        severity: 7.0,
        planned: Some(3.0),
        calls: &[(
            "s3",
            &[
                "DeleteObject",
                "DeleteObjects",
                "PutBucketEncryption",
                "PutBucketPolicy",
            ],
        )],
        judge: trail_bucket_touched,
        mitre: &["T1562.008", "T1070"],
        look_alikes: "old logs being cleared away by a rule",
        first_look: &["Which hours of the record are gone, and what happened in them."],
    },
    Behaviour {
        id: "bucket_log_ended",
        kind: &BUCKET_LOG,
        severity: 2.0,
        planned: None,
        calls: &[("s3", &["PutBucketLogging"])],
        judge: |look| {
            let status = look.asked_at("BucketLoggingStatus")?;
            let bucket = quote(look.asked("bucketName").unwrap_or("a bucket"));
            let off = status.get("LoggingEnabled").is_none();
            off.then(|| Deed::new(format!("ended the access log of bucket {bucket}")))
        },
        mitre: &["T1562.008"],
        look_alikes: "buckets that hold nothing worth a log",
        first_look: &["Who read the bucket since."],
    },
];

fn findings_silenced(look: &Look<'_>) -> Option<Deed> {
    let archives = look.asked("action") == Some("ARCHIVE");
    let suppressed = look.mentions("SUPPRESSED");
    let what = match &*look.call.event_name {
        "CreateFilter" if archives => "made a rule that puts findings away unseen",
        "CreateIPSet" | "CreateTrustedEntitySet" => {
            "named addresses that are not reported any more"
        }
        "DeletePublishingDestination" => "ended where findings are sent",
        "UpdateFindings" => "rewrote findings",
        "BatchUpdateFindings" if suppressed => "suppressed findings",
        "DeleteInsight" => "deleted a view of findings",
        "CreateArchiveRule" => "made a rule that puts findings away unseen",
        "DeleteAnalyzer" => "ended the analysis of who has access",
        _ => return None,
    };
    Some(Deed::new(what))
}

/// Words in names of log groups and rules that watch over an account.
const WATCHES: [&str; 6] = [
    "cloudtrail",
    "flowlog",
    "flow-log",
    "guardduty",
    "securityhub",
    "audit",
];

/// Days below which a log is of little use to whoever comes to look. Chosen by hand.
const RETENTION_DAYS_MIN: u64 = 7;

fn logs_removed(look: &Look<'_>) -> Option<Deed> {
    let names = ["logGroupName", "name", "rule", "alarmName"];
    let name = look.asked_any(&names).unwrap_or("several");
    let lowered = name.to_ascii_lowercase();
    let watches = WATCHES.iter().any(|word| lowered.contains(word));
    let what = match &*look.call.event_name {
        "PutRetentionPolicy" => {
            let days = look.number("retentionInDays")?;
            if days >= RETENTION_DAYS_MIN {
                return None;
            }
            format!("had log {} kept for {days} days only", quote(name))
        }
        "DeleteLogGroup" | "DeleteLogStream" => format!("deleted log {}", quote(name)),
        "DeleteAlarms" | "DisableAlarmActions" => format!("put out alarm {}", quote(name)),
        _ => format!("put out rule {}", quote(name)),
    };
    let deed = Deed::new(what);
    Some(if watches { deed.severity(5.0) } else { deed })
}

/// Days within which objects that expire are as good as deleted: GuardDuty's and public rules' week.
const EXPIRY_DAYS_MAX: u64 = 7;

fn objects_expire_soon(look: &Look<'_>) -> Option<Deed> {
    let rules = look.asked_at("LifecycleConfiguration.Rule")?;
    let rules = rules
        .as_array()
        .map_or(std::slice::from_ref(rules), Vec::as_slice);
    let days = |rule: &Value| {
        let days = rule.get("Expiration")?.get("Days")?;
        days.as_u64().or_else(|| days.as_str()?.parse().ok())
    };
    let in_force = |rule: &&Value| rule.get("Status").is_none_or(|status| status == "Enabled");
    let soonest = rules.iter().filter(in_force).filter_map(days).min()?;
    let bucket = look.asked("bucketName").unwrap_or_default();
    let what = format!(
        "had the objects of bucket {} deleted after {soonest} days",
        quote(bucket)
    );
    let deed = Deed::new(what);
    (soonest <= EXPIRY_DAYS_MAX).then(|| {
        if look.is_trail_bucket(bucket) {
            deed.severity(8.0)
        } else {
            deed
        }
    })
}

fn trail_bucket_touched(look: &Look<'_>) -> Option<Deed> {
    let bucket = look
        .asked("bucketName")
        .filter(|bucket| look.is_trail_bucket(bucket))?;
    let what = match &*look.call.event_name {
        "PutBucketPolicy" => {
            let denies = look.policy("bucketPolicy")?.denies_everyone("s3:putobject");
            denies.then_some("forbade writing to")?
        }
        "PutBucketEncryption" => {
            let keys = look.call.request_parameters.raw();
            let key = keys.find("arn:aws").map(|at| &keys[at..])?;
            let account = account_of(key.split('"').next()?)?;
            look.is_foreign(account)
                .then_some("had another account's key used in")?
        }
        _ => "deleted objects of",
    };
    Some(Deed::new(format!(
        "{what} bucket {}, which a trail writes to",
        quote(bucket)
    )))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_all, event};

    #[test]
    fn logs_and_detectors() {
        check("ec2", "DeleteFlowLogs", "{}", &[("flow_logs_deleted", 8.0)]);
        check_all(
            vec![event(
                "ec2",
                "DeleteFlowLogs",
                "{}",
                "Client.UnauthorizedOperation",
            )],
            &[("flow_logs_deleted", 5.0)],
        );
        check("ec2", "CreateFlowLogs", "{}", &[]);
        check(
            "route53resolver",
            "DeleteResolverQueryLogConfig",
            "{}",
            &[("resolver_logs_removed", 5.0)],
        );
        check("route53resolver", "GetResolverQueryLogConfig", "{}", &[]);
        let id = "detector_disabled";
        check("guardduty", "DeleteDetector", "{}", &[(id, 8.0)]);
        check(
            "guardduty",
            "UpdateDetector",
            r#"{"enable":false}"#,
            &[(id, 8.0)],
        );
        check("guardduty", "UpdateDetector", r#"{"enable":true}"#, &[]);
        check("config", "StopConfigurationRecorder", "{}", &[(id, 8.0)]);
        check("config", "StartConfigurationRecorder", "{}", &[]);
        check("inspector2", "Disable", "{}", &[(id, 8.0)]);
        let id = "findings_silenced";
        check(
            "guardduty",
            "CreateFilter",
            r#"{"action":"ARCHIVE"}"#,
            &[(id, 5.0)],
        );
        check("guardduty", "CreateFilter", r#"{"action":"NOOP"}"#, &[]);
        check(
            "securityhub",
            "BatchUpdateFindings",
            r#"{"workflow":{"status":"SUPPRESSED"}}"#,
            &[(id, 5.0)],
        );
        check(
            "securityhub",
            "BatchUpdateFindings",
            r#"{"workflow":{"status":"NOTIFIED"}}"#,
            &[],
        );
        let id = "logs_removed";
        check(
            "logs",
            "DeleteLogGroup",
            r#"{"logGroupName":"/aws/lambda/x"}"#,
            &[(id, 3.0)],
        );
        check(
            "logs",
            "DeleteLogGroup",
            r#"{"logGroupName":"CloudTrail/all"}"#,
            &[(id, 5.0)],
        );
        check(
            "logs",
            "PutRetentionPolicy",
            r#"{"logGroupName":"x","retentionInDays":1}"#,
            &[(id, 3.0)],
        );
        check(
            "logs",
            "PutRetentionPolicy",
            r#"{"logGroupName":"x","retentionInDays":30}"#,
            &[],
        );
        check(
            "bedrock",
            "DeleteModelInvocationLoggingConfiguration",
            "{}",
            &[("model_log_deleted", 5.0)],
        );
        check("bedrock", "ListGuardrails", "{}", &[]);
        let put =
            |text: bool| format!(r#"{{"loggingConfig":{{"textDataDeliveryEnabled":{text}}}}}"#);
        let api = "PutModelInvocationLoggingConfiguration";
        check("bedrock", api, &put(false), &[("model_log_deleted", 5.0)]);
        check("bedrock", api, &put(true), &[]);
    }

    #[test]
    fn buckets() {
        let expire = |days: &str, status: &str| {
            format!(
                r#"{{"bucketName":"logs","LifecycleConfiguration":{{"Rule":
                {{"Status":"{status}","Expiration":{{"Days":{days}}}}}}}}}"#
            )
        };
        let id = "objects_expire_soon";
        check(
            "s3",
            "PutBucketLifecycle",
            &expire("1", "Enabled"),
            &[(id, 5.0)],
        );
        check(
            "s3",
            "PutBucketLifecycle",
            &expire("\"7\"", "Enabled"),
            &[(id, 5.0)],
        );
        check("s3", "PutBucketLifecycle", &expire("30", "Enabled"), &[]);
        check("s3", "PutBucketLifecycle", &expire("1", "Disabled"), &[]);
        let trail = || {
            event(
                "cloudtrail",
                "CreateTrail",
                r#"{"name":"main","s3BucketName":"logs"}"#,
                "",
            )
        };
        let soon = event("s3", "PutBucketLifecycle", &expire("1", "Enabled"), "");
        check_all(vec![trail(), soon], &[(id, 8.0)]);
        let id = "trail_bucket_touched";
        let of = r#"{"bucketName":"logs","key":"k"}"#;
        check_all(
            vec![trail(), event("s3", "DeleteObject", of, "")],
            &[(id, 7.0)],
        );
        check("s3", "DeleteObject", of, &[]);
        let deny = r#"{"bucketName":"logs","bucketPolicy":{"Statement":
            {"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"*"}}}"#;
        check_all(
            vec![trail(), event("s3", "PutBucketPolicy", deny, "")],
            &[(id, 7.0)],
        );
        let log = |status: &str| format!(r#"{{"bucketName":"b","BucketLoggingStatus":{status}}}"#);
        check(
            "s3",
            "PutBucketLogging",
            &log("{}"),
            &[("bucket_log_ended", 2.0)],
        );
        check(
            "s3",
            "PutBucketLogging",
            &log(r#"{"LoggingEnabled":{}}"#),
            &[],
        );
        check("s3", "PutBucketLogging", "{}", &[]);
        let versions = |status: &str| {
            format!(r#"{{"bucketName":"b","VersioningConfiguration":{{"Status":"{status}"}}}}"#)
        };
        check(
            "s3",
            "PutBucketVersioning",
            &versions("Suspended"),
            &[("bucket_unguarded", 3.0)],
        );
        check("s3", "PutBucketVersioning", &versions("Enabled"), &[]);
        check(
            "s3",
            "DeleteBucketReplication",
            "{}",
            &[("bucket_unguarded", 5.0)],
        );
    }
}
