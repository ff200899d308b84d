//! Copies of packets that are worth decoding: DNS, the first payload packets of TCP flows, and
//! those that a client sends to the port of QUIC.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use aya_ebpf::helpers::{bpf_ringbuf_output, bpf_skb_load_bytes};
use picket_abi::{COPY_BYTES_MAX, CopyHeader, FlowSlot, Owner, Reason, Way};

use super::counters::Counters;
use super::maps::{COPIES, COPIES_WAKE_BYTES, SCRATCH, Scratch};
use super::verifier::mask;
use super::{Passage, wake_flag};
use crate::parse::{Packet, protocol};
use crate::wake;

/// Payload packets copied of each flow and direction: a ClientHello split in three, or a banner, a
/// command and their answers. Chosen by hand.
const FIRST_PAYLOADS: u8 = 4;

const DNS_PORT: u16 = 53;
const QUIC_PORT: u16 = 443;

/// Whether this is one of the first payload packets of a flow in its direction, over TCP or to
/// the port of QUIC: what a QUIC server says is encrypted under keys we cannot have. Counts it:
/// an offer that finds the ring full is not repeated with later packets, which would only make
/// the ring fuller.
#[inline(always)]
pub(super) fn is_first_payload(slot: &mut FlowSlot, way: Way, packet: &Packet) -> bool {
    let worth = packet.protocol == protocol::TCP
        || (packet.protocol == protocol::UDP && packet.destination_port == QUIC_PORT);
    if !worth || packet.payload_bytes() == 0 {
        return false;
    }
    let offered = match way {
        Way::Out => &mut slot.copied_out,
        Way::In => &mut slot.copied_in,
    };
    if *offered >= FIRST_PAYLOADS {
        return false;
    }
    *offered += 1;
    true
}

/// Whether this is a packet with payload from or to port 53.
#[inline(always)]
pub(super) fn is_dns(packet: &Packet) -> bool {
    (packet.source_port == DNS_PORT || packet.destination_port == DNS_PORT)
        && (packet.protocol == protocol::UDP || packet.protocol == protocol::TCP)
        && packet.payload_bytes() != 0
}

/// Copies a packet from its IP header on; `ip` is where that is and the IP total length.
#[inline(always)]
pub(super) fn send(
    passage: &Passage,
    counters: &mut Counters,
    ip: (u32, u32),
    ktime_ns: u64,
    owner: Owner,
) {
    if let Some(mut taken) = Taken::of(passage, counters, ip) {
        taken.send(passage, counters, ip.1, ktime_ns, owner);
    }
}

/// A packet in the scratch, from its IP header on.
pub(super) struct Taken {
    scratch: &'static mut Scratch,
    bytes: u64,
}

impl Taken {
    /// Takes a packet; `None` and counted where it cannot be read.
    #[inline(always)]
    pub(super) fn of(
        passage: &Passage,
        counters: &mut Counters,
        (ip_at, ip_bytes): (u32, u32),
    ) -> Option<Self> {
        // SAFETY: this CPU's element; no other program of ours runs on this CPU until we are done.
        let scratch = unsafe { &mut *SCRATCH.get_ptr_mut(0)? };
        // SAFETY: the kernel gives programs a valid context; the verifier checks the offset.
        let there = unsafe { (*passage.skb).len } - ip_at;
        let wanted = ip_bytes.min(there).min(COPY_BYTES_MAX as u32);
        // Between 1 and COPY_BYTES_MAX in a form that the verifier can follow.
        let bytes = mask::<{ COPY_BYTES_MAX as i32 - 1 }>(u64::from(wanted) - 1) + 1;
        // SAFETY: the destination has COPY_BYTES_MAX bytes, and `bytes` is no more than that.
        let error = unsafe {
            bpf_skb_load_bytes(
                passage.skb.cast(),
                ip_at,
                scratch.bytes.as_mut_ptr().cast(),
                bytes as u32,
            )
        };
        if error != 0 {
            counters.note(Reason::CopyUnreadable);
            return None;
        }
        Some(Self { scratch, bytes })
    }

    /// How many bytes were taken: at most [`COPY_BYTES_MAX`].
    #[inline(always)]
    pub(super) fn bytes(&self) -> u32 {
        self.bytes as u32
    }

    /// What begins at a place below [`COPY_BYTES_MAX`]; behind it [`COPY_MORE_BYTES`] can be
    /// reached. What was not taken is anything.
    #[inline(always)]
    pub(super) fn at(&mut self, place: u32) -> *mut u8 {
        let place = mask::<{ COPY_BYTES_MAX as i32 - 1 }>(u64::from(place)) as usize;
        // SAFETY: the mask keeps the place within the scratch's bytes.
        unsafe { self.scratch.bytes.as_mut_ptr().add(place) }
    }

    /// Sends it up.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        passage: &Passage,
        counters: &mut Counters,
        wire_bytes: u32,
        ktime_ns: u64,
        owner: Owner,
    ) {
        let Self { scratch, bytes } = self;
        let bytes = *bytes;
        scratch.header = CopyHeader {
            ktime_ns,
            wire_bytes,
            copied_bytes: bytes as u32,
            ifindex: passage.ifindex,
            way: passage.way as u32 | passage.mark << 8,
            owner,
        };
        let record_bytes = size_of::<CopyHeader>() as u64 + bytes;
        let waiting = COPIES.query(u64::from(BPF_RB_AVAIL_DATA));
        let wakes = wake::passes(waiting, record_bytes, COPIES_WAKE_BYTES.load());
        // SAFETY: `scratch` begins with the header and holds `bytes` valid bytes after it.
        let error = unsafe {
            bpf_ringbuf_output(
                (&raw const COPIES).cast_mut().cast(),
                core::ptr::from_mut::<Scratch>(scratch).cast(),
                record_bytes,
                wake_flag(wakes),
            )
        };
        if error == 0 {
            counters.note(Reason::CopySent);
        } else {
            counters.note(Reason::CopyRingFull);
        }
    }
}
