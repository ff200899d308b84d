//! Indicators: what is looked for, put together from every place it comes from, and published.
//!
//! ```text
//! intel_dir, fetched feeds, operators → sources → one set → analysis
//!                                          └→ edition: version, signature, changes → agents (door)
//! ```
//!
//! One task owns it all. It looks at the folders, hears of what operators change, and makes an edition
//! whenever the content is another, or the last one grows old. A place that cannot be read leaves what
//! is in use of it in use. Lists that do not fit are left out whole, which is told (`crier`), those that
//! are fetched first: nobody's list keeps another's from being published.

mod crier;
pub(crate) mod door;
mod edition;
mod keys;
pub(crate) mod limits;
pub(crate) mod operator;
mod place;
mod room;
mod source;
pub(crate) mod standing;
mod workshop;

use std::sync::Arc;

use anyhow::Context as _;
use picket_intel::IndicatorSet;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::config::BadValue;
use crate::stop::Stop;
use crate::store::Store;
pub(crate) use crier::Crier;
use edition::Edition;
use limits::{ASKS_MAX, GATHER, OPERATOR_ENTRIES_MAX, PAUSE};
use picket_wire::limits::BUNDLE_ENTRIES_MAX;
pub(crate) use room::Room;
use standing::Standings;
pub(crate) use workshop::Inputs;
use workshop::Workshop;

/// How indicators are published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds after which an agent calls its indicators stale. They are signed anew in a quarter of
    /// that time.
    pub expires_s: u64,
    /// Requests of agents that may wait for news at once.
    pub polls_max: usize,
    /// Entries that the lists of files may have together, those of `intel_dir` before those that are
    /// fetched. A list that does not fit is left out whole.
    pub entries_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A collector that is away over a night does not raise the alarm.
            expires_s: 86_400,
            // One for each of ten thousand agents, and some to spare.
            polls_max: 16_384,
            // All that fits into a bundle, but for what is kept for operators.
            entries_max: ENTRIES_MAX,
        }
    }
}

impl Settings {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        if self.expires_s < 60 {
            return Err(BadValue::new(
                "indicators.expires_s",
                "must not be below 60",
            ));
        }
        if self.polls_max == 0 {
            return Err(BadValue::new("indicators.polls_max", "must not be 0"));
        }
        if !(1..=ENTRIES_MAX).contains(&self.entries_max) {
            return Err(BadValue::new(
                "indicators.entries_max",
                format!("must be between 1 and {ENTRIES_MAX}"),
            ));
        }
        Ok(())
    }
}

/// Entries of all lists of files, at most.
const ENTRIES_MAX: u64 = BUNDLE_ENTRIES_MAX as u64 - OPERATOR_ENTRIES_MAX;

/// What a set takes of the room for lists.
pub(crate) fn size(set: &IndicatorSet) -> Room {
    source::Source::of("", set, 0).size()
}

/// Who wants to know the version that has what was changed.
struct Ask {
    /// What it must be above.
    above: u64,
    answer: oneshot::Sender<Result<u64, String>>,
}

/// The task that publishes.
pub(crate) struct Hub {
    workshop: Workshop,
    edition: watch::Sender<Arc<Edition>>,
    standings: watch::Sender<Arc<Standings>>,
    asks: mpsc::Receiver<Ask>,
}

/// What has been published, for whoever gives it out.
#[derive(Clone)]
pub(crate) struct Board {
    edition: watch::Receiver<Arc<Edition>>,
    standings: watch::Receiver<Arc<Standings>>,
    asks: mpsc::Sender<Ask>,
}

impl Hub {
    /// Reads every place, and makes the first edition; also gives the set itself.
    ///
    /// # Errors
    /// A folder of the configuration cannot be read, or there is too much for one set.
    pub(crate) fn open(
        inputs: Inputs,
        store: &Store,
    ) -> anyhow::Result<(Self, Board, IndicatorSet)> {
        let (workshop, edition, set, standings) = Workshop::open(inputs, store.clone())?;
        let (sender, receiver) = watch::channel(Arc::new(edition));
        let (standing, stands) = watch::channel(Arc::new(standings));
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let hub = Self {
            workshop,
            edition: sender,
            standings: standing,
            asks: asked,
        };
        let board = Board {
            edition: receiver,
            standings: stands,
            asks,
        };
        Ok((hub, board, set))
    }

    /// Publishes until told to stop.
    pub(crate) async fn run(self, mut crier: Crier, mut stop: Stop) -> anyhow::Result<()> {
        let Self {
            mut workshop,
            edition,
            standings,
            mut asks,
        } = self;
        crier.tell(&standings.borrow());
        let mut published = Instant::now();
        loop {
            let mut askers = Vec::new();
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                Some(ask) = asks.recv() => askers.push(ask),
                () = stop.told() => return Ok(()),
            }
            if !askers.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep_until(published + GATHER) => {}
                    () = stop.told() => return Ok(()),
                }
            }
            // Whoever asked meanwhile is served by the same round.
            while let Ok(ask) = asks.try_recv() {
                askers.push(ask);
            }
            let (asked, now) = (!askers.is_empty(), Arc::clone(&edition.borrow()));
            let above = askers.iter().map(|ask| ask.above).max().unwrap_or_default();
            let round = tokio::task::spawn_blocking(move || {
                let made = workshop.work(&now, asked, above);
                (workshop, made)
            });
            let made;
            (workshop, made) = round.await.context("put indicators together")?;
            let answer = match made {
                Ok(made) => {
                    if let Some(all) = made.standings {
                        crier.tell(&all);
                        standings.send_replace(Arc::new(all));
                    }
                    if let Some(next) = made.edition {
                        tracing::info!(
                            version = next.version(),
                            indicators = made.set.as_ref().map(IndicatorSet::len),
                            "indicators published"
                        );
                        edition.send_replace(Arc::new(next));
                        published = Instant::now();
                    }
                    if let Some(set) = made.set {
                        crier.inbox.intel(set).await;
                    }
                    Ok(edition.borrow().version())
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "indicators not published; those in use stay in use");
                    Err(error)
                }
            };
            for ask in askers {
                // Whoever does not wait any more has seen it in the list.
                let _ = ask.answer.send(answer.clone());
            }
        }
    }
}

impl Board {
    /// What is published now.
    pub(crate) fn edition(&self) -> Arc<Edition> {
        Arc::clone(&self.edition.borrow())
    }

    /// How the places stand that indicators come from.
    pub(crate) fn standings(&self) -> Arc<Standings> {
        Arc::clone(&self.standings.borrow())
    }

    /// Says that operators' entries have changed; returns the version that has the change.
    ///
    /// # Errors
    /// It could not be published; why.
    pub(crate) async fn changed(&self) -> Result<u64, String> {
        self.supersede(0).await
    }

    /// As [`Board::changed`], and whatever has changed, the version is above this one.
    ///
    /// # Errors
    /// It could not be published; why.
    pub(crate) async fn supersede(&self, above: u64) -> Result<u64, String> {
        let (answer, answered) = oneshot::channel();
        let stopped = || "the collector is stopping".to_owned();
        let ask = Ask { above, answer };
        self.asks.send(ask).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Waits until another version than `have` is published.
    async fn other_than(&mut self, have: u64) -> Option<Arc<Edition>> {
        let changed = self.edition.wait_for(|edition| edition.version() != have);
        changed.await.ok().map(|edition| Arc::clone(&edition))
    }
}
