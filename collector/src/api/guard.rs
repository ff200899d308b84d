//! Stands before every route: who asks, and whether they may.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::{Caller, Reach, Route, Scope, SocketPeer};

/// What the doors know of who may come in.
pub(crate) struct Guard;

/// Lets a request through to its route, or not.
pub(super) async fn check(
    State((guard, route)): State<(Arc<Guard>, &'static Route)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(caller) = guard.identify(&request) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if !may(&caller, route) {
        return StatusCode::FORBIDDEN.into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn may(caller: &Caller, route: &Route) -> bool {
    let is_whole = caller.scope == Scope::Whole;
    caller.role >= route.role && (is_whole || route.reach == Reach::Own)
}

impl Guard {
    /// Who asks, if that is anybody we know.
    fn identify(&self, request: &Request) -> Option<Caller> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketPeer>>()?;
        Some(peer.caller())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use axum::routing::MethodRouter;

    use super::*;
    use crate::api::Role;

    #[test]
    fn role_and_scope_must_both_fit() {
        let caller = |role, scope| Caller {
            who: "token t".into(),
            from: "192.0.2.1".into(),
            role,
            scope,
        };
        let route = |reach| {
            Route::new(
                Method::GET,
                "/v1/x",
                Role::Analyst,
                reach,
                MethodRouter::new,
            )
        };
        let bound = || Scope::Accounts(vec!["111122223333".into()]);
        for (role, scope, reach, expected) in [
            (Role::Viewer, Scope::Whole, Reach::Whole, false),
            (Role::Analyst, Scope::Whole, Reach::Whole, true),
            (Role::Admin, Scope::Whole, Reach::Own, true),
            (Role::Analyst, bound(), Reach::Own, true),
            (Role::Admin, bound(), Reach::Whole, false),
            (Role::Viewer, bound(), Reach::Own, false),
        ] {
            let may = may(&caller(role, scope.clone()), &route(reach));
            assert_eq!(may, expected, "{role} {scope:?} {reach:?}");
        }
    }
}
