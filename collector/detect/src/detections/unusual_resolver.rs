//! Unusual resolver: a host asks for names where it did not before, in clear, over TLS or over HTTPS, past the
//! resolver that it has.
//! Reads: grouped questions; conversations at port 53 and 853, and those at 443 whose server is a known open
//! resolver by address or server name; per host, since when it asks whom. Fires: over TLS and HTTPS when a host
//! asks a server outside that it has not asked in this way for `usual_after_s`, whatever else is known of the
//! host; in clear only when the host has had another resolver for `established_s`.
//! Evidence: the conversation or the questions, who operates the resolver, how the host asks else, since when.
//! Severity: medium, as GuardDuty's.
//! Innocent look-alikes: a resolver at home in the network, the first hours after a start (in clear: quiet, as
//! the system's own resolver may be a public one), a host that resolves by itself or for others (many
//! servers, or clients), what is `expected`. A restart of the collector forgets what is younger than two days,
//! and of hosts that only query logs tell of everything: their resolver is told once more. ATT&CK T1071.004,
//! T1562.006. Method: first sight per host.
//! First look: which process asks; whether a resolver was configured by somebody; what was asked in clear before
//! and is not any more.
//! Actor key: the operator of the resolver, or its address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_intel::public_resolver;
use picket_wire::{Conversation, Host as Speaker, Question, Side, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, is_answered, is_own, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{Evidence, FindingType, Role};
use crate::history::{Resolving, Way};
use crate::reach::is_public;
use crate::resolvers;

/// Settings of `unusual_resolver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds after which a resolver that a host goes on asking is usual for it: a day. Resolvers are
    /// remembered for thirty days after they were last asked; over a restart of the collector those that
    /// were asked on two days, the first of which ended so long ago.
    pub usual_after_s: u64,
    /// Seconds for which a host must have had another resolver before one in clear is unusual: an hour, since
    /// a host that was just started may ask several.
    pub established_s: u64,
    /// Questions to that other resolver: 20, which a system makes within minutes.
    pub established_questions_min: u64,
    /// Servers outside that a host asks in clear, from which it is one that resolves by itself: 5. A host has
    /// two or three resolvers.
    pub servers_max: usize,
    /// Addresses and operators ("Google", "Quad9", …) that hosts are meant to ask. Empty: it is not known.
    pub expected: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            usual_after_s: 86_400,
            established_s: 3_600,
            established_questions_min: 20,
            servers_max: 5,
            expected: Vec::new(),
        }
    }
}

const DOH: FindingType = FindingType::guardduty("DefenseEvasion:EC2/UnusualDoHActivity", 5.0);
const DOT: FindingType = FindingType::guardduty("DefenseEvasion:EC2/UnusualDoTActivity", 5.0);
const CLEAR: FindingType = FindingType::guardduty("DefenseEvasion:EC2/UnusualDNSResolver", 5.0);

const DNS_PORT: u16 = 53;
/// DNS over TLS (RFC 7858 3.1) and over QUIC (RFC 9250 4.1.1).
const DOT_PORT: u16 = 853;
const HTTPS_PORT: u16 = 443;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Questions or conversations shown with one occurrence.
const EVIDENCE_PER_WINDOW: usize = 5;

/// Unusual resolvers.
pub(crate) struct UnusualResolver;

impl Detection for UnusualResolver {
    fn id(&self) -> &'static str {
        "unusual_resolver"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&DOH, &DOT, &CLEAR]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let uses = uses(summary);
        if uses.is_empty() {
            return;
        }
        let settings = &context.settings.detections.unusual_resolver;
        let speaker = SpeakerKey::of(&summary.host);
        let servers = servers(summary);
        let history = &mut context.history.resolvings;
        let noted: Vec<(Use<'_>, Resolving)> = uses
            .into_iter()
            .map(|one| {
                let known = history.note((speaker, one.client), one.resolving());
                (one, known)
            })
            .collect();
        for (one, known) in noted {
            if !known.public || is_expected(&one, settings) || servers.contains(&one.client) {
                continue;
            }
            let host = whose(&summary.host, one.client).subject;
            let traffics = &mut context.history.traffics;
            let usual_ns = settings.usual_after_s.saturating_mul(1_000_000_000);
            let is_usual = traffics
                .of(&summary.host, &host)
                .is_some_and(|kept| kept.is_resolver_usual(&one.kept(), usual_ns, one.last_ns));
            traffics.note_resolver(&summary.host, &host, one.kept(), one.last_ns);
            if is_usual {
                continue;
            }
            let others = context.history.resolvings.of(&(speaker, one.client));
            if let Some(grounds) = grounds(&known, others, settings) {
                out.push(occurrence(&summary.host, &one, &grounds));
            }
        }
    }
}

/// A host asks a resolver in a window.
struct Use<'a> {
    client: IpAddr,
    server: IpAddr,
    way: Way,
    who: Box<str>,
    port: u16,
    protocol: u8,
    client_port: u16,
    asked: u64,
    first_ns: u64,
    last_ns: u64,
    questions: Vec<&'a Question>,
    conversations: Vec<&'a Conversation>,
}

impl Use<'_> {
    /// What it goes by where it is kept over restarts.
    fn kept(&self) -> String {
        let way = match self.way {
            Way::Clear => "clear",
            Way::Tls => "tls",
            Way::Https => "https",
        };
        format!("{way} {}", self.who)
    }

    fn resolving(&self) -> Resolving {
        Resolving {
            way: self.way,
            who: self.who.clone(),
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            asked: self.asked,
            public: is_public(self.server),
        }
    }
}

/// Who asks whom in which way, in this window.
fn uses(summary: &Summary) -> Vec<Use<'_>> {
    let mut all: BTreeMap<(IpAddr, Way, Box<str>), Use<'_>> = BTreeMap::new();
    for question in summary.questions.iter().filter(|q| q.answered > 0) {
        let who = operator(question.resolver, None);
        let key = (question.client, Way::Clear, who.clone());
        let one = all.entry(key).or_insert_with(|| Use {
            client: question.client,
            server: question.resolver,
            way: Way::Clear,
            who,
            port: DNS_PORT,
            protocol: UDP,
            client_port: 0,
            asked: 0,
            first_ns: question.first_ns,
            last_ns: question.last_ns,
            questions: Vec::new(),
            conversations: Vec::new(),
        });
        one.asked += u64::from(question.asked.max(1));
        one.first_ns = one.first_ns.min(question.first_ns);
        one.last_ns = one.last_ns.max(question.last_ns);
        one.questions.push(question);
    }
    for c in summary.conversations.iter().filter(|c| asks(c)) {
        let Some(way) = way(c) else { continue };
        let who = operator(c.server, name(c));
        let key = (c.client, way, who.clone());
        let one = all.entry(key).or_insert_with(|| Use {
            client: c.client,
            server: c.server,
            way,
            who,
            port: c.server_port,
            protocol: c.protocol,
            client_port: c.client_port,
            asked: 0,
            first_ns: c.first_ns,
            last_ns: c.last_ns,
            questions: Vec::new(),
            conversations: Vec::new(),
        });
        // The questions themselves say better how many they are.
        if one.questions.is_empty() {
            one.asked += u64::from(c.flows.max(1));
        }
        one.client_port = c.client_port;
        one.protocol = c.protocol;
        one.first_ns = one.first_ns.min(c.first_ns);
        one.last_ns = one.last_ns.max(c.last_ns);
        one.conversations.push(c);
    }
    all.into_values().collect()
}

/// Says whether a conversation is of ours with a server that took part.
fn asks(c: &Conversation) -> bool {
    matches!(c.protocol, TCP | UDP) && c.local != Side::Server && is_answered(c)
}

fn way(c: &Conversation) -> Option<Way> {
    match c.server_port {
        DNS_PORT => Some(Way::Clear),
        DOT_PORT => Some(Way::Tls),
        HTTPS_PORT => {
            let named = name(c).and_then(resolvers::of_name).is_some();
            (named || public_resolver(c.server).is_some()).then_some(Way::Https)
        }
        _ => None,
    }
}

/// The server's name, as the client said or looked it up.
fn name(c: &Conversation) -> Option<&str> {
    c.tls_name.as_deref().or(c.dns_name.as_deref())
}

/// Whose a resolver is, or its address.
fn operator(server: IpAddr, name: Option<&str>) -> Box<str> {
    let known = name
        .and_then(resolvers::of_name)
        .or_else(|| public_resolver(server));
    known
        .map_or_else(|| server.to_canonical().to_string(), str::to_owned)
        .into()
}

fn is_expected(one: &Use<'_>, settings: &Settings) -> bool {
    let address = one.server.to_canonical().to_string();
    let is = |expected: &String| **expected == *one.who || *expected == address;
    settings.expected.iter().any(is)
}

/// Hosts that answer others' questions: what they ask is for those.
fn servers(summary: &Summary) -> BTreeSet<IpAddr> {
    let asked = summary.questions.iter().filter(|q| q.answered > 0);
    asked
        .filter(|q| !is_public(q.resolver) || is_own(&summary.host, q.resolver))
        .map(|q| q.resolver)
        .collect()
}

/// Why a resolver is unusual.
#[derive(Debug, Clone, PartialEq)]
struct Grounds {
    confidence: f64,
    words: String,
}

/// Says why a resolver is unusual for a host that has `others`, if it is.
fn grounds(known: &Resolving, others: &[Resolving], settings: &Settings) -> Option<Grounds> {
    let second = |s: u64| s.saturating_mul(1_000_000_000);
    let age_ns = known.last_ns.saturating_sub(known.first_ns);
    if age_ns >= second(settings.usual_after_s) {
        return None;
    }
    let clear = others
        .iter()
        .filter(|one| one.way == Way::Clear && one.who != known.who);
    let established = clear
        .filter(|one| {
            let before_ns = known.first_ns.saturating_sub(one.first_ns);
            before_ns >= second(settings.established_s)
                && one.asked >= settings.established_questions_min
        })
        .max_by_key(|one| one.asked);
    let minutes = |one: &Resolving| known.last_ns.saturating_sub(one.first_ns) / second(60);
    let since = others.iter().map(minutes).max().unwrap_or(0);
    match (known.way, established) {
        (Way::Clear, None) => None,
        (Way::Clear, Some(_)) if itself(others) >= settings.servers_max => None,
        (_, Some(one)) => Some(Grounds {
            confidence: 0.8,
            words: format!(
                "for {since} min it has asked {}, {} times",
                one.who, one.asked
            ),
        }),
        (Way::Tls | Way::Https, None) => Some(Grounds {
            confidence: 0.6,
            words: format!("it has been watched for {since} min, which tells no habit yet"),
        }),
    }
}

/// Servers outside that a host asks in clear.
fn itself(others: &[Resolving]) -> usize {
    let outside = |one: &&Resolving| one.way == Way::Clear && one.public;
    others.iter().filter(outside).count()
}

fn occurrence(speaker: &Speaker, one: &Use<'_>, grounds: &Grounds) -> Occurrence {
    let whose = whose(speaker, one.client);
    let subject = quote(&whose.subject);
    let (kind, how) = match one.way {
        Way::Clear => (&CLEAR, "DNS in clear"),
        Way::Tls => (&DOT, "DNS over TLS"),
        Way::Https => (&DOH, "DNS over HTTPS"),
    };
    let Use {
        client,
        server,
        who,
        port,
        ..
    } = one;
    let address = server.to_canonical();
    let at = match **who == *address.to_string() {
        true => address.to_string(),
        false => format!("{who} ({address})"),
    };
    let title = format!("{subject} resolves names past its resolver, by {how} at {at}");
    let shown = one
        .questions
        .iter()
        .map(|q| evidence_of::question(q))
        .chain(
            one.conversations
                .iter()
                .map(|c| evidence_of::conversation(c)),
        );
    let evidence: Vec<Evidence> = shown.take(EVIDENCE_PER_WINDOW).collect();
    Occurrence {
        kind,
        rule: UnusualResolver.id(),
        severity: kind.severity,
        confidence: grounds.confidence,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: who.to_string(),
        resource: whose.resource,
        role: Role::Actor,
        count: one.asked.max(1),
        first_ns: one.first_ns,
        last_ns: one.last_ns,
        action: evidence_of::connection(
            (*client, one.client_port),
            (*server, *port),
            one.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([
            ("unusual".to_owned(), who.to_string()),
            ("sensor".to_owned(), speaker.instance.clone()),
        ]),
        evidence,
        mitre: &["T1071.004", "T1562.006"],
        description: format!("{title}; it has no habit of that."),
        why: format!(
            "{client} asked {at} at port {port} by {how} {} times in a window; {}",
            one.asked, grounds.words
        ),
        title,
        first_look: &[
            "Which process asks, and whether anybody set this resolver up.",
            "What the host asked its own resolver before and does not any more.",
            "What the host connected to afterwards without a name.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::Analyzer;
    use crate::settings::Settings;
    use crate::testing::{
        analyze, brief, conversation, drain, ip, later, question, speaker, summary,
    };
    use picket_intel::IndicatorSet;

    const RESOLVED_BY: &str = "10.0.0.2";

    fn found(summaries: Vec<Summary>) -> Vec<crate::finding::Finding> {
        let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (mut findings, _) = analyze(IndicatorSet::default(), events);
        findings.retain(|f| f.picket.rule == UnusualResolver.id());
        findings
    }

    #[track_caller]
    fn check(name: &str, summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
        assert_eq!(brief(&found(summaries)), expected, "{name}");
    }

    fn talking(server: &str, port: u16, name: Option<&str>) -> Summary {
        let mut c = conversation("10.0.0.1", server, port);
        c.tls_name = name.map(str::to_owned);
        window(vec![c])
    }

    fn window(conversations: Vec<Conversation>) -> Summary {
        Summary {
            conversations,
            ..summary(speaker())
        }
    }

    fn asking(resolver: &str, times: u32) -> Summary {
        let one = Question {
            resolver: ip(resolver),
            asked: times,
            answered: times,
            ..question("10.0.0.1", "www.example.com")
        };
        Summary {
            questions: vec![one],
            ..summary(speaker())
        }
    }

    #[test]
    fn over_tls() {
        let dot: &[_] = &[(DOT.name, 5.0, 1)];
        check("TLS", vec![talking("192.0.2.53", 853, None)], dot);
        let mut quic = talking("192.0.2.53", 853, None);
        (
            quic.conversations[0].protocol,
            quic.conversations[0].accepted,
        ) = (17, 0);
        check("QUIC", vec![quic], dot);
        check("at home", vec![talking("10.0.0.53", 853, None)], &[]);
        let inbound = window(vec![conversation("192.0.2.53", "10.0.0.1", 853)]);
        check("asked of us", vec![inbound], &[]);
        let mut silent = talking("192.0.2.53", 853, None);
        silent.conversations[0] = crate::testing::unanswered("10.0.0.1", "192.0.2.53", 853);
        check("nobody answers", vec![silent], &[]);
    }

    #[test]
    fn over_https() {
        let doh: &[_] = &[(DOH.name, 5.0, 1)];
        let by_name = |name| vec![talking("192.0.2.53", 443, Some(name))];
        check("by name", by_name("mozilla.cloudflare-dns.com"), doh);
        check("by address", vec![talking("8.8.8.8", 443, None)], doh);
        check("of the same company", by_name("www.cloudflare.com"), &[]);
        check("elsewhere", vec![talking("192.0.2.53", 443, None)], &[]);
        let other = vec![talking("192.0.2.53", 8_443, Some("dns.google"))];
        check("another port", other, &[]);
    }

    #[test]
    fn in_clear_past_the_resolver_that_a_host_has() {
        let habit = |until_s: u64| -> Vec<Summary> {
            let one = |at| later(asking(RESOLVED_BY, 5), at);
            (0..until_s).step_by(600).map(one).collect()
        };
        let and = |mut all: Vec<Summary>, resolver: &str, at: u64| {
            all.push(later(asking(resolver, 1), at));
            all
        };
        let clear: &[_] = &[(CLEAR.name, 5.0, 1)];
        check("after hours", and(habit(7_200), "8.8.8.8", 7_200), clear);
        check(
            "one of no name",
            and(habit(7_200), "192.0.2.53", 7_200),
            clear,
        );
        check("one at home", and(habit(7_200), "10.0.9.9", 7_200), &[]);
        check(
            "soon after a start",
            and(habit(1_800), "8.8.8.8", 1_800),
            &[],
        );
        let both = vec![asking("8.8.8.8", 90), later(asking("8.8.8.8", 1), 7_200)];
        check("the system's own", both, &[]);
        let mut many = habit(7_200);
        many.extend((1..9).map(|n| later(asking(&format!("192.0.2.{n}"), 1), 7_200)));
        let by_itself = found(many);
        assert!(
            by_itself.len() < 5,
            "resolves by itself: {}",
            by_itself.len()
        );
    }

    #[test]
    fn what_goes_on_for_a_day_is_usual() {
        let at = |hours: u64| later(talking("192.0.2.53", 853, None), hours * 3_600);
        check(
            "a day later",
            vec![at(0), at(25), at(26)],
            &[(DOT.name, 5.0, 1)],
        );
        check("within the day", vec![at(0), at(20)], &[(DOT.name, 5.0, 2)]);
    }

    #[test]
    fn a_habit_outlives_a_restart() {
        let after = |days: &[u64], restart: u64| {
            let at = |day: u64| {
                Event::Summary(Box::new(later(
                    talking("192.0.2.53", 853, None),
                    day * 86_400,
                )))
            };
            let mut before = Analyzer::new(Settings::default(), IndicatorSet::default());
            for day in days {
                // The first window makes the host known, the next its resolver.
                before.on_event(at(*day));
                let next = later(talking("192.0.2.53", 853, None), day * 86_400 + 10);
                before.on_event(Event::Summary(Box::new(next)));
            }
            let mut one = Analyzer::new(Settings::default(), IndicatorSet::default());
            one.set_learned(before.learned());
            one.on_event(at(restart));
            one.finish();
            let (mut found, _) = drain(&mut one);
            found.retain(|f| f.picket.rule == UnusualResolver.id());
            found.len()
        };
        assert_eq!(after(&[0, 1, 2], 3), 0);
        assert_eq!(after(&[0, 2], 2), 0);
        // One day is no habit, nor are two less than a day long, nor what ended half a year ago.
        assert_eq!(after(&[0], 3), 1);
        assert_eq!(after(&[0, 1], 1), 1);
        assert_eq!(after(&[0, 1, 2], 180), 1);
    }

    #[test]
    fn says_how_the_host_asks_else() {
        let told = found(vec![
            asking(RESOLVED_BY, 40),
            later(talking("192.0.2.53", 853, None), 7_200),
        ]);
        assert_eq!(
            told[0].picket.why,
            "10.0.0.1 asked 192.0.2.53 at port 853 by DNS over TLS 1 times in a window; for 120 min it has \
             asked 10.0.0.2, 40 times"
        );
    }
}
