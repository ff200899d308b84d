//! Which addresses the whole Internet reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Says whether packets to `address` leave for the Internet: it is none of those that IANA keeps for
/// private, local or special use (RFC 6890) and no group of hosts. Those kept for documentation count as
/// public: nobody else's traffic has them.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    // Behind carriers' translation (RFC 6598); benchmarks (RFC 2544); groups, and what is left over.
    let is_shared = a == 100 && b & 0xc0 == 0x40;
    let is_bench = a == 198 && b & 0xfe == 18;
    !(v4.is_private() || v4.is_loopback() || v4.is_link_local())
        && !(a == 0 || is_shared || is_bench || a >= 224)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    // Only this eighth is given out (RFC 4291 section 2.4).
    v6.segments()[0] & 0xe000 == 0x2000
}

/// The network that a peer is counted by: what one owner usually has, 24 bits of IPv4 or 48 of IPv6.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ip;

    #[test]
    fn what_the_internet_reaches() {
        for public in [
            "8.8.8.8",
            "203.0.113.9",
            "100.128.0.1",
            "2600::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        let private = [
            "10.0.0.1",
            "172.31.9.9",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "0.0.0.0",
            "198.19.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::fb",
            "::ffff:10.0.0.1",
        ];
        for private in private {
            assert!(!is_public(ip(private)), "{private}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(network_of(ip("203.0.113.9")), ip("203.0.113.0"));
        assert_eq!(network_of(ip("::ffff:203.0.113.9")), ip("203.0.113.0"));
        assert_eq!(network_of(ip("2001:db8:1:2::3")), ip("2001:db8:1::"));
    }
}
