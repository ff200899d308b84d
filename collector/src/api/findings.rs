//! Findings: asked for, shown, put away.

use axum::Extension;
use axum::extract::{Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::route::{Route, route};
use super::{Caller, Desk, Scope, failed, lines, one};
use crate::store::findings::{self, Filter};

/// Minutes round a finding that count as near it, unless asked otherwise.
const MINUTES_AROUND: u64 = 10;

/// What can be asked of findings.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/findings", Viewer, Own, list),
    route!(GET "/v1/findings/{id}", Viewer, Own, show),
    route!(POST "/v1/findings/{id}/archive", Analyst, Own, archive),
];

async fn list(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    let listed = desk
        .store
        .read_async(move |connection| {
            let Some(filter) = asked.filter(connection, &caller.scope)? else {
                return Ok(None);
            };
            findings::list(connection, &filter).map(Some)
        })
        .await;
    match listed {
        Ok(Some(rows)) => lines(rows.into_iter().map(|kept| kept.body)),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

async fn show(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
) -> Response {
    let shown = desk
        .store
        .read_async(move |connection| findings::show(connection, &id))
        .await;
    one(shown.map(|kept| {
        kept.filter(|kept| caller.scope.has(&kept.account))
            .map(|kept| kept.body)
    }))
}

async fn archive(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
) -> Response {
    let asked = id.clone();
    let kept = desk
        .store
        .read_async(move |connection| findings::show(connection, &asked))
        .await;
    match kept {
        Ok(Some(kept)) if caller.scope.has(&kept.account) => {
            if desk.analysis.archive(id).await {
                StatusCode::NO_CONTENT.into_response()
            } else {
                StatusCode::NOT_FOUND.into_response()
            }
        }
        Ok(_) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

/// Which findings to list, as a query string says it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Asked {
    /// At least this severe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) severity_min: Option<f64>,
    /// The type, or its beginning and `*`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// Not archived.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) open: bool,
    /// Near the occurrences of this finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) around: Option<String>,
    /// How near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) minutes: Option<u64>,
}

impl Asked {
    /// The filter, or `None` if there is no finding to be near of.
    pub(super) fn filter(
        &self,
        connection: &Connection,
        scope: &Scope,
    ) -> rusqlite::Result<Option<Filter>> {
        let mut filter = Filter {
            severity_min: self.severity_min,
            kind: self.kind.clone(),
            is_open: self.open,
            between_ms: None,
            accounts: scope.accounts().map(<[String]>::to_vec),
        };
        if let Some(id) = &self.around {
            let middle = findings::show(connection, id)?;
            let Some(middle) = middle.filter(|middle| scope.has(&middle.account)) else {
                return Ok(None);
            };
            let span_ms = self
                .minutes
                .unwrap_or(MINUTES_AROUND)
                .saturating_mul(60_000);
            filter.between_ms = Some((
                middle.first_seen_ms.saturating_sub(span_ms),
                // SQLite counts to 2⁶³.
                middle
                    .last_seen_ms
                    .saturating_add(span_ms)
                    .min(i64::MAX as u64),
            ));
        }
        Ok(Some(filter))
    }
}
