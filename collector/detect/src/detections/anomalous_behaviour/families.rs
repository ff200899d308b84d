//! Which of GuardDuty's families a call belongs to.

use crate::call_tactic::call_tactic;
use crate::finding::FindingType;
use crate::logs::cloudtrail::ApiCall;

pub(super) const CREDENTIALS: FindingType =
    FindingType::guardduty("CredentialAccess:IAMUser/AnomalousBehavior", 5.0);
pub(super) const EVASION: FindingType =
    FindingType::guardduty("DefenseEvasion:IAMUser/AnomalousBehavior", 5.0);
pub(super) const DISCOVERY: FindingType =
    FindingType::guardduty("Discovery:IAMUser/AnomalousBehavior", 2.0);
pub(super) const EXFILTRATION: FindingType =
    FindingType::guardduty("Exfiltration:IAMUser/AnomalousBehavior", 8.0);
pub(super) const IMPACT: FindingType =
    FindingType::guardduty("Impact:IAMUser/AnomalousBehavior", 8.0);
pub(super) const INITIAL: FindingType =
    FindingType::guardduty("InitialAccess:IAMUser/AnomalousBehavior", 5.0);
pub(super) const PERSISTENCE: FindingType =
    FindingType::guardduty("Persistence:IAMUser/AnomalousBehavior", 5.0);
pub(super) const ESCALATION: FindingType =
    FindingType::guardduty("PrivilegeEscalation:IAMUser/AnomalousBehavior", 5.0);
pub(super) const S3_DISCOVERY: FindingType =
    FindingType::guardduty("Discovery:S3/AnomalousBehavior", 2.0);
pub(super) const S3_READ: FindingType =
    FindingType::guardduty("Exfiltration:S3/AnomalousBehavior", 8.0);
pub(super) const S3_DELETE: FindingType =
    FindingType::guardduty("Impact:S3/AnomalousBehavior.Delete", 8.0);
pub(super) const S3_PERMISSION: FindingType =
    FindingType::guardduty("Impact:S3/AnomalousBehavior.Permission", 8.0);
pub(super) const S3_WRITE: FindingType =
    FindingType::guardduty("Impact:S3/AnomalousBehavior.Write", 5.0);

pub(super) const MODELS: FindingType =
    FindingType::guardduty("Impact:IAMUser/AnomalousModelInvocation", 2.0);

pub(super) const ALL: &[&FindingType] = &[
    &CREDENTIALS,
    &DISCOVERY,
    &ESCALATION,
    &EVASION,
    &EXFILTRATION,
    &IMPACT,
    &INITIAL,
    &MODELS,
    &PERSISTENCE,
    &S3_DELETE,
    &S3_DISCOVERY,
    &S3_PERMISSION,
    &S3_READ,
    &S3_WRITE,
];

/// The family of a call; none for one that belongs to no stage of an intrusion by its name.
pub(super) fn family(call: &ApiCall) -> Option<&'static FindingType> {
    let name = &*call.event_name;
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if call.service() == "s3" {
        let of_s3 = match name {
            _ if name.ends_with("Acl") && name.starts_with("Put") => &S3_PERMISSION,
            "PutBucketPolicy" | "DeleteBucketPolicy" => &S3_PERMISSION,
            "GetObject" | "SelectObjectContent" => &S3_READ,
            "PutObject" | "CopyObject" | "UploadPart" | "CompleteMultipartUpload" => &S3_WRITE,
            "PutBucketReplication" => &EXFILTRATION,
            _ if name.starts_with("Delete") => &S3_DELETE,
            _ if begins(&["List", "Get", "Head"]) => &S3_DISCOVERY,
            _ => return None,
        };
        return Some(of_s3);
    }
    if call.service() == "bedrock" && begins(&["Converse", "InvokeModel"])
        || call.service() == "sagemaker" && begins(&["InvokeEndpoint"])
    {
        return Some(&MODELS);
    }
    if begins(&["Stop", "Disable", "Disassociate"]) && call.service() != "ec2" {
        return Some(&EVASION);
    }
    if begins(&[
        "CreateSnapshot",
        "RestoreDB",
        "StartExportTask",
        "ModifyDBSnapshot",
        "CreateImage",
    ]) {
        return Some(&EXFILTRATION);
    }
    Some(match call_tactic(name) {
        "Credential Access" => &CREDENTIALS,
        "Lateral Movement" => &INITIAL,
        "Exfiltration" => &EXFILTRATION,
        "Defense Evasion" => &EVASION,
        "Privilege Escalation" => &ESCALATION,
        "Persistence" => &PERSISTENCE,
        "Impact" => &IMPACT,
        "Discovery" => &DISCOVERY,
        _ => return None,
    })
}
