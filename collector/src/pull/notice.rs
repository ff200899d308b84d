//! What a message of a queue says: which objects came, or an event itself.
//!
//! ```text
//! {"Records":[{"eventSource":"aws:s3","awsRegion","s3":{"bucket":{"name"},"object":{"key"}}}]}  S3; key encoded
//! {"source":"aws.s3","detail-type":"Object Created","region","detail":{"bucket","object"}}      EventBridge
//! {"s3Bucket":"…","s3ObjectKey":["…"]}                                                         CloudTrail by SNS
//! {"Type":"Notification","Message":"…"}                                                        any of them by SNS
//! {"Service":"Amazon S3","Event":"s3:TestEvent",…}                                             when it is set up
//! {"detail-type":"AWS API Call via CloudTrail","detail":{…}}                                   an event
//! {"source":"aws.guardduty","detail-type":"GuardDuty Finding","detail":{…}}                     a finding
//! ```
//!
//! Messages come from whoever may write to the queue: nothing in them is taken on trust. Names of
//! buckets and regions are checked where they become part of an address.

use serde_json::Value;

use super::limits::{NOTICE_DEPTH_MAX, OBJECTS_PER_NOTICE_MAX};
use crate::aws::encode::decode;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// Objects came.
    Objects(Vec<Announced>),
    /// One of GuardDuty's findings, as EventBridge tells it.
    Finding(String),
    /// It may be an event, in one of the shapes that those come in.
    Event,
    /// Nothing to do: a test of the set-up, or an object that went.
    Nothing,
    /// Nobody knows.
    Unknown(&'static str),
}

/// An object that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) bucket: String,
    pub(super) key: String,
    /// Where the bucket is, if the notice says it.
    pub(super) region: Option<String>,
}

/// Reads a message.
pub(super) fn read(body: &str) -> Notice {
    read_at(body, 0)
}

fn read_at(body: &str, depth: usize) -> Notice {
    if depth == NOTICE_DEPTH_MAX {
        return Notice::Unknown("notices within notices");
    }
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return Notice::Unknown("not JSON");
    };
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("Event") == Some("s3:TestEvent") {
        return Notice::Nothing;
    }
    if let (Some("Notification"), Some(inner)) = (text("Type"), text("Message")) {
        return read_at(inner, depth + 1);
    }
    if let Some(bucket) = text("s3Bucket") {
        return of_cloudtrail(bucket, &value);
    }
    if text("source") == Some("aws.s3") {
        return of_bridge(&value);
    }
    if text("source") == Some("aws.guardduty") {
        let is_finding = text("detail-type") == Some("GuardDuty Finding");
        return if is_finding {
            Notice::Finding(body.to_owned())
        } else {
            Notice::Nothing
        };
    }
    if text("detail-type").is_some() {
        return Notice::Event;
    }
    let records = value.get("Records").and_then(Value::as_array);
    let is_of_s3 = |record: &Value| record.get("s3").is_some_and(Value::is_object);
    match records {
        Some(records) if records.iter().any(is_of_s3) => of_s3(records),
        _ => Notice::Event,
    }
}

/// Of S3 itself, whose keys are encoded as in forms.
fn of_s3(records: &[Value]) -> Notice {
    let mut objects = Vec::new();
    for record in records {
        // An object that goes, or is restored, says nothing new.
        let name = record.get("eventName").and_then(Value::as_str);
        if !name.is_some_and(|name| name.trim_start_matches("s3:").starts_with("ObjectCreated")) {
            continue;
        }
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let (Some(bucket), Some(key)) = (text("/s3/bucket/name"), text("/s3/object/key")) else {
            return Notice::Unknown("a record names no bucket or no key");
        };
        let Some(key) = decode(key) else {
            return Notice::Unknown("a key is not encoded as keys are");
        };
        objects.push(Announced {
            bucket: bucket.to_owned(),
            key,
            region: text("/awsRegion").map(str::to_owned),
        });
    }
    some(objects)
}

fn of_bridge(value: &Value) -> Notice {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    if text("/detail-type") != Some("Object Created") {
        return Notice::Nothing;
    }
    match (text("/detail/bucket/name"), text("/detail/object/key")) {
        (Some(bucket), Some(key)) => some(vec![Announced {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            region: text("/region").map(str::to_owned),
        }]),
        _ => Notice::Unknown("an event of S3 names no bucket or no key"),
    }
}

fn of_cloudtrail(bucket: &str, value: &Value) -> Notice {
    let keys = value.get("s3ObjectKey").and_then(Value::as_array);
    let keys = keys.map(Vec::as_slice).unwrap_or_default();
    let mut objects = Vec::new();
    for key in keys {
        let Some(key) = key.as_str() else {
            return Notice::Unknown("a key is no text");
        };
        objects.push(Announced {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            region: None,
        });
    }
    some(objects)
}

fn some(objects: Vec<Announced>) -> Notice {
    match objects.len() {
        0 => Notice::Nothing,
        1..=OBJECTS_PER_NOTICE_MAX => Notice::Objects(objects),
        _ => Notice::Unknown("announces more objects than a message does"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn s3(name: &str, key: &str) -> Value {
        json!({"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1",
            "eventName": name, "s3": {"bucket": {"name": "trail"}, "object": {"key": key, "size": 1}}})
    }

    fn one(key: &str, region: Option<&str>) -> Notice {
        Notice::Objects(vec![Announced {
            bucket: "trail".to_owned(),
            key: key.to_owned(),
            region: region.map(str::to_owned),
        }])
    }

    #[test]
    fn every_shape_is_understood() {
        let put = json!({"Records": [s3("ObjectCreated:Put", "a%2Fb+c.gz")]});
        let by_sns = json!({"Type": "Notification", "MessageId": "1", "Message": put.to_string()});
        let gone = json!({"Records": [s3("ObjectRemoved:Delete", "a")]});
        let bridge = json!({"version": "0", "source": "aws.s3", "detail-type": "Object Created",
            "region": "eu-central-1",
            "detail": {"bucket": {"name": "trail"}, "object": {"key": "a/b+c%2F.gz"}}});
        let trail = json!({"s3Bucket": "trail", "s3ObjectKey": ["a/b+c.gz"]});
        let call =
            json!({"detail-type": "AWS API Call via CloudTrail", "detail": {"eventName": "E"}});
        let found = json!({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": {"id": "1"}});
        let found_by_sns = json!({"Type": "Notification", "Message": found.to_string()});
        let scanned = json!({"source": "aws.guardduty", "detail-type": "GuardDuty Malware Protection Object Scan Result"});
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "trail"});
        let encoded_badly = json!({"Records": [s3("ObjectCreated:Put", "a%zz")]});
        let nested = json!({"Type": "Notification", "Message": by_sns.to_string()});
        let deeper = json!({"Type": "Notification", "Message": nested.to_string()});
        let many = vec![s3("ObjectCreated:Put", "a"); OBJECTS_PER_NOTICE_MAX + 1];
        let home = Some("eu-central-1");
        for (name, body, expected) in [
            ("S3", &put, one("a/b c.gz", home)),
            ("S3 by SNS", &by_sns, one("a/b c.gz", home)),
            ("SNS twice", &nested, one("a/b c.gz", home)),
            ("EventBridge", &bridge, one("a/b+c%2F.gz", home)),
            ("CloudTrail by SNS", &trail, one("a/b+c.gz", None)),
            ("removed", &gone, Notice::Nothing),
            ("test", &test, Notice::Nothing),
            ("an event", &call, Notice::Event),
            ("a finding", &found, Notice::Finding(found.to_string())),
            (
                "a finding by SNS",
                &found_by_sns,
                Notice::Finding(found.to_string()),
            ),
            ("another word of GuardDuty's", &scanned, Notice::Nothing),
            (
                "events in a list",
                &json!({"Records": [{"eventName": "E"}]}),
                Notice::Event,
            ),
            (
                "a key",
                &encoded_badly,
                Notice::Unknown("a key is not encoded as keys are"),
            ),
            (
                "too deep",
                &deeper,
                Notice::Unknown("notices within notices"),
            ),
            (
                "too many",
                &json!({ "Records": many }),
                Notice::Unknown("announces more objects than a message does"),
            ),
        ] {
            assert_eq!(read(&body.to_string()), expected, "{name}");
        }
        assert_eq!(read("words"), Notice::Unknown("not JSON"));
    }

    /// Whatever stands in a message, reading it ends.
    #[test]
    fn no_message_makes_it_panic() {
        let put = json!({"Records": [s3("ObjectCreated:Put", "a%2Fb+c.gz")]});
        let by_sns = json!({"Type": "Notification", "Message": put.to_string()}).to_string();
        for at in 0..by_sns.len() {
            for byte in [0, b'"', b'\\', b'{', b'}', b'%', b'1', 0xff] {
                let mut bytes = by_sns.clone().into_bytes();
                bytes[at] = byte;
                let _ = read(&String::from_utf8_lossy(&bytes));
            }
            let _ = read(&by_sns[..at]);
        }
        assert_eq!(read(&by_sns), one("a/b c.gz", Some("eu-central-1")));
    }
}
