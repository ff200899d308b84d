//! How much goes out in the largest hour of a day: today, and on the days before.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

const DAY_NS: u64 = 24 * HOUR_NS;
const HOUR_NS: u64 = 3_600 * 1_000_000_000;

/// Days whose largest hours are kept. Chosen by hand: two weeks hold two of each day of the week.
const PEAKS_MAX: usize = 14;

/// The largest hour of each day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peaks {
    /// The hour that is being counted, since the epoch, and the bytes in it.
    pub hour: (u64, u64),
    /// The largest hour of its day so far.
    pub today: u64,
    /// Those of days before, the latest last.
    pub past: VecDeque<u64>,
}

impl Peaks {
    /// Counts bytes that were sent at `now_ns`.
    pub(super) fn add(&mut self, now_ns: u64, bytes: u64) {
        let hour = now_ns / HOUR_NS;
        if hour / 24 > self.hour.0 / 24 && self.today > 0 {
            self.past.push_back(self.today);
            if self.past.len() > PEAKS_MAX {
                self.past.pop_front();
            }
            self.today = 0;
        }
        if hour > self.hour.0 {
            self.hour = (hour, 0);
        }
        self.hour.1 = self.hour.1.saturating_add(bytes);
        self.today = self.today.max(self.hour.1);
    }

    /// Bytes in the hour of `now_ns` so far.
    pub(crate) fn in_hour(&self, now_ns: u64) -> u64 {
        if self.hour.0 == now_ns / HOUR_NS {
            self.hour.1
        } else {
            0
        }
    }

    /// The largest hours of days before that of `now_ns`.
    fn before(&self, now_ns: u64) -> Vec<u64> {
        let mut past: Vec<u64> = self.past.iter().copied().collect();
        if self.hour.0 / 24 < now_ns / DAY_NS && self.today > 0 {
            past.push(self.today);
        }
        past.sort_unstable();
        past
    }

    /// The largest hour of any day before, the median of them, and their spread: the median distance
    /// from it, scaled to a standard deviation.
    pub(crate) fn usual(&self, now_ns: u64) -> Usual {
        let past = self.before(now_ns);
        let median = median(&past);
        let mut off: Vec<u64> = past.iter().map(|one| one.abs_diff(median)).collect();
        off.sort_unstable();
        Usual {
            days: past.len(),
            most: past.last().copied().unwrap_or(0),
            median,
            spread: (self::median(&off) as f64 * 1.4826) as u64,
        }
    }

    /// Takes an hour's sum that is counted elsewhere.
    pub(super) fn raise(&mut self, now_ns: u64, bytes: u64) {
        self.add(now_ns, 0);
        self.hour.1 = self.hour.1.max(bytes);
        self.today = self.today.max(self.hour.1);
    }

    /// Cuts what came from elsewhere to what could have been learned by `last_ns`.
    pub(super) fn settle(&mut self, last_ns: u64) {
        self.hour.0 = self.hour.0.min(last_ns / HOUR_NS);
        while self.past.len() > PEAKS_MAX {
            self.past.pop_front();
        }
    }
}

/// What the largest hour of a day usually holds, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usual {
    pub(crate) days: usize,
    pub(crate) most: u64,
    pub(crate) median: u64,
    pub(crate) spread: u64,
}

fn median(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SECOND, START};

    #[test]
    fn peaks_are_the_largest_hours_of_days() {
        let mut peaks = Peaks::default();
        for n in 0..20_u64 {
            let at = n * DAY_NS + START;
            peaks.add(at, 60 + n);
            peaks.add(at + SECOND, 40);
            peaks.add(at + HOUR_NS, 10);
        }
        let now = START + 19 * DAY_NS;
        assert_eq!((peaks.in_hour(now), peaks.in_hour(now + HOUR_NS)), (0, 10));
        let usual = peaks.usual(now);
        assert_eq!((usual.days, usual.most, usual.median), (14, 118, 112));
        assert_eq!(usual.spread, 5);
        assert_eq!(peaks.usual(now + DAY_NS).most, 119);
    }
}
