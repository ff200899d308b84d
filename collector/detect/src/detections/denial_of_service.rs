//! Denial of service: a host sends another many packets that the other takes no part in.
//! Reads: conversations, those between a host and one network (/24 or /48) of a window together. Fires:
//! from `packets_min` unheard packets at `per_second_min`; openings of TCP from `syn_per_second_min`,
//! questions to name servers from `dns_per_second_min`, where less than half are answered. Ports of
//! one-way services need `one_way_times` as many a second.
//! Evidence: packets, bytes, rate, sizes, ports, the busiest conversations. Severity: high, as
//! GuardDuty's, toward the Internet; inside medium for openings, low for the rest.
//! Innocent look-alikes: QUIC, VPN, media (answered); a resolver (answered); telemetry, mirrored traffic
//! and speed tests (`one_way_ports`; inside also a TCP connection between the two); a scan (as many ports
//! and hosts as packets); backups (acknowledged); a client whose server refuses (openings that are refused
//! count from ten times the rate, inside not at all). ATT&CK T1498, T1499. Method: rates over the time in which packets passed; AWS's tester sends 400,000 datagrams.
//! First look: which process sends, and who started it; whether a load test was ordered.
//! Actor key: the address flooded; of several the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::Summary;
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{is_answered, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role, protocol_name};
use crate::reach::{is_public, network_of};
use crate::sending::{Load, Sending, Sum, blamed, is_control};

/// Settings of `denial_of_service`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Unheard packets in a window: 2,000, half a second of the slowest flood that counts.
    pub packets_min: u64,
    /// Packets a second while they passed: 5,000. One-way video of the highest rates in use (50 Mbit/s
    /// in packets of 1,316 bytes) stays below.
    pub per_second_min: u64,
    /// Openings of TCP a second that nobody went on with: 200. A client whose server is down retries
    /// a few times a second.
    pub syn_per_second_min: u64,
    /// Packets of ICMP and IGMP a second, answered or not: 1,000. Pings go one a second.
    pub icmp_per_second_min: u64,
    /// Questions to name servers a second, most unanswered: 500. A busy resolver asks one network a
    /// tenth of that, and is answered.
    pub dns_per_second_min: u64,
    /// UDP ports of services that only send: syslog, StatsD, NetFlow, IPFIX, sFlow, mirrored traffic
    /// (VXLAN, Geneve), iperf.
    pub one_way_ports: Vec<u16>,
    /// How many times the rate they need: 10.
    pub one_way_times: u64,
    /// UDP ports that only TCP is spoken at. 80 and 443 are not among them: QUIC is spoken there, and
    /// GuardDuty's own test of plain datagrams goes to 80.
    pub tcp_ports: Vec<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            packets_min: 2_000,
            per_second_min: 5_000,
            syn_per_second_min: 200,
            icmp_per_second_min: 1_000,
            dns_per_second_min: 500,
            one_way_ports: vec![
                514, 2055, 4739, 4789, 5001, 5201, 6081, 6343, 8125, 9995, 9996,
            ],
            one_way_times: 10,
            tcp_ports: vec![
                20, 21, 22, 23, 25, 81, 110, 143, 445, 465, 587, 993, 995, 1433, 1521, 3306, 5432,
                5900, 6379, 8000, 8080, 8888, 9200, 27017,
            ],
        }
    }
}

const DNS: FindingType = FindingType::guardduty("Backdoor:EC2/DenialOfService.Dns", 8.0);
const TCP: FindingType = FindingType::guardduty("Backdoor:EC2/DenialOfService.Tcp", 8.0);
const UDP: FindingType = FindingType::guardduty("Backdoor:EC2/DenialOfService.Udp", 8.0);
const UDP_ON_TCP: FindingType =
    FindingType::guardduty("Backdoor:EC2/DenialOfService.UdpOnTcpPorts", 8.0);
const UNUSUAL: FindingType =
    FindingType::guardduty("Backdoor:EC2/DenialOfService.UnusualProtocol", 8.0);
const INTERNAL: FindingType = FindingType::picket("Impact:EC2/InternalFlood", 5.0);

/// Severity of what floods inside and is no opening of TCP: it may be a test of speed.
const INTERNAL_LOW: f64 = 3.0;

const DNS_PORT: u16 = 53;

/// Floods that a host sends.
pub(crate) struct DenialOfService;

impl Detection for DenialOfService {
    fn id(&self) -> &'static str {
        "denial_of_service"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&DNS, &TCP, &UDP, &UDP_ON_TCP, &UNUSUAL, &INTERNAL]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.denial_of_service;
        let mut floods: BTreeMap<(IpAddr, IpAddr, Kind), Sum<'_>> = BTreeMap::new();
        for (role, sending) in blamed(summary, settings.packets_min) {
            let kind = Kind::of(&sending, settings);
            if role == Role::Actor
                && let Some(kind) = kind
            {
                let key = (sending.from, network_of(sending.to), kind);
                floods.entry(key).or_default().add(sending);
            }
        }
        let mut known = None;
        for ((from, network, kind), sum) in &floods {
            if !is_flood(*kind, sum, summary, settings) {
                continue;
            }
            let is_inside = !is_public(*network);
            let known = known.get_or_insert_with(|| acquainted(summary));
            if is_inside && is_excused(*kind, *from, sum, known) {
                continue;
            }
            out.push(occurrence(summary, *from, *network, *kind, sum));
        }
    }
}

/// What a flood is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Dns,
    Syn,
    Tcp,
    Udp,
    /// At a port of a service that only sends.
    OneWay,
    UdpOnTcp,
    /// ICMP and IGMP.
    Control,
    Unusual,
}

impl Kind {
    fn of(sending: &Sending<'_>, settings: &Settings) -> Option<Self> {
        let port = sending.port;
        let is_one_way = |port| settings.one_way_ports.contains(&port);
        let kind = match sending.load {
            // A host that answers what was forged is flooded itself.
            Load::TcpAnswer => return None,
            Load::Syn => Self::Syn,
            Load::Tcp => Self::Tcp,
            Load::Other(protocol) if is_control(protocol) => Self::Control,
            Load::Other(_) => Self::Unusual,
            Load::Udp | Load::UdpAnswer(_) if port == DNS_PORT => Self::Dns,
            Load::Udp | Load::UdpAnswer(_) if settings.tcp_ports.contains(&port) => Self::UdpOnTcp,
            Load::Udp if is_one_way(port) || is_one_way(sending.from_port) => Self::OneWay,
            Load::Udp | Load::UdpAnswer(_) => Self::Udp,
        };
        let is_unicast = is_public(sending.to) || !is_group(sending.to);
        is_unicast.then_some(kind)
    }

    fn finding(self, is_inside: bool) -> (&'static FindingType, f64) {
        let kind = match self {
            Self::Syn | Self::Tcp if is_inside => return (&INTERNAL, INTERNAL.severity),
            _ if is_inside => return (&INTERNAL, INTERNAL_LOW),
            Self::Dns => &DNS,
            Self::Syn | Self::Tcp => &TCP,
            Self::Udp | Self::OneWay => &UDP,
            Self::UdpOnTcp => &UDP_ON_TCP,
            Self::Control | Self::Unusual => &UNUSUAL,
        };
        (kind, kind.severity)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Dns => "datagrams to name servers",
            Self::Syn => "openings of TCP",
            Self::Tcp => "stray packets of TCP",
            Self::Udp | Self::OneWay => "datagrams",
            Self::UdpOnTcp => "datagrams to a port of TCP",
            Self::Control => "messages of ICMP or IGMP",
            Self::Unusual => "packets of an unusual protocol",
        }
    }
}

/// Addresses of groups, which a router does not let out.
fn is_group(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets()[0] >= 224,
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Whether so much, so fast and to so few is a flood.
fn is_flood(kind: Kind, sum: &Sum<'_>, summary: &Summary, settings: &Settings) -> bool {
    let packets_min = settings.packets_min;
    let per_second_min = match kind {
        Kind::Dns => settings.dns_per_second_min,
        Kind::Syn => {
            let is_fast = sum.is_syn_flood(summary, packets_min, settings.syn_per_second_min);
            return is_fast && !is_scan(sum);
        }
        Kind::Control => settings.icmp_per_second_min,
        Kind::OneWay => settings
            .per_second_min
            .saturating_mul(settings.one_way_times),
        Kind::Tcp | Kind::Udp | Kind::UdpOnTcp | Kind::Unusual => settings.per_second_min,
    };
    let is_fast = sum.packets >= packets_min && sum.per_second(summary) >= per_second_min;
    is_fast && !is_scan(sum)
}

/// A scan knocks at each port and host a few times, with little or nothing in it.
fn is_scan(sum: &Sum<'_>) -> bool {
    /// Knocks at one door, with repetitions; bytes of a probe of UDP at most. Chosen by hand.
    const KNOCKS_MAX: u64 = 3;
    const PROBE_BYTES_MAX: u64 = 128;
    let doors = sum.targets.len() as u64;
    doors.saturating_mul(KNOCKS_MAX) >= sum.packets && sum.packet_bytes() <= PROBE_BYTES_MAX
}

/// Pairs of which both took part in a TCP connection, either way round.
fn acquainted(summary: &Summary) -> BTreeSet<(IpAddr, IpAddr)> {
    let all = summary.conversations.iter();
    all.filter(|c| c.protocol == Load::Tcp.protocol() && is_answered(c) && Sending::of(c).is_none())
        .flat_map(|c| [(c.client, c.server), (c.server, c.client)])
        .collect()
}

/// Inside: a client that is refused again and again, and a test of speed, whose two ends also speak.
fn is_excused(kind: Kind, from: IpAddr, sum: &Sum<'_>, known: &BTreeSet<(IpAddr, IpAddr)>) -> bool {
    let Some(most) = sum.most.first() else {
        return true;
    };
    match kind {
        Kind::Syn => sum.refused.saturating_mul(2) >= sum.packets,
        Kind::Tcp => false,
        _ => known.contains(&(from, most.to)),
    }
}

fn occurrence(
    summary: &Summary,
    from: IpAddr,
    network: IpAddr,
    kind: Kind,
    sum: &Sum<'_>,
) -> Occurrence {
    let speaker = &summary.host;
    let most = sum.most.first();
    let (to, port, own_port, protocol) = most.map_or((network, 0, 0, 0), |one| {
        (one.to, one.port, one.from_port, one.load.protocol())
    });
    let whose = whose(speaker, from);
    let receivers = sum.receivers();
    let target = if receivers == 1 { to } else { network };
    let (finding, severity) = kind.finding(!is_public(network));
    let subject = quote(&whose.subject);
    let what = kind.name();
    let title = if receivers == 1 {
        format!("{subject} floods {target} with {what}")
    } else {
        format!("{subject} floods {receivers} hosts of the network {target} with {what}")
    };
    let per_second = sum.per_second(summary);
    let answered: u64 = sum.most.iter().map(answers).sum();
    let ports = match sum.ports() {
        1 if port > 0 => format!("port {port}"),
        0 | 1 => protocol_name(protocol),
        many => format!("{many} ports"),
    };
    Occurrence {
        kind: finding,
        rule: DenialOfService.id(),
        severity,
        confidence: if severity < INTERNAL.severity {
            0.5
        } else {
            0.9
        },
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: target.to_string(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: sum.first_ns,
        last_ns: sum.last_ns,
        action: evidence_of::connection(
            (from, own_port),
            (to, port),
            protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([
            ("sensor".to_owned(), speaker.instance.clone()),
            ("packets".to_owned(), sum.packets.to_string()),
            ("packetsPerSecond".to_owned(), per_second.to_string()),
        ]),
        evidence: sum
            .most
            .iter()
            .map(|one| evidence_of::conversation(one.of))
            .collect(),
        mitre: &["T1498", "T1499"],
        description: format!("{title}: {per_second} packets a second that were not taken up."),
        title,
        why: format!(
            "{from} sent {} packets of {} bytes on average to {target}, {ports}, in {:.3} s ({per_second} a second); {answered} came back",
            sum.packets,
            sum.packet_bytes(),
            sum.seconds(),
        ),
        first_look: &[
            "Which process sends, and who started it.",
            "Whether a load test was ordered.",
            "What else the host was told to do: who it asks for orders.",
        ],
    }
}

/// Packets that came back.
fn answers(one: &Sending<'_>) -> u64 {
    if one.from == one.of.client {
        one.of.packets_in
    } else {
        one.of.packets_out
    }
}

#[cfg(test)]
mod tests;
