//! Reputation of a name that is on no list: what speaks against it, added up, with its reasons.
//! Reads: grouped questions and the addresses in their answers; the lists' addresses; since when the fleet asks
//! for a domain. Fires: where the points reach `points_min`: a name that somebody got for nothing without being
//! asked (dynamic DNS, relays, call-backs), one that leads to an address on a list, one made like a mining
//! pool's, one new to the whole fleet that is odd besides.
//! Evidence: the reasons, the question and what came back. Severity: by what speaks against it: low where it is
//! the provider or the pattern alone, medium with another reason, as the list says where an address is listed.
//! Innocent look-alikes: home offices behind dynamic DNS, developers' relays, pools of other things, a fleet
//! that has just begun to be watched (nothing is new for `learning_days`, which begin anew when the collector
//! is restarted), names that are listed (another detection's). ATT&CK T1568, T1583.001, T1102, T1496. Method: points, each with its words; no name is bad by
//! its letters alone.
//! First look: which process asked; what it said to the address that came back; who else asks.
//! Actor key: the registered domain.

mod pools;
mod providers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::{Category, IndicatorSet};
use picket_wire::{Host as Speaker, Question};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::verdict::graded;
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, whose};
use crate::domain::{Owned, is_dense, is_in, is_internal, owned};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::forwarding::Forwarding;
use crate::history::HeardOf;

/// Settings of `domain_reputation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Points of ten from which a name is told: 3, what a dynamic DNS service alone is worth.
    pub points_min: u32,
    /// Points from which it is medium: 5.
    pub medium_points_min: u32,
    /// Days for which the fleet is only listened to before a domain can be new: 7, so that every day of a
    /// week is heard once.
    pub learning_days: u64,
    /// Hours for which a domain is new after it was first heard: 24.
    pub new_hours: u64,
    /// Hosts that may ask for a domain that is new and odd: 2. What more ask for was deployed.
    pub new_hosts_max: usize,
    /// Domains of known repute, with what stands below them. Empty: yours are not known.
    pub trusted_domains: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            points_min: 3,
            medium_points_min: 5,
            learning_days: 7,
            new_hours: 24,
            new_hosts_max: 2,
            trusted_domains: Vec::new(),
        }
    }
}

const ABUSED: FindingType =
    FindingType::guardduty("Impact:EC2/AbusedDomainRequest.Reputation", 5.0);
const BITCOIN: FindingType =
    FindingType::guardduty("Impact:EC2/BitcoinDomainRequest.Reputation", 8.0);
const MALICIOUS: FindingType =
    FindingType::guardduty("Impact:EC2/MaliciousDomainRequest.Reputation", 8.0);
const SUSPICIOUS: FindingType =
    FindingType::guardduty("Impact:EC2/SuspiciousDomainRequest.Reputation", 2.0);

/// What the provider or the pattern alone is worth.
const LOW: f64 = 2.0;

/// What it is worth with another reason.
const MEDIUM: f64 = 5.0;

const HOUR_NS: u64 = 3_600 * 1_000_000_000;

/// Names of low reputation.
pub(crate) struct DomainReputation;

impl Detection for DomainReputation {
    fn id(&self) -> &'static str {
        "domain_reputation"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&ABUSED, &BITCOIN, &MALICIOUS, &SUSPICIOUS]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        if summary.questions.is_empty() {
            return;
        }
        let settings = &context.settings.detections.domain_reputation;
        let speaker = &summary.host;
        let host = SpeakerKey::of(speaker);
        let forwarding = Forwarding::of(summary);
        for question in &summary.questions {
            if is_internal(&question.name)
                || forwarding.is_of_resolver(question.client, &question.name)
            {
                continue;
            }
            let Some(name) = owned(&question.name).filter(|name| !name.domain.is_empty()) else {
                continue;
            };
            let newness = Newness::of(&mut context.history.heard, &name, host, question, settings);
            let judged = judge(question, &name, newness, context.intel, settings);
            if let Some(judged) = judged {
                let trusted = &settings.trusted_domains;
                if !trusted.iter().any(|zone| is_in(&question.name, zone)) {
                    out.push(occurrence(speaker, question, &name, &judged));
                }
            }
        }
    }
}

/// Whether a domain is news to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newness {
    /// It is known, or it is too early to say.
    Old,
    /// First asked for within the last hours, by so many hosts.
    New(usize),
}

impl Newness {
    fn of(
        heard: &mut HeardOf,
        name: &Owned<'_>,
        host: SpeakerKey,
        question: &Question,
        settings: &Settings,
    ) -> Self {
        let now_ns = question.last_ns;
        let has_learned = heard.learned_ns(now_ns) >= settings.learning_days * 24 * HOUR_NS;
        let known = heard.note(name.domain, host, question.first_ns);
        let age_ns = now_ns.saturating_sub(known.first_ns);
        if has_learned && age_ns < settings.new_hours * HOUR_NS {
            Self::New(known.hosts())
        } else {
            Self::Old
        }
    }
}

/// What became of the reasons.
#[derive(Debug, Clone, PartialEq)]
struct Judged {
    kind: &'static FindingType,
    severity: f64,
    confidence: f64,
    reasons: Vec<String>,
    mitre: &'static [&'static str],
}

/// The worst that speaks against a name, if enough does.
fn judge(
    question: &Question,
    name: &Owned<'_>,
    newness: Newness,
    intel: &IndicatorSet,
    settings: &Settings,
) -> Option<Judged> {
    let found = leads_to_listed(question, intel)
        .or_else(|| like_a_pool(question))
        .or_else(|| given_away(question, newness, settings))
        .or_else(|| new_and_odd(question, name, newness, settings))?;
    // A listed name is told as such.
    let is_listed = !intel.match_domain(&question.name).is_empty();
    (!is_listed).then_some(found)
}

/// A name that is on no list and leads to an address that is.
fn leads_to_listed(question: &Question, intel: &IndicatorSet) -> Option<Judged> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let addresses = question
        .answers
        .iter()
        .filter(|answer| matches!(answer.rtype, A | AAAA))
        .filter_map(|answer| answer.data.parse::<IpAddr>().ok());
    for address in addresses {
        for found in intel.match_address(address, 0) {
            let kind = match found.list.category {
                Category::C2
                | Category::Phishing
                | Category::Driveby
                | Category::Droppoint
                | Category::Blackhole
                | Category::Dga => &MALICIOUS,
                Category::Mining => &BITCOIN,
                _ => continue,
            };
            let list = found.list;
            return Some(Judged {
                kind,
                severity: graded(kind.severity, list.confidence),
                confidence: f64::from(list.confidence) / 125.0,
                reasons: vec![format!(
                    "leads to {address}, which stands on {} ({})",
                    list.name, list.category
                )],
                mitre: &["T1568"],
            });
        }
    }
    None
}

/// A name made like a mining pool's.
fn like_a_pool(question: &Question) -> Option<Judged> {
    let why = pools::why_pool(&question.name)?;
    Some(Judged {
        kind: &BITCOIN,
        severity: LOW,
        confidence: 0.5,
        reasons: vec![why],
        mitre: &["T1496"],
    })
}

/// A name that somebody got without being asked who they are.
fn given_away(question: &Question, newness: Newness, settings: &Settings) -> Option<Judged> {
    let (zone, gift) = providers::given(&question.name)?;
    let mut points = gift.points();
    let mut reasons = vec![format!("{} ({zone})", gift.words())];
    let mut against = |more: u32, words: &str| {
        points += more;
        reasons.push(words.to_owned());
    };
    let own = question.name.strip_suffix(zone).unwrap_or_default();
    let own = own.trim_end_matches('.');
    if own.len() >= 10 && is_dense(own) {
        against(1, "its label is no word");
    }
    if let Newness::New(hosts) = newness {
        against(
            2,
            &format!("no host of the fleet asked for it before, {hosts} do now"),
        );
    }
    if carries_text(question) {
        against(2, "it was asked for text");
    }
    if is_absent(question) {
        against(1, "there is no such name any more");
    }
    (points >= settings.points_min).then(|| Judged {
        kind: &ABUSED,
        severity: match points >= settings.medium_points_min {
            true => MEDIUM,
            false => LOW,
        },
        confidence: (f64::from(points) / 10.0).min(0.9),
        reasons,
        mitre: &["T1583.001", "T1568", "T1102"],
    })
}

/// A name that is new to the whole fleet, and odd.
fn new_and_odd(
    question: &Question,
    name: &Owned<'_>,
    newness: Newness,
    settings: &Settings,
) -> Option<Judged> {
    const LONG_LABEL_BYTES: usize = 20;
    let Newness::New(hosts) = newness else {
        return None;
    };
    if hosts > settings.new_hosts_max {
        return None;
    }
    let label = name.domain.split('.').next().unwrap_or_default();
    let mut odd: Vec<String> = Vec::new();
    let mut against = |is: bool, words: &str| {
        if is {
            odd.push(words.to_owned());
        }
    };
    against(
        providers::is_cheap(name.domain),
        "its top is one where names cost next to nothing",
    );
    against(label.len() >= 8 && is_dense(label), "its label is no word");
    against(label.len() >= LONG_LABEL_BYTES, "its label is very long");
    against(
        label.starts_with("xn--"),
        "its label is written in another alphabet",
    );
    against(
        label.matches('-').count() >= 2,
        "its label is made of several words",
    );
    against(is_absent(question), "there is no such name");
    against(carries_text(question), "it was asked for text");
    if (odd.len() as u32) + 1 < settings.points_min {
        return None;
    }
    let news = format!("no host of the fleet asked for it before, {hosts} do now");
    Some(Judged {
        kind: &SUSPICIOUS,
        severity: SUSPICIOUS.severity,
        confidence: (0.2 + 0.1 * odd.len() as f64).min(0.6),
        reasons: std::iter::once(news).chain(odd).collect(),
        mitre: &["T1583.001"],
    })
}

/// Says whether a name was asked for text, or for what nobody asks for.
fn carries_text(question: &Question) -> bool {
    const NULL: u16 = 10;
    const TXT: u16 = 16;
    matches!(question.qtype, NULL | TXT)
}

fn is_absent(question: &Question) -> bool {
    question.nxdomain > 0 && question.nxdomain >= question.answered
}

fn occurrence(
    speaker: &Speaker,
    question: &Question,
    name: &Owned<'_>,
    judged: &Judged,
) -> Occurrence {
    let whose = whose(speaker, question.client);
    let (subject, asked) = (quote(&whose.subject), quote(&question.name));
    let reasons = judged.reasons.join("; ");
    let title = format!("{subject} asked for {asked}, a name of low reputation");
    Occurrence {
        kind: judged.kind,
        rule: DomainReputation.id(),
        severity: judged.severity,
        confidence: judged.confidence,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: name.domain.to_owned(),
        resource: whose.resource,
        role: Role::Actor,
        count: u64::from(question.asked.max(1)),
        first_ns: question.first_ns,
        last_ns: question.last_ns,
        action: evidence_of::dns_request(&question.name, name.domain, question.transport),
        additional_info: BTreeMap::from([
            ("reasons".to_owned(), reasons.clone()),
            ("sensor".to_owned(), speaker.instance.clone()),
        ]),
        evidence: vec![evidence_of::question(question)],
        mitre: judged.mitre,
        description: format!("{title}: it {reasons}."),
        why: format!(
            "{} asked {} for {asked}, which is on no list: it {reasons}",
            question.client, question.resolver
        ),
        title,
        first_look: &[
            "Which process asked, and who started it.",
            "Whether the host connected to what came back, and what went out.",
            "Who else asks for names of this domain, and since when.",
        ],
    }
}
