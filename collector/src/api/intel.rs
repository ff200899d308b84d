//! Indicators: what operators enter, and how what is published stands.

use axum::Extension;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use picket_intel::Category;
use serde::{Deserialize, Serialize};

use super::guard::Detail;
use super::route::{Route, route};
use super::{Caller, Desk, failed, lines};
use crate::clock;
use crate::indicators::limits::{COMMENT_BYTES_MAX, OPERATOR_ENTRIES_MAX};
use crate::indicators::operator;
use crate::store::intel::{self, OperatorEntry};

/// What can be asked of indicators. They are everybody's, whatever account.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/intel", Viewer, Whole, list),
    route!(GET "/v1/intel/status", Viewer, Whole, status),
    route!(POST "/v1/intel", Admin, Whole, add),
    route!(DELETE "/v1/intel", Admin, Whole, remove),
];

/// An indicator to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addition {
    /// The indicator.
    pub(crate) value: String,
    /// Its category.
    pub(crate) category: String,
    /// What there is to say about it.
    #[serde(default)]
    pub(crate) comment: Option<String>,
    /// Seconds after which it ends.
    #[serde(default)]
    pub(crate) expires_s: Option<u64>,
}

/// An indicator to look for no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removal {
    /// The indicator.
    pub(crate) value: String,
    /// Its category; all if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<String>,
}

/// What became of a change: it is on disk, and in this bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// The indicator as it is written.
    pub(crate) value: String,
    /// The version of the bundle that has the change.
    pub(crate) bundle: u64,
}

/// One line of the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum StatusLine {
    /// The bundle that is published.
    Bundle {
        /// Its version.
        version: u64,
        /// What its content is named: the version that hits carry if an agent has no lists of its own.
        set: u64,
        /// When it was issued, RFC 3339.
        issued: String,
        /// When it goes stale, RFC 3339.
        expires: String,
        /// Entries on all lists.
        entries: u64,
        /// Bytes of it as a whole.
        bytes: u64,
        /// The key it is signed with, as agents are told it.
        signing_key: String,
        /// Agents that should have it.
        agents: u64,
        /// Those that have not said that they do since the collector started.
        agents_behind: u64,
    },
    /// A list in it.
    List {
        /// Its name.
        name: String,
        /// Where it comes from.
        source: String,
        /// Its category.
        category: String,
        /// How sure it is, 0 to 100.
        confidence: u8,
        /// Its entries.
        entries: u64,
        /// When it was read, RFC 3339.
        read: String,
        /// Seconds since.
        age_s: u64,
    },
}

async fn list(State(desk): State<Desk>) -> Response {
    match desk.store.read_async(intel::list).await {
        Ok(all) => lines(all.iter().filter_map(|one| serde_json::to_string(one).ok())),
        Err(error) => failed(&error),
    }
}

async fn add(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Json(addition): Json<Addition>,
) -> Response {
    let now_ms = clock::now_ms();
    let entry = match entry(addition, &caller, now_ms) {
        Ok(entry) => entry,
        Err(why) => return refused(&why),
    };
    let value = entry.value.clone();
    let category = entry.category.clone();
    let stored = desk
        .store
        .write(move |transaction| {
            intel::forget(transaction, now_ms)?;
            if intel::count(transaction)? >= OPERATOR_ENTRIES_MAX {
                return Ok(false);
            }
            intel::put(transaction, &entry).map(|()| true)
        })
        .await;
    match stored {
        Ok(true) => {}
        Ok(false) => {
            return refused(&format!(
                "{OPERATOR_ENTRIES_MAX} indicators are entered already; put more into a list in intel_dir"
            ));
        }
        Err(error) => return failed(&error),
    }
    match desk.indicators.changed().await {
        Ok(bundle) => {
            let detail = Detail(format!("{category} {value}"));
            let mut response = Json(Changed { value, bundle }).into_response();
            response.extensions_mut().insert(detail);
            response
        }
        // It stays entered, on disk as it is, and is published with the next bundle that can be:
        // taking it out again could take out what another call was told is in.
        Err(why) => unpublished(&format!("entered, and not published yet: {why}")),
    }
}

async fn remove(State(desk): State<Desk>, Query(removal): Query<Removal>) -> Response {
    let value = removal.value.trim().to_owned();
    let written = operator::written(&value).unwrap_or(value);
    let (asked, category) = (written.clone(), removal.category);
    let removed = desk
        .store
        .write(move |transaction| intel::remove(transaction, &asked, category.as_deref()))
        .await;
    match removed {
        Ok(0) => return StatusCode::NOT_FOUND.into_response(),
        Ok(_) => {}
        Err(error) => return failed(&error),
    }
    match desk.indicators.changed().await {
        Ok(bundle) => Json(Changed {
            value: written,
            bundle,
        })
        .into_response(),
        Err(why) => unpublished(&why),
    }
}

async fn status(State(desk): State<Desk>) -> Response {
    let edition = desk.indicators.edition();
    let manifest = edition.manifest();
    let now_ms = clock::now_ms();
    let expected: Vec<_> = desk.agents.all();
    let expected: Vec<_> = expected.iter().filter(|one| one.is_expected()).collect();
    let has = |id| {
        desk.polls
            .of(id)
            .is_some_and(|one| one.have == manifest.version)
    };
    let behind = expected.iter().filter(|one| !has(one.known.id)).count();
    let bundle = StatusLine::Bundle {
        version: manifest.version,
        set: manifest.set,
        issued: clock::rfc3339(manifest.issued_ms),
        expires: clock::rfc3339(manifest.expires_ms),
        entries: manifest.entries(),
        bytes: edition.bytes(),
        signing_key: desk.signing_key.to_string(),
        agents: expected.len() as u64,
        agents_behind: behind as u64,
    };
    let lists = edition.lists().map(|(head, origin)| StatusLine::List {
        name: head.name.clone(),
        source: origin.place.to_owned(),
        category: head.category.clone(),
        confidence: head.confidence,
        entries: head.entries,
        read: clock::rfc3339(origin.read_ms),
        age_s: now_ms.saturating_sub(origin.read_ms) / 1_000,
    });
    let all = std::iter::once(bundle).chain(lists);
    lines(all.filter_map(|line| serde_json::to_string(&line).ok()))
}

fn entry(addition: Addition, caller: &Caller, now_ms: u64) -> Result<OperatorEntry, String> {
    let category: Category = addition
        .category
        .parse()
        .map_err(|error| format!("{error}"))?;
    let comment = addition.comment.filter(|comment| !comment.is_empty());
    if comment
        .as_ref()
        .is_some_and(|text| text.len() > COMMENT_BYTES_MAX)
    {
        return Err(format!("comment is longer than {COMMENT_BYTES_MAX} bytes"));
    }
    if addition.expires_s == Some(0) {
        return Err("it would be over at once".to_owned());
    }
    Ok(OperatorEntry {
        value: operator::judge(category, &addition.value)?,
        category: category.name().to_owned(),
        comment,
        who: caller.who.clone(),
        added_ms: now_ms,
        expires_ms: addition.expires_s.map(|s| {
            now_ms
                .saturating_add(s.saturating_mul(1_000))
                .min(i64::MAX as u64)
        }),
    })
}

fn refused(why: &str) -> Response {
    let body = Json(serde_json::json!({"error": why}));
    (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
}

fn unpublished(why: &str) -> Response {
    let body = Json(serde_json::json!({"error": why}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}
