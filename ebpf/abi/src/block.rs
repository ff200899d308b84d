//! What the two sides know of blocking: which networks and endpoints are refused until when, and
//! what the kernel side tells of it.
//!
//! A refusal holds only while three things are true: its entry has not expired, no network of the
//! protected ones covers the address, and the agent's heartbeat is fresh. So a host whose agent
//! died is never cut off for longer than [`HEARTBEAT_FRESH_NS`].

use crate::{FlowKey, Plain};

/// How long a heartbeat counts, coarse monotonic clock: thirty missed beats. Chosen by hand.
pub const HEARTBEAT_FRESH_NS: u64 = 30_000_000_000;

/// Bit of [`BlockEntry::order`] that says that packets go on: what would have been refused is only
/// told. Numbers of orders stay below it.
pub const DRY_RUN: u64 = 1 << 63;

/// An order's entry: what a refused network or endpoint leads to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockEntry {
    /// When it ends, coarse monotonic clock.
    pub expires_ns: u64,
    /// Number of the order it stems from, and [`DRY_RUN`].
    pub order: u64,
}

/// A refused endpoint: one port of one address, whatever the protocol.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockedEndpoint {
    /// The address, as in [`FlowKey::remote`].
    pub address: [u64; 2],
    /// The port.
    pub port: u64,
}

/// The first packet of a flow that was refused.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockRecord {
    /// When the packet came, monotonic clock.
    pub ktime_ns: u64,
    /// The flow it belongs to.
    pub key: FlowKey,
    /// The order that refuses it, and [`DRY_RUN`].
    pub order: u64,
    /// Interface it came by.
    pub ifindex: u32,
    /// Which way it went: a [`crate::Way`] as a number.
    pub way: u32,
}

/// Whether a refusal holds at a time; all three by the coarse monotonic clock. A heartbeat of 0
/// has never been.
#[inline(always)]
#[must_use]
pub const fn holds(expires_ns: u64, heartbeat_ns: u64, now_ns: u64) -> bool {
    // The clocks of two CPUs may differ by a tick: a beat in the future is a fresh one.
    now_ns < expires_ns
        && heartbeat_ns != 0
        && now_ns.saturating_sub(heartbeat_ns) < HEARTBEAT_FRESH_NS
}

const _: () = assert!(size_of::<BlockEntry>() == 16);
const _: () = assert!(size_of::<BlockedEndpoint>() == 24);
const _: () = assert!(size_of::<BlockRecord>() == 64);
// SAFETY: repr(C), two words of 8 bytes.
unsafe impl Plain for BlockEntry {}
// SAFETY: repr(C), three words of 8 bytes.
unsafe impl Plain for BlockedEndpoint {}
// SAFETY: repr(C), integers only; 8 + 40 + 8 + 4 + 4 bytes are the 64 asserted above.
unsafe impl Plain for BlockRecord {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_its_entry_or_with_the_heartbeat() {
        const S: u64 = 1_000_000_000;
        for (expires_s, beat_s, now_s, expected) in [
            (100, 50, 60, true),
            (100, 50, 79, true),
            (100, 50, 80, false),
            (100, 99, 100, false),
            (100, 61, 60, true),
            (100, 0, 5, false),
            (0, 50, 60, false),
        ] {
            let held = holds(expires_s * S, beat_s * S, now_s * S);
            assert_eq!(
                held, expected,
                "expires {expires_s}, beat {beat_s}, now {now_s}"
            );
        }
    }
}
