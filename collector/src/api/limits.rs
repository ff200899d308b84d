//! Bounds on operators, with the reason for each.

/// Tokens in force at once (chosen by hand: people and programs of an organisation).
pub(super) const OPERATORS_MAX: usize = 1_000;

/// Bytes of an operator's name.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Accounts that one token may be bound to: what an AWS organisation has by default, hundredfold.
pub(super) const ACCOUNTS_MAX: usize = 1_000;

/// Longest life of a token, in seconds: two years.
pub(super) const LIFE_S_MAX: u64 = 2 * 365 * 86_400;

/// Failed attempts a minute that are looked at one by one, over all addresses: what the record of
/// calls can take without pushing out what matters.
pub(super) const FAILURES_BY_ALL_MAX: u64 = 120;

/// Bytes of a path in the record of calls.
pub(super) const WHAT_BYTES_MAX: usize = 512;

/// Pause between two notes that a token was used: five minutes, so that reading writes seldom.
pub(super) const USED_PAUSE_MS: u64 = 300_000;

/// Bytes of what an operator sends with a call: axum's own bound on what it reads, with which every
/// route was written.
pub(super) const BODY_BYTES_MAX: usize = 2 << 20;
