//! The kernel object: loading it with its maps at the sizes wanted, and taking them out of it.

use std::io;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Map, MapData};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};

use super::blocks::{
    BLOCKED_ENDPOINTS_MAX, BLOCKED_NETS_MAX, BLOCKED_RING_BYTES, PROTECTED_NETS_MAX,
};
use super::loopback::ASKED_RING_BYTES;
use super::mirror::{self, Mirror};
use super::older::{self, Lacks};
use super::size::Sizes;
use super::stages::Stages;
use super::{CaptureError, layout, owners, tables};
use crate::capture::live::OwnerState;

/// The kernel object, built by `make kernel`; see `build.rs`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PICKET_EMBEDDED_OBJECT"));

/// Loads the object with its maps at the sizes wanted.
pub(super) fn load(
    sizes: &Sizes,
    salt: u64,
    spoiled: Stages,
    mirror: Option<&Mirror>,
    object: &[u8],
    owner_state: &mut OwnerState,
) -> Result<Ebpf, CaptureError> {
    allow_locked_memory();
    let lacks = Lacks::of_kernel();
    if lacks.exchange && mirror::is_open(mirror) {
        return Err(CaptureError::OpenMirror);
    }
    let object = older::worded(object, lacks)?;
    let sets = sizes.sets_per_cpu();
    let bucket_mask = tables::buckets_for(sizes.addresses_max) - 1;
    let name_bucket_mask = tables::buckets_for(sizes.names_max) - 1;
    let spoiled = spoiled.bits();
    // A quarter full wakes us: time to empty it before the rest is used up.
    let evicted_wake = u64::from(sizes.evicted_ring_bytes / 4);
    let copies_wake = u64::from(sizes.copy_ring_bytes / 4);
    let asked_wake = u64::from(ASKED_RING_BYTES / 4);
    let (offsets, outcome) = layout::of_kernel();
    if let Err(why) = outcome {
        owner_state.lacks.push(format!("start and parent: {why}"));
    }
    let mut loader = EbpfLoader::new();
    for (number, offset) in &offsets {
        loader.override_global(number, offset, true);
    }
    loader
        .btf(None)
        .verifier_log_level(VerifierLogLevel::STATS)
        .map_max_entries("SLOTS", (sets + 1) * sizes.cpus)
        .map_max_entries("COUNTERS", sizes.cpus)
        .map_max_entries("BUCKETS", 2 * (bucket_mask + 1))
        .map_max_entries("IPV6_EVEN", sizes.ipv6_networks_max.max(1))
        .map_max_entries("IPV6_ODD", sizes.ipv6_networks_max.max(1))
        .map_max_entries("NAME_BUCKETS", 2 * (name_bucket_mask + 1))
        .map_max_entries("NOTICES", sizes.notice_ring_bytes)
        .map_max_entries("BLOCKED_NETS", BLOCKED_NETS_MAX)
        .map_max_entries("BLOCKED_ENDPOINTS", BLOCKED_ENDPOINTS_MAX)
        .map_max_entries("PROTECTED_NETS", PROTECTED_NETS_MAX)
        .map_max_entries("BLOCKED", BLOCKED_RING_BYTES)
        .map_max_entries("ASKED", ASKED_RING_BYTES)
        .map_max_entries("HITS", sizes.hit_ring_bytes)
        .map_max_entries("EVICTED", sizes.evicted_ring_bytes)
        .map_max_entries("COPIES", sizes.copy_ring_bytes)
        .map_max_entries("PROCESSES", sizes.process_ring_bytes)
        .map_max_entries("TOLD", owners::TOLD_MAX)
        .map_max_entries("TUNNELS", mirror::entries(mirror))
        .override_global("TUNNELS_OPEN", &u32::from(mirror::is_open(mirror)), true)
        .override_global("SETS_PER_CPU", &sets, true)
        .override_global("SPARE_SETS_AT", &(sets * sizes.cpus), true)
        .override_global("HASH_SALT", &salt, true)
        .override_global("BUCKET_MASK", &bucket_mask, true)
        .override_global("NAME_BUCKET_MASK", &name_bucket_mask, true)
        .override_global("SPOILED_STAGES", &spoiled, true)
        .override_global("EVICTED_WAKE_BYTES", &evicted_wake, true)
        .override_global("COPIES_WAKE_BYTES", &copies_wake, true)
        .override_global("ASKED_WAKE_BYTES", &asked_wake, true)
        .load(&object)
        .map_err(|source| CaptureError::Load(Box::new(source)))
}

pub(super) fn array(ebpf: &mut Ebpf, name: &str) -> Result<MapData, CaptureError> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(CaptureError::Object("an array is missing")),
    }
}

pub(super) fn trie(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<LpmTrie<MapData, [u8; 16], u8>, CaptureError> {
    let map = ebpf
        .take_map(name)
        .ok_or(CaptureError::Object("a trie is missing"))?;
    LpmTrie::try_from(map).map_err(|source| CaptureError::Map {
        name,
        source: Box::new(source),
    })
}

/// Before 5.11 maps counted as locked memory. Where raising the limit is refused, loading says so.
fn allow_locked_memory() {
    let unlimited = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the call reads one rlimit, which is ours.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the call writes at most as many bytes as it is told into ours.
    let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if read == 8 {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}
