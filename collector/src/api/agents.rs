//! Agents: who speaks, and how they do.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use picket_wire::AgentId;
use serde::{Deserialize, Serialize};

use super::route::{Route, route};
use super::{Caller, Desk, Scope, done, failed, lines};
use crate::clock;
use crate::ingest::gate::Refusals;
use crate::registry::Registry;
use crate::store::agents::{self, AgentRow, Sensor};

/// What can be asked of agents.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/agents", Viewer, Own, list),
    route!(POST "/v1/agents/{id}/approve", Admin, Own, approve),
    route!(POST "/v1/agents/{id}/revoke", Admin, Own, revoke),
];

async fn list(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    match desk.store.read_async(agents::list).await {
        Ok(rows) => {
            let all = all(&desk.agents, &rows, &desk.refusals);
            let own = all.iter().filter(|line| is_own(line, &caller.scope));
            lines(own.filter_map(|line| serde_json::to_string(line).ok()))
        }
        Err(error) => failed(&error),
    }
}

/// What may be said with a revocation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Revocation {
    /// Whether another key may enrol for the instance.
    release: bool,
}

async fn revoke(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
    Query(how): Query<Revocation>,
) -> Response {
    match registered(&desk, &caller, &id) {
        Some(agent) => done(desk.agents.revoke(agent, how.release).await),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn approve(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
) -> Response {
    match registered(&desk, &caller, &id) {
        Some(agent) => done(desk.agents.approve(agent).await),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The agent of that id, if it is registered for an account of the caller's.
fn registered(desk: &Desk, caller: &Caller, id: &str) -> Option<AgentId> {
    let agent = id.parse().ok()?;
    let entries = desk.agents.all();
    let entry = entries.iter().find(|entry| entry.known.id == agent)?;
    caller.scope.has(&entry.known.account).then_some(agent)
}

/// One of which nobody knows the account is nobody's but those who see everything.
fn is_own(line: &AgentLine, scope: &Scope) -> bool {
    match &line.account {
        Some(account) => scope.has(account),
        None => *scope == Scope::Whole,
    }
}

/// One agent: who it is, whom it speaks for, and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentLine {
    /// Always `agent`.
    pub(crate) kind: String,
    /// Its id.
    pub(crate) agent: String,
    /// Whether the configuration names it, or it enrolled.
    pub(crate) known: bool,
    /// How it came to be trusted.
    pub(crate) level: Option<String>,
    /// `trusted`, `pending` or `revoked`.
    pub(crate) standing: Option<String>,
    /// When and by what it enrolled; `null` of one that the configuration names.
    pub(crate) enrolled: Option<Enrolment>,
    /// Its host's account.
    pub(crate) account: Option<String>,
    /// Its host's region.
    pub(crate) region: Option<String>,
    /// Its host.
    pub(crate) instance: Option<String>,
    /// What it last said, if it ever spoke.
    pub(crate) state: Option<AgentState>,
    /// Envelopes refused since the collector started, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// How an agent enrolled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Enrolment {
    /// When, RFC 3339.
    pub(crate) at: String,
    /// By what: the token's id, the role session.
    pub(crate) by: String,
}

/// What an agent last said about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentState {
    /// When it was last heard, RFC 3339.
    pub(crate) last_seen: String,
    /// Seconds since.
    pub(crate) silent_s: u64,
    /// Its run.
    pub(crate) boot: String,
    /// Number of its last envelope.
    pub(crate) sequence: u64,
    /// Envelopes accepted in all.
    pub(crate) envelopes: u64,
    /// The host's name.
    pub(crate) hostname: Option<String>,
    /// Version of the agent.
    pub(crate) version: String,
    /// Rung of the capture ladder.
    pub(crate) capture: String,
    /// Version of its indicators.
    pub(crate) indicators: u64,
    /// Packets seen in all.
    pub(crate) packets_seen: u64,
    /// Packets counted as lost in all.
    pub(crate) packets_lost: u64,
    /// Times in which it was blind, as told by itself.
    pub(crate) gaps: u64,
    /// Share of the packets seen that were lost, 0.0 to 1.0.
    pub(crate) loss_share: f64,
    /// What did not fit into its summaries.
    pub(crate) cut: u64,
    /// How its sensor was in the last window; `null` before one came.
    pub(crate) sensor: Option<Sensor>,
}

/// Every agent that is known or was heard, by id.
fn all(known: &Registry, heard: &[AgentRow], refusals: &Refusals) -> Vec<AgentLine> {
    let mut states: BTreeMap<AgentId, Option<&AgentRow>> = known
        .all()
        .iter()
        .map(|entry| (entry.known.id, None))
        .collect();
    states.extend(heard.iter().map(|row| (row.agent, Some(row))));
    let now_ms = clock::now_ms();
    states
        .into_iter()
        .map(|(id, row)| {
            let entry = known.find(id);
            let host = entry.as_ref().map(|entry| &entry.known);
            let refused = refusals.of(id).into_iter();
            AgentLine {
                kind: "agent".to_owned(),
                agent: id.to_string(),
                known: host.is_some(),
                level: entry.as_ref().map(|entry| entry.level.to_string()),
                standing: entry.as_ref().map(|entry| entry.standing().to_owned()),
                enrolled: entry.as_ref().and_then(|entry| {
                    let (at_ms, by) = entry.enrolled.clone()?;
                    let at = clock::rfc3339(at_ms);
                    Some(Enrolment { at, by })
                }),
                account: host.map(|host| host.account.clone()),
                region: host.map(|host| host.region.clone()),
                instance: host
                    .map(|host| host.instance.clone())
                    .or_else(|| row.map(|row| row.instance.clone())),
                state: row.map(|row| state(row, now_ms)),
                refused: refused
                    .map(|(reason, count)| (reason.to_owned(), count))
                    .collect(),
            }
        })
        .collect()
}

/// A part of a whole; nothing of nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share is for people and thresholds"
)]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn state(row: &AgentRow, now_ms: u64) -> AgentState {
    AgentState {
        last_seen: clock::rfc3339(row.last_seen_ms),
        silent_s: now_ms.saturating_sub(row.last_seen_ms) / 1_000,
        boot: row.boot.to_string(),
        sequence: row.sequence,
        envelopes: row.envelopes,
        hostname: row.hostname.clone(),
        version: row.version.clone(),
        capture: row.capture.clone(),
        indicators: row.indicators,
        packets_seen: row.packets_seen,
        packets_lost: row.packets_lost,
        gaps: row.gaps,
        loss_share: share(row.packets_lost, row.packets_seen),
        cut: row.cut,
        sensor: row.sensor.clone(),
    }
}
