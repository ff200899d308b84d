//! Nonces that were given out: each good for one request, for a short time, in bounded number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use picket_wire::enrol::NONCE_BYTES;
use ring::rand::{SecureRandom, SystemRandom};

type Nonce = [u8; NONCE_BYTES];

/// Why a nonce is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// It was not given out, or so long ago that it is forgotten.
    Unknown,
    /// It was given out too long ago.
    Expired,
    /// It was used before.
    Used,
}

/// The nonces.
pub(super) struct Challenges {
    max: usize,
    life_ms: u64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    given: HashMap<Nonce, Given>,
    /// In the order they end.
    order: VecDeque<Nonce>,
}

struct Given {
    expires_ms: u64,
    is_used: bool,
}

impl Challenges {
    /// At most `max` at once, each for `life_ms`.
    pub(super) fn new(max: usize, life_ms: u64) -> Self {
        Self {
            max,
            life_ms,
            table: Mutex::default(),
        }
    }

    /// A new nonce and when it ends; `None` if too many are out, or the system has no random bytes.
    pub(super) fn give(&self, now_ms: u64) -> Option<(Nonce, u64)> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let expires_ms = now_ms.saturating_add(self.life_ms);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(now_ms, self.life_ms);
        if table.order.len() >= self.max {
            return None;
        }
        table.order.push_back(nonce);
        let is_used = false;
        table.given.insert(
            nonce,
            Given {
                expires_ms,
                is_used,
            },
        );
        Some((nonce, expires_ms))
    }

    /// Uses a nonce.
    pub(super) fn take(&self, nonce: &Nonce, now_ms: u64) -> Result<(), Stale> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let given = table.given.get_mut(nonce).ok_or(Stale::Unknown)?;
        if std::mem::replace(&mut given.is_used, true) {
            return Err(Stale::Used);
        }
        if given.expires_ms < now_ms {
            return Err(Stale::Expired);
        }
        Ok(())
    }
}

impl Table {
    /// Forgets those that ended a lifetime ago; until then it can be said why one is not taken.
    fn forget(&mut self, now_ms: u64, life_ms: u64) {
        while let Some(oldest) = self.order.front() {
            let ended = self
                .given
                .get(oldest)
                .is_none_or(|given| given.expires_ms.saturating_add(life_ms) < now_ms);
            if !ended {
                return;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.given.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_and_for_a_while() {
        let challenges = Challenges::new(3, 10);
        let (first, expires_ms) = challenges.give(100).unwrap();
        assert_eq!(expires_ms, 110);
        assert_eq!(challenges.take(&first, 105), Ok(()));
        assert_eq!(challenges.take(&first, 105), Err(Stale::Used));
        assert_eq!(challenges.take(&[0; 32], 105), Err(Stale::Unknown));
        let (second, _) = challenges.give(105).unwrap();
        assert_ne!(first, second);
        assert_eq!(challenges.take(&second, 116), Err(Stale::Expired));
        assert_eq!(challenges.take(&second, 106), Err(Stale::Used));
        challenges.give(105).unwrap();
        assert!(challenges.give(105).is_none(), "three are out");
        // The first is forgotten a lifetime after its end.
        assert!(challenges.give(121).is_some());
        assert_eq!(challenges.take(&first, 121), Err(Stale::Unknown));
    }
}
