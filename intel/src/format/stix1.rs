//! STIX 1.2, one of GuardDuty's six: XML with CybOX objects. What counts is the text of
//! `Address_Value`, of a domain's `Value` and of a URI's `Value`, whatever the prefixes of their
//! names. A value may be a list or, with `condition="InclusiveBetween"`, a range, its parts put
//! apart by `##comma##` (or a plain comma, as old packages have it).
//!
//! No entity but the five of XML is known, so that none can grow; depth is bounded.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue;
use crate::date;
use crate::limits::{ROW_BYTES_MAX, XML_DEPTH_MAX};
use crate::report::Place;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "stix1",
    usual: Usual::of(Category::Custom),
    recognise: |head: &Head<'_>| {
        head.text.trim_start().starts_with('<') && head.has("STIX_Package")
    },
    read,
};

/// What an element's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Address,
    Range,
    Domain,
    Uri,
    /// When the indicator that it is in ends.
    End,
}

/// An element whose text counts.
struct Value {
    sort: Sort,
    depth: usize,
    at: usize,
    text: String,
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            sink.broke_off(Place::Byte(error.valid_up_to()), "not UTF-8");
            return Ok(());
        }
    };
    let mut reader = Reader::from_str(text);
    let (mut depth, mut value) = (0, None::<Value>);
    // The end of the indicator that is read; CybOX may also stand outside of any.
    let mut ends_ms = None;
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                sink.broke_off(Place::Byte(at), error.to_string());
                return Ok(());
            }
        };
        match event {
            Event::Start(element) => {
                depth += 1;
                if depth > XML_DEPTH_MAX {
                    sink.broke_off(
                        Place::Byte(at),
                        format!("deeper than {XML_DEPTH_MAX} levels"),
                    );
                    return Ok(());
                }
                if local(&element) == "Indicator" {
                    ends_ms = None;
                }
                if let Some(sort) = sort_of(&element).filter(|_| value.is_none()) {
                    let text = String::new();
                    value = Some(Value {
                        sort,
                        depth,
                        at,
                        text,
                    });
                }
            }
            Event::End(_) => {
                if let Some(whole) = value.take_if(|value| value.depth == depth) {
                    if whole.sort == Sort::End {
                        ends_ms = date::read_ms(&whole.text);
                    } else {
                        put(sink, &whole, ends_ms)?;
                    }
                }
                depth = depth.saturating_sub(1);
            }
            Event::Text(part) => add(&mut value, &part),
            Event::CData(part) => add(&mut value, &part),
            // `&amp;` and its like; no entity can stand for more than that.
            Event::GeneralRef(reference) => {
                let one = match &*reference {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "apos" => "'",
                    "quot" => "\"",
                    // Cannot stand in a host's name, and keeps it from being read as another.
                    _ => "&?;",
                };
                add(&mut value, one);
            }
            Event::Eof => {
                if depth > 0 {
                    sink.broke_off(Place::Byte(at), format!("ends inside {depth} elements"));
                }
                return Ok(());
            }
            _ => {}
        }
    }
}

fn local<'e>(element: &'e BytesStart<'_>) -> &'e str {
    let name = element.name().into_inner();
    name.rsplit(':').next().unwrap_or(name)
}

fn prefix<'e>(element: &'e BytesStart<'_>) -> &'e str {
    let name = element.name().into_inner();
    name.split(':').next().unwrap_or(name)
}

fn sort_of(element: &BytesStart<'_>) -> Option<Sort> {
    let between = || {
        let condition = element.try_get_attribute("condition");
        condition.is_ok_and(|c| c.is_some_and(|c| &*c.value == "InclusiveBetween"))
    };
    match local(element) {
        "Address_Value" if between() => Some(Sort::Range),
        "Address_Value" => Some(Sort::Address),
        "Value" if prefix(element).starts_with("Domain") => Some(Sort::Domain),
        "Value" if prefix(element).starts_with("URI") => Some(Sort::Uri),
        "End_Time" => Some(Sort::End),
        _ => None,
    }
}

/// Adds to a value's text, up to as much as any may have.
fn add(value: &mut Option<Value>, part: &str) {
    let Some(value) = value else { return };
    if value.text.len() + part.len() <= ROW_BYTES_MAX {
        value.text.push_str(part);
    }
}

fn put(sink: &mut Sink<'_>, value: &Value, ends_ms: Option<u64>) -> Result<(), SetError> {
    let at = Place::Byte(value.at);
    let mut give = |clue| sink.put(at, Entry::from(clue).until(ends_ms));
    let text = value.text.replace("##comma##", ",");
    if value.sort == Sort::Range {
        let (from, to) = text.split_once(',').unwrap_or((&text, ""));
        return give(clue::between(from.trim(), to.trim()));
    }
    for part in text.split(',') {
        give(match value.sort {
            Sort::Domain => clue::domain(part),
            Sort::Uri => clue::any(part),
            _ => clue::addresses(part),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::SetBuilder;
    use crate::format::testing::{check, feed, recognised};
    use crate::report::Reason;

    fn package(inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<stix:STIX_Package xmlns:stix=\"http://stix.mitre.org/stix-1\" version=\"1.2\">\
             <stix:Observables>{inside}</stix:Observables></stix:STIX_Package>"
        )
    }

    fn address(attributes: &str, text: &str) -> String {
        format!(
            "<cybox:Observable><cybox:Object><cybox:Properties category=\"ipv4-addr\">\
             <AddressObject:Address_Value{attributes}>{text}</AddressObject:Address_Value>\
             </cybox:Properties></cybox:Object></cybox:Observable>"
        )
    }

    #[test]
    fn addresses_ranges_and_names() {
        let between = " condition=\"InclusiveBetween\"";
        let inside = [
            address(between, "192.0.2.0##comma##192.0.2.255"),
            address(between, "198.51.100.0,198.51.100.3"),
            address("", "203.0.113.1"),
            address(
                " apply_condition=\"ANY\"",
                "203.0.113.2##comma##203.0.113.3",
            ),
            "<DomainNameObj:Value>Evil.example</DomainNameObj:Value>".into(),
            "<URIObj:Value><![CDATA[http://bad.example/]]></URIObj:Value>".into(),
            "<URIObj:Value>http://shared.example/?a=1&amp;b=2</URIObj:Value>".into(),
            "<FileObj:Value>00ff</FileObj:Value>".into(),
            address("", "203.0.113.300"),
            address(between, "192.0.2.0"),
            address("", "203.0.113.&lol;4"),
            "<DomainNameObj:Value/>".into(),
        ];
        let text = package(&inside.concat());
        assert_eq!(recognised(&text), Some("stix1"));
        let expected = "192.0.2.0/24 198.51.100.0/30 203.0.113.1 203.0.113.2 203.0.113.3 bad.example evil.example";
        check(
            "stix1",
            &text,
            expected,
            &[(Reason::NotAHost, 1), (Reason::Refused, 3)],
        );
    }

    #[test]
    fn an_indicator_ends_when_it_says() {
        let indicator = |end: &str, value: &str| {
            format!(
                "<stix:Indicator><indicator:Valid_Time_Position><indicator:End_Time>{end}</indicator:End_Time>\
                 </indicator:Valid_Time_Position>{}</stix:Indicator>",
                address("", value)
            )
        };
        let text = package(
            &[
                indicator("2025-06-01T00:00:00Z", "192.0.2.1"),
                indicator("2026-06-01T00:00:00Z", "192.0.2.2"),
            ]
            .concat(),
        );
        check("stix1", &text, "192.0.2.2", &[(Reason::Expired, 1)]);
    }

    #[test]
    fn hostile_documents_break_off() {
        let check = |text: &str, taken: usize, why: &str| {
            let mut builder = SetBuilder::default();
            let report = builder
                .read_feed(&feed("stix1"), "x", text.as_bytes())
                .unwrap();
            assert_eq!(report.taken, taken);
            let broken = report.broken.expect("broken").1;
            assert!(broken.contains(why), "{broken}");
        };
        check(&"<a>".repeat(100_000), 0, "deeper");
        check(
            &package(&address("", "192.0.2.1")).replace("</stix:STIX", "</x:STIX"),
            1,
            "",
        );
        check("<STIX_Package><Address_Value>192.0.2.1", 0, "ends inside");
    }

    #[test]
    fn entities_do_not_grow() {
        let text = package(&address("", "&a;&a;")).replacen(
            "<stix:",
            "<!DOCTYPE x [<!ENTITY a \"192.0.2.1\"><!ENTITY b \"&a;&a;&a;\">]><stix:",
            1,
        );
        check("stix1", &text, "", &[(Reason::Refused, 1)]);
    }
}
