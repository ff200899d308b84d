//! The bounds of the packet socket rung.

use std::time::Duration;

/// Bytes kept of a frame: the largest DNS message that is sent over UDP in practice (4,096, RFC
/// 6891 section 6.2.5) with its headers, and four times the ClientHello of common browsers. Longer
/// frames are counted in full and decoded as far as they were kept.
pub(super) const SNAP_BYTES: u32 = 4_224;

/// Bytes of one block of the ring. The kernel hands a block over when it is full or old.
pub(super) const BLOCK_BYTES: usize = 128 << 10;

/// Bytes of the ring of one interface: some 40,000 small packets, which is 80 ms of half a
/// million a second.
pub(super) const RING_BYTES: usize = 8 << 20;

/// A block that is not full is handed over after so long: a hit may wait for it.
pub(super) const BLOCK_AGE: Duration = Duration::from_millis(20);

/// Longest wait for the block that is being filled when a window closes. Three times its age:
/// timers of the kernel are late on busy machines.
pub(super) const SWEEP_WAIT: Duration = Duration::from_millis(60);

/// Time over which the share of a processor is kept.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// Interfaces watched at once; the memory of their rings is this often [`RING_BYTES`].
pub(super) const INTERFACES_MAX: usize = 32;
