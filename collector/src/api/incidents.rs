//! Incidents: asked for and shown.

use axum::Extension;
use axum::extract::{Path as Segment, State};
use axum::response::Response;

use super::route::{Route, route};
use super::{Caller, Desk, failed, lines, one};
use crate::store::findings;

/// What can be asked of incidents.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/incidents", Viewer, Own, list),
    route!(GET "/v1/incidents/{id}", Viewer, Own, show),
];

async fn list(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    let listed = desk
        .store
        .read_async(move |connection| findings::incidents(connection, caller.scope.accounts()))
        .await;
    match listed {
        Ok(bodies) => lines(bodies.into_iter()),
        Err(error) => failed(&error),
    }
}

async fn show(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
) -> Response {
    let shown = desk
        .store
        .read_async(move |connection| findings::incident(connection, &id, caller.scope.accounts()))
        .await;
    one(shown)
}
