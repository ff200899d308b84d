//! How often something may be tried: by one address (of IPv6, one /64), and by all together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::neighbourhood::neighbourhood;

/// Addresses that are told apart at once. Beyond it the whole table counts as one address until the
/// minute is over: who comes from many addresses gains nothing.
const ADDRESSES_MAX: usize = 10_000;

const MINUTE_MS: u64 = 60_000;

/// Attempts of the running minute.
pub(crate) struct Pace {
    by_one_max: u64,
    by_all_max: u64,
    minute: Mutex<Minute>,
}

#[derive(Default)]
struct Minute {
    began_ms: u64,
    all: u64,
    by: HashMap<IpAddr, u64>,
}

impl Pace {
    /// Allows so many attempts a minute by one address, and by all.
    pub(crate) fn new(by_one_max: u64, by_all_max: u64) -> Self {
        Self {
            by_one_max,
            by_all_max,
            minute: Mutex::default(),
        }
    }

    /// Counts an attempt; says whether it may be made.
    pub(crate) fn may(&self, peer: IpAddr, now_ms: u64) -> bool {
        let peer = neighbourhood(peer);
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms.abs_diff(minute.began_ms) >= MINUTE_MS {
            *minute = Minute {
                began_ms: now_ms,
                ..Minute::default()
            };
        }
        if minute.all >= self.by_all_max {
            return false;
        }
        let is_full = minute.by.len() >= ADDRESSES_MAX;
        let by = match minute.by.get_mut(&peer) {
            Some(by) => by,
            None if is_full => return false,
            None => minute.by.entry(peer).or_default(),
        };
        if *by >= self.by_one_max {
            return false;
        }
        *by += 1;
        minute.all += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_use_up_what_is_for_all() {
        let pace = Pace::new(2, 3);
        let at = |last: u8, now_ms| pace.may(IpAddr::from([192, 0, 2, last]), now_ms);
        assert!(at(1, 1_000_000) && at(1, 1_000_001));
        assert!(!at(1, 1_000_002), "two by one address");
        assert!(at(2, 1_000_003));
        assert!(!at(3, 1_000_004), "three by all");
        assert!(at(1, 1_060_000), "another minute");
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let pace = Pace::new(2, 10);
        let at = |text: &str| pace.may(text.parse().unwrap(), 1_000_000);
        assert!(at("2001:db8:1:2::1") && at("2001:db8:1:2:ffff::2"));
        assert!(!at("2001:db8:1:2::3"), "two by one network");
        assert!(at("2001:db8:1:3::1"));
        assert!(at("192.0.2.1") && at("::ffff:192.0.2.1"));
        assert!(!at("192.0.2.1"));
    }
}
