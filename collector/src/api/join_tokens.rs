//! Join tokens, as the operator makes and sees them.

use axum::Json;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::route::{Route, route};
use super::{Desk, done, failed, lines};
use crate::clock;
use crate::enrol::join::{self, LIFE_S_MAX, TOKENS_MAX, USES_MAX};
use crate::store::join_tokens::{self, JoinToken, Scope};

/// What can be asked of join tokens.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/join-tokens", Admin, Whole, list),
    route!(POST "/v1/join-tokens", Admin, Whole, add),
    route!(POST "/v1/join-tokens/{id}/revoke", Admin, Whole, revoke),
];

/// Longest text of an operator's.
const TEXT_BYTES_MAX: usize = 255;

/// A token to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// What it is for.
    #[serde(default)]
    pub(crate) label: String,
    /// The hosts it is for.
    #[serde(default)]
    pub(crate) scope: Scope,
    /// Hosts that may enrol with it.
    pub(crate) uses: u64,
    /// Seconds it is good for.
    pub(crate) expires_s: u64,
}

/// A token that was made. It is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Its id.
    pub(crate) id: String,
    /// The token.
    pub(crate) token: String,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
}

/// A token as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TokenLine {
    /// Always `join_token`.
    pub(crate) kind: String,
    /// Its id.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) label: String,
    /// The hosts it is for.
    pub(crate) scope: Scope,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// When it ends.
    pub(crate) expires: String,
    /// Hosts that may enrol with it.
    pub(crate) uses_max: u64,
    /// Hosts that have.
    pub(crate) uses: u64,
    /// `good`, `used`, `ended` or `revoked`.
    pub(crate) standing: String,
}

impl Wanted {
    fn complaint(&self) -> Option<String> {
        let texts = [
            Some(&self.label),
            self.scope.account.as_ref(),
            self.scope.region.as_ref(),
            self.scope.instance.as_ref(),
        ];
        if texts
            .into_iter()
            .flatten()
            .any(|text| text.len() > TEXT_BYTES_MAX)
        {
            return Some(format!("a text is longer than {TEXT_BYTES_MAX} bytes"));
        }
        if !(1..=USES_MAX).contains(&self.uses) {
            return Some(format!("uses: 1 to {USES_MAX}"));
        }
        if !(1..=LIFE_S_MAX).contains(&self.expires_s) {
            return Some(format!("expires_s: 1 to {LIFE_S_MAX}"));
        }
        None
    }
}

async fn add(State(desk): State<Desk>, Json(wanted): Json<Wanted>) -> Response {
    if let Some(complaint) = wanted.complaint() {
        let body = Json(serde_json::json!({"error": complaint}));
        return (StatusCode::BAD_REQUEST, body).into_response();
    }
    let now_ms = clock::now_ms();
    let expires_ms = now_ms.saturating_add(wanted.expires_s.saturating_mul(1_000));
    let made = join::make(wanted.label, wanted.scope, wanted.uses, now_ms, expires_ms);
    let (token, text) = match made {
        Ok(made) => made,
        Err(error) => {
            let body = Json(serde_json::json!({"error": format!("{error:#}")}));
            return (StatusCode::INTERNAL_SERVER_ERROR, body).into_response();
        }
    };
    let id = token.id.clone();
    let written = desk
        .store
        .write(move |transaction| {
            if join_tokens::count(transaction)? >= TOKENS_MAX {
                return Ok(false);
            }
            join_tokens::add(transaction, &token).map(|()| true)
        })
        .await;
    match written {
        Ok(true) => {
            tracing::info!(id, uses = wanted.uses, "join token made");
            let expires = clock::rfc3339(expires_ms);
            Json(Made {
                id,
                token: text,
                expires,
            })
            .into_response()
        }
        Ok(false) => {
            let body =
                Json(serde_json::json!({"error": format!("there are {TOKENS_MAX} join tokens")}));
            (StatusCode::CONFLICT, body).into_response()
        }
        Err(error) => failed(&error),
    }
}

async fn list(State(desk): State<Desk>) -> Response {
    match desk.store.read_async(join_tokens::list).await {
        Ok(tokens) => {
            let now_ms = clock::now_ms();
            let all = tokens.into_iter().map(|token| line(token, now_ms));
            lines(all.filter_map(|line| serde_json::to_string(&line).ok()))
        }
        Err(error) => failed(&error),
    }
}

fn line(token: JoinToken, now_ms: u64) -> TokenLine {
    let standing = if token.is_revoked {
        "revoked"
    } else if token.uses >= token.uses_max {
        "used"
    } else if token.expires_ms <= now_ms {
        "ended"
    } else {
        "good"
    };
    TokenLine {
        kind: "join_token".to_owned(),
        id: token.id,
        label: token.label,
        scope: token.scope,
        created: clock::rfc3339(token.created_ms),
        expires: clock::rfc3339(token.expires_ms),
        uses_max: token.uses_max,
        uses: token.uses,
        standing: standing.to_owned(),
    }
}

async fn revoke(State(desk): State<Desk>, Segment(id): Segment<String>) -> Response {
    let revoked = desk
        .store
        .write(move |transaction| join_tokens::revoke(transaction, &id))
        .await;
    done(revoked)
}
