//! The Stratum stage: does one of the first payloads of a TCP flow begin like a miner's?
//!
//! As the names stage it takes the copy first and looks there.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use picket_abi::{NoticeKind, STREAM_NOTICE_BYTES};

use super::copy::Taken;
use super::counters::Counters;
use super::maps::{COPY_MORE_BYTES, SPOILED_STAGES};
use super::stages::{Handoff, begin, stage, tell};
use super::verifier::{mask, refuse_if};
use super::{NEXT, Passage};
use crate::stratum::{Opening, WINDOW_BYTES, is_opening};

/// The stage, from handoff to copy.
#[inline(always)]
pub(super) fn run(skb: *mut __sk_buff) -> i32 {
    refuse_if(SPOILED_STAGES.load() & 1 << stage::STRATUM != 0);
    let Some((passage, mut counters, handoff)) = begin(skb) else {
        return NEXT;
    };
    let ip = (handoff.ip_at, handoff.ip_bytes);
    let Some(mut taken) = Taken::of(&passage, &mut counters, ip) else {
        return NEXT;
    };
    look(&passage, &mut counters, handoff, &mut taken);
    let notice = &handoff.notice;
    taken.send(&passage, &mut counters, ip.1, notice.ktime_ns, notice.owner);
    NEXT
}

#[inline(always)]
fn look(passage: &Passage, counters: &mut Counters, handoff: &mut Handoff, taken: &mut Taken) {
    let payload_at = handoff.payload_at - handoff.ip_at;
    if payload_at >= taken.bytes() {
        return;
    }
    let payload = taken.at(payload_at);
    // SAFETY: a byte of the copy.
    if unsafe { *payload } != b'{' {
        return;
    }
    // What a packet before this one left must not be taken for a part of this one. The last place
    // of the copy is below `bytes`; behind it there is room for a window and more.
    let last = taken.at(taken.bytes() - 1);
    let mut word = 0;
    while word < WINDOW_BYTES / 8 {
        // SAFETY: as said above. The target has no alignment to keep.
        unsafe { last.add(1 + word * 8).cast::<u64>().write_volatile(0) };
        word += 1;
    }
    if !is_opening(&Window(payload)) {
        return;
    }
    let wanted = if handoff.payload_bytes < STREAM_NOTICE_BYTES as u32 {
        handoff.payload_bytes
    } else {
        STREAM_NOTICE_BYTES as u32
    };
    // Between 1 and STREAM_NOTICE_BYTES in a form that the verifier can follow.
    let loaded = mask::<{ STREAM_NOTICE_BYTES as i32 - 1 }>(u64::from(wanted) - 1) as u32 + 1;
    // SAFETY: the destination has STREAM_NOTICE_BYTES bytes, and `loaded` is no more than that.
    let error = unsafe {
        bpf_skb_load_bytes(
            passage.skb.cast(),
            handoff.payload_at,
            handoff.bytes.as_mut_ptr().cast(),
            loaded,
        )
    };
    // The payload of a packet that is whole can be read.
    if error == 0 {
        handoff.notice.set_version = 0;
        handoff.notice.hash = 0;
        tell::<STREAM_NOTICE_BYTES>(counters, handoff, NoticeKind::Stratum, loaded);
    }
}

/// The first bytes of the payload.
struct Window(*const u8);

const _: () = assert!(WINDOW_BYTES < COPY_MORE_BYTES);

impl Opening for Window {
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        // SAFETY: places are constants below WINDOW_BYTES − 7, so the word lies within what is
        // behind the payload's beginning. The target has no alignment to keep.
        unsafe { *self.0.add(at).cast::<u64>() }
    }
}
