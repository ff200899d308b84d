//! Ship: envelopes from the spool to the collector.
//!
//! Hits go at once, windows spread over a second, so that a fleet whose windows end together does
//! not knock together. What was accepted leaves the spool; what will never be accepted too, and is
//! counted: among it, after a while, what a key signed that is revoked. While the collector is away
//! the pauses double up to a minute, and a new hit tries again at once.

pub mod collector;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picket_wire::AgentId;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

pub use collector::{Collector, Knock, PostError, Status, Verdict};

use crate::outbox::Shared;
use crate::spool::Waiting;
use crate::watch::now_ns;

/// Envelopes of one post, and their bytes.
const BATCH_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// First pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Shortest time between two tries, however many hits come.
const TRY_GAP: Duration = Duration::from_millis(250);

/// Windows wait a random part of this before they go.
const SPREAD: Duration = Duration::from_secs(1);

/// Refusals that no later try will change.
const FINAL: [&str; 4] = ["malformed", "replayed", "too_large", "wrong_key"];

/// How long an envelope waits that is refused because of its key. A collector that was set up anew or
/// brought back from a copy may not know yet whom it knew. Chosen by hand.
const KEY_WAIT: Duration = Duration::from_secs(3_600);

/// Reasons counted apart; a collector may invent others.
const REASONS_MAX: usize = 32;

/// How shipping goes, since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Envelopes the collector has made durable.
    pub accepted: u64,
    /// Envelopes it had already.
    pub duplicate: u64,
    /// Answers that refused one, by reason. One that is kept may be refused again.
    pub refused: BTreeMap<String, u64>,
    /// When it last took one, seconds since the epoch.
    pub last_ack_s: Option<u64>,
    /// What is wrong now, if anything.
    pub trouble: Option<String>,
}

/// Ships until it is told to stop and the spool is empty.
pub struct Shipper {
    collector: Collector,
    /// Who we are now; what waits may be of a key that this host had before.
    own: AgentId,
    shared: Arc<Shared>,
    report: Arc<Mutex<Report>>,
    pause: Duration,
}

/// How a post went.
enum Outcome {
    /// Something left the spool.
    Moved,
    /// The collector took nothing.
    Stuck,
    /// It asks for a pause.
    Busy(Duration),
}

impl Shipper {
    /// Ships what `shared` holds of agent `own` to `collector`, and says in `report` how it goes.
    pub fn new(
        collector: Collector,
        own: AgentId,
        shared: Arc<Shared>,
        report: Arc<Mutex<Report>>,
    ) -> Self {
        Self {
            collector,
            own,
            shared,
            report,
            pause: PAUSE_MIN,
        }
    }

    /// Ships for ever; once `stop` says so, until the spool is empty. The caller bounds that time.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            self.shared.hits.store(false, Ordering::Release);
            let batch = self.shared.spool().batch(BATCH_MAX, BATCH_BYTES_MAX);
            if batch.is_empty() {
                if *stop.borrow() {
                    return;
                }
                self.wait_for_more(&mut stop).await;
                continue;
            }
            match self.ship(&batch).await {
                Outcome::Moved => self.pause = PAUSE_MIN,
                Outcome::Stuck => {
                    let failed = Instant::now();
                    let pause = jittered(self.pause);
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    self.rest(pause, &mut stop).await;
                    sleep_until(failed + TRY_GAP).await;
                }
                // What the collector asks for holds for hits too.
                Outcome::Busy(pause) => sleep(jittered(pause).max(pause)).await,
            }
        }
    }

    /// Waits for an envelope; if it is no hit, a little longer.
    async fn wait_for_more(&self, stop: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = self.shared.wake.notified() => {}
            _ = stop.changed() => return,
        }
        if !self.shared.hits.load(Ordering::Acquire) {
            self.rest(random_part(SPREAD), stop).await;
        }
    }

    /// Pauses, but not for longer than until the next hit.
    async fn rest(&self, pause: Duration, stop: &mut watch::Receiver<bool>) {
        let until_hit = async {
            while !self.shared.hits.load(Ordering::Acquire) {
                self.shared.wake.notified().await;
            }
        };
        let stopped = async {
            if *stop.borrow() {
                // Being stopped already shortens nothing: the caller's deadline does.
                std::future::pending::<()>().await;
            }
            drop(stop.changed().await);
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = until_hit => {}
            () = stopped => {}
        }
    }

    async fn ship(&self, batch: &[Waiting]) -> Outcome {
        let mut envelopes: Vec<_> = batch
            .iter()
            .map(|waiting| waiting.envelope.clone())
            .collect();
        // What goes together goes in order, so that the collector sees no gap where none is.
        envelopes.sort_by_key(|envelope| envelope.sequence);
        match self.collector.post(&envelopes).await {
            Ok(verdicts) => self.apply(batch, &verdicts),
            Err(PostError::Busy { pause }) => {
                self.trouble(Some(PostError::Busy { pause }.to_string()));
                Outcome::Busy(pause)
            }
            Err(error) => {
                self.trouble(Some(error.to_string()));
                Outcome::Stuck
            }
        }
    }

    /// Lets go of what is settled. An envelope that was not answered for is shipped again.
    fn apply(&self, batch: &[Waiting], verdicts: &[Verdict]) -> Outcome {
        let verdicts: BTreeMap<u64, &Verdict> = verdicts
            .iter()
            .map(|verdict| (verdict.sequence, verdict))
            .collect();
        let (mut settled, mut refused, mut trouble) = (Vec::new(), Vec::new(), None);
        let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
        {
            let mut report = self.report();
            for waiting in batch {
                let Some(verdict) = verdicts.get(&waiting.envelope.sequence) else {
                    trouble = Some("the collector did not answer for every envelope".to_owned());
                    continue;
                };
                match verdict.status {
                    Status::Accepted | Status::Duplicate => {
                        let new = verdict.status == Status::Accepted;
                        report.accepted += u64::from(new);
                        report.duplicate += u64::from(!new);
                        report.last_ack_s = Some(now_ns() / 1_000_000_000);
                    }
                    Status::Refused => {
                        let reason = verdict.reason.as_deref().unwrap_or("unknown");
                        if report.refused.len() < REASONS_MAX || report.refused.contains_key(reason)
                        {
                            *report.refused.entry(reason.to_owned()).or_default() += 1;
                        }
                        if !self.is_final(reason, waiting) {
                            trouble = Some(format!("the collector refuses envelopes: {reason}"));
                            refused.push(waiting.place);
                            continue;
                        }
                        self.shared.tallies.count_refused(reason);
                        *dropped.entry(reason).or_default() += 1;
                    }
                }
                settled.push(waiting.place);
            }
        }
        for (reason, envelopes) in dropped {
            tracing::error!(reason, envelopes, "envelopes refused for good and dropped");
        }
        let outcome = if settled.is_empty() {
            Outcome::Stuck
        } else {
            Outcome::Moved
        };
        let mut spool = self.shared.spool();
        settled.into_iter().for_each(|place| spool.remove(place));
        refused.into_iter().for_each(|place| spool.set_aside(place));
        self.shared.tallies.note(spool.dropped());
        drop(spool);
        self.trouble(trouble);
        outcome
    }

    /// Whether no later try will change a refusal. A key that is revoked is so for ever, and a key that
    /// this host no longer has is not made known any more; but ours may still be.
    fn is_final(&self, reason: &str, waiting: &Waiting) -> bool {
        // A clock that was set back makes it young, never old.
        let is_old = waiting.since.elapsed().unwrap_or_default() > KEY_WAIT;
        let is_own = waiting.agent == self.own;
        match reason {
            "revoked" | "succeeded" => is_old || !is_own,
            "unknown_key" => is_old && !is_own,
            _ => FINAL.contains(&reason),
        }
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is wrong, and logs when that changes.
    fn trouble(&self, trouble: Option<String>) {
        let mut report = self.report();
        if report.trouble == trouble {
            return;
        }
        match &trouble {
            Some(why) => tracing::warn!(why, "not shipping"),
            None => tracing::info!("shipping again"),
        }
        report.trouble = trouble;
    }
}

/// Half of a pause and a random part of the other half, so that a fleet does not come back together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause / 2 + random_part(pause / 2)
}

/// A random part of a time.
fn random_part(of: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random bytes everybody takes half.
    let part = match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u16::from_le_bytes(bytes),
        Err(_) => u16::MAX / 2,
    };
    of.mul_f64(f64::from(part) / f64::from(u16::MAX))
}
