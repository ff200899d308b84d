//! Power given: policies that allow everything, groups, boundaries, users made and armed.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::history::{History, Lately, Made};
use crate::logs::cloudtrail::ApiCall;

const GRANTED: FindingType =
    FindingType::guardduty("PrivilegeEscalation:IAM/AccountManipulation", 8.0);
const ARMED: FindingType = FindingType::guardduty("Persistence:IAM/AccountManipulation", 8.0);
const LEAKED: FindingType =
    FindingType::guardduty("CredentialAccess:IAMUser/CompromisedCredentials", 8.0);
const PASSED: FindingType =
    FindingType::picket("PrivilegeEscalation:EC2/InstanceProfileChanged", 3.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "admin_policy_attached",
        kind: &GRANTED,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[(
            "iam",
            &["AttachUserPolicy", "AttachRolePolicy", "AttachGroupPolicy"],
        )],
        judge: admin_policy_attached,
        mitre: &["T1098.003"],
        look_alikes: "accounts being set up, roles of deployment tools",
        first_look: &[
            "Who asked for it, and whether the one who did it may decide so.",
            "What the one who has it now did since.",
        ],
    },
    Behaviour {
        id: "admin_policy_written",
        kind: &GRANTED,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("iam", &["PutUserPolicy", "PutRolePolicy", "PutGroupPolicy"])],
        judge: admin_policy_written,
        mitre: &["T1098.003"],
        look_alikes: "accounts being set up, roles of deployment tools",
        first_look: &[
            "What the policy allows, and on what.",
            "What the one who has it now did since.",
        ],
    },
    Behaviour {
        id: "admin_policy_version",
        kind: &GRANTED,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("iam", &["CreatePolicyVersion"])],
        judge: admin_policy_version,
        mitre: &["T1098.003", "T1484"],
        look_alikes: "administrators' own policies being edited",
        first_look: &[
            "What the version before allowed.",
            "Who the policy is attached to, the caller among them.",
        ],
    },
    Behaviour {
        id: "old_policy_version",
        kind: &GRANTED,
        severity: 3.0,
        planned: Some(2.0),
        calls: &[("iam", &["SetDefaultPolicyVersion"])],
        judge: |look| {
            let policy = quote(look.asked("policyArn")?);
            let version = quote(look.asked("versionId")?);
            Some(Deed::new(format!(
                "put version {version} of policy {policy} in force"
            )))
        },
        mitre: &["T1484"],
        look_alikes: "a change of policy being taken back",
        first_look: &["Whether that version allows more than the one before."],
    },
    Behaviour {
        id: "joined_group",
        kind: &GRANTED,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("iam", &["AddUserToGroup"])],
        judge: joined_group,
        mitre: &["T1098.007"],
        look_alikes: "somebody new in a team of administrators",
        first_look: &["What the group may do, and who decided on it."],
    },
    Behaviour {
        id: "boundary_removed",
        kind: &GRANTED,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "iam",
            &[
                "DeleteUserPermissionsBoundary",
                "DeleteRolePermissionsBoundary",
                "PutUserPermissionsBoundary",
                "PutRolePermissionsBoundary",
            ],
        )],
        judge: boundary_removed,
        mitre: &["T1098.003"],
        look_alikes: "boundaries being given up as a way of working",
        first_look: &["What the principal may do without it, and what it did since."],
    },
    Behaviour {
        id: "new_user_armed",
        kind: &ARMED,
        severity: 8.0,
        planned: Some(2.0),
        calls: &[(
            "iam",
            &[
                "CreateAccessKey",
                "CreateLoginProfile",
                "AttachUserPolicy",
                "PutUserPolicy",
            ],
        )],
        judge: new_user_armed,
        mitre: &["T1136.003", "T1098.001", "T1098.003"],
        look_alikes: "an administrator's first user in a new account",
        first_look: &[
            "Whether somebody asked for this user.",
            "From where its credentials are used.",
            "What else its maker did in that hour.",
        ],
    },
    Behaviour {
        id: "key_quarantined",
        kind: &LEAKED,
        severity: 8.0,
        planned: None,
        calls: &[("iam", &["AttachUserPolicy", "PutUserPolicy"])],
        judge: |look| {
            let user = quote(look.asked("userName").unwrap_or("a user"));
            let told = is_quarantine(look.call);
            told.then(|| Deed::new(format!("quarantined {user}: AWS found its key in public")))
        },
        mitre: &["T1552.001", "T1078.004"],
        look_alikes: "none: AWS attaches this policy to users whose keys it found in public",
        first_look: &[
            "Where the key was published, and since when.",
            "Every call that was made with it, from where, since then.",
        ],
    },
    Behaviour {
        id: "instance_profile_changed",
        kind: &PASSED,
        severity: 3.0,
        planned: Some(2.0),
        calls: &[
            (
                "ec2",
                &[
                    "AssociateIamInstanceProfile",
                    "ReplaceIamInstanceProfileAssociation",
                ],
            ),
            ("iam", &["AddRoleToInstanceProfile"]),
        ],
        judge: |look| {
            let deed = Deed::new("gave an instance another role");
            // A host has no business with the roles of hosts.
            Some(if look.is_instance() {
                deed.severity(8.0)
            } else {
                deed
            })
        },
        mitre: &["T1098.003", "T1078.004"],
        look_alikes: "hosts being set up by hand",
        first_look: &[
            "Whether the caller can log in on that instance.",
            "What the role may do.",
        ],
    },
];

/// What an AWS managed policy is worth to whoever gets it, by its name: GuardDuty's custom rules name
/// administrators and mail.
const MANAGED: &[(&str, f64)] = &[
    ("AdministratorAccess", 8.0),
    ("IAMFullAccess", 8.0),
    ("AWSOrganizationsFullAccess", 8.0),
    ("PowerUserAccess", 5.0),
    ("AmazonSESFullAccess", 5.0),
    ("AmazonBedrockFullAccess", 5.0),
];

/// The worth of the policy that a call attaches.
fn worth(look: &Look<'_>) -> Option<(&'static str, f64)> {
    let arn = look.asked("policyArn")?;
    let (owner, name) = arn.rsplit_once('/')?;
    let is_managed = owner.contains(":iam::aws:policy");
    MANAGED
        .iter()
        .find(|(known, _)| is_managed && name == *known)
        .copied()
}

fn target<'a>(look: &Look<'a>) -> &'a str {
    look.asked_any(&["userName", "roleName", "groupName"])
        .unwrap_or("somebody")
}

fn admin_policy_attached(look: &Look<'_>) -> Option<Deed> {
    let (policy, severity) = worth(look)?;
    let to = quote(target(look));
    let own = if look.is_caller(&to) {
        ", its own user"
    } else {
        ""
    };
    Some(Deed::new(format!("attached {policy} to {to}{own}")).severity(severity))
}

/// Permissions that lead to all others, each sufficient alone. From public lists of escalation paths.
const LEADS_TO_ALL: &[&str] = &[
    "iam:attachuserpolicy",
    "iam:attachrolepolicy",
    "iam:putuserpolicy",
    "iam:putrolepolicy",
    "iam:createpolicyversion",
    "iam:updateassumerolepolicy",
    "iam:createaccesskey",
];

/// What a policy document among the parameters is worth.
fn written(look: &Look<'_>) -> Option<(&'static str, f64)> {
    let policy = look.policy("policyDocument")?;
    if policy.is_admin() {
        return Some(("everything", 8.0));
    }
    let leads = LEADS_TO_ALL.iter().any(|action| policy.grants(action));
    leads.then_some(("what leads to everything", 5.0))
}

fn admin_policy_written(look: &Look<'_>) -> Option<Deed> {
    let (allowed, severity) = written(look)?;
    let to = quote(target(look));
    Some(Deed::new(format!("wrote a policy that allows {to} {allowed}")).severity(severity))
}

fn admin_policy_version(look: &Look<'_>) -> Option<Deed> {
    let (allowed, severity) = written(look)?;
    let policy = quote(look.asked("policyArn").unwrap_or("a policy"));
    let deed = Deed::new(format!("rewrote {policy} to allow {allowed}"));
    let in_force = look.flag("setAsDefault") == Some(true);
    Some(deed.severity(if in_force { severity } else { 3.0 }))
}

fn joined_group(look: &Look<'_>) -> Option<Deed> {
    let (user, group) = (look.asked("userName")?, look.asked("groupName")?);
    let is_own = look.is_caller(user);
    let is_admin = group.to_ascii_lowercase().contains("admin");
    let deed = Deed::new(format!("put {} into group {}", quote(user), quote(group)));
    (is_own || is_admin).then_some(deed)
}

fn boundary_removed(look: &Look<'_>) -> Option<Deed> {
    let of = quote(target(look));
    if look.call.event_name.starts_with("Delete") {
        return Some(Deed::new(format!(
            "removed the permissions boundary of {of}"
        )));
    }
    let boundary = look.asked("permissionsBoundary")?;
    let is_wide = boundary.ends_with(":aws:policy/AdministratorAccess");
    is_wide.then(|| {
        Deed::new(format!(
            "widened the permissions boundary of {of} to everything"
        ))
    })
}

/// What a call gives to a user, beyond what it had.
fn gifts(call: &ApiCall, look: &Look<'_>) -> (bool, bool) {
    match &*call.event_name {
        "CreateAccessKey" | "CreateLoginProfile" => (true, false),
        "AttachUserPolicy" => (
            false,
            worth(look).is_some_and(|(_, severity)| severity >= 7.0),
        ),
        "PutUserPolicy" => (
            false,
            written(look).is_some_and(|(_, severity)| severity >= 7.0),
        ),
        _ => (false, false),
    }
}

fn new_user_armed(look: &Look<'_>) -> Option<Deed> {
    let user = look.asked("userName")?;
    let made: &Made = look.history.actors.made(look.call, user)?;
    let (credential, admin) = gifts(look.call, look);
    let completes = (credential && made.is_admin) || (admin && made.has_credential);
    let maker = quote(&made.by);
    let user = quote(user);
    let what =
        format!("made user {user} complete, with a credential and all power; {maker} made it");
    completes.then(|| Deed::new(what))
}

/// Notes what a call that was carried out gives to a new user.
pub(super) fn learn(call: &ApiCall, history: &mut History) {
    if &*call.event_source != "iam.amazonaws.com" {
        return;
    }
    let user = call.request_parameters.text("userName");
    let accounts = crate::settings::Accounts::default();
    let look = Look {
        call,
        history,
        accounts: &accounts,
    };
    let (credential, admin) = gifts(call, &look);
    let role = call.request_parameters.text("roleName");
    let mighty = match &*call.event_name {
        "AttachRolePolicy" => worth(&look).is_some_and(|(_, severity)| severity >= 7.0),
        "PutRolePolicy" => written(&look).is_some_and(|(_, severity)| severity >= 7.0),
        _ => false,
    };
    if let Some(role) = role.filter(|_| mighty) {
        history.lately.note(Lately::MadeAdmin, role, call);
    }
    if let Some(made) = user.and_then(|user| history.actors.made_mut(call, user)) {
        made.has_credential |= credential;
        made.is_admin |= admin;
    }
}

/// Says whether AWS attached the policy by which it quarantines keys that it found in public.
pub(super) fn is_quarantine(call: &ApiCall) -> bool {
    call.request_parameters
        .raw()
        .contains("AWSCompromisedKeyQuarantine")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{EVE, MACHINE, by, check, check_all, event};

    #[test]
    fn policies_attached() {
        let attach = |policy: &str, expected: &[(&str, f64)]| {
            let asked = format!(r#"{{"userName":"bob","policyArn":"arn:aws:iam::{policy}"}}"#);
            check("iam", "AttachUserPolicy", &asked, expected);
        };
        attach(
            "aws:policy/AdministratorAccess",
            &[("admin_policy_attached", 8.0)],
        );
        attach(
            "aws:policy/PowerUserAccess",
            &[("admin_policy_attached", 5.0)],
        );
        attach(
            "aws:policy/AWSCompromisedKeyQuarantineV2",
            &[("key_quarantined", 8.0)],
        );
        attach("aws:policy/ReadOnlyAccess", &[]);
        attach("aws:policy/AmazonS3FullAccess", &[]);
        attach("111122223333:policy/AdministratorAccess", &[]);
        let role = r#"{"roleName":"r","policyArn":"arn:aws:iam::aws:policy/IAMFullAccess"}"#;
        check(
            "iam",
            "AttachRolePolicy",
            role,
            &[("admin_policy_attached", 8.0)],
        );
        check("iam", "DetachRolePolicy", role, &[]);
        check("iam", "AttachRolePolicy", "null", &[]);
        let denied = vec![event("iam", "AttachRolePolicy", role, "AccessDenied")];
        check_all(denied, &[("admin_policy_attached", 5.0)]);
        let gone = vec![event(
            "iam",
            "AttachRolePolicy",
            role,
            "NoSuchEntityException",
        )];
        check_all(gone, &[]);
    }

    #[test]
    fn policies_written() {
        let write = |statement: &str, expected: &[(&str, f64)]| {
            let document = format!(r#"{{\"Statement\":{}}}"#, statement.replace('"', "\\\""));
            let asked = format!(r#"{{"roleName":"r","policyDocument":"{document}"}}"#);
            check("iam", "PutRolePolicy", &asked, expected);
        };
        let id = "admin_policy_written";
        write(
            r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#,
            &[(id, 8.0)],
        );
        write(
            r#"{"Effect":"Allow","Action":"iam:*","Resource":"*"}"#,
            &[(id, 5.0)],
        );
        write(
            r#"{"Effect":"Allow","Action":"iam:PassRole","Resource":"*"}"#,
            &[],
        );
        write(r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#, &[]);
        write(r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#, &[]);
        let version = |default| {
            format!(
                r#"{{"policyArn":"arn:p","setAsDefault":{default},"policyDocument":
                {{"Statement":{{"Effect":"Allow","Action":"*","Resource":"*"}}}}}}"#
            )
        };
        let id = "admin_policy_version";
        check("iam", "CreatePolicyVersion", &version("true"), &[(id, 8.0)]);
        check(
            "iam",
            "CreatePolicyVersion",
            &version("false"),
            &[(id, 3.0)],
        );
        let back = r#"{"policyArn":"arn:p","versionId":"v1"}"#;
        check(
            "iam",
            "SetDefaultPolicyVersion",
            back,
            &[("old_policy_version", 3.0)],
        );
    }

    #[test]
    fn groups_boundaries_and_profiles() {
        let join = |user: &str, group: &str, expected: &[(&str, f64)]| {
            let asked = format!(r#"{{"userName":"{user}","groupName":"{group}"}}"#);
            check("iam", "AddUserToGroup", &asked, expected);
        };
        join("eve", "devs", &[("joined_group", 5.0)]);
        join("bob", "Admins", &[("joined_group", 5.0)]);
        join("bob", "devs", &[]);
        let id = "boundary_removed";
        let of = r#"{"userName":"bob"}"#;
        check("iam", "DeleteUserPermissionsBoundary", of, &[(id, 5.0)]);
        let put = |arn: &str| format!(r#"{{"userName":"bob","permissionsBoundary":"{arn}"}}"#);
        let wide = put("arn:aws:iam::aws:policy/AdministratorAccess");
        check("iam", "PutUserPermissionsBoundary", &wide, &[(id, 5.0)]);
        check(
            "iam",
            "PutUserPermissionsBoundary",
            &put("arn:aws:iam::1:policy/b"),
            &[],
        );
        let instance = MACHINE
            .replace("/run", "/i-0abc")
            .replace(":run", ":i-0abc");
        let own = by(&instance, "ec2", "AssociateIamInstanceProfile", "{}", "");
        check_all(vec![own], &[("instance_profile_changed", 8.0)]);
        let id = "instance_profile_changed";
        check("ec2", "AssociateIamInstanceProfile", "{}", &[(id, 3.0)]);
    }

    #[test]
    fn a_user_made_and_armed() {
        let of = |name: &str, rest: &str| {
            event("iam", name, &format!(r#"{{"userName":"bob"{rest}}}"#), "")
        };
        let admin = r#","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess""#;
        let all = vec![
            of("CreateUser", ""),
            of("CreateAccessKey", ""),
            of("AttachUserPolicy", admin),
        ];
        check_all(
            all,
            &[
                ("admin_policy_attached", 8.0),
                ("key_for_another", 5.0),
                ("new_user_armed", 8.0),
                ("user_created", 4.0),
            ],
        );
        let old = vec![of("CreateAccessKey", ""), of("AttachUserPolicy", admin)];
        check_all(
            old,
            &[("admin_policy_attached", 8.0), ("key_for_another", 5.0)],
        );
        check_all(vec![of("CreateUser", "")], &[("user_created", 4.0)]);
    }

    #[test]
    fn infrastructure_code_is_low_once_it_has_shown_to_be_such() {
        let by_terraform = |name: &str, asked: &str| {
            let crate::event::Event::Api(mut call) = by(EVE, "iam", name, asked, "") else {
                unreachable!("it is a call")
            };
            call.user_agent = Some("APN/1.0 HashiCorp/1.0 Terraform/1.1.2".into());
            crate::event::Event::Api(call)
        };
        let asked =
            r#"{"userName":"bob","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"}"#;
        let attach = || by_terraform("AttachUserPolicy", asked);
        check_all(vec![attach()], &[("admin_policy_attached", 8.0)]);
        let reads = ["GetUser", "GetRole", "ListRoles", "ListUsers", "GetPolicy"];
        let mut all: Vec<_> = reads.iter().map(|name| by_terraform(name, "{}")).collect();
        all.push(attach());
        check_all(all, &[("admin_policy_attached", 3.0)]);
    }
}
