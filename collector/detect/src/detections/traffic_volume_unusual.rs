//! Unusual volume: a host sends one destination far more in an hour than it ever sent to any.
//! Reads: what the client of a conversation sends to public hosts, by destination (name, else network),
//! hour and program, against the largest hours of the days before (14 of them). Fires: once the host was
//! heard on `learning_days` days, in each window in which the hour's sum lies beyond what is usual. A known
//! destination: `bytes_min`, `times` its median, six times its spread beyond it, and twice the most the
//! host ever sent to one. A new one (not met on two days): `new_bytes_min`, four times what came back, and
//! twice the most that the program, or the host where no program is told, ever sent to one.
//! Evidence: the sum, the median, spread and most of the days before, the program, the conversations.
//! Severity: medium; a new destination high, as that is how data leaves.
//! Innocent look-alikes: a new host (nothing is said of it), the nightly backup (its hours are usual), a
//! download (more comes back), what clients fetch from a server of ours. ATT&CK T1048, T1567, T1041.
//! Method: median and median absolute deviation of daily peaks.
//! First look: which process sends, and what it read before; whose the destination is.
//! Actor key: the destination.

use std::collections::{BTreeMap, BTreeSet};

use picket_wire::{Conversation, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Traffic, destination, is_outgoing, sending_program};
use crate::reach::is_public;

/// Settings of `traffic_volume_unusual`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days on which a host must have been heard before anything is called unusual: 7, a week with its
    /// week-end.
    pub learning_days: u16,
    /// Bytes in an hour to a known destination: 500 million. Less is in the reach of an update of an
    /// application.
    pub bytes_min: u64,
    /// How many times the median of the days before: 5.
    pub times: u64,
    /// How many spreads beyond the median: 6, one in a billion if hours were spread normally; they are not.
    pub spreads: u64,
    /// Bytes in an hour to a new destination: 100 million, the size of a small database.
    pub new_bytes_min: u64,
    /// How many times what came back: 4.
    pub sent_times: u64,
    /// How many times the most that was ever sent to one: 2.
    pub most_times: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning_days: 7,
            bytes_min: 500_000_000,
            times: 5,
            spreads: 6,
            new_bytes_min: 100_000_000,
            sent_times: 4,
            most_times: 2,
        }
    }
}

const UNUSUAL: FindingType = FindingType::guardduty("Behavior:EC2/TrafficVolumeUnusual", 5.0);
const NEW: FindingType = FindingType::picket("Exfiltration:EC2/VolumeToNewDestination", 8.0);

/// Conversations shown with one occurrence.
const EVIDENCE_PER_WINDOW: usize = 10;

/// Bytes of a window below which a conversation is no part of a volume. Chosen by hand.
const PART_BYTES_MIN: u64 = 100_000;

/// Days on which something must have been sent to a destination for it to be known.
const KNOWN_DAYS: usize = 2;

/// Volumes beyond what is usual.
pub(crate) struct TrafficVolumeUnusual;

impl Detection for TrafficVolumeUnusual {
    fn id(&self) -> &'static str {
        "traffic_volume_unusual"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&UNUSUAL, &NEW]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.traffic_volume_unusual;
        let large = summary
            .conversations
            .iter()
            .filter(|c| c.bytes_out >= PART_BYTES_MIN && is_public(c.server) && is_outgoing(c));
        let mut volumes: BTreeMap<(String, String), Volume<'_>> = BTreeMap::new();
        for c in large {
            let host = whose(&summary.host, c.client).subject;
            volumes.entry((host, destination(c))).or_default().add(c);
        }
        for ((host, destination), volume) in &volumes {
            let Some(known) = context.history.traffics.of(&summary.host, host) else {
                continue;
            };
            let now_ns = summary.window.end_ns.saturating_sub(1);
            if let Some((kind, why)) = verdict(known, destination, volume, now_ns, settings) {
                out.push(occurrence(summary, destination, volume, kind, &why));
            }
        }
    }
}

/// What was sent to one destination in one window.
#[derive(Default)]
struct Volume<'a> {
    sent: u64,
    back: u64,
    programs: BTreeSet<&'a str>,
    of: Vec<&'a Conversation>,
}

impl<'a> Volume<'a> {
    fn add(&mut self, c: &'a Conversation) {
        self.sent = self.sent.saturating_add(c.bytes_out);
        self.back = self.back.saturating_add(c.bytes_in);
        self.programs.extend(sending_program(c));
        self.of.push(c);
    }
}

/// Whether the hour's sum is beyond what is usual, and why.
fn verdict(
    host: &Traffic,
    destination: &str,
    volume: &Volume<'_>,
    now_ns: u64,
    settings: &Settings,
) -> Option<(&'static FindingType, String)> {
    let days = host.days_before(now_ns);
    if days < settings.learning_days {
        return None;
    }
    let peer = host.peer(destination);
    let before = peer.map_or(0, |peer| peer.peaks.in_hour(now_ns));
    let sum = before.saturating_add(volume.sent);
    let most = host.most.usual(now_ns).most;
    let usual = peer
        .map(|peer| peer.peaks.usual(now_ns))
        .unwrap_or_default();
    let sent_by = match volume.programs.first() {
        Some(program) => format!(", by {}", quote(program)),
        None => String::new(),
    };
    if usual.days >= KNOWN_DAYS {
        let median = usual.median;
        let limit = settings
            .bytes_min
            .max(median.saturating_mul(settings.times))
            .max(median.saturating_add(usual.spread.saturating_mul(settings.spreads)))
            .max(most.saturating_mul(settings.most_times));
        let why = || {
            format!(
                "{sum} bytes were sent to {destination} within the hour{sent_by}: the largest hour of {} days was {median} in the median (spread {}), {most} the most to any destination in {days} days",
                usual.days, usual.spread
            )
        };
        return (sum > limit).then(|| (&UNUSUAL, why()));
    }
    // Whoever sends is compared with itself where it is told who sends.
    let of_program = |program: &&str| {
        let known = host.program(program);
        known.map_or(0, |known| known.peaks.usual(now_ns).most)
    };
    let own_most = volume.programs.iter().map(of_program).max().unwrap_or(most);
    let limit = settings
        .new_bytes_min
        .max(own_most.saturating_mul(settings.most_times));
    let is_upload = volume.sent >= volume.back.saturating_mul(settings.sent_times);
    (sum > limit && is_upload).then(|| {
        let why = format!(
            "{sum} bytes were sent within the hour to {destination}{sent_by}, to which much was sent on no two of {days} days before; the same sender sent at most {own_most} to one destination in an hour"
        );
        (&NEW, why)
    })
}

fn occurrence(
    summary: &Summary,
    destination: &str,
    volume: &Volume<'_>,
    kind: &'static FindingType,
    why: &str,
) -> Occurrence {
    let speaker = &summary.host;
    let largest = volume.of.iter().max_by_key(|c| c.bytes_out);
    let unknown = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let (local, remote, protocol) = largest.map_or(((unknown, 0), (unknown, 0), 0), |c| {
        (
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
        )
    });
    let whose = whose(speaker, local.0);
    let subject = quote(&whose.subject);
    let title = format!("{subject} sends unusually much to {}", quote(destination));
    let times = |end: fn(&Conversation) -> u64| volume.of.iter().map(move |c| end(c));
    Occurrence {
        kind,
        rule: TrafficVolumeUnusual.id(),
        severity: kind.severity,
        confidence: 0.7,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: destination.to_owned(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: times(|c| c.first_ns).min().unwrap_or_default(),
        last_ns: times(|c| c.last_ns).max().unwrap_or_default(),
        action: evidence_of::connection(local, remote, protocol, Direction::Outbound),
        additional_info: BTreeMap::from([
            ("sensor".to_owned(), speaker.instance.clone()),
            ("destination".to_owned(), quote(destination)),
        ]),
        evidence: volume
            .of
            .iter()
            .take(EVIDENCE_PER_WINDOW)
            .map(|c| evidence_of::conversation(c))
            .collect(),
        mitre: &["T1041", "T1048", "T1567"],
        description: format!("{title}, more than it ever did."),
        title,
        why: why.to_owned(),
        first_look: &[
            "Which process sends, who started it, and what it read before.",
            "Whose the destination is, and who else sends there.",
            "Whether a backup, a migration or an export was planned.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, later, speaker, summary};
    use picket_intel::IndicatorSet;
    use picket_wire::Process;
    use std::sync::Arc;

    const US: &str = "10.0.0.1";
    const DAY: u64 = 24 * 3_600;
    const MB: u64 = 1_000_000;

    fn sent(name: &str, megabytes: u64, program: &str) -> Conversation {
        let mut c = conversation(US, "192.0.2.1", 443);
        (c.bytes_out, c.bytes_in) = (megabytes * MB, MB);
        c.tls_name = Some(name.to_owned());
        c.process = (!program.is_empty()).then(|| {
            Arc::new(Process {
                name: program.to_owned(),
                ..Process::default()
            })
        });
        c
    }

    fn day(day: u64, conversations: Vec<Conversation>) -> Summary {
        let seen = Summary {
            conversations,
            ..summary(speaker())
        };
        later(seen, day * DAY)
    }

    /// A host that backs up so many megabytes every night, then does something else.
    #[track_caller]
    fn check(days: u64, nightly: u64, then: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        let backup = || vec![sent("backup.example.org", nightly, "restic")];
        let mut all: Vec<Summary> = (0..days).map(|n| day(n, backup())).collect();
        all.push(day(days, then));
        let events = all.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    const KNOWN: &[(&str, f64, u64)] = &[("Behavior:EC2/TrafficVolumeUnusual", 5.0, 1)];
    const NEW_ONE: &[(&str, f64, u64)] = &[("Exfiltration:EC2/VolumeToNewDestination", 8.0, 1)];

    #[test]
    fn far_above_its_own_past() {
        let to = |megabytes| vec![sent("backup.example.org", megabytes, "restic")];
        check(10, 200, to(1_500), KNOWN);
        check(10, 200, to(900), &[]);
        check(10, 20, to(400), &[]);
        check(6, 200, to(1_500), &[]);
    }

    #[test]
    fn a_new_destination_by_a_program_that_never_sent_much() {
        let to = |megabytes, program| vec![sent("drop.example.net", megabytes, program)];
        check(10, 200, to(150, "curl"), NEW_ONE);
        check(10, 200, to(90, "curl"), &[]);
        // The backup may move.
        check(10, 200, to(300, "restic"), &[]);
        check(10, 200, to(500, "restic"), NEW_ONE);
        // Where no program is told, the host is compared with itself.
        check(10, 200, to(150, ""), &[]);
        check(10, 200, to(500, ""), NEW_ONE);
        check(6, 200, to(500, "curl"), &[]);
    }

    #[test]
    fn downloads_and_what_clients_fetch_are_none() {
        let mut fetched = sent("drop.example.net", 500, "curl");
        fetched.bytes_in = 400 * MB;
        check(10, 200, vec![fetched], &[]);
        let mut served = conversation("198.51.100.9", US, 443);
        served.bytes_in = 5_000 * MB;
        check(10, 200, vec![served], &[]);
        let mut inside = sent("drop.example.net", 5_000, "curl");
        inside.server = crate::testing::ip("10.0.9.9");
        check(10, 200, vec![inside], &[]);
    }

    #[test]
    fn windows_of_an_hour_add_up() {
        let backup = || vec![sent("backup.example.org", 200, "restic")];
        let mut all: Vec<Summary> = (0..10).map(|n| day(n, backup())).collect();
        for n in 0..5 {
            let some = day(10, vec![sent("drop.example.net", 40, "curl")]);
            all.push(later(some, n * 10));
        }
        let events = all.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(
            brief(&findings),
            [("Exfiltration:EC2/VolumeToNewDestination", 8.0, 3)]
        );
    }
}
