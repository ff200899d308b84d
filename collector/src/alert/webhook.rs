//! A web address that gets a signed POST per alert.
//!
//! Any 2xx answer means that the receiver has it. `X-Picket-Signature: t=<unix time>,v1=<hex>` is
//! the HMAC-SHA256 of `<unix time>.<body>` under the shared secret; a receiver that also refuses old
//! times cannot be fooled by a recording. `X-Picket-Delivery` is the same each time the same message
//! is delivered, so that a receiver sees what it has already.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};
use ring::hmac;
use serde::Deserialize;

use super::{Delivery, Message, Messenger, Undelivered};
use crate::clock;
use crate::config::BadValue;

/// Shortest secret taken, in bytes: half of what the hash can use (chosen by hand).
const SECRET_BYTES_MIN: usize = 16;

/// One `[[alert.webhook]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the channel.
    pub name: String,
    /// Where to, `https` or `http`.
    pub url: String,
    /// File with the shared secret; white space round it is not part of it.
    pub secret_file: PathBuf,
    /// Findings less severe than this are left out.
    #[serde(default)]
    pub severity_min: f64,
    /// The only authorities trusted for the receiver, in PEM. Without it: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Seconds a delivery may take.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

fn default_timeout_s() -> u64 {
    // A receiver that takes longer to say 200 is doing its work before it answers.
    10
}

impl Settings {
    pub(super) fn check(&self, table: &str) -> Result<(), BadValue> {
        self.url(table)?;
        if self.timeout_s == 0 {
            return Err(BadValue::new(
                format!("{table}.timeout_s"),
                "must not be 0",
            ));
        }
        Ok(())
    }

    fn url(&self, table: &str) -> Result<Url, BadValue> {
        let refuse = |why: String| BadValue::new(format!("{table}.url"), why);
        let url = Url::parse(&self.url).map_err(|error| refuse(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            other => Err(refuse(format!("{other:?} is neither http nor https"))),
        }
    }
}

/// Posts.
pub(super) struct Webhook {
    client: Client,
    url: Url,
    key: hmac::Key,
}

/// Reads the secret and the authorities.
pub(super) fn open(settings: &Settings, table: &str) -> Result<Webhook, BadValue> {
    let file = &settings.secret_file;
    let refuse = |why: &dyn std::fmt::Display| {
        BadValue::file(format!("{table}.secret_file"), file, why)
    };
    let secret = std::fs::read(file).map_err(|error| refuse(&error))?;
    let secret = secret.trim_ascii();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(refuse(&format!(
            "{} bytes, {SECRET_BYTES_MIN} needed",
            secret.len()
        )));
    }
    let mut client = Client::builder()
        .user_agent(concat!("picket-collector/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_secs(settings.timeout_s))
        // A redirected alert would take its body to an address nobody configured.
        .redirect(redirect::Policy::none())
        .no_proxy();
    let url = settings.url(table)?;
    if url.scheme() == "http" {
        // Nothing is proven to it, so a host without the system's authorities will do.
        client = client.tls_certs_only([]);
    }
    if let Some(ca_file) = &settings.ca_file {
        let key = || format!("{table}.ca_file");
        let pem = std::fs::read(ca_file)
            .map_err(|error| BadValue::file(key(), ca_file, &error))?;
        let authorities = Certificate::from_pem_bundle(&pem)
            .map_err(|error| BadValue::file(key(), ca_file, &error))?;
        if authorities.is_empty() {
            // Nobody could be trusted, and every alert would be lost.
            return Err(BadValue::file(key(), ca_file, &"no certificate in it"));
        }
        client = client.tls_certs_only(authorities);
    }
    Ok(Webhook {
        client: client
            .build()
            .map_err(|error| BadValue::new(table, chain(&error)))?,
        url,
        key: hmac::Key::new(hmac::HMAC_SHA256, secret),
    })
}

impl Messenger for Webhook {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        Box::pin(async move {
            let answer = self
                .client
                .post(self.url.clone())
                .header("content-type", "application/json")
                .header("x-picket-delivery", &message.id)
                .header(
                    "x-picket-signature",
                    signature(&self.key, clock::now_ms() / 1_000, &message.body),
                )
                .body(message.body.clone())
                .send()
                .await
                .map_err(|error| Undelivered(chain(&error)))?;
            let status = answer.status();
            if status.is_success() {
                Ok(())
            } else {
                Err(Undelivered(format!("the receiver answered {status}")))
            }
        })
    }
}

fn signature(key: &hmac::Key, unix_s: u64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{unix_s}.{body}").as_bytes());
    let mut text = format!("t={unix_s},v1=");
    for byte in tag.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An error with its causes, and without the address, which may hold a token.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_timeout() => "timed out".to_owned(),
        error if error.is_connect() => "no connection".to_owned(),
        _ => "request failed".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_documentation() {
        // Computed with: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        assert_eq!(
            signature(&key, 1_700_000_000, "{\"a\":1}"),
            "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
        );
    }
}
