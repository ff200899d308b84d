//! What of each slot has been reported: turns counters that only grow into exact differences.
//!
//! A flow is told by two paths, the scan of its slot and, if it lost the slot, a record in the
//! ring; the scan may already have met the next occupant when the record is read. The generation
//! keeps them apart: what was reported of an occupancy is subtracted from its record, whenever
//! that comes, so nothing counts twice and nothing is left out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use picket_abi::{Count, EvictedFlow, FlowKey, FlowSlot, opener};
use picket_sense::input::{FlowDelta, Way};

use super::clock::Clock;
use super::mirror::Tunnels;
use super::owners;

/// What has been reported of one occupancy of a slot. Generation 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reported {
    pub(super) generation: u64,
    pub(super) packets_out: u64,
    pub(super) bytes_out: u64,
    pub(super) packets_in: u64,
    pub(super) bytes_in: u64,
    pub(super) flags_out: u8,
    pub(super) flags_in: u8,
    pub(super) opener: u8,
}

/// Slots whose reports are kept together: a page. Most slots of a quiet host are never used, and
/// cost nothing until they are.
const TOGETHER: usize = 4096 / size_of::<Reported>();

/// What has been reported of all slots.
#[derive(Debug)]
pub(super) struct Ledger {
    slots: Vec<Option<Box<[Reported; TOGETHER]>>>,
    count: usize,
    /// Occupancies whose slot already has another occupant and whose record is still in the
    /// ring. At most as many as the ring holds records.
    waiting: HashMap<(usize, u64), Reported>,
    /// When the last scan began: what is new in a known flow came after that.
    scanned_ns: u64,
    tunnels: Tunnels,
    told: Count,
    told_inside: Count,
}

impl Ledger {
    /// A ledger for as many slots.
    pub(super) fn new(slots: usize, tunnels: Tunnels) -> Self {
        Self {
            slots: vec![None; slots.div_ceil(TOGETHER)],
            count: slots,
            waiting: HashMap::new(),
            scanned_ns: 0,
            tunnels,
            told: Count::default(),
            told_inside: Count::default(),
        }
    }

    /// The ledger of a process before: what it reported, each with its place. Of several occupancies
    /// of a slot the first is the one that is still in it.
    pub(super) fn resumed(
        slots: usize,
        tunnels: Tunnels,
        scanned_ns: u64,
        reported: impl Iterator<Item = (usize, Reported)>,
    ) -> Self {
        let mut ledger = Self::new(slots, tunnels);
        ledger.scanned_ns = scanned_ns;
        for (place, reported) in reported {
            match ledger.at(place) {
                Some(at) if at.generation == 0 => *at = reported,
                _ => drop(
                    ledger
                        .waiting
                        .insert((place, reported.generation), reported),
                ),
            }
        }
        ledger
    }

    /// What has been reported, each with its place: of occupancies that are in their slots, then of
    /// those whose records wait.
    pub(super) fn reported(&self) -> impl Iterator<Item = (usize, &Reported)> {
        let pages = self.slots.iter().enumerate();
        let in_slots = pages.flat_map(|(nth, page)| {
            let page = page.as_deref().into_iter().flatten().enumerate();
            page.map(move |(at, one)| (nth * TOGETHER + at, one))
        });
        let in_use = in_slots.filter(|(_, one)| one.generation != 0);
        let waiting = self.waiting.iter().map(|((place, _), one)| (*place, one));
        in_use.chain(waiting)
    }

    /// What was told since the beginning: of flows, and of flows inside tunnels.
    pub(super) const fn told(&self) -> (Count, Count) {
        (self.told, self.told_inside)
    }

    fn note(&mut self, delta: Option<&FlowDelta>) {
        if let Some(delta) = delta {
            let sum = match delta.tunnel {
                None => &mut self.told,
                Some(_) => &mut self.told_inside,
            };
            sum.add(
                delta.packets_out + delta.packets_in,
                delta.bytes_out + delta.bytes_in,
            );
        }
    }

    /// Start of the last scan, nanoseconds of the monotonic clock.
    pub(super) const fn scanned_ns(&self) -> u64 {
        self.scanned_ns
    }

    /// What has been reported of the occupancy of a slot that was met last.
    fn at(&mut self, place: usize) -> Option<&mut Reported> {
        if place >= self.count {
            return None;
        }
        let page = self.slots.get_mut(place / TOGETHER)?;
        let page = page.get_or_insert_with(|| Box::new([Reported::default(); TOGETHER]));
        page.get_mut(place % TOGETHER)
    }

    /// What is new in a slot that was read whole.
    pub(super) fn observe(
        &mut self,
        place: usize,
        slot: &FlowSlot,
        clock: Clock,
    ) -> Option<FlowDelta> {
        let mut reported = *self.at(place)?;
        if reported.generation != slot.generation {
            if reported.generation != 0 {
                self.waiting.insert((place, reported.generation), reported);
            }
            reported = Reported {
                generation: slot.generation,
                ..Reported::default()
            };
        }
        let delta = difference(slot, &reported, self.scanned_ns, clock, &self.tunnels);
        if delta.is_some() {
            reported = Reported::of(slot);
        }
        *self.at(place)? = reported;
        self.note(delta.as_ref());
        delta
    }

    /// What is new in the final counters of a flow that left its slot.
    pub(super) fn evicted(&mut self, record: &EvictedFlow, clock: Clock) -> Option<FlowDelta> {
        let place = record.slot as usize;
        let generation = record.flow.generation;
        let page = self.slots.get_mut(place / TOGETHER);
        let known = page.and_then(|page| page.as_mut()?.get_mut(place % TOGETHER));
        let reported = match known {
            Some(reported) if reported.generation == generation => std::mem::take(reported),
            _ => self
                .waiting
                .remove(&(place, generation))
                .unwrap_or_default(),
        };
        let (flow, scanned_ns) = (&record.flow, self.scanned_ns);
        let delta = difference(flow, &reported, scanned_ns, clock, &self.tunnels);
        self.note(delta.as_ref());
        delta
    }

    /// Notes that a scan is over that began at `started_ns`.
    pub(super) fn scanned(&mut self, started_ns: u64) {
        self.scanned_ns = started_ns;
    }
}

impl Reported {
    const fn of(slot: &FlowSlot) -> Self {
        Self {
            generation: slot.generation,
            packets_out: slot.packets_out,
            bytes_out: slot.bytes_out,
            packets_in: slot.packets_in,
            bytes_in: slot.bytes_in,
            flags_out: slot.flags_out,
            flags_in: slot.flags_in,
            opener: slot.opener,
        }
    }
}

/// Counters less what has been reported of them; `None` when there is nothing new.
fn difference(
    slot: &FlowSlot,
    reported: &Reported,
    scanned_ns: u64,
    clock: Clock,
    tunnels: &Tunnels,
) -> Option<FlowDelta> {
    let packets_out = slot.packets_out.wrapping_sub(reported.packets_out);
    let packets_in = slot.packets_in.wrapping_sub(reported.packets_in);
    let bytes_out = slot.bytes_out.wrapping_sub(reported.bytes_out);
    let bytes_in = slot.bytes_in.wrapping_sub(reported.bytes_in);
    if packets_out == 0 && packets_in == 0 && bytes_out == 0 && bytes_in == 0 {
        return None;
    }
    // The slot tells the first packet of the flow, not of what is new; that came after the scan
    // which reported the rest.
    let first_ns = if reported.packets_out + reported.packets_in == 0 {
        slot.first_ns
    } else {
        slot.first_ns.max(scanned_ns).min(slot.last_ns)
    };
    let newly_opened = reported.opener == opener::UNKNOWN;
    Some(FlowDelta {
        local: (address(slot.key.local), slot.key.local_port()),
        remote: (address(slot.key.remote), slot.key.remote_port()),
        protocol: slot.key.protocol(),
        packets_out,
        packets_in,
        bytes_out,
        bytes_in,
        flags_out: slot.flags_out & !reported.flags_out,
        flags_in: slot.flags_in & !reported.flags_in,
        opener: match slot.opener {
            opener::OUT if newly_opened => Some(Way::Out),
            opener::IN if newly_opened => Some(Way::In),
            _ => None,
        },
        first_ns: clock.epoch_ns(first_ns),
        last_ns: clock.epoch_ns(slot.last_ns.max(first_ns)),
        ifindex: slot.ifindex,
        tunnel: tunnels.of(slot.key.mark()),
        owner: owners::owner(slot.owner, clock.boot()),
    })
}

/// An address of a key, IPv4 unfolded.
pub(super) fn address(words: [u64; 2]) -> IpAddr {
    match FlowKey::ipv4(words) {
        Some(address) => IpAddr::V4(Ipv4Addr::from_bits(address)),
        None => IpAddr::V6(Ipv6Addr::from(FlowKey::octets(words))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(generation: u64, packets_out: u64) -> FlowSlot {
        FlowSlot {
            generation,
            packets_out,
            bytes_out: packets_out * 100,
            first_ns: 10,
            last_ns: 20,
            flags_out: 0x02,
            opener: opener::OUT,
            ..FlowSlot::default()
        }
    }

    fn record(slot: FlowSlot) -> EvictedFlow {
        EvictedFlow {
            flow: slot,
            slot: 0,
            reserved: 0,
        }
    }

    fn packets(delta: Option<FlowDelta>) -> u64 {
        delta.map_or(0, |delta| delta.packets_out)
    }

    #[test]
    fn only_what_is_new_is_told() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        let first = ledger.observe(0, &slot(2, 3), clock).unwrap();
        assert_eq!((first.packets_out, first.bytes_out), (3, 300));
        assert_eq!((first.flags_out, first.opener), (0x02, Some(Way::Out)));
        assert_eq!(ledger.observe(0, &slot(2, 3), clock), None);
        let next = FlowSlot {
            flags_out: 0x12,
            ..slot(2, 5)
        };
        let second = ledger.observe(0, &next, clock).unwrap();
        assert_eq!((second.packets_out, second.bytes_out), (2, 200));
        assert_eq!((second.flags_out, second.opener), (0x10, None));
    }

    #[test]
    fn a_record_read_before_the_next_scan_tells_the_rest() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        assert_eq!(packets(ledger.observe(0, &slot(2, 3), clock)), 3);
        assert_eq!(packets(ledger.evicted(&record(slot(2, 5)), clock)), 2);
        assert_eq!(packets(ledger.observe(0, &slot(4, 1), clock)), 1);
        assert!(ledger.waiting.is_empty());
    }

    #[test]
    fn a_record_read_after_the_next_occupant_was_met_tells_the_rest() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        assert_eq!(packets(ledger.observe(0, &slot(2, 3), clock)), 3);
        assert_eq!(packets(ledger.observe(0, &slot(8, 1), clock)), 1);
        // Generations 4 and 6 came and went between the scans.
        assert_eq!(packets(ledger.evicted(&record(slot(2, 5)), clock)), 2);
        assert_eq!(packets(ledger.evicted(&record(slot(4, 7)), clock)), 7);
        assert_eq!(packets(ledger.evicted(&record(slot(6, 9)), clock)), 9);
        assert_eq!(packets(ledger.observe(0, &slot(8, 4), clock)), 3);
        assert!(ledger.waiting.is_empty());
    }

    #[test]
    fn a_record_with_nothing_new_tells_nothing() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        assert_eq!(packets(ledger.observe(0, &slot(2, 3), clock)), 3);
        assert_eq!(ledger.evicted(&record(slot(2, 3)), clock), None);
    }

    #[test]
    fn a_flow_never_scanned_is_told_by_its_record_alone() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        assert_eq!(packets(ledger.evicted(&record(slot(2, 3)), clock)), 3);
        assert_eq!(packets(ledger.evicted(&record(slot(4, 1)), clock)), 1);
    }

    #[test]
    fn what_is_new_in_a_known_flow_came_after_the_last_scan() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        let at = |first_ns, last_ns, packets| FlowSlot {
            first_ns,
            last_ns,
            ..slot(2, packets)
        };
        ledger.observe(0, &at(10, 20, 1), clock);
        ledger.scanned(25);
        let delta = ledger.observe(0, &at(10, 40, 2), clock).unwrap();
        assert_eq!(delta.first_ns, clock.epoch_ns(25));
        assert_eq!(delta.last_ns, clock.epoch_ns(40));
    }

    #[test]
    fn a_place_beyond_the_table_is_survived() {
        let (mut ledger, clock) = (Ledger::new(1, Tunnels::default()), Clock::measure());
        assert_eq!(ledger.observe(7, &slot(2, 3), clock), None);
        let far = EvictedFlow {
            slot: 7,
            ..record(slot(2, 3))
        };
        assert_eq!(packets(ledger.evicted(&far, clock)), 3);
    }
}
