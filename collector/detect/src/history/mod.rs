//! What detections remember: bounded tables of facts in event time, keyed by entity.

use std::collections::BTreeMap;

use crate::event::{Event, SourceKind};
use crate::settings::Settings;

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct History {}

impl History {
    /// Takes in what several detections want to know of an event. What is older than its source's
    /// `watermark_ns` comes too late for any window.
    pub(crate) fn note(&mut self, _event: &Event, _watermark_ns: u64) {}

    /// Forgets what no event of `source` can meet any more.
    pub(crate) fn expire(&mut self, _source: SourceKind, _watermark_ns: u64, _settings: &Settings) {
    }

    /// What found no room, by name.
    pub(crate) fn turned_away(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}
