//! Looking round: by many calls, in many regions, against many closed doors.

use super::{Callers, Calls, Counts, FindingType, Rule, TEN_MINUTES, one};
use crate::detections::look::Look;

const SWEEP: FindingType = FindingType::picket("Discovery:IAMUser/DeniedSweep", 5.0);
const EXPLORED: FindingType = FindingType::picket("Discovery:IAMUser/ServiceEnumeration", 5.0);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "denied_sweep",
        kind: &SWEEP,
        window_s: TEN_MINUTES,
        steps: &[(10, 5.0)],
        calls: Calls::Denied,
        by: Callers::All,
        counts: Counts::Failures,
        things: by_program,
        noun: "was denied different calls",
        mitre: &["T1526", "T1087.004"],
        look_alikes: "a new program whose role lacks permissions; scanners with too few",
        first_look: &[
            "Which call was allowed at last.",
            "From where the credential is used else.",
        ],
    },
    Rule {
        id: "roles_tried",
        kind: &SWEEP,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0)],
        calls: Calls::Named(&[("sts", &["AssumeRole"])]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| {
            // A service's own role is not there for a while after it was made.
            let denied = look.call.error_code.is_some() && !look.is_console();
            one(look.asked("roleArn").filter(|_| denied))
        },
        noun: "was denied different roles",
        mitre: &["T1078.004", "T1580"],
        look_alikes: "a tool that works over all accounts, before it is let in",
        first_look: &["Which role was allowed at last."],
    },
    Rule {
        id: "principals_guessed",
        kind: &EXPLORED,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0)],
        calls: Calls::Named(&[
            ("iam", &["UpdateAssumeRolePolicy"]),
            ("s3", &["PutBucketPolicy"]),
            ("sqs", &["SetQueueAttributes"]),
        ]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| {
            let guessed = ["MalformedPolicy", "InvalidPrincipal"];
            let code = look.call.error_code.as_deref().unwrap_or_default();
            let fits = guessed.iter().any(|word| code.contains(word));
            one(look.call.event_id.as_deref().filter(|_| fits))
        },
        noun: "wrote policies that name nobody",
        mitre: &["T1087.004"],
        look_alikes: "somebody who learns to write policies",
        first_look: &[
            "Whose names stand in the policies: users of other accounts are looked for this way.",
        ],
    },
    Rule {
        id: "host_explores",
        kind: &EXPLORED,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0)],
        calls: Calls::Named(&[
            (
                "iam",
                &[
                    "GetAccountAuthorizationDetails",
                    "GetAccountSummary",
                    "GetUser",
                    "ListGroups",
                    "ListPolicies",
                    "ListRoles",
                    "ListUsers",
                    "SimulatePrincipalPolicy",
                ],
            ),
            ("sts", &["GetCallerIdentity"]),
            ("organizations", &["DescribeOrganization", "ListAccounts"]),
            ("cloudtrail", &["DescribeTrails", "ListTrails"]),
            ("guardduty", &["ListDetectors"]),
            ("s3", &["ListBuckets"]),
            ("secretsmanager", &["ListSecrets"]),
            ("ec2", &["DescribeInstances", "DescribeSnapshots"]),
            ("rds", &["DescribeDBInstances"]),
            ("lambda", &["ListFunctions"]),
        ]),
        by: Callers::Hosts,
        counts: Counts::Attempts,
        things: api,
        noun: "looked round the account from a host, by different calls",
        mitre: &["T1580", "T1526", "T1087.004"],
        look_alikes: "hosts whose work is to take inventory",
        first_look: &[
            "Which process on the host fetched the role's credentials.",
            "What it did next.",
        ],
    },
    Rule {
        id: "explores",
        kind: &EXPLORED,
        window_s: TEN_MINUTES,
        steps: &[(20, 3.0), (60, 5.0)],
        calls: Calls::Reading,
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| {
            if look.is_person() && !look.is_console() {
                api(look)
            } else {
                Vec::new()
            }
        },
        noun: "looked round the account by different calls",
        mitre: &["T1580", "T1526"],
        look_alikes: "audits of the account; scanners with a person's key",
        first_look: &[
            "Whether an audit was ordered.",
            "From where the key is used else.",
        ],
    },
    Rule {
        id: "regions_explored",
        kind: &EXPLORED,
        window_s: TEN_MINUTES,
        steps: &[(6, 3.0), (12, 5.0)],
        calls: Calls::Named(&[
            (
                "ec2",
                &[
                    "DescribeInstances",
                    "DescribeRegions",
                    "DescribeAvailabilityZones",
                    "RunInstances",
                ],
            ),
            ("servicequotas", &["GetServiceQuota", "ListServiceQuotas"]),
            (
                "ses",
                &["GetSendQuota", "GetAccount", "GetAccountSendingEnabled"],
            ),
            ("bedrock", &["ListFoundationModels", "InvokeModel"]),
        ]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| one(look.call.region.as_deref().filter(|_| !look.is_console())),
        noun: "asked in different regions",
        mitre: &["T1580", "T1535"],
        look_alikes: "inventories that people run",
        first_look: &["Whether anything runs in regions that are not used."],
    },
    Rule {
        id: "mail_explored",
        kind: &EXPLORED,
        window_s: TEN_MINUTES,
        steps: &[(3, 5.0)],
        calls: Calls::Named(&[(
            "ses",
            &[
                "GetAccount",
                "GetAccountSendingEnabled",
                "GetIdentityVerificationAttributes",
                "GetSendQuota",
                "GetSendStatistics",
                "ListEmailIdentities",
                "ListIdentities",
            ],
        )]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: by_program,
        noun: "asked what mail the account may send, by different calls",
        mitre: &["T1580", "T1496.004"],
        look_alikes: "people who set up mail by the command line",
        first_look: &[
            "Whether the account sends mail at all.",
            "What the caller did next.",
        ],
    },
    Rule {
        id: "models_explored",
        kind: &EXPLORED,
        window_s: TEN_MINUTES,
        steps: &[(3, 5.0)],
        calls: Calls::Named(&[(
            "bedrock",
            &[
                "GetFoundationModelAvailability",
                "GetModelInvocationLoggingConfiguration",
                "GetUseCaseForModelAccess",
                "InvokeModel",
                "ListFoundationModelAgreementOffers",
                "ListFoundationModels",
            ],
        )]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: by_program,
        noun: "asked which models it may use, by different calls",
        mitre: &["T1580", "T1496.004"],
        look_alikes: "developers who try models",
        first_look: &[
            "What the models cost since.",
            "Whether the log of what they are asked is on.",
        ],
    },
    Rule {
        id: "buckets_probed",
        kind: &SWEEP,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0)],
        calls: Calls::Named(&[(
            "s3",
            &[
                "GetBucketAcl",
                "GetBucketLocation",
                "GetBucketPolicy",
                "GetBucketVersioning",
                "HeadBucket",
                "ListObjects",
                "ListObjectsV2",
            ],
        )]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| {
            let code = look.call.error_code.as_deref().unwrap_or_default();
            let denied = code.contains("Denied") && !look.is_console();
            one(look.asked("bucketName").filter(|_| denied))
        },
        noun: "was denied a look into different buckets",
        mitre: &["T1619", "T1580"],
        look_alikes: "scanners with too few permissions",
        first_look: &[
            "Which bucket let it in at last.",
            "Whose credential it is, and from where it came.",
        ],
    },
];

/// The call itself, unless the console made it: a page of it makes many.
fn by_program(look: &Look<'_>) -> Vec<String> {
    if look.is_console() {
        Vec::new()
    } else {
        api(look)
    }
}

fn api(look: &Look<'_>) -> Vec<String> {
    let call = look.call;
    vec![[&*call.event_source, &*call.event_name].join(" ")]
}
