//! The names stage: questions to port 53, over UDP or in one TCP segment, against the listed names.
//!
//! It takes the copy and reads the question there: what the copy does not hold, the agent could not
//! see either. (A call into the kernel costs as much as the walk over a short name.) And it sends the
//! copy before it looks at the question: what memory has to fetch for the tables then comes while
//! the processor does what is next. A ring's lock in between would wait for it.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use picket_abi::names::FILTER_WORDS;
use picket_abi::{Bucket, NAME_NOTICE_BYTES, NoticeKind};

use super::copy::Taken;
use super::counters::Counters;
use super::maps::{
    CONFIG, COPY_MORE_BYTES, HASH_SALT, NAME_BUCKET_MASK, NAME_BUCKETS, NAME_FILTER, SPOILED_STAGES,
};
use super::stages::{Handoff, begin, jump, stage, tell};
use super::verifier::{Detour, mask, refuse_if};
use super::{NEXT, Passage};
use crate::names::{HEADER_BYTES, NameTables, Text, is_query, lookup};
use crate::parse::protocol;

/// The stage, from handoff to copy.
#[inline(always)]
pub(super) fn run(skb: *mut __sk_buff) -> i32 {
    refuse_if(SPOILED_STAGES.load() & 1 << stage::NAMES != 0);
    let Some((passage, mut counters, handoff)) = begin(skb) else {
        return NEXT;
    };
    let ip = (handoff.ip_at, handoff.ip_bytes);
    let Some(mut taken) = Taken::of(&passage, &mut counters, ip) else {
        return NEXT;
    };
    let message = message(&passage, handoff, &mut taken);
    let notice = &handoff.notice;
    taken.send(&passage, &mut counters, ip.1, notice.ktime_ns, notice.owner);
    if let Some(message) = message {
        look(&passage, &mut counters, handoff, &mut taken, message);
    }
    NEXT
}

/// Where in the copy the message begins, and its bytes.
#[inline(always)]
fn message(passage: &Passage, handoff: &Handoff, taken: &mut Taken) -> Option<(u32, u32)> {
    let payload_at = handoff.payload_at - handoff.ip_at;
    if handoff.notice.key.protocol() != protocol::TCP {
        return Some((payload_at, handoff.payload_bytes));
    }
    if payload_at + 2 > taken.bytes() {
        return None;
    }
    let prefix = taken.at(payload_at);
    // SAFETY: behind the place are more bytes than two.
    let (high, low) = unsafe { (*prefix, *prefix.add(1)) };
    if high == b'{' {
        // A pool may listen on this port too.
        jump::<{ stage::STRATUM as i32 }>(passage.skb);
        return None;
    }
    // Over TCP two bytes with the message's length stand before it (RFC 1035 4.2.2).
    let length = u32::from(high) << 8 | u32::from(low);
    (length + 2 <= handoff.payload_bytes).then_some((payload_at + 2, length))
}

/// Looks at the question of a message and tells of a listed name.
#[inline(always)]
fn look(
    passage: &Passage,
    counters: &mut Counters,
    handoff: &mut Handoff,
    taken: &mut Taken,
    (message_at, message_bytes): (u32, u32),
) {
    let Some(config) = CONFIG.get(0) else { return };
    let epoch = config.epoch;
    let half = (epoch & 1) as usize;
    let depths = config.name_depths[half];
    let name_at = message_at + HEADER_BYTES;
    if depths == 0 || message_bytes <= HEADER_BYTES || name_at >= taken.bytes() {
        return;
    }
    let message = taken.at(message_at).cast::<u16>();
    // SAFETY: a header is shorter than what is behind every place.
    let (flags, questions) = unsafe { (*message.add(1), *message.add(2)) };
    if !is_query(u16::from_be(flags), u16::from_be(questions)) {
        return;
    }
    let loaded = (message_bytes - HEADER_BYTES)
        .min(taken.bytes() - name_at)
        .min(NAME_NOTICE_BYTES as u32);
    let detour = counters.detour();
    // Over which protocol it came and what limits it, the verifier shall forget.
    let places = detour.forget(u64::from(loaded) << 32 | u64::from(name_at));
    let (loaded, name_at) = ((places >> 32) as u32, places as u32);
    let mut text = InCopy {
        name: taken.at(name_at),
        starts: handoff.starts.as_mut_ptr(),
        detour,
    };
    let tables = Half {
        odd: epoch as u32 & 1,
    };
    let Some(found) = lookup(&mut text, &tables, loaded, HASH_SALT.load(), depths) else {
        return;
    };
    // Between 1 and NAME_NOTICE_BYTES in a form that the verifier can follow.
    let bytes = mask::<PLACE>(u64::from(loaded) - 1) as u32 + 1;
    // SAFETY: the destination has NAME_NOTICE_BYTES bytes, and `bytes` is no more than that.
    let error = unsafe {
        bpf_skb_load_bytes(
            passage.skb.cast(),
            handoff.ip_at + name_at,
            handoff.bytes.as_mut_ptr().cast(),
            bytes,
        )
    };
    // What was taken can be read again.
    if error == 0 {
        handoff.notice.set_version = config.set_versions[half];
        handoff.notice.hash = found.hash;
        tell::<NAME_NOTICE_BYTES>(counters, handoff, NoticeKind::Name, found.name_bytes);
    }
}

/// The name in the copy.
struct InCopy {
    name: *const u8,
    starts: *mut u64,
    detour: Detour,
}

const PLACE: i32 = NAME_NOTICE_BYTES as i32 - 1;

// A word may begin 56 bytes behind the last place.
const _: () = assert!(PLACE as usize + 56 + 8 <= COPY_MORE_BYTES);

impl Text for InCopy {
    #[inline(always)]
    fn byte(&self, at: u64) -> u64 {
        let at = mask::<PLACE>(at) as usize;
        // SAFETY: the mask keeps the place within what is behind the name's beginning.
        u64::from(unsafe { *self.name.add(at) })
    }

    #[inline(always)]
    fn word(&self, at: u64, further: u64) -> u64 {
        let at = mask::<PLACE>(at) as usize;
        let further = mask::<56>(further) as usize;
        // SAFETY: the masks keep the word within what is behind the name's beginning, as asserted
        // above. The target has no alignment to keep.
        unsafe { *self.name.add(at + further).cast::<u64>() }
    }

    #[inline(always)]
    fn note(&mut self, label: u64, at: u64) {
        let label = mask::<7>(label) as usize;
        // SAFETY: the mask keeps the place below 8, the room there is.
        unsafe { self.starts.add(label).write_volatile(at) };
    }

    #[inline(always)]
    fn noted(&self, label: u64) -> u64 {
        let label = mask::<7>(label) as usize;
        // SAFETY: as above.
        unsafe { self.starts.add(label).read_volatile() }
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
