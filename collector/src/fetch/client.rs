//! One feed's way to its server: bounded in bytes, time and redirects, over TLS.
//!
//! Redirects are followed here and not by the HTTP library, so that a key goes only to the server it
//! was configured for and nothing leaves TLS. Packed answers are unpacked here, so that the bound holds
//! for what comes out as well.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Certificate, Proxy, Response, StatusCode, Url, redirect};

use super::error::FetchError;
use super::limits::{
    CONNECT_MAX, KEY_BYTES_MAX, READ_PAUSE_MAX, REDIRECTS_MAX, RETRY_AFTER_MAX_S,
    VALIDATOR_BYTES_MAX,
};
use super::names::Names;
use super::settings::{self, Feed};
use crate::store::feeds::Validators;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Times that content is packed, at most: a packed file sent packed.
const LAYERS_MAX: usize = 2;

/// Asks for one feed.
pub(super) struct Client<'a> {
    http: reqwest::Client,
    feed: &'a Feed,
    url: Url,
    key: Option<Key<'a>>,
}

/// A key and where it goes.
struct Key<'a> {
    secret: String,
    feed: &'a Feed,
}

/// What a question says besides its address.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    /// What is known already.
    pub(super) validators: Option<&'a Validators>,
    /// The media type that is understood.
    pub(super) accept: Option<&'static str>,
}

/// What came.
pub(super) enum Answer {
    /// What is known already.
    NotModified,
    /// Something.
    Content(Content),
}

/// An answer with its body.
pub(super) struct Content {
    /// Unpacked.
    pub(super) bytes: Vec<u8>,
    /// What to send the next time.
    pub(super) validators: Validators,
    /// The rest of its head.
    pub(super) head: HeaderMap,
}

impl<'a> Client<'a> {
    /// Reads the key and the authorities, as they are now.
    pub(super) fn open(feed: &'a Feed) -> Result<Self, FetchError> {
        let url = feed.url().map_err(FetchError::Protocol)?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("picket-collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX)
            .read_timeout(READ_PAUSE_MAX)
            .timeout(Duration::from_secs(feed.timeout_s))
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::new(Names))
            .no_proxy();
        if let Some(proxy) = &feed.proxy {
            http = http.proxy(Proxy::all(proxy)?);
        }
        if let Some(file) = &feed.ca_file {
            let told = |why: &dyn std::fmt::Display| {
                FetchError::Key(format!("authorities {}: {why}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| told(&error))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| told(&error))?;
            if authorities.is_empty() {
                return Err(told(&"no certificate in it"));
            }
            http = http.tls_certs_only(authorities);
        } else if url.scheme() == "http" {
            // Nothing is proven on this machine, so one without the system's authorities will do.
            http = http.tls_certs_only([]);
        }
        Ok(Self {
            http: http.build()?,
            key: Key::read(feed)?,
            feed,
            url,
        })
    }

    /// Where the feed is.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for `url`, for at most `bytes_max` bytes of content.
    pub(super) async fn get(
        &self,
        url: &Url,
        ask: Ask<'_>,
        bytes_max: u64,
    ) -> Result<Answer, FetchError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&url, ask).await?;
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED && ask.validators.is_some() {
                return Ok(Answer::NotModified);
            }
            if status == StatusCode::OK {
                return content(response, bytes_max).await.map(Answer::Content);
            }
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Err(FetchError::Status {
                    status: status.as_u16(),
                    retry_after_s: retry_after_s(response.headers()),
                });
            }
            url = next(&url, response.headers())?;
        }
        Err(FetchError::RedirectLoop)
    }

    async fn send(&self, url: &Url, ask: Ask<'_>) -> Result<Response, FetchError> {
        let mut request = self.http.get(url.clone());
        if url.origin() == self.url.origin()
            && let Some(key) = &self.key
        {
            request = key.on(request);
        }
        request = request.header(header::ACCEPT_ENCODING, "gzip");
        if let Some(accept) = ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(known) = ask.validators {
            if let Some(etag) = &known.etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            if let Some(date) = &known.last_modified {
                request = request.header(header::IF_MODIFIED_SINCE, date);
            }
        }
        Ok(request.send().await?)
    }

    /// Seconds after which what is only added to is asked for anew.
    pub(super) fn whole_s(&self) -> u64 {
        self.feed.whole_s
    }

    /// Bytes the whole feed may have.
    pub(super) fn bytes_max(&self) -> u64 {
        self.feed.bytes_max
    }
}

impl<'a> Key<'a> {
    fn read(feed: &'a Feed) -> Result<Option<Self>, FetchError> {
        let Some(file) = &feed.key_file else {
            return Ok(None);
        };
        let told =
            |why: &dyn std::fmt::Display| FetchError::Key(format!("key {}: {why}", file.display()));
        let mut secret = String::new();
        std::fs::File::open(file)
            .and_then(|open| open.take(KEY_BYTES_MAX).read_to_string(&mut secret))
            .map_err(|error| told(&error))?;
        let secret = secret.trim().to_owned();
        if secret.is_empty() {
            return Err(told(&"it is empty"));
        }
        Ok(Some(Self { secret, feed }))
    }

    fn on(&self, mut request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        if let Some(name) = &self.feed.key_header
            && let Ok(mut value) = HeaderValue::from_str(&self.secret)
        {
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(name) = &self.feed.key_parameter {
            request = request.query(&[(name, &self.secret)]);
        }
        if let Some(user) = &self.feed.user {
            request = request.basic_auth(user, Some(&self.secret));
        }
        request
    }
}

/// Where a redirect leads.
fn next(from: &Url, head: &HeaderMap) -> Result<Url, FetchError> {
    let to = head
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    let to = to.ok_or_else(|| FetchError::Redirect("nowhere".to_owned()))?;
    let url = from
        .join(to)
        .map_err(|_| FetchError::Redirect("what is no address".to_owned()))?;
    let leaves_tls = from.scheme() == "https" && url.scheme() != "https";
    // Whoever serves a feed must not have this machine asked in our name.
    let comes_home = settings::is_loopback(&url) && !settings::is_loopback(from);
    let is_barred = comes_home || settings::forbidden(&url).is_some();
    if leaves_tls || is_barred || !settings::may_ask(&url) {
        let mut shown = url;
        shown.set_query(None);
        return Err(FetchError::Redirect(shown.to_string()));
    }
    Ok(url)
}

async fn content(mut response: Response, bytes_max: u64) -> Result<Content, FetchError> {
    let too_large = || FetchError::TooLarge(bytes_max);
    if response.content_length().is_some_and(|len| len > bytes_max) {
        return Err(too_large());
    }
    let validators = validators(response.headers());
    let head = std::mem::take(response.headers_mut());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Content {
        bytes: unpacked(bytes, bytes_max)?,
        validators,
        head,
    })
}

/// Content as it was before it was packed, which its first two bytes tell.
fn unpacked(mut bytes: Vec<u8>, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
    for _ in 0..LAYERS_MAX {
        if !bytes.starts_with(&GZIP) {
            break;
        }
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes.as_slice())
            .take(bytes_max + 1)
            .read_to_end(&mut plain)
            .map_err(|error| FetchError::Packed(error.to_string()))?;
        if plain.len() as u64 > bytes_max {
            return Err(FetchError::TooLarge(bytes_max));
        }
        bytes = plain;
    }
    Ok(bytes)
}

/// Names of the version that came, if they are worth sending back.
fn validators(head: &HeaderMap) -> Validators {
    let text = |name| {
        let text = head.get(name)?.to_str().ok()?;
        (text.len() <= VALIDATOR_BYTES_MAX).then(|| text.to_owned())
    };
    Validators {
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
    }
}

/// Seconds after which the server wants to be asked again; a date is not read.
fn retry_after_s(head: &HeaderMap) -> Option<u64> {
    let text = head.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(seconds.min(RETRY_AFTER_MAX_S))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_within_bounds() {
        let plain = b"192.0.2.1\n".repeat(1_000);
        let once = packed(&plain);
        let twice = packed(&once);
        for bytes in [&plain, &once, &twice] {
            assert_eq!(unpacked(bytes.clone(), 10_000).unwrap(), plain);
        }
        assert!(matches!(
            unpacked(once.clone(), 9_999),
            Err(FetchError::TooLarge(9_999))
        ));
        let bomb = packed(&vec![0; 1 << 24]);
        assert!(matches!(
            unpacked(bomb, 1 << 20),
            Err(FetchError::TooLarge(_))
        ));
        for cut in 2..once.len() {
            assert!(matches!(
                unpacked(once[..cut].to_vec(), 10_000),
                Err(FetchError::Packed(_))
            ));
        }
    }

    #[test]
    fn a_redirect_stays_on_tls_and_off_this_machine() {
        let to = |from: &str, to: &str| {
            let mut head = HeaderMap::new();
            head.insert(header::LOCATION, HeaderValue::from_str(to).unwrap());
            next(&Url::parse(from).unwrap(), &head).map(|url| url.to_string())
        };
        let far = "https://feeds.example/a";
        assert_eq!(to(far, "/b").unwrap(), "https://feeds.example/b");
        assert_eq!(
            to(far, "https://cdn.example/c").unwrap(),
            "https://cdn.example/c"
        );
        assert!(to(far, "http://cdn.example/c").is_err());
        assert!(to(far, "http://127.0.0.1/c").is_err());
        assert!(to(far, "file:///etc/passwd").is_err());
        for barred in [
            "https://127.0.0.1/c",
            "https://[::1]/c",
            "https://localhost/c",
            "https://localhost./c",
            "https://x.localhost/c",
            "https://169.254.169.254/latest/",
            "https://2852039166/latest/",
            "https://0xa9fea9fe/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
        ] {
            assert!(to(far, barred).is_err(), "{barred}");
        }
        assert!(to(far, "https://10.0.0.1/c").is_ok(), "a mirror inside");
        assert!(to("http://127.0.0.1:1/a", "http://169.254.169.254/").is_err());
        assert!(to("http://127.0.0.1:1/a", "http://127.0.0.1:2/").is_ok());
        let told = to(far, "http://cdn.example/c?auth-key=secret").unwrap_err();
        assert!(!told.to_string().contains("secret"), "{told}");
    }
}
