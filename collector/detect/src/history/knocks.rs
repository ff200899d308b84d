//! Hits whose meaning waits for the conversation they belong to: an address that is listed came in,
//! and only an answer makes that more than a knock.

use std::net::IpAddr;

use picket_wire::{Conversation, Hit};

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::SIGHTINGS_MAX;

/// How long before the conversation's first packet in a window the hit may have been: the agent
/// tells once per flow, the flow may be answered minutes later (chosen by hand).
const WAIT_NS: u64 = 60_000_000_000;

/// Listed end, other end, as one sensor sees them.
type Key = (SpeakerKey, IpAddr, IpAddr);

/// The last hit of each category, by its two ends.
#[derive(Debug)]
pub(crate) struct Knocks(Table<Key, Vec<Hit>>);

impl Default for Knocks {
    fn default() -> Self {
        Self(Table::new(SIGHTINGS_MAX))
    }
}

impl Knocks {
    /// Keeps a hit whose source is listed.
    pub(crate) fn put(&mut self, speaker: SpeakerKey, hit: &Hit) {
        let hits = self.0.write((speaker, hit.src, hit.dst), hit.time_ns);
        // There are ten categories, so the row is short.
        hits.retain(|known| known.category != hit.category);
        hits.push(hit.clone());
    }

    /// The hits that belong to a conversation whose listed end is `listed`.
    pub(crate) fn of(
        &self,
        speaker: SpeakerKey,
        conversation: &Conversation,
        listed: IpAddr,
    ) -> impl Iterator<Item = &Hit> {
        let other = if listed == conversation.client {
            conversation.server
        } else {
            conversation.client
        };
        let earliest_ns = conversation.first_ns.saturating_sub(WAIT_NS);
        let span = earliest_ns..=conversation.last_ns;
        let row = if self.0.is_empty() {
            None
        } else {
            self.0.get(&(speaker, listed, other))
        };
        row.into_iter()
            .flatten()
            .filter(move |hit| span.contains(&hit.time_ns))
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.0.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("knocks_evicted", self.0.evicted())]
    }
}
