//! Mining that no pool list and no Stratum tells of: behind a proxy, or over HTTP.
//! Reads: what SOCKS proxies were asked for, against the mining lists; user agents of HTTP clients. Fires: at
//! once, on a proxy asked for a listed pool, and on a client that calls itself a mining program (it
//! asks for work by `getwork` or `getblocktemplate`).
//! Evidence: the conversation. Severity: a pool behind a proxy as a pool, 8.0 (less where the list is less
//! sure); a program's name 5.0, as anybody may call himself so.
//! Each request counts once: a flow that goes on and asks for nothing more is told once.
//! Innocent look-alikes: a proxy asked for other names, a name that only holds a miner's (`programs` are
//! matched at the beginning, up to a slash or blank), a miner that calls us. ATT&CK T1496, T1090.
//! First look: which process holds the socket; how busy the host is; what else went through the proxy.
//! Actor key: the pool's domain, or the program and the server's address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::Category;
use picket_wire::{Conversation, Host as Speaker, Side};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::verdict::graded;
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};

/// Settings of `mining_wrapped`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// User agents of mining programs, up to the slash or blank before their version, lower case: those that
    /// their sources send.
    pub programs: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            programs: owned(&[
                "bfgminer",
                "ccminer",
                "cgminer",
                "cpuminer",
                "cpuminer-multi",
                "ethminer",
                "minerd",
                "poclbm",
                "sgminer",
                "xmr-stak",
                "xmr-stak-cpu",
                "xmrig",
            ]),
        }
    }
}

const MINING: FindingType = FindingType::guardduty("CryptoCurrency:EC2/BitcoinTool.B", 8.0);

/// Severity of a client that calls itself a mining program.
const NAMED_SEVERITY: f64 = 5.0;

/// Wrapped mining.
pub(crate) struct MiningWrapped;

impl Detection for MiningWrapped {
    fn id(&self) -> &'static str {
        "mining_wrapped"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&MINING]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.mining_wrapped;
        for c in &summary.conversations {
            let Some(content) = c.content.as_deref() else {
                continue;
            };
            if c.local == Side::Server {
                continue;
            }
            if let Some(socks) = content.socks.as_ref().filter(|socks| socks.requests > 0) {
                let target = socks.target.trim_end_matches('.').to_ascii_lowercase();
                let found = match target.parse::<IpAddr>() {
                    Ok(address) => context.intel.match_address(address, socks.target_port),
                    Err(_) => context.intel.match_domain(&target),
                };
                let pool = found
                    .iter()
                    .find(|found| found.list.category == Category::Mining);
                if let Some(pool) = pool {
                    out.push(occurrence(
                        &summary.host,
                        c,
                        Found {
                            severity: graded(MINING.severity, pool.list.confidence),
                            confidence: 0.9,
                            actor: pool.indicator.to_string(),
                            what: format!("asked a proxy for the mining pool {}", quote(&target)),
                            why: format!(
                                "port {} of it; {} stands on {}",
                                socks.target_port, pool.indicator, pool.list.name
                            ),
                            count: socks.requests,
                        },
                    ));
                }
            }
            let http = content.http.as_ref().filter(|http| http.requests > 0);
            let agent = http.and_then(|http| {
                http.user_agent
                    .as_deref()
                    .map(|agent| (http.requests, agent))
            });
            if let Some((count, agent)) = agent
                && is_program(agent, &settings.programs)
            {
                out.push(occurrence(
                    &summary.host,
                    c,
                    Found {
                        severity: NAMED_SEVERITY,
                        confidence: 0.7,
                        actor: format!("{} {}", quote(agent), c.server.to_canonical()),
                        what: format!(
                            "fetches work over HTTP as the mining program {}",
                            quote(agent)
                        ),
                        why: "its user agent says so; no list names the server".to_owned(),
                        count,
                    },
                ));
            }
        }
    }
}

/// Says whether a user agent begins with a program's name.
fn is_program(agent: &str, programs: &[String]) -> bool {
    // A blank is written as \032.
    let name = agent
        .split(['/', '\\', ' ', '-'])
        .next()
        .unwrap_or_default();
    let whole = agent.split(['/', '\\', ' ']).next().unwrap_or_default();
    let is = |text: &str| {
        programs
            .iter()
            .any(|program| program.eq_ignore_ascii_case(text))
    };
    is(whole) || is(name)
}

struct Found {
    severity: f64,
    confidence: f64,
    actor: String,
    what: String,
    why: String,
    count: u32,
}

fn occurrence(speaker: &Speaker, c: &Conversation, found: Found) -> Occurrence {
    let whose = whose(speaker, c.client);
    let title = format!("{} {}", quote(&whose.subject), found.what);
    Occurrence {
        kind: &MINING,
        rule: MiningWrapped.id(),
        severity: found.severity,
        confidence: found.confidence,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: found.actor,
        resource: whose.resource,
        role: Role::Actor,
        count: u64::from(found.count.max(1)),
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
        mitre: &["T1496"],
        description: format!("{title}."),
        title,
        why: format!(
            "{} {} at {} port {}: {}",
            c.client, found.what, c.server, c.server_port, found.why
        ),
        first_look: &[
            "Which process holds the socket, and who started it.",
            "How busy the host's processors are, and since when.",
            "What else goes through that proxy or to that server.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, intel, speaker, summary};
    use picket_wire::{Content, Http, Socks, Summary};

    const FOUND: &str = "CryptoCurrency:EC2/BitcoinTool.B";

    #[track_caller]
    fn check(content: Content, client: &str, expected: &[(&str, f64, u64)]) {
        let server = if client == "10.0.0.1" {
            "192.0.2.1"
        } else {
            "10.0.0.1"
        };
        let one = Summary {
            conversations: vec![Conversation {
                content: Some(Box::new(content)),
                ..conversation(client, server, 1080)
            }],
            ..summary(speaker())
        };
        let lists = intel(&[
            (Category::Mining, "pool.example"),
            (Category::Mining, "198.51.100.7"),
            (Category::C2, "evil.example"),
        ]);
        let (findings, _) = analyze(lists, [Event::Summary(Box::new(one))]);
        assert_eq!(brief(&findings), expected);
    }

    fn socks(target: &str) -> Content {
        Content {
            socks: Some(Box::new(Socks {
                version: 5,
                requests: 1,
                target: target.into(),
                target_port: 3_333,
            })),
            ..Content::default()
        }
    }

    fn http(agent: &str) -> Content {
        Content {
            http: Some(Box::new(Http {
                requests: 3,
                method: "POST".into(),
                path: "/".into(),
                user_agent: Some(agent.into()),
                ..Http::default()
            })),
            ..Content::default()
        }
    }

    #[test]
    fn a_proxy_asked_for_a_pool_and_for_others() {
        check(socks("eu1.Pool.example."), "10.0.0.1", &[(FOUND, 8.0, 1)]);
        check(socks("carpool.example"), "10.0.0.1", &[]);
        check(socks("evil.example"), "10.0.0.1", &[]);
        check(socks("192.0.2.8"), "10.0.0.1", &[]);
        check(socks("198.51.100.7"), "10.0.0.1", &[(FOUND, 8.0, 1)]);
        check(socks("198.51.100.8"), "10.0.0.1", &[]);
        check(socks("pool.example"), "192.0.2.9", &[]);
    }

    #[test]
    fn what_was_said_in_a_window_before_is_not_said_again() {
        let mut asked = socks("pool.example");
        asked.socks.as_mut().unwrap().requests = 0;
        check(asked, "10.0.0.1", &[]);
        let mut said = http("cgminer/4.10.0");
        said.http.as_mut().unwrap().requests = 0;
        check(said, "10.0.0.1", &[]);
    }

    #[test]
    fn programs_that_say_what_they_are() {
        for agent in [
            "cgminer/4.10.0",
            "cpuminer-multi/1.3",
            "XMRig/6.26.0\\032(Linux)",
            "cgminer\\0324.2",
            "cgminer",
        ] {
            check(http(agent), "10.0.0.1", &[(FOUND, 5.0, 3)]);
        }
        for agent in [
            "curl/8.5.0",
            "cgminerstats/1",
            "Mozilla/5.0\\032cgminer",
            "determinerd/2",
            "",
        ] {
            check(http(agent), "10.0.0.1", &[]);
        }
        check(http("cgminer/4.10.0"), "192.0.2.9", &[]);
    }
}
