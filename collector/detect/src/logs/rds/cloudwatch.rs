//! What CloudWatch Logs wraps log lines in: the message of a subscription (Lambda, Firehose, Kinesis),
//! what `get-log-events` and `filter-log-events` print, and single events.
//!
//! ```text
//! {"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/rds/instance/shop/postgresql",
//!  "logStream":"shop.0","logEvents":[{"id":"1","timestamp":1700000000000,"message":"…"}]}
//! {"events":[{"logStreamName":"shop.0","timestamp":1700000000000,"message":"…"}]}
//! ```

use serde::Deserialize;

use super::{Database, RdsLogError};

/// What one object of an export holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Messages in their order.
    pub messages: Vec<Message>,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The database it is of, as far as the export tells: no region, and no instance where no log stream is
    /// named.
    pub database: Database,
    /// One line of the log, or several.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    owner: Option<String>,
    message_type: Option<String>,
    #[serde(alias = "logGroupName")]
    log_group: Option<String>,
    log_events: Option<Vec<LogEvent>>,
    events: Option<Vec<LogEvent>>,
    #[serde(alias = "logStreamName")]
    log_stream: Option<String>,
    #[serde(alias = "@message")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct LogEvent {
    #[serde(default)]
    message: String,
    #[serde(rename = "logStreamName")]
    log_stream: Option<String>,
}

impl Export {
    /// Reads one object.
    ///
    /// # Errors
    /// [`RdsLogError::NotJson`]; [`RdsLogError::Unknown`] for an object that wraps no log lines.
    pub fn parse(json: &[u8]) -> Result<Self, RdsLogError> {
        let document: Document =
            serde_json::from_slice(json).map_err(|error| RdsLogError::NotJson {
                column: error.column(),
                why: error.to_string(),
            })?;
        if document.message_type.as_deref() == Some("CONTROL_MESSAGE") {
            return Ok(Self::default());
        }
        let group = document.log_group.as_deref().unwrap_or_default();
        let database = |stream: Option<&str>| {
            let stream = stream.or(document.log_stream.as_deref());
            Database {
                account: document.owner.clone().unwrap_or_default(),
                ..Database::of_group(group, stream.unwrap_or_default())
            }
        };
        let messages = match (document.log_events, document.events, document.message) {
            (Some(events), ..) | (None, Some(events), _) => events
                .into_iter()
                .map(|event| Message {
                    database: database(event.log_stream.as_deref()),
                    text: event.message,
                })
                .collect(),
            (None, None, Some(text)) => vec![Message {
                database: database(None),
                text,
            }],
            (None, None, None) => {
                let begin = super::beginning(&String::from_utf8_lossy(json));
                return Err(RdsLogError::Unknown { begin });
            }
        };
        Ok(Self { messages })
    }
}

impl Database {
    /// Reads a log group, `/aws/rds/instance/<instance>/<log>` or `/aws/rds/cluster/<cluster>/<log>`, and a
    /// log stream, whose name begins with the instance's.
    pub fn of_group(group: &str, stream: &str) -> Self {
        let mut parts = group.split('/').skip_while(|part| *part != "rds").skip(1);
        let (kind, name) = (parts.next(), parts.next().unwrap_or_default());
        let of_stream = stream.split('.').next().unwrap_or_default();
        let is_cluster = kind == Some("cluster");
        Self {
            instance: if of_stream.is_empty() {
                name
            } else {
                of_stream
            }
            .to_owned(),
            cluster: is_cluster.then(|| name.to_owned()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrapping_is_read() {
        let check = |json: &str, expected: &[(&str, Option<&str>, &str, &str)]| {
            let export = Export::parse(json.as_bytes()).unwrap();
            let told: Vec<_> = (export.messages.iter())
                .map(|one| {
                    let of = &one.database;
                    (
                        &*of.instance,
                        of.cluster.as_deref(),
                        &*of.account,
                        &*one.text,
                    )
                })
                .collect();
            assert_eq!(told, expected, "{json}");
        };
        check(
            r#"{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"/aws/rds/instance/shop/postgresql",
            "logStream":"shop.0","subscriptionFilters":["f"],"logEvents":[{"id":"1","timestamp":1,"message":"a"},
            {"id":"2","timestamp":2,"message":"b"}]}"#,
            &[
                ("shop", None, "111122223333", "a"),
                ("shop", None, "111122223333", "b"),
            ],
        );
        check(
            r#"{"owner":"1","logGroup":"/aws/rds/cluster/pay/audit","logStream":"pay-2.audit.log.0.2023-11-14","logEvents":[{"message":"a"}]}"#,
            &[("pay-2", Some("pay"), "1", "a")],
        );
        check(
            r#"{"events":[{"logStreamName":"shop.0","timestamp":1,"message":"a","ingestionTime":2}],"searchedLogStreams":[]}"#,
            &[("shop", None, "", "a")],
        );
        check(r#"{"timestamp":1,"message":"a"}"#, &[("", None, "", "a")]);
        check(
            r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"CWL"}]}"#,
            &[],
        );
    }

    #[test]
    fn what_wraps_no_lines_is_told() {
        let error = Export::parse(br#"{"Records":[]}"#).unwrap_err();
        assert!(matches!(error, RdsLogError::Unknown { .. }));
        let error = Export::parse(br#"{"message":7}"#).unwrap_err();
        assert!(
            matches!(error, RdsLogError::NotJson { column: 12, .. }),
            "{error}"
        );
    }
}
