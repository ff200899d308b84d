//! The chains of one agent: one per run, each a row of numbered envelopes that name the one before.
//!
//! The latest [`LINKS_MAX`] links of a run are kept. A number below them counts as seen, so that an
//! envelope from long ago cannot come again; runs that had to make room leave behind the latest time
//! they were signed at, and a run that was signed no later is one of them.
//!
//! An agent ships hits before windows, and each of them oldest first. So a hit that overtakes others
//! says nothing of them; when a window has come, all before it must be here.

use std::collections::BTreeMap;

use picket_wire::{AgentId, BootId, Digest, Header};

use super::Standing;
use super::fit::{Fit, Links};
use crate::limits::{BOOTS_MAX, LINKS_MAX};

/// What a chain keeps of an admitted envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Who spoke.
    pub agent: AgentId,
    /// In which run.
    pub boot: BootId,
    /// Its number.
    pub sequence: u64,
    /// Its name.
    pub digest: Digest,
    /// The name of the one before.
    pub previous: Digest,
    /// When it was signed, milliseconds since the epoch.
    pub signed_at_ms: u64,
    /// It overtook others, which says nothing of them; see [`Standing::Ahead`].
    pub ahead: bool,
}

/// Where an envelope belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has a place.
    Stands(Standing),
    /// It was taken in before.
    Seen,
    /// Its place is taken by another, or its neighbours name others.
    Forks,
}

/// The runs of one agent.
#[derive(Debug, Default)]
pub(super) struct Boots {
    runs: BTreeMap<BootId, Run>,
    /// Latest signing time of the runs that made room.
    forgotten_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Run {
    links: Links,
    /// Numbers below this count as seen.
    floor: u64,
    /// Of numbers below this it was said whether they have come.
    judged: u64,
    signed_at_ms: u64,
}

impl Boots {
    /// `overtakes` says that the envelope may have overtaken others: that it holds hits.
    pub(super) fn place(&self, header: &Header, digest: &Digest, overtakes: bool) -> Place {
        match self.runs.get(&header.boot) {
            Some(run) => run.place(header, digest, overtakes),
            None if self
                .forgotten_ms
                .is_some_and(|ms| header.signed_at_ms <= ms) =>
            {
                Place::Seen
            }
            None if header.sequence > 0 && overtakes => Place::Stands(Standing::Ahead),
            None if header.sequence > 0 => Place::Stands(Standing::Gap {
                from: 0,
                missing: header.sequence,
            }),
            None if header.previous != Digest::default() => Place::Forks,
            None => Place::Stands(Standing::First),
        }
    }

    /// Whether anything of a run was taken in.
    pub(super) fn has(&self, boot: BootId) -> bool {
        self.runs.contains_key(&boot)
    }

    /// Whether it was taken in before.
    pub(super) fn is_seen(&self, header: &Header, digest: &Digest) -> bool {
        self.place(header, digest, false) == Place::Seen
    }

    pub(super) fn commit(&mut self, link: &Link) {
        if !self.runs.contains_key(&link.boot) && self.runs.len() >= BOOTS_MAX {
            self.forget_oldest();
        }
        self.runs.entry(link.boot).or_default().commit(link);
    }

    /// Takes a stored link in; whatever the order, [`Boots::finish_restore`] sees to the bounds.
    pub(super) fn restore(&mut self, link: &Link) {
        self.runs.entry(link.boot).or_default().put(link);
    }

    /// A run that comes back with fewer links than are kept has lost none: what is missing among and
    /// below them never came. Of a full one that cannot be known, and what lies below counts as seen.
    pub(super) fn finish_restore(&mut self) {
        for run in self.runs.values_mut() {
            run.cut();
            if run.links.len() >= LINKS_MAX {
                let lowest = run.links.first_key_value().map_or(0, |(&lowest, _)| lowest);
                run.floor = run.floor.max(lowest);
            }
        }
        while self.runs.len() > BOOTS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .runs
            .iter()
            .min_by_key(|(boot, run)| (run.signed_at_ms, **boot));
        if let Some((&boot, run)) = oldest {
            self.forgotten_ms = self.forgotten_ms.max(Some(run.signed_at_ms));
            self.runs.remove(&boot);
        }
    }
}

impl Run {
    fn place(&self, header: &Header, digest: &Digest, overtakes: bool) -> Place {
        match Fit::of(&self.links, self.floor, header, digest) {
            Fit::New => {}
            Fit::Repeated => return Place::Seen,
            Fit::Forked => return Place::Forks,
        }
        let sequence = header.sequence;
        if sequence < self.judged {
            let missing = self.missing(self.floor, self.judged).saturating_sub(1);
            return Place::Stands(Standing::Late { missing });
        }
        // Links that make room take with them what is missing among them: that is said before.
        let overtakes = overtakes && self.links.len() < LINKS_MAX / 2;
        Place::Stands(match self.missing(self.judged, sequence) {
            0 => Standing::Next,
            _ if overtakes => Standing::Ahead,
            missing => Standing::Gap {
                from: self.judged.max(self.floor),
                missing,
            },
        })
    }

    /// How many of the numbers `from..to` have not come.
    fn missing(&self, from: u64, to: u64) -> u64 {
        let from = from.max(self.floor);
        if from >= to {
            return 0;
        }
        (to - from).saturating_sub(self.links.range(from..to).count() as u64)
    }

    fn commit(&mut self, link: &Link) {
        self.put(link);
        self.cut();
    }

    fn put(&mut self, link: &Link) {
        self.links
            .insert(link.sequence, (link.digest, link.previous));
        if !link.ahead {
            self.judged = self.judged.max(link.sequence.saturating_add(1));
        }
        self.signed_at_ms = self.signed_at_ms.max(link.signed_at_ms);
    }

    /// Lets the lowest links go that are too many; what is missing among them never comes any more.
    fn cut(&mut self) {
        while self.links.len() > LINKS_MAX {
            if let Some((lowest, _)) = self.links.pop_first() {
                self.floor = lowest.saturating_add(1);
            }
        }
    }
}
