//! Indicators: what operators enter, and how what is published stands.

use std::collections::BTreeMap;

use axum::Extension;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use picket_intel::Category;
use picket_wire::bundle::ListHead;
use serde::{Deserialize, Serialize};

use super::guard::Detail;
use super::route::{Route, route};
use super::{Caller, Desk, failed, lines};
use crate::clock;
use crate::indicators::limits::{
    COMMENT_BYTES_MAX, EXPIRES_S_MAX, OPERATOR_ENTRIES_MAX, VERSION_MAX,
};
use crate::indicators::operator;
use crate::store::intel::{self, OperatorEntry};

/// What can be asked of indicators. They are everybody's, whatever account.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/intel", Viewer, Whole, list),
    route!(GET "/v1/intel/status", Viewer, Whole, status),
    route!(POST "/v1/intel", Admin, Whole, add),
    route!(DELETE "/v1/intel", Admin, Whole, remove),
    route!(POST "/v1/intel/supersede", Admin, Whole, supersede),
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

/// The version that is above those of all agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Superseded {
    /// The version.
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
        /// Those that have a later version than any published here.
        #[serde(default)]
        agents_ahead: u64,
        /// When versions are above those by themselves, RFC 3339.
        #[serde(default)]
        ahead_until: Option<String>,
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
        /// Entries that are not looked for, by reason.
        #[serde(default)]
        left_out: BTreeMap<String, u64>,
    },
    /// A list of which nothing is looked for.
    LeftOut {
        /// Its name.
        name: String,
        /// Where it comes from.
        source: String,
        /// Its category.
        category: String,
        /// Why.
        why: String,
    },
    /// A file that was not read as a list.
    Skipped {
        /// The file.
        file: String,
        /// Where it is.
        source: String,
        /// Why.
        why: String,
    },
}

async fn list(State(desk): State<Desk>) -> Response {
    match desk.store.read_async(intel::list).await {
        Ok(mut all) => {
            // Those that are over are kept until the next is entered.
            let now_ms = clock::now_ms();
            all.retain(|one| one.expires_ms.is_none_or(|ends_ms| ends_ms > now_ms));
            lines(all.iter().filter_map(|one| serde_json::to_string(one).ok()))
        }
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
    let ahead = ahead(&desk);
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
        agents_ahead: ahead.len() as u64,
        // Versions are times.
        ahead_until: ahead.iter().max().map(|have| clock::rfc3339(*have)),
    };
    let standings = desk.indicators.standings();
    let left_out = |place: &str, head: &ListHead| {
        let lists = &standings.of(place)?.told.lists;
        let mut lists = lists.iter();
        let is_it =
            |(name, category): &(String, &str)| *name == head.name && *category == head.category;
        let (_, counts) = lists.find(|(key, _)| is_it(key))?;
        let counts = counts.left_out();
        Some(counts.map(|(why, count)| (why.to_owned(), count)).collect())
    };
    let lists = edition.lists().map(|(head, origin)| StatusLine::List {
        left_out: left_out(origin.place, head).unwrap_or_default(),
        name: head.name.clone(),
        source: origin.place.to_owned(),
        category: head.category.clone(),
        confidence: head.confidence,
        entries: head.entries,
        read: clock::rfc3339(origin.read_ms),
        age_s: now_ms.saturating_sub(origin.read_ms) / 1_000,
    });
    let aside = standings.places.iter().flat_map(|place| {
        place.aside.iter().map(|aside| StatusLine::LeftOut {
            name: aside.name.clone(),
            source: place.place.to_owned(),
            category: aside.category.to_owned(),
            why: aside.why.clone(),
        })
    });
    let skipped = standings.places.iter().flat_map(|place| {
        place
            .told
            .skipped
            .iter()
            .map(|(file, why)| StatusLine::Skipped {
                file: file.clone(),
                source: place.place.to_owned(),
                why: why.clone(),
            })
    });
    let all = std::iter::once(bundle)
        .chain(lists)
        .chain(aside)
        .chain(skipped);
    lines(all.filter_map(|line| serde_json::to_string(&line).ok()))
}

/// The versions of agents that have a later one than is published.
fn ahead(desk: &Desk) -> Vec<u64> {
    let version = desk.indicators.edition().version();
    let all = desk.agents.all();
    let expected = all.iter().filter(|one| one.is_expected());
    let polled = expected.filter_map(|one| desk.polls.of(one.known.id));
    let have = polled.map(|polled| polled.have);
    have.filter(|have| *have > version).collect()
}

/// Publishes above what agents say they have. An operator decides it, since an agent that lies could
/// have every version used up.
async fn supersede(State(desk): State<Desk>) -> Response {
    let Some(most) = ahead(&desk).into_iter().max() else {
        return refused("no agent has a later version than is published");
    };
    if most >= VERSION_MAX {
        return refused(&format!(
            "an agent says it has version {most}, above which there are none: revoke it"
        ));
    }
    match desk.indicators.supersede(most).await {
        Ok(bundle) => {
            let mut response = Json(Superseded { bundle }).into_response();
            let detail = Detail(format!("version {bundle}"));
            response.extensions_mut().insert(detail);
            response
        }
        Err(why) => unpublished(&why),
    }
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
    if addition.expires_s.is_some_and(|s| s > EXPIRES_S_MAX) {
        let days = EXPIRES_S_MAX / 86_400;
        return Err(format!(
            "it may end after {days} d at most; one that does not end needs no time"
        ));
    }
    Ok(OperatorEntry {
        value: operator::judge(category, &addition.value)?,
        category: category.name().to_owned(),
        comment,
        who: caller.who.clone(),
        added_ms: now_ms,
        expires_ms: addition.expires_s.map(|s| now_ms + s * 1_000),
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
