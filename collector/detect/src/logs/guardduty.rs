//! GuardDuty's own findings, to join them with what picket saw.
//!
//! A finding comes bare (exports to S3, a line each), inside the envelope of EventBridge (`detail`), or in the list that
//! `get-findings` prints (`Findings`, names with a capital). What is not used here is kept as it came.

use serde_json::{Map, Value};

use super::event_time;
use super::seen::EventKey;

/// Why something is no finding of GuardDuty's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReportedError {
    /// Not JSON.
    #[error("column {column}: {why}")]
    NotJson {
        /// Column, from 1.
        column: usize,
        /// The parser's words.
        why: String,
    },
    /// Something else than a finding.
    #[error("no finding of GuardDuty's")]
    Other,
    /// A member without which nothing can be said is missing or unreadable.
    #[error("no readable {member}")]
    Lacks {
        /// Its name.
        member: &'static str,
    },
}

/// What EventBridge calls them.
const EVENT: &str = "GuardDuty Finding";

/// A finding of GuardDuty's.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// Its id.
    pub id: String,
    /// Whose.
    pub account: String,
    /// Where.
    pub region: String,
    /// Its type.
    pub type_name: String,
    /// Its title.
    pub title: String,
    /// 1.0 to 10.0.
    pub severity: f64,
    /// How often it occurred.
    pub count: u64,
    /// First occurrence, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Last occurrence.
    pub last_ns: u64,
    /// The instance it is about, if it is about one.
    pub instance: Option<String>,
    /// The role session it is about, if it is about one.
    pub session: Option<String>,
    /// Made to try things out.
    pub is_sample: bool,
    /// All of it, in GuardDuty's spelling.
    pub whole: Value,
}

impl Reported {
    /// Reads every finding that a JSON object holds: one, or a list of them. Each is told by itself.
    ///
    /// # Errors
    /// [`ReportedError::NotJson`], and [`ReportedError::Other`] for an object of another kind.
    pub fn parse(json: &[u8]) -> Result<Vec<Result<Self, ReportedError>>, ReportedError> {
        let value: Value =
            serde_json::from_slice(json).map_err(|error| ReportedError::NotJson {
                column: error.column(),
                why: error.to_string(),
            })?;
        let Value::Object(mut members) = value else {
            return Err(ReportedError::Other);
        };
        if members.get("detail-type").and_then(Value::as_str) == Some(EVENT) {
            let detail = members.remove("detail").unwrap_or_default();
            return Ok(vec![Self::of(detail)]);
        }
        if let Some(Value::Array(findings)) = members.remove("Findings") {
            let findings = findings
                .into_iter()
                .map(|finding| Self::of(spelled(finding)));
            return Ok(findings.collect());
        }
        if members.contains_key("AccountId") {
            return Ok(vec![Self::of(spelled(Value::Object(members)))]);
        }
        let is_finding = members.contains_key("accountId") && members.contains_key("type");
        if is_finding {
            Ok(vec![Self::of(Value::Object(members))])
        } else {
            Err(ReportedError::Other)
        }
    }

    /// Names one telling of it: however it came, and whatever stands around it.
    pub fn key(&self) -> EventKey {
        let updated = self.whole.get("updatedAt");
        let told = serde_json::json!([
            "guardduty",
            self.account,
            self.id,
            self.count,
            self.last_ns,
            updated
        ]);
        EventKey::of_content(&told.to_string())
    }

    /// All of it as an event, which reads as the same finding again whatever else its members are.
    pub fn to_bytes(&self) -> Vec<u8> {
        let event = serde_json::json!({ "detail-type": EVENT, "detail": self.whole });
        event.to_string().into_bytes()
    }

    fn of(whole: Value) -> Result<Self, ReportedError> {
        let at = |path: &str| whole.pointer(path);
        let text = |path: &str| at(path).and_then(Value::as_str);
        let owned = |path: &str| text(path).unwrap_or_default().to_owned();
        let lacks = |member| ReportedError::Lacks { member };
        let time = |path: &str| text(path).and_then(event_time::parse);
        let last_ns = time("/service/eventLastSeen").or_else(|| time("/updatedAt"));
        let last_ns = last_ns.ok_or_else(|| lacks("service.eventLastSeen or updatedAt"))?;
        let first_ns = time("/service/eventFirstSeen").or_else(|| time("/createdAt"));
        let severity = at("/severity").and_then(Value::as_f64);
        let severity = severity.filter(|severity| (0.0..=10.0).contains(severity));
        let principal = text("/resource/accessKeyDetails/principalId");
        let session = principal.and_then(|principal| principal.split_once(':'));
        let instance = text("/resource/instanceDetails/instanceId");
        let is_sample = at("/service/additionalInfo/sample").is_some_and(|sample| {
            sample.as_bool() == Some(true) || sample.as_str() == Some("true")
        }) || text("/title").is_some_and(|title| title.starts_with("[SAMPLE]"));
        let own = |text: &str| text.to_owned();
        Ok(Self {
            id: text("/id").map(own).ok_or_else(|| lacks("id"))?,
            account: text("/accountId")
                .map(own)
                .ok_or_else(|| lacks("accountId"))?,
            region: owned("/region"),
            type_name: text("/type").map(own).ok_or_else(|| lacks("type"))?,
            title: owned("/title"),
            severity: severity.ok_or_else(|| lacks("severity"))?,
            count: at("/service/count").and_then(Value::as_u64).unwrap_or(1),
            first_ns: first_ns.unwrap_or(last_ns).min(last_ns),
            last_ns,
            instance: instance.filter(|id| !id.is_empty()).map(own),
            session: session.map(|(_, session)| own(session)),
            is_sample,
            whole,
        })
    }
}

/// Names with a small letter, as GuardDuty writes them itself.
fn spelled(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let small = |(name, value): (String, Value)| {
                let mut letters = name.chars();
                let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                (first.into_iter().chain(letters).collect(), spelled(value))
            };
            Value::Object(members.into_iter().map(small).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(spelled).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn finding() -> Value {
        json!({
            "schemaVersion": "2.0", "accountId": "111122223333", "region": "eu-west-1", "id": "f1",
            "type": "Backdoor:EC2/C&CActivity.B", "severity": 8, "title": "C2", "somethingNew": {"Kept": [1]},
            "resource": { "resourceType": "Instance", "instanceDetails": { "instanceId": "i-0abc" } },
            "service": { "count": 3, "eventFirstSeen": "2023-11-14T22:13:20Z", "eventLastSeen": "2023-11-14T22:14:20Z" },
            "createdAt": "2023-11-14T22:31:20Z", "updatedAt": "2023-11-14T22:31:20Z",
        })
    }

    /// A value with a capital at the beginning of each name.
    fn capital(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let large = |(name, value): (&String, &Value)| {
                    let (first, rest) = name.split_at(1);
                    (first.to_uppercase() + rest, capital(value))
                };
                Value::Object(members.iter().map(large).collect())
            }
            Value::Array(items) => items.iter().map(capital).collect(),
            other => other.clone(),
        }
    }

    fn read(value: &Value) -> Vec<Result<Reported, ReportedError>> {
        Reported::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn every_wrapping_tells_the_same() {
        let bare = read(&finding()).remove(0).unwrap();
        assert_eq!(
            (&*bare.id, bare.instance.as_deref(), bare.count),
            ("f1", Some("i-0abc"), 3)
        );
        assert_eq!(
            (bare.first_ns, bare.last_ns),
            (1_700_000_000_000_000_000, 1_700_000_060_000_000_000)
        );
        assert_eq!((bare.is_sample, &bare.whole), (false, &finding()));
        let event = json!({"version": "0", "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "detail": finding()});
        assert_eq!(read(&event).remove(0).unwrap(), bare);
        let mut again = finding();
        again["service"]["count"] = json!(4);
        assert_ne!(read(&again).remove(0).unwrap().key(), bare.key());
        let mut odd = finding();
        odd["Findings"] = json!([1]);
        let odd = json!({"detail-type": "GuardDuty Finding", "detail": odd});
        let odd = read(&odd).remove(0).unwrap();
        assert_eq!(Reported::parse(&odd.to_bytes()).unwrap(), [Ok(odd)]);
        let listed = json!({"Findings": [capital(&finding()), capital(&finding())]});
        let listed = read(&listed);
        assert_eq!(listed.len(), 2);
        for one in listed {
            let one = one.unwrap();
            assert_eq!(
                (&one.id, &one.instance, one.last_ns, one.key()),
                (&bare.id, &bare.instance, bare.last_ns, bare.key())
            );
            assert_eq!(one.whole["somethingNew"]["kept"], json!([1]));
        }
    }

    #[test]
    fn sessions_and_samples_are_known() {
        let mut one = finding();
        one["resource"] = json!({"resourceType": "AccessKey", "accessKeyDetails": {"principalId": "AROAX:i-0abc"}});
        one["service"]["additionalInfo"] = json!({"sample": true});
        let one = read(&one).remove(0).unwrap();
        assert_eq!(
            (one.session.as_deref(), one.instance, one.is_sample),
            (Some("i-0abc"), None, true)
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |member: &str, expected: &str| {
            let mut one = finding();
            let (parent, name) = member.rsplit_once('/').unwrap();
            one.pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name);
            let read = read(&one).remove(0);
            assert_eq!(
                read.unwrap_err().to_string(),
                format!("no readable {expected}")
            );
        };
        check("/id", "id");
        check("/severity", "severity");
        let mut wild = finding();
        wild["severity"] = json!(99);
        assert_eq!(
            read(&wild).remove(0),
            Err(ReportedError::Lacks { member: "severity" })
        );
        let mut timeless = finding();
        timeless["service"] = json!({});
        assert_eq!(
            read(&timeless).remove(0).unwrap().last_ns,
            1_700_001_080_000_000_000
        );
        for other in [
            "{}",
            "[]",
            r#"{"detail-type":"Other","detail":{}}"#,
            r#"{"Records":[]}"#,
        ] {
            assert_eq!(
                Reported::parse(other.as_bytes()),
                Err(ReportedError::Other),
                "{other}"
            );
        }
        assert!(matches!(
            Reported::parse(b"{"),
            Err(ReportedError::NotJson { .. })
        ));
    }

    proptest! {
        #[test]
        fn damaged_findings_are_read_or_refused(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = finding().to_string().into_bytes();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(read) = Reported::parse(&bytes) {
                for one in read.into_iter().flatten() {
                    prop_assert!(one.first_ns <= one.last_ns && (0.0..=10.0).contains(&one.severity));
                }
            }
        }
    }
}
