//! Getting in: sign-ins without a second factor, accounts recovered, regions switched on.

use super::{Behaviour, Deed, FindingType, Look};
use crate::logs::IdentityKind;

const VALID: FindingType = FindingType::guardduty("InitialAccess:IAM/ValidAccounts", 5.0);
const GUESSED: FindingType =
    FindingType::picket("InitialAccess:IAMUser/ConsoleLoginBruteForce", 5.0);
const RECOVERED: FindingType = FindingType::picket("InitialAccess:IAMUser/RootRecovered", 8.0);
const REGION: FindingType = FindingType::picket("DefenseEvasion:IAMUser/RegionEnabled", 5.0);

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
        id: "guessed_at_last",
        kind: &GUESSED,
        severity: 8.0,
        planned: None,
        calls: &[("signin", &["ConsoleLogin"])],
        judge: guessed_at_last,
        mitre: &["T1110.001", "T1078.004"],
        look_alikes: "somebody who remembers a password at last",
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
];

/// Failures from which a success is suspicious: as many as are told by themselves.
const FAILURES_MIN: usize = 5;

/// How long before it they count, seconds.
const FAILURES_S: u64 = 3_600;

fn guessed_at_last(look: &Look<'_>) -> Option<Deed> {
    let call = look.call;
    if call.response_elements.text("ConsoleLogin") != Some("Success") {
        return None;
    }
    let account = call.account().unwrap_or_default();
    let since_ns = call
        .event_time_ns
        .saturating_sub(FAILURES_S * 1_000_000_000);
    // A failure does not tell as much of the user as a success does.
    let who = &call.identity;
    let names = [
        who.actor(),
        who.principal_id.as_deref(),
        who.user_name.as_deref(),
    ];
    let failures = names.into_iter().flatten().map(|name| {
        let key = format!("{account} {name}");
        look.history
            .bursts
            .count("password_guessed", &key, since_ns)
    });
    let failures = failures.max()?;
    let what = format!("signed in after {failures} failures");
    (failures >= FAILURES_MIN).then(|| Deed::new(what))
}

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
    fn a_password_guessed_at_last() {
        let login = |n: u32, answer: &str, minute: u32| {
            let json = format!(
                r#"{{"eventID":"{n}","eventTime":"2023-11-14T22:{minute:02}:{n:02}Z","eventName":"ConsoleLogin",
                "eventSource":"signin.amazonaws.com","recipientAccountId":"111122223333",
                "userIdentity":{{{EVE}}},"responseElements":{{"ConsoleLogin":"{answer}"}},
                "additionalEventData":{{"MFAUsed":"Yes"}}}}"#
            );
            Event::Api(crate::testing::api(&json))
        };
        let found = |failures: u32, minute: u32| -> Vec<(String, f64)> {
            let mut events: Vec<Event> = (0..failures).map(|n| login(n, "Failure", 0)).collect();
            events.push(login(50, "Success", minute));
            let all = super::super::testing::found(events);
            all.into_iter()
                .filter(|(id, _)| id == "guessed_at_last")
                .collect()
        };
        assert_eq!(found(5, 1), [("guessed_at_last".to_owned(), 8.0)]);
        assert_eq!(found(5, 59).len(), 1);
        assert_eq!(found(4, 1), []);
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
}
