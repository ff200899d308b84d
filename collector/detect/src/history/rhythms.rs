//! When hosts began to talk to whom outside, so that rhythm can be told from chance.
//!
//! Of each host and each of its peers on the Internet the last beats are kept: how long after the one
//! before, and how much was sent. A peer goes by its name where one is known, so that one behind changing
//! addresses is one peer.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use picket_wire::limits::STARTS_MAX;
use picket_wire::{Conversation, Opened, Side, Summary};

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{BEATS_MAX, CALLEES_PER_HOST_MAX, CALLERS_MAX, RHYTHM_BEATS_MAX};
use crate::reach::is_public;

/// Starts closer together than this are one beat: a client opens two connections at once, to both
/// families of addresses or to fetch two things. Chosen by hand.
const SAME_BEAT_NS: u64 = 500_000_000;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Ports whose traffic is a rhythm by trade and has other detections: DNS and NTP.
const RHYTHMS_BY_TRADE: [u16; 2] = [53, 123];

/// A host, as one sensor sees it.
pub(crate) type Caller = (SpeakerKey, IpAddr);

/// What a host calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Callee {
    pub(crate) whom: Whom,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
}

/// A peer, by name where one is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Whom {
    Name(Box<str>),
    Address(IpAddr),
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{}", address.to_canonical()),
        }
    }
}

/// Who calls whom in a conversation, if it is a call to the outside.
pub(crate) fn call_of(speaker: SpeakerKey, c: &Conversation) -> Option<(Caller, Callee)> {
    let known = match c.protocol {
        TCP => c.opened == Opened::Seen,
        UDP => c.opened != Opened::Unknown,
        _ => false,
    };
    let outward = matches!(c.local, Side::Client | Side::Neither) && is_public(c.server);
    if !known || !outward || RHYTHMS_BY_TRADE.contains(&c.server_port) {
        return None;
    }
    let name = c.tls_name.as_deref().or(c.dns_name.as_deref());
    let whom = name.map_or(Whom::Address(c.server), |name| Whom::Name(name.into()));
    let callee = Callee {
        whom,
        port: c.server_port,
        protocol: c.protocol,
    };
    Some(((speaker, c.client), callee))
}

/// One beat after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Since the one before.
    pub(crate) after_ms: u32,
    /// What was sent in it.
    pub(crate) bytes: u32,
}

/// What is remembered of one peer of one host.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// The last beats, each but the first.
    pub(crate) beats: VecDeque<Beat>,
    /// The last of them; 0 before the first.
    pub(crate) last_ns: u64,
    /// Beats since it was judged.
    pub(crate) unjudged: u32,
    /// Beats since it was told of, or was found irregular.
    pub(crate) untold: u32,
    /// Since when it has been found regular each time it was judged.
    pub(crate) regular_since_ns: Option<u64>,
    /// Since when there has been a connection without a break.
    pub(crate) open_since_ns: u64,
    /// When that was told.
    pub(crate) open_told_ns: u64,
    heard_ns: u64,
}

impl Series {
    /// Notes what a window says.
    fn note(&mut self, c: &Conversation) {
        let begun = c.starts_ms.len().max(c.attempts as usize);
        if self.heard_ns == 0 || begun >= c.flows as usize {
            (self.open_since_ns, self.open_told_ns) = (c.first_ns, 0);
        }
        self.heard_ns = self.heard_ns.max(c.last_ns);
        // An agent that does not tell of starts tells of a single one by the first packet.
        let told: &[u32] = match (c.starts_ms.len(), c.attempts) {
            (0, 1) => &[0],
            _ => &c.starts_ms,
        };
        if begun > told.len() || told.len() >= STARTS_MAX {
            // More than were told: a stream, which has no rhythm.
            self.beats.clear();
            self.regular_since_ns = None;
            self.last_ns = c.last_ns;
            return;
        }
        let bytes = c.bytes_out / told.len().max(1) as u64;
        for after_ms in told {
            let at_ns = c.first_ns + u64::from(*after_ms) * 1_000_000;
            self.beat(at_ns, u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    fn beat(&mut self, at_ns: u64, bytes: u32) {
        if self.last_ns == 0 {
            self.last_ns = at_ns;
            return;
        }
        let after_ns = at_ns.saturating_sub(self.last_ns);
        if after_ns <= SAME_BEAT_NS {
            return;
        }
        if self.beats.len() >= BEATS_MAX {
            self.beats.pop_front();
        }
        self.beats.push_back(Beat {
            after_ms: u32::try_from(after_ns / 1_000_000).unwrap_or(u32::MAX),
            bytes,
        });
        self.last_ns = at_ns;
        self.unjudged = self.unjudged.saturating_add(1);
        self.untold = self.untold.saturating_add(1);
    }
}

/// What is remembered of every host.
#[derive(Debug)]
pub(crate) struct Rhythms {
    callers: Table<Caller, BTreeMap<Callee, Series>>,
    beats: usize,
    left_out: u64,
}

impl Default for Rhythms {
    fn default() -> Self {
        Self {
            callers: Table::new(CALLERS_MAX),
            beats: 0,
            left_out: 0,
        }
    }
}

impl Rhythms {
    /// Notes what a summary says of calls to the outside.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let speaker = SpeakerKey::of(&summary.host);
        for c in &summary.conversations {
            if let Some((caller, callee)) = call_of(speaker, c) {
                self.put(caller, callee, c);
            }
        }
    }

    fn put(&mut self, caller: Caller, callee: Callee, c: &Conversation) {
        if self.beats >= RHYTHM_BEATS_MAX {
            self.callers.evict();
            self.recount();
        }
        let callees = self.callers.write(caller, c.last_ns);
        let series = match callees.get_mut(&callee) {
            Some(series) => series,
            None => {
                if callees.len() >= CALLEES_PER_HOST_MAX {
                    let (gone, beats) = make_room(callees);
                    self.left_out += gone;
                    self.beats = self.beats.saturating_sub(beats);
                }
                callees.entry(callee).or_default()
            }
        };
        let before = series.beats.len();
        series.note(c);
        self.beats = (self.beats + series.beats.len()).saturating_sub(before);
    }

    /// What is remembered of a peer.
    pub(crate) fn of(&mut self, caller: &Caller, callee: &Callee) -> Option<&mut Series> {
        self.callers.get_mut(caller)?.get_mut(callee)
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.callers.expire(before_ns);
        for callees in self.callers.values_mut() {
            callees.retain(|_, series| series.heard_ns >= before_ns);
        }
        self.recount();
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("rhythm_hosts_evicted", self.callers.evicted()),
            ("rhythm_peers_left_out", self.left_out),
        ]
    }

    fn recount(&mut self) {
        let all = self.callers.values().flat_map(BTreeMap::values);
        self.beats = all.map(|series| series.beats.len()).sum();
    }

    /// Hosts, peers and beats held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        let peers = self.callers.values().map(BTreeMap::len).sum();
        (self.callers.len(), peers, self.beats)
    }
}

/// Lets a sixteenth of a host's peers go: those with fewest beats, the longest silent first. Returns how
/// many, and their beats.
fn make_room(callees: &mut BTreeMap<Callee, Series>) -> (u64, usize) {
    let mut order: Vec<(usize, u64, Callee)> = callees
        .iter()
        .map(|(callee, series)| (series.beats.len(), series.heard_ns, callee.clone()))
        .collect();
    order.sort_unstable();
    order.truncate(order.len().div_ceil(16));
    let (mut gone, mut beats) = (0, 0);
    for (held, _, callee) in order {
        callees.remove(&callee);
        gone += 1;
        beats += held;
    }
    (gone, beats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SECOND, START, conversation, ip, later, speaker, summary};

    fn window(of: Vec<Conversation>, second: u64) -> Summary {
        let mut one = summary(speaker());
        one.conversations = of;
        later(one, second)
    }

    fn beats(rhythms: &mut Rhythms, c: &Conversation) -> Vec<u32> {
        let (caller, callee) = call_of(SpeakerKey::of(&speaker()), c).unwrap();
        let series = rhythms.of(&caller, &callee).unwrap();
        series.beats.iter().map(|beat| beat.after_ms).collect()
    }

    #[test]
    fn starts_within_a_window_are_beats_of_their_own() {
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        (c.flows, c.attempts) = (4, 4);
        c.starts_ms = vec![0, 2_200, 2_300, 4_400];
        let mut rhythms = Rhythms::default();
        rhythms.note(&window(vec![c.clone()], 0));
        rhythms.note(&window(vec![c.clone()], 10));
        assert_eq!(beats(&mut rhythms, &c), [2_200, 2_200, 5_600, 2_200, 2_200]);
    }

    #[test]
    fn an_agent_that_tells_no_starts_tells_single_ones() {
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        c.starts_ms = vec![];
        let mut rhythms = Rhythms::default();
        rhythms.note(&window(vec![c.clone()], 0));
        rhythms.note(&window(vec![c.clone()], 60));
        assert_eq!(beats(&mut rhythms, &c), [60_000]);
        // Which of three packets were starts is not known.
        (c.flows, c.attempts) = (3, 3);
        rhythms.note(&window(vec![c.clone()], 120));
        assert!(beats(&mut rhythms, &c).is_empty());
    }

    #[test]
    fn calls_go_outside() {
        let speaker = SpeakerKey::of(&speaker());
        let check = |client: &str, server: &str, port, expected: bool| {
            let c = conversation(client, server, port);
            assert_eq!(call_of(speaker, &c).is_some(), expected, "{server} {port}");
        };
        check("10.0.0.1", "192.0.2.1", 443, true);
        check("10.0.0.7", "192.0.2.1", 443, true);
        check("10.0.0.1", "10.0.0.9", 443, false);
        check("192.0.2.1", "10.0.0.1", 443, false);
        check("10.0.0.1", "192.0.2.1", 53, false);
        check("10.0.0.1", "169.254.169.254", 80, false);
    }

    #[test]
    fn a_name_is_one_peer_whatever_its_address() {
        let mut rhythms = Rhythms::default();
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        c.tls_name = Some("a.example.com".into());
        rhythms.note(&window(vec![c.clone()], 0));
        c.server = ip("192.0.2.2");
        rhythms.note(&window(vec![c.clone()], 60));
        assert_eq!(beats(&mut rhythms, &c), [60_000]);
    }

    #[test]
    fn peers_of_many_beats_outlive_those_of_few() {
        let mut rhythms = Rhythms::default();
        let steady = conversation("10.0.0.1", "192.0.2.1", 443);
        for step in 0..2_000u64 {
            let port = u16::try_from(step).unwrap() + 1_000;
            let other = conversation("10.0.0.1", "198.51.100.1", port);
            rhythms.note(&window(vec![steady.clone(), other], step * 60));
        }
        let (_, peers, held) = rhythms.held();
        assert!(peers <= CALLEES_PER_HOST_MAX);
        assert_eq!(beats(&mut rhythms, &steady).len(), BEATS_MAX);
        assert_eq!(held, BEATS_MAX);
        assert!(rhythms.turned_away()[1].1 > 0);
        rhythms.expire(START + 3_000 * 60 * SECOND);
        assert_eq!(rhythms.held(), (0, 0, 0));
    }

    #[test]
    fn what_is_held_grows_with_the_hosts_and_not_faster() {
        let held = |hosts: u32| {
            let mut rhythms = Rhythms::default();
            for step in 0..20u64 {
                for host in 0..hosts {
                    let [_, b, c, d] = host.to_be_bytes();
                    let client = format!("10.{b}.{c}.{d}");
                    let of = [1, 2, 3]
                        .map(|server| conversation(&client, &format!("192.0.2.{server}"), 443));
                    rhythms.note(&window(of.into(), step * 60));
                }
            }
            rhythms.held()
        };
        for hosts in [10u32, 100, 1_000] {
            let n = hosts as usize;
            assert_eq!(held(hosts), (n, 3 * n, 3 * 19 * n));
        }
    }
}
