//! SQS by its JSON protocol: receive, delete, keep for longer.

use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Aws, AwsError, Call};

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    /// What it is deleted by.
    pub(crate) receipt: String,
    pub(crate) body: String,
    /// How often it was received, this time included.
    pub(crate) receives: u32,
}

/// Messages of one answer, and those that one is deleted with (SQS API reference).
pub(crate) const MESSAGES_MAX: usize = 10;

/// The region in the address of a queue.
pub(crate) fn region_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    let region = host.strip_prefix("sqs.")?.split('.').next()?;
    super::is_region(region).then(|| region.to_owned())
}

impl Aws {
    async fn sqs(&self, region: &str, action: &str, body: &Value) -> Result<Vec<u8>, AwsError> {
        self.text(Call {
            service: "sqs",
            region,
            method: Method::POST,
            host: None,
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.0".to_owned()),
                ("x-amz-target", format!("AmazonSQS.{action}")),
            ],
            body: body.to_string().into_bytes(),
        })
        .await
    }

    /// Receives up to ten messages, and waits for the first up to `wait_s` seconds (at most 20). They are
    /// ours alone for `hidden_s` seconds.
    ///
    /// # Errors
    /// Every [`AwsError`].
    pub(crate) async fn receive(
        &self,
        region: &str,
        queue: &str,
        wait_s: u64,
        hidden_s: u64,
    ) -> Result<Vec<Message>, AwsError> {
        let asked = json!({
            "QueueUrl": queue,
            "MaxNumberOfMessages": MESSAGES_MAX,
            "WaitTimeSeconds": wait_s,
            "VisibilityTimeout": hidden_s,
            "AttributeNames": ["ApproximateReceiveCount"],
        });
        read(&self.sqs(region, "ReceiveMessage", &asked).await?)
    }

    /// Deletes a message for good.
    ///
    /// # Errors
    /// Every [`AwsError`].
    pub(crate) async fn delete(
        &self,
        region: &str,
        queue: &str,
        receipt: &str,
    ) -> Result<(), AwsError> {
        let asked = json!({ "QueueUrl": queue, "ReceiptHandle": receipt });
        self.sqs(region, "DeleteMessage", &asked).await.map(drop)
    }

    /// Keeps a message from others for `hidden_s` seconds from now; 0 gives it back.
    ///
    /// # Errors
    /// Every [`AwsError`].
    pub(crate) async fn hide(
        &self,
        region: &str,
        queue: &str,
        receipt: &str,
        hidden_s: u64,
    ) -> Result<(), AwsError> {
        let asked = json!({
            "QueueUrl": queue,
            "ReceiptHandle": receipt,
            "VisibilityTimeout": hidden_s,
        });
        self.sqs(region, "ChangeMessageVisibility", &asked)
            .await
            .map(drop)
    }
}

fn read(body: &[u8]) -> Result<Vec<Message>, AwsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        messages: Option<Vec<One>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct One {
        #[serde(default)]
        message_id: String,
        receipt_handle: String,
        body: String,
        #[serde(default)]
        attributes: Option<Attributes>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Attributes {
        #[serde(default)]
        approximate_receive_count: Option<String>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| AwsError::Answer(error.to_string()))?;
    let messages = answer.messages.unwrap_or_default().into_iter();
    let message = |one: One| Message {
        id: one.message_id,
        receipt: one.receipt_handle,
        body: one.body,
        receives: one
            .attributes
            .and_then(|attributes| attributes.approximate_receive_count?.parse().ok())
            .unwrap_or(1),
    };
    Ok(messages.map(message).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read() {
        let text =
            br#"{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"{}","MD5OfBody":"x",
            "Attributes":{"ApproximateReceiveCount":"3"}},{"ReceiptHandle":"s","Body":"b"}]}"#;
        let messages = read(text).unwrap();
        assert_eq!((messages[0].receives, messages[1].receives), (3, 1));
        assert_eq!(messages[1].body, "b");
        assert!(read(b"{}").unwrap().is_empty());
        assert!(read(b"{\"Messages\":[{}]}").is_err());
    }

    #[test]
    fn a_queue_names_its_region() {
        for (url, expected) in [
            (
                "https://sqs.eu-central-1.amazonaws.com/111122223333/a",
                Some("eu-central-1"),
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/1/a",
                Some("cn-north-1"),
            ),
            ("http://127.0.0.1:5000/1/a", None),
            ("queue", None),
        ] {
            assert_eq!(region_of(url).as_deref(), expected, "{url}");
        }
    }
}
