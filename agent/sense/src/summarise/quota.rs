//! Quota: which hits a window tells when there are more than it can.
//!
//! The first [`HITS_PER_WINDOW_MAX`] are told whatever they are. Behind them a hit is told if none
//! like it was, that is of the same indicator, process and two hosts: a flood of one indicator, even
//! one that somebody else makes to hide in it, costs no other its word.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use picket_wire::{Hit, HitKind};

use crate::limits::{HITS_PER_WINDOW_MAX, HITS_TOLD_MAX};

/// What a window has told.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Hashes of what was told: a number drawn at the start keys them, so none can be made alike.
    alike: HashSet<u64, RandomState>,
    told: usize,
    folded: u64,
}

/// Whether a hit is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It is.
    Told,
    /// One like it was, in this window.
    Folded,
    /// There is no more room in this window.
    Late,
}

/// What makes hits alike.
#[derive(Hash)]
struct Alike<'h> {
    kind: HitKind,
    indicator: &'h str,
    list: &'h str,
    process: Option<(u32, u64)>,
    hosts: (IpAddr, IpAddr),
}

impl Quota {
    /// Says whether a hit is told, and counts it if it is folded.
    pub(super) fn ask(&mut self, hit: &Hit) -> Word {
        let alike = Alike {
            kind: hit.kind,
            indicator: &hit.indicator,
            list: &hit.list,
            process: hit.process.as_ref().map(|one| (one.pid, one.start_ns)),
            hosts: (hit.src, hit.dst),
        };
        let alike = self.alike.hasher().hash_one(alike);
        if self.told >= HITS_PER_WINDOW_MAX {
            if self.alike.contains(&alike) {
                self.folded += 1;
                return Word::Folded;
            }
            if self.told >= HITS_TOLD_MAX {
                return Word::Late;
            }
        }
        self.told += 1;
        self.alike.insert(alike);
        Word::Told
    }

    /// Begins another window; says how many of this one were folded into others.
    pub(super) fn renew(&mut self) -> u64 {
        self.alike.clear();
        self.told = 0;
        std::mem::take(&mut self.folded)
    }
}
