//! How it stands with the collector's indicators: for `status`, metrics and every summary.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picket_wire::Listing;
use serde::{Deserialize, Serialize};

use crate::watch::now_ns;

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Version of the bundle in use; 0 for none.
    pub version: u64,
    /// When it was issued, milliseconds since the epoch.
    pub issued_ms: u64,
    /// From when on it is stale, milliseconds since the epoch.
    pub expires_ms: u64,
    /// Entries on its lists.
    pub entries: u64,
    /// Its lists.
    pub lists: u64,
    /// When the collector last answered, or this run began; milliseconds since the epoch.
    pub answered_ms: u64,
    /// Bundles put in force since the start.
    pub applied: u64,
    /// Bundles refused since the start, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Whether the collector says that it offers none: it is of a version before.
    #[serde(default)]
    pub not_offered: bool,
    /// What is wrong now, if anything.
    pub trouble: Option<String>,
    /// Why what is in use is not current; `None` if it is.
    pub stale: Option<String>,
}

/// The report, shared by the client and whoever tells of it.
#[derive(Debug)]
pub struct Shared {
    report: Mutex<Report>,
    stale_after_ms: u64,
    /// Why nothing is asked for, if so.
    none: Option<String>,
}

impl Shared {
    /// Nothing in use yet; the collector's silence counts from now on.
    pub fn new(stale_after: Duration) -> Arc<Self> {
        let report = Report {
            answered_ms: now_ms(),
            ..Report::default()
        };
        Arc::new(Self {
            report: Mutex::new(report),
            stale_after_ms: u64::try_from(stale_after.as_millis()).unwrap_or(u64::MAX),
            none: None,
        })
    }

    /// Nothing is asked for, which is to be seen wherever it is told how it stands.
    pub fn none(why: String) -> Arc<Self> {
        Arc::new(Self {
            report: Mutex::default(),
            stale_after_ms: u64::MAX,
            none: Some(why),
        })
    }

    /// To note what has happened.
    pub(super) fn note(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands now.
    pub fn report(&self) -> Report {
        let mut report = self.note().clone();
        report.stale = self.stale(&report, now_ms());
        report
    }

    /// The same in the words of the wire.
    pub fn listing(&self) -> Listing {
        let report = self.report();
        Listing {
            version: report.version,
            issued_ms: report.issued_ms,
            stale: report.stale,
        }
    }

    fn stale(&self, report: &Report, now_ms: u64) -> Option<String> {
        if let Some(why) = &self.none {
            return Some(why.clone());
        }
        let silent_ms = now_ms.saturating_sub(report.answered_ms);
        if !report.not_offered && silent_ms > self.stale_after_ms {
            return Some(format!(
                "the collector has not answered for {} s",
                silent_ms / 1_000
            ));
        }
        if report.version != 0 && now_ms >= report.expires_ms {
            let over_s = now_ms.saturating_sub(report.expires_ms) / 1_000;
            return Some(format!("they were over {over_s} s ago"));
        }
        None
    }
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_stale_from_the_start() {
        let shared = Shared::none("enrolled elsewhere".to_owned());
        assert_eq!(
            shared.listing().stale.as_deref(),
            Some("enrolled elsewhere")
        );
    }

    #[test]
    fn what_is_stale_says_why() {
        let shared = Shared::new(Duration::from_secs(900));
        let check = |version, expires_ms, answered_ms, expected: Option<&str>| {
            let report = Report {
                version,
                expires_ms,
                answered_ms,
                ..Report::default()
            };
            let stale = shared.stale(&report, 2_000_000);
            assert_eq!(stale.as_deref(), expected);
        };
        check(7, 2_000_001, 1_100_000, None);
        check(7, 2_000_000, 2_000_000, Some("they were over 0 s ago"));
        check(7, 1_000_000, 2_000_000, Some("they were over 1000 s ago"));
        check(0, 0, 2_000_000, None);
        let silent = Some("the collector has not answered for 900 s");
        check(7, 3_000_000, 1_099_999, silent);
        check(0, 0, 1_099_999, silent);
        // A collector that offers none is not silent; what it gave before it was set back still ends.
        let check = |version, expected: Option<&str>| {
            let report = Report {
                version,
                expires_ms: 1_000_000,
                answered_ms: 1_099_999,
                not_offered: true,
                ..Report::default()
            };
            let stale = shared.stale(&report, 2_000_000);
            assert_eq!(stale.as_deref(), expected);
        };
        check(0, None);
        check(7, Some("they were over 1000 s ago"));
    }
}
