//! Inbound flood: a host is sent many packets that belong to nothing.
//! Reads: conversations, those to one host of a window together, whoever sends. Fires: from `packets_min`
//! packets at `per_second_min`: openings of TCP that nobody goes on with, answers to what was never asked
//! (of TCP, and of datagram services that amplify), other packets. Plain datagrams need
//! `datagrams_per_second_min`, those of services that only send `one_way_times` as many.
//! Evidence: packets, bytes, rate, how many senders, the busiest conversations. Severity: medium: the
//! host is the target.
//! Innocent look-alikes: answers that were asked for, a busy server (its clients go on), a service that is
//! down (openings that are refused count from ten times the rate), a scan of many ports, a collector of telemetry (`one_way_ports`), packets from our own networks (told of the sender),
//! backscatter (few packets for each of many addresses). ATT&CK T1498, T1499.002. Method: US-CERT
//! TA14-017A (services that amplify), RFC 4987 (SYN flooding).
//! First look: whether the host still serves; what an upstream filter can drop; what went on behind it.
//! Actor key: the kind of flood: senders are forged or lent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::Summary;
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role, protocol_name};
use crate::reach::is_public;
use crate::sending::{Load, Sending, Sum, amplifier, blamed, is_control};

/// Settings of `inbound_flood`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Packets in a window: 1,000. A server that is up answers as many openings in the same time.
    pub packets_min: u64,
    /// Packets a second while they passed, of openings without end, of answers that were not asked for,
    /// and of anything from `senders_many`: 200. Whoever looks for open ports knocks a few times a second.
    pub per_second_min: u64,
    /// Plain datagrams a second from fewer: 5,000, above one-way video of the highest rates in use.
    pub datagrams_per_second_min: u64,
    /// Packets of ICMP and IGMP a second from fewer, answered or not: 1,000. Pings come one a second.
    pub icmp_per_second_min: u64,
    /// Senders that no service has that is not answered: 50.
    pub senders_many: usize,
    /// UDP ports of services that only send, or are only sent to: syslog, StatsD, NetFlow, IPFIX, sFlow,
    /// mirrored traffic (VXLAN, Geneve), iperf.
    pub one_way_ports: Vec<u16>,
    /// How many times the rate they need: 10.
    pub one_way_times: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            packets_min: 1_000,
            per_second_min: 200,
            datagrams_per_second_min: 5_000,
            icmp_per_second_min: 1_000,
            senders_many: 50,
            one_way_ports: vec![
                514, 2055, 4739, 4789, 5001, 5201, 6081, 6343, 8125, 9995, 9996,
            ],
            one_way_times: 10,
        }
    }
}

const SYN: FindingType = FindingType::picket("Impact:EC2/InboundFlood.TcpSyn", 5.0);
const TCP_ANSWER: FindingType = FindingType::picket("Impact:EC2/InboundFlood.TcpReflection", 5.0);
const TCP: FindingType = FindingType::picket("Impact:EC2/InboundFlood.Tcp", 5.0);
const UDP: FindingType = FindingType::picket("Impact:EC2/InboundFlood.Udp", 5.0);
const UDP_ANSWER: FindingType = FindingType::picket("Impact:EC2/InboundFlood.UdpReflection", 5.0);
const UNUSUAL: FindingType = FindingType::picket("Impact:EC2/InboundFlood.UnusualProtocol", 5.0);

/// Floods that a host is sent.
pub(crate) struct InboundFlood;

impl Detection for InboundFlood {
    fn id(&self) -> &'static str {
        "inbound_flood"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&SYN, &TCP_ANSWER, &TCP, &UDP, &UDP_ANSWER, &UNUSUAL]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.inbound_flood;
        let mut floods: BTreeMap<(IpAddr, Kind), Sum<'_>> = BTreeMap::new();
        for (role, sending) in blamed(summary, settings.packets_min) {
            let is_named = sending.load == Load::Syn || is_public(sending.from);
            if role == Role::Target && is_named {
                let key = (sending.to, Kind::of(&sending, settings));
                floods.entry(key).or_default().add(sending);
            }
        }
        for ((to, kind), sum) in &floods {
            if is_flood(*kind, sum, summary, settings) {
                out.push(occurrence(summary, *to, *kind, sum));
            }
        }
    }
}

/// What a flood is of: one way of being flooded is one finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Syn,
    TcpAnswer,
    Tcp,
    Udp,
    /// At a port of a service that only sends.
    OneWay,
    UdpAnswer(u16),
    Unusual(u8),
}

impl Kind {
    fn of(sending: &Sending<'_>, settings: &Settings) -> Self {
        let is_one_way = |port| settings.one_way_ports.contains(&port);
        match sending.load {
            Load::Syn => Self::Syn,
            Load::TcpAnswer => Self::TcpAnswer,
            Load::Tcp => Self::Tcp,
            Load::UdpAnswer(port) => Self::UdpAnswer(port),
            Load::Udp if is_one_way(sending.port) || is_one_way(sending.from_port) => Self::OneWay,
            Load::Udp => Self::Udp,
            Load::Other(protocol) => Self::Unusual(protocol),
        }
    }

    fn finding(self) -> &'static FindingType {
        match self {
            Self::Syn => &SYN,
            Self::TcpAnswer => &TCP_ANSWER,
            Self::Tcp => &TCP,
            Self::Udp | Self::OneWay => &UDP,
            Self::UdpAnswer(_) => &UDP_ANSWER,
            Self::Unusual(_) => &UNUSUAL,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Syn => "openings of TCP that nobody goes on with".to_owned(),
            Self::TcpAnswer => "answers of TCP that it did not ask for".to_owned(),
            Self::Tcp => "packets of TCP that belong to no connection".to_owned(),
            Self::Udp | Self::OneWay => "datagrams".to_owned(),
            Self::UdpAnswer(port) => {
                let name = amplifier(port).unwrap_or("UDP");
                format!("answers of {name} (port {port}) that it did not ask for")
            }
            Self::Unusual(protocol) => format!("packets of {}", protocol_name(protocol)),
        }
    }

    /// Its part of the finding's id.
    fn key(self) -> String {
        match self {
            Self::Syn => "syn".to_owned(),
            Self::TcpAnswer => "tcp answers".to_owned(),
            Self::Tcp => "tcp".to_owned(),
            Self::Udp | Self::OneWay => "udp".to_owned(),
            Self::UdpAnswer(port) => format!("udp answers {port}"),
            Self::Unusual(protocol) => format!("protocol {protocol}"),
        }
    }
}

/// Whether so much and so fast is a flood.
fn is_flood(kind: Kind, sum: &Sum<'_>, summary: &Summary, settings: &Settings) -> bool {
    let packets_min = settings.packets_min;
    let plain = settings.datagrams_per_second_min;
    let are_many = sum.senders.len() >= settings.senders_many;
    let per_second_min = match kind {
        Kind::Syn => {
            let is_fast = sum.is_syn_flood(summary, packets_min, settings.per_second_min);
            return is_fast && !is_scan(sum);
        }
        Kind::TcpAnswer | Kind::UdpAnswer(_) => settings.per_second_min,
        Kind::OneWay => plain.saturating_mul(settings.one_way_times),
        Kind::Tcp | Kind::Udp | Kind::Unusual(_) if are_many => settings.per_second_min,
        Kind::Unusual(protocol) if is_control(protocol) => settings.icmp_per_second_min,
        Kind::Tcp | Kind::Udp | Kind::Unusual(_) => plain,
    };
    sum.packets >= packets_min && sum.per_second(summary) >= per_second_min
}

/// Knocks at many ports, of somebody who looks which are open.
fn is_scan(sum: &Sum<'_>) -> bool {
    /// Knocks at one port, with repetitions. Chosen by hand.
    const KNOCKS_MAX: u64 = 3;
    sum.ports() as u64 * KNOCKS_MAX >= sum.packets
}

fn occurrence(summary: &Summary, to: IpAddr, kind: Kind, sum: &Sum<'_>) -> Occurrence {
    let speaker = &summary.host;
    let most = sum.most.first();
    let (from, from_port, port, protocol) = most.map_or((to, 0, 0, 0), |one| {
        (one.from, one.from_port, one.port, one.load.protocol())
    });
    let whose = whose(speaker, to);
    let subject = quote(&whose.subject);
    let what = kind.name();
    let title = format!("{subject} is flooded with {what}");
    let per_second = sum.per_second(summary);
    let senders = sum.senders.len();
    let cut = summary.cut.conversations;
    let and_cut = if cut > 0 {
        format!("; {cut} more conversations found no room in the summary")
    } else {
        String::new()
    };
    let finding = kind.finding();
    Occurrence {
        kind: finding,
        rule: InboundFlood.id(),
        severity: finding.severity,
        confidence: if senders > 1 { 0.9 } else { 0.7 },
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: kind.key(),
        resource: whose.resource,
        role: Role::Target,
        count: 1,
        first_ns: sum.first_ns,
        last_ns: sum.last_ns,
        action: evidence_of::connection(
            (to, port),
            (from, from_port),
            protocol,
            Direction::Inbound,
        ),
        additional_info: BTreeMap::from([
            ("sensor".to_owned(), speaker.instance.clone()),
            ("packets".to_owned(), sum.packets.to_string()),
            ("packetsPerSecond".to_owned(), per_second.to_string()),
            ("senders".to_owned(), senders.to_string()),
        ]),
        evidence: sum
            .most
            .iter()
            .map(|one| evidence_of::conversation(one.of))
            .collect(),
        mitre: &["T1498", "T1499.002"],
        description: format!("{title}: {per_second} packets a second from {senders} addresses."),
        title,
        why: format!(
            "{to} was sent {} packets of {} bytes on average by {senders} addresses in {:.3} s ({per_second} a second), {what}{and_cut}",
            sum.packets,
            sum.packet_bytes(),
            sum.seconds(),
        ),
        first_look: &[
            "Whether the host still serves those whom it should.",
            "What a filter before it can drop: the port, the protocol, the size.",
            "What went on behind the flood: it may have been made to cover something.",
        ],
    }
}

#[cfg(test)]
mod tests;
