//! The kernel's clock in terms of ours: it stamps with the monotonic clock, we report times of
//! day.

use std::time::Duration;

use crate::attribution::proc::TICK_NS;

/// How far the time of day is ahead of the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    offset_ns: u64,
    boot: BootClock,
}

/// Readings to take the best of: a reading between which we were not interrupted is off by tens
/// of nanoseconds.
const READINGS: u32 = 5;

impl Clock {
    /// Compares the two clocks.
    pub(super) fn measure() -> Self {
        let mut best = (u64::MAX, 0);
        for _ in 0..READINGS {
            let before = read(libc::CLOCK_MONOTONIC);
            let day = read(libc::CLOCK_REALTIME);
            let after = read(libc::CLOCK_MONOTONIC);
            let width = after.saturating_sub(before);
            if width < best.0 {
                best = (width, day.wrapping_sub(before + width / 2));
            }
        }
        Self {
            offset_ns: best.1,
            boot: BootClock::measure(),
        }
    }

    /// Compares them again. What is within the noise of comparing stays as it was, so that stamps
    /// keep their order; a clock that is set or steered is followed.
    pub(super) fn again(self) -> Self {
        const NOISE_NS: u64 = 100_000;
        let new = Self::measure();
        let moved = new.offset_ns.wrapping_sub(self.offset_ns).cast_signed();
        if moved.unsigned_abs() < NOISE_NS {
            self
        } else {
            Self {
                boot: self.boot,
                ..new
            }
        }
    }

    /// The clock by which processes start; always the same.
    pub(super) const fn boot(self) -> BootClock {
        self.boot
    }

    /// The kernel's stamp for a time in nanoseconds since the epoch; 0 for one before it started.
    pub(super) const fn ktime_ns(self, epoch_ns: u64) -> u64 {
        if epoch_ns == u64::MAX {
            return epoch_ns;
        }
        epoch_ns.saturating_sub(self.offset_ns)
    }

    /// Nanoseconds since the epoch for a stamp of the kernel's.
    pub(super) const fn epoch_ns(self, ktime_ns: u64) -> u64 {
        ktime_ns.wrapping_add(self.offset_ns)
    }
}

/// The clock by which processes start: since boot, suspended time included.
#[derive(Debug, Clone, Copy)]
pub(super) struct BootClock {
    offset_ns: u64,
}

impl BootClock {
    /// Compares it with the time of day, once: a process must keep its start, by which it is
    /// known, when the clock is set.
    pub(super) fn measure() -> Self {
        let since_boot = read(libc::CLOCK_BOOTTIME);
        Self {
            offset_ns: read(libc::CLOCK_REALTIME).wrapping_sub(since_boot),
        }
    }

    /// Nanoseconds since the epoch for a start, in the whole ticks in which /proc tells it; 0 for
    /// one that is not known.
    pub(super) const fn epoch_ns(self, start_ns: u64) -> u64 {
        if start_ns == 0 {
            return 0;
        }
        (start_ns - start_ns % TICK_NS).wrapping_add(self.offset_ns)
    }
}

/// Now, as the kernel side stamps flows: the coarse monotonic clock.
pub(super) fn coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec to the place given, which is ours. It cannot fail for
    // the clocks asked for here, which every Linux has; if it did, the time would be 0.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let time = Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    );
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_stamp_of_now_is_the_time_of_day() {
        let clock = Clock::measure();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        let stamped = clock.epoch_ns(read(libc::CLOCK_MONOTONIC));
        assert!(stamped.abs_diff(now) < 1_000_000_000, "{stamped} and {now}");
    }
}
