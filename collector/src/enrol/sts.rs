//! STS asked on behalf of an instance: whose role signed this?
//!
//! The request is built here, whole: host, path, body and every header but three are ours, and go to
//! the one host of the region. Of what the agent sent only the signature, its date and the session
//! token are copied. An attacker who bends anything else breaks the signature, and whoever could bend
//! the target (as in CVE-2020-16250) has nothing to bend.

use std::time::Duration;

use picket_wire::PublicKey;
use picket_wire::enrol::{NONCE_BYTES, Sts, sts};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};

use super::Refused;

/// Longest wait for STS. It answers in tens of milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read; one takes about 500.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// A client of STS.
pub(super) struct Asker {
    /// Or why there is none: a machine without authorities of its own can do all but this.
    client: Result<Client, String>,
    /// Where to send in place of the region's own host.
    endpoint: Option<Url>,
}

/// Who signed, in STS' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) account: String,
    pub(super) arn: String,
}

/// What a request is bound to.
pub(super) struct Binding<'a> {
    pub(super) key: PublicKey,
    pub(super) nonce: &'a [u8; NONCE_BYTES],
    pub(super) collector: PublicKey,
}

impl Asker {
    pub(super) fn new(endpoint: Option<Url>) -> Self {
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(ANSWER_WAIT)
            .build()
            .map_err(|error| format!("{:#}", anyhow::Error::new(error)));
        Self { client, endpoint }
    }

    /// Asks who signed a request.
    pub(super) async fn caller(
        &self,
        region: &str,
        signed: &Sts,
        binding: &Binding<'_>,
    ) -> Result<Caller, Refused> {
        check_authorization(signed, region)?;
        let host = sts::host(region);
        let url = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Url::parse(&format!("https://{host}/"))
                .map_err(|error| Refused::forbidden("sts_malformed", error.to_string()))?,
        };
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Refused::forbidden("sts_malformed", "a header is no header"))
        };
        let client = self.client.as_ref();
        let mut request = client
            .map_err(|why| Refused::unavailable("sts_unavailable", why))?
            .post(url)
            .header(HOST, value(&host)?)
            .header(CONTENT_TYPE, sts::CONTENT_TYPE)
            .header(AUTHORIZATION, value(&signed.authorization)?)
            .header("x-amz-date", value(&signed.date)?)
            .body(sts::BODY);
        if let Some(token) = &signed.token {
            request = request.header("x-amz-security-token", value(token)?);
        }
        let values = sts::bound_values(&binding.key, binding.nonce, &binding.collector);
        for (name, bound) in sts::BOUND.into_iter().zip(values) {
            request = request.header(name, value(&bound)?);
        }
        let unavailable = |error: reqwest::Error| {
            Refused::unavailable("sts_unavailable", error.without_url().to_string())
        };
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Refused::unavailable(
                    "sts_answer",
                    "STS answers at too great length",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK => caller(&body)
                .ok_or_else(|| Refused::unavailable("sts_answer", "STS answers in another form")),
            status if status.is_client_error() => {
                let why = format!("STS answers {status}");
                Err(Refused::forbidden("sts_refused", why))
            }
            status => {
                let why = format!("STS answers {status}");
                Err(Refused::unavailable("sts_unavailable", why))
            }
        }
    }
}

/// Checks that what was signed is what we will send: this service and region, and exactly these
/// headers.
fn check_authorization(signed: &Sts, region: &str) -> Result<(), Refused> {
    let malformed = || {
        Refused::forbidden(
            "sts_malformed",
            "Authorization is not of Signature Version 4",
        )
    };
    let rest = signed
        .authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or_else(malformed)?;
    let mut parts = rest.split(", ");
    let mut part = |name: &str| {
        let part = parts.next().and_then(|part| part.strip_prefix(name));
        part.ok_or_else(malformed)
    };
    let credential = part("Credential=")?;
    let headers = part("SignedHeaders=")?;
    let signature = part("Signature=")?;
    let is_hex = signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.next().is_some() || !is_hex || !is_date(&signed.date) {
        return Err(malformed());
    }
    let day = signed.date.get(..8).unwrap_or_default();
    let mut scope = credential.split('/');
    let id = scope.next().unwrap_or_default();
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_id || !scope.eq([day, region, "sts", "aws4_request"]) {
        let why = "the signature is for another service, region or day";
        return Err(Refused::forbidden("sts_scope", why));
    }
    if headers != sts::signed_headers(signed.token.is_some()) {
        let why = format!("signed headers are {headers:?}");
        return Err(Refused::forbidden("sts_headers", why));
    }
    Ok(())
}

/// `20261122T103000Z`.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 16
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

/// Takes an answer apart: each element that is needed must be there once, and hold plain text.
fn caller(body: &[u8]) -> Option<Caller> {
    let text = std::str::from_utf8(body).ok()?;
    let result = text_in(text, "GetCallerIdentityResult")?;
    let plain = |name| text_in(result, name).filter(|text| !text.contains(['<', '>', '&']));
    Some(Caller {
        account: plain("Account")?.to_owned(),
        arn: plain("Arn")?.to_owned(),
    })
}

/// What stands in the one element of this name.
fn text_in<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = text.split_once(&open)?;
    let (inside, after) = rest.split_once(&close)?;
    let is_once = !inside.contains(&open) && !after.contains(&open) && !after.contains(&close);
    is_once.then_some(inside)
}

impl Caller {
    /// Whether this is the role of an instance, in a session that EC2 named after it.
    pub(super) fn is_instance(&self, account: &str, instance: &str) -> bool {
        let mut parts = self.arn.splitn(6, ':');
        let is_arn = parts.next() == Some("arn")
            && parts
                .next()
                .is_some_and(|partition| partition.starts_with("aws"))
            && parts.next() == Some("sts")
            && parts.next() == Some("")
            && parts.next() == Some(account);
        let mut session = parts.next().unwrap_or_default().split('/');
        let is_session = session.next() == Some("assumed-role")
            && session.next().is_some_and(|role| !role.is_empty())
            && session.next() == Some(instance)
            && session.next().is_none();
        is_arn && is_session && self.account == account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <GetCallerIdentityResult><Arn>arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0</Arn>\
        <UserId>AROAEXAMPLE:i-0123456789abcdef0</UserId><Account>111122223333</Account>\
        </GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\
        </GetCallerIdentityResponse>";

    #[test]
    fn an_answer_is_read_strictly() {
        let read = |text: &str| caller(text.as_bytes());
        let found = read(ANSWER).unwrap();
        assert!(found.is_instance("111122223333", "i-0123456789abcdef0"));
        assert!(!found.is_instance("111122223333", "i-0123456789abcdef"));
        assert!(!found.is_instance("444455556666", "i-0123456789abcdef0"));
        for (from, to) in [
            ("<Account>111122223333</Account>", ""),
            ("</Account>", "</Account><Account>444455556666</Account>"),
            ("<Arn>", "<Arn><!-- -->"),
            ("Result>", "Other>"),
        ] {
            assert_eq!(read(&ANSWER.replace(from, to)), None, "{from} {to}");
        }
        assert_eq!(caller(b"\xff"), None);
    }

    #[test]
    fn only_the_session_that_ec2_names_is_an_instance() {
        let check = |arn: &str, expected: bool| {
            let caller = Caller {
                account: "111122223333".into(),
                arn: arn.into(),
            };
            assert_eq!(caller.is_instance("111122223333", "i-1"), expected, "{arn}");
        };
        check("arn:aws:sts::111122223333:assumed-role/web/i-1", true);
        check("arn:aws-cn:sts::111122223333:assumed-role/web/i-1", true);
        check("arn:aws:sts::444455556666:assumed-role/web/i-1", false);
        check("arn:aws:iam::111122223333:user/i-1", false);
        check("arn:aws:iam::111122223333:role/web/i-1", false);
        check("arn:aws:sts::111122223333:assumed-role//i-1", false);
        check("arn:aws:sts::111122223333:assumed-role/web/x/i-1", false);
        check("arn:aws:sts::111122223333:federated-user/i-1", false);
    }

    #[test]
    fn what_is_signed_must_be_what_is_sent() {
        let good = format!(
            "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261122/eu-central-1/sts/aws4_request, \
             SignedHeaders={}, Signature={}",
            sts::signed_headers(true),
            "0".repeat(64)
        );
        let check = |from: &str, to: &str, expected: Option<&str>| {
            let signed = Sts {
                authorization: good.replace(from, to),
                date: "20261122T103000Z".into(),
                token: Some("t".into()),
            };
            let refused = check_authorization(&signed, "eu-central-1").err();
            assert_eq!(refused.map(|refused| refused.word), expected, "{from} {to}");
        };
        check("", "", None);
        check(
            "AWS4-HMAC-SHA256",
            "AWS4-ECDSA-P256-SHA256",
            Some("sts_malformed"),
        );
        check("Signature=", "Signature=x", Some("sts_malformed"));
        check("Signature=0", "Extra=1, Signature=0", Some("sts_malformed"));
        check("/sts/", "/s3/", Some("sts_scope"));
        check("eu-central-1", "us-east-1", Some("sts_scope"));
        check("20261122/", "20261121/", Some("sts_scope"));
        check("ASIAEXAMPLE", "", Some("sts_scope"));
        check(";x-picket-nonce", "", Some("sts_headers"));
        check("host;", "", Some("sts_headers"));
        check("content-type;", "content-type;cookie;", Some("sts_headers"));
    }
}
