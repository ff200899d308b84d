//! What the kernel programs send up their rings: hits, evicted flows, copies of packets.
//!
//! Each kind has a ring of its own, so that a flood of one cannot take the room of another.

use crate::{FlowKey, FlowSlot, Owner, Plain};

/// Most bytes of a packet that are copied, from the IP header on. Covers a DNS answer of 1,232
/// bytes (the EDNS size resolvers agree on) and a ClientHello with a post-quantum key share.
pub const COPY_BYTES_MAX: usize = 2048;

/// Which way a packet went through its interface.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It left the host.
    Out = 0,
    /// It entered the host.
    In = 1,
}

/// An address of a flow is in the tables of listed addresses.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct HitRecord {
    /// When the packet passed, monotonic clock.
    pub ktime_ns: u64,
    /// The flow it belongs to.
    pub key: FlowKey,
    /// Version of the indicator set it was matched against.
    pub set_version: u64,
    /// Interface it passed.
    pub ifindex: u32,
    /// Which way it went: a [`Way`] as a number.
    pub way: u16,
    /// Which ends matched: bits in [`crate::verdict`].
    pub verdict: u16,
    /// Whose socket it is, as far as the flow's slot knows.
    pub owner: Owner,
}

/// Bytes of a name that go up with a [`Notice`]; the longest has one less.
pub const NAME_NOTICE_BYTES: usize = 256;

/// Bytes of a stream's opening that go up with a [`Notice`]. A login of xmrig that names all its
/// algorithms takes some 700.
pub const STREAM_NOTICE_BYTES: usize = 1024;

/// Bytes of a question to a resolver of this host that go up with a [`Notice`]: a power of two, above
/// the 271 of a header, the longest name, type and class (RFC 1035 4.1).
pub const ASKED_BYTES: usize = 512;

/// What a [`Notice`] tells of.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// A DNS question may ask for a listed name. The bytes are the name as it stands in the
    /// message, up to its root.
    Name = 0,
    /// A TCP payload begins like Stratum, the protocol of miners. The bytes are the payload.
    Stratum = 1,
    /// A process asks a resolver of this host. The bytes are the beginning of the DNS message.
    Asked = 2,
    /// A process takes questions of DNS: all that counts is the owner, and there are no bytes.
    Resolver = 3,
}

/// Stands before the bytes of a message that the kernel recognised, told at once. The agent looks
/// at the bytes again and makes a hit of it or counts it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Notice {
    /// When the packet passed, monotonic clock; the same as that of the packet's copy.
    pub ktime_ns: u64,
    /// The flow it belongs to.
    pub key: FlowKey,
    /// Version of the indicator set it was matched against; 0 for what needs no list.
    pub set_version: u64,
    /// For a name: the hash of the listed suffix.
    pub hash: u64,
    /// Whose socket it is, as far as the flow's slot knows.
    pub owner: Owner,
    /// Interface it passed.
    pub ifindex: u32,
    /// Which way it went: a [`Way`] as a number.
    pub way: u32,
    /// What this is: a [`NoticeKind`] as a number.
    pub kind: u32,
    /// How many of the bytes that follow count.
    pub bytes_len: u32,
}

/// A flow that had to leave its slot, with its final counters.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct EvictedFlow {
    /// The slot as it was; `generation` says which occupancy ended.
    pub flow: FlowSlot,
    /// Place of the slot: index of its set × 2 + its way.
    pub slot: u32,
    /// Zeros.
    pub reserved: u32,
}

/// Stands before the bytes of a copied packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyHeader {
    /// When the packet passed, monotonic clock.
    pub ktime_ns: u64,
    /// Bytes it had from the IP header on; more than follow when it was cut.
    pub wire_bytes: u32,
    /// Bytes of it that follow.
    pub copied_bytes: u32,
    /// Interface it passed.
    pub ifindex: u32,
    /// Which way it went: a [`Way`] as a number in bits 0-7; in bits 8-31 the mark of the tunnel it
    /// was in, see [`crate::tunnel`].
    pub way: u32,
    /// Whose socket it is, as far as the flow's slot knows.
    pub owner: Owner,
}

const _: () = assert!(size_of::<HitRecord>() == 80);
const _: () = assert!(size_of::<Notice>() == 96);
const _: () = assert!(size_of::<EvictedFlow>() == 136);
const _: () = assert!(size_of::<CopyHeader>() == 40);

// SAFETY: repr(C), integers only; 8 + 40 + 8 + 4 + 2 + 2 + 16 bytes are the 80 asserted above.
unsafe impl Plain for HitRecord {}
// SAFETY: repr(C), integers only; 8 + 40 + 2 × 8 + 16 + 4 × 4 bytes are the 96 asserted above.
unsafe impl Plain for Notice {}
// SAFETY: repr(C), a plain slot of 128 bytes and two words of 4.
unsafe impl Plain for EvictedFlow {}
// SAFETY: repr(C), integers only; 8 + 4 × 4 + 16 bytes are the 40 asserted above.
unsafe impl Plain for CopyHeader {}
