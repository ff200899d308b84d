//! Credentials made, taken over and taken out: keys, passwords, second factors, tokens, certificates.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::logs::IdentityKind;

const ACCOUNT: FindingType = FindingType::guardduty("Persistence:IAM/AccountManipulation", 8.0);
const MODEL_KEY: FindingType =
    FindingType::guardduty("PrivilegeEscalation:IAM/AccountManipulation", 8.0);
const POLICY: FindingType = FindingType::guardduty("Stealth:IAMUser/PasswordPolicyChange", 2.0);
const TOKEN: FindingType = FindingType::picket("Persistence:IAMUser/FederationToken", 5.0);
const ROOT: FindingType = FindingType::picket("PrivilegeEscalation:IAMUser/RootAssumed", 5.0);
const FACTOR: FindingType = FindingType::picket("Persistence:IAMUser/SecondFactorChanged", 5.0);
const SECRETS: FindingType = FindingType::picket("CredentialAccess:IAMUser/SecretsHarvested", 5.0);
const TAKEN: FindingType = FindingType::picket("CredentialAccess:IAMUser/KeyMaterialExported", 5.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "user_created",
        kind: &ACCOUNT,
        severity: 4.0,
        planned: Some(2.0),
        calls: &[("iam", &["CreateUser"])],
        judge: |look| {
            let user = quote(look.asked("userName").unwrap_or("a user"));
            Some(Deed::new(format!("made user {user} by hand")))
        },
        mitre: &["T1136.003"],
        look_alikes: "administrators who set up a colleague or a program",
        first_look: &[
            "Whether somebody asked for the user.",
            "What it was given within the hour: a key, a password, power.",
        ],
    },
    Behaviour {
        id: "key_for_another",
        kind: &ACCOUNT,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("iam", &["CreateAccessKey"])],
        judge: |look| {
            let user = look
                .asked("userName")
                .filter(|user| !look.is_caller(user))?;
            let deed = Deed::new(format!("made an access key for user {}", quote(user)));
            Some(if look.is_person() {
                deed
            } else {
                deed.severity(3.0)
            })
        },
        mitre: &["T1098.001"],
        look_alikes: "administrators who make keys for others, rotation by a role",
        first_look: &[
            "Who has the key now, and from where it is used.",
            "What that user may do.",
        ],
    },
    Behaviour {
        id: "login_profile_created",
        kind: &ACCOUNT,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("iam", &["CreateLoginProfile"])],
        judge: |look| {
            let user = quote(look.asked("userName").unwrap_or("a user"));
            Some(Deed::new(format!(
                "gave user {user} a password for the console"
            )))
        },
        mitre: &["T1098"],
        look_alikes: "an administrator who sets up a colleague",
        first_look: &[
            "Whether that user is a person's: a program needs no console.",
            "From where it signed in since.",
        ],
    },
    Behaviour {
        id: "login_profile_changed",
        kind: &ACCOUNT,
        severity: 5.0,
        planned: Some(3.0),
        calls: &[("iam", &["UpdateLoginProfile"])],
        judge: |look| {
            let user = look
                .asked("userName")
                .filter(|user| !look.is_caller(user))?;
            // Where it must be changed at the next sign-in, its owner will notice.
            let kept = look.flag("passwordResetRequired") != Some(true);
            let deed = Deed::new(format!("changed the password of user {}", quote(user)));
            kept.then_some(deed)
        },
        mitre: &["T1098"],
        look_alikes: "help desks",
        first_look: &[
            "Whether the user asked for it.",
            "From where it signed in since.",
        ],
    },
    Behaviour {
        id: "factor_of_another",
        kind: &FACTOR,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("iam", &["DeactivateMFADevice", "EnableMFADevice"])],
        judge: |look| {
            let user = look
                .asked("userName")
                .filter(|user| !look.is_caller(user))?;
            let verb = if look.call.event_name.starts_with("De") {
                "removed"
            } else {
                "set"
            };
            Some(Deed::new(format!(
                "{verb} the second factor of user {}",
                quote(user)
            )))
        },
        mitre: &["T1556.006"],
        look_alikes: "help desks when a telephone is lost",
        first_look: &[
            "Whether the user asked for it.",
            "From where it signed in since.",
        ],
    },
    Behaviour {
        id: "other_key_for_another",
        kind: &ACCOUNT,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("iam", &["UploadSSHPublicKey", "UploadSigningCertificate"])],
        judge: |look| {
            let user = look
                .asked("userName")
                .filter(|user| !look.is_caller(user))?;
            Some(Deed::new(format!(
                "uploaded a key for user {}",
                quote(user)
            )))
        },
        mitre: &["T1098.001"],
        look_alikes: "administrators who set up others",
        first_look: &["Whose key it is, and what it was used for."],
    },
    Behaviour {
        id: "service_credential",
        kind: &MODEL_KEY,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("iam", &["CreateServiceSpecificCredential"])],
        judge: |look| {
            let service = look.asked("serviceName")?;
            let user = look.asked("userName").unwrap_or("a user");
            let deed = Deed::new(format!(
                "made a credential of {} for user {}",
                quote(service),
                quote(user)
            ));
            // Keys for models work without a signature, and models cost.
            let is_model = service.starts_with("bedrock");
            (is_model || !look.is_caller(user)).then_some(deed)
        },
        mitre: &["T1098.001"],
        look_alikes: "developers who try models",
        first_look: &["Who uses it, and what it has cost since."],
    },
    Behaviour {
        id: "federation_token",
        kind: &TOKEN,
        severity: 5.0,
        planned: None,
        calls: &[("sts", &["GetFederationToken"])],
        judge: federation_token,
        mitre: &["T1550.001", "T1078.004"],
        look_alikes: "portals that hand their users sessions of one IAM user",
        first_look: &[
            "What the session did: it outlives the deletion of the user's key.",
            "Whether a console session was made of it.",
        ],
    },
    Behaviour {
        id: "console_of_federation",
        kind: &TOKEN,
        severity: 5.0,
        planned: None,
        calls: &[("signin", &["GetSigninToken"])],
        judge: |look| {
            let is_made = look.call.identity.kind == IdentityKind::FederatedUser;
            is_made.then(|| Deed::new("made a console session of a federation token"))
        },
        mitre: &["T1550.001"],
        look_alikes: "portals that hand their users sessions of one IAM user",
        first_look: &["What was clicked since, and by whom."],
    },
    Behaviour {
        id: "root_assumed",
        kind: &ROOT,
        severity: 5.0,
        planned: None,
        calls: &[("sts", &["AssumeRoot"])],
        judge: |look| {
            let whose = quote(look.asked("targetPrincipal").unwrap_or("a member account"));
            Some(Deed::new(format!("took a root session of {whose}")))
        },
        mitre: &["T1548", "T1078.004"],
        look_alikes: "the few who may unlock a bucket or remove root's credentials centrally",
        first_look: &["Who asked for it.", "What the session did."],
    },
    Behaviour {
        id: "password_policy_weakened",
        kind: &POLICY,
        severity: 2.0,
        planned: None,
        calls: &[(
            "iam",
            &["DeleteAccountPasswordPolicy", "UpdateAccountPasswordPolicy"],
        )],
        judge: password_policy,
        mitre: &["T1556"],
        look_alikes: "policies that are written anew, at least as strict",
        first_look: &["What the policy was before."],
    },
    Behaviour {
        id: "secrets_in_batches",
        kind: &SECRETS,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("secretsmanager", &["BatchGetSecretValue"])],
        judge: |look| {
            let at_once = look.is_person() || look.is_instance();
            at_once.then(|| Deed::new("read secrets in batches"))
        },
        mitre: &["T1555.006"],
        look_alikes: "a person who moves secrets elsewhere",
        first_look: &[
            "Which secrets, and what they open.",
            "From where it was done.",
        ],
    },
    Behaviour {
        id: "key_material_exported",
        kind: &TAKEN,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            ("acm", &["ExportCertificate"]),
            (
                "lightsail",
                &["DownloadDefaultKeyPair", "GetInstanceAccessDetails"],
            ),
        ],
        judge: |look| {
            let of = quote(
                look.asked_any(&["certificateArn", "instanceName"])
                    .unwrap_or("a key"),
            );
            let deed = Deed::new(format!("took out a private key: {of}"));
            Some(if look.is_person() {
                deed
            } else {
                deed.severity(3.0)
            })
        },
        mitre: &["T1552.004"],
        look_alikes: "renewal of certificates on hosts",
        first_look: &["Where the key went, and whether it must be replaced."],
    },
    Behaviour {
        id: "database_log_read",
        kind: &TAKEN,
        severity: 3.0,
        planned: None,
        calls: &[(
            "rds",
            &["DownloadDBLogFilePortion", "DownloadCompleteDBLogFile"],
        )],
        judge: |look| {
            look.is_person()
                .then(|| Deed::new("downloaded a database's log"))
        },
        mitre: &["T1552"],
        look_alikes: "people who look for a fault",
        first_look: &["Whether the log holds statements, and so secrets."],
    },
];

fn federation_token(look: &Look<'_>) -> Option<Deed> {
    if look.call.identity.kind != IdentityKind::IamUser {
        return None;
    }
    let deed = Deed::new("took a federation token, which works on when the key is gone");
    let is_admin = look
        .policy("policy")
        .is_some_and(|policy| policy.is_admin())
        || look.mentions(":aws:policy/AdministratorAccess");
    Some(if is_admin { deed.severity(8.0) } else { deed })
}

/// A policy below this many characters is weak: NIST SP 800-63B asks for eight at least.
const PASSWORD_LENGTH_MIN: u64 = 8;

fn password_policy(look: &Look<'_>) -> Option<Deed> {
    if look.call.event_name.starts_with("Delete") {
        return Some(Deed::new("deleted the account's password policy").severity(5.0));
    }
    let is_short = look
        .number("minimumPasswordLength")
        .is_none_or(|n| n < PASSWORD_LENGTH_MIN);
    let kinds = [
        "requireSymbols",
        "requireNumbers",
        "requireUppercaseCharacters",
        "requireLowercaseCharacters",
    ];
    let is_plain = kinds.iter().all(|kind| look.flag(kind) != Some(true));
    let deed = Deed::new("weakened the account's password policy");
    match (is_short, is_plain) {
        (true, true) => Some(deed.severity(5.0)),
        (true, false) | (false, true) => Some(deed),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MACHINE, by, check, check_all, event};

    #[test]
    fn keys_and_passwords() {
        let of = |user: &str| format!(r#"{{"userName":"{user}"}}"#);
        check(
            "iam",
            "CreateAccessKey",
            &of("bob"),
            &[("key_for_another", 5.0)],
        );
        check("iam", "CreateAccessKey", &of("eve"), &[]);
        check("iam", "CreateAccessKey", "null", &[]);
        let machine = by(MACHINE, "iam", "CreateAccessKey", &of("bob"), "");
        check_all(vec![machine], &[("key_for_another", 3.0)]);
        check(
            "iam",
            "CreateLoginProfile",
            &of("bob"),
            &[("login_profile_created", 8.0)],
        );
        let denied = event("iam", "CreateLoginProfile", &of("bob"), "AccessDenied");
        check_all(vec![denied], &[("login_profile_created", 5.0)]);
        let there = event(
            "iam",
            "CreateLoginProfile",
            &of("bob"),
            "EntityAlreadyExistsException",
        );
        check_all(vec![there], &[]);
        let change = |user: &str, reset| {
            format!(r#"{{"userName":"{user}","passwordResetRequired":{reset}}}"#)
        };
        let id = "login_profile_changed";
        check(
            "iam",
            "UpdateLoginProfile",
            &change("bob", false),
            &[(id, 5.0)],
        );
        check("iam", "UpdateLoginProfile", &change("bob", true), &[]);
        check("iam", "UpdateLoginProfile", &change("eve", false), &[]);
        check(
            "iam",
            "DeactivateMFADevice",
            &of("bob"),
            &[("factor_of_another", 5.0)],
        );
        check("iam", "DeactivateMFADevice", &of("eve"), &[]);
        check(
            "iam",
            "UploadSSHPublicKey",
            &of("bob"),
            &[("other_key_for_another", 5.0)],
        );
        check("iam", "UploadSSHPublicKey", &of("eve"), &[]);
        let model = r#"{"userName":"eve","serviceName":"bedrock.amazonaws.com"}"#;
        check(
            "iam",
            "CreateServiceSpecificCredential",
            model,
            &[("service_credential", 5.0)],
        );
        let code = r#"{"userName":"eve","serviceName":"codecommit.amazonaws.com"}"#;
        check("iam", "CreateServiceSpecificCredential", code, &[]);
    }

    #[test]
    fn tokens() {
        let id = "federation_token";
        check("sts", "GetFederationToken", r#"{"name":"x"}"#, &[(id, 5.0)]);
        let all = r#"{"policy":"{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}}"}"#;
        check("sts", "GetFederationToken", all, &[(id, 8.0)]);
        check_all(
            vec![by(MACHINE, "sts", "GetFederationToken", "{}", "")],
            &[],
        );
        check("sts", "AssumeRoot", "{}", &[("root_assumed", 5.0)]);
        check(
            "signin",
            "GetSigninToken",
            "null",
            &[("console_of_keys", 5.0)],
        );
    }

    #[test]
    fn password_policies() {
        let id = "password_policy_weakened";
        check("iam", "DeleteAccountPasswordPolicy", "null", &[(id, 5.0)]);
        let update = |rest: &str, expected: &[(&str, f64)]| {
            check(
                "iam",
                "UpdateAccountPasswordPolicy",
                &format!("{{{rest}}}"),
                expected,
            );
        };
        update(r#""minimumPasswordLength":6"#, &[(id, 5.0)]);
        update(
            r#""minimumPasswordLength":6,"requireSymbols":true"#,
            &[(id, 2.0)],
        );
        update(r#""minimumPasswordLength":14"#, &[(id, 2.0)]);
        update(r#""minimumPasswordLength":14,"requireNumbers":true"#, &[]);
    }

    #[test]
    fn secrets_and_keys_taken_out() {
        check(
            "secretsmanager",
            "BatchGetSecretValue",
            "{}",
            &[("secrets_in_batches", 5.0)],
        );
        check_all(
            vec![by(
                MACHINE,
                "secretsmanager",
                "BatchGetSecretValue",
                "{}",
                "",
            )],
            &[],
        );
        check("secretsmanager", "GetSecretValue", "{}", &[]);
        check(
            "acm",
            "ExportCertificate",
            "{}",
            &[("key_material_exported", 5.0)],
        );
        check("acm", "DescribeCertificate", "{}", &[]);
        check(
            "rds",
            "DownloadDBLogFilePortion",
            "{}",
            &[("database_log_read", 3.0)],
        );
        check("rds", "DescribeDBLogFiles", "{}", &[]);
    }
}
