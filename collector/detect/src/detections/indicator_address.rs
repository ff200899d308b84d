//! Listed addresses: a host talks to one, or one talks to a host and is answered.
//! A host that speaks Stratum, the protocol of miners, is one that talks to a mining pool, listed or
//! not.
//! Reads: hits on addresses, TLS server names and Stratum; conversations, against the collector's own lists,
//! so that a list that came late still finds. Fires: at once on what a host opens; on what a listed
//! address opens once the host answers.
//! Evidence: the hit (list, version, packet time, process) and the conversation (bytes both ways,
//! TLS name, JA4, name that led there). Severity: by category, direction and confidence of the list,
//! see `verdict.rs`; callers at most `callers.severity_max`, scanners only where answered.
//! Innocent look-alikes: unanswered knocks from the internet, stray answers to forged questions, a
//! list that names an address of our own. ATT&CK T1071, T1496, T1090.003 and others by category.
//! First look: which process holds the socket; what name led there; what else the host's role did.
//! Occurrence: a flow begun, or a window in which one went on. Actor key: the peer's address; for a
//! TLS name the listed domain.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::{Category, IndicatorSet, Match};
use picket_wire::{Conversation, Hit, HitKind, Host as Speaker, Opened, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, End, quote};
use super::verdict::{ADDRESS_TYPES, Callers, Met, Standing, Verdict, of_function, verdict};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, is_answered, is_own, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{Evidence, FindingType, LambdaDetails, Resource, Role, protocol_name};
use crate::history::{History, Sightings};

/// Settings of `indicator_address`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Listed addresses that call.
    pub callers: Callers,
    /// Functions (Lambda) by the network interface that their traffic passes: a flow log does not say
    /// that an interface is a function's. Empty, as nothing can be guessed: such an interface is told of
    /// as a host.
    pub functions: BTreeMap<String, String>,
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
        let before = out.len();
        let mut judge = Judge {
            summary,
            speaker: SpeakerKey::of(&summary.host),
            callers: &context.settings.detections.indicator_address.callers,
            intel: context.intel,
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
        let functions = &context.settings.detections.indicator_address.functions;
        if let Some(function) = functions.get(&summary.host.instance) {
            let of_it = |one: &&mut Occurrence| one.subject == summary.host.instance;
            let met = out.iter_mut().skip(before).filter(of_it);
            met.for_each(|one| name_function(one, function));
        }
    }
}

/// Tells of a function what was found of its interface, where GuardDuty has a name for it.
fn name_function(occurrence: &mut Occurrence, function: &str) {
    let Some(kind) = of_function(occurrence.kind) else {
        return;
    };
    let interface = std::mem::replace(&mut occurrence.subject, function.to_owned());
    occurrence.kind = kind;
    occurrence.title = occurrence.title.replacen(&interface, function, 1);
    occurrence.description = occurrence.description.replacen(&interface, function, 1);
    occurrence.resource = Resource::Lambda {
        function: LambdaDetails {
            function_name: function.to_owned(),
            network_interface_id: Some(interface),
        },
    };
}

/// What is listed and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    standing: Standing,
    indicator: String,
    list: String,
}

impl From<&Match<'_>> for Listed {
    fn from(found: &Match<'_>) -> Self {
        Self {
            standing: Standing::from(found.list),
            indicator: found.indicator.to_string(),
            list: found.list.name.clone(),
        }
    }
}

impl Listed {
    /// `None` for a category that a newer agent knows and we do not.
    fn of_hit(hit: &Hit, intel: &IndicatorSet) -> Option<Self> {
        Some(Self {
            standing: Standing::of_hit(hit, intel)?,
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
    intel: &'a IndicatorSet,
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
        let Some(listed) = Listed::of_hit(hit, self.intel) else {
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
            standing: Standing::certain(Category::Mining),
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
        let of_knocks = knocks.filter_map(|hit| Listed::of_hit(hit, self.intel));
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
        for listed in self.speakers(&all, met) {
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
        let all: Vec<Listed> = found.iter().map(Listed::from).collect();
        for listed in self.speakers(&all, Met::Named) {
            let meeting = Meeting {
                listed,
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

    /// Of each category the entry that speaks for it: the one that makes most of such a meeting, the
    /// most specific, which stands first, among equals.
    fn speakers<'l>(&self, all: &'l [Listed], met: Met) -> Vec<&'l Listed> {
        let mut best: Vec<(f64, &Listed)> = Vec::new();
        for listed in all {
            let Some(verdict) = verdict(listed.standing, met, self.callers) else {
                continue;
            };
            let category = listed.standing.category;
            let known = best
                .iter_mut()
                .find(|(_, best)| best.standing.category == category);
            match known {
                Some(known) if known.0 < verdict.severity => *known = (verdict.severity, listed),
                Some(_) => {}
                None => best.push((verdict.severity, listed)),
            }
        }
        best.into_iter().map(|(_, listed)| listed).collect()
    }

    fn report(&mut self, meeting: Meeting<'_>, told: Told) {
        let Some(verdict) = verdict(meeting.listed.standing, meeting.met, self.callers) else {
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
        standing,
    } = meeting.listed;
    let category = standing.category;
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
        confidence: standing.at_most(if answered { 0.5 } else { 0.9 }),
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
mod tests;
