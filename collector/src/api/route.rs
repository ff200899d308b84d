//! The one table of what operators may ask for: each path with the role it takes.
//!
//! A new route is a line in the `ROUTES` of its noun's file; a new noun is a file and a line in
//! [`ALL`]. There is no other way to a handler, so that none is without a role. The role is asked
//! for before the handler sees anything.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;

use super::guard::{self, Door, Guard};
use super::{Desk, Role};
use super::{
    agents, audit, baselines, blocks, feeds, findings, incidents, intel, join_tokens, operators,
    routes, rules, usage,
};

/// Every route, by noun.
pub(crate) const ALL: &[&[Route]] = &[
    agents::ROUTES,
    audit::ROUTES,
    baselines::ROUTES,
    blocks::ROUTES,
    feeds::ROUTES,
    findings::ROUTES,
    incidents::ROUTES,
    intel::ROUTES,
    join_tokens::ROUTES,
    operators::ROUTES,
    routes::ROUTES,
    rules::ROUTES,
    usage::ROUTES,
];

/// One thing that can be asked for.
pub(crate) struct Route {
    /// How: reading is `GET`; anything else changes something and is audited.
    pub(crate) method: Method,
    /// Where, as axum writes paths.
    pub(crate) path: &'static str,
    /// The least role that may.
    pub(crate) role: Role,
    /// What becomes of callers who are bound to some accounts.
    pub(crate) reach: Reach,
    handler: fn() -> MethodRouter<Desk>,
}

/// What a route does about callers who are bound to some accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Its handler looks at [`super::Caller::scope`]: another account's thing is not there (404).
    Own,
    /// It is about everybody, or its handler does not ask whose it is: refused (403) to callers
    /// who are bound to some accounts.
    Whole,
}

/// Makes a [`Route`] for `GET`, `POST` or `DELETE`: `route!(GET "/v1/things", Viewer, Own, list)`.
macro_rules! route {
    ($method:ident $path:literal, $role:ident, $reach:ident, $handler:path) => {
        $crate::api::Route::new(
            axum::http::Method::$method,
            $path,
            $crate::api::Role::$role,
            $crate::api::Reach::$reach,
            || {
                let method = axum::routing::MethodFilter::$method;
                axum::routing::on(method, $handler)
            },
        )
    };
}
pub(crate) use route;

impl Route {
    /// See [`route`].
    pub(crate) const fn new(
        method: Method,
        path: &'static str,
        role: Role,
        reach: Reach,
        handler: fn() -> MethodRouter<Desk>,
    ) -> Self {
        Self {
            method,
            path,
            role,
            reach,
            handler,
        }
    }

    /// Whether it changes something.
    pub(crate) fn changes(&self) -> bool {
        self.method != Method::GET
    }
}

/// Every route behind its guard.
pub(super) fn router(desk: Desk, guard: &Arc<Guard>, door: Door) -> Router {
    let mut router = Router::new();
    for route in ALL.iter().copied().flatten() {
        let watch = from_fn_with_state((guard.clone(), door, route), guard::check);
        router = router.route(route.path, (route.handler)().layer(watch));
    }
    router.with_state(desk)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_changes_something_takes_more_than_a_look() {
        let mut seen = HashSet::new();
        for route in ALL.iter().copied().flatten() {
            let name = format!("{} {}", route.method, route.path);
            assert!(route.path.starts_with("/v1/"), "{name}");
            assert!(!route.changes() || route.role > Role::Viewer, "{name}");
            assert!(seen.insert(name.clone()), "{name} is there twice");
        }
    }
}
