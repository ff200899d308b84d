//! Attack tools that say their name: the user agent of a call names a system or program made for breaking in.
//! Reads: CloudTrail calls. Fires: at once, whatever became of the call.
//! Evidence: the call. Severity: medium, as GuardDuty's. A user agent is easily changed, so its absence
//! says nothing; nobody puts one there to hide.
//! Innocent look-alikes: a test that was ordered. ATT&CK T1078.004.
//! First look: whether a test was ordered; whose key it was, and where it has been.
//! Actor key: the tool.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::logs::agent_words::TOOLS as WORDS;

/// Settings of `attack_tool`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity: 5.0, medium, as GuardDuty has it.
    pub severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { severity: 5.0 }
    }
}

/// A tool with its types for S3 and for everything else.
struct Tool {
    name: &'static str,
    of_s3: &'static FindingType,
    of_all: &'static FindingType,
}

const KALI: FindingType = FindingType::guardduty("PenTest:IAMUser/KaliLinux", 5.0);
const KALI_S3: FindingType = FindingType::guardduty("PenTest:S3/KaliLinux", 5.0);
const PARROT: FindingType = FindingType::guardduty("PenTest:IAMUser/ParrotLinux", 5.0);
const PARROT_S3: FindingType = FindingType::guardduty("PenTest:S3/ParrotLinux", 5.0);
const PENTOO: FindingType = FindingType::guardduty("PenTest:IAMUser/PentooLinux", 5.0);
const PENTOO_S3: FindingType = FindingType::guardduty("PenTest:S3/PentooLinux", 5.0);
const TOOL: FindingType = FindingType::picket("PenTest:IAMUser/AttackTool", 5.0);

/// In the order of the words that user agents hold.
const TOOLS: [Tool; WORDS.len()] = [
    Tool {
        name: "Kali Linux",
        of_s3: &KALI_S3,
        of_all: &KALI,
    },
    Tool {
        name: "Parrot Security Linux",
        of_s3: &PARROT_S3,
        of_all: &PARROT,
    },
    Tool {
        name: "Pentoo Linux",
        of_s3: &PENTOO_S3,
        of_all: &PENTOO,
    },
    Tool {
        name: "Pacu",
        of_s3: &TOOL,
        of_all: &TOOL,
    },
    Tool {
        name: "TruffleHog",
        of_s3: &TOOL,
        of_all: &TOOL,
    },
];

/// Attack tools that say their name.
pub(crate) struct AttackTool;

impl Detection for AttackTool {
    fn id(&self) -> &'static str {
        "attack_tool"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[
            &KALI, &KALI_S3, &PARROT, &PARROT_S3, &PENTOO, &PENTOO_S3, &TOOL,
        ]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        let Some(agent) = call.user_agent.as_deref() else {
            return;
        };
        let Some(tool) = call
            .agent_words()
            .tool()
            .and_then(|number| TOOLS.get(number))
        else {
            return;
        };
        let who = principal(call);
        let title = format!("{} called from {}", quote(&who.name), tool.name);
        out.push(Occurrence {
            kind: if call.service() == "s3" {
                tool.of_s3
            } else {
                tool.of_all
            },
            rule: self.id(),
            severity: context.settings.detections.attack_tool.severity,
            confidence: 0.7,
            account: who.account,
            region: who.region,
            subject: who.subject,
            actor: tool.name.to_owned(),
            resource: who.resource,
            role: Role::Actor,
            count: 1,
            first_ns: call.event_time_ns,
            last_ns: call.event_time_ns,
            action: evidence_of::api_call(call),
            additional_info: BTreeMap::new(),
            evidence: vec![evidence_of::call(call)],
            mitre: &["T1078.004"],
            description: format!("{title}, as the user agent says."),
            why: format!(
                "the user agent of {} from {} names {}: {}",
                call.event_name,
                quote(origin(call)),
                tool.name,
                quote(agent)
            ),
            title,
            first_look: &[
                "Whether a test was ordered.",
                "Whose key it was, and where it has been.",
            ],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, api, brief};
    use picket_intel::IndicatorSet;

    #[track_caller]
    fn check(source: &str, agent: &str, expected: Option<&str>) {
        let event = Event::Api(api(&format!(
            r#"{{"eventName":"GetX","eventSource":"{source}.amazonaws.com","userAgent":"{agent}",
            "errorCode":"AccessDenied","userIdentity":{{"type":"IAMUser","userName":"eve"}}}}"#
        )));
        let (findings, _) = analyze(IndicatorSet::default(), [event]);
        let types: Vec<_> = brief(&findings)
            .into_iter()
            .map(|(kind, ..)| kind)
            .collect();
        assert_eq!(types, expected.into_iter().collect::<Vec<_>>(), "{agent}");
    }

    #[test]
    fn tools_say_their_names() {
        let kali = "Boto3/1.9 Python/3.8 Linux/5.3.0-kali2-amd64";
        check("iam", kali, Some("PenTest:IAMUser/KaliLinux"));
        check("s3", kali, Some("PenTest:S3/KaliLinux"));
        let parrot = "aws-cli/1.16 Linux/5.5.0-1parrot1-amd64";
        check("iam", parrot, Some("PenTest:IAMUser/ParrotLinux"));
        check(
            "iam",
            "Linux/6.1-pentoo",
            Some("PenTest:IAMUser/PentooLinux"),
        );
        check("iam", "Pacu/1.5", Some("PenTest:IAMUser/AttackTool"));
        check("iam", "TruffleHog", Some("PenTest:IAMUser/AttackTool"));
    }

    #[test]
    fn others_hold_such_words() {
        check("iam", "aws-cli/2.1 Python/3.11 Linux/6.1", None);
        check("iam", "kalinka-backup/1.0", None);
        check("iam", "app/1.0 alkali", None);
        check("iam", "parroting/2", None);
        check("iam", "", None);
    }
}
