//! Data held to ransom or destroyed: keys, backups, databases, objects encrypted with a stranger's key.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::policy::account_of;

const PASSWORD: FindingType =
    FindingType::guardduty("CredentialAccess:RDS/ModifyAuthenticationProcess", 8.0);
const AUTHENTICATION: FindingType =
    FindingType::guardduty("DefenseImpairment:RDS/ModifyAuthenticationProcess", 5.0);
const CUSTOMER_KEYS: FindingType =
    FindingType::guardduty("DefenseImpairment:S3/DisableOrModifyTools", 8.0);
const NOTE: FindingType = FindingType::picket("Impact:S3/RansomNote", 8.0);
const KEYS: FindingType = FindingType::picket("Impact:IAMUser/EncryptionKeyDestroyed", 5.0);
const INTERRUPTED: FindingType = FindingType::picket("Impact:RDS/DatabaseInterrupted", 4.0);
const BACKUPS: FindingType = FindingType::picket("Impact:IAMUser/BackupsDestroyed", 5.0);
const COPIED: FindingType =
    FindingType::guardduty("Exfiltration:S3/TransferDataToCloudAccount", 8.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "database_password_reset",
        kind: &PASSWORD,
        severity: 8.0,
        planned: Some(2.0),
        calls: &[("rds", &["ModifyDBInstance", "ModifyDBCluster"])],
        judge: |look| {
            let name = quote(
                look.asked_any(&["dBInstanceIdentifier", "dBClusterIdentifier"])
                    .unwrap_or("?"),
            );
            let set = look.asked_at("masterUserPassword").is_some();
            set.then(|| Deed::new(format!("set a new master password of database {name}")))
        },
        mitre: &["T1556", "T1098"],
        look_alikes: "rotation of passwords",
        first_look: &["Who logged in to the database since, and from where."],
    },
    Behaviour {
        id: "database_login_weakened",
        kind: &AUTHENTICATION,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("rds", &["ModifyDBInstance", "ModifyDBCluster"])],
        judge: |look| {
            let off = look.flag("enableIAMDatabaseAuthentication") == Some(false);
            off.then(|| Deed::new("ended log-in to a database by IAM"))
        },
        mitre: &["T1556"],
        look_alikes: "software that cannot use it",
        first_look: &["Who logs in by password since."],
    },
    Behaviour {
        id: "foreign_encryption",
        kind: &CUSTOMER_KEYS,
        severity: 8.0,
        planned: None,
        calls: &[("s3", &["CopyObject", "PutObject", "PutBucketEncryption"])],
        judge: foreign_encryption,
        mitre: &["T1486"],
        look_alikes: "exports to a partner, encrypted for them",
        first_look: &[
            "Whether the objects can still be read.",
            "Whether older versions are there.",
        ],
    },
    Behaviour {
        id: "ransom_note",
        kind: &NOTE,
        severity: 8.0,
        planned: None,
        calls: &[("s3", &["PutObject"])],
        judge: |look| {
            let key = look.asked("key")?;
            is_note(key).then(|| {
                Deed::new(format!(
                    "wrote what is named like a ransom note: {}",
                    quote(key)
                ))
            })
        },
        mitre: &["T1486", "T1491"],
        look_alikes: "documents about ransom",
        first_look: &["What else was written and deleted in the bucket in that hour."],
    },
    Behaviour {
        id: "copied_out",
        kind: &COPIED,
        severity: 5.0,
        planned: None,
        calls: &[("s3", &["CopyObject"])],
        judge: |look| {
            let of_bucket = look
                .call
                .resources
                .iter()
                .filter_map(|r| r.account.as_deref());
            let foreign = of_bucket
                .filter_map(|account| look.foreign_of(account))
                .next()?;
            Some(
                Deed::new(format!(
                    "copied objects to or from account {foreign}, which is not ours"
                ))
                .issue(foreign),
            )
        },
        mitre: &["T1537", "T1530"],
        look_alikes: "exchange with a partner",
        first_look: &["Whose account it is, and what was copied."],
    },
    Behaviour {
        id: "encryption_key_destroyed",
        kind: &KEYS,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "kms",
            &[
                "CreateCustomKeyStore",
                "DeleteImportedKeyMaterial",
                "DisableKey",
                "ImportKeyMaterial",
                "ScheduleKeyDeletion",
            ],
        )],
        judge: |look| {
            let key = quote(look.asked("keyId").unwrap_or("a key"));
            let what = match &*look.call.event_name {
                "ScheduleKeyDeletion" => format!("had key {key} deleted"),
                "DisableKey" => format!("put key {key} out of use"),
                "DeleteImportedKeyMaterial" => format!("deleted the material of key {key}"),
                _ => "brought key material of its own, which only it has".to_owned(),
            };
            Some(Deed::new(what))
        },
        mitre: &["T1485", "T1486"],
        look_alikes: "keys of what was taken down",
        first_look: &[
            "What is encrypted with the key: it can be had back while the deletion waits.",
        ],
    },
    Behaviour {
        id: "backups_destroyed",
        kind: &BACKUPS,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            (
                "backup",
                &[
                    "DeleteBackupVault",
                    "DeleteBackupVaultLockConfiguration",
                    "DeleteRecoveryPoint",
                ],
            ),
            (
                "rds",
                &[
                    "DeleteDBClusterAutomatedBackup",
                    "DeleteDBInstanceAutomatedBackup",
                ],
            ),
            ("dynamodb", &["DeleteBackup", "UpdateContinuousBackups"]),
        ],
        judge: |look| {
            let updates = &*look.call.event_name == "UpdateContinuousBackups";
            let kept = look.flag("pointInTimeRecoverySpecification.pointInTimeRecoveryEnabled")
                != Some(false);
            let what = "took away what data could be had back from";
            (!updates || !kept).then(|| Deed::new(what))
        },
        mitre: &["T1490", "T1485"],
        look_alikes: "backups of what was taken down",
        first_look: &[
            "Whether the data itself is still there.",
            "What else this caller deleted.",
        ],
    },
    Behaviour {
        id: "database_deleted",
        kind: &BACKUPS,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("rds", &["DeleteDBCluster", "DeleteDBInstance"])],
        judge: |look| {
            let name = quote(
                look.asked_any(&["dBInstanceIdentifier", "dBClusterIdentifier"])
                    .unwrap_or("?"),
            );
            let for_good = look.flag("skipFinalSnapshot") == Some(true);
            let deed = Deed::new(format!("deleted database {name}"));
            Some(if for_good { deed } else { deed.severity(4.0) })
        },
        mitre: &["T1485"],
        look_alikes: "databases of experiments",
        first_look: &["Whether anything used it.", "Whether a snapshot is left."],
    },
    Behaviour {
        id: "database_interrupted",
        kind: &INTERRUPTED,
        severity: 4.0,
        planned: Some(2.0),
        calls: &[(
            "rds",
            &[
                "FailoverDBCluster",
                "FailoverGlobalCluster",
                "RebootDBCluster",
                "RebootDBInstance",
            ],
        )],
        judge: |look| {
            let keys = [
                "dBInstanceIdentifier",
                "dBClusterIdentifier",
                "globalClusterIdentifier",
            ];
            let name = quote(look.asked_any(&keys).unwrap_or("?"));
            Some(Deed::new(format!("interrupted database {name} by hand")))
        },
        mitre: &["T1489", "T1529"],
        look_alikes: "administrators who make a change take hold, tests of failing over",
        first_look: &["Whether it was announced.", "What was changed just before."],
    },
    Behaviour {
        id: "database_role_added",
        kind: &AUTHENTICATION,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("rds", &["AddRoleToDBCluster", "AddRoleToDBInstance"])],
        judge: |look| {
            let role = quote(look.asked("roleArn").unwrap_or("a role"));
            let what = format!("gave a database role {role}, so that whoever queries it holds it");
            Some(Deed::new(what))
        },
        mitre: &["T1098.003"],
        look_alikes: "databases that read from buckets, being set up",
        first_look: &["What the role may do.", "Which queries ran since."],
    },
];

fn foreign_encryption(look: &Look<'_>) -> Option<Deed> {
    // The customer's own key, which AWS does not keep: GuardDuty's rule, and the way of one ransom crew.
    let own = "x-amz-server-side-encryption-customer-algorithm";
    if look.asked_at(own).is_some() {
        return Some(Deed::new(
            "encrypted objects with a key that AWS does not have",
        ));
    }
    let key = look.asked("x-amz-server-side-encryption-aws-kms-key-id");
    let by_default = || {
        let rule = look.asked_at("ServerSideEncryptionConfiguration.Rule")?;
        rule.get("ApplyServerSideEncryptionByDefault")?
            .get("KMSMasterKeyID")?
            .as_str()
    };
    let account = account_of(key.or_else(by_default)?)?;
    let what = format!("encrypted with a key of account {account}, which is not ours");
    look.is_foreign(account)
        .then(|| Deed::new(what).issue(account))
}

/// Pairs of words that stand in names of ransom notes.
const NOTE_WORDS: &[(&str, &str)] = &[
    ("decrypt", "how"),
    ("decrypt", "file"),
    ("recover", "file"),
    ("restore", "file"),
    ("ransom", "note"),
    ("files", "encrypted"),
    ("read", "me_now"),
];

/// Says whether a text is named like a note: short texts alone, since code and reports say such words
/// too.
fn is_note(key: &str) -> bool {
    let name = key
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_text = [".txt", ".html", ".hta"]
        .iter()
        .any(|end| name.ends_with(end));
    is_text
        && NOTE_WORDS
            .iter()
            .any(|(a, b)| name.contains(a) && name.contains(b))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn databases() {
        let id = "database_password_reset";
        check(
            "rds",
            "ModifyDBInstance",
            r#"{"masterUserPassword":"****"}"#,
            &[(id, 8.0)],
        );
        check("rds", "ModifyDBInstance", r#"{"allocatedStorage":20}"#, &[]);
        let id = "database_login_weakened";
        let iam = |on: bool| format!(r#"{{"enableIAMDatabaseAuthentication":{on}}}"#);
        check("rds", "ModifyDBCluster", &iam(false), &[(id, 5.0)]);
        check("rds", "ModifyDBCluster", &iam(true), &[]);
        let id = "database_deleted";
        check(
            "rds",
            "DeleteDBInstance",
            r#"{"skipFinalSnapshot":true}"#,
            &[(id, 5.0)],
        );
        check(
            "rds",
            "DeleteDBInstance",
            r#"{"skipFinalSnapshot":false}"#,
            &[(id, 4.0)],
        );
        check(
            "rds",
            "DeleteDBInstanceAutomatedBackup",
            "{}",
            &[("backups_destroyed", 5.0)],
        );
        check("rds", "StopDBInstance", "{}", &[]);
        let id = "database_interrupted";
        check("rds", "RebootDBInstance", "{}", &[(id, 4.0)]);
        check("rds", "FailoverDBCluster", "{}", &[(id, 4.0)]);
        check("rds", "StartDBInstance", "{}", &[]);
        check(
            "rds",
            "AddRoleToDBCluster",
            "{}",
            &[("database_role_added", 5.0)],
        );
        check("rds", "RemoveRoleFromDBCluster", "{}", &[]);
    }

    #[test]
    fn objects() {
        let id = "foreign_encryption";
        let own = r#"{"x-amz-server-side-encryption-customer-algorithm":"AES256"}"#;
        check("s3", "CopyObject", own, &[(id, 8.0)]);
        let kms = |account: &str| {
            format!(
                r#"{{"x-amz-server-side-encryption-aws-kms-key-id":"arn:aws:kms:eu-west-1:{account}:key/k"}}"#
            )
        };
        check("s3", "PutObject", &kms("999988887777"), &[(id, 8.0)]);
        check("s3", "PutObject", &kms("111122223333"), &[]);
        check(
            "s3",
            "PutObject",
            r#"{"key":"a/HOW_TO_DECRYPT.txt"}"#,
            &[("ransom_note", 8.0)],
        );
        check(
            "s3",
            "PutObject",
            r#"{"key":"FILES-ENCRYPTED.txt"}"#,
            &[("ransom_note", 8.0)],
        );
        check("s3", "PutObject", r#"{"key":"quarterly_report.pdf"}"#, &[]);
        check("s3", "PutObject", r#"{"key":"src/decrypt_file.py"}"#, &[]);
        check("s3", "PutObject", r#"{"key":"readme.txt"}"#, &[]);
    }

    #[test]
    fn keys_and_backups() {
        let id = "encryption_key_destroyed";
        check(
            "kms",
            "ScheduleKeyDeletion",
            r#"{"keyId":"k"}"#,
            &[(id, 5.0)],
        );
        check("kms", "CancelKeyDeletion", r#"{"keyId":"k"}"#, &[]);
        let id = "backups_destroyed";
        check("backup", "DeleteRecoveryPoint", "{}", &[(id, 5.0)]);
        check("backup", "StartBackupJob", "{}", &[]);
        let recovery = |on: bool| {
            format!(
                r#"{{"pointInTimeRecoverySpecification":{{"pointInTimeRecoveryEnabled":{on}}}}}"#
            )
        };
        check(
            "dynamodb",
            "UpdateContinuousBackups",
            &recovery(false),
            &[(id, 5.0)],
        );
        check("dynamodb", "UpdateContinuousBackups", &recovery(true), &[]);
    }
}
