//! Digest objects: their signature, the digest before, and the log files that they name, as they lie there
//! now.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use picket_detect::{TrailEvent, TrailWord};

use super::body::Body;
use super::key::Log;
use super::object::{Backfilled, End, Object, Objects};
use crate::analysis::Batch;
use crate::aws::s3::Place;
use crate::digest::{self, Digest, Keys, Named};
use crate::source::inflate::Input;
use crate::store::sources::{self, FileState};

/// Where S3 has the signature of a digest.
const SIGNATURE: &str = "x-amz-meta-signature";

/// A digest that is to be checked.
pub(super) struct Check {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) file: (String, FileState),
    pub(super) backfill: Backfilled,
}

/// What lies where a digest says.
enum There {
    /// Something.
    Here(reqwest::Response),
    /// Nothing.
    Gone,
    /// What can never be read, as it is in an archive or its key of KMS is disabled.
    Closed,
}

impl Objects {
    /// Checks a digest and hands in what is wrong.
    ///
    /// # Errors
    /// Something that it takes cannot be had for now.
    pub(super) async fn check(
        &self,
        check: Check,
        response: reqwest::Response,
    ) -> anyhow::Result<End> {
        let Check {
            place,
            key,
            file,
            mut backfill,
        } = check;
        let signature = response.headers().get(SIGNATURE);
        let signature = signature.and_then(|value| value.to_str().ok().map(str::to_owned));
        let content = content(response, self.means.is_stopping.clone()).await?;
        let parsed = content.and_then(|bytes| Digest::parse(&bytes));
        let events = match parsed {
            Ok(digest) => {
                self.wrong(&digest, &place, &key, signature.as_deref())
                    .await?
            }
            Err(why) => {
                self.damaged(&file.0, &why);
                Vec::new()
            }
        };
        if let Some((_, progress)) = &mut backfill {
            progress.bytes += file.1.bytes;
        }
        self.means.metrics.log_bytes_read.add(file.1.bytes);
        self.means.metrics.log_objects.add(Log::Digest.name(), 1);
        let analysis = self.means.analysis.clone();
        let is_stored = tokio::task::spawn_blocking(move || {
            analysis.batch(Batch {
                trail: events,
                file: Some(file),
                backfill,
                ..Batch::default()
            })
        });
        let is_stored = is_stored.await.context("reading broke off")?;
        Ok(if is_stored { End::Done } else { End::Stopped })
    }

    /// What is wrong with the record of the hour that a digest is of.
    async fn wrong(
        &self,
        digest: &Digest,
        place: &Place,
        key: &str,
        signature: Option<&str>,
    ) -> anyhow::Result<Vec<TrailEvent>> {
        let mut events = Vec::new();
        let mut chain = |file: &str, why: String| {
            events.push(digest.event(file, TrailWord::Chain { why }));
        };
        if digest.object != key {
            chain(key, format!("it was written as {:?}", digest.object));
        }
        let (keys, are_all) = self.keys(digest).await;
        match digest.judge(&keys, signature) {
            Some(Ok(())) => self.means.metrics.digests.add("signed", 1),
            Some(Err(why)) => {
                self.means.metrics.digests.add("forged", 1);
                chain(key, why);
            }
            // Who writes a digest can name any key.
            None if are_all => {
                self.means.metrics.digests.add("forged", 1);
                chain(
                    key,
                    "it names a key that CloudTrail does not have".to_owned(),
                );
            }
            None => self.means.metrics.digests.add("no_key", 1),
        }
        let is_young = is_young(digest.end(), Timestamp::now());
        let mut is_expired = !is_young;
        if let Some(previous) = &digest.previous {
            let there = self.get(digest, place, previous).await?;
            match there {
                There::Here(response) => {
                    is_expired = false;
                    let judged = match content(response, self.means.is_stopping.clone()).await? {
                        Ok(bytes) => digest.judge_previous(&keys, &bytes),
                        Err(why) => Err(why),
                    };
                    if let Err(why) = judged {
                        chain(&previous.object, why);
                    }
                }
                // One that nobody has seen may have expired before us.
                There::Closed => is_expired = false,
                There::Gone if self.was_seen(place, previous).await? => {
                    is_expired = false;
                    chain(&previous.object, "it was there and is gone".to_owned());
                }
                There::Gone if is_young => {
                    let why = "it is gone, sooner than a lifecycle rule deletes";
                    chain(&previous.object, why.to_owned());
                }
                There::Gone => {}
            }
        }
        let mut missing = Vec::new();
        for log in &digest.logs {
            match self.get(digest, place, log).await? {
                There::Closed => is_expired = false,
                There::Gone => {
                    is_expired &= !self.was_seen(place, log).await?;
                    missing.push(digest.event(&log.object, TrailWord::Missing));
                }
                There::Here(response) => {
                    is_expired = false;
                    let body = Body::of(response, self.means.is_stopping.clone());
                    let hash = tokio::task::spawn_blocking(move || digest::hash(Input::new(body)));
                    let hash = hash.await.context("reading broke off")?;
                    if hash.context("read a log file again")?.as_ref() != Some(&log.hash) {
                        events.push(digest.event(&log.object, TrailWord::Altered));
                    }
                }
            }
        }
        if is_expired {
            // Nothing of that hour is there any more, and we have seen none of it.
            self.means.metrics.digests.add("expired", 1);
        } else {
            events.append(&mut missing);
        }
        Ok(events)
    }

    /// Asks for an object that a digest names. A bucket that was copied whole stands
    /// for the one that the digest names.
    async fn get(&self, digest: &Digest, place: &Place, named: &Named) -> anyhow::Result<There> {
        let mut place = place.clone();
        if named.bucket != digest.bucket {
            place.bucket.clone_from(&named.bucket);
        }
        match self.aws.object(&place, &named.object).await {
            Ok(response) => Ok(There::Here(response)),
            Err(error) if error.is_gone() => Ok(There::Gone),
            Err(error) if error.is_final() => {
                self.means.metrics.digests.add("closed", 1);
                if let Some(unsaid) = self.may_say("closed") {
                    let object = &named.object;
                    tracing::warn!(object, %error, unsaid, "named by a digest and not readable");
                }
                Ok(There::Closed)
            }
            Err(error) => Err(error).with_context(|| format!("get {}", named.object)),
        }
    }

    /// Whether an object was read before.
    async fn was_seen(&self, place: &Place, named: &Named) -> anyhow::Result<bool> {
        let name = Object {
            place: place.clone(),
            key: named.object.clone(),
            log: Log::Digest,
        }
        .name();
        let store = &self.means.store;
        let known = store.read_async(move |connection| sources::file(connection, &name));
        Ok(known.await?.is_some())
    }

    /// The keys that may have signed a digest: those configured, else those of its region.
    /// Says too whether CloudTrail was asked, so that there are no others.
    async fn keys(&self, digest: &Digest) -> (Keys, bool) {
        let configured = &self.means.keys;
        if configured.has(digest) {
            return (Keys::clone(configured), true);
        }
        let mut asked = self.asked.lock().await;
        if asked.has(digest) {
            return (asked.clone(), true);
        }
        let answer = self.aws.public_keys(&digest.region, digest.end()).await;
        let keys = answer
            .map_err(|error| error.to_string())
            .and_then(|answer| Keys::parse(&answer));
        match keys {
            Ok(keys) => {
                *asked = keys;
                return (asked.clone(), true);
            }
            Err(error) => {
                if let Some(unsaid) = self.may_say("keys") {
                    tracing::warn!(
                        error,
                        unsaid,
                        "public keys of digests not known; their signatures are not checked"
                    );
                }
            }
        }
        (asked.clone(), false)
    }
}

/// Says whether an hour is so young that nothing of it, nor of the hour before, can have expired: a lifecycle
/// rule lets objects be for a day at least (S3 user guide, "Expiring objects").
fn is_young(end: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(end);
    // The hour before began two hours before this one's end.
    age < SignedDuration::from_hours(24 - 2)
}

/// All of a digest.
async fn content(
    response: reqwest::Response,
    is_stopping: Arc<AtomicBool>,
) -> anyhow::Result<Result<Vec<u8>, String>> {
    let body = Body::of(response, is_stopping);
    let read = tokio::task::spawn_blocking(move || digest::content(Input::new(body)));
    read.await
        .context("reading broke off")?
        .context("read the digest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_young_cannot_have_expired() {
        let end: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let check = |now: &str, expected| assert_eq!(is_young(end, now.parse().unwrap()), expected);
        check("2026-01-31T12:05:00Z", true);
        check("2026-02-01T09:59:00Z", true);
        check("2026-02-01T10:00:00Z", false);
        check("2026-03-01T00:00:00Z", false);
    }
}
