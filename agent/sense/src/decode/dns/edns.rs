//! What a sender can do beyond RFC 1035 (EDNS, RFC 6891), carried as a record of type OPT.
//!
//! ```text
//! | class: bytes of a datagram it takes | TTL: code (8), version (8), DO (1), zeros |
//! | options: code (2), length (2), data |
//! ```

use picket_wire::Net;

use crate::decode::bytes::Bytes;

/// Options that are looked at: the client's subnet (RFC 7871 6).
const CLIENT_SUBNET: u16 = 8;

/// What an OPT record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Bytes of the largest datagram its sender takes.
    pub udp_bytes: u16,
    /// 0.
    pub version: u8,
    /// Whether signatures are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// For whom a resolver asks, or for whom the answer is.
    pub client_subnet: Option<Net>,
}

impl Edns {
    /// Reads the fields and the data of the record. Options that contradict themselves say nothing.
    pub(super) fn read(class: u16, ttl: u32, data: &[u8]) -> Self {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Self {
            udp_bytes: class,
            version,
            dnssec_ok: flags & 0x80 != 0,
            client_subnet: None,
        };
        let mut bytes = Bytes::new(data);
        while let (Some(code), Some(option)) = (bytes.u16(), bytes.slice16()) {
            if code == CLIENT_SUBNET {
                edns.client_subnet = edns.client_subnet.or_else(|| subnet(option));
            }
        }
        edns
    }
}

/// Family, length of the prefix, of the answer's prefix, as many bytes of the address as it takes.
fn subnet(option: &[u8]) -> Option<Net> {
    let mut bytes = Bytes::new(option);
    let (family, prefix, _) = (bytes.u16()?, bytes.u8()?, bytes.u8()?);
    let front = bytes.rest();
    if front.len() != usize::from(prefix).div_ceil(8) {
        return None;
    }
    let mut all = [0; 16];
    all.get_mut(..front.len())?.copy_from_slice(front);
    let address = match (family, all) {
        (1, [a, b, c, d, ..]) if prefix <= 32 => [a, b, c, d].into(),
        (2, all) if prefix <= 128 => all.into(),
        _ => return None,
    };
    Some(Net { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: &[u8], expected: Option<(&str, u8)>) {
        let edns = Edns::read(1_232, 0x0000_8000, options);
        assert_eq!((edns.udp_bytes, edns.dnssec_ok), (1_232, true));
        let subnet = edns.client_subnet.map(|net| (net.address, net.prefix));
        let expected = expected.map(|(address, prefix)| (address.parse().unwrap(), prefix));
        assert_eq!(subnet, expected);
    }

    #[test]
    fn subnets_and_near_misses() {
        let v4 = [0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
        check(&v4, Some(("192.0.2.0", 24)));
        check(
            &[&[0, 10, 0, 2, 1, 1][..], &v4].concat(),
            Some(("192.0.2.0", 24)),
        );
        check(&[0, 8, 0, 6, 0, 2, 16, 0, 0x20, 1], Some(("2001::", 16)));
        check(&[0, 8, 0, 4, 0, 1, 0, 0], Some(("0.0.0.0", 0)));
        check(&v4[..10], None);
        check(&[0, 8, 0, 7, 0, 1, 16, 0, 192, 0, 2], None);
        check(&[0, 8, 0, 9, 0, 1, 40, 0, 1, 2, 3, 4, 5], None);
        check(&[0, 8, 0, 5, 0, 3, 8, 0, 1], None);
        check(&[], None);
    }
}
