//! Stages: programs of their own for what only few packets need, so that the verifier judges each
//! by itself and a kernel that refuses one still runs the rest.
//!
//! The program at the hook writes what it knows of the packet into [`HANDOFF`] and jumps into the
//! stage, which ends as the hook's program would have: it copies the packet. Where the agent has
//! put no program for a stage, the jump falls through and the hook's program goes on; nothing is
//! lost but the early notice, as the agent matches what is copied.

use core::arch::asm;

use aya_ebpf::bindings::{__sk_buff, BPF_RB_FORCE_WAKEUP};
use aya_ebpf::helpers::bpf_ringbuf_output;
use picket_abi::{FlowKey, Notice, NoticeKind, Owner, Reason, STREAM_NOTICE_BYTES, Way};

use super::Passage;
use super::copy::is_dns;
use super::counters::Counters;
use super::maps::{HANDOFF, NOTICES, STAGES};
use crate::parse::{Packet, protocol};

/// Places in [`STAGES`]; the agent knows them by the same numbers.
pub(super) mod stage {
    /// Names of DNS questions.
    pub(in crate::kernel) const NAMES: u32 = 0;
    /// Openings of miners.
    pub(in crate::kernel) const STRATUM: u32 = 1;
    /// How many there are.
    pub(in crate::kernel) const COUNT: u32 = 2;
}

/// What a stage is told of a packet, and where it puts its notice together: too large for the
/// stack. One for each CPU.
#[repr(C)]
pub(super) struct Handoff {
    /// The notice.
    pub(super) notice: Notice,
    /// What follows it in the ring. A name takes the first of them alone.
    pub(super) bytes: [u8; STREAM_NOTICE_BYTES],
    /// Where labels begin.
    pub(super) starts: [u64; 8],
    /// Where the IP header begins.
    pub(super) ip_at: u32,
    /// IP total length.
    pub(super) ip_bytes: u32,
    /// Where the payload begins.
    pub(super) payload_at: u32,
    /// Its bytes.
    pub(super) payload_bytes: u32,
}

/// Hands a packet that will be copied to the stage that knows it, and comes back only where there
/// is none.
#[inline(always)]
pub(super) fn hand_on(
    passage: &Passage,
    packet: &Packet,
    key: &FlowKey,
    ktime_ns: u64,
    owner: Owner,
) {
    const DNS_PORT: u16 = 53;
    let dns = is_dns(packet);
    let names = dns && packet.destination_port == DNS_PORT;
    if !names && (dns || packet.protocol != protocol::TCP) {
        return;
    }
    let Some(handoff) = HANDOFF.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's element; no other program of ours runs on this CPU until we are done.
    let handoff = unsafe { &mut *handoff };
    fill(&mut handoff.notice, passage, key, ktime_ns, owner);
    handoff.ip_at = packet.ip_at;
    handoff.ip_bytes = packet.ip_bytes;
    handoff.payload_at = packet.ip_at + packet.header_bytes;
    handoff.payload_bytes = packet.payload_bytes();
    if names {
        jump::<{ stage::NAMES as i32 }>(passage.skb);
    } else {
        jump::<{ stage::STRATUM as i32 }>(passage.skb);
    }
}

/// Writes into a notice what every one says of its packet.
#[inline(always)]
pub(super) fn fill(
    notice: &mut Notice,
    passage: &Passage,
    key: &FlowKey,
    ktime_ns: u64,
    owner: Owner,
) {
    notice.ktime_ns = ktime_ns;
    notice.key.local[0] = key.local[0];
    notice.key.local[1] = key.local[1];
    notice.key.remote[0] = key.remote[0];
    notice.key.remote[1] = key.remote[1];
    notice.key.ports = key.ports;
    notice.ifindex = passage.ifindex;
    notice.way = passage.way as u32;
    notice.owner.start_ns = owner.start_ns;
    notice.owner.pid = owner.pid;
    notice.owner.uid = owner.uid;
}

/// Jumps into a stage; comes back where there is none.
///
/// Written out, so that the compiler cannot make one call of two with a stage that varies: where
/// the stage is a constant the kernel patches a plain jump into the program, where it varies it
/// has to guard an indirect one against speculation.
#[inline(always)]
pub(super) fn jump<const STAGE: i32>(skb: *mut __sk_buff) {
    // SAFETY: `bpf_tail_call` of the program's context, a map of programs and a place in it; a
    // call leaves nothing in the registers r0 to r5. Every program that the agent puts there is a
    // classifier like this one, and expects nothing but the handoff, which has been written.
    unsafe {
        asm!(
            "r3 = {stage}",
            "call 12",
            stage = const STAGE,
            inlateout("r1") skb => _,
            inlateout("r2") &raw const STAGES => _,
            lateout("r0") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
}

/// What a stage begins with: the handoff, and this CPU's counters.
#[inline(always)]
pub(super) fn begin(skb: *mut __sk_buff) -> Option<(Passage, Counters, &'static mut Handoff)> {
    let passage = Passage::here(skb, Way::Out);
    let counters = Counters::of(passage.cpu)?;
    let handoff = HANDOFF.get_ptr_mut(0)?;
    // SAFETY: this CPU's element; the program that wrote it has jumped to us.
    let handoff = unsafe { &mut *handoff };
    let way = if handoff.notice.way == Way::Out as u32 {
        Way::Out
    } else {
        Way::In
    };
    Some((Passage { way, ..passage }, counters, handoff))
}

/// Tells the agent at once: the notice and `ROOM` bytes, of which the first `bytes_len` count.
#[inline(always)]
pub(super) fn tell<const ROOM: usize>(
    counters: &mut Counters,
    handoff: &mut Handoff,
    kind: NoticeKind,
    bytes_len: u32,
) {
    const { assert!(ROOM <= STREAM_NOTICE_BYTES) }
    handoff.notice.kind = kind as u32;
    handoff.notice.bytes_len = bytes_len;
    // SAFETY: the handoff begins with the notice, and behind it are at least ROOM bytes.
    let error = unsafe {
        bpf_ringbuf_output(
            (&raw const NOTICES).cast_mut().cast(),
            core::ptr::from_mut(handoff).cast(),
            (size_of::<Notice>() + ROOM) as u64,
            u64::from(BPF_RB_FORCE_WAKEUP),
        )
    };
    counters.note(if error == 0 {
        Reason::NoticeSent
    } else {
        Reason::NoticeRingFull
    });
}
