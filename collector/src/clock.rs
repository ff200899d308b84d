//! The collector's own clock. Event time never comes from here.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Milliseconds since the epoch; 0 on a machine that thinks it is before it.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC, to the second, for people and envelopes of alerts.
pub(crate) fn rfc3339(ms: u64) -> String {
    let second = i64::try_from(ms / 1_000)
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok());
    second.map_or_else(|| "unknown".to_owned(), |second| second.to_string())
}
