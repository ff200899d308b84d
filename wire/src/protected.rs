//! What no order can block: without it a host cannot be reached, name anything, renew its
//! credentials or hear that an order is lifted. Both ends refuse it, each by its own knowledge.
//! What a host says to the server that lends it its address passes by its ports (DHCP, DHCPv6), which
//! the agent's kernel programs see to: that server may be anywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::summary::Net;

/// Networks that are protected on every host, each with what is there.
pub fn always() -> Vec<(Net, &'static str)> {
    let v4 = |octets: [u8; 4], prefix| Net {
        address: Ipv4Addr::from(octets).into(),
        prefix,
    };
    let v6 = |text: Ipv6Addr, prefix| Net {
        address: text.into(),
        prefix,
    };
    vec![
        (v4([127, 0, 0, 0], 8), "loopback"),
        // On EC2 the metadata service (.254), the resolver (.253) and the time (.123).
        (
            v4([169, 254, 0, 0], 16),
            "link-local: metadata service, resolver, time",
        ),
        (v4([224, 0, 0, 0], 4), "multicast"),
        (v4([240, 0, 0, 0], 4), "reserved, broadcast among it"),
        // Who has no address yet speaks from it.
        (v4([0, 0, 0, 0], 8), "this network"),
        (v6(Ipv6Addr::UNSPECIFIED, 127), "loopback, or none"),
        // The same services by IPv6: fd00:ec2::254, ::253, ::123.
        (
            v6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
            "metadata service, resolver, time",
        ),
        // Neighbour discovery.
        (
            v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
            "link-local",
        ),
        (
            v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
            "multicast",
        ),
    ]
}

/// A lone address as a network.
pub fn lone(address: IpAddr) -> Net {
    Net {
        address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    }
}

/// The resolvers that a `resolv.conf` names.
pub fn resolvers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    // A link-local server stands with its interface: fe80::1%eth0.
    named
        .filter_map(|server| server.split('%').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_of_an_instance_are_protected() {
        let protected = always();
        for (text, expected) in [
            ("169.254.169.254", true),
            ("169.254.169.253", true),
            ("fd00:ec2::254", true),
            ("127.0.0.53", true),
            ("fe80::1", true),
            ("255.255.255.255", true),
            ("240.0.0.1", true),
            ("0.0.0.0", true),
            ("::1", true),
            ("::2", false),
            ("169.253.169.254", false),
            ("203.0.113.9", false),
            ("fd00:ec3::254", false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            let covered = protected.iter().any(|(net, _)| net.contains(address));
            assert_eq!(covered, expected, "{text}");
        }
    }

    #[test]
    fn resolvers_are_read_from_the_text() {
        let named = resolvers(
            "# nameserver 192.0.2.1\nsearch example.com\nnameserver 10.0.0.2\n\
             nameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n",
        );
        let expected: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(named, expected);
    }
}
