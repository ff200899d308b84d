//! Bounds on orders to block, with the reason for each.

use std::time::Duration;

/// Orders in force at once. They are for what must stop now; more belongs in a firewall (chosen by
/// hand, well below what an agent's kernel tables take).
pub(crate) const IN_FORCE_MAX: u64 = 1_000;

/// Orders that are over and still listed, at most, and for how long, milliseconds: a month, as long as
/// an order may last.
pub(super) const OVER_KEPT_MAX: u64 = 1_000;
pub(super) const OVER_KEPT_MS: u64 = 30 * 86_400_000;

/// Networks that an operator may name as never to be blocked; as many as an agent takes.
pub(super) const TRUSTED_MAX: usize = 2_048;

/// Longest wait for the addresses of the collector's own names.
pub(super) const LOOKUP_WAIT: Duration = Duration::from_secs(2);

/// Addresses of the collector's own that are known at most; a machine with a tap for each guest has
/// hundreds.
pub(super) const OWN_ADDRESSES_MAX: usize = 4_096;

/// Agents listed with one order; the others are counted.
pub(crate) const AGENTS_LISTED_MAX: usize = 100;
