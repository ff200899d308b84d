//! Which name led to an address: what DNS answered to a client, for as long as it holds.

use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::decode::Tunnel;
use crate::limits::{NAME_KEEP_NS, NAME_KEEP_NS_MAX, NAMES_MAX};

/// How far a flow's stamp may lie before the time of a copy that passed earlier: the kernel stamps
/// flows by its coarse clock, which stands still between two ticks, 10 ms at the slowest (100 Hz).
const STAMP_COARSE_NS: u64 = 10_000_000;

struct Known {
    name: Arc<str>,
    from_ns: u64,
    until_ns: u64,
    /// When it was learned or last led somewhere.
    used_ns: u64,
}

/// Who asked, the address answered, and the tunnel both are in.
type Key = (IpAddr, IpAddr, Option<Tunnel>);

/// Names by who asked and what was answered, bounded.
#[derive(Default)]
pub(crate) struct Names {
    known: HashMap<Key, Known, RandomState>,
}

impl Names {
    /// Remembers that `client` was told at `now_ns` that `name` is at `address` for `ttl_s`
    /// seconds. Returns how many others, those not used for longest, had to make room.
    pub(crate) fn learn(
        &mut self,
        (client, address, tunnel): Key,
        name: &Arc<str>,
        ttl_s: u32,
        now_ns: u64,
    ) -> u64 {
        let key = (client, address.to_canonical(), tunnel);
        let evicted = if self.known.len() >= NAMES_MAX && !self.known.contains_key(&key) {
            self.evict()
        } else {
            0
        };
        let keep_ns = (u64::from(ttl_s) * 1_000_000_000).clamp(NAME_KEEP_NS, NAME_KEEP_NS_MAX);
        let until_ns = now_ns.saturating_add(keep_ns);
        self.known.insert(
            key,
            Known {
                name: Arc::clone(name),
                from_ns: now_ns,
                until_ns,
                used_ns: now_ns,
            },
        );
        evicted
    }

    /// Forgets a quarter, so that it need not be done for each name.
    fn evict(&mut self) -> u64 {
        let mut by_use: Vec<(u64, Key)> = self
            .known
            .iter()
            .map(|(key, known)| (known.used_ns, *key))
            .collect();
        by_use.sort_unstable();
        by_use.truncate(NAMES_MAX / 4);
        for (_, key) in &by_use {
            self.known.remove(key);
        }
        by_use.len() as u64
    }

    /// The name that led `client` to `address` in a conversation with packets from `first_ns` to
    /// `last_ns`. A name in use is kept on.
    pub(crate) fn find(&mut self, key: Key, (first_ns, last_ns): (u64, u64)) -> Option<Arc<str>> {
        let known = self.known.get_mut(&key)?;
        let after_answer = last_ns.saturating_add(STAMP_COARSE_NS) >= known.from_ns;
        if known.until_ns < first_ns || !after_answer {
            return None;
        }
        known.used_ns = known.used_ns.max(last_ns);
        known.until_ns = known.until_ns.max(last_ns.saturating_add(NAME_KEEP_NS));
        Some(Arc::clone(&known.name))
    }

    /// Addresses held.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets what ended before `now_ns`.
    pub(crate) fn expire(&mut self, now_ns: u64) {
        self.known.retain(|_, known| known.until_ns >= now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_name_holds_for_its_client_and_its_time() {
        let mut names = Names::default();
        let name: Arc<str> = "a.example".into();
        names.learn((ip(1), ip(9), None), &name, 3600, 100 * S);
        let mut find = |client, at| names.find((ip(client), ip(9), None), (at, at)).is_some();
        assert!(find(1, 101 * S), "soon after");
        assert!(!find(2, 101 * S), "another client did not ask");
        assert!(!find(1, 99 * S), "it was not known before");
        assert!(
            find(1, 100 * S - 4_000_000),
            "a tick of the flow's clock earlier"
        );
        assert!(find(1, 3_700 * S), "until its time is over");
        assert!(find(1, 3_900 * S), "a name in use is kept on");
        assert!(!find(1, 9_000 * S), "but not for ever");
    }

    #[test]
    fn a_short_time_is_stretched_and_the_expired_go() {
        let mut names = Names::default();
        names.learn((ip(1), ip(9), None), &"a.example".into(), 0, 100 * S);
        assert!(
            names
                .find((ip(1), ip(9), None), (130 * S, 130 * S))
                .is_some()
        );
        names.expire(99_999 * S);
        assert!(names.known.is_empty());
    }

    #[test]
    fn those_not_used_for_longest_make_room() {
        let mut names = Names::default();
        let name: Arc<str> = "a.example".into();
        let key = |at: u32| (ip(1), IpAddr::from(at.to_be_bytes()), None);
        for at in 0..NAMES_MAX as u32 {
            assert_eq!(names.learn(key(at), &name, 60, S + u64::from(at)), 0);
        }
        assert_eq!(names.learn(key(1), &name, 60, S + 1), 0, "a known one");
        assert!(names.find(key(0), (50 * S, 50 * S)).is_some());
        let evicted = names.learn(key(u32::MAX), &name, 60, 60 * S);
        assert_eq!(evicted, NAMES_MAX as u64 / 4);
        assert!(
            names.find(key(0), (70 * S, 70 * S)).is_some(),
            "used lately"
        );
        assert!(names.find(key(2), (70 * S, 70 * S)).is_none());
        assert!(names.known.len() < NAMES_MAX);
    }
}
