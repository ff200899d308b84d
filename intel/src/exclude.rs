//! What no list may name, whoever wrote it: a poisoned or careless entry for a resolver, the
//! metadata service or half of the web would bury every true finding.
//!
//! An entry that holds or touches something here is left out whole, with the reason. Documentation
//! ranges (RFC 5737, RFC 3849) are not here: nothing real is there to be harmed, and rehearsals use
//! them. Address space of AWS is not here either: attackers rent it too.

mod names;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::category::Category;
use crate::indicator::Indicator;
use crate::range::Range;
use names::{BIG_NAMES, SERVICE_NAMES};

/// Whose lists an exclusion holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Feeds of others. The operator's own lists may name it.
    Feeds,
    /// Every list but those of [`Category::Custom`], which are policy rather than intelligence.
    NotCustom,
    /// Every list.
    All,
}

/// What a list may be trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) category: Category,
    /// The operator's own list, or one said to speak of private addresses.
    pub(crate) own: bool,
}

impl Author {
    fn bound_by(self, reach: Reach) -> bool {
        match reach {
            Reach::All => true,
            Reach::NotCustom => self.category != Category::Custom,
            Reach::Feeds => self.category != Category::Custom && !self.own,
        }
    }
}

/// Says for a name whether it is a public suffix, if so of which kind. The list is large, so that
/// who has it lends it.
pub type Suffixes = fn(name: &str) -> Option<Suffix>;

/// Whose business the names below a public suffix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suffix {
    /// Anybody may register below it, as below `co.uk`.
    Registry,
    /// A company's customers get names below it, as below `github.io`.
    Private,
}

/// Why an indicator is left out of a list of this author; `None` if it may stand.
pub(crate) fn why(
    indicator: &Indicator,
    author: Author,
    suffixes: Option<Suffixes>,
) -> Option<String> {
    let Some(range) = Range::of(indicator) else {
        return match indicator {
            Indicator::Domain(name) => why_name(name, author, suffixes),
            _ => None,
        };
    };
    let is_net = matches!(indicator, Indicator::Net(..));
    why_range(range, is_net, author).or_else(|| {
        let inner = inside(range)?;
        let why = why_range(inner, is_net || inner.first != inner.last, author)?;
        Some(format!("stands for an address of IPv4 that {why}"))
    })
}

fn why_range(range: Range, is_net: bool, author: Author) -> Option<String> {
    let touched = |net: &Net| author.bound_by(net.reach) && net.range().meets(range);
    let net = SERVICES.iter().chain(RANGES).find(|net| touched(net));
    let whole = |net: &Net| match net.range().holds(range) {
        true => format!("is {}", net.what),
        false => format!("holds {}, {}", net.address, net.what),
    };
    net.map(whole).or_else(|| {
        let known = author.bound_by(Reach::NotCustom);
        let found = RESOLVERS.iter().filter(|_| known).find(|(address, _)| {
            let one = Range::of_net(*address, 128);
            range.holds(one)
        });
        found.map(|(address, whose)| match is_net {
            true => format!("holds {address}, the public resolver of {whose}"),
            false => format!("is the public resolver of {whose}"),
        })
    })
}

/// The addresses of IPv4 that addresses of IPv6 stand for, where they translate or tunnel them: a
/// packet to `64:ff9b::a9fe:a9fe` may well reach the metadata service.
fn inside(range: Range) -> Option<Range> {
    let (zone, below) = EMBEDDED.iter().find_map(|(address, prefix, below)| {
        let zone = Range::of_net(*address, *prefix);
        zone.meets(range).then_some((zone, *below))
    })?;
    let first = range.first.max(zone.first) >> below;
    let last = range.last.min(zone.last) >> below;
    let all = u128::from(u32::MAX);
    let (first, last) = match last - first >= all {
        true => (0, all),
        false => (first & all, last & all),
    };
    let v4 = |bits: u128| Ipv4Addr::from_bits(bits as u32).to_ipv6_mapped().to_bits();
    (first <= last).then(|| Range {
        first: v4(first),
        last: v4(last),
    })
}

/// The first and the last of the addresses of IPv4 that a net of IPv6 stands for, where it is translated
/// or tunnelled to them; `None` if it is to none.
pub fn embedded_v4(address: IpAddr, prefix: u8) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let v4 = inside(Range::of_net(address, prefix))?;
    let own = |bits: u128| Ipv4Addr::from_bits(bits as u32);
    Some((own(v4.first), own(v4.last)))
}

/// Whose open resolver an address is, if it is one that hosts are set to by hand or by default.
pub fn public_resolver(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let known = RESOLVERS.iter().find(|(known, _)| *known == address);
    known.map(|(_, whose)| *whose)
}

/// Where addresses of IPv6 hold one of IPv4, and the bits behind it: translated (RFC 6052 section 2.1,
/// RFC 8215; at the end, as all of theirs end), 6to4 (RFC 3056 section 2), compatible (RFC 4291
/// section 2.5.5.1, given up), translated without state (RFC 2765 section 2.1).
const EMBEDDED: &[(IpAddr, u8, u32)] = &[
    (ip6(0x64_ff9b << 96), 96, 0),
    (ip6(0x64_ff9b_0001 << 80), 48, 0),
    (ip6(0x2002 << 112), 16, 80),
    (ip6(0), 96, 0),
    (ip6(0xffff << 48), 96, 0),
];

fn why_name(name: &str, author: Author, suffixes: Option<Suffixes>) -> Option<String> {
    let bare = name.strip_prefix("www.").unwrap_or(name);
    if author.bound_by(Reach::NotCustom) && BIG_NAMES.binary_search(&bare).is_ok() {
        return Some("is among the most used names of all".to_owned());
    }
    let below = |zone: &str| {
        let rest = name.strip_suffix(zone);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if let Some((_, what)) = SERVICE_NAMES.iter().find(|(zone, _)| below(zone)) {
        return Some(format!("is {what}"));
    }
    let holds = |zone: &str| {
        let rest = zone.strip_suffix(name);
        rest.is_some_and(|rest| rest.ends_with('.'))
    };
    if author.bound_by(Reach::NotCustom)
        && let Some((zone, what)) = SERVICE_NAMES.iter().find(|(zone, _)| holds(zone))
    {
        return Some(format!("holds {zone}, {what}"));
    }
    match suffixes?(name)? {
        Suffix::Registry => Some("is a public suffix".to_owned()),
        Suffix::Private if author.bound_by(Reach::NotCustom) => {
            Some("is a suffix below which a provider gives names to anybody".to_owned())
        }
        Suffix::Private => None,
    }
}

struct Net {
    address: IpAddr,
    prefix: u8,
    reach: Reach,
    what: &'static str,
}

impl Net {
    fn range(&self) -> Range {
        Range::of_net(self.address, self.prefix)
    }
}

const fn v4(octets: [u8; 4], prefix: u8, reach: Reach, what: &'static str) -> Net {
    let [a, b, c, d] = octets;
    let address = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    Net {
        address,
        prefix,
        reach,
        what,
    }
}

const fn v6(bits: u128, prefix: u8, reach: Reach, what: &'static str) -> Net {
    let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
    Net {
        address,
        prefix,
        reach,
        what,
    }
}

/// What every instance talks to: the EC2 user guide, "Instance metadata", and the VPC user guide,
/// "Amazon DNS server" and "Amazon Time Sync Service".
const SERVICES: &[Net] = &[
    v4(
        [169, 254, 169, 254],
        32,
        Reach::All,
        "the instance metadata service",
    ),
    v4([169, 254, 169, 253], 32, Reach::All, "the VPC's resolver"),
    v4(
        [169, 254, 169, 123],
        32,
        Reach::All,
        "the Amazon time service",
    ),
    v4(
        [169, 254, 170, 2],
        32,
        Reach::All,
        "the container credentials service",
    ),
    v6(
        0xfd00_0ec2 << 96 | 0x254,
        128,
        Reach::All,
        "the instance metadata service",
    ),
    v6(
        0xfd00_0ec2 << 96 | 0x253,
        128,
        Reach::All,
        "the VPC's resolver",
    ),
    v6(
        0xfd00_0ec2 << 96 | 0x123,
        128,
        Reach::All,
        "the Amazon time service",
    ),
];

/// RFC 6890 (special-purpose address registries) and its successors in the IANA registries.
const RANGES: &[Net] = &[
    v4([0, 0, 0, 0], 8, Reach::All, "this network (RFC 791)"),
    v4([127, 0, 0, 0], 8, Reach::All, "loopback (RFC 1122)"),
    v4([169, 254, 0, 0], 16, Reach::All, "link-local (RFC 3927)"),
    v4([224, 0, 0, 0], 4, Reach::All, "multicast (RFC 5771)"),
    v4([240, 0, 0, 0], 4, Reach::All, "reserved (RFC 1112)"),
    v4([10, 0, 0, 0], 8, Reach::Feeds, "private (RFC 1918)"),
    v4([172, 16, 0, 0], 12, Reach::Feeds, "private (RFC 1918)"),
    v4([192, 168, 0, 0], 16, Reach::Feeds, "private (RFC 1918)"),
    v4(
        [100, 64, 0, 0],
        10,
        Reach::Feeds,
        "shared by carriers (RFC 6598)",
    ),
    v4([192, 0, 0, 0], 24, Reach::Feeds, "for protocols (RFC 6890)"),
    v4(
        [198, 18, 0, 0],
        15,
        Reach::Feeds,
        "for benchmarks (RFC 2544)",
    ),
    v6(0, 127, Reach::All, "unspecified or loopback (RFC 4291)"),
    v6(0xfe80 << 112, 10, Reach::All, "link-local (RFC 4291)"),
    v6(0xff << 120, 8, Reach::All, "multicast (RFC 4291)"),
    v6(
        0x64_ff9b << 96,
        96,
        Reach::Feeds,
        "all of IPv4, translated (RFC 6052)",
    ),
    v6(0x100 << 112, 64, Reach::Feeds, "discarded (RFC 6666)"),
    v6(0xfc << 120, 7, Reach::Feeds, "private (RFC 4193)"),
];

const fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn ip6(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

/// Open resolvers that hosts are set to by hand or by default, as their operators document them.
const RESOLVERS: &[(IpAddr, &str)] = &[
    (ip(1, 1, 1, 1), "Cloudflare"),
    (ip(1, 0, 0, 1), "Cloudflare"),
    (ip(1, 1, 1, 2), "Cloudflare"),
    (ip(1, 0, 0, 2), "Cloudflare"),
    (ip(1, 1, 1, 3), "Cloudflare"),
    (ip(1, 0, 0, 3), "Cloudflare"),
    (ip(8, 8, 8, 8), "Google"),
    (ip(8, 8, 4, 4), "Google"),
    (ip(9, 9, 9, 9), "Quad9"),
    (ip(9, 9, 9, 10), "Quad9"),
    (ip(9, 9, 9, 11), "Quad9"),
    (ip(149, 112, 112, 112), "Quad9"),
    (ip(149, 112, 112, 10), "Quad9"),
    (ip(149, 112, 112, 11), "Quad9"),
    (ip(208, 67, 222, 222), "OpenDNS"),
    (ip(208, 67, 220, 220), "OpenDNS"),
    (ip(208, 67, 222, 123), "OpenDNS"),
    (ip(208, 67, 220, 123), "OpenDNS"),
    (ip(4, 2, 2, 1), "Level 3"),
    (ip(4, 2, 2, 2), "Level 3"),
    (ip(4, 2, 2, 3), "Level 3"),
    (ip(4, 2, 2, 4), "Level 3"),
    (ip(4, 2, 2, 5), "Level 3"),
    (ip(4, 2, 2, 6), "Level 3"),
    (ip(64, 6, 64, 6), "Vercara"),
    (ip(64, 6, 65, 6), "Vercara"),
    (ip(156, 154, 70, 1), "Vercara"),
    (ip(156, 154, 71, 1), "Vercara"),
    (ip(94, 140, 14, 14), "AdGuard"),
    (ip(94, 140, 15, 15), "AdGuard"),
    (ip(76, 76, 2, 0), "Control D"),
    (ip(76, 76, 10, 0), "Control D"),
    (ip(185, 228, 168, 9), "CleanBrowsing"),
    (ip(185, 228, 169, 9), "CleanBrowsing"),
    (ip(8, 26, 56, 26), "Comodo"),
    (ip(8, 20, 247, 20), "Comodo"),
    (ip(84, 200, 69, 80), "DNS.WATCH"),
    (ip(84, 200, 70, 40), "DNS.WATCH"),
    (ip(77, 88, 8, 8), "Yandex"),
    (ip(77, 88, 8, 1), "Yandex"),
    (ip(114, 114, 114, 114), "114DNS"),
    (ip(114, 114, 115, 115), "114DNS"),
    (ip(119, 29, 29, 29), "DNSPod"),
    (ip(223, 5, 5, 5), "AliDNS"),
    (ip(223, 6, 6, 6), "AliDNS"),
    (ip(180, 76, 76, 76), "Baidu"),
    (ip6(0x2606_4700_4700 << 80 | 0x1111), "Cloudflare"),
    (ip6(0x2606_4700_4700 << 80 | 0x1001), "Cloudflare"),
    (ip6(0x2001_4860_4860 << 80 | 0x8888), "Google"),
    (ip6(0x2001_4860_4860 << 80 | 0x8844), "Google"),
    (ip6(0x2620_00fe << 96 | 0xfe), "Quad9"),
    (ip6(0x2620_00fe << 96 | 0x9), "Quad9"),
    (ip6(0x2620_0119_0035 << 80 | 0x35), "OpenDNS"),
    (ip6(0x2620_0119_0053 << 80 | 0x53), "OpenDNS"),
    (ip6(0x2a10_50c0 << 96 | 0xad1_00ff), "AdGuard"),
    (ip6(0x2a10_50c0 << 96 | 0xad2_00ff), "AdGuard"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clue;

    fn suffix(name: &str) -> Option<Suffix> {
        match name {
            "co.uk" => Some(Suffix::Registry),
            "github.io" => Some(Suffix::Private),
            _ => None,
        }
    }

    /// Whether it is left out of a feed, of the operator's own list, of a custom list.
    #[track_caller]
    fn check(text: &str, feed: bool, own: bool, custom: bool) {
        for (category, is_own, expected) in [
            (Category::C2, false, feed),
            (Category::C2, true, own),
            (Category::Custom, false, custom),
        ] {
            let author = Author {
                category,
                own: is_own,
            };
            let found = clue::any(text).unwrap();
            let why = why(&found[0], author, Some(suffix));
            assert_eq!(why.is_some(), expected, "{text} {author:?} {why:?}");
        }
    }

    #[test]
    fn what_is_left_out_and_of_which_lists() {
        for all in [
            "169.254.169.254",
            "169.254.169.253:53",
            "169.254.169.123",
            "169.254.0.0/16",
            "fd00:ec2::254",
            "fd00:ec2::/32",
            "127.0.0.53",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.251",
            "::1",
            "fe80::1",
            "ff02::fb",
            "64:ff9b::a9fe:a9fe",
            "[64:ff9b::a9fe:a9fe]:80",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2002:a9fe:a9fe::/48",
            "2002:a9fe::/32",
            "2002::/16",
            "::a9fe:a9fe",
            "::ffff:0:a9fe:a9fe",
            "2002:7f00:1::",
            "0.pool.ntp.org",
            "pool.ntp.org",
            "time.aws.com",
            "metadata.google.internal",
            "instance-data.ec2.internal",
            "ip-10-0-0-1.eu-west-1.compute.internal",
            "ec2.internal",
            "254.169.254.169.in-addr.arpa",
            "localhost.localdomain",
            "co.uk",
        ] {
            check(all, true, true, true);
        }
        for not_custom in [
            "8.8.8.8",
            "1.0.0.0/24",
            "2606:4700:4700::1111",
            "2001:4860::/32",
            "2002:808:808::1",
            "64:ff9b::808:808",
            "google.internal",
            "nist.gov",
            "microsoft.com",
            "www.google.com",
            "amazonaws.com",
            "github.io",
        ] {
            check(not_custom, true, true, false);
        }
        for feeds in [
            "10.1.2.3",
            "192.168.0.0/16",
            "172.31.0.1:4444",
            "fd12::1",
            "2002:a01:203::1",
        ] {
            check(feeds, true, false, false);
        }
    }

    #[test]
    fn nets_of_ipv6_stand_for_addresses_of_ipv4() {
        let check = |text: &str, prefix, expected: Option<(&str, &str)>| {
            let expected =
                expected.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
            assert_eq!(
                embedded_v4(text.parse().unwrap(), prefix),
                expected,
                "{text}"
            );
        };
        check(
            "64:ff9b::a9fe:a9fe",
            128,
            Some(("169.254.169.254", "169.254.169.254")),
        );
        check("2002:a9fe::", 32, Some(("169.254.0.0", "169.254.255.255")));
        check("2002::", 16, Some(("0.0.0.0", "255.255.255.255")));
        check("2003::", 16, None);
        check("169.254.169.254", 32, None);
    }

    #[test]
    fn what_stands_beside_it() {
        for text in [
            "192.0.2.1",
            "198.51.100.0/24",
            "8.8.8.9",
            "1.0.1.0/24",
            "172.32.0.1",
            "172.15.255.255",
            "11.0.0.0/8",
            "100.128.0.1",
            "52.95.110.1",
            "2001:db8::1",
            "2600::1",
            "2002:c000:201::1",
            "2003::/16",
            "notpool.ntp.org",
            "pool.ntp.org.evil.example",
            "compute.internal.example",
            "evil.microsoft.com",
            "notmicrosoft.com",
            "evil.co.uk",
            "evil.github.io",
            "bucket.s3.amazonaws.com",
        ] {
            check(text, false, false, false);
        }
    }
}
