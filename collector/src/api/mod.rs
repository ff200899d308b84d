//! The operators' doors: HTTP over a Unix socket on the collector's own machine, and the same over
//! TLS on the port of the agents.
//!
//! Who may open the socket may do everything; its mode (0660) says who that is. Over the network a token
//! says who asks, what they may do and with whose accounts. Answers that list
//! are one JSON object per line, the same bytes that the tool prints with `--format jsonl`. What can
//! be asked for, and the role it takes, stands in the table of `route`.

mod agents;
mod audit;
mod baselines;
mod blocks;
mod caller;
pub(crate) mod client;
mod feeds;
mod findings;
mod guard;
mod incidents;
mod intel;
pub(crate) mod join_tokens;
mod limits;
mod operators;
mod role;
mod route;
mod routes;
mod rules;
mod token;
mod tokens;
mod usage;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use picket_wire::PublicKey;
use tokio::net::UnixListener;

use crate::analysis;
use crate::fetch::Fetcher;
use crate::indicators::Board;
use crate::indicators::door::Queue;
use crate::ingest::gate::Refusals;
use crate::orders;
use crate::registry::Registry;
use crate::rules::Book;
use crate::store::{Store, StoreError};

pub(crate) use crate::store::findings::LISTED_MAX;
pub(crate) use agents::AgentLine;
pub(crate) use baselines::{BaselineLine, Imported, Named};
pub(crate) use blocks::{
    BlockLine, EndedBlock, GivenBlock, LiftedBlock, WantedBlock, WantedBlocks,
};
pub(crate) use caller::{Caller, Scope, SocketPeer};
pub(crate) use findings::Asked;
use guard::Door;
pub(crate) use guard::Guard;
pub(crate) use guard::Settings;
pub(crate) use intel::{Addition, Changed, Removal, StatusLine, Superseded};
pub(crate) use operators::{MadeOperator, OperatorLine, WantedOperator};
pub(crate) use role::Role;
pub(crate) use route::{Reach, Route};
pub(crate) use rules::Enabled;
pub(crate) use tokens::Tokens;
pub(crate) use usage::Days;

/// Mode of the socket: the collector's user and group.
const SOCKET_MODE: u32 = 0o660;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Where everything is.
    pub(crate) store: Store,
    /// Who archives.
    pub(crate) analysis: analysis::Inbox,
    /// Whose word is taken.
    pub(crate) agents: Arc<Registry>,
    /// Who fetches indicators.
    pub(crate) feeds: Fetcher,
    /// Who may ask over the network.
    pub(crate) tokens: Arc<Tokens>,
    /// What was refused of them.
    pub(crate) refusals: Arc<Refusals>,
    /// What they are told to look for.
    pub(crate) indicators: Board,
    /// What they have of it.
    pub(crate) polls: Arc<Queue>,
    /// The rules in force, and which of them may page.
    pub(crate) rules: Arc<Book>,
    /// What they are to block.
    pub(crate) orders: Arc<orders::Book>,
    /// The key that what they are told is signed with.
    pub(crate) signing_key: PublicKey,
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

/// The routes behind the socket. Served with [`SocketPeer`] as connection info.
pub(crate) fn at_socket(desk: Desk, guard: &Arc<Guard>) -> Router {
    route::router(desk, guard, Door::Socket)
}

/// The same routes beside those of agents, for operators with tokens. Served with the peer's address as
/// an extension.
pub(crate) fn at_network(desk: Desk, guard: &Arc<Guard>) -> Router {
    route::router(desk, guard, Door::Network)
}

/// Says whether a text has the form of an id: hex digits, perhaps with an ordinal behind a hyphen.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
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
