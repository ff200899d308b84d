//! Whether an envelope fits a run: the one rule by which admission and the offline analysis tell a
//! new envelope from one that came before and from one that contradicts the chain.

use std::collections::BTreeMap;

use picket_wire::{Digest, Header};

/// Digest, and digest of the one before, of each envelope of a run that is remembered, by number.
pub type Links = BTreeMap<u64, (Digest, Digest)>;

/// What an envelope is to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Its place is free, and its neighbours, where they are known, agree.
    New,
    /// It came before, or its number is below `floor`.
    Repeated,
    /// Its place is taken by another, or a neighbour names another.
    Forked,
}

impl Fit {
    /// Judges an envelope by the `links` of its run; numbers below `floor` count as seen. Costs three
    /// lookups.
    pub fn of(links: &Links, floor: u64, header: &Header, digest: &Digest) -> Self {
        let sequence = header.sequence;
        if sequence < floor {
            return Self::Repeated;
        }
        if let Some((known, _)) = links.get(&sequence) {
            return if known == digest {
                Self::Repeated
            } else {
                Self::Forked
            };
        }
        let before = match sequence.checked_sub(1) {
            Some(before) => links.get(&before).map(|(digest, _)| *digest),
            None => Some(Digest::default()),
        };
        let after = sequence.checked_add(1).and_then(|after| links.get(&after));
        let breaks = before.is_some_and(|before| before != header.previous)
            || after.is_some_and(|(_, previous)| previous != digest);
        if breaks { Self::Forked } else { Self::New }
    }
}
