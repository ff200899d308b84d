//! Feeds of indicators that the collector fetches.

use axum::Json;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::route::{Route, route};
use super::{Desk, failed, lines};
use crate::fetch::Accepted;

/// What can be asked of feeds.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/feeds", Viewer, Whole, list),
    route!(POST "/v1/feeds/{name}/accept", Admin, Whole, accept),
];

async fn list(State(desk): State<Desk>) -> Response {
    match desk.feeds.list().await {
        Ok(feeds) => lines(
            feeds
                .iter()
                .filter_map(|line| serde_json::to_string(line).ok()),
        ),
        Err(error) => failed(&error),
    }
}

async fn accept(State(desk): State<Desk>, Segment(name): Segment<String>) -> Response {
    match desk.feeds.accept(&name).await {
        Ok(Accepted::Taken) => StatusCode::NO_CONTENT.into_response(),
        Ok(Accepted::Nothing) => StatusCode::NOT_FOUND.into_response(),
        Ok(Accepted::TooMuch(why)) => {
            let body = Json(serde_json::json!({"error": why}));
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(error, feed = name, "held version of a feed not taken");
            let body = Json(serde_json::json!({"error": error}));
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
    }
}
