//! What is usual for a host on the network: which ports of others it turns to, whom outside it asks for
//! names, and how much it sends to one destination in an hour, by destination and by program.
//!
//! Nothing is inferred and nothing hidden: it is lists of values with their days and of sums, which can be
//! written out, read, changed and taken back. What was met on one day only is not usual yet, so an
//! intruder's first day does not become normal by going on; what was not met for [`FORGET_DAYS`] is
//! forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::{Conversation, Host, Side, Summary};
use serde::{Deserialize, Serialize};

use super::baseline::{FORGET_DAYS, Met};
use super::learned::{Learned, TrafficOf};
use super::peaks::Peaks;
use super::table::Table;
use crate::conversation::{is_answered, whose};
use crate::limits::{
    TRAFFIC_PEERS_MAX, TRAFFIC_PORTS_MAX, TRAFFIC_PROGRAMS_MAX, TRAFFIC_RESOLVERS_MAX,
    TRAFFICS_ALIKE_MAX, TRAFFICS_MAX, TRAFFICS_OTHERS_MAX,
};
use crate::reach::{is_public, network_of};

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Days on which a value must have been met to be usual.
const USUAL_DAYS: u16 = 2;

/// Bytes sent in a conversation of a window from which its destination is noted: less tells nothing of
/// volumes, and most conversations send less.
const NOTED_BYTES_MIN: u64 = 10_000;

/// A destination, or a program: on which days it was met, and how much was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sent {
    /// When.
    pub met: Met,
    /// How much to one destination in an hour.
    pub peaks: Peaks,
}

/// What is usual for one host, or for hosts alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// First heard of, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Last heard of.
    pub last_ns: u64,
    /// On which days.
    pub heard: Met,
    /// Ports of TCP servers that it turned to and that answered.
    pub tcp: BTreeMap<u16, Met>,
    /// The same of UDP.
    pub udp: BTreeMap<u16, Met>,
    /// Public destinations: names as far as known, else networks.
    pub peers: BTreeMap<String, Sent>,
    /// Programs that sent to public destinations.
    pub programs: BTreeMap<String, Sent>,
    /// Resolvers outside, each with the way that it is asked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resolvers: BTreeMap<String, Met>,
    /// The largest hours to any one public destination.
    pub most: Peaks,
    /// Whether something was learned since it was last written out.
    #[serde(skip)]
    pub(super) is_changed: bool,
}

/// Days since the epoch.
fn day(now_ns: u64) -> u32 {
    u32::try_from(now_ns / DAY_NS).unwrap_or(u32::MAX)
}

fn is_usual(met: Option<&Met>, now_ns: u64) -> bool {
    met.is_some_and(|met| {
        met.days >= USUAL_DAYS && met.last_day.saturating_add(FORGET_DAYS) >= day(now_ns)
    })
}

/// Notes a value that was met today, if there is room.
fn meet<K: Ord, V: Default>(
    values: &mut BTreeMap<K, V>,
    key: K,
    values_max: usize,
    today: u32,
    met: impl Fn(&mut V) -> &mut Met,
) -> Option<&mut V> {
    if values.len() >= values_max && !values.contains_key(&key) {
        values.retain(|_, value| met(value).last_day.saturating_add(FORGET_DAYS) >= today);
        if values.len() >= values_max {
            return None;
        }
    }
    let value = values.entry(key).or_default();
    note(met(value), today);
    Some(value)
}

fn note(met: &mut Met, today: u32) {
    if met.days == 0 {
        (met.first_day, met.last_day, met.days) = (today, today, 1);
    } else if today > met.last_day {
        met.last_day = today;
        met.days = met.days.saturating_add(1);
    }
    met.calls = met.calls.saturating_add(1);
}

impl Traffic {
    /// Days on which it was heard of before that of `now_ns`.
    pub(crate) fn days_before(&self, now_ns: u64) -> u16 {
        self.heard
            .days
            .saturating_sub(u16::from(self.heard.last_day == day(now_ns)))
    }

    /// Whether it turned to a port on two days or more.
    pub(crate) fn is_port_usual(&self, protocol: u8, port: u16, now_ns: u64) -> bool {
        let ports = if protocol == TCP {
            &self.tcp
        } else {
            &self.udp
        };
        is_usual(ports.get(&port), now_ns)
    }

    /// Ports that are usual.
    pub(crate) fn ports_usual(&self, now_ns: u64) -> usize {
        let all = self.tcp.values().chain(self.udp.values());
        all.filter(|met| is_usual(Some(met), now_ns)).count()
    }

    /// What is known of a destination.
    pub(crate) fn peer(&self, name: &str) -> Option<&Sent> {
        self.peers.get(name)
    }

    /// Whether it asked a resolver on two days or more, the first of which ended `age_ns` ago or earlier.
    pub(crate) fn is_resolver_usual(&self, resolver: &str, age_ns: u64, now_ns: u64) -> bool {
        let met = self.resolvers.get(resolver);
        let ended_ns = |met: &Met| (u64::from(met.first_day) + 1).saturating_mul(DAY_NS);
        is_usual(met, now_ns)
            && met.is_some_and(|met| ended_ns(met) <= now_ns.saturating_sub(age_ns))
    }

    /// What is known of a program.
    pub(crate) fn program(&self, name: &str) -> Option<&Sent> {
        self.programs.get(name)
    }

    /// Learns a conversation in which the host is the client; says how many values found no room.
    fn learn(&mut self, c: &Conversation, now_ns: u64) -> u64 {
        let today = day(now_ns);
        let mut left_out = 0;
        if let Some(port) = port_of(c) {
            let ports = if c.protocol == TCP {
                &mut self.tcp
            } else {
                &mut self.udp
            };
            let met = meet(ports, port, TRAFFIC_PORTS_MAX, today, |met| met);
            left_out += u64::from(met.is_none());
        }
        if c.bytes_out >= NOTED_BYTES_MIN && is_public(c.server) {
            match meet(
                &mut self.peers,
                destination(c),
                TRAFFIC_PEERS_MAX,
                today,
                |one| &mut one.met,
            ) {
                Some(peer) => {
                    peer.peaks.add(now_ns, c.bytes_out);
                    let hour = peer.peaks.in_hour(now_ns);
                    self.most.raise(now_ns, hour);
                    if let Some(program) = program(c) {
                        let known = meet(
                            &mut self.programs,
                            program.to_owned(),
                            TRAFFIC_PROGRAMS_MAX,
                            today,
                            |one| &mut one.met,
                        );
                        match known {
                            Some(known) => known.peaks.raise(now_ns, hour),
                            None => left_out += 1,
                        }
                    }
                }
                None => left_out += 1,
            }
        }
        left_out
    }

    /// Cuts what came from elsewhere to what could have been learned.
    fn settle(&mut self) {
        let today = day(self.last_ns);
        let clip = |met: &mut Met| {
            met.last_day = met.last_day.min(today);
            met.first_day = met.first_day.min(met.last_day);
            let span = met.last_day - met.first_day + 1;
            met.days = met.days.min(u16::try_from(span).unwrap_or(u16::MAX));
        };
        clip(&mut self.heard);
        for ports in [&mut self.tcp, &mut self.udp] {
            ports.values_mut().for_each(clip);
            while ports.len() > TRAFFIC_PORTS_MAX {
                ports.pop_last();
            }
        }
        self.resolvers.values_mut().for_each(clip);
        while self.resolvers.len() > TRAFFIC_RESOLVERS_MAX {
            self.resolvers.pop_last();
        }
        for (all, many) in [
            (&mut self.peers, TRAFFIC_PEERS_MAX),
            (&mut self.programs, TRAFFIC_PROGRAMS_MAX),
        ] {
            for sent in all.values_mut() {
                clip(&mut sent.met);
                sent.peaks.settle(self.last_ns);
            }
            while all.len() > many {
                all.pop_last();
            }
        }
        self.most.settle(self.last_ns);
        self.first_ns = self.first_ns.min(self.last_ns);
    }
}

/// The port of another host that a conversation turned to, where it tells something: it was answered,
/// and is none of those that are handed out as needed.
pub(crate) fn port_of(c: &Conversation) -> Option<u16> {
    /// Where Linux hands ports out from.
    const HANDED_OUT: u16 = 32_768;
    let is_service = c.server_port > 0 && c.server_port < HANDED_OUT;
    let is_known = matches!(c.protocol, TCP | UDP) && is_service && is_answered(c);
    is_known.then_some(c.server_port)
}

/// A destination: the name that was asked for, cut to whoever owns it; without one the network.
///
/// Of AWS's names the whole is kept: the bucket stands in it.
pub(crate) fn destination(c: &Conversation) -> String {
    let name = c.tls_name.as_deref().or(c.dns_name.as_deref());
    let Some(name) = name.filter(|name| name.contains('.') && name.parse::<IpAddr>().is_err())
    else {
        return network_of(c.server).to_string();
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.ends_with(".amazonaws.com") {
        return name;
    }
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let (last, second, third) = (dots.next(), dots.next(), dots.next());
    // Of `co.uk` and the like the owner stands before.
    let is_short = |from: usize, to: usize| to - from <= 4;
    let cut = match (last, second, third) {
        (Some(last), Some(second), third) if name.len() - last == 3 && is_short(second, last) => {
            third
        }
        (_, second, _) => second,
    };
    cut.map_or(name.clone(), |at| name[at + 1..].to_owned())
}

/// The program at the host's own end: its path, or else its name.
pub(crate) fn program(c: &Conversation) -> Option<&str> {
    let process = c.process.as_deref()?;
    Some(process.exe.as_deref().unwrap_or(&process.name))
}

/// Whether the client of a conversation is a host that may be learned of.
pub(crate) fn is_outgoing(c: &Conversation) -> bool {
    match c.local {
        Side::Client => true,
        Side::Neither => !is_public(c.client),
        Side::Server | Side::Both => false,
    }
}

/// What is usual for every host, and for hosts alike.
#[derive(Debug)]
pub(crate) struct Traffics {
    hosts: Table<String, Traffic>,
    /// Hosts that go by an address: they have no sensor that would name them.
    others: Table<String, Traffic>,
    alike: Table<String, Traffic>,
    left_out: u64,
}

impl Default for Traffics {
    fn default() -> Self {
        Self {
            hosts: Table::new(TRAFFICS_MAX),
            others: Table::new(TRAFFICS_OTHERS_MAX),
            alike: Table::new(TRAFFICS_ALIKE_MAX),
            left_out: 0,
        }
    }
}

impl Traffics {
    /// What is usual for a host that `speaker` tells of.
    pub(crate) fn of(&self, speaker: &Host, host: &str) -> Option<&Traffic> {
        let name = key(speaker, host);
        place(&self.hosts, &self.others, &name).get(&name)
    }

    /// What is usual for hosts like the one that speaks.
    pub(crate) fn alike(&self, speaker: &Host) -> Option<&Traffic> {
        self.alike.get(&key(speaker, role(speaker)))
    }

    /// Notes that a host asks a resolver, if anything is known of the host.
    pub(crate) fn note_resolver(
        &mut self,
        speaker: &Host,
        host: &str,
        resolver: String,
        now_ns: u64,
    ) {
        let name = key(speaker, host);
        let hosts = place(&mut self.hosts, &mut self.others, &name);
        if let Some(host) = hosts.get_mut(&name) {
            let today = day(now_ns);
            let met = meet(
                &mut host.resolvers,
                resolver,
                TRAFFIC_RESOLVERS_MAX,
                today,
                |met| met,
            );
            self.left_out += u64::from(met.is_none());
            host.is_changed = true;
        }
    }

    /// Takes a summary in.
    pub(crate) fn learn(&mut self, summary: &Summary) {
        let now_ns = summary.window.end_ns.saturating_sub(1);
        let today = day(now_ns);
        let mut by_host: BTreeMap<IpAddr, Vec<&Conversation>> = BTreeMap::new();
        for c in summary.conversations.iter().filter(|c| is_outgoing(c)) {
            let tells = port_of(c).is_some() || c.bytes_out >= NOTED_BYTES_MIN;
            if tells {
                by_host.entry(c.client).or_default().push(c);
            }
        }
        for (address, conversations) in by_host {
            let name = key(&summary.host, &whose(&summary.host, address).subject);
            let alike = self
                .alike
                .write(key(&summary.host, role(&summary.host)), now_ns);
            let hosts = place(&mut self.hosts, &mut self.others, &name);
            let host = hosts.write(name, now_ns);
            for one in [&mut *alike, &mut *host] {
                if one.heard.days == 0 {
                    one.first_ns = now_ns;
                }
                one.last_ns = one.last_ns.max(now_ns);
                note(&mut one.heard, today);
                one.is_changed = true;
            }
            for c in conversations {
                self.left_out += host.learn(c, now_ns);
                if let Some(port) = port_of(c) {
                    let ports = if c.protocol == TCP {
                        &mut alike.tcp
                    } else {
                        &mut alike.udp
                    };
                    meet(ports, port, TRAFFIC_PORTS_MAX, today, |met| met);
                }
            }
        }
    }

    /// Writes out what is wanted, by its name.
    pub(crate) fn export(&self, learned: &mut Learned, wanted: impl Fn(&str, &Traffic) -> bool) {
        let some = |table: &Table<String, Traffic>| -> BTreeMap<String, Traffic> {
            let rows = table.rows().filter(|(name, one)| wanted(name, one));
            let written = |one: &Traffic| Traffic {
                is_changed: false,
                ..one.clone()
            };
            rows.map(|(name, one)| (name.clone(), written(one)))
                .collect()
        };
        learned.hosts = some(&self.hosts);
        learned.hosts.extend(some(&self.others));
        learned.hosts_alike = some(&self.alike);
    }

    /// Writes out what was learned since it was last asked.
    pub(crate) fn poll(&mut self, learned: &mut Learned) {
        self.export(learned, |_, one| one.is_changed);
        for table in [&mut self.hosts, &mut self.others, &mut self.alike] {
            table.values_mut().for_each(|one| one.is_changed = false);
        }
    }

    /// Takes back what was written out, in place of what is there under the same names.
    pub(crate) fn import(&mut self, learned: &mut Learned) {
        for (of, name, mut traffic) in learned.take_traffic() {
            let table = match of {
                TrafficOf::Host => place(&mut self.hosts, &mut self.others, &name),
                TrafficOf::HostsAlike => &mut self.alike,
            };
            traffic.settle();
            traffic.is_changed = true;
            let last_ns = traffic.last_ns;
            *table.write(name, last_ns) = traffic;
        }
    }

    /// Forgets a host: it is learned anew.
    pub(crate) fn reset(&mut self, host: &str) -> bool {
        self.hosts.remove(host).is_some() || self.others.remove(host).is_some()
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            (
                "traffics_evicted",
                self.hosts.evicted() + self.others.evicted() + self.alike.evicted(),
            ),
            ("traffic_values_left_out", self.left_out),
        ]
    }
}

/// The name that a baseline goes by.
fn key(speaker: &Host, host: &str) -> String {
    [&*speaker.account, &*speaker.region, host].join(" ")
}

/// Where the baseline of that name belongs.
fn place<T>(hosts: T, others: T, name: &str) -> T {
    if is_by_address(name) { others } else { hosts }
}

/// Whether the host of a baseline goes by its address.
fn is_by_address(key: &str) -> bool {
    let host = key.rsplit(' ').next().unwrap_or_default();
    host.parse::<IpAddr>().is_ok()
}

/// Hosts alike: those whose names begin alike, before a number; of hosts without a name all of the account.
fn role(speaker: &Host) -> &str {
    let name = speaker.hostname.as_deref().unwrap_or_default();
    let stem = name.find(|c: char| c.is_ascii_digit() || c == '.');
    let stem = &name[..stem.unwrap_or(name.len())];
    // EC2's own names are made of addresses.
    if matches!(stem, "" | "ip-" | "i-") {
        "*"
    } else {
        stem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, conversation, later, speaker, summary};

    const DAY_S: u64 = 24 * 3_600;

    fn sent(name: &str, bytes: u64) -> Conversation {
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        c.bytes_out = bytes;
        c.tls_name = (!name.is_empty()).then(|| name.to_owned());
        c
    }

    #[test]
    fn destinations_are_those_who_own_them() {
        let check = |name: &str, expected: &str| assert_eq!(destination(&sent(name, 1)), expected);
        check("", "192.0.2.0");
        check("192.0.2.1", "192.0.2.0");
        check("localhost", "192.0.2.0");
        check("example.org", "example.org");
        check("a.b.Example.org", "example.org");
        check("cdn.shop.co.uk", "shop.co.uk");
        check("shop.co.uk", "shop.co.uk");
        check("x.y.example.io", "example.io");
        check(
            "mine.s3.eu-west-1.amazonaws.com",
            "mine.s3.eu-west-1.amazonaws.com",
        );
    }

    #[test]
    fn is_usual_from_the_second_day_and_until_it_is_forgotten() {
        let mut all = Traffics::default();
        let mut usual = |learned: Option<u64>, at: u64| {
            if let Some(learned) = learned {
                let mut seen = summary(speaker());
                seen.conversations = vec![sent("", 50)];
                all.learn(&later(seen, learned * DAY_S));
            }
            let host = all.of(&speaker(), "i-0aaaaaaaaaaaaaaaa").unwrap();
            host.is_port_usual(6, 443, START + at * DAY_NS)
        };
        assert!(!usual(Some(0), 0));
        assert!(!usual(Some(0), 5));
        assert!(usual(Some(3), 3));
        assert!(usual(None, 103));
        assert!(!usual(None, 104));
    }

    #[test]
    fn is_bounded_and_cut_when_taken_from_elsewhere() {
        let mut all = Traffics::default();
        let mut seen = summary(speaker());
        seen.conversations = (0..5_000)
            .map(|n| sent(&format!("x{n}.example{n}.org"), 20_000))
            .collect();
        all.learn(&seen);
        let mut host = all.of(&speaker(), "i-0aaaaaaaaaaaaaaaa").unwrap().clone();
        assert_eq!(host.peers.len(), TRAFFIC_PEERS_MAX);
        assert!(all.turned_away()[1].1 > 0);
        host.heard.days = 900;
        host.tcp = (0..5_000).map(|port| (port, Met::default())).collect();
        host.settle();
        assert_eq!((host.heard.days, host.tcp.len()), (1, TRAFFIC_PORTS_MAX));
    }

    #[test]
    fn a_mirrors_crowd_takes_no_room_from_hosts_that_speak() {
        let mut all = Traffics::default();
        let mut own = summary(speaker());
        own.conversations = vec![sent("", 50)];
        all.learn(&own);
        let mut crowd = later(summary(crate::testing::mirror()), 60);
        crowd.conversations = (0..TRAFFICS_OTHERS_MAX as u32 + 100)
            .map(|n| conversation(&format!("10.1.{}.{}", n >> 8, n & 0xff), "192.0.2.1", 443))
            .collect();
        all.learn(&crowd);
        assert!(all.of(&speaker(), "i-0aaaaaaaaaaaaaaaa").is_some());
        assert!(all.others.len() <= TRAFFICS_OTHERS_MAX);
        assert!(all.turned_away()[0].1 > 0);
        let mut learned = Learned::default();
        all.poll(&mut learned);
        let mut again = Traffics::default();
        again.import(&mut learned);
        assert_eq!(
            (again.hosts.len(), again.others.len()),
            (1, all.others.len())
        );
    }

    #[test]
    fn what_is_written_out_comes_back_the_same() {
        let mut all = Traffics::default();
        for day in 0..4 {
            let mut seen = summary(speaker());
            seen.conversations = vec![sent("example.org", 20_000)];
            all.learn(&later(seen, day * DAY_S));
        }
        let mut learned = Learned::default();
        all.poll(&mut learned);
        assert_eq!(learned.len(), 2);
        let read = Learned::from_json(learned.to_json().as_bytes()).unwrap();
        assert_eq!(read, learned);
        let mut nothing = Learned::default();
        all.poll(&mut nothing);
        assert!(nothing.is_empty());
        let mut again = Traffics::default();
        again.import(&mut read.clone());
        let mut written = Learned::default();
        again.export(&mut written, |_, _| true);
        let days = |one: &Learned| one.hosts.values().map(|host| host.heard.days).sum::<u16>();
        assert_eq!((days(&written), written.hosts_alike.len()), (4, 1));
        let name = read.hosts.keys().next().unwrap();
        assert!(again.reset(name) && !again.reset(name));
    }

    #[test]
    fn hosts_alike_go_by_their_names() {
        let role_of = |name: &str| {
            let mut host = speaker();
            host.hostname = Some(name.to_owned());
            role(&host).to_owned()
        };
        assert_eq!(role_of("web-12.internal"), "web-");
        assert_eq!(role_of("ip-10-0-0-1"), "*");
        assert_eq!(role(&speaker()), "*");
    }
}
