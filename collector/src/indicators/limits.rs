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
