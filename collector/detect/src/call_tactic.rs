//! The ATT&CK tactic that a call of the AWS API mostly serves, by its name.
//!
//! A name alone proves nothing: these are labels for a timeline, not verdicts.

/// Calls by name, the first rule that fits. A name stands for all that begin with it.
const RULES: &[(&str, &[&str])] = &[
    (
        "Credential Access",
        &[
            "BatchGetSecretValue",
            "GetAuthorizationToken",
            "GetParameter",
            "GetPasswordData",
            "GetSecretValue",
        ],
    ),
    (
        "Lateral Movement",
        &[
            "AssumeRole",
            "GetFederationToken",
            "GetSessionToken",
            "SendCommand",
            "SendSSHPublicKey",
            "StartSession",
        ],
    ),
    (
        "Exfiltration",
        &[
            "CopyObject",
            "CopySnapshot",
            "GetObject",
            "ModifyImageAttribute",
            "ModifySnapshotAttribute",
        ],
    ),
    (
        "Defense Evasion",
        &[
            "DeleteDetector",
            "DeleteEventDataStore",
            "DeleteFlowLogs",
            "DeleteTrail",
            "DisableSecurityHub",
            "PutEventSelectors",
            "StopConfigurationRecorder",
            "StopEventDataStoreIngestion",
            "StopLogging",
            "UpdateDetector",
            "UpdateTrail",
        ],
    ),
    (
        "Privilege Escalation",
        &[
            "AddUserToGroup",
            "AttachGroupPolicy",
            "AttachRolePolicy",
            "AttachUserPolicy",
            "CreatePolicyVersion",
            "PutGroupPolicy",
            "PutRolePolicy",
            "PutUserPolicy",
            "SetDefaultPolicyVersion",
        ],
    ),
    (
        "Persistence",
        &[
            "AuthorizeSecurityGroupIngress",
            "CreateAccessKey",
            "CreateFunction",
            "CreateKeyPair",
            "CreateLoginProfile",
            "CreateRole",
            "CreateUser",
            "ImportKeyPair",
            "UpdateAssumeRolePolicy",
            "UpdateLoginProfile",
        ],
    ),
    (
        "Impact",
        &[
            "Delete",
            "DisableKey",
            "RunInstances",
            "ScheduleKeyDeletion",
            "StopInstances",
            "TerminateInstances",
        ],
    ),
    (
        "Discovery",
        &["Describe", "Get", "Head", "List", "Lookup", "Search"],
    ),
];

/// The tactic of a call that a host's role made.
pub(crate) fn call_tactic(event_name: &str) -> &'static str {
    let fits = |names: &&[&str]| names.iter().any(|name| event_name.starts_with(name));
    RULES
        .iter()
        .find(|(_, names)| fits(names))
        .map_or("Execution", |(tactic, _)| tactic)
}

#[cfg(test)]
mod tests {
    use super::call_tactic;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let check = |name, expected| assert_eq!(call_tactic(name), expected, "{name}");
        check("GetSecretValue", "Credential Access");
        check("GetCallerIdentity", "Discovery");
        check("GetObject", "Exfiltration");
        check("AssumeRoleWithSAML", "Lateral Movement");
        check("DeleteTrail", "Defense Evasion");
        check("DeleteBucket", "Impact");
        check("ListBuckets", "Discovery");
        check("PutItem", "Execution");
        check("", "Execution");
    }
}
