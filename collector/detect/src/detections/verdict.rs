//! What the category of a list means for a finding: one table for addresses, names and the server
//! names of TLS, both directions, complete over all categories.

use picket_intel::Category;
use serde::{Deserialize, Serialize};

use crate::finding::FindingType;

/// How a listed value was met, seen from the host that the finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// The host opened a conversation with a listed address.
    Opened,
    /// A listed address opened a conversation with this port of the host, which answered.
    Answered {
        /// The host's port.
        port: u16,
    },
    /// The host asked for a listed name.
    Asked,
    /// The host named a listed name to a TLS server.
    Named,
    /// The host spoke what only miners and their pools speak; no list names the other end.
    Spoke,
}

/// What a meeting is called and how bad it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) kind: &'static FindingType,
    pub(crate) severity: f64,
    /// What the listed thing is, in words.
    pub(crate) what: &'static str,
    pub(crate) mitre: &'static [&'static str],
}

macro_rules! types {
    ($($(#[doc = $doc:literal])* $name:ident = $of:ident($text:literal, $severity:literal);)*) => {
        $($(#[doc = $doc])* const $name: FindingType = FindingType::$of($text, $severity);)*
    };
}

types! {
    C2 = guardduty("Backdoor:EC2/C&CActivity.B", 8.0);
    C2_DNS = guardduty("Backdoor:EC2/C&CActivity.B!DNS", 8.0);
    MINING = guardduty("CryptoCurrency:EC2/BitcoinTool.B", 8.0);
    MINING_DNS = guardduty("CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.0);
    CUSTOM_DNS = guardduty("Impact:EC2/MaliciousDomainRequest.Custom", 5.0);
    PORT_PROBE = guardduty("Recon:EC2/PortProbeUnprotectedPort", 2.0);
    SCANNER_DNS = picket("Recon:EC2/ScannerDomainRequest!DNS", 2.0);
    BLACKHOLE = guardduty("Trojan:EC2/BlackholeTraffic", 5.0);
    BLACKHOLE_DNS = guardduty("Trojan:EC2/BlackholeTraffic!DNS", 5.0);
    DGA = picket("Trojan:EC2/DGATraffic", 8.0);
    DGA_DNS = guardduty("Trojan:EC2/DGADomainRequest.C!DNS", 8.0);
    DRIVEBY = picket("Trojan:EC2/DriveBySourceTraffic", 8.0);
    DRIVEBY_DNS = guardduty("Trojan:EC2/DriveBySourceTraffic!DNS", 8.0);
    DROPPOINT = guardduty("Trojan:EC2/DropPoint", 5.0);
    DROPPOINT_DNS = guardduty("Trojan:EC2/DropPoint!DNS", 5.0);
    PHISHING = picket("Trojan:EC2/PhishingTraffic", 8.0);
    PHISHING_DNS = guardduty("Trojan:EC2/PhishingDomainRequest!DNS", 8.0);
    CUSTOM = guardduty("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom", 5.0);
    TOR = guardduty("UnauthorizedAccess:EC2/TorClient", 8.0);
    TOR_DNS = picket("UnauthorizedAccess:EC2/TorClient!DNS", 8.0);
    /// Retired by GuardDuty without a successor.
    TOR_CALLER = guardduty("UnauthorizedAccess:EC2/TorIPCaller", 5.0);
    TOR_RELAY = guardduty("UnauthorizedAccess:EC2/TorRelay", 8.0);
}

/// Every type that an address or a server name can lead to.
pub(crate) const ADDRESS_TYPES: &[&FindingType] = &[
    &C2,
    &MINING,
    &CUSTOM_DNS,
    &PORT_PROBE,
    &BLACKHOLE,
    &DGA,
    &DRIVEBY,
    &DROPPOINT,
    &PHISHING,
    &CUSTOM,
    &TOR,
    &TOR_CALLER,
    &TOR_RELAY,
];

/// Every type that a question can lead to.
pub(crate) const NAME_TYPES: &[&FindingType] = &[
    &C2_DNS,
    &MINING_DNS,
    &CUSTOM_DNS,
    &SCANNER_DNS,
    &BLACKHOLE_DNS,
    &DGA_DNS,
    &DRIVEBY_DNS,
    &DROPPOINT_DNS,
    &PHISHING_DNS,
    &TOR_DNS,
];

/// What becomes of listed addresses that call the host and are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Callers {
    /// Severity of a caller on somebody else's list, at most: 3.0, since on a public service such
    /// callers are weather, and what comes of them shows in other findings.
    pub severity_max: f64,
    /// Ports of the host on which a Tor caller makes it a relay: 9001 and 9030, on which relays
    /// listen unless told otherwise (tor's manual: ORPort, DirPort).
    pub tor_relay_ports: Vec<u16>,
    /// Ports whose probes by scanners are not reported: 80 and 443, open so that anybody may call;
    /// GuardDuty leaves them out too.
    pub probed_ports_ignored: Vec<u16>,
    /// Ports whose probes are high: Elasticsearch's 9200 and 9300, as GuardDuty has it, since what
    /// answers there mostly lets anybody in.
    pub probed_ports_high: Vec<u16>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            severity_max: 3.0,
            tor_relay_ports: vec![9001, 9030],
            probed_ports_ignored: vec![80, 443],
            probed_ports_high: vec![9200, 9300],
        }
    }
}

/// What meeting `category` in this way means; `None` where it means nothing.
pub(crate) fn verdict(category: Category, met: Met, callers: &Callers) -> Option<Verdict> {
    use Category as C;
    let (what, mitre): (_, &'static [&'static str]) = match category {
        C::C2 => ("a command-and-control server", &["T1071"]),
        C::Mining => ("a mining pool", &["T1496"]),
        C::Tor => ("the Tor network", &["T1090.003"]),
        C::Phishing => ("a phishing site", &["T1566"]),
        C::Blackhole => ("a sinkhole", &["T1071"]),
        C::Droppoint => ("a place where stolen data are left", &["T1041"]),
        C::Driveby => ("a source of drive-by downloads", &["T1189"]),
        C::Dga => ("a name made by a known domain generator", &["T1568.002"]),
        C::Scanner => ("a known scanner", &["T1595"]),
        C::Custom => ("an entry of your own list", &["T1071"]),
    };
    let kind = match (category, met) {
        (C::C2, Met::Asked) => &C2_DNS,
        (C::C2, _) => &C2,
        (C::Mining, Met::Asked) => &MINING_DNS,
        (C::Mining, _) => &MINING,
        (C::Tor, Met::Asked) => &TOR_DNS,
        (C::Tor, Met::Answered { port }) if callers.tor_relay_ports.contains(&port) => &TOR_RELAY,
        (C::Tor, Met::Answered { .. }) => &TOR_CALLER,
        (C::Tor, _) => &TOR,
        (C::Phishing, Met::Asked) => &PHISHING_DNS,
        (C::Phishing, _) => &PHISHING,
        (C::Blackhole, Met::Asked) => &BLACKHOLE_DNS,
        (C::Blackhole, _) => &BLACKHOLE,
        (C::Droppoint, Met::Asked) => &DROPPOINT_DNS,
        (C::Droppoint, _) => &DROPPOINT,
        (C::Driveby, Met::Asked) => &DRIVEBY_DNS,
        (C::Driveby, _) => &DRIVEBY,
        (C::Dga, Met::Asked) => &DGA_DNS,
        (C::Dga, _) => &DGA,
        (C::Scanner, Met::Asked) => &SCANNER_DNS,
        (C::Scanner, Met::Answered { port }) => {
            if callers.probed_ports_ignored.contains(&port) {
                return None;
            }
            &PORT_PROBE
        }
        // Who calls a scanner's address visits its web site.
        (C::Scanner, Met::Opened | Met::Named | Met::Spoke) => return None,
        (C::Custom, Met::Asked | Met::Named) => &CUSTOM_DNS,
        (C::Custom, _) => &CUSTOM,
    };
    let severity = match (category, met) {
        (C::Scanner, Met::Answered { port }) if callers.probed_ports_high.contains(&port) => 8.0,
        (C::Tor, Met::Answered { port }) if callers.tor_relay_ports.contains(&port) => {
            kind.severity
        }
        (C::Custom, _) => kind.severity,
        (_, Met::Answered { .. }) => kind.severity.min(callers.severity_max),
        _ => kind.severity,
    };
    Some(Verdict {
        kind,
        severity,
        what,
        mitre,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        let check = |category, opened: Option<&str>, asked: Option<&str>, named: Option<&str>| {
            let name = |met| verdict(category, met, &Callers::default()).map(|v| v.kind.name);
            assert_eq!(name(Met::Opened), opened, "{category} opened");
            assert_eq!(name(Met::Asked), asked, "{category} asked");
            assert_eq!(name(Met::Named), named, "{category} named");
        };
        let guardduty = |c, address, name| check(c, Some(address), Some(name), Some(address));
        guardduty(
            Category::C2,
            "Backdoor:EC2/C&CActivity.B",
            "Backdoor:EC2/C&CActivity.B!DNS",
        );
        guardduty(
            Category::Mining,
            "CryptoCurrency:EC2/BitcoinTool.B",
            "CryptoCurrency:EC2/BitcoinTool.B!DNS",
        );
        guardduty(
            Category::Tor,
            "UnauthorizedAccess:EC2/TorClient",
            "UnauthorizedAccess:EC2/TorClient!DNS",
        );
        guardduty(
            Category::Phishing,
            "Trojan:EC2/PhishingTraffic",
            "Trojan:EC2/PhishingDomainRequest!DNS",
        );
        guardduty(
            Category::Blackhole,
            "Trojan:EC2/BlackholeTraffic",
            "Trojan:EC2/BlackholeTraffic!DNS",
        );
        guardduty(
            Category::Droppoint,
            "Trojan:EC2/DropPoint",
            "Trojan:EC2/DropPoint!DNS",
        );
        guardduty(
            Category::Driveby,
            "Trojan:EC2/DriveBySourceTraffic",
            "Trojan:EC2/DriveBySourceTraffic!DNS",
        );
        guardduty(
            Category::Dga,
            "Trojan:EC2/DGATraffic",
            "Trojan:EC2/DGADomainRequest.C!DNS",
        );
        check(
            Category::Scanner,
            None,
            Some("Recon:EC2/ScannerDomainRequest!DNS"),
            None,
        );
        check(
            Category::Custom,
            Some("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom"),
            Some("Impact:EC2/MaliciousDomainRequest.Custom"),
            Some("Impact:EC2/MaliciousDomainRequest.Custom"),
        );
    }

    #[test]
    fn callers_that_were_answered() {
        let check = |category, port, expected: Option<(&str, f64)>| {
            let got = verdict(category, Met::Answered { port }, &Callers::default());
            assert_eq!(got.map(|v| (v.kind.name, v.severity)), expected);
        };
        let probe = "Recon:EC2/PortProbeUnprotectedPort";
        check(Category::Scanner, 22, Some((probe, 2.0)));
        check(Category::Scanner, 9200, Some((probe, 8.0)));
        check(Category::Scanner, 443, None);
        check(
            Category::Tor,
            9001,
            Some(("UnauthorizedAccess:EC2/TorRelay", 8.0)),
        );
        check(
            Category::Tor,
            443,
            Some(("UnauthorizedAccess:EC2/TorIPCaller", 3.0)),
        );
        check(Category::C2, 443, Some(("Backdoor:EC2/C&CActivity.B", 3.0)));
        check(
            Category::Custom,
            443,
            Some(("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom", 5.0)),
        );
    }

    #[test]
    fn every_verdict_is_among_the_types_listed() {
        let mets = [
            Met::Opened,
            Met::Answered { port: 22 },
            Met::Answered { port: 9001 },
            Met::Named,
            Met::Asked,
        ];
        for category in Category::ALL {
            for met in mets {
                let types = match met {
                    Met::Asked => NAME_TYPES,
                    _ => ADDRESS_TYPES,
                };
                if let Some(verdict) = verdict(category, met, &Callers::default()) {
                    assert!(types.contains(&verdict.kind), "{category} {met:?}");
                }
            }
        }
    }
}
