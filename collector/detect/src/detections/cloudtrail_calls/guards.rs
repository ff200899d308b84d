//! What holds everybody back: the organisation and its policies, firewalls, guardrails, the guards of
//! buckets.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;

const LEFT: FindingType = FindingType::guardduty(
    "DefenseImpairment:Organizations/ModifyCloudResourceHierarchy",
    8.0,
);
const ORGANISATION: FindingType =
    FindingType::guardduty("DefenseImpairment:Organizations/DisableOrModifyTools", 8.0);
const GUARDRAIL: FindingType = FindingType::picket("DefenseEvasion:IAMUser/GuardrailRemoved", 5.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "organisation_left",
        kind: &LEFT,
        // An attempt is still high, as GuardDuty has it: nobody tries by chance.
        severity: 9.0,
        planned: None,
        calls: &[
            (
                "organizations",
                &[
                    "LeaveOrganization",
                    "RemoveAccountFromOrganization",
                    "CloseAccount",
                ],
            ),
            ("account", &["CloseAccount"]),
        ],
        judge: |_| {
            Some(Deed::new(
                "took an account out of the organisation, and so out of its rules",
            ))
        },
        mitre: &["T1666", "T1562.008"],
        look_alikes: "accounts that are given up, by those who manage the organisation",
        first_look: &[
            "Who decided on it.",
            "What the caller did in the hour before.",
        ],
    },
    Behaviour {
        id: "organisation_policy_removed",
        kind: &ORGANISATION,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[(
            "organizations",
            &["DeletePolicy", "DetachPolicy", "DisablePolicyType"],
        )],
        judge: |_| {
            Some(Deed::new(
                "took away a policy that held the organisation's accounts",
            ))
        },
        mitre: &["T1562", "T1666"],
        look_alikes: "policies being replaced by those who manage the organisation",
        first_look: &[
            "What the policy forbade.",
            "What was done since that it forbade.",
        ],
    },
    Behaviour {
        id: "firewall_removed",
        kind: &GUARDRAIL,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            (
                "wafv2",
                &["DeleteRuleGroup", "DeleteWebACL", "DisassociateWebACL"],
            ),
            ("waf", &["DeleteRuleGroup", "DeleteWebACL"]),
            (
                "waf-regional",
                &["DeleteRuleGroup", "DeleteWebACL", "DisassociateWebACL"],
            ),
        ],
        judge: |_| Some(Deed::new("took away a web application's firewall")),
        mitre: &["T1562.007"],
        look_alikes: "applications being taken down, rules being replaced",
        first_look: &["Whether the application still answers, and to whom."],
    },
    Behaviour {
        id: "guardrail_removed",
        kind: &GUARDRAIL,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            (
                "ec2",
                &[
                    "DisableEbsEncryptionByDefault",
                    "ModifyInstanceMetadataOptions",
                ],
            ),
            ("bedrock", &["DeleteGuardrail", "UpdateGuardrail"]),
        ],
        judge: |look| {
            let what = match &*look.call.event_name {
                "DisableEbsEncryptionByDefault" => "let new disks be unencrypted",
                "DeleteGuardrail" => "took away a guardrail of a model",
                // What it held before is not told, so nobody can say that it holds less.
                "UpdateGuardrail" => {
                    return Some(Deed::new("changed a guardrail of a model").severity(3.0));
                }
                _ => {
                    let tokens = look.asked("httpTokens").or_else(|| {
                        look.asked_at("ModifyInstanceMetadataOptionsRequest.HttpTokens")?
                            .as_str()
                    });
                    let opened = tokens == Some("optional");
                    let deed = Deed::new("let a host's credentials be fetched without a token");
                    return opened.then(|| deed.severity(3.0));
                }
            };
            Some(Deed::new(what))
        },
        mitre: &["T1562"],
        look_alikes: "old software that cannot do otherwise",
        first_look: &["What was made or fetched since."],
    },
    Behaviour {
        id: "bucket_unguarded",
        kind: &GUARDRAIL,
        severity: 3.0,
        planned: Some(2.0),
        calls: &[(
            "s3",
            &[
                "DeleteBucketEncryption",
                "DeleteBucketReplication",
                "PutBucketVersioning",
            ],
        )],
        judge: bucket_unguarded,
        mitre: &["T1490", "T1562"],
        look_alikes: "buckets for what can be made again",
        first_look: &["What was deleted or overwritten since."],
    },
];

fn bucket_unguarded(look: &Look<'_>) -> Option<Deed> {
    let bucket = look.asked("bucketName").unwrap_or("a bucket");
    let name = quote(bucket);
    let deed = match &*look.call.event_name {
        "DeleteBucketEncryption" => Deed::new(format!("took away the encryption of bucket {name}")),
        "DeleteBucketReplication" => {
            Deed::new(format!("ended the copies of bucket {name}")).severity(5.0)
        }
        _ => {
            let set = |key: &str, value: &str| {
                let versioning = look.asked_at("VersioningConfiguration");
                versioning.and_then(|v| v.get(key)?.as_str()) == Some(value)
            };
            let ended = set("Status", "Suspended") || set("MfaDelete", "Disabled");
            ended.then(|| Deed::new(format!("let what is overwritten in bucket {name} be lost")))?
        }
    };
    Some(if look.is_trail_bucket(bucket) {
        deed.severity(5.0)
    } else {
        deed
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_all, event};

    #[test]
    fn organisations() {
        check(
            "organizations",
            "LeaveOrganization",
            "null",
            &[("organisation_left", 9.0)],
        );
        let denied = event("organizations", "LeaveOrganization", "null", "AccessDenied");
        check_all(vec![denied], &[("organisation_left", 8.0)]);
        check("organizations", "DescribeOrganization", "null", &[]);
        check(
            "organizations",
            "DetachPolicy",
            "{}",
            &[("organisation_policy_removed", 8.0)],
        );
        check("iam", "DeletePolicy", "{}", &[]);
    }

    #[test]
    fn guardrails() {
        let id = "guardrail_removed";
        check("bedrock", "UpdateGuardrail", "{}", &[(id, 3.0)]);
        check("bedrock", "CreateGuardrail", "{}", &[]);
        check("ec2", "DisableEbsEncryptionByDefault", "{}", &[(id, 5.0)]);
        check("ec2", "EnableEbsEncryptionByDefault", "{}", &[]);
        let tokens = |value: &str| {
            format!(r#"{{"ModifyInstanceMetadataOptionsRequest":{{"HttpTokens":"{value}"}}}}"#)
        };
        check(
            "ec2",
            "ModifyInstanceMetadataOptions",
            &tokens("optional"),
            &[(id, 3.0)],
        );
        check(
            "ec2",
            "ModifyInstanceMetadataOptions",
            &tokens("required"),
            &[],
        );
        check(
            "wafv2",
            "DisassociateWebACL",
            "{}",
            &[("firewall_removed", 5.0)],
        );
        check("wafv2", "ListWebACLs", "{}", &[]);
    }
}
