//! Unusual port: a host turns to a port of a public host that it never turned to before.
//! Reads: answered conversations with public hosts; which ports the host, and hosts alike, turned to on days
//! before. Fires: on a port below 32,768 that is not usual (met on two days or more) for the host nor for
//! hosts alike, once the host was heard on `learning_days` days; on ports 389 and 1389 without having
//! learned, where the host connects back to whoever asked it something within `callback_s` before.
//! Evidence: the port, the ports that are usual, the program and whether it is known, the conversations.
//! Severity: medium; high for 389 and 1389 (GuardDuty's word: possible log4j callback).
//! Innocent look-alikes: a new host (nothing is said of it), a new service of the fleet (hosts alike), ports
//! that everybody uses (`ports_ignored`), a client of many ports (`ports_usual_max`), LDAP inside. ATT&CK
//! T1571, T1190. Method: first met, by days.
//! First look: which process opened it, and since when it runs; what was said; what asked the host before.
//! Actor key: the protocol and port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::{Conversation, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::{Context, Detection, Occurrence};
use crate::conversation::{is_answered, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role, protocol_name};
use crate::history::{Traffic, is_outgoing, port_of, sending_program};
use crate::reach::is_public;

/// Settings of `network_port_unusual`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days on which a host must have been heard before anything is called unusual: 7, a week with its
    /// week-end.
    pub learning_days: u16,
    /// Ports that never count: name service, web, time, QUIC. Every host comes to them some day.
    pub ports_ignored: Vec<u16>,
    /// Usual ports from which a host is a client of anything, and a new one tells nothing: 40.
    pub ports_usual_max: usize,
    /// Seconds between a request to the host and its connecting back: 60.
    pub callback_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning_days: 7,
            ports_ignored: vec![53, 80, 123, 443],
            ports_usual_max: 40,
            callback_s: 60,
        }
    }
}

const UNUSUAL: FindingType = FindingType::guardduty("Behavior:EC2/NetworkPortUnusual", 5.0);

/// Severity on the ports that a log4j callback goes to.
const CALLBACK: f64 = 8.0;

/// LDAP, and the port that tools for the attack listen at by default.
const LDAP: [u16; 2] = [389, 1_389];

const TCP: u8 = 6;

/// Ports that a host never turned to.
pub(crate) struct NetworkPortUnusual;

impl Detection for NetworkPortUnusual {
    fn id(&self) -> &'static str {
        "network_port_unusual"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&UNUSUAL]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.network_port_unusual;
        let traffics = &context.history.traffics;
        let mut known: BTreeMap<IpAddr, Option<&Traffic>> = BTreeMap::new();
        let of_host = |client| traffics.of(&summary.host, &whose(&summary.host, client).subject);
        let asked = Asked::of(summary);
        for c in &summary.conversations {
            if !is_public(c.server) || settings.ports_ignored.contains(&c.server_port) {
                continue;
            }
            if let Some(asked) = asked.before(c, settings) {
                out.push(occurrence(summary, c, &callback_why(c, asked)));
            } else if is_outgoing(c)
                && let Some(port) = port_of(c)
                && let Some(host) = known.entry(c.client).or_insert_with(|| of_host(c.client))
                && let Some(why) =
                    unusual(c, port, host, || traffics.alike(&summary.host), settings)
            {
                out.push(occurrence(summary, c, &why));
            }
        }
    }
}

/// Says whether somebody turned to LDAP, or to the port of the tools.
fn is_ldap(c: &Conversation) -> bool {
    c.protocol == TCP && LDAP.contains(&c.server_port) && c.attempts > 0
}

/// What was asked of the hosts that turned to LDAP in a summary: by whom in particular, and by anybody
/// outside, each in the order of time.
struct Asked<'a>(BTreeMap<(IpAddr, Option<IpAddr>), Vec<&'a Conversation>>);

impl<'a> Asked<'a> {
    fn of(summary: &'a Summary) -> Self {
        let all = || summary.conversations.iter();
        let hosts: BTreeSet<IpAddr> = all().filter(|c| is_ldap(c)).map(|c| c.client).collect();
        let mut asked: BTreeMap<_, Vec<&Conversation>> = BTreeMap::new();
        let is_asked = |c: &&Conversation| {
            hosts.contains(&c.server) && !LDAP.contains(&c.server_port) && is_answered(c)
        };
        for c in all().filter(is_asked) {
            asked.entry((c.server, Some(c.client))).or_default().push(c);
            if is_public(c.client) {
                asked.entry((c.server, None)).or_default().push(c);
            }
        }
        for all in asked.values_mut() {
            all.sort_by_key(|c| c.first_ns);
        }
        Self(asked)
    }

    /// What was asked last before the host turned to an LDAP port of the same, or to the port of the tools of
    /// anybody.
    fn before(&self, c: &Conversation, settings: &Settings) -> Option<&'a Conversation> {
        if !is_ldap(c) {
            return None;
        }
        let by_anybody = c.server_port == 1_389 && is_answered(c);
        let asker = (!by_anybody).then_some(c.server);
        let wait_ns = settings.callback_s.saturating_mul(1_000_000_000);
        let earliest_ns = c.first_ns.saturating_sub(wait_ns);
        let all = self.0.get(&(c.client, asker))?;
        let before = all.partition_point(|one| one.first_ns <= c.first_ns);
        let last = before.checked_sub(1).and_then(|at| all.get(at))?;
        (last.first_ns >= earliest_ns).then_some(*last)
    }
}

fn callback_why(c: &Conversation, asked: &Conversation) -> String {
    let millis = c.first_ns.saturating_sub(asked.first_ns) / 1_000_000;
    format!(
        "{} asked {} at port {}, and {millis} ms later the latter opened a connection to port {} of {}",
        asked.client, c.client, asked.server_port, c.server_port, c.server
    )
}

/// Why a port is unusual for a host, if it is.
fn unusual<'a>(
    c: &Conversation,
    port: u16,
    host: &Traffic,
    alike: impl FnOnce() -> Option<&'a Traffic>,
    settings: &Settings,
) -> Option<String> {
    let now_ns = c.last_ns;
    let days = host.days_before(now_ns);
    let ports = host.ports_usual(now_ns);
    if days < settings.learning_days
        || ports > settings.ports_usual_max
        || host.is_port_usual(c.protocol, port, now_ns)
    {
        return None;
    }
    if alike().is_some_and(|alike| alike.is_port_usual(c.protocol, port, now_ns)) {
        return None;
    }
    let program = match sending_program(c) {
        Some(program) if host.program(program).is_some() => {
            format!("; the program is {}, which sent before", quote(program))
        }
        Some(program) => format!(
            "; the program is {}, which never sent much before",
            quote(program)
        ),
        None => String::new(),
    };
    Some(format!(
        "{} turned to {} port {port} of {}, which neither it nor hosts alike did on any of {days} days before; {ports} ports are usual for it{program}",
        c.client,
        protocol_name(c.protocol),
        c.server
    ))
}

fn occurrence(summary: &Summary, c: &Conversation, why: &str) -> Occurrence {
    let speaker = &summary.host;
    let whose = whose(speaker, c.client);
    let subject = quote(&whose.subject);
    let protocol = protocol_name(c.protocol);
    let is_ldap = LDAP.contains(&c.server_port);
    let severity = if is_ldap { CALLBACK } else { UNUSUAL.severity };
    let title = format!(
        "{subject} turned to the unusual port {} ({protocol})",
        c.server_port
    );
    let mut info = BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]);
    if is_ldap {
        info.insert("context".to_owned(), "Possible log4j callback".to_owned());
    }
    Occurrence {
        kind: &UNUSUAL,
        rule: NetworkPortUnusual.id(),
        severity,
        confidence: 0.7,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: format!("{protocol} {}", c.server_port),
        resource: whose.resource,
        role: Role::Actor,
        count: u64::from(c.flows.max(1)),
        first_ns: c.first_ns,
        last_ns: c.last_ns,
        action: evidence_of::connection(
            (c.client, c.client_port),
            (c.server, c.server_port),
            c.protocol,
            Direction::Outbound,
        ),
        additional_info: info,
        evidence: vec![evidence_of::conversation(c)],
        mitre: if is_ldap {
            &["T1190", "T1571"]
        } else {
            &["T1571"]
        },
        description: format!("{title} of {}.", c.server),
        title,
        why: why.to_owned(),
        first_look: &[
            "Which process opened the connection, and since when it runs.",
            "What was asked of the host just before.",
            "Whether something new was installed, here and on hosts alike.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, conversation, later, speaker, summary, unanswered};
    use picket_intel::IndicatorSet;

    const US: &str = "10.0.0.1";
    const DAY: u64 = 24 * 3_600;

    fn day(day: u64, conversations: Vec<Conversation>) -> Summary {
        let seen = Summary {
            conversations,
            ..summary(speaker())
        };
        later(seen, day * DAY)
    }

    /// A host that turns to 443 on so many days.
    fn learned(days: u64) -> Vec<Summary> {
        let web = || vec![conversation(US, "192.0.2.1", 443)];
        (0..days).map(|n| day(n, web())).collect()
    }

    #[track_caller]
    fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
        let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    fn then(days: u64, conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        let mut all = learned(days);
        all.push(day(days, conversations));
        check(all, expected);
    }

    const FOUND: &[(&str, f64, u64)] = &[("Behavior:EC2/NetworkPortUnusual", 5.0, 1)];
    const LOG4J: &[(&str, f64, u64)] = &[("Behavior:EC2/NetworkPortUnusual", 8.0, 1)];

    #[test]
    fn a_new_port_after_a_week_and_not_before() {
        let to = |port| vec![conversation(US, "198.51.100.9", port)];
        then(7, to(4_444), FOUND);
        then(6, to(4_444), &[]);
        then(0, to(4_444), &[]);
        then(7, to(443), &[]);
        then(7, to(53), &[]);
        then(7, to(40_000), &[]);
    }

    #[test]
    fn inside_and_without_an_answer_it_tells_nothing() {
        then(7, vec![conversation(US, "10.0.9.9", 4_444)], &[]);
        then(7, vec![unanswered(US, "198.51.100.9", 4_444)], &[]);
        then(7, vec![conversation("198.51.100.9", US, 4_444)], &[]);
    }

    #[test]
    fn one_day_makes_no_habit_and_two_do() {
        let to = || vec![conversation(US, "198.51.100.9", 4_444)];
        let days = |more: &[u64]| {
            let mut all = learned(10);
            all.extend(more.iter().map(|n| day(*n, to())));
            all
        };
        check(
            days(&[10, 11, 12]),
            &[("Behavior:EC2/NetworkPortUnusual", 5.0, 2)],
        );
        // Two days within the week of learning.
        let mut early = learned(7);
        early.insert(1, day(0, to()));
        early.insert(3, day(1, to()));
        early.push(day(7, to()));
        check(early, &[]);
    }

    #[test]
    fn hosts_alike_know_the_port() {
        let mut all = learned(8);
        for (at, n) in [(1, 0), (4, 1)] {
            let mut other = day(n, vec![conversation("10.0.0.2", "198.51.100.9", 4_444)]);
            other.host.instance = "i-0bbbbbbbbbbbbbbbb".into();
            other.host.local[0].address = crate::testing::ip("10.0.0.2");
            other.conversations[0].local = picket_wire::Side::Client;
            all.insert(at, other);
        }
        all.push(day(8, vec![conversation(US, "198.51.100.9", 4_444)]));
        check(all, &[]);
    }

    #[test]
    fn a_callback_needs_no_learning() {
        let asked = |by: &str, before_s: u64| {
            let mut request = conversation(by, US, 8_080);
            request.first_ns -= before_s * 1_000_000_000;
            request
        };
        let back = |port| unanswered(US, "198.51.100.9", port);
        then(0, vec![asked("198.51.100.9", 0), back(389)], LOG4J);
        then(0, vec![asked("198.51.100.9", 0), back(390)], &[]);
        then(0, vec![asked("198.51.100.9", 61), back(389)], &[]);
        then(0, vec![asked("203.0.113.5", 0), back(1_389)], &[]);
        let met = conversation(US, "198.51.100.9", 1_389);
        then(0, vec![asked("203.0.113.5", 0), met.clone()], LOG4J);
        then(0, vec![asked("10.0.5.5", 0), met.clone()], &[]);
        then(7, vec![met], LOG4J);
    }

    #[test]
    fn says_what_was_learned() {
        let mut all = learned(7);
        all.push(day(7, vec![conversation(US, "198.51.100.9", 4_444)]));
        let events = all.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(
            findings[0].picket.why,
            "10.0.0.1 turned to TCP port 4444 of 198.51.100.9, which neither it nor hosts alike did on any of 7 days before; \
             1 ports are usual for it"
        );
    }
}
