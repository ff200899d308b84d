//! The analysis: one thread that owns the analyzer, feeds it the journal and the logs, and stores
//! what comes out.
//!
//! Findings, incidents, what is to be told to whom, and how far the input was read go into one
//! transaction. If it cannot be written, the same outcome is offered again until it can be: the
//! analyzer has counted those events already and must not see them twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use picket_detect::logs::ApiCall;
use picket_detect::{
    Admitted, Analyzer, Event, Finding, Incident, KnownAgent, Output, SensorEvent, SourceKind,
};
use picket_intel::IndicatorSet;
use picket_wire::{AgentId, Sealed};
use rusqlite::Transaction;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::alert::{self, Rule};
use crate::clock;
use crate::metrics::{Metrics, band};
use crate::quiet::Quiet;
use crate::store::findings::{self, FindingRow, IncidentRow, Told};
use crate::store::journal::{self, Entry};
use crate::store::outbox::{self, Letter};
use crate::store::sources::{self, FileState, Memorable};
use crate::store::{Store, StoreError};

/// Things that may wait for the analysis; senders of logs wait, remarks about sensors are counted as
/// dropped (chosen by hand).
const INBOX_ITEMS: usize = 1_024;

/// Envelopes whose outcome is stored at once: enough to share a flush, few enough that a hit in the
/// first of them is told before the last is read.
const BATCH_ENVELOPES: usize = 64;

/// Their bytes, as each may inflate to eight times as much.
const BATCH_BYTES: usize = 8 << 20;

/// How long the analysis remembers what agents told: an hour, behind which no window of it reaches.
const REMEMBERED_MS: u64 = 3_600_000;

/// Pause before an outcome that could not be written is offered again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// A call of the AWS API.
#[derive(Debug)]
pub(crate) struct Call {
    /// The call.
    pub(crate) call: ApiCall,
    /// The event as it came, if it must be known after a restart too.
    pub(crate) memorable: Option<String>,
}

/// Calls of the AWS API from one file, and how far it is read with them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The calls, in the order of the file.
    pub(crate) calls: Vec<Call>,
    /// The file's state once they are stored, if they are its last for now.
    pub(crate) file: Option<(String, FileState)>,
}

enum Work {
    Journal,
    Sensor(SensorEvent),
    Calls(Calls, oneshot::Sender<()>),
    Archive(String, oneshot::Sender<bool>),
    Intel(Box<IndicatorSet>),
}

/// The way to the analysis' thread, which ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Inbox {
    work: mpsc::Sender<Work>,
    is_woken: Arc<AtomicBool>,
}

/// The thread's end.
pub(crate) struct Outlet {
    work: mpsc::Receiver<Work>,
    is_woken: Arc<AtomicBool>,
}

/// Makes both ends.
pub(crate) fn inbox() -> (Inbox, Outlet) {
    let (sender, receiver) = mpsc::channel(INBOX_ITEMS);
    let is_woken = Arc::new(AtomicBool::new(false));
    let inbox = Inbox {
        work: sender,
        is_woken: is_woken.clone(),
    };
    let outlet = Outlet {
        work: receiver,
        is_woken,
    };
    (inbox, outlet)
}

impl Inbox {
    /// Says that the journal has grown. Many such words at once count as one.
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // A full inbox wakes the thread as well, and it looks at the journal whenever it wakes.
            let _ = self.work.try_send(Work::Journal);
        }
    }

    /// Hands in a remark about a sensor; says whether there was room.
    pub(crate) fn sensor(&self, event: SensorEvent) -> bool {
        self.work.try_send(Work::Sensor(event)).is_ok()
    }

    /// Hands in calls and waits until their outcome is stored. If the analysis ends meanwhile they
    /// are not; they will be read again.
    pub(crate) fn calls(&self, calls: Calls) {
        let (reply, done) = oneshot::channel();
        if self.work.blocking_send(Work::Calls(calls, reply)).is_ok() {
            let _ = done.blocking_recv();
        }
    }

    /// Archives a finding; says whether there is one of that id.
    pub(crate) async fn archive(&self, id: String) -> bool {
        let (reply, answer) = oneshot::channel();
        let is_sent = self.work.send(Work::Archive(id, reply)).await.is_ok();
        is_sent && answer.await.unwrap_or(false)
    }

    /// Replaces the indicators.
    pub(crate) async fn intel(&self, set: IndicatorSet) {
        // Fails only when the analysis has ended, which whoever watches it will say.
        let _ = self.work.send(Work::Intel(Box::new(set))).await;
    }
}

/// What the analysis is made of.
pub(crate) struct Analysis {
    /// Where it reads and writes.
    pub(crate) store: Store,
    /// What is set.
    pub(crate) settings: picket_detect::Settings,
    /// The indicators to begin with.
    pub(crate) intel: IndicatorSet,
    /// Whose envelopes are in the journal.
    pub(crate) agents: Arc<HashMap<AgentId, KnownAgent>>,
    /// Who is told of what.
    pub(crate) rules: Arc<[Rule]>,
    /// Milliseconds between two alerts that say no more than that a finding occurred again.
    pub(crate) repeat_ms: u64,
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
    pub(crate) fn run(mut self, mut outlet: Outlet) -> anyhow::Result<()> {
        let mut analyst = self.analyst()?;
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
                match outlet.work.blocking_recv() {
                    Some(work) => work,
                    None => return Ok(()),
                }
            };
            self.take(&mut analyst, work);
            // Cleared before the journal is read: what comes later rings again.
            outlet.is_woken.store(false, Ordering::Release);
            has_more = self.journal(&mut analyst);
        }
    }

    fn analyst(&mut self) -> anyhow::Result<Analyst> {
        let intel = std::mem::take(&mut self.intel);
        let mut analyst = Analyst {
            analyzer: Analyzer::new(self.settings.clone(), intel),
            newest_ns: BTreeMap::new(),
            log: Quiet::default(),
        };
        self.remember(&mut analyst)?;
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
                analyst.remember(&Event::Api(Box::new(call)));
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
                        analyst.remember(&event);
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
            Work::Calls(calls, done) => {
                let outcome = self.calls(analyst, calls);
                if self.settle(outcome) {
                    let _ = done.send(());
                }
            }
            Work::Archive(id, answer) => {
                let _ = answer.send(self.archive(analyst, id));
            }
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
        let last = last.id;
        let count = entries.len() as u64;
        for entry in entries {
            self.entry(analyst, &entry);
        }
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
                for event in events(admitted) {
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

    /// Reads an envelope back. It was admitted, and is checked again: disks forget, too.
    fn open(&self, entry: &Entry) -> anyhow::Result<Admitted> {
        let known = self
            .agents
            .get(&entry.agent)
            .context("its agent is not in the configuration any more")?;
        let verified = Sealed::parse(&entry.envelope)?.verify(&known.key)?;
        Ok(Admitted {
            header: *verified.header(),
            digest: verified.digest(),
            summary: verified.open()?,
            standing: entry.standing,
            host: known.host(),
        })
    }

    /// Feeds those calls that were not seen before.
    fn calls(&self, analyst: &mut Analyst, calls: Calls) -> Outcome {
        let (mut fresh, mut memorable) = (HashSet::new(), Vec::new());
        for Call {
            call,
            memorable: event,
        } in calls.calls
        {
            let key = call.key.to_bytes();
            let is_seen = !fresh.insert(key)
                || self
                    .store
                    .read(|connection| sources::is_seen(connection, &key))
                    .unwrap_or_else(|error| {
                        // Analysed twice is better than not at all.
                        tracing::error!(%error, "events seen before not readable");
                        false
                    });
            if is_seen {
                self.metrics.api_calls_repeated.add(1);
                continue;
            }
            memorable.extend(event.map(|event| Memorable {
                identity: key,
                time_ns: call.event_time_ns,
                event,
            }));
            self.feed(analyst, Event::Api(Box::new(call)));
        }
        Outcome {
            memorable,
            seen: fresh.into_iter().collect(),
            file: calls.file,
            ..analyst.outcome()
        }
    }

    fn feed(&self, analyst: &mut Analyst, event: Event) {
        let (source, time_ns) = (event.source(), event.time_ns());
        self.metrics.events_analysed.add(source.name(), 1);
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
    newest_ns: BTreeMap<SourceKind, u64>,
    log: Quiet,
}

impl Analyst {
    /// Shows an event that was analysed before a restart.
    fn remember(&mut self, event: &Event) {
        self.analyzer.remember(event);
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
        let mut outcome = Outcome::default();
        while let Some(output) = self.analyzer.poll_output() {
            match output {
                Output::Finding(finding) => match finding_row(&finding) {
                    Ok(row) => outcome.findings.push((row, finding.is_open())),
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

fn finding_row(finding: &Finding) -> serde_json::Result<FindingRow> {
    Ok(FindingRow {
        id: finding.id.clone(),
        kind: finding.type_name.clone(),
        severity: finding.severity,
        account: finding.account_id.clone(),
        region: finding.region.clone(),
        title: finding.title.clone(),
        first_seen_ms: finding.service.event_first_seen.0 / 1_000_000,
        last_seen_ms: finding.service.event_last_seen.0 / 1_000_000,
        count: finding.service.count,
        incident: finding.picket.incident.clone(),
        body: serde_json::to_string(finding)?,
    })
}

fn incident_row(incident: &Incident) -> serde_json::Result<IncidentRow> {
    Ok(IncidentRow {
        id: incident.id.clone(),
        severity: incident.severity,
        title: incident.title.clone(),
        updated_at_ms: incident.updated_at.0 / 1_000_000,
        body: serde_json::to_string(incident)?,
    })
}

/// What one step of the analysis leaves behind.
#[derive(Debug, Default)]
struct Outcome {
    findings: Vec<(FindingRow, bool)>,
    incidents: Vec<IncidentRow>,
    archived: Option<String>,
    cursor: Option<u64>,
    seen: Vec<[u8; 24]>,
    memorable: Vec<Memorable>,
    file: Option<(String, FileState)>,
}

/// What a commit has brought about.
#[derive(Debug, Default)]
struct Written {
    /// Findings nobody had heard of: id, type, severity.
    opened: Vec<(String, String, f64)>,
    /// Messages put out.
    put_out: usize,
}

impl Outcome {
    fn is_empty(&self) -> bool {
        self.findings.is_empty()
            && self.incidents.is_empty()
            && self.archived.is_none()
            && self.cursor.is_none()
            && self.seen.is_empty()
            && self.file.is_none()
    }

    fn write(
        &self,
        transaction: &Transaction<'_>,
        rules: &[Rule],
        repeat_ms: u64,
        now_ms: u64,
    ) -> rusqlite::Result<Written> {
        let mut written = Written::default();
        for (row, is_open) in &self.findings {
            let (revision, told) = findings::put(transaction, row, now_ms)?;
            if revision == 1 {
                written
                    .opened
                    .push((row.id.clone(), row.kind.clone(), row.severity));
            }
            let now = Told {
                at_ms: now_ms,
                severity: row.severity,
                incident: row.incident.clone(),
            };
            if *is_open && alert::is_due(told.as_ref(), &now, repeat_ms) {
                written.put_out += put_out(transaction, rules, row, revision, now_ms)?;
                findings::note_told(transaction, &row.id, &now)?;
            }
        }
        for row in &self.incidents {
            findings::put_incident(transaction, row, now_ms)?;
        }
        if let Some(id) = &self.archived {
            findings::archive(transaction, id, now_ms)?;
        }
        for key in &self.seen {
            sources::note_seen(transaction, key, now_ms)?;
        }
        for call in &self.memorable {
            sources::keep(transaction, call)?;
        }
        if let Some((path, state)) = &self.file {
            sources::put_file(transaction, path, state, now_ms)?;
        }
        if let Some(id) = self.cursor {
            journal::advance(transaction, id)?;
        }
        Ok(written)
    }
}

/// Puts a message out for everyone whom a finding concerns; says for how many.
fn put_out(
    transaction: &Transaction<'_>,
    rules: &[Rule],
    row: &FindingRow,
    revision: u64,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let mut count = 0;
    for rule in rules.iter().filter(|rule| rule.wants(row.severity)) {
        let id = alert::delivery_id(&rule.channel, &row.id, revision);
        let body = alert::wrap(&id, row, now_ms)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let letter = Letter {
            finding: row.id.clone(),
            revision,
            attempts: 0,
            body,
        };
        outbox::put(transaction, &rule.channel, &letter, now_ms)?;
        count += 1;
    }
    Ok(count)
}
