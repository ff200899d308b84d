//! Code run on others' hosts, functions and clusters, and hosts that cost.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::policy::account_of;

const USER_DATA: FindingType =
    FindingType::guardduty("Persistence:EC2/BootOrLogonInitializationScripts", 8.0);
const NOTEBOOK: FindingType =
    FindingType::guardduty("Execution:SageMaker/CommandAndScriptingInterpreter", 5.0);
const NOTEBOOK_ENTERED: FindingType =
    FindingType::picket("Execution:SageMaker/NotebookEntered", 3.0);
const REMOTE: FindingType = FindingType::guardduty("LateralMovement:EC2/RemoteServices", 5.0);
const FUNCTION: FindingType = FindingType::picket("Persistence:Lambda/CodeChanged", 5.0);
const COMMAND: FindingType = FindingType::picket("Execution:EC2/RemoteCommand", 5.0);
const COSTLY: FindingType = FindingType::picket("Impact:EC2/CostlyInstances", 8.0);
const MODELS: FindingType = FindingType::picket("Impact:IAMUser/ModelAccessChanged", 5.0);
const MAIL: FindingType = FindingType::guardduty("Impact:SES/ResourceHijacking", 5.0);
const SENDER: FindingType =
    FindingType::guardduty("ResourceDevelopment:SES/CompromiseAccounts", 5.0);
const TASK: FindingType = FindingType::picket("CredentialAccess:ECS/TaskReadsCredentials", 8.0);
const BUILD: FindingType = FindingType::picket("Exfiltration:CodeBuild/ProjectMadePublic", 8.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "user_data_changed",
        kind: &USER_DATA,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("ec2", &["ModifyInstanceAttribute"])],
        judge: |look| {
            let set =
                look.asked_at("userData").is_some() || look.asked("attribute") == Some("userData");
            let host = quote(look.asked("instanceId").unwrap_or("a host"));
            set.then(|| {
                Deed::new(format!(
                    "changed what host {host} runs as root when it starts"
                ))
            })
        },
        mitre: &["T1037", "T1059"],
        look_alikes: "hosts that are set up anew by hand",
        first_look: &[
            "Whether the host was stopped before and started after.",
            "What it ran at its start.",
        ],
    },
    Behaviour {
        id: "notebook_script_changed",
        kind: &NOTEBOOK,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "sagemaker",
            &[
                "CreateNotebookInstanceLifecycleConfig",
                "UpdateNotebookInstanceLifecycleConfig",
            ],
        )],
        judge: |_| Some(Deed::new("changed what notebooks run when they start")),
        mitre: &["T1059", "T1546"],
        look_alikes: "notebooks being set up",
        first_look: &[
            "What the script does.",
            "What the notebook's role may do, and did.",
        ],
    },
    Behaviour {
        id: "notebook_entered",
        kind: &NOTEBOOK_ENTERED,
        severity: 3.0,
        planned: Some(1.5),
        calls: &[("sagemaker", &["CreatePresignedNotebookInstanceUrl"])],
        judge: |look| {
            let deed = Deed::new("made an address by which whoever has it works in a notebook");
            let by_program = !look.is_console() && look.is_person();
            Some(if by_program { deed.severity(5.0) } else { deed })
        },
        mitre: &["T1059", "T1078.004"],
        look_alikes: "people who work in notebooks, mostly by the console",
        first_look: &[
            "Who opened the address.",
            "What the notebook's role may do.",
        ],
    },
    Behaviour {
        id: "function_code_changed",
        kind: &FUNCTION,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("lambda", &["UpdateFunctionCode"])],
        judge: |look| {
            let function = quote(look.asked("functionName").unwrap_or("a function"));
            let dry = look.flag("dryRun") == Some(true);
            let what = format!("changed the code of function {function} by hand");
            (look.is_person() && !dry).then(|| Deed::new(what))
        },
        mitre: &["T1648", "T1525"],
        look_alikes: "developers who deploy from their own desk",
        first_look: &[
            "Whether the code is what the repository has.",
            "What the function's role may do.",
        ],
    },
    Behaviour {
        id: "function_layer_changed",
        kind: &FUNCTION,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("lambda", &["UpdateFunctionConfiguration"])],
        judge: |look| {
            let layers = layers(look);
            let function = quote(look.asked("functionName").unwrap_or("a function"));
            let foreign = layers.iter().filter_map(|layer| account_of(layer));
            let foreign = foreign.filter(|account| look.is_foreign(account)).max();
            match foreign {
                // Vendors publish layers too: a machine that adds one is a deployment.
                Some(account) if look.is_person() => {
                    let what = format!(
                        "put a layer of account {account}, not ours, under function {function}"
                    );
                    Some(Deed::new(what).severity(8.0).issue(account))
                }
                _ if !layers.is_empty() && look.is_person() => Some(Deed::new(format!(
                    "put a layer under function {function} by hand"
                ))),
                _ => None,
            }
        },
        mitre: &["T1546", "T1525"],
        look_alikes: "developers who deploy from their own desk",
        first_look: &["What is in the layer.", "What the function's role may do."],
    },
    Behaviour {
        id: "command_sent",
        kind: &COMMAND,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("ssm", &["SendCommand"])],
        judge: |look| {
            let document = look.asked("documentName")?;
            let runs =
                document.contains("RunShellScript") || document.contains("RunPowerShellScript");
            let on = look.all("instanceIds").len();
            let by_hand = look.is_person() || look.is_instance();
            (runs && by_hand).then(|| Deed::new(format!("ran commands as root on {on} hosts")))
        },
        mitre: &["T1651", "T1059"],
        look_alikes: "administrators at work",
        first_look: &[
            "What was run: the host's own log of the session manager has it.",
            "What the hosts did next.",
        ],
    },
    Behaviour {
        id: "serial_console_opened",
        kind: &REMOTE,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[
            ("ec2", &["EnableSerialConsoleAccess"]),
            ("ec2-instance-connect", &["SendSerialConsoleSSHPublicKey"]),
        ],
        judge: |look| {
            Some(if look.call.event_name.starts_with("Enable") {
                Deed::new("let the account's hosts be entered by their serial consoles")
            } else {
                let host = quote(look.asked("instanceId").unwrap_or("a host"));
                Deed::new(format!("entered host {host} by its serial console"))
            })
        },
        mitre: &["T1021.008", "T1563"],
        look_alikes: "hosts that do not start any more",
        first_look: &["Who was on the host, and what ran."],
    },
    Behaviour {
        id: "costly_instances",
        kind: &COSTLY,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[
            (
                "ec2",
                &[
                    "RunInstances",
                    "RequestSpotFleet",
                    "RequestSpotInstances",
                    "CreateFleet",
                ],
            ),
            ("lightsail", &["CreateInstances"]),
        ],
        judge: costly_instances,
        mitre: &["T1496.001", "T1578.002"],
        look_alikes: "people who train models, tests of load",
        first_look: &[
            "What runs on them.",
            "Other regions: miners use them all.",
            "What it costs by the hour.",
        ],
    },
    Behaviour {
        id: "model_access_changed",
        kind: &MODELS,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "bedrock",
            &[
                "CreateFoundationModelAgreement",
                "PutFoundationModelEntitlement",
                "PutUseCaseForModelAccess",
            ],
        )],
        judge: |_| Some(Deed::new("opened a model to the account")),
        mitre: &["T1496.004"],
        look_alikes: "developers who try models",
        first_look: &["Who asks the model since, and at what price."],
    },
    Behaviour {
        id: "mail_turned_up",
        kind: &MAIL,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "ses",
            &[
                "PutAccountDetails",
                "UpdateAccountSendingEnabled",
                "PutAccountSendingAttributes",
            ],
        )],
        judge: |look| {
            if look.call.event_name.starts_with("PutAccountDetails") {
                return Some(Deed::new(
                    "asked that the account may send mail to everybody",
                ));
            }
            let on = look.flag("enabled").or_else(|| look.flag("sendingEnabled"));
            (on == Some(true)).then(|| Deed::new("let the account send mail").severity(3.0))
        },
        mitre: &["T1496.004"],
        look_alikes: "a new service that sends mail",
        first_look: &["Who sends, and to whom."],
    },
    Behaviour {
        id: "sender_verified",
        kind: &SENDER,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "ses",
            &[
                "VerifyDomainIdentity",
                "VerifyEmailIdentity",
                "CreateEmailIdentity",
            ],
        )],
        judge: |look| {
            let who = quote(
                look.asked_any(&["domain", "emailAddress", "emailIdentity"])
                    .unwrap_or("somebody"),
            );
            Some(Deed::new(format!(
                "made the account able to send mail as {who}"
            )))
        },
        mitre: &["T1586.002"],
        look_alikes: "a new service that sends mail",
        first_look: &["Whether the name is ours.", "What was sent since."],
    },
    Behaviour {
        id: "task_reads_credentials",
        kind: &TASK,
        severity: 8.0,
        planned: None,
        calls: &[(
            "ecs",
            &["RegisterTaskDefinition", "RunTask", "ExecuteCommand"],
        )],
        judge: |look| {
            let places = [
                "169.254.170.2",
                "169.254.169.254",
                "AWS_CONTAINER_CREDENTIALS",
            ];
            let reads = places.iter().any(|place| look.mentions(place));
            reads.then(|| Deed::new("had a task read its own credentials"))
        },
        mitre: &["T1552.005", "T1610"],
        look_alikes: "health checks that read the task's metadata",
        first_look: &[
            "Where the task sends them.",
            "From where its role is used since.",
        ],
    },
    Behaviour {
        id: "build_made_public",
        kind: &BUILD,
        severity: 8.0,
        planned: Some(5.0),
        calls: &[("codebuild", &["UpdateProjectVisibility"])],
        judge: |look| {
            let public = look.asked("projectVisibility") == Some("PUBLIC_READ");
            public.then(|| Deed::new("let everybody read the builds of a project"))
        },
        mitre: &["T1567"],
        look_alikes: "projects whose source is public",
        first_look: &["What the logs of the builds hold: secrets, mostly."],
    },
];

/// The layers that a call puts under a function. Where it is not told what was asked, those that the
/// function has after it.
fn layers(look: &Look<'_>) -> Vec<String> {
    let asked = look.call.request_parameters.as_object();
    let is_told = asked.is_some_and(|asked| asked.keys().any(|key| key != "functionName"));
    if is_told {
        return look.all("layers");
    }
    let has = look.call.response_elements.get("layers");
    let has = has
        .and_then(|layers| layers.as_array())
        .into_iter()
        .flatten();
    has.filter_map(|layer| layer.get("arn")?.as_str())
        .map(str::to_owned)
        .collect()
}

/// Families of instances with accelerators, by what stands before the generation.
const ACCELERATED: &[&str] = &["p", "g", "gr", "trn", "inf", "dl", "vt", "f"];

/// Hosts in one request from which it is a fleet. Chosen by hand.
const HOSTS_MANY: u64 = 20;

fn costly_instances(look: &Look<'_>) -> Option<Deed> {
    let types = [
        "instanceType",
        "launchSpecification.instanceType",
        "bundleId",
    ];
    let kind = types.iter().find_map(|path| look.asked_at(path)?.as_str());
    let kind = kind.unwrap_or("unknown");
    let family = kind
        .split(|c: char| c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    let is_accelerated = kind.contains('.') && ACCELERATED.contains(&family);
    // From 24 times the smallest unit on, and whole machines.
    let is_large = kind.ends_with(".metal")
        || kind.rsplit_once('.').is_some_and(|(_, size)| {
            size.strip_suffix("xlarge")
                .and_then(|n| n.parse().ok())
                .is_some_and(|n: u32| n >= 24)
        });
    let items = look
        .asked_at("instancesSet.items")
        .and_then(|items| items.as_array());
    let asked = items
        .into_iter()
        .flatten()
        .filter_map(|item| item.get("maxCount")?.as_u64());
    let hosts: u64 = asked
        .sum::<u64>()
        .max(look.number("targetCapacity").unwrap_or(0));
    let machine = !look.is_person() && look.call.succeeded();
    let deed = Deed::new(format!("asked for {hosts} hosts of type {}", quote(kind)));
    // A service's role that starts what it always starts is a service; it is not denied either.
    let deed = if machine { deed.severity(3.0) } else { deed };
    (is_accelerated || is_large || hosts >= HOSTS_MANY).then_some(deed)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MACHINE, by, check, check_all, event};

    #[test]
    fn hosts() {
        let data = r#"{"instanceId":"i-1","userData":"<sensitiveDataRemoved>"}"#;
        check(
            "ec2",
            "ModifyInstanceAttribute",
            data,
            &[("user_data_changed", 8.0)],
        );
        let stop = r#"{"instanceId":"i-1","disableApiTermination":{"value":false}}"#;
        check("ec2", "ModifyInstanceAttribute", stop, &[]);
        let send = |document: &str| {
            format!(r#"{{"instanceIds":["i-1","i-2"],"documentName":"{document}"}}"#)
        };
        check(
            "ssm",
            "SendCommand",
            &send("AWS-RunShellScript"),
            &[("command_sent", 5.0)],
        );
        check("ssm", "SendCommand", &send("AWS-RunPatchBaseline"), &[]);
        check_all(
            vec![by(
                MACHINE,
                "ssm",
                "SendCommand",
                &send("AWS-RunShellScript"),
                "",
            )],
            &[],
        );
        let id = "serial_console_opened";
        check("ec2", "EnableSerialConsoleAccess", "{}", &[(id, 5.0)]);
        check(
            "ec2-instance-connect",
            "SendSerialConsoleSSHPublicKey",
            "{}",
            &[(id, 5.0)],
        );
        check("ec2", "GetSerialConsoleAccessStatus", "{}", &[]);
        let id = "notebook_script_changed";
        check(
            "sagemaker",
            "UpdateNotebookInstanceLifecycleConfig",
            "{}",
            &[(id, 5.0)],
        );
        check(
            "sagemaker",
            "DescribeNotebookInstanceLifecycleConfig",
            "{}",
            &[],
        );
    }

    #[test]
    fn instances_that_cost() {
        let run = |kind: &str, count: u32| {
            format!(
                r#"{{"instanceType":"{kind}","instancesSet":{{"items":[{{"maxCount":{count}}}]}}}}"#
            )
        };
        let id = "costly_instances";
        check("ec2", "RunInstances", &run("p2.xlarge", 1), &[(id, 8.0)]);
        check("ec2", "RunInstances", &run("c5.metal", 1), &[(id, 8.0)]);
        check("ec2", "RunInstances", &run("c5.24xlarge", 1), &[(id, 8.0)]);
        check("ec2", "RunInstances", &run("t3.micro", 50), &[(id, 8.0)]);
        check("ec2", "RunInstances", &run("t3.micro", 1), &[]);
        check("ec2", "RunInstances", &run("m5.xlarge", 2), &[]);
        let limited = event(
            "ec2",
            "RunInstances",
            &run("p2.xlarge", 1),
            "Client.VcpuLimitExceeded",
        );
        check_all(vec![limited], &[(id, 5.0)]);
        let wrong = event(
            "ec2",
            "RunInstances",
            &run("p2.xlarge", 1),
            "Client.InvalidParameterValue",
        );
        check_all(vec![wrong], &[]);
        let machine = by(MACHINE, "ec2", "RunInstances", &run("g4dn.xlarge", 1), "");
        check_all(vec![machine], &[(id, 3.0)]);
    }

    #[test]
    fn functions_tasks_and_builds() {
        let code = r#"{"functionName":"f","dryRun":false}"#;
        let id = "function_code_changed";
        check("lambda", "UpdateFunctionCode20150331v2", code, &[(id, 5.0)]);
        check(
            "lambda",
            "UpdateFunctionCode20150331v2",
            r#"{"dryRun":true}"#,
            &[],
        );
        check_all(
            vec![by(
                MACHINE,
                "lambda",
                "UpdateFunctionCode20150331v2",
                code,
                "",
            )],
            &[],
        );
        let layer = |account: &str| {
            format!(
                r#"{{"functionName":"f","layers":["arn:aws:lambda:eu-west-1:{account}:layer:x:1"]}}"#
            )
        };
        let id = "function_layer_changed";
        check(
            "lambda",
            "UpdateFunctionConfiguration20150331v2",
            &layer("999988887777"),
            &[(id, 8.0)],
        );
        check(
            "lambda",
            "UpdateFunctionConfiguration20150331v2",
            &layer("111122223333"),
            &[(id, 5.0)],
        );
        check(
            "lambda",
            "UpdateFunctionConfiguration20150331v2",
            r#"{"timeout":3}"#,
            &[],
        );
        let task = r#"{"containerDefinitions":[{"command":["curl 169.254.170.2"]}]}"#;
        check(
            "ecs",
            "RegisterTaskDefinition",
            task,
            &[("task_reads_credentials", 8.0)],
        );
        check("ecs", "RegisterTaskDefinition", "{}", &[]);
        let seen = |word: &str| format!(r#"{{"projectVisibility":"{word}"}}"#);
        check(
            "codebuild",
            "UpdateProjectVisibility",
            &seen("PUBLIC_READ"),
            &[("build_made_public", 8.0)],
        );
        check(
            "codebuild",
            "UpdateProjectVisibility",
            &seen("PRIVATE"),
            &[],
        );
    }

    #[test]
    fn what_is_not_told_is_taken_from_the_answer() {
        let mut one = event(
            "lambda",
            "UpdateFunctionConfiguration20150331v2",
            r#"{"functionName":"f"}"#,
            "",
        );
        let layers = r#"{"layers":[{"arn":"arn:aws:lambda:eu-west-1:111122223333:layer:x:1"}]}"#;
        if let crate::event::Event::Api(call) = &mut one {
            call.response_elements = crate::logs::Lazy::new(layers);
        }
        check_all(vec![one], &[("function_layer_changed", 5.0)]);
        let id = "notebook_entered";
        check(
            "sagemaker",
            "CreatePresignedNotebookInstanceUrl",
            "{}",
            &[(id, 5.0)],
        );
        let machine = by(
            MACHINE,
            "sagemaker",
            "CreatePresignedNotebookInstanceUrl",
            "{}",
            "",
        );
        check_all(vec![machine], &[(id, 3.0)]);
        check("sagemaker", "CreatePresignedDomainUrl", "{}", &[]);
    }

    #[test]
    fn models_and_mail() {
        let id = "model_access_changed";
        check("bedrock", "PutUseCaseForModelAccess", "{}", &[(id, 5.0)]);
        check("bedrock", "GetUseCaseForModelAccess", "{}", &[]);
        check("ses", "PutAccountDetails", "{}", &[("mail_turned_up", 5.0)]);
        check(
            "ses",
            "UpdateAccountSendingEnabled",
            r#"{"enabled":true}"#,
            &[("mail_turned_up", 3.0)],
        );
        check(
            "ses",
            "UpdateAccountSendingEnabled",
            r#"{"enabled":false}"#,
            &[],
        );
        check(
            "ses",
            "VerifyEmailIdentity",
            "{}",
            &[("sender_verified", 5.0)],
        );
        check("ses", "ListIdentities", "{}", &[]);
    }
}
