//! What is counted, by whom, and from which number on it is worth a finding. Numbers without another
//! source are chosen by hand: what a person does in ten minutes stays below them.

use serde_json::Value;

use super::{Callers, Calls, Counts, Rule};
use crate::detections::look::Look;
use crate::finding::FindingType;

const SECRETS: FindingType = FindingType::picket("CredentialAccess:IAMUser/SecretsHarvested", 5.0);
const PASSWORDS: FindingType =
    FindingType::guardduty("CredentialAccess:EC2/UnsecuredCredentials", 5.0);
const USER_DATA: FindingType = FindingType::picket("CredentialAccess:EC2/UserDataRead", 5.0);
const SWEEP: FindingType = FindingType::picket("Discovery:IAMUser/DeniedSweep", 5.0);
const EXPLORED: FindingType = FindingType::picket("Discovery:IAMUser/ServiceEnumeration", 5.0);
const ENTERED: FindingType = FindingType::guardduty("LateralMovement:EC2/RemoteServices", 5.0);
const SESSIONS: FindingType = FindingType::picket("LateralMovement:EC2/RemoteSessions", 5.0);
const DELETED: FindingType = FindingType::picket("Impact:IAMUser/MassDeletion", 8.0);
const OBJECTS: FindingType = FindingType::picket("Impact:S3/ObjectsDeleted", 8.0);
const GUESSED: FindingType =
    FindingType::picket("InitialAccess:IAMUser/ConsoleLoginBruteForce", 5.0);

/// The rule that counts by address.
pub(super) const SPRAY: &str = "passwords_sprayed";

const TEN_MINUTES: u64 = 600;
const HOUR: u64 = 3_600;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "secrets_read",
        kind: &SECRETS,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0), (15, 8.0)],
        calls: Calls::Named(&[("secretsmanager", &["GetSecretValue"])]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| one(look.asked("secretId")),
        noun: "read different secrets",
        mitre: &["T1555.006"],
        look_alikes: "people who move secrets elsewhere; the console, which reads one at a time",
        first_look: &[
            "Which secrets, and what they open.",
            "From where it was done.",
        ],
    },
    Rule {
        id: "parameters_decrypted",
        kind: &SECRETS,
        window_s: TEN_MINUTES,
        steps: &[(10, 5.0), (30, 8.0)],
        calls: Calls::Named(&[(
            "ssm",
            &["GetParameter", "GetParameters", "GetParametersByPath"],
        )]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: parameters,
        noun: "decrypted different parameters",
        mitre: &["T1555"],
        look_alikes: "people who start a program at their own desk",
        first_look: &[
            "Which parameters, and what they open.",
            "From where it was done.",
        ],
    },
    Rule {
        id: "host_passwords_fetched",
        kind: &PASSWORDS,
        window_s: TEN_MINUTES,
        steps: &[(1, 3.0), (3, 5.0), (10, 8.0)],
        calls: Calls::Named(&[("ec2", &["GetPasswordData"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| one(look.asked("instanceId")),
        noun: "asked for the passwords of different hosts",
        mitre: &["T1552"],
        look_alikes: "administrators of Windows hosts, who ask for one",
        first_look: &["Who logged in on these hosts since."],
    },
    Rule {
        id: "user_data_read",
        kind: &USER_DATA,
        window_s: TEN_MINUTES,
        steps: &[(3, 5.0), (8, 8.0)],
        calls: Calls::Named(&[(
            "ec2",
            &["DescribeInstanceAttribute", "GetLaunchTemplateData"],
        )]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| {
            let is_template = look.call.event_name.starts_with("GetLaunch");
            let reads = is_template || look.asked("attribute") == Some("userData");
            one(look
                .asked("instanceId")
                .filter(|_| reads && !look.is_console()))
        },
        noun: "read what different hosts run at their start",
        mitre: &["T1552.005", "T1580"],
        look_alikes: "inventories that people run",
        first_look: &["Whether secrets stand in it.", "What the caller did next."],
    },
    Rule {
        id: "denied_sweep",
        kind: &SWEEP,
        window_s: TEN_MINUTES,
        steps: &[(10, 5.0)],
        calls: Calls::Denied,
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| {
            let call = look.call;
            let api = format!("{} {}", call.event_source, call.event_name);
            if look.is_console() {
                Vec::new()
            } else {
                vec![api]
            }
        },
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
        id: "host_keys_pushed",
        kind: &ENTERED,
        window_s: HOUR,
        steps: &[(1, 3.0), (2, 5.0), (5, 8.0)],
        calls: Calls::Named(&[("ec2-instance-connect", &["SendSSHPublicKey"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| one(look.asked("instanceId")),
        noun: "pushed an SSH key to different hosts",
        mitre: &["T1021.008", "T1098.004"],
        look_alikes: "administrators at work",
        first_look: &["Who was on these hosts, and what ran."],
    },
    Rule {
        id: "host_sessions_opened",
        kind: &SESSIONS,
        window_s: TEN_MINUTES,
        steps: &[(3, 5.0), (10, 8.0)],
        calls: Calls::Named(&[("ssm", &["ResumeSession", "StartSession"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| one(look.asked("target")),
        noun: "opened sessions on different hosts",
        mitre: &["T1021.007"],
        look_alikes: "administrators at work",
        first_look: &["What was typed: the session log has it, where there is one."],
    },
    Rule {
        id: "mass_deletion",
        kind: &DELETED,
        window_s: TEN_MINUTES,
        steps: &[(15, 5.0), (40, 8.0)],
        calls: Calls::Named(&[
            ("s3", &["DeleteBucket"]),
            (
                "rds",
                &[
                    "DeleteDBCluster",
                    "DeleteDBInstance",
                    "DeleteDBSnapshot",
                    "DeleteDBClusterSnapshot",
                ],
            ),
            ("dynamodb", &["DeleteTable", "DeleteBackup"]),
            ("elasticfilesystem", &["DeleteFileSystem"]),
            (
                "ec2",
                &[
                    "DeleteSnapshot",
                    "DeleteVolume",
                    "DeregisterImage",
                    "TerminateInstances",
                    "StopInstances",
                ],
            ),
            ("lambda", &["DeleteFunction"]),
            ("cloudformation", &["DeleteStack"]),
            ("secretsmanager", &["DeleteSecret"]),
            ("iam", &["DeleteUser", "DeleteRole", "DeactivateMFADevice"]),
            ("kms", &["ScheduleKeyDeletion", "DisableKey"]),
            ("backup", &["DeleteRecoveryPoint", "DeleteBackupVault"]),
            ("ecr", &["DeleteRepository"]),
        ]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: deleted,
        noun: "deleted or stopped different things",
        mitre: &["T1485", "T1489"],
        look_alikes: "people who clear away an experiment",
        first_look: &["What of it was in use.", "What it can be had back from."],
    },
    Rule {
        id: "objects_deleted",
        kind: &OBJECTS,
        window_s: TEN_MINUTES,
        steps: &[(20, 5.0), (100, 8.0)],
        calls: Calls::Named(&[("s3", &["DeleteObject", "DeleteObjects"])]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: objects,
        noun: "deleted different objects, or batches of them",
        mitre: &["T1485", "T1486"],
        look_alikes: "people who empty a bucket",
        first_look: &[
            "Whether the bucket keeps versions.",
            "What was written to it since: a note?",
        ],
    },
    Rule {
        id: "password_guessed",
        kind: &GUESSED,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0), (50, 8.0)],
        calls: Calls::Named(&[("signin", &["ConsoleLogin"])]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| one(look.call.event_id.as_deref().filter(|_| failed(look))),
        noun: "failed to sign in",
        mitre: &["T1110.001"],
        look_alikes: "somebody who forgot a password",
        first_look: &["Whether a sign-in succeeded at last, and from where."],
    },
    Rule {
        id: SPRAY,
        kind: &GUESSED,
        window_s: HOUR,
        steps: &[(5, 5.0), (20, 8.0)],
        calls: Calls::Named(&[("signin", &["ConsoleLogin"])]),
        by: Callers::All,
        counts: Counts::Failures,
        things: |look| {
            let identity = &look.call.identity;
            let user = identity
                .user_name
                .as_deref()
                .or(identity.principal_id.as_deref());
            one(user.filter(|_| failed(look)))
        },
        noun: "and others failed to sign in from one place, as different users",
        mitre: &["T1110.003"],
        look_alikes: "an office on a bad morning",
        first_look: &["Whether any sign-in from there succeeded."],
    },
];

fn one(thing: Option<&str>) -> Vec<String> {
    thing.into_iter().map(str::to_owned).collect()
}

/// The call itself, unless the console made it: a page of it makes many.
fn by_program(look: &Look<'_>) -> Vec<String> {
    if look.is_console() {
        Vec::new()
    } else {
        api(look)
    }
}

fn api(look: &Look<'_>) -> Vec<String> {
    vec![format!(
        "{} {}",
        look.call.event_source, look.call.event_name
    )]
}

/// Parameters that a call had decrypted. A whole tree counts as ten.
fn parameters(look: &Look<'_>) -> Vec<String> {
    if look.flag("withDecryption") != Some(true) {
        return Vec::new();
    }
    match look.asked("path") {
        Some(path) => (0..10).map(|at| format!("{path} {at}")).collect(),
        None => {
            let mut names = look.all("names");
            names.extend(look.all("name"));
            names
        }
    }
}

/// Names under which calls that delete say what they delete.
const TARGETS: &[&str] = &[
    "bucketName",
    "dBClusterIdentifier",
    "dBInstanceIdentifier",
    "dBSnapshotIdentifier",
    "dBClusterSnapshotIdentifier",
    "tableName",
    "backupArn",
    "fileSystemId",
    "snapshotId",
    "volumeId",
    "imageId",
    "functionName",
    "stackName",
    "secretId",
    "userName",
    "roleName",
    "keyId",
    "recoveryPointArn",
    "backupVaultName",
    "repositoryName",
];

fn deleted(look: &Look<'_>) -> Vec<String> {
    let items = look
        .asked_at("instancesSet.items")
        .and_then(Value::as_array);
    if let Some(items) = items {
        let ids = items
            .iter()
            .filter_map(|item| item.get("instanceId")?.as_str());
        return ids.map(str::to_owned).collect();
    }
    one(look.asked_any(TARGETS))
}

/// Objects that a call deleted. A batch of up to a thousand does not tell its names, and counts as twenty.
fn objects(look: &Look<'_>) -> Vec<String> {
    if look.is_console() {
        return Vec::new();
    }
    let bucket = look.asked("bucketName").unwrap_or_default();
    if &*look.call.event_name == "DeleteObject" {
        let key = look.asked("key").unwrap_or_default();
        return vec![format!("{bucket}/{key}")];
    }
    let id = look.call.event_id.as_deref().unwrap_or_default();
    (0..20).map(|at| format!("{bucket} {id} {at}")).collect()
}

/// Says whether a sign-in failed.
fn failed(look: &Look<'_>) -> bool {
    look.call.response_elements.text("ConsoleLogin") == Some("Failure")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::testing::{START, analyze, api as record};
    use picket_intel::IndicatorSet;
    use std::collections::BTreeSet;

    const EVE: &str =
        r#""type":"IAMUser","userName":"eve","arn":"arn:aws:iam::111122223333:user/eve""#;
    const HOST: &str = r#""type":"AssumedRole","principalId":"AROA:i-0abc","arn":"arn:aws:sts::111122223333:assumed-role/web/i-0abc""#;
    const MACHINE: &str = r#""type":"AssumedRole","principalId":"AROA:run","arn":"arn:aws:sts::111122223333:assumed-role/app/run""#;

    /// `count` calls a second apart, with `{n}` in the parameters for the number of each.
    fn calls(identity: &str, api: (&str, &str), rest: &str, count: usize) -> Vec<Event> {
        let of = |n: usize| {
            let rest = rest.replace("{n}", &n.to_string());
            let (service, name) = api;
            let mut call = record(&format!(
                r#"{{"eventID":"e-{name}-{n}","eventSource":"{service}.amazonaws.com","eventName":"{name}",
                "awsRegion":"eu-west-1","recipientAccountId":"111122223333","sourceIPAddress":"192.0.2.1",
                "userAgent":"aws-cli/2","userIdentity":{{{identity}}},{rest}}}"#
            ));
            call.event_time_ns = START + n as u64 * 1_000_000_000;
            Event::Api(call)
        };
        (0..count).map(of).collect()
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[(&str, f64)]) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let mut found: Vec<(&str, f64)> = findings
            .iter()
            .filter(|f| f.picket.rule == "cloudtrail_bursts")
            .map(|f| (&*f.service.additional_info["behaviour"], f.severity))
            .collect();
        found.sort_by_key(|(id, _)| *id);
        assert_eq!(found, expected);
    }

    #[test]
    fn secrets() {
        let api = ("secretsmanager", "GetSecretValue");
        let different = r#""requestParameters":{"secretId":"s{n}"}"#;
        check(calls(EVE, api, different, 4), &[]);
        check(calls(EVE, api, different, 5), &[("secrets_read", 5.0)]);
        check(calls(EVE, api, different, 15), &[("secrets_read", 8.0)]);
        check(
            calls(EVE, api, r#""requestParameters":{"secretId":"s"}"#, 50),
            &[],
        );
        check(calls(MACHINE, api, different, 50), &[]);
        check(calls(HOST, api, different, 5), &[("secrets_read", 5.0)]);
        let api = ("ssm", "GetParameters");
        let names = r#""requestParameters":{"withDecryption":true,"names":["a{n}","b{n}"]}"#;
        check(calls(EVE, api, names, 5), &[("parameters_decrypted", 5.0)]);
        check(calls(EVE, api, &names.replace("true", "false"), 5), &[]);
        let tree = r#""requestParameters":{"withDecryption":true,"path":"/"}"#;
        check(
            calls(EVE, ("ssm", "GetParametersByPath"), tree, 1),
            &[("parameters_decrypted", 5.0)],
        );
    }

    #[test]
    fn things_that_lie_apart_do_not_count_together() {
        let mut events = calls(
            EVE,
            ("secretsmanager", "GetSecretValue"),
            r#""requestParameters":{"secretId":"s{n}"}"#,
            5,
        );
        for (at, event) in events.iter_mut().enumerate() {
            if let Event::Api(call) = event {
                call.event_time_ns += at as u64 * TEN_MINUTES * 1_000_000_000;
            }
        }
        check(events, &[]);
    }

    #[test]
    fn hosts() {
        let api = ("ec2", "GetPasswordData");
        let of = r#""requestParameters":{"instanceId":"i-{n}"}"#;
        check(
            calls(MACHINE, api, of, 3),
            &[("host_passwords_fetched", 5.0)],
        );
        let denied = format!(r#"{of},"errorCode":"Client.UnauthorizedOperation""#);
        check(
            calls(MACHINE, api, &denied, 10),
            &[("host_passwords_fetched", 5.0)],
        );
        check(
            calls(MACHINE, api, of, 1),
            &[("host_passwords_fetched", 3.0)],
        );
        let api = ("ec2", "DescribeInstanceAttribute");
        let data = r#""requestParameters":{"attribute":"userData","instanceId":"i-{n}"}"#;
        check(calls(EVE, api, data, 3), &[("user_data_read", 5.0)]);
        check(calls(EVE, api, &data.replace("userData", "kernel"), 9), &[]);
        check(calls(MACHINE, api, data, 9), &[]);
        let api = ("ec2-instance-connect", "SendSSHPublicKey");
        check(calls(EVE, api, of, 2), &[("host_keys_pushed", 5.0)]);
        let api = ("ssm", "StartSession");
        let target = r#""requestParameters":{"target":"i-{n}"}"#;
        check(calls(EVE, api, target, 3), &[("host_sessions_opened", 5.0)]);
        check(calls(EVE, api, target, 2), &[]);
    }

    #[test]
    fn looking_round() {
        let look = |identity: &str, names: &[(&str, &str)], rest: &str| {
            let all = names.iter().flat_map(|api| calls(identity, *api, rest, 1));
            all.collect::<Vec<_>>()
        };
        let none = r#""requestParameters":null"#;
        let round = [
            ("sts", "GetCallerIdentity"),
            ("s3", "ListBuckets"),
            ("iam", "ListRoles"),
            ("iam", "ListUsers"),
            ("iam", "GetAccountSummary"),
        ];
        check(look(HOST, &round, none), &[("host_explores", 5.0)]);
        check(look(HOST, &round[..4], none), &[]);
        check(look(MACHINE, &round, none), &[]);
        let mail = [
            ("ses", "GetSendQuota"),
            ("ses", "ListIdentities"),
            ("ses", "GetAccountSendingEnabled"),
        ];
        check(look(EVE, &mail, none), &[("mail_explored", 5.0)]);
        check(look(MACHINE, &mail, none), &[]);
        check(look(EVE, &mail[..2], none), &[]);
        let denied = r#""errorCode":"AccessDenied""#;
        let names: Vec<String> = (0..10).map(|n| format!("Describe{n}")).collect();
        let apis: Vec<(&str, &str)> = names.iter().map(|name| ("ec2", &**name)).collect();
        check(look(MACHINE, &apis, denied), &[("denied_sweep", 5.0)]);
        check(look(MACHINE, &apis[..9], denied), &[]);
        check(look(MACHINE, &apis, none), &[]);
        check(calls(MACHINE, ("s3", "PutObject"), denied, 200), &[]);
        let role = r#""errorCode":"AccessDenied","requestParameters":{"roleArn":"r{n}"}"#;
        check(
            calls(EVE, ("sts", "AssumeRole"), role, 5),
            &[("roles_tried", 5.0)],
        );
        let wrong = r#""errorCode":"MalformedPolicyDocumentException""#;
        check(
            calls(EVE, ("iam", "UpdateAssumeRolePolicy"), wrong, 5),
            &[("principals_guessed", 5.0)],
        );
    }

    #[test]
    fn deletions() {
        let secret = r#""requestParameters":{"secretId":"s{n}"}"#;
        let api = ("secretsmanager", "DeleteSecret");
        check(calls(EVE, api, secret, 15), &[("mass_deletion", 5.0)]);
        check(calls(EVE, api, secret, 14), &[]);
        check(calls(MACHINE, api, secret, 60), &[]);
        let object = r#""requestParameters":{"bucketName":"b","key":"k{n}"}"#;
        check(
            calls(EVE, ("s3", "DeleteObject"), object, 100),
            &[("objects_deleted", 8.0)],
        );
        check(calls(EVE, ("s3", "DeleteObject"), object, 19), &[]);
        let batch = r#""requestParameters":{"bucketName":"b"}"#;
        check(
            calls(EVE, ("s3", "DeleteObjects"), batch, 1),
            &[("objects_deleted", 5.0)],
        );
    }

    #[test]
    fn sign_ins() {
        let api = ("signin", "ConsoleLogin");
        let failure = r#""responseElements":{"ConsoleLogin":"Failure"}"#;
        check(calls(EVE, api, failure, 5), &[("password_guessed", 5.0)]);
        check(calls(EVE, api, failure, 4), &[]);
        check(
            calls(EVE, api, &failure.replace("Failure", "Success"), 9),
            &[],
        );
        let users: Vec<Event> = (0..5)
            .flat_map(|n| {
                let user = format!(r#""type":"IAMUser","userName":"u{n}""#);
                calls(&user, api, failure, 1)
            })
            .collect();
        check(users, &[(SPRAY, 5.0)]);
    }

    #[test]
    fn rules_say_what_a_reader_needs() {
        let mut ids = BTreeSet::new();
        for rule in RULES {
            assert!(ids.insert(rule.id), "{} twice", rule.id);
            assert!(
                !rule.steps.is_empty() && rule.steps.is_sorted_by(|a, b| a.0 < b.0),
                "{}",
                rule.id
            );
            let most = rule.steps.iter().map(|(things, _)| *things).max().unwrap();
            assert!(most < crate::limits::BURST_THINGS_MAX, "{}", rule.id);
            assert!(
                rule.window_s * 1_000_000_000 <= crate::history::CALL_FACTS_NS,
                "{}",
                rule.id
            );
            assert!(
                !rule.mitre.is_empty() && !rule.first_look.is_empty(),
                "{}",
                rule.id
            );
        }
    }
}
