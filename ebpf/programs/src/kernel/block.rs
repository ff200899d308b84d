//! Blocking: refuses the packets of flows whose other end is on an order, while order and
//! heartbeat last.
//!
//! Interface: [`refuses`]; the flow's slot remembers whether its other end is on an order. A flow that is on none pays one
//! comparison a packet. Refused packets are counted in their flow like all others, and besides by
//! reason. The first of each flow is told; "told" is noted only when the ring had room. In a dry run it
//! is told and goes on.

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use picket_abi::block::{DRY_RUN, holds};
use picket_abi::{BlockEntry, BlockRecord, BlockedEndpoint, FlowKey, FlowSlot, Reason, verdict};

use super::Passage;
use super::counters::Counters;
use super::maps::{BLOCKED, BLOCKED_ENDPOINTS, BLOCKED_NETS, CONFIG, HEARTBEAT, PROTECTED_NETS};

/// Whether a packet of this flow is to be dropped.
#[inline(always)]
pub(super) fn refuses(
    passage: &Passage,
    counters: &mut Counters,
    slot: &mut FlowSlot,
    segments: u32,
    bytes: u64,
) -> bool {
    let Some(config) = CONFIG.get(0) else {
        return false;
    };
    let epoch = config.block_epoch as u8;
    if slot.block_epoch != epoch || slot.epoch != config.epoch as u32 {
        slot.block_epoch = epoch;
        slot.verdict &= !(verdict::BLOCKED | verdict::BLOCK_TOLD);
        if config.block_entries != 0 {
            // Looked up below.
            slot.verdict |= verdict::BLOCKED;
        }
    }
    if slot.verdict & verdict::BLOCKED == 0 {
        return false;
    }
    let Some(entry) = entry_of(counters, &slot.key) else {
        slot.verdict &= !verdict::BLOCKED;
        return false;
    };
    if !fresh(counters, entry, slot.last_ns) {
        return false;
    }
    let is_dry_run = entry.order & DRY_RUN != 0;
    if !is_dry_run {
        counters.add(Reason::Blocked, segments, bytes);
    }
    if slot.verdict & verdict::BLOCK_TOLD == 0 && tell(passage, counters, &slot.key, entry.order) {
        slot.verdict |= verdict::BLOCK_TOLD;
    }
    !is_dry_run
}

/// Whether an entry holds at this time; counted if it does not any more.
#[inline(always)]
fn fresh(counters: &mut Counters, entry: BlockEntry, now_ns: u64) -> bool {
    let heartbeat_ns = HEARTBEAT.get(0).copied().unwrap_or(0);
    let holds = holds(entry.expires_ns, heartbeat_ns, now_ns);
    if !holds {
        counters.note(Reason::BlockLapsed);
    }
    holds
}

/// The entry the other end of a flow is on: its endpoint's before its network's, none where it is
/// protected, or where it lends the host its address.
#[inline(always)]
fn entry_of(counters: &mut Counters, key: &FlowKey) -> Option<BlockEntry> {
    let remote = counters.detour().trie_key(key.remote);
    let endpoint = BlockedEndpoint {
        address: key.remote,
        port: u64::from(key.remote_port()),
    };
    // SAFETY: the agent replaces entries whole and never changes one in place, and the value is
    // copied at once.
    let entry = match unsafe { BLOCKED_ENDPOINTS.get(&endpoint) } {
        Some(entry) => *entry,
        None => *BLOCKED_NETS.get(remote)?,
    };
    if key.is_lease() {
        return None;
    }
    match PROTECTED_NETS.get(remote) {
        Some(_) => None,
        None => Some(entry),
    }
}

/// Puts a record of a refused flow into its ring.
#[inline(always)]
fn tell(passage: &Passage, counters: &mut Counters, key: &FlowKey, order: u64) -> bool {
    let Some(mut room) = BLOCKED.reserve::<BlockRecord>(0) else {
        counters.note(Reason::BlockRingFull);
        return false;
    };
    let record = room.as_mut_ptr();
    // Word by word: written whole, the record becomes a call to a byte-wise copy.
    // SAFETY: `record` is the reserved room for one BlockRecord.
    unsafe {
        (&raw mut (*record).ktime_ns).write(bpf_ktime_get_ns());
        (&raw mut (*record).key.local[0]).write_volatile(key.local[0]);
        (&raw mut (*record).key.local[1]).write_volatile(key.local[1]);
        (&raw mut (*record).key.remote[0]).write_volatile(key.remote[0]);
        (&raw mut (*record).key.remote[1]).write_volatile(key.remote[1]);
        (&raw mut (*record).key.ports).write(key.ports);
        (&raw mut (*record).order).write(order);
        (&raw mut (*record).ifindex).write(passage.ifindex);
        (&raw mut (*record).way).write(passage.way as u32);
    }
    room.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    true
}
