//! Sessions: roles taken by those who never took them, tokens that outlive keys, keys turned into a
//! console, work begun on hosts from where the caller never was, buckets that anybody writes to.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::logs::IdentityKind;

const TOKEN: FindingType = FindingType::picket("Persistence:IAMUser/FederationToken", 5.0);
const CONSOLE: FindingType = FindingType::picket("InitialAccess:IAMUser/ConsoleFromKeys", 5.0);
const ACCOUNT: FindingType = FindingType::guardduty("Persistence:IAM/AccountManipulation", 8.0);
const ROLE: FindingType = FindingType::picket("PrivilegeEscalation:IAMUser/RoleFirstTaken", 3.0);
const SESSIONS: FindingType = FindingType::picket("LateralMovement:EC2/RemoteSessions", 5.0);
const WRITTEN: FindingType = FindingType::picket("Impact:S3/WrittenByAnybody", 8.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "console_of_keys",
        kind: &CONSOLE,
        severity: 5.0,
        planned: None,
        calls: &[("signin", &["GetSigninToken"])],
        judge: console_of_keys,
        mitre: &["T1550.001", "T1078.004"],
        look_alikes: "tools by which people open the console with a profile of theirs",
        first_look: &[
            "Whose the role is: a program needs no console.",
            "What was clicked since.",
        ],
    },
    Behaviour {
        id: "session_token",
        kind: &TOKEN,
        severity: 3.0,
        planned: None,
        calls: &[("sts", &["GetSessionToken"])],
        judge: |look| {
            let is_user = look.call.identity.kind == IdentityKind::IamUser;
            let with_factor =
                look.asked("serialNumber").is_some() || look.asked("tokenCode").is_some();
            let deed = Deed::new("took a session without a second factor, which outlives its key");
            let deed = if look.is_elsewhere() {
                deed.severity(5.0)
            } else {
                deed
            };
            (is_user && !with_factor).then_some(deed)
        },
        mitre: &["T1550.001"],
        look_alikes: "programs that never keep a key for long",
        first_look: &["What the session did, and from where."],
    },
    Behaviour {
        id: "federated_changes_users",
        kind: &TOKEN,
        severity: 8.0,
        planned: None,
        calls: &[(
            "iam",
            &[
                "AddUserToGroup",
                "AttachRolePolicy",
                "AttachUserPolicy",
                "CreateAccessKey",
                "CreateLoginProfile",
                "CreateRole",
                "CreateUser",
                "PutRolePolicy",
                "PutUserPolicy",
                "UpdateAssumeRolePolicy",
                "UpdateLoginProfile",
            ],
        )],
        judge: |look| {
            // A federation token may not call IAM: only the console that was made of it can.
            let federated = look.call.identity.kind == IdentityKind::FederatedUser;
            let what = "changes users or roles with a session made of a federation token";
            federated.then(|| Deed::new(what))
        },
        mitre: &["T1098", "T1550.001"],
        look_alikes: "portals that make administrators of their users",
        first_look: &[
            "Who took the federation token, and from where.",
            "What was made: it stays when the session ends.",
        ],
    },
    Behaviour {
        id: "second_key_of_own",
        kind: &ACCOUNT,
        severity: 3.0,
        planned: Some(2.0),
        calls: &[("iam", &["CreateAccessKey"])],
        judge: |look| {
            let identity = &look.call.identity;
            let has_one = identity.kind == IdentityKind::IamUser
                && (identity.access_key_id.as_deref()).is_some_and(|key| key.starts_with("AKIA"));
            let own = look
                .asked("userName")
                .is_none_or(|user| look.is_caller(user));
            let deed = Deed::new("made itself a second access key with the one it has");
            let deed = if look.is_elsewhere() {
                deed.severity(8.0)
            } else {
                deed
            };
            (has_one && own).then_some(deed)
        },
        mitre: &["T1098.001"],
        look_alikes: "keys being rotated by those who use them",
        first_look: &[
            "Whether the older key is put away soon.",
            "From where each of the two is used.",
        ],
    },
    Behaviour {
        id: "role_first_taken",
        kind: &ROLE,
        severity: 3.0,
        planned: Some(1.5),
        calls: &[("sts", &["AssumeRole"])],
        judge: role_first_taken,
        mitre: &["T1078.004", "T1550.001"],
        look_alikes: "new duties, new tools",
        first_look: &[
            "What the role may do that its taker may not.",
            "What was done with it since.",
        ],
    },
    Behaviour {
        id: "hosts_entered_from_elsewhere",
        kind: &SESSIONS,
        severity: 5.0,
        planned: None,
        calls: &[("ssm", &["ResumeSession", "SendCommand", "StartSession"])],
        judge: |look| {
            let what = "went to work on hosts from where it never was";
            look.is_elsewhere().then(|| Deed::new(what))
        },
        mitre: &["T1021.007", "T1651"],
        look_alikes: "people who travel",
        first_look: &[
            "Whether the caller's owner did it.",
            "What was typed: Systems Manager keeps commands for a month.",
        ],
    },
    Behaviour {
        id: "anybody_writes",
        kind: &WRITTEN,
        severity: 8.0,
        planned: None,
        calls: &[(
            "s3",
            &[
                "DeleteObject",
                "DeleteObjects",
                "PutBucketAcl",
                "PutBucketPolicy",
                "PutObject",
                "PutObjectAcl",
            ],
        )],
        judge: |look| {
            let bucket = quote(look.asked("bucketName").unwrap_or("a bucket"));
            // A denied one is a knock on a door that holds.
            let done = look.is_anybody() && look.call.succeeded();
            let what = format!("whom nobody knows wrote to or deleted from bucket {bucket}");
            done.then(|| Deed::new(what))
        },
        mitre: &["T1485", "T1565.001"],
        look_alikes: "boxes into which everybody may put something",
        first_look: &[
            "What the bucket's policy and lists of access say.",
            "What was written.",
        ],
    },
];

/// The portal of IAM Identity Center asks for the console's token itself, and says so by the client it is
/// written with; a host or a task that asks for one has been taken over.
fn console_of_keys(look: &Look<'_>) -> Option<Deed> {
    let identity = &look.call.identity;
    let role = identity.role_name().unwrap_or_default();
    let agent = look.call.user_agent.as_deref().unwrap_or_default();
    let of_portal = role.starts_with("AWSReservedSSO_") || agent.starts_with("Jersey/");
    let is_one = matches!(
        identity.kind,
        IdentityKind::AssumedRole | IdentityKind::IamUser
    );
    let deed = Deed::new("turned keys into a session of the console");
    let deed = if look.is_instance() {
        deed.severity(8.0)
    } else {
        deed
    };
    (is_one && !of_portal).then_some(deed)
}

fn role_first_taken(look: &Look<'_>) -> Option<Deed> {
    let role = look.asked("roleArn")?;
    if !look.call.succeeded() || !look.history.takers.is_new(look.call, role) {
        return None;
    }
    let caller = look.call.identity.account.as_deref().unwrap_or_default();
    let name = quote(role.rsplit('/').next().unwrap_or(role));
    let deed = Deed::new(format!("took role {name}, which it never took before")).issue(role);
    // That something is new says little by itself: that a stranger does it, or a host, says more.
    let says_more = look.is_foreign(caller) || look.is_instance();
    Some(if says_more { deed.severity(5.0) } else { deed })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{EVE, MACHINE, by, check, check_all, event, found};
    use crate::event::Event;
    use crate::testing::api;

    const HOST: &str = r#""type":"AssumedRole","accountId":"111122223333","principalId":"AROA:i-0abc",
        "arn":"arn:aws:sts::111122223333:assumed-role/web/i-0abc""#;

    #[test]
    fn consoles_of_keys() {
        let token = |identity: &str| vec![by(identity, "signin", "GetSigninToken", "null", "")];
        let id = "console_of_keys";
        check_all(token(MACHINE), &[(id, 5.0)]);
        check_all(token(HOST), &[(id, 8.0)]);
        let portal = MACHINE.replace("role/deploy", "role/AWSReservedSSO_x");
        let portal = portal.replace(r#""userName":"deploy""#, r#""userName":"AWSReservedSSO_x""#);
        check_all(token(&portal), &[]);
        let mut jersey = by(MACHINE, "signin", "GetSigninToken", "null", "");
        if let Event::Api(call) = &mut jersey {
            call.user_agent = Some("Jersey/${project.version} (HttpUrlConnection 21)".into());
        }
        check_all(vec![jersey], &[]);
    }

    #[test]
    fn tokens_and_keys() {
        check("sts", "GetSessionToken", "{}", &[("session_token", 3.0)]);
        let factor = r#"{"serialNumber":"arn:aws:iam::111122223333:mfa/eve"}"#;
        check("sts", "GetSessionToken", factor, &[]);
        let federated = r#""type":"FederatedUser","accountId":"111122223333","principalId":"1:x",
            "arn":"arn:aws:sts::111122223333:federated-user/x""#;
        let user = r#"{"userName":"bob"}"#;
        let made = vec![by(federated, "iam", "PutUserPolicy", user, "")];
        check_all(made, &[("federated_changes_users", 8.0)]);
        check_all(vec![by(federated, "iam", "GetUser", user, "")], &[]);
        let key = format!(r#"{EVE},"accessKeyId":"AKIAEXAMPLE""#);
        let own = |identity: &str| vec![by(identity, "iam", "CreateAccessKey", "{}", "")];
        check_all(own(&key), &[("second_key_of_own", 3.0)]);
        check_all(own(&key.replace("AKIA", "ASIA")), &[]);
        check_all(own(MACHINE), &[]);
    }

    /// Eight days of one who takes a role, then somebody takes one.
    fn taking(last: &str, role: &str, days: u64) -> Vec<(String, f64)> {
        const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
        let take = |identity: &str, role: &str, day: u64| {
            let asked = format!(r#"{{"roleArn":"arn:aws:iam::111122223333:role/{role}"}}"#);
            let mut one = by(identity, "sts", "AssumeRole", &asked, "");
            if let Event::Api(call) = &mut one {
                call.event_time_ns += day * DAY_NS;
            }
            one
        };
        let mut all: Vec<Event> = (0..days).map(|day| take(MACHINE, "a", day)).collect();
        all.push(take(last, role, days));
        found(all)
    }

    #[test]
    fn roles_taken_first() {
        let id = || "role_first_taken".to_owned();
        assert_eq!(taking(MACHINE, "a", 8), []);
        assert_eq!(taking(MACHINE, "b", 8), [(id(), 3.0)]);
        assert_eq!(taking(EVE, "a", 8), [(id(), 3.0)]);
        assert_eq!(taking(HOST, "a", 8), [(id(), 5.0)]);
        let stranger = r#""type":"AWSAccount","accountId":"999988887777","principalId":"AIDA1""#;
        assert_eq!(taking(stranger, "a", 8), [(id(), 5.0)]);
        assert_eq!(taking(stranger, "a", 6), [], "only learned from");
    }

    #[test]
    fn buckets_that_anybody_writes_to() {
        let anybody = r#""type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL""#;
        let object = r#"{"bucketName":"b","key":"k"}"#;
        let call = |name: &str, error: &str| vec![by(anybody, "s3", name, object, error)];
        check_all(call("PutObject", ""), &[("anybody_writes", 8.0)]);
        check_all(call("PutObject", "AccessDenied"), &[]);
        check_all(call("GetObject", ""), &[]);
        check_all(vec![event("s3", "PutObject", object, "")], &[]);
    }

    /// Ten days of calls from one place, and then a command from another.
    #[test]
    fn hosts_entered_from_elsewhere() {
        const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
        let of = |last: &str| {
            let mut all = Vec::new();
            for n in 0..=200 {
                let json = format!(
                    r#"{{"eventID":"{n}","eventName":"StartSession","eventSource":"ssm.amazonaws.com",
                    "recipientAccountId":"111122223333","sourceIPAddress":"{}","userIdentity":{{{EVE}}},
                    "requestParameters":{{"target":"i-1"}}}}"#,
                    if n == 200 { last } else { "192.0.2.1" }
                );
                let mut call = api(&json);
                call.event_time_ns += n / 20 * DAY_NS;
                all.push(Event::Api(call));
            }
            let ids = found(all).into_iter().map(|(id, _)| id);
            ids.filter(|id| id == "hosts_entered_from_elsewhere")
                .count()
        };
        assert_eq!(of("203.0.113.9"), 1);
        assert_eq!(of("192.0.2.77"), 0);
    }
}
