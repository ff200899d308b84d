//! How it stands with the collector's orders: for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

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
    /// What is wrong now, if anything.
    pub trouble: Option<String>,
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

    /// To note what has happened.
    pub(super) fn note(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands now.
    pub fn report(&self) -> Report {
        self.note().clone()
    }
}
