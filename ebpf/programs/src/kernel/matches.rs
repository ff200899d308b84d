//! Address match over the kernel maps, once per flow and table epoch.
//!
//! Interface: [`judge`], whose verdict the flow's slot keeps. A hit goes into its ring at once and wakes the agent. "Alerted" is
//! noted only when the ring had room, so a full ring hides nothing: the flow's next packet tries
//! again.

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use picket_abi::{
    AddressConfig, Bucket, CODE_WORDS, FlowKey, FlowSlot, HitRecord, Owner, Reason, verdict,
};

use super::Passage;
use super::counters::Counters;
use super::maps::{BUCKET_MASK, BUCKETS, CODES, CONFIG, HITS, IPV6_EVEN, IPV6_ODD};
use super::verifier::Detour;
use crate::listed::{Tables, lookup};

/// One half of the tables.
struct Half {
    odd: u32,
    detour: Detour,
}

impl Tables for Half {
    #[inline(always)]
    fn codes(&self, word: u32) -> u64 {
        CODES
            .get(self.odd * CODE_WORDS + word)
            .copied()
            .unwrap_or(0)
    }

    #[inline(always)]
    fn bucket(&self, place: u32) -> Option<&Bucket> {
        BUCKETS.get(self.odd * (self.bucket_mask() + 1) + place)
    }

    #[inline(always)]
    fn bucket_mask(&self) -> u32 {
        BUCKET_MASK.load()
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        self.detour.forget(value)
    }

    #[inline(always)]
    fn covers(&self, address: [u64; 2]) -> bool {
        let key = self.detour.trie_key(address);
        // Forgotten, or the verifier would go on with each half by itself.
        if self.forget(u64::from(self.odd)) == 0 {
            IPV6_EVEN.get(key).is_some()
        } else {
            IPV6_ODD.get(key).is_some()
        }
    }
}

/// Looks a flow up if that has not been done with the tables in force, and tells of a match.
#[inline(always)]
pub(super) fn judge(passage: &Passage, counters: &mut Counters, slot: &mut FlowSlot) {
    let Some(config) = CONFIG.get(0) else { return };
    let epoch = config.epoch;
    if epoch == 0 {
        return;
    }
    if slot.epoch != epoch as u32 {
        let blocked = slot.verdict & (verdict::BLOCKED | verdict::BLOCK_TOLD);
        slot.verdict = look(counters, config, epoch, &slot.key) | blocked;
        slot.epoch = epoch as u32;
    }
    let found = slot.verdict;
    if found & (verdict::LOCAL | verdict::REMOTE) != 0
        && found & verdict::ALERTED == 0
        && tell(
            passage, counters, &slot.key, slot.owner, found, config, epoch,
        )
    {
        slot.verdict = found | verdict::ALERTED;
    }
}

#[inline(always)]
fn look(counters: &mut Counters, config: &AddressConfig, epoch: u64, key: &FlowKey) -> u8 {
    let half = Half {
        odd: epoch as u32 & 1,
        detour: counters.detour(),
    };
    lookup(&half, config, (epoch & 1) as usize, key)
}

/// Whether an IPv4 address is listed, by the same walk as that of a flow's remote end.
#[cfg(feature = "bench")]
#[inline(always)]
pub(super) fn is_listed(address: u32) -> bool {
    // SAFETY: this helper has no precondition.
    let cpu = unsafe { aya_ebpf::helpers::bpf_get_smp_processor_id() };
    let (Some(config), Some(mut counters)) = (CONFIG.get(0), Counters::of(cpu)) else {
        return false;
    };
    let key = FlowKey {
        // Nobody's address, of the family that is not listed here.
        local: [0, 0],
        remote: FlowKey::mapped(address.to_be()),
        ports: 0,
    };
    look(&mut counters, config, config.epoch, &key) != 0
}

/// Puts a hit into its ring.
#[inline(always)]
fn tell(
    passage: &Passage,
    counters: &mut Counters,
    key: &FlowKey,
    owner: Owner,
    found: u8,
    config: &AddressConfig,
    epoch: u64,
) -> bool {
    let Some(mut entry) = HITS.reserve::<HitRecord>(0) else {
        counters.note(Reason::HitRingFull);
        return false;
    };
    let record = entry.as_mut_ptr();
    // Word by word: written whole, the record becomes a call to a byte-wise copy.
    // SAFETY: `record` is the reserved room for one HitRecord.
    unsafe {
        (&raw mut (*record).ktime_ns).write(bpf_ktime_get_ns());
        (&raw mut (*record).key.local[0]).write_volatile(key.local[0]);
        (&raw mut (*record).key.local[1]).write_volatile(key.local[1]);
        (&raw mut (*record).key.remote[0]).write_volatile(key.remote[0]);
        (&raw mut (*record).key.remote[1]).write_volatile(key.remote[1]);
        (&raw mut (*record).key.ports).write(key.ports);
        (&raw mut (*record).set_version).write(config.set_versions[(epoch & 1) as usize]);
        (&raw mut (*record).ifindex).write(passage.ifindex);
        (&raw mut (*record).way).write(passage.way as u16);
        (&raw mut (*record).verdict).write(u16::from(found));
        (&raw mut (*record).owner.start_ns).write(owner.start_ns);
        (&raw mut (*record).owner.pid).write(owner.pid);
        (&raw mut (*record).owner.uid).write(owner.uid);
    }
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    counters.note(Reason::HitSent);
    true
}
