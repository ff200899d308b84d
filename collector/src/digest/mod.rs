//! CloudTrail's digest files: which log files it wrote in an hour, the hash of each, and the hash and
//! signature of the digest before (CloudTrail user guide, "CloudTrail digest file structure").
//!
//! ```text
//! signed  = digestEndTime \n digestS3Bucket/digestS3Object \n hex(sha256(this file)) \n previous signature
//! hashes  = of what is inside the gzip, in hex
//! ```
//!
//! A digest's own signature is metadata of its object in S3; in a folder it is known from the digest that
//! follows. Public keys come from CloudTrail (`aws cloudtrail list-public-keys`) or from a file with its answer.

pub(crate) mod folder;
mod limits;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use picket_detect::{TrailEvent, TrailWord};
use picket_wire::Digest as Hash;
use ring::digest::{Context, SHA256};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;

use crate::config::BadValue;
use crate::source::inflate::{Input, InputError};
use crate::source::limits::CHUNK_BYTES;
use limits::{DIGEST_BYTES_MAX, KEYS_BYTES_MAX, LOGS_MAX, TEXT_BYTES_MAX};

/// What tells a digest's name from a log's.
pub(crate) const NAME: &str = "_CloudTrail-Digest_";

/// `[digests]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether digest files are checked.
    pub check: bool,
    /// File with public keys, as `aws cloudtrail list-public-keys` prints them.
    pub keys_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            check: true,
            keys_file: None,
        }
    }
}

impl Settings {
    /// The keys that are configured.
    ///
    /// # Errors
    /// The file cannot be read, or holds none.
    pub(crate) fn keys(&self) -> Result<Keys, BadValue> {
        let Some(file) = &self.keys_file else {
            return Ok(Keys::default());
        };
        let told = |why: &dyn std::fmt::Display| BadValue::file("digests.keys_file", file, why);
        let size = std::fs::metadata(file).map_err(|error| told(&error))?.len();
        if size > KEYS_BYTES_MAX {
            return Err(told(&"larger than keys are"));
        }
        let bytes = std::fs::read(file).map_err(|error| told(&error))?;
        Keys::parse(&bytes).map_err(|why| told(&why))
    }
}

/// Public keys by their fingerprint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(BTreeMap<String, Vec<u8>>);

impl Keys {
    /// Reads the answer of ListPublicKeys.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "PublicKeyList")]
            keys: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(rename = "Value")]
            value: String,
            #[serde(rename = "Fingerprint")]
            fingerprint: String,
        }
        let answer: Answer = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let keys = answer.keys.into_iter().map(|one| {
            let der = STANDARD.decode(one.value.trim());
            let der = der.map_err(|_| format!("key {:?} is no base64", one.fingerprint))?;
            Ok((one.fingerprint, der))
        });
        keys.collect::<Result<_, String>>().map(Self)
    }

    /// Whether the key that a digest names is among them.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.0.contains_key(&digest.fingerprint)
    }

    /// Says whether a signature is of the key that the digest names; `None` if that is not known.
    fn holds(&self, digest: &Digest, signature: &str) -> Option<bool> {
        let key = self.0.get(&digest.fingerprint)?;
        let Some(signature) = unhex(signature) else {
            return Some(false);
        };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        Some(
            key.verify(digest.signed_text().as_bytes(), &signature)
                .is_ok(),
        )
    }
}

/// A file that a digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) bucket: String,
    pub(crate) object: String,
    /// SHA-256 of what is in it, lower-case hex.
    pub(crate) hash: String,
}

/// A digest file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) object: String,
    pub(crate) previous: Option<Named>,
    pub(crate) logs: Vec<Named>,
    end: String,
    end_ns: u64,
    fingerprint: String,
    previous_signature: Option<String>,
    /// Of its own content.
    hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    aws_account_id: String,
    digest_end_time: String,
    digest_s3_bucket: String,
    digest_s3_object: String,
    digest_public_key_fingerprint: String,
    digest_signature_algorithm: String,
    previous_digest_s3_bucket: Option<String>,
    previous_digest_s3_object: Option<String>,
    previous_digest_hash_value: Option<String>,
    previous_digest_signature: Option<String>,
    log_files: Vec<WrittenLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenLog {
    s3_bucket: String,
    s3_object: String,
    hash_value: String,
    hash_algorithm: String,
}

impl Digest {
    /// Reads a digest's content, inflated.
    ///
    /// # Errors
    /// It is none, in words.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        let written: Written =
            serde_json::from_slice(content).map_err(|error| error.to_string())?;
        if written.log_files.len() > LOGS_MAX {
            return Err(format!("names more than {LOGS_MAX} log files"));
        }
        if written.digest_signature_algorithm != "SHA256withRSA" {
            return Err("is signed in a way that is not known".to_owned());
        }
        let end = written.digest_end_time;
        let time: Timestamp = end
            .parse()
            .map_err(|_| "has no time of its end".to_owned())?;
        let region = written.digest_s3_object.rsplit_once("CloudTrail-Digest/");
        let region = region.and_then(|(_, rest)| rest.split('/').next());
        let logs = written.log_files.into_iter().map(|log| {
            let is_known = log.hash_algorithm == "SHA-256";
            named(log.s3_bucket, log.s3_object, &log.hash_value)
                .filter(|_| is_known)
                .ok_or_else(|| "names a log file without a proper hash".to_owned())
        });
        let previous = match (
            written.previous_digest_s3_bucket,
            written.previous_digest_s3_object,
            written.previous_digest_hash_value,
        ) {
            (Some(bucket), Some(object), Some(hash)) => Some(
                named(bucket, object, &hash)
                    .ok_or("names the digest before without a proper hash")?,
            ),
            _ => None,
        };
        Ok(Self {
            account: shown(&written.aws_account_id),
            region: shown(region.unwrap_or("unknown")),
            bucket: written.digest_s3_bucket,
            object: written.digest_s3_object,
            previous,
            logs: logs.collect::<Result<_, _>>()?,
            end_ns: u64::try_from(time.as_nanosecond()).unwrap_or_default(),
            end,
            fingerprint: written.digest_public_key_fingerprint,
            previous_signature: written.previous_digest_signature,
            hash: Hash::of(content).to_string(),
        })
    }

    /// The end of the hour that it is of.
    pub(crate) fn end(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.end_ns)).unwrap_or_default()
    }

    /// What is signed; `null` stands for the signature before the first, as CloudTrail writes it.
    fn signed_text(&self) -> String {
        let previous = self.previous_signature.as_deref().unwrap_or("null");
        let Self {
            end,
            bucket,
            object,
            hash,
            ..
        } = self;
        format!("{end}\n{bucket}/{object}\n{hash}\n{previous}")
    }

    /// A remark about a file of this trail.
    pub(crate) fn event(&self, file: &str, word: TrailWord) -> TrailEvent {
        TrailEvent {
            account: self.account.clone(),
            region: self.region.clone(),
            bucket: shown(&self.bucket),
            file: shown(file),
            time_ns: self.end_ns,
            word,
        }
    }

    /// What is wrong with a digest that carries `signature`. `None` in place of the answer if no key says.
    pub(crate) fn judge(&self, keys: &Keys, signature: Option<&str>) -> Option<Result<(), String>> {
        let Some(signature) = signature else {
            return Some(Err("it carries no signature".to_owned()));
        };
        let is_good = keys.holds(self, signature)?;
        Some(
            is_good
                .then_some(())
                .ok_or_else(|| "its signature is not CloudTrail's".to_owned()),
        )
    }

    /// What is wrong with the digest before, given what lies in its place.
    pub(crate) fn judge_previous(&self, keys: &Keys, content: &[u8]) -> Result<(), String> {
        let Some(named) = &self.previous else {
            return Ok(());
        };
        if named.hash != Hash::of(content).to_string() {
            return Err("it has other content than the next one says".to_owned());
        }
        let previous = Self::parse(content)?;
        match &self.previous_signature {
            Some(signature) => previous.judge(keys, Some(signature)).unwrap_or(Ok(())),
            None => Err("the next one carries no signature of it".to_owned()),
        }
    }
}

fn named(bucket: String, object: String, hash: &str) -> Option<Named> {
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| Named {
        bucket,
        object,
        hash: hash.to_ascii_lowercase(),
    })
}

/// A stranger's words as they may stand in a finding.
fn shown(text: &str) -> String {
    let text = text.chars().filter(|one| !one.is_control());
    text.take(TEXT_BYTES_MAX).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        // Two hex digits are below 256.
        .map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    rest.is_empty().then(|| bytes.collect()).flatten()
}

/// The hash of what is in a file, lower-case hex; `None` if it does not inflate, which is another content.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash(input: Result<Input, InputError>) -> io::Result<Option<String>> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut input = match input {
        Ok(input) => input,
        Err(InputError::Read(error)) => return Err(error),
        Err(_) => return Ok(None),
    };
    loop {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => context.update(&chunk[..count]),
            Err(InputError::Read(error)) => return Err(error),
            Err(_) => return Ok(None),
        }
    }
    let hash = context.finish();
    Ok(Some(
        hash.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    ))
}

/// All of a digest, inflated.
///
/// # Errors
/// It cannot be read; the inner error says that it is no digest.
pub(crate) fn content(input: Result<Input, InputError>) -> io::Result<Result<Vec<u8>, String>> {
    let mut input = match input {
        Ok(input) => input,
        Err(InputError::Read(error)) => return Err(error),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (mut all, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return Ok(Ok(all)),
            Ok(count) if all.len() + count > DIGEST_BYTES_MAX => {
                return Ok(Err(format!("larger than {DIGEST_BYTES_MAX} bytes")));
            }
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(InputError::Read(error)) => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
}

/// Says whether a file is a digest, by its name.
pub(crate) fn is_digest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().contains(NAME)
}
