//! A socket buffer as a frame: read directly where its headers are linear, else by helper.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use picket_abi::Plain;

use crate::parse::{self, Frame, Link, NotFlow, Packet};

/// The linear part of a socket buffer.
struct Linear {
    data: usize,
    end: usize,
    bytes: u32,
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
}

/// All of a socket buffer, also what is in its fragments.
struct Whole {
    skb: *mut __sk_buff,
    bytes: u32,
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
}

/// Reads a packet's headers, by helper when the linear part does not hold them.
#[inline(always)]
pub(super) fn parse(skb: *mut __sk_buff, link: Link) -> Result<Packet, NotFlow> {
    // SAFETY: the kernel gives programs a valid context; the verifier checks the offsets.
    let (data, end, bytes) =
        unsafe { ((*skb).data as usize, (*skb).data_end as usize, (*skb).len) };
    let parsed = parse::packet(&Linear { data, end, bytes }, link);
    match parsed {
        Err(NotFlow {
            reason: picket_abi::Reason::NotFlowMalformed,
            ..
        }) if ((end - data) as u32) < bytes => parse::packet(&Whole { skb, bytes }, link),
        parsed => parsed,
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
