//! Numbers that go up and down: what is asked of the store, and of the indicators, when someone scrapes.

use std::borrow::Cow;

use crate::clock;
use crate::store::backfill::{self, Progress};
use crate::store::feeds::{self, FeedRow};
use crate::store::{Store, StoreError, findings, journal, outbox};

/// A number that is asked for when someone scrapes.
pub(super) struct Gauge {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// By labels as they are written; those of feeds come from the configuration.
    pub(super) values: Vec<(Cow<'static, str>, f64)>,
}

/// What is left out of the indicators, as whoever puts them together last said.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeftOut {
    /// Entries, by place and reason.
    pub(crate) entries: Vec<(&'static str, &'static str, u64)>,
    /// Whole lists, by place.
    pub(crate) lists: Vec<(&'static str, u64)>,
}

impl LeftOut {
    pub(super) fn gauges(&self) -> [Gauge; 2] {
        let entries = self.entries.iter().map(|(place, reason, count)| {
            let labels = format!("{{source=\"{place}\",reason=\"{reason}\"}}");
            (labels.into(), *count as f64)
        });
        let lists = self.lists.iter().map(|(place, count)| {
            let labels = format!("{{source=\"{place}\"}}");
            (labels.into(), *count as f64)
        });
        [
            Gauge {
                name: "indicators_left_out",
                help: "entries of lists that are left out",
                values: entries.collect(),
            },
            Gauge {
                name: "indicator_lists_left_out",
                help: "lists of indicators that are left out whole",
                values: lists.collect(),
            },
        ]
    }
}

/// What the store says of itself.
pub(super) fn of(store: &Store) -> Result<Vec<Gauge>, StoreError> {
    let (journal, outbox, open, feeds, backfills) = store.read(|connection| {
        Ok((
            journal::depth(connection)?,
            outbox::depth(connection)?,
            findings::open_by_band(connection)?,
            feeds::list(connection)?,
            backfill::list(connection)?,
        ))
    })?;
    let (waiting, oldest_ms) = journal;
    let lag_ms = oldest_ms.map_or(0, |oldest| clock::now_ms().saturating_sub(oldest));
    let one = |name, help, value: u64| Gauge {
        name,
        help,
        values: vec![("".into(), value as f64)],
    };
    Ok(vec![
        one(
            "journal_waiting_envelopes",
            "envelopes accepted and not yet analysed",
            waiting,
        ),
        Gauge {
            name: "analysis_lag_seconds",
            help: "age of the oldest envelope not yet analysed",
            values: vec![("".into(), lag_ms as f64 / 1_000.0)],
        },
        one(
            "outbox_waiting_alerts",
            "alerts waiting for delivery",
            outbox.0,
        ),
        one("outbox_dead_alerts", "alerts given up on", outbox.1),
        Gauge {
            name: "findings_open",
            help: "findings not archived",
            values: [
                "{severity=\"low\"}",
                "{severity=\"medium\"}",
                "{severity=\"high\"}",
                "{severity=\"critical\"}",
            ]
            .into_iter()
            .map(Cow::Borrowed)
            .zip(open.map(|count| count as f64))
            .collect(),
        },
        of_backfills(
            "backfill_objects",
            "objects that a back-fill is done with",
            &backfills,
            |one| one.objects,
        ),
        of_backfills(
            "backfill_events",
            "events that it found in them",
            &backfills,
            |one| one.events,
        ),
        of_backfills(
            "backfill_damaged",
            "objects not read whole",
            &backfills,
            |one| one.damaged,
        ),
        of_backfills(
            "backfill_done",
            "1 if a back-fill has come to its end, otherwise 0",
            &backfills,
            |one| u64::from(one.is_done),
        ),
        of_backfills(
            "backfill_day",
            "the day that a back-fill has come to, as 20260131; 0 before the first",
            &backfills,
            |one| one.mark.day.parse().unwrap_or(0),
        ),
        of_feeds("feed_entries", "entries of a feed in use", &feeds, |feed| {
            feed.current.as_ref().map_or(0, |current| current.entries)
        }),
        of_feeds(
            "feed_held",
            "1 if what came of a feed is held back, otherwise 0",
            &feeds,
            |feed| u64::from(feed.held.is_some()),
        ),
        of_feeds(
            "feed_failures",
            "failures of a feed since it last answered",
            &feeds,
            |feed| feed.failures,
        ),
        of_feeds(
            "feed_answered_timestamp_seconds",
            "when the server of a feed last answered in full, seconds since the epoch; 0 for never",
            &feeds,
            |feed| feed.success_ms / 1_000,
        ),
    ])
}

/// One number of each back-fill. Their names come from the configuration.
fn of_backfills(
    name: &'static str,
    help: &'static str,
    backfills: &[(String, Progress)],
    number: fn(&Progress) -> u64,
) -> Gauge {
    let values = backfills.iter().map(|(which, progress)| {
        let which = which.replace(['\\', '"', '\n'], "_");
        let labels = format!("{{backfill=\"{which}\"}}");
        (labels.into(), number(progress) as f64)
    });
    Gauge {
        name,
        help,
        values: values.collect(),
    }
}

/// One number of each feed. Their names are letters, digits, `-` and `_`.
fn of_feeds(
    name: &'static str,
    help: &'static str,
    feeds: &[FeedRow],
    value: impl Fn(&FeedRow) -> u64,
) -> Gauge {
    let one = |feed: &FeedRow| {
        let label = format!("{{feed=\"{}\"}}", feed.name);
        (label.into(), value(feed) as f64)
    };
    Gauge {
        name,
        help,
        values: feeds.iter().map(one).collect(),
    }
}
