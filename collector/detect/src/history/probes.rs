//! Who tried which ports of whom without an answer, and which of them answered after all.
//!
//! Answered ports are noted only of pairs that have unanswered ones: most pairs never do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::{Side, Summary};

use super::table::Table;
use crate::conversation::{SpeakerKey, is_answered, is_unanswered};
use crate::limits::{PROBED_PORTS_MAX, PROBES_MAX, PROBING_PAIRS_MAX};

/// A client and a server, as one sensor sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) speaker: SpeakerKey,
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
}

/// A port of a protocol.
pub(crate) type Port = (u8, u16);

/// What became of a port that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// When it was tried last.
    pub(crate) tried_ns: u64,
    /// Whether it answered, then or later.
    pub(crate) answered: bool,
    /// Whether it refused.
    pub(crate) refused: bool,
}

/// Probed ports, by pair.
#[derive(Debug)]
pub(crate) struct Probes {
    pairs: Table<Pair, BTreeMap<Port, Probe>>,
    ports: usize,
    left_out: u64,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            pairs: Table::new(PROBING_PAIRS_MAX),
            ports: 0,
            left_out: 0,
        }
    }
}

impl Probes {
    /// Notes what a summary says of opened conversations.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let speaker = SpeakerKey::of(&summary.host);
        let pair = |c: &picket_wire::Conversation| Pair {
            speaker,
            client: c.client,
            server: c.server,
        };
        let between_two = |c: &&picket_wire::Conversation| c.local != Side::Both;
        let all = || summary.conversations.iter().filter(between_two);
        for c in all().filter(|c| is_unanswered(c)) {
            let probe = Probe {
                tried_ns: c.last_ns,
                answered: false,
                refused: c.refused > 0,
            };
            self.put(pair(c), (c.protocol, c.server_port), probe);
        }
        if self.pairs.is_empty() {
            return;
        }
        for c in all().filter(|c| is_answered(c)) {
            let probe = Probe {
                tried_ns: c.last_ns,
                answered: true,
                refused: false,
            };
            if self.pairs.get(&pair(c)).is_some() {
                self.put(pair(c), (c.protocol, c.server_port), probe);
            }
        }
    }

    /// The ports that `pair` has between them.
    pub(crate) fn of(&self, pair: &Pair) -> Option<&BTreeMap<Port, Probe>> {
        self.pairs.get(pair)
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.pairs.expire(before_ns);
        self.recount();
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("probing_pairs_evicted", self.pairs.evicted()),
            ("probed_ports_left_out", self.left_out),
        ]
    }

    fn put(&mut self, pair: Pair, port: Port, probe: Probe) {
        if self.ports >= PROBES_MAX {
            self.pairs.evict();
            self.recount();
        }
        let ports = self.pairs.write(pair, probe.tried_ns);
        if let Some(known) = ports.get_mut(&port) {
            known.tried_ns = known.tried_ns.max(probe.tried_ns);
            known.answered |= probe.answered;
            known.refused |= probe.refused;
        } else if ports.len() >= PROBED_PORTS_MAX {
            self.left_out += 1;
        } else {
            ports.insert(port, probe);
            self.ports += 1;
        }
    }

    fn recount(&mut self) {
        self.ports = self.pairs.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, ip, mirror, summary, unanswered};

    fn pair(host: &picket_wire::Host, client: &str, server: &str) -> Pair {
        Pair {
            speaker: SpeakerKey::of(host),
            client: ip(client),
            server: ip(server),
        }
    }

    #[test]
    fn an_answer_in_a_later_window_counts() {
        let mut probes = Probes::default();
        let mut first = summary(mirror());
        first.conversations = vec![unanswered("10.1.0.1", "10.1.0.2", 80)];
        probes.note(&first);
        let pair = pair(&first.host, "10.1.0.1", "10.1.0.2");
        assert!(!probes.of(&pair).unwrap()[&(6, 80)].answered);
        let mut second = summary(mirror());
        second.conversations = vec![conversation("10.1.0.1", "10.1.0.2", 80)];
        probes.note(&second);
        assert!(probes.of(&pair).unwrap()[&(6, 80)].answered);
    }

    #[test]
    fn is_bounded() {
        let mut probes = Probes::default();
        for server in 0..200u8 {
            let mut one = summary(mirror());
            one.conversations = (0..5_000)
                .map(|port| unanswered("10.1.0.1", &format!("10.2.0.{server}"), port))
                .collect();
            probes.note(&one);
            assert!(probes.ports <= PROBES_MAX + PROBED_PORTS_MAX);
        }
        let evicted = probes.turned_away();
        assert!(evicted[0].1 > 0 && evicted[1].1 > 0);
    }
}
