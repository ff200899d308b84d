//! MISP events, as a feed publishes them (one file per event) or a server exports them: attributes
//! of the event and of its objects. Only those marked `to_ids` are meant for detection; some publish
//! without marking any, and the feed's key `to_ids = false` takes all. Of a pair of
//! domain and address the domain counts: the address is where it pointed once, often to a host that
//! many share.

use serde::Deserialize;

use super::json::{self, Shape};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue::{self, Clue};
use crate::date;
use crate::indicator::IndicatorError;
use crate::report::Place;
use crate::set::SetError;
use crate::sink::{Entry, Sink};

pub(super) const FORMAT: Format = Format {
    name: "misp",
    usual: Usual::of(Category::C2),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    head.is_json() && head.has("\"Event\"") && (head.has("\"info\"") || head.has("\"Attribute\""))
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(rename = "type")]
    sort: std::borrow::Cow<'a, str>,
    value: std::borrow::Cow<'a, str>,
    #[serde(default)]
    to_ids: Flag,
    #[serde(default)]
    deleted: Flag,
    #[serde(default)]
    last_seen: Option<std::borrow::Cow<'a, str>>,
}

/// A truth value as MISP writes it: true, "1" or 1.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(u8),
    Text(String),
    #[default]
    Unset,
}

impl Flag {
    fn is_set(&self) -> bool {
        match self {
            Self::Bool(set) => *set,
            Self::Number(number) => *number != 0,
            Self::Text(text) => matches!(&**text, "1" | "true"),
            Self::Unset => false,
        }
    }
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let shape = Shape {
        inside: &["response", "Event", "Object"],
        records: &["Attribute"],
        bare: false,
    };
    json::each_record(bytes, &shape, sink, &mut attribute)
}

fn attribute(sink: &mut Sink<'_>, at: Place, text: &str) -> Result<(), SetError> {
    // Whole hashes of files are of no use, and most attributes are such.
    let Some(attribute) = json::record::<Attribute<'_>>(sink, at, text) else {
        return Ok(());
    };
    let (sort, value) = (&*attribute.sort, &*attribute.value);
    let marked = attribute.to_ids.is_set() || !sink.feed().to_ids;
    if !marked || attribute.deleted.is_set() {
        sink.pass_over(at, || format!("{value:?} is not meant for detection"));
        return Ok(());
    }
    let seen = attribute.last_seen.as_deref().and_then(date::read_ms);
    sink.put(at, Entry::from(clue_of(sort, value)).seen(seen))
}

/// What an attribute of this type names.
fn clue_of(sort: &str, value: &str) -> Clue {
    let pair = || value.split_once(['|', ':']);
    match sort {
        "ip-dst" | "ip-src" => clue::addresses(value),
        "domain" | "hostname" => clue::domain(value),
        "domain|ip" => clue::domain(pair().map_or(value, |(domain, _)| domain)),
        "ip-dst|port" | "ip-src|port" | "hostname|port" => {
            let split = value.rsplit_once(['|', ':']);
            match split.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
                Some((host, port)) => clue::host_port(host, port),
                None => clue::host(value),
            }
        }
        "url" | "uri" | "link" => clue::any(value),
        _ => Err(IndicatorError::OfNoUse(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    #[test]
    fn attributes_meant_for_detection() {
        let text = r#"{"response":[{"Event":{"info":"x","Attribute":[
            {"type":"ip-dst","value":"192.0.2.1","to_ids":true},
            {"type":"ip-dst|port","value":"192.0.2.2|4444","to_ids":"1"},
            {"type":"domain","value":"evil[.]example","to_ids":1},
            {"type":"domain|ip","value":"bad.example|192.0.2.3","to_ids":true},
            {"type":"hostname|port","value":"worse.example|80","to_ids":true},
            {"type":"domain","value":"seen.example","to_ids":false},
            {"type":"domain","value":"gone.example","to_ids":true,"deleted":true},
            {"type":"domain","value":"untold.example"},
            {"type":"md5","value":"00ff","to_ids":true},
            {"type":"url","value":"http://shared.example/x","to_ids":true},
            {"type":"domain","value":"no host","to_ids":true},
            {"type":"domain","value":12,"to_ids":true},
            "nonsense"],
          "Object":[{"name":"o","Attribute":[
            {"type":"url","value":"https://inside.example/","to_ids":true}]}]}}]}"#;
        assert_eq!(recognised(text), Some("misp"));
        let expected =
            "192.0.2.1 192.0.2.2:4444 bad.example evil.example inside.example worse.example";
        let left_out = [
            (Reason::OfNoUse, 4),
            (Reason::NotAHost, 1),
            (Reason::Refused, 3),
        ];
        check("misp", text, expected, &left_out);
    }

    #[test]
    fn a_feed_that_marks_none() {
        let all = Feed {
            to_ids: false,
            ..feed("misp")
        };
        let text = r#"{"Event":{"info":"x","Attribute":[
            {"type":"domain","value":"evil.example","to_ids":false},
            {"type":"domain","value":"gone.example","to_ids":false,"deleted":true}]}}"#;
        check_feed(&all, text, "evil.example", &[(Reason::OfNoUse, 1)]);
        check("misp", text, "", &[(Reason::OfNoUse, 2)]);
    }

    #[test]
    fn one_event_of_a_feed() {
        let text = r#"{"Event":{"uuid":"u","info":"x","Attribute":[{"type":"domain","value":"evil.example","to_ids":true}]}}"#;
        assert_eq!(recognised(text), Some("misp"));
        check("misp", text, "evil.example", &[]);
    }
}
