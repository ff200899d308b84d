//! What no order can block: without it a host cannot be reached, name anything, renew its
//! credentials or hear that an order is lifted.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use picket_wire::Net;

/// Bytes of a resolver configuration that are read; resolv.conf(5) takes three servers.
const RESOLV_BYTES_MAX: u64 = 64 << 10;

/// Networks that are protected on every host.
#[must_use]
pub fn always_protected() -> Vec<Net> {
    let v4 = |octets: [u8; 4], prefix| Net {
        address: Ipv4Addr::from(octets).into(),
        prefix,
    };
    let v6 = |text: Ipv6Addr, prefix| Net {
        address: text.into(),
        prefix,
    };
    vec![
        v4([127, 0, 0, 0], 8),
        // Link-local: on EC2 the metadata service (.254), the resolver (.253) and the time (.123).
        v4([169, 254, 0, 0], 16),
        // Multicast and broadcast: DHCP among them.
        v4([224, 0, 0, 0], 4),
        v4([255, 255, 255, 255], 32),
        v6(Ipv6Addr::LOCALHOST, 128),
        // The same services by IPv6: fd00:ec2::254, ::253, ::123.
        v6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
        // Neighbour discovery and multicast.
        v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
        v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    ]
}

/// The resolvers that a `resolv.conf` names.
///
/// # Errors
/// It cannot be read. A file that is not there names none.
pub fn resolvers(path: &Path) -> io::Result<Vec<IpAddr>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(RESOLV_BYTES_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    // A link-local server stands with its interface: fe80::1%eth0.
    Ok(named
        .filter_map(|server| server.split('%').next()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_of_an_instance_are_protected() {
        let protected = always_protected();
        for (text, expected) in [
            ("169.254.169.254", true),
            ("169.254.169.253", true),
            ("fd00:ec2::254", true),
            ("127.0.0.53", true),
            ("fe80::1", true),
            ("255.255.255.255", true),
            ("169.253.169.254", false),
            ("203.0.113.9", false),
            ("fd00:ec3::254", false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            let covered = protected.iter().any(|net| net.contains(address));
            assert_eq!(covered, expected, "{text}");
        }
    }

    #[test]
    fn resolvers_are_read_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        assert!(resolvers(&path).unwrap().is_empty());
        fs::write(
            &path,
            "# nameserver 192.0.2.1\nsearch example.com\nnameserver 10.0.0.2\n\
             nameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n",
        )
        .unwrap();
        let named = resolvers(&path).unwrap();
        let expected: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(named, expected);
    }
}
