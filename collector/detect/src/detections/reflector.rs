//! Reflector: a host of ours answers more than it is asked, toward the Internet, as floods are made.
//! Reads: answered datagrams between a public client and a service of the host that amplifies (DNS, NTP,
//! SNMP, SSDP, CLDAP, memcached, …), those of one client network of a window together. Fires: from
//! `bytes_min` answered that are `times` what was asked; of DNS from `dns_bytes_min` and `dns_asked_min`
//! questions.
//! Evidence: questions, answers, bytes, the factor, the conversations. Severity: medium: the host lends
//! itself to an attack on somebody else, and could be closed.
//! Innocent look-alikes: a name server for the public (answers are small and few to one network), time
//! (as long as the question), services inside (private clients), QUIC and games (other ports). ATT&CK
//! T1498.002. Method: US-CERT TA14-017A, factors of amplification.
//! First look: whether the service must be open to everybody; what a security group can close.
//! Actor key: the service's port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::{Conversation, Side, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::reach::{is_public, network_of};
use crate::sending::amplifier;

/// Settings of `reflector`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Bytes answered to one network in a window: 1 million, a hundred kilobytes a second.
    pub bytes_min: u64,
    /// How many times what was asked: 3. Time is as long as its question.
    pub times: u64,
    /// Bytes of DNS answered to one network in a window: 5 million.
    pub dns_bytes_min: u64,
    /// Questions of DNS of it: 2,000. A large resolver asks one server a few times a second.
    pub dns_asked_min: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bytes_min: 1_000_000,
            times: 3,
            dns_bytes_min: 5_000_000,
            dns_asked_min: 2_000,
        }
    }
}

const REFLECTOR: FindingType = FindingType::picket("Impact:EC2/Reflector", 5.0);

/// Conversations shown with one occurrence.
const EVIDENCE_PER_WINDOW: usize = 10;

const UDP: u8 = 17;
const DNS: u16 = 53;

/// Hosts that floods are made with.
pub(crate) struct Reflector;

impl Detection for Reflector {
    fn id(&self) -> &'static str {
        "reflector"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&REFLECTOR]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.reflector;
        let mut victims: BTreeMap<(IpAddr, u16, IpAddr), Answered<'_>> = BTreeMap::new();
        for c in summary.conversations.iter().filter(|c| is_lent(c)) {
            let key = (c.server, c.server_port, network_of(c.client));
            victims.entry(key).or_default().add(c);
        }
        for ((host, port, network), answered) in &victims {
            if answered.is_amplified(*port, settings) {
                out.push(occurrence(summary, *host, *port, *network, answered));
            }
        }
    }
}

/// Datagrams of the Internet that a service which amplifies has answered.
fn is_lent(c: &Conversation) -> bool {
    let is_ours = match c.local {
        Side::Server => true,
        Side::Neither => !is_public(c.server),
        Side::Client | Side::Both => false,
    };
    let is_asked = c.protocol == UDP && c.packets_out > 0 && c.packets_in > 0;
    is_asked && is_ours && is_public(c.client) && amplifier(c.server_port).is_some()
}

/// What one network asked and was answered.
#[derive(Default)]
struct Answered<'a> {
    asked: u64,
    asked_bytes: u64,
    answered: u64,
    answered_bytes: u64,
    of: Vec<&'a Conversation>,
}

impl<'a> Answered<'a> {
    fn add(&mut self, c: &'a Conversation) {
        self.asked = self.asked.saturating_add(c.packets_out);
        self.asked_bytes = self.asked_bytes.saturating_add(c.bytes_out);
        self.answered = self.answered.saturating_add(c.packets_in);
        self.answered_bytes = self.answered_bytes.saturating_add(c.bytes_in);
        self.of.push(c);
    }

    fn is_amplified(&self, port: u16, settings: &Settings) -> bool {
        let (bytes_min, asked_min) = if port == DNS {
            (settings.dns_bytes_min, settings.dns_asked_min)
        } else {
            (settings.bytes_min, 0)
        };
        self.answered_bytes >= bytes_min
            && self.asked >= asked_min
            && self.answered_bytes >= self.asked_bytes.saturating_mul(settings.times)
    }
}

fn occurrence(
    summary: &Summary,
    host: IpAddr,
    port: u16,
    network: IpAddr,
    answered: &Answered<'_>,
) -> Occurrence {
    let speaker = &summary.host;
    let whose = whose(speaker, host);
    let subject = quote(&whose.subject);
    let service = amplifier(port).unwrap_or("UDP");
    let busiest = answered.of.iter().max_by_key(|c| c.bytes_in);
    let victim = busiest.map_or((network, 0), |c| (c.client, c.client_port));
    let title = format!("{subject} answers {service} of the Internet as floods are made");
    let times = |end: fn(&Conversation) -> u64| answered.of.iter().map(move |c| end(c));
    let factor = answered.answered_bytes / answered.asked_bytes.max(1);
    Occurrence {
        kind: &REFLECTOR,
        rule: Reflector.id(),
        severity: REFLECTOR.severity,
        confidence: 0.7,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: port.to_string(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: times(|c| c.first_ns).min().unwrap_or_default(),
        last_ns: times(|c| c.last_ns).max().unwrap_or_default(),
        action: evidence_of::connection((host, port), victim, UDP, Direction::Inbound),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: answered
            .of
            .iter()
            .take(EVIDENCE_PER_WINDOW)
            .map(|c| evidence_of::conversation(c))
            .collect(),
        mitre: &["T1498.002"],
        description: format!("{title}: {factor} times as many bytes as it was asked."),
        title,
        why: format!(
            "{host} answered {} questions of {service} (port {port}) that bear addresses of the network {network}, {} bytes, with {} packets of {} bytes: {factor} times as much",
            answered.asked, answered.asked_bytes, answered.answered, answered.answered_bytes
        ),
        first_look: &[
            "Whether the service must be open to everybody, and what a security group can close.",
            "Whether the addresses that ask are those of a victim: forged ones do not stop.",
            "Who else is answered, at which rate.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, mirror, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::Opened;

    const US: &str = "10.0.0.1";

    /// So many questions of 60 bytes, each answered with so many bytes.
    fn asked(by: &str, port: u16, questions: u64, bytes: u64) -> Conversation {
        let mut c = conversation(by, US, port);
        (c.protocol, c.attempts, c.accepted, c.opened) = (UDP, 0, 0, Opened::Guessed);
        (c.flags_out, c.flags_in) = (0, 0);
        (c.packets_out, c.bytes_out) = (questions, questions * 60);
        (c.packets_in, c.bytes_in) = (questions, questions * bytes);
        c
    }

    #[track_caller]
    fn check(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        let both = [
            (speaker(), conversations.clone()),
            (mirror(), conversations),
        ];
        for (host, conversations) in both {
            let seen = Summary {
                conversations,
                ..summary(host)
            };
            let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
            assert_eq!(brief(&findings), expected);
        }
    }

    const FOUND: &[(&str, f64, u64)] = &[("Impact:EC2/Reflector", 5.0, 1)];

    #[test]
    fn services_that_should_not_be_open() {
        for port in [123, 161, 389, 1_900, 11_211] {
            check(vec![asked("198.51.100.1", port, 3_000, 480)], FOUND);
            check(vec![asked("198.51.100.1", port, 3_000, 60)], &[]);
            check(vec![asked("198.51.100.1", port, 300, 480)], &[]);
        }
        check(vec![asked("198.51.100.1", 443, 3_000, 1_200)], &[]);
    }

    #[test]
    fn a_name_server_needs_more() {
        check(vec![asked("198.51.100.1", 53, 2_000, 3_000)], FOUND);
        check(vec![asked("198.51.100.1", 53, 1_900, 3_000)], &[]);
        let spread = (0..200).map(|n| asked(&format!("198.51.{n}.1"), 53, 200, 3_000));
        check(spread.collect(), &[]);
    }

    #[test]
    fn inside_and_as_a_client_it_is_ordinary() {
        check(vec![asked("10.0.9.9", 161, 30_000, 480)], &[]);
        let mut client = asked("198.51.100.1", 161, 30_000, 480);
        (client.client, client.server) = (client.server, client.client);
        client.local = Side::Client;
        check(vec![client], &[]);
    }

    #[test]
    fn hosts_of_one_network_are_one_victim() {
        let spread = (0..100).map(|n| asked(&format!("198.51.100.{n}"), 11_211, 30, 480));
        check(spread.collect(), FOUND);
    }
}
