//! A socket buffer as a frame: read directly where its headers are linear, else by helper.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use picket_abi::{Plain, Reason};

use super::verifier::Detour;
use crate::parse::{self, Frame, Link, NotFlow, Packet};

/// The linear part of a socket buffer.
struct Linear {
    data: usize,
    end: usize,
    bytes: u32,
    detour: Detour,
}

impl Frame for Linear {
    #[inline(always)]
    fn load<T: Plain>(&self, at: u32) -> Option<T> {
        let from = self.data + at as usize;
        if from + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the line above checks, and the verifier requires, that `from + size_of::<T>()`
        // is not beyond `data_end`; `Plain` makes any content valid. The target has no
        // alignment to keep: the kernel turns the load into one the machine can do, or refuses.
        Some(unsafe { *(from as *const T) })
    }

    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.bytes
    }

    #[inline(always)]
    fn forget<const MASK: i32>(&self, value: u32) -> u32 {
        self.detour.forget_but::<MASK>(value)
    }
}

/// All of a socket buffer, also what is in its fragments.
pub(super) struct Whole {
    skb: *mut __sk_buff,
    bytes: u32,
    detour: Detour,
}

impl Whole {
    #[inline(always)]
    pub(super) fn of(skb: *mut __sk_buff, detour: Detour) -> Self {
        // SAFETY: the kernel gives programs a valid context; the verifier checks the offset.
        let bytes = unsafe { (*skb).len };
        Self { skb, bytes, detour }
    }
}

impl Frame for Whole {
    #[inline(always)]
    fn load<T: Plain>(&self, at: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `skb` is the program's context; the helper writes exactly `size_of::<T>()`
        // bytes to `value` or fails.
        let error = unsafe {
            bpf_skb_load_bytes(
                self.skb.cast(),
                at,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        // SAFETY: no error means that all bytes were written, and `Plain` makes any valid.
        (error == 0).then(|| unsafe { value.assume_init() })
    }

    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.bytes
    }

    #[inline(always)]
    fn forget<const MASK: i32>(&self, value: u32) -> u32 {
        self.detour.forget_but::<MASK>(value)
    }
}

/// Reads a packet's headers, by helper when the linear part does not hold them.
#[inline(always)]
pub(super) fn parse(skb: *mut __sk_buff, link: Link, detour: Detour) -> Result<Packet, NotFlow> {
    // SAFETY: the kernel gives programs a valid context; the verifier checks the offsets.
    let (data, end, bytes) =
        unsafe { ((*skb).data as usize, (*skb).data_end as usize, (*skb).len) };
    let linear = Linear {
        data,
        end,
        bytes,
        detour,
    };
    match parse::packet(&linear, link) {
        Err(NotFlow {
            reason: Reason::LostLinkHeader | Reason::LostIpHeader | Reason::LostTransportHeader,
            ..
        }) if ((end - data) as u32) < bytes => {
            parse::packet(&Whole { skb, bytes, detour }, link).map(|packet| forget(packet, detour))
        }
        parsed => parsed.map(|packet| forget(packet, detour)),
    }
}

/// The same packet, whose sizes and protocol the verifier has forgotten: without that it would
/// follow each combination of headers through all that is done with a packet.
#[inline(always)]
pub(super) fn forget(packet: Packet, detour: Detour) -> Packet {
    // Offsets and sizes of headers are below 2^15, see `parse` and `mirror`, and ports have 16 bits.
    let small = u64::from(packet.ip_at)
        | u64::from(packet.header_bytes) << 16
        | u64::from(packet.protocol) << 32
        | u64::from(packet.tcp_flags) << 40
        | u64::from(packet.opens) << 48;
    let ports = u64::from(packet.source_port)
        | u64::from(packet.destination_port) << 16
        | u64::from(packet.ip_bytes) << 32;
    let (small, ports) = (detour.forget(small), detour.forget(ports));
    Packet {
        source_port: ports as u16,
        destination_port: (ports >> 16) as u16,
        ip_bytes: (ports >> 32) as u32,
        ip_at: (small & 0xffff) as u32,
        header_bytes: (small >> 16 & 0xffff) as u32,
        protocol: (small >> 32) as u8,
        tcp_flags: (small >> 40) as u8,
        opens: small >> 48 != 0,
        ..packet
    }
}

/// Packets that this one is on the wire: the segments of a GSO packet, otherwise 1.
#[inline(always)]
pub(super) fn segments(skb: *mut __sk_buff) -> u32 {
    // SAFETY: as above.
    let (segments, segment_bytes) = unsafe { ((*skb).gso_segs, (*skb).gso_size) };
    if segments > 1 {
        return segments;
    }
    if segment_bytes == 0 {
        return 1;
    }
    // A sender that is not trusted (a virtual machine's) leaves the count to be computed; see
    // SKB_GSO_DODGY in net/core/gso.c. Headers are ignored: at most one segment too many.
    // SAFETY: as above.
    let bytes = unsafe { (*skb).len };
    let computed = bytes / segment_bytes;
    if computed == 0 { 1 } else { computed }
}
