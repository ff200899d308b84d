//! The maps and the numbers that the loader sets before the programs are loaded.
//!
//! Sizes here are the smallest that load; the loader overrides each.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, RingBuf};
use picket_abi::names::FILTER_WORDS;
use picket_abi::{
    AddressConfig, BlockEntry, BlockedEndpoint, Bucket, CODE_WORDS, COPY_BYTES_MAX, CopyHeader,
    CpuCounters, FlowSet,
};

use super::stages::{Handoff, stage};

/// Flow sets, those of one CPU after those of another, and behind them a spare one for each CPU.
/// Written by its CPU, read by mapping.
#[map]
pub(super) static SLOTS: Array<FlowSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters by CPU.
#[map]
pub(super) static COUNTERS: Array<CpuCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Which half of the address tables is in force.
#[map]
pub(super) static CONFIG: Array<AddressConfig> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Codes of all IPv4 /24 networks, in two halves.
#[map]
pub(super) static CODES: Array<u64> = Array::with_max_entries(2 * CODE_WORDS, BPF_F_MMAPABLE);

/// Buckets of listed IPv4 addresses, in two halves.
#[map]
pub(super) static BUCKETS: Array<Bucket> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// Listed IPv6 networks, the even half.
#[map]
pub(super) static IPV6_EVEN: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(1, 0);

/// Listed IPv6 networks, the odd half.
#[map]
pub(super) static IPV6_ODD: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(1, 0);

/// Filter of listed names, in two halves.
#[map]
pub(super) static NAME_FILTER: Array<u64> =
    Array::with_max_entries(2 * FILTER_WORDS, BPF_F_MMAPABLE);

/// Buckets of tags of listed names, in two halves.
#[map]
pub(super) static NAME_BUCKETS: Array<Bucket> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// Programs of the stages; empty where a stage is off.
#[map]
pub(super) static STAGES: ProgramArray = ProgramArray::with_max_entries(stage::COUNT, 0);

/// What goes from the program at the hook to a stage.
#[map]
pub(super) static HANDOFF: PerCpuArray<Handoff> = PerCpuArray::with_max_entries(1, 0);

/// Messages recognised by a stage: few, and each wakes the agent. Of their own, so that a flood
/// of questions cannot take the room of hits.
#[map]
pub(super) static NOTICES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Hits: few, and each wakes the agent.
#[map]
pub(super) static HITS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Flows that left their slots. Of its own, so that no flood of copies costs us a count.
#[map]
pub(super) static EVICTED: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Copies of packets.
#[map]
pub(super) static COPIES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Networks that an order to block covers; IPv4 in its mapped form.
#[map]
pub(super) static BLOCKED_NETS: LpmTrie<[u8; 16], BlockEntry> = LpmTrie::with_max_entries(1, 0);

/// Endpoints that an order to block covers.
#[map]
pub(super) static BLOCKED_ENDPOINTS: HashMap<BlockedEndpoint, BlockEntry> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Networks that no order can block.
#[map]
pub(super) static PROTECTED_NETS: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(1, 0);

/// When the agent last said that it lives, coarse monotonic clock. Apart from [`CONFIG`], so that
/// a beat does not touch the cache line that every packet reads.
#[map]
pub(super) static HEARTBEAT: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// First refused packets of flows.
#[map]
pub(super) static BLOCKED: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Tunnels of mirrored traffic; see [`picket_abi::tunnel`]. One entry unless it is looked into.
#[map]
pub(super) static TUNNELS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where a copy is put together: it is larger than the stack.
#[map]
pub(super) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// A copied packet under construction.
#[repr(C)]
pub(super) struct Scratch {
    pub(super) header: CopyHeader,
    pub(super) bytes: [u8; COPY_BYTES_MAX],
    /// So that a stage may look at what begins within the bytes without asking where it ends.
    pub(super) more: [u8; COPY_MORE_BYTES],
}

/// Bytes behind a copy that can be reached: a name's 256, and 64 of a label that begins in the last.
pub(super) const COPY_MORE_BYTES: usize = 384;

/// Flow sets of one CPU: a power of two.
#[unsafe(no_mangle)]
pub(super) static SETS_PER_CPU: Global<u32> = Global::new(1);

/// Where the spare sets begin in [`SLOTS`].
#[unsafe(no_mangle)]
pub(super) static SPARE_SETS_AT: Global<u32> = Global::new(1);

/// Drawn at each load; see [`crate::slots::hash`] and [`picket_abi::names`].
#[unsafe(no_mangle)]
pub(super) static HASH_SALT: Global<u64> = Global::new(0);

/// Buckets in one half, less one: a power of two, less one.
#[unsafe(no_mangle)]
pub(super) static BUCKET_MASK: Global<u32> = Global::new(0);

/// Buckets of names in one half, less one: a power of two, less one.
#[unsafe(no_mangle)]
pub(super) static NAME_BUCKET_MASK: Global<u32> = Global::new(0);

/// Bytes waiting in [`EVICTED`] that wake the agent before its timer does; see [`crate::wake`].
#[unsafe(no_mangle)]
pub(super) static EVICTED_WAKE_BYTES: Global<u64> = Global::new(0);

/// Bytes waiting in [`COPIES`] that wake the agent before its timer does.
#[unsafe(no_mangle)]
pub(super) static COPIES_WAKE_BYTES: Global<u64> = Global::new(0);

/// Bits of stages that the verifier shall refuse; see [`super::verifier::refuse_if`].
#[unsafe(no_mangle)]
pub(super) static SPOILED_STAGES: Global<u32> = Global::new(0);

/// Whether tunnels that are not in [`TUNNELS`] yet are let in.
#[unsafe(no_mangle)]
pub(super) static TUNNELS_OPEN: Global<u32> = Global::new(0);
