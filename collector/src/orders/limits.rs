//! Bounds on orders to block, with the reason for each.

use std::time::Duration;

/// Orders in force at once for all hosts, and for each account with its hosts. They are for what must
/// stop now; more belongs in a firewall (chosen by hand; an agent is given twice as many at most, well
/// below what its kernel tables take).
pub(super) const IN_FORCE_MAX: usize = 1_000;

/// How much the orders in force for one of these may cover: as much as this many of the widest networks
/// that may be ordered, of IPv4 a thirty-second of all, as with lists.
pub(super) const WIDEST_MAX: u128 = 8;

/// How far an agent's version may be ahead of ours, milliseconds: ten years, more than any clock that
/// TLS works with was set back.
pub(super) const AHEAD_MS_MAX: u64 = 10 * 366 * 86_400_000;

/// What is protected inside a network, as far as it is named; the others are counted.
pub(super) const WITHIN_NAMED_MAX: usize = 3;

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

/// Agents listed with one order, and in one answer; the others are counted.
pub(crate) const AGENTS_LISTED_MAX: usize = 100;
pub(crate) const AGENTS_ANSWERED_MAX: usize = 10_000;
