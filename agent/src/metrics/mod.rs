//! Metrics of the running agent in the text format of Prometheus (version 0.0.4), on a local
//! address. [`METRICS`] is the list; each is read from a [`Status`] when somebody asks, so nothing
//! is kept for them.
//!
//! Labels come from small closed sets: stages, reasons, rungs. Never an address, never a name.

mod server;

use std::fmt::Write as _;

use crate::status::Status;
use crate::watch::Count;

pub use server::{Address, Server};

/// One value, with its labels.
pub type Sample = (Vec<(&'static str, String)>, f64);

/// Something that is told.
pub struct Metric {
    /// Its name, with the unit.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    /// Reads it.
    pub read: fn(&Status) -> Vec<Sample>,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&Status) -> Vec<Sample>,
) -> Metric {
    Metric {
        name,
        kind: "counter",
        help,
        read,
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Status) -> Vec<Sample>) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        read,
    }
}

/// Everything that is told, sorted by name.
pub const METRICS: &[Metric] = &[
    gauge(
        "picket_agent_build_info",
        "1, with the version of the agent.",
        |status| vec![labelled("version", &status.version, 1)],
    ),
    gauge(
        "picket_agent_capture_rung",
        "1, with the rung of the capture ladder in use.",
        |status| vec![labelled("rung", &status.watch.rung, 1)],
    ),
    gauge(
        "picket_agent_collector_reachable",
        "1 if nothing is wrong with shipping, otherwise 0.",
        |status| one(u64::from(status.ship.trouble.is_none())),
    ),
    counter(
        "picket_agent_envelopes_dropped_total",
        "Envelopes that the collector never got, by reason.",
        |status| {
            let dropped = status.dropped;
            let reasons = [
                ("full", dropped.full),
                ("old", dropped.old),
                ("damaged", dropped.damaged),
                ("unwritten", dropped.unwritten),
            ];
            reasons
                .map(|(name, count)| labelled("reason", name, count))
                .into()
        },
    ),
    counter(
        "picket_agent_envelopes_refused_total",
        "Answers of the collector that refused an envelope, by its word for it.",
        |status| {
            let refused = status.ship.refused.iter();
            refused
                .map(|(reason, count)| labelled("reason", reason, *count))
                .collect()
        },
    ),
    counter(
        "picket_agent_envelopes_shipped_total",
        "Envelopes that the collector has made durable.",
        |status| one(status.ship.accepted + status.ship.duplicate),
    ),
    counter(
        "picket_agent_envelopes_spooled_total",
        "Envelopes written to the spool.",
        |status| one(status.spooled),
    ),
    counter(
        "picket_agent_events_counted_total",
        "Whatever else the stages count: messages, names, streams.",
        |status| {
            let other = |count: &&Count| {
                !is_frames(count) && !["ring", "spool"].contains(&count.stage.as_str())
            };
            pairs(status.watch.counters.iter().filter(other), "")
        },
    ),
    gauge(
        "picket_agent_flows_held",
        "Flows in the sensor's table.",
        |status| one(status.watch.flows),
    ),
    counter(
        "picket_agent_frames_lost_total",
        "Packets that came in and could not be told of, by stage and reason.",
        |status| prefixed(status, "lost_"),
    ),
    counter(
        "picket_agent_frames_placed_total",
        "Packets that went into flows, by stage.",
        |status| by_stage(status, "flow"),
    ),
    counter(
        "picket_agent_frames_seen_total",
        "Packets that came in, by stage.",
        |status| by_stage(status, "seen"),
    ),
    counter(
        "picket_agent_frames_skipped_total",
        "Packets that are no flow, by stage and class.",
        |status| prefixed(status, "not_flow_"),
    ),
    gauge(
        "picket_agent_frames_unsettled",
        "Packets counted whose flow has not been read yet; falls to 0 when traffic pauses.",
        |status| one(status.watch.packets.unsettled),
    ),
    counter("picket_agent_hits_told_total", "Hits told.", |status| {
        one(status.watch.passed.hits)
    }),
    gauge(
        "picket_agent_indicators_held",
        "Values on the lists in force.",
        |status| one(status.watch.indicators.count),
    ),
    gauge(
        "picket_agent_indicators_version",
        "Version of the set in force: a checksum, which only tells it from others.",
        |status| one(status.watch.indicators.version),
    ),
    gauge(
        "picket_agent_interfaces_watched",
        "Interfaces watched.",
        |status| one(status.watch.interfaces.len() as u64),
    ),
    gauge(
        "picket_agent_loss_equation_holds",
        "1 if packets seen = in flows + no flow + lost + unsettled, otherwise 0.",
        |status| one(u64::from(status.watch.packets.equation_holds)),
    ),
    counter(
        "picket_agent_records_handed_total",
        "Records that the kernel put into its rings, and those it could not, by kind and outcome.",
        |status| {
            let ring = status
                .watch
                .counters
                .iter()
                .filter(|one| one.stage == "ring");
            ring.map(|one| labelled("record", &one.reason, one.count))
                .collect()
        },
    ),
    gauge(
        "picket_agent_resident_bytes",
        "Memory of the agent that is resident.",
        |status| one(status.resident_bytes),
    ),
    gauge(
        "picket_agent_spool_bytes",
        "Bytes of the envelopes that wait.",
        |status| one(status.spool.bytes),
    ),
    gauge(
        "picket_agent_spool_envelopes",
        "Envelopes that wait.",
        |status| one(status.spool.envelopes),
    ),
    counter(
        "picket_agent_summaries_made_total",
        "Summaries made: of windows, and of hits that did not wait for one.",
        |status| {
            let passed = status.watch.passed;
            let kinds = [("window", passed.windows), ("hits", passed.immediate)];
            kinds
                .map(|(kind, count)| labelled("kind", kind, count))
                .into()
        },
    ),
    gauge(
        "picket_agent_uptime_seconds",
        "Time since the agent began to see.",
        |status| one(status.uptime_s),
    ),
];

fn one(value: u64) -> Vec<Sample> {
    vec![(Vec::new(), value as f64)]
}

fn labelled(label: &'static str, value: &str, count: u64) -> Sample {
    (vec![(label, value.to_owned())], count as f64)
}

/// Whether a counter is a side of a loss equation.
fn is_frames(count: &Count) -> bool {
    let reason = count.reason.as_str();
    let sides = ["lost_", "not_flow_"];
    ["seen", "flow", "unsettled"].contains(&reason) || sides.iter().any(|s| reason.starts_with(s))
}

/// Counters by stage and reason, of which the beginning is left out.
fn pairs<'a>(counts: impl Iterator<Item = &'a Count>, begin: &str) -> Vec<Sample> {
    counts
        .map(|count| {
            let reason = count.reason.strip_prefix(begin).unwrap_or(&count.reason);
            let labels = vec![
                ("stage", count.stage.clone()),
                ("reason", reason.to_owned()),
            ];
            (labels, count.count as f64)
        })
        .collect()
}

fn prefixed(status: &Status, begin: &str) -> Vec<Sample> {
    let counters = status.watch.counters.iter();
    pairs(counters.filter(|one| one.reason.starts_with(begin)), begin)
}

fn by_stage(status: &Status, reason: &str) -> Vec<Sample> {
    let counters = status.watch.counters.iter();
    let these = counters.filter(|one| one.reason == reason);
    these
        .map(|one| labelled("stage", &one.stage, one.count))
        .collect()
}

/// Everything, as it is scraped.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric {
            name, kind, help, ..
        } = metric;
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in (metric.read)(status) {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = match labels.is_empty() {
                true => String::new(),
                false => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

/// A label's value, which may come from a collector's answer.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_counted_and_in_what() {
        assert!(METRICS.is_sorted_by_key(|metric| metric.name));
        for Metric {
            name, kind, help, ..
        } in METRICS
        {
            assert!(name.starts_with("picket_agent_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        }
    }

    #[test]
    fn a_label_cannot_break_a_line() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }
}
