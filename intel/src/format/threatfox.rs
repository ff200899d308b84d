//! ThreatFox of abuse.ch: its export (an object of arrays by id), its API's answer (`data`), and its
//! CSV, whose header stands in a comment. Entries carry their confidence and when they were seen.

use serde::Deserialize;

use super::json::{self, Shape};
use super::lines::{Columns, each_row, field, fields};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue::{self, Clue};
use crate::date;
use crate::indicator::IndicatorError;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "threatfox",
    usual: Usual::of(Category::C2),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    head.has("\"ioc_type\"") || (head.has("ioc_type") && head.has("ioc_value"))
}

#[derive(Deserialize)]
struct Record<'a> {
    /// The name in the export, and in the API's answers.
    #[serde(alias = "ioc")]
    ioc_value: std::borrow::Cow<'a, str>,
    ioc_type: &'a str,
    #[serde(default)]
    confidence_level: Option<u8>,
    #[serde(default, alias = "first_seen")]
    first_seen_utc: Option<&'a str>,
    #[serde(default, alias = "last_seen")]
    last_seen_utc: Option<&'a str>,
}

/// What an entry of this type names.
fn clue_of(sort: &str, text: &str) -> Clue {
    match sort {
        "ip:port" => clue::addresses(text),
        "domain" => clue::domain(text),
        "url" => clue::any(text),
        _ => Err(IndicatorError::OfNoUse(text.to_owned())),
    }
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    if Head::of(bytes).is_json() {
        let shape = Shape {
            inside: &[],
            records: &["*"],
            bare: true,
        };
        return json::each_record(bytes, &shape, sink, &mut |sink, at, text| {
            let Some(record) = json::record::<Record<'_>>(sink, at, text) else {
                return Ok(());
            };
            let seen = record.last_seen_utc.or(record.first_seen_utc);
            let entry = Entry::from(clue_of(record.ioc_type, &record.ioc_value))
                .sure(record.confidence_level)
                .seen(seen.and_then(date::read_ms));
            sink.put(at, entry)
        });
    }
    let mut header: Option<Columns> = None;
    each_row(bytes, sink, |sink, at, line| {
        if line.contains("ioc_value") && line.contains("ioc_type") {
            header = Columns::of(line.trim_start_matches(['#', ' ']), ',');
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        let row = fields(line, ',').unwrap_or_default();
        let find = |names: &[&str]| field(&row, header.as_ref()?.find(names));
        let (Some(text), Some(sort)) = (find(&["ioc_value"]), find(&["ioc_type"])) else {
            sink.refuse(
                at,
                "no ioc_value and ioc_type, or no header that names them",
            );
            return Ok(());
        };
        let seen = find(&["last_seen_utc"]).or(find(&["first_seen_utc"]));
        let entry = Entry::from(clue_of(sort, text))
            .sure(find(&["confidence_level"]).and_then(|sure| sure.parse().ok()))
            .seen(seen.and_then(date::read_ms));
        sink.put(at, entry)
    })
}

#[cfg(test)]
mod tests {
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    const EXPORT: &str = r#"{
        "1": [{"ioc_value":"192.0.2.1:443","ioc_type":"ip:port","threat_type":"botnet_cc","malware":"x",
               "first_seen_utc":"2025-12-01 00:00:00","last_seen_utc":null,"confidence_level":100,"tags":"a,b"}],
        "2": [{"ioc_value":"evil.example","ioc_type":"domain","confidence_level":25,"first_seen_utc":"2025-01-01 00:00:00"}],
        "3": [{"ioc_value":"http://shared.example/x","ioc_type":"url","confidence_level":75}],
        "4": [{"ioc_value":"00ff","ioc_type":"md5_hash","confidence_level":75}],
        "5": [{"ioc_value":7,"ioc_type":"domain"}],
        "6": [{"ioc_value":"192.0.2.2:99999","ioc_type":"ip:port"}]
    }"#;

    #[test]
    fn the_export() {
        assert_eq!(recognised(EXPORT), Some("threatfox"));
        let others = [
            (Reason::NotAHost, 1),
            (Reason::OfNoUse, 1),
            (Reason::Refused, 2),
        ];
        check("threatfox", EXPORT, "192.0.2.1:443 evil.example", &others);
        let sure = Feed {
            confidence_min: 50,
            ..feed("threatfox")
        };
        let left_out = [&others[..], &[(Reason::BelowConfidence, 1)]].concat();
        check_feed(&sure, EXPORT, "192.0.2.1:443", &left_out);
        let fresh = Feed {
            expires_days: Some(180),
            ..feed("threatfox")
        };
        let left_out = [&others[..], &[(Reason::Expired, 1)]].concat();
        check_feed(&fresh, EXPORT, "192.0.2.1:443", &left_out);
    }

    #[test]
    fn the_answer_and_the_table() {
        let answer = r#"{"query_status":"ok","data":[
            {"id":"1","ioc":"192.0.2.1:443","ioc_type":"ip:port","first_seen":"2025-12-01 00:00:00 UTC","confidence_level":100},
            {"id":"2"}]}"#;
        assert_eq!(recognised(answer), Some("threatfox"));
        check(
            "threatfox",
            answer,
            "192.0.2.1:443",
            &[(Reason::Refused, 1)],
        );
        let table = "# ThreatFox\n# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"confidence_level\"\n\
                     \"2025-12-01 00:00:00\", \"1\", \"192.0.2.1:443\", \"ip:port\", \"100\"\n\
                     \"2025-12-01 00:00:00\", \"2\", \"evil.example\", \"domain\", \"100\"\n\
                     \"2025-12-01 00:00:00\", \"3\", \"no host\", \"domain\", \"100\"\n\"cut\n";
        assert_eq!(recognised(table), Some("threatfox"));
        check(
            "threatfox",
            table,
            "192.0.2.1:443 evil.example",
            &[(Reason::Refused, 2)],
        );
    }

    #[test]
    fn a_document_cut_short_gives_what_stood_before() {
        let cut = EXPORT.split("\"3\"").next().unwrap();
        let mut builder = crate::SetBuilder::default();
        let report = builder
            .read_feed(&feed("threatfox"), "x", cut.as_bytes())
            .unwrap();
        assert_eq!((report.taken, report.broken.is_some()), (2, true));
    }
}
