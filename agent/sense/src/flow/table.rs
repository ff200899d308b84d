//! The bounded table of flows.

use std::hash::BuildHasher;
use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::key::{FlowKey, Side};
use crate::decode::{Endpoint, Opening, Packet, Protocol, tcp_flag};
use crate::input::{FlowDelta, Way};

/// How we know who opened a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Its SYN, echo request or DNS query was seen.
    Opened,
    /// From an answer, or because the lower port is the server's.
    Guessed,
    /// Nothing tells; the opener named is who was seen first.
    Unknown,
}

impl Direction {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Guessed => "guessed",
            Self::Unknown => "unknown",
        }
    }
}

/// What one side sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// IP total length of them.
    pub bytes: u64,
    /// TCP flags, OR-ed.
    pub tcp_flags: u8,
}

/// Whose socket a flow's is, by a number that the summariser gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerRef(pub(crate) NonZeroU32);

/// One flow and what was counted of it.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Its endpoints, protocol and tunnel.
    pub key: FlowKey,
    /// The side that opened it, as far as `direction` knows.
    pub opener: Side,
    /// How the opener is known.
    pub direction: Direction,
    /// Whose socket it is on this host, where known.
    pub owner: Option<OwnerRef>,
    /// Packet time of the first packet counted, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Packet time of the last packet counted.
    pub last_ns: u64,
    // By side. Not two `Count`s, which would take 16 bytes more.
    packets: [u64; 2],
    bytes: [u64; 2],
    tcp_flags: [u8; 2],
    flags_before: [u8; 2],
    /// Whether a packet of it has been matched since the indicators changed, and whether its last
    /// packet was the first of these.
    matched: bool,
    newly_matched: bool,
    /// Whether it was handed out before, and whether it had packets again afterwards.
    told: bool,
    lasts: bool,
}

impl Flow {
    /// What a side sent.
    #[must_use]
    pub const fn sent(&self, side: Side) -> Count {
        let at = side.index();
        Count {
            packets: self.packets[at],
            bytes: self.bytes[at],
            tcp_flags: self.tcp_flags[at],
        }
    }

    /// What the opener sent.
    #[must_use]
    pub const fn out(&self) -> Count {
        self.sent(self.opener)
    }

    /// What the opener received.
    #[must_use]
    pub const fn back(&self) -> Count {
        self.sent(self.opener.other())
    }

    /// TCP flags of a side in the windows before this one, OR-ed.
    #[must_use]
    pub const fn flags_before(&self, side: Side) -> u8 {
        self.flags_before[side.index()]
    }

    fn new(key: FlowKey, seen_first: Side, ts_ns: u64) -> Self {
        let (low, high) = (key.end(Side::Low).port, key.end(Side::High).port);
        let (opener, direction) = if !key.protocol().has_ports() || low == high {
            (seen_first, Direction::Unknown)
        } else if low < high {
            (Side::High, Direction::Guessed)
        } else {
            (Side::Low, Direction::Guessed)
        };
        Self {
            key,
            opener,
            direction,
            owner: None,
            first_ns: ts_ns,
            last_ns: ts_ns,
            packets: [0; 2],
            bytes: [0; 2],
            tcp_flags: [0; 2],
            flags_before: [0; 2],
            matched: false,
            newly_matched: false,
            told: false,
            lasts: false,
        }
    }

    /// Whether it had packets in more than one window: what a flood of new flows is not.
    #[must_use]
    pub const fn lasts(&self) -> bool {
        self.lasts
    }

    /// Whether it was not handed out before.
    #[must_use]
    pub(crate) const fn is_new(&self) -> bool {
        !self.told
    }

    /// Whether it is over: both sides of a TCP connection have closed it, or one has reset it.
    #[must_use]
    pub const fn ended(&self) -> bool {
        let low = self.tcp_flags[0] | self.flags_before[0];
        let high = self.tcp_flags[1] | self.flags_before[1];
        low & high & tcp_flag::FIN != 0 || (low | high) & tcp_flag::RST != 0
    }

    /// Whether the packet recorded last is the one to match: the first, or the first since
    /// [`FlowTable::unmatch_all`].
    #[must_use]
    pub const fn newly_matched(&self) -> bool {
        self.newly_matched
    }

    fn learn(&mut self, sender: Side, opening: Opening) {
        match opening {
            Opening::BySource if self.direction != Direction::Opened => {
                self.opener = sender;
                self.direction = Direction::Opened;
            }
            // An answer without its question: whoever gets it asked.
            Opening::ByDestination if self.direction != Direction::Opened => {
                self.opener = sender.other();
                self.direction = Direction::Guessed;
            }
            _ => {}
        }
    }

    fn touch(&mut self, first_ns: u64, last_ns: u64) {
        if self.packets == [0; 2] {
            (self.first_ns, self.last_ns) = (first_ns, last_ns);
        }
        self.first_ns = self.first_ns.min(first_ns);
        self.last_ns = self.last_ns.max(last_ns);
    }
}

/// The table has no room for another flow; the packet was counted as turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("flow table is full")]
pub struct TableFull;

/// Flows by their key, in the order in which they came, at most a given number of them.
#[derive(Debug)]
pub struct FlowTable {
    flows: Vec<Flow>,
    /// Places in `flows`, by hash of the key.
    index: HashTable<u32>,
    hasher: RandomState,
    flows_max: usize,
    turned_away: u64,
}

impl FlowTable {
    /// Makes a table for at most `flows_max` flows; it takes memory as they come.
    #[must_use]
    pub fn new(flows_max: usize) -> Self {
        Self {
            flows: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            flows_max: flows_max.min(u32::MAX as usize),
            turned_away: 0,
        }
    }

    /// Counts a packet.
    ///
    /// # Errors
    ///
    /// The table is full and the packet's flow is not in it.
    pub fn record(&mut self, packet: &Packet<'_>) -> Result<&Flow, TableFull> {
        self.record_as(packet, 1, u64::from(packet.ip_bytes))
    }

    /// Counts a packet that is `packets` packets of `ip_bytes` bytes in all on the wire.
    ///
    /// # Errors
    ///
    /// The table is full and the packet's flow is not in it.
    pub fn record_as(
        &mut self,
        packet: &Packet<'_>,
        packets: u64,
        ip_bytes: u64,
    ) -> Result<&Flow, TableFull> {
        let (key, sender) = FlowKey::of(packet);
        let flow = self.entry(key, sender, packet.ts_ns)?;
        flow.touch(packet.ts_ns, packet.ts_ns);
        let at = sender.index();
        flow.packets[at] += packets;
        flow.bytes[at] += ip_bytes;
        flow.newly_matched = !flow.matched;
        flow.matched = true;
        flow.tcp_flags[at] |= packet.tcp.map_or(0, |tcp| tcp.flags);
        if let Some(opening) = packet.opening() {
            flow.learn(sender, opening);
        }
        Ok(flow)
    }

    /// Adds what the kernel counted of a flow. An owner that is known replaces the one before.
    ///
    /// # Errors
    ///
    /// The table is full and the flow is not in it.
    pub fn add_delta(
        &mut self,
        delta: &FlowDelta,
        owner: Option<OwnerRef>,
    ) -> Result<&Flow, TableFull> {
        let local = Endpoint::new(delta.local.0, delta.local.1);
        let remote = Endpoint::new(delta.remote.0, delta.remote.1);
        let (key, local) = FlowKey::new(local, remote, Protocol(delta.protocol), delta.tunnel);
        let seen_first = if delta.packets_out > 0 {
            local
        } else {
            local.other()
        };
        let flow = self.entry(key, seen_first, delta.first_ns)?;
        flow.touch(delta.first_ns, delta.last_ns);
        flow.owner = owner.or(flow.owner);
        for (side, packets, bytes, flags) in [
            (local, delta.packets_out, delta.bytes_out, delta.flags_out),
            (
                local.other(),
                delta.packets_in,
                delta.bytes_in,
                delta.flags_in,
            ),
        ] {
            let at = side.index();
            flow.packets[at] += packets;
            flow.bytes[at] += bytes;
            flow.tcp_flags[at] |= flags;
        }
        match delta.opener {
            Some(Way::Out) => flow.learn(local, Opening::BySource),
            Some(Way::In) => flow.learn(local.other(), Opening::BySource),
            None => {}
        }
        Ok(flow)
    }

    /// Has the next packet of each flow matched again.
    pub fn unmatch_all(&mut self) {
        for flow in &mut self.flows {
            flow.matched = false;
        }
    }

    fn entry(&mut self, key: FlowKey, sender: Side, ts_ns: u64) -> Result<&mut Flow, TableFull> {
        let hash = self.hasher.hash_one(key);
        let flows = &self.flows;
        let at = match self.index.find(hash, |&at| flows[at as usize].key == key) {
            Some(&at) => at as usize,
            None => {
                if self.flows.len() >= self.flows_max {
                    self.turned_away += 1;
                    return Err(TableFull);
                }
                let at = self.flows.len();
                self.flows.push(Flow::new(key, sender, ts_ns));
                let (flows, hasher) = (&self.flows, &self.hasher);
                self.index.insert_unique(hash, at as u32, |&at| {
                    hasher.hash_one(flows[at as usize].key)
                });
                at
            }
        };
        Ok(&mut self.flows[at])
    }

    /// The flow of a key.
    #[must_use]
    pub fn find(&self, key: &FlowKey) -> Option<&Flow> {
        let hash = self.hasher.hash_one(key);
        let at = self
            .index
            .find(hash, |&at| self.flows[at as usize].key == *key)?;
        self.flows.get(*at as usize)
    }

    /// Hands out each flow that had packets since the last window, starts its counters anew, and
    /// forgets flows that do not stay. Who opened a flow is kept as long as the flow is.
    pub fn close_window(&mut self, stays: impl Fn(&Flow) -> bool, mut each: impl FnMut(&Flow)) {
        for flow in &mut self.flows {
            if flow.packets != [0; 2] {
                each(flow);
                for (before, flags) in flow.flags_before.iter_mut().zip(flow.tcp_flags) {
                    *before |= flags;
                }
                (flow.packets, flow.bytes, flow.tcp_flags) = ([0; 2], [0; 2], [0; 2]);
                flow.lasts = std::mem::replace(&mut flow.told, true);
            }
        }
        self.flows.retain(stays);
        // What a flood took is given back.
        let room = self.flows.len().saturating_mul(2);
        self.flows.shrink_to(room);
        self.index.clear();
        let (flows, hasher) = (&self.flows, &self.hasher);
        let rehash = |&at: &u32| hasher.hash_one(flows[at as usize].key);
        self.index.shrink_to(room, rehash);
        for (at, flow) in flows.iter().enumerate() {
            self.index
                .insert_unique(hasher.hash_one(flow.key), at as u32, rehash);
        }
    }

    /// Every flow, in the order in which they were first seen.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter()
    }

    /// Every flow, in the order in which they were first seen; the table is gone.
    #[must_use]
    pub fn into_flows(self) -> Vec<Flow> {
        self.flows
    }

    /// Flows in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Packets (or deltas) not counted because the table was full.
    #[must_use]
    pub const fn turned_away(&self) -> u64 {
        self.turned_away
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::decode::Tcp;
    use crate::input::Way;

    fn end(host: u8, port: u16) -> Endpoint {
        Endpoint::new(IpAddr::from([10, 0, 0, host]), port)
    }

    fn packet(src: Endpoint, dst: Endpoint, flags: u8) -> Packet<'static> {
        Packet {
            ts_ns: 5,
            src,
            dst,
            protocol: Protocol::TCP,
            ip_bytes: 40,
            wire_bytes: 54,
            tcp: Some(Tcp {
                flags,
                sequence: 0,
                acknowledges: 0,
            }),
            icmp_type: None,
            payload: &[],
            payload_bytes: 0,
            first_fragment: false,
            tunnel: None,
        }
    }

    /// Who opened the flow of these packets, by port, and how we know.
    #[track_caller]
    fn check_opener(packets: &[Packet<'_>], expected: (u16, Direction)) {
        let mut table = FlowTable::new(9);
        for packet in packets {
            table.record(packet).unwrap();
        }
        assert_eq!(table.len(), 1);
        let flow = table.iter().next().unwrap();
        assert_eq!((flow.key.end(flow.opener).port, flow.direction), expected);
        assert_eq!(
            flow.out().packets + flow.back().packets,
            packets.len() as u64
        );
    }

    #[test]
    fn who_opened_a_flow() {
        let (high, low) = (end(1, 40_000), end(2, 443));
        let syn = packet(low, high, 0x02);
        let answer = packet(high, low, 0x12);
        let data = packet(low, high, 0x18);
        check_opener(&[data], (40_000, Direction::Guessed));
        check_opener(
            &[data, packet(high, low, 0x10)],
            (40_000, Direction::Guessed),
        );
        check_opener(&[syn, answer, data], (443, Direction::Opened));
        check_opener(&[data, syn], (443, Direction::Opened));
        check_opener(&[answer], (443, Direction::Guessed));
        check_opener(
            &[packet(end(1, 7), end(2, 7), 0x10)],
            (7, Direction::Unknown),
        );
        let udp = |src: Endpoint, dst: Endpoint, payload| Packet {
            protocol: Protocol::UDP,
            tcp: None,
            payload,
            ..packet(src, dst, 0)
        };
        let (client, server) = (end(1, 20), end(2, 53));
        check_opener(&[udp(client, server, &[0; 12])], (20, Direction::Opened));
        check_opener(
            &[udp(server, client, &[0x80; 12])],
            (20, Direction::Guessed),
        );
        check_opener(&[udp(client, server, &[0; 3])], (53, Direction::Guessed));
    }

    #[test]
    fn a_full_table_counts_what_it_turns_away() {
        let mut table = FlowTable::new(2);
        for host in 1..=5 {
            let _ = table.record(&packet(end(host, 1), end(9, 2), 0x10));
        }
        assert!(
            table.record(&packet(end(9, 2), end(1, 1), 0x10)).is_ok(),
            "known flows go on"
        );
        assert_eq!((table.len(), table.turned_away()), (2, 3));
    }

    #[test]
    fn a_window_hands_out_deltas_and_keeps_the_opener() {
        let mut table = FlowTable::new(9);
        table.record(&packet(end(1, 1), end(2, 2), 0x02)).unwrap();
        let mut seen = Vec::new();
        table.close_window(|_| true, |flow| seen.push(flow.out().packets));
        table.close_window(|_| true, |flow| seen.push(flow.out().packets));
        assert_eq!(seen, [1], "an idle flow is not handed out");
        assert!(!table.iter().next().unwrap().lasts());
        let flow = *table.record(&packet(end(2, 2), end(1, 1), 0x10)).unwrap();
        assert_eq!(flow.direction, Direction::Opened);
        assert_eq!((flow.out().packets, flow.back().packets), (0, 1));
        table.close_window(Flow::lasts, |_| {});
        assert_eq!(table.len(), 1, "it had packets in two windows");
        table.close_window(|flow| flow.last_ns >= 6, |_| {});
        assert!(table.is_empty(), "its last packet was before what is kept");
    }

    /// Whether a flow is over after these flags of each side, each in a window of its own.
    #[track_caller]
    fn check_ended(flags: &[(u8, u8)], expected: bool) {
        let mut table = FlowTable::new(9);
        for (there, back) in flags {
            for packet in [
                packet(end(1, 1), end(2, 2), *there),
                packet(end(2, 2), end(1, 1), *back),
            ] {
                table.record(&packet).unwrap();
            }
            assert_eq!(table.iter().next().unwrap().ended(), expected);
            table.close_window(|_| true, |_| {});
        }
        assert_eq!(table.iter().next().unwrap().ended(), expected);
    }

    #[test]
    fn a_flow_ends_when_both_sides_say_so_or_one_resets() {
        check_ended(&[(0x02, 0x12), (0x10, 0x10)], false);
        check_ended(&[(0x11, 0x10), (0x10, 0x10)], false);
        check_ended(&[(0x11, 0x11)], true);
        check_ended(&[(0x02, 0x14), (0x10, 0x10)], true);
    }

    #[test]
    fn a_delta_adds_both_sides() {
        let mut table = FlowTable::new(9);
        let delta = FlowDelta {
            local: (IpAddr::from([10, 0, 0, 1]), 80),
            remote: (IpAddr::from([10, 0, 0, 2]), 443),
            protocol: 6,
            packets_out: 2,
            packets_in: 1,
            bytes_out: 80,
            bytes_in: 40,
            flags_out: 0x12,
            flags_in: 0x14,
            first_ns: 7,
            last_ns: 9,
            ifindex: 1,
            tunnel: None,
            owner: None,
            opener: Some(Way::Out),
        };
        let flow = table.add_delta(&delta, None).unwrap();
        assert_eq!(
            (flow.direction, flow.key.end(flow.opener).port),
            (Direction::Opened, 80)
        );
        assert_eq!(
            (flow.out().packets, flow.out().bytes, flow.back().bytes),
            (2, 80, 40)
        );
        assert_eq!((flow.first_ns, flow.last_ns), (7, 9));
    }
}
