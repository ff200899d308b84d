//! The gate: judges envelopes one after the other, and answers when what it admits is on disk.
//!
//! One thread owns the admission. It takes the requests that wait, judges their envelopes, writes
//! those it admits in one transaction, and answers; while the disk is flushed the next requests
//! gather. An envelope is committed to the admission before it is durable, so that the next of its
//! chain in the same batch can be judged; if the write fails, the admission is built anew from the
//! store, and nothing of the batch was acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use picket_detect::{Admission, Admitted, Refusal, SensorEvent};
use picket_wire::{AgentId, Sealed};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::analysis;
use crate::clock;
use crate::ingest::health::Health;
use crate::ingest::report::report;
use crate::metrics::Metrics;
use crate::quiet::Quiet;
use crate::registry::Registry;
use crate::store::agents::Report;
use crate::store::journal::Arrival;
use crate::store::{Store, StoreError, agents, blocks, journal};

/// Envelopes judged before they are written: enough to share a flush, few enough that the first does
/// not wait for the last (measured with `ingest_throughput` in `tests/service.rs`).
const BATCH_ENVELOPES: usize = 256;

/// Their bytes, for the same reason.
const BATCH_BYTES: usize = 8 << 20;

/// What became of one envelope, as the peer is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Its number as it claims, if it can be read.
    sequence: Option<u64>,
    /// `accepted`, `duplicate` or `refused`.
    status: Status,
    /// Why it was not accepted, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// It is on disk now.
    Accepted,
    /// It was on disk before.
    Duplicate,
    /// It is not taken.
    Refused,
}

/// Why a request was not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too much waits already, here or for the analysis.
    Full,
    /// It could not be stored; nothing of it was taken.
    Failed,
}

struct Request {
    body: Bytes,
    envelopes: Vec<Range<usize>>,
    reply: oneshot::Sender<Result<Vec<Verdict>, Turned>>,
}

/// How often envelopes were refused, by the agent they claim to come from and reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<AgentId, Refused>>);

#[derive(Debug, Default)]
struct Refused {
    by_reason: BTreeMap<&'static str, u64>,
    misdated: Option<Misdated>,
}

/// The last envelope of an agent that was refused for when it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misdated {
    /// When that was, by the collector's clock, milliseconds since the epoch.
    pub(crate) at_ms: u64,
    /// How far ahead of then it was signed, milliseconds; negative for behind.
    pub(crate) off_ms: i64,
}

impl Refusals {
    /// Counts one. Only of agents that are known, so the table is bounded.
    fn note(&self, agent: AgentId, refusal: &Refusal) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = table.entry(agent).or_default();
        *refused.by_reason.entry(refusal.reason()).or_default() += 1;
        if let Refusal::Clock {
            signed_at_ms,
            now_ms,
            ..
        } = refusal
        {
            refused.misdated = Some(Misdated {
                at_ms: *now_ms,
                off_ms: signed_at_ms.wrapping_sub(*now_ms).cast_signed(),
            });
        }
    }

    /// What was refused of one agent since the start.
    pub(crate) fn of(&self, agent: AgentId) -> BTreeMap<&'static str, u64> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = table.get(&agent);
        refused.map_or_else(BTreeMap::new, |refused| refused.by_reason.clone())
    }

    /// The agents of which something was refused for when it was signed, since the start.
    pub(crate) fn misdated(&self) -> HashMap<AgentId, Misdated> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = table.iter();
        all.filter_map(|(agent, refused)| Some((*agent, refused.misdated?)))
            .collect()
    }
}

/// The way to the gate's thread, which ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Gate {
    requests: mpsc::Sender<Request>,
    is_open: Arc<AtomicBool>,
    health: Arc<Health>,
    backlog: Arc<AtomicU64>,
    backlog_max: u64,
}

impl Gate {
    /// Judges the envelopes that lie at `envelopes` in `body`, and answers once what was admitted is
    /// durable.
    pub(crate) async fn judge(
        &self,
        body: Bytes,
        envelopes: Vec<Range<usize>>,
    ) -> Result<Vec<Verdict>, Turned> {
        if self.backlog.load(Ordering::Relaxed) >= self.backlog_max {
            return Err(Turned::Full);
        }
        let (reply, answer) = oneshot::channel();
        let request = Request {
            body,
            envelopes,
            reply,
        };
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Turned::Full,
                mpsc::error::TrySendError::Closed(_) => Turned::Failed,
            })?;
        answer.await.map_err(|_| Turned::Failed)?
    }

    /// Says whether envelopes can be taken in: somebody judges them, and they can be stored.
    pub(crate) async fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed) && self.health.is_good().await
    }
}

/// What the gate's thread is made of.
pub(crate) struct Keeper {
    /// Whose word is taken.
    pub(crate) agents: Arc<Registry>,
    /// How far clocks may be off.
    pub(crate) settings: picket_detect::admit::Settings,
    /// Where accepted envelopes go.
    pub(crate) store: Store,
    /// Who is told that there are new ones.
    pub(crate) analysis: analysis::Inbox,
    /// Envelopes accepted and not yet analysed.
    pub(crate) backlog: Arc<AtomicU64>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// What is counted by agent.
    pub(crate) refusals: Arc<Refusals>,
    /// Who is told whether envelopes can be stored.
    pub(crate) health: Arc<Health>,
}

impl Keeper {
    /// Makes the gate and what runs behind it; `run` blocks until the gate is gone.
    pub(crate) fn gate(&self, queue_requests: usize, backlog_max: u64) -> (Gate, Queue) {
        let (requests, queue) = mpsc::channel(queue_requests);
        let is_open = Arc::new(AtomicBool::new(true));
        let gate = Gate {
            requests,
            is_open: is_open.clone(),
            health: self.health.clone(),
            backlog: self.backlog.clone(),
            backlog_max,
        };
        (gate, Queue { queue, is_open })
    }

    /// Judges until every [`Gate`] is dropped.
    pub(crate) fn run(self, queue: Queue) -> Result<(), StoreError> {
        let Queue { mut queue, is_open } = queue;
        // However this ends, the gate is closed then.
        let _closing = Closing(is_open);
        let (mut admission, mut seen) = self.admission()?;
        let mut log = Quiet::default();
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Batch::default();
            seen = self.agents.catch_up(&mut admission, seen);
            batch.judge(first, &mut admission, &self, &mut log);
            while batch.arrivals.len() < BATCH_ENVELOPES
                && batch.bytes < BATCH_BYTES
                && let Ok(next) = queue.try_recv()
            {
                seen = self.agents.catch_up(&mut admission, seen);
                batch.judge(next, &mut admission, &self, &mut log);
            }
            if let Err(error) = self.settle(batch) {
                tracing::error!(%error, "envelopes not stored; their agents will send them again");
                (admission, seen) = self.admission()?;
            }
        }
        Ok(())
    }

    /// The admission as the store remembers it, and the change of the registry it knows.
    fn admission(&self) -> Result<(Admission, u64), StoreError> {
        let (mut admission, seen) = self.agents.admission(self.settings.clone());
        admission.restore(self.store.read(journal::links)?);
        Ok((admission, seen))
    }

    /// Makes a batch durable and answers its requests.
    fn settle(&self, batch: Batch) -> Result<(), StoreError> {
        let Batch {
            replies,
            arrivals,
            reports,
            bytes,
        } = batch;
        let accepted = arrivals.len() as u64;
        if accepted > 0 {
            let written = self.store.write_blocking(move |transaction| {
                for arrival in &arrivals {
                    journal::append(transaction, arrival)?;
                }
                for report in &reports {
                    agents::note(transaction, report)?;
                    blocks::note(transaction, report.agent, &report.blocks)?;
                }
                Ok(())
            });
            if let Err(error) = written {
                self.health.failed(bytes);
                for (reply, _) in replies {
                    let _ = reply.send(Err(Turned::Failed));
                }
                return Err(error);
            }
            self.health.stored();
            self.metrics.envelopes_accepted.add(accepted);
            self.backlog.fetch_add(accepted, Ordering::Relaxed);
            self.analysis.wake();
        }
        for (reply, verdicts) in replies {
            // A peer that has gone asks again and is told `duplicate`.
            let _ = reply.send(Ok(verdicts));
        }
        Ok(())
    }

    /// Counts a refusal, says so now and then, and tells the analysis what it means.
    fn refused(&self, admission: &Admission, refusal: &Refusal, claim: Claim, log: &mut Quiet) {
        let reason = refusal.reason();
        self.metrics.envelopes_refused.add(reason, 1);
        let Some(agent) = claim.agent.filter(|id| self.agents.find(*id).is_some()) else {
            if let Some(unsaid) = log.may_say(reason, clock::now_ms()) {
                tracing::warn!(reason, %refusal, unsaid, "envelope refused");
            }
            return;
        };
        self.refusals.note(agent, refusal);
        if matches!(refusal, Refusal::Replayed { .. }) {
            tracing::debug!(agent_id = %agent, sequence = claim.sequence, "envelope came again");
            return;
        }
        if let Some(unsaid) = log.may_say(reason, clock::now_ms()) {
            tracing::warn!(agent_id = %agent, reason, %refusal, unsaid, "envelope refused");
        }
        if let Some(event) = admission.sensor_event(refusal, clock::now_ms()) {
            self.tell(event);
        }
    }

    fn tell(&self, event: SensorEvent) {
        if !self.analysis.sensor(event) {
            self.metrics.sensor_events_dropped.add(1);
        }
    }
}

/// The gate's thread's end of the queue.
pub(crate) struct Queue {
    queue: mpsc::Receiver<Request>,
    is_open: Arc<AtomicBool>,
}

struct Closing(Arc<AtomicBool>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

type Reply = oneshot::Sender<Result<Vec<Verdict>, Turned>>;

/// Requests that are answered together.
#[derive(Default)]
struct Batch {
    replies: Vec<(Reply, Vec<Verdict>)>,
    arrivals: Vec<Arrival>,
    reports: Vec<Report>,
    bytes: usize,
}

/// What an envelope says of itself before anything is checked.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    agent: Option<AgentId>,
    sequence: Option<u64>,
}

impl Claim {
    fn of(bytes: &[u8]) -> Self {
        match Sealed::parse(bytes) {
            Ok(sealed) => Self {
                agent: Some(sealed.claims().agent),
                sequence: Some(sealed.claims().sequence),
            },
            Err(_) => Self::default(),
        }
    }
}

impl Batch {
    fn judge(
        &mut self,
        request: Request,
        admission: &mut Admission,
        keeper: &Keeper,
        log: &mut Quiet,
    ) {
        let mut verdicts = Vec::with_capacity(request.envelopes.len());
        for range in request.envelopes {
            let bytes = request.body.slice(range);
            let now_ms = clock::now_ms();
            let verdict = match admission.judge(&bytes, now_ms) {
                Ok(admitted) => {
                    if let Some(event) = admission.commit(&admitted, now_ms) {
                        tracing::warn!(agent_id = %event.agent, word = ?event.word, "agent");
                        keeper.tell(event);
                    }
                    self.admit(&admitted, bytes, now_ms);
                    Verdict {
                        sequence: Some(admitted.header.sequence),
                        status: Status::Accepted,
                        reason: None,
                    }
                }
                Err(refusal) => {
                    let claim = Claim::of(&bytes);
                    keeper.refused(admission, &refusal, claim, log);
                    let status = match refusal {
                        Refusal::Replayed { .. } => Status::Duplicate,
                        _ => Status::Refused,
                    };
                    Verdict {
                        sequence: claim.sequence,
                        status,
                        reason: Some(refusal.reason()),
                    }
                }
            };
            verdicts.push(verdict);
        }
        self.replies.push((request.reply, verdicts));
    }

    fn admit(&mut self, admitted: &Admitted, envelope: Bytes, received_at_ms: u64) {
        self.bytes += envelope.len();
        self.reports.push(report(admitted, received_at_ms));
        self.arrivals.push(Arrival {
            link: admitted.link(),
            standing: admitted.standing,
            received_at_ms,
            envelope,
        });
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::envelope::Chain;
    use picket_wire::{BootId, Cut, Host, Signer, Summary, Window};

    use super::*;

    fn summary() -> Summary {
        Summary {
            version: 1,
            immediate: false,
            host: Host {
                instance: "i-1".into(),
                account: "111122223333".into(),
                region: "r".into(),
                ..Host::default()
            },
            window: Window::default(),
            conversations: Vec::new(),
            questions: Vec::new(),
            hits: Vec::new(),
            counters: Vec::new(),
            cut: Cut::default(),
            ..Summary::default()
        }
    }

    /// The table that envelopes go to is taken away and comes back: what could not be stored was not
    /// acknowledged, and is taken when it comes again.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_could_not_be_stored_was_not_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let signer = Signer::from_seed(&[1; 32]);
        let id = AgentId::of_key(&signer.public_key().0);
        let agent = crate::config::Agent {
            id,
            public_key: signer.public_key(),
            account: "111122223333".into(),
            region: "r".into(),
            instance: "i-1".into(),
        };
        let (inbox, _outlet) = analysis::inbox();
        let keeper = Keeper {
            agents: Arc::new(Registry::open(&[agent], store.clone()).unwrap()),
            settings: picket_detect::admit::Settings::default(),
            store: store.clone(),
            analysis: inbox,
            backlog: Arc::default(),
            metrics: Arc::default(),
            refusals: Arc::default(),
            health: Arc::new(Health::new(store.clone(), folder.path())),
        };
        let (gate, queue) = keeper.gate(4, 3);
        let running = tokio::task::spawn_blocking(move || keeper.run(queue));
        let mut chain = Chain::new(id, BootId::default());
        let mut seal = || Bytes::from(chain.seal(&summary(), clock::now_ms(), &signer));
        let judge = |body: Bytes| {
            let gate = gate.clone();
            async move {
                let all = 0..body.len();
                let verdicts = gate.judge(body, vec![all]).await?;
                Ok(verdicts.into_iter().next().map(|verdict| verdict.status))
            }
        };
        let (first, second, third, fourth) = (seal(), seal(), seal(), seal());
        assert_eq!(judge(first).await, Ok(Some(Status::Accepted)));
        let alter = |statement: &'static str| store.write(move |t| t.execute_batch(statement));
        alter("ALTER TABLE journal RENAME TO gone").await.unwrap();
        assert!(gate.is_open().await);
        assert_eq!(judge(second.clone()).await, Err(Turned::Failed));
        assert!(!gate.is_open().await);
        alter("ALTER TABLE gone RENAME TO journal").await.unwrap();
        assert_eq!(judge(second.clone()).await, Ok(Some(Status::Accepted)));
        assert!(gate.is_open().await);
        assert_eq!(judge(second).await, Ok(Some(Status::Duplicate)));
        // Nothing is analysed here, and more than three may not wait for it.
        assert_eq!(judge(third).await, Ok(Some(Status::Accepted)));
        assert_eq!(judge(fourth).await, Err(Turned::Full));
        drop(gate);
        running.await.unwrap().unwrap();
        assert_eq!(store.read(journal::depth).unwrap().0, 3);
    }
}
