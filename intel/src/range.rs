//! Ranges of addresses: whole numbers from first to last, and the fewest nets that make one up.
//!
//! IPv4 stands in the space of IPv6 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so that one
//! number line holds both.

use std::net::{IpAddr, Ipv6Addr};

use crate::indicator::Indicator;

/// Addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

/// Where IPv4 lies.
const V4: Range = Range {
    first: 0xffff_0000_0000,
    last: 0xffff_ffff_ffff,
};

impl Range {
    /// The addresses of a net; 32 or 128 bits of prefix are one address.
    pub(crate) fn of_net(address: IpAddr, prefix: u8) -> Self {
        let (first, host_bits) = match address {
            IpAddr::V4(v4) => (
                v4.to_ipv6_mapped().to_bits(),
                32 - u32::from(prefix.min(32)),
            ),
            IpAddr::V6(v6) => (v6.to_bits(), 128 - u32::from(prefix.min(128))),
        };
        let ones = 1u128
            .checked_shl(host_bits)
            .map_or(u128::MAX, |size| size - 1);
        Self {
            first: first & !ones,
            last: first | ones,
        }
    }

    /// The addresses of a net as text, however wide but for all of them.
    pub(crate) fn of_cidr(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix > 0)?;
        Some(Self::of_net(address.parse().ok()?, prefix))
    }

    /// The addresses an indicator names; `None` for a domain. An endpoint is its address.
    pub(crate) fn of(indicator: &Indicator) -> Option<Self> {
        let whole = |address: IpAddr| Self::of_net(address, 128);
        match indicator {
            Indicator::Address(address) => Some(whole(*address)),
            Indicator::Endpoint(endpoint) => Some(whole(endpoint.ip())),
            Indicator::Net(address, prefix) => Some(Self::of_net(*address, *prefix)),
            Indicator::Domain(_) => None,
        }
    }

    /// From one address to another of the same family, in either order.
    pub(crate) fn between(one: IpAddr, other: IpAddr) -> Option<Self> {
        if one.is_ipv4() != other.is_ipv4() {
            return None;
        }
        let (one, other) = (Self::of_net(one, 128).first, Self::of_net(other, 128).first);
        Some(Self {
            first: one.min(other),
            last: one.max(other),
        })
    }

    /// Whether it is one of IPv4.
    pub(crate) fn is_v4(self) -> bool {
        V4.holds(self)
    }

    /// Whether every address of `other` is in this one.
    pub(crate) fn holds(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether any address is in both.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The fewest nets that make up the range, at most `most`; `None` if it takes more.
    pub(crate) fn nets(self, most: usize) -> Option<Vec<Indicator>> {
        let mut nets = Vec::new();
        let mut at = self.first;
        loop {
            if nets.len() == most {
                return None;
            }
            // As wide as where it begins and where the range ends allow.
            let mut bits = at.trailing_zeros();
            while size(bits).map_or(u128::MAX, |size| size - 1) > self.last - at {
                bits -= 1;
            }
            nets.push(net(at, bits));
            let next = size(bits).and_then(|size| at.checked_add(size));
            match next {
                Some(next) if next <= self.last => at = next,
                _ => return Some(nets),
            }
        }
    }
}

fn size(bits: u32) -> Option<u128> {
    1u128.checked_shl(bits)
}

/// The net of 2^`bits` addresses from `first`.
fn net(first: u128, bits: u32) -> Indicator {
    let v6 = Ipv6Addr::from_bits(first);
    let inside_v4 = V4.holds(Range { first, last: first }) && bits <= 32;
    let (address, all) = match v6.to_ipv4_mapped().filter(|_| inside_v4) {
        Some(v4) => (IpAddr::V4(v4), 32),
        None => (IpAddr::V6(v6), 128),
    };
    // `bits` is at most `all`, which fits a byte.
    match (all - bits) as u8 {
        prefix if u32::from(prefix) == all => Indicator::Address(address),
        prefix => Indicator::Net(address, prefix),
    }
}

/// A set of ranges, joined where they touch.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ranges {
    /// Sorted and apart once `sealed`.
    ranges: Vec<Range>,
    sealed: bool,
}

impl Ranges {
    pub(crate) fn add(&mut self, range: Range) {
        self.ranges.push(range);
        self.sealed = false;
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Sorts and joins; without it nothing is found.
    pub(crate) fn seal(&mut self) {
        if self.sealed {
            return;
        }
        self.ranges.sort_unstable();
        let mut joined: Vec<Range> = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            match joined.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => joined.push(*range),
            }
        }
        joined.shrink_to_fit();
        self.ranges = joined;
        self.sealed = true;
    }

    /// What is left of `range` without the ranges of this set, in order.
    pub(crate) fn cut_from(&self, range: Range) -> Vec<Range> {
        let from = self.ranges.partition_point(|own| own.last < range.first);
        let mut rest = Vec::new();
        let mut at = Some(range.first);
        for own in self.ranges.get(from..).unwrap_or_default() {
            let Some(first) = at.filter(|_| own.first <= range.last) else {
                break;
            };
            if own.first > first {
                let last = own.first - 1;
                rest.push(Range { first, last });
            }
            at = own.last.checked_add(1).filter(|next| *next <= range.last);
        }
        if let Some(first) = at {
            let last = range.last;
            rest.push(Range { first, last });
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(from: &str, to: &str) -> Vec<String> {
        let range = Range::between(from.parse().unwrap(), to.parse().unwrap()).unwrap();
        let nets = range.nets(64).unwrap();
        nets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_is_the_fewest_nets() {
        assert_eq!(nets("192.0.2.0", "192.0.2.255"), ["192.0.2.0/24"]);
        assert_eq!(nets("192.0.2.7", "192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(
            nets("192.0.2.5", "192.0.2.1"),
            ["192.0.2.1", "192.0.2.2/31", "192.0.2.4/31"]
        );
        assert_eq!(
            nets("255.255.255.254", "255.255.255.255"),
            ["255.255.255.254/31"]
        );
        assert_eq!(nets("2001:db8::", "2001:db8::ffff"), ["2001:db8::/112"]);
        assert_eq!(
            nets("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ["::/0"]
        );
        let odd = Range::between(
            "10.0.0.1".parse().unwrap(),
            "10.255.255.254".parse().unwrap(),
        );
        assert_eq!(odd.unwrap().nets(8), None);
        assert_eq!(
            Range::between("10.0.0.1".parse().unwrap(), "::1".parse().unwrap()),
            None
        );
    }

    #[test]
    fn what_is_allowed_is_cut_out() {
        let range = |text: &str| Range::of(&Indicator::address(text).unwrap()).unwrap();
        let mut set = Ranges::default();
        for text in ["192.0.2.4/31", "192.0.2.6", "198.51.100.0/24", "192.0.2.0"] {
            set.add(range(text));
        }
        set.seal();
        assert_eq!(set.len(), 3);
        let left = |text| -> Vec<String> {
            let rest = set.cut_from(range(text)).into_iter();
            rest.flat_map(|range| range.nets(64).unwrap())
                .map(|net| net.to_string())
                .collect()
        };
        assert_eq!(
            left("192.0.2.0/29"),
            ["192.0.2.1", "192.0.2.2/31", "192.0.2.7"]
        );
        assert_eq!(left("198.51.100.9"), Vec::<String>::new());
        assert_eq!(left("198.51.100.0/25"), Vec::<String>::new());
        assert_eq!(left("203.0.113.0/24"), ["203.0.113.0/24"]);
        assert_eq!(left("192.0.2.6:80"), Vec::<String>::new());
        assert_eq!(left("198.51.101.0/24"), ["198.51.101.0/24"]);
    }
}
