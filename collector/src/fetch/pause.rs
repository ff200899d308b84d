//! When a feed is looked at again.

use ring::rand::{SecureRandom as _, SystemRandom};

use super::limits::{RETRY_FIRST_S, RETRY_MAX_S};

/// Milliseconds to the next look: `every_s` after a success, give or take a twentieth, so that a fleet
/// of collectors does not come at the same second.
pub(super) fn after_success_ms(every_s: u64) -> u64 {
    let every_ms = every_s.saturating_mul(1_000);
    let spread_ms = every_ms / 10;
    every_ms - spread_ms / 2 + by_chance(spread_ms)
}

/// Milliseconds to the next try after `failures` in a row: doubling, less up to a half by chance,
/// never below what the server asked for, and never longer than the usual pause without that.
pub(super) fn after_failure_ms(failures: u64, every_s: u64, retry_after_s: Option<u64>) -> u64 {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 2_u64.checked_pow(doublings).unwrap_or(u64::MAX);
    let pause_s = RETRY_FIRST_S
        .saturating_mul(factor)
        .min(RETRY_MAX_S)
        .min(every_s);
    let pause_ms = pause_s.saturating_mul(1_000);
    let pause_ms = pause_ms - by_chance(pause_ms / 2);
    pause_ms.max(retry_after_s.unwrap_or(0).saturating_mul(1_000))
}

/// A number below `most_ms`, which is taken to be less than a billion years.
fn by_chance(most_ms: u64) -> u64 {
    let mut chance = [0; 2];
    // Without chance it is none.
    let _ = SystemRandom::new().fill(&mut chance);
    most_ms.saturating_mul(u64::from(u16::from_be_bytes(chance))) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_in_bounds() {
        for _ in 0..100 {
            let pause = after_success_ms(1_000);
            assert!((950_000..=1_050_000).contains(&pause), "{pause}");
            for (failures, every_s, most_ms) in [
                (1, 86_400, 60_000),
                (2, 86_400, 120_000),
                (5, 86_400, 960_000),
                (5, 300, 300_000),
                (60, 86_400, RETRY_MAX_S * 1_000),
                (u64::MAX, u64::MAX, RETRY_MAX_S * 1_000),
            ] {
                let pause = after_failure_ms(failures, every_s, None);
                assert!(
                    pause <= most_ms && pause >= most_ms / 2,
                    "{failures}: {pause}"
                );
            }
            assert!(after_failure_ms(1, 300, Some(7_200)) >= 7_200_000);
        }
    }
}
