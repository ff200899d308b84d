//! Networks as people write them.

use std::net::IpAddr;

use picket_wire::Net;

/// Why a text is no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NetError {
    /// The part before the slash is no address.
    #[error("{0:?} is no address")]
    Address(String),
    /// The part behind the slash is no prefix length for that address.
    #[error("{0:?} is no prefix length of {1}")]
    Prefix(String, IpAddr),
}

/// Reads `10.0.0.0/8`, `2001:db8::/32`, or a lone address. Bits behind the prefix are cleared.
///
/// # Errors
/// [`NetError`].
pub fn parse(text: &str) -> Result<Net, NetError> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| NetError::Address(address.to_owned()))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(text) => text
            .parse()
            .ok()
            .filter(|prefix| *prefix <= bits)
            .ok_or_else(|| NetError::Prefix(text.to_owned(), address))?,
    };
    Ok(masked(address, prefix))
}

/// The network of `address` with a prefix of so many bits.
pub(crate) fn masked(address: IpAddr, prefix: u8) -> Net {
    let address = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    };
    Net { address, prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nets() {
        let check = |text: &str, expected: &str| {
            let got = parse(text).map_or_else(
                |error| error.to_string(),
                |net| format!("{}/{}", net.address, net.prefix),
            );
            assert_eq!(got, expected, "{text}");
        };
        check("10.1.2.3/8", "10.0.0.0/8");
        check("10.1.2.3", "10.1.2.3/32");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("2001:db8::1/32", "2001:db8::/32");
        check("::1", "::1/128");
        check("10.0.0.0/33", "\"33\" is no prefix length of 10.0.0.0");
        check("10.0.0.0/", "\"\" is no prefix length of 10.0.0.0");
        check("ten/8", "\"ten\" is no address");
    }
}
