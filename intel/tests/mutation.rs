//! Bytes changed, lost, doubled and cut anywhere in feeds of every format, in allow-lists and in
//! `feeds.toml`: nothing panics, and what was taken is what the set holds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use picket_intel::feeds_file::{FeedEntry, FormatName};
use picket_intel::format::{Column, FORMATS, Format};
use picket_intel::{Category, Feed, FeedsFile, SetBuilder};
use proptest::prelude::*;
use proptest::sample::Index;

/// A feed of each format, made up; `shape` tells those apart that one format reads.
const FEEDS: &[(&str, &str)] = &[
    (
        "adblock",
        "[Adblock Plus]\n! x\n||evil.example^\n||bad.example^$third-party\n@@||good.example^\n",
    ),
    (
        "alienvault",
        "192.0.2.1#4#2#Malicious Host#XA##1.5,2.5#3\nevil.example#9#2#x#XA#T#1,2#3\n",
    ),
    (
        "csv",
        "id,host,seen\n1,\"evil.example\",2026-01-01\n2,192.0.2.1,\n",
    ),
    (
        "feodo",
        "# \"first_seen_utc\",\"dst_ip\",\"dst_port\"\n\"2025-01-01 00:00:00\",\"192.0.2.1\",\"443\"\n",
    ),
    (
        "feodo",
        r#"[{"ip_address":"192.0.2.1","port":443,"last_online":"2025-12-30","malware":"x"}]"#,
    ),
    (
        "fireeye",
        "reportId, cidr, domain, networkIdentifier, ip, url\n1, 192.0.2.0/24, evil.example, x, 192.0.2.1, http://a.example/\n",
    ),
    (
        "firehol",
        "# Maintainer : x\n# Category : y\n# Entries : 2\n192.0.2.1\n198.51.100.0/24\n",
    ),
    (
        "hosts",
        "127.0.0.1 localhost\n0.0.0.0 evil.example bad.example # x\n",
    ),
    ("ipsum", "# IPsum\n192.0.2.1\t8\n192.0.2.2\t1\n"),
    (
        "maltrail",
        "# Maltrail developers\nevil.example\n192.0.2.1:4444\nhttp://192.0.2.2/x\nshared.example/y\n",
    ),
    (
        "misp",
        r#"{"Event":{"info":"x","Attribute":[{"type":"ip-dst|port","value":"192.0.2.1|80","to_ids":true},{"type":"domain","value":"evil.example","to_ids":"1"}]}}"#,
    ),
    (
        "otx",
        "Indicator type, Indicator, Description\nCIDR, 192.0.2.0/24, x\nDomain name, evil.example, \"a, b\"\n",
    ),
    (
        "plain",
        "# x\n192.0.2.1-192.0.2.9\n[2001:db8::1]:443\nhxxp://evil[.]example/\nb\u{fc}cher.example\n",
    ),
    (
        "proofpoint",
        "ip, category, score, first_seen, last_seen, ports (|)\n192.0.2.1, 1, 100, 2000-01-01, 2025-12-30, 80|443\n",
    ),
    (
        "rpz",
        "$TTL 1\n$ORIGIN rpz.example.\n@ SOA a b (1 2 3\n4 5)\nevil.example CNAME .\n48.zz.2.db8.2001.rpz-ip CNAME .\n",
    ),
    (
        "spamhaus",
        "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}\n{\"type\":\"metadata\",\"records\":1}\n",
    ),
    ("spamhaus", "; Spamhaus DROP\n192.0.2.0/24 ; SBL1\n"),
    (
        "stix1",
        "<?xml version=\"1.0\"?><stix:STIX_Package><a:Address_Value condition=\"InclusiveBetween\">192.0.2.0##comma##192.0.2.255</a:Address_Value><DomainNameObj:Value><![CDATA[evil.example]]></DomainNameObj:Value>&amp;</stix:STIX_Package>",
    ),
    (
        "stix2",
        r#"{"type":"bundle","objects":[{"type":"indicator","pattern":"[ipv4-addr:value = '192.0.2.1' OR domain-name:value IN ('a.example','b.example')]","valid_until":"2027-01-01T00:00:00Z","confidence":50}]}"#,
    ),
    (
        "threatfox",
        r#"{"1":[{"ioc_value":"192.0.2.1:443","ioc_type":"ip:port","confidence_level":100,"first_seen_utc":"2025-12-01 00:00:00"}]}"#,
    ),
    (
        "threatfox",
        "# \"first_seen_utc\",\"ioc_value\",\"ioc_type\"\n\"2025-12-01 00:00:00\", \"evil.example\", \"domain\"\n",
    ),
    (
        "tor",
        "ExitNode 00AA\nExitAddress 192.0.2.1 2025-12-30 02:03:04\n",
    ),
    (
        "urlhaus",
        "# id,dateadded,url,url_status\n\"1\",\"2025-12-30 00:00:00\",\"http://192.0.2.1:8080/x\",\"online\"\n",
    ),
    ("urlhaus", "# URLhaus\n127.0.0.1\tevil.example\n"),
    (
        "zeek",
        "#fields\tindicator\tindicator_type\n192.0.2.1\tIntel::ADDR\nevil.example\tIntel::DOMAIN\n",
    ),
];

const WARNINGLIST: &str = r#"{"description":"x","list":["192.0.2.0/24","good.example"],"matching_attributes":["ip-dst"],"name":"x","type":"cidr"}"#;

const FEEDS_FILE: &str = "[[feed]]\nname = 'a'\nfile = 'a.csv'\nformat = 'csv'\ncategory = 'c2'\ncsv = { column = 2 }\n[[allow]]\nfile = 'b'\n";

/// A change to some bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Remove(Index, Index),
    Insert(Index, u8, u8),
    Double(Index, Index),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), at()).prop_map(|(from, to)| Change::Remove(from, to)),
        (at(), any::<u8>(), 0..=255u8)
            .prop_map(|(at, byte, times)| Change::Insert(at, byte, times)),
        (at(), at()).prop_map(|(from, to)| Change::Double(from, to)),
        at().prop_map(Change::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let between = |from: &Index, to: &Index, len| {
        let (from, to) = (from.index(len), to.index(len));
        from.min(to)..from.max(to)
    };
    match change {
        Change::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Remove(from, to) => drop(bytes.drain(between(from, to, bytes.len()))),
        Change::Insert(at, byte, times) => {
            let at = at.index(bytes.len());
            let more = vec![*byte; usize::from(*times)];
            bytes.splice(at..at, more);
        }
        Change::Double(from, to) => {
            let part = bytes[between(from, to, bytes.len())].to_vec();
            let at = from.index(bytes.len());
            bytes.splice(at..at, part);
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
    }
}

fn feed(format: &str) -> Feed {
    let mut entry = FeedEntry::of("x");
    entry.format = Some(FormatName(Format::named(format).unwrap()));
    entry.category = Some(Category::C2);
    entry.confidence_min = 10;
    entry.expires_days = Some(3_000);
    entry.csv.column = Column::Name("host".to_owned());
    entry.csv.seen = Some(Column::Name("seen".to_owned()));
    Feed::of_entry(&entry, "x", b"").unwrap()
}

fn read(format: &str, bytes: &[u8]) -> usize {
    let mut builder = SetBuilder::at(1_767_225_600_000);
    let report = builder.read_feed(&feed(format), "x", bytes).unwrap();
    assert_eq!(builder.build().len(), report.taken);
    report.complaints();
    report.taken
}

/// Otherwise the mutations below would start from nothing.
#[test]
fn every_format_has_a_feed_that_is_read() {
    for format in FORMATS {
        assert!(
            FEEDS.iter().any(|(name, _)| *name == format.name),
            "{}",
            format.name
        );
    }
    for (format, text) in FEEDS {
        assert!(read(format, text.as_bytes()) > 0, "{format}: {text}");
    }
    assert!(FeedsFile::parse(FEEDS_FILE).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_feeds_are_read_or_refused(
        which in any::<Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let (format, text) = FEEDS[which.index(FEEDS.len())];
        let mut bytes = text.as_bytes().to_vec();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        read(format, &bytes);
        // And whatever it is recognised as now.
        let _ = SetBuilder::default().read_file("c2-x", &bytes);
    }

    #[test]
    fn changed_allow_lists_and_feeds_files_too(changes in prop::collection::vec(change(), 1..6)) {
        for text in [WARNINGLIST, FEEDS_FILE] {
            let mut bytes = text.as_bytes().to_vec();
            changes.iter().for_each(|change| apply(&mut bytes, change));
            SetBuilder::default().read_allow("x", None, "x", &bytes).unwrap();
            let _ = FeedsFile::parse(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        for format in FORMATS {
            read(format.name, &bytes);
        }
    }
}
