//! Outbox: the thread that seals summaries and puts them into the spool, and tells the shipper.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use picket_wire::Summary;
use tokio::sync::{Notify, mpsc};

use crate::identity::Sealer;
use crate::spool::{Dropped, Kind, Spool};
use crate::state::StateFile;

/// What the outbox and the shipper share.
pub struct Shared {
    spool: Mutex<Spool>,
    /// Rung when something is put into the spool.
    pub wake: Notify,
    /// Whether hits have come since the shipper looked last.
    pub hits: AtomicBool,
    /// What was dropped on the way.
    pub tallies: Arc<Tallies>,
}

impl Shared {
    /// Shares `spool`, in which the last window ended at `kept_ns`.
    pub fn new(spool: Spool, kept_ns: u64) -> Arc<Self> {
        let tallies = Arc::new(Tallies {
            finished_ns: AtomicU64::new(kept_ns),
            ..Tallies::default()
        });
        tallies.note(spool.dropped());
        Arc::new(Self {
            spool: Mutex::new(spool),
            wake: Notify::new(),
            hits: AtomicBool::new(false),
            tallies,
        })
    }

    /// The spool. Held for one write or read of the disk, never over a wait.
    pub fn spool(&self) -> MutexGuard<'_, Spool> {
        // A panic elsewhere leaves the spool as sound as a kill would.
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was dropped on the way since the start; may be read at any time without waiting.
#[derive(Debug, Default)]
pub struct Tallies {
    full: AtomicU64,
    old: AtomicU64,
    damaged: AtomicU64,
    unwritten: AtomicU64,
    refused: AtomicU64,
    revoked: AtomicU64,
    unknown: AtomicU64,
    cloned: AtomicU64,
    spooled: AtomicU64,
    finished_ns: AtomicU64,
}

impl Tallies {
    /// Takes over what the spool says.
    pub fn note(&self, dropped: Dropped) {
        let Dropped {
            full,
            old,
            damaged,
            unwritten,
        } = dropped;
        for (tally, value) in [
            (&self.full, full),
            (&self.old, old),
            (&self.damaged, damaged),
            (&self.unwritten, unwritten),
        ] {
            tally.store(value, Ordering::Relaxed);
        }
    }

    /// Counts an envelope that the collector will never take, by the reason it gave.
    pub fn count_refused(&self, reason: &str) {
        let tally = match reason {
            "revoked" | "succeeded" => &self.revoked,
            "unknown_key" => &self.unknown,
            _ => &self.refused,
        };
        tally.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts envelopes of another host, or of another name of this one, that were found here.
    pub fn count_cloned(&self, envelopes: u64) {
        self.cloned.fetch_add(envelopes, Ordering::Relaxed);
    }

    /// Counts an envelope that the spool has.
    pub fn count_spooled(&self) {
        self.spooled.fetch_add(1, Ordering::Relaxed);
    }

    /// Envelopes that the spool was given.
    pub fn spooled(&self) -> u64 {
        self.spooled.load(Ordering::Relaxed)
    }

    /// End of the last window that is in the spool, nanoseconds since the epoch; 0 for none.
    pub fn finished_ns(&self) -> u64 {
        self.finished_ns.load(Ordering::Acquire)
    }

    /// Each with its name in counters.
    pub fn read(&self) -> [(&'static str, u64); 8] {
        [
            ("dropped_full", &self.full),
            ("dropped_old", &self.old),
            ("dropped_damaged", &self.damaged),
            ("dropped_unwritten", &self.unwritten),
            ("dropped_refused", &self.refused),
            ("dropped_revoked", &self.revoked),
            ("dropped_unknown_key", &self.unknown),
            ("dropped_cloned", &self.cloned),
        ]
        .map(|(name, tally)| (name, tally.load(Ordering::Relaxed)))
    }
}

/// Seals summaries one after the other.
pub struct Outbox {
    /// The chain.
    pub sealer: Sealer,
    /// Where envelopes go.
    pub shared: Arc<Shared>,
    /// How far we are.
    pub state: StateFile,
}

impl Outbox {
    /// Keeps every summary that comes, until no more can come; then notes that the run ended in
    /// order.
    pub fn run(mut self, mut summaries: mpsc::Receiver<Summary>) {
        let mut trouble = Trouble::default();
        while let Some(summary) = summaries.blocking_recv() {
            self.keep(summary, &mut trouble);
        }
        if let Err(error) = self.state.ended() {
            tracing::error!(%error, "end of the run not noted; the next one will tell of a kill");
        }
    }

    fn keep(&mut self, summary: Summary, trouble: &mut Trouble) {
        let (immediate, end_ns) = (summary.immediate, summary.window.end_ns);
        let now = SystemTime::now();
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let signed_at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let envelope = self.sealer.seal(summary, signed_at_ms);
        let kind = if immediate { Kind::Hit } else { Kind::Window };
        let tallies = &self.shared.tallies;
        let (kept, noted) = {
            let mut spool = self.shared.spool();
            let kept = spool.push(&envelope, kind, now);
            tallies.note(spool.dropped());
            // Before anybody can ship it: after a kill either this says that the window was kept, or
            // the window itself does.
            let is_window = !immediate && kept.is_ok();
            let noted = is_window.then(|| self.state.finished(end_ns));
            (kept, noted)
        };
        trouble.tell("envelope not written to the spool", &kept);
        if kept.is_ok() {
            tallies.count_spooled();
        }
        if immediate {
            self.shared.hits.store(true, Ordering::Release);
        }
        if let Some(noted) = noted {
            trouble.tell("state not written", &noted);
            tallies.finished_ns.store(end_ns, Ordering::Release);
        }
        self.shared.wake.notify_one();
    }
}

/// Logs the first of a row of errors, and the end of the row.
#[derive(Default)]
struct Trouble {
    /// What was told, with the error's text.
    told: Option<(&'static str, String)>,
}

impl Trouble {
    fn tell(&mut self, what: &'static str, outcome: &std::io::Result<()>) {
        match outcome {
            Err(error) => {
                let text = (what, error.to_string());
                if self.told.as_ref() != Some(&text) {
                    tracing::error!(%error, "{what}");
                    self.told = Some(text);
                }
            }
            Ok(()) if self.told.as_ref().is_some_and(|(told, _)| *told == what) => {
                tracing::info!("written again after: {what}");
                self.told = None;
            }
            Ok(()) => {}
        }
    }
}
