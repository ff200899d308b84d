//! STIX 2: a bundle, or the envelope in which TAXII 2.1 carries the same objects. Indicators count,
//! unless revoked or past `valid_until`; their patterns are read by `stix2/pattern.rs`.

mod pattern;

use std::borrow::Cow;

use serde::Deserialize;

use super::json::{self, Shape};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::date;
use crate::report::Place;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "stix2",
    usual: Usual::of(Category::Custom),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    let spaceless = || head.text.replace(char::is_whitespace, "");
    head.is_json()
        && (spaceless().contains("\"type\":\"bundle\"")
            || (head.has("\"objects\"") && head.has("\"spec_version\"")))
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(rename = "type", borrow)]
    sort: Cow<'a, str>,
    #[serde(default, borrow)]
    pattern: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pattern_type: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    valid_until: Option<Cow<'a, str>>,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    confidence: Option<u8>,
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let shape = Shape {
        inside: &[],
        records: &["objects"],
        bare: false,
    };
    json::each_record(bytes, &shape, sink, &mut object)
}

fn object(sink: &mut Sink<'_>, at: Place, text: &str) -> Result<(), SetError> {
    let Some(object) = json::record::<Object<'_>>(sink, at, text) else {
        return Ok(());
    };
    if object.sort != "indicator" {
        return Ok(());
    }
    let Some(pattern) = object.pattern else {
        sink.refuse(at, "an indicator without a pattern");
        return Ok(());
    };
    if object.pattern_type.is_some_and(|sort| sort != "stix") {
        sink.pass_over(at, || format!("{pattern:?} is no STIX pattern"));
        return Ok(());
    }
    if object.revoked {
        sink.over(at, || format!("{pattern:?} is revoked"));
        return Ok(());
    }
    let ends_ms = object.valid_until.as_deref().and_then(date::read_ms);
    let clues = match pattern::read(&pattern) {
        Ok(clues) => clues,
        Err(why) => {
            sink.refuse(at, format!("{pattern:?}: {why}"));
            return Ok(());
        }
    };
    for clue in clues {
        let entry = Entry::from(clue).sure(object.confidence);
        sink.put(at, entry.until(ends_ms))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::SetBuilder;
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    fn indicator(pattern: &str, more: &str) -> String {
        format!(
            r#"{{"type":"indicator","spec_version":"2.1","id":"indicator--1","pattern_type":"stix","pattern":"{pattern}"{more}}}"#
        )
    }

    fn bundle(objects: &[String]) -> String {
        format!(
            r#"{{"type": "bundle", "id": "bundle--1", "objects": [{}]}}"#,
            objects.join(",")
        )
    }

    #[test]
    fn indicators_of_a_bundle() {
        let text = bundle(&[
            r#"{"type":"identity","id":"identity--1","name":"x"}"#.into(),
            indicator("[ipv4-addr:value = '192.0.2.1']", r#","confidence":80"#),
            indicator(
                "[domain-name:value = 'evil.example']",
                r#","valid_until":"2026-06-01T00:00:00Z""#,
            ),
            indicator(
                "[domain-name:value = 'old.example']",
                r#","valid_until":"2025-06-01T00:00:00.000Z""#,
            ),
            indicator("[domain-name:value = 'gone.example']", r#","revoked":true"#),
            indicator("[url:value = 'http://shared.example/x']", ""),
            indicator("[file:hashes.MD5 = '00ff']", ""),
            indicator("[domain-name:value = 'no host']", ""),
            indicator("[domain-name:value LIKE '%.example']", ""),
            r#"{"type":"indicator","pattern_type":"yara","pattern":"rule x {}"}"#.into(),
            r#"{"type":"indicator"}"#.into(),
            r#"{"type":7}"#.into(),
        ]);
        assert_eq!(recognised(&text), Some("stix2"));
        let others = [
            (Reason::Expired, 2),
            (Reason::NotAHost, 1),
            (Reason::OfNoUse, 2),
            (Reason::Refused, 4),
        ];
        check("stix2", &text, "192.0.2.1 evil.example", &others);
        let sure = Feed {
            confidence_min: 90,
            ..feed("stix2")
        };
        let left_out = [&others[..], &[(Reason::BelowConfidence, 1)]].concat();
        check_feed(&sure, &text, "evil.example", &left_out);
    }

    #[test]
    fn the_set_knows_when_its_first_entry_ends() {
        let end = |date: &str| format!(r#","valid_until":"{date}T00:00:00Z""#);
        let text = bundle(&[
            indicator("[domain-name:value = 'a.example']", &end("1970-01-03")),
            indicator("[domain-name:value = 'b.example']", &end("1970-01-02")),
            indicator("[domain-name:value = 'c.example']", ""),
        ]);
        const DAY_MS: u64 = 86_400_000;
        for (now, taken, next) in [
            (0, 3, Some(DAY_MS)),
            (DAY_MS, 2, Some(2 * DAY_MS)),
            (2 * DAY_MS, 1, None),
        ] {
            let mut builder = SetBuilder::at(now);
            let report = builder.read_feed(&feed("stix2"), "x", text.as_bytes());
            assert_eq!(report.unwrap().taken, taken);
            assert_eq!(builder.build().next_expiry_ms(), next);
        }
    }

    #[test]
    fn an_envelope_of_taxii() {
        let object = indicator("[ipv6-addr:value = '2001:db8::1']", "");
        let text = format!(r#"{{"more":true,"next":"2","objects":[{object}]}}"#);
        assert_eq!(recognised(&text), Some("stix2"));
        check("stix2", &text, "2001:db8::1", &[]);
    }
}
