//! Measuring in turns: what is compared runs in the same round, so that a machine that slows down
//! slows both.

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds that the calling thread has computed, in user space and in the kernel for it.
pub(crate) fn thread_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// What a row is made of: a number each round, and the baseline's of the same round.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples {
    /// Ours.
    pub(crate) ours: Vec<f64>,
    /// What it is compared with; empty where there is nothing.
    pub(crate) baseline: Vec<f64>,
}

impl Samples {
    /// Numbers that are compared with nothing.
    pub(crate) fn alone(ours: Vec<f64>) -> Self {
        Self {
            ours,
            baseline: Vec::new(),
        }
    }

    /// Adds a round.
    pub(crate) fn add(&mut self, ours: f64, baseline: f64) {
        self.ours.push(ours);
        self.baseline.push(baseline);
    }

    /// The median of the rounds' ratios, ours over the baseline's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.baseline)
            .map(|(ours, baseline)| ours / baseline)
            .collect();
        median(&ratios)
    }
}

/// Runs every one of `runs` in each round, after one round that is not counted; a column each.
pub(crate) fn interleaved(
    rounds: usize,
    runs: &mut [&mut dyn FnMut() -> Result<f64>],
) -> Result<Vec<Vec<f64>>> {
    let mut columns = vec![Vec::with_capacity(rounds); runs.len()];
    for round in 0..=rounds {
        for (run, column) in runs.iter_mut().zip(&mut columns) {
            let number = run()?;
            if round > 0 {
                column.push(number);
            }
        }
    }
    Ok(columns)
}

/// The middle, the upper one of two.
pub(crate) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_take_turns_and_the_first_is_warming_up() {
        let order = std::cell::RefCell::new(Vec::new());
        let run = |name: u8| {
            order.borrow_mut().push(name);
            Ok(order.borrow().len() as f64)
        };
        let columns = interleaved(2, &mut [&mut || run(1), &mut || run(2)]).unwrap();
        assert_eq!(*order.borrow(), [1, 2, 1, 2, 1, 2]);
        assert_eq!(columns, [[3.0, 5.0], [4.0, 6.0]]);
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let mut samples = Samples::default();
        assert_eq!(samples.ratio(), None);
        for (ours, baseline) in [(20.0, 10.0), (90.0, 30.0), (8.0, 2.0)] {
            samples.add(ours, baseline);
        }
        assert_eq!(samples.ratio(), Some(3.0));
        assert_eq!(Samples::alone(vec![1.0]).ratio(), None);
    }
}
