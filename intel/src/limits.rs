//! Bounds on lists, with the reason for each.

/// Entries of one set: a million addresses and a million domains, which is what the kernel tables
/// are laid out for.
pub const ENTRIES_MAX: usize = 2_000_000;

/// Bytes of one line of a list. A domain takes at most 253; the rest is room for a comment.
pub const LINE_BYTES_MAX: usize = 1_024;

/// Bytes of one list file: a million lines of 64 bytes.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Lists of one set; a list is named by 16 bits in every entry.
pub const LISTS_MAX: usize = 4_096;

/// Refused lines kept with their reason; the rest is only counted.
pub const REFUSALS_KEPT: usize = 20;

/// Shortest IPv4 network taken from a list. A shorter one is a mistake or sabotage: the registries
/// hand out nothing larger than a /8.
pub const PREFIX_V4_MIN: u8 = 8;

/// Shortest IPv6 network taken from a list: the smallest block a registry receives is a /12,
/// and no list names more than a provider's /19 (chosen by hand).
pub const PREFIX_V6_MIN: u8 = 16;
