//! One packet, from socket buffer to counters.

mod block;
mod copy;
mod counters;
mod flows;
mod frame;
pub mod loopback;
mod maps;
mod matches;
mod mirror;
mod names;
pub mod owner;
mod stages;
mod stratum;
mod verifier;

use aya_ebpf::bindings::{__sk_buff, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use picket_abi::{Owner, Reason, Way};

use crate::parse::{self, Link, Packet};
use counters::Counters;
pub use mirror::observe as look_inside;

/// What every program returns: let the packet go on to the next one (`TCX_NEXT`, which is also
/// `TC_ACT_UNSPEC`).
const NEXT: i32 = -1;

/// Unless it is refused (`TCX_DROP`, which is also `TC_ACT_SHOT`).
const DROP: i32 = 2;

/// Where and when a packet passed: what every record of it carries.
struct Passage {
    skb: *mut __sk_buff,
    cpu: u32,
    way: Way,
    ifindex: u32,
    /// Mark of the tunnel it is in, 0 for none.
    mark: u32,
}

impl Passage {
    #[inline(always)]
    fn here(skb: *mut __sk_buff, way: Way) -> Self {
        Self {
            skb,
            // SAFETY: this helper has no precondition. Programs at tc run with bottom halves off,
            // so neither the CPU nor the owner of its slots changes under us.
            cpu: unsafe { bpf_get_smp_processor_id() },
            way,
            // SAFETY: the kernel gives programs a valid context; the verifier checks the offset.
            ifindex: unsafe { (*skb).ifindex },
            mark: 0,
        }
    }
}

/// How a record is submitted that wakes the agent now, or that waits for its next look.
#[inline(always)]
const fn wake_flag(wakes: bool) -> u64 {
    if wakes {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    }
}

/// Counts one packet. Lets it pass unless an order to block refuses it.
#[inline(always)]
pub fn observe(skb: *mut __sk_buff, way: Way, link: Link) -> i32 {
    let passage = Passage::here(skb, way);
    let Some(mut counters) = Counters::of(passage.cpu) else {
        return NEXT;
    };
    let segments = frame::segments(skb);
    match frame::parse(skb, link, counters.detour()) {
        Ok(packet) => {
            let bytes = packet.wire_bytes(segments);
            counters.add(Reason::Seen, segments, bytes);
            flow(&passage, &mut counters, &packet, segments, bytes)
        }
        Err(parse::NotFlow { reason, bytes }) => {
            counters.add(Reason::Seen, segments, u64::from(bytes));
            counters.add_any(reason, segments, u64::from(bytes));
            NEXT
        }
    }
}

/// Whether an IPv4 address is listed, for the benches.
#[cfg(feature = "bench")]
#[inline(always)]
pub fn is_listed(address: u32) -> bool {
    matches::is_listed(address)
}

/// The names stage; see [`stages`].
#[inline(always)]
pub fn look_for_names(skb: *mut __sk_buff) -> i32 {
    names::run(skb)
}

/// The Stratum stage; see [`stages`].
#[inline(always)]
pub fn look_for_stratum(skb: *mut __sk_buff) -> i32 {
    stratum::run(skb)
}

/// Counts a packet in its flow, matches the flow's addresses, copies what is worth decoding, and
/// says what becomes of it.
#[inline(always)]
fn flow(
    passage: &Passage,
    counters: &mut Counters,
    packet: &Packet,
    segments: u32,
    bytes: u64,
) -> i32 {
    let key = packet.key(passage.way);
    let is_dns = copy::is_dns(packet);
    let Some(held) = flows::slot_of(passage, counters, &key) else {
        counters.add(Reason::LostNoSlot, segments, bytes);
        return NEXT;
    };
    let slot = held.slot;
    if held.is_spare {
        // Not counted in a flow, but a listed address is still told and an order still obeyed.
        counters.add(Reason::LostRingFull, segments, bytes);
    }
    flows::count(slot, passage.way, segments, bytes, packet);
    let refused = block::refuses(passage, counters, slot, segments, bytes);
    let refused = counters.detour().forget(u64::from(refused));
    owner::note(passage, counters, slot, packet.opens || is_dns);
    matches::judge(passage, counters, slot);
    let first_payload = !held.is_spare && copy::is_first_payload(slot, passage.way, packet);
    let mut owner = Owner::default();
    if first_payload || is_dns {
        owner = slot.owner;
    }
    // What was found out so far, of which the verifier need not know: it would follow each
    // combination to the end.
    let found = refused & 1 | u64::from(first_payload || is_dns) << 1;
    let found = counters.detour().forget(found);
    let refused = found & 1 != 0;
    if found & 2 != 0 {
        // SAFETY: no precondition.
        let ktime_ns = unsafe { bpf_ktime_get_ns() };
        // What is dropped is copied and no more: a stage would let it pass.
        if !refused {
            stages::hand_on(passage, packet, &key, ktime_ns, owner);
        }
        copy::send(
            passage,
            counters,
            (packet.ip_at, packet.ip_bytes),
            ktime_ns,
            owner,
        );
    }
    if refused { DROP } else { NEXT }
}
