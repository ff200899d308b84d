//! The record of who changed what, and of who was refused.

use axum::extract::{Query, State};
use axum::response::Response;

use super::route::{Route, route};
use super::{Desk, LISTED_MAX, failed, lines};
use crate::store::audit::{self, Wanted};

/// What can be asked of the record.
pub(super) const ROUTES: &[Route] = &[route!(GET "/v1/audit", Admin, Whole, list)];

async fn list(State(desk): State<Desk>, Query(wanted): Query<Wanted>) -> Response {
    let listed = desk
        .store
        .read_async(move |connection| audit::list(connection, &wanted, LISTED_MAX))
        .await;
    match listed {
        Ok(all) => lines(
            all.iter()
                .filter_map(|line| serde_json::to_string(line).ok()),
        ),
        Err(error) => failed(&error),
    }
}
