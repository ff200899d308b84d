//! Inside the tunnels of mirrored traffic: the second program on the interface of a mirror's target.
//!
//! The first has counted the outer packet. This one opens its tunnel and counts what is inside in a
//! slot of its own, marked; its addresses are matched and it is copied like any other (names and
//! miners are looked for by the sensor, in the copies). Its packets have their own
//! counters, `Inner…`, and take no part in the equation of the wire.
//!
//! A mirror shows other hosts, to which "out" and "in" mean nothing: the end with the lesser address
//! and port stands as the local one, so both directions meet in one slot, and a packet goes out when
//! it comes from that end. Headers are read by helper alone: network cards put what is behind the
//! first headers into fragments, and reading so keeps the program small.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use picket_abi::tunnel::{PROBES, TUNNELS as ENTRIES, entry, place};
use picket_abi::{FlowKey, Owner, Reason, Way};

use super::counters::Counters;
use super::frame::{self, Whole};
use super::maps::{TUNNELS, TUNNELS_OPEN};
use super::{NEXT, Passage, copy, flows, matches};
use crate::parse::{self, Frame, Link, NotFlow, Packet};
use crate::tunnel;

/// Farthest that a frame may begin inside another: behind the longest outer header that is followed.
/// A power of two, less one.
const INNER_AT_MASK: i32 = 0x3fff;

/// Counts what is inside a packet. Always lets it pass.
#[inline(always)]
pub fn observe(skb: *mut __sk_buff) -> i32 {
    // SAFETY: this helper has no precondition; programs at tc run with bottom halves off.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(mut counters) = Counters::of(cpu) else {
        return NEXT;
    };
    let detour = counters.detour();
    let whole = Whole::of(skb, detour);
    let Ok(outer) = parse::packet(&whole, Link::Ethernet) else {
        return NEXT;
    };
    let outer = frame::forget(outer, detour);
    let Some(carried) = tunnel::carried(&whole, &outer) else {
        return NEXT;
    };
    let at = whole.forget::<INNER_AT_MASK>(carried.at);
    let segments = frame::segments(skb);
    let mark = match mark(entry(carried.kind, carried.id)) {
        Mark::Known(mark) => mark,
        Mark::NotWanted => return NEXT,
        Mark::NoRoom => {
            let bytes = u64::from(whole.bytes().saturating_sub(at));
            counters.add(Reason::InnerSeen, segments, bytes);
            counters.add(Reason::InnerLost, segments, bytes);
            return NEXT;
        }
    };
    match parse::packet_at(&whole, carried.link, at) {
        Ok(packet) => {
            let packet = frame::forget(packet, detour);
            let ip_bytes = tunnel::stated_bytes(&whole, &packet);
            let packet = Packet { ip_bytes, ..packet };
            let passage = Passage {
                skb,
                cpu,
                way: way(&packet),
                // SAFETY: the kernel gives programs a valid context.
                ifindex: unsafe { (*skb).ifindex },
                mark,
            };
            flow(&passage, &mut counters, &packet, segments);
        }
        Err(NotFlow { reason, bytes }) => {
            let class = match reason {
                Reason::LostLinkHeader
                | Reason::LostIpHeader
                | Reason::LostTransportHeader
                | Reason::LostHeaderChain => Reason::InnerLost,
                _ => Reason::InnerNotFlow,
            };
            counters.add(Reason::InnerSeen, segments, u64::from(bytes));
            counters.add_any(class, segments, u64::from(bytes));
        }
    }
    NEXT
}

/// As [`super::flow`], for a packet inside a tunnel.
#[inline(always)]
fn flow(passage: &Passage, counters: &mut Counters, packet: &Packet, segments: u32) {
    let bytes = packet.wire_bytes(segments);
    counters.add(Reason::InnerSeen, segments, bytes);
    let key: FlowKey = packet.key(passage.way).inside(passage.mark);
    let Some(held) = flows::slot_of(passage, counters, &key) else {
        counters.add(Reason::InnerLost, segments, bytes);
        return;
    };
    let slot = held.slot;
    if held.is_spare {
        counters.add(Reason::InnerLost, segments, bytes);
    }
    flows::count(slot, passage.way, segments, bytes, packet);
    matches::judge(passage, counters, slot);
    let first_payload = !held.is_spare && copy::is_first_payload(slot, passage.way, packet);
    if first_payload || copy::is_dns(packet) {
        // SAFETY: no precondition.
        let ktime_ns = unsafe { bpf_ktime_get_ns() };
        let ip = (packet.ip_at, packet.ip_bytes);
        // No socket of this host's has to do with it.
        copy::send(passage, counters, ip, ktime_ns, Owner::default());
    }
}

/// Which way a packet goes that neither leaves nor enters this host.
#[inline(always)]
fn way(packet: &Packet) -> Way {
    let (from, to) = (packet.source, packet.destination);
    let less = if from[0] != to[0] {
        from[0] < to[0]
    } else if from[1] != to[1] {
        from[1] < to[1]
    } else {
        packet.source_port <= packet.destination_port
    };
    if less { Way::Out } else { Way::In }
}

enum Mark {
    Known(u32),
    NotWanted,
    NoRoom,
}

/// The mark of a tunnel: its place in the table, found or taken.
#[inline(always)]
fn mark(entry: u64) -> Mark {
    let open = TUNNELS_OPEN.load() != 0;
    let first = place(entry);
    let mut probe = 0;
    while probe < PROBES {
        let at = (first + probe) & (ENTRIES - 1);
        let Some(known) = TUNNELS.get_ptr_mut(at) else {
            return Mark::NoRoom;
        };
        // SAFETY: a live, aligned word of the array; whoever else writes it does so atomically.
        let mut there = unsafe { known.read_volatile() };
        if there == 0 {
            if !open {
                return Mark::NotWanted;
            }
            // SAFETY: as above.
            let (before, taken) = unsafe {
                atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                    known, 0, entry,
                )
            };
            there = if taken { entry } else { before };
        }
        if there == entry {
            return Mark::Known(at + 1);
        }
        probe += 1;
    }
    if open { Mark::NoRoom } else { Mark::NotWanted }
}
