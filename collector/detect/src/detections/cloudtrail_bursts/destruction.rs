//! Things deleted in numbers.

use serde_json::Value;

use super::{Callers, Calls, Counts, FindingType, Rule, TEN_MINUTES, one};
use crate::detections::look::Look;

const DELETED: FindingType = FindingType::picket("Impact:IAMUser/MassDeletion", 8.0);
const OBJECTS: FindingType = FindingType::picket("Impact:S3/ObjectsDeleted", 8.0);

pub(super) const RULES: &[Rule] = &[
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
];

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

/// Objects that a call deleted. A batch of up to a thousand does not tell its names: it counts as twenty of
/// a person's. Hosts clear away their own work in batches all day (Hadoop's committers do with every job):
/// theirs count once each, and not at all once the role is known to.
fn objects(look: &Look<'_>) -> Vec<String> {
    if look.is_console() {
        return Vec::new();
    }
    let is_host = look.is_instance();
    if is_host && look.is_usual() && !look.is_elsewhere() {
        return Vec::new();
    }
    let bucket = look.asked("bucketName").unwrap_or_default();
    if &*look.call.event_name == "DeleteObject" {
        let key = look.asked("key").unwrap_or_default();
        return vec![format!("{bucket}/{key}")];
    }
    let id = look.call.event_id.as_deref().unwrap_or_default();
    let worth = if is_host { 1 } else { 20 };
    (0..worth).map(|at| format!("{bucket} {id} {at}")).collect()
}
