//! Everything on a set, list by list.

use std::net::{IpAddr, SocketAddr};

use super::{IndicatorSet, SetBuilder, on};

/// Something listed, as it lies in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed<'a> {
    /// An address.
    Address(IpAddr),
    /// A network.
    Net(IpAddr, u8),
    /// An address with a port.
    Endpoint(SocketAddr),
    /// A domain.
    Domain(&'a str),
}

impl IndicatorSet {
    /// Gives every value on every list to `take`, with the list's place in [`IndicatorSet::lists`], in
    /// no particular order.
    pub fn each(&self, mut take: impl FnMut(u16, Listed<'_>)) {
        let mut all = |head: u32, value: Listed<'_>| {
            on(head, &self.places).for_each(|list| take(list, value));
        };
        for (address, head) in &self.ipv4 {
            all(*head, Listed::Address(IpAddr::V4(*address)));
        }
        for (address, head) in &self.ipv6 {
            all(*head, Listed::Address(IpAddr::V6(*address)));
        }
        for (endpoint, head) in &self.endpoints {
            all(*head, Listed::Endpoint(*endpoint));
        }
        for ((_, prefix), nets) in &self.nets {
            for (address, head) in nets {
                all(*head, Listed::Net(*address, *prefix));
            }
        }
        for (name, head) in self.domains.iter() {
            all(head, Listed::Domain(name));
        }
    }
}

impl SetBuilder {
    /// The version that the set would have if nothing more were added. Costs a walk over all of it.
    pub fn version(&self) -> u64 {
        self.set.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Category, Indicator, List};

    #[test]
    fn every_value_is_given_for_each_of_its_lists() {
        let mut builder = SetBuilder::default();
        let lists = ["a", "b"].map(|name| builder.list(List::new(name, Category::C2)).unwrap());
        for (list, value) in [
            (0, "192.0.2.1"),
            (1, "192.0.2.1"),
            (0, "198.51.100.0/24"),
            (1, "2001:db8::1"),
            (1, "192.0.2.2:443"),
            (0, "evil.example"),
        ] {
            let value = Indicator::address(value).or_else(|_| Indicator::domain(value));
            builder.add(lists[list], value.unwrap()).unwrap();
        }
        let version = builder.version();
        let set = builder.build();
        assert_eq!(set.version(), version);
        let mut given = Vec::new();
        set.each(|list, value| {
            let words = match value {
                Listed::Address(address) => address.to_string(),
                Listed::Net(address, prefix) => format!("{address}/{prefix}"),
                Listed::Endpoint(endpoint) => endpoint.to_string(),
                Listed::Domain(name) => name.to_owned(),
            };
            given.push(format!("{words} {list}"));
        });
        given.sort();
        let expected = [
            "192.0.2.1 0",
            "192.0.2.1 1",
            "192.0.2.2:443 1",
            "198.51.100.0/24 0",
            "2001:db8::1 1",
            "evil.example 0",
        ];
        assert_eq!(given, expected);
    }
}
