//! STS: computes the signature of each request again from what arrived, with Signature Version 4 written
//! down a second time, for any headers and any service.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use jiff::fmt::strtime;
use ring::digest::{SHA256, digest};
use ring::hmac;

/// How far a request's date may be from now.
const SKEW_S: i64 = 15 * 60;

/// Who holds an access key.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The key's secret.
    pub secret: String,
    /// The session's token.
    pub token: String,
    /// The account.
    pub account: String,
    /// The session.
    pub arn: String,
}

/// An STS on loopback.
pub struct Sts {
    address: SocketAddr,
    state: Arc<Service>,
}

#[derive(Default)]
struct Service {
    holders: Mutex<HashMap<String, Holder>>,
    asked: AtomicU64,
}

impl Sts {
    /// Starts it; it knows nobody yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let state = Arc::new(Service::default());
        let router = Router::new().fallback(answer).with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .context("bind STS")?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, state })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Makes an access key known.
    pub fn know(&self, id: &str, holder: Holder) {
        let mut holders = self
            .state
            .holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        holders.insert(id.to_owned(), holder);
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::Relaxed)
    }
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    service.asked.fetch_add(1, Ordering::Relaxed);
    let caller = service.caller(&method, &uri, &headers, &body);
    let (status, text) = match caller {
        Ok(holder) => (
            StatusCode::OK,
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
                 <GetCallerIdentityResult>\n    <Arn>{}</Arn>\n    <UserId>AROA:x</UserId>\n    \
                 <Account>{}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    \
                 <RequestId>1</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n",
                holder.arn, holder.account
            ),
        ),
        Err(code) => (
            StatusCode::FORBIDDEN,
            format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"),
        ),
    };
    (status, [("content-type", "text/xml")], text).into_response()
}

impl Service {
    fn caller(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Holder, &'static str> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = header("authorization").ok_or("MissingAuthenticationToken")?;
        let date = header("x-amz-date").ok_or("MissingAuthenticationToken")?;
        let parts = Parts::read(authorization).ok_or("IncompleteSignature")?;
        let mut scope = parts.credential.splitn(2, '/');
        let (id, scope) = (
            scope.next().unwrap_or_default(),
            scope.next().unwrap_or_default(),
        );
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = holders.get(id).ok_or("InvalidClientTokenId")?.clone();
        if header("x-amz-security-token") != Some(&holder.token) {
            return Err("InvalidClientTokenId");
        }
        let told = strtime::parse("%Y%m%dT%H%M%SZ", date)
            .and_then(|time| time.to_datetime())
            .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| "IncompleteSignature")?;
        let now = Timestamp::now().as_second();
        if (told.timestamp().as_second() - now).abs() > SKEW_S {
            return Err("SignatureDoesNotMatch");
        }
        let request = Request {
            method: method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
                .collect(),
            body,
        };
        let signature = request.signature(&parts.signed_headers, date, scope, &holder.secret);
        if signature != parts.signature {
            return Err("SignatureDoesNotMatch");
        }
        if body != b"Action=GetCallerIdentity&Version=2011-06-15" {
            return Err("InvalidAction");
        }
        Ok(holder)
    }
}

/// An `Authorization` header, taken apart.
struct Parts<'a> {
    credential: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("AWS4-HMAC-SHA256")?.trim();
        let find = |name: &str| {
            let parts = rest.split(',').map(str::trim);
            parts.filter_map(|part| part.strip_prefix(name)).next()
        };
        Some(Self {
            credential: find("Credential=")?,
            signed_headers: find("SignedHeaders=")?.split(';').collect(),
            signature: find("Signature=")?,
        })
    }
}

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

impl Request<'_> {
    /// The signature that belongs to this request.
    fn signature(&self, signed: &[&str], date: &str, scope: &str, secret: &str) -> String {
        let mut canonical = vec![self.method.to_owned(), self.path.to_owned()];
        let mut query: Vec<&str> = self.query.split('&').collect();
        query.sort_unstable();
        canonical.push(query.join("&"));
        for name in signed {
            let values = self.headers.iter().filter(|(header, _)| header == name);
            let values: Vec<String> = values
                .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            canonical.push(format!("{name}:{}", values.join(",")));
        }
        canonical.extend([String::new(), signed.join(";"), sha256(self.body)]);
        let hashed = sha256(canonical.join("\n").as_bytes());
        let text = ["AWS4-HMAC-SHA256", date, scope, &hashed].join("\n");
        let first = format!("AWS4{secret}").into_bytes();
        let key = scope.split('/').fold(first, |key, part| mac(&key, part));
        hex(&mac(&key, &text))
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the AWS General Reference, "Signing AWS requests": IAM ListUsers.
    #[test]
    fn the_published_example_comes_out() {
        let request = Request {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: vec![
                (
                    "content-type",
                    "application/x-www-form-urlencoded; charset=utf-8",
                ),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            body: b"",
        };
        let signature = request.signature(
            &["content-type", "host", "x-amz-date"],
            "20150830T123600Z",
            "20150830/us-east-1/iam/aws4_request",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        );
        assert_eq!(
            signature,
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }
}
