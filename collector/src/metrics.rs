//! What the collector counts about itself, in Prometheus' text format.
//!
//! Counters live here as plain numbers; what can be asked of the store (depths, open findings) is
//! asked when someone scrapes. Labels come from closed sets in the code, never from what a peer says.

mod gauges;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::store::Store;
use gauges::Gauge;
pub(crate) use gauges::LeftOut;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts `more`.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it has come to.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers that only grow, one per label.
#[derive(Debug, Default)]
pub(crate) struct Family(Mutex<BTreeMap<&'static str, u64>>);

impl Family {
    /// Counts `more` under `label`.
    pub(crate) fn add(&self, label: &'static str, more: u64) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *values.entry(label).or_default() += more;
    }

    fn values(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Numbers that somebody sets.
#[derive(Debug, Default)]
pub(crate) struct Level<T>(Mutex<T>);

impl<T: Clone> Level<T> {
    /// Puts new numbers in place of those before.
    pub(crate) fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    fn value(&self) -> T {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Every counter of the collector.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Envelopes accepted: verified, durable, acknowledged.
    pub(crate) envelopes_accepted: Counter,
    /// Envelopes refused, by the refusal's word; `replayed` is one that was accepted before.
    pub(crate) envelopes_refused: Family,
    /// Enrolments that ended well, by proof, and `pending` ones.
    pub(crate) enrolments: Family,
    /// Enrolments refused, by the refusal's word.
    pub(crate) enrolments_refused: Family,
    /// Requests turned away whole.
    pub(crate) requests_refused: Family,
    /// Connections that came to nothing.
    pub(crate) connections_dropped: Family,
    /// Events given to the analysis, by source.
    pub(crate) events_analysed: Family,
    /// Baselines in the store that were not taken back, by reason.
    pub(crate) baselines_refused: Family,
    /// Journal entries that could not be read back.
    pub(crate) envelopes_unreadable: Counter,
    /// Gaps in chains, also those that closed in time.
    pub(crate) gaps_found: Counter,
    /// Those of which the analysis was told.
    pub(crate) gaps_told: Counter,
    /// Remarks about sensors for which the analysis had no room.
    pub(crate) sensor_events_dropped: Counter,
    /// CloudTrail events seen before.
    pub(crate) api_calls_repeated: Counter,
    /// Log files read, whole or their new part.
    pub(crate) log_files_read: Counter,
    /// Log files or parts of them that could not be read.
    pub(crate) log_files_damaged: Counter,
    /// Pieces of log files that were no event that could be read.
    pub(crate) log_events_refused: Family,
    /// Objects with logs, by what they hold or why they were not read.
    pub(crate) log_objects: Family,
    /// Their bytes.
    pub(crate) log_bytes_read: Counter,
    /// Digest files of CloudTrail, by what their signature says.
    pub(crate) digests: Family,
    /// Messages of queues, by what became of them.
    pub(crate) queue_messages: Family,
    /// Questions to queues that came to nothing.
    pub(crate) queue_failures: Counter,
    /// Feeds of indicators asked for, by what came of it.
    pub(crate) feed_fetches: Family,
    /// Requests of agents for indicators, by what became of them.
    pub(crate) indicator_polls: Family,
    /// Requests of agents for orders to block, by what became of them.
    pub(crate) order_polls: Family,
    /// Bytes of indicators that agents were given.
    pub(crate) indicator_bytes_sent: Counter,
    /// Requests of operators that were refused, by reason.
    pub(crate) operator_requests_refused: Family,
    /// What is left out of the indicators.
    pub(crate) left_out: Level<LeftOut>,
    /// Findings opened, by severity band.
    pub(crate) findings_opened: Family,
    /// Alerts delivered, by kind of channel.
    pub(crate) alerts_delivered: Family,
    /// Deliveries that failed, by kind of channel.
    pub(crate) alerts_failed: Family,
    /// Alerts given up on, by kind of channel.
    pub(crate) alerts_buried: Family,
}

impl Metrics {
    fn counters(&self) -> [(&'static str, &'static str, &Counter); 11] {
        [
            (
                "envelopes_accepted",
                "envelopes verified, made durable and acknowledged",
                &self.envelopes_accepted,
            ),
            (
                "envelopes_unreadable",
                "journal entries that could not be read back",
                &self.envelopes_unreadable,
            ),
            (
                "gaps_found",
                "gaps in the chains of agents, also those that closed within their grace",
                &self.gaps_found,
            ),
            (
                "gaps_told",
                "gaps in the chains of agents that outlasted their grace",
                &self.gaps_told,
            ),
            (
                "sensor_events_dropped",
                "remarks about sensors for which the analysis had no room",
                &self.sensor_events_dropped,
            ),
            (
                "api_calls_repeated",
                "CloudTrail events that had been seen before",
                &self.api_calls_repeated,
            ),
            (
                "log_files_read",
                "log files read, whole or their new part",
                &self.log_files_read,
            ),
            (
                "log_files_damaged",
                "log files of which a part could not be read",
                &self.log_files_damaged,
            ),
            (
                "log_bytes_read",
                "bytes of objects with logs, as they are stored",
                &self.log_bytes_read,
            ),
            (
                "queue_failures",
                "questions to queues that came to nothing and will be asked again",
                &self.queue_failures,
            ),
            (
                "indicator_bytes_sent",
                "bytes of indicators that agents were given",
                &self.indicator_bytes_sent,
            ),
        ]
    }

    fn families(&self) -> [(&'static str, &'static str, &'static str, &Family); 19] {
        [
            (
                "envelopes_refused",
                "envelopes refused, nothing of them stored",
                "reason",
                &self.envelopes_refused,
            ),
            (
                "enrolments",
                "enrolments that ended well, or wait for an operator",
                "proof",
                &self.enrolments,
            ),
            (
                "enrolments_refused",
                "enrolments refused, and challenges for them",
                "reason",
                &self.enrolments_refused,
            ),
            (
                "requests_refused",
                "requests turned away whole",
                "reason",
                &self.requests_refused,
            ),
            (
                "connections_dropped",
                "connections that came to nothing",
                "reason",
                &self.connections_dropped,
            ),
            (
                "baselines_refused",
                "baselines in the store that were not taken back",
                "reason",
                &self.baselines_refused,
            ),
            (
                "events_analysed",
                "events given to the analysis",
                "source",
                &self.events_analysed,
            ),
            (
                "log_events_refused",
                "pieces of log files that were no event that could be read",
                "reason",
                &self.log_events_refused,
            ),
            (
                "log_objects",
                "objects with logs, by what they hold or why they were not read",
                "kind",
                &self.log_objects,
            ),
            (
                "digests",
                "digest files of CloudTrail in buckets, by what their signature says",
                "outcome",
                &self.digests,
            ),
            (
                "queue_messages",
                "messages of queues, by what became of them",
                "outcome",
                &self.queue_messages,
            ),
            (
                "feed_fetches",
                "feeds of indicators asked for, by what came of it",
                "outcome",
                &self.feed_fetches,
            ),
            (
                "indicator_polls",
                "requests of agents for indicators",
                "outcome",
                &self.indicator_polls,
            ),
            (
                "order_polls",
                "requests of agents for orders to block",
                "outcome",
                &self.order_polls,
            ),
            (
                "operator_requests_refused",
                "requests of operators that were refused",
                "reason",
                &self.operator_requests_refused,
            ),
            (
                "findings_opened",
                "findings opened",
                "severity",
                &self.findings_opened,
            ),
            (
                "alerts_delivered",
                "alerts delivered",
                "channel",
                &self.alerts_delivered,
            ),
            (
                "alerts_failed",
                "deliveries of alerts that failed and will be tried again",
                "channel",
                &self.alerts_failed,
            ),
            (
                "alerts_buried",
                "alerts given up on and kept as dead letters",
                "channel",
                &self.alerts_buried,
            ),
        ]
    }

    /// Writes everything in the text format, version 0.0.4.
    fn render(&self, gauges: &[Gauge]) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (name, help, counter) in self.counters() {
            let _ = writeln!(text, "# HELP picket_collector_{name}_total {help}");
            let _ = writeln!(text, "# TYPE picket_collector_{name}_total counter");
            let _ = writeln!(text, "picket_collector_{name}_total {}", counter.value());
        }
        for (name, help, label, family) in self.families() {
            let _ = writeln!(text, "# HELP picket_collector_{name}_total {help}");
            let _ = writeln!(text, "# TYPE picket_collector_{name}_total counter");
            for (value, count) in family.values() {
                let _ = writeln!(
                    text,
                    "picket_collector_{name}_total{{{label}=\"{value}\"}} {count}"
                );
            }
        }
        for gauge in gauges {
            let Gauge { name, help, values } = gauge;
            let _ = writeln!(text, "# HELP picket_collector_{name} {help}");
            let _ = writeln!(text, "# TYPE picket_collector_{name} gauge");
            for (labels, value) in values {
                let _ = writeln!(text, "picket_collector_{name}{labels} {value}");
            }
        }
        text
    }
}

/// Serves `/metrics`.
pub(crate) fn router(metrics: Arc<Metrics>, store: Store) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state((metrics, store))
}

async fn scrape(State((metrics, store)): State<(Arc<Metrics>, Store)>) -> Response {
    let asked = tokio::task::spawn_blocking(move || gauges::of(&store)).await;
    match asked {
        Ok(Ok(mut gauges)) => {
            gauges.extend(metrics.left_out.value().gauges());
            (
                [(
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                )],
                metrics.render(&gauges),
            )
                .into_response()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "metrics could not ask the store");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The severity band of a finding, as labels and people name it.
pub(crate) fn band(severity: f64) -> &'static str {
    match severity {
        s if s >= 9.0 => "critical",
        s if s >= 7.0 => "high",
        s if s >= 4.0 => "medium",
        _ => "low",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_each_counter_and_its_labels() {
        let metrics = Metrics::default();
        metrics.envelopes_accepted.add(3);
        metrics.envelopes_refused.add("tampered", 2);
        let text = metrics.render(&[Gauge {
            name: "findings_open",
            help: "h",
            values: vec![("{severity=\"low\"}".into(), 1.0)],
        }]);
        for line in [
            "picket_collector_envelopes_accepted_total 3",
            "picket_collector_envelopes_refused_total{reason=\"tampered\"} 2",
            "# TYPE picket_collector_alerts_buried_total counter",
            "picket_collector_findings_open{severity=\"low\"} 1",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn bands_are_those_of_guardduty() {
        let bands = [3.9, 4.0, 6.9, 7.0, 8.9, 9.0].map(band);
        assert_eq!(
            bands,
            ["low", "medium", "medium", "high", "high", "critical"]
        );
    }
}
