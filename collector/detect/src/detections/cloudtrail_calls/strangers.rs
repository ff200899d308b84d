//! People and guests whom nobody knows: devices let in, guests who look round, known callers elsewhere.

use super::{Behaviour, Deed, FindingType};

const DEVICE: FindingType = FindingType::picket("InitialAccess:IAMUser/DeviceLetIn", 3.0);
const GUEST: FindingType = FindingType::picket("InitialAccess:IAMUser/GuestLooksRound", 5.0);
const ELSEWHERE: FindingType = FindingType::picket("Discovery:IAMUser/CallerElsewhere", 3.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "device_let_in",
        kind: &DEVICE,
        severity: 3.0,
        planned: None,
        calls: &[
            ("sso", &["CreateToken", "CreateTokenWithIAM"]),
            ("sso-oauth", &["CreateToken", "CreateTokenWithIAM"]),
        ],
        judge: |look| {
            let by_device = look
                .asked("grantType")
                .is_some_and(|grant| grant.ends_with("grant-type:device_code"));
            let deed = Deed::new("signed a device in by a code that somebody else may have typed");
            let severity = if look.is_elsewhere() { 5.0 } else { 3.0 };
            by_device.then(|| deed.severity(severity))
        },
        mitre: &["T1528", "T1566"],
        look_alikes: "people who sign in to the command line",
        first_look: &[
            "Whether the person typed the code, and who sent it.",
            "From where the token is used.",
        ],
    },
    Behaviour {
        id: "guest_let_in",
        kind: &GUEST,
        severity: 2.0,
        planned: None,
        calls: &[("cognito-identity", &["GetCredentialsForIdentity"])],
        judge: |look| {
            let logins = look.asked_at("logins");
            let is_guest = logins
                .is_none_or(|logins| logins.as_object().is_none_or(serde_json::Map::is_empty));
            is_guest.then(|| Deed::new("handed credentials to somebody who did not sign in"))
        },
        mitre: &["T1078.004"],
        look_alikes: "applications that serve people who are not signed in",
        first_look: &["What the role of guests may do."],
    },
    Behaviour {
        id: "guest_looks_round",
        kind: &GUEST,
        severity: 5.0,
        planned: None,
        calls: &[
            ("sts", &["GetCallerIdentity"]),
            (
                "iam",
                &[
                    "GetUser",
                    "ListRoles",
                    "ListUsers",
                    "ListAttachedRolePolicies",
                ],
            ),
            ("s3", &["ListBuckets"]),
            ("ec2", &["DescribeInstances"]),
            ("lambda", &["ListFunctions"]),
            ("secretsmanager", &["ListSecrets"]),
            ("dynamodb", &["ListTables"]),
        ],
        judge: |look| {
            let session = look.call.identity.session_name()?;
            let is_guest = session == "CognitoIdentityCredentials";
            is_guest.then(|| Deed::new("looks round the account as a guest of an application"))
        },
        mitre: &["T1078.004", "T1580"],
        look_alikes: "none: applications know what is there",
        first_look: &[
            "What the role of guests may do.",
            "From where the calls come.",
        ],
    },
    Behaviour {
        id: "asks_who_it_is",
        kind: &ELSEWHERE,
        severity: 3.0,
        planned: Some(1.5),
        calls: &[("sts", &["GetCallerIdentity"])],
        judge: |look| {
            let deed = Deed::new("asked who it is, from where it never was");
            look.is_elsewhere().then_some(deed)
        },
        mitre: &["T1087.004", "T1078.004"],
        look_alikes: "people who travel",
        first_look: &["What it did next.", "Whether the key was lost."],
    },
];

#[cfg(test)]
mod tests {
    use super::super::testing::{by, check, check_all, event, found};
    use crate::event::Event;

    #[test]
    fn devices_and_guests() {
        let grant =
            |kind: &str| format!(r#"{{"grantType":"urn:ietf:params:oauth:grant-type:{kind}"}}"#);
        check(
            "sso",
            "CreateToken",
            &grant("device_code"),
            &[("device_let_in", 3.0)],
        );
        check("sso", "CreateToken", &grant("refresh_token"), &[]);
        let id = "guest_let_in";
        check(
            "cognito-identity",
            "GetCredentialsForIdentity",
            r#"{"identityId":"i"}"#,
            &[(id, 2.0)],
        );
        let signed_in = r#"{"identityId":"i","logins":{"accounts.example.com":"t"}}"#;
        check(
            "cognito-identity",
            "GetCredentialsForIdentity",
            signed_in,
            &[],
        );
        let guest = |session: &str| {
            format!(
                r#""type":"AssumedRole","principalId":"AROA:{session}","arn":"arn:aws:sts::111122223333:assumed-role/guests/{session}""#
            )
        };
        let looks = |session| vec![by(&guest(session), "s3", "ListBuckets", "{}", "")];
        check_all(
            looks("CognitoIdentityCredentials"),
            &[("guest_looks_round", 5.0)],
        );
        check_all(looks("ann"), &[]);
    }

    /// Ten days of calls from one place, and then a question from another.
    #[test]
    fn callers_elsewhere() {
        const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
        let calls = |last: &str| -> Vec<Event> {
            let mut all = Vec::new();
            for n in 0..=200 {
                let mut one = event("sts", "GetCallerIdentity", "{}", "");
                if let Event::Api(call) = &mut one {
                    call.event_time_ns += n / 20 * DAY_NS;
                    if n == 200 {
                        call.source_address = last.parse().ok();
                    }
                }
                all.push(one);
            }
            all
        };
        let of = |last| -> Vec<String> {
            let ids = found(calls(last)).into_iter().map(|(id, _)| id);
            ids.filter(|id| id == "asks_who_it_is").collect()
        };
        assert_eq!(of("203.0.113.9"), ["asks_who_it_is"]);
        assert_eq!(of("192.0.2.77"), [""; 0]);
    }
}
