//! When hosts began to talk to whom outside, so that rhythm can be told from chance.
//!
//! Of each host and each of its peers on the Internet the last beats are kept: how long after the one
//! before, and how much was sent. A peer goes by its name where one is known, so that one behind changing
//! addresses is one peer.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use picket_wire::limits::STARTS_MAX;
use picket_wire::{Conversation, Host, Opened, Side, Summary};

use super::crowd::Crowd;
use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::event::FLOW_LOG;
use crate::limits::{
    BEATS_MAX, CALLEES_PER_HOST_MAX, CALLERS_MAX, CALLERS_PER_SENSOR_MAX, RHYTHM_BEATS_MAX,
    RHYTHM_PER_SENSOR_MAX, SERIES_BEATS,
};
use crate::reach::{is_public, network_of};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Callee {
    pub(crate) whom: Whom,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
}

impl Callee {
    /// A number for it: names are as long as who sends them likes.
    pub(super) fn key(&self) -> u64 {
        hash(self)
    }
}

/// A number that two share once in many millions of millions.
pub(super) fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A peer, by name where one is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whom {
    /// A name that a DNS answer led there by.
    Name(Box<str>),
    /// A name that the client alone gives, and the network it gives it in: anybody may say any.
    Claimed(Box<str>, IpAddr),
    Address(IpAddr),
}

impl Whom {
    /// Whom a conversation goes to. `is_led` says whether a DNS answer led by a name to a network.
    fn of(c: &Conversation, is_led: impl Fn(&str, IpAddr) -> bool) -> Self {
        if let Some(name) = c.dns_name.as_deref() {
            return Self::Name(name.into());
        }
        let Some(name) = c.tls_name.as_deref() else {
            return Self::Address(c.server);
        };
        let network = network_of(c.server);
        if is_led(name, network) {
            Self::Name(name.into())
        } else {
            Self::Claimed(name.into(), network)
        }
    }

    /// Its name, if that is not only its own word.
    pub(crate) fn known_name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Claimed(..) | Self::Address(_) => None,
        }
    }
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) | Self::Claimed(name, _) => f.write_str(name),
            Self::Address(address) => write!(f, "{}", address.to_canonical()),
        }
    }
}

/// A sensor or log that tells of calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teller {
    speaker: SpeakerKey,
    by_log: bool,
}

impl Teller {
    pub(crate) fn of(host: &Host) -> Self {
        Self {
            speaker: SpeakerKey::of(host),
            by_log: host.capture == FLOW_LOG,
        }
    }
}

/// A call to the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) callee: Callee,
    /// Whether a flow log tells of it, whose times are others than an agent's.
    by_log: bool,
}

impl Call {
    /// The call that a conversation is, if it is one. `is_led` as in [`Whom::of`].
    pub(super) fn of(
        teller: Teller,
        c: &Conversation,
        is_led: impl Fn(&str, IpAddr) -> bool,
    ) -> Option<Self> {
        let known = match c.protocol {
            TCP => c.opened == Opened::Seen,
            UDP => c.opened != Opened::Unknown,
            _ => false,
        };
        let outward = matches!(c.local, Side::Client | Side::Neither) && is_public(c.server);
        if !known || !outward || RHYTHMS_BY_TRADE.contains(&c.server_port) {
            return None;
        }
        Some(Self {
            caller: (teller.speaker, c.client),
            callee: Callee {
                whom: Whom::of(c, is_led),
                port: c.server_port,
                protocol: c.protocol,
            },
            by_log: teller.by_log,
        })
    }

    fn key(&self) -> SeriesKey {
        (self.callee.key(), self.by_log)
    }
}

/// A callee's number, and whether a flow log tells of it.
type SeriesKey = (u64, bool);

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
    /// Notes what a window says that ends at `heard_ns`. Where there is no room, no more beats are kept
    /// than there are.
    fn note(&mut self, c: &Conversation, heard_ns: u64, has_room: bool) {
        let begun = c.starts_ms.len().max(c.attempts as usize);
        if self.heard_ns == 0 || begun >= c.flows as usize {
            (self.open_since_ns, self.open_told_ns) = (c.first_ns, 0);
        }
        self.heard_ns = self.heard_ns.max(heard_ns);
        // Logs, and agents that do not tell of starts, tell of a single one by the first packet.
        let told: &[u32] = match (c.starts_ms.len(), c.attempts) {
            (0, 1) => &[0],
            // When the others were is not known, which makes them no stream.
            (0, 2..) => return,
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
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let most = if has_room {
            BEATS_MAX
        } else {
            self.beats.len().max(1)
        };
        for after_ms in told {
            let at_ns = c.first_ns.saturating_add(u64::from(*after_ms) * 1_000_000);
            self.beat(at_ns, bytes, most);
        }
    }

    fn beat(&mut self, at_ns: u64, bytes: u32, most: usize) {
        if self.last_ns == 0 {
            self.last_ns = at_ns;
            return;
        }
        let after_ns = at_ns.saturating_sub(self.last_ns);
        if after_ns <= SAME_BEAT_NS {
            return;
        }
        if self.beats.len() >= most {
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

/// What is held of one sensor's words.
#[derive(Debug, Default)]
struct Share {
    callers: usize,
    beats: usize,
}

/// What is remembered of every host.
#[derive(Debug)]
pub(crate) struct Rhythms {
    callers: Table<Caller, BTreeMap<SeriesKey, Series>>,
    /// Of sensors that any of `callers` is of.
    shares: BTreeMap<SpeakerKey, Share>,
    /// What all series weigh.
    beats: usize,
    left_out: u64,
}

impl Default for Rhythms {
    fn default() -> Self {
        Self {
            callers: Table::new(CALLERS_MAX),
            shares: BTreeMap::new(),
            beats: 0,
            left_out: 0,
        }
    }
}

impl Rhythms {
    /// Notes what a summary says of calls to the outside.
    pub(crate) fn note(&mut self, summary: &Summary, crowd: &Crowd) {
        let teller = Teller::of(&summary.host);
        for c in &summary.conversations {
            if let Some(call) = crowd.call_of(teller, c) {
                self.put(&call, c, summary.window.end_ns);
            }
        }
    }

    fn put(&mut self, call: &Call, c: &Conversation, heard_ns: u64) {
        let is_new = |callers: &Table<_, _>| callers.get(&call.caller).is_none();
        let is_full = self.callers.len() >= CALLERS_MAX && is_new(&self.callers);
        if is_full || self.beats >= RHYTHM_BEATS_MAX {
            self.callers.evict();
            self.recount();
        }
        let share = self.shares.entry(call.caller.0).or_default();
        if is_new(&self.callers) {
            if share.callers >= CALLERS_PER_SENSOR_MAX {
                self.left_out += 1;
                return;
            }
            share.callers += 1;
        }
        let has_room = share.beats < RHYTHM_PER_SENSOR_MAX;
        let all = self.callers.write(call.caller, heard_ns);
        let key = call.key();
        let (mut more, mut less) = (0, 0);
        let series = match all.get_mut(&key) {
            Some(series) => series,
            None if !has_room => {
                self.left_out += 1;
                return;
            }
            None => {
                if all.len() >= CALLEES_PER_HOST_MAX {
                    let (gone, weight) = make_room(all);
                    self.left_out += gone;
                    less += weight;
                }
                more += SERIES_BEATS;
                all.entry(key).or_default()
            }
        };
        less += series.beats.len();
        series.note(c, heard_ns, has_room);
        more += series.beats.len();
        for held in [&mut self.beats, &mut share.beats] {
            *held = (*held + more).saturating_sub(less);
        }
    }

    /// What is remembered of a peer.
    pub(crate) fn of(&mut self, call: &Call) -> Option<&mut Series> {
        self.callers.get_mut(&call.caller)?.get_mut(&call.key())
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.callers.expire(before_ns);
        for all in self.callers.values_mut() {
            all.retain(|_, series| series.heard_ns >= before_ns);
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
        self.shares.clear();
        self.beats = 0;
        for ((sensor, _), all) in self.callers.rows() {
            let share = self.shares.entry(*sensor).or_default();
            let weight: usize = all.values().map(weight).sum();
            share.callers += 1;
            share.beats += weight;
            self.beats += weight;
        }
    }

    /// Hosts, peers and what they weigh.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        let peers = self.callers.values().map(BTreeMap::len).sum();
        (self.callers.len(), peers, self.beats)
    }
}

/// What a series takes, in beats.
fn weight(series: &Series) -> usize {
    SERIES_BEATS + series.beats.len()
}

/// Lets a sixteenth of a host's peers go: those with fewest beats, the longest silent first. Returns how
/// many, and what they weighed.
fn make_room(all: &mut BTreeMap<SeriesKey, Series>) -> (u64, usize) {
    let mut order: Vec<(usize, u64, SeriesKey)> = all
        .iter()
        .map(|(key, series)| (weight(series), series.heard_ns, *key))
        .collect();
    order.sort_unstable();
    order.truncate(order.len().div_ceil(16));
    let (mut gone, mut weighed) = (0, 0);
    for (weight, _, key) in order {
        all.remove(&key);
        gone += 1;
        weighed += weight;
    }
    (gone, weighed)
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

    fn note(rhythms: &mut Rhythms, summary: &Summary) {
        rhythms.note(summary, &Crowd::default());
    }

    fn beats(rhythms: &mut Rhythms, c: &Conversation) -> Vec<u32> {
        let call = Call::of(Teller::of(&speaker()), c, |_, _| false).unwrap();
        let series = rhythms.of(&call).unwrap();
        series.beats.iter().map(|beat| beat.after_ms).collect()
    }

    #[test]
    fn starts_within_a_window_are_beats_of_their_own() {
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        (c.flows, c.attempts) = (4, 4);
        c.starts_ms = vec![0, 2_200, 2_300, 4_400];
        let mut rhythms = Rhythms::default();
        note(&mut rhythms, &window(vec![c.clone()], 0));
        note(&mut rhythms, &window(vec![c.clone()], 10));
        assert_eq!(beats(&mut rhythms, &c), [2_200, 2_200, 5_600, 2_200, 2_200]);
    }

    #[test]
    fn an_agent_that_tells_no_starts_tells_single_ones() {
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        c.starts_ms = vec![];
        let mut rhythms = Rhythms::default();
        note(&mut rhythms, &window(vec![c.clone()], 0));
        note(&mut rhythms, &window(vec![c.clone()], 60));
        assert_eq!(beats(&mut rhythms, &c), [60_000]);
        // When the others of three began is not known.
        (c.flows, c.attempts) = (3, 3);
        note(&mut rhythms, &window(vec![c.clone()], 120));
        assert_eq!(beats(&mut rhythms, &c), [60_000]);
        // One that tells of starts and of more than they are tells of a stream.
        c.starts_ms = vec![0];
        note(&mut rhythms, &window(vec![c.clone()], 180));
        assert!(beats(&mut rhythms, &c).is_empty());
    }

    #[test]
    fn calls_go_outside() {
        let check = |client: &str, server: &str, port, expected: bool| {
            let c = conversation(client, server, port);
            let call = Call::of(Teller::of(&speaker()), &c, |_, _| false);
            assert_eq!(call.is_some(), expected, "{server} {port}");
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
        note(&mut rhythms, &window(vec![c.clone()], 0));
        c.server = ip("192.0.2.2");
        note(&mut rhythms, &window(vec![c.clone()], 60));
        assert_eq!(beats(&mut rhythms, &c), [60_000]);
    }

    #[test]
    fn a_name_that_is_only_claimed_is_one_peer_in_each_network() {
        let whom = |dns: Option<&str>, server: &str, is_led: bool| {
            let mut c = conversation("10.0.0.1", server, 443);
            c.tls_name = Some("a.example.com".into());
            c.dns_name = dns.map(str::to_owned);
            Call::of(Teller::of(&speaker()), &c, |_, _| is_led)
                .unwrap()
                .callee
                .whom
        };
        assert_eq!(
            whom(None, "192.0.2.1", false),
            whom(None, "192.0.2.2", false)
        );
        assert_ne!(
            whom(None, "192.0.2.1", false),
            whom(None, "198.51.100.2", false)
        );
        let known = whom(Some("a.example.com"), "192.0.2.1", false);
        assert_eq!(known, whom(None, "198.51.100.2", true));
        assert_ne!(known, whom(None, "192.0.2.1", false));
        let other = whom(Some("b.example.com"), "192.0.2.1", false);
        assert_eq!(other.known_name(), Some("b.example.com"));
    }

    #[test]
    fn what_a_flow_log_tells_is_a_series_of_its_own() {
        let mut rhythms = Rhythms::default();
        let c = conversation("10.0.0.1", "192.0.2.1", 443);
        for minute in 0..5 {
            note(&mut rhythms, &window(vec![c.clone()], minute * 60));
            let mut logged = window(vec![c.clone()], minute * 60 + 20);
            logged.host.capture = FLOW_LOG.into();
            note(&mut rhythms, &logged);
        }
        assert_eq!(beats(&mut rhythms, &c), [60_000; 4]);
        assert_eq!(rhythms.held().1, 2);
    }

    #[test]
    fn times_that_cannot_be_are_no_more_than_odd() {
        let mut rhythms = Rhythms::default();
        let mut one = window(vec![conversation("10.0.0.1", "192.0.2.1", 443)], 0);
        let c = &mut one.conversations[0];
        (c.first_ns, c.last_ns) = (u64::MAX - 1, u64::MAX);
        (c.flows, c.attempts, c.starts_ms) = (2, 2, vec![0, u32::MAX]);
        note(&mut rhythms, &one);
        assert_eq!(rhythms.held().0, 1);
        // The window says how old the row is.
        rhythms.expire(START + 3_600 * SECOND);
        assert_eq!(rhythms.held(), (0, 0, 0));
        assert!(rhythms.shares.is_empty());
    }

    #[test]
    fn peers_that_were_called_once_weigh_too_and_no_sensor_takes_all() {
        let mut rhythms = Rhythms::default();
        let ports = CALLEES_PER_HOST_MAX as u16;
        for host in 0..1_000u32 {
            let [_, _, c, d] = host.to_be_bytes();
            let client = format!("10.9.{c}.{d}");
            let of = (0..ports).map(|port| conversation(&client, "192.0.2.1", 1_000 + port));
            note(&mut rhythms, &window(of.collect(), 0));
        }
        let (hosts, peers, held) = rhythms.held();
        assert_eq!(held, peers * SERIES_BEATS);
        assert!(held <= RHYTHM_PER_SENSOR_MAX + SERIES_BEATS);
        assert!(hosts <= 1_000);
        let left_out = rhythms.turned_away()[1].1;
        assert_eq!(peers as u64 + left_out, 1_000 * u64::from(ports));
        let mut other = window(vec![conversation("10.0.0.1", "192.0.2.1", 443)], 0);
        other.host.instance = "i-other".into();
        note(&mut rhythms, &other);
        assert_eq!(rhythms.held().1, peers + 1);
    }

    #[test]
    fn peers_of_many_beats_outlive_those_of_few() {
        let mut rhythms = Rhythms::default();
        let steady = conversation("10.0.0.1", "192.0.2.1", 443);
        for step in 0..2_000u64 {
            let port = u16::try_from(step).unwrap() + 1_000;
            let other = conversation("10.0.0.1", "198.51.100.1", port);
            note(
                &mut rhythms,
                &window(vec![steady.clone(), other], step * 60),
            );
        }
        let (_, peers, held) = rhythms.held();
        assert!(peers <= CALLEES_PER_HOST_MAX);
        assert_eq!(beats(&mut rhythms, &steady).len(), BEATS_MAX);
        assert_eq!(held, BEATS_MAX + peers * SERIES_BEATS);
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
                    note(&mut rhythms, &window(of.into(), step * 60));
                }
            }
            rhythms.held()
        };
        for hosts in [10u32, 100, 1_000] {
            let n = hosts as usize;
            assert_eq!(held(hosts), (n, 3 * n, 3 * (19 + SERIES_BEATS) * n));
        }
    }
}
