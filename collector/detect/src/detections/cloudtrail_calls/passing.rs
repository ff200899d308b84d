//! Power passed on: a role that may do everything given to something new, a key pair to new hosts, a new
//! way in used at once.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::history::Lately;

const PASSED: FindingType = FindingType::picket("PrivilegeEscalation:IAMUser/PowerPassedOn", 8.0);
const KEYS: FindingType = FindingType::picket("Persistence:IAMUser/KeyPairUsed", 5.0);
const PROVIDER: FindingType =
    FindingType::picket("Persistence:IAMUser/IdentityProviderChanged", 5.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "power_passed_on",
        kind: &PASSED,
        severity: 8.0,
        planned: Some(2.0),
        calls: &[
            ("lambda", &["CreateFunction", "UpdateFunctionConfiguration"]),
            ("ec2", &["RunInstances"]),
            ("glue", &["CreateDevEndpoint", "CreateJob"]),
            ("cloudformation", &["CreateStack"]),
            ("sagemaker", &["CreateNotebookInstance"]),
            ("ecs", &["RunTask", "RegisterTaskDefinition"]),
            ("datapipeline", &["CreatePipeline"]),
        ],
        judge: |look| {
            let role = passed(look)?;
            let name = role.rsplit('/').next().unwrap_or(role);
            let account = look.call.account().unwrap_or_default();
            let made = look
                .history
                .lately
                .of(Lately::MadeAdmin, account, name, look.call);
            let what = format!(
                "gave role {}, which was just allowed everything, to something that runs",
                quote(name)
            );
            made.map(|_| Deed::new(what))
        },
        mitre: &["T1098.003", "T1648", "T1078.004"],
        look_alikes: "an administrator who sets up a new tool by hand",
        first_look: &[
            "What runs with the role.",
            "Who allowed the role everything, and whether it is the same person.",
        ],
    },
    Behaviour {
        id: "own_key_pair_used",
        kind: &KEYS,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("ec2", &["RunInstances"])],
        judge: |look| {
            let key = look.asked("keyName").or_else(|| {
                let items = look.asked_at("instancesSet.items")?.as_array()?;
                items.iter().find_map(|item| item.get("keyName")?.as_str())
            })?;
            let account = look.call.account().unwrap_or_default();
            let made = look
                .history
                .lately
                .of(Lately::KeyPair, account, key, look.call)?;
            let is_own = Some(&*made.by) == look.call.identity.bearer();
            let what = format!(
                "started hosts that are entered by key pair {}, just made",
                quote(key)
            );
            is_own.then(|| Deed::new(what))
        },
        mitre: &["T1098.004", "T1578.002"],
        look_alikes: "somebody's first host in an account",
        first_look: &["What runs on the hosts.", "Who enters them."],
    },
    Behaviour {
        id: "changed_provider_vouched",
        kind: &PROVIDER,
        severity: 8.0,
        planned: None,
        calls: &[("sts", &["AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"])],
        judge: |look| {
            let account = look.call.account().unwrap_or_default();
            let named = [
                look.asked("principalArn"),
                look.asked("providerId"),
                look.call.identity.provider.as_deref(),
            ];
            let provider = named.into_iter().flatten().find(|provider| {
                let lately = &look.history.lately;
                lately
                    .of(Lately::Provider, account, provider, look.call)
                    .is_some()
            })?;
            let what = format!("was let in by {}, which was just changed", quote(provider));
            Some(Deed::new(what))
        },
        mitre: &["T1484.002", "T1606.002"],
        look_alikes: "the first sign-in after single sign-on was set up",
        first_look: &[
            "Who changed the provider.",
            "Which role it took, and what it did.",
        ],
    },
];

/// The role that a call hands to what it makes.
fn passed<'a>(look: &Look<'a>) -> Option<&'a str> {
    let direct = [
        "role",
        "roleArn",
        "roleARN",
        "executionRoleArn",
        "taskRoleArn",
    ];
    let deeper = [
        "iamInstanceProfile.arn",
        "iamInstanceProfile.name",
        "overrides.taskRoleArn",
    ];
    look.asked_any(&direct)
        .or_else(|| deeper.iter().find_map(|path| look.asked_at(path)?.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_all, event, found};

    fn later(mut events: Vec<crate::event::Event>, seconds: u64) -> Vec<crate::event::Event> {
        if let Some(crate::event::Event::Api(call)) = events.last_mut() {
            call.event_time_ns += seconds * 1_000_000_000;
        }
        events
    }

    #[test]
    fn a_role_made_mighty_and_passed_on() {
        let attach = |policy: &str| {
            let asked =
                format!(r#"{{"roleName":"r","policyArn":"arn:aws:iam::aws:policy/{policy}"}}"#);
            event("iam", "AttachRolePolicy", &asked, "")
        };
        let run = |role: &str| {
            let asked =
                format!(r#"{{"functionName":"f","role":"arn:aws:iam::111122223333:role/{role}"}}"#);
            event("lambda", "CreateFunction20150331", &asked, "")
        };
        let found_by = |events| -> Vec<String> {
            let all = found(events).into_iter().map(|(id, _)| id);
            all.filter(|id| id == "power_passed_on").collect()
        };
        let admin = "AdministratorAccess";
        assert_eq!(found_by(vec![attach(admin), run("r")]), ["power_passed_on"]);
        assert_eq!(
            found_by(vec![attach(admin), run("path/r")]),
            ["power_passed_on"]
        );
        assert_eq!(found_by(vec![attach(admin), run("other")]), [""; 0]);
        assert_eq!(found_by(vec![attach("ReadOnlyAccess"), run("r")]), [""; 0]);
        assert_eq!(found_by(vec![run("r")]), [""; 0]);
        assert_eq!(
            found_by(later(vec![attach(admin), run("r")], 25 * 3_600)),
            [""; 0]
        );
    }

    #[test]
    fn key_pairs_and_hosts() {
        let make = || event("ec2", "ImportKeyPair", r#"{"keyName":"k"}"#, "");
        let run = |key: &str| {
            let asked = format!(
                r#"{{"instanceType":"t3.micro","instancesSet":{{"items":[{{"keyName":"{key}","maxCount":1}}]}}}}"#
            );
            event("ec2", "RunInstances", &asked, "")
        };
        let id = "own_key_pair_used";
        check_all(vec![make(), run("k")], &[(id, 5.0)]);
        check_all(vec![make(), run("other")], &[]);
        check_all(vec![run("k")], &[]);
    }

    #[test]
    fn providers() {
        let arn = "arn:aws:iam::111122223333:saml-provider/p";
        let change = || {
            let asked = format!(r#"{{"sAMLProviderArn":"{arn}"}}"#);
            event("iam", "UpdateSAMLProvider", &asked, "")
        };
        let enter = |provider: &str| {
            let asked = format!(r#"{{"principalArn":"{provider}","roleArn":"r"}}"#);
            event("sts", "AssumeRoleWithSAML", &asked, "")
        };
        let changed = ("identity_provider_changed", 5.0);
        check_all(
            vec![change(), enter(arn)],
            &[("changed_provider_vouched", 8.0), changed],
        );
        check_all(
            vec![change(), enter("arn:aws:iam::111122223333:saml-provider/q")],
            &[changed],
        );
        check_all(vec![enter(arn)], &[]);
    }
}
