//! Indicators: what is looked for, put together from every place it comes from, and published.
//!
//! ```text
//! intel_dir, fetched feeds, operators → sources → one set → analysis
//!                                          └→ edition: version, signature, changes → agents (door)
//! ```
//!
//! One task owns it all. It looks at the folders, hears of what operators change, and makes an edition
//! whenever the content is another, or the last one grows old. A place that cannot be read, or too
//! much for one set, leaves what is in use in use.

pub(crate) mod door;
mod edition;
mod keys;
pub(crate) mod limits;
pub(crate) mod operator;
mod place;
mod source;
mod workshop;

use std::sync::Arc;

use anyhow::Context as _;
use picket_intel::IndicatorSet;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::analysis::Inbox;
use crate::config::BadValue;
use crate::stop::Stop;
use crate::store::Store;
use edition::Edition;
use limits::{ASKS_MAX, PAUSE};
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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A collector that is away over a night does not raise the alarm.
            expires_s: 86_400,
            // One for each of ten thousand agents, and some to spare.
            polls_max: 16_384,
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
        Ok(())
    }
}

/// Who wants to know the version that has what was changed.
type Ask = oneshot::Sender<Result<u64, String>>;

/// The task that publishes.
pub(crate) struct Hub {
    workshop: Workshop,
    edition: watch::Sender<Arc<Edition>>,
    asks: mpsc::Receiver<Ask>,
}

/// What has been published, for whoever gives it out.
#[derive(Clone)]
pub(crate) struct Board {
    edition: watch::Receiver<Arc<Edition>>,
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
        let (workshop, edition, set) = Workshop::open(inputs, store.clone())?;
        let (sender, receiver) = watch::channel(Arc::new(edition));
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let hub = Self {
            workshop,
            edition: sender,
            asks: asked,
        };
        let board = Board {
            edition: receiver,
            asks,
        };
        Ok((hub, board, set))
    }

    /// Publishes until told to stop.
    pub(crate) async fn run(self, inbox: Inbox, mut stop: Stop) -> anyhow::Result<()> {
        let Self {
            mut workshop,
            edition,
            mut asks,
        } = self;
        loop {
            let mut askers = Vec::new();
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                Some(ask) = asks.recv() => askers.push(ask),
                () = stop.told() => return Ok(()),
            }
            // Whoever asked meanwhile is served by the same round.
            while let Ok(ask) = asks.try_recv() {
                askers.push(ask);
            }
            let (asked, now) = (!askers.is_empty(), Arc::clone(&edition.borrow()));
            let round = tokio::task::spawn_blocking(move || {
                let made = workshop.work(&now, asked);
                (workshop, made)
            });
            let made;
            (workshop, made) = round.await.context("put indicators together")?;
            let answer = match made {
                Ok(Some((next, set))) => {
                    let version = next.version();
                    tracing::info!(
                        version,
                        indicators = set.as_ref().map(IndicatorSet::len),
                        "indicators published"
                    );
                    edition.send_replace(Arc::new(next));
                    if let Some(set) = set {
                        inbox.intel(set).await;
                    }
                    Ok(version)
                }
                Ok(None) => Ok(edition.borrow().version()),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "indicators not published; those in use stay in use");
                    Err(error)
                }
            };
            for ask in askers {
                // Whoever does not wait any more has seen it in the list.
                let _ = ask.send(answer.clone());
            }
        }
    }
}

impl Board {
    /// What is published now.
    pub(crate) fn edition(&self) -> Arc<Edition> {
        Arc::clone(&self.edition.borrow())
    }

    /// Says that operators' entries have changed; returns the version that has the change.
    ///
    /// # Errors
    /// It could not be published; why.
    pub(crate) async fn changed(&self) -> Result<u64, String> {
        let (ask, answer) = oneshot::channel();
        let stopped = || "the collector is stopping".to_owned();
        self.asks.send(ask).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Waits until another version than `have` is published.
    async fn other_than(&mut self, have: u64) -> Option<Arc<Edition>> {
        let changed = self.edition.wait_for(|edition| edition.version() != have);
        changed.await.ok().map(|edition| Arc::clone(&edition))
    }
}
