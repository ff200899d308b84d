//! Notices accounts whose CloudTrail has gone quiet, and that they are heard again.
//!
//! Quiet is an account of which much was read on each of the last days, and of which nothing has come for
//! longer than the settings allow: its trail was stopped by somebody whose call we were not given, its
//! bucket or its notifications are cut off, or our own way to them is. Only `serve` can say so, since in
//! files silence is the end of them. What was read is known from usage, which is counted by the events' own
//! days: the past being read anew is no sign of life.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use picket_detect::{Time, TrailEvent, TrailWord};
use serde::Deserialize;

use crate::analysis::{Batch, Inbox};
use crate::clock;
use crate::stop::Stop;
use crate::store::{Store, StoreError, usage};
use crate::usage::{Row, Source};

/// Pause between two looks: trails are delivered every few minutes.
const PAUSE: Duration = Duration::from_secs(60);

/// Days before today on each of which much must have been read.
const DAYS: u64 = 3;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// `[trails]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Hours after which an account of which nothing comes is quiet; 0 for never.
    pub quiet_h: u64,
    /// Events that must have come of it on each of the three days before.
    pub events_min: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quiet_h: 6,
            events_min: 1_000,
        }
    }
}

/// What the watch is made of.
pub(crate) struct Watch {
    /// When an account is quiet.
    pub(crate) settings: Settings,
    /// Where it stands how much was read.
    pub(crate) store: Store,
    /// Who is told.
    pub(crate) inbox: Inbox,
}

impl Watch {
    /// Looks again and again until told to stop.
    pub(crate) async fn run(self, mut stop: Stop) {
        if self.settings.quiet_h == 0 {
            return stop.told().await;
        }
        let mut heard = Heard::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.told() => return,
            }
            let now_ms = clock::now_ms();
            match self.look(&mut heard, now_ms).await {
                Ok(events) if events.is_empty() => {}
                Ok(trail) => {
                    let inbox = self.inbox.clone();
                    let told = tokio::task::spawn_blocking(move || {
                        inbox.batch(Batch {
                            trail,
                            ..Batch::default()
                        })
                    });
                    // Not stored is not told: the process is to end.
                    if !matches!(told.await, Ok(true)) {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, "usage not readable"),
            }
        }
    }

    async fn look(&self, heard: &mut Heard, now_ms: u64) -> Result<Vec<TrailEvent>, StoreError> {
        let since = day(now_ms.saturating_sub(DAYS * DAY_MS));
        let rows = self
            .store
            .read_async(move |connection| usage::list(connection, &since, None))
            .await?;
        Ok(heard.look(&rows, &self.settings, now_ms))
    }
}

/// What was heard of whom.
#[derive(Debug, Default)]
struct Heard {
    accounts: HashMap<String, Account>,
    quiet: HashSet<String>,
}

#[derive(Debug, Default)]
struct Account {
    /// Events by day, as they stood at the last look.
    days: BTreeMap<String, u64>,
    /// When more of them had come. Before the first look nobody could be heard.
    at_ms: u64,
    /// Whether any came since.
    was_heard: bool,
}

impl Heard {
    /// Remarks on accounts that have gone quiet of which that was not said yet, and on those that are heard
    /// again, be it after a restart.
    fn look(&mut self, rows: &[Row], settings: &Settings, now_ms: u64) -> Vec<TrailEvent> {
        let mut now: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for row in rows.iter().filter(|row| is_of_trail(row.source)) {
            let days = now.entry(&row.account).or_default();
            *days.entry(&row.day).or_default() += row.events;
        }
        let mut events = Vec::new();
        self.accounts
            .retain(|account, _| now.contains_key(&**account));
        for (account, days) in now {
            let is_first = !self.accounts.contains_key(account);
            let known = self.accounts.entry(account.to_owned()).or_default();
            let has_more = days
                .iter()
                .any(|(day, events)| *events > known.days.get(*day).copied().unwrap_or(0));
            known.days = days
                .iter()
                .map(|(day, n)| ((*day).to_owned(), *n))
                .collect();
            let word = if is_first {
                known.at_ms = now_ms;
                None
            } else if has_more {
                known.at_ms = now_ms;
                let is_news = !std::mem::replace(&mut known.was_heard, true);
                (self.quiet.remove(account) || is_news).then_some(TrailWord::Heard)
            } else if now_ms.saturating_sub(known.at_ms) >= settings.quiet_h * HOUR_MS
                && is_expected(&known.days, settings, now_ms)
                && self.quiet.insert(account.to_owned())
            {
                let since_ns = known.at_ms.saturating_mul(1_000_000);
                Some(TrailWord::Quiet { since_ns })
            } else {
                None
            };
            events.extend(word.map(|word| TrailEvent {
                account: account.to_owned(),
                region: String::new(),
                bucket: String::new(),
                file: String::new(),
                time_ns: now_ms.saturating_mul(1_000_000),
                word,
            }));
        }
        events
    }
}

/// Says whether so much came on each of the days before today that silence is odd.
fn is_expected(days: &BTreeMap<String, u64>, settings: &Settings, now_ms: u64) -> bool {
    (1..=DAYS).all(|back| {
        let day = day(now_ms.saturating_sub(back * DAY_MS));
        days.get(&day).copied().unwrap_or(0) >= settings.events_min.max(1)
    })
}

fn is_of_trail(source: Source) -> bool {
    matches!(
        source,
        Source::CloudtrailData | Source::CloudtrailManagement | Source::CloudtrailS3
    )
}

fn day(at_ms: u64) -> String {
    let mut text = Time(at_ms.saturating_mul(1_000_000)).to_string();
    text.truncate("YYYY-MM-DD".len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn rows(days: u64, events: u64, today: u64) -> Vec<Row> {
        let row = |back: u64, events| Row {
            day: day(NOW_MS - back * DAY_MS),
            source: Source::CloudtrailManagement,
            account: "111122223333".to_owned(),
            region: "eu-west-1".to_owned(),
            events,
            bytes: 0,
        };
        let mut all: Vec<Row> = (1..=days).map(|back| row(back, events)).collect();
        all.push(row(0, today));
        all
    }

    /// What is said at each look, an hour apart.
    #[track_caller]
    fn check(looks: &[Vec<Row>], expected: &[Option<&str>]) {
        let mut heard = Heard::default();
        let said: Vec<Option<&str>> = (0..)
            .zip(looks)
            .map(|(hour, rows)| {
                let now_ms = NOW_MS - 12 * HOUR_MS + hour * HOUR_MS;
                let events = heard.look(rows, &Settings::default(), now_ms);
                events.first().map(|event| match event.word {
                    TrailWord::Quiet { .. } => "quiet",
                    _ => "heard",
                })
            })
            .collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn who_was_loud_and_says_nothing_is_quiet_until_heard_again() {
        let busy = rows(4, 2_000, 5);
        let more = rows(4, 2_000, 6);
        let mut looks = vec![busy.clone(); 8];
        looks.push(more.clone());
        let mut expected = vec![None; 6];
        expected.extend([Some("quiet"), None, Some("heard")]);
        check(&looks, &expected);
        // Heard once after a start: what another run said is over. And then it is nothing new.
        check(
            &[busy, more, rows(4, 2_000, 7)],
            &[None, Some("heard"), None],
        );
    }

    #[test]
    fn who_says_little_or_is_new_is_not_expected() {
        check(&vec![rows(4, 900, 5); 10], &[None; 10]);
        check(&vec![rows(1, 2_000, 5); 10], &[None; 10]);
        check(&vec![Vec::new(); 10], &[None; 10]);
    }
}
