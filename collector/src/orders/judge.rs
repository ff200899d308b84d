//! What may be blocked, and what never: each refusal with its reason.
//!
//! Agents refuse the same by what they know of their own hosts. Here it is refused before anybody is
//! told, by what the collector knows: its settings, itself, its resolvers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use picket_intel::{Indicator, IndicatorError, embedded_v4};
use picket_wire::limits::{ORDER_LAST_MS_MAX, ORDER_PREFIX_MIN, ORDER_REASON_BYTES_MAX};
use picket_wire::{Net, protected};

use super::limits::{OWN_ADDRESSES_MAX, WITHIN_NAMED_MAX};

/// What an order names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    /// The way it is written.
    pub(crate) value: String,
    /// The network.
    pub(crate) net: Net,
    /// The port, if it is one address and port.
    pub(crate) port: Option<u16>,
}

/// A network that no order may block, and what is there.
pub(crate) type Protected = (Net, &'static str);

/// Reads what an order names.
///
/// # Errors
/// Why it can be none, in words.
pub(crate) fn thing(value: &str) -> Result<Thing, String> {
    let value = value.trim();
    let indicator = match Indicator::address(value) {
        Ok(indicator) => indicator,
        Err(IndicatorError::TooWide(_)) => return Err(too_wide()),
        Err(error) => {
            let is_name = !value.contains('/') && Indicator::domain(value).is_ok();
            return Err(match is_name {
                true => format!("{value} is a name; block the addresses that it leads to"),
                false => error.to_string(),
            });
        }
    };
    let written = indicator.to_string();
    let (net, port) = match indicator {
        Indicator::Address(address) => (protected::lone(address), None),
        Indicator::Net(address, prefix) => (Net { address, prefix }, None),
        Indicator::Endpoint(end) => (protected::lone(end.ip()), Some(end.port())),
        Indicator::Domain(name) => return Err(format!("{name} is a name")),
    };
    let least = match net.address {
        IpAddr::V4(_) => ORDER_PREFIX_MIN.0,
        IpAddr::V6(_) => ORDER_PREFIX_MIN.1,
    };
    if net.prefix < least {
        return Err(too_wide());
    }
    meant(value, &net, port)?;
    if port == Some(0) {
        return Err("port 0 is none".to_owned());
    }
    Ok(Thing {
        value: written,
        net,
        port,
    })
}

/// Refuses what may not mean what it says: agents would be given something else than was typed.
fn meant(value: &str, net: &Net, port: Option<u16>) -> Result<(), String> {
    let tail = match (value.split_once('/'), port) {
        (Some((_, prefix)), _) => prefix,
        (None, Some(_)) => value.rsplit(':').next().unwrap_or_default(),
        (None, None) => "",
    };
    if tail.len() > 1 && tail.starts_with('0') {
        return Err(format!("{value}: {tail} begins with 0"));
    }
    let is_mapped = |address: &Ipv6Addr| address.to_ipv4_mapped().is_some();
    if matches!(&net.address, IpAddr::V6(address) if is_mapped(address)) {
        return Err(format!("{value}: write a network of IPv4 as one"));
    }
    let typed = value.split_once('/').map(|(address, _)| address.parse());
    if typed.is_some_and(|typed| typed != Ok(net.address)) {
        let shown = shown(net);
        return Err(format!(
            "{value} is no network: bits behind its prefix are set; {shown} is the one it lies in"
        ));
    }
    Ok(())
}

fn too_wide() -> String {
    let (v4, v6) = ORDER_PREFIX_MIN;
    format!("it is too wide: /{v4} of IPv4 and /{v6} of IPv6 are the widest that may be blocked")
}

/// Refuses a time or a reason that no order may have.
///
/// # Errors
/// Why, in words.
pub(crate) fn terms(for_s: u64, reason: &str) -> Result<(), String> {
    let longest_s = ORDER_LAST_MS_MAX / 1_000;
    if for_s == 0 {
        return Err("it would be over at once".to_owned());
    }
    if for_s > longest_s {
        return Err(format!(
            "an order lasts {} days at most",
            longest_s / 86_400
        ));
    }
    if reason.trim().is_empty() {
        return Err("an order needs a reason".to_owned());
    }
    if reason.len() > ORDER_REASON_BYTES_MAX {
        return Err(format!(
            "the reason is longer than {ORDER_REASON_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

/// Refuses what is protected, what something protected lies in (agents may not know of it), and what
/// is translated or tunnelled to it.
///
/// # Errors
/// What protects it, in words.
pub(crate) fn unprotected(thing: &Thing, all: &[Protected]) -> Result<(), String> {
    let v4 = embedded_v4(thing.net.address, thing.net.prefix);
    let mut within = Vec::new();
    for (net, what) in all {
        let shown = shown(net);
        if net.prefix <= thing.net.prefix && net.contains(thing.net.address) {
            return Err(format!("it may never be blocked: {shown} is {what}"));
        }
        if let Some((first, last)) = v4
            && (net.contains(first.into()) || is_between(net.address, first, last))
        {
            return Err(format!(
                "it may never be blocked: it stands for addresses of IPv4, and {shown} is {what}"
            ));
        }
        if thing.net.contains(net.address) {
            within.push((net.address, net.prefix, format!("{shown} is {what}")));
        }
    }
    if within.is_empty() {
        return Ok(());
    }
    within.sort_unstable();
    within.dedup_by_key(|(address, prefix, _)| (*address, *prefix));
    let named = within.iter().take(WITHIN_NAMED_MAX);
    let named: Vec<&str> = named.map(|(_, _, text)| text.as_str()).collect();
    let others = match within.len() - named.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Err(format!(
        "part of it may never be blocked: {}{others}; name smaller networks beside that",
        named.join(", ")
    ))
}

fn is_between(address: IpAddr, first: Ipv4Addr, last: Ipv4Addr) -> bool {
    matches!(address, IpAddr::V4(address) if (first..=last).contains(&address))
}

fn shown(net: &Net) -> String {
    let bits = if net.address.is_ipv4() { 32 } else { 128 };
    if net.prefix == bits {
        return net.address.to_string();
    }
    format!("{}/{}", net.address, net.prefix)
}

/// The addresses of this machine, as the kernel lists them.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let mut all = local_v4(&read("/proc/net/fib_trie"));
    all.extend(local_v6(&read("/proc/net/if_inet6")));
    all.truncate(OWN_ADDRESSES_MAX);
    all
}

/// `|-- 192.0.2.1` with `/32 host LOCAL` below it.
fn local_v4(text: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line == "/32 host LOCAL" {
            all.extend(last);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// 32 hexadecimal digits at the beginning of each line.
fn local_v6(text: &str) -> Vec<IpAddr> {
    let digits = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let parsed = digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok());
    parsed
        .map(|bits| Ipv6Addr::from_bits(bits).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_blocked_is_written_the_one_way() {
        let check = |value: &str, expected: Result<&str, &str>| {
            let read = thing(value).map(|thing| thing.value);
            match (read, expected) {
                (Ok(written), Ok(expected)) => assert_eq!(written, expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{value}: {why}"),
                (read, _) => assert_eq!(read.as_deref().map_err(String::as_str), expected),
            }
        };
        check("198.51.100.7", Ok("198.51.100.7"));
        check(" ::ffff:198.51.100.7", Ok("198.51.100.7"));
        check("198.51.100.0/24", Ok("198.51.100.0/24"));
        check("198.51.100.7/32", Ok("198.51.100.7"));
        check("2001:0DB8:0::/32", Ok("2001:db8::/32"));
        check("198.51.100.7/24", Err("198.51.100.0/24 is the one"));
        check("2001:db8::7/32", Err("2001:db8::/32 is the one"));
        check("9.0.0.0/08", Err("08 begins with 0"));
        check("1.2.3.4/08", Err("begins with 0"));
        check("198.51.100.7:0443", Err("begins with 0"));
        check("198.51.100.07", Err("no address"));
        check("::ffff:198.51.100.0/120", Err("IPv4"));
        check("::ffff:198.51.100.7/128", Err("IPv4"));
        check("198.51.100.7:443", Ok("198.51.100.7:443"));
        check("[2001:db8::7]:443", Ok("[2001:db8::7]:443"));
        check("9.0.0.0/8", Ok("9.0.0.0/8"));
        check("8.0.0.0/7", Err("too wide"));
        check("0.0.0.0/0", Err("too wide"));
        check("2000::/8", Err("too wide"));
        check("evil.example", Err("is a name"));
        check("198.51.100.7:0", Err("port 0"));
        check("198.51.100.7/33", Err("no address"));
        check("", Err("no address"));
    }

    #[test]
    fn what_is_protected_says_by_what() {
        let mut all = protected::always();
        let trusted = thing("10.20.0.0/16").unwrap().net;
        all.push((trusted, "trusted (block.trusted)"));
        let check = |value: &str, expected: Result<(), &str>| {
            let judged = unprotected(&thing(value).unwrap(), &all);
            match (judged, expected) {
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{value}: {why}"),
                (judged, _) => assert_eq!(judged.is_ok(), expected.is_ok(), "{value}"),
            }
        };
        check("169.254.169.254", Err("metadata service"));
        check("169.254.169.254:80", Err("metadata service"));
        check("169.254.169.253", Err("resolver"));
        check("fd00:ec2::254", Err("metadata service"));
        check("127.0.0.1", Err("loopback"));
        check("10.20.3.0/24", Err("trusted (block.trusted)"));
        check("10.20.3.4:22", Err("10.20.0.0/16 is trusted"));
        check("10.21.3.4", Ok(()));
        // Wider than what is protected in it.
        check(
            "10.0.0.0/8",
            Err("10.20.0.0/16 is trusted (block.trusted); name smaller"),
        );
        check("10.128.0.0/9", Ok(()));
        check("169.0.0.0/8", Err("part of it"));
        check("198.51.100.7", Ok(()));
        check("0.1.2.3", Err("0.0.0.0/8 is"));
        check("250.1.2.3", Err("240.0.0.0/4 is reserved"));
        check("255.255.255.255", Err("reserved"));
        // Translated and tunnelled to it.
        check("2002:a9fe:a9fe::1", Err("169.254.0.0/16 is link-local"));
        check("2002::/16", Err("stands for addresses of IPv4"));
        check("64:ff9b::a9fe:a9fe", Err("metadata service"));
        check("[64:ff9b::a14:304]:80", Err("trusted (block.trusted)"));
        check("64:ff9b::/96", Err("stands for addresses of IPv4"));
        check("::7f00:1", Err("loopback"));
        check("64:ff9b::c633:6407", Ok(()));
        check("2002:c633:6407::/48", Ok(()));
    }

    #[test]
    fn what_lies_within_is_named_in_order_and_the_rest_counted() {
        let all: Vec<Protected> = [
            "9.0.0.5", "9.0.0.1", "9.0.0.9", "9.0.0.1", "9.0.0.7", "9.0.0.8",
        ]
        .iter()
        .map(|text| (thing(text).unwrap().net, "the resolver"))
        .collect();
        let told = unprotected(&thing("9.0.0.0/24").unwrap(), &all);
        assert_eq!(
            told.unwrap_err(),
            "part of it may never be blocked: 9.0.0.1 is the resolver, 9.0.0.5 is the resolver, \
             9.0.0.7 is the resolver, and 2 more; name smaller networks beside that"
        );
    }

    #[test]
    fn terms_are_bounded() {
        let check = |for_s, reason: &str, expected: Option<&str>| {
            let told = terms(for_s, reason).err();
            let is_it = match (&told, expected) {
                (None, None) => true,
                (Some(told), Some(expected)) => told.contains(expected),
                _ => false,
            };
            assert!(is_it, "{for_s} {reason}: {told:?}");
        };
        check(1, "a pool", None);
        check(30 * 86_400, "a pool", None);
        check(30 * 86_400 + 1, "a pool", Some("30 days"));
        check(0, "a pool", Some("at once"));
        check(60, " ", Some("needs a reason"));
        check(60, &"x".repeat(129), Some("longer than 128"));
    }

    #[test]
    fn own_addresses_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                    |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.5\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie), ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        let six = "20010db8000000000000000000000007 02 40 00 80 eth0\nnonsense\n";
        assert_eq!(local_v6(six), ["2001:db8::7".parse::<IpAddr>().unwrap()]);
    }
}
