//! The names stage: questions to port 53, over UDP or in one TCP segment, against the listed names.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use picket_abi::names::FILTER_WORDS;
use picket_abi::{AddressConfig, Bucket, NAME_NOTICE_BYTES, NoticeKind};

use super::counters::Counters;
use super::maps::{CONFIG, HASH_SALT, NAME_BUCKET_MASK, NAME_BUCKETS, NAME_FILTER, SPOILED_STAGES};
use super::stages::{Handoff, begin, jump, stage, tell};
use super::verifier::{Detour, mask, refuse_if};
use super::{NEXT, Passage, copy};
use crate::names::{HEADER_BYTES, NameTables, Text, is_query, lookup};
use crate::parse::protocol;

/// The stage, from handoff to copy.
#[inline(always)]
pub(super) fn run(skb: *mut __sk_buff) -> i32 {
    refuse_if(SPOILED_STAGES.load() & 1 << stage::NAMES != 0);
    let Some((passage, mut counters, handoff)) = begin(skb) else {
        return NEXT;
    };
    if let Some(config) = CONFIG.get(0) {
        look(&passage, &mut counters, handoff, config);
    }
    copy::send(
        &passage,
        &mut counters,
        (handoff.ip_at, handoff.ip_bytes),
        handoff.notice.ktime_ns,
        handoff.notice.owner,
    );
    NEXT
}

#[inline(always)]
fn look(passage: &Passage, counters: &mut Counters, handoff: &mut Handoff, config: &AddressConfig) {
    let epoch = config.epoch;
    let half = (epoch & 1) as usize;
    let depth = config.name_depths[half];
    let mut message_at = handoff.payload_at;
    let mut message_bytes = handoff.payload_bytes;
    if handoff.notice.key.protocol() == protocol::TCP {
        // Over TCP two bytes with the message's length stand before it (RFC 1035 4.2.2).
        let Some([high, low]) = load::<2>(passage.skb, message_at) else {
            return;
        };
        if high == b'{' {
            // A pool may listen on this port too.
            jump(passage.skb, stage::STRATUM);
            return;
        }
        let length = u32::from(high) << 8 | u32::from(low);
        if length + 2 > message_bytes {
            return;
        }
        message_at += 2;
        message_bytes = length;
    }
    if depth == 0 || message_bytes <= HEADER_BYTES {
        return;
    }
    let Some([_, _, flags_high, flags_low, count_high, count_low]) =
        load::<6>(passage.skb, message_at)
    else {
        return;
    };
    let flags = u16::from(flags_high) << 8 | u16::from(flags_low);
    let count = u16::from(count_high) << 8 | u16::from(count_low);
    if !is_query(flags, count) {
        return;
    }
    let left = message_bytes - HEADER_BYTES;
    let wanted = if left < NAME_NOTICE_BYTES as u32 {
        left
    } else {
        NAME_NOTICE_BYTES as u32
    };
    // Between 1 and NAME_NOTICE_BYTES in a form that the verifier can follow.
    let loaded = mask::<{ NAME_NOTICE_BYTES as i32 - 1 }>(u64::from(wanted) - 1) as u32 + 1;
    // SAFETY: the destination has NAME_NOTICE_BYTES bytes, and `loaded` is no more than that.
    let error = unsafe {
        bpf_skb_load_bytes(
            passage.skb.cast(),
            message_at + HEADER_BYTES,
            handoff.bytes.as_mut_ptr().cast(),
            loaded,
        )
    };
    if error != 0 {
        // The copy meets the same error and counts it.
        return;
    }
    let mut text = InHandoff {
        bytes: handoff.bytes.as_ptr(),
        starts: handoff.starts.as_mut_ptr(),
        detour: counters.detour(),
    };
    let half = Half {
        odd: epoch as u32 & 1,
    };
    if let Some(found) = lookup(&mut text, &half, loaded, HASH_SALT.load(), depth) {
        handoff.notice.set_version = config.set_versions[(epoch & 1) as usize];
        handoff.notice.hash = found.hash;
        tell::<NAME_NOTICE_BYTES>(counters, handoff, NoticeKind::Name, found.name_bytes);
    }
}

/// Reads bytes of a packet, wherever they lie.
#[inline(always)]
pub(super) fn load<const N: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u8; N]> {
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: the destination has N bytes.
    let error = unsafe { bpf_skb_load_bytes(skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
    // SAFETY: no error means that all bytes were written.
    (error == 0).then(|| unsafe { bytes.assume_init() })
}

/// The name in the handoff.
struct InHandoff {
    bytes: *const u8,
    starts: *mut u64,
    detour: Detour,
}

const PLACE: i32 = NAME_NOTICE_BYTES as i32 - 1;

impl Text for InHandoff {
    #[inline(always)]
    fn byte(&self, at: u32) -> u8 {
        let at = mask::<PLACE>(u64::from(at)) as usize;
        // SAFETY: the mask keeps the place within the name.
        unsafe { *self.bytes.add(at) }
    }

    #[inline(always)]
    fn word(&self, at: u32, further: u32) -> u64 {
        let at = mask::<PLACE>(u64::from(at)) as usize;
        let further = mask::<56>(u64::from(further)) as usize;
        // SAFETY: the masks keep the word within the handoff's bytes, of
        // which a name takes a quarter. The
        // target has no alignment to keep.
        unsafe { *self.bytes.add(at + further).cast::<u64>() }
    }

    #[inline(always)]
    fn note(&mut self, label: u32, at: u32) {
        let label = mask::<7>(u64::from(label)) as usize;
        // SAFETY: the mask keeps the place below 8, the room there is.
        unsafe { self.starts.add(label).write_volatile(u64::from(at)) };
    }

    #[inline(always)]
    fn noted(&self, label: u32) -> u32 {
        let label = mask::<7>(u64::from(label)) as usize;
        // SAFETY: as above.
        unsafe { self.starts.add(label).read_volatile() as u32 }
    }

    #[inline(always)]
    fn forget(&mut self, value: u64) -> u64 {
        self.detour.forget(value)
    }
}

/// One half of the tables.
struct Half {
    odd: u32,
}

impl NameTables for Half {
    #[inline(always)]
    fn filter(&self, word: u32) -> u64 {
        NAME_FILTER
            .get(self.odd * FILTER_WORDS + word)
            .copied()
            .unwrap_or(0)
    }

    #[inline(always)]
    fn bucket(&self, place: u32) -> Option<&Bucket> {
        NAME_BUCKETS.get(self.odd * (self.bucket_mask() + 1) + place)
    }

    #[inline(always)]
    fn bucket_mask(&self) -> u32 {
        NAME_BUCKET_MASK.load()
    }
}
