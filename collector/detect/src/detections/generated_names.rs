//! Generated names: a host asks for many names that a program made up, as malware does that looks for
//! its owner.
//! Reads: the registered names that a host asked for within `window_s`, each with its score
//! (`docs/dga-model.md`) and what came back. Fires, on `names_min` different names, when those that do not
//! exist look generated in the mean; or when that many, and a share of all, look so each by itself; or,
//! whatever they look like, when `alike_min` names that do not exist end alike and are about as long as
//! each other, which is how families go about it that put words together.
//! Evidence: how many names, how many of them failed, the mean score, which one came back; the questions.
//! Severity: high, as GuardDuty's; medium for names that are only alike.
//! Innocent look-alikes: names that providers give out (networks of copies, balancers), reverse and
//! blocklist lookups, names without a dot (a browser's probes), search lists, a resolver that passes
//! questions on (behind a mirror: whoever answers others), names that exist and hosts of many sensors ask for; a crawler, whose names end in many ways. ATT&CK T1568.002.
//! Method: a group of names of one host is told where a single name is not; failing lookups as in
//! FANCI (Schüppen and others, 2018).
//! First look: which process asks; the name that exists at last, and what the host said to it.
//! Actor key: none: all such names of a host are one finding.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Host as Speaker, Question};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Asked, Asker, Asking, registered_of};
use crate::limits::GENERATED_HOSTS_TOLD_MAX;

/// Settings of `generated_names`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Different registered names that it takes: 10. Ten names of a family not trained on are told
    /// nearly always where one in a thousand groups of ordinary names is (`docs/dga-model.md`).
    pub names_min: usize,
    /// Seconds they may lie apart: 900, Elastic's bucket. At most an hour is remembered.
    pub window_s: u64,
    /// Mean score of names that do not exist: 0.55. No ten of a million ordinary names reach it: 0.44 at
    /// most of the open lists, 0.52 of another (measured, see `docs/dga-model.md`); and those exist.
    pub failing_mean_min: f64,
    /// Score from which on a name counts by itself, exist or not: 0.9.
    pub score_min: f64,
    /// Share of such names among all that the host asked for: 0.2. One in 160 ordinary names has such a
    /// score, in a list full of odd ones one in 60, so a host that asks for thousands has tens of them.
    pub share_min: f64,
    /// Names that do not exist and are alike, whatever they look like: 25 in the window; somebody who
    /// mistypes, or a list of dead links, has fewer that end alike.
    pub alike_min: usize,
    /// Most that the lengths of such names may lie from their mean, as a share of it: 0.22. Ordinary names
    /// have 0.33 (measured), two or three words put together 0.15.
    pub alike_spread_max: f64,
    /// Hosts with a sensor from which on a name that exists is the fleet's own business: 20. What does not
    /// exist is nobody's, or else an outbreak on many hosts would excuse itself.
    pub hosts_many: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            names_min: 10,
            window_s: 900,
            failing_mean_min: 0.55,
            score_min: 0.9,
            share_min: 0.2,
            alike_min: 25,
            alike_spread_max: 0.22,
            hosts_many: 20,
        }
    }
}

const GENERATED: FindingType = FindingType::guardduty("Trojan:EC2/DGADomainRequest.B", 8.0);
/// Severity where names are only alike: a scan of word lists does the same.
const SEVERITY_ALIKE: f64 = 5.0;
/// Share of failing names that must end alike.
const ALIKE_SHARE_MIN: f64 = 0.8;
/// Questions shown with one occurrence.
const EVIDENCE_PER_WINDOW: usize = 20;

/// Generated names.
pub(crate) struct GeneratedNames;

impl Detection for GeneratedNames {
    fn id(&self) -> &'static str {
        "generated_names"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&GENERATED]
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
        let settings = &context.settings.detections.generated_names;
        let asked = &context.history.asked;
        let speaker = SpeakerKey::of(&summary.host);
        let mut by_client: BTreeMap<IpAddr, Vec<&Question>> = BTreeMap::new();
        for question in &summary.questions {
            by_client.entry(question.client).or_default().push(question);
        }
        let (mut told, mut untold) = (0, 0);
        for (client, mut questions) in by_client {
            let names = names_of(asked, &(speaker, client), summary.window.end_ns, settings);
            let Some(verdict) = verdict(&names, settings) else {
                continue;
            };
            questions
                .retain(|q| registered_of(q).is_some_and(|name| verdict.names.contains(name.name)));
            if questions.is_empty() {
                continue;
            }
            if told >= GENERATED_HOSTS_TOLD_MAX {
                untold += 1;
                continue;
            }
            told += 1;
            out.push(occurrence(
                &summary.host,
                &questions,
                &names,
                &verdict,
                settings,
            ));
        }
        context.history.asked.leave_untold(untold);
    }
}

/// A name with what is known of it.
type Name<'a> = (&'a str, &'a Asking);

/// What a host asked for within the window, less what exists and many hosts do.
fn names_of<'a>(
    asked: &'a Asked,
    asker: &Asker,
    now_ns: u64,
    settings: &Settings,
) -> Vec<Name<'a>> {
    let since_ns = now_ns.saturating_sub(settings.window_s.saturating_mul(1_000_000_000));
    let names = asked.of(asker).into_iter().flatten();
    names
        .filter(|(name, asking)| {
            let is_shared = asking.resolved && asked.sensors(name) >= settings.hosts_many.max(2);
            asking.last_ns >= since_ns && !is_shared
        })
        .map(|(name, asking)| (&**name, asking))
        .collect()
}

/// How names were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Those that do not exist look generated in the mean.
    Failing,
    /// Many look generated, each by itself.
    Each,
    /// They do not exist and are alike.
    Alike,
}

/// Names that were told, and how.
#[derive(Debug, PartialEq)]
struct Verdict<'a> {
    how: How,
    names: BTreeSet<&'a str>,
    mean: f64,
}

fn verdict<'a>(names: &[Name<'a>], settings: &Settings) -> Option<Verdict<'a>> {
    let told = |how, names: &[Name<'a>]| Verdict {
        how,
        mean: mean(names.iter().map(|(_, asking)| asking.dga)),
        names: names.iter().map(|(name, _)| *name).collect(),
    };
    let those = |keep: &dyn Fn(&Asking) -> bool| -> Vec<Name<'a>> {
        names
            .iter()
            .copied()
            .filter(|(_, asking)| keep(asking))
            .collect()
    };
    let failing = those(&|asking| asking.failed && !asking.resolved);
    let least = settings.names_min.max(2);
    if failing.len() >= least
        && mean(failing.iter().map(|(_, asking)| asking.dga)) >= settings.failing_mean_min
    {
        return Some(told(How::Failing, &failing));
    }
    let each = those(&|asking| asking.dga >= settings.score_min);
    if each.len() >= least && each.len() as f64 >= settings.share_min * names.len() as f64 {
        return Some(told(How::Each, &each));
    }
    are_alike(&failing, settings).then(|| told(How::Alike, &failing))
}

/// Says whether names end alike and are about as long as each other.
fn are_alike(names: &[Name<'_>], settings: &Settings) -> bool {
    if names.len() < settings.alike_min.max(2) {
        return false;
    }
    let mut by_suffix: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, asking) in names {
        *by_suffix.entry(&*asking.suffix).or_default() += 1;
    }
    let most = by_suffix.values().max().copied().unwrap_or(0);
    let lengths = || {
        names
            .iter()
            .map(|(name, asking)| (name.len() - asking.suffix.len()) as f64)
    };
    let middle = mean(lengths());
    let spread = mean(lengths().map(|length| (length - middle).abs())) / middle.max(1.0);
    most as f64 >= ALIKE_SHARE_MIN * names.len() as f64 && spread <= settings.alike_spread_max
}

fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = of.fold((0.0, 0u32), |(sum, count), one| (sum + one, count + 1));
    sum / f64::from(count.max(1))
}

fn occurrence(
    speaker: &Speaker,
    questions: &[&Question],
    names: &[Name<'_>],
    verdict: &Verdict<'_>,
    settings: &Settings,
) -> Occurrence {
    let first = questions[0];
    let whose = whose(speaker, first.client);
    let subject = quote(&whose.subject);
    let count = verdict.names.len();
    let failed = names
        .iter()
        .filter(|(_, asking)| asking.failed && !asking.resolved)
        .count();
    let found = names
        .iter()
        .find(|(_, asking)| asking.resolved && asking.dga >= settings.score_min)
        .map(|(name, _)| format!("; {} exists", quote(name)))
        .unwrap_or_default();
    let how = match verdict.how {
        How::Failing => "do not exist and look generated",
        How::Each => "look generated each by itself",
        How::Alike => "do not exist, end alike and are about as long as each other",
    };
    let example = quote(&first.name);
    let title = format!("{subject} asks for names that a program made up, such as {example}");
    let why = format!(
        "{} asked for {count} registered names within {} s that {how}: mean score {:.2}, {failed} of {} do not exist{found}",
        first.client,
        settings.window_s,
        verdict.mean,
        names.len()
    );
    Occurrence {
        kind: &GENERATED,
        rule: GeneratedNames.id(),
        severity: if verdict.how == How::Alike {
            SEVERITY_ALIKE
        } else {
            GENERATED.severity
        },
        confidence: if verdict.how == How::Alike { 0.5 } else { 0.8 },
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: String::new(),
        resource: whose.resource,
        role: Role::Actor,
        count: questions.len() as u64,
        first_ns: questions
            .iter()
            .map(|q| q.first_ns)
            .min()
            .unwrap_or(first.first_ns),
        last_ns: questions
            .iter()
            .map(|q| q.last_ns)
            .max()
            .unwrap_or(first.last_ns),
        action: evidence_of::dns_request(&first.name, &first.name, first.transport),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: questions
            .iter()
            .take(EVIDENCE_PER_WINDOW)
            .map(|question| evidence_of::question(question))
            .collect(),
        mitre: &["T1568.002"],
        description: format!("{title}. Malware meets its owner under such names; {why}."),
        title,
        why,
        first_look: &[
            "Which process asks, and who started it.",
            "Which of the names exists, and what the host said to the address behind it.",
            "Which other hosts ask for the same names.",
        ],
    }
}
