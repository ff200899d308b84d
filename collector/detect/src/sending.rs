//! What one end sent another that took no part in it: the material of floods.
//!
//! A conversation says which end opened it only as far as that is known; of packets without an answer
//! it often is not. So each is looked at both ways, and what counts is who sent and who was silent.
//! Whose doing it is follows from whose hosts the ends are ([`blamed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Conversation, Opened, Summary};

use crate::conversation::is_own;
use crate::event::FLOW_LOG;
use crate::finding::Role;
use crate::reach::is_public;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const DNS: u16 = 53;

/// Datagram services that answer more than they are asked, with what they are called (US-CERT alert
/// TA14-017A and later reports of floods).
const AMPLIFIERS: &[(u16, &str)] = &[
    (17, "QOTD"),
    (19, "chargen"),
    (53, "DNS"),
    (69, "TFTP"),
    (111, "portmap"),
    (123, "NTP"),
    (137, "NetBIOS"),
    (161, "SNMP"),
    (177, "XDMCP"),
    (389, "CLDAP"),
    (427, "SLP"),
    (520, "RIP"),
    (1434, "SQL Server"),
    (1900, "SSDP"),
    (3283, "ARD"),
    (3702, "WS-Discovery"),
    (5093, "Sentinel"),
    (5353, "mDNS"),
    (5683, "CoAP"),
    (10001, "Ubiquiti"),
    (11211, "memcached"),
    (27015, "game servers"),
    (32414, "Plex"),
    (37810, "DVR"),
];

/// What a datagram service that amplifies is called.
pub(crate) fn amplifier(port: u16) -> Option<&'static str> {
    let known = AMPLIFIERS.iter().find(|(known, _)| *known == port);
    known.map(|(_, name)| *name)
}

/// Says whether a protocol of IP carries messages about the network and no data: ICMP and IGMP.
pub(crate) fn is_control(protocol: u8) -> bool {
    const IGMP: u8 = 2;
    matches!(protocol, ICMP | IGMP | ICMPV6)
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Load {
    /// Openings of TCP that the sender did not go on with.
    Syn,
    /// Answers of TCP to openings that were not made.
    TcpAnswer,
    /// Other packets of TCP that belong to no connection.
    Tcp,
    /// Datagrams.
    Udp,
    /// Answers to questions that were not asked, of the service at a port that amplifies.
    UdpAnswer(u16),
    /// Packets of another protocol of IP.
    Other(u8),
}

impl Load {
    /// The protocol of IP.
    pub(crate) const fn protocol(self) -> u8 {
        match self {
            Self::Syn | Self::TcpAnswer | Self::Tcp => TCP,
            Self::Udp | Self::UdpAnswer(_) => UDP,
            Self::Other(protocol) => protocol,
        }
    }
}

/// What one end sent another in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sending<'a> {
    pub(crate) from: IpAddr,
    /// The sender's port, of the first flow where there are many.
    pub(crate) from_port: u16,
    pub(crate) to: IpAddr,
    /// The receiver's port, alike; 0 where the protocol has none.
    pub(crate) port: u16,
    pub(crate) load: Load,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Of the packets, openings of TCP that were refused: nobody listens there.
    pub(crate) refused: u64,
    pub(crate) of: &'a Conversation,
}

impl<'a> Sending<'a> {
    /// What went unheard in a conversation, if anything did.
    pub(crate) fn of(c: &'a Conversation) -> Option<Self> {
        let (load, is_out) = match c.protocol {
            TCP => tcp(c)?,
            UDP => udp(c)?,
            ICMP | ICMPV6 if c.opened == Opened::Seen => (Load::Other(c.protocol), true),
            other => {
                let is_out = one_sided(c, FEW)?;
                (Load::Other(other), is_out)
            }
        };
        let (mut packets, bytes) = if is_out {
            (c.packets_out, c.bytes_out)
        } else {
            (c.packets_in, c.bytes_in)
        };
        let mut refused = 0;
        if load == Load::Syn {
            packets = bare_openings(c);
            refused = part(packets, c.refused, c.attempts);
        }
        let ends = [(c.client, c.client_port), (c.server, c.server_port)];
        let [(from, from_port), (to, port)] = if is_out { ends } else { [ends[1], ends[0]] };
        Some(Self {
            from,
            from_port,
            to,
            port,
            load,
            packets,
            bytes,
            refused,
            of: c,
        })
    }
}

/// Of how many packets one may be answered, for the rest to be called unheard: QUIC and other transports
/// acknowledge one of ten or more often, media report once in a hundred at the least a few times a
/// second; floods are not answered at all, or by chance.
const FEW: u64 = 50;

/// The same of questions to name servers, which are answered one by one.
const HALF: u64 = 2;

/// Whether the client sent and the server was silent (`true`), or the other way round (`false`).
fn one_sided(c: &Conversation, of_answered: u64) -> Option<bool> {
    let unheard = |sent: u64, back: u64| sent > 0 && back.saturating_mul(of_answered) <= sent;
    if unheard(c.packets_out, c.packets_in) {
        Some(true)
    } else if unheard(c.packets_in, c.packets_out) {
        Some(false)
    } else {
        None
    }
}

fn udp(c: &Conversation) -> Option<(Load, bool)> {
    let share = if c.server_port == DNS && c.packets_out >= c.packets_in {
        HALF
    } else {
        FEW
    };
    let is_out = one_sided(c, share)?;
    // The lower port was taken for the server's; that of the service may be either.
    let from_port = if is_out { c.client_port } else { c.server_port };
    let is_answer = amplifier(from_port).is_some() && c.opened != Opened::Seen;
    let load = if is_answer {
        Load::UdpAnswer(from_port)
    } else {
        Load::Udp
    };
    Some((load, is_out))
}

fn tcp(c: &Conversation) -> Option<(Load, bool)> {
    let (out, back) = (c.flags_out, c.flags_in);
    let is_answer = |flags: u8| {
        flags & PSH == 0
            && (flags & (SYN | ACK) == SYN | ACK || flags & RST != 0 && flags & SYN == 0)
    };
    if c.attempts == 0 && c.opened != Opened::Seen {
        if c.packets_in > 0 && is_answer(back) && out & (SYN | ACK | PSH) == 0 {
            return Some((Load::TcpAnswer, false));
        }
        if c.packets_in == 0 && is_answer(out) {
            return Some((Load::TcpAnswer, true));
        }
        let is_out = one_sided(c, u64::MAX)?;
        let packets = c.packets_out.max(c.packets_in);
        // Of a connection that is half seen there are more packets than that.
        let is_stray = packets <= u64::from(c.flows).saturating_mul(3);
        return is_stray.then_some((Load::Tcp, is_out));
    }
    // Whoever goes on sends at least an acknowledgement and a farewell for each opening, and is sent
    // nothing before.
    let is_bare = if out & ACK == 0 {
        back & PSH == 0
    } else {
        u64::from(c.attempts).saturating_mul(2) >= c.packets_out
    };
    let is_syn = out & SYN != 0 && is_bare && bare_openings(c) > 0;
    is_syn.then_some((Load::Syn, true))
}

/// Packets that opened and that nobody went on with. Where the client acknowledged something, it went on
/// with those that were accepted, as far as there are packets besides the openings.
fn bare_openings(c: &Conversation) -> u64 {
    if c.flags_out & ACK == 0 {
        return c.packets_out;
    }
    let attempts = u64::from(c.attempts);
    let gone_on = u64::from(c.accepted).min(c.packets_out.saturating_sub(attempts));
    attempts.saturating_sub(gone_on)
}

/// As many of `packets` as `some` are of `all`.
fn part(packets: u64, some: u32, all: u32) -> u64 {
    let share = u128::from(packets) * u128::from(some.min(all)) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(packets)
}

/// What went unheard in a summary, each with the part that the resource plays in it: the sender where it
/// is one of ours, else the receiver.
///
/// A mirror has no hosts of its own. Between a private address and a public one the private one is ours;
/// else a receiver of many senders is flooded, and a sender to it one that floods. Less than `packets_min`
/// packets in all are not worth a look.
pub(crate) fn blamed(summary: &Summary, packets_min: u64) -> Vec<(Role, Sending<'_>)> {
    let all = || summary.conversations.iter().filter_map(Sending::of);
    let packets = all().fold(0u64, |sum, one| sum.saturating_add(one.packets));
    if packets < packets_min {
        return Vec::new();
    }
    /// Senders from which a receiver is one that many agree upon. Chosen by hand: who floods one host
    /// from fewer is told by name.
    const MANY: usize = 10;
    let mut senders: BTreeMap<(IpAddr, Load), BTreeSet<IpAddr>> = BTreeMap::new();
    if summary.host.local.is_empty() {
        for one in all() {
            let known = senders.entry((one.to, one.load)).or_default();
            if known.len() < MANY {
                known.insert(one.from);
            }
        }
    }
    let part = |one: &Sending<'_>| {
        let own = (
            is_own(&summary.host, one.from),
            is_own(&summary.host, one.to),
        );
        match own {
            (true, _) => Role::Actor,
            (_, true) => Role::Target,
            (false, false) => match (is_public(one.from), is_public(one.to)) {
                (false, true) => Role::Actor,
                (true, false) => Role::Target,
                _ => {
                    let known = senders.get(&(one.to, one.load));
                    if known.is_some_and(|known| known.len() >= MANY) {
                        Role::Target
                    } else {
                        Role::Actor
                    }
                }
            },
        }
    };
    all().map(|one| (part(&one), one)).collect()
}

/// What adds up to a flood, or does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sum<'a> {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Of the packets, openings of TCP that were refused.
    pub(crate) refused: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// Ends that sent.
    pub(crate) senders: BTreeSet<IpAddr>,
    /// Ends that were sent to, with their ports.
    pub(crate) targets: BTreeSet<(IpAddr, u16)>,
    /// The sendings of most packets, most first.
    pub(crate) most: Vec<Sending<'a>>,
}

/// Sendings shown with one flood: enough to see the pattern.
const SHOWN_MAX: usize = 20;

impl<'a> Sum<'a> {
    /// Adds what was sent.
    pub(crate) fn add(&mut self, one: Sending<'a>) {
        let is_first = self.packets == 0;
        self.packets = self.packets.saturating_add(one.packets);
        self.bytes = self.bytes.saturating_add(one.bytes);
        self.refused = self.refused.saturating_add(one.refused);
        self.first_ns = if is_first {
            one.of.first_ns
        } else {
            self.first_ns.min(one.of.first_ns)
        };
        self.last_ns = self.last_ns.max(one.of.last_ns);
        self.senders.insert(one.from);
        self.targets.insert((one.to, one.port));
        let at = self
            .most
            .partition_point(|known| known.packets >= one.packets);
        if at < SHOWN_MAX {
            self.most.insert(at, one);
            self.most.truncate(SHOWN_MAX);
        }
    }

    /// Packets a second while it lasted, a tenth of a second at the least; a flow log tells whole
    /// seconds.
    pub(crate) fn per_second(&self, summary: &Summary) -> u64 {
        self.rate_of(self.packets, summary)
    }

    /// The same of those that were not refused.
    fn unrefused_per_second(&self, summary: &Summary) -> u64 {
        self.rate_of(self.packets.saturating_sub(self.refused), summary)
    }

    /// Whether openings of TCP are so many and so fast: `packets_min` at `per_second_min` that were not refused,
    /// or ten times as fast whatever became of them.
    ///
    /// Where a service is down, each client of it is refused and tries again, a proxy before it for all of its
    /// own: hundreds of times a second, and never as fast as a flood.
    pub(crate) fn is_syn_flood(
        &self,
        summary: &Summary,
        packets_min: u64,
        per_second_min: u64,
    ) -> bool {
        /// Chosen by hand.
        const REFUSED_TIMES: u64 = 10;
        let unrefused = self.packets.saturating_sub(self.refused);
        let is_unheard =
            unrefused >= packets_min && self.unrefused_per_second(summary) >= per_second_min;
        is_unheard
            || self.packets >= packets_min
                && self.per_second(summary) >= per_second_min.saturating_mul(REFUSED_TIMES)
    }

    fn rate_of(&self, packets: u64, summary: &Summary) -> u64 {
        let least_ns: u64 = if summary.host.capture == FLOW_LOG {
            1_000_000_000
        } else {
            100_000_000
        };
        let span_ns = self.last_ns.saturating_sub(self.first_ns).max(least_ns);
        let rate = u128::from(packets) * 1_000_000_000 / u128::from(span_ns);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Seconds it lasted.
    pub(crate) fn seconds(&self) -> f64 {
        self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9
    }

    /// Bytes of a packet on average.
    pub(crate) fn packet_bytes(&self) -> u64 {
        self.bytes.checked_div(self.packets).unwrap_or(0)
    }

    /// Ports that were sent to.
    pub(crate) fn ports(&self) -> usize {
        let ports: BTreeSet<u16> = self.targets.iter().map(|(_, port)| *port).collect();
        ports.len()
    }

    /// Hosts that were sent to.
    pub(crate) fn receivers(&self) -> usize {
        let hosts: BTreeSet<IpAddr> = self.targets.iter().map(|(host, _)| *host).collect();
        hosts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, ip, mirror, speaker, summary, unanswered};

    fn datagrams(client: &str, server: &str, port: u16, sent: u64, back: u64) -> Conversation {
        let mut c = conversation(client, server, port);
        (c.protocol, c.attempts, c.accepted) = (UDP, 0, 0);
        (c.flags_out, c.flags_in, c.opened) = (0, 0, Opened::Guessed);
        (c.packets_out, c.packets_in) = (sent, back);
        (c.bytes_out, c.bytes_in) = (sent * 256, back * 64);
        c
    }

    #[track_caller]
    fn check(c: &Conversation, expected: Option<(Load, bool)>) {
        let found = Sending::of(c).map(|one| (one.load, one.from == c.client));
        assert_eq!(found, expected);
    }

    #[test]
    fn datagrams_are_unheard_either_way_and_heard_when_answered() {
        let of = |port, sent, back| datagrams("10.0.0.1", "192.0.2.1", port, sent, back);
        check(&of(80, 1_000, 0), Some((Load::Udp, true)));
        check(&of(80, 1_000, 20), Some((Load::Udp, true)));
        check(&of(443, 1_000, 100), None);
        check(&of(51_820, 1_000, 900), None);
        check(&of(80, 0, 1_000), Some((Load::Udp, false)));
        check(&of(161, 0, 1_000), Some((Load::UdpAnswer(161), false)));
        check(&of(53, 1_000, 400), Some((Load::Udp, true)));
        check(&of(53, 1_000, 900), None);
        // The lower port is not the service's where floods are aimed at a web server.
        let mut flipped = of(80, 1_000, 0);
        flipped.client_port = 1_900;
        check(&flipped, Some((Load::UdpAnswer(1_900), true)));
        flipped.opened = Opened::Seen;
        check(&flipped, Some((Load::Udp, true)));
    }

    #[test]
    fn openings_that_nobody_went_on_with() {
        let of = |attempts: u32, packets, flags| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
            (c.attempts, c.flows) = (attempts, attempts);
            (c.packets_out, c.flags_out) = (packets, flags);
            c
        };
        check(&of(900, 900, SYN), Some((Load::Syn, true)));
        check(&of(900, 1_800, SYN | RST), Some((Load::Syn, true)));
        check(&of(1, 90_000, SYN), Some((Load::Syn, true)));
        check(&of(900, 1_000, SYN | ACK), Some((Load::Syn, true)));
        check(&of(900, 4_500, SYN | ACK | PSH), None);
        check(&conversation("10.0.0.1", "192.0.2.1", 80), None);
        // Opened, let in and left as it is, a thousand times: no flood; of some only.
        let idle = |accepted| {
            let mut c = of(1_000, 1_000 + u64::from(accepted), SYN | ACK);
            c.accepted = accepted;
            c
        };
        check(&idle(1_000), None);
        let left = Sending::of(&idle(400)).map(|one| (one.packets, one.refused));
        assert_eq!(left, Some((600, 0)));
        let mut refused = of(900, 1_800, SYN);
        refused.refused = 450;
        let left = Sending::of(&refused).map(|one| (one.packets, one.refused));
        assert_eq!(left, Some((1_800, 900)));
    }

    #[test]
    fn answers_that_nobody_asked_for() {
        let of = |flags_out, flags_in, packets_out, packets_in| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
            (c.attempts, c.opened) = (0, Opened::Guessed);
            (c.flags_out, c.flags_in) = (flags_out, flags_in);
            (c.packets_out, c.packets_in) = (packets_out, packets_in);
            c
        };
        let answer = Some((Load::TcpAnswer, false));
        check(&of(0, SYN | ACK, 0, 1), answer);
        check(&of(RST, SYN | ACK, 1, 1), answer);
        check(&of(0, RST, 0, 1), answer);
        check(&of(RST | ACK, 0, 1, 0), Some((Load::TcpAnswer, true)));
        check(&of(ACK, 0, 3, 0), Some((Load::Tcp, true)));
        // A connection that goes on, of which one way is seen.
        check(&of(ACK | PSH, 0, 900, 0), None);
        check(&of(ACK | PSH, ACK | PSH, 4, 4), None);
        let mut opened = of(SYN | ACK, SYN | ACK, 5, 5);
        (opened.attempts, opened.opened) = (1, Opened::Seen);
        check(&opened, None);
    }

    #[test]
    fn whose_doing_it_is() {
        let part = |host, from: &str, to: &str, others: u8| {
            let mut all = vec![datagrams(from, to, 80, 5_000, 0)];
            all.extend((0..others).map(|n| datagrams(&format!("198.51.100.{n}"), to, 80, 9, 0)));
            let seen = Summary {
                conversations: all,
                ..summary(host)
            };
            let found = blamed(&seen, 1_000);
            found
                .first()
                .map(|(role, one)| (*role, one.from == ip(from)))
        };
        let actor = Some((Role::Actor, true));
        let target = Some((Role::Target, true));
        assert_eq!(part(speaker(), "10.0.0.1", "192.0.2.1", 0), actor);
        assert_eq!(part(speaker(), "192.0.2.1", "10.0.0.1", 0), target);
        assert_eq!(part(mirror(), "10.0.0.1", "192.0.2.1", 20), actor);
        assert_eq!(part(mirror(), "192.0.2.1", "10.0.0.1", 0), target);
        assert_eq!(part(mirror(), "203.0.113.5", "192.0.2.1", 0), actor);
        assert_eq!(part(mirror(), "203.0.113.5", "192.0.2.1", 20), target);
        let quiet = Summary {
            conversations: vec![datagrams("10.0.0.1", "192.0.2.1", 80, 999, 0)],
            ..summary(mirror())
        };
        assert!(blamed(&quiet, 1_000).is_empty());
    }

    #[test]
    fn sums_say_how_fast_and_how_wide() {
        let mut one = datagrams("10.0.0.1", "192.0.2.1", 80, 5_000, 0);
        one.last_ns = one.first_ns + 2_000_000_000;
        let mut sum = Sum::default();
        sum.add(Sending::of(&one).unwrap());
        let seen = summary(speaker());
        assert_eq!((sum.per_second(&seen), sum.packet_bytes()), (2_500, 256));
        assert_eq!((sum.ports(), sum.receivers()), (1, 1));
        one.last_ns = one.first_ns;
        let mut burst = Sum::default();
        burst.add(Sending::of(&one).unwrap());
        assert_eq!(burst.per_second(&seen), 50_000);
        let mut log = summary(speaker());
        log.host.capture = FLOW_LOG.to_owned();
        assert_eq!(burst.per_second(&log), 5_000);
    }
}
