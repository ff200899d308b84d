//! How large anything in a log may be, with the reason for each bound.

/// Bytes of one event. CloudTrail's own limit is 256 KB; exports that indent or wrap it take up to
/// four times that.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Levels of nesting within one event: what serde_json takes (its limit of 128 counts from 1).
pub const EVENT_DEPTH_MAX: u32 = 127;

/// Wrappers open at once around an event. Three are common; only damaged files have more.
pub const WRAPPERS_MAX: usize = 32;

/// Times an event may be wrapped as text within text: a queue message holding a notification
/// holding an event takes two.
pub const FOLDS_MAX: u8 = 4;

/// Bytes looked at again after faults, as a multiple of the bytes fed, and to begin with. Bounds
/// the work that a file made of faults can cause; a file with a few never gets there.
pub const REREAD_FACTOR: u64 = 16;
/// See [`REREAD_FACTOR`].
pub const REREAD_BYTES_FREE: u64 = 64 << 20;

/// Records of flow logs and query logs gathered at once; each takes some 300 bytes, so this is 60 MB. A
/// file of flow logs has at most 75 MB (VPC user guide, "Flow log files"), which is some 600,000.
pub const GATHERED_MAX: usize = 200_000;

/// Conversations or questions in one summary made of them: what an agent holds in one at least
/// (`docs/operating.md`), so that what reads summaries meets nothing larger.
pub const GATHERED_TOGETHER: usize = 10_000;

/// Bytes of one entry of a database's log that goes over several lines. The names in it have 63 bytes (NAMEDATALEN of
/// PostgreSQL); the rest is a statement of somebody who is logged in.
pub const LOGIN_RECORD_BYTES_MAX: usize = 64 << 10;

/// Bytes of the names that a client sends before it is known: what PostgreSQL takes of a startup packet
/// (`MAX_STARTUP_PACKET_LENGTH`, `src/include/libpq/pqcomm.h`).
pub const LOGIN_NAMES_BYTES_MAX: usize = 10_000;

/// Bytes kept of a user's, database's or program's name: four times what PostgreSQL and MySQL allow.
pub const LOGIN_TEXT_BYTES_MAX: usize = 256;

/// Connections of one database that came in and of which nothing was heard yet. More than come in a minute,
/// the time they have, on the largest instances (`max_connections` is 5,000 at most by default).
pub const LOGINS_WAITING_MAX: usize = 8_192;

/// Bytes of one object in which CloudWatch Logs wraps messages. What it sends has 1 MB at most, what its command prints of one
/// call as well; commands that put many calls together print more.
pub const EXPORT_BYTES_MAX: usize = 16 << 20;
