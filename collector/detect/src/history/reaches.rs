//! Who tried one port of which hosts, and which of them answered.
//!
//! Kept twice: by the sensor on or beside whoever tries, and by the fleet of an account whose hosts are
//! tried from outside the sensor. Answers are noted only of rows that have tries without one; a host
//! that was found by its name is no part of it, since whoever scans asks for no names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use picket_wire::{Conversation, Opened, Side, Summary};

use super::table::Table;
use crate::conversation::{SpeakerKey, is_answered, is_unanswered};
use crate::limits::{
    REACHED_HOSTS_MAX, REACHES_FLEET_HOSTS_MAX, REACHES_FLEET_MAX, REACHES_HOSTS_MAX, REACHES_MAX,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;

/// What summaries made of flow logs say of their capture.
const FLOW_LOG: &str = "vpc-flow-log";
/// Packets of an unanswered opening: the first and Linux's six repeats (`tcp_syn_retries`).
const OPENING_PACKETS_MAX: u64 = 7;
/// Bytes of one of them: headers and all options.
const OPENING_BYTES_MAX: u64 = 80;

/// Packets to one host in a window that are still a try: who floods a network sends more. Chosen by hand.
const TRY_PACKETS_MAX: u64 = 64;

/// Whose word it is that somebody tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Told {
    /// That of one sensor: who tries is its host, or one whose traffic it sees.
    Sensor(SpeakerKey),
    /// That of all sensors of an account and region: their hosts are tried.
    Fleet(SpeakerKey),
}

/// A client and the port that it tries of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reaching {
    pub(crate) told: Told,
    pub(crate) client: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// What became of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// When it was tried first.
    pub(crate) first_ns: u64,
    /// When it was tried last.
    pub(crate) last_ns: u64,
    /// Whether it answered, then or later.
    pub(crate) answered: bool,
    /// Whether it refused.
    pub(crate) refused: bool,
}

/// The hosts that one client tried at one port.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    hosts: BTreeMap<IpAddr, Reached>,
    first: Option<(IpAddr, Arc<str>)>,
}

impl Tried {
    /// The hosts tried, by address.
    pub(crate) const fn hosts(&self) -> &BTreeMap<IpAddr, Reached> {
        &self.hosts
    }

    /// The host that was tried first of all, and what its sensor calls it.
    pub(crate) fn first(&self) -> Option<(IpAddr, &str)> {
        self.first
            .as_ref()
            .map(|(address, name)| (*address, &**name))
    }
}

/// One of the two tables, with its bounds.
#[derive(Debug)]
struct Book {
    rows: Table<Reaching, Tried>,
    hosts: usize,
    hosts_max: usize,
    left_out: u64,
}

impl Book {
    fn new(rows_max: usize, hosts_max: usize) -> Self {
        Self {
            rows: Table::new(rows_max),
            hosts: 0,
            hosts_max,
            left_out: 0,
        }
    }

    fn put(&mut self, key: Reaching, server: IpAddr, reached: Reached, name: &str) {
        if self.hosts >= self.hosts_max {
            self.rows.evict();
            self.recount();
        }
        let row = self.rows.write(key, reached.last_ns);
        row.first.get_or_insert_with(|| (server, name.into()));
        if let Some(known) = row.hosts.get_mut(&server) {
            known.first_ns = known.first_ns.min(reached.first_ns);
            known.last_ns = known.last_ns.max(reached.last_ns);
            known.answered |= reached.answered;
            known.refused |= reached.refused;
        } else if row.hosts.len() >= REACHED_HOSTS_MAX {
            self.left_out += 1;
        } else {
            row.hosts.insert(server, reached);
            self.hosts += 1;
        }
    }

    fn expire(&mut self, before_ns: u64) {
        self.rows.expire(before_ns);
        for row in self.rows.values_mut() {
            row.hosts.retain(|_, reached| reached.last_ns >= before_ns);
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.hosts = self.rows.values().map(|row| row.hosts.len()).sum();
    }
}

/// Both tables.
#[derive(Debug)]
pub(crate) struct Reaches {
    sensors: Book,
    fleets: Book,
}

impl Default for Reaches {
    fn default() -> Self {
        Self {
            sensors: Book::new(REACHES_MAX, REACHES_HOSTS_MAX),
            fleets: Book::new(REACHES_FLEET_MAX, REACHES_FLEET_HOSTS_MAX),
        }
    }
}

impl Reaches {
    /// Notes what a summary says of hosts that were tried.
    pub(crate) fn note(&mut self, summary: &Summary) {
        let keys = Keys::of(summary);
        let is_flow_log = keys.is_flow_log;
        let of = |answered: bool| {
            let all = summary.conversations.iter();
            all.filter(move |c| match outcome(c, is_flow_log) {
                Some(Outcome::Answered) => answered,
                Some(Outcome::Silent | Outcome::Refused) => !answered,
                None => false,
            })
        };
        // What went unanswered first: it makes the rows.
        for (c, answered) in of(false)
            .map(|c| (c, false))
            .chain(of(true).map(|c| (c, true)))
        {
            let Some(key) = keys.reaching(c) else {
                continue;
            };
            let book = match key.told {
                Told::Sensor(_) => &mut self.sensors,
                Told::Fleet(_) => &mut self.fleets,
            };
            if answered && (book.rows.is_empty() || book.rows.get(&key).is_none()) {
                continue;
            }
            let reached = Reached {
                first_ns: c.first_ns,
                last_ns: c.last_ns,
                answered,
                refused: c.refused > 0,
            };
            book.put(key, c.server, reached, &summary.host.instance);
        }
    }

    /// What `key` tried.
    pub(crate) fn of(&self, key: &Reaching) -> Option<&Tried> {
        match key.told {
            Told::Sensor(_) => self.sensors.rows.get(key),
            Told::Fleet(_) => self.fleets.rows.get(key),
        }
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.sensors.expire(before_ns);
        self.fleets.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 4] {
        [
            ("reaches_evicted", self.sensors.rows.evicted()),
            ("reached_hosts_left_out", self.sensors.left_out),
            ("fleet_reaches_evicted", self.fleets.rows.evicted()),
            ("fleet_reached_hosts_left_out", self.fleets.left_out),
        ]
    }
}

/// What became of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Silent,
    Refused,
    Answered,
}

/// `None` where nothing was tried, or nothing that says something.
fn outcome(c: &Conversation, is_flow_log: bool) -> Option<Outcome> {
    let is_service = matches!(c.protocol, TCP | UDP) && c.server_port > 0;
    let is_one = !c.server.is_multicast() && !c.server.is_unspecified();
    let broadcast = matches!(c.server, IpAddr::V4(v4) if v4.is_broadcast());
    if !is_service || !is_one || broadcast || c.local == Side::Both {
        return None;
    }
    if is_answered(c) && c.packets_in > 0 {
        return Some(Outcome::Answered);
    }
    let silent = is_unanswered(c) || is_flow_log && looks_unanswered(c);
    if !silent || c.dns_name.is_some() || c.packets_out > TRY_PACKETS_MAX {
        return None;
    }
    Some(if c.refused > 0 {
        Outcome::Refused
    } else {
        Outcome::Silent
    })
}

/// Flow logs without the column of flags do not say what opens: a few packets of the size of an opening
/// that nothing came back for.
fn looks_unanswered(c: &Conversation) -> bool {
    c.protocol == TCP
        && c.opened == Opened::Guessed
        && c.flags_out == ACK
        && c.packets_in == 0
        && (1..=OPENING_PACKETS_MAX).contains(&c.packets_out)
        && c.bytes_out <= c.packets_out * OPENING_BYTES_MAX
}

/// Makes the keys of one summary.
pub(crate) struct Keys {
    sensor: SpeakerKey,
    fleet: SpeakerKey,
    is_flow_log: bool,
}

impl Keys {
    pub(crate) fn of(summary: &Summary) -> Self {
        let host = &summary.host;
        Self {
            sensor: SpeakerKey::of(host),
            fleet: SpeakerKey::of_account(host),
            is_flow_log: host.capture == FLOW_LOG,
        }
    }

    /// The row of a conversation.
    pub(crate) fn reaching(&self, c: &Conversation) -> Option<Reaching> {
        let told = match c.local {
            Side::Client | Side::Neither => Told::Sensor(self.sensor),
            Side::Server => Told::Fleet(self.fleet),
            Side::Both => return None,
        };
        Some(Reaching {
            told,
            client: c.client,
            protocol: c.protocol,
            port: c.server_port,
        })
    }

    /// The row of a conversation in which somebody tried and had no answer.
    pub(crate) fn trying(&self, c: &Conversation) -> Option<Reaching> {
        let tried = outcome(c, self.is_flow_log);
        let missed = matches!(tried, Some(Outcome::Silent | Outcome::Refused));
        missed.then(|| self.reaching(c)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, mirror, speaker, summary, unanswered};

    fn tried(summary: &Summary) -> Reaching {
        Keys::of(summary).trying(&summary.conversations[0]).unwrap()
    }

    #[test]
    fn an_answer_in_a_later_window_counts() {
        let mut reaches = Reaches::default();
        let mut first = summary(mirror());
        first.conversations = vec![unanswered("10.1.0.1", "10.1.0.2", 80)];
        reaches.note(&first);
        let key = tried(&first);
        let answered = |reaches: &Reaches| {
            let row = reaches.of(&key).unwrap();
            row.hosts().values().filter(|one| one.answered).count()
        };
        assert_eq!(answered(&reaches), 0);
        let mut second = summary(mirror());
        second.conversations = vec![conversation("10.1.0.1", "10.1.0.2", 80)];
        reaches.note(&second);
        assert_eq!(answered(&reaches), 1);
    }

    #[test]
    fn what_was_found_by_name_is_no_try() {
        let mut one = summary(speaker());
        let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
        c.dns_name = Some("dead.example".into());
        one.conversations = vec![c];
        assert!(Keys::of(&one).trying(&one.conversations[0]).is_none());
        one.conversations[0].dns_name = None;
        assert!(Keys::of(&one).trying(&one.conversations[0]).is_some());
    }

    #[test]
    fn hosts_of_one_account_are_one_fleet() {
        let mut one = summary(speaker());
        one.conversations = vec![unanswered("192.0.2.1", "10.0.0.1", 22)];
        let mut other = one.clone();
        other.host.instance = "i-0bbbbbbbbbbbbbbbb".into();
        assert_eq!(tried(&one), tried(&other));
        other.host.account = "444455556666".into();
        assert_ne!(tried(&one), tried(&other));
    }

    #[test]
    fn flow_logs_without_flags_tell_a_try_by_its_size() {
        let mut one = summary(speaker());
        let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
        (c.opened, c.attempts, c.flags_out) = (Opened::Guessed, 0, ACK);
        one.conversations = vec![c];
        assert!(Keys::of(&one).trying(&one.conversations[0]).is_none());
        one.host.capture = FLOW_LOG.into();
        assert!(Keys::of(&one).trying(&one.conversations[0]).is_some());
        one.conversations[0].bytes_out = 1_500;
        assert!(Keys::of(&one).trying(&one.conversations[0]).is_none());
    }

    #[test]
    fn is_bounded() {
        let mut reaches = Reaches::default();
        for port in 0..400u16 {
            let mut one = summary(mirror());
            one.conversations = (0..3_000u32)
                .map(|host| {
                    let mut c = unanswered("10.1.0.1", "10.2.0.1", 1_000 + port);
                    c.server = IpAddr::V4(std::net::Ipv4Addr::from(0x0a02_0000 + host));
                    c
                })
                .collect();
            reaches.note(&one);
            assert!(reaches.sensors.hosts <= REACHES_HOSTS_MAX + REACHED_HOSTS_MAX);
        }
        let [(_, evicted), (_, left_out), ..] = reaches.turned_away();
        assert!(evicted > 0 && left_out > 0);
    }
}
