//! The flow table: per-CPU sets of two slots in an array the agent has mapped.
//!
//! Interface: [`slot_of`] gives the slot of a key, making room where it must; [`count`] adds a
//! packet to it. A flow that loses its slot goes into the ring with its final counters. When the
//! ring has no room nobody is evicted and the new packet is counted as lost: what is in a slot is
//! never dropped. Such a packet gets the CPU's spare slot, which nobody reads and nothing stays in:
//! so all that follows is the same for every packet, and is there once, also for the verifier.

use core::intrinsics::{AtomicOrdering, atomic_xchg};
use core::mem::offset_of;

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use picket_abi::{EvictedFlow, FlowKey, FlowSlot, Reason, WAYS, Way, opener};

use super::counters::Counters;
use super::maps::{EVICTED, EVICTED_WAKE_BYTES, HASH_SALT, SETS_PER_CPU, SLOTS, SPARE_SETS_AT};
use super::verifier::mask;
use super::{Passage, wake_flag};
use crate::parse::Packet;
use crate::slots::{Found, find, hash};
use crate::wake;

/// A slot for a packet.
pub(super) struct Held {
    /// The slot.
    pub(super) slot: &'static mut FlowSlot,
    /// Whether it is the spare one, and the packet is counted in no flow.
    pub(super) is_spare: bool,
}

/// The slot of a flow: its own, one made free for it, or the spare one where the ring is full.
/// `None` only on a CPU that did not exist when the maps were made.
#[inline(always)]
pub(super) fn slot_of(passage: &Passage, counters: &mut Counters, key: &FlowKey) -> Option<Held> {
    let sets = SETS_PER_CPU.load();
    let set = hash(key, HASH_SALT.load()) as u32 & (sets - 1);
    let index = passage.cpu * sets + set;
    let mut slots = SLOTS.get_ptr_mut(index)?;
    let mut is_spare = false;
    // SAFETY: a live element of the array, in the part of this CPU, which alone writes it.
    let slot = match find(unsafe { &mut *slots }, key) {
        Found::Known(slot) => slot,
        Found::Free(slot) => {
            occupy(slot, key, passage.ifindex, 1);
            slot
        }
        Found::Taken(slot, way) => {
            let mut going = slot.generation + 1;
            let mut slot = slot;
            if evict(slot, index * WAYS as u32 + way, going) {
                counters.note(Reason::Evicted);
            } else {
                slots = SLOTS.get_ptr_mut(SPARE_SETS_AT.load() + passage.cpu)?;
                // SAFETY: as above; the spare sets stand behind all others.
                slot = unsafe { &mut (*slots).slots[0] };
                (going, is_spare) = (1, true);
            }
            occupy(slot, key, passage.ifindex, going);
            slot
        }
    };
    // Which of them it is, the verifier shall forget: it would go on with each by itself.
    let second = core::ptr::from_mut(slot).cast::<u8>() as u64 - slots as u64;
    let place = counters.detour().forget(second | u64::from(is_spare));
    let second = mask::<SLOT_BYTES>(place) as usize;
    Some(Held {
        // SAFETY: the offset is 0 or that of the second slot, and the mask says so.
        slot: unsafe { &mut *slots.cast::<u8>().add(second).cast::<FlowSlot>() },
        is_spare: place & 1 != 0,
    })
}

/// Bytes of a slot: a power of two, so that it is a mask as well.
const SLOT_BYTES: i32 = size_of::<FlowSlot>() as i32;
const _: () = assert!(SLOT_BYTES.count_ones() == 1 && WAYS == 2);

/// Adds a packet to its flow.
#[inline(always)]
pub(super) fn count(slot: &mut FlowSlot, way: Way, segments: u32, bytes: u64, packet: &Packet) {
    // SAFETY: no precondition.
    slot.last_ns = unsafe { bpf_ktime_get_coarse_ns() };
    match way {
        Way::Out => {
            slot.packets_out += u64::from(segments);
            slot.bytes_out += bytes;
            slot.flags_out |= packet.tcp_flags;
        }
        Way::In => {
            slot.packets_in += u64::from(segments);
            slot.bytes_in += bytes;
            slot.flags_in |= packet.tcp_flags;
        }
    }
    if packet.opens && slot.opener == opener::UNKNOWN {
        slot.opener = match way {
            Way::Out => opener::OUT,
            Way::In => opener::IN,
        };
    }
}

/// Sends the occupant of a slot up, if the ring has room, and marks the slot as changing.
///
/// The mark must be visible before the record is, or a scan between the two would give the same
/// counters again: `bpf_ringbuf_submit` publishes with a full barrier (kernel/bpf/ringbuf.c).
#[inline(always)]
fn evict(slot: &mut FlowSlot, place: u32, going: u64) -> bool {
    let Some(mut entry) = EVICTED.reserve::<EvictedFlow>(0) else {
        return false;
    };
    let record = entry.as_mut_ptr();
    let (from, to) = (
        core::ptr::from_ref(slot).cast::<u64>(),
        record.cast::<u64>(),
    );
    const WORDS: usize = size_of::<FlowSlot>() / 8;
    let mut word = 0;
    while word < WORDS {
        // SAFETY: both are 8-byte aligned and at least WORDS words long. Volatile, so that the
        // loop does not become a call to a byte-wise copy.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
        word += 1;
    }
    // SAFETY: `record` is the reserved room for one EvictedFlow; `generation` is a live field.
    unsafe {
        (&raw mut (*record).slot).write(place);
        (&raw mut (*record).reserved).write(0);
        (&raw mut slot.generation).write_volatile(going);
    }
    // What waits includes the room of this record already.
    let record_bytes = size_of::<EvictedFlow>() as u64;
    let waiting = EVICTED.query(u64::from(BPF_RB_AVAIL_DATA)) - wake::taken(record_bytes);
    entry.submit(wake_flag(wake::passes(
        waiting,
        record_bytes,
        EVICTED_WAKE_BYTES.load(),
    )));
    true
}

/// Gives a slot to a new flow; `going` is the odd generation it has while that lasts.
#[inline(always)]
fn occupy(slot: &mut FlowSlot, key: &FlowKey, ifindex: u32, going: u64) {
    slot.key.local[0] = key.local[0];
    slot.key.local[1] = key.local[1];
    slot.key.remote[0] = key.remote[0];
    slot.key.remote[1] = key.remote[1];
    slot.key.ports = key.ports;
    zero_after_key(slot);
    // SAFETY: no precondition.
    slot.first_ns = unsafe { bpf_ktime_get_coarse_ns() };
    slot.ifindex = ifindex;
    // The exchange is a full barrier: whoever sees the even generation sees the fields above.
    // SAFETY: a live, aligned word of the array.
    unsafe {
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(&raw mut slot.generation, going + 1);
    }
}

/// Zeroes everything of a slot that comes after its key. Volatile, so that it does not become a
/// call to a byte-wise fill.
#[inline(always)]
fn zero_after_key(slot: &mut FlowSlot) {
    const WORDS: usize = size_of::<FlowSlot>() / 8;
    let words = core::ptr::from_mut(slot).cast::<u64>();
    let mut word = (offset_of!(FlowSlot, key) + size_of::<FlowKey>()) / 8;
    while word < WORDS {
        // SAFETY: the slot is WORDS aligned words of plain integers, all valid when zero.
        unsafe { words.add(word).write_volatile(0) };
        word += 1;
    }
}
