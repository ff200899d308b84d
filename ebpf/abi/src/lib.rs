//! Records that cross the border between picket's kernel programs and its agent.
//!
//! Everything here is `repr(C)` and free of padding, with its size asserted at compile time, so
//! that the kernel side can write it and the agent can read it from a ring or a mapped array as
//! it stands. Where both sides must compute the same place (the tables of what is listed), the
//! arithmetic is here too. No IO, no allocation, nothing of ours imported.
//!
//! Numbers are in the byte order of the machine; both sides run on the same one. Only
//! little-endian machines are supported, because an IPv4 address inside [`FlowKey`] is built
//! with shifts.
#![no_std]

pub mod addresses;
pub mod block;
pub mod counter;
pub mod event;
pub mod flow;
pub mod names;
pub mod owner;
pub mod tunnel;

pub use addresses::{AddressConfig, BUCKET_ALONE, BUCKET_ENTRIES, Bucket, CODE_WORDS};
pub use block::{BlockEntry, BlockRecord, BlockedEndpoint};
pub use counter::{Count, CpuCounters, REASONS, Reason};
pub use event::{
    ASKED_BYTES, COPY_BYTES_MAX, CopyHeader, EvictedFlow, HitRecord, NAME_NOTICE_BYTES, Notice,
    NoticeKind, STREAM_NOTICE_BYTES, Way,
};
pub use flow::{FlowKey, FlowSet, FlowSlot, WAYS, opener, verdict};
pub use owner::{COMM_BYTES, OWNER_TRIES, Owner, PATH_BYTES, ProcessRecord, Told};

#[cfg(target_endian = "big")]
compile_error!("picket's kernel records are laid out for little-endian machines");

/// Version of this layout: changes whenever a record here changes its shape or meaning.
pub const LAYOUT: u32 = 3;

/// A type that is nothing but bytes: every content is a valid value, and it has no padding.
///
/// # Safety
///
/// The type must be `repr(C)` (or primitive), without padding, references, niches or `Drop`, and
/// valid for every bit pattern.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: primitive integers are valid for every bit pattern and have no padding.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: an array has no padding between elements, and the elements are plain.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Reads a plain value from the front of `bytes`; `None` when there are too few.
#[must_use]
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the line above checks that `size_of::<T>()` bytes are there; `Plain` says that any
    // content of them is a `T`, and `read_unaligned` asks for no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Reads a plain value from words as they stand in a mapped array; `None` when there are too few.
#[must_use]
pub fn from_words<T: Plain>(words: &[u64]) -> Option<T> {
    if size_of_val(words) < size_of::<T>() {
        return None;
    }
    // SAFETY: the line above checks that `size_of::<T>()` bytes are there; `Plain` says that any
    // content of them is a `T`, and `read_unaligned` asks for no alignment.
    Some(unsafe { words.as_ptr().cast::<T>().read_unaligned() })
}
