//! Conversations of one summary that belong together: what is shown of them, and when they were. Made in one walk
//! over the summary, which may hold as many of these as conversations.

use std::collections::BTreeMap;

use picket_wire::Conversation;

use super::evidence_of;
use crate::finding::Evidence;

/// Conversations shown with one occurrence: enough to see the pattern.
pub(super) const SHOWN_MAX: usize = 20;

/// Conversations that belong together.
pub(super) struct Sample<'a> {
    first: Vec<&'a Conversation>,
    /// The one that ended last.
    pub(super) last: &'a Conversation,
    pub(super) first_ns: u64,
}

impl<'a> Sample<'a> {
    fn of(c: &'a Conversation) -> Self {
        Self {
            first: Vec::new(),
            last: c,
            first_ns: c.first_ns,
        }
    }

    fn add(&mut self, c: &'a Conversation) {
        if self.first.len() < SHOWN_MAX {
            self.first.push(c);
        }
        if c.last_ns >= self.last.last_ns {
            self.last = c;
        }
        self.first_ns = self.first_ns.min(c.first_ns);
    }

    /// The first of them, to be shown.
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let first = self.first.iter();
        first.map(|c| evidence_of::conversation(c)).collect()
    }
}

/// Adds a conversation to those that belong to `key`.
pub(super) fn put<'a, K: Ord>(samples: &mut BTreeMap<K, Sample<'a>>, key: K, c: &'a Conversation) {
    samples.entry(key).or_insert_with(|| Sample::of(c)).add(c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SECOND, START, conversation};

    #[test]
    fn keeps_the_first_and_the_ends() {
        let mut all: Vec<Conversation> = (0..50)
            .map(|port| conversation("10.0.0.1", "192.0.2.1", port))
            .collect();
        all[30].first_ns = START;
        all[40].last_ns = START + 9 * SECOND;
        let mut samples = BTreeMap::new();
        for c in &all {
            put(&mut samples, c.server_port >= 25, c);
        }
        assert_eq!(samples[&true].evidence().len(), SHOWN_MAX);
        assert_eq!(samples[&true].first_ns, START);
        assert_eq!(samples[&true].last.server_port, 40);
        assert_eq!(samples[&false].first_ns, START + SECOND);
    }
}
