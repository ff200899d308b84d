//! How it stands with orders from outside: for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Givers;

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Version of the orders that were taken; 0 for none.
    pub version: u64,
    /// Orders in them, of which some may have run out.
    pub orders: u64,
    /// When the collector last answered, milliseconds since the epoch; 0 for not yet.
    pub answered_ms: u64,
    /// Bundles taken since the start.
    pub taken: u64,
    /// Bundles refused since the start, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Whether the collector says that it gives none: it is of an older version.
    pub not_offered: bool,
    /// What is wrong now with what the collector says, if anything.
    pub trouble: Option<String>,
    /// What is wrong now with what lies on disk, if anything.
    pub desk_trouble: Option<String>,
    /// Whether they come from a file in place of the collector.
    pub is_file: bool,
}

/// The report, shared by the client and whoever tells of it.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Report>);

impl Shared {
    /// Nothing taken yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// As it is before anything came in.
    #[must_use]
    pub fn of(givers: &Givers) -> Arc<Self> {
        let shared = Self::new();
        shared.note().is_file = !givers.is_collector();
        shared
    }

    /// Notes that what lies on disk was passed on.
    pub fn read(&self) {
        self.note().desk_trouble = None;
    }

    /// Notes why what lies on disk is not passed on; counted.
    pub fn unread(&self, why: &str) {
        let mut report = self.note();
        *report.refused.entry("file".to_owned()).or_default() += 1;
        report.desk_trouble = Some(why.to_owned());
    }

    /// To note what has happened.
    pub(super) fn note(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands now.
    pub fn report(&self) -> Report {
        self.note().clone()
    }
}
