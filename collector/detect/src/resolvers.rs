//! Names of open resolvers that speak DNS over HTTPS and TLS, and whose they are.
//!
//! Each is what its operator tells people to enter; their addresses are in `picket_intel::public_resolver`.

use crate::domain::is_in;

/// Server names and their operators. What stands below a name belongs to it. Written down by hand from
/// the operators' own set-up pages.
const NAMES: &[(&str, &str)] = &[
    ("anycast.dns.nextdns.io", "NextDNS"),
    ("basic.rethinkdns.com", "RethinkDNS"),
    ("cloudflare-dns.com", "Cloudflare"),
    ("cloudflare-gateway.com", "Cloudflare"),
    ("d.adguard-dns.com", "AdGuard"),
    ("dns.adguard-dns.com", "AdGuard"),
    ("dns.adguard.com", "AdGuard"),
    ("dns.alidns.com", "AliDNS"),
    ("dns.cloudflare.com", "Cloudflare"),
    ("dns.controld.com", "Control D"),
    ("dns.digitale-gesellschaft.ch", "Digitale Gesellschaft"),
    ("dns.google", "Google"),
    ("dns.google.com", "Google"),
    ("dns.mullvad.net", "Mullvad"),
    ("dns.nextdns.io", "NextDNS"),
    ("dns.njal.la", "Njalla"),
    ("dns.quad9.net", "Quad9"),
    ("dns.switch.ch", "SWITCH"),
    ("dns.twnic.tw", "TWNIC"),
    ("dns.umbrella.com", "OpenDNS"),
    ("dns0.eu", "dns0.eu"),
    ("dns10.quad9.net", "Quad9"),
    ("dns11.quad9.net", "Quad9"),
    ("dns9.quad9.net", "Quad9"),
    ("dnsforge.de", "dnsforge"),
    ("doh.360.cn", "360"),
    ("doh.applied-privacy.net", "Applied Privacy"),
    ("doh.cleanbrowsing.org", "CleanBrowsing"),
    ("doh.dns.apple.com", "Apple"),
    ("doh.dns.sb", "DNS.SB"),
    ("doh.familyshield.opendns.com", "OpenDNS"),
    ("doh.libredns.gr", "LibreDNS"),
    ("doh.mullvad.net", "Mullvad"),
    ("doh.opendns.com", "OpenDNS"),
    ("doh.pub", "DNSPod"),
    ("doh.tiar.app", "tiar.app"),
    ("doh.xfinity.com", "Comcast"),
    ("dot.pub", "DNSPod"),
    ("dot.sb", "DNS.SB"),
    ("family-filter-dns.cleanbrowsing.org", "CleanBrowsing"),
    ("family.adguard-dns.com", "AdGuard"),
    ("freedns.controld.com", "Control D"),
    ("joindns4.eu", "DNS4EU"),
    ("one.one.one.one", "Cloudflare"),
    ("public.dns.iij.jp", "IIJ"),
    ("resolver-eu.lelux.fi", "Lelux"),
    ("security-filter-dns.cleanbrowsing.org", "CleanBrowsing"),
    ("unfiltered.adguard-dns.com", "AdGuard"),
];

/// Whose resolver a server name is.
pub(crate) fn of_name(name: &str) -> Option<&'static str> {
    let known = NAMES.iter().find(|(zone, _)| is_in(name, zone));
    known.map(|(_, whose)| *whose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_known_with_what_stands_below() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(of_name("mozilla.cloudflare-dns.com"), Some("Cloudflare"));
        assert_eq!(of_name("dns.google"), Some("Google"));
        assert_eq!(of_name("abc123.dns.nextdns.io"), Some("NextDNS"));
        for other in [
            "notdns.google",
            "www.google.com",
            "quad9.net",
            "nextdns.io",
            "",
        ] {
            assert_eq!(of_name(other), None, "{other}");
        }
    }
}
