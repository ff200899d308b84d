//! TAXII 2.1: collections of STIX objects, read page by page.
//!
//! ```text
//! GET <root>/collections/                      {"collections": [{"id", "can_read", …}]}
//! GET <root>/collections/<id>/objects/         {"more": true, "next": "…", "objects": […]}
//!     ?added_after=<time>&next=<where we were>
//! ```
//!
//! (OASIS TAXII 2.1, sections 3.4, 5.1 and 5.4.) Only what was added since the last round is asked for
//! and merged by id into one STIX bundle; the last version of an object counts, a revoked one goes.
//! Only indicators are kept: the rest of STIX tells stories.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::HeaderMap;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Answer, Ask, Client};
use super::error::FetchError;
use super::folder::{Folder, Staging};
use super::limits::{COLLECTIONS_MAX, PAGES_MAX};
use super::{Came, hex};
use crate::clock;
use crate::store::feeds::Version;

/// What is asked for, and what a server must answer with, or with plain JSON, as some do.
const MEDIA_TYPE: &str = "application/taxii+json;version=2.1";

/// Where a page begins that comes after another, in the server's words, at most this long.
const NEXT_BYTES_MAX: usize = 4_096;

/// The header with the time of the latest object of a page.
const ADDED_LAST: &str = "x-taxii-date-added-last";

#[derive(Deserialize)]
struct Collections {
    #[serde(default)]
    collections: Vec<Collection>,
}

#[derive(Deserialize)]
struct Collection {
    id: String,
    #[serde(default)]
    can_read: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    more: bool,
    #[serde(default)]
    next: Option<String>,
    #[serde(default, borrow)]
    objects: Vec<&'a RawValue>,
}

/// Beside the collections, by their addresses, stands in a cursor when all of them were last read,
/// seconds since the epoch.
const WHOLE: &str = "whole";

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default)]
    modified: Option<String>,
    #[serde(default)]
    revoked: bool,
}

/// Indicators by id, each with the time of its version and its bytes as they came.
#[derive(Default)]
struct Objects {
    by_id: BTreeMap<String, (Option<Timestamp>, String)>,
    bytes: u64,
    /// Whether anything changed since the version in use.
    is_changed: bool,
}

impl Objects {
    /// Those of a bundle or a page.
    fn take(&mut self, objects: &[&RawValue]) {
        for object in objects {
            // One that has no id or type is none.
            let Ok(head) = serde_json::from_str::<Head<'_>>(object.get()) else {
                continue;
            };
            if head.kind != "indicator" {
                continue;
            }
            let modified = head.modified.and_then(|text| text.parse().ok());
            let old = self.by_id.get(head.id.as_ref());
            if old.is_some_and(|(old, text)| *old > modified || text == object.get()) {
                continue;
            }
            self.is_changed = true;
            if let Some((_, text)) = self.by_id.remove(head.id.as_ref()) {
                self.bytes -= text.len() as u64;
            }
            if !head.revoked {
                self.bytes += object.get().len() as u64;
                let entry = (modified, object.get().to_owned());
                self.by_id.insert(head.id.into_owned(), entry);
            }
        }
    }

    fn bundle(&self) -> String {
        let mut text = String::from(r#"{"type":"bundle","objects":["#);
        for (at, (_, object)) in self.by_id.values().enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(object);
        }
        text.push_str("\n]}\n");
        text
    }
}

/// Asks every readable collection for what is new; what there is then lies in the staging folder.
pub(super) async fn fetch(
    client: &Client<'_>,
    name: &str,
    current: Option<&Version>,
    folder: &Folder,
    staging: &Staging,
) -> Result<Came, FetchError> {
    let mut objects = Objects::default();
    let mut since: BTreeMap<String, String> = BTreeMap::new();
    if let Some(current) = current
        && let Ok(old) = tokio::fs::read_to_string(folder.path(&current.content)).await
        && let Ok(page) = serde_json::from_str::<Page<'_>>(&old)
    {
        objects.take(&page.objects);
        since = current
            .cursor
            .as_deref()
            .and_then(|cursor| serde_json::from_str(cursor).ok())
            .unwrap_or_default();
    }
    // What is deleted is not told as what is new: all is asked for now and then.
    let now_s = clock::now_ms() / 1_000;
    let whole_s: Option<u64> = since.remove(WHOLE).and_then(|text| text.parse().ok());
    let is_recent = |whole_s: &u64| now_s.abs_diff(*whole_s) < client.whole_s();
    let whole_s = whole_s.filter(is_recent);
    match whole_s {
        Some(_) => objects.is_changed = false,
        None => {
            since.clear();
            objects = Objects::default();
        }
    }
    let mut reading = Reading {
        client,
        bytes_left: client.bytes_max(),
        objects,
    };
    let mut cursor: BTreeMap<String, String> = BTreeMap::new();
    cursor.insert(WHOLE.to_owned(), whole_s.unwrap_or(now_s).to_string());
    let (collections, left_out) = reading.collections().await?;
    for collection in collections {
        let from = since.remove(collection.as_str());
        if let Some(to) = reading.collection(&collection, from).await? {
            cursor.insert(collection.to_string(), to);
        }
    }
    let objects = reading.objects;
    let is_there = current.is_some_and(|current| folder.path(&current.content).exists());
    if whole_s.is_some() && !objects.is_changed && is_there {
        return Ok(Came::Unchanged(None));
    }
    if objects.bytes > client.bytes_max() {
        return Err(FetchError::TooLarge(client.bytes_max()));
    }
    let bundle = objects.bundle();
    let version = Version {
        content: format!("{name}.txt"),
        bytes: bundle.len() as u64,
        digest: hex(digest(&SHA256, bundle.as_bytes()).as_ref()),
        cursor: serde_json::to_string(&cursor).ok(),
        note: (left_out > 0).then(|| format!("{left_out} collections left out")),
        ..Version::default()
    };
    tokio::fs::write(staging.path(&version.content), bundle).await?;
    Ok(Came::New(version))
}

struct Reading<'a> {
    client: &'a Client<'a>,
    bytes_left: u64,
    objects: Objects,
}

impl Reading<'_> {
    /// Addresses of the objects of each readable collection, and how many were left out.
    async fn collections(&mut self) -> Result<(Vec<Url>, usize), FetchError> {
        let mut url = self.client.url().clone();
        let path = url.path().trim_end_matches('/').to_owned();
        let mut parts = path.rsplit('/');
        let (last, before) = (parts.next(), parts.next());
        if last == Some("objects") {
            url.set_path(&format!("{path}/"));
            return Ok((vec![url], 0));
        }
        if before == Some("collections") {
            url.set_path(&format!("{path}/objects/"));
            return Ok((vec![url], 0));
        }
        let root = if last == Some("collections") {
            format!("{path}/")
        } else {
            format!("{path}/collections/")
        };
        url.set_path(&root);
        let (bytes, _) = self.ask(&url).await?;
        let found: Collections = parse(&bytes)?;
        let all = found.collections.len();
        let mut readable = Vec::new();
        for collection in found.collections {
            // The id becomes part of an address.
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let id = collection.id;
            let is_id = id.bytes().all(is_plain) && id.bytes().any(|b| b != b'.');
            if collection.can_read && is_id && readable.len() < COLLECTIONS_MAX {
                let mut url = url.clone();
                url.set_path(&format!("{root}{id}/objects/"));
                readable.push(url);
            }
        }
        let left_out = all - readable.len();
        if readable.is_empty() {
            return Err(FetchError::Protocol(format!(
                "none of {all} collections may be read"
            )));
        }
        Ok((readable, left_out))
    }

    /// Reads what was added to a collection since `since`; returns since when to ask the next time.
    async fn collection(
        &mut self,
        url: &Url,
        since: Option<String>,
    ) -> Result<Option<String>, FetchError> {
        let mut latest = since.clone();
        let (mut next, mut seen) = (None::<String>, HashSet::new());
        for _ in 0..PAGES_MAX {
            let mut page_url = url.clone();
            if let Some(since) = &since {
                page_url.query_pairs_mut().append_pair("added_after", since);
            }
            if let Some(next) = &next {
                page_url.query_pairs_mut().append_pair("next", next);
            }
            let (bytes, head) = self.ask(&page_url).await?;
            let page: Page<'_> = parse(&bytes)?;
            self.objects.take(&page.objects);
            latest = later(latest, added_last(&head));
            if !page.more {
                return Ok(latest);
            }
            let to = page.next.filter(|next| next.len() <= NEXT_BYTES_MAX);
            let to = to.ok_or_else(|| {
                FetchError::Protocol("there is more, and no word where".to_owned())
            })?;
            if !seen.insert(to.clone()) {
                return Err(FetchError::Protocol("its pages go round".to_owned()));
            }
            next = Some(to);
        }
        Err(FetchError::Protocol(format!("more than {PAGES_MAX} pages")))
    }

    async fn ask(&mut self, url: &Url) -> Result<(Vec<u8>, HeaderMap), FetchError> {
        let ask = Ask {
            validators: None,
            accept: Some(MEDIA_TYPE),
        };
        let answer = self.client.get(url, ask, self.bytes_left).await;
        let content = match answer {
            Ok(Answer::Content(content)) => content,
            Ok(Answer::NotModified) => return Err(FetchError::Protocol("nothing came".to_owned())),
            Err(FetchError::TooLarge(_)) => {
                return Err(FetchError::TooLarge(self.client.bytes_max()));
            }
            Err(error) => return Err(error),
        };
        let kind = content.head.get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if ![
            "application/taxii+json",
            "application/json",
            "application/vnd.oasis.taxii+json",
        ]
        .iter()
        .any(|ours| kind.to_ascii_lowercase().starts_with(ours))
        {
            let kind = super::judge::short(kind);
            return Err(FetchError::Protocol(format!(
                "its answer is {kind:?}, no TAXII"
            )));
        }
        self.bytes_left -= content.bytes.len() as u64;
        Ok((content.bytes, content.head))
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FetchError> {
    serde_json::from_slice(bytes).map_err(|error| FetchError::Protocol(error.to_string()))
}

/// The time of the latest object of a page, if it is one.
fn added_last(head: &HeaderMap) -> Option<String> {
    let text = head.get(ADDED_LAST)?.to_str().ok()?;
    text.parse::<Timestamp>().ok().map(|_| text.to_owned())
}

/// The later of two times; both are written as times.
fn later(one: Option<String>, other: Option<String>) -> Option<String> {
    let time = |text: &Option<String>| {
        text.as_ref()
            .and_then(|text| text.parse::<Timestamp>().ok())
    };
    if time(&other) > time(&one) {
        other
    } else {
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(id: u8, modified: &str, more: &str) -> String {
        format!(r#"{{"type":"indicator","id":"indicator--{id}","modified":"{modified}"{more}}}"#)
    }

    fn take(objects: &mut Objects, all: &[String]) {
        let page = format!(r#"{{"objects":[{}]}}"#, all.join(","));
        let page: Page<'_> = serde_json::from_str(&page).unwrap();
        objects.take(&page.objects);
    }

    #[test]
    fn the_last_version_counts_and_a_revoked_one_goes() {
        let mut objects = Objects::default();
        take(
            &mut objects,
            &[
                object(1, "2026-01-01T00:00:00.5Z", ""),
                object(2, "2026-01-01T00:00:00Z", ""),
                r#"{"type":"malware","id":"malware--1"}"#.to_owned(),
                r#"{"no":"object"}"#.to_owned(),
                "7".to_owned(),
            ],
        );
        assert_eq!(objects.by_id.len(), 2);
        objects.is_changed = false;
        // Older, and the same again: nothing.
        take(
            &mut objects,
            &[object(1, "2026-01-01T00:00:00Z", r#","x":1"#)],
        );
        take(&mut objects, &[object(2, "2026-01-01T00:00:00Z", "")]);
        assert!(!objects.is_changed);
        take(
            &mut objects,
            &[
                object(1, "2026-01-02T00:00:00Z", r#","revoked":true"#),
                object(2, "2026-01-02T00:00:00Z", r#","x":2"#),
            ],
        );
        assert!(objects.is_changed);
        let bundle = objects.bundle();
        let page: Page<'_> = serde_json::from_str(&bundle).unwrap();
        assert_eq!(page.objects.len(), 1);
        assert!(bundle.contains(r#""x":2"#), "{bundle}");
        let kept: usize = page.objects.iter().map(|object| object.get().len()).sum();
        assert_eq!(objects.bytes, kept as u64);
    }

    #[test]
    fn no_page_makes_it_panic() {
        let page = format!(
            r#"{{"more":true,"next":"2","objects":[{}]}}"#,
            object(1, "2026-01-01T00:00:00Z", "")
        );
        for at in 0..page.len() {
            for bit in 0..8 {
                let mut bytes = page.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(page) = parse::<Page<'_>>(&bytes) {
                    Objects::default().take(&page.objects);
                }
            }
            assert!(parse::<Page<'_>>(&page.as_bytes()[..at]).is_err());
        }
        assert!(parse::<Page<'_>>("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn times_are_compared_as_times() {
        let text = |text: &str| Some(text.to_owned());
        let (whole, half) = (text("2026-01-01T00:00:00Z"), text("2026-01-01T00:00:00.5Z"));
        assert_eq!(later(whole.clone(), half.clone()), half);
        assert_eq!(later(half.clone(), whole.clone()), half);
        assert_eq!(later(None, whole.clone()), whole);
        assert_eq!(later(whole.clone(), None), whole);
    }
}
