//! Rules of the operator's own, and the built-in detections beside them.

use axum::Json;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::route::{Route, route};
use super::{Desk, done, failed, lines};

/// What can be asked of rules.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/rules", Viewer, Whole, list),
    route!(POST "/v1/rules/{id}/enable", Admin, Whole, enable),
    route!(POST "/v1/rules/{id}/trial", Admin, Whole, try_out),
];

/// Which text of a rule may page, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enabled {
    /// SHA-256 of the rule that was tried; absent for whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// Why, such as what a replay found.
    #[serde(default)]
    pub(crate) how: String,
}

async fn list(State(desk): State<Desk>) -> Response {
    match desk.rules.list() {
        Ok(rules) => lines(
            rules
                .iter()
                .filter_map(|line| serde_json::to_string(line).ok()),
        ),
        Err(error) => failed(&error),
    }
}

async fn enable(
    State(desk): State<Desk>,
    Segment(id): Segment<String>,
    wanted: Option<Json<Enabled>>,
) -> Response {
    let Enabled { digest, how } = wanted.map(|Json(wanted)| wanted).unwrap_or_default();
    match desk.rules.enable(&id, digest.as_deref(), how).await {
        Ok(Some(true)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(false)) => {
            let why = "the collector's rule of this id says something else; have it read the folder again (SIGHUP)";
            let body = Json(serde_json::json!({"error": why}));
            (StatusCode::CONFLICT, body).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

async fn try_out(State(desk): State<Desk>, Segment(id): Segment<String>) -> Response {
    done(desk.rules.try_out(&id).await)
}
