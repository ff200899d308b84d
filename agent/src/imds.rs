//! The instance metadata service, version 2: a token by PUT, then whatever is asked for with it.
//!
//! ```text
//! PUT /latest/api/token            x-aws-ec2-metadata-token-ttl-seconds: 300   → token
//! GET /latest/…                    x-aws-ec2-metadata-token: <token>           → 200, 401, 404
//! ```
//!
//! The answer to the PUT travels as many hops as the instance allows (one by default), so that in a
//! container nothing may come back at all. Version 1 is never tried. Answers come from this host's own
//! hypervisor and are bounded all the same.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::HeaderValue;
use reqwest::{Client, Response, StatusCode, Url};

use crate::tls;

/// Where the service is on every instance.
pub const ENDPOINT: &str = "http://169.254.169.254";

/// Longest wait for an answer. It comes in a millisecond, or after the service's own retries.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// How often is tried what was not answered, as the service refuses requests that come too fast.
const TRIES: u32 = 3;

/// Pause before the second try; then twice that.
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes of an answer that are read: a session token takes some 2 KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Seconds our token is good for: longer than an enrolment takes.
const TOKEN_TTL_S: &str = "300";

/// A client of the service.
pub struct Imds {
    client: Client,
    endpoint: Url,
    token: Option<HeaderValue>,
}

impl Imds {
    /// The service at `endpoint`.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(endpoint: &str) -> anyhow::Result<Self> {
        let endpoint = Url::parse(endpoint)
            .with_context(|| format!("address of the metadata service {endpoint:?}"))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls::trusting_nobody()?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WAIT)
            .build()
            .context("set up the client of the metadata service")?;
        Ok(Self {
            client,
            endpoint,
            token: None,
        })
    }

    /// What stands at a path below `/latest/`; `None` where there is no such thing.
    ///
    /// # Errors
    /// The service does not answer, refuses, or answers at too great length.
    pub async fn text(&mut self, path: &str) -> anyhow::Result<Option<String>> {
        let url = self.url(path)?;
        let mut has_renewed = false;
        loop {
            let token = match &self.token {
                Some(token) => token.clone(),
                None => self.new_token().await?,
            };
            let ask = || {
                let request = self.client.get(url.clone());
                request.header("x-aws-ec2-metadata-token", token.clone())
            };
            let response = tried(ask)
                .await
                .with_context(|| format!("ask for {path}"))?;
            match response.status() {
                StatusCode::OK => return bounded(response).await.map(Some),
                StatusCode::NOT_FOUND => return Ok(None),
                // The token has ended, or the service forgot it: once more with a new one.
                StatusCode::UNAUTHORIZED if !has_renewed => {
                    self.token = None;
                    has_renewed = true;
                }
                status => bail!("the metadata service answers {status} for {path}"),
            }
        }
    }

    async fn new_token(&mut self) -> anyhow::Result<HeaderValue> {
        let url = self.url("api/token")?;
        let ask = || {
            let request = self.client.put(url.clone());
            request.header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_S)
        };
        let response = tried(ask).await.context(
            "no token of the metadata service: this is no EC2 instance, the service is off, or in a \
             container its hop limit is too low",
        )?;
        let status = response.status();
        if status != StatusCode::OK {
            bail!("the metadata service answers {status} when asked for a token");
        }
        let text = bounded(response).await?;
        let token = HeaderValue::from_str(text.trim()).context("the token is no header")?;
        self.token = Some(token.clone());
        Ok(token)
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        self.endpoint
            .join(&format!("/latest/{path}"))
            .with_context(|| format!("path {path} of the metadata service"))
    }
}

/// Asks until there is an answer that is not the service's wish to be asked later.
async fn tried(ask: impl Fn() -> reqwest::RequestBuilder) -> anyhow::Result<Response> {
    let mut pause = PAUSE;
    for left in (0..TRIES).rev() {
        match ask().send().await {
            Ok(response) => {
                let status = response.status();
                let is_passing =
                    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                if !is_passing || left == 0 {
                    return Ok(response);
                }
            }
            Err(error) if left == 0 => return Err(error.into()),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    bail!("not asked")
}

async fn bounded(mut response: Response) -> anyhow::Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            bail!("the metadata service answers with more than {ANSWER_BYTES_MAX} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).context("the metadata service answers with what is no text")
}
