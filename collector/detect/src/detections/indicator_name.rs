//! Listed names: a host asks for one, or for one that turns out to be an alias of one.
//! Reads: hits on questions; grouped questions and the aliases in their answers, against the
//! collector's own lists. Fires: at once, at the first question.
//! Evidence: the hit (list, version, packet time, process) and the question (type, how often, what
//! came back). Severity: by category and confidence of the list, see `verdict.rs`.
//! Innocent look-alikes: names that only end alike (cut at label boundaries), a resolver that passes
//! its clients' questions on. ATT&CK T1071, T1496, T1568.002 and others by category.
//! First look: which process asked; whether the host then connected to what came back.
//! Occurrence: a question. Actor key: the listed domain, so that names below it are one finding.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::IndicatorSet;
use picket_wire::{Hit, HitKind, Host as Speaker, Question, Transport};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::verdict::{Callers, Met, NAME_TYPES, Standing, Verdict, verdict};
use super::{Context, Detection, Occurrence};
use crate::conversation::whose;
use crate::event::{Event, SourceKind};
use crate::finding::{Evidence, FindingType, Role};
use crate::forwarding::Forwarding;
use crate::history::Sightings;

/// Settings of `indicator_name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Follow aliases (CNAME) in answers: true, since a fresh name that points to a listed one is
    /// the usual way round a list.
    pub follow_aliases: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            follow_aliases: true,
        }
    }
}

/// Listed names.
pub(crate) struct IndicatorName;

impl Detection for IndicatorName {
    fn id(&self) -> &'static str {
        "indicator_name"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        NAME_TYPES
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.indicator_name;
        let forwarding = Forwarding::of(summary);
        let mut meetings = Vec::new();
        for hit in &summary.hits {
            meetings.extend(of_hit(hit, context.intel));
        }
        for question in &summary.questions {
            of_question(question, context.intel, settings, &mut meetings);
        }
        let speaker = &summary.host;
        for meeting in meetings {
            if forwarding.is_passed_on(meeting.client, meeting.name) {
                continue;
            }
            let Some(verdict) = verdict_of(meeting.standing) else {
                continue;
            };
            let subject = whose(speaker, meeting.client).subject;
            let parts = [
                verdict.kind.name,
                &speaker.account,
                &speaker.region,
                &speaker.instance,
                &subject,
                meeting.name,
            ];
            let key = Sightings::key(&parts, meeting.first_ns);
            let sightings = &mut context.history.sightings;
            let count = match meeting.told {
                Told::Packet(src, dst) => sightings.told(key, (meeting.first_ns, src, dst)),
                Told::Questions(asked) => sightings.found(key, meeting.first_ns, asked),
            };
            out.push(occurrence(speaker, &verdict, meeting, count));
        }
    }
}

/// What asking for an entry of such a list means.
fn verdict_of(standing: Standing) -> Option<Verdict> {
    verdict(standing, Met::Asked, &Callers::default())
}

/// A host asks for something listed.
struct Meeting<'a> {
    standing: Standing,
    indicator: String,
    list: String,
    client: IpAddr,
    resolver: IpAddr,
    transport: Transport,
    name: &'a str,
    /// The name that is listed, if it is an alias in the answer and not the name asked for.
    alias: Option<&'a str>,
    first_ns: u64,
    last_ns: u64,
    told: Told,
    evidence: Evidence,
}

/// How often it was asked, and by whom that is told.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// The agent tells of a packet with these ports.
    Packet(u16, u16),
    /// The collector finds so many questions.
    Questions(u64),
}

fn of_hit<'a>(hit: &'a Hit, intel: &IndicatorSet) -> Option<Meeting<'a>> {
    const TCP: u8 = 6;
    if hit.kind != HitKind::Question {
        return None;
    }
    Some(Meeting {
        standing: Standing::of_hit(hit, intel)?,
        indicator: hit.indicator.clone(),
        list: hit.list.clone(),
        client: hit.src,
        resolver: hit.dst,
        transport: if hit.protocol == TCP {
            Transport::Tcp
        } else {
            Transport::Udp
        },
        name: hit.name.as_deref().unwrap_or(&hit.indicator),
        alias: None,
        first_ns: hit.time_ns,
        last_ns: hit.time_ns,
        told: Told::Packet(hit.src_port, hit.dst_port),
        evidence: evidence_of::hit(hit),
    })
}

/// The categories a question's name or its aliases are listed under, each by the entry that makes
/// most of it, the most specific among equals.
fn of_question<'a>(
    question: &'a Question,
    intel: &IndicatorSet,
    settings: &Settings,
    out: &mut Vec<Meeting<'a>>,
) {
    const CNAME: u16 = 5;
    let aliases = question
        .answers
        .iter()
        .filter(|answer| settings.follow_aliases && answer.rtype == CNAME)
        .map(|answer| Some(answer.data.trim_end_matches('.')));
    let mut best: Vec<(f64, Meeting<'a>)> = Vec::new();
    for alias in std::iter::once(None).chain(aliases) {
        for found in intel.match_domain(alias.unwrap_or(&question.name)) {
            let standing = Standing::from(found.list);
            let Some(Verdict { severity, .. }) = verdict_of(standing) else {
                continue;
            };
            let category = standing.category;
            let known = best
                .iter()
                .position(|(_, best)| best.standing.category == category);
            if known.is_some_and(|at| best[at].0 >= severity) {
                continue;
            }
            let meeting = Meeting {
                standing,
                indicator: found.indicator.to_string(),
                list: found.list.name.clone(),
                client: question.client,
                resolver: question.resolver,
                transport: question.transport,
                name: &question.name,
                alias,
                first_ns: question.first_ns,
                last_ns: question.last_ns,
                told: Told::Questions(u64::from(question.asked.max(1))),
                evidence: evidence_of::question(question),
            };
            match known {
                Some(at) => best[at] = (severity, meeting),
                None => best.push((severity, meeting)),
            }
        }
    }
    out.extend(best.into_iter().map(|(_, meeting)| meeting));
}

fn occurrence(
    speaker: &Speaker,
    verdict: &Verdict,
    meeting: Meeting<'_>,
    count: u64,
) -> Occurrence {
    let whose = whose(speaker, meeting.client);
    let (subject, name) = (quote(&whose.subject), quote(meeting.name));
    let Meeting {
        client,
        resolver,
        standing,
        indicator,
        list,
        ..
    } = meeting;
    let category = standing.category;
    let title = format!("{subject} asked for {name}, {}", verdict.what);
    let via = meeting
        .alias
        .map(|alias| format!(", an alias of {}", quote(alias)))
        .unwrap_or_default();
    let why = format!(
        "{client} asked {resolver} for {name}{via}; {indicator} stands on {list} ({category})"
    );
    Occurrence {
        kind: verdict.kind,
        rule: IndicatorName.id(),
        severity: verdict.severity,
        // That it was asked is certain; that it was meant is not.
        confidence: standing.at_most(0.9),
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: indicator.clone(),
        resource: whose.resource,
        role: Role::Actor,
        count,
        first_ns: meeting.first_ns,
        last_ns: meeting.last_ns,
        action: evidence_of::dns_request(meeting.name, &indicator, meeting.transport),
        additional_info: BTreeMap::from([
            ("threatListName".to_owned(), list.clone()),
            ("threatName".to_owned(), category.to_string()),
            ("sensor".to_owned(), speaker.instance.clone()),
        ]),
        evidence: vec![meeting.evidence],
        mitre: verdict.mitre,
        description: format!("{title}. Listed as {indicator} on {list}."),
        title,
        why,
        first_look: &[
            "Which process asked, and who started it.",
            "Whether the host connected to the addresses that came back.",
            "Who else asked for the same name, and since when.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        analyze, brief, intel, later, mirror, name_hit, question, speaker, summary,
    };
    use picket_intel::{Category, Direction, Indicator, List, SetBuilder};
    use picket_wire::{Answer, Net, Summary};

    const C2: &str = "Backdoor:EC2/C&CActivity.B!DNS";

    fn lists() -> IndicatorSet {
        intel(&[
            (Category::C2, "evil.example"),
            (Category::Mining, "pool.example"),
            (Category::Custom, "mine.example"),
        ])
    }

    fn asking(questions: Vec<Question>) -> Summary {
        Summary {
            questions,
            ..summary(speaker())
        }
    }

    #[track_caller]
    fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
        let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(lists(), events);
        assert_eq!(brief(&findings), expected);
    }

    #[test]
    fn a_host_that_asks_for_a_listed_name() {
        let asks = |name| vec![asking(vec![question("10.0.0.1", name)])];
        check(asks("evil.example"), &[(C2, 8.0, 1)]);
        check(asks("a.b.evil.example"), &[(C2, 8.0, 1)]);
        check(
            asks("eu.pool.example"),
            &[("CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.0, 1)],
        );
        check(
            asks("mine.example"),
            &[("Impact:EC2/MaliciousDomainRequest.Custom", 5.0, 1)],
        );
        check(asks("notevil.example"), &[]);
        check(asks("evil.example.com"), &[]);
        check(asks("example"), &[]);
        check(asks(""), &[]);
    }

    #[test]
    fn questions_count_and_names_below_one_domain_are_one_finding() {
        let mut twice = question("10.0.0.1", "a.evil.example");
        twice.asked = 2;
        let window = asking(vec![twice, question("10.0.0.1", "b.evil.example")]);
        check(vec![window.clone()], &[(C2, 8.0, 3)]);
        check(vec![window.clone(), later(window, 10)], &[(C2, 8.0, 6)]);
    }

    #[test]
    fn what_both_sides_tell_counts_once() {
        let hit = name_hit("10.0.0.1", "a.evil.example", "evil.example", "c2");
        let told = Summary {
            immediate: true,
            hits: vec![hit],
            ..summary(speaker())
        };
        let window = asking(vec![question("10.0.0.1", "a.evil.example")]);
        check(vec![told.clone(), window.clone()], &[(C2, 8.0, 1)]);
        check(vec![window.clone(), told.clone()], &[(C2, 8.0, 1)]);
        check(vec![told.clone()], &[(C2, 8.0, 1)]);
        check(vec![told, later(window, 10)], &[(C2, 8.0, 2)]);
    }

    #[test]
    fn an_alias_of_a_listed_name_counts() {
        let mut aliased = question("10.0.0.1", "fresh.example");
        let alias = |rtype, data: &str| Answer {
            rtype,
            data: data.into(),
        };
        aliased.answers = vec![alias(5, "x.evil.example."), alias(1, "192.0.2.1")];
        check(vec![asking(vec![aliased.clone()])], &[(C2, 8.0, 1)]);
        aliased.answers = vec![alias(16, "x.evil.example")];
        check(vec![asking(vec![aliased])], &[]);
    }

    #[test]
    fn a_resolver_that_passes_questions_on_is_not_their_author() {
        let mut host = speaker();
        host.local = vec![Net {
            address: "10.0.0.2".parse().unwrap(),
            prefix: 32,
        }];
        let mut upstream = question("10.0.0.2", "evil.example");
        upstream.resolver = "192.0.2.53".parse().unwrap();
        let resolver = |questions| Summary {
            questions,
            ..summary(host.clone())
        };
        let passed_on = resolver(vec![question("10.0.0.9", "evil.example"), upstream.clone()]);
        let (findings, _) = analyze(lists(), [Event::Summary(Box::new(passed_on))]);
        assert_eq!(brief(&findings), [(C2, 8.0, 1)]);
        assert_eq!(findings[0].resource.instance_id(), Some("10.0.0.9"));
        // On its own behalf it is.
        let own = resolver(vec![upstream]);
        let (findings, _) = analyze(lists(), [Event::Summary(Box::new(own))]);
        assert_eq!(
            findings[0].resource.instance_id(),
            Some("i-0aaaaaaaaaaaaaaaa")
        );
    }

    #[test]
    fn a_mirror_tells_clients_apart() {
        let mut window = asking(vec![
            question("10.7.0.1", "evil.example"),
            question("10.7.0.2", "evil.example"),
        ]);
        window.host = mirror();
        check(vec![window], &[(C2, 8.0, 1), (C2, 8.0, 1)]);
    }

    /// Lists of one name each, with what they are.
    fn graded(rows: &[(&str, Direction, u8)]) -> IndicatorSet {
        let mut builder = SetBuilder::default();
        for (at, (name, direction, confidence)) in rows.iter().enumerate() {
            let list = List {
                direction: *direction,
                confidence: *confidence,
                ..List::new(format!("list-{at}"), Category::C2)
            };
            let list = builder.list(list).unwrap();
            builder.add(list, Indicator::domain(name).unwrap()).unwrap();
        }
        builder.build()
    }

    #[track_caller]
    fn check_of(lists: IndicatorSet, summary: Summary, expected: &[(&str, f64, u64)], list: &str) {
        let (findings, _) = analyze(lists, [Event::Summary(Box::new(summary))]);
        assert_eq!(brief(&findings), expected);
        for finding in &findings {
            assert!(finding.picket.why.contains(list), "{}", finding.picket.why);
        }
    }

    #[test]
    fn the_list_that_makes_most_of_it_speaks() {
        let asked = || asking(vec![question("10.0.0.1", "a.evil.example")]);
        let (both, inbound) = (Direction::Both, Direction::Inbound);
        let doubtful = ("a.evil.example", both, 20);
        check_of(graded(&[doubtful]), asked(), &[(C2, 2.0, 1)], "list-0");
        let sure = ("evil.example", both, 90);
        check_of(
            graded(&[doubtful, sure]),
            asked(),
            &[(C2, 8.0, 1)],
            "list-1",
        );
        let attackers = ("a.evil.example", inbound, 90);
        check_of(
            graded(&[attackers, sure]),
            asked(),
            &[(C2, 8.0, 1)],
            "list-1",
        );
        check_of(graded(&[attackers]), asked(), &[], "");
    }

    #[test]
    fn a_hit_counts_as_much_as_its_list() {
        let told = |list: &str| {
            let mut hit = name_hit("10.0.0.1", "a.evil.example", "evil.example", "c2");
            hit.list = list.to_owned();
            Summary {
                immediate: true,
                hits: vec![hit],
                ..summary(speaker())
            }
        };
        let lists = || graded(&[("evil.example", Direction::Both, 20)]);
        check_of(lists(), told("list-0"), &[(C2, 2.0, 1)], "list-0");
        // One that only the agent has counts as is usual.
        check_of(lists(), told("local"), &[(C2, 8.0, 1)], "local");
    }
}
