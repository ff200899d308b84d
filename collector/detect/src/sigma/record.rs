//! How rules look at an event: its fields by dotted path, whatever it is.

use serde_json::Value;

use crate::logs::cloudtrail::ApiCall;
use crate::logs::identity::IdentityKind;

/// A field that is at hand without parsing the event again: what rules are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quick {
    /// `eventName`.
    EventName,
    /// `errorCode`.
    ErrorCode,
    /// `userIdentity.type`.
    UserType,
    /// `eventType`.
    EventType,
    /// `eventSource`.
    EventSource,
    /// `userIdentity.arn`.
    UserArn,
    /// `userAgent`.
    UserAgent,
    /// `sourceIPAddress`.
    SourceIp,
    /// `errorMessage`.
    ErrorMessage,
    /// `awsRegion`.
    Region,
    /// `userIdentity.sessionContext.sessionIssuer.type`.
    IssuerType,
    /// `userIdentity.sessionContext.sessionIssuer.arn`.
    IssuerArn,
}

impl Quick {
    /// Every one that a rule may be found by: the one that tells most apart first.
    pub(super) const KEYS: [Self; 5] = [
        Self::EventName,
        Self::ErrorCode,
        Self::UserType,
        Self::EventType,
        Self::EventSource,
    ];

    /// The one whose path is `path`.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "eventName" => Self::EventName,
            "errorCode" => Self::ErrorCode,
            "userIdentity.type" => Self::UserType,
            "eventType" => Self::EventType,
            "eventSource" => Self::EventSource,
            "userIdentity.arn" => Self::UserArn,
            "userAgent" => Self::UserAgent,
            "sourceIPAddress" => Self::SourceIp,
            "errorMessage" => Self::ErrorMessage,
            "awsRegion" => Self::Region,
            "userIdentity.sessionContext.sessionIssuer.type" => Self::IssuerType,
            "userIdentity.sessionContext.sessionIssuer.arn" => Self::IssuerArn,
            _ => return None,
        })
    }
}

/// An event that rules can be asked about.
pub trait Record {
    /// The text of a field that is at hand; `None` if it is absent, null, empty or no text.
    fn quick(&self, field: Quick) -> Option<&str>;

    /// The member `name` of the event, for its fields.
    fn member(&self, name: &str) -> Option<&Value>;

    /// The event itself: for keywords, for names with dots and for whether a field is there.
    fn whole(&self) -> &Value;
}

impl Record for ApiCall {
    fn quick(&self, field: Quick) -> Option<&str> {
        match field {
            Quick::EventName => Some(&*self.event_name).filter(|text| !text.is_empty()),
            Quick::EventSource => Some(&*self.event_source).filter(|text| !text.is_empty()),
            Quick::ErrorCode => self.error_code.as_deref(),
            Quick::UserType => kind(&self.identity.kind),
            Quick::IssuerType => kind(&self.identity.session_issuer.as_ref()?.kind),
            Quick::IssuerArn => self.identity.session_issuer.as_ref()?.arn.as_deref(),
            Quick::EventType => self.event_type.as_deref(),
            Quick::UserArn => self.identity.arn.as_deref(),
            Quick::UserAgent => self.user_agent.as_deref(),
            Quick::SourceIp => self.source_ip.as_deref(),
            Quick::ErrorMessage => self.error_message.as_deref(),
            Quick::Region => self.region.as_deref(),
        }
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.field(name)
    }

    fn whole(&self) -> &Value {
        &self.record
    }
}

/// The word for a kind of identity that is known.
fn kind(kind: &IdentityKind) -> Option<&str> {
    match kind {
        IdentityKind::Unknown => None,
        kind => Some(kind.as_str()),
    }
}

/// For trying rules out on events that are no calls.
impl Record for Value {
    fn quick(&self, field: Quick) -> Option<&str> {
        let path = match field {
            Quick::EventName => "/eventName",
            Quick::ErrorCode => "/errorCode",
            Quick::UserType => "/userIdentity/type",
            Quick::EventType => "/eventType",
            Quick::EventSource => "/eventSource",
            Quick::UserArn => "/userIdentity/arn",
            Quick::UserAgent => "/userAgent",
            Quick::SourceIp => "/sourceIPAddress",
            Quick::ErrorMessage => "/errorMessage",
            Quick::Region => "/awsRegion",
            Quick::IssuerType => "/userIdentity/sessionContext/sessionIssuer/type",
            Quick::IssuerArn => "/userIdentity/sessionContext/sessionIssuer/arn",
        };
        let text = self.pointer(path)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.get(name)
    }

    fn whole(&self) -> &Value {
        self
    }
}

/// The path of a field, cut for the look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) text: String,
    pub(super) quick: Option<Quick>,
}

impl Path {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            quick: Quick::of(text),
        }
    }

    /// Shows every value of the field until `take` says that it has seen enough; says whether it
    /// did. Every element of a list is one.
    pub(super) fn values(&self, record: &dyn Record, take: &mut dyn FnMut(&Value) -> bool) -> bool {
        let (top, rest) = match self.text.split_once('.') {
            Some((top, rest)) => (top, rest),
            None => (&*self.text, ""),
        };
        match record.member(top) {
            Some(member) if rest.is_empty() => each(member, take),
            Some(member) if below(member, rest, take) => true,
            // A name with a dot in it.
            _ if !rest.is_empty() => match record.whole() {
                Value::Object(members) => dotted(members, &self.text, true, take),
                _ => false,
            },
            _ => false,
        }
    }

    /// Says whether the field is there, null included.
    pub(super) fn is_there(&self, record: &dyn Record) -> bool {
        is_below(record.whole(), &self.text) || self.values(record, &mut |_| true)
    }
}

/// Says whether a path leads to something.
fn is_below(value: &Value, path: &str) -> bool {
    match value {
        Value::Object(members) => {
            members.contains_key(path)
                || path.match_indices('.').any(|(at, _)| {
                    let member = members.get(&path[..at]);
                    member.is_some_and(|member| is_below(member, &path[at + 1..]))
                })
        }
        Value::Array(items) => items.iter().any(|item| is_below(item, path)),
        _ => false,
    }
}

/// What stands at `path` below a value.
fn below(value: &Value, path: &str, take: &mut dyn FnMut(&Value) -> bool) -> bool {
    match value {
        Value::Object(members) => {
            if let Some(member) = members.get(path)
                && each(member, take)
            {
                return true;
            }
            dotted(members, path, false, take)
        }
        Value::Array(items) => items.iter().any(|item| below(item, path, take)),
        _ => false,
    }
}

/// What stands at `path` below an object: each dot may end a name or be part of one. With
/// `joined_only`, the first one is part of one.
fn dotted(
    members: &serde_json::Map<String, Value>,
    path: &str,
    joined_only: bool,
    take: &mut dyn FnMut(&Value) -> bool,
) -> bool {
    if joined_only
        && let Some(member) = members.get(path)
        && each(member, take)
    {
        return true;
    }
    let dots = path.match_indices('.').skip(usize::from(joined_only));
    for (at, _) in dots {
        if let Some(member) = members.get(&path[..at])
            && below(member, &path[at + 1..], take)
        {
            return true;
        }
    }
    false
}

fn each(value: &Value, take: &mut dyn FnMut(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| each(item, take)),
        other => take(other),
    }
}

/// Shows every text, number and truth in an event until `take` says that it has seen enough.
pub(super) fn leaves(value: &Value, take: &mut dyn FnMut(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| leaves(item, take)),
        Value::Object(members) => members.values().any(|member| leaves(member, take)),
        Value::Null => false,
        leaf => take(leaf),
    }
}

/// A value as text, written into `room` where it is none: an object as its JSON without white space,
/// text in it as it is, so that a policy in there reads as a policy. Null has none.
pub(super) fn text_of<'a>(value: &'a Value, room: &'a mut String) -> Option<&'a str> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => {
            room.clear();
            write(other, room);
            Some(room)
        }
    }
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push('"');
                out.push_str(name);
                out.push_str("\":");
                write(member, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(event: &Value, path: &str, expected: &[&str]) {
        let mut found = Vec::new();
        Path::new(path).values(event, &mut |value| {
            let mut room = String::new();
            found.push(text_of(value, &mut room).unwrap_or("null").to_owned());
            false
        });
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn fields_by_their_path() {
        let event = json!({
            "a": "1", "b": {"c": {"d": 2}}, "n": null, "t": true,
            "list": [{"x": "p"}, {"x": ["q", "r"]}, {"y": "s"}, "z"],
            "dotted.name": "v", "deep": {"e.f": {"g": "w"}}, "empty": [],
        });
        check(&event, "a", &["1"]);
        check(&event, "b.c.d", &["2"]);
        check(&event, "b.c", &[r#"{"d":2}"#]);
        check(&event, "n", &["null"]);
        check(&event, "t", &["true"]);
        check(&event, "list.x", &["p", "q", "r"]);
        check(&event, "dotted.name", &["v"]);
        check(&event, "deep.e.f.g", &["w"]);
        for path in ["A", "a.b", "b.c.e", "absent", "", "b..c", "dotted", "empty"] {
            check(&event, path, &[]);
        }
    }

    #[test]
    fn there_or_not() {
        let event = json!({"n": null, "e": "", "l": [], "o": {"p": null}, "q.r": 1});
        for path in ["n", "e", "l", "o", "o.p", "q.r"] {
            assert!(Path::new(path).is_there(&event), "{path}");
        }
        for path in ["x", "o.q", "q"] {
            assert!(!Path::new(path).is_there(&event), "{path}");
        }
    }

    #[test]
    fn an_object_reads_as_its_text() {
        let event = json!({"p": {"doc": "{\"Action\":\"*\"}", "n": [1, null, false]}});
        check(
            &event,
            "p",
            &[r#"{"doc":"{"Action":"*"}","n":[1,null,false]}"#],
        );
    }

    #[test]
    fn what_is_at_hand_is_what_the_event_says() {
        let text = r#"{"eventName":"A","eventSource":"s.amazonaws.com","errorCode":"E",
            "errorMessage":"m","awsRegion":"r","sourceIPAddress":"192.0.2.1","userAgent":"u",
            "eventType":"AwsApiCall","userIdentity":{"type":"IAMUser","arn":"arn:x",
            "sessionContext":{"sessionIssuer":{"type":"Role","arn":"arn:y"}}}}"#;
        let call = ApiCall::parse(text.as_bytes(), 0).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        for path in [
            "eventName",
            "errorCode",
            "userIdentity.type",
            "eventType",
            "eventSource",
            "userIdentity.arn",
            "userAgent",
            "sourceIPAddress",
            "errorMessage",
            "awsRegion",
            "userIdentity.sessionContext.sessionIssuer.type",
            "userIdentity.sessionContext.sessionIssuer.arn",
        ] {
            let quick = Quick::of(path).unwrap();
            assert!(call.quick(quick).is_some(), "{path}");
            assert_eq!(call.quick(quick), value.quick(quick), "{path}");
            check(&value, path, &[call.quick(quick).unwrap()]);
        }
    }
}
