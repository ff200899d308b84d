//! Where agents are given indicators: `GET /v1/indicators?have=V&wait=S`.
//!
//! ```text
//! 200  the bundle, or the changes that lead from V to it, one bundle after the other
//! 204  nothing other than V within S seconds (60 at most, and if S is not said)
//! 401  {"error": reason}   no claim, or not a good one
//! 409  {"error": "newer"}  V is newer than anything published here
//! 429, 503  come back after Retry-After
//! ```
//!
//! A request waits until there is something else than it has. It costs a place among those that may
//! wait and a timer; the bytes it is given are shared by all that are given the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use picket_wire::bundle::CONTENT_TYPE;
use picket_wire::{AgentId, Purpose};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Board;
use super::edition::{Answer, Edition};
use super::limits::{RETRY_AFTER_S, WAIT_MAX, WAITING_PER_AGENT_MAX};
use crate::claims::{Claims, Unclaimed};
use crate::clock;
use crate::metrics::Metrics;
use crate::quiet::Quiet;
use crate::registry::Registry;
use crate::stop::Stop;

/// What the door needs.
#[derive(Clone)]
pub(crate) struct Door {
    /// What is given.
    pub(crate) board: Board,
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

/// Who waits, and what each agent said it has.
pub(crate) struct Queue {
    pub(crate) places: Semaphore,
    polled: Mutex<HashMap<AgentId, Polled>>,
    pub(crate) quiet: Mutex<Quiet>,
}

/// What is known of an agent that has asked since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Polled {
    /// The version it has.
    pub(crate) have: u64,
    /// When it last asked, milliseconds since the epoch.
    pub(crate) asked_ms: u64,
    waiting: u32,
}

impl Queue {
    /// A queue of so many places.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places: Semaphore::new(places.min(Semaphore::MAX_PERMITS)),
            polled: Mutex::default(),
            quiet: Mutex::default(),
        }
    }

    /// What an agent said it has.
    pub(crate) fn of(&self, agent: AgentId) -> Option<Polled> {
        let polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        polled.get(&agent).copied()
    }

    /// Notes a request; only known agents come here, so the table is bounded.
    pub(crate) fn note(&self, agent: AgentId, have: u64) -> Option<Waiting<'_>> {
        let mut polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = polled.entry(agent).or_default();
        known.have = have;
        known.asked_ms = clock::now_ms();
        if known.waiting >= WAITING_PER_AGENT_MAX {
            return None;
        }
        known.waiting += 1;
        Some(Waiting { queue: self, agent })
    }
}

/// A request that waits.
pub(crate) struct Waiting<'a> {
    queue: &'a Queue,
    agent: AgentId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let polled = &self.queue.polled;
        let mut polled = polled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = polled.get_mut(&self.agent) {
            known.waiting = known.waiting.saturating_sub(1);
        }
    }
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// The version that the agent has; 0 for none, or to be given everything.
    #[serde(default)]
    pub(crate) have: u64,
    /// Seconds to wait for another.
    wait: Option<u64>,
}

impl Asked {
    /// How long to wait for another.
    pub(crate) fn wait(&self) -> Duration {
        let asked = self.wait.map_or(WAIT_MAX, Duration::from_secs);
        asked.min(WAIT_MAX)
    }
}

/// The route.
pub(crate) fn router(door: Door) -> Router {
    Router::new()
        .route("/v1/indicators", get(indicators))
        .with_state(door)
}

async fn indicators(
    State(door): State<Door>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let header = headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let now_ms = clock::now_ms();
    let known = |id| {
        let entry = door.agents.find(id)?;
        (!entry.is_pending).then(|| entry.known.clone())
    };
    let judged = door
        .claims
        .check(header, Purpose::Indicators, None, now_ms, known);
    let agent = match judged {
        Ok(agent) => agent,
        Err(unclaimed) => return door.turn_away(&unclaimed, now_ms),
    };
    let (Ok(_place), Some(_waiting)) = (
        door.queue.places.try_acquire(),
        door.queue.note(agent.id, asked.have),
    ) else {
        return door.come_back(StatusCode::TOO_MANY_REQUESTS, "overloaded");
    };
    let (mut board, mut stop) = (door.board.clone(), door.stop.clone());
    let edition = tokio::select! {
        edition = tokio::time::timeout(asked.wait(), board.other_than(asked.have)) => edition,
        () = stop.told() => Ok(None),
    };
    match edition {
        Err(_) => {
            door.metrics.indicator_polls.add("unchanged", 1);
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(None) => door.come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        // An operator may have revoked it while it waited.
        Ok(Some(_)) if !door.believes(agent.id) => {
            door.turn_away(&Unclaimed::Revoked(agent.id), clock::now_ms())
        }
        Ok(Some(edition)) => door.give(&edition, asked.have),
    }
}

impl Door {
    /// Whether an agent may still be given anything.
    fn believes(&self, agent: AgentId) -> bool {
        let entry = self.agents.find(agent);
        entry.is_some_and(|entry| !entry.is_pending && entry.known.is_believed(clock::now_ms()))
    }

    fn give(&self, edition: &Edition, have: u64) -> Response {
        if have > edition.version() {
            self.tell_newer(have, edition.version());
            self.metrics.indicator_polls.add("newer", 1);
            let body = Json(serde_json::json!({"error": "newer"}));
            return (StatusCode::CONFLICT, body).into_response();
        }
        let (word, bytes) = match edition.answer(have) {
            Answer::Whole(bytes) => ("whole", bytes),
            Answer::Changes(bytes) => ("changes", bytes),
        };
        self.metrics.indicator_polls.add(word, 1);
        self.metrics.indicator_bytes_sent.add(bytes.len() as u64);
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], bytes).into_response()
    }

    fn tell_newer(&self, have: u64, version: u64) {
        let quiet = &self.queue.quiet;
        let mut quiet = quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = quiet.may_say("newer", clock::now_ms()) {
            tracing::error!(
                have,
                version,
                unsaid,
                "an agent has later indicators than are published: state or clock was set back; \
                 `intel supersede` publishes above them"
            );
        }
    }

    fn turn_away(&self, unclaimed: &Unclaimed, now_ms: u64) -> Response {
        let word = unclaimed.word();
        let mut quiet = self
            .queue
            .quiet
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = quiet.may_say(word, now_ms) {
            tracing::warn!(error = %unclaimed, unsaid, "indicators not given");
        }
        drop(quiet);
        if *unclaimed == Unclaimed::TooMany {
            return self.come_back(StatusCode::TOO_MANY_REQUESTS, word);
        }
        self.metrics.indicator_polls.add(word, 1);
        let body = Json(serde_json::json!({"error": word}));
        (StatusCode::UNAUTHORIZED, body).into_response()
    }

    fn come_back(&self, status: StatusCode, word: &'static str) -> Response {
        self.metrics.indicator_polls.add(word, 1);
        let body = Json(serde_json::json!({"error": word}));
        let mut response = (status, body).into_response();
        let after = HeaderValue::from_static(RETRY_AFTER_S);
        response.headers_mut().insert(header::RETRY_AFTER, after);
        response
    }
}
