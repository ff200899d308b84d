//! Data handed out: snapshots, images, buckets, queues, functions and keys shared with everybody or with
//! accounts that are not ours.

use serde_json::Value;

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::policy::{Policy, account_of};

const VOLUME: FindingType =
    FindingType::guardduty("Exfiltration:EC2/TransferDataToCloudAccount", 8.0);
const DATABASE: FindingType =
    FindingType::guardduty("Exfiltration:RDS/TransferDataToCloudAccount", 8.0);
const BUCKET: FindingType =
    FindingType::guardduty("Exfiltration:S3/TransferDataToCloudAccount", 8.0);
const ANONYMOUS: FindingType =
    FindingType::guardduty("Policy:S3/BucketAnonymousAccessGranted", 8.0);
const ANY_USER: FindingType = FindingType::guardduty("Policy:S3/BucketPublicAccessGranted", 8.0);
const ACCOUNT_BLOCK: FindingType =
    FindingType::guardduty("Policy:S3/AccountBlockPublicAccessDisabled", 2.0);
const BUCKET_BLOCK: FindingType =
    FindingType::guardduty("Policy:S3/BucketBlockPublicAccessDisabled", 2.0);
const FUNCTION: FindingType = FindingType::guardduty("Persistence:Lambda/AccountManipulation", 8.0);
const URL: FindingType =
    FindingType::guardduty("Persistence:Lambda/ModifyAuthenticationProcess", 8.0);
const SHARED: FindingType = FindingType::picket("Exfiltration:IAMUser/ResourceShared", 8.0);
const EXPORTED: FindingType = FindingType::picket("Exfiltration:IAMUser/DataExported", 5.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "volume_shared",
        kind: &VOLUME,
        severity: 8.0,
        planned: None,
        calls: &[("ec2", &["ModifySnapshotAttribute", "ModifyImageAttribute"])],
        judge: volume_shared,
        mitre: &["T1537"],
        look_alikes: "images that are published, accounts of ours that are not named in `accounts.own`",
        first_look: &[
            "Whose account it is.",
            "What is on the disk: it may have been copied by now.",
        ],
    },
    Behaviour {
        id: "database_shared",
        kind: &DATABASE,
        severity: 8.0,
        planned: None,
        calls: &[(
            "rds",
            &[
                "ModifyDBSnapshotAttribute",
                "ModifyDBClusterSnapshotAttribute",
            ],
        )],
        judge: |look| {
            let restore = look.asked("attributeName") == Some("restore");
            let with = if restore {
                look.all("valuesToAdd")
            } else {
                Vec::new()
            };
            shared_with(
                look,
                "a database's snapshot",
                with.iter().map(String::as_str),
            )
        },
        mitre: &["T1537"],
        look_alikes: "accounts of ours that are not named in `accounts.own`",
        first_look: &[
            "Whose account it is.",
            "What the database holds: it may have been restored by now.",
        ],
    },
    Behaviour {
        id: "bucket_shared",
        kind: &BUCKET,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("s3", &["PutBucketPolicy"])],
        judge: |look| {
            let policy = look
                .policy("bucketPolicy")
                .or_else(|| look.policy("policy"))?;
            let mut foreign = policy.accounts().filter(|(_, of)| look.is_foreign(of));
            // Load balancers and others deliver logs from accounts of AWS's.
            let (statement, account) = foreign
                .find(|(s, _)| !s.only_puts_objects())
                .or_else(|| policy.accounts().find(|(_, of)| look.is_foreign(of)))?;
            let bucket = quote(look.asked("bucketName").unwrap_or("a bucket"));
            let what = format!("let account {account}, which is not ours, into bucket {bucket}");
            let deed = Deed::new(what).issue(account);
            Some(if statement.only_puts_objects() {
                deed.severity(2.0)
            } else {
                deed
            })
        },
        mitre: &["T1537", "T1530"],
        look_alikes: "buckets shared with a partner",
        first_look: &["Whose account it is.", "What was read from there since."],
    },
    Behaviour {
        id: "bucket_public",
        kind: &ANONYMOUS,
        severity: 8.0,
        planned: Some(5.0),
        calls: &[(
            "s3",
            &[
                "PutBucketPolicy",
                "PutBucketAcl",
                "PutObjectAcl",
                "CreateBucket",
                "PutAccessPointPolicy",
            ],
        )],
        judge: bucket_public,
        mitre: &["T1530"],
        look_alikes: "web sites, which belong behind CloudFront",
        first_look: &["What the bucket holds.", "Who read it since, and how much."],
    },
    Behaviour {
        id: "bucket_open_to_users",
        kind: &ANY_USER,
        severity: 8.0,
        planned: Some(5.0),
        calls: &[("s3", &["PutBucketAcl", "PutObjectAcl", "CreateBucket"])],
        judge: |look| {
            let raw = ["global/AuthenticatedUsers", "authenticated-read"];
            let open = raw.iter().any(|word| look.mentions(word)) && !is_anonymous_acl(look);
            let bucket = quote(look.asked("bucketName").unwrap_or("a bucket"));
            open.then(|| Deed::new(format!("opened bucket {bucket} to every user of AWS")))
        },
        mitre: &["T1530"],
        look_alikes: "people who take `authenticated` to mean their own users",
        first_look: &["What the bucket holds.", "Who read it since, and how much."],
    },
    Behaviour {
        id: "account_block_removed",
        kind: &ACCOUNT_BLOCK,
        severity: 2.0,
        planned: None,
        calls: &[(
            "s3",
            &[
                "DeleteAccountPublicAccessBlock",
                "PutAccountPublicAccessBlock",
            ],
        )],
        judge: |look| block_removed(look, "of the account"),
        mitre: &["T1562"],
        look_alikes: "accounts made for web sites",
        first_look: &["Which buckets are public since."],
    },
    Behaviour {
        id: "bucket_block_removed",
        kind: &BUCKET_BLOCK,
        severity: 2.0,
        planned: None,
        calls: &[(
            "s3",
            &[
                "DeleteBucketPublicAccessBlock",
                "PutBucketPublicAccessBlock",
            ],
        )],
        judge: |look| block_removed(look, "of a bucket"),
        mitre: &["T1562"],
        look_alikes: "buckets made for web sites",
        first_look: &["Whether the bucket is public since."],
    },
    Behaviour {
        id: "function_shared",
        kind: &FUNCTION,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("lambda", &["AddPermission", "AddLayerVersionPermission"])],
        judge: function_shared,
        mitre: &["T1098", "T1546"],
        look_alikes: "functions behind an address of their own, layers that are published",
        first_look: &["Who called the function since.", "What its role may do."],
    },
    Behaviour {
        id: "function_url_open",
        kind: &URL,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[(
            "lambda",
            &["CreateFunctionUrlConfig", "UpdateFunctionUrlConfig"],
        )],
        judge: |look| {
            let function = quote(look.asked("functionName").unwrap_or("a function"));
            let open = look.asked("authType") == Some("NONE");
            open.then(|| {
                Deed::new(format!(
                    "let everybody call function {function} by an address"
                ))
            })
        },
        mitre: &["T1190", "T1546"],
        look_alikes: "hooks that others call, which check signatures of their own",
        first_look: &["Who called it since.", "What its role may do."],
    },
    Behaviour {
        id: "resource_shared",
        kind: &SHARED,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[
            ("sqs", &["SetQueueAttributes", "AddPermission"]),
            ("sns", &["SetTopicAttributes", "AddPermission"]),
            ("ecr", &["SetRepositoryPolicy"]),
            ("kms", &["PutKeyPolicy", "CreateGrant"]),
            ("secretsmanager", &["PutResourcePolicy"]),
            ("backup", &["PutBackupVaultAccessPolicy"]),
            ("ssm", &["ModifyDocumentPermission"]),
            ("elasticfilesystem", &["PutFileSystemPolicy"]),
            ("es", &["UpdateDomainConfig"]),
            ("glue", &["PutResourcePolicy"]),
            ("logs", &["PutSubscriptionFilter"]),
        ],
        judge: resource_shared,
        mitre: &["T1537", "T1098"],
        look_alikes: "partners, accounts of ours that are not named in `accounts.own`",
        first_look: &["Whose account it is.", "What was read or sent since."],
    },
    Behaviour {
        id: "data_exported",
        kind: &EXPORTED,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            ("rds", &["StartExportTask"]),
            ("dynamodb", &["ExportTableToPointInTime"]),
            (
                "ec2",
                &[
                    "CreateInstanceExportTask",
                    "CreateStoreImageTask",
                    "CreateTrafficMirrorSession",
                ],
            ),
        ],
        judge: |look| {
            let what = match &*look.call.event_name {
                "CreateTrafficMirrorSession" => "had a host's traffic copied elsewhere",
                "StartExportTask" | "ExportTableToPointInTime" => "exported a database to a bucket",
                _ => "exported a host's disk to a bucket",
            };
            Some(Deed::new(what))
        },
        mitre: &["T1537", "T1213.006"],
        look_alikes: "data for analysis, moves to another place",
        first_look: &["Whose bucket it goes to.", "Who may read it there."],
    },
    Behaviour {
        id: "copied_to_foreign_bucket",
        kind: &BUCKET,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("s3", &["PutBucketReplication"])],
        judge: |look| {
            let raw = look.asked_at("ReplicationConfiguration")?;
            let accounts = raw.get("Rule").into_iter().flat_map(|rule| match rule {
                Value::Array(all) => all.iter().collect::<Vec<_>>(),
                one => vec![one],
            });
            let mut named =
                accounts.filter_map(|rule| rule.get("Destination")?.get("Account")?.as_str());
            let foreign = named.find_map(|account| look.foreign_of(account))?;
            Some(
                Deed::new(format!(
                    "had a bucket copied to account {foreign}, which is not ours"
                ))
                .issue(foreign),
            )
        },
        mitre: &["T1537"],
        look_alikes: "backups kept by somebody else",
        first_look: &["Whose account it is, and what was copied."],
    },
];

/// A deed of sharing with the first of `with` that is everybody or foreign.
fn shared_with<'a>(
    look: &Look<'_>,
    what: &str,
    with: impl Iterator<Item = &'a str>,
) -> Option<Deed> {
    for one in with {
        if matches!(one, "all" | "*" | "All") {
            return Some(Deed::new(format!("shared {what} with everybody")).issue("*"));
        }
        if let Some(account) = look.foreign_of(one) {
            let told = format!("shared {what} with account {account}, which is not ours");
            return Some(Deed::new(told).issue(account));
        }
    }
    None
}

fn volume_shared(look: &Look<'_>) -> Option<Deed> {
    let (what, key) = if &*look.call.event_name == "ModifyImageAttribute" {
        ("an image", "launchPermission")
    } else {
        ("a disk's snapshot", "createVolumePermission")
    };
    let items = look.asked_at(&format!("{key}.add.items"))?.as_array()?;
    let with = items.iter().filter_map(|item| {
        ["group", "userId"]
            .iter()
            .find_map(|name| item.get(name)?.as_str())
    });
    shared_with(look, what, with)
}

fn is_anonymous_acl(look: &Look<'_>) -> bool {
    let canned = look.all("x-amz-acl");
    look.mentions("global/AllUsers") || canned.iter().any(|acl| acl.starts_with("public-read"))
}

fn bucket_public(look: &Look<'_>) -> Option<Deed> {
    let open = if look.call.event_name.ends_with("Policy") {
        let policy = look
            .policy("bucketPolicy")
            .or_else(|| look.policy("policy"))?;
        policy.open_to_everyone().is_some()
    } else {
        is_anonymous_acl(look)
    };
    let bucket = quote(look.asked("bucketName").unwrap_or("a bucket"));
    open.then(|| Deed::new(format!("opened bucket {bucket} to everybody")))
}

fn block_removed(look: &Look<'_>, of: &str) -> Option<Deed> {
    let deed = Deed::new(format!("took away the block on public access {of}"));
    if look.call.event_name.starts_with("Delete") {
        return Some(deed);
    }
    let blocks = [
        "BlockPublicAcls",
        "BlockPublicPolicy",
        "IgnorePublicAcls",
        "RestrictPublicBuckets",
    ];
    let off =
        |block: &&str| look.flag(&format!("PublicAccessBlockConfiguration.{block}")) == Some(false);
    blocks.iter().any(off).then_some(deed)
}

fn function_shared(look: &Look<'_>) -> Option<Deed> {
    let function = quote(
        look.asked_any(&["functionName", "layerName"])
            .unwrap_or("a function"),
    );
    let principal = look.asked("principal")?;
    // Services call for somebody; the account or resource they call for is named apart.
    let narrowed = ["sourceArn", "sourceAccount", "principalOrgID"];
    if look.asked_any(&narrowed).is_some() {
        return None;
    }
    let names_all = principal == "*";
    shared_with(
        look,
        &format!("function {function}"),
        [principal].into_iter(),
    )
    .map(|deed| {
        let layer = look.call.event_name.contains("Layer");
        if names_all && layer {
            deed.severity(5.0)
        } else {
            deed
        }
    })
}

fn resource_shared(look: &Look<'_>) -> Option<Deed> {
    let service = look.call.service();
    let what = format!("something of {service}");
    match &*look.call.event_name {
        "AddPermission" | "ModifyDocumentPermission" => {
            let names = ["aWSAccountIds", "accountIdsToAdd", "aWSAccountId"];
            let with: Vec<String> = names.iter().flat_map(|name| look.all(name)).collect();
            return shared_with(look, &what, with.iter().map(String::as_str));
        }
        "CreateGrant" => {
            let grantee = account_of(look.asked("granteePrincipal")?)?;
            return shared_with(look, "a key", [grantee].into_iter());
        }
        "PutSubscriptionFilter" => {
            let to = account_of(look.asked("destinationArn")?)?;
            return shared_with(look, "a log", [to].into_iter());
        }
        _ => {}
    }
    let policy = policy_of(look)?;
    if policy.open_to_everyone().is_some() {
        return shared_with(look, &what, ["*"].into_iter());
    }
    shared_with(look, &what, policy.accounts().map(|(_, account)| account))
}

/// The policy of a resource, under whatever name its service has for it.
fn policy_of(look: &Look<'_>) -> Option<Policy> {
    let names = [
        "policy",
        "policyText",
        "resourcePolicy",
        "policyInJson",
        "attributes.Policy",
        "accessPolicies",
    ];
    let named = names.iter().find_map(|name| look.policy(name));
    named.or_else(|| {
        let is_policy = look.asked("attributeName") == Some("Policy");
        is_policy.then(|| look.policy("attributeValue")).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ME, check, check_all, event};

    const FOREIGN: &str = "999988887777";

    #[test]
    fn disks_and_databases() {
        let add = |key: &str, item: &str| format!(r#"{{"{key}":{{"add":{{"items":[{item}]}}}}}}"#);
        let id = "volume_shared";
        let snapshot = |item: &str, expected: &[(&str, f64)]| {
            check(
                "ec2",
                "ModifySnapshotAttribute",
                &add("createVolumePermission", item),
                expected,
            );
        };
        snapshot(&format!(r#"{{"userId":"{FOREIGN}"}}"#), &[(id, 8.0)]);
        snapshot(r#"{"group":"all"}"#, &[(id, 8.0)]);
        snapshot(&format!(r#"{{"userId":"{ME}"}}"#), &[]);
        let image = add("launchPermission", r#"{"group":"all"}"#);
        check("ec2", "ModifyImageAttribute", &image, &[(id, 8.0)]);
        let gone = image.replace("add", "remove");
        check("ec2", "ModifyImageAttribute", &gone, &[]);
        let restore = |name: &str, with: &str| {
            format!(r#"{{"attributeName":"{name}","valuesToAdd":["{with}"]}}"#)
        };
        let id = "database_shared";
        check(
            "rds",
            "ModifyDBSnapshotAttribute",
            &restore("restore", "all"),
            &[(id, 8.0)],
        );
        check(
            "rds",
            "ModifyDBSnapshotAttribute",
            &restore("restore", FOREIGN),
            &[(id, 8.0)],
        );
        check(
            "rds",
            "ModifyDBSnapshotAttribute",
            &restore("restore", ME),
            &[],
        );
        check(
            "rds",
            "ModifyDBSnapshotAttribute",
            &restore("other", "all"),
            &[],
        );
    }

    #[test]
    fn buckets() {
        let policy = |principal: &str, action: &str, expected: &[(&str, f64)]| {
            let asked = format!(
                r#"{{"bucketName":"b","bucketPolicy":{{"Statement":[{{"Effect":"Allow","Principal":{principal},
                "Action":"{action}","Resource":"*"}}]}}}}"#
            );
            check("s3", "PutBucketPolicy", &asked, expected);
        };
        policy(
            &format!(r#"{{"AWS":"{FOREIGN}"}}"#),
            "s3:GetObject",
            &[("bucket_shared", 8.0)],
        );
        policy(
            &format!(r#"{{"AWS":"{FOREIGN}"}}"#),
            "s3:PutObject",
            &[("bucket_shared", 2.0)],
        );
        policy(&format!(r#"{{"AWS":"{ME}"}}"#), "s3:GetObject", &[]);
        policy(
            r#"{"Service":"cloudtrail.amazonaws.com"}"#,
            "s3:PutObject",
            &[],
        );
        policy(r#""*""#, "s3:GetObject", &[("bucket_public", 8.0)]);
        let acl = |text: &str| format!(r#"{{"bucketName":"b","x-amz-acl":["{text}"]}}"#);
        check(
            "s3",
            "PutBucketAcl",
            &acl("public-read"),
            &[("bucket_public", 8.0)],
        );
        check(
            "s3",
            "PutBucketAcl",
            &acl("authenticated-read"),
            &[("bucket_open_to_users", 8.0)],
        );
        check("s3", "PutBucketAcl", &acl("private"), &[]);
        let block = |flag: bool| {
            format!(
                r#"{{"PublicAccessBlockConfiguration":{{"BlockPublicAcls":{flag},"BlockPublicPolicy":true}}}}"#
            )
        };
        let id = "bucket_block_removed";
        check(
            "s3",
            "PutBucketPublicAccessBlock",
            &block(false),
            &[(id, 2.0)],
        );
        check("s3", "PutBucketPublicAccessBlock", &block(true), &[]);
        check(
            "s3",
            "DeleteAccountPublicAccessBlock",
            "{}",
            &[("account_block_removed", 2.0)],
        );
        let copy = |account: &str| {
            format!(
                r#"{{"ReplicationConfiguration":{{"Rule":{{"Destination":{{"Account":"{account}"}}}}}}}}"#
            )
        };
        let id = "copied_to_foreign_bucket";
        check("s3", "PutBucketReplication", &copy(FOREIGN), &[(id, 8.0)]);
        check("s3", "PutBucketReplication", &copy(ME), &[]);
    }

    #[test]
    fn functions() {
        let add = |rest: &str, expected: &[(&str, f64)]| {
            let asked = format!(r#"{{"functionName":"f",{rest}}}"#);
            check("lambda", "AddPermission20150331v2", &asked, expected);
        };
        let id = "function_shared";
        add(r#""principal":"*""#, &[(id, 8.0)]);
        add(&format!(r#""principal":"{FOREIGN}""#), &[(id, 8.0)]);
        add(r#""principal":"*","sourceArn":"arn:x""#, &[]);
        add(r#""principal":"s3.amazonaws.com""#, &[]);
        add(&format!(r#""principal":"{ME}""#), &[]);
        let url = |auth: &str| format!(r#"{{"functionName":"f","authType":"{auth}"}}"#);
        check(
            "lambda",
            "CreateFunctionUrlConfig",
            &url("NONE"),
            &[("function_url_open", 8.0)],
        );
        check("lambda", "CreateFunctionUrlConfig", &url("AWS_IAM"), &[]);
    }

    #[test]
    fn other_resources() {
        let id = "resource_shared";
        let open = r#"{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"*\"}}"#;
        check(
            "ecr",
            "SetRepositoryPolicy",
            &format!(r#"{{"policyText":"{open}"}}"#),
            &[(id, 8.0)],
        );
        let topic = format!(r#"{{"attributeName":"Policy","attributeValue":"{open}"}}"#);
        check("sns", "SetTopicAttributes", &topic, &[(id, 8.0)]);
        let other = topic.replace("Policy", "DisplayName");
        check("sns", "SetTopicAttributes", &other, &[]);
        let grant = |to: &str| format!(r#"{{"granteePrincipal":"arn:aws:iam::{to}:root"}}"#);
        check("kms", "CreateGrant", &grant(FOREIGN), &[(id, 8.0)]);
        check("kms", "CreateGrant", &grant(ME), &[]);
        let document = r#"{"permissionType":"Share","accountIdsToAdd":["All"]}"#;
        check("ssm", "ModifyDocumentPermission", document, &[(id, 8.0)]);
        check("rds", "StartExportTask", "{}", &[("data_exported", 5.0)]);
        check_all(
            vec![event("rds", "StartExportTask", "{}", "AccessDenied")],
            &[("data_exported", 2.0)],
        );
    }
}
