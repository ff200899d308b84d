//! A connection to the outside that lasts for hours.
//! Reads: conversations with flows that go on from window to window, and how many hosts call the same
//! peer. Fires: when a host has been connected to a peer on the Internet for `hours_min` without a break,
//! and every `again_hours` after.
//! Evidence: the conversation of the window. Severity: low; by itself it is no more than odd.
//! Innocent look-alikes: what many hosts keep open (`common_hosts`), AWS's endpoints such as Systems
//! Manager's (`names_ignored`, where DNS led there by such a name), databases within the network (private peers are not looked at), callers
//! from outside. ATT&CK T1571, T1219. Method: RITA's and Zeek's long connections.
//! First look: which process holds it; how much went which way, and when.
//! Actor key: the peer's name, or its address.

use std::collections::BTreeMap;

use picket_wire::{Conversation, Host as Speaker};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Callee, History, Teller};
use crate::ordinary::{ORDINARY_NAMES, RENTED_LABELS, is_ordinary};

/// Settings of `long_connection`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Hours it takes: 8. A working day; RITA's third step of four.
    pub hours_min: u64,
    /// Hours until it is told again: 24.
    pub again_hours: u64,
    /// Hosts from which on a peer is part of how the fleet is made: 3. The finding is weak, so few do.
    pub common_hosts: usize,
    /// Names whose callers are excused, with all below them: as those of `beacon`.
    pub names_ignored: Vec<String>,
    /// Labels that take the excuse back: below them anybody rents a name of AWS.
    pub labels_rented: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            hours_min: 8,
            again_hours: 24,
            common_hosts: 3,
            names_ignored: owned(ORDINARY_NAMES),
            labels_rented: owned(RENTED_LABELS),
        }
    }
}

const LONG_CONNECTION: FindingType = FindingType::picket("Behavior:EC2/LongConnection", 2.0);

const HOUR_NS: u64 = 3_600 * 1_000_000_000;

/// Long connections.
pub(crate) struct LongConnection;

impl Detection for LongConnection {
    fn id(&self) -> &'static str {
        "long_connection"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&LONG_CONNECTION]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.long_connection;
        let teller = Teller::of(&summary.host);
        for c in &summary.conversations {
            let History { rhythms, crowd, .. } = &mut *context.history;
            let Some(call) = crowd.call_of(teller, c) else {
                continue;
            };
            let callee = &call.callee;
            let Some(series) = rhythms.of(&call) else {
                continue;
            };
            let lasted_ns = c.last_ns.saturating_sub(series.open_since_ns);
            let told_ns = c.last_ns.saturating_sub(series.open_told_ns);
            if lasted_ns < settings.hours_min.saturating_mul(HOUR_NS)
                || told_ns < settings.again_hours.saturating_mul(HOUR_NS)
            {
                continue;
            }
            let ignored = callee.whom.known_name().is_some_and(|name| {
                is_ordinary(name, &settings.names_ignored, &settings.labels_rented)
            });
            if ignored || crowd.of(callee) >= settings.common_hosts {
                continue;
            }
            series.open_told_ns = c.last_ns;
            out.push(occurrence(&summary.host, c, callee, series.open_since_ns));
        }
    }
}

fn occurrence(speaker: &Speaker, c: &Conversation, callee: &Callee, since_ns: u64) -> Occurrence {
    let whose = whose(speaker, c.client);
    let subject = quote(&whose.subject);
    let whom = quote(&callee.whom.to_string());
    let hours = c.last_ns.saturating_sub(since_ns) / HOUR_NS;
    let title = format!("{subject} keeps a connection to {whom} open");
    Occurrence {
        kind: &LONG_CONNECTION,
        rule: LongConnection.id(),
        severity: LONG_CONNECTION.severity,
        confidence: 0.5,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: callee.whom.to_string(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: since_ns,
        last_ns: c.last_ns,
        action: evidence_of::connection(
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: vec![evidence_of::conversation(c)],
        mitre: &["T1571"],
        description: format!("{title}, for {hours} hours so far."),
        title,
        why: format!(
            "{} has been connected to {whom} port {} for {hours} hours without a break",
            c.client, c.server_port
        ),
        first_look: &[
            "Which process holds it, and who started it.",
            "How much went which way, and at which times.",
            "Who else is connected to this peer.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, later, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::Summary;

    const FOUND: &[(&str, f64, u64)] = &[("Behavior:EC2/LongConnection", 2.0, 1)];

    /// One connection of so many hours, heard of every five minutes.
    fn open(c: &Conversation, hours: u64) -> Vec<Summary> {
        (0..=hours * 12)
            .map(|step| {
                let mut c = c.clone();
                if step > 0 {
                    c.attempts = 0;
                    c.starts_ms.clear();
                }
                let one = Summary {
                    conversations: vec![c],
                    ..summary(speaker())
                };
                later(one, step * 300)
            })
            .collect()
    }

    #[track_caller]
    fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
        let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    fn web() -> Conversation {
        conversation("10.0.0.1", "192.0.2.1", 443)
    }

    #[test]
    fn eight_hours_and_seven() {
        check(open(&web(), 8), FOUND);
        check(open(&web(), 7), &[]);
    }

    #[test]
    fn told_again_after_a_day() {
        check(open(&web(), 31), FOUND);
        check(open(&web(), 33), &[("Behavior:EC2/LongConnection", 2.0, 2)]);
    }

    #[test]
    fn one_after_another_is_not_one() {
        let mut all = open(&web(), 5);
        all.extend(open(&web(), 5).into_iter().map(|s| later(s, 18_300)));
        check(all, &[]);
        // A second one beside the first, which goes on.
        let mut all = open(&web(), 10);
        let second = &mut all[60].conversations[0];
        (second.flows, second.attempts, second.starts_ms) = (2, 1, vec![500]);
        check(all, FOUND);
    }

    #[test]
    fn what_stays_inside_comes_in_or_is_awss_is_ordinary() {
        check(open(&conversation("10.0.0.1", "10.0.3.3", 5432), 12), &[]);
        check(open(&conversation("192.0.2.9", "10.0.0.1", 443), 12), &[]);
        let claimed = |name: &str| Conversation {
            tls_name: Some(name.into()),
            ..web()
        };
        let named = |name: &str| Conversation {
            dns_name: Some(name.into()),
            ..claimed(name)
        };
        let session = "ssmmessages.eu-west-1.amazonaws.com";
        check(open(&claimed(session), 12), FOUND);
        // The agent forgets what an answer led to before the connection ends.
        let mut forgotten = open(&named(session), 12);
        for one in &mut forgotten[10..] {
            one.conversations[0].dns_name = None;
        }
        check(forgotten, &[]);
        check(open(&named("ssmmessages.eu-west-1.amazonaws.com"), 12), &[]);
        check(open(&named("relay.example.com"), 12), FOUND);
        let hosts = "ec2-192-0-2-1.compute-1.amazonaws.com";
        check(open(&named(hosts), 12), FOUND);
        check(open(&conversation("10.0.0.1", "192.0.2.9", 22), 12), FOUND);
    }
}
