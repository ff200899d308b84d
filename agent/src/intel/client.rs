//! The client: asks the collector for what has changed, and waits for the answer to come.
//!
//! ```text
//! GET <collector>/v1/indicators?have=V&wait=30     authorization: Picket <claim>
//! 200 bundles · 204 nothing new · 401 with its time, if ours is off · 409 · 429 and 503 come later
//! 404 it does not offer any: a collector of a version before
//! ```
//!
//! One request waits at a time. After a failure the pauses double up to a minute; each is drawn anew,
//! so that a fleet does not come back together.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context as _;
use picket_intel::IndicatorSet;
use picket_wire::Purpose;
use picket_wire::limits::{BUNDLE_BYTES_MAX, MANIFEST_BYTES_MAX};
use reqwest::header::AUTHORIZATION;
use reqwest::{Response, StatusCode};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::kept::{Good, Kept, Refusal};
use super::report::{Shared, now_ms};
use crate::config::Config;
use crate::feeds::{self, Feeds, Seed};
use crate::identity::Identity;
use crate::ship::collector::{ahead_ms, retry_after};
use crate::ship::{Collector, jittered};
use crate::watch::Command;

/// How long the collector is asked to wait for news.
const WAIT_S: u64 = 30;

/// Longest wait for its answer to begin: that, and a round trip over a bad line.
const ANSWER_WAIT: Duration = Duration::from_secs(WAIT_S + 15);

/// Longest pause within an answer, and longest time for all of it: 64 MiB at a megabit.
const PIECE_WAIT: Duration = Duration::from_secs(30);
const ALL_WAIT: Duration = Duration::from_secs(600);

/// First pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Pause before a collector is asked again that offers none: it may be replaced by a newer one.
const NOT_OFFERED_PAUSE: Duration = PAUSE_MAX;

/// Shortest time between two requests that were answered at once.
const REQUEST_GAP: Duration = Duration::from_millis(200);

/// Bytes of an answer with bundles, at most: a whole one, or changes that take less.
const ANSWER_BYTES_MAX: u64 = (BUNDLE_BYTES_MAX + MANIFEST_BYTES_MAX) as u64;

/// Asks for indicators, and has them put in force.
pub struct Client {
    collector: Collector,
    identity: Identity,
    kept: Kept,
    /// The host's own lists.
    own: Arc<IndicatorSet>,
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    /// How far the collector's clock is ahead of ours, milliseconds.
    ahead_ms: i64,
    /// Everything is to be asked for, since changes lead nowhere.
    asks_for_all: bool,
    /// When the first entry of the host's own lists is over, or they are to be read again.
    own_over_ms: Option<u64>,
}

/// How a request went.
enum Outcome {
    /// The collector answered.
    Answered,
    /// It did not, or with what is of no use.
    Failed,
    /// It asks for a pause.
    Busy(Duration),
}

impl Client {
    /// A client that goes on from what is kept.
    pub fn new(
        collector: Collector,
        identity: Identity,
        kept: Kept,
        own: Arc<IndicatorSet>,
        shared: Arc<Shared>,
        commands: SyncSender<Command>,
    ) -> Self {
        let mut client = Self {
            own_over_ms: own.next_expiry_ms(),
            collector,
            identity,
            kept,
            own,
            shared,
            commands,
            ahead_ms: 0,
            asks_for_all: false,
        };
        client.note_manifest();
        client
    }

    /// Asks for ever. When `reload` is rung the host's own lists are read again as `config` says.
    pub async fn run(mut self, config: Config, reload: Arc<Notify>) {
        let mut pause = PAUSE_MIN;
        loop {
            let over_ms = self.own_over_ms;
            let outcome = tokio::select! {
                outcome = self.ask() => outcome,
                () = reload.notified() => {
                    self.reload(&config).await;
                    continue;
                }
                () = feeds::over(over_ms) => {
                    self.reload(&config).await;
                    continue;
                }
            };
            let rest = match outcome {
                Outcome::Answered => {
                    pause = PAUSE_MIN;
                    REQUEST_GAP
                }
                Outcome::Failed => {
                    let rest = jittered(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                    rest
                }
                Outcome::Busy(asked) => asked + jittered(asked),
            };
            tokio::select! {
                () = sleep(rest) => {}
                () = reload.notified() => self.reload(&config).await,
            }
        }
    }

    /// One request, and what it takes to put the answer in force.
    async fn ask(&mut self) -> Outcome {
        let response = match timeout(ANSWER_WAIT, self.request()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.fail(format!("{error:#}")),
            Err(_) => return self.fail("the collector does not answer in time".to_owned()),
        };
        match response.status() {
            StatusCode::NO_CONTENT => self.answered(),
            StatusCode::OK => match timeout(ALL_WAIT, self.receive(response)).await {
                Ok(Ok(())) => self.take().await,
                Ok(Err(error)) => self.fail(format!("{error:#}")),
                Err(_) => self.fail("a bundle did not come in time".to_owned()),
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let asked = retry_after(&response).clamp(PAUSE_MIN, PAUSE_MAX);
                self.fail("the collector asks to come later".to_owned());
                Outcome::Busy(asked)
            }
            StatusCode::CONFLICT => self
                .fail("the collector's indicators are older than ours: it was set back".to_owned()),
            StatusCode::NOT_FOUND => self.not_offered(),
            status => {
                self.ahead_ms = ahead_ms(&response, now_ms()).unwrap_or(self.ahead_ms);
                self.fail(format!("the collector answered {status}"))
            }
        }
    }

    async fn request(&self) -> anyhow::Result<Response> {
        let have = if self.asks_for_all {
            0
        } else {
            self.kept.have()
        };
        let wait_s = if have == 0 { 0 } else { WAIT_S };
        let now_ms = now_ms().saturating_add_signed(self.ahead_ms);
        let claim = self.identity.claim(Purpose::Indicators, now_ms)?;
        let request = self
            .collector
            .get(&format!("indicators?have={have}&wait={wait_s}"))?;
        let request = request
            .header(AUTHORIZATION, claim)
            .timeout(ANSWER_WAIT + ALL_WAIT);
        request.send().await.map_err(crate::ship::collector::told)
    }

    /// Writes the body to disk, within bounds.
    async fn receive(&self, mut response: Response) -> anyhow::Result<()> {
        let path = self.kept.incoming();
        let name = || format!("write {}", path.display());
        let mut file = File::create(&path).with_context(name)?;
        let mut bytes = 0;
        loop {
            let piece = timeout(PIECE_WAIT, response.chunk())
                .await
                .context("the answer stopped")?
                .map_err(crate::ship::collector::told)?;
            let Some(piece) = piece else { return Ok(()) };
            bytes += piece.len() as u64;
            anyhow::ensure!(
                bytes <= ANSWER_BYTES_MAX,
                "the collector sends more than {ANSWER_BYTES_MAX} bytes"
            );
            file.write_all(&piece).with_context(name)?;
        }
    }

    /// Judges what was received, and has it put in force.
    async fn take(&mut self) -> Outcome {
        let good = match self.judge().await {
            Ok(good) => good,
            Err(refusal) => return self.refuse(refusal),
        };
        let set = Arc::clone(&good.set);
        let before = self.kept.manifest().map(|manifest| manifest.set);
        let is_same = good.manifest().map(|manifest| manifest.set) == before;
        if !is_same && let Err(why) = self.put_in_force(set).await {
            return self.refuse(Refusal {
                word: "kernel",
                why,
            });
        }
        if let Err(error) = self.kept.keep(good) {
            let error = format!("{error:#}");
            tracing::error!(error, "indicators are in force and not kept");
        }
        self.asks_for_all = false;
        self.note_manifest();
        self.shared.note().applied += 1;
        let report = self.shared.report();
        tracing::info!(
            version = report.version,
            entries = report.entries,
            lists = report.lists,
            "indicators of the collector in force"
        );
        self.answered()
    }

    /// On a thread of its own: a million names take a second.
    async fn judge(&mut self) -> Result<Good, Refusal> {
        let (kept, own) = (self.kept.reader(), Arc::clone(&self.own));
        let judging = tokio::task::spawn_blocking(move || kept.judge(&own, now_ms()));
        judging.await.unwrap_or_else(|_| {
            Err(Refusal {
                word: "broke_off",
                why: "reading the bundle broke off".to_owned(),
            })
        })
    }

    /// Hands a set to the thread that watches; it says whether it is in force.
    async fn put_in_force(&self, set: Arc<IndicatorSet>) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        self.commands
            .try_send(Command::Replace(set, done))
            .map_err(|_| "the watching thread is busy".to_owned())?;
        let broke_off = || "the watching thread broke off".to_owned();
        outcome.await.map_err(|_| broke_off())?
    }

    /// Reads the host's own lists again, beside what the collector gave.
    async fn reload(&mut self, config: &Config) {
        let reloaded = match Feeds::gather(config.intel_dir.as_deref(), Seed::of(config.seed)) {
            Ok(feeds) => {
                for complaint in feeds.complaints() {
                    tracing::warn!(complaint, "indicators");
                }
                let own = feeds.set;
                let merged = self.kept.set(&own);
                let set = match merged {
                    Some(Ok(set)) => Arc::new(set),
                    Some(Err(refusal)) => {
                        tracing::error!(error = refusal.why, "kept indicators not used");
                        self.asks_for_all = true;
                        Arc::clone(&own)
                    }
                    None => Arc::clone(&own),
                };
                self.put_in_force(set).await.map(|()| own)
            }
            Err(error) => Err(format!("{error:#}")),
        };
        match reloaded {
            Ok(own) => {
                self.own_over_ms = own.next_expiry_ms();
                self.own = own;
            }
            Err(error) => {
                self.own_over_ms = Some(feeds::later_ms());
                tracing::error!(error, "indicators not reloaded");
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Outcome {
        let Refusal { word, why } = refusal;
        tracing::error!(
            reason = word,
            error = why,
            "bundle refused; what is in use stays in use"
        );
        // Changes that lead nowhere are not asked for twice.
        self.asks_for_all = true;
        let mut report = self.shared.note();
        *report.refused.entry(word.to_owned()).or_default() += 1;
        report.trouble = Some(format!("bundle refused: {why}"));
        Outcome::Failed
    }

    fn fail(&mut self, why: String) -> Outcome {
        let mut report = self.shared.note();
        if report.trouble.as_ref() != Some(&why) {
            tracing::warn!(error = why, "no indicators from the collector");
            report.trouble = Some(why);
        }
        Outcome::Failed
    }

    /// Nothing is wrong then, and nothing goes stale for it; it is said once.
    fn not_offered(&mut self) -> Outcome {
        let mut report = self.shared.note();
        report.answered_ms = now_ms();
        report.trouble = None;
        if !std::mem::replace(&mut report.not_offered, true) {
            tracing::warn!(
                "the collector does not offer indicators: it is of an older version; \
                 the host's own lists are matched"
            );
        }
        Outcome::Busy(NOT_OFFERED_PAUSE)
    }

    fn answered(&mut self) -> Outcome {
        let mut report = self.shared.note();
        report.answered_ms = now_ms();
        report.trouble = None;
        report.not_offered = false;
        Outcome::Answered
    }

    fn note_manifest(&mut self) {
        let mut report = self.shared.note();
        let Some(manifest) = self.kept.manifest() else {
            return;
        };
        report.version = manifest.version;
        report.issued_ms = manifest.issued_ms;
        report.expires_ms = manifest.expires_ms;
        report.entries = manifest.entries();
        report.lists = manifest.lists.len() as u64;
    }
}
