//! The operator's door: HTTP over a Unix socket on the collector's own machine.
//!
//! Who may open the socket may ask and archive; its mode (0660) says who that is. Answers that list
//! are one JSON object per line, the same bytes that the tool prints with `--format jsonl`.

pub(crate) mod client;
mod listing;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as Segment, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::UnixListener;

use crate::analysis;
use crate::ingest::gate::Refusals;
use crate::registry::Registry;
use crate::store::{Store, StoreError, agents, findings};

pub(crate) use crate::store::findings::LISTED_MAX;
pub(crate) use listing::{AgentLine, Asked};

/// Mode of the socket: the collector's user and group.
const SOCKET_MODE: u32 = 0o660;

/// Minutes round a finding that count as near it, unless asked otherwise.
const MINUTES_AROUND: u64 = 10;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Where everything is.
    pub(crate) store: Store,
    /// Who archives.
    pub(crate) analysis: analysis::Inbox,
    /// Whose word is taken.
    pub(crate) agents: Arc<Registry>,
    /// What was refused of them.
    pub(crate) refusals: Arc<Refusals>,
}

/// Opens the socket, in place of one that nobody listens on any more.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another collector listens on it",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// The routes of the operator's tool.
pub(crate) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/findings", get(list_findings))
        .route("/v1/findings/{id}", get(show_finding))
        .route("/v1/findings/{id}/archive", post(archive_finding))
        .route("/v1/incidents", get(list_incidents))
        .route("/v1/incidents/{id}", get(show_incident))
        .route("/v1/agents", get(list_agents))
        .route("/v1/agents/{id}/approve", post(approve_agent))
        .route("/v1/agents/{id}/revoke", post(revoke_agent))
        .with_state(desk)
}

/// Says whether a text has the form of an id: hex digits, perhaps with an ordinal behind a hyphen.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

async fn list_findings(State(desk): State<Desk>, Query(asked): Query<Asked>) -> Response {
    let listed = desk
        .store
        .read_async(move |connection| {
            let Some(filter) = asked.filter(connection)? else {
                return Ok(None);
            };
            findings::list(connection, &filter).map(Some)
        })
        .await;
    match listed {
        Ok(Some(rows)) => lines(rows.into_iter().map(|kept| kept.body)),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

async fn show_finding(State(desk): State<Desk>, Segment(id): Segment<String>) -> Response {
    let shown = desk
        .store
        .read_async(move |connection| findings::show(connection, &id))
        .await;
    one(shown.map(|kept| kept.map(|kept| kept.body)))
}

async fn archive_finding(State(desk): State<Desk>, Segment(id): Segment<String>) -> StatusCode {
    if desk.analysis.archive(id).await {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    }
}

async fn list_incidents(State(desk): State<Desk>) -> Response {
    match desk.store.read_async(findings::incidents).await {
        Ok(bodies) => lines(bodies.into_iter()),
        Err(error) => failed(&error),
    }
}

async fn show_incident(State(desk): State<Desk>, Segment(id): Segment<String>) -> Response {
    let shown = desk
        .store
        .read_async(move |connection| findings::incident(connection, &id))
        .await;
    one(shown)
}

async fn list_agents(State(desk): State<Desk>) -> Response {
    match desk.store.read_async(agents::list).await {
        Ok(rows) => {
            let all = listing::agents(&desk.agents, &rows, &desk.refusals);
            lines(
                all.iter()
                    .filter_map(|line| serde_json::to_string(line).ok()),
            )
        }
        Err(error) => failed(&error),
    }
}

/// What may be said with a revocation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Revocation {
    /// Whether another key may enrol for the instance.
    release: bool,
}

async fn revoke_agent(
    State(desk): State<Desk>,
    Segment(id): Segment<String>,
    Query(how): Query<Revocation>,
) -> Response {
    let Ok(agent) = id.parse() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    done(desk.agents.revoke(agent, how.release).await)
}

async fn approve_agent(State(desk): State<Desk>, Segment(id): Segment<String>) -> Response {
    let Ok(agent) = id.parse() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    done(desk.agents.approve(agent).await)
}

/// The answer to what was to be done to one thing: done, or there is none.
fn done(outcome: Result<bool, StoreError>) -> Response {
    match outcome {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

fn lines(bodies: impl Iterator<Item = String>) -> Response {
    let mut text = String::new();
    for body in bodies {
        text.push_str(&body);
        text.push('\n');
    }
    ([(header::CONTENT_TYPE, "application/jsonl")], text).into_response()
}

fn one(found: Result<Option<String>, StoreError>) -> Response {
    match found {
        Ok(Some(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &StoreError) -> Response {
    tracing::error!(%error, "operator's question not answered");
    let body = Json(serde_json::json!({"error": error.to_string()}));
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}
