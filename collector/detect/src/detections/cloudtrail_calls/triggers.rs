//! What runs or answers by itself from now on: triggers, keys and routes of APIs, stacks and builds.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::logs::cloudtrail::ApiCall;
use crate::policy::account_of;

const TRIGGER: FindingType = FindingType::picket("Persistence:IAMUser/TriggerAdded", 3.0);
const PATH: FindingType = FindingType::picket("Persistence:IAMUser/DataPathOpened", 5.0);
const BUILD: FindingType = FindingType::picket("Execution:IAMUser/BuildOverridden", 5.0);
const RECORDS: FindingType = FindingType::picket("Impact:IAMUser/NamesRedirected", 3.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "trigger_added",
        kind: &TRIGGER,
        severity: 3.0,
        planned: Some(1.5),
        calls: &[
            ("lambda", &["CreateEventSourceMapping"]),
            ("events", &["PutTargets"]),
            ("scheduler", &["CreateSchedule", "UpdateSchedule"]),
        ],
        judge: trigger_added,
        mitre: &["T1546", "T1053"],
        look_alikes: "developers who wire a function to a queue by hand",
        first_look: &[
            "What is run, and what its role may do.",
            "Whether what is run is new too.",
        ],
    },
    Behaviour {
        id: "data_path_opened",
        kind: &PATH,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            ("appsync", &["CreateApiKey"]),
            ("apigateway", &["CreateRoute", "PutMethod", "UpdateRoute"]),
        ],
        judge: |look| {
            if look.call.service() == "appsync" {
                let deed = Deed::new("made a key by which anybody may ask an API for data");
                return Some(deed.severity(if look.is_person() { 5.0 } else { 3.0 }));
            }
            let open = look.asked("authorizationType") == Some("NONE");
            let deed = Deed::new("let an API answer those who do not say who they are");
            open.then(|| deed.severity(if look.is_person() { 5.0 } else { 3.0 }))
        },
        mitre: &["T1098.001", "T1567"],
        look_alikes: "applications that anybody may use",
        first_look: &["What the API gives out.", "Who asked it since."],
    },
    Behaviour {
        id: "stack_makes_roles",
        kind: &TRIGGER,
        severity: 3.0,
        planned: Some(1.5),
        calls: &[(
            "cloudformation",
            &[
                "CreateStack",
                "CreateStackSet",
                "UpdateStack",
                "UpdateStackSet",
            ],
        )],
        judge: |look| {
            let may = look
                .all("capabilities")
                .iter()
                .any(|one| one.starts_with("CAPABILITY_") && one.contains("IAM"));
            let template = look.asked("templateURL").unwrap_or_default();
            let what = if template.is_empty() {
                "had a stack make users and roles".to_owned()
            } else {
                format!("had a stack make users and roles by {}", quote(template))
            };
            (may && look.is_person()).then(|| Deed::new(what))
        },
        mitre: &["T1098", "T1648"],
        look_alikes: "people who deploy from their own desk",
        first_look: &["Which users and roles it made.", "Whose template it is."],
    },
    Behaviour {
        id: "build_overridden",
        kind: &BUILD,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("codebuild", &["StartBuild", "StartBuildBatch"])],
        judge: |look| {
            let changed = [
                "buildspecOverride",
                "sourceLocationOverride",
                "imageOverride",
            ];
            let is_other = changed.iter().any(|key| look.asked_at(key).is_some());
            let project = quote(look.asked("projectName").unwrap_or("a project"));
            let what = format!("had project {project} build something else than it says");
            (is_other && look.is_person()).then(|| Deed::new(what))
        },
        mitre: &["T1648", "T1195.002"],
        look_alikes: "developers who try a build of a branch",
        first_look: &[
            "What was built, and where it went.",
            "What the project's role may do.",
        ],
    },
    Behaviour {
        id: "names_redirected",
        kind: &RECORDS,
        severity: 3.0,
        planned: Some(1.5),
        calls: &[("route53", &["ChangeResourceRecordSets"])],
        judge: |look| {
            let changes = look.asked_at("changeBatch.changes")?.as_array()?.len();
            let what = format!("changed {changes} names in a public zone by hand");
            look.is_person().then(|| Deed::new(what))
        },
        mitre: &["T1584.002", "T1565"],
        look_alikes: "administrators at work",
        first_look: &["Where the names lead to now."],
    },
];

fn trigger_added(look: &Look<'_>) -> Option<Deed> {
    let foreign = targets(look.call)
        .into_iter()
        .find_map(|arn| look.foreign_of(arn).map(str::to_owned));
    if let Some(account) = foreign {
        let what = format!("had account {account}, which is not ours, told of what happens");
        return Some(Deed::new(what).severity(8.0).issue(account));
    }
    let what = "had something run by itself from now on";
    look.is_person().then(|| Deed::new(what))
}

/// The ARNs of what a trigger runs or reads.
fn targets(call: &ApiCall) -> Vec<&str> {
    let asked = &call.request_parameters;
    if asked.is_absent() {
        return Vec::new();
    }
    let rows = asked.get("targets").and_then(|targets| targets.as_array());
    let rows = rows.into_iter().flatten();
    let arns = rows.filter_map(|row| row.get("arn").or_else(|| row.get("Arn"))?.as_str());
    let one = |path: [&str; 2]| asked.get(path[0])?.get(path[1])?.as_str();
    let own = [
        one(["target", "arn"]),
        one(["target", "Arn"]),
        asked.text("eventSourceArn"),
    ];
    arns.chain(own.into_iter().flatten())
        .filter(|arn| account_of(arn).is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MACHINE, by, check, check_all};

    #[test]
    fn triggers() {
        let id = "trigger_added";
        let put = |account: &str| {
            format!(
                r#"{{"rule":"r","targets":[{{"id":"1","arn":"arn:aws:lambda:eu-west-1:{account}:function:f"}}]}}"#
            )
        };
        check("events", "PutTargets", &put("111122223333"), &[(id, 3.0)]);
        check("events", "PutTargets", &put("999988887777"), &[(id, 8.0)]);
        let own = put("111122223333");
        check_all(vec![by(MACHINE, "events", "PutTargets", &own, "")], &[]);
        check(
            "lambda",
            "CreateEventSourceMapping20150331",
            "{}",
            &[(id, 3.0)],
        );
        check("events", "ListTargetsByRule", "{}", &[]);
    }

    #[test]
    fn paths_and_names() {
        let id = "data_path_opened";
        check("appsync", "CreateApiKey", r#"{"apiId":"a"}"#, &[(id, 5.0)]);
        check("appsync", "ListApiKeys", "{}", &[]);
        let route = |kind: &str| format!(r#"{{"authorizationType":"{kind}"}}"#);
        check("apigateway", "CreateRoute", &route("NONE"), &[(id, 5.0)]);
        check("apigateway", "CreateRoute", &route("AWS_IAM"), &[]);
        let change = r#"{"changeBatch":{"changes":[{"action":"UPSERT"}]}}"#;
        check(
            "route53",
            "ChangeResourceRecordSets",
            change,
            &[("names_redirected", 3.0)],
        );
        check_all(
            vec![by(
                MACHINE,
                "route53",
                "ChangeResourceRecordSets",
                change,
                "",
            )],
            &[],
        );
    }

    #[test]
    fn stacks_and_builds() {
        let stack = |may: &str| format!(r#"{{"stackName":"s","capabilities":["{may}"]}}"#);
        let id = "stack_makes_roles";
        check(
            "cloudformation",
            "CreateStack",
            &stack("CAPABILITY_NAMED_IAM"),
            &[(id, 3.0)],
        );
        check(
            "cloudformation",
            "CreateStack",
            &stack("CAPABILITY_AUTO_EXPAND"),
            &[],
        );
        let build = r#"{"projectName":"p","buildspecOverride":"version: 0.2"}"#;
        check(
            "codebuild",
            "StartBuild",
            build,
            &[("build_overridden", 5.0)],
        );
        check("codebuild", "StartBuild", r#"{"projectName":"p"}"#, &[]);
        check_all(vec![by(MACHINE, "codebuild", "StartBuild", build, "")], &[]);
    }
}
