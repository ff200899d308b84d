//! The Stratum stage: does one of the first payloads of a TCP flow begin like a miner's?

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use picket_abi::{NoticeKind, STREAM_NOTICE_BYTES};

use super::counters::Counters;
use super::maps::SPOILED_STAGES;
use super::stages::{Handoff, begin, stage, tell};
use super::verifier::{mask, refuse_if};
use super::{NEXT, Passage, copy};
use crate::stratum::{Opening, WINDOW_BYTES, is_opening};

/// The stage, from handoff to copy.
#[inline(always)]
pub(super) fn run(skb: *mut __sk_buff) -> i32 {
    refuse_if(SPOILED_STAGES.load() & 1 << stage::STRATUM != 0);
    let Some((passage, mut counters, handoff)) = begin(skb) else {
        return NEXT;
    };
    look(&passage, &mut counters, handoff);
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
fn look(passage: &Passage, counters: &mut Counters, handoff: &mut Handoff) {
    let Some([first]) = super::names::load::<1>(passage.skb, handoff.payload_at) else {
        return;
    };
    if first != b'{' {
        return;
    }
    // What the packet before this one left must not be taken for a part of this one.
    let window = handoff.bytes.as_mut_ptr().cast::<u64>();
    let mut word = 0;
    while word < WINDOW_BYTES / 8 {
        // SAFETY: the window lies within the notice's bytes, which begin at a multiple of 8.
        unsafe { window.add(word).write_volatile(0) };
        word += 1;
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
    if error == 0 && is_opening(&Window(handoff.bytes.as_ptr())) {
        handoff.notice.set_version = 0;
        handoff.notice.hash = 0;
        tell::<STREAM_NOTICE_BYTES>(counters, handoff, NoticeKind::Stratum, loaded);
    }
}

/// The first bytes of the payload.
struct Window(*const u8);

impl Opening for Window {
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        // SAFETY: places are constants below WINDOW_BYTES − 7, so the word lies within the
        // notice's bytes. The target has no alignment to keep.
        unsafe { *self.0.add(at).cast::<u64>() }
    }
}
