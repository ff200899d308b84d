//! Stands before every route: who asks, whether they may, and the record of what they changed.
//!
//! At the socket the kernel says who asks. Over the network a token does; a wrong one costs no question
//! to the disk, and beyond a few a minute its address learns no more than that it is too many. A good
//! token is taken from any address: nobody can lock an operator out by guessing beside them. What
//! changes something is written down before it is done, and not done if that cannot be.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::limits::{BODY_BYTES_MAX, FAILURES_BY_ALL_MAX, WHAT_BYTES_MAX};
use super::tokens::{self, Tokens, Unknown};
use super::{Caller, Reach, Route, Scope, SocketPeer};
use crate::clock;
use crate::config::BadValue;
use crate::enrol::Peer;
use crate::enrol::pace::Pace;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::audit::{self, Record};

/// Seconds after which a caller who was too quick may come again.
const RETRY_AFTER_S: &str = "60";

/// How quick operators may be: `[api]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Requests a minute that one token may make.
    pub requests_per_minute_max: u64,
    /// Failed attempts a minute from one address (of IPv6, one /64) that are answered one by one.
    pub failures_per_minute_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Ten a second: more than a person or a dashboard asks, less than a loop gone wild.
            requests_per_minute_max: 600,
            // A person who pastes the wrong line does it a few times.
            failures_per_minute_max: 10,
        }
    }
}

impl Settings {
    /// Refuses bounds with which nobody could be answered.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        for (key, value) in [
            ("requests_per_minute_max", self.requests_per_minute_max),
            ("failures_per_minute_max", self.failures_per_minute_max),
        ] {
            if value == 0 {
                return Err(BadValue::new(format!("api.{key}"), "must not be 0"));
            }
        }
        Ok(())
    }
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// At the socket of this machine.
    Socket,
    /// Over TLS.
    Network,
}

/// What both doors know of who may come in.
pub(crate) struct Guard {
    settings: Settings,
    body_wait: Duration,
    tokens: Arc<Tokens>,
    failures: Pace,
    store: Store,
    metrics: Arc<Metrics>,
}

/// What a call was about, where its path does not say; a handler puts it into its response.
#[derive(Debug, Clone)]
pub(crate) struct Detail(pub(crate) String);

/// Why a request is not answered.
struct Refused {
    status: StatusCode,
    word: &'static str,
    who: String,
    from: String,
    /// Whether it is written down.
    is_told: bool,
}

/// Lets a request through to its route, or not.
pub(super) async fn check(
    State((guard, door, route)): State<(Arc<Guard>, Door, &'static Route)>,
    mut request: Request,
    next: Next,
) -> Response {
    let what = what(&request);
    let caller = guard
        .identify(door, &request)
        .and_then(|caller| may(caller, route));
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return guard.refuse(refused, what).await,
    };
    let record = Record {
        at_ms: clock::now_ms(),
        who: caller.who.clone(),
        from: caller.from.clone(),
        what,
    };
    request.extensions_mut().insert(caller);
    if !route.changes() {
        return next.run(request).await;
    }
    // Before it is written down: nobody has the record wait for what does not come.
    match guard.receive(request).await {
        Ok(request) => guard.write_down(record, request, next).await,
        Err((status, word)) => {
            let Record {
                who, from, what, ..
            } = record;
            let refused = Refused {
                status,
                word,
                who,
                from,
                is_told: false,
            };
            guard.refuse(refused, what).await
        }
    }
}

/// Method and path, cut to what is kept.
fn what(request: &Request) -> String {
    let path = request.uri().path_and_query();
    let path = path.map_or("", axum::http::uri::PathAndQuery::as_str);
    let mut text = format!("{} {path}", request.method());
    // A query may hold any UTF-8.
    text.truncate(text.floor_char_boundary(WHAT_BYTES_MAX));
    text
}

fn may(caller: Caller, route: &Route) -> Result<Caller, Refused> {
    let is_whole = caller.scope == Scope::Whole;
    let word = if caller.role < route.role {
        "role"
    } else if !is_whole && route.reach == Reach::Whole {
        "scope"
    } else {
        return Ok(caller);
    };
    Err(Refused {
        status: StatusCode::FORBIDDEN,
        word,
        who: caller.who,
        from: caller.from,
        is_told: true,
    })
}

impl Guard {
    /// Makes the one that both doors share; a body may take `body_wait` to arrive.
    pub(crate) fn new(
        settings: Settings,
        body_wait: Duration,
        tokens: Arc<Tokens>,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Self {
        let failures = Pace::new(settings.failures_per_minute_max, FAILURES_BY_ALL_MAX);
        Self {
            settings,
            body_wait,
            tokens,
            failures,
            store,
            metrics,
        }
    }

    /// Who asks, if that is somebody we know.
    fn identify(&self, door: Door, request: &Request) -> Result<Caller, Refused> {
        let extensions = request.extensions();
        let nobody = |from: String, word, status, is_told| Refused {
            status,
            word,
            who: "nobody".to_owned(),
            from,
            is_told,
        };
        if door == Door::Socket {
            let peer = extensions.get::<ConnectInfo<SocketPeer>>();
            return peer.map(|ConnectInfo(peer)| peer.caller()).ok_or_else(|| {
                nobody(
                    "socket".to_owned(),
                    "no peer",
                    StatusCode::UNAUTHORIZED,
                    true,
                )
            });
        }
        let address = extensions.get::<Peer>().map(|Peer(address)| *address);
        let from = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let now_ms = clock::now_ms();
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown.map(|value| value.to_str().unwrap_or_default());
        let token = self
            .tokens
            .find(shown, now_ms)
            .map_err(|unknown: Unknown| {
                let address = address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                if self.failures.may(address, now_ms) {
                    nobody(from.clone(), unknown.word(), StatusCode::UNAUTHORIZED, true)
                } else {
                    let status = StatusCode::TOO_MANY_REQUESTS;
                    nobody(from.clone(), "too many failures", status, false)
                }
            })?;
        let caller = token.caller(from);
        match token.pace(self.settings.requests_per_minute_max, now_ms) {
            tokens::Pace::Well => {}
            pace => {
                return Err(Refused {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    word: "too many requests",
                    who: caller.who,
                    from: caller.from,
                    is_told: pace == tokens::Pace::First,
                });
            }
        }
        self.tokens.note_use(&token, now_ms);
        Ok(caller)
    }

    /// The request with its body whole, if that comes in time.
    async fn receive(&self, request: Request) -> Result<Request, (StatusCode, &'static str)> {
        let (head, body) = request.into_parts();
        let reading = tokio::time::timeout(self.body_wait, to_bytes(body, BODY_BYTES_MAX));
        match reading.await {
            Ok(Ok(bytes)) => Ok(Request::from_parts(head, Body::from(bytes))),
            Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "too large")),
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "slow")),
        }
    }

    async fn refuse(&self, refused: Refused, what: String) -> Response {
        let Refused {
            status,
            word,
            who,
            from,
            is_told,
        } = refused;
        self.metrics.operator_requests_refused.add(word, 1);
        if is_told {
            let record = Record {
                at_ms: clock::now_ms(),
                who,
                from,
                what,
            };
            let outcome = format!("refused: {word}");
            let written = self
                .store
                .write(move |transaction| audit::add(transaction, &record, &outcome))
                .await;
            if let Err(error) = written {
                tracing::error!(%error, "refused call not written down");
            }
        }
        let mut response = (status, Json(serde_json::json!({"error": word}))).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                let scheme = header::HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let pause = header::HeaderValue::from_static(RETRY_AFTER_S);
                headers.insert(header::RETRY_AFTER, pause);
            }
            _ => {}
        }
        response
    }

    /// Writes down a call, has it done, and writes down how it ended.
    async fn write_down(&self, record: Record, request: Request, next: Next) -> Response {
        let begun = self
            .store
            .write(move |transaction| audit::begin(transaction, &record))
            .await;
        let row = match begun {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(%error, "call not written down, and not done");
                self.metrics.operator_requests_refused.add("audit", 1);
                let body = Json(serde_json::json!({"error": "cannot be written down"}));
                return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
            }
        };
        let mut response = next.run(request).await;
        let detail = response.extensions_mut().remove::<Detail>();
        let status = response.status();
        let outcome = if status.is_success() {
            "done".to_owned()
        } else {
            format!("failed: {}", status.as_u16())
        };
        let ended = self.store.write(move |transaction| {
            let detail = detail.as_ref().map(|Detail(text)| text.as_str());
            audit::end(transaction, row, &outcome, detail)
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "end of a call not written down");
        }
        response
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
            (Role::Viewer, Scope::Whole, Reach::Whole, Some("role")),
            (Role::Analyst, Scope::Whole, Reach::Whole, None),
            (Role::Admin, Scope::Whole, Reach::Own, None),
            (Role::Analyst, bound(), Reach::Own, None),
            (Role::Admin, bound(), Reach::Whole, Some("scope")),
            (Role::Viewer, bound(), Reach::Own, Some("role")),
        ] {
            let refused = may(caller(role, scope.clone()), &route(reach)).err();
            let word = refused.map(|refused| refused.word);
            assert_eq!(word, expected, "{role} {scope:?} {reach:?}");
        }
    }

    #[test]
    fn what_is_kept_is_cut_between_characters() {
        for before in 0..2 {
            let query = format!("{}{}", "a".repeat(before), "é".repeat(WHAT_BYTES_MAX));
            let uri = axum::http::Uri::try_from(format!("/v1/findings?{query}").into_bytes());
            let request = Request::builder().uri(uri.unwrap()).body(Body::empty());
            let kept = what(&request.unwrap()).len();
            assert!(
                (WHAT_BYTES_MAX - 1..=WHAT_BYTES_MAX).contains(&kept),
                "{kept}"
            );
        }
    }
}
