//! A share of one processor: so much time may go into frames in each slice of time. What comes
//! beyond that stays in the ring, and what the ring cannot hold the kernel counts.

use std::time::{Duration, Instant};

use super::limits::SLICE;

/// How much of the slice is spent.
#[derive(Debug)]
pub(super) struct Budget {
    per_slice: Duration,
    began: Instant,
    spent: Duration,
}

impl Budget {
    /// A share of so many percent, of which nothing is spent.
    pub(super) fn new(percent: u8, now: Instant) -> Self {
        Self {
            per_slice: SLICE * u32::from(percent) / 100,
            began: now,
            spent: Duration::ZERO,
        }
    }

    /// How long to work now; if not at all, how long to rest first.
    pub(super) fn left(&mut self, now: Instant) -> Result<Duration, Duration> {
        let age = now.saturating_duration_since(self.began);
        if age >= SLICE {
            // What was overspent counts against the next slice.
            self.spent = self.spent.saturating_sub(self.per_slice);
            self.began = now;
            if age >= 2 * SLICE {
                self.spent = Duration::ZERO;
            }
        }
        match self.per_slice.checked_sub(self.spent) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(SLICE.saturating_sub(now.saturating_duration_since(self.began))),
        }
    }

    /// Notes time that was worked.
    pub(super) fn spend(&mut self, time: Duration) {
        self.spent += time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_worked_in_part_and_rested_for_the_rest() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let ms = Duration::from_millis;
        let mut budget = Budget::new(30, begin);
        assert_eq!(budget.left(begin), Ok(ms(30)));
        budget.spend(ms(20));
        assert_eq!(budget.left(at(20)), Ok(ms(10)));
        budget.spend(ms(25));
        assert_eq!(budget.left(at(45)), Err(ms(55)), "until the slice is over");
        assert_eq!(budget.left(at(100)), Ok(ms(15)), "15 were overspent");
        budget.spend(ms(15));
        assert_eq!(budget.left(at(110)), Err(ms(90)));
        assert_eq!(budget.left(at(900)), Ok(ms(30)), "an idle time forgives");
    }
}
