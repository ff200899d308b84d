//! A feed as MISP publishes it: `manifest.json`, which names events with the time of their last
//! change, and beside it `<uuid>.json` for each event.
//!
//! ```text
//! manifest.json   {"<uuid>": {"timestamp": "1700000000", "info": …}, …}
//! <uuid>.json     {"Event": {"uuid": …, "Attribute": […], …}}
//! ```
//!
//! Only events that changed are fetched; the others are taken from the version in use. The latest
//! [`EVENTS_MAX`] events are kept, as far as they fit in the feed's bytes.

use std::collections::{BTreeMap, HashMap};

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::client::{Answer, Ask, Client};
use super::error::FetchError;
use super::folder::{Folder, Staging};
use super::limits::EVENTS_MAX;
use super::{Came, file, hex};
use crate::clock;
use crate::store::feeds::Version;

/// What the manifest says of one event.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(deserialize_with = "timestamp")]
    timestamp: u64,
}

/// Seconds since the epoch, written as a number or as its text.
fn timestamp<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Events of a manifest: the id and when it last changed, the latest first; and how many were left
/// out.
fn events(manifest: &[u8]) -> Result<(Vec<(String, u64)>, usize), FetchError> {
    let told: HashMap<String, Told> = serde_json::from_slice(manifest)
        .map_err(|error| FetchError::Protocol(format!("manifest.json: {error}")))?;
    let all = told.len();
    let mut events: Vec<(String, u64)> = told
        .into_iter()
        // The id becomes a file's name and part of an address.
        .filter(|(uuid, _)| is_uuid(uuid))
        .map(|(uuid, told)| (uuid, told.timestamp))
        .collect();
    events.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    events.truncate(EVENTS_MAX);
    let left_out = all - events.len();
    Ok((events, left_out))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Asks for the manifest and for what changed; what came lies in the staging folder.
pub(super) async fn fetch(
    client: &Client<'_>,
    name: &str,
    current: Option<&Version>,
    folder: &Folder,
    staging: &Staging,
) -> Result<Came, FetchError> {
    let mut base = client.url().clone();
    if base.path().ends_with(".json") {
        base = base.join(".").unwrap_or(base);
    } else if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let join = |file: &str| {
        base.join(file)
            .map_err(|error| FetchError::Protocol(error.to_string()))
    };
    let ask = Ask {
        validators: file::known(current, folder),
        accept: None,
    };
    let bytes_max = client.bytes_max();
    let manifest = match client.get(&join("manifest.json")?, ask, bytes_max).await? {
        Answer::NotModified => return Ok(Came::Unchanged(None)),
        Answer::Content(content) => content,
    };
    let (events, mut left_out) = events(&manifest.bytes)?;
    let kept: BTreeMap<String, u64> = current
        .and_then(|current| current.cursor.as_deref())
        .and_then(|cursor| serde_json::from_str(cursor).ok())
        .unwrap_or_default();
    let content = format!("{name}.{}", clock::now_ms());
    let into = staging.path(&content);
    tokio::fs::create_dir(&into).await?;
    let mut digest = Context::new(&SHA256);
    let (mut taken, mut bytes) = (BTreeMap::new(), 0);
    for (uuid, changed) in events {
        let file = format!("{uuid}.json");
        let old = current
            .filter(|_| kept.get(&uuid) == Some(&changed))
            .map(|current| folder.path(&current.content).join(&file));
        let event = match old {
            Some(old) if old.exists() => tokio::fs::read(old).await?,
            _ => {
                let ask = Ask::default();
                match client.get(&join(&file)?, ask, bytes_max).await {
                    Ok(Answer::Content(content)) => content.bytes,
                    // Withdrawn since the manifest was written.
                    Ok(Answer::NotModified)
                    | Err(FetchError::Status {
                        status: 404 | 410, ..
                    }) => {
                        left_out += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        bytes += event.len() as u64;
        if bytes > bytes_max {
            return Err(FetchError::TooLarge(bytes_max));
        }
        digest.update(&event);
        tokio::fs::write(into.join(&file), event).await?;
        taken.insert(uuid, changed);
    }
    let version = Version {
        content,
        bytes,
        digest: hex(digest.finish().as_ref()),
        validators: manifest.validators,
        cursor: serde_json::to_string(&taken).ok(),
        note: (left_out > 0).then(|| format!("{left_out} events left out")),
        ..Version::default()
    };
    let is_same = current.is_some_and(|current| {
        current.digest == version.digest && folder.path(&current.content).exists()
    });
    if is_same {
        return Ok(Came::Unchanged(Some(version.validators)));
    }
    Ok(Came::New(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "5ad7b1c2-0000-4000-8000-000000000001";
    const TWO: &str = "5ad7b1c2-0000-4000-8000-000000000002";

    #[test]
    fn events_come_latest_first_and_bad_names_stay_out() {
        let manifest = format!(
            r#"{{"{ONE}": {{"timestamp": "5", "info": "x"}}, "{TWO}": {{"timestamp": 9}},
                "../../../../etc/passwd0000000000000000": {{"timestamp": 99}},
                "{}": {{"timestamp": 7}}}}"#,
            "g".repeat(36)
        );
        let (events, left_out) = events(manifest.as_bytes()).unwrap();
        assert_eq!(events, [(TWO.to_owned(), 9), (ONE.to_owned(), 5)]);
        assert_eq!(left_out, 2);
    }

    #[test]
    fn the_latest_are_kept() {
        let entries: Vec<String> = (0..EVENTS_MAX + 3)
            .map(|n| format!(r#""5ad7b1c2-0000-4000-8000-{n:012}": {{"timestamp": {n}}}"#))
            .collect();
        let (events, left_out) = events(format!("{{{}}}", entries.join(",")).as_bytes()).unwrap();
        assert_eq!((events.len(), left_out), (EVENTS_MAX, 3));
        assert_eq!(events.last().unwrap().1, 3);
    }

    #[test]
    fn a_damaged_manifest_is_an_error() {
        let whole = format!(r#"{{"{ONE}": {{"timestamp": "5"}}}}"#);
        for cut in 0..whole.len() {
            assert!(events(&whole.as_bytes()[..cut]).is_err(), "{cut}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // Whatever it is read as, it is bounded and named as files may be.
                if let Ok((events, _)) = events(&bytes) {
                    assert!(events.iter().all(|(uuid, _)| is_uuid(uuid)));
                }
            }
        }
        assert!(events("[".repeat(100_000).as_bytes()).is_err());
    }
}
