//! Usage: what was analysed, by day, source and account.

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::route::{Route, route};
use super::{Caller, Desk, failed, lines};
use crate::store::usage;

/// What can be asked of usage.
pub(super) const ROUTES: &[Route] = &[route!(GET "/v1/usage", Viewer, Own, list)];

/// Which days.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Days {
    /// The first, `YYYY-MM-DD`; the oldest that is kept if absent.
    #[serde(default)]
    pub(crate) since: String,
}

async fn list(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Query(days): Query<Days>,
) -> Response {
    let listed = desk
        .store
        .read_async(move |connection| usage::list(connection, &days.since, caller.scope.accounts()))
        .await;
    match listed {
        Ok(rows) => lines(
            rows.iter()
                .filter_map(|row| serde_json::to_string(row).ok()),
        ),
        Err(error) => failed(&error),
    }
}
