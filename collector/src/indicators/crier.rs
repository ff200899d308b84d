//! Tells of lists that are not used: in the log, as a number for each place, and as findings that are
//! put away by themselves when the list is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use picket_detect::{FeedEvent, FeedWord};

use super::standing::{Aside, Standings};
use crate::analysis::Inbox;
use crate::clock;
use crate::metrics::{LeftOut, Metrics};
use crate::store::{Store, StoreError, findings};

/// The finding's type, as `picket_detect` has it.
const LEFT_OUT: &str = "DefenseEvasion:EC2/IndicatorListLeftOut";

/// Who tells.
pub(crate) struct Crier {
    /// Where findings come from, and who matches.
    pub(super) inbox: Inbox,
    metrics: Arc<Metrics>,
    /// Account that the findings are about.
    account: String,
    /// What was told of each list that is left out, by name; nothing yet of one that a process before
    /// this one told of. At most as many as there are lists.
    told: BTreeMap<String, Option<String>>,
}

impl Crier {
    /// One who goes on from the findings that are open.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(
        inbox: Inbox,
        metrics: Arc<Metrics>,
        account: String,
        store: &Store,
    ) -> Result<Self, StoreError> {
        let open = store.read(|connection| findings::open_feeds(connection, LEFT_OUT))?;
        Ok(Self {
            inbox,
            metrics,
            account,
            told: open.into_iter().map(|list| (list, None)).collect(),
        })
    }

    /// Tells what is new about how the places stand.
    pub(super) fn tell(&mut self, all: &Standings) {
        self.metrics.left_out.set(numbers(all));
        let mut now = BTreeMap::new();
        for place in &all.places {
            for Aside { name, why, .. } in &place.aside {
                let known = self.told.get(name);
                if known.is_none() {
                    let why = why.clone();
                    self.send(name, FeedWord::LeftOut { why });
                }
                if known.and_then(Option::as_ref) != Some(why) {
                    let place = place.place;
                    tracing::error!(place, list = name, why, "list of indicators left out whole");
                }
                now.insert(name.clone(), Some(why.clone()));
            }
        }
        for list in self.told.keys().filter(|list| !now.contains_key(*list)) {
            tracing::info!(list, "list of indicators is not left out any more");
            self.send(list, FeedWord::Used);
        }
        self.told = now;
    }

    fn send(&self, list: &str, word: FeedWord) {
        let event = FeedEvent {
            account: self.account.clone(),
            feed: list.to_owned(),
            time_ns: clock::now_ms().saturating_mul(1_000_000),
            word,
        };
        if !self.inbox.feed(event) {
            self.metrics.sensor_events_dropped.add(1);
        }
    }
}

/// Entries left out by place and reason, and lists left out by place.
fn numbers(all: &Standings) -> LeftOut {
    let mut numbers = LeftOut::default();
    for standing in &all.places {
        let place = standing.place;
        for (reason, count) in standing.told.sum().left_out() {
            numbers.entries.push((place, reason, count));
        }
        numbers.lists.push((place, standing.aside.len() as u64));
    }
    numbers
}
