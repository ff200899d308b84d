//! What is usual for whom: listed, shown, carried elsewhere, forgotten.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use picket_detect::{Baseline, Dimension, Learned, Traffic};
use serde::{Deserialize, Serialize};

use super::guard::Detail;
use super::route::{Route, route};
use super::{Desk, lines};
use crate::clock;

/// What can be asked of baselines.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/baselines", Viewer, Whole, list),
    route!(GET "/v1/baselines/export", Viewer, Whole, export),
    route!(POST "/v1/baselines/import", Admin, Whole, import),
    route!(POST "/v1/baselines/reset", Admin, Whole, reset),
];

/// Which baselines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Named {
    /// The ARN of a principal, an account, or an account with a kind of principal; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// A baseline as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaselineLine {
    /// Always `baseline`.
    pub(crate) kind: String,
    /// `principal`, `peers`, `account`, `host` or `hosts_alike`.
    pub(crate) whose: String,
    /// The ARN of a principal, an account, an account with a kind of principal, or account, region and host.
    pub(crate) name: String,
    /// First call, RFC 3339.
    pub(crate) first: String,
    /// Last call.
    pub(crate) last: String,
    /// Calls so far.
    pub(crate) calls: u64,
    /// Of these, denied ones.
    pub(crate) denied: u64,
    /// Different calls, services, regions, networks and programs. Of hosts `calls` counts windows, `networks`
    /// destinations, `services` ports, `agents` programs.
    pub(crate) apis: usize,
    pub(crate) services: usize,
    pub(crate) regions: usize,
    pub(crate) networks: usize,
    pub(crate) agents: usize,
}

/// How many baselines were taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Baselines.
    pub(crate) baselines: usize,
}

fn line(whose: &str, name: String, one: &Baseline) -> BaselineLine {
    let count = |dimension| one.values.count(dimension);
    BaselineLine {
        kind: "baseline".to_owned(),
        whose: whose.to_owned(),
        name,
        first: clock::rfc3339(one.first_ns / 1_000_000),
        last: clock::rfc3339(one.last_ns / 1_000_000),
        calls: one.calls,
        denied: one.denied,
        apis: count(Dimension::Api),
        services: count(Dimension::Service),
        regions: count(Dimension::Region),
        networks: count(Dimension::Network),
        agents: count(Dimension::Agent),
    }
}

/// What is usual on the network, told in the same words.
fn traffic_line(whose: &str, name: String, one: &Traffic) -> BaselineLine {
    BaselineLine {
        kind: "baseline".to_owned(),
        whose: whose.to_owned(),
        name,
        first: clock::rfc3339(one.first_ns / 1_000_000),
        last: clock::rfc3339(one.last_ns / 1_000_000),
        calls: u64::from(one.heard.calls),
        denied: 0,
        apis: 0,
        services: one.tcp.len() + one.udp.len(),
        regions: 0,
        networks: one.peers.len(),
        agents: one.programs.len(),
    }
}

async fn list(State(desk): State<Desk>) -> Response {
    let Some(mut learned) = desk.analysis.learned(None).await else {
        return ended();
    };
    let of_hosts = learned
        .take_traffic()
        .map(|(of, name, one)| traffic_line(of.name(), name, &one));
    let all = learned
        .into_rows()
        .map(|(whose, name, one)| line(whose.name(), name, &one));
    lines(
        all.chain(of_hosts)
            .filter_map(|line| serde_json::to_string(&line).ok()),
    )
}

async fn export(State(desk): State<Desk>, Query(named): Query<Named>) -> Response {
    let is_named = named.name.is_some();
    match desk.analysis.learned(named.name).await {
        None => ended(),
        Some(learned) if is_named && learned.is_empty() => StatusCode::NOT_FOUND.into_response(),
        Some(learned) => {
            let headers = [(header::CONTENT_TYPE, "application/json")];
            (headers, learned.to_json() + "\n").into_response()
        }
    }
}

async fn import(State(desk): State<Desk>, body: Bytes) -> Response {
    let learned = match Learned::from_json(&body) {
        Ok(learned) => learned,
        Err(error) => {
            let why = Json(serde_json::json!({"error": error.to_string()}));
            return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response();
        }
    };
    let baselines = learned.len();
    if !desk.analysis.teach(learned).await {
        return ended();
    }
    let mut response = Json(Imported { baselines }).into_response();
    let detail = Detail(format!("{baselines} baselines"));
    response.extensions_mut().insert(detail);
    response
}

async fn reset(State(desk): State<Desk>, Json(named): Json<Named>) -> Response {
    let Some(name) = named.name else {
        let why = Json(serde_json::json!({"error": "a name is needed"}));
        return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response();
    };
    let Some(is_known) = desk.analysis.forget(name.clone()).await else {
        return ended();
    };
    let status = if is_known {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    };
    let mut response = status.into_response();
    response.extensions_mut().insert(Detail(name));
    response
}

/// The analysis has ended, which whoever watches it will say.
fn ended() -> Response {
    let why = Json(serde_json::json!({"error": "the analysis has ended"}));
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}
