//! What the category of a list means for a finding: one table for addresses, names and the server
//! names of TLS, both directions, complete over all categories. A list counts only for the way of
//! meeting its entries that it is made for, and one that is less sure makes a milder finding.

use picket_intel::list::CONFIDENCE_MAX;
use picket_intel::{Category, Direction, IndicatorSet, List};
use picket_wire::Hit;
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

/// What a list says of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) category: Category,
    pub(crate) direction: Direction,
    /// 0 to 100.
    pub(crate) confidence: u8,
}

impl Standing {
    /// What is certain whatever the lists say.
    pub(crate) fn certain(category: Category) -> Self {
        Self {
            category,
            direction: Direction::Both,
            confidence: CONFIDENCE_MAX,
        }
    }

    /// That of a hit, which names its list: as we have it, or as is usual in its category if we do
    /// not. `None` for a category that a newer agent knows and we do not.
    pub(crate) fn of_hit(hit: &Hit, intel: &IndicatorSet) -> Option<Self> {
        let category = hit.category.parse().ok()?;
        let known = intel.list_named(&hit.list, category);
        Some(known.map_or_else(|| Self::from(&List::new("", category)), Self::from))
    }

    /// A confidence in a finding that is no more than the list's.
    pub(crate) fn at_most(self, confidence: f64) -> f64 {
        confidence.min(f64::from(self.confidence) / f64::from(CONFIDENCE_MAX))
    }
}

impl From<&List> for Standing {
    fn from(list: &List) -> Self {
        Self {
            category: list.category,
            direction: list.direction,
            confidence: list.confidence,
        }
    }
}

/// Confidence from which a list's word counts in full. Chosen by hand, as the others here: below
/// it stand lists of nets and of who was seen somewhere once.
const SURE: u8 = 70;

/// Confidence from which it makes a medium finding at most, and below which a low one.
const LIKELY: u8 = 40;

/// The most that a list that is not [`SURE`] makes of a meeting: medium.
const LIKELY_SEVERITY_MAX: f64 = 5.0;

/// The most that a list that is not even [`LIKELY`] makes of it: low.
const UNLIKELY_SEVERITY_MAX: f64 = 2.0;

/// A severity as a list of this confidence can carry it.
pub(crate) fn graded(severity: f64, confidence: u8) -> f64 {
    match confidence {
        SURE.. => severity,
        LIKELY.. => severity.min(LIKELY_SEVERITY_MAX),
        _ => severity.min(UNLIKELY_SEVERITY_MAX),
    }
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
    PORT_PROBE_EMR = guardduty("Recon:EC2/PortProbeEMRUnprotectedPort", 8.0);
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
    LAMBDA_C2 = guardduty("Backdoor:Lambda/C&CActivity.B", 8.0);
    LAMBDA_MINING = guardduty("CryptoCurrency:Lambda/BitcoinTool.B", 8.0);
    LAMBDA_BLACKHOLE = guardduty("Trojan:Lambda/BlackholeTraffic", 5.0);
    LAMBDA_DROPPOINT = guardduty("Trojan:Lambda/DropPoint", 5.0);
    LAMBDA_CUSTOM = guardduty("UnauthorizedAccess:Lambda/MaliciousIPCaller.Custom", 5.0);
    LAMBDA_TOR = guardduty("UnauthorizedAccess:Lambda/TorClient", 8.0);
    LAMBDA_TOR_RELAY = guardduty("UnauthorizedAccess:Lambda/TorRelay", 8.0);
}

/// Every type that an address or a server name can lead to.
pub(crate) const ADDRESS_TYPES: &[&FindingType] = &[
    &C2,
    &MINING,
    &CUSTOM_DNS,
    &PORT_PROBE_EMR,
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
    &LAMBDA_C2,
    &LAMBDA_MINING,
    &LAMBDA_BLACKHOLE,
    &LAMBDA_DROPPOINT,
    &LAMBDA_CUSTOM,
    &LAMBDA_TOR,
    &LAMBDA_TOR_RELAY,
];

/// What GuardDuty calls the same of a function, where it has a name for it.
pub(crate) fn of_function(kind: &FindingType) -> Option<&'static FindingType> {
    let twins: [(&FindingType, &'static FindingType); 7] = [
        (&C2, &LAMBDA_C2),
        (&MINING, &LAMBDA_MINING),
        (&BLACKHOLE, &LAMBDA_BLACKHOLE),
        (&DROPPOINT, &LAMBDA_DROPPOINT),
        (&CUSTOM, &LAMBDA_CUSTOM),
        (&TOR, &LAMBDA_TOR),
        (&TOR_RELAY, &LAMBDA_TOR_RELAY),
    ];
    let twin = twins.into_iter().find(|(one, _)| one.name == kind.name);
    twin.map(|(_, other)| other)
}

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
    /// Ports that stand for a cluster of EMR: the pages of YARN, HDFS, Spark's and MapReduce's history,
    /// Livy, Zeppelin and HBase (EMR's management guide, "Web interfaces"). Their probes are high and have
    /// a type of their own, as GuardDuty has it.
    pub probed_ports_emr: Vec<u16>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            severity_max: 3.0,
            tor_relay_ports: vec![9001, 9030],
            probed_ports_ignored: vec![80, 443],
            probed_ports_high: vec![9200, 9300],
            probed_ports_emr: vec![8042, 8088, 8890, 8998, 9870, 16010, 18080, 19888, 50070],
        }
    }
}

/// What meeting an entry of such a list in this way means; `None` where it means nothing.
pub(crate) fn verdict(standing: Standing, met: Met, callers: &Callers) -> Option<Verdict> {
    use Category as C;
    let category = standing.category;
    let covered = match met {
        Met::Answered { .. } => standing.direction.covers_inbound(),
        Met::Opened | Met::Asked | Met::Named | Met::Spoke => standing.direction.covers_outbound(),
    };
    if !covered {
        return None;
    }
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
            if callers.probed_ports_emr.contains(&port) {
                &PORT_PROBE_EMR
            } else {
                &PORT_PROBE
            }
        }
        // Who calls a scanner's address visits its web site.
        (C::Scanner, Met::Opened | Met::Named | Met::Spoke) => return None,
        (C::Custom, Met::Asked | Met::Named) => &CUSTOM_DNS,
        (C::Custom, _) => &CUSTOM,
    };
    let severity = match (category, met) {
        (C::Scanner, Met::Answered { port })
            if callers.probed_ports_high.contains(&port)
                || callers.probed_ports_emr.contains(&port) =>
        {
            8.0
        }
        (C::Tor, Met::Answered { port }) if callers.tor_relay_ports.contains(&port) => {
            kind.severity
        }
        (C::Custom, _) => kind.severity,
        (_, Met::Answered { .. }) => kind.severity.min(callers.severity_max),
        _ => kind.severity,
    };
    Some(Verdict {
        kind,
        severity: graded(severity, standing.confidence),
        what,
        mitre,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a list for both ways makes of it.
    fn of_category(category: Category, met: Met) -> Option<Verdict> {
        verdict(Standing::certain(category), met, &Callers::default())
    }

    #[test]
    fn a_list_counts_the_way_it_is_made_for() {
        let check = |direction, outbound: bool, inbound: bool| {
            let standing = Standing {
                direction,
                ..Standing::certain(Category::C2)
            };
            let counts = |met| verdict(standing, met, &Callers::default()).is_some();
            for met in [Met::Opened, Met::Asked, Met::Named, Met::Spoke] {
                assert_eq!(counts(met), outbound, "{direction} {met:?}");
            }
            let answered = counts(Met::Answered { port: 443 });
            assert_eq!(answered, inbound, "{direction}");
        };
        check(Direction::Both, true, true);
        check(Direction::Outbound, true, false);
        check(Direction::Inbound, false, true);
    }

    #[test]
    fn a_list_that_is_less_sure_makes_less_of_it() {
        let check = |category, met, confidence, severity| {
            let standing = Standing {
                confidence,
                ..Standing::certain(category)
            };
            let verdict = verdict(standing, met, &Callers::default());
            assert_eq!(verdict.map(|v| v.severity), Some(severity), "{confidence}");
        };
        check(Category::C2, Met::Opened, 100, 8.0);
        check(Category::C2, Met::Opened, 70, 8.0);
        check(Category::C2, Met::Opened, 69, 5.0);
        check(Category::C2, Met::Opened, 40, 5.0);
        check(Category::C2, Met::Opened, 39, 2.0);
        check(Category::C2, Met::Opened, 0, 2.0);
        check(Category::C2, Met::Answered { port: 443 }, 60, 3.0);
        check(Category::Custom, Met::Opened, 60, 5.0);
        check(Category::Mining, Met::Asked, 20, 2.0);
    }

    #[test]
    fn the_table_is_complete() {
        let check = |category, opened: Option<&str>, asked: Option<&str>, named: Option<&str>| {
            let name = |met| of_category(category, met).map(|v| v.kind.name);
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
            let got = of_category(category, Met::Answered { port });
            assert_eq!(got.map(|v| (v.kind.name, v.severity)), expected);
        };
        let probe = "Recon:EC2/PortProbeUnprotectedPort";
        check(Category::Scanner, 22, Some((probe, 2.0)));
        check(Category::Scanner, 9200, Some((probe, 8.0)));
        let emr = "Recon:EC2/PortProbeEMRUnprotectedPort";
        check(Category::Scanner, 8088, Some((emr, 8.0)));
        check(Category::Scanner, 8089, Some((probe, 2.0)));
        check(Category::Scanner, 80, None);
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
            Met::Answered { port: 8088 },
            Met::Named,
            Met::Asked,
        ];
        for category in Category::ALL {
            for met in mets {
                let types = match met {
                    Met::Asked => NAME_TYPES,
                    _ => ADDRESS_TYPES,
                };
                if let Some(verdict) = of_category(category, met) {
                    assert!(types.contains(&verdict.kind), "{category} {met:?}");
                }
            }
        }
    }
}
