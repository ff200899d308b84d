//! What a host asked below each domain within a day: its names, as fingerprints, with what was asked for
//! and what came back.
//!
//! Short names are not noted by those who write here, so that of most domains nothing is.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::table::Table;
use crate::conversation::SpeakerKey;
use crate::limits::{SUBNAME_DOMAINS_MAX, SUBNAMES_MAX, SUBNAMES_PER_DOMAIN_MAX};

/// A domain, and who asks below it as one sensor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Zone {
    pub(crate) speaker: SpeakerKey,
    pub(crate) client: IpAddr,
    /// The registered part; for names that stand on nothing, the resolver.
    pub(crate) domain: Box<str>,
}

/// What kind of question a name was asked with, and what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traits {
    /// For a type that programs have no use for.
    pub(crate) rare: bool,
    /// For a type that can carry text or names.
    pub(crate) carrying: bool,
    /// It looks like data and not like words.
    pub(crate) dense: bool,
    /// There was no such name.
    pub(crate) absent: bool,
    /// An address came back.
    pub(crate) addressed: bool,
}

/// Through whose eyes a question was seen: a host may have both, and each then sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    OnTheWire,
    Logged,
}

/// How often a name was asked, apart for what a program asks at once and for what is seen twice: the types for
/// the two kinds of address and all others, each on the wire and logged. Counting ends at 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Asked([u8; 6]);

impl Asked {
    fn new(times: u32, qtype: u16, seen: Seen) -> Self {
        const A: u16 = 1;
        const AAAA: u16 = 28;
        let kind = match qtype {
            A => 0,
            AAAA => 1,
            _ => 2,
        };
        let mut asked = Self::default();
        asked.0[2 * kind + usize::from(seen == Seen::Logged)] =
            u8::try_from(times).unwrap_or(u8::MAX);
        asked
    }

    fn add(&mut self, other: Self) {
        for (one, more) in self.0.iter_mut().zip(other.0) {
            *one = one.saturating_add(more);
        }
    }

    /// How often it was asked for the same: once is no repetition.
    fn times(self) -> u8 {
        self.0.into_iter().max().unwrap_or(0)
    }
}

/// One name below a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subname {
    id: u32,
    /// When it was last asked, seconds since the epoch.
    pub(crate) last_s: u32,
    asked: Asked,
    /// How many bytes stand below the domain.
    pub(crate) bytes: u16,
    /// Bytes of what came back that was no address.
    pub(crate) answer_bytes: u16,
    pub(crate) traits: Traits,
}

impl Subname {
    /// A name that was asked so many times for a type.
    pub(crate) fn new(name: &str, last_ns: u64, times: u32, qtype: u16, seen: Seen) -> Self {
        Self {
            id: FixedState::default().hash_one(name) as u32,
            last_s: u32::try_from(last_ns / 1_000_000_000).unwrap_or(u32::MAX),
            asked: Asked::new(times, qtype, seen),
            bytes: 0,
            answer_bytes: 0,
            traits: Traits::default(),
        }
    }

    /// How often it was asked for the same type, as one that sees it counts: A and AAAA of a name, which
    /// programs ask together, are once.
    pub(crate) fn times(&self) -> u64 {
        u64::from(self.asked.times())
    }
}

/// The names of one domain.
#[derive(Debug, Default)]
pub(crate) struct Subnames {
    names: Vec<Subname>,
    /// Which of them makes room next: as they are written in turn, the one written longest ago.
    next: usize,
    /// Names that were new when they came: with the set full, one that comes again after it made room
    /// counts again.
    pub(crate) fresh: u64,
    /// When somebody last talked to an address that such a name led to, seconds since the epoch.
    pub(crate) connected_s: Option<u32>,
}

impl Subnames {
    /// The names, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subname> {
        self.names.iter()
    }

    /// Takes a name in; says whether it is new.
    fn put(&mut self, name: Subname) -> bool {
        if let Some(known) = self.names.iter_mut().find(|known| known.id == name.id) {
            known.last_s = known.last_s.max(name.last_s);
            known.asked.add(name.asked);
            known.answer_bytes = known.answer_bytes.max(name.answer_bytes);
            known.traits.absent |= name.traits.absent;
            known.traits.addressed |= name.traits.addressed;
            return false;
        }
        self.fresh += 1;
        if self.names.len() < SUBNAMES_PER_DOMAIN_MAX {
            self.names.push(name);
        } else {
            self.names[self.next] = name;
            self.next = (self.next + 1) % SUBNAMES_PER_DOMAIN_MAX;
        }
        true
    }
}

/// The names of every domain.
#[derive(Debug)]
pub(crate) struct Zones {
    zones: Table<Zone, Subnames>,
    names: usize,
    names_max: usize,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            zones: Table::new(SUBNAME_DOMAINS_MAX),
            names: 0,
            names_max: SUBNAMES_MAX,
        }
    }
}

impl Zones {
    /// Notes names of a domain; says how many of them are new.
    pub(crate) fn note(&mut self, zone: &Zone, names: impl Iterator<Item = Subname>) -> usize {
        if self.names >= self.names_max {
            self.zones.evict();
            self.recount();
        }
        let names: Vec<Subname> = names.collect();
        let Some(last_s) = names.iter().map(|name| name.last_s).max() else {
            return 0;
        };
        let at_ns = u64::from(last_s) * 1_000_000_000;
        let known = self.zones.write(zone.clone(), at_ns);
        let before = known.names.len();
        let fresh = names.into_iter().filter(|name| known.put(*name)).count();
        self.names += known.names.len() - before;
        fresh
    }

    /// Notes that somebody talked to an address that a name of the domain led to.
    pub(crate) fn connected(&mut self, zone: &Zone, at_ns: u64) {
        if let Some(known) = self.zones.get_mut(zone) {
            known.connected_s = u32::try_from(at_ns / 1_000_000_000).ok();
        }
    }

    pub(crate) fn of(&self, zone: &Zone) -> Option<&Subnames> {
        self.zones.get(zone)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.zones.expire(before_ns);
        self.recount();
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("subname_domains_evicted", self.zones.evicted())]
    }

    fn recount(&mut self) {
        self.names = self.zones.values().map(|known| known.names.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, speaker};

    fn zone(domain: &str) -> Zone {
        Zone {
            speaker: SpeakerKey::of(&speaker()),
            client: ip("10.0.0.1"),
            domain: domain.into(),
        }
    }

    fn names(range: std::ops::Range<u64>) -> impl Iterator<Item = Subname> {
        range.map(|n| Subname::new(&format!("n{n}"), n * 1_000_000_000, 1, 1, Seen::OnTheWire))
    }

    #[test]
    fn a_name_that_comes_again_is_not_new() {
        let mut zones = Zones::default();
        assert_eq!(zones.note(&zone("a.example"), names(0..10)), 10);
        assert_eq!(zones.note(&zone("a.example"), names(5..15)), 5);
        assert_eq!(zones.note(&zone("b.example"), names(0..3)), 3);
        let known = zones.of(&zone("a.example")).unwrap();
        assert_eq!((known.fresh, known.iter().count()), (15, 15));
        assert_eq!(known.iter().map(Subname::times).max(), Some(2));
    }

    #[test]
    fn what_is_asked_for_two_types_or_seen_twice_is_no_repetition() {
        let times = |all: &[(u32, u16, Seen)]| {
            let mut zones = Zones::default();
            let names = all.iter();
            let names =
                names.map(|(times, qtype, seen)| Subname::new("n", 0, *times, *qtype, *seen));
            zones.note(&zone("a.example"), names);
            let known = zones.of(&zone("a.example")).unwrap();
            known.iter().map(Subname::times).collect::<Vec<_>>()
        };
        use Seen::{Logged, OnTheWire};
        assert_eq!(times(&[(1, 1, OnTheWire), (1, 28, OnTheWire)]), [1]);
        assert_eq!(times(&[(1, 1, OnTheWire), (1, 1, Logged)]), [1]);
        assert_eq!(times(&[(1, 28, OnTheWire), (1, 28, OnTheWire)]), [2]);
        assert_eq!(times(&[(1, 16, OnTheWire), (2, 15, OnTheWire)]), [3]);
        assert_eq!(
            times(&[(1_000_000, 1, OnTheWire), (1, 1, OnTheWire)]),
            [255]
        );
    }

    #[test]
    fn the_oldest_names_of_a_full_domain_make_room() {
        let mut zones = Zones::default();
        let many = SUBNAMES_PER_DOMAIN_MAX as u64 + 100;
        zones.note(&zone("a.example"), names(0..many));
        let known = zones.of(&zone("a.example")).unwrap();
        assert_eq!(known.iter().count(), SUBNAMES_PER_DOMAIN_MAX);
        assert_eq!(known.iter().map(|name| name.last_s).min(), Some(100));
        assert_eq!(known.fresh, many);
    }

    #[test]
    fn is_bounded() {
        let names_max = 10_000;
        let mut zones = Zones {
            names_max,
            ..Zones::default()
        };
        for domain in 0..200 {
            zones.note(&zone(&format!("d{domain}.example")), names(0..600));
            assert!(zones.names < names_max + SUBNAMES_PER_DOMAIN_MAX);
        }
        assert!(zones.turned_away()[0].1 > 0);
        zones.expire(u64::MAX);
        assert!(zones.is_empty() && zones.names == 0);
    }
}
