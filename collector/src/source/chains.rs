//! The chains of all agents met, to tell gaps, forks and repeats whatever the order of files.

use std::collections::BTreeMap;

use picket_detect::admit::{Fit, Links};
use picket_wire::{AgentId, BootId, Digest, Header};

use crate::source::limits::LINKS_MAX;

/// What the chains look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Runs of agents.
    pub runs: u64,
    /// Envelopes that have a place.
    pub envelopes: u64,
    /// Holes in the numbers of a run, each of any length. One before the first counts.
    pub gaps: u64,
    /// Envelopes missing in them.
    pub missing: u64,
    /// Envelopes that contradict one before.
    pub forks: u64,
    /// Envelopes met again.
    pub repeats: u64,
}

/// The chains: see the [module](self).
#[derive(Debug)]
pub struct Chains {
    runs: BTreeMap<(AgentId, BootId), Run>,
    links: usize,
    links_max: usize,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Run {
    links: Links,
    /// Numbers below were met, or counted as missing, and are not remembered any more.
    floor: u64,
}

impl Default for Chains {
    fn default() -> Self {
        Self::new(LINKS_MAX)
    }
}

impl Chains {
    fn new(links_max: usize) -> Self {
        Self {
            runs: BTreeMap::new(),
            links: 0,
            links_max,
            totals: Totals::default(),
        }
    }

    /// Notes a verified envelope.
    pub fn note(&mut self, header: &Header, digest: &Digest) -> Fit {
        let run = self.runs.entry((header.agent, header.boot)).or_default();
        let fit = Fit::of(&run.links, run.floor, header, digest);
        match fit {
            Fit::New => {
                run.links
                    .insert(header.sequence, (*digest, header.previous));
                self.totals.envelopes += 1;
                self.links += 1;
                if self.links > self.links_max {
                    self.forget();
                }
            }
            Fit::Repeated => self.totals.repeats += 1,
            Fit::Forked => self.totals.forks += 1,
        }
        fit
    }

    /// What they look like now.
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals;
        totals.runs = self.runs.len() as u64;
        for run in self.runs.values() {
            let (gaps, missing) = run.holes(u64::MAX);
            totals.gaps += gaps;
            totals.missing += missing;
        }
        totals
    }

    /// Makes room: lets the older half of the longest run go, its holes counted.
    fn forget(&mut self) {
        let longest = self.runs.values_mut().max_by_key(|run| run.links.len());
        let Some(run) = longest else { return };
        let Some((&middle, _)) = run.links.iter().nth(run.links.len() / 2) else {
            return;
        };
        let (gaps, missing) = run.holes(middle);
        self.totals.gaps += gaps;
        self.totals.missing += missing;
        let kept = run.links.split_off(&middle);
        self.links -= run.links.len();
        run.links = kept;
        run.floor = middle;
    }
}

impl Run {
    /// Holes, and numbers missing in them, from the floor up to the last envelope below `end`.
    fn holes(&self, end: u64) -> (u64, u64) {
        let (mut gaps, mut missing, mut next) = (0, 0, self.floor);
        for &sequence in self.links.range(..=end).map(|(sequence, _)| sequence) {
            if sequence > next {
                gaps += 1;
                missing += sequence - next;
            }
            next = sequence.saturating_add(1);
        }
        (gaps, missing)
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::PublicKey;

    use super::*;

    fn digest(n: u64) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    /// Envelope `n` of the one chain, with another content if `twin`.
    fn note(chains: &mut Chains, n: u64, twin: bool) -> Fit {
        let header = Header {
            key: PublicKey::DEVELOPMENT,
            agent: AgentId([1; 16]),
            boot: BootId([2; 16]),
            sequence: n,
            previous: match n {
                0 => Digest::default(),
                n => digest(n - 1),
            },
            signed_at_ms: 0,
        };
        let digest = if twin {
            digest(n + 1_000_000)
        } else {
            digest(n)
        };
        chains.note(&header, &digest)
    }

    #[test]
    fn order_does_not_matter_for_gaps() {
        for order in [[0, 1, 2, 5, 8], [8, 5, 0, 2, 1]] {
            let mut chains = Chains::default();
            for n in order {
                assert_eq!(note(&mut chains, n, false), Fit::New);
            }
            let totals = chains.totals();
            assert_eq!((totals.runs, totals.envelopes), (1, 5));
            assert_eq!((totals.gaps, totals.missing), (2, 4));
        }
    }

    #[test]
    fn a_run_that_begins_late_has_a_gap() {
        let mut chains = Chains::default();
        note(&mut chains, 3, false);
        let totals = chains.totals();
        assert_eq!((totals.gaps, totals.missing), (1, 3));
    }

    #[test]
    fn repeats_and_forks_are_told_apart() {
        let mut chains = Chains::default();
        for n in 0..3 {
            note(&mut chains, n, false);
        }
        assert_eq!(note(&mut chains, 1, false), Fit::Repeated);
        assert_eq!(note(&mut chains, 1, true), Fit::Forked);
        // A twin whose successor is known cannot be what that one names.
        let mut chains = Chains::default();
        note(&mut chains, 2, false);
        assert_eq!(note(&mut chains, 1, true), Fit::Forked);
        assert_eq!(chains.totals().forks, 1);
    }

    #[test]
    fn memory_is_bounded_and_counts_stay() {
        let mut chains = Chains::new(10);
        for n in 0..1_000 {
            if n % 100 != 50 {
                assert_eq!(note(&mut chains, n, false), Fit::New);
            }
            assert!(chains.links <= 10);
        }
        let totals = chains.totals();
        assert_eq!(
            (totals.envelopes, totals.gaps, totals.missing),
            (990, 10, 10)
        );
        assert_eq!(note(&mut chains, 3, false), Fit::Repeated);
    }
}
