//! Through whom each host resolves names: its resolvers, by the way it asks them, since when and how much.

use std::net::IpAddr;

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{RESOLVERS_PER_HOST_MAX, RESOLVING_HOSTS_MAX};

/// How a resolver is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Way {
    /// In clear, at port 53.
    Clear,
    /// Over TLS or QUIC, at a port of its own (RFC 7858, RFC 9250).
    Tls,
    /// Over HTTPS (RFC 8484).
    Https,
}

/// A resolver that a host asks in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolving {
    pub(crate) way: Way,
    /// Its operator, where that is known, else its address: an operator has many.
    pub(crate) who: Box<str>,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// Questions in clear, connections else.
    pub(crate) asked: u64,
    /// Whether it lies outside.
    pub(crate) public: bool,
}

/// The resolvers of hosts.
#[derive(Debug)]
pub(crate) struct Resolvings {
    hosts: Table<(SpeakerKey, IpAddr), Vec<Resolving>>,
    left_out: u64,
}

impl Default for Resolvings {
    fn default() -> Self {
        Self {
            hosts: Table::new(RESOLVING_HOSTS_MAX),
            left_out: 0,
        }
    }
}

impl Resolvings {
    /// Notes that a host asked a resolver; returns what is known of it by now.
    pub(crate) fn note(&mut self, host: (SpeakerKey, IpAddr), one: Resolving) -> Resolving {
        let all = self.hosts.write(host, one.last_ns);
        let known = all
            .iter_mut()
            .find(|known| known.way == one.way && known.who == one.who);
        if let Some(known) = known {
            known.first_ns = known.first_ns.min(one.first_ns);
            known.last_ns = known.last_ns.max(one.last_ns);
            known.asked = known.asked.saturating_add(one.asked);
            return known.clone();
        }
        if all.len() >= RESOLVERS_PER_HOST_MAX {
            self.left_out += 1;
            let oldest = (0..all.len()).min_by_key(|at| all[*at].last_ns);
            if let Some(at) = oldest {
                all.swap_remove(at);
            }
        }
        all.push(one.clone());
        one
    }

    /// The resolvers of a host.
    pub(crate) fn of(&self, host: &(SpeakerKey, IpAddr)) -> &[Resolving] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.hosts.expire(before_ns);
        for all in self.hosts.values_mut() {
            all.retain(|one| one.last_ns >= before_ns);
        }
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("resolving_hosts_evicted", self.hosts.evicted()),
            ("resolvers_of_hosts_left_out", self.left_out),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, speaker};

    fn one(way: Way, who: &str, at_ns: u64) -> Resolving {
        Resolving {
            way,
            who: who.into(),
            first_ns: at_ns,
            last_ns: at_ns,
            asked: 1,
            public: true,
        }
    }

    #[test]
    fn a_resolver_is_known_by_way_and_operator_and_is_forgotten() {
        let mut all = Resolvings::default();
        let host = (SpeakerKey::of(&speaker()), ip("10.0.0.1"));
        all.note(host, one(Way::Clear, "a", 5));
        all.note(host, one(Way::Tls, "a", 6));
        let known = all.note(host, one(Way::Clear, "a", 9));
        assert_eq!((known.first_ns, known.last_ns, known.asked), (5, 9, 2));
        assert_eq!(all.of(&host).len(), 2);
        all.expire(7);
        assert_eq!(all.of(&host).len(), 1);
        all.expire(10);
        assert!(all.of(&host).is_empty());
    }

    #[test]
    fn is_bounded() {
        let mut all = Resolvings::default();
        let host = (SpeakerKey::of(&speaker()), ip("10.0.0.1"));
        for at in 0..100 {
            all.note(host, one(Way::Clear, &format!("r{at}"), at));
        }
        assert_eq!(all.of(&host).len(), RESOLVERS_PER_HOST_MAX);
        assert!(all.of(&host).iter().any(|one| &*one.who == "r99"));
        assert_eq!(all.turned_away()[1].1, 100 - RESOLVERS_PER_HOST_MAX as u64);
    }
}
