//! Getting in: sign-ins without a second factor, accounts recovered, regions switched on.

use super::{Behaviour, Deed, FindingType, Look};
use crate::logs::IdentityKind;

const VALID: FindingType = FindingType::guardduty("InitialAccess:IAM/ValidAccounts", 5.0);
const RECOVERED: FindingType = FindingType::picket("InitialAccess:IAMUser/RootRecovered", 8.0);
const REGION: FindingType = FindingType::picket("DefenseEvasion:IAMUser/RegionEnabled", 5.0);
const ENDPOINT: FindingType =
    FindingType::picket("UnauthorizedAccess:IAMUser/ForeignPrincipalAtEndpoint", 5.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "console_without_factor",
        kind: &VALID,
        severity: 5.0,
        planned: None,
        calls: &[("signin", &["ConsoleLogin"])],
        judge: console_without_factor,
        mitre: &["T1078.004"],
        look_alikes: "accounts that do not ask for a second factor yet",
        first_look: &[
            "Whether the place is one this user signs in from.",
            "What was done in the hour after.",
        ],
    },
    Behaviour {
        id: "root_recovered",
        kind: &RECOVERED,
        severity: 8.0,
        planned: None,
        calls: &[(
            "signin",
            &[
                "EmailUpdated",
                "PasswordRecoveryCompleted",
                "PasswordRecoveryRequested",
                "PhoneUpdated",
            ],
        )],
        judge: |look| {
            let is_root = look.call.identity.kind == IdentityKind::Root;
            let asked = look.call.event_name.ends_with("Requested");
            let deed =
                Deed::new("changed or asked for a new password of root, or where it is sent");
            is_root.then(|| if asked { deed.severity(5.0) } else { deed })
        },
        mitre: &["T1078.004", "T1098"],
        look_alikes: "the account's owner",
        first_look: &[
            "Whether the owner of root's mailbox asked for it.",
            "Who reads that mailbox.",
        ],
    },
    Behaviour {
        id: "region_enabled",
        kind: &REGION,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("account", &["EnableRegion"])],
        judge: |look| {
            let region = look
                .asked("RegionName")
                .or_else(|| look.asked("regionName"));
            let region = region.unwrap_or("a region").to_owned();
            Some(Deed::new(format!("switched on region {region}")))
        },
        mitre: &["T1535"],
        look_alikes: "a business that moves to another part of the world",
        first_look: &[
            "What was made in that region since.",
            "Whether anybody watches it.",
        ],
    },
    Behaviour {
        id: "foreign_at_endpoint",
        kind: &ENDPOINT,
        severity: 5.0,
        planned: None,
        calls: &[(
            "s3",
            &["GetObject", "PutObject", "ListObjects", "CopyObject"],
        )],
        judge: |look| {
            // The account that calls is another than the one whose endpoint it came through.
            let endpoint = look.call.vpc_endpoint_account.as_deref()?;
            let caller = look.call.identity.account.as_deref()?;
            let apart = endpoint != caller && look.is_foreign(caller) && !look.is_foreign(endpoint);
            let what = format!("of account {caller}, which is not ours, used an endpoint of ours");
            apart.then(|| Deed::new(what).issue(caller))
        },
        mitre: &["T1078.004", "T1567"],
        look_alikes: "vendors whose software runs on our hosts with their own keys",
        first_look: &["Which host it came from, and which credentials are on it."],
    },
];

fn console_without_factor(look: &Look<'_>) -> Option<Deed> {
    let call = look.call;
    let told = &call.additional_event_data;
    let succeeded = call.response_elements.text("ConsoleLogin") == Some("Success");
    let is_user = matches!(
        call.identity.kind,
        IdentityKind::IamUser | IdentityKind::Root
    );
    let vouched = told.text("SamlProviderArn").is_some() || call.identity.mfa == Some(true);
    let without = told.text("MFAUsed") == Some("No");
    (succeeded && is_user && without && !vouched)
        .then(|| Deed::new("signed in to the console without a second factor"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{EVE, MACHINE, by, check, check_all};
    use crate::event::Event;

    #[test]
    fn sign_ins() {
        let login = |identity: &str, answer: &str, told: &str| {
            let json = format!(
                r#"{{"eventName":"ConsoleLogin","eventSource":"signin.amazonaws.com","userIdentity":{{{identity}}},
                "responseElements":{{"ConsoleLogin":"{answer}"}},"additionalEventData":{told}}}"#
            );
            Event::Api(crate::testing::api(&json))
        };
        let check = |event, expected: &[(&str, f64)]| check_all(vec![event], expected);
        let id = "console_without_factor";
        check(login(EVE, "Success", r#"{"MFAUsed":"No"}"#), &[(id, 5.0)]);
        check(login(EVE, "Success", r#"{"MFAUsed":"Yes"}"#), &[]);
        check(login(EVE, "Failure", r#"{"MFAUsed":"No"}"#), &[]);
        check(login(MACHINE, "Success", r#"{"MFAUsed":"No"}"#), &[]);
        let saml = r#"{"MFAUsed":"No","SamlProviderArn":"arn:aws:iam::1:saml-provider/x"}"#;
        check(login(EVE, "Success", saml), &[]);
    }

    #[test]
    fn regions_and_root() {
        check(
            "account",
            "EnableRegion",
            r#"{"RegionName":"af-south-1"}"#,
            &[("region_enabled", 5.0)],
        );
        check(
            "account",
            "DisableRegion",
            r#"{"RegionName":"af-south-1"}"#,
            &[],
        );
        let root =
            r#""type":"Root","accountId":"111122223333","arn":"arn:aws:iam::111122223333:root""#;
        let asked = by(root, "signin", "PasswordRecoveryRequested", "null", "");
        check_all(vec![asked], &[("root_recovered", 5.0)]);
        let done = by(root, "signin", "PasswordRecoveryCompleted", "null", "");
        check_all(vec![done], &[("root_recovered", 8.0)]);
        check("signin", "PasswordRecoveryRequested", "null", &[]);
    }

    #[test]
    fn endpoints() {
        let get = |caller: &str, endpoint: &str| {
            let json = format!(
                r#"{{"eventName":"GetObject","eventSource":"s3.amazonaws.com","recipientAccountId":"111122223333",
                "vpcEndpointAccountId":"{endpoint}","userIdentity":{{"type":"AWSAccount","accountId":"{caller}"}}}}"#
            );
            vec![Event::Api(crate::testing::api(&json))]
        };
        check_all(
            get("999988887777", "111122223333"),
            &[("foreign_at_endpoint", 5.0)],
        );
        check_all(get("111122223333", "111122223333"), &[]);
        check_all(get("999988887777", "999988887777"), &[]);
    }
}
