//! Bounds on lists, with the reason for each.

/// Entries of one set: a million addresses and a million domains, which is what the kernel tables
/// are laid out for.
pub const ENTRIES_MAX: usize = 2_000_000;

/// Bytes of one line of a list. A domain takes at most 253; the rest is room for a comment.
pub const LINE_BYTES_MAX: usize = 1_024;

/// Bytes of one row of a table or of JSON lines. GuardDuty's widest sample has 47 columns; the rest
/// is room for descriptions (chosen by hand).
pub const ROW_BYTES_MAX: usize = 64 << 10;

/// Nets that one written range may come to. From an odd first to an odd last address it takes 46 of
/// IPv4 and 222 of IPv6 (twice the bits, less two for each that the prefix must have).
pub const RANGE_NETS_MAX: usize = 256;

/// Nets into which one listed net may be cut by what is allowed inside it; beyond, it is left out.
/// Chosen by hand: an allowed address in a /8 leaves 24.
pub const CUT_NETS_MAX: usize = 1_024;

/// Entries of all allow-lists. The largest warninglist in use, of public resolvers, has 62,745.
pub const ALLOWED_MAX: usize = 1_000_000;

/// Allowed texts that are looked for anywhere in a name, one after the other, for each name. Chosen
/// by hand: ten milliseconds for a million names take this few.
pub const ALLOWED_PARTS_MAX: usize = 1_000;

/// Levels of XML. The deepest STIX 1.2 samples have a dozen.
pub const XML_DEPTH_MAX: usize = 64;

/// Files read from one folder and the folders that its `feeds.toml` names: maltrail has 3,000.
pub const FOLDER_FILES_MAX: usize = 8_192;

/// Bytes of one list file: a million lines of 64 bytes.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Lists of one set; a list is named by 16 bits in every entry.
pub const LISTS_MAX: usize = 4_096;

/// Entries left out that are kept with their reason, for each reason; the rest is only counted.
pub const REFUSALS_KEPT: usize = 20;

/// Shortest IPv4 network taken from a list. A shorter one is a mistake or sabotage: the registries
/// hand out nothing larger than a /8.
pub const PREFIX_V4_MIN: u8 = 8;

/// Shortest IPv6 network taken from a list: the smallest block a registry receives is a /12,
/// and no list names more than a provider's /19 (chosen by hand).
pub const PREFIX_V6_MIN: u8 = 16;

/// IPv4 addresses that one list may name, but for `custom` ones: eight /8, a thirty-second of all.
/// Spamhaus' DROP names a tenth of that, and all of AWS is three quarters of it.
pub const LIST_V4_MAX: u128 = 8 << 24;

/// IPv6 addresses that one list may name, but for `custom` ones: eight /16, half of what a registry
/// received. Spamhaus' DROP names less than a /29 for each of its fifty.
pub const LIST_V6_MAX: u128 = 8 << 112;
