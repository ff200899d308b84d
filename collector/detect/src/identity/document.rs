//! The instance identity document: JSON, of which four values are used.

use jiff::Timestamp;
use serde::Deserialize;

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON with the values that are needed.
    #[error("no identity document: {0}")]
    Json(String),
    /// A value is not of its form.
    #[error("identity document has no sound {field}")]
    Field {
        /// Which.
        field: &'static str,
    },
}

/// What AWS says of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The account, twelve digits.
    pub account: String,
    /// The region.
    pub region: String,
    /// The instance, `i-` and hex digits.
    pub instance: String,
    /// When the instance was started, milliseconds since the epoch.
    pub pending_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    account_id: String,
    region: String,
    instance_id: String,
    pending_time: String,
}

impl Document {
    /// Reads a document that fills `bytes`.
    ///
    /// # Errors
    /// Every [`DocumentError`].
    pub fn read(bytes: &[u8]) -> Result<Self, DocumentError> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::Json(error.to_string()))?;
        let field = |is_sound: bool, field| {
            if is_sound {
                Ok(())
            } else {
                Err(DocumentError::Field { field })
            }
        };
        field(is_account(&raw.account_id), "accountId")?;
        field(is_region(&raw.region), "region")?;
        field(is_instance(&raw.instance_id), "instanceId")?;
        let pending = raw.pending_time.parse::<Timestamp>().ok();
        let pending_ms = pending.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        field(pending_ms.is_some(), "pendingTime")?;
        Ok(Self {
            account: raw.account_id,
            region: raw.region,
            instance: raw.instance_id,
            pending_ms: pending_ms.unwrap_or_default(),
        })
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text has the form of a region's name, so that it may stand in the name of a host.
pub fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, words)) => {
            text.len() <= 32
                && (2..=3).contains(&words.len())
                && words.iter().all(is_word)
                && (1..=2).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => false,
    }
}

fn is_instance(text: &str) -> bool {
    let digits = text.strip_prefix("i-").unwrap_or_default();
    (8..=17).contains(&digits.len())
        && digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(account: &str, region: &str, instance: &str, time: &str) -> Result<Document, String> {
        let text = format!(
            r#"{{"accountId":"{account}","region":"{region}","instanceId":"{instance}","pendingTime":"{time}","x":[1]}}"#
        );
        Document::read(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_of_their_form() {
        let check = |account, region, instance, time, expected: &str| match read(
            account, region, instance, time,
        ) {
            Ok(document) => {
                assert_eq!(expected, "");
                assert_eq!(document.pending_ms, 1_479_573_131_000);
            }
            Err(error) => assert!(error.contains(expected) && !expected.is_empty(), "{error}"),
        };
        let (account, instance) = ("111122223333", "i-0123456789abcdef0");
        let time = "2016-11-19T16:32:11Z";
        check(account, "us-west-2", instance, time, "");
        check(account, "us-gov-west-1", "i-12345678", time, "");
        check("11112222333", "us-west-2", instance, time, "accountId");
        check(account, "us-west-2.evil.example/", instance, time, "region");
        check(account, "us-west-", instance, time, "region");
        check(account, "West-2", instance, time, "region");
        check(account, "us-west-2", "i-", time, "instanceId");
        check(
            account,
            "us-west-2",
            "i-0123456789abcdeX",
            time,
            "instanceId",
        );
        check(account, "us-west-2", instance, "yesterday", "pendingTime");
        assert!(Document::read(b"{}").is_err() && Document::read(b"\xff").is_err());
    }
}
