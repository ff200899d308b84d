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
        "picket_agent_acknowledged_timestamp_seconds",
        "When the collector last took an envelope, seconds since the epoch.",
        |status| status.ship.last_ack_s.map(one).unwrap_or_default(),
    ),
    counter(
        "picket_agent_attachments_lost_total",
        "Times that a direction of an interface was found without our program.",
        |status| one(status.watch.health.detached),
    ),
    gauge(
        "picket_agent_blocks_dry_run",
        "Orders of which it is only told what they would have blocked, as blocking is off.",
        |status| one(status.watch.dry_run_blocks),
    ),
    gauge(
        "picket_agent_blocks_held",
        "Orders to block that are in force.",
        |status| one(status.watch.blocks),
    ),
    gauge(
        "picket_agent_build_info",
        "1, with the version of the agent.",
        |status| vec![labelled("version", &status.version, 1)],
    ),
    counter(
        "picket_agent_canary_packets_total",
        "Packets of our own that were judged, and those of them that each part of the kernel side showed.",
        |status| {
            let Some(canary) = &status.watch.health.canary else {
                return Vec::new();
            };
            let shown = [
                ("sent", Some(canary.sent)),
                ("counted", Some(canary.counted)),
                ("hit", Some(canary.hit)),
                ("copied", Some(canary.copied)),
                ("named", canary.named),
            ];
            let known = shown
                .into_iter()
                .filter_map(|(part, count)| Some((part, count?)));
            known
                .map(|(part, count)| labelled("part", part, count))
                .collect()
        },
    ),
    gauge(
        "picket_agent_canary_shown_timestamp_seconds",
        "When all parts of the kernel side last showed one, seconds since the epoch; 0 for never.",
        |status| {
            let canary = status.watch.health.canary.as_ref();
            canary.map(|canary| one(canary.last_s)).unwrap_or_default()
        },
    ),
    gauge(
        "picket_agent_canary_well",
        "1 if the last packet of our own was shown by all parts of the kernel side, otherwise 0.",
        |status| {
            let canary = status.watch.health.canary.as_ref();
            let well = canary.map(|canary| one(u64::from(canary.failed.is_none())));
            well.unwrap_or_default()
        },
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
        "Envelopes that the collector has made durable: accepted now, or before.",
        |status| {
            let outcomes = [
                ("accepted", status.ship.accepted),
                ("duplicate", status.ship.duplicate),
            ];
            outcomes
                .map(|(outcome, count)| labelled("outcome", outcome, count))
                .into()
        },
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
        "picket_agent_indicator_bundle_stale",
        "1 if the collector's indicators are over or it has not answered for long, otherwise 0.",
        |status| {
            let intel = status.intel.as_ref();
            let stale = intel.map(|intel| one(u64::from(intel.stale.is_some())));
            stale.unwrap_or_default()
        },
    ),
    gauge(
        "picket_agent_indicator_bundle_version",
        "Version of the collector's indicators in use; 0 for none.",
        |status| {
            status
                .intel
                .as_ref()
                .map(|intel| one(intel.version))
                .unwrap_or_default()
        },
    ),
    counter(
        "picket_agent_indicator_bundles_applied_total",
        "Bundles of the collector's indicators that were put in force.",
        |status| {
            status
                .intel
                .as_ref()
                .map(|intel| one(intel.applied))
                .unwrap_or_default()
        },
    ),
    counter(
        "picket_agent_indicator_bundles_refused_total",
        "Bundles of the collector's indicators that were refused, by reason.",
        |status| {
            let refused = status.intel.iter().flat_map(|intel| &intel.refused);
            refused
                .map(|(reason, count)| labelled("reason", reason, *count))
                .collect()
        },
    ),
    gauge(
        "picket_agent_indicators_held",
        "Values on the lists in force.",
        |status| one(status.watch.indicators.count),
    ),
    gauge(
        "picket_agent_indicators_lists",
        "Lists in force.",
        |status| one(status.watch.indicators.lists),
    ),
    gauge(
        "picket_agent_indicators_version",
        "Version of the set in force: a checksum, which only tells it from others.",
        |status| one(status.watch.indicators.version),
    ),
    gauge(
        "picket_agent_interfaces_skipped",
        "Interfaces that are wanted and not watched.",
        |status| one(status.watch.skipped.len() as u64),
    ),
    gauge(
        "picket_agent_interfaces_watched",
        "Interfaces watched.",
        |status| one(status.watch.interfaces.len() as u64),
    ),
    counter(
        "picket_agent_left_out_total",
        "What the filter left out: conversations and their packets, questions.",
        |status| {
            let left_out = status.watch.left_out;
            let kinds = [
                ("conversations", left_out.conversations),
                ("packets", left_out.packets),
                ("questions", left_out.questions),
            ];
            kinds
                .map(|(kind, count)| labelled("kind", kind, count))
                .into()
        },
    ),
    gauge(
        "picket_agent_loss_equation_holds",
        "1 if packets seen = in flows + no flow + lost + unsettled, otherwise 0.",
        |status| one(u64::from(status.watch.packets.equation_holds)),
    ),
    counter(
        "picket_agent_order_bundles_refused_total",
        "Bundles of orders to block that were refused, by reason.",
        |status| {
            let refused = status.orders.iter().flat_map(|orders| &orders.refused);
            refused
                .map(|(reason, count)| labelled("reason", reason, *count))
                .collect()
        },
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
    gauge(
        "picket_agent_spool_hits",
        "Envelopes with hits that wait.",
        |status| one(status.spool.hits),
    ),
    gauge(
        "picket_agent_stage_in_kernel",
        "1 for a stage of matching that the kernel does, 0 for one that the sensor does.",
        |status| {
            let stages = status.watch.stages.iter();
            stages
                .map(|stage| labelled("stage", &stage.name, u64::from(stage.in_kernel)))
                .collect()
        },
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
    use serde_json::Value;

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

    /// A running agent's status, as short as it can be with one of everything.
    const STATUS: &str = r#"{
        "version": "1", "agent_id": "", "public_key": "", "boot_id": "", "uptime_s": 0,
        "fresh": true, "rung": "tcx", "interfaces": ["eth0"],
        "packets": {"seen": 0, "flow": 0, "not_flow": 0, "lost": 0, "unsettled": 0,
                    "equation_holds": true},
        "health": {"interfaces": [], "detached": 0, "last_detached": null,
                   "canary": {"sent": 0, "counted": 0, "hit": 0, "copied": 0, "named": 0,
                              "last_s": 0, "failed": null}},
        "counters": [{"stage": "kernel", "reason": "seen", "count": 0},
                     {"stage": "kernel", "reason": "flow", "count": 0},
                     {"stage": "kernel", "reason": "not_flow_arp", "count": 0},
                     {"stage": "kernel", "reason": "lost_ring_full", "count": 0},
                     {"stage": "ring", "reason": "hits", "count": 0},
                     {"stage": "dns", "reason": "questions", "count": 0}],
        "indicators": {"version": 0, "count": 0, "lists": 0, "kernel": ""},
        "stages": [{"name": "names", "in_kernel": true, "why": ""}], "blocks": 0,
        "spool": {"envelopes": 0, "hits": 0, "bytes": 0},
        "dropped": {"full": 0, "old": 0, "damaged": 0, "unwritten": 0},
        "collector": "",
        "ship": {"accepted": 0, "duplicate": 0, "refused": {"clock": 0}, "last_ack_s": 0,
                 "trouble": null}
    }"#;

    /// Writes another number in the place of each; gives the places.
    fn number(value: &mut Value, place: &str, numbered: &mut Vec<(String, u64)>) {
        match value {
            Value::Number(found) => {
                // Seven digits that no other number begins or ends with.
                let number = 1_000_003 * (numbered.len() as u64 + 3);
                numbered.push((place.to_owned(), number));
                *found = number.into();
            }
            Value::Array(all) => {
                for (at, one) in all.iter_mut().enumerate() {
                    number(one, &format!("{place}.{at}"), numbered);
                }
            }
            Value::Object(all) => {
                for (key, one) in all {
                    number(one, &format!("{place}.{key}"), numbered);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn whatever_the_status_counts_is_told() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        // Written again, so that what was left out is there with its default.
        let mut value = serde_json::to_value(status).unwrap();
        let mut numbered = Vec::new();
        number(&mut value, "", &mut numbered);
        assert!(numbered.len() > 30, "{numbered:?}");
        let status: Status = serde_json::from_value(value).unwrap();
        let text = text(&status);
        let values: Vec<&str> = text
            .lines()
            .filter_map(|line| line.rsplit(' ').next())
            .collect();
        let untold = numbered.iter().filter(|(place, number)| {
            // Sums of what is told by stage.
            let sums = [
                ".packets.seen",
                ".packets.flow",
                ".packets.not_flow",
                ".packets.lost",
            ];
            !values.contains(&number.to_string().as_str()) && !sums.contains(&place.as_str())
        });
        assert_eq!(untold.collect::<Vec<_>>(), Vec::<&(String, u64)>::new());
    }

    #[test]
    fn each_is_in_the_manual_and_nothing_else() {
        let manual = include_str!("../../../docs/operating.md");
        let begin = "| `picket_agent_";
        let rows = manual.lines().filter_map(|line| line.strip_prefix(begin));
        let told: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let wanted = METRICS.iter().map(|metric| metric.name);
        let wanted: Vec<&str> = wanted
            .filter_map(|name| name.strip_prefix("picket_agent_"))
            .collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_label_cannot_break_a_line() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }
}
