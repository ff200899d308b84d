//! A server that speaks S3, SQS, SNS, EventBridge and STS, in place of AWS: moto, as the set-up script
//! installs it. Where it is not there, tests say so and end.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

pub(crate) const REGION: &str = "eu-central-1";

/// The account that belongs to no key in particular.
pub(crate) const ACCOUNT: &str = "123456789012";

/// The server, and a client that speaks to it.
pub(crate) struct Cloud {
    process: Child,
    pub(crate) url: String,
    client: Client,
    /// Id of the access key that says whose things are meant.
    key: String,
    is_guest: bool,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if !self.is_guest {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("PICKET_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| home().join(".cache/picket"));
    cache.join("aws/bin/moto_server")
}

impl Cloud {
    /// Starts it; `None`, and a word why, if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let program = program();
        if !program.exists() {
            println!(
                "skipped: no {}; scripts/setup.sh installs it",
                program.display()
            );
            return None;
        }
        let mut process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("Running on ")?;
            Some(rest.trim().trim_end_matches('/').to_owned())
        });
        // What it says of each request must go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self {
            process,
            url: url.unwrap(),
            client: Client::builder().no_proxy().build().unwrap(),
            key: "test".to_owned(),
            is_guest: false,
        })
    }

    /// What a service is asked with. Signatures are not looked at by this server, only who signs.
    fn signed(&self, service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0",
            self.key
        )
    }

    /// The collector's `[aws]`.
    pub(crate) fn table(&self) -> String {
        format!(
            "[aws]\nregion = '{REGION}'\nendpoint_url = '{}'\n",
            self.url
        )
    }

    /// Puts something into a bucket: an object, or with an empty key the bucket itself.
    pub(crate) async fn put(&self, bucket: &str, key: &str, body: impl Into<reqwest::Body>) {
        self.put_with(bucket, key, body, &[]).await;
    }

    /// Takes an object out of a bucket.
    pub(crate) async fn delete(&self, bucket: &str, key: &str) {
        let request = self.client.delete(format!("{}/{bucket}/{key}", self.url));
        let request = request.header("authorization", self.signed("s3"));
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{bucket}/{key}");
    }

    /// Puts an object with headers of its own.
    pub(crate) async fn put_with(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) {
        let url = format!("{}/{bucket}/{key}", self.url);
        let mut request = self.client.put(url.trim_end_matches('/'));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request
            .header("authorization", self.signed("s3"))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{bucket}/{key}");
    }

    /// Makes a bucket.
    pub(crate) async fn bucket(&self, name: &str) {
        let body = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint>\
             </CreateBucketConfiguration>"
        );
        self.put(name, "", body).await;
    }

    /// Has a bucket announce its new objects in a queue.
    pub(crate) async fn announce(&self, bucket: &str, queue: &str) {
        let body = format!(
            "<NotificationConfiguration><QueueConfiguration><Id>1</Id>\
             <Queue>{}</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration>\
             </NotificationConfiguration>",
            self.arn(queue)
        );
        self.put(bucket, "?notification", body).await;
    }

    fn account(&self) -> &str {
        if self.is_guest { GUEST } else { ACCOUNT }
    }

    pub(crate) fn arn(&self, queue: &str) -> String {
        format!("arn:aws:sqs:{REGION}:{}:{queue}", self.account())
    }

    pub(crate) async fn ask(&self, service: &str, target: &str, body: &Value) -> Value {
        let response = self
            .client
            .post(&self.url)
            .header("authorization", self.signed(service))
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.0")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{target}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Makes a queue; returns its address.
    pub(crate) async fn queue(&self, name: &str) -> String {
        let made = self
            .ask(
                "sqs",
                "AmazonSQS.CreateQueue",
                &json!({ "QueueName": name }),
            )
            .await;
        made["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// Puts a message into a queue.
    pub(crate) async fn send(&self, queue: &str, body: &str) {
        let asked = json!({ "QueueUrl": queue, "MessageBody": body });
        self.ask("sqs", "AmazonSQS.SendMessage", &asked).await;
    }

    /// How many messages a queue holds, those in hand included.
    pub(crate) async fn depth(&self, queue: &str) -> u64 {
        let asked = json!({ "QueueUrl": queue, "AttributeNames": ["All"] });
        let answer = self
            .ask("sqs", "AmazonSQS.GetQueueAttributes", &asked)
            .await;
        let number = |name: &str| -> u64 {
            let text = answer["Attributes"][name].as_str().unwrap_or("0");
            text.parse().unwrap()
        };
        number("ApproximateNumberOfMessages") + number("ApproximateNumberOfMessagesNotVisible")
    }

    /// Assumes a role of another account, as the test's way to put things there.
    pub(crate) async fn guest(&self, role: &str) -> Self {
        let body =
            format!("Action=AssumeRole&Version=2011-06-15&RoleSessionName=test&RoleArn={role}");
        let response = self
            .client
            .post(&self.url)
            .header("authorization", self.signed("sts"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        let text = response.text().await.unwrap();
        let (_, rest) = text.split_once("<AccessKeyId>").unwrap();
        let (key, _) = rest.split_once('<').unwrap();
        Self {
            // Something to wait for.
            process: Command::new("true").spawn().unwrap(),
            url: self.url.clone(),
            client: self.client.clone(),
            key: key.to_owned(),
            is_guest: true,
        }
    }
}

/// The account of a guest.
pub(crate) const GUEST: &str = "222233334444";
