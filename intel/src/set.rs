//! A set of indicators, built once and asked often.

mod entries;
mod forget;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::allow::Allowed;
use crate::category::Category;
use crate::exclude::{self, Author, Suffixes};
use crate::indicator::{Indicator, mask};
use crate::limits::{ENTRIES_MAX, LISTS_MAX};
use crate::list::List;
use crate::names::Names;
use crate::share::Share;
use crate::version::{Fingerprint, Sort, hash};

pub use entries::Listed;

/// Why an indicator was not taken in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetError {
    /// The set holds as many entries as it may.
    #[error("there is room for {0} entries in all")]
    Full(usize),
    /// There are as many lists as there may be.
    #[error("more than {LISTS_MAX} lists")]
    TooManyLists,
}

/// An indicator that was met, and the list it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match<'a> {
    /// The listed value, which may be a net or a parent domain of what was asked for.
    pub indicator: Indicator,
    /// The list.
    pub list: &'a List,
}

const END: u32 = u32::MAX;

/// What a value stands on: a list's number, or with this bit set the place of the first in a chain.
const CHAINED: u32 = 1 << 31;

/// One of several lists with the same value.
#[derive(Debug, Clone, Copy)]
struct Place {
    list: u16,
    next: u32,
}

type Table<K> = HashMap<K, u32, RandomState>;

/// Takes indicators in.
#[derive(Debug, Default)]
pub struct SetBuilder {
    set: IndicatorSet,
    /// What stays out of the lists that are read.
    pub(crate) allowed: Allowed,
    pub(crate) suffixes: Option<Suffixes>,
    /// What is over by then is not taken in.
    pub(crate) now_ms: u64,
    /// Entries that it has less room for than a set may have.
    withheld: usize,
    /// How much each list names.
    pub(crate) shares: Vec<Share>,
}

/// The finished set. Lookups cost a few hash probes: one for an address and an endpoint each, one
/// per distinct prefix length, one per label of a name.
#[derive(Debug, Default)]
pub struct IndicatorSet {
    lists: Vec<List>,
    /// How many values on lists there are.
    count: usize,
    places: Vec<Place>,
    // Apart, since those of IPv4 take a third of the room.
    ipv4: Table<Ipv4Addr>,
    ipv6: Table<Ipv6Addr>,
    endpoints: Table<SocketAddr>,
    /// Prefix lengths in use, longest first, each with its nets.
    nets: Vec<((bool, u8), Table<IpAddr>)>,
    domains: Names,
    next_expiry_ms: Option<u64>,
    version: u64,
    /// Lists that were too much, of which nothing is used.
    left_out: Vec<u16>,
    suffixes: Option<Suffixes>,
}

impl SetBuilder {
    /// A builder that leaves out what is over at this time, in milliseconds since the Unix epoch.
    /// That of `default()` leaves out nothing for that reason.
    pub fn at(now_ms: u64) -> Self {
        Self {
            now_ms,
            ..Self::default()
        }
    }

    /// Has room for so many entries, if that is fewer than a set may have.
    #[must_use]
    pub fn holding(self, entries: usize) -> Self {
        Self {
            withheld: ENTRIES_MAX.saturating_sub(entries),
            ..self
        }
    }

    /// Entries that there is room for yet.
    pub fn room(&self) -> usize {
        self.most().saturating_sub(self.set.count)
    }

    fn most(&self) -> usize {
        ENTRIES_MAX - self.withheld.min(ENTRIES_MAX)
    }

    /// Keeps public suffixes out of the lists that are read from here on, as `suffixes` knows them.
    pub fn know_suffixes(&mut self, suffixes: Suffixes) {
        self.suffixes = Some(suffixes);
    }

    /// Notes that something taken in is over at this time.
    pub(crate) fn ends_at(&mut self, ends_ms: u64) {
        let next = &mut self.set.next_expiry_ms;
        *next = Some(next.map_or(ends_ms, |next| next.min(ends_ms)));
    }

    /// Begins a list, or goes on with an equal one; the number returned names it in
    /// [`SetBuilder::add`].
    ///
    /// # Errors
    /// [`SetError::TooManyLists`]; [`SetError::Full`] for a list that was too much before.
    pub fn list(&mut self, list: List) -> Result<u16, SetError> {
        if let Some(known) = self.set.lists.iter().position(|known| *known == list) {
            // LISTS_MAX fits 16 bits.
            let known = known as u16;
            return match self.set.is_left_out(known) {
                true => Err(SetError::Full(self.most())),
                false => Ok(known),
            };
        }
        if self.set.lists.len() >= LISTS_MAX {
            return Err(SetError::TooManyLists);
        }
        self.set.lists.push(list);
        self.shares.push(Share::default());
        // LISTS_MAX fits 16 bits.
        Ok((self.set.lists.len() - 1) as u16)
    }

    /// Adds an indicator to a list, whatever it names; files go through [`SetBuilder::read_file`]
    /// and its like, which leave out what no list may name. The same value twice on one list counts once; returns whether
    /// it was new there.
    ///
    /// # Errors
    /// [`SetError::Full`].
    pub fn add(&mut self, list: u16, indicator: Indicator) -> Result<bool, SetError> {
        let most = self.most();
        let set = &mut self.set;
        if set.count >= most {
            return Err(SetError::Full(most));
        }
        let alone = u32::from(list);
        let (head, new) = match indicator {
            Indicator::Address(IpAddr::V4(address)) => head(&mut set.ipv4, address, alone),
            Indicator::Address(IpAddr::V6(address)) => head(&mut set.ipv6, address, alone),
            Indicator::Endpoint(endpoint) => head(&mut set.endpoints, endpoint, alone),
            Indicator::Net(address, prefix) => {
                let key = (address.is_ipv6(), prefix);
                let at = match set.nets.binary_search_by(|(have, _)| key.cmp(have)) {
                    Ok(at) => at,
                    Err(at) => {
                        set.nets.insert(at, (key, Table::default()));
                        at
                    }
                };
                head(&mut set.nets[at].1, address, alone)
            }
            // No name is too long, and no set has room for as many as would be too much.
            Indicator::Domain(name) => set
                .domains
                .entry(&name, alone)
                .ok_or(SetError::Full(most))?,
        };
        let new = new || chain(head, &mut set.places, list);
        set.count += usize::from(new);
        Ok(new)
    }

    /// Finishes the set and gives it its version.
    pub fn build(mut self) -> IndicatorSet {
        self.set.domains.shrink();
        self.set.suffixes = self.suffixes;
        self.set.version = self.set.fingerprint();
        self.set
    }
}

/// What a value stands on; if it is new, `alone`.
fn head<K: Eq + std::hash::Hash>(table: &mut Table<K>, key: K, alone: u32) -> (&mut u32, bool) {
    let mut new = false;
    let head = table.entry(key).or_insert_with(|| {
        new = true;
        alone
    });
    (head, new)
}

/// Puts `list` before the others of a value, unless it is among them.
fn chain(head: &mut u32, places: &mut Vec<Place>, list: u16) -> bool {
    if on(*head, places).any(|known| known == list) {
        return false;
    }
    // ENTRIES_MAX fits 31 bits.
    let mut push = |list, next| {
        places.push(Place { list, next });
        (places.len() - 1) as u32
    };
    let next = if *head & CHAINED == 0 {
        push(*head as u16, END)
    } else {
        *head & !CHAINED
    };
    *head = push(list, next) | CHAINED;
    true
}

/// The lists that a value stands on, the one added last first.
fn on(head: u32, places: &[Place]) -> impl Iterator<Item = u16> {
    let mut next = if head & CHAINED == 0 {
        END
    } else {
        head & !CHAINED
    };
    let alone = (head & CHAINED == 0).then_some(head as u16);
    alone.into_iter().chain(std::iter::from_fn(move || {
        let place = places.get(next as usize)?;
        next = place.next;
        Some(place.list)
    }))
}

impl IndicatorSet {
    /// Names the content: equal sets have equal versions, on every machine. 0 for the empty set,
    /// else 1..2³².
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When the first of its entries is over, in milliseconds since the Unix epoch: from then on a
    /// set built anew holds less.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.next_expiry_ms
    }

    /// How many values on lists it holds.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Says whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The lists, in the order they were added.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Why no list of a category may name something, if so; with the public suffixes that the set was
    /// built with. For what somebody else found listed, who may know less than we. What an operator's
    /// own list may name is not excluded.
    pub fn why_excluded(&self, indicator: &str, category: Category) -> Option<String> {
        let read = Indicator::address(indicator).or_else(|_| Indicator::domain(indicator));
        let author = Author {
            category,
            own: true,
        };
        exclude::why(&read.ok()?, author, self.suffixes)
    }

    /// The list of this name and category: what a hit that somebody else told stands on.
    pub fn list_named(&self, name: &str, category: Category) -> Option<&List> {
        let mut lists = self.lists.iter();
        lists.find(|list| list.name == name && list.category == category)
    }

    /// Everything listed that holds `address`; endpoints count only with their `port`. The most
    /// specific comes first. v4-mapped addresses are looked up as IPv4.
    pub fn match_address(&self, address: IpAddr, port: u16) -> Vec<Match<'_>> {
        let address = address.to_canonical();
        let mut out = Vec::new();
        let endpoint = SocketAddr::new(address, port);
        self.follow(
            self.endpoints.get(&endpoint),
            &Indicator::Endpoint(endpoint),
            &mut out,
        );
        let listed = match address {
            IpAddr::V4(address) => self.ipv4.get(&address),
            IpAddr::V6(address) => self.ipv6.get(&address),
        };
        self.follow(listed, &Indicator::Address(address), &mut out);
        for ((v6, prefix), nets) in &self.nets {
            if *v6 == address.is_ipv6() {
                let net = mask(address, *prefix);
                self.follow(nets.get(&net), &Indicator::Net(net, *prefix), &mut out);
            }
        }
        out
    }

    /// Everything listed that holds `name` (lower case, no final dot): the name itself or a parent,
    /// cut at label boundaries. The longest comes first.
    pub fn match_domain(&self, name: &str) -> Vec<Match<'_>> {
        let mut out = Vec::new();
        if self.domains.is_empty() {
            return out;
        }
        let mut rest = name;
        loop {
            if let Some(head) = self.domains.find(rest) {
                self.follow(Some(&head), &Indicator::Domain(rest.into()), &mut out);
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return out,
            }
        }
    }

    /// Every listed address and net as (address, prefix length), endpoints without their port:
    /// what a first, coarser filter must let through. In no particular order.
    pub fn address_nets(&self) -> impl Iterator<Item = (IpAddr, u8)> + Send + '_ {
        let whole = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
        let ipv4 = self.ipv4.keys().map(|address| IpAddr::V4(*address));
        let ipv6 = self.ipv6.keys().map(|address| IpAddr::V6(*address));
        let endpoints = self.endpoints.keys().map(SocketAddr::ip);
        let nets = self
            .nets
            .iter()
            .flat_map(|((_, prefix), nets)| nets.keys().map(move |address| (*address, *prefix)));
        ipv4.chain(ipv6).chain(endpoints).map(whole).chain(nets)
    }

    /// Every value listed, each once, in no particular order.
    pub fn indicators(&self) -> impl Iterator<Item = Indicator> + '_ {
        let ipv4 = self.ipv4.keys().map(|a| Indicator::Address(IpAddr::V4(*a)));
        let ipv6 = self.ipv6.keys().map(|a| Indicator::Address(IpAddr::V6(*a)));
        let endpoints = self.endpoints.keys().map(|e| Indicator::Endpoint(*e));
        let nets = self.nets.iter().flat_map(|((_, prefix), nets)| {
            let net = |address: &IpAddr| Indicator::Net(*address, *prefix);
            nets.keys().map(net)
        });
        let domains = self.domains().map(|name| Indicator::Domain(name.into()));
        let addresses = ipv4.chain(ipv6).chain(endpoints);
        addresses.chain(nets).chain(domains)
    }

    /// Every listed domain, in the order in which they were listed.
    pub fn domains(&self) -> impl Iterator<Item = &str> + Send {
        self.domains.iter().map(|(name, _)| name)
    }

    fn follow<'a>(&'a self, head: Option<&u32>, indicator: &Indicator, out: &mut Vec<Match<'a>>) {
        let Some(&head) = head else { return };
        for list in on(head, &self.places) {
            out.push(Match {
                indicator: indicator.clone(),
                list: &self.lists[usize::from(list)],
            });
        }
    }

    fn fingerprint(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let list = |list: &List| {
            let text = format!(
                "{}\n{}\n{}\n{}",
                list.category, list.direction, list.confidence, list.name
            );
            hash(0, Sort::List, text.as_bytes())
        };
        let lists: Vec<u64> = self.lists.iter().map(list).collect();
        let mut sum = Fingerprint::default();
        let mut add = |head: u32, sort, value: &[u8]| {
            for list in on(head, &self.places) {
                sum.add(lists[usize::from(list)], sort, value);
            }
        };
        for (address, head) in &self.ipv4 {
            add(*head, Sort::Address, &address.octets());
        }
        for (address, head) in &self.ipv6 {
            add(*head, Sort::Address, &address.octets());
        }
        for (endpoint, head) in &self.endpoints {
            add(*head, Sort::Endpoint, endpoint.to_string().as_bytes());
        }
        for ((_, prefix), nets) in &self.nets {
            for (address, head) in nets {
                add(*head, Sort::Net, format!("{address}/{prefix}").as_bytes());
            }
        }
        for (name, head) in self.domains.iter() {
            add(head, Sort::Domain, name.as_bytes());
        }
        sum.version()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Direction;

    fn set(rows: &[(&str, Category, &str)]) -> IndicatorSet {
        let mut builder = SetBuilder::default();
        for (name, category, value) in rows {
            let list = builder.list(List::new(*name, *category)).unwrap();
            let indicator = Indicator::address(value).or_else(|_| Indicator::domain(value));
            builder.add(list, indicator.unwrap()).unwrap();
        }
        builder.build()
    }

    fn names(matches: &[Match<'_>]) -> Vec<String> {
        matches
            .iter()
            .map(|m| format!("{} {}", m.indicator, m.list.name))
            .collect()
    }

    #[test]
    fn the_most_specific_address_comes_first() {
        let set = set(&[
            ("wide", Category::C2, "198.51.0.0/16"),
            ("narrow", Category::C2, "198.51.100.0/24"),
            ("one", Category::C2, "198.51.100.7"),
            ("pool", Category::Mining, "198.51.100.7:3333"),
        ]);
        let at = |port| names(&set.match_address("198.51.100.7".parse().unwrap(), port));
        let rest = [
            "198.51.100.7 one",
            "198.51.100.0/24 narrow",
            "198.51.0.0/16 wide",
        ];
        assert_eq!(at(80), rest);
        assert_eq!(at(3333)[0], "198.51.100.7:3333 pool");
        assert_eq!(at(3333)[1..], rest);
        assert!(
            set.match_address("198.52.100.7".parse().unwrap(), 3333)
                .is_empty()
        );
        assert_eq!(
            set.match_address("::ffff:198.51.3.4".parse().unwrap(), 1)
                .len(),
            1
        );
        assert_eq!(set.address_nets().count(), 4);
    }

    #[test]
    fn domains_match_on_label_boundaries() {
        let set = set(&[("c2", Category::C2, "evil.example")]);
        assert_eq!(
            names(&set.match_domain("evil.example")),
            ["evil.example c2"]
        );
        assert_eq!(
            names(&set.match_domain("a.b.evil.example")),
            ["evil.example c2"]
        );
        assert!(set.match_domain("notevil.example").is_empty());
        assert!(set.match_domain("example").is_empty());
        assert!(set.match_domain("evil.example.com").is_empty());
        assert!(set.match_domain("").is_empty());
    }

    #[test]
    fn a_value_on_two_lists_is_reported_for_both() {
        let set = set(&[
            ("a", Category::C2, "evil.example"),
            ("b", Category::Custom, "evil.example"),
        ]);
        assert_eq!(
            names(&set.match_domain("x.evil.example")),
            ["evil.example b", "evil.example a"]
        );
        assert_eq!(set.len(), 2);
        let rows = ["a", "b", "c"].map(|list| (list, Category::C2, "192.0.2.1"));
        let set = self::set(&rows);
        let matches = set.match_address("192.0.2.1".parse().unwrap(), 1);
        assert_eq!(
            names(&matches),
            ["192.0.2.1 c", "192.0.2.1 b", "192.0.2.1 a"]
        );
    }

    #[test]
    fn the_same_value_twice_on_a_list_counts_once() {
        let mut builder = SetBuilder::default();
        let [a, b] = ["a", "b"].map(|list| builder.list(List::new(list, Category::C2)).unwrap());
        let mut add = |list, value| {
            builder
                .add(list, Indicator::address(value).unwrap())
                .unwrap()
        };
        let taken = [
            add(a, "192.0.2.1"),
            add(a, "192.0.2.1"),
            add(b, "192.0.2.1"),
            add(a, "192.0.2.1"),
            add(b, "192.0.2.1"),
            add(b, "192.0.2.0/24"),
        ];
        assert_eq!(taken, [true, false, true, false, false, true]);
        assert_eq!(builder.build().len(), 3);
    }

    #[test]
    fn the_version_names_the_content() {
        let rows = [
            ("a", Category::C2, "192.0.2.1"),
            ("b", Category::C2, "evil.example"),
        ];
        let mut other = rows;
        other.reverse();
        assert_eq!(set(&rows).version(), set(&other).version());
        assert_ne!(set(&rows).version(), set(&rows[..1]).version());
        assert_eq!(IndicatorSet::default().version(), 0);
    }

    #[test]
    fn what_a_list_is_counts_in_the_version() {
        let of = |list: List| {
            let mut builder = SetBuilder::default();
            let list = builder.list(list).unwrap();
            let value = Indicator::address("192.0.2.1").unwrap();
            builder.add(list, value).unwrap();
            builder.build().version()
        };
        let plain = List::new("a", Category::C2);
        let direction = Direction::Inbound;
        assert_eq!(of(plain.clone()), of(plain.clone()));
        assert_ne!(
            of(List {
                direction,
                ..plain.clone()
            }),
            of(plain.clone())
        );
        assert_ne!(
            of(List {
                confidence: 1,
                ..plain.clone()
            }),
            of(plain)
        );
    }

    #[test]
    fn equal_lists_are_one() {
        let mut builder = SetBuilder::default();
        let list = List::new("a", Category::C2);
        assert_eq!(builder.list(list.clone()), Ok(0));
        assert_eq!(builder.list(List::new("b", Category::C2)), Ok(1));
        assert_eq!(builder.list(List::new("a", Category::Tor)), Ok(2));
        assert_eq!(builder.list(list.clone()), Ok(0));
        let set = builder.build();
        assert_eq!(set.list_named("a", Category::C2), Some(&list));
        assert_eq!(set.list_named("b", Category::Tor), None);
    }
}
