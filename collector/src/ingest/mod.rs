//! The door for agents: `POST /v1/envelopes` and `GET /v1/health` over TLS.
//!
//! A request's body is a CBOR sequence (RFC 8742) of envelopes; the answer says for each, in order,
//! what became of it. The bytes are cut here and judged by the [`gate`], which answers when what it
//! accepted is on disk. Whoever sends more than can be taken is told to come back (429); what was
//! acknowledged is never dropped. A peer learns a word for the reason of a refusal, the log more.

pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod listen;
mod places;
mod pulse;
mod report;

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use picket_wire::item_bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::BadValue;
use crate::metrics::Metrics;
use gate::{Gate, Turned, Verdict};

/// Media type of a request's body.
const CONTENT_TYPE: &str = "application/cbor-seq";

/// Body bytes are counted in pieces of this size against the bound for all requests together.
const PIECE_BYTES: usize = 4_096;

/// Seconds after which a peer that was turned away may come again.
const RETRY_AFTER_S: &str = "2";

/// What is taken in at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Bytes of one request's body, at most.
    pub body_bytes_max: usize,
    /// Bytes of the bodies of all requests that are being received or judged, at most.
    pub in_flight_bytes_max: usize,
    /// Requests that may wait to be judged.
    pub queue_requests_max: usize,
    /// Connections open at once, at most.
    pub connections_max: usize,
    /// Of those for one address (of IPv6, one /64) once three quarters are taken; 0 for a 64th of them.
    pub connections_per_address_max: usize,
    /// Seconds until the first request must have come over a connection, and each head of one.
    pub head_timeout_s: u64,
    /// Seconds without a request after which a connection is closed.
    pub idle_timeout_s: u64,
    /// Seconds a body may take to arrive.
    pub body_timeout_s: u64,
    /// Seconds that requests under way may take when the collector stops.
    pub drain_s: u64,
    /// Seconds after which an agent that says nothing is a finding; 0 for never.
    pub silence_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Four envelopes of the largest kind, or hundreds of the usual ones.
            body_bytes_max: 16 << 20,
            // What a small machine can spare.
            in_flight_bytes_max: 128 << 20,
            // As many as there are connections: windows end at the same moment everywhere, so a whole
            // fleet posts at once. What they hold is bounded by `in_flight_bytes_max`.
            queue_requests_max: 16_384,
            // Each agent holds one: a fleet of 10,000, and half of it coming back at once.
            connections_max: 16_384,
            // A fleet behind one address may have three quarters; 256 beyond that.
            connections_per_address_max: 0,
            // Three windows of an agent.
            head_timeout_s: 30,
            // Half as long again as the longest wait for indicators.
            idle_timeout_s: 90,
            // 16 MiB over a line of 5 Mbit/s.
            body_timeout_s: 30,
            // Below the 90 s after which systemd kills.
            drain_s: 10,
            // Eighteen windows; an agent that restarts or loses its line for a moment is back by then.
            silence_s: 180,
        }
    }
}

impl Settings {
    /// Refuses bounds with which nothing can be taken in.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        let positive = [
            ("body_bytes_max", self.body_bytes_max),
            ("queue_requests_max", self.queue_requests_max),
            ("connections_max", self.connections_max),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(BadValue::new(format!("ingest.{key}"), "must not be 0"));
            }
        }
        for (key, value) in [
            ("body_timeout_s", self.body_timeout_s),
            ("head_timeout_s", self.head_timeout_s),
            ("idle_timeout_s", self.idle_timeout_s),
        ] {
            if value == 0 {
                return Err(BadValue::new(format!("ingest.{key}"), "must not be 0"));
            }
        }
        if self.in_flight_bytes_max < self.body_bytes_max {
            return Err(BadValue::new(
                "ingest.in_flight_bytes_max",
                "must not be below ingest.body_bytes_max",
            ));
        }
        // The bound is kept by a semaphore, which counts in 32 bits.
        if self.in_flight_bytes_max / PIECE_BYTES > u32::MAX as usize / 2 {
            return Err(BadValue::new(
                "ingest.in_flight_bytes_max",
                "is more than 8 TiB",
            ));
        }
        Ok(())
    }
}

/// What the handlers share.
struct Door {
    settings: Settings,
    gate: Gate,
    metrics: Arc<Metrics>,
    in_flight: Semaphore,
}

#[derive(Serialize)]
struct Answer {
    results: Vec<Verdict>,
}

/// The routes agents use.
pub(crate) fn router(settings: Settings, gate: Gate, metrics: Arc<Metrics>) -> Router {
    let pieces = settings.in_flight_bytes_max.div_ceil(PIECE_BYTES);
    let door = Door {
        in_flight: Semaphore::new(pieces),
        settings,
        gate,
        metrics,
    };
    Router::new()
        .route("/v1/envelopes", post(envelopes))
        .route("/v1/health", get(health))
        .with_state(Arc::new(door))
}

async fn health(State(door): State<Arc<Door>>) -> Response {
    if door.gate.is_open().await {
        Json(serde_json::json!({"status": "ok"})).into_response()
    } else {
        // What a peer is told is that; what is wrong stands in the log.
        let status = StatusCode::SERVICE_UNAVAILABLE;
        (status, Json(serde_json::json!({"status": "unavailable"}))).into_response()
    }
}

/// Why a whole request was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejection {
    ContentType,
    TooLarge,
    Slow,
    Cut,
    Overloaded,
    Unavailable,
}

impl Rejection {
    /// Its word, for the metric and the peer.
    fn word(self) -> &'static str {
        match self {
            Self::ContentType => "content_type",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Cut => StatusCode::BAD_REQUEST,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

async fn envelopes(State(door): State<Arc<Door>>, headers: HeaderMap, body: Body) -> Response {
    match door.take(&headers, body).await {
        Ok(results) => Json(Answer { results }).into_response(),
        Err(rejection) => {
            door.metrics.requests_refused.add(rejection.word(), 1);
            tracing::debug!(reason = rejection.word(), "request turned away");
            let mut response = (
                rejection.status(),
                Json(serde_json::json!({"error": rejection.word()})),
            )
                .into_response();
            if matches!(rejection, Rejection::Overloaded | Rejection::Unavailable) {
                response.headers_mut().insert(
                    header::RETRY_AFTER,
                    header::HeaderValue::from_static(RETRY_AFTER_S),
                );
            }
            response
        }
    }
}

impl Door {
    async fn take(&self, headers: &HeaderMap, body: Body) -> Result<Vec<Verdict>, Rejection> {
        let is_ours = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes() == CONTENT_TYPE.as_bytes());
        if !is_ours {
            return Err(Rejection::ContentType);
        }
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
            .unwrap_or(self.settings.body_bytes_max);
        if announced > self.settings.body_bytes_max {
            return Err(Rejection::TooLarge);
        }
        let limit = Duration::from_secs(self.settings.body_timeout_s);
        let (bytes, _room) = tokio::time::timeout(limit, self.receive(body, announced))
            .await
            .map_err(|_| Rejection::Slow)??;
        let cut = cut(&bytes);
        self.gate
            .judge(bytes, cut)
            .await
            .map_err(|turned| match turned {
                Turned::Full => Rejection::Overloaded,
                Turned::Failed => Rejection::Unavailable,
            })
    }
}

impl Door {
    /// Receives a body of at most `bytes_max`, and the room it takes. Room is taken for what has
    /// come, not for what was announced: whoever announces much and sends nothing keeps nobody out.
    async fn receive(
        &self,
        mut body: Body,
        bytes_max: usize,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Rejection> {
        let overloaded = |_| Rejection::Overloaded;
        let mut room = self.in_flight.try_acquire_many(0).map_err(overloaded)?;
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame.map_err(|_| Rejection::Cut)?.into_data() else {
                continue;
            };
            let len = bytes.len() + data.len();
            if len > bytes_max {
                return Err(Rejection::TooLarge);
            }
            let pieces = len.div_ceil(PIECE_BYTES) - room.num_permits();
            let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
            room.merge(
                self.in_flight
                    .try_acquire_many(pieces)
                    .map_err(overloaded)?,
            );
            bytes.extend_from_slice(&data);
        }
        Ok((Bytes::from(bytes), room))
    }
}

/// Where the envelopes of a body lie. If the last range runs to the end of the body and is no
/// envelope, it is where cutting became impossible.
fn cut(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let len = match item_bytes(&bytes[at..]) {
            Ok(Some(len)) => len,
            Ok(None) | Err(_) => bytes.len() - at,
        };
        ranges.push(at..at + len);
        at += len;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_where_its_items_end() {
        let item = [0xd2, 0x84, 0x41, 1, 0xa0, 0x42, 1, 2, 0x41, 9];
        let two = [item, item].concat();
        assert!(cut(&[]).is_empty());
        assert_eq!(cut(&two), vec![0..10, 10..20]);
        assert_eq!(cut(&two[..15]), vec![0..10, 10..15]);
        assert_eq!(cut(b"{}"), vec![0..2]);
    }
}
