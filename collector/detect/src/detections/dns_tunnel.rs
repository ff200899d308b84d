//! DNS tunnel: data goes out in the names that a host asks for, and comes back in the answers.
//! Reads: grouped questions and their answers, per host and registered domain, over ten minutes, an hour and
//! a day. Fires: many different names below one domain, long enough to carry something, with enough signs
//! (types that carry data, length, answers full of data, labels that are no words, names asked once, nobody
//! who calls what came back); the more signs, the fewer names it takes. Each later window with new names is
//! another occurrence.
//! Evidence: names, bytes out and back, the signs; the longest questions of the window. Severity: high, as
//! GuardDuty's; medium where the signs are just enough.
//! Innocent look-alikes: services that ask by name by design (`allowed_domains`), names about addresses
//! (block lists, SPF), a search suffix tried on everything, a resolver that passes its clients' questions on
//! (behind a mirror: whoever answers others, while it does). Names are counted anew after a restart of the
//! collector.
//! ATT&CK T1048.003, T1071.004, T1572. Method: features as in the literature on DNS tunnels, thresholds from
//! measured tools; entropy alone does not separate, so what labels look like is one sign of six.
//! First look: which process asks; who registered the domain; what it read before.
//! Actor key: the registered domain; where names stand on nothing, their first label and the resolver.

mod carried;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_wire::{Question, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, whose};
use crate::domain::{is_in, owned};
use crate::event::{Event, QUERY_LOG, SourceKind};
use crate::finding::{FindingType, Role};
use crate::forwarding::Forwarding;
use crate::history::{Seen, Zone, Zones};
use crate::limits::SUBNAMES_PER_DOMAIN_MAX;
use carried::{Found, bytes, decide, is_about_address, is_searched, subname};

/// Settings of `dns_tunnel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Bytes below the registered domain from which a name counts: 6. Ordinary labels have three to
    /// eight, the shortest tunnel measured fourteen.
    pub name_bytes_min: usize,
    /// Signs, in points of ten, from which it is a tunnel: 4. Three are what a content network with
    /// long host names reaches.
    pub points_min: u32,
    /// The short window, seconds: 600. Tools keep asking, every second or so, to be told of data.
    pub fast_window_s: u64,
    /// Different names in it: 100. The slowest interactive tool measured makes 90 in a busy minute.
    pub fast_names_min: u64,
    /// Bytes out in it: 2,000.
    pub fast_bytes_min: u64,
    /// Points from which few names are enough: 5, which takes the signs of at least three kinds.
    pub certain_points_min: u32,
    /// Different names then: 25, in the short window.
    pub certain_names_min: u64,
    /// Bytes out then: 300.
    pub certain_bytes_min: u64,
    /// The middle window, seconds: an hour.
    pub middle_window_s: u64,
    /// Different names in it: 150.
    pub middle_names_min: u64,
    /// Bytes out in it: 3,000.
    pub middle_bytes_min: u64,
    /// The long window, seconds: a day, which is as long as names are remembered.
    pub slow_window_s: u64,
    /// Different names in it: 40, one in 36 minutes.
    pub slow_names_min: u64,
    /// Bytes out in it: 800, half a private key.
    pub slow_bytes_min: u64,
    /// Points asked for in it: 5, since a day has room for much.
    pub slow_points_min: u32,
    /// Different names in it, hardly one of them asked twice for the same type, from which few points are enough: 300, where the tools that hunt for tunnels in
    /// logs by hand begin to look.
    pub many_names_min: u64,
    /// Bytes of each on average then: 12. Names of hosts and customers have eight.
    pub many_mean_bytes_min: u64,
    /// Points then: 3.
    pub many_points_min: u32,
    /// Domains whose owners put data in names by design, with all below them.
    pub allowed_domains: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name_bytes_min: 6,
            points_min: 4,
            fast_window_s: 600,
            fast_names_min: 100,
            fast_bytes_min: 2_000,
            certain_points_min: 5,
            certain_names_min: 25,
            certain_bytes_min: 300,
            middle_window_s: 3_600,
            middle_names_min: 150,
            middle_bytes_min: 3_000,
            slow_window_s: 86_400,
            slow_names_min: 40,
            slow_bytes_min: 800,
            slow_points_min: 5,
            many_names_min: 300,
            many_mean_bytes_min: 12,
            many_points_min: 3,
            allowed_domains: ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }
    }
}

/// Domains that carry data in names by design, and what they are.
const ALLOWED: &[(&str, &str)] = &[
    ("abuseat.org", "block list"),
    ("akadns.net", "Akamai's own steering of names"),
    ("akamaiedge.net", "content network"),
    (
        "amazonaws.com",
        "AWS endpoints: buckets, databases, load balancers",
    ),
    ("arpa", "names of addresses (RFC 1035 3.5, RFC 3596 2.5)"),
    ("avast.com", "Avast's lookups of files and addresses"),
    ("avqs.mcafee.com", "McAfee's lookups of files"),
    ("avts.mcafee.com", "McAfee's lookups of files"),
    ("barracudacentral.org", "block list"),
    ("compute.internal", "names of EC2 instances"),
    ("cymru.com", "Team Cymru's lookups of networks and files"),
    ("dnswl.org", "allow list"),
    ("e5.sk", "ESET's lookups of files and addresses"),
    ("ec2.internal", "names of EC2 instances"),
    ("fbcdn.net", "Facebook's servers of pictures"),
    ("googlevideo.com", "Google's servers of films"),
    ("gti.mcafee.com", "McAfee's lookups of files"),
    ("gvt1.com", "Google's servers of files"),
    ("mailspike.net", "block list"),
    ("msbl.org", "block list of addresses of mail"),
    ("sophosxl.net", "Sophos's lookups of files and addresses"),
    ("sorbs.net", "block list"),
    ("spamcop.net", "block list"),
    ("spamhaus.net", "block list"),
    ("spamhaus.org", "block list"),
    ("surbl.org", "block list"),
    ("svc.cluster.local", "names of services in Kubernetes"),
    (
        "trendmicro.com",
        "Trend Micro's lookups of files and addresses",
    ),
    ("uribl.com", "block list"),
    ("webcfs00.com", "SonicWall's lookups of addresses"),
];

const EXFILTRATION: FindingType = FindingType::guardduty("Trojan:EC2/DNSDataExfiltration", 8.0);

/// Where the signs are just enough.
const LIKELY_SEVERITY: f64 = 5.0;

/// Questions shown with one occurrence: enough to see the pattern.
const EVIDENCE_PER_WINDOW: usize = 10;

/// DNS tunnels.
pub(crate) struct DnsTunnel;

impl Detection for DnsTunnel {
    fn id(&self) -> &'static str {
        "dns_tunnel"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&EXFILTRATION]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.dns_tunnel;
        let zones = &mut context.history.zones;
        let seen = match &*summary.host.capture {
            QUERY_LOG => Seen::Logged,
            _ => Seen::OnTheWire,
        };
        let mut all = asked(summary, settings);
        all.retain(|zone, asked| {
            let names = asked.iter().map(|(q, below)| subname(q, below, seen));
            zones.note(zone, names) > 0
        });
        note_connections(summary, zones);
        if seen == Seen::Logged {
            // Whom the host talked to is not in such a log.
            let touched = all.keys();
            touched.for_each(|zone| zones.connected(zone, summary.window.end_ns));
        }
        for (zone, mut asked) in all {
            let Some(known) = zones.of(&zone) else {
                continue;
            };
            if let Some(found) = decide(known, summary.window.end_ns, settings) {
                asked.sort_by(|a, b| {
                    let longer = bytes(b.1).cmp(&bytes(a.1));
                    longer.then_with(|| a.0.name.cmp(&b.0.name))
                });
                let questions: Vec<&Question> = asked.iter().map(|(q, _)| *q).collect();
                out.push(occurrence(summary, &zone, &questions, &found));
            }
        }
    }
}

/// Questions that may carry something, with what stands below the domain, by host and domain.
fn asked<'a>(
    summary: &'a Summary,
    settings: &Settings,
) -> BTreeMap<Zone, Vec<(&'a Question, &'a str)>> {
    let speaker = SpeakerKey::of(&summary.host);
    let forwarding = Forwarding::of(summary);
    let mut all: BTreeMap<(IpAddr, &str), Vec<(&Question, &str)>> = BTreeMap::new();
    for question in &summary.questions {
        let Some(one) = owned(&question.name) else {
            continue;
        };
        if bytes(one.below) < settings.name_bytes_min
            || is_about_address(one.below)
            || is_searched(question, one.below)
            || forwarding.is_of_resolver(question.client, &question.name)
        {
            continue;
        }
        let group = all.entry((question.client, one.domain)).or_default();
        group.push((question, one.below));
    }
    let mut zones: BTreeMap<Zone, Vec<(&Question, &str)>> = BTreeMap::new();
    for ((client, domain), mut questions) in all {
        questions.retain(|(question, _)| {
            let allowed = &settings.allowed_domains;
            !allowed.iter().any(|zone| is_in(&question.name, zone))
        });
        for (question, below) in questions {
            let domain = match domain {
                "" => nowhere(question).into(),
                domain => domain.into(),
            };
            let zone = Zone {
                speaker,
                client,
                domain,
            };
            zones.entry(zone).or_default().push((question, below));
        }
    }
    zones
}

/// What stands for the domain of names that have none: the label that tools put first, if it is short enough to
/// be a word, and the server that they talk to.
fn nowhere(question: &Question) -> String {
    const WORD_BYTES_MAX: usize = 12;
    let first = question.name.split('.').next().unwrap_or_default();
    let is_word = first.len() <= WORD_BYTES_MAX && first.bytes().all(|b| b.is_ascii_lowercase());
    let resolver = question.resolver;
    match is_word {
        true => format!("{first} at {resolver}"),
        false => format!("no domain at {resolver}"),
    }
}

/// Notes which domains' names led to addresses that somebody talks to.
fn note_connections(summary: &Summary, zones: &mut Zones) {
    if zones.is_empty() {
        return;
    }
    let speaker = SpeakerKey::of(&summary.host);
    for c in &summary.conversations {
        for name in [&c.dns_name, &c.tls_name].into_iter().flatten() {
            if let Some(one) = owned(name).filter(|one| !one.below.is_empty()) {
                let zone = Zone {
                    speaker,
                    client: c.client,
                    domain: one.domain.into(),
                };
                zones.connected(&zone, c.last_ns);
            }
        }
    }
}

fn occurrence(
    summary: &Summary,
    zone: &Zone,
    questions: &[&Question],
    found: &Found,
) -> Occurrence {
    let speaker = &summary.host;
    let whose = whose(speaker, zone.client);
    let (subject, domain) = (quote(&whose.subject), quote(&zone.domain));
    let Found {
        tally,
        points,
        signs,
        window_s,
    } = found;
    let longest = questions.first();
    let first_ns = questions.iter().map(|q| q.first_ns).min();
    let last_ns = questions.iter().map(|q| q.last_ns).max();
    let resolver = longest.map_or_else(String::new, |q| q.resolver.to_string());
    let minutes = window_s / 60;
    let at_least = match tally.unique >= SUBNAMES_PER_DOMAIN_MAX as u64 {
        true => "at least ",
        false => "",
    };
    let carried = format!(
        "{at_least}{} different names below it within {minutes} min, {} bytes out and {} back",
        tally.unique, tally.bytes, tally.answer_bytes
    );
    let title = format!("{subject} carries data in DNS names of {domain}");
    Occurrence {
        kind: &EXFILTRATION,
        rule: DnsTunnel.id(),
        severity: match points {
            0..=4 => LIKELY_SEVERITY,
            _ => EXFILTRATION.severity,
        },
        confidence: (f64::from(*points) / 8.0).min(0.95),
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: zone.domain.to_string(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: first_ns.unwrap_or(summary.window.start_ns),
        last_ns: last_ns.unwrap_or(summary.window.end_ns),
        action: evidence_of::dns_request(
            longest.map_or("", |q| &*q.name),
            &zone.domain,
            longest.map_or(picket_wire::Transport::Udp, |q| q.transport),
        ),
        additional_info: BTreeMap::from([
            ("domain".to_owned(), zone.domain.to_string()),
            ("sensor".to_owned(), speaker.instance.clone()),
        ]),
        evidence: questions
            .iter()
            .take(EVIDENCE_PER_WINDOW)
            .map(|q| evidence_of::question(q))
            .collect(),
        mitre: &["T1048.003", "T1071.004", "T1572"],
        description: format!("{title}: {carried}."),
        why: format!(
            "{} asked {resolver} for {domain}: {carried}; {}",
            zone.client,
            signs.join(", ")
        ),
        title,
        first_look: &[
            "Which process asks, and who started it.",
            "Who registered the domain, when, and where its name server is.",
            "What the process read before: files, secrets, the metadata service.",
        ],
    }
}
