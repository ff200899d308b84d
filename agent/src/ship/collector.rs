//! The collector as the agent sees it: one address that takes envelopes and answers for each.
//!
//! ```text
//! POST <collector>/v1/envelopes      content-type: application/cbor-seq (RFC 8742)
//! 200 {"results":[{"sequence":7,"status":"accepted"},
//!                 {"sequence":8,"status":"refused","reason":"unknown_agent"}]}
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use crate::identity::Envelope;
use crate::tls::Pins;

/// Longest wait for an answer: a batch of some megabytes over a slow line, and a collector that
/// syncs its disk. Chosen by hand.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read: some 100 for each of the envelopes of one batch.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Longest pause that a collector may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// A collector to post to.
#[derive(Debug, Clone)]
pub struct Collector {
    client: Client,
    envelopes: Url,
    health: Url,
    /// Host and port that packets go to.
    address: Option<(String, u16)>,
}

/// What the collector says of one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// Number of the envelope in its chain.
    pub sequence: u64,
    /// What became of it.
    pub status: Status,
    /// Why, where it was refused.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What became of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is durable at the collector.
    Accepted,
    /// It was there already.
    Duplicate,
    /// It was not taken.
    Refused,
}

#[derive(Debug, Deserialize)]
struct Answer {
    results: Vec<Verdict>,
}

/// Why a batch was not answered for.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No answer: no connection, a certificate that does not stem from our CAs, a time-out.
    #[error("{0}")]
    Unreachable(String),
    /// The collector asks for a pause.
    #[error("the collector asks to wait {} s", pause.as_secs())]
    Busy {
        /// How long.
        pause: Duration,
    },
    /// An answer we did not expect.
    #[error("the collector answered {0}")]
    Unexpected(String),
}

impl Collector {
    /// A collector at `url` whose certificate stems from one of `ca_files`.
    ///
    /// # Errors
    /// The CA files cannot be used, or the address is none.
    pub fn new(url: &str, ca_files: &[PathBuf]) -> anyhow::Result<Self> {
        Self::over(url, &Arc::new(Pins::of_files(ca_files)?), None)
    }

    /// A collector at `url` whose certificate stems from what is pinned, reached through a proxy if one
    /// is given.
    ///
    /// # Errors
    /// The address is none.
    pub fn over(url: &str, pins: &Arc<Pins>, proxy: Option<&Proxy>) -> anyhow::Result<Self> {
        let envelopes = envelopes_url(url)?;
        let client = client(pins, proxy)?;
        let address = match proxy {
            Some(proxy) => proxy.address(),
            None => address_of(&envelopes),
        };
        let health = envelopes.join("health").context("collector address")?;
        Ok(Self {
            client,
            envelopes,
            health,
            address,
        })
    }

    /// Posts a batch and returns what is said of each envelope.
    ///
    /// # Errors
    /// [`PostError`]; then nothing is known of any of them.
    pub async fn post(&self, batch: &[Envelope]) -> Result<Vec<Verdict>, PostError> {
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|one| one.bytes.iter().copied())
            .collect();
        let request = self.client.post(self.envelopes.clone());
        let request = request
            .header(CONTENT_TYPE, "application/cbor-seq")
            .body(bytes);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let pause = retry_after(&response).min(RETRY_AFTER_MAX);
            return Err(PostError::Busy { pause });
        }
        if !status.is_success() {
            return Err(PostError::Unexpected(status.to_string()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(PostError::Unexpected("at too great length".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| PostError::Unexpected(format!("with no list of results: {error}")))?;
        Ok(answer.results)
    }

    /// Connects and asks how the collector is, to see whether it is there and is who it should be.
    ///
    /// # Errors
    /// [`PostError::Unreachable`].
    pub async fn knock(&self) -> Result<Knock, PostError> {
        let request = self.client.get(self.health.clone());
        let response = request.send().await.map_err(unreachable)?;
        let date = date(&response);
        let status = response.status();
        Ok(Knock {
            date,
            well: status.is_success(),
            status: format!("its health answers {status}"),
        })
    }
}

impl Collector {
    /// A request for something else of the collector, by its name behind `/v1/`.
    ///
    /// # Errors
    /// It is no name.
    pub fn get(&self, name: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.envelopes.join(name).context("collector address")?;
        Ok(self.client.get(url))
    }
}

/// How long an answer asks to stay away (`Retry-After`); a second where it does not say.
pub(crate) fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// The collector's time, if an answer tells it.
fn date(response: &Response) -> Option<SystemTime> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp().into())
}

/// How far the collector's clock is ahead of ours, milliseconds, if an answer tells its time: a claim
/// is refused that is signed at another.
pub(crate) fn ahead_ms(response: &Response, ours_ms: u64) -> Option<i64> {
    let theirs = date(response)?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let theirs_ms = i64::try_from(theirs.as_millis()).ok()?;
    Some(theirs_ms.saturating_sub(i64::try_from(ours_ms).unwrap_or(i64::MAX)))
}

/// What went wrong with a request, with every cause.
pub(crate) fn told(error: reqwest::Error) -> anyhow::Error {
    anyhow::Error::new(unreachable(error))
}

/// What a collector answers that is only asked how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// Its time, if it tells.
    pub date: Option<SystemTime>,
    /// Whether it can take envelopes.
    pub well: bool,
    /// What it said, in words.
    pub status: String,
}

/// Where envelopes go, from the collector's address.
///
/// # Errors
/// It is no `https` address.
pub fn envelopes_url(url: &str) -> anyhow::Result<Url> {
    let base = format!("{}/", url.trim_end_matches('/'));
    let base = Url::parse(&base).with_context(|| format!("collector address {url:?}"))?;
    if base.scheme() != "https" || base.host_str().is_none() {
        anyhow::bail!("collector address {url:?} is no https:// address");
    }
    let is_bare = base.query().is_none() && base.fragment().is_none();
    if !is_bare || !base.username().is_empty() || base.password().is_some() {
        anyhow::bail!("collector address {url:?} is more than host, port and path");
    }
    base.join("v1/envelopes").context("collector address")
}

impl Collector {
    /// Host and port that packets to it go to: its own, or its proxy's.
    pub fn address(&self) -> Option<(String, u16)> {
        self.address.clone()
    }
}

fn address_of(url: &Url) -> Option<(String, u16)> {
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?))
}

/// A proxy that is asked to connect (RFC 9110 section 9.3.6). What goes through it is TLS to the
/// collector, so that it sees no more than how much and when.
#[derive(Clone)]
pub struct Proxy {
    url: Url,
    /// User and password.
    credentials: Option<(String, String)>,
}

impl Proxy {
    /// The proxy at `url`, `http://host:port`.
    ///
    /// # Errors
    /// It is no such address.
    pub fn new(url: &str, credentials: Option<(String, String)>) -> anyhow::Result<Self> {
        let url = Url::parse(url).with_context(|| format!("proxy address {url:?}"))?;
        let is_plain = url.scheme() == "http" && url.host_str().is_some();
        if !is_plain || !url.username().is_empty() || url.password().is_some() {
            anyhow::bail!("a proxy's address is http://host:port; a user goes into a file");
        }
        Ok(Self { url, credentials })
    }

    fn address(&self) -> Option<(String, u16)> {
        address_of(&self.url)
    }
}

/// A client that trusts what is pinned, follows no redirect and reads no environment.
///
/// # Errors
/// TLS or the proxy cannot be set up.
pub fn client(pins: &Arc<Pins>, proxy: Option<&Proxy>) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(pins.client_config()?)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WAIT)
        .timeout(ANSWER_WAIT)
        .user_agent(concat!("picket-agent/", env!("CARGO_PKG_VERSION")));
    builder = match proxy {
        Some(proxy) => {
            let mut through = reqwest::Proxy::all(proxy.url.clone()).context("set up the proxy")?;
            if let Some((user, password)) = &proxy.credentials {
                through = through.basic_auth(user, password);
            }
            builder.proxy(through)
        }
        // Nor is one taken from the environment.
        None => builder.no_proxy(),
    };
    builder.build().context("set up the HTTP client")
}

/// The chain of causes in one line: the top alone never says what is wrong.
fn unreachable(error: reqwest::Error) -> PostError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    PostError::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |url: &str, expected: Option<&str>| {
            let got = envelopes_url(url).ok().map(|url| url.to_string());
            assert_eq!(got.as_deref(), expected, "{url}");
        };
        check(
            "https://c.example:8443",
            Some("https://c.example:8443/v1/envelopes"),
        );
        check(
            "https://c.example/picket/",
            Some("https://c.example/picket/v1/envelopes"),
        );
        check("http://c.example", None);
        check("c.example:8443", None);
        check("https://c.example:8443/?a=b", None);
        check("https://c.example:8443/#a", None);
        check("https://user@c.example:8443", None);
    }
}
