//! Handover: from the process before to this one, and from this one to the next, without a packet
//! between them that nobody counts.
//!
//! ```text
//! programs and maps loaded, indicators in them
//!   → each program put in the place of the predecessor's, at once
//!   → its maps, which now stand still, read to their end and told with our first window
//!   → that window in the spool: its pins and checkpoints removed
//! ```
//!
//! Killed anywhere on the way, the next process finds what is needed to go on: see [`super::pins`] and
//! [`super::checkpoint`].

use std::path::PathBuf;

use aya::Ebpf;
use picket_abi::REASONS;
use picket_sense::input::StageCount;

use super::Event;
use super::checkpoint::{Checkpoints, Known};
use super::clock::Clock;
use super::ledger::{Ledger, Sum};
use super::mirror::Tunnels;
use super::pins::Pins;
use super::predecessor::Predecessor;

/// Where what outlives the process goes, and how far the process before had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Folder on bpffs for links and maps.
    pub pins: PathBuf,
    /// Folder for what has been told of them; to be emptied at a reboot.
    pub checkpoints: PathBuf,
    /// End of the last window that is in the spool, nanoseconds since the epoch; 0 for none.
    pub kept_ns: u64,
}

/// What comes from earlier processes, and what is noted for the next.
#[derive(Debug, Default)]
pub(super) struct Succession {
    checkpoints: Option<Checkpoints>,
    predecessors: Vec<Predecessor>,
    counts: Vec<StageCount>,
    resumes: bool,
    /// Whether what earlier processes left may go once a window of ours is kept.
    settled: bool,
    state: Option<String>,
}

impl Succession {
    /// Pins the maps of a loaded object. Without pins everything goes with the process, and the
    /// reason is logged.
    pub(super) fn begin(wanted: Option<&Handover>, ebpf: &Ebpf) -> (Option<Pins>, Self) {
        let Some(wanted) = wanted else {
            return (None, Self::default());
        };
        let begun = || {
            let pins = Pins::open(&wanted.pins)?;
            let mut checkpoints = Checkpoints::open(&wanted.checkpoints, pins.number())?;
            if pins.before().is_empty() {
                // Of before a reboot, if it did not empty the folder.
                checkpoints.forget_before();
            }
            let nothing = Ledger::new(0, Tunnels::default());
            let zeros = vec![Sum::default(); REASONS];
            checkpoints.write(wanted.kept_ns, 0, &zeros, &nothing)?;
            pins.keep_maps(ebpf)?;
            Ok::<_, std::io::Error>((pins, checkpoints))
        };
        match begun() {
            Ok((pins, checkpoints)) => {
                let state = format!("pinned in {}", pins.folder().display());
                let succession = Self {
                    checkpoints: Some(checkpoints),
                    state: Some(state),
                    ..Self::default()
                };
                (Some(pins), succession)
            }
            Err(error) => {
                tracing::warn!(%error, "not pinned: a restart will have a gap");
                let state = Some(format!("not pinned: {error}"));
                let succession = Self {
                    state,
                    ..Self::default()
                };
                (None, succession)
            }
        }
    }

    /// Removes what was pinned: we end before we began. What earlier processes left stays.
    pub(super) fn abandon(&mut self, pins: Option<&Pins>) {
        if let (Some(checkpoints), Some(pins)) = (self.checkpoints.take(), pins) {
            pins.forget(pins.number());
            checkpoints.forget_ours();
        }
    }

    /// Finds what earlier processes left to be told; our programs have replaced theirs by now.
    pub(super) fn find(&mut self, pins: &Pins, kept_ns: u64) {
        let Some(checkpoints) = &self.checkpoints else {
            return;
        };
        self.resumes = !pins.before().is_empty();
        for number in pins.before() {
            let found = match checkpoints.of(*number, kept_ns) {
                Some((Known::All, _)) => continue,
                Some((known, checkpoint)) => {
                    self.resumes &= known == Known::Exactly;
                    Predecessor::open(pins, *number, checkpoint)
                        .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
                }
                None => Err("what it had told is not known".to_owned()),
            };
            match found {
                Ok(predecessor) => self.predecessors.push(predecessor),
                Err(why) => {
                    self.resumes = false;
                    tracing::warn!(number, why, "what a process before counted is not told");
                }
            }
        }
        pins.drop_hooks_before();
    }

    /// Whether what passed since the last window of the process before is told, every packet of it.
    pub(super) const fn resumes(&self) -> bool {
        self.resumes
    }

    /// Whether and where things are pinned, in words.
    pub(super) fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Hands over what earlier processes left; says whether there was anything to look at.
    pub(super) fn drain(&mut self, clock: Clock, each: &mut dyn FnMut(Event<'_>)) -> bool {
        let predecessors = std::mem::take(&mut self.predecessors);
        let any = !predecessors.is_empty();
        for predecessor in predecessors {
            self.counts.extend(predecessor.drain(clock, each));
        }
        any
    }

    /// What the kernel had counted for earlier processes, once.
    pub(super) fn counts(&mut self) -> Vec<StageCount> {
        std::mem::take(&mut self.counts)
    }

    /// Notes that everything told up to now is in windows that end by `end_ns`.
    pub(super) fn note(&mut self, end_ns: u64, port: u16, counted: &[Sum], ledger: &Ledger) {
        let Some(checkpoints) = &mut self.checkpoints else {
            return;
        };
        if let Err(error) = checkpoints.write(end_ns, port, counted, ledger) {
            tracing::warn!(%error, "checkpoint not written: a kill before the next costs a window");
        }
    }

    /// Notes that the window that ended at `end_ns` is in the spool.
    pub(super) fn kept(&mut self, end_ns: u64, pins: Option<&Pins>) {
        let (Some(checkpoints), Some(pins)) = (&mut self.checkpoints, pins) else {
            return;
        };
        if checkpoints.kept(end_ns) && !self.settled {
            self.settled = true;
            pins.before().iter().for_each(|number| pins.forget(*number));
            checkpoints.forget_before();
        }
    }
}
