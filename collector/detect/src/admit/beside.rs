//! Runs of one key that are heard side by side. On one host a run begins when the one before has
//! ended; two that go on at the same time are two hosts with one key, as a machine image makes them
//! that was taken of an enrolled host. Their chains do not contradict each other.
//!
//! What counts is when we hear, not what clocks say: envelopes that waited in a spool, or were signed
//! by a clock that was off, say nothing of a run that goes on ([`LIVE_MS`]).

use std::collections::BTreeMap;

use picket_wire::{BootId, Host};

use crate::limits::BOOTS_MAX;

/// An envelope signed further from our time than this, milliseconds, is not of now: six windows.
/// Chosen by hand; below what admission takes, as a clock that was set right leaves behind what it
/// had signed ahead.
pub(super) const LIVE_MS: u64 = 60_000;

/// Characters of a host's name that are kept.
const NAME_CHARS_MAX: usize = 64;

/// Addresses of a host that are kept.
const ADDRESSES_MAX: usize = 2;

/// The runs of one agent that are heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    runs: BTreeMap<BootId, Run>,
}

#[derive(Debug)]
struct Run {
    first_ms: u64,
    last_ms: u64,
    place: String,
    is_told: bool,
}

/// Two runs at the same time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beside {
    /// The runs, the older one first, and where they are.
    pub(super) runs: [(BootId, String); 2],
    /// For how long both were heard, milliseconds.
    pub(super) together_ms: u64,
}

impl Heard {
    /// Notes that a run is heard now; says so once if another was heard beside it for `least_ms`, which
    /// is never if that is 0.
    pub(super) fn note(
        &mut self,
        boot: BootId,
        host: &Host,
        now_ms: u64,
        least_ms: u64,
    ) -> Option<Beside> {
        if least_ms == 0 {
            return None;
        }
        if !self.runs.contains_key(&boot) && self.runs.len() >= BOOTS_MAX {
            let runs = self.runs.iter();
            let oldest = runs.min_by_key(|(boot, run)| (run.last_ms, **boot));
            if let Some(oldest) = oldest.map(|(&boot, _)| boot) {
                self.runs.remove(&oldest);
            }
        }
        let run = self.runs.entry(boot).or_insert_with(|| Run {
            first_ms: now_ms,
            last_ms: now_ms,
            place: place_of(host),
            is_told: false,
        });
        run.last_ms = run.last_ms.max(now_ms);
        let (first_ms, last_ms, is_told) = (run.first_ms, run.last_ms, run.is_told);
        let (other, together_ms) = self
            .runs
            .iter()
            .filter(|(id, other)| **id != boot && !(is_told && other.is_told))
            .map(|(id, other)| {
                let until_ms = last_ms.min(other.last_ms);
                (*id, until_ms.saturating_sub(first_ms.max(other.first_ms)))
            })
            .max_by_key(|(_, together_ms)| *together_ms)
            .filter(|(_, together_ms)| *together_ms >= least_ms)?;
        let mut told = |id: BootId| {
            let run = self.runs.get_mut(&id)?;
            run.is_told = true;
            Some((run.first_ms, (id, run.place.clone())))
        };
        let mut runs = [told(other)?, told(boot)?];
        runs.sort_by_key(|(first_ms, _)| *first_ms);
        Some(Beside {
            runs: runs.map(|(_, run)| run),
            together_ms,
        })
    }
}

/// A host by its name and some of its addresses.
fn place_of(host: &Host) -> String {
    let name = host.hostname.as_deref().unwrap_or("a host without name");
    let mut place: String = name.chars().take(NAME_CHARS_MAX).collect();
    let outside = host.local.iter().map(|net| net.address);
    let outside = outside.filter(|address| !address.is_loopback());
    let addresses: Vec<String> = outside
        .take(ADDRESSES_MAX)
        .map(|one| one.to_string())
        .collect();
    if !addresses.is_empty() {
        place = format!("{place} ({})", addresses.join(", "));
    }
    place
}

#[cfg(test)]
mod tests {
    use picket_wire::Net;

    use super::*;

    const LEAST: u64 = 180_000;

    fn host(name: &str, address: &str) -> Host {
        Host {
            hostname: Some(name.into()),
            local: ["127.0.0.1", address]
                .map(|one| Net {
                    address: one.parse().unwrap(),
                    prefix: 32,
                })
                .into(),
            ..Host::default()
        }
    }

    /// Hears runs at seconds; returns when it was told that two are.
    #[track_caller]
    fn check(heard: &[(u8, u64)], told_at: &[u64]) {
        let mut runs = Heard::default();
        let told = heard.iter().filter_map(|&(boot, at_s)| {
            let boot = BootId([boot; 16]);
            let told = runs.note(boot, &Host::default(), at_s * 1_000, LEAST);
            told.map(|_| at_s)
        });
        assert_eq!(told.collect::<Vec<_>>(), told_at);
    }

    #[test]
    fn two_that_go_on_together_are_told_once() {
        let both: Vec<(u8, u64)> = (0..60)
            .flat_map(|at| [(1, at * 10), (2, at * 10)])
            .collect();
        check(&both, &[180]);
        // A second one that comes later counts from then on.
        let late: Vec<(u8, u64)> = (0..60)
            .flat_map(|at| [(1, at * 10), (2, 300 + at * 10)])
            .collect();
        check(&late, &[480]);
        // A third place.
        let three: Vec<(u8, u64)> = (0..60)
            .flat_map(|at| [(1, at * 10), (2, at * 10), (3, at * 10)])
            .collect();
        check(&three, &[180, 180]);
    }

    #[test]
    fn restarts_are_none() {
        let rows: Vec<(u8, u64)> = (0..200)
            .map(|at| (u8::try_from(at / 10).unwrap(), at * 10))
            .collect();
        check(&rows, &[]);
        // What a run left behind comes while the next has begun.
        check(&[(1, 0), (1, 10), (2, 20), (1, 30), (2, 30), (1, 80)], &[]);
        // One that was quiet for long and spoke once more, and the next after it.
        check(&[(1, 0), (1, 1_000), (2, 1_010), (2, 2_000)], &[]);
        check(&[], &[]);
    }

    #[test]
    fn more_runs_than_are_kept_and_places_named() {
        let rows: Vec<(u8, u64)> = (0..100).map(|at| (at, u64::from(at) * 10)).collect();
        check(&rows, &[]);
        let mut runs = Heard::default();
        let (one, other) = (BootId([1; 16]), BootId([2; 16]));
        for at_ms in (0..=LEAST - 10_000).step_by(10_000) {
            assert_eq!(
                runs.note(one, &host("web-1", "10.0.0.1"), at_ms, LEAST),
                None
            );
            assert_eq!(
                runs.note(other, &host("web-1", "10.0.0.2"), at_ms, LEAST),
                None
            );
        }
        let told = runs.note(one, &host("web-1", "10.0.0.1"), LEAST, LEAST);
        assert_eq!(told, None, "the other was not heard for that long");
        let told = runs.note(other, &host("web-1", "10.0.0.2"), LEAST, LEAST);
        let places = [
            (one, "web-1 (10.0.0.1)".to_owned()),
            (other, "web-1 (10.0.0.2)".to_owned()),
        ];
        assert_eq!(
            told,
            Some(Beside {
                runs: places,
                together_ms: LEAST
            })
        );
        let mut never = Heard::default();
        assert_eq!(never.note(one, &host("a", "10.0.0.1"), 0, 0), None);
        assert!(never.runs.is_empty());
    }
}
