//! A set of indicators, built once and asked often.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use ring::digest;

use crate::category::Category;
use crate::indicator::{Indicator, mask};
use crate::limits::{ENTRIES_MAX, LISTS_MAX};

/// Why an indicator was not taken in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetError {
    /// The set holds as many entries as it may.
    #[error("the set is full with {ENTRIES_MAX} entries")]
    Full,
    /// There are as many lists as there may be.
    #[error("more than {LISTS_MAX} lists")]
    TooManyLists,
}

/// One list: its name and what its entries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Name, as a finding shows it: the file's name without its ending.
    pub name: String,
    /// What its entries are.
    pub category: Category,
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

/// One value on one list; values on several lists are chained.
#[derive(Debug, Clone, Copy)]
struct Place {
    list: u16,
    next: u32,
}

/// Takes indicators in.
#[derive(Debug, Default)]
pub struct SetBuilder {
    set: IndicatorSet,
}

/// The finished set. Lookups cost a few hash probes: one for an address and an endpoint each, one
/// per distinct prefix length, one per label of a name.
#[derive(Debug, Default)]
pub struct IndicatorSet {
    lists: Vec<List>,
    places: Vec<Place>,
    addresses: HashMap<IpAddr, u32>,
    endpoints: HashMap<SocketAddr, u32>,
    /// Prefix lengths in use, longest first, each with its nets.
    nets: Vec<((bool, u8), HashMap<IpAddr, u32>)>,
    domains: HashMap<Box<str>, u32>,
    version: u64,
}

impl SetBuilder {
    /// Begins a list; the number returned names it in [`SetBuilder::add`].
    ///
    /// # Errors
    /// [`SetError::TooManyLists`].
    pub fn list(&mut self, list: List) -> Result<u16, SetError> {
        if self.set.lists.len() >= LISTS_MAX {
            return Err(SetError::TooManyLists);
        }
        self.set.lists.push(list);
        // LISTS_MAX fits 16 bits.
        Ok((self.set.lists.len() - 1) as u16)
    }

    /// Adds an indicator to a list. The same value twice on one list counts once; returns whether
    /// it was new there.
    ///
    /// # Errors
    /// [`SetError::Full`].
    pub fn add(&mut self, list: u16, indicator: Indicator) -> Result<bool, SetError> {
        let set = &mut self.set;
        if set.places.len() >= ENTRIES_MAX {
            return Err(SetError::Full);
        }
        let places = &mut set.places;
        Ok(match indicator {
            Indicator::Address(address) => chain(&mut set.addresses, places, address, list),
            Indicator::Endpoint(endpoint) => chain(&mut set.endpoints, places, endpoint, list),
            Indicator::Domain(name) => chain(&mut set.domains, places, name, list),
            Indicator::Net(address, prefix) => {
                let key = (address.is_ipv6(), prefix);
                let at = match set.nets.binary_search_by(|(have, _)| key.cmp(have)) {
                    Ok(at) => at,
                    Err(at) => {
                        set.nets.insert(at, (key, HashMap::new()));
                        at
                    }
                };
                chain(&mut set.nets[at].1, places, address, list)
            }
        })
    }

    /// Finishes the set and gives it its version.
    pub fn build(mut self) -> IndicatorSet {
        self.set.version = self.set.fingerprint();
        self.set
    }
}

/// Puts `list` at the head of the chain of `key`, unless it stands there already.
fn chain<K: Eq + Hash>(
    map: &mut HashMap<K, u32>,
    places: &mut Vec<Place>,
    key: K,
    list: u16,
) -> bool {
    // ENTRIES_MAX fits 32 bits.
    let here = places.len() as u32;
    match map.entry(key) {
        MapEntry::Vacant(vacant) => {
            vacant.insert(here);
            places.push(Place { list, next: END });
        }
        MapEntry::Occupied(mut occupied) => {
            let mut at = *occupied.get();
            while let Some(place) = places.get(at as usize) {
                if place.list == list {
                    return false;
                }
                at = place.next;
            }
            places.push(Place {
                list,
                next: *occupied.get(),
            });
            occupied.insert(here);
        }
    }
    true
}

impl IndicatorSet {
    /// Names the content: equal sets have equal versions, on every machine. 0 for the empty set,
    /// else 1..2³².
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many values on lists it holds.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Says whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The lists, in the order they were added.
    pub fn lists(&self) -> &[List] {
        &self.lists
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
        self.follow(
            self.addresses.get(&address),
            &Indicator::Address(address),
            &mut out,
        );
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
            if let Some((key, at)) = self.domains.get_key_value(rest) {
                self.follow(Some(at), &Indicator::Domain(key.clone()), &mut out);
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return out,
            }
        }
    }

    /// Every listed address and net as (address, prefix length), endpoints without their port:
    /// what a first, coarser filter must let through. In no particular order.
    pub fn address_nets(&self) -> impl Iterator<Item = (IpAddr, u8)> + '_ {
        let whole = |address: &IpAddr| (*address, if address.is_ipv4() { 32 } else { 128 });
        self.addresses
            .keys()
            .map(whole)
            .chain(
                self.endpoints
                    .keys()
                    .map(move |endpoint| whole(&endpoint.ip())),
            )
            .chain(self.nets.iter().flat_map(|((_, prefix), nets)| {
                nets.keys().map(move |address| (*address, *prefix))
            }))
    }

    /// Every listed domain, in no particular order.
    pub fn domains(&self) -> impl Iterator<Item = &str> + Send {
        self.domains.keys().map(AsRef::as_ref)
    }

    fn follow<'a>(&'a self, head: Option<&u32>, indicator: &Indicator, out: &mut Vec<Match<'a>>) {
        let mut at = head.copied().unwrap_or(END);
        while let Some(place) = self.places.get(at as usize) {
            let list = &self.lists[usize::from(place.list)];
            out.push(Match {
                indicator: indicator.clone(),
                list,
            });
            at = place.next;
        }
    }

    /// Sums a hash of each (list, value), so that neither the order of lines nor of maps counts.
    fn fingerprint(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut sum = 0u64;
        let mut add = |head: &u32, value: &str| {
            let mut at = *head;
            while let Some(place) = self.places.get(at as usize) {
                let list = &self.lists[usize::from(place.list)];
                let text = format!("{}\n{}\n{value}", list.category, list.name);
                let hash = digest::digest(&digest::SHA256, text.as_bytes());
                let first = hash.as_ref().iter().take(8);
                sum = sum.wrapping_add(first.fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
                at = place.next;
            }
        };
        self.addresses
            .iter()
            .for_each(|(key, at)| add(at, &key.to_string()));
        self.endpoints
            .iter()
            .for_each(|(key, at)| add(at, &key.to_string()));
        self.domains.iter().for_each(|(key, at)| add(at, key));
        for ((_, prefix), nets) in &self.nets {
            nets.iter()
                .for_each(|(key, at)| add(at, &format!("{key}/{prefix}")));
        }
        (sum >> 32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: &[(&str, Category, &str)]) -> IndicatorSet {
        let mut builder = SetBuilder::default();
        for (name, category, value) in rows {
            let list = builder
                .list(List {
                    name: (*name).into(),
                    category: *category,
                })
                .unwrap();
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
        assert_eq!(set.match_domain("evil.example").len(), 2);
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
}
