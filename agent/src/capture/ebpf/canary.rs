//! The canary: packets of our own that are run through the loaded programs at the end of each
//! window, and must come back in three ways, or four.
//!
//! ```text
//! frame ─→ program in use ─→ its flow, found by the scan            counting works
//!    192.0.2.253 ↔ 198.51.100.253    ├→ a hit, as the tables list the second     matching and its ring work
//!    UDP port 53                     ├→ a copy, as it is a DNS question          copying and its ring work
//!                                    └→ a notice, where names are listed         the names stage and its ring work
//! ```
//!
//! The name is matched in what leaves alone, as the kernel does with questions of others. The
//! addresses are for documentation (RFC 5737) and the packets are on no wire. Each is known by
//! its ports, drawn at the start and counted on, and what comes back of it is taken out of the
//! counts, so that the loss equation holds without it. No more is taken out than was put in: who
//! forges such packets on a wire finds them reported.
//!
//! The programs run as they do at tc: the kernel's test run holds bottom halves off since Linux
//! 6.1. Before that a real packet on the same CPU may interrupt a canary between two stores of a
//! counter, and be miscounted by one.

use std::net::{IpAddr, Ipv4Addr};

use picket_abi::Reason;
use picket_sense::input::{FlowDelta, KernelHit, KernelNotice, PacketCopy, Recognised, Way};
use picket_wire::Canary as Told;

use super::Event;

/// Our end of a canary's flow.
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 253);

/// The end that the tables list.
pub(super) const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 253);

/// What the canary asks for: a name that is never given out (RFC 6761 section 6.4).
const LABELS: [&[u8]; 3] = [b"canary", b"picket", b"invalid"];

/// What the tables list of it, beside the names of others.
pub(super) const LISTED_NAME: &str = "picket.invalid";

const DNS: u16 = 53;
const UDP: u8 = 17;

/// Canaries that are waited for: those of eight windows with all four programs in use. What comes
/// even later counts as a packet like any other.
const SENT_MAX: usize = 32;

/// One packet of ours.
#[derive(Debug)]
struct Sent {
    /// From the IP header on.
    packet: Vec<u8>,
    way: Way,
    port: u16,
    counted: bool,
    hit: bool,
    copied: bool,
    /// Whether its name was recognised, or need not be.
    named: bool,
    judged: bool,
    /// Windows that ended since.
    age: u32,
}

/// What came back of our packets and is still to be taken out of the kernel's counters.
#[derive(Debug, Clone, Copy, Default)]
struct Owed {
    packets: u64,
    bytes: u64,
    hits: u64,
    copies: u64,
    notices: u64,
    /// Those that left: no process opened their socket.
    owners: u64,
}

/// The canaries of one capture.
#[derive(Debug)]
pub(super) struct Canary {
    next_port: u16,
    sent: Vec<Sent>,
    owed: Owed,
    refused: Option<String>,
    last_ns: u64,
    /// Whether the kernel matches names.
    names: bool,
}

impl Canary {
    /// One whose first port is `port` or near it.
    pub(super) fn new(port: u16) -> Self {
        Self {
            next_port: port.max(1_024),
            sent: Vec::new(),
            owed: Owed::default(),
            refused: None,
            last_ns: 0,
            names: false,
        }
    }

    /// Whether names are matched in the kernel from now on, ours among them.
    pub(super) fn expect_names(&mut self, expected: bool) {
        self.names = expected;
    }

    /// The next packet of ours, from its IP header on, to be run through a program that sees this
    /// way.
    pub(super) fn packet(&mut self, way: Way) -> Vec<u8> {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
        question(way, port)
    }

    /// Port of the next packet.
    pub(super) const fn next_port(&self) -> u16 {
        self.next_port
    }

    /// Notes that a packet was run.
    pub(super) fn ran(&mut self, way: Way, packet: Vec<u8>) {
        if self.sent.len() >= SENT_MAX {
            self.sent.remove(0);
        }
        let port = match way {
            Way::Out => word(&packet, 20),
            Way::In => word(&packet, 22),
        };
        self.owed.owners += u64::from(way == Way::Out);
        self.sent.push(Sent {
            packet,
            way,
            port,
            counted: false,
            hit: false,
            copied: false,
            named: !(self.names && way == Way::Out),
            judged: false,
            age: 0,
        });
    }

    /// Notes why a packet could not be run; `None` that all could.
    pub(super) fn set_refused(&mut self, refused: Option<String>) {
        self.refused = refused;
    }

    /// What of a flow is not ours.
    pub(super) fn strain_flow(&mut self, delta: FlowDelta) -> Option<FlowDelta> {
        let is_ours = |sent: &&mut Sent| !sent.counted && sent.is_flow(delta.local, delta.remote);
        if delta.local.0 != IpAddr::V4(LOCAL) || delta.protocol != UDP || delta.tunnel.is_some() {
            return Some(delta);
        }
        let Some(sent) = self.sent.iter_mut().find(is_ours) else {
            return Some(delta);
        };
        let bytes = sent.packet.len() as u64;
        let mut rest = delta;
        let (packets_left, bytes_left) = match sent.way {
            Way::Out => (&mut rest.packets_out, &mut rest.bytes_out),
            Way::In => (&mut rest.packets_in, &mut rest.bytes_in),
        };
        if *packets_left < 1 || *bytes_left < bytes {
            return Some(delta);
        }
        *packets_left -= 1;
        *bytes_left -= bytes;
        sent.counted = true;
        self.owed.packets += 1;
        self.owed.bytes += bytes;
        (rest.packets_out + rest.packets_in > 0).then_some(rest)
    }

    /// Whether a hit is not ours.
    pub(super) fn strain_hit(&mut self, hit: &KernelHit) -> bool {
        let is_ours = |sent: &&mut Sent| {
            !sent.hit && hit.protocol == UDP && sent.is_flow(hit.local, hit.remote)
        };
        if hit.tunnel.is_some() {
            return true;
        }
        let Some(sent) = self.sent.iter_mut().find(is_ours) else {
            return true;
        };
        sent.hit = true;
        self.owed.hits += 1;
        false
    }

    /// Whether a notice is not ours.
    pub(super) fn strain_notice(&mut self, notice: &KernelNotice<'_>) -> bool {
        let is_ours = |sent: &&mut Sent| {
            !sent.named && notice.protocol == UDP && sent.is_flow(notice.local, notice.remote)
        };
        if notice.tunnel.is_some() || notice.recognised != Recognised::Name {
            return true;
        }
        let Some(sent) = self.sent.iter_mut().find(is_ours) else {
            return true;
        };
        sent.named = true;
        self.owed.notices += 1;
        false
    }

    /// Whether a copy is not ours.
    pub(super) fn strain_copy(&mut self, copy: &PacketCopy<'_>) -> bool {
        let is_ours =
            |sent: &&mut Sent| !sent.copied && sent.way == copy.way && sent.packet == copy.data;
        let Some(sent) = self.sent.iter_mut().find(is_ours) else {
            return true;
        };
        sent.copied = true;
        self.owed.copies += 1;
        false
    }

    /// A difference of one of the kernel's counters, without what is ours of it. What came back
    /// before the counter that saw it was read is taken out the next time.
    pub(super) fn strain_count(&mut self, reason: Reason, packets: u64, bytes: u64) -> (u64, u64) {
        let owed = &mut self.owed;
        let owed = match reason {
            Reason::Seen => {
                if packets < owed.packets || bytes < owed.bytes {
                    return (packets, bytes);
                }
                let left = (packets - owed.packets, bytes - owed.bytes);
                (owed.packets, owed.bytes) = (0, 0);
                return left;
            }
            Reason::HitSent => &mut owed.hits,
            Reason::CopySent => &mut owed.copies,
            Reason::NoticeSent => &mut owed.notices,
            Reason::OwnerNotStored => &mut owed.owners,
            _ => return (packets, bytes),
        };
        let ours = packets.min(*owed);
        *owed -= ours;
        (packets - ours, bytes)
    }

    /// Whether every packet that waits to be judged is back.
    pub(super) fn is_back(&self) -> bool {
        self.sent.iter().all(Sent::is_complete)
    }

    /// Ends the window: what became of the canaries that are due. One that is not back yet is given
    /// another window, as its record may stand behind a flood of others.
    pub(super) fn judge(&mut self, now_ns: u64) -> Told {
        let mut told = Told {
            refused: self.refused.clone(),
            named: self.names.then_some(0),
            ..Told::default()
        };
        for sent in &mut self.sent {
            if !sent.judged && (sent.is_complete() || sent.age > 0) {
                sent.judged = true;
                told.sent += 1;
                told.counted += u64::from(sent.counted);
                told.hit += u64::from(sent.hit);
                told.copied += u64::from(sent.copied);
                told.named = told.named.map(|named| named + u64::from(sent.named));
            }
            sent.age += 1;
        }
        self.sent
            .retain(|sent| !(sent.judged && sent.is_complete()));
        if told.sent > 0 && told.failed().is_none() {
            self.last_ns = now_ns;
        }
        told.last_ns = self.last_ns;
        told
    }
}

/// Canaries that a process before ran and did not live to take back: those since the window that was
/// kept last, as it wrote down the next port at the end of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    port: u16,
}

impl Left {
    /// Those from `port` on.
    pub(super) const fn new(port: u16) -> Self {
        Self { port }
    }

    /// Whether such a canary is behind an event.
    pub(super) fn is_behind(self, event: &Event<'_>) -> bool {
        let (local, remote) = match event {
            Event::Flow(flow) if flow.tunnel.is_none() => (flow.local, flow.remote),
            Event::Hit(hit) if hit.tunnel.is_none() => (hit.local, hit.remote),
            Event::Notice(notice) if notice.tunnel.is_none() => (notice.local, notice.remote),
            Event::Copy(copy) => return self.is_copied(copy),
            _ => return false,
        };
        self.is_port(local.1) && local.0 == IpAddr::V4(LOCAL) && remote == (IpAddr::V4(LISTED), DNS)
    }

    fn is_port(self, port: u16) -> bool {
        // Of as many windows as may wait for a disk that takes nothing, four each.
        const PORTS: u16 = 256;
        port.wrapping_sub(self.port) < PORTS
    }

    fn is_copied(self, copy: &PacketCopy<'_>) -> bool {
        let port = match copy.way {
            Way::Out => word(copy.data, 20),
            Way::In => word(copy.data, 22),
        };
        self.is_port(port) && copy.data == question(copy.way, port)
    }
}

impl Sent {
    fn is_complete(&self) -> bool {
        self.counted && self.hit && self.copied && self.named
    }

    fn is_flow(&self, local: (IpAddr, u16), remote: (IpAddr, u16)) -> bool {
        local == (IpAddr::V4(LOCAL), self.port) && remote == (IpAddr::V4(LISTED), DNS)
    }
}

/// A DNS question from or to our port, as IPv4 (RFC 791), UDP (RFC 768) and DNS (RFC 1035 4.1) have
/// it. Checksums are zero, as no host receives it; the id is the port, so that no two are alike.
fn question(way: Way, port: u16) -> Vec<u8> {
    let mut dns = Vec::from(port.to_be_bytes());
    // Recursion desired; one question.
    dns.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in LABELS {
        dns.push(u8::try_from(label.len()).unwrap_or(0));
        dns.extend(label);
    }
    // The root, type A, class IN.
    dns.extend([0, 0, 1, 0, 1]);
    let udp_bytes = u16::try_from(8 + dns.len()).unwrap_or(u16::MAX);
    let (from, to) = match way {
        Way::Out => ((LOCAL, port), (LISTED, DNS)),
        Way::In => ((LISTED, DNS), (LOCAL, port)),
    };
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_bytes).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend(udp_bytes.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(dns);
    packet
}

/// Two bytes of a packet in network order.
fn word(packet: &[u8], at: usize) -> u16 {
    packet
        .get(at..at + 2)
        .map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ways: &[Way]) -> Canary {
        let mut canary = Canary::new(40_000);
        for way in ways {
            let packet = canary.packet(*way);
            canary.ran(*way, packet);
        }
        canary
    }

    fn flow(port: u16, packets_out: u64, packets_in: u64) -> FlowDelta {
        let bytes = question(Way::Out, port).len() as u64;
        FlowDelta {
            local: (LOCAL.into(), port),
            remote: (LISTED.into(), DNS),
            protocol: UDP,
            packets_out,
            packets_in,
            bytes_out: bytes * packets_out,
            bytes_in: bytes * packets_in,
            flags_out: 0,
            flags_in: 0,
            opener: None,
            first_ns: 1,
            last_ns: 1,
            ifindex: 1,
            tunnel: None,
            owner: None,
        }
    }

    fn hit(port: u16) -> KernelHit {
        KernelHit {
            ts_ns: 1,
            local: (LOCAL.into(), port),
            remote: (LISTED.into(), DNS),
            protocol: UDP,
            way: Way::Out,
            set_version: 1,
            ifindex: 1,
            tunnel: None,
            owner: None,
        }
    }

    fn copy(data: &[u8], way: Way) -> PacketCopy<'_> {
        PacketCopy {
            ts_ns: 1,
            data,
            wire_bytes: 65,
            way,
            ifindex: 1,
            tunnel: None,
            owner: None,
        }
    }

    fn came(told: &Told) -> (u64, u64, u64, u64) {
        (told.sent, told.counted, told.hit, told.copied)
    }

    #[test]
    fn a_canary_that_comes_back_in_every_way_leaves_no_trace() {
        let mut canary = sent(&[Way::Out, Way::In]);
        let bytes = question(Way::Out, 40_000).len() as u64;
        assert_eq!(canary.strain_flow(flow(40_000, 1, 0)), None);
        assert_eq!(canary.strain_flow(flow(40_001, 0, 1)), None);
        assert!(!canary.strain_hit(&hit(40_000)) && !canary.strain_hit(&hit(40_001)));
        for (way, port) in [(Way::Out, 40_000), (Way::In, 40_001)] {
            assert!(!canary.strain_copy(&copy(&question(way, port), way)));
        }
        assert_eq!(
            canary.strain_count(Reason::Seen, 12, 10 + 2 * bytes),
            (10, 10)
        );
        assert_eq!(canary.strain_count(Reason::HitSent, 3, 0), (1, 0));
        assert_eq!(canary.strain_count(Reason::CopySent, 2, 0), (0, 0));
        assert_eq!(canary.strain_count(Reason::Seen, 5, 7), (5, 7));
        let told = canary.judge(77);
        assert_eq!((came(&told), told.last_ns), ((2, 2, 2, 2), 77));
        assert_eq!(told.failed(), None);
        assert!(canary.sent.is_empty());
    }

    #[test]
    fn a_name_is_waited_for_where_names_are_matched() {
        let notice = |port: u16, recognised| KernelNotice {
            ts_ns: 1,
            local: (LOCAL.into(), port),
            remote: (LISTED.into(), DNS),
            protocol: UDP,
            way: Way::Out,
            set_version: 1,
            ifindex: 1,
            tunnel: None,
            recognised,
            owner: None,
            bytes: b"",
        };
        let mut canary = Canary::new(40_000);
        canary.expect_names(true);
        for way in [Way::Out, Way::In] {
            let packet = canary.packet(way);
            canary.ran(way, packet);
        }
        canary.strain_flow(flow(40_000, 1, 0));
        canary.strain_flow(flow(40_001, 0, 1));
        for (way, port) in [(Way::Out, 40_000), (Way::In, 40_001)] {
            canary.strain_hit(&hit(port));
            canary.strain_copy(&copy(&question(way, port), way));
        }
        let first = canary.judge(1);
        assert_eq!(
            (first.sent, first.named),
            (1, Some(1)),
            "what came in needs none"
        );
        assert!(canary.strain_notice(&notice(40_000, Recognised::Stratum)));
        assert!(canary.strain_notice(&notice(39_999, Recognised::Name)));
        let second = canary.judge(2);
        assert_eq!((second.named, second.failed()), (Some(0), Some("named")));
        assert!(!canary.strain_notice(&notice(40_000, Recognised::Name)));
        assert!(
            canary.strain_notice(&notice(40_000, Recognised::Name)),
            "one is ours"
        );
        assert_eq!(canary.strain_count(Reason::NoticeSent, 2, 0), (1, 0));
        canary.judge(3);
        assert!(canary.sent.is_empty());
    }

    #[test]
    fn one_that_is_late_has_another_window() {
        let mut canary = sent(&[Way::Out]);
        canary.strain_flow(flow(40_000, 1, 0));
        let first = canary.judge(1);
        assert_eq!((came(&first), first.failed()), ((0, 0, 0, 0), None));
        assert!(!canary.strain_hit(&hit(40_000)));
        let second = canary.judge(2);
        assert_eq!(
            (came(&second), second.failed()),
            ((1, 1, 1, 0), Some("copied"))
        );
        assert_eq!(second.last_ns, 0);
        assert!(!canary.strain_copy(&copy(&question(Way::Out, 40_000), Way::Out)));
        assert_eq!(came(&canary.judge(3)), (0, 0, 0, 0), "judged once");
        assert!(canary.sent.is_empty(), "and taken out all the same");
    }

    #[test]
    fn no_more_is_taken_out_than_was_put_in() {
        let mut canary = sent(&[Way::Out]);
        let rest = canary.strain_flow(flow(40_000, 3, 1)).unwrap();
        assert_eq!((rest.packets_out, rest.packets_in), (2, 1));
        assert_eq!(rest.bytes_in, flow(40_000, 2, 1).bytes_in);
        let again = flow(40_000, 1, 0);
        assert_eq!(canary.strain_flow(again), Some(again));
        assert!(!canary.strain_hit(&hit(40_000)) && canary.strain_hit(&hit(40_000)));
        let packet = question(Way::Out, 40_000);
        assert!(canary.strain_copy(&copy(&packet, Way::In)));
        assert!(!canary.strain_copy(&copy(&packet, Way::Out)));
        assert!(canary.strain_copy(&copy(&packet, Way::Out)));
    }

    #[test]
    fn what_is_not_ours_stays() {
        let mut canary = sent(&[Way::Out]);
        let mut strange = flow(40_000, 1, 0);
        strange.bytes_out -= 1;
        for other in [
            flow(39_999, 1, 0),
            flow(40_000, 0, 1),
            FlowDelta {
                protocol: 6,
                ..flow(40_000, 1, 0)
            },
            FlowDelta {
                remote: (LISTED.into(), 54),
                ..flow(40_000, 1, 0)
            },
            strange,
        ] {
            assert_eq!(canary.strain_flow(other), Some(other));
        }
        assert!(canary.strain_hit(&hit(39_999)));
        assert_eq!(canary.strain_count(Reason::Seen, 9, 9), (9, 9));
        assert_eq!(canary.strain_count(Reason::LostNoSlot, 9, 9), (9, 9));
    }

    #[test]
    fn a_counter_that_was_read_before_pays_the_next_time() {
        let mut canary = sent(&[Way::Out]);
        canary.strain_flow(flow(40_000, 1, 0));
        let bytes = question(Way::Out, 40_000).len() as u64;
        assert_eq!(canary.strain_count(Reason::Seen, 0, 0), (0, 0));
        assert_eq!(canary.strain_count(Reason::Seen, 4, bytes + 9), (3, 9));
    }

    #[test]
    fn those_that_never_come_are_bounded() {
        let mut canary = Canary::new(u16::MAX - 3);
        for _ in 0..100 {
            let packet = canary.packet(Way::In);
            canary.ran(Way::In, packet);
            canary.judge(1);
            assert!(canary.sent.len() <= SENT_MAX);
        }
        canary.set_refused(Some("not permitted".into()));
        assert_eq!(canary.judge(1).failed(), Some("refused"));
    }
}
