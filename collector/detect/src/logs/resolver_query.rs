//! Route 53 Resolver query logs: one question of a VPC, typed.
//!
//! JSON, one object a line, fields as in the Route 53 developer guide, "Values that appear in VPC
//! Resolver query logs". Unknown members are passed over.

use std::net::IpAddr;

use serde::Deserialize;

use super::event_time;

/// Why a line is no question.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueryLogError {
    /// Not JSON, or a member of another type.
    #[error("column {column}: {why}")]
    NotJson {
        /// Column, from 1.
        column: usize,
        /// The parser's words.
        why: String,
    },
    /// A member without which nothing can be said is missing or unreadable.
    #[error("no readable {member}")]
    Lacks {
        /// Its name.
        member: &'static str,
    },
}

/// One question and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The account; empty if not told.
    pub account: String,
    /// The region; empty if not told.
    pub region: String,
    /// The VPC; empty if not told.
    pub vpc: String,
    /// The instance that asked, if one did.
    pub instance: Option<String>,
    /// The address it asked from.
    pub client: IpAddr,
    /// When, nanoseconds since the epoch.
    pub time_ns: u64,
    /// The name: lower case, no final dot.
    pub name: String,
    /// Type asked for (IANA number); 0 if not known by its mnemonic.
    pub qtype: u16,
    /// Response code (IANA number), if there was a response.
    pub rcode: Option<u16>,
    /// Answers: type (IANA number) and data.
    pub answers: Vec<(u16, String)>,
    /// Whether it was asked over TCP.
    pub is_tcp: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    account_id: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    vpc_id: String,
    query_timestamp: Option<String>,
    query_name: Option<String>,
    #[serde(default)]
    query_type: String,
    #[serde(default)]
    rcode: String,
    #[serde(default)]
    answers: Vec<Answer>,
    srcaddr: Option<String>,
    #[serde(default)]
    transport: String,
    #[serde(default)]
    srcids: Sources,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, rename = "Rdata", alias = "rdata")]
    data: String,
    #[serde(default, rename = "Type", alias = "type")]
    rtype: String,
}

#[derive(Deserialize, Default)]
struct Sources {
    instance: Option<String>,
}

impl Query {
    /// Parses a line.
    ///
    /// # Errors
    /// Every [`QueryLogError`].
    pub fn parse(json: &[u8]) -> Result<Self, QueryLogError> {
        let line: Line = serde_json::from_slice(json).map_err(|error| QueryLogError::NotJson {
            column: error.column(),
            why: error.to_string(),
        })?;
        let lacks = |member| QueryLogError::Lacks { member };
        let time = line.query_timestamp.as_deref().and_then(event_time::parse);
        let client = line.srcaddr.and_then(|text| text.parse::<IpAddr>().ok());
        let mut name = line.query_name.ok_or_else(|| lacks("query_name"))?;
        name.make_ascii_lowercase();
        if name.ends_with('.') {
            name.pop();
        }
        let answers = line.answers.into_iter().map(|one| {
            let rtype = code(TYPES, "TYPE", &one.rtype);
            (rtype.unwrap_or_default(), one.data)
        });
        Ok(Self {
            account: line.account_id,
            region: line.region,
            vpc: line.vpc_id,
            instance: line.srcids.instance.filter(|text| !text.is_empty()),
            client: client.ok_or_else(|| lacks("srcaddr"))?.to_canonical(),
            time_ns: time.ok_or_else(|| lacks("query_timestamp"))?,
            name,
            qtype: code(TYPES, "TYPE", &line.query_type).unwrap_or_default(),
            rcode: code(RCODES, "RCODE", &line.rcode),
            answers: answers.collect(),
            is_tcp: line.transport == "TCP",
        })
    }
}

/// Types that are asked for, IANA "Resource Record (RR) TYPEs".
const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("NULL", 10),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DS", 43),
    ("RRSIG", 46),
    ("DNSKEY", 48),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("ANY", 255),
    ("CAA", 257),
];

/// Response codes, IANA "DNS RCODEs".
const RCODES: &[(&str, u16)] = &[
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
];

/// The mnemonic of a type, `TYPE65280` style for those that have none here (RFC 3597).
pub(crate) fn type_name(number: u16) -> String {
    let known = TYPES.iter().find(|(_, code)| *code == number);
    known.map_or_else(|| format!("TYPE{number}"), |(name, _)| (*name).to_owned())
}

/// The number of a mnemonic, or that behind `prefix` (RFC 3597).
fn code(known: &[(&str, u16)], prefix: &str, text: &str) -> Option<u16> {
    let found = known.iter().find(|(name, _)| *name == text);
    let numbered = || text.strip_prefix(prefix)?.parse().ok();
    found.map(|(_, code)| *code).or_else(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"version":"1.100000","account_id":"111122223333","region":"eu-west-1","vpc_id":"vpc-0a",
        "query_timestamp":"2023-11-14T22:13:20Z","query_name":"C2.Example.COM.","query_type":"A","query_class":"IN",
        "rcode":"NOERROR","answers":[{"Rdata":"203.0.113.9","Type":"A","Class":"IN"}],"srcaddr":"10.0.0.5",
        "srcport":"49152","transport":"UDP","srcids":{"instance":"i-0abc","resolver_endpoint":"rslvr-in-0"}}"#;

    #[test]
    fn a_question_is_read() {
        let query = Query::parse(LINE.as_bytes()).unwrap();
        assert_eq!(
            (&*query.name, query.qtype, query.rcode),
            ("c2.example.com", 1, Some(0))
        );
        assert_eq!(
            (&*query.account, &*query.region, &*query.vpc),
            ("111122223333", "eu-west-1", "vpc-0a")
        );
        assert_eq!(
            (query.instance.as_deref(), query.is_tcp),
            (Some("i-0abc"), false)
        );
        assert_eq!(query.client.to_string(), "10.0.0.5");
        assert_eq!(query.time_ns, 1_700_000_000_000_000_000);
        assert_eq!(query.answers, [(1, "203.0.113.9".to_owned())]);
    }

    #[test]
    fn codes_are_read_by_name_and_number() {
        for (text, expected) in [
            ("TXT", Some(16)),
            ("TYPE65280", Some(65_280)),
            ("TYPE", None),
            ("", None),
        ] {
            assert_eq!(code(TYPES, "TYPE", text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, expected) in [
            ("\"srcaddr\":\"10.0.0.5\",", "", "no readable srcaddr"),
            ("10.0.0.5", "here", "no readable srcaddr"),
            (
                "2023-11-14T22:13:20Z",
                "today",
                "no readable query_timestamp",
            ),
            ("query_name", "name", "no readable query_name"),
        ] {
            let error = Query::parse(LINE.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = Query::parse(b"{\"query_name\":7}").unwrap_err().to_string();
        assert!(error.starts_with("column 15: invalid type"), "{error}");
        assert!(Query::parse(b"words").is_err());
    }
}
