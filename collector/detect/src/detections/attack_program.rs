//! Programs made for breaking in, by what they call themselves on the wire, run from a host of ours.
//! Reads: user agents of HTTP clients and banners of SSH clients. Fires: at once, where our host is the
//! client. A flow that goes on and says nothing more is told once. Evidence: the conversation. Severity:
//! medium; who breaks in for real mostly changes the name.
//! Innocent look-alikes: the same programs calling us (the internet is full of them), names that only hold
//! such a word, a scanner that the owner runs (`programs` can be shortened). ATT&CK T1595, T1190.
//! First look: who started it; against whom; whether a test was ordered.
//! Actor key: the program.

use std::collections::BTreeMap;

use picket_wire::{Conversation, Host as Speaker, Side};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{is_own, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};

/// Settings of `attack_program`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What such programs write into a user agent or banner unless told otherwise, as their sources have
    /// it, lower case. Cut at letters and digits: `masscan` is not in `unmasscanned`.
    pub programs: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            programs: owned(&[
                "commix",
                "dirbuster",
                "feroxbuster",
                "fuzz faster u fool",
                "gobuster",
                "masscan",
                "nikto",
                "nmap scripting engine",
                "nmap-ssh1-hostkey",
                "nmap-ssh2-hostkey",
                "nuclei",
                "sqlmap",
                "wfuzz",
                "wpscan",
                "zgrab",
            ]),
        }
    }
}

const ATTACK_TOOL: FindingType = FindingType::picket("PenTest:EC2/AttackTool", 5.0);

/// Attack programs.
pub(crate) struct AttackProgram;

impl Detection for AttackProgram {
    fn id(&self) -> &'static str {
        "attack_program"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&ATTACK_TOOL]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.attack_program;
        for c in &summary.conversations {
            let Some(content) = c.content.as_deref() else {
                continue;
            };
            // Where nobody says whose hosts they are, those of private networks are ours.
            let ours = match c.local {
                Side::Client | Side::Both => true,
                Side::Server => false,
                Side::Neither => {
                    is_own(&summary.host, c.client) || !crate::reach::is_public(c.client)
                }
            };
            if !ours {
                continue;
            }
            // What was said stays with its flow: requests are of this window, banners come as it begins
            // or before it is clear how it went.
            let http = content.http.as_ref().filter(|http| http.requests > 0);
            let agent = http.and_then(|http| http.user_agent.as_deref());
            let ssh = content.ssh.as_ref();
            let ssh = ssh.filter(|ssh| begins(c) || ssh.failed > 0 || ssh.succeeded > 0);
            let banner = ssh.and_then(|ssh| ssh.client.as_deref());
            for said in [agent, banner].into_iter().flatten() {
                if let Some(program) = named(said, &settings.programs) {
                    out.push(occurrence(&summary.host, c, program, said));
                }
            }
        }
    }
}

/// Says whether any flow began in the window, as far as that is told.
fn begins(c: &Conversation) -> bool {
    c.attempts > 0 || c.accepted > 0 || !c.starts_ms.is_empty()
}

/// The program that a text names, which has its blanks as `\032`.
fn named<'p>(said: &str, programs: &'p [String]) -> Option<&'p str> {
    let said = said.replace("\\032", " ").to_ascii_lowercase();
    let is_cut = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
    let holds = |program: &&String| {
        said.match_indices(program.as_str()).any(|(at, _)| {
            let (before, rest) = said.split_at(at);
            let after = rest.get(program.len()..).unwrap_or_default();
            is_cut(before.chars().next_back()) && is_cut(after.chars().next())
        })
    };
    programs.iter().find(holds).map(String::as_str)
}

fn occurrence(speaker: &Speaker, c: &Conversation, program: &str, said: &str) -> Occurrence {
    let whose = whose(speaker, c.client);
    let title = format!(
        "{} runs {program} against {}",
        quote(&whose.subject),
        c.server
    );
    Occurrence {
        kind: &ATTACK_TOOL,
        rule: AttackProgram.id(),
        severity: ATTACK_TOOL.severity,
        confidence: 0.8,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: program.to_owned(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: c.first_ns,
        last_ns: c.last_ns,
        action: evidence_of::connection(
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: vec![evidence_of::conversation(c)],
        mitre: &["T1595", "T1190"],
        description: format!("{title}."),
        title,
        why: format!(
            "{} called itself {} to {} port {}",
            c.client,
            quote(said),
            c.server,
            c.server_port
        ),
        first_look: &[
            "Which process it is, and who started it.",
            "Whether a test was ordered.",
            "What came of it at the other end.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::{Content, Http, Ssh, Summary};

    const FOUND: &[(&str, f64, u64)] = &[("PenTest:EC2/AttackTool", 5.0, 1)];

    #[track_caller]
    fn check(content: Content, client: &str, server: &str, expected: &[(&str, f64, u64)]) {
        let one = Summary {
            conversations: vec![Conversation {
                content: Some(Box::new(content)),
                ..conversation(client, server, 80)
            }],
            ..summary(speaker())
        };
        let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(one))]);
        assert_eq!(brief(&findings), expected);
    }

    fn http(agent: &str) -> Content {
        Content {
            http: Some(Box::new(Http {
                requests: 1,
                user_agent: Some(agent.into()),
                ..Http::default()
            })),
            ..Content::default()
        }
    }

    fn ssh(client: &str) -> Content {
        Content {
            ssh: Some(Box::new(Ssh {
                client: Some(client.into()),
                ..Ssh::default()
            })),
            ..Content::default()
        }
    }

    #[test]
    fn programs_that_say_what_they_are() {
        for agent in [
            "sqlmap/1.8#stable\\032(https://sqlmap.org)",
            "Mozilla/5.00\\032(Nikto/2.1.6)\\032(Evasions:None)",
            "Mozilla/5.0\\032(compatible;\\032Nmap\\032Scripting\\032Engine;\\032https://nmap.org/book/nse.html)",
            "Fuzz\\032Faster\\032U\\032Fool\\032v2.1.0",
            "gobuster/3.6",
        ] {
            check(http(agent), "10.0.0.1", "192.0.2.1", FOUND);
        }
        for agent in [
            "curl/8.5.0",
            "Mozilla/5.0\\032(X11;\\032Linux\\032x86_64)",
            "thermonuclei/1",
            "unmasscanned",
            "",
        ] {
            check(http(agent), "10.0.0.1", "192.0.2.1", &[]);
        }
    }

    #[test]
    fn banners_of_ssh() {
        check(
            ssh("SSH-2.0-Nmap-SSH2-Hostkey"),
            "10.0.0.1",
            "192.0.2.1",
            FOUND,
        );
        check(ssh("SSH-2.0-OpenSSH_9.6"), "10.0.0.1", "192.0.2.1", &[]);
    }

    #[test]
    fn what_was_said_in_a_window_before_is_not_said_again() {
        let mut said = http("sqlmap/1.8");
        said.http.as_mut().unwrap().requests = 0;
        check(said, "10.0.0.1", "192.0.2.1", &[]);
        let mut one = conversation("10.0.0.1", "192.0.2.1", 22);
        one.content = Some(Box::new(ssh("SSH-2.0-Nmap-SSH2-Hostkey")));
        assert!(begins(&one));
        (one.attempts, one.accepted) = (0, 0);
        one.starts_ms.clear();
        assert!(!begins(&one));
    }

    #[test]
    fn those_that_call_us_are_weather() {
        check(http("sqlmap/1.8"), "192.0.2.1", "10.0.0.1", &[]);
        check(http("sqlmap/1.8"), "10.0.0.1", "10.0.0.9", FOUND);
        check(http("sqlmap/1.8"), "192.0.2.1", "10.0.5.9", &[]);
        check(http("sqlmap/1.8"), "10.0.5.5", "192.0.2.9", FOUND);
    }
}
