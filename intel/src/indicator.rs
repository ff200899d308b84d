//! One indicator: an address, a network, an endpoint or a domain with all below it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::{PREFIX_V4_MIN, PREFIX_V6_MIN};

/// What a line of a list names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Indicator {
    /// One address, any port.
    Address(IpAddr),
    /// A network; host bits are zero.
    Net(IpAddr, u8),
    /// One address and port.
    Endpoint(SocketAddr),
    /// A domain and every name below it: lower case, no final dot.
    Domain(Box<str>),
}

/// Why a text is no indicator.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndicatorError {
    /// Neither an address, a net nor an endpoint.
    #[error("{0:?} is no address, net or address:port")]
    NotAnAddress(String),
    /// A net with more addresses than a list may name.
    #[error("net {0} is too wide")]
    TooWide(String),
    /// An endpoint to which nothing is ever sent.
    #[error("{0:?} names port 0")]
    PortZero(String),
    /// Not a domain name.
    #[error("{0:?} is no domain")]
    NotADomain(String),
    /// A page or a path, which does not stand for the host it is on.
    #[error("{0:?} names a page, not a host")]
    NotAHost(String),
    /// Something else than a host, such as a hash of a file.
    #[error("{0:?} is nothing that shows on the network")]
    OfNoUse(String),
}

impl Indicator {
    /// Reads an address, CIDR or address:port. v4-mapped addresses become IPv4.
    ///
    /// # Errors
    /// [`IndicatorError::NotAnAddress`], [`IndicatorError::TooWide`], [`IndicatorError::PortZero`].
    pub fn address(text: &str) -> Result<Self, IndicatorError> {
        let refuse = || IndicatorError::NotAnAddress(text.to_owned());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Ok(endpoint) = text.parse::<SocketAddr>() {
            if endpoint.port() == 0 {
                return Err(IndicatorError::PortZero(text.to_owned()));
            }
            let address = endpoint.ip().to_canonical();
            return Ok(Self::Endpoint(SocketAddr::new(address, endpoint.port())));
        }
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        if prefix.is_empty() || !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(refuse());
        }
        let prefix: u8 = prefix.parse().map_err(|_| refuse())?;
        let (bits, min) = match address {
            IpAddr::V4(_) => (32, PREFIX_V4_MIN),
            IpAddr::V6(_) => (128, PREFIX_V6_MIN),
        };
        if prefix > bits {
            return Err(refuse());
        }
        if prefix < min {
            return Err(IndicatorError::TooWide(text.to_owned()));
        }
        let masked = mask(address, prefix);
        Ok(if prefix == bits {
            Self::Address(masked)
        } else {
            Self::Net(masked, prefix)
        })
    }

    /// Reads whatever a list of any kind may write, in all the ways that feeds do: an address, net,
    /// range, endpoint, domain in any script, or URL, with or without brackets against clicking. A
    /// range may come to several.
    ///
    /// # Errors
    /// Every [`IndicatorError`].
    pub fn read(text: &str) -> Result<Vec<Self>, IndicatorError> {
        crate::clue::any(text)
    }

    /// Reads a domain. A leading `*.` or `.` says what holds anyway: names below count too.
    ///
    /// # Errors
    /// [`IndicatorError::NotADomain`]: empty labels, labels over 63 bytes, names over 253, bytes
    /// other than letters, digits, `-` and `_`, a bare top-level label, or one that is a number.
    pub fn domain(text: &str) -> Result<Self, IndicatorError> {
        let refuse = || IndicatorError::NotADomain(text.to_owned());
        let name = text
            .strip_prefix("*.")
            .or(text.strip_prefix('.'))
            .unwrap_or(text);
        let name = name.strip_suffix('.').unwrap_or(name);
        let sound = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.contains('.') || !name.split('.').all(sound) {
            return Err(refuse());
        }
        // No top-level domain is a number, and `192.0.2` is a broken address.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse());
        }
        Ok(Self::Domain(name.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Indicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Net(address, prefix) => write!(f, "{address}/{prefix}"),
            Self::Endpoint(endpoint) => write!(f, "{endpoint}"),
            Self::Domain(name) => f.write_str(name),
        }
    }
}

/// Zeroes the bits of `address` behind `prefix`.
pub(crate) fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let shift = 32 - u32::from(prefix.min(32));
            let bits = v4.to_bits().checked_shr(shift).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(bits.checked_shl(shift).unwrap_or(0)))
        }
        IpAddr::V6(v6) => {
            let shift = 128 - u32::from(prefix.min(128));
            let bits = v6.to_bits().checked_shr(shift).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(bits.checked_shl(shift).unwrap_or(0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text, expected: &str| {
            let got = Indicator::address(text).map_or("refused".to_owned(), |i| i.to_string());
            assert_eq!(got, expected, "{text}");
        };
        check("192.0.2.1", "192.0.2.1");
        check("192.0.2.1/32", "192.0.2.1");
        check("192.0.2.77/24", "192.0.2.0/24");
        check("192.0.2.1:3333", "192.0.2.1:3333");
        check("[2001:db8::1]:443", "[2001:db8::1]:443");
        check("2001:db8::1/64", "2001:db8::/64");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("192.0.2.1/33", "refused");
        check("192.0.2.1/+4", "refused");
        check("0.0.0.0/0", "refused");
        check("192.0.2", "refused");
        check("192.0.2.1:99999", "refused");
        check("192.0.2.1:0", "refused");
        check("[2001:db8::1]:0", "refused");
        check("", "refused");
    }

    #[test]
    fn domains() {
        let check = |text: &str, expected: &str| {
            let got = Indicator::domain(text).map_or("refused".to_owned(), |i| i.to_string());
            assert_eq!(got, expected, "{text}");
        };
        check("Pool.Example.COM.", "pool.example.com");
        check("*.example.com", "example.com");
        check("_dmarc.example.com", "_dmarc.example.com");
        check("com", "refused");
        check("192.0.2.1", "refused");
        check("exa mple.com", "refused");
        check("a..example.com", "refused");
        check(&format!("{}.com", "a".repeat(64)), "refused");
        check(
            &format!("{}.com", "a".repeat(63)),
            &format!("{}.com", "a".repeat(63)),
        );
    }
}
