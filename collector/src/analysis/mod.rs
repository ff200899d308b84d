//! The analysis: one thread that owns the analyzer, feeds it the journal and the logs, and stores
//! what comes out.
//!
//! Findings, incidents, what is to be told to whom, and how far the input was read go into one
//! transaction. If it cannot be written, the same outcome is offered again until it can be: the
//! analyzer has counted those events already and must not see them twice.
//!
//! Gaps in chains are held back for a while, and told when everything was analysed that came before
//! their time was up; the thread wakes for that by itself.

mod habits;
mod inbox;
mod outcome;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use picket_detect::logs::ApiCall;
use picket_detect::{
    Admitted, Analyzer, Event, Finding, Gaps, Incident, Output, SensorEvent, SensorWord,
    SourceKind, Standing,
};
use picket_intel::IndicatorSet;
use picket_wire::Sealed;
use tokio::sync::{Notify, mpsc};

use crate::alert::Rule;
use crate::clock;
use crate::metrics::{Metrics, band};
use crate::quiet::Quiet;
use crate::registry::Registry;
use crate::rules::Book;
use crate::store::findings;
use crate::store::gaps;
use crate::store::journal::{self, Entry};
use crate::store::sources::{self, Memorable};
use crate::store::{Store, StoreError};
use crate::usage::Usage;

use inbox::Work;
pub(crate) use inbox::{Batch, Call, Inbox, Outlet, inbox};
use outcome::{Changed, Outcome, Written, finding_row, incident_row};

/// Envelopes whose outcome is stored at once: enough to share a flush, few enough that a hit in the
/// first of them is told before the last is read.
const BATCH_ENVELOPES: usize = 64;

/// Their bytes, as each may inflate to eight times as much.
const BATCH_BYTES: usize = 8 << 20;

/// How long the analysis remembers what agents told: an hour, behind which no window of it reaches.
const REMEMBERED_MS: u64 = 3_600_000;

/// Pause before an outcome that could not be written is offered again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What the analysis is made of.
pub(crate) struct Analysis {
    /// Where it reads and writes.
    pub(crate) store: Store,
    /// What is set.
    pub(crate) settings: picket_detect::Settings,
    /// Milliseconds for which a gap in a chain is held back.
    pub(crate) gap_grace_ms: u64,
    /// The indicators to begin with.
    pub(crate) intel: IndicatorSet,
    /// Whose envelopes are in the journal.
    pub(crate) agents: Arc<Registry>,
    /// Rules of the operator's own, and which of them may page.
    pub(crate) book: Arc<Book>,
    /// Who is told of what.
    pub(crate) rules: Arc<[Rule]>,
    /// Milliseconds between two alerts that say no more than that a finding occurred again.
    pub(crate) repeat_ms: u64,
    /// Milliseconds between two writings of what is usual.
    pub(crate) habits_every_ms: u64,
    /// Rung when something was put out.
    pub(crate) bell: Arc<Notify>,
    /// Envelopes accepted and not yet analysed.
    pub(crate) backlog: Arc<AtomicU64>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Set when the process is to end: what is not analysed stays in the journal.
    pub(crate) is_stopping: Arc<AtomicBool>,
}

impl Analysis {
    /// Analyses until every [`Inbox`] is dropped or the process is to end.
    pub(crate) fn run(mut self, outlet: Outlet) -> anyhow::Result<()> {
        let mut analyst = self.analyst()?;
        let ended = self.work(&mut analyst, outlet);
        self.keep_habits(&mut analyst);
        ended
    }

    fn work(&self, analyst: &mut Analyst, mut outlet: Outlet) -> anyhow::Result<()> {
        let timer = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .context("make a timer")?;
        // What was accepted before a restart waits already.
        let mut has_more = true;
        loop {
            if self.is_stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            let work = if has_more {
                match outlet.work.try_recv() {
                    Ok(work) => work,
                    Err(mpsc::error::TryRecvError::Empty) => Work::Journal,
                    Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
                }
            } else {
                let deadline_ms = analyst.next_deadline_ms();
                match timer.block_on(next(&mut outlet, deadline_ms)) {
                    Some(work) => work,
                    None => return Ok(()),
                }
            };
            self.take(analyst, work);
            // Cleared before the journal is read: what comes later rings again.
            outlet.is_woken.store(false, Ordering::Release);
            let now_ms = clock::now_ms();
            has_more = self.journal(analyst);
            if !has_more {
                self.tell_gaps(analyst, now_ms);
                self.settle(analyst.outcome());
            }
            self.keep_habits_in_time(analyst);
        }
    }

    fn analyst(&mut self) -> anyhow::Result<Analyst> {
        let intel = std::mem::take(&mut self.intel);
        let mut analyst = Analyst {
            analyzer: Analyzer::new(self.settings.clone(), intel),
            gaps: Gaps::new(self.gap_grace_ms),
            usage: Usage::default(),
            newest_ns: BTreeMap::new(),
            habits_due_ms: 0,
            calls_taught: 0,
            book_changes: None,
            log: Quiet::default(),
            book: self.book.clone(),
        };
        analyst.analyzer.set_rules(self.book.set());
        analyst.heed_trials();
        self.remember(&mut analyst)?;
        self.recall_habits(&mut analyst)?;
        let held = self
            .store
            .read(|connection| gaps::held(connection, &self.agents))
            .context("read the gaps to wait for")?;
        analyst.gaps.restore(held);
        let (findings, incidents) = self
            .store
            .read(findings::restore)
            .context("read the findings to go on from")?;
        let findings: Vec<Finding> = parsed(&findings, "finding");
        let incidents: Vec<Incident> = parsed(&incidents, "incident");
        analyst.analyzer.restore(findings, incidents);
        Ok(analyst)
    }

    /// Shows a fresh analyzer what it knew before a restart: windows that are half over, launches of
    /// instances, meetings of which the other half is still to come.
    fn remember(&self, analyst: &mut Analyst) -> anyhow::Result<()> {
        let calls = self
            .store
            .read(sources::kept)
            .context("read the calls to remember")?;
        for event in calls {
            if let Ok(call) = ApiCall::parse(event.as_bytes(), 0) {
                analyst.remember(Event::Api(Box::new(call)));
            }
        }
        let since_ms = clock::now_ms().saturating_sub(REMEMBERED_MS);
        let mut after = 0;
        loop {
            let entries = self
                .store
                .read(|connection| journal::analysed(connection, after, since_ms, BATCH_ENVELOPES))
                .context("read the envelopes to remember")?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            after = last.id;
            for entry in &entries {
                // One that cannot be read was counted when it was first tried.
                if let Ok(admitted) = self.open(entry) {
                    for event in events(admitted) {
                        analyst.remember(event);
                    }
                }
            }
        }
    }

    /// Does one piece of work other than the journal.
    fn take(&self, analyst: &mut Analyst, work: Work) {
        match work {
            Work::Journal => {}
            Work::Sensor(event) => {
                self.feed(analyst, Event::Sensor(event));
                self.settle(analyst.outcome());
            }
            Work::Feed(event) => {
                self.feed(analyst, Event::Feed(event));
                self.settle(analyst.outcome());
            }
            Work::Batch(batch, done) => {
                let outcome = self.batch(analyst, batch);
                if self.settle(outcome) {
                    let _ = done.send(());
                }
            }
            Work::Archive(id, answer) => {
                let _ = answer.send(self.archive(analyst, id));
            }
            Work::Learned(name, answer) => {
                let analyzer = &analyst.analyzer;
                let _ = answer.send(match name {
                    Some(name) => analyzer.learned_of(&name),
                    None => analyzer.learned(),
                });
            }
            Work::Teach(learned, answer) => {
                analyst.analyzer.set_learned(*learned);
                if self.keep_habits(analyst) {
                    let _ = answer.send(());
                }
            }
            Work::Forget(principal, answer) => {
                if let Some(is_known) = self.forget_habit(analyst, principal) {
                    let _ = answer.send(is_known);
                }
            }
            Work::Rules(set) => analyst.analyzer.set_rules(set),
            Work::Intel(set) => analyst.analyzer.set_intel(*set),
        }
    }

    /// Analyses the next envelopes of the journal; says whether there may be more.
    fn journal(&self, analyst: &mut Analyst) -> bool {
        let entries = self
            .store
            .read(|connection| journal::unanalysed(connection, BATCH_ENVELOPES, BATCH_BYTES));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "journal not readable");
                std::thread::sleep(STORE_PAUSE);
                return true;
            }
        };
        let Some(last) = entries.last() else {
            return false;
        };
        let (last, shown_to_ms) = (last.id, last.received_at_ms);
        let count = entries.len() as u64;
        for entry in entries {
            self.entry(analyst, &entry);
        }
        self.tell_gaps(analyst, shown_to_ms);
        let outcome = Outcome {
            cursor: Some(last),
            ..analyst.outcome()
        };
        if self.settle(outcome) {
            self.backlog.fetch_sub(count, Ordering::Relaxed);
        }
        true
    }

    fn entry(&self, analyst: &mut Analyst, entry: &Entry) {
        match self.open(entry) {
            Ok(admitted) => {
                if matches!(admitted.standing, Standing::Gap { .. }) {
                    self.metrics.gaps_found.add(1);
                }
                if let Some(event) = analyst.gaps.note(&admitted, entry.received_at_ms) {
                    self.tell_gap(analyst, event);
                }
                for event in events(admitted) {
                    analyst.usage.note_event(&event, entry.envelope.len());
                    self.feed(analyst, event);
                }
            }
            Err(error) => {
                self.metrics.envelopes_unreadable.add(1);
                if let Some(unsaid) = analyst.log.may_say("unreadable", clock::now_ms()) {
                    let error = format!("{error:#}");
                    tracing::error!(
                        agent_id = %entry.agent, journal_id = entry.id, error, unsaid,
                        "journal entry not readable"
                    );
                }
            }
        }
    }

    /// Tells of the gaps whose time is up; everything that came until `shown_to_ms` is analysed.
    fn tell_gaps(&self, analyst: &mut Analyst, shown_to_ms: u64) {
        for event in analyst.gaps.due(shown_to_ms) {
            self.tell_gap(analyst, event);
        }
    }

    /// Tells of a gap, or of what has come late.
    fn tell_gap(&self, analyst: &mut Analyst, event: SensorEvent) {
        if let SensorWord::Missing { envelopes, .. } = event.word {
            self.metrics.gaps_told.add(1);
            if let Some(unsaid) = analyst.log.may_say("gap", clock::now_ms()) {
                tracing::warn!(agent_id = %event.agent, gap = envelopes, unsaid, "sequence gap");
            }
        }
        self.feed(analyst, Event::Sensor(event));
    }

    /// Reads an envelope back, and makes sure that it is the one which was admitted: disks forget, too.
    fn open(&self, entry: &Entry) -> anyhow::Result<Admitted> {
        let known = self
            .agents
            .find(entry.agent)
            .context("its agent is not known any more")?;
        let known = &known.known;
        let sealed = Sealed::parse(&entry.envelope)?;
        let verified = match &entry.digest {
            Some(admitted) => sealed.recognise(admitted)?,
            None => sealed.verify(&known.key)?,
        };
        Ok(Admitted {
            header: *verified.header(),
            digest: verified.digest(),
            summary: verified.open()?,
            standing: entry.standing,
            host: known.host(),
        })
    }

    /// Feeds what logs tell, and those calls that were not seen before.
    fn batch(&self, analyst: &mut Analyst, batch: Batch) -> Outcome {
        let (mut fresh, mut memorable) = (HashSet::new(), Vec::new());
        for Call {
            call,
            memorable: event,
        } in batch.calls
        {
            let key = call.key.to_bytes();
            if !fresh.insert(key) || self.is_seen(&key) {
                self.metrics.api_calls_repeated.add(1);
                continue;
            }
            memorable.extend(event.map(|event| Memorable {
                identity: key,
                time_ns: call.event_time_ns,
                event,
            }));
            let bytes = call.record.raw().len();
            let event = Event::Api(Box::new(call));
            analyst.usage.note_event(&event, bytes);
            self.feed(analyst, event);
        }
        analyst.usage.merge(batch.usage);
        for summary in batch.summaries {
            self.feed(analyst, Event::Summary(Box::new(summary)));
        }
        for login in batch.logins {
            self.feed(analyst, Event::Login(Box::new(login)));
        }
        for finding in batch.reported {
            let key = finding.key().to_bytes();
            if fresh.insert(key) && !self.is_seen(&key) {
                self.feed(analyst, Event::Reported(Box::new(finding)));
            }
        }
        for event in batch.trail {
            self.feed(analyst, Event::Trail(event));
        }
        let mut outcome = Outcome {
            memorable,
            seen: fresh.into_iter().collect(),
            file: batch.file,
            backfill: batch.backfill,
            ..analyst.outcome()
        };
        outcome.habits = self.habits_with(analyst, &outcome);
        outcome
    }

    /// Says whether an event was taken in before.
    fn is_seen(&self, key: &[u8; 24]) -> bool {
        let seen = self
            .store
            .read(|connection| sources::is_seen(connection, key));
        seen.unwrap_or_else(|error| {
            // Analysed twice is better than not at all.
            tracing::error!(%error, "events seen before not readable");
            false
        })
    }

    fn feed(&self, analyst: &mut Analyst, event: Event) {
        let (source, time_ns) = (event.source(), event.time_ns());
        self.metrics.events_analysed.add(source.name(), 1);
        analyst.heed_trials();
        analyst.analyzer.on_event(event);
        analyst.advance(source, time_ns);
    }

    /// Stores an outcome, again and again until it is stored or the process ends; says whether it
    /// was.
    fn settle(&self, outcome: Outcome) -> bool {
        if outcome.is_empty() {
            return true;
        }
        let outcome = Arc::new(outcome);
        loop {
            match self.write(&outcome) {
                Ok(written) => {
                    self.tell(&written);
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, "outcome of the analysis not stored; trying again");
                }
            }
            if self.is_stopping.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(STORE_PAUSE);
        }
    }

    /// Puts a finding away, in the analyzer if it still holds it and in the store; says whether there
    /// is one.
    fn archive(&self, analyst: &mut Analyst, id: String) -> bool {
        let kept = self
            .store
            .read(|connection| findings::show(connection, &id));
        if !kept.is_ok_and(|kept| kept.is_some()) {
            return false;
        }
        analyst.analyzer.archive(&id);
        let outcome = Outcome {
            archived: Some(id),
            ..analyst.outcome()
        };
        self.settle(outcome)
    }

    fn write(&self, outcome: &Arc<Outcome>) -> Result<Written, StoreError> {
        let (outcome, rules) = (outcome.clone(), self.rules.clone());
        let (repeat_ms, now_ms) = (self.repeat_ms, clock::now_ms());
        self.store.write_blocking(move |transaction| {
            outcome.write(transaction, &rules, repeat_ms, now_ms)
        })
    }

    /// Does what follows from a commit.
    fn tell(&self, written: &Written) {
        for (id, kind, severity) in &written.opened {
            self.metrics.findings_opened.add(band(*severity), 1);
            tracing::info!(finding = id, kind, severity, "finding opened");
        }
        if written.put_out > 0 {
            self.bell.notify_waiters();
        }
    }
}

/// Waits for the next piece of work, or until there is something to do though nothing comes; none when
/// every [`Inbox`] is dropped.
async fn next(outlet: &mut Outlet, deadline_ms: u64) -> Option<Work> {
    let left = Duration::from_millis(deadline_ms.saturating_sub(clock::now_ms()));
    let work = tokio::time::timeout(left, outlet.work.recv()).await;
    work.unwrap_or(Some(Work::Journal))
}

/// What an envelope tells: of its sensor, then of its host.
fn events(admitted: Admitted) -> Vec<Event> {
    let mut events: Vec<Event> = admitted
        .sensor_events()
        .into_iter()
        .map(Event::Sensor)
        .collect();
    events.push(Event::Summary(Box::new(admitted.summary)));
    events
}

fn parsed<T: serde::de::DeserializeOwned>(bodies: &[String], what: &'static str) -> Vec<T> {
    let parse = |body: &String| match serde_json::from_str(body) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(%error, what, "stored entry not readable");
            None
        }
    };
    bodies.iter().filter_map(parse).collect()
}

/// The analyzer and how far its sources are.
struct Analyst {
    analyzer: Analyzer,
    gaps: Gaps,
    usage: Usage,
    newest_ns: BTreeMap<SourceKind, u64>,
    /// When what is usual is to be written next.
    habits_due_ms: u64,
    /// Calls since then.
    calls_taught: usize,
    /// The state of the book when it was last asked which rules are on trial.
    book_changes: Option<u64>,
    log: Quiet,
    book: Arc<Book>,
}

impl Analyst {
    /// Tells the analyzer which rules are on trial, if that may have changed.
    fn heed_trials(&mut self) {
        let changes = Some(self.book.changes());
        if self.book_changes != changes {
            self.book_changes = changes;
            self.analyzer.set_on_trial(self.book.on_trial());
        }
    }

    /// When there is something to do though nothing comes.
    fn next_deadline_ms(&self) -> u64 {
        let gaps = self.gaps.next_deadline_ms().unwrap_or(u64::MAX);
        gaps.min(self.habits_due_ms)
    }

    /// Shows an event that was analysed before a restart.
    fn remember(&mut self, mut event: Event) {
        self.analyzer.remember(&mut event);
        self.advance(event.source(), event.time_ns());
    }

    /// Moves the watermark of a source that had an event at `time_ns`.
    fn advance(&mut self, source: SourceKind, time_ns: u64) {
        // An agent that dates its packets ahead must not close the windows of all others.
        let now_ns = clock::now_ms().saturating_mul(1_000_000);
        let newest = self.newest_ns.entry(source).or_default();
        *newest = time_ns.min(now_ns).max(*newest);
        let watermark = newest.saturating_sub(source.lateness_ns());
        self.analyzer.advance(source, watermark);
    }

    /// What came out since it was last asked.
    fn outcome(&mut self) -> Outcome {
        let mut outcome = Outcome {
            gaps: self.gaps.poll_changed(),
            usage: self.usage.take(),
            ..Outcome::default()
        };
        while let Some(output) = self.analyzer.poll_output() {
            match output {
                Output::Finding(finding) => match finding_row(&finding) {
                    Ok(row) => outcome.findings.push(Changed {
                        row,
                        is_open: finding.is_open(),
                        may_page: self.book.may_page(&finding.picket.rule),
                    }),
                    Err(error) => tracing::error!(%error, finding = finding.id(), "not written"),
                },
                Output::Incident(incident) => match incident_row(&incident) {
                    Ok(row) => outcome.incidents.push(row),
                    Err(error) => tracing::error!(%error, incident = incident.id(), "not written"),
                },
            }
        }
        outcome
    }
}
