//! Beaconing: a host calls one peer outside at nearly constant intervals.
//! Reads: starts of flows of each host and peer on the Internet, the last 128 of them, and how many hosts
//! call the same peer. Fires: when at least `starts_min` of them, over `duration_min_s`, are more regular
//! than chance makes so many (see `rhythm.rs`); again each time a sixteenth more has come.
//! Evidence: interval and spread, how many, score, how alike in size; the conversations. Severity: medium;
//! high if the peer is listed; low if a quarter of the hosts, and three at least, call it too.
//! Innocent look-alikes: what many hosts call (`common_hosts`), AWS's own endpoints and updates
//! (`names_ignored`, where DNS led there by such a name; what a client says itself excuses nobody), polling
//! within the network (private peers are not looked at), health checks from outside (we are called), DNS and
//! NTP, streams of more than a start a second. ATT&CK T1071, T1573.
//! Method: RITA's idea of regular intervals and sizes, judged over a count of starts instead of a day, so
//! that a beacon of minutes is found too, with the bar set by how regular chance would be.
//! First look: which process holds the socket; what the host resolved before; who else calls this peer.
//! Actor key: the peer's name, or its address, and its port.

mod rhythm;

use std::collections::BTreeMap;

use picket_wire::{Conversation, Host as Speaker};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Beat, Callee, History, Teller, Whom};
use crate::ordinary::{ORDINARY_NAMES, RENTED_LABELS, is_ordinary};
use rhythm::Rhythm;

/// Settings of `beacon`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Starts it takes at least: 12. Fewer are regular by chance too often.
    pub starts_min: usize,
    /// Seconds over which they must go on: 600. A script that tries a few times is over by then.
    pub duration_min_s: u64,
    /// Milliseconds between starts, at least: 1,000. What calls more often is a stream (RITA draws the
    /// same line).
    pub interval_min_ms: u32,
    /// Score that very many starts need: 0.32. Chance scores 0.26 in the mean, a clock 1, one that waits
    /// a random while of up to 90 % more or less 0.5.
    pub score_min: f64,
    /// What few starts need more, divided by the root of their number: 1.7. Measured (`docs/detection-curves.md`):
    /// with both, chance passes less than once in ten thousand looks.
    pub score_more: f64,
    /// Share of the intervals that may be longer than about twice the usual: 0.1. A beacon misses a beat
    /// now and then; people and queues do all the time.
    pub late_share_max: f64,
    /// Hosts from which on a peer is part of how the fleet is made: 20. At most 32 are counted.
    pub common_hosts: usize,
    /// Share of the fleet that makes a peer half excused, if it is three hosts: 0.25.
    pub common_share: f64,
    /// Names whose callers are excused, with all below them: AWS's endpoints (SSM, CloudWatch, STS, ECS
    /// and others poll), package mirrors and time of the distributions, makers of common agents.
    pub names_ignored: Vec<String>,
    /// Labels that take the excuse back: below them anybody rents a name of AWS.
    pub labels_rented: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            starts_min: 12,
            duration_min_s: 600,
            interval_min_ms: 1_000,
            score_min: 0.32,
            score_more: 1.7,
            late_share_max: 0.1,
            common_hosts: 20,
            common_share: 0.25,
            names_ignored: owned(ORDINARY_NAMES),
            labels_rented: owned(RENTED_LABELS),
        }
    }
}

const BEACONING: FindingType = FindingType::picket("Backdoor:EC2/Beaconing", 5.0);

/// Severity where the peer is listed: that of GuardDuty's command-and-control types.
const LISTED_SEVERITY: f64 = 8.0;

/// Severity where others of the fleet call the peer too.
const SHARED_SEVERITY: f64 = 3.0;

/// Hosts it takes to excuse a peer by its share of the fleet.
const SHARED_HOSTS_MIN: usize = 3;

/// Beaconing.
pub(crate) struct Beacon;

impl Detection for Beacon {
    fn id(&self) -> &'static str {
        "beacon"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&BEACONING]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.beacon;
        let teller = Teller::of(&summary.host);
        for c in &summary.conversations {
            let History { rhythms, crowd, .. } = &mut *context.history;
            let Some(call) = crowd.call_of(teller, c) else {
                continue;
            };
            let callee = &call.callee;
            let Some(series) = rhythms.of(&call) else {
                continue;
            };
            let held = series.beats.len();
            if held + 1 < settings.starts_min || (series.unjudged as usize) < (held / 16).max(1) {
                continue;
            }
            let beats: Vec<Beat> = series.beats.iter().copied().collect();
            series.unjudged = 0;
            let Some(rhythm) = Rhythm::of(&beats, settings) else {
                (series.regular_since_ns, series.untold) = (None, 0);
                continue;
            };
            let first_ns = series.last_ns.saturating_sub(rhythm.spanned_ns);
            let since_ns = *series.regular_since_ns.get_or_insert(first_ns);
            let lasted_s = series.last_ns.saturating_sub(since_ns) / 1_000_000_000;
            let ignored = callee.whom.known_name().is_some_and(|name| {
                is_ordinary(name, &settings.names_ignored, &settings.labels_rented)
            });
            let hosts = crowd.of(callee);
            if lasted_s < settings.duration_min_s || ignored || hosts >= settings.common_hosts {
                continue;
            }
            let mut names = [&c.dns_name, &c.tls_name].into_iter().flatten();
            let listed = !context
                .intel
                .match_address(c.server, c.server_port)
                .is_empty()
                || names.any(|name| !context.intel.match_domain(name).is_empty());
            let share = settings.common_share * crowd.hosts() as f64;
            let standing = if listed {
                Standing::Listed
            } else if hosts >= SHARED_HOSTS_MIN && hosts as f64 >= share {
                Standing::Shared
            } else {
                Standing::Alone
            };
            out.push(occurrence(
                &summary.host,
                c,
                callee,
                &Found {
                    rhythm,
                    standing,
                    hosts,
                    lasted_s,
                    since_ns,
                    last_ns: series.last_ns,
                    new: u64::from(std::mem::take(&mut series.untold)),
                },
            ));
        }
    }
}

/// What is known of the peer besides the rhythm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Listed,
    Shared,
    Alone,
}

struct Found {
    rhythm: Rhythm,
    standing: Standing,
    hosts: usize,
    lasted_s: u64,
    since_ns: u64,
    last_ns: u64,
    new: u64,
}

fn occurrence(speaker: &Speaker, c: &Conversation, callee: &Callee, found: &Found) -> Occurrence {
    let whose = whose(speaker, c.client);
    let subject = quote(&whose.subject);
    let whom = quote(&callee.whom.to_string());
    let Found {
        rhythm,
        lasted_s,
        hosts,
        ..
    } = found;
    let seconds = rhythm.interval_ms / 1_000.0;
    let title = format!(
        "{subject} calls {whom} port {} every {seconds:.1} s",
        c.server_port
    );
    let others = match found.standing {
        Standing::Listed => "the peer is listed".to_owned(),
        _ if *hosts > 1 => format!("{hosts} hosts call it"),
        _ => "no other host calls it".to_owned(),
    };
    let actor = match &callee.whom {
        Whom::Name(name) | Whom::Claimed(name, _) => format!("{name}:{}", callee.port),
        Whom::Address(address) => format!("{} {}", address.to_canonical(), callee.port),
    };
    Occurrence {
        kind: &BEACONING,
        rule: Beacon.id(),
        severity: match found.standing {
            Standing::Listed => LISTED_SEVERITY,
            Standing::Shared => SHARED_SEVERITY,
            Standing::Alone => BEACONING.severity,
        },
        confidence: rhythm.confidence(),
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor,
        resource: whose.resource,
        role: Role::Actor,
        count: found.new,
        first_ns: found.since_ns,
        last_ns: found.last_ns,
        action: evidence_of::connection(
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: vec![evidence_of::conversation(c)],
        mitre: &["T1071", "T1573"],
        description: format!("{title}, for {} min so far.", lasted_s / 60),
        title,
        why: format!(
            "{} intervals of {seconds:.1} s, half of them within {:.1} s of it, for {lasted_s} s: score {:.2}, {:.2} needed; sizes alike {:.2}; {others}",
            rhythm.intervals,
            rhythm.spread_ms / 1_000.0,
            rhythm.score,
            rhythm.needed,
            rhythm.sizes
        ),
        first_look: &[
            "Which process holds the socket, and who started it.",
            "Which name the host asked for before, and since when that name has existed.",
            "Who else calls this peer.",
            "Whether a monitor, an updater or a licence check is known to do so.",
        ],
    }
}

#[cfg(test)]
mod curves;
#[cfg(test)]
mod tests;
