//! The way to the analysis' thread: a bounded queue of things to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use picket_detect::logs::{ApiCall, ApiCallError, Login, Reported};
use picket_detect::sigma::RuleSet;
use picket_detect::{Analyzer, FeedEvent, Learned, SensorEvent, TrailEvent};
use picket_intel::IndicatorSet;
use picket_wire::Summary;
use tokio::sync::{mpsc, oneshot};

use crate::store::backfill::Progress;
use crate::store::sources::FileState;
use crate::usage::Usage;

/// Things that may wait for the analysis; senders of logs wait, remarks about sensors are counted as
/// dropped (chosen by hand).
const INBOX_ITEMS: usize = 1_024;

/// A call of the AWS API.
#[derive(Debug)]
pub(crate) struct Call {
    /// The call.
    pub(crate) call: ApiCall,
    /// The event as it came, if it must be known after a restart too.
    pub(crate) memorable: Option<String>,
}

impl Call {
    /// Reads an event; one without a readable time takes that of the one before, which `time_ns` is.
    ///
    /// # Errors
    /// It is no event.
    pub(crate) fn read(json: &[u8], time_ns: &mut u64) -> Result<Self, ApiCallError> {
        let call = ApiCall::parse(json, *time_ns)?;
        *time_ns = call.event_time_ns;
        let is_memorable = Analyzer::is_memorable(&call);
        Ok(Self {
            memorable: is_memorable.then(|| String::from_utf8_lossy(json).into_owned()),
            call,
        })
    }
}

/// What was read of a log, and how far that is with it: stored together with what comes of it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Calls of the AWS API, in the order of the log.
    pub(crate) calls: Vec<Call>,
    /// What logs about hosts tell.
    pub(crate) summaries: Vec<Summary>,
    /// What logs of databases tell.
    pub(crate) logins: Vec<Login>,
    /// GuardDuty's findings.
    pub(crate) reported: Vec<Reported>,
    /// What is wrong with CloudTrail's record.
    pub(crate) trail: Vec<TrailEvent>,
    /// What logs about hosts were read, for usage: with the last of a log, so that none counts twice.
    pub(crate) usage: Usage,
    /// The state of the file or object that they are the last of for now.
    pub(crate) file: Option<(String, FileState)>,
    /// How far a back-fill is with them.
    pub(crate) backfill: Option<(String, Progress)>,
}

/// Something to do.
pub(super) enum Work {
    /// The journal has grown.
    Journal,
    /// A remark about a sensor.
    Sensor(SensorEvent),
    /// A remark about a feed of indicators.
    Feed(FeedEvent),
    /// What was read of a log, and who waits until their outcome is stored.
    Batch(Batch, oneshot::Sender<()>),
    /// A finding to put away, and who waits to hear whether there is one.
    Archive(String, oneshot::Sender<bool>),
    /// Who asks what is usual, for one name or for all.
    Learned(Option<String>, oneshot::Sender<Learned>),
    /// What is usual elsewhere, and who waits until it is taken in.
    Teach(Box<Learned>, oneshot::Sender<()>),
    /// A principal to forget, and who waits to hear whether it was known.
    Forget(String, oneshot::Sender<bool>),
    /// Rules in place of those in force.
    Rules(Arc<RuleSet>),
    /// Indicators in place of those in use.
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
    pub(super) work: mpsc::Receiver<Work>,
    /// Whether a word about the journal waits.
    pub(super) is_woken: Arc<AtomicBool>,
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

    /// Hands in a remark about a feed of indicators; says whether there was room.
    pub(crate) fn feed(&self, event: FeedEvent) -> bool {
        self.work.try_send(Work::Feed(event)).is_ok()
    }

    /// Hands in what was read and waits until its outcome is stored; says whether it is. It is not if
    /// the analysis ends meanwhile: then it will be read again.
    pub(crate) fn batch(&self, batch: Batch) -> bool {
        let (reply, done) = oneshot::channel();
        self.work.blocking_send(Work::Batch(batch, reply)).is_ok() && done.blocking_recv().is_ok()
    }

    /// Archives a finding; says whether there is one of that id.
    pub(crate) async fn archive(&self, id: String) -> bool {
        let (reply, answer) = oneshot::channel();
        let is_sent = self.work.send(Work::Archive(id, reply)).await.is_ok();
        is_sent && answer.await.unwrap_or(false)
    }

    /// What is usual, for one name or for all; `None` when the analysis has ended.
    pub(crate) async fn learned(&self, name: Option<String>) -> Option<Learned> {
        let (reply, answer) = oneshot::channel();
        self.work.send(Work::Learned(name, reply)).await.ok()?;
        answer.await.ok()
    }

    /// Takes in what is usual elsewhere; says whether it was taken in.
    pub(crate) async fn teach(&self, learned: Learned) -> bool {
        let (reply, answer) = oneshot::channel();
        let work = Work::Teach(Box::new(learned), reply);
        self.work.send(work).await.is_ok() && answer.await.is_ok()
    }

    /// Forgets what is usual for a principal; says whether anything was known, or nothing when
    /// the analysis has ended.
    pub(crate) async fn forget(&self, principal: String) -> Option<bool> {
        let (reply, answer) = oneshot::channel();
        let work = Work::Forget(principal, reply);
        self.work.send(work).await.ok()?;
        answer.await.ok()
    }

    /// Replaces the rules of the operator's own.
    pub(crate) async fn rules(&self, set: Arc<RuleSet>) {
        // Fails only when the analysis has ended, which whoever watches it will say.
        let _ = self.work.send(Work::Rules(set)).await;
    }

    /// Replaces the indicators.
    pub(crate) async fn intel(&self, set: IndicatorSet) {
        // Fails only when the analysis has ended, which whoever watches it will say.
        let _ = self.work.send(Work::Intel(Box::new(set))).await;
    }
}
