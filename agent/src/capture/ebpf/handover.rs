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

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::MapData;
use picket_sense::input::StageCount;

use super::Event;
use super::checkpoint::{Checkpoints, Known, Told};
use super::clock::Clock;
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

/// Earlier processes whose maps stay until a window that tells what is in them is kept: the oldest,
/// which told windows, and the newest. Each costs some 25 MiB a processor.
const BEFORE_MAX: usize = 2;

/// What comes from earlier processes, and what is noted for the next.
#[derive(Debug, Default)]
pub(super) struct Succession {
    checkpoints: Option<Checkpoints>,
    predecessors: Vec<Predecessor>,
    counts: Vec<StageCount>,
    resumes: bool,
    /// Whether some of what earlier processes left is held by this one alone.
    alone: bool,
    /// Whether what earlier processes left may go once a window of ours is kept.
    settled: bool,
    state: Option<String>,
    /// Whether another agent has the pins.
    is_second: bool,
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
            let slots = MapData::from_pin(pins.keep_maps(ebpf)?).map_err(io::Error::other);
            let checkpoints = Checkpoints::open(&wanted.checkpoints, id(&slots?)?)?;
            if pins.before().is_empty() {
                // Of before a reboot, if it did not empty the folder.
                checkpoints.forget_before();
            }
            Ok::<_, io::Error>((pins, checkpoints))
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
                let succession = Self {
                    state: Some(format!("not pinned: {error}")),
                    is_second: error.kind() == io::ErrorKind::ResourceBusy,
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

    /// Finds what earlier processes left to be told; our programs have taken the place of `replaced` by
    /// now, by interface and id.
    pub(super) fn find(&mut self, pins: &Pins, kept_ns: u64, replaced: &[(u32, u32)]) {
        let Some(checkpoints) = &self.checkpoints else {
            return;
        };
        // Whether the newest was there up to now, and so told of whom it followed.
        let mut resumes = None;
        let mut found = Vec::new();
        for number in pins.before().iter().rev() {
            match find(checkpoints, pins, *number, kept_ns) {
                Ok(None) => pins.forget(*number),
                Ok(Some((known, left))) => {
                    let was_there = left
                        .programs
                        .iter()
                        .all(|program| replaced.contains(program));
                    let was_there = was_there && !left.programs.is_empty();
                    let exactly = known == Known::Exactly;
                    resumes = Some(match resumes {
                        None => (exactly && was_there, left.resumed),
                        Some((so_far, followed)) => (so_far && followed && exactly, left.resumed),
                    });
                    found.push((*number, left.predecessor));
                }
                Err(why) => {
                    resumes = Some((false, false));
                    pins.forget(*number);
                    tracing::warn!(number, why, "what a process before counted is not told");
                }
            }
        }
        self.resumes = resumes.is_some_and(|(resumes, _)| resumes);
        // One that is started and killed over and over must not fill the kernel's memory: what is
        // between the oldest and the newest is told by us or, if we are killed too, by nobody.
        if found.len() > BEFORE_MAX
            && let [_, midst @ .., _] = found.as_slice()
        {
            midst.iter().for_each(|(number, _)| pins.forget(*number));
            self.alone = true;
        }
        self.predecessors = found.into_iter().rev().map(|(_, left)| left).collect();
        pins.drop_hooks_before();
    }

    /// Whether what passed since the last window of the process before is told, every packet of it.
    pub(super) const fn resumes(&self) -> bool {
        self.resumes
    }

    /// Whether the next process can say so too, if this one tells no window.
    pub(super) const fn can_be_resumed(&self) -> bool {
        self.resumes && !self.alone
    }

    /// Whether another agent that runs has the pins.
    pub(super) const fn is_second(&self) -> bool {
        self.is_second
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

    /// Notes that what was told up to now is in windows that end by `end_ns`.
    pub(super) fn note(&mut self, end_ns: u64, told: Told<'_>) {
        let Some(checkpoints) = &mut self.checkpoints else {
            return;
        };
        if let Err(error) = checkpoints.write(end_ns, told) {
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

/// What an earlier process left, and what it knew of itself.
struct Found {
    predecessor: Predecessor,
    resumed: bool,
    programs: Vec<(u32, u32)>,
}

/// What the process of a number left to be told; `None` if others have told it.
fn find(
    checkpoints: &Checkpoints,
    pins: &Pins,
    number: u32,
    kept_ns: u64,
) -> Result<Option<(Known, Found)>, String> {
    let text = |error: &dyn Error| error.to_string();
    let slots = MapData::from_pin(pins.map_of(number, "SLOTS")).map_err(|error| text(&error))?;
    let map = id(&slots).map_err(|error| text(&error))?;
    let (known, told) = checkpoints
        .of(map, kept_ns)
        .ok_or("what it had told is not known")?;
    if known == Known::All {
        return Ok(None);
    }
    let (resumed, programs) = (told.resumed, told.programs.clone());
    let predecessor = Predecessor::open(pins, number, told)
        .map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let found = Found {
        predecessor,
        resumed,
        programs,
    };
    Ok(Some((known, found)))
}

fn id(map: &MapData) -> io::Result<u32> {
    map.info().map(|info| info.id()).map_err(io::Error::other)
}
