//! How a feed does, in a line for people and their programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::indicators::standing::Standings;
use crate::store::feeds::FeedRow;

/// How a feed does, for people and their programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedLine {
    /// Always `feed`.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) feed: String,
    /// `new`, `well`, `held`, `failing`, `stale` or `left_out`.
    pub(crate) state: String,
    /// Entries in use.
    pub(crate) entries: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// When the server last answered in full, RFC 3339.
    pub(crate) last_success: Option<String>,
    /// When what is in use took its place.
    pub(crate) last_change: Option<String>,
    /// When it is asked for again.
    pub(crate) next: String,
    /// Seconds until then.
    pub(crate) next_s: u64,
    /// Failures since the last success.
    pub(crate) failures: u64,
    /// The last of them.
    pub(crate) last_error: Option<String>,
    /// What is held back, and why.
    pub(crate) held: Option<HeldLine>,
    /// What is to be known about what is in use.
    pub(crate) note: Option<String>,
    /// Why nothing of what is in use is looked for, if so.
    #[serde(default)]
    pub(crate) left_out: Option<String>,
    /// Entries that are not looked for, by reason.
    #[serde(default)]
    pub(crate) entries_left_out: BTreeMap<String, u64>,
}

/// What is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldLine {
    /// Why.
    pub(crate) why: String,
    /// Its entries.
    pub(crate) entries: u64,
    /// Since when.
    pub(crate) since: String,
}

/// How a feed does, as it is known and as it is published.
pub(super) fn line(row: &FeedRow, standings: &Standings, now_ms: u64) -> FeedLine {
    let aside = standings.aside_of(&row.name);
    let counts = standings.counts_of(&row.name);
    let current = row.current.as_ref();
    let time = |ms: u64| (ms > 0).then(|| clock::rfc3339(ms));
    let state = if aside.is_some() {
        "left_out"
    } else if row.is_stale_told {
        "stale"
    } else if row.held.is_some() {
        "held"
    } else if row.failures > 0 {
        "failing"
    } else if current.is_some() {
        "well"
    } else {
        "new"
    };
    FeedLine {
        kind: "feed".to_owned(),
        feed: row.name.clone(),
        state: state.to_owned(),
        entries: current.map_or(0, |current| current.entries),
        bytes: current.map_or(0, |current| current.bytes),
        last_success: time(row.success_ms),
        last_change: time(row.changed_ms),
        next: clock::rfc3339(row.next_ms),
        next_s: row.next_ms.saturating_sub(now_ms) / 1_000,
        failures: row.failures,
        last_error: row.last_error.clone(),
        held: row.held.as_ref().map(|held| HeldLine {
            why: held.why.clone(),
            entries: held.version.entries,
            since: clock::rfc3339(held.since_ms),
        }),
        note: current.and_then(|current| current.note.clone()),
        left_out: aside.map(|aside| aside.why.clone()),
        entries_left_out: counts
            .left_out()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
    }
}
