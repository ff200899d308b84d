//! How large rules may be and how much they may remember, with the reason for each bound.

/// Bytes of one file of rules: the largest published ones have a tenth of it.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Documents in one file. Chosen by hand: a story of correlated rules takes ten.
pub const FILE_DOCUMENTS_MAX: usize = 1_000;

/// Levels of nesting in a document; rules use six.
pub const DEPTH_MAX: usize = 32;

/// Nodes of one file, with those that aliases repeat: what an alias bomb runs into.
pub const NODES_MAX: usize = 100_000;

/// Rules in force at once: four times all that are published for every product.
pub const RULES_MAX: usize = 20_000;

/// Tests in one rule once its condition is written out. Chosen by hand: lists of a few thousand
/// values are in use.
pub const RULE_TESTS_MAX: usize = 10_000;

/// Levels of parentheses and `not` in a condition. Chosen by hand.
pub const CONDITION_DEPTH_MAX: usize = 64;

/// Names between the dots of a field, as each dot may also be part of a name.
pub const FIELD_NAMES_MAX: usize = 16;

/// Bytes of one compiled regular expression, and as much again for its cache: some hundred times
/// what published ones take.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// Values that one placeholder, or several in one text, become.
pub const EXPANSIONS_MAX: usize = 1_000;

/// Groups that all correlations follow at once; at [`GROUP_EVIDENCE_MAX`] calls of 400 bytes and a
/// hundred times each, some 60 MB.
pub const GROUPS_MAX: usize = 20_000;

/// Events of one group within its time. A correlation that counts further than this is refused.
pub const GROUP_EVENTS_MAX: usize = 10_000;

/// Events of all groups together, 40 bytes each.
pub const EVENTS_MAX: usize = 2_000_000;

/// Calls of one group that are kept as evidence: what a person reads before deciding.
pub const GROUP_EVIDENCE_MAX: usize = 5;

/// Longest time a correlation may look back: a month, above which memory holds nothing.
pub const TIMESPAN_MAX_NS: u64 = 31 * 86_400 * 1_000_000_000;

/// Fields and values of a call that are named as what matched.
pub const FIELDS_SHOWN_MAX: usize = 6;

/// Bytes of a value that are shown.
pub const VALUE_SHOWN_BYTES: usize = 96;

/// Calls that were told of which it is remembered by which finding, half a kilobyte each. Beyond this many
/// they are told again. Chosen by hand: some thousand principals with a few kinds of calls each.
pub(crate) const TOLD_MAX: usize = 32_768;

/// Texts of one field of which it is remembered what rules found in them, up to [`MET_BYTES_MAX`] bytes each:
/// a quarter of a megabyte a field at most. Beyond this many all are looked at again. Chosen by hand: an
/// account sees some hundred programs in a day.
pub(crate) const MET_MAX: usize = 512;

/// Bytes of such a text; longer ones are looked at each time.
pub(crate) const MET_BYTES_MAX: usize = 512;
