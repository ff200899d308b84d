//! What can be asked for, and by whom, for those who write programs against it.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::lines;
use super::route::{ALL, Reach, Route, route};

/// What can be asked of routes.
pub(super) const ROUTES: &[Route] = &[route!(GET "/v1/routes", Viewer, Own, list)];

/// A route as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RouteLine {
    kind: String,
    method: String,
    path: String,
    role: String,
    /// Whether tokens that are bound to accounts may, for what is theirs.
    bound_tokens: bool,
}

async fn list() -> Response {
    let all = ALL.iter().copied().flatten().map(|route| RouteLine {
        kind: "route".to_owned(),
        method: route.method.to_string(),
        path: route.path.to_owned(),
        role: route.role.to_string(),
        bound_tokens: route.reach == Reach::Own,
    });
    lines(all.filter_map(|line| serde_json::to_string(&line).ok()))
}
