//! Where agents are given orders: `GET /v1/orders?have=V&wait=S`.
//!
//! ```text
//! 200  what is for this agent, signed (application/vnd.picket.orders+cbor)
//! 204  nothing other than V within S seconds (60 at most, and if S is not said)
//! 401  {"error": reason}   no claim, or not a good one
//! 409  {"error": "newer"}  V is further ahead than any clock was set back
//! 429, 503  come back after Retry-After
//! ```

use std::sync::{Arc, PoisonError};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use picket_detect::KnownAgent;
use picket_wire::Purpose;
use picket_wire::orders::CONTENT_TYPE;

use super::Book;
use super::shifts::Ahead;
use crate::claims::{Claims, Unclaimed};
use crate::clock;
use crate::indicators::door::{Asked, Queue};
use crate::indicators::limits::RETRY_AFTER_S;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::signing::SigningKey;
use crate::stop::Stop;

/// What the door needs.
#[derive(Clone)]
pub(crate) struct Door {
    /// What is given.
    pub(crate) book: Arc<Book>,
    /// What signs it.
    pub(crate) signing: Arc<SigningKey>,
    /// To whom.
    pub(crate) agents: Arc<Registry>,
    /// Claims shown lately.
    pub(crate) claims: Arc<Claims>,
    /// Who waits, and what each agent said it has.
    pub(crate) queue: Arc<Queue>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// When those who wait are sent home.
    pub(crate) stop: Stop,
}

/// The route.
pub(crate) fn router(door: Door) -> Router {
    Router::new()
        .route("/v1/orders", get(orders))
        .with_state(door)
}

async fn orders(
    State(door): State<Door>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let host = match door.judge(&headers) {
        Ok(host) => host,
        Err(unclaimed) => return door.turn_away(&unclaimed),
    };
    let (Ok(_place), Some(_waiting)) = (
        door.queue.places.try_acquire(),
        door.queue.note(host.id, asked.have),
    ) else {
        return door.come_back(StatusCode::TOO_MANY_REQUESTS, "overloaded");
    };
    if let Ahead::CaughtUp(by_ms) = door.book.catch_up(&host, asked.have) {
        door.caught_up(&host, by_ms);
    }
    let mut stop = door.stop.clone();
    let other = tokio::select! {
        other = tokio::time::timeout(asked.wait(), door.book.other_than(&host, asked.have)) => other,
        () = stop.told() => return door.come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    match other {
        Err(_) => {
            door.metrics.order_polls.add("unchanged", 1);
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(version) if version < asked.have => {
            door.metrics.order_polls.add("newer", 1);
            let body = Json(serde_json::json!({"error": "newer"}));
            (StatusCode::CONFLICT, body).into_response()
        }
        Ok(_) => {
            // Whoever was revoked while it waited is given nothing any more.
            let now_ms = clock::now_ms();
            let entry = door.agents.find(host.id);
            if entry.is_none_or(|entry| entry.is_pending || !entry.known.is_believed(now_ms)) {
                return door.turn_away(&Unclaimed::Revoked(host.id));
            }
            door.metrics.order_polls.add("given", 1);
            let bytes = door.book.sealed(&host, door.signing.signer(), now_ms);
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], bytes).into_response()
        }
    }
}

impl Door {
    /// Who asks, if the claim is good.
    fn judge(&self, headers: &HeaderMap) -> Result<KnownAgent, Unclaimed> {
        let header = headers.get(header::AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok());
        let known = |id| {
            let entry = self.agents.find(id)?;
            (!entry.is_pending).then(|| entry.known.clone())
        };
        let now_ms = clock::now_ms();
        self.claims
            .check(header, Purpose::Orders, None, now_ms, known)
    }

    /// Tells of an agent that took later versions than are given out here.
    fn caught_up(&self, host: &KnownAgent, by_ms: u64) {
        self.metrics.order_polls.add("ahead", 1);
        let quiet = &self.queue.quiet;
        let mut quiet = quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = quiet.may_say("ahead", clock::now_ms()) {
            tracing::warn!(
                agent = %host.id, instance = host.instance, by_ms, unsaid,
                "an agent took later orders than are given out here: was the state set back? It is \
                 given those of now"
            );
        }
    }

    fn turn_away(&self, unclaimed: &Unclaimed) -> Response {
        let word = unclaimed.word();
        let quiet = &self.queue.quiet;
        let mut quiet = quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = quiet.may_say(word, clock::now_ms()) {
            tracing::warn!(error = %unclaimed, unsaid, "orders not given");
        }
        drop(quiet);
        if *unclaimed == Unclaimed::TooMany {
            return self.come_back(StatusCode::TOO_MANY_REQUESTS, word);
        }
        self.metrics.order_polls.add(word, 1);
        let body = Json(serde_json::json!({"error": word}));
        (StatusCode::UNAUTHORIZED, body).into_response()
    }

    fn come_back(&self, status: StatusCode, word: &'static str) -> Response {
        self.metrics.order_polls.add(word, 1);
        let body = Json(serde_json::json!({"error": word}));
        let mut response = (status, body).into_response();
        let after = HeaderValue::from_static(RETRY_AFTER_S);
        response.headers_mut().insert(header::RETRY_AFTER, after);
        response
    }
}
