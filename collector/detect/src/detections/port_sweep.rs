//! Port sweep: somebody tries one port of many hosts and mostly gets no answer.
//! Reads: conversations (of agents and of flow logs), and the hosts that each client tried at each port over
//! `slow_window_s`. Fires: a sequential test over first contacts says scanner, `unanswered_share_min` of the
//! hosts did not answer, and there are `hosts_min` such hosts within `window_s`, or within `slow_window_s`
//! `slow_hosts_min` at a port in `ports`, `silent_hosts_min` at another if no host answered at all; each later
//! window that adds hosts is another occurrence.
//! Evidence: how many hosts were silent, refused, answered, over how long, the odds of the test; the first
//! conversations. Severity: high, as GuardDuty's; low where hosts of ours are swept from outside, which is told
//! under a name of our own, medium where whoever sweeps them is inside.
//! Innocent look-alikes: stray answers to forged questions (no opening packet), crawlers with dead links and mail
//! servers (they ask for names first), peers of file sharing and chains (`ports_ignored`, datagrams to high
//! ports), half a network that is down for IPv6 alone (both families are one), monitors of hosts that are gone
//! (others answer). ATT&CK T1046, T1018. Method: Jung et al., "Fast portscan detection using sequential
//! hypothesis testing", 2004; counts of Zeek's scan.zeek.
//! First look: which process opens the sockets; whether this host is a scanner by trade; which hosts answered.
//! Actor key: protocol and port where our host sweeps, the address inside that sweeps the fleet. Who sweeps it from
//! outside is one of many: all of them are one finding for each of `ports`, and one for what else they look for.

use std::collections::BTreeMap;

use picket_wire::Host as Speaker;
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::sample::{self, Sample};
use super::{Context, Detection, Occurrence};
use crate::conversation::{Whose, is_inside, is_own, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Resource, Role, protocol_name};
use crate::history::{ReachKeys, Reached, Reaching, Told, Tried};
use crate::limits::OCCURRENCES_MAX;

/// Settings of `port_sweep`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Distinct unanswered hosts at any port: 25, Zeek's threshold.
    pub hosts_min: usize,
    /// Seconds they may lie apart: 300, Zeek's interval.
    pub window_s: u64,
    /// Distinct unanswered hosts at one of `ports` over hours: 8, twice what the sequential test asks for of
    /// one that meets nobody.
    pub slow_hosts_min: usize,
    /// Distinct hosts over hours at any other port, if none answers at all: 15. Chosen by hand, between the
    /// two.
    pub silent_hosts_min: usize,
    /// Seconds they may lie apart: 21,600, six hours; at most so long is remembered.
    pub slow_window_s: u64,
    /// Share of the hosts tried that must have gone unanswered: 0.75. Who knows whom he calls meets fewer,
    /// a client of peers that come and go a few more for a while.
    pub unanswered_share_min: f64,
    /// Odds for a scanner at which the test decides: 99, from Jung's chances of a right and of a false alarm,
    /// 0.99 and 0.01.
    pub odds_min: f64,
    /// Chance that a host answers one who knows it, and one who does not: 0.8 and 0.2, Jung's.
    pub answer_chances: [f64; 2],
    /// Ports that scanners look for and clients know where to find: remote control, databases, file
    /// servers, orchestration.
    pub ports: Vec<u16>,
    /// Ports of programs whose peers come and go: file sharing, chains, the Tor network.
    pub ports_ignored: Vec<u16>,
    /// UDP ports from here on do not count, but for those in `ports`: 1,024. Peers listen above.
    pub udp_port_end: u16,
    /// UDP ports that do not count either: resolvers and clocks call servers that are long gone, QUIC gives up
    /// for TCP, Windows asks whoever it meets for a name, leases and log lines go one way.
    pub udp_ports_ignored: Vec<u16>,
    /// Severity where hosts of the fleet are swept from outside: 2.0, as GuardDuty's probes.
    pub target_severity: f64,
    /// Severity where they are swept from a private address: 5.0, since somebody is inside.
    pub inside_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts_min: 25,
            window_s: 300,
            slow_hosts_min: 8,
            silent_hosts_min: 15,
            slow_window_s: 21_600,
            unanswered_share_min: 0.75,
            odds_min: 99.0,
            answer_chances: [0.8, 0.2],
            ports: vec![
                21, 22, 23, 111, 135, 139, 161, 389, 445, 512, 513, 514, 623, 873, 1433, 1434,
                1521, 2049, 2181, 2222, 2323, 2375, 2376, 2379, 3306, 3389, 4786, 5000, 5060, 5432,
                5555, 5900, 5901, 5984, 5985, 5986, 6379, 6443, 7001, 8009, 8088, 9042, 9200, 9300,
                10250, 11211, 27017,
            ],
            ports_ignored: vec![
                1337, 2710, 4001, 4662, 6346, 6771, 6881, 6882, 6883, 6884, 6885, 6886, 6887, 6888,
                6889, 6969, 8333, 8999, 9001, 9030, 9333, 16881, 18080, 18333, 22556, 26656, 30303,
                30304, 51413,
            ],
            udp_port_end: 1_024,
            udp_ports_ignored: vec![53, 67, 68, 123, 137, 138, 162, 443, 514],
            target_severity: 2.0,
            inside_severity: 5.0,
        }
    }
}

impl Settings {
    fn counts(&self, protocol: u8, port: u16) -> bool {
        if self.ports_ignored.contains(&port) {
            return false;
        }
        match protocol {
            TCP => true,
            UDP => {
                !self.udp_ports_ignored.contains(&port)
                    && (port < self.udp_port_end || self.ports.contains(&port))
            }
            _ => false,
        }
    }
}

const PORT_SWEEP: FindingType = FindingType::guardduty("Impact:EC2/PortSweep", 8.0);

/// Hosts of ours are swept. GuardDuty tells of whoever sweeps only, and what acts on its type cuts that one off.
const SWEPT: FindingType = FindingType::picket("Recon:EC2/PortSweepTarget", 2.0);

/// Those outside who sweep, as part of a finding's id.
const OUTSIDE: &str = "outside";

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Port sweeps.
pub(crate) struct PortSweep;

impl Detection for PortSweep {
    fn id(&self) -> &'static str {
        "port_sweep"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&PORT_SWEEP, &SWEPT]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.port_sweep;
        let keys = ReachKeys::of(summary);
        let mut trying = BTreeMap::new();
        for c in &summary.conversations {
            let counts = |one: &Reaching| settings.counts(one.protocol, one.port);
            if let Some(key) = keys.trying(c).filter(counts) {
                sample::put(&mut trying, key, c);
            }
        }
        let (mut made, mut left_out) = (0, 0);
        for (key, sample) in trying {
            let Some(reach) = context.history.reaches.of(&key) else {
                continue;
            };
            let now_ns = summary.window.end_ns;
            let Some(tally) = Tally::of_sweep(reach, key.port, now_ns, settings) else {
                continue;
            };
            if made < OCCURRENCES_MAX {
                made += 1;
                let standing = standing(&summary.host, &key, reach, &tally, settings);
                out.push(occurrence(&summary.host, &key, &sample, &tally, standing));
            } else {
                left_out += 1;
            }
        }
        context.history.occurrences_left_out += left_out;
    }
}

/// What came of the hosts tried within a window.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tally {
    refused: usize,
    silent: usize,
    answered: usize,
    first_ns: u64,
    last_ns: u64,
    /// The highest odds for a scanner that the test came to.
    odds: f64,
}

impl Tally {
    /// The tally of the window in which it is a sweep, if it is one.
    fn of_sweep(reach: &Tried, port: u16, now_ns: u64, settings: &Settings) -> Option<Self> {
        // Cheap before dear: most clients have tried few.
        if reach.hosts().len() < settings.slow_hosts_min.min(settings.hosts_min) {
            return None;
        }
        let over = |window_s: u64| {
            let since_ns = now_ns.saturating_sub(window_s.saturating_mul(1_000_000_000));
            let within = reach.hosts().values();
            Self::of(within.filter(|one| one.last_ns >= since_ns), settings)
        };
        let quick = over(settings.window_s);
        if quick.is_sweep(settings.hosts_min, settings) {
            return Some(quick);
        }
        let slow = over(settings.slow_window_s);
        let hosts_min = if settings.ports.contains(&port) {
            settings.slow_hosts_min
        } else if slow.answered == 0 {
            settings.silent_hosts_min
        } else {
            return None;
        };
        slow.is_sweep(hosts_min, settings).then_some(slow)
    }

    fn of<'r>(hosts: impl Iterator<Item = &'r Reached>, settings: &Settings) -> Self {
        let mut hosts: Vec<&Reached> = hosts.collect();
        hosts.sort_by_key(|one| one.first_ns);
        let mut tally = Self {
            refused: 0,
            silent: 0,
            answered: 0,
            first_ns: u64::MAX,
            last_ns: 0,
            odds: highest_odds(hosts.iter().map(|one| one.answered), settings),
        };
        for one in hosts {
            match (one.answered, one.refused) {
                (true, _) => tally.answered += 1,
                (false, true) => tally.refused += 1,
                (false, false) => tally.silent += 1,
            }
            tally.first_ns = tally.first_ns.min(one.first_ns);
            tally.last_ns = tally.last_ns.max(one.last_ns);
        }
        tally
    }

    const fn unanswered(&self) -> usize {
        self.refused + self.silent
    }

    const fn tried(&self) -> usize {
        self.unanswered() + self.answered
    }

    fn is_sweep(&self, hosts_min: usize, settings: &Settings) -> bool {
        self.unanswered() >= hosts_min
            && self.unanswered() as f64 >= settings.unanswered_share_min * self.tried() as f64
            && self.odds >= settings.odds_min
    }
}

/// The highest odds for a scanner over first contacts in their order; once the odds are as low as those of
/// an innocent, the test begins anew.
fn highest_odds(answered: impl Iterator<Item = bool>, settings: &Settings) -> f64 {
    /// Beyond this they tell nobody more.
    const ODDS_MAX: f64 = 1e6;
    let [known, unknown] = settings.answer_chances;
    let (mut odds, mut highest) = (1.0_f64, 1.0_f64);
    for answered in answered {
        odds *= if answered {
            unknown / known
        } else {
            (1.0 - unknown) / (1.0 - known)
        };
        odds = odds.min(ODDS_MAX);
        highest = highest.max(odds);
        if odds <= 1.0 / settings.odds_min {
            odds = 1.0;
        }
    }
    highest
}

/// Who is the resource, in which role, and how grave it is.
struct Standing {
    kind: &'static FindingType,
    whose: Whose,
    actor: String,
    role: Role,
    severity: f64,
    title: String,
}

fn standing(
    speaker: &Speaker,
    key: &Reaching,
    reach: &Tried,
    tally: &Tally,
    settings: &Settings,
) -> Standing {
    let (port, protocol) = (key.port, protocol_name(key.protocol));
    let client = key.client.to_canonical();
    let others = tally.tried().saturating_sub(1);
    let sought = || {
        if settings.ports.contains(&port) {
            format!("{OUTSIDE} {protocol}/{port}")
        } else {
            OUTSIDE.to_owned()
        }
    };
    match (key.told, reach.first()) {
        (Told::Fleet(_), Some((address, name))) if is_inside(client) => Standing {
            kind: &SWEPT,
            whose: Whose {
                subject: name.to_owned(),
                resource: Resource::instance(name.to_owned(), Some(address)),
            },
            actor: client.to_string(),
            role: Role::Target,
            severity: settings.inside_severity,
            title: format!(
                "{client} sweeps {} and {others} other hosts for {protocol} port {port}",
                quote(name),
            ),
        },
        (Told::Fleet(_), Some((address, name))) => Standing {
            kind: &SWEPT,
            whose: Whose {
                subject: OUTSIDE.to_owned(),
                resource: Resource::instance(name.to_owned(), Some(address)),
            },
            actor: sought(),
            role: Role::Target,
            severity: settings.target_severity,
            title: format!(
                "{} and other hosts are swept from outside for {protocol} port {port}",
                quote(name)
            ),
        },
        (Told::Sensor(_), Some((address, _))) if comes_from_outside(speaker, key, reach) => {
            Standing {
                kind: &SWEPT,
                whose: Whose {
                    subject: speaker.instance.clone(),
                    ..whose(speaker, address)
                },
                actor: sought(),
                role: Role::Target,
                severity: settings.target_severity,
                title: format!(
                    "{address} and other hosts are swept from outside for {protocol} port {port}"
                ),
            }
        }
        _ => {
            let whose = whose(speaker, key.client);
            Standing {
                kind: &PORT_SWEEP,
                title: format!(
                    "{} sweeps hosts for {protocol} port {port}",
                    quote(&whose.subject)
                ),
                whose,
                actor: format!("{protocol}/{port}"),
                role: Role::Actor,
                severity: PORT_SWEEP.severity,
            }
        }
    }
}

/// Whether a sensor beside the hosts swept sees somebody from the Internet sweep hosts that it does not reach.
fn comes_from_outside(speaker: &Speaker, key: &Reaching, reach: &Tried) -> bool {
    let inside = reach.hosts().keys().filter(|server| is_inside(**server));
    !is_inside(key.client)
        && !is_own(speaker, key.client)
        && inside.count() * 2 > reach.hosts().len()
}

fn occurrence(
    speaker: &Speaker,
    key: &Reaching,
    sample: &Sample<'_>,
    tally: &Tally,
    standing: Standing,
) -> Occurrence {
    let last = sample.last;
    let (client, server) = ((key.client, last.client_port), (last.server, key.port));
    let (local, remote, direction) = match standing.role {
        Role::Target => (server, client, Direction::Inbound),
        Role::Actor => (client, server, Direction::Outbound),
    };
    let seconds = tally.last_ns.saturating_sub(tally.first_ns) / 1_000_000_000;
    let Tally {
        refused,
        silent,
        answered,
        odds,
        ..
    } = tally;
    let (tried, title) = (tally.tried(), standing.title);
    Occurrence {
        kind: standing.kind,
        rule: PortSweep.id(),
        severity: standing.severity,
        confidence: tally.unanswered() as f64 / tried.max(1) as f64,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: standing.whose.subject,
        actor: standing.actor,
        resource: standing.whose.resource,
        role: standing.role,
        count: 1,
        first_ns: sample.first_ns,
        last_ns: last.last_ns,
        action: evidence_of::connection(local, remote, key.protocol, direction),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: sample.evidence(),
        mitre: &["T1046", "T1018"],
        description: format!("{title}: {tried} hosts within {seconds} s, most without an answer."),
        title,
        why: format!(
            "{} tried {} port {} of {tried} hosts within {seconds} s: {refused} refused, {silent} silent, {answered} answered; odds for a scanner {odds:.0}",
            key.client,
            protocol_name(key.protocol),
            key.port,
        ),
        first_look: &[
            "Which process opens the sockets, and who started it.",
            "Whether whoever sweeps is a scanner or monitor by trade.",
            "Which hosts answered, and what was said to them afterwards.",
        ],
    }
}

#[cfg(test)]
mod tests;
