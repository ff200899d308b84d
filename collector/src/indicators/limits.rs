//! Bounds on what is kept and on who may wait, with the reason for each.

use std::time::Duration;

/// Changes kept, so that an agent that was away needs not be given everything: half an hour of one
/// every two seconds.
pub(super) const DELTAS_MAX: usize = 1_000;

/// Their bytes together.
pub(super) const DELTA_BYTES_MAX: usize = 8 << 20;

/// A change of more entries than this share of all is not worth making: agents are given everything.
pub(super) const CHANGED_SHARE_MAX: usize = 4;

/// Requests of one agent that may wait at once: the one under way, and one whose connection broke
/// unnoticed.
pub(super) const WAITING_PER_AGENT_MAX: u32 = 2;

/// Longest time that a request waits, and what one waits that names none.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Seconds after which an agent that was turned away may come again.
pub(crate) const RETRY_AFTER_S: &str = "5";

/// Operators who may wait for what they changed.
pub(super) const ASKS_MAX: usize = 256;

/// Entries of operators. They are for what is known today and on no feed yet; more belongs in a file
/// of `intel_dir` (chosen by hand).
pub(crate) const OPERATOR_ENTRIES_MAX: u64 = 100_000;

/// Bytes of a comment on an entry.
pub(crate) const COMMENT_BYTES_MAX: usize = 256;

/// Pause between two looks at the folders.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// Places in an agent's table of addresses, by default: `capture::ebpf::Sizes`.
pub(super) const KERNEL_ADDRESSES_MAX: u64 = 1_000_000;

/// Of them kept for what operators enter: a hundredth, more than anybody types (chosen by hand).
pub(super) const KERNEL_ADDRESSES_KEPT: u64 = 10_000;

/// Networks of IPv6 in an agent's table, by default.
pub(super) const KERNEL_NETS_MAX: u64 = 100_000;

/// Of them kept for what operators enter.
pub(super) const KERNEL_NETS_KEPT: u64 = 1_000;

/// Bytes of a bundle's head that lists may take; the rest of its mebibyte is for chunks.
pub(super) const HEAD_BYTES_MAX: u64 = 900 << 10;

/// Files that were not read, of which is told why.
pub(super) const SKIPPED_KEPT: usize = 100;

/// Lines that one reading of a folder may write to the log: the first pages of a folder that is all
/// wrong, and no more (chosen by hand).
pub(super) const LINES_MAX: usize = 1_000;

/// Time after a publication in which what operators change is gathered for the next: what a program
/// enters one by one makes ten bundles a second and not hundreds, and who enters one thing alone
/// does not wait.
pub(super) const GATHER: Duration = Duration::from_millis(100);

/// Latest version that one may be published above: the year 2100 in milliseconds. What says more did
/// not come from a clock.
pub(crate) const VERSION_MAX: u64 = 4_102_444_800_000;

/// Longest time after which what an operator enters ends by itself: ten years.
pub(crate) const EXPIRES_S_MAX: u64 = 3_650 * 86_400;
