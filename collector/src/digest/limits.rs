//! Bounds on digest files and keys, with the reason for each.

/// Bytes of a digest, inflated. An entry has some 600; see [`LOGS_MAX`].
pub(super) const DIGEST_BYTES_MAX: usize = 32 << 20;

/// Log files that a digest names. An hour of the busiest trails has some thousands.
pub(super) const LOGS_MAX: usize = 50_000;

/// Bytes of a file with public keys: AWS makes a key every few months, of 400 bytes.
pub(super) const KEYS_BYTES_MAX: u64 = 4 << 20;

/// Characters of a stranger's word in a finding.
pub(super) const TEXT_BYTES_MAX: usize = 1_100;
