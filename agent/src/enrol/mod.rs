//! Enrolment, the host's side: asks a collector to believe the key of this host, and keeps its word.
//!
//! ```text
//! challenge → proof (join token | EC2 | the old key's word | known already) → request, signed
//!           → receipt, verified: of the collector that gave the challenge, for our key and nonce
//! ```

pub mod cloned;
mod ec2;
pub mod own;
mod receipt;
mod sigv4;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use picket_wire::PublicKey;
use picket_wire::claim::{Claim, Purpose};
use picket_wire::enrol::{Challenge, Proof, Receipt, Request, server_of, succession};
use picket_wire::limits::{CHALLENGE_BYTES_MAX, RECEIPT_BYTES_MAX};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use crate::command::BadConfig;
use crate::config::bad;
use crate::identity::Identity;
use crate::imds::{self, Imds};
use crate::tls::Pins;

pub use receipt::Enrolment;

/// How often a running agent asks whether the collector's authorities have changed.
pub const FRESH_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Pause before it asks again when it was not answered.
const FRESH_AGAIN: Duration = Duration::from_secs(300);

/// How often is asked again that the collector had no time for.
const TRIES: u32 = 5;

/// Bytes of a file with a join token.
const TOKEN_BYTES_MAX: u64 = 1_024;

/// Longest pause that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How this host comes by an identity of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnrolConfig {
    /// Address of the metadata service.
    pub imds: String,
    /// File with a join token, for a host that finds itself with the identity of another.
    pub token_file: Option<PathBuf>,
}

impl Default for EnrolConfig {
    fn default() -> Self {
        Self {
            imds: imds::ENDPOINT.to_owned(),
            token_file: None,
        }
    }
}

impl EnrolConfig {
    /// Says which key cannot be used.
    ///
    /// # Errors
    /// The key.
    pub fn check(&self) -> Result<(), BadConfig> {
        let is_one = Url::parse(&self.imds).is_ok_and(|url| url.has_host());
        match is_one {
            true => Ok(()),
            false => Err(bad(
                "enrol.imds",
                "no address; default: http://169.254.169.254",
            )),
        }
    }
}

/// Why the key should be believed.
pub enum Showing<'a> {
    /// A join token, and the host that is meant.
    Token {
        /// The token.
        token: &'a str,
        /// The account.
        account: &'a str,
        /// The region.
        region: &'a str,
        /// The instance.
        instance: &'a str,
    },
    /// What the metadata service says.
    Ec2(&'a mut Imds),
    /// The key that was believed so far.
    Predecessor(&'a Identity),
    /// The key itself, which is believed already.
    Itself,
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum Unenrolled {
    /// An operator has to let this host in.
    #[error(
        "the collector waits for an operator to let agent {agent} in: picket-collector agents approve {agent}"
    )]
    Pending {
        /// Our id.
        agent: String,
    },
    /// The collector refused.
    #[error("the collector refuses: {word}{}", advice(word))]
    Refused {
        /// Its word.
        word: String,
    },
}

/// What can be done about a refusal.
fn advice(word: &str) -> &'static str {
    match word {
        "second_key" => {
            " (this instance is bound to another key; if that one is lost, an operator frees it with \
             picket-collector agents revoke --release)"
        }
        "revoked" => {
            " (an operator revoked this key; once they have freed this host with \
             picket-collector agents revoke --release, enroll it with --new-key)"
        }
        "other_host" => " (this key is enrolled for another host)",
        "token_unknown" | "token_expired" | "token_used" | "token_revoked" | "token_scope" => {
            " (see picket-collector join-tokens list)"
        }
        "account" | "region" => " (see [enrol] of the collector's configuration)",
        "identity_signer" => " (the collector has no certificate of this region)",
        "sts_missing" => " (give the instance a role; it needs no permission)",
        _ => "",
    }
}

/// The way to a collector.
pub struct Desk {
    client: Client,
    collector: String,
    challenge: Url,
    enrol: Url,
}

impl Desk {
    /// The collector at `collector`, reached by `client`.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(client: Client, collector: &str) -> anyhow::Result<Self> {
        let envelopes = crate::ship::collector::envelopes_url(collector)?;
        let join = |path| envelopes.join(path).context("collector address");
        Ok(Self {
            client,
            collector: collector.to_owned(),
            challenge: join("enrol/challenge")?,
            enrol: join("enrol")?,
        })
    }

    /// Asks that the key of `identity` be believed. `expected` is the collector's key, where it is known:
    /// a receipt of another is refused.
    ///
    /// # Errors
    /// [`Unenrolled`], or the collector cannot be reached or is not who it should be.
    pub async fn enrol(
        &self,
        identity: &Identity,
        mut showing: Showing<'_>,
        expected: Option<PublicKey>,
    ) -> anyhow::Result<(Receipt, Vec<u8>)> {
        let bytes = self
            .post(&self.challenge, None, CHALLENGE_BYTES_MAX)
            .await?;
        let challenge = Challenge::read(&bytes).context("read the collector's challenge")?;
        let collector = challenge.key();
        if expected.is_some_and(|expected| expected != collector) {
            bail!("the collector has another key than the one this host enrolled with");
        }
        let key = identity.public_key();
        let proof = match &mut showing {
            Showing::Token {
                token,
                account,
                region,
                instance,
            } => Proof::Token {
                token: (*token).to_owned(),
                account: (*account).to_owned(),
                region: (*region).to_owned(),
                instance: (*instance).to_owned(),
            },
            Showing::Ec2(imds) => ec2::proof(imds, &key, &challenge).await?,
            Showing::Predecessor(old) => Proof::Successor {
                claim: handing_over(old, &challenge, &key)?,
            },
            Showing::Itself => Proof::Known,
        };
        let request = Request::new(challenge.nonce, server_of(&collector), key, proof);
        let sealed = request.seal(identity.signer());
        let bytes = self
            .post(&self.enrol, Some(sealed), RECEIPT_BYTES_MAX)
            .await;
        let bytes = bytes.map_err(|error| match error.downcast_ref::<Waits>() {
            Some(_) => Unenrolled::Pending {
                agent: identity.agent().to_string(),
            }
            .into(),
            None => error,
        })?;
        let receipt = Receipt::open(&bytes, &collector).context("read the collector's receipt")?;
        if receipt.key != key || receipt.nonce != challenge.nonce {
            bail!("the collector's receipt is for another key or another request");
        }
        Ok((receipt, bytes))
    }

    /// Posts, again if the collector asks for that, and returns the answer's body.
    async fn post(
        &self,
        url: &Url,
        body: Option<Vec<u8>>,
        bytes_max: usize,
    ) -> anyhow::Result<Vec<u8>> {
        for left in (0..TRIES).rev() {
            let mut request = self.client.post(url.clone());
            if let Some(body) = &body {
                request = request
                    .header(CONTENT_TYPE, "application/cose; cose-type=\"cose-sign1\"")
                    .body(body.clone());
            }
            let response = request
                .send()
                .await
                .with_context(|| format!("ask the collector {}", self.collector))?;
            let status = response.status();
            let pause = response.headers().get(RETRY_AFTER);
            let pause = pause.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            // A request is good once: only what had none is worth another try.
            if status == StatusCode::TOO_MANY_REQUESTS && left > 0 && body.is_none() {
                let pause = Duration::from_secs(pause.unwrap_or(1)).min(PAUSE_MAX);
                tokio::time::sleep(pause).await;
                continue;
            }
            let bytes = bounded(response, bytes_max).await?;
            return match status {
                StatusCode::OK => Ok(bytes),
                StatusCode::ACCEPTED => Err(Waits.into()),
                status => {
                    let told: Option<Told> = serde_json::from_slice(&bytes).ok();
                    let word = told.map_or_else(|| status.to_string(), |told| told.error);
                    Err(Unenrolled::Refused { word }.into())
                }
            };
        }
        bail!("not asked")
    }

    /// Keeps the authorities of an enrolled host fresh for as long as it runs: the collector's receipt is
    /// asked for again now and then, and what it says of authorities is pinned and stored.
    pub async fn keep_fresh(
        self,
        identity: Identity,
        mut enrolment: Enrolment,
        pins: Option<Arc<Pins>>,
        state_dir: PathBuf,
    ) {
        loop {
            let pause = match self
                .freshen(&identity, &mut enrolment, pins.as_deref(), &state_dir)
                .await
            {
                Ok(()) => FRESH_EVERY,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "receipt not renewed");
                    FRESH_AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn freshen(
        &self,
        identity: &Identity,
        enrolment: &mut Enrolment,
        pins: Option<&Pins>,
        state_dir: &Path,
    ) -> anyhow::Result<()> {
        let expected = Some(enrolment.receipt.collector);
        let (receipt, bytes) = self.enrol(identity, Showing::Itself, expected).await?;
        let next = enrolment.followed_by(receipt, bytes);
        if next.authorities != enrolment.authorities {
            if let Some(pins) = pins {
                pins.replace(&next.pins())?;
            }
            next.store_authorities(state_dir)?;
            tracing::info!(
                authorities = next.authorities.len(),
                "the collector's authorities changed"
            );
        }
        *enrolment = next;
        Ok(())
    }
}

/// Reads a join token.
///
/// # Errors
/// The file cannot be read.
pub fn token(file: &Path) -> anyhow::Result<String> {
    let read = File::open(file).and_then(token_of);
    read.with_context(|| format!("read token {}", file.display()))
}

/// Reads a join token from what is open.
///
/// # Errors
/// It cannot be read.
pub fn token_of(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// The old key's word for the new one.
fn handing_over(
    old: &Identity,
    challenge: &Challenge,
    next: &PublicKey,
) -> anyhow::Result<Vec<u8>> {
    let now = jiff::Timestamp::now().as_millisecond();
    let claim = Claim {
        agent: old.agent(),
        purpose: Purpose::Rotation,
        issued_ms: u64::try_from(now).unwrap_or_default(),
        once: crate::identity::random()?,
        body: Some(succession(&challenge.nonce, next)),
    };
    Ok(claim.seal(old.signer()))
}

/// The collector has written us down and waits for a person.
#[derive(Debug, thiserror::Error)]
#[error("pending")]
struct Waits;

/// What a collector says when it refuses.
#[derive(Deserialize)]
struct Told {
    error: String,
}

async fn bounded(mut response: Response, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .context("read the collector's answer")?
    {
        if body.len() + chunk.len() > bytes_max {
            bail!("the collector answers with more than {bytes_max} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
