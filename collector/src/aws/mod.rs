//! The few calls of AWS that the collector makes: S3 (list, get), SQS (receive, delete, extend), STS
//! (assume a role), CloudTrail (public keys).
//!
//! A dozen calls do not earn nine SDK crates: they are signed here ([`sign`]) with credentials from where
//! AWS's own tools find them ([`credentials`]), and sent by the HTTP client that is there already. Every
//! answer is bounded, and what a service said when it refused is part of the error.

pub(crate) mod cloudtrail;
pub(crate) mod credentials;
pub(crate) mod encode;
pub(crate) mod limits;
pub(crate) mod s3;
mod sign;
pub(crate) mod sqs;
mod sts;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Method, Response, Url, redirect};
use serde::Deserialize;

use credentials::{Chain, Role};
use limits::{
    ANSWER_BYTES_MAX, CONNECT_MAX, PAUSES, READ_PAUSE_MAX, REFUSAL_BYTES_MAX, WHY_BYTES_MAX,
};
use sign::ToSign;

use crate::config::BadValue;

/// What holds for every call of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Region of what does not say its own.
    pub region: Option<String>,
    /// Where every service is asked in place of AWS's own hosts: for servers that speak its protocols.
    pub endpoint_url: Option<String>,
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        if let Some(region) = &self.region {
            check_region("aws.region", region)?;
        }
        if let Some(url) = &self.endpoint_url {
            endpoint(url).map_err(|why| BadValue::new("aws.endpoint_url", why))?;
        }
        Ok(())
    }
}

/// Says whether a text can be a region: it becomes part of a host's name.
pub(crate) fn is_region(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_part)
}

pub(crate) fn check_region(key: &str, region: &str) -> Result<(), BadValue> {
    if is_region(region) {
        return Ok(());
    }
    Err(BadValue::new(key, "is no region, such as eu-central-1"))
}

fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("must begin with http:// or https://".to_owned());
    }
    let has_more = !matches!(url.path(), "" | "/") || url.query().is_some();
    if has_more || !url.username().is_empty() || url.password().is_some() {
        return Err("must be a host and a port, and no more".to_owned());
    }
    Ok(url)
}

/// Why a call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AwsError {
    /// There are none, or they could not be renewed.
    #[error("no credentials: {0}")]
    Credentials(String),
    /// It cannot be asked for at all.
    #[error("{0}")]
    Request(String),
    /// The service was not reached, or broke off.
    #[error("not reached: {0}")]
    Send(String),
    /// The service refused.
    #[error("refused with {status} {code}: {message}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// The service's word for it.
        code: String,
        /// What it says.
        message: String,
        /// The region that it says the bucket is in.
        region: Option<String>,
    },
    /// More than an answer has.
    #[error("answer longer than {0} bytes")]
    TooLong(usize),
    /// Not what was asked for.
    #[error("answer not understood: {0}")]
    Answer(String),
}

impl AwsError {
    /// Whether the thing asked for is not there, and asking again will not bring it.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NoSuchKey" || code == "NoSuchBucket")
    }

    /// Whether asking again will not help, as the object cannot be read as it is: put into an archive, its
    /// key of KMS gone or disabled, or of a name that cannot be asked for.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Request(_) => true,
            Self::Refused { code, .. } => code == "InvalidObjectState" || code.starts_with("KMS."),
            _ => false,
        }
    }

    /// The region to ask in instead.
    pub(crate) fn elsewhere(&self) -> Option<&str> {
        match self {
            Self::Refused { region, .. } => region.as_deref(),
            _ => None,
        }
    }

    fn is_passing(&self) -> bool {
        match self {
            Self::Send(_) => true,
            Self::Refused { status, code, .. } => {
                *status >= 500 || *status == 429 || code.contains("Throttl") || code == "SlowDown"
            }
            _ => false,
        }
    }

    fn is_of_old_credentials(&self) -> bool {
        let Self::Refused { code, .. } = self else {
            return false;
        };
        code.contains("ExpiredToken") || code == "TokenRefreshRequired"
    }
}

/// Calls services in the name of one role.
#[derive(Clone)]
pub(crate) struct Aws {
    http: Client,
    chain: Arc<Chain>,
    /// Where every service is, if not at AWS.
    endpoint: Option<Url>,
    region: Option<String>,
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) service: &'static str,
    pub(super) region: &'a str,
    pub(super) method: Method,
    /// Before the region in the name of the host, if it is not the service: the bucket's.
    pub(super) host: Option<String>,
    /// Encoded.
    pub(super) path: String,
    /// Encoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Aws {
    /// Prepares calls with what the environment says, in the name of `role` if there is one. Nothing is
    /// asked yet.
    ///
    /// # Errors
    /// There is no HTTP client to be had: the machine has no authorities.
    pub(crate) fn open(settings: &Settings, role: Option<Role>) -> Result<Self, AwsError> {
        let of_environment = || std::env::var("AWS_ENDPOINT_URL").ok();
        let url = settings.endpoint_url.clone().or_else(of_environment);
        let endpoint = url
            .filter(|url| !url.is_empty())
            .map(|url| endpoint(&url).map_err(|why| AwsError::Request(format!("{url}: {why}"))))
            .transpose()?;
        let mut http = Client::builder()
            .user_agent(concat!("picket-collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX)
            .read_timeout(READ_PAUSE_MAX)
            .redirect(redirect::Policy::none());
        if endpoint.as_ref().is_some_and(|url| url.scheme() == "http") {
            // Nothing is proven by TLS, so a machine without the system's authorities will do.
            http = http.tls_certs_only([]).no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| AwsError::Request(chain_of(&error)))?;
        let region = settings.region.clone().or_else(credentials::region);
        Ok(Self {
            chain: Arc::new(Chain::new(
                http.clone(),
                endpoint.clone(),
                region.clone(),
                role,
            )),
            http,
            endpoint,
            region: region.filter(|region| is_region(region)),
        })
    }

    /// The region of what does not say its own.
    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Whether another server than AWS's is asked.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.endpoint.is_some()
    }

    /// Makes a call and holds its answer.
    pub(super) async fn text(&self, call: Call<'_>) -> Result<Vec<u8>, AwsError> {
        let mut tries = PAUSES.iter();
        loop {
            let outcome = match self.send(&call).await {
                Ok(response) => held(response, ANSWER_BYTES_MAX).await,
                Err(error) => Err(error),
            };
            match (outcome, tries.next()) {
                (Err(error), Some(pause)) if error.is_passing() => wait(*pause).await,
                (outcome, _) => return outcome,
            }
        }
    }

    /// Makes a call whose answer is read by the caller.
    pub(super) async fn stream(&self, call: Call<'_>) -> Result<Response, AwsError> {
        let mut tries = PAUSES.iter();
        loop {
            match (self.send(&call).await, tries.next()) {
                (Err(error), Some(pause)) if error.is_passing() => wait(*pause).await,
                (outcome, _) => return outcome,
            }
        }
    }

    async fn send(&self, call: &Call<'_>) -> Result<Response, AwsError> {
        let sent = self.send_once(call).await;
        match sent {
            Err(error) if error.is_of_old_credentials() => {
                self.chain.forget().await;
                self.send_once(call).await
            }
            sent => sent,
        }
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Response, AwsError> {
        let credentials = self.chain.credentials().await?;
        let base = base(call, self.endpoint.as_ref())?;
        let host = authority(&base);
        let headers = sign::sign(
            &ToSign {
                method: call.method.as_str(),
                path: &call.path,
                query: &call.query,
                host: &host,
                headers: &call.headers,
                body: &call.body,
                region: call.region,
                service: call.service,
                at: Timestamp::now(),
            },
            &credentials,
        );
        let mut url = format!("{}://{host}{}", base.scheme(), call.path);
        if !call.query.is_empty() {
            url = format!("{url}?{}", sign::query_text(&call.query));
        }
        let parsed = Url::parse(&url).map_err(|error| AwsError::Request(error.to_string()))?;
        if parsed.as_str() != url {
            // It would not arrive as it was signed, and might name something else.
            return Err(AwsError::Request(format!(
                "{:?} cannot be asked for",
                call.path
            )));
        }
        let mut request = self.http.request(call.method.clone(), parsed);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request
            .body(call.body.clone())
            .send()
            .await
            .map_err(|error| AwsError::Send(chain_of(&error.without_url())))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }
}

/// Pauses before another try.
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// The host of a service, or of a bucket.
fn base(call: &Call<'_>, endpoint: Option<&Url>) -> Result<Url, AwsError> {
    if let Some(endpoint) = endpoint {
        return Ok(endpoint.clone());
    }
    let domain = match call.region {
        region if region.starts_with("cn-") => "amazonaws.com.cn",
        region if region.starts_with("eusc-") => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    let before = call.host.as_ref().map(|host| format!("{host}."));
    let (before, service, region) = (before.unwrap_or_default(), call.service, call.region);
    Url::parse(&format!("https://{before}{service}.{region}.{domain}/"))
        .map_err(|error| AwsError::Request(error.to_string()))
}

/// Host and port as the Host header has them.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Holds the whole body of an answer.
async fn held(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, AwsError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| AwsError::Send(chain_of(&error.without_url())))?;
        let Some(chunk) = chunk else {
            return Ok(body);
        };
        if body.len() + chunk.len() > bytes_max {
            return Err(AwsError::TooLong(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
}

/// What a service said when it refused: XML of S3 and STS, JSON of the others.
async fn refusal(response: Response) -> AwsError {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Words {
        #[serde(rename = "__type")]
        code: String,
        #[serde(alias = "Message")]
        message: String,
    }
    let status = response.status();
    let elsewhere = response.headers().get("x-amz-bucket-region");
    let elsewhere = elsewhere.and_then(|region| region.to_str().ok());
    let region = elsewhere.filter(|one| is_region(one)).map(str::to_owned);
    let body = held(response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let mut words: Words = serde_json::from_slice(&body).unwrap_or_default();
    // A body that cannot be read leaves the status to speak.
    let _ = xml::for_each(&body, &mut |path, value| {
        if path.ends_with("Error/Code") {
            words.code = value;
        } else if path.ends_with("Error/Message") {
            words.message = value;
        }
    });
    // `com.amazonaws.sqs#QueueDoesNotExist`.
    let code = words.code.rsplit('#').next().unwrap_or_default();
    let mut code = shown(code);
    if code.is_empty() {
        // S3 says of a key that is not there what it is; whoever says nothing is not S3.
        code = status.canonical_reason().unwrap_or_default().to_owned();
    }
    AwsError::Refused {
        status: status.as_u16(),
        code,
        message: shown(&words.message),
        region,
    }
}

/// A stranger's words as they may stand in a log.
fn shown(text: &str) -> String {
    let text = text.chars().filter(|one| !one.is_control());
    text.take(WHY_BYTES_MAX).collect()
}

/// An error with what caused it.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
