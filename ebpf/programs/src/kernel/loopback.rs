//! Questions of DNS that a process of this host asks a resolver of this host: systemd-resolved,
//! dnsmasq, unbound and their like, which ask the network in its name.
//!
//! On `lo` both ends are ours, and only there is the asking process behind a packet: what the
//! resolver asks the network for leaves by a socket of its own. So a program at the egress of `lo`
//! tells who asks for what, and a hook tells which process takes questions; the agent puts the two
//! together. Nothing of this is counted as a packet: `lo` is no interface of the loss equation.
//!
//! Interface: [`observe`] for the program on `lo`; [`tell_resolver`] for the hook.

use core::mem::MaybeUninit;

use aya_ebpf::Global;
use aya_ebpf::bindings::{__sk_buff, BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_ringbuf_output, bpf_skb_load_bytes};
use aya_ebpf::macros::map;
use aya_ebpf::maps::RingBuf;
use picket_abi::{ASKED_BYTES, Notice, NoticeKind, Owner, Reason, Way};

use super::counters::Counters;
use super::maps::HANDOFF;
use super::verifier::mask;
use super::{NEXT, Passage, copy, frame, owner, stages, wake_flag};
use crate::names::{HEADER_BYTES, is_query};
use crate::parse::{Link, protocol};
use crate::wake;

/// Questions to resolvers of this host, and who these are. Of its own, as it must be read before
/// what the resolvers ask then.
#[map]
static ASKED: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Bytes waiting in [`ASKED`] that wake the agent before its timer does.
#[unsafe(no_mangle)]
static ASKED_WAKE_BYTES: Global<u64> = Global::new(0);

const DNS_PORT: u16 = 53;

/// Looks at a packet that a process of this host sends to another, and lets it pass.
#[inline(always)]
pub fn observe(skb: *mut __sk_buff) -> i32 {
    if asks_nothing(skb) {
        return NEXT;
    }
    let passage = Passage::here(skb, Way::Out);
    let Some(mut counters) = Counters::of(passage.cpu) else {
        return NEXT;
    };
    let Ok(packet) = frame::parse(skb, Link::Ethernet, counters.detour()) else {
        return NEXT;
    };
    if packet.destination_port != DNS_PORT || !copy::is_dns(&packet) {
        return NEXT;
    }
    // Who asks is all there is to learn; without that there is nothing to tell.
    let asker = owner::behind(skb);
    if asker.pid == 0 {
        return NEXT;
    }
    let mut message_at = packet.ip_at + packet.header_bytes;
    let mut message_bytes = packet.payload_bytes();
    if packet.protocol == protocol::TCP {
        // Over TCP two bytes with the message's length stand before it (RFC 1035 4.2.2).
        let Some([high, low]) = load::<2>(skb, message_at) else {
            return NEXT;
        };
        let length = u32::from(high) << 8 | u32::from(low);
        if length + 2 > message_bytes {
            return NEXT;
        }
        message_at += 2;
        message_bytes = length;
    }
    if message_bytes <= HEADER_BYTES {
        return NEXT;
    }
    let Some([_, _, flags_high, flags_low, count_high, count_low]) = load::<6>(skb, message_at)
    else {
        return NEXT;
    };
    let flags = u16::from(flags_high) << 8 | u16::from(flags_low);
    let count = u16::from(count_high) << 8 | u16::from(count_low);
    if !is_query(flags, count) {
        return NEXT;
    }
    let Some(handoff) = HANDOFF.get_ptr_mut(0) else {
        return NEXT;
    };
    // SAFETY: this CPU's element; no other program of ours runs on this CPU until we are done.
    let handoff = unsafe { &mut *handoff };
    let wanted = message_bytes.min(ASKED_BYTES as u32);
    // Between 1 and ASKED_BYTES in a form that the verifier can follow.
    let bytes = mask::<{ ASKED_BYTES as i32 - 1 }>(u64::from(wanted) - 1) + 1;
    // SAFETY: the destination has more than ASKED_BYTES bytes, and `bytes` is no more than that.
    let error = unsafe {
        bpf_skb_load_bytes(
            skb.cast(),
            message_at,
            handoff.bytes.as_mut_ptr().cast(),
            bytes as u32,
        )
    };
    if error != 0 {
        return NEXT;
    }
    // SAFETY: no precondition.
    let ktime_ns = unsafe { bpf_ktime_get_ns() };
    let key = packet.key(Way::Out);
    stages::fill(&mut handoff.notice, &passage, &key, ktime_ns, asker);
    handoff.notice.set_version = 0;
    handoff.notice.hash = 0;
    handoff.notice.kind = NoticeKind::Asked as u32;
    handoff.notice.bytes_len = bytes as u32;
    let record_bytes = size_of::<Notice>() as u64 + bytes;
    let waiting = ASKED.query(u64::from(BPF_RB_AVAIL_DATA));
    let wakes = wake::passes(waiting, record_bytes, ASKED_WAKE_BYTES.load());
    // SAFETY: the handoff begins with the notice, and behind it are `bytes` valid bytes.
    let error = unsafe {
        bpf_ringbuf_output(
            (&raw const ASKED).cast_mut().cast(),
            core::ptr::from_mut(handoff).cast(),
            record_bytes,
            wake_flag(wakes),
        )
    };
    if error != 0 {
        counters.note(Reason::AskedRingFull);
    }
    NEXT
}

/// Whether a packet is plainly no question: its headers are the shortest there are, as almost all on
/// `lo`, and it is not for the port of DNS. Of others nothing is said.
#[inline(always)]
fn asks_nothing(skb: *mut __sk_buff) -> bool {
    const TYPE_AT: usize = 12;
    const IPV4: u16 = 0x0800u16.to_be();
    const IPV6: u16 = 0x86ddu16.to_be();
    /// Version 4, five words.
    const SHORTEST: u8 = 0x45;
    // Behind Ethernet, IP and the source port.
    const IPV4_PORT_AT: usize = 14 + 20 + 2;
    const IPV6_NEXT_AT: usize = 14 + 6;
    const IPV6_PORT_AT: usize = 14 + 40 + 2;
    // SAFETY: the kernel gives programs a valid context; the verifier checks the offsets.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data + IPV4_PORT_AT + 2 > end {
        return false;
    }
    // SAFETY: the line above checks that the packet goes as far as these.
    let (kind, first) = unsafe {
        (
            *((data + TYPE_AT) as *const u16),
            *((data + 14) as *const u8),
        )
    };
    if kind == IPV4 && first == SHORTEST {
        // SAFETY: as above.
        return unsafe { *((data + IPV4_PORT_AT) as *const u16) } != DNS_PORT.to_be();
    }
    if kind != IPV6 || data + IPV6_PORT_AT + 2 > end {
        return false;
    }
    // SAFETY: the line above checks that the packet goes as far as these.
    let (next, port) = unsafe {
        (
            *((data + IPV6_NEXT_AT) as *const u8),
            *((data + IPV6_PORT_AT) as *const u16),
        )
    };
    (next == protocol::TCP || next == protocol::UDP) && port != DNS_PORT.to_be()
}

/// Reads bytes of a packet, wherever they lie.
#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u8; N]> {
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: the destination has N bytes.
    let error = unsafe { bpf_skb_load_bytes(skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
    // SAFETY: no error means that all bytes were written.
    (error == 0).then(|| unsafe { bytes.assume_init() })
}

/// Tells that a process takes questions of DNS. Returns whether there was room.
#[inline(always)]
pub(super) fn tell_resolver(resolver: &Owner) -> bool {
    let mut notice = MaybeUninit::<Notice>::zeroed();
    let to = notice.as_mut_ptr();
    // SAFETY: a notice of our own, which is plain numbers; the ring takes as many bytes as it has.
    let error = unsafe {
        (&raw mut (*to).ktime_ns).write(bpf_ktime_get_ns());
        (&raw mut (*to).owner.start_ns).write(resolver.start_ns);
        (&raw mut (*to).owner.pid).write(resolver.pid);
        (&raw mut (*to).owner.uid).write(resolver.uid);
        (&raw mut (*to).kind).write(NoticeKind::Resolver as u32);
        bpf_ringbuf_output(
            (&raw const ASKED).cast_mut().cast(),
            to.cast(),
            size_of::<Notice>() as u64,
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    error == 0
}
