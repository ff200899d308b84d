//! What every row is called, in which unit it is told, and what is promised of it.
//!
//! Others depend on the names; SPECIFICATION.md names them behind its promises, and a house rule
//! checks that what it names is here. A name with `vs` gives a ratio of which more is better.

/// What is promised of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Promise {
    /// Nothing: it is for orientation.
    Nothing,
    /// The ratio to the baseline is at most this.
    RatioAtMost(f64),
    /// The ratio to the baseline is at least this.
    RatioAtLeast(f64),
    /// The median is at most this, in the row's unit.
    AtMost(f64),
    /// The median is at least this, in the row's unit.
    AtLeast(f64),
}

/// A row's name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Name {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What its numbers are.
    pub(crate) unit: &'static str,
    /// What it is compared with.
    pub(crate) over: &'static str,
    /// What is promised.
    pub(crate) promise: Promise,
}

const fn row(name: &'static str, unit: &'static str, over: &'static str, promise: Promise) -> Name {
    Name {
        name,
        unit,
        over,
        promise,
    }
}

use Promise::{AtLeast, AtMost, Nothing, RatioAtLeast, RatioAtMost};

/// Every row, in the order of the table.
pub(crate) const NAMES: &[Name] = &[
    row("kernel/flow_existing", "ns", "no-op", RatioAtMost(2.5)),
    row("kernel/flow_active_1000", "ns", "no-op", RatioAtMost(3.5)),
    row("kernel/flow_new", "ns", "no-op", RatioAtMost(50.0)),
    row(
        "kernel/address_miss_cold",
        "ns",
        "LPM trie",
        RatioAtMost(1.0 / 15.0),
    ),
    row(
        "kernel/address_hit_cold",
        "ns",
        "LPM trie",
        RatioAtMost(1.0 / 8.0),
    ),
    row("kernel/dns_four_labels", "ns", "no-op", AtMost(100.0)),
    row("kernel/dns_four_labels_cold", "ns", "no-op", AtMost(200.0)),
    row("kernel/dns_worst_name", "ns", "no-op", AtMost(1_500.0)),
    row("kernel/dns_question_whole", "ns", "no-op", Nothing),
    row("kernel/stratum_not_json", "ns", "no-op", RatioAtMost(2.5)),
    row("kernel/stratum_worst", "ns", "no-op", RatioAtMost(14.0)),
    row("kernel/tcp_first_payload_whole", "ns", "no-op", Nothing),
    row("kernel/udp_first_payload_whole", "ns", "no-op", Nothing),
    row(
        "traffic/flow_existing",
        "ns more",
        "no-op",
        RatioAtMost(2.0),
    ),
    row("traffic/loopback_other", "ns more", "no-op", AtMost(30.0)),
    row("traffic/loopback_question", "ns more", "no-op", Nothing),
    row("traffic/recvmsg_other", "ns more", "no-op", AtMost(45.0)),
    row("traffic/recvmsg_resolver", "ns more", "no-op", Nothing),
    row("traffic/socket", "ns more", "no-op", Nothing),
    row("traffic/connect", "ns more", "no-op", Nothing),
    row("traffic/sendmsg", "ns more", "no-op", Nothing),
    row("sets/load_1m_and_1m", "ms", "", AtMost(250.0)),
    row("sets/swap_1m_and_1m", "ms", "", AtMost(250.0)),
    row("sets/swap_under_traffic", "ms", "", Nothing),
    row("sets/swap_unmatched", "matches", "", AtMost(0.0)),
    row(
        "bundle/1m_and_1m_wire",
        "MB",
        "the lists as published",
        RatioAtMost(0.5),
    ),
    row("bundle/1m_and_1m_in_force", "ms", "", Nothing),
    row("bundle/1m_and_1m_agent_peak", "MiB", "", Nothing),
    row("bundle/1m_and_1m_agent_after", "MiB", "", Nothing),
    row("bundle/add_to_1m_and_1m", "ms", "", Nothing),
    row("agent/inspect_mixed", "Mpackets/CPU-s", "", AtLeast(2.0)),
    row(
        "agent/inspect_mixed_vs_tshark",
        "Mpackets/CPU-s",
        "tshark",
        RatioAtLeast(50.0),
    ),
    row(
        "agent/inspect_mixed_vs_softflowd",
        "Mpackets/CPU-s",
        "softflowd",
        RatioAtLeast(1.0),
    ),
    row("agent/start_1m_addresses", "ms", "", Nothing),
    row("agent/rss_1m_addresses", "MiB", "", Nothing),
    row("agent/rss_1m_and_1m", "MiB", "", Nothing),
    row("agent/kernel_memory", "MiB", "", AtMost(64.0)),
    row("agent/rss_idle", "MiB", "", AtMost(32.0)),
    row("agent/rss_50k_flows", "MiB", "", AtMost(64.0)),
    row("agent/cpu_50k_flows", "CPU-s/s", "", Nothing),
    row(
        "agent/cpu_vs_softflowd",
        "CPU-s/s",
        "softflowd",
        RatioAtLeast(3.0),
    ),
    row("agent/veth_tcp", "Gbit/s", "nothing attached", Nothing),
    row(
        "agent/veth_tcp_tcpdump",
        "Gbit/s",
        "nothing attached",
        Nothing,
    ),
    row(
        "agent/veth_tcp_softflowd",
        "Gbit/s",
        "nothing attached",
        Nothing,
    ),
    row(
        "agent/veth_tcp_cpu",
        "CPU-s/Gbit",
        "nothing attached",
        Nothing,
    ),
    row(
        "agent/veth_tcp_cpu_tcpdump",
        "CPU-s/Gbit",
        "nothing attached",
        Nothing,
    ),
    row(
        "agent/veth_tcp_cpu_softflowd",
        "CPU-s/Gbit",
        "nothing attached",
        Nothing,
    ),
    row("agent/veth_udp", "ns/packet", "nothing attached", Nothing),
    row(
        "agent/veth_udp_tcpdump",
        "ns/packet",
        "nothing attached",
        Nothing,
    ),
    row(
        "agent/veth_udp_softflowd",
        "ns/packet",
        "nothing attached",
        Nothing,
    ),
    row(
        "limits/gigabit_answers",
        "answers/s",
        "nothing attached",
        Nothing,
    ),
    row("limits/gigabit_cpu", "CPU-s/s", "", AtMost(0.5)),
    row("limits/gigabit_memory", "MiB", "", AtMost(256.0)),
    row("limits/gigabit_throttled", "% of periods", "", Nothing),
    row("limits/gigabit_lost", "% of packets", "", Nothing),
    row("limits/gigabit_hit_told", "ms", "", AtMost(1_000.0)),
    row(
        "limits/flood_answers",
        "answers/s",
        "nothing attached",
        Nothing,
    ),
    row("limits/flood_cpu", "CPU-s/s", "", AtMost(0.5)),
    row("limits/flood_memory", "MiB", "", AtMost(256.0)),
    row("limits/flood_throttled", "% of periods", "", Nothing),
    row("limits/flood_lost", "% of packets", "", Nothing),
    row("limits/flood_hit_told", "ms", "", AtMost(1_000.0)),
    row(
        "collector/ingest_vs_verify",
        "envelopes/CPU-s",
        "bare signature check",
        RatioAtLeast(1.0 / 3.0),
    ),
    row(
        "collector/ingest_vs_fsync",
        "envelopes/s",
        "a file synced after each",
        RatioAtLeast(1.0),
    ),
    row(
        "collector/ingest_typical",
        "envelopes/CPU-s",
        "bare signature check",
        Nothing,
    ),
    row(
        "collector/ingest_typical_bytes",
        "MB/CPU-s",
        "bare signature check",
        Nothing,
    ),
    row("fleet/10k_connected", "s", "", Nothing),
    row("fleet/10k_cpu", "CPU-s/s", "", Nothing),
    row("fleet/10k_acknowledged", "ms", "", Nothing),
    row("fleet/10k_turned_away", "times a window", "", Nothing),
    row("fleet/10k_rss", "MiB", "", Nothing),
    row(
        "collector/analysis_vs_decode",
        "summaries/CPU-s",
        "decoding alone",
        Nothing,
    ),
    row(
        "collector/analysis_conversations",
        "conversations/CPU-s",
        "",
        Nothing,
    ),
    row(
        "collector/analysis_10k_hosts",
        "summaries/CPU-s",
        "10 hosts",
        RatioAtLeast(0.5),
    ),
    row(
        "collector/analysis_memory_per_host",
        "KiB",
        "from 10 to 1,000 hosts",
        RatioAtMost(1.5),
    ),
    row(
        "collector/cloudtrail_all_vs_parse",
        "events/CPU-s",
        "typed parsing alone",
        RatioAtLeast(0.45),
    ),
    row(
        "collector/cloudtrail_all_vs_serde",
        "events/CPU-s",
        "serde_json, of gz",
        Nothing,
    ),
    row(
        "collector/cloudtrail_all_vs_sonic",
        "events/CPU-s",
        "sonic-rs, of gz",
        Nothing,
    ),
    row(
        "collector/cloudtrail_gz_vs_parse",
        "MB/CPU-s",
        "typed parsing alone",
        Nothing,
    ),
    row(
        "collector/cloudtrail_sigma_vs_parse",
        "events/CPU-s",
        "typed parsing alone",
        RatioAtLeast(0.33),
    ),
    row(
        "collector/cloudtrail_plain_vs_parse",
        "MB/CPU-s",
        "typed parsing alone",
        Nothing,
    ),
    row(
        "collector/cloudtrail_plain_vs_sonic",
        "MB/CPU-s",
        "sonic-rs",
        Nothing,
    ),
    row(
        "collector/cloudtrail_memory_tenfold",
        "MiB at most",
        "a tenth of the log",
        RatioAtMost(1.5),
    ),
];

/// The row of a name.
pub(crate) fn find(name: &str) -> Option<&'static Name> {
    NAMES.iter().find(|row| row.name == name)
}

impl Promise {
    /// Whether a median with its ratio keeps it; `None` where nothing is promised or there is no
    /// ratio.
    pub(crate) fn holds(self, median: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Self::AtMost(most) => Some(median <= most),
            Self::AtLeast(least) => Some(median >= least),
        }
    }

    /// In a few words.
    pub(crate) fn said(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::RatioAtMost(most) if most < 1.0 => format!("ratio <= 1/{:.0}", 1.0 / most),
            Self::RatioAtMost(most) => format!("ratio <= {most}"),
            Self::RatioAtLeast(least) => format!("ratio >= {least:.2}"),
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_one_name() {
        for (at, row) in NAMES.iter().enumerate() {
            assert!(
                NAMES[..at].iter().all(|other| other.name != row.name),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn promises_are_kept_or_missed() {
        for (promise, median, ratio, expected) in [
            (Nothing, 1.0, Some(1.0), None),
            (RatioAtMost(2.5), 9.0, Some(2.5), Some(true)),
            (RatioAtMost(2.5), 9.0, Some(2.6), Some(false)),
            (RatioAtMost(2.5), 9.0, None, None),
            (RatioAtLeast(3.0), 9.0, Some(2.9), Some(false)),
            (AtMost(32.0), 31.0, None, Some(true)),
            (AtLeast(2.0), 1.9, None, Some(false)),
        ] {
            assert_eq!(
                promise.holds(median, ratio),
                expected,
                "{promise:?} {median} {ratio:?}"
            );
        }
        assert_eq!(RatioAtMost(1.0 / 15.0).said(), "ratio <= 1/15");
    }
}
