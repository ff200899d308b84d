//! How regular a row of beats is, and how regular it must be to be more than chance.
//!
//! The score is one less the coefficient of variation of the intervals, so that a clock has 1 and
//! independent calls about 0.26 (see below why not 0). Chance makes few intervals look alike more often
//! than many, so few must score more: at least `score_min` + `score_more` / √n.
//!
//! Two things are put right before. A beat is often several connections, so intervals much shorter than
//! the usual one are joined to the next: once little (what is below a tenth of the third quartile), and,
//! where that finds nothing, once more (below a quarter of the 95th percentile), for which twice the
//! regularity is asked because joining makes regular by itself. And beats are missed, so that the longest
//! twentieth does not count. Both take from the variation of independent calls as well, to 0.74.

use super::{Beat, Settings};

/// What is joined at first, as a part of the third quartile of the intervals.
const JOINED: f64 = 0.1;

/// What is joined the second time, as a part of their 95th percentile.
const JOINED_MORE: f64 = 0.25;

/// One of so many of the longest intervals does not count.
const LONGEST_PART: usize = 20;

/// An interval is late beyond so many times the median: one missed beat is not.
const LATE: f64 = 2.1;

/// A rhythm that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rhythm {
    /// Intervals it was found in.
    pub(super) intervals: usize,
    /// Their median, milliseconds.
    pub(super) interval_ms: f64,
    /// Median distance from it.
    pub(super) spread_ms: f64,
    pub(super) score: f64,
    pub(super) needed: f64,
    /// How alike in size the beats are, 0 to 1.
    pub(super) sizes: f64,
    /// All beats together.
    pub(super) spanned_ns: u64,
}

impl Rhythm {
    /// The rhythm of these beats, if they have one.
    pub(super) fn of(beats: &[Beat], settings: &Settings) -> Option<Self> {
        let raw: Vec<f64> = beats.iter().map(|beat| f64::from(beat.after_ms)).collect();
        let sorted = sorted(&raw);
        let usual = join(&raw, JOINED * quantile(&sorted, 0.75));
        let found = Self::judge(&usual, 1.0, settings).or_else(|| {
            let coarse = join(&raw, JOINED_MORE * quantile(&sorted, 0.95));
            (2 * coarse.len() <= raw.len())
                .then(|| Self::judge(&coarse, 2.0, settings))
                .flatten()
        })?;
        let bytes: Vec<f64> = beats.iter().map(|beat| f64::from(beat.bytes)).collect();
        Some(Self {
            sizes: alike(&bytes),
            spanned_ns: beats
                .iter()
                .map(|beat| u64::from(beat.after_ms) * 1_000_000)
                .sum(),
            ..found
        })
    }

    /// Judges intervals, of which `strictness` times less variation is asked than usual.
    fn judge(intervals: &[f64], strictness: f64, settings: &Settings) -> Option<Self> {
        let count = intervals.len();
        if count + 1 < settings.starts_min || count < 2 {
            return None;
        }
        let sorted = sorted(intervals);
        let interval_ms = quantile(&sorted, 0.5);
        let late = sorted
            .iter()
            .filter(|one| **one > LATE * interval_ms)
            .count();
        if interval_ms < f64::from(settings.interval_min_ms)
            || late as f64 > settings.late_share_max * count as f64
        {
            return None;
        }
        let score = 1.0 - variation(sorted.get(..count - count / LONGEST_PART)?);
        let needed = settings.score_min + settings.score_more / (count as f64).sqrt();
        let needed = 1.0 - (1.0 - needed) / strictness;
        (score >= needed).then(|| Self {
            intervals: count,
            interval_ms,
            spread_ms: spread(&sorted, interval_ms),
            score,
            needed,
            sizes: 0.0,
            spanned_ns: 0,
        })
    }

    /// How sure it is that somebody's clock is behind it: more with more to spare, and with sizes alike.
    pub(super) fn confidence(&self) -> f64 {
        let spare = (self.score - self.needed) / (1.0 - self.needed).max(f64::EPSILON);
        0.5 + 0.3 * spare.clamp(0.0, 1.0) + 0.15 * self.sizes
    }
}

/// Joins intervals to the next until they are as long as `least`.
fn join(intervals: &[f64], least: f64) -> Vec<f64> {
    let mut joined = Vec::with_capacity(intervals.len());
    let mut held = 0.0;
    for interval in intervals {
        held += interval;
        if held >= least {
            joined.push(held);
            held = 0.0;
        }
    }
    joined
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// A quantile of sorted values; 0 of none.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    let at = part * last;
    let value = |at: f64| sorted.get(at as usize).copied().unwrap_or_default();
    let (below, above) = (value(at.floor()), value(at.ceil()));
    below + (above - below) * at.fract()
}

/// Standard deviation over mean.
fn variation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt() / mean
}

/// Median distance from the median.
fn spread(values: &[f64], median: f64) -> f64 {
    let away: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    quantile(&sorted(&away), 0.5)
}

/// One less the spread as a part of the median, 0 at least.
fn alike(values: &[f64]) -> f64 {
    let median = quantile(&sorted(values), 0.5);
    if median <= 0.0 {
        return 0.0;
    }
    (1.0 - spread(values, median) / median).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(after_ms: &[u32], expected: Option<usize>) {
        let beats: Vec<Beat> = after_ms
            .iter()
            .map(|&after_ms| Beat {
                after_ms,
                bytes: 500,
            })
            .collect();
        let found = Rhythm::of(&beats, &Settings::default());
        assert_eq!(found.map(|found| found.intervals), expected, "{after_ms:?}");
    }

    #[test]
    fn a_clock_has_a_rhythm_and_chance_has_none() {
        check(&[60_000; 11], Some(11));
        check(&[60_000; 10], None);
        // Independent calls, an exponential's quantiles shuffled.
        let chance = [
            12_000, 200_000, 31_000, 80_000, 2_000, 138_000, 55_000, 20_000, 41_000, 7_000, 95_000,
            66_000,
        ];
        check(&chance, None);
    }

    #[test]
    fn calls_that_come_in_threes_are_one_beat() {
        let mut threes = [1_000, 2_000, 57_000].repeat(16);
        check(&threes, Some(16));
        threes.truncate(30);
        check(&threes, None);
    }

    #[test]
    fn a_missed_beat_is_forgiven_and_a_habit_of_missing_is_not() {
        let mut missed = vec![60_000; 40];
        (missed[7], missed[21]) = (180_000, 120_000);
        check(&missed, Some(40));
        for at in (0..40).step_by(4) {
            missed[at] = 400_000;
        }
        check(&missed, None);
    }

    #[test]
    fn more_than_one_a_second_is_a_stream() {
        check(&[1_100; 40], Some(40));
        check(&[900; 40], None);
    }
}
