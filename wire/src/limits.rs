//! How large anything on the wire may be, with the reason for each bound.

/// Bytes of one envelope as it travels. A window of 10,000 conversations and 2,000 names takes
/// about 400 KiB compressed (chosen by hand at ten times that).
pub const ENVELOPE_BYTES_MAX: usize = 4 << 20;

/// Bytes of a summary once inflated: eight times the envelope, as well-formed summaries shrink
/// four- to sixfold, so that an envelope cannot be a bomb.
pub const SUMMARY_BYTES_MAX: usize = 32 << 20;

/// Bytes of the protected header. Ours takes at most 219.
pub const PROTECTED_BYTES_MAX: usize = 512;

/// Conversations in one summary. The agent cuts at its own, lower, bound.
pub const CONVERSATIONS_MAX: usize = 65_536;

/// Grouped DNS questions in one summary.
pub const QUESTIONS_MAX: usize = 65_536;

/// Hits in one summary.
pub const HITS_MAX: usize = 16_384;

/// Counters in one summary: stages times reasons, both small closed sets.
pub const COUNTERS_MAX: usize = 512;

/// Further processes kept with one grouped question, besides the first that asked.
pub const QUESTION_ALSO_MAX: usize = 3;

/// Starts of flows told of one conversation: a beat every 600 ms in a window of 10 s. What begins more
/// often is no rhythm but a stream.
pub const STARTS_MAX: usize = 16;

/// Answers kept with one grouped question.
pub const ANSWERS_MAX: usize = 32;

/// Further names kept with what a conversation said.
pub const CONTENT_NAMES_MAX: usize = 8;

/// Bytes of a text that a conversation said. A DNS name takes at most 1,008.
pub const CONTENT_TEXT_BYTES_MAX: usize = 1_024;

/// Groups of like requests to the metadata service in one summary. A busy host makes a dozen in a
/// window; chosen by hand.
pub const IMDS_REQUESTS_MAX: usize = 4_096;

/// Networks that a host may call its own.
pub const LOCAL_NETS_MAX: usize = 1_024;

/// Interfaces that a summary says are watched. EC2 attaches 15 to its largest instances; a host with
/// a tap for each guest has hundreds.
pub const INTERFACES_MAX: usize = 1_024;

/// Directions of interfaces that a summary says were found without our program.
pub const DETACHED_MAX: usize = 64;

/// Bytes of a text about the sensor itself: names of interfaces (15, `IFNAMSIZ`) and reasons.
pub const HEALTH_TEXT_BYTES_MAX: usize = 512;

/// Bytes of a text of a process: its path, name, container or unit. Paths have at most 4,096
/// (`PATH_MAX`); the agent cuts at 255.
pub const PROCESS_TEXT_BYTES_MAX: usize = 4_096;

/// Bytes of any one text field. A DNS name in presentation form takes at most 1,008
/// (252 bytes, each escaped as `\DDD`).
pub const TEXT_BYTES_MAX: usize = 4_096;

/// Bytes of a bundle of orders to block.
pub const ORDERS_BYTES_MAX: usize = 4 << 20;

/// Orders in one bundle: as many networks as an agent's kernel tables take.
pub const ORDERS_MAX: usize = 16_384;

/// Highest number of an order: what an integer of SQL holds, and the kernel side needs a bit beside it.
pub const ORDER_ID_MAX: u64 = i64::MAX as u64;

/// Longest that an order may last from when its bundle was issued, milliseconds: 30 days. Chosen by
/// hand: whoever means it for ever wants a rule of a firewall.
pub const ORDER_LAST_MS_MAX: u64 = 30 * 86_400_000;

/// Shortest prefixes that an order may have, of IPv4 and of IPv6. Chosen by hand: whoever means more
/// of the Internet than this means something else.
pub const ORDER_PREFIX_MIN: (u8, u8) = (8, 16);

/// Bytes of the reason of one order.
pub const ORDER_REASON_BYTES_MAX: usize = 128;

/// Bytes of a claim: ours take 223 at most.
pub const CLAIM_BYTES_MAX: usize = 256;

/// Things that happened to orders in one summary. The agent cuts at its own, lower, bound.
pub const BLOCK_EVENTS_MAX: usize = 16_384;

/// Compression level of a summary. Measured by hand on windows of 10,000 conversations: level 3
/// costs 4 ms and level 9 five times that for a tenth less.
pub const ZSTD_LEVEL: i32 = 3;

/// Bytes of a request to enrol: an identity, a session token and little more.
pub const ENROL_REQUEST_BYTES_MAX: usize = 32 << 10;

/// Bytes of a challenge. Ours takes at most 80.
pub const CHALLENGE_BYTES_MAX: usize = 256;

/// Bytes of a receipt: its authorities and a few texts.
pub const RECEIPT_BYTES_MAX: usize = 32 << 10;

/// Bytes of a short text of an enrolment: a token, the name of a region or an instance.
pub const ENROL_TEXT_BYTES_MAX: usize = 255;

/// Bytes of the signature of an instance identity document. They take about 1,300; chosen by hand.
pub const IDENTITY_BYTES_MAX: usize = 8 << 10;

/// Bytes of a header of a signed request to STS. Session tokens have no bound that AWS would tell;
/// those seen take less than 2 KiB, and a server takes headers of 16 KiB together.
pub const STS_TEXT_BYTES_MAX: usize = 8 << 10;

/// Authorities in one receipt: the one in use and the next, and as many of a fleet in transition.
pub const AUTHORITIES_MAX: usize = 4;

/// Bytes of an authority's certificate.
pub const AUTHORITY_BYTES_MAX: usize = 4 << 10;

/// Bytes of the manifest of a bundle of indicators: 4,096 lists at a hundred bytes and a thousand
/// chunks at fifty, twice.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Bytes of the chunks of one bundle. A million addresses and a million domains take some 14 MiB.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;

/// Chunks of one bundle: two million domains of 253 bytes each fill half of them.
pub const BUNDLE_CHUNKS_MAX: usize = 1_024;

/// Lists of one bundle, as many as a set of indicators takes.
pub const BUNDLE_LISTS_MAX: usize = 4_096;

/// Entries of one bundle, as many as a set of indicators takes.
pub const BUNDLE_ENTRIES_MAX: usize = 2_000_000;

/// Bytes of a list's name.
pub const LIST_NAME_BYTES_MAX: usize = 255;

/// Bytes that one chunk inflates to: all that whoever reads a bundle needs of it in memory.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Bytes of one chunk as it travels: what does not shrink grows by less than this (zstd.h,
/// `ZSTD_COMPRESSBOUND`: a 256th).
pub const CHUNK_FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + (CHUNK_BYTES_MAX >> 7);

/// Compression level of a chunk. It is written once and read by every agent; chosen by hand.
pub const BUNDLE_ZSTD_LEVEL: i32 = 9;
