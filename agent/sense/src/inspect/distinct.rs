//! Counting distinct values in bounded memory.

use hashbrown::HashSet;

use crate::limits::DISTINCT_MAX;

/// A set of hashes: exact up to its bound but for collisions, of which a million values have one
/// in thirty million runs.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    hashes: HashSet<u64, Verbatim>,
    turned_away: u64,
}

/// The values are hashes already.
type Verbatim = std::hash::BuildHasherDefault<Identity>;

/// Gives back the number it is fed.
#[derive(Debug, Default)]
pub(super) struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl Distinct {
    /// Makes room for so many more at once: growing step by step takes half as much again.
    pub(super) fn reserve(&mut self, more: usize) {
        let room = DISTINCT_MAX - self.hashes.len();
        self.hashes.reserve(more.min(room));
    }

    pub(super) fn insert(&mut self, hash: u64) {
        if self.hashes.len() < DISTINCT_MAX {
            self.hashes.insert(hash);
        } else if !self.hashes.contains(&hash) {
            self.turned_away += 1;
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Values that came when there was no more room; some may have come several times.
    pub(super) const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// Takes in another set and leaves it empty.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        if self.hashes.len() < other.hashes.len() {
            std::mem::swap(&mut self.hashes, &mut other.hashes);
        }
        for hash in std::mem::take(&mut other.hashes) {
            self.insert(hash);
        }
        self.turned_away += std::mem::take(&mut other.turned_away);
    }
}

/// The values that totals count distinct.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Flows with ports, by their key. Of the captures that have ended alone: the flow table has
    /// those of the one being read.
    pub(super) flows: Distinct,
    pub(super) qnames: Distinct,
    pub(super) servers: Distinct,
}

impl Names {
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.flows.absorb(&mut other.flows);
        self.qnames.absorb(&mut other.qnames);
        self.servers.absorb(&mut other.servers);
    }

    pub(super) const fn turned_away(&self) -> u64 {
        self.flows.turned_away() + self.qnames.turned_away() + self.servers.turned_away()
    }
}
