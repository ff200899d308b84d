//! Networks, and how addresses are written.

use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

/// An address with the length of its network part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Net {
    /// The address; bits behind the prefix are zero.
    #[n(0)]
    #[cbor(with = "ip")]
    pub address: IpAddr,
    /// 0..=32 for IPv4, 0..=128 for IPv6.
    #[n(1)]
    pub prefix: u8,
}

impl Net {
    /// Says whether `address` lies in the net. A v4-mapped address is taken as the v4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (net.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                (net.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// Addresses as byte strings of 4 or 16.
pub(super) mod ip {
    use std::net::IpAddr;

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self, Encoder, Write};

    pub(crate) fn encode<C, W: Write>(
        address: &IpAddr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match address {
            IpAddr::V4(v4) => e.bytes(&v4.octets())?.ok(),
            IpAddr::V6(v6) => e.bytes(&v6.octets())?.ok(),
        }
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<IpAddr, Error> {
        let bytes = d.bytes()?;
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ok(IpAddr::from(v4));
        }
        <[u8; 16]>::try_from(bytes)
            .map(IpAddr::from)
            .map_err(|_| Error::message("an address takes 4 or 16 bytes"))
    }

    pub(crate) fn cbor_len<C>(address: &IpAddr, _: &mut C) -> usize {
        if address.is_ipv4() { 5 } else { 17 }
    }
}
