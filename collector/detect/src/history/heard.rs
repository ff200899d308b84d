//! Which registered domains the hosts of the fleet have asked for: since when, and by how many of them.
//!
//! Domains are kept as fingerprints. What one asks for every day stays; what was asked once makes room first.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{DOMAINS_HEARD_MAX, HEARERS_MAX};

/// What is known of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) first_ns: u64,
    /// Hosts that asked for it, as fingerprints; no more than [`HEARERS_MAX`] are told apart.
    hosts: Vec<u32>,
}

impl Heard {
    /// Hosts that asked for it, at most [`HEARERS_MAX`].
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }
}

/// The domains.
#[derive(Debug)]
pub(crate) struct HeardOf {
    domains: Table<u64, Heard>,
    began_ns: Option<u64>,
}

impl Default for HeardOf {
    fn default() -> Self {
        Self {
            domains: Table::new(DOMAINS_HEARD_MAX),
            began_ns: None,
        }
    }
}

impl HeardOf {
    /// Notes that a host asked for a domain; returns what is known of it by now.
    pub(crate) fn note(&mut self, domain: &str, host: SpeakerKey, at_ns: u64) -> &Heard {
        let began_ns = self.began_ns.get_or_insert(at_ns);
        *began_ns = at_ns.min(*began_ns);
        let hasher = FixedState::default();
        let heard = self.domains.write(hasher.hash_one(domain), at_ns);
        if heard.hosts.is_empty() {
            heard.first_ns = at_ns;
        }
        heard.first_ns = heard.first_ns.min(at_ns);
        let host = hasher.hash_one(host) as u32;
        if heard.hosts.len() < HEARERS_MAX && !heard.hosts.contains(&host) {
            heard.hosts.push(host);
        }
        heard
    }

    /// For how long domains have been listened for, nanoseconds.
    pub(crate) fn learned_ns(&self, now_ns: u64) -> u64 {
        self.began_ns
            .map_or(0, |began| now_ns.saturating_sub(began))
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.domains.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("domains_heard_evicted", self.domains.evicted())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{mirror, speaker};

    #[test]
    fn domains_are_known_by_their_first_time_and_their_hosts() {
        let mut heard = HeardOf::default();
        let (one, other) = (SpeakerKey::of(&speaker()), SpeakerKey::of(&mirror()));
        heard.note("a.example", one, 50);
        heard.note("a.example", one, 60);
        let known = heard.note("a.example", other, 70).clone();
        assert_eq!((known.first_ns, known.hosts()), (50, 2));
        assert_eq!(heard.note("b.example", other, 80).first_ns, 80);
        assert_eq!(heard.learned_ns(90), 40);
        heard.expire(75);
        assert_eq!(heard.note("a.example", one, 90).first_ns, 90);
    }

    #[test]
    fn is_bounded() {
        let mut heard = HeardOf::default();
        let host = SpeakerKey::of(&speaker());
        for n in 0..(DOMAINS_HEARD_MAX as u64 + 10) {
            heard.note(&n.to_string(), host, n);
        }
        assert!(heard.domains.len() <= DOMAINS_HEARD_MAX);
        assert!(heard.turned_away()[0].1 > 0);
    }
}
