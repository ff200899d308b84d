//! Listed addresses: a host talks to one, or one talks to a host and is answered.
//! A host that speaks Stratum, the protocol of miners, is one that talks to a mining pool, listed or
//! not.
//! Reads: hits on addresses, TLS server names and Stratum; conversations, against the collector's own lists,
//! so that a list that came late still finds. Fires: at once on what a host opens; on what a listed
//! address opens once the host answers.
//! Evidence: the hit (list, version, packet time, process) and the conversation (bytes both ways,
//! TLS name, JA4, name that led there). Severity: by category, see `verdict.rs`; callers at most
//! `callers.severity_max`, scanners only where answered.
//! Innocent look-alikes: unanswered knocks from the internet, stray answers to forged questions, a
//! list that names an address of our own. ATT&CK T1071, T1496, T1090.003 and others by category.
//! First look: which process holds the socket; what name led there; what else the host's role did.
//! Occurrence: a flow begun, or a window in which one went on. Actor key: the peer's address; for a
//! TLS name the listed domain.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::{Category, Match};
use picket_wire::{Conversation, Hit, HitKind, Host as Speaker, Opened, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, End, quote};
use super::verdict::{ADDRESS_TYPES, Callers, Met, Verdict, verdict};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, is_answered, is_own, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{Evidence, FindingType, Role, protocol_name};
use crate::history::{History, Sightings};

/// Settings of `indicator_address`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Listed addresses that call.
    pub callers: Callers,
}

/// Listed addresses.
pub(crate) struct IndicatorAddress;

impl Detection for IndicatorAddress {
    fn id(&self) -> &'static str {
        "indicator_address"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        ADDRESS_TYPES
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let mut judge = Judge {
            summary,
            speaker: SpeakerKey::of(&summary.host),
            callers: &context.settings.detections.indicator_address.callers,
            history: context.history,
            out,
        };
        for hit in &summary.hits {
            judge.on_hit(hit);
        }
        for conversation in &summary.conversations {
            let (server, client) = (conversation.server, conversation.client);
            let by_server = context
                .intel
                .match_address(server, conversation.server_port);
            let by_client = context
                .intel
                .match_address(client, conversation.client_port);
            let tls_name = conversation.tls_name.as_deref();
            let by_name = tls_name.map(|name| context.intel.match_domain(name));
            judge.on_conversation(conversation, server, &by_server);
            judge.on_conversation(conversation, client, &by_client);
            judge.on_tls_name(conversation, &by_name.unwrap_or_default());
        }
    }
}

/// What is listed and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    category: Category,
    indicator: String,
    list: String,
}

impl From<&Match<'_>> for Listed {
    fn from(found: &Match<'_>) -> Self {
        Self {
            category: found.list.category,
            indicator: found.indicator.to_string(),
            list: found.list.name.clone(),
        }
    }
}

impl Listed {
    /// `None` for a category that a newer agent knows and we do not.
    fn of_hit(hit: &Hit) -> Option<Self> {
        Some(Self {
            category: hit.category.parse().ok()?,
            indicator: hit.indicator.clone(),
            list: hit.list.clone(),
        })
    }
}

/// A host meets something listed.
struct Meeting<'a> {
    listed: &'a Listed,
    met: Met,
    direction: Direction,
    host: End,
    peer: End,
    protocol: u8,
    /// The TLS server name, if that is what is listed.
    name: Option<&'a str>,
    first_ns: u64,
    last_ns: u64,
    evidence: Evidence,
}

/// How often a meeting was met, and by whom that is told.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// The agent tells of a packet with these ports.
    Packet(u16, u16),
    /// The agent tells of a packet with these ports in which a miner speaks.
    Spoken(u16, u16),
    /// The collector finds so many flows.
    Flows(u64),
}

struct Judge<'a, 'b> {
    summary: &'a Summary,
    speaker: SpeakerKey,
    callers: &'a Callers,
    history: &'b mut History,
    out: &'b mut Vec<Occurrence>,
}

impl Judge<'_, '_> {
    fn on_hit(&mut self, hit: &Hit) {
        let listed_end = if hit.source_listed { hit.src } else { hit.dst };
        let met = match hit.kind {
            HitKind::Question => return,
            HitKind::Address if is_own(&self.summary.host, listed_end) => return,
            // What came in waits for the conversation, which tells whether it was answered.
            HitKind::Address if hit.source_listed => {
                self.history.knocks.put(self.speaker, hit);
                return;
            }
            HitKind::Address => Met::Opened,
            HitKind::TlsName => Met::Named,
            HitKind::Stratum => return self.on_stratum(hit),
        };
        let Some(listed) = Listed::of_hit(hit) else {
            return;
        };
        let meeting = Meeting {
            listed: &listed,
            met,
            direction: Direction::Outbound,
            host: (hit.src, hit.src_port),
            peer: (hit.dst, hit.dst_port),
            protocol: hit.protocol,
            name: hit.name.as_deref().filter(|_| met == Met::Named),
            first_ns: hit.time_ns,
            last_ns: hit.time_ns,
            evidence: evidence_of::hit(hit),
        };
        self.report(meeting, Told::Packet(hit.src_port, hit.dst_port));
    }

    /// A miner's call: the miner is the host, unless only its pool is one of ours.
    fn on_stratum(&mut self, hit: &Hit) {
        let listed = Listed {
            category: Category::Mining,
            indicator: hit.indicator.clone(),
            list: String::new(),
        };
        let (miner, pool) = ((hit.src, hit.src_port), (hit.dst, hit.dst_port));
        let speaker = &self.summary.host;
        let serves = is_own(speaker, hit.dst) && !is_own(speaker, hit.src);
        let (direction, host, peer) = if serves {
            (Direction::Inbound, pool, miner)
        } else {
            (Direction::Outbound, miner, pool)
        };
        let meeting = Meeting {
            listed: &listed,
            met: Met::Spoke,
            direction,
            host,
            peer,
            protocol: hit.protocol,
            name: None,
            first_ns: hit.time_ns,
            last_ns: hit.time_ns,
            evidence: evidence_of::hit(hit),
        };
        self.report(meeting, Told::Spoken(hit.src_port, hit.dst_port));
    }

    /// Judges a conversation from the end that is not `listed`. A hit that was told of it earlier
    /// says what is listed even where our own lists do not.
    fn on_conversation(&mut self, c: &Conversation, listed_end: IpAddr, found: &[Match<'_>]) {
        let knocks = self.history.knocks.of(self.speaker, c, listed_end);
        let of_knocks = knocks.filter_map(Listed::of_hit);
        let all: Vec<Listed> = found.iter().map(Listed::from).chain(of_knocks).collect();
        if all.is_empty() || is_own(&self.summary.host, listed_end) {
            return;
        }
        let Some((met, direction)) = meeting_of(c, listed_end) else {
            return;
        };
        let (client, server) = ((c.client, c.client_port), (c.server, c.server_port));
        let (host, peer) = if listed_end == c.server {
            (client, server)
        } else {
            (server, client)
        };
        let mut seen: Vec<Category> = Vec::new();
        for listed in &all {
            // The most specific entry of a category speaks for it.
            if seen.contains(&listed.category) {
                continue;
            }
            seen.push(listed.category);
            let meeting = Meeting {
                listed,
                met,
                direction,
                host,
                peer,
                protocol: c.protocol,
                name: None,
                first_ns: c.first_ns,
                last_ns: c.last_ns,
                evidence: evidence_of::conversation(c),
            };
            self.report(meeting, Told::Flows(flows_begun(c)));
        }
    }

    fn on_tls_name(&mut self, c: &Conversation, found: &[Match<'_>]) {
        let mut seen: Vec<Category> = Vec::new();
        for found in found {
            let listed = Listed::from(found);
            if seen.contains(&listed.category) {
                continue;
            }
            seen.push(listed.category);
            let meeting = Meeting {
                listed: &listed,
                met: Met::Named,
                direction: Direction::Outbound,
                host: (c.client, c.client_port),
                peer: (c.server, c.server_port),
                protocol: c.protocol,
                name: c.tls_name.as_deref(),
                first_ns: c.first_ns,
                last_ns: c.last_ns,
                evidence: evidence_of::conversation(c),
            };
            self.report(meeting, Told::Flows(flows_begun(c)));
        }
    }

    fn report(&mut self, meeting: Meeting<'_>, told: Told) {
        let Some(verdict) = verdict(meeting.listed.category, meeting.met, self.callers) else {
            return;
        };
        let speaker = &self.summary.host;
        let actor = match meeting.met {
            Met::Named => meeting.listed.indicator.clone(),
            _ => meeting.peer.0.to_canonical().to_string(),
        };
        let subject = whose(speaker, meeting.host.0).subject;
        let parts = [
            verdict.kind.name,
            &speaker.account,
            &speaker.region,
            &speaker.instance,
            &subject,
            &actor,
        ];
        let key = Sightings::key(&parts, meeting.first_ns);
        let sightings = &mut self.history.sightings;
        let count = match told {
            Told::Packet(src, dst) => sightings.told(key, (meeting.first_ns, src, dst)),
            Told::Spoken(src, dst) => sightings.spoken(key, (meeting.first_ns, src, dst)),
            Told::Flows(flows) => sightings.found(key, meeting.first_ns, flows),
        };
        self.out
            .push(occurrence(speaker, &verdict, meeting, actor, count));
    }
}

/// How the end of `c` that is not listed met the one that is; `None` if it only was knocked at.
fn meeting_of(c: &Conversation, listed_end: IpAddr) -> Option<(Met, Direction)> {
    let sent_by_host = if listed_end == c.server {
        c.packets_out
    } else {
        c.packets_in
    };
    if c.opened == Opened::Unknown {
        return (sent_by_host > 0).then_some((Met::Opened, Direction::Unknown));
    }
    if listed_end == c.server {
        return (sent_by_host > 0).then_some((Met::Opened, Direction::Outbound));
    }
    let port = c.server_port;
    is_answered(c).then_some((Met::Answered { port }, Direction::Inbound))
}

/// Flows begun in the window, or one that went on.
fn flows_begun(c: &Conversation) -> u64 {
    const TCP: u8 = 6;
    let begun = if c.protocol == TCP {
        c.attempts
    } else {
        c.flows
    };
    u64::from(begun.max(1))
}

fn occurrence(
    speaker: &Speaker,
    verdict: &Verdict,
    meeting: Meeting<'_>,
    actor: String,
    count: u64,
) -> Occurrence {
    let whose = whose(speaker, meeting.host.0);
    let subject = quote(&whose.subject);
    let Listed {
        indicator,
        list,
        category,
    } = meeting.listed;
    let ((own, own_port), (peer, port)) = (meeting.host, meeting.peer);
    let answered = matches!(meeting.met, Met::Answered { .. });
    let what = verdict.what;
    let proto = protocol_name(meeting.protocol);
    let (title, why) = match (meeting.met, meeting.name) {
        (Met::Answered { .. }, _) => (
            format!("{subject} answered {peer}, {what}"),
            format!(
                "{peer} reached {own} on {proto} port {own_port} and was answered; {indicator} stands on {list} ({category})"
            ),
        ),
        (Met::Spoke, _) => (
            format!("{subject} speaks Stratum with {peer}, {what}"),
            format!(
                "{own} and {peer} port {port} speak the protocol of miners over {proto}: {} was called; no list was needed",
                quote(indicator)
            ),
        ),
        (_, Some(name)) => (
            format!("{subject} opened TLS to {}, {what}", quote(name)),
            format!(
                "{own} named {} to {peer} port {port}; {indicator} stands on {list} ({category})",
                quote(name)
            ),
        ),
        _ => (
            format!("{subject} talks to {peer}, {what}"),
            format!(
                "{own} sent to {peer} on {proto} port {port}; {indicator} stands on {list} ({category})"
            ),
        ),
    };
    let mut additional_info = BTreeMap::from([
        ("threatName".to_owned(), category.to_string()),
        ("sensor".to_owned(), speaker.instance.clone()),
    ]);
    let description = if meeting.met == Met::Spoke {
        format!("{title}. The protocol was seen; no list names the other end.")
    } else {
        additional_info.insert("threatListName".to_owned(), list.clone());
        format!("{title}. Listed as {indicator} on {list}.")
    };
    Occurrence {
        kind: verdict.kind,
        rule: IndicatorAddress.id(),
        severity: verdict.severity,
        // A list is as good as its maker; that it was met is certain.
        confidence: if answered { 0.5 } else { 0.9 },
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor,
        resource: whose.resource,
        role: if answered { Role::Target } else { Role::Actor },
        count,
        first_ns: meeting.first_ns,
        last_ns: meeting.last_ns,
        action: if verdict.kind.name.contains("PortProbe") {
            evidence_of::port_probe(meeting.host, peer)
        } else {
            evidence_of::connection(
                meeting.host,
                meeting.peer,
                meeting.protocol,
                meeting.direction,
            )
        },
        additional_info,
        evidence: vec![meeting.evidence],
        mitre: verdict.mitre,
        title,
        description,
        why,
        first_look: &[
            "Which process holds the socket, and who started it.",
            "Which name the host asked for before it connected.",
            "What else this host, and who else, sent to the same address.",
            "What the host's role did since, in CloudTrail.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        SECOND, address_hit, analyze, brief, conversation, intel, later, mirror, speaker, summary,
        unanswered,
    };
    use picket_intel::IndicatorSet;
    use picket_wire::Host;

    const C2: &str = "Backdoor:EC2/C&CActivity.B";

    fn lists() -> IndicatorSet {
        intel(&[
            (Category::C2, "192.0.2.7"),
            (Category::Mining, "192.0.2.8:3333"),
            (Category::Scanner, "192.0.2.9"),
            (Category::Custom, "2001:db8::/32"),
            (Category::Mining, "pool.example"),
        ])
    }

    fn of(host: Host, conversations: Vec<Conversation>) -> Summary {
        Summary {
            conversations,
            ..summary(host)
        }
    }

    #[track_caller]
    fn check(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        let event = Event::Summary(Box::new(of(speaker(), conversations)));
        let (findings, _) = analyze(lists(), [event]);
        assert_eq!(brief(&findings), expected);
    }

    #[test]
    fn a_host_that_opens_to_a_listed_address() {
        let opens = |to, port| vec![conversation("10.0.0.1", to, port)];
        check(opens("192.0.2.7", 443), &[(C2, 8.0, 1)]);
        check(
            opens("192.0.2.8", 3333),
            &[("CryptoCurrency:EC2/BitcoinTool.B", 8.0, 1)],
        );
        check(
            opens("2001:db8::5", 443),
            &[("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom", 5.0, 1)],
        );
        // An attempt is enough.
        check(
            vec![unanswered("10.0.0.1", "192.0.2.7", 443)],
            &[(C2, 8.0, 1)],
        );
        // Near misses: another address, another port of an endpoint, another net, a scanner's site.
        check(opens("192.0.2.6", 443), &[]);
        check(opens("192.0.2.8", 3334), &[]);
        check(opens("2001:db9::5", 443), &[]);
        check(opens("192.0.2.9", 443), &[]);
    }

    #[test]
    fn a_listed_address_that_calls() {
        let called = |from, port| vec![conversation(from, "10.0.0.1", port)];
        check(called("192.0.2.7", 22), &[(C2, 3.0, 1)]);
        check(
            called("192.0.2.9", 22),
            &[("Recon:EC2/PortProbeUnprotectedPort", 2.0, 1)],
        );
        // Near misses: not answered, refused, a public port, not listed.
        check(vec![unanswered("192.0.2.7", "10.0.0.1", 22)], &[]);
        let mut refused = unanswered("192.0.2.9", "10.0.0.1", 22);
        (refused.flags_in, refused.packets_in, refused.refused) = (0x14, 1, 1);
        check(vec![refused], &[]);
        check(called("192.0.2.9", 443), &[]);
        check(called("192.0.2.6", 22), &[]);
    }

    #[test]
    fn stray_answers_of_a_listed_address_are_nothing() {
        let mut stray = conversation("10.0.0.1", "192.0.2.7", 80);
        (stray.opened, stray.attempts, stray.packets_out) = (Opened::Guessed, 0, 0);
        check(vec![stray], &[]);
    }

    #[test]
    fn our_own_listed_address_accuses_nobody() {
        let own = intel(&[(Category::Custom, "10.0.0.1")]);
        let event = Event::Summary(Box::new(of(
            speaker(),
            vec![
                conversation("10.0.0.1", "192.0.2.50", 80),
                conversation("192.0.2.50", "10.0.0.1", 80),
            ],
        )));
        assert_eq!(analyze(own, [event]).0, []);
    }

    #[test]
    fn a_server_name_counts_as_the_connection_it_is() {
        let mut named = conversation("10.0.0.1", "192.0.2.77", 443);
        named.tls_name = Some("eu.pool.example".into());
        check(
            vec![named.clone()],
            &[("CryptoCurrency:EC2/BitcoinTool.B", 8.0, 1)],
        );
        named.tls_name = Some("eu-pool.example".into());
        check(vec![named], &[]);
    }

    #[test]
    fn the_resource_of_a_mirror_is_the_end_that_misbehaves() {
        let check = |c: Conversation, subject: &str, role| {
            let event = Event::Summary(Box::new(of(mirror(), vec![c])));
            let (findings, _) = analyze(lists(), [event]);
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].resource.instance_id(), Some(subject));
            assert_eq!(findings[0].service.resource_role, role);
        };
        let outbound = conversation("10.7.0.1", "192.0.2.7", 443);
        check(outbound, "10.7.0.1", Role::Actor);
        let inbound = conversation("192.0.2.7", "10.7.0.1", 443);
        check(inbound, "10.7.0.1", Role::Target);
    }

    #[test]
    fn what_both_sides_tell_counts_once() {
        let hit = address_hit("10.0.0.1", "192.0.2.7", 443, "192.0.2.7", "c2");
        let told = Summary {
            immediate: true,
            hits: vec![hit.clone()],
            ..summary(speaker())
        };
        let window = of(speaker(), vec![conversation("10.0.0.1", "192.0.2.7", 443)]);
        let both = Summary {
            hits: vec![hit],
            ..window.clone()
        };
        let count = |lists: IndicatorSet, events: Vec<Summary>| {
            let events = events.into_iter().map(|s| Event::Summary(Box::new(s)));
            let (findings, _) = analyze(lists, events);
            assert_eq!(findings.len(), 1);
            (findings[0].count(), findings[0].picket.evidence.len())
        };
        assert_eq!(count(lists(), vec![told.clone(), window.clone()]), (1, 2));
        assert_eq!(count(lists(), vec![window.clone(), told.clone()]), (1, 2));
        assert_eq!(count(lists(), vec![both]), (1, 2));
        // Either side alone is enough.
        assert_eq!(count(lists(), vec![window.clone()]), (1, 1));
        assert_eq!(count(IndicatorSet::default(), vec![told.clone()]), (1, 1));
        // The next window is another occurrence, and so is a second flow.
        let next = later(window.clone(), 10);
        assert_eq!(count(lists(), vec![told, window.clone(), next]).0, 2);
        let mut two = window;
        (two.conversations[0].attempts, two.conversations[0].flows) = (2, 2);
        assert_eq!(count(lists(), vec![two]).0, 2);
    }

    #[test]
    fn a_host_that_speaks_stratum_mines() {
        const MINING: &str = "CryptoCurrency:EC2/BitcoinTool.B";
        let said = |src: &str, dst: &str| Hit {
            kind: HitKind::Stratum,
            list: String::new(),
            source_listed: false,
            ..address_hit(src, dst, 443, "mining.subscribe", "mining")
        };
        let hits = |host: Host, hits: Vec<Hit>| Summary {
            immediate: true,
            hits,
            ..summary(host)
        };
        let check =
            |lists: IndicatorSet, summaries: Vec<Summary>, expected: &[(&str, f64, u64)]| {
                let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
                let (findings, _) = analyze(lists, events);
                assert_eq!(brief(&findings), expected);
                findings
            };
        let one = hits(speaker(), vec![said("10.0.0.1", "192.0.2.99")]);
        let findings = check(
            IndicatorSet::default(),
            vec![one.clone()],
            &[(MINING, 8.0, 1)],
        );
        let json = serde_json::to_value(&findings[0]).unwrap();
        assert_eq!(json["picket"]["evidence"][0]["matched"], "stratum");
        assert_eq!(
            json["picket"]["evidence"][0]["indicator"],
            "mining.subscribe"
        );
        assert_eq!(json["service"]["resourceRole"], "ACTOR");
        let why = json["picket"]["why"].as_str().unwrap();
        assert!(
            why.contains("mining.subscribe") && !why.contains("stands on"),
            "{why}"
        );

        // A pool that is listed besides is the same finding, and the same flow counts once.
        let pool = intel(&[(Category::Mining, "192.0.2.99:443")]);
        let window = of(speaker(), vec![conversation("10.0.0.1", "192.0.2.99", 443)]);
        check(pool, vec![one.clone(), window], &[(MINING, 8.0, 1)]);
        let met = address_hit("10.0.0.1", "192.0.2.99", 443, "192.0.2.99", "mining");
        let met = hits(speaker(), vec![met]);
        check(IndicatorSet::default(), vec![met, one], &[(MINING, 8.0, 1)]);
        // Another pool is another finding; a pool on our own host is its host's.
        let two = vec![
            said("10.0.0.1", "192.0.2.99"),
            said("10.0.0.1", "192.0.2.98"),
        ];
        let both = [(MINING, 8.0, 1), (MINING, 8.0, 1)];
        check(IndicatorSet::default(), vec![hits(speaker(), two)], &both);
        let served = hits(speaker(), vec![said("192.0.2.97", "10.0.0.1")]);
        let findings = check(IndicatorSet::default(), vec![served], &[(MINING, 8.0, 1)]);
        let json = serde_json::to_value(&findings[0]).unwrap();
        assert!(
            json["title"].as_str().unwrap().contains("192.0.2.97"),
            "{json}"
        );
        // Conversations with the port of a pool and nothing said are nothing.
        let silent = of(
            speaker(),
            vec![conversation("10.0.0.1", "192.0.2.99", 3333)],
        );
        check(IndicatorSet::default(), vec![silent], &[]);
    }

    #[test]
    fn a_hit_that_came_in_waits_for_the_answer() {
        let hit = address_hit("192.0.2.7", "10.0.0.1", 22, "192.0.2.7", "c2");
        let told = Summary {
            immediate: true,
            hits: vec![hit],
            ..summary(speaker())
        };
        let answered = of(speaker(), vec![conversation("192.0.2.7", "10.0.0.1", 22)]);
        let silent = of(speaker(), vec![unanswered("192.0.2.7", "10.0.0.1", 22)]);
        let late = later(answered.clone(), 600);
        let check = |events: Vec<Summary>, expected: usize| {
            let events = events.into_iter().map(|s| Event::Summary(Box::new(s)));
            // The collector's own lists know nothing of it.
            let (findings, _) = analyze(IndicatorSet::default(), events);
            assert_eq!(findings.len(), expected);
        };
        check(vec![told.clone(), answered], 1);
        check(vec![told.clone(), silent], 0);
        check(vec![told.clone(), late], 0);
        check(vec![told], 0);
    }

    #[test]
    fn evidence_holds_the_numbers() {
        let mut c = conversation("10.0.0.1", "192.0.2.7", 443);
        (c.bytes_out, c.ja4) = (4_242, Some("t13d1516h2_8daaf6152771_b186095e22b6".into()));
        let event = Event::Summary(Box::new(of(speaker(), vec![c])));
        let (findings, _) = analyze(lists(), [event]);
        let json = serde_json::to_value(&findings[0]).unwrap();
        let evidence = &json["picket"]["evidence"][0];
        assert_eq!(evidence["kind"], "tls");
        assert_eq!(evidence["bytes_out"], 4_242);
        assert_eq!(evidence["dst_ip"], "192.0.2.7");
        assert_eq!(
            json["service"]["action"]["networkConnectionAction"]["remotePortDetails"]["port"],
            443
        );
        assert_eq!(
            json["service"]["eventFirstSeen"],
            crate::Time(crate::testing::START + SECOND).to_string()
        );
    }
}
