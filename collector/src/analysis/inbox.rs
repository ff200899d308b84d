//! The way to the analysis' thread: a bounded queue of things to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use picket_detect::logs::ApiCall;
use picket_detect::{FeedEvent, SensorEvent};
use picket_intel::IndicatorSet;
use tokio::sync::{mpsc, oneshot};

use crate::store::sources::FileState;

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

/// Calls of the AWS API from one file, and how far it is read with them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The calls, in the order of the file.
    pub(crate) calls: Vec<Call>,
    /// The file's state once they are stored, if they are its last for now.
    pub(crate) file: Option<(String, FileState)>,
}

/// Something to do.
pub(super) enum Work {
    /// The journal has grown.
    Journal,
    /// A remark about a sensor.
    Sensor(SensorEvent),
    /// A remark about a feed of indicators.
    Feed(FeedEvent),
    /// Calls, and who waits until their outcome is stored.
    Calls(Calls, oneshot::Sender<()>),
    /// A finding to put away, and who waits to hear whether there is one.
    Archive(String, oneshot::Sender<bool>),
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
