//! How much of any input is held, read or told, with the reason for each bound.

/// Bytes of records kept in memory while sorting; more goes to disk. Fifty thousand CloudTrail
/// events of the usual size.
pub const SORT_BYTES_MAX: usize = 64 << 20;

/// Sorted runs merged at once, each with a buffer of [`RUN_BUFFER_BYTES`] and an open file; more are
/// merged into one first. Well below the usual limit of 1,024 open files.
pub const RUNS_MAX: usize = 64;

/// Bytes read ahead from each run.
pub const RUN_BUFFER_BYTES: usize = 256 << 10;

/// Bytes read from a file at once.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Inflated bytes of one file. A busy organisation's trail writes about 1 GB a day in thousands of
/// files; this is for exports that put everything into one.
pub const INFLATED_BYTES_MAX: u64 = 64 << 30;

/// Inflated bytes per packed one. Logs shrink ten- to thirtyfold, deflate's own bound is 1,032
/// (RFC 1951: 258 bytes for 2 bits), so a file above this says nothing or the same thing again and
/// again.
pub const INFLATE_RATIO_MAX: u64 = 200;

/// Inflated bytes before the ratio counts: small files of repeated events are harmless.
pub const INFLATE_RATIO_FROM_BYTES: u64 = 64 << 20;

/// Gzip within gzip: a packed export of packed files has two.
pub const INFLATE_LAYERS_MAX: usize = 2;

/// Folders within folders. Log buckets nest twelve deep.
pub const FOLDER_DEPTH_MAX: usize = 64;

/// Faults told per file; the rest is counted.
pub const FAULTS_SHOWN_MAX: u64 = 20;

/// CloudTrail events remembered to tell repeats. Repeats have the same time and so stand close
/// together once sorted; this is a minute of the busiest accounts (chosen by hand), about 20 MB.
pub const EVENTS_SEEN_MAX: usize = 262_144;

/// Signers listed in the totals, the envelopes of others counted: more hosts than one looks at by
/// hand, in a line of 200 KB (chosen by hand).
pub const SIGNERS_MAX: usize = 1_024;

/// Envelopes whose place in their chain is remembered, about 80 bytes each: four months of one host
/// or a day of a hundred.
pub const LINKS_MAX: usize = 1_000_000;

/// Bytes of a line of flow logs or query logs. A flow record with every field of version 8 has 1 KB, a
/// query with the answers that fit into 64 KB of DNS some 200 KB.
pub const LINE_BYTES_MAX: usize = 512 << 10;

/// Databases whose logs are read at once, each with the connections that wait in it: more than an account may have (40 by
/// default).
pub const DATABASES_READ_MAX: usize = 1_024;

/// Digest files of CloudTrail that are checked, 200 bytes each: ten years of ten accounts by regions, one an
/// hour.
pub const DIGESTS_MAX: usize = 1_000_000;
