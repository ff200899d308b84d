//! Port scan: a host tries many ports of one other host and mostly gets no answer.
//! Reads: conversations, and the unanswered ports of each pair over `window_s` and `slow_window_s`. Fires: in
//! the window in which `ports_min` distinct ports have gone unanswered, or `slow_ports_min` over hours, if they
//! are `unanswered_share_min` of all ports tried; each later window that adds ports is another occurrence.
//! Evidence: how many ports, how many refused, silent, open; the first conversations. Severity:
//! medium, as GuardDuty's.
//! Innocent look-alikes: stray answers to forged questions (no opening packet), a web client (one
//! port), passive FTP (a control connection answers), traceroute and media (high UDP ports), a scan
//! against us (the resource is whoever scans). ATT&CK T1046. Method: Zeek's scan.zeek (15 ports
//! failed in 5 min).
//! First look: which process opens the sockets; whether this host is a scanner by trade; what
//! answered.
//! Actor key: the address scanned.

use std::collections::BTreeMap;

use picket_wire::{Conversation, Host as Speaker, Side, Summary};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, Direction, quote};
use super::sample::{self, Sample};
use super::{Context, Detection, Occurrence};
use crate::conversation::{SpeakerKey, is_unanswered, whose};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Pair, Port, Probe};
use crate::limits::OCCURRENCES_MAX;

/// Settings of `port_scan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Distinct unanswered ports: 15, Zeek's threshold. The busiest innocent pair we know of, a
    /// monitor whose target is down, tries fewer than ten.
    pub ports_min: usize,
    /// Seconds they may lie apart: 300, Zeek's interval. At most six hours are remembered.
    pub window_s: u64,
    /// Distinct unanswered ports over hours: 30. Chosen by hand: twice as many, since more has time to go
    /// wrong.
    pub slow_ports_min: usize,
    /// Seconds they may lie apart: 21,600, six hours; at most so long is remembered.
    pub slow_window_s: u64,
    /// Share of the ports tried that must have gone unanswered: 0.6. A scan of an open host finds a
    /// handful open; a client of many services finds most of them so.
    pub unanswered_share_min: f64,
    /// UDP ports from here on do not count: 32,768, where Linux's ephemeral range begins;
    /// traceroute's and the media streams' ports lie above.
    pub udp_port_end: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ports_min: 15,
            window_s: 300,
            slow_ports_min: 30,
            slow_window_s: 21_600,
            unanswered_share_min: 0.6,
            udp_port_end: 32_768,
        }
    }
}

const PORTSCAN: FindingType = FindingType::guardduty("Recon:EC2/Portscan", 5.0);

const TCP: u8 = 6;
const UDP: u8 = 17;
const FTP: u16 = 21;

/// Port scans.
pub(crate) struct PortScan;

impl Detection for PortScan {
    fn id(&self) -> &'static str {
        "port_scan"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&PORTSCAN]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Agent
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Summary(summary) = event else {
            return;
        };
        let settings = &context.settings.detections.port_scan;
        let speaker = SpeakerKey::of(&summary.host);
        let (mut made, mut left_out) = (0, 0);
        for (pair, sample) in probing(summary, speaker) {
            let Some(ports) = context.history.probes.of(&pair) else {
                continue;
            };
            let Some(tally) = Tally::of_scan(ports, summary.window.end_ns, settings) else {
                continue;
            };
            if made < OCCURRENCES_MAX {
                made += 1;
                out.push(occurrence(&summary.host, &pair, &sample, &tally));
            } else {
                left_out += 1;
            }
        }
        context.history.occurrences_left_out += left_out;
    }
}

/// Pairs whose client went without an answer in this window, and did not come from outside to us.
fn probing(summary: &Summary, speaker: SpeakerKey) -> BTreeMap<Pair, Sample<'_>> {
    let mut samples = BTreeMap::new();
    for c in summary.conversations.iter().filter(|c| is_probe(c)) {
        let pair = Pair {
            speaker,
            client: c.client,
            server: c.server,
        };
        sample::put(&mut samples, pair, c);
    }
    samples
}

fn is_probe(c: &Conversation) -> bool {
    matches!(c.local, Side::Client | Side::Neither) && is_unanswered(c)
}

/// What came of the ports tried within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    refused: usize,
    silent: usize,
    open: usize,
    first_ns: u64,
    last_ns: u64,
}

impl Tally {
    /// The tally of the window in which it is a scan, if it is one.
    fn of_scan(ports: &BTreeMap<Port, Probe>, now_ns: u64, settings: &Settings) -> Option<Self> {
        let windows = [
            (settings.window_s, settings.ports_min),
            (settings.slow_window_s, settings.slow_ports_min),
        ];
        windows.into_iter().find_map(|(window_s, ports_min)| {
            let since_ns = now_ns.saturating_sub(window_s.saturating_mul(1_000_000_000));
            let tally = Self::of(ports, since_ns, settings);
            tally.is_scan(ports_min, settings).then_some(tally)
        })
    }

    fn of(ports: &BTreeMap<Port, Probe>, since_ns: u64, settings: &Settings) -> Self {
        let has_ftp = ports.get(&(TCP, FTP)).is_some_and(|probe| probe.answered);
        let mut tally = Self {
            first_ns: u64::MAX,
            ..Self::default()
        };
        for (&(protocol, port), probe) in ports {
            let counts = match protocol {
                TCP => !(has_ftp && port >= 1_024),
                UDP => port < settings.udp_port_end,
                _ => false,
            };
            if !counts || probe.tried_ns < since_ns {
                continue;
            }
            match (probe.answered, probe.refused) {
                (true, _) => tally.open += 1,
                (false, true) => tally.refused += 1,
                (false, false) => tally.silent += 1,
            }
            tally.first_ns = tally.first_ns.min(probe.tried_ns);
            tally.last_ns = tally.last_ns.max(probe.tried_ns);
        }
        tally
    }

    fn unanswered(&self) -> usize {
        self.refused + self.silent
    }

    fn is_scan(&self, ports_min: usize, settings: &Settings) -> bool {
        let tried = (self.unanswered() + self.open) as f64;
        self.unanswered() >= ports_min
            && self.unanswered() as f64 >= settings.unanswered_share_min * tried
    }
}

fn occurrence(speaker: &Speaker, pair: &Pair, sample: &Sample<'_>, tally: &Tally) -> Occurrence {
    let last = sample.last;
    let whose = whose(speaker, pair.client);
    let subject = quote(&whose.subject);
    let Pair { client, server, .. } = pair;
    let Tally {
        refused,
        silent,
        open,
        ..
    } = tally;
    let seconds = tally.last_ns.saturating_sub(tally.first_ns) / 1_000_000_000;
    let tried = tally.unanswered() + open;
    let title = format!("{subject} scans the ports of {server}");
    Occurrence {
        kind: &PORTSCAN,
        rule: PortScan.id(),
        severity: PORTSCAN.severity,
        confidence: tally.unanswered() as f64 / tried as f64,
        account: speaker.account.clone(),
        region: speaker.region.clone(),
        subject: whose.subject,
        actor: server.to_canonical().to_string(),
        resource: whose.resource,
        role: Role::Actor,
        count: 1,
        first_ns: sample.first_ns,
        last_ns: last.last_ns,
        action: evidence_of::connection(
            (*client, last.client_port),
            (*server, last.server_port),
            last.protocol,
            Direction::Outbound,
        ),
        additional_info: BTreeMap::from([("sensor".to_owned(), speaker.instance.clone())]),
        evidence: sample.evidence(),
        mitre: &["T1046"],
        description: format!("{title}: {tried} ports within {seconds} s, most without an answer."),
        title,
        why: format!(
            "{client} tried {tried} ports of {server} within {seconds} s: {refused} refused, {silent} silent, {open} open"
        ),
        first_look: &[
            "Which process opens the sockets, and who started it.",
            "Whether this host is a scanner or monitor by trade.",
            "Which ports answered, and what was said to them afterwards.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        SECOND, START, analyze, brief, conversation, later, mirror, speaker, summary, unanswered,
    };
    use picket_intel::IndicatorSet;
    use picket_wire::{Host, Opened};

    const FOUND: &[(&str, f64, u64)] = &[("Recon:EC2/Portscan", 5.0, 1)];

    fn window(host: Host, conversations: Vec<Conversation>) -> Summary {
        Summary {
            conversations,
            ..summary(host)
        }
    }

    fn scan(client: &str, server: &str, ports: std::ops::Range<u16>) -> Vec<Conversation> {
        ports.map(|port| unanswered(client, server, port)).collect()
    }

    #[track_caller]
    fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
        let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
        let (mut findings, _) = analyze(IndicatorSet::default(), events);
        // What else such traffic is, others say.
        findings.retain(|finding| finding.picket.rule == PortScan.id());
        assert_eq!(brief(&findings), expected);
    }

    #[track_caller]
    fn check_own(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
        check(vec![window(speaker(), conversations)], expected);
    }

    #[test]
    fn fifteen_silent_ports_of_one_host() {
        check_own(scan("10.0.0.1", "192.0.2.1", 1..16), FOUND);
        check_own(scan("10.0.0.1", "192.0.2.1", 1..15), &[]);
    }

    #[test]
    fn refused_ports_count_as_silent_ones_do() {
        let refused = |port| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", port);
            (c.flags_in, c.packets_in, c.refused) = (0x14, 1, 1);
            c
        };
        check_own((1..1_001).map(refused).collect(), FOUND);
        let accepted = |port| conversation("10.0.0.1", "192.0.2.1", port);
        check_own((1..1_001).map(accepted).collect(), &[]);
    }

    #[test]
    fn a_few_open_ports_do_not_hide_a_scan_and_many_are_a_client() {
        let mixed = |open: u16| {
            let mut all = scan("10.0.0.1", "192.0.2.1", 1..21);
            all.extend((100..100 + open).map(|port| conversation("10.0.0.1", "192.0.2.1", port)));
            all
        };
        check_own(mixed(3), FOUND);
        check_own(mixed(40), &[]);
    }

    #[test]
    fn ports_of_many_hosts_are_another_matter() {
        let spread = |port: u16| unanswered("10.0.0.1", &format!("192.0.2.{port}"), port);
        check_own((1..50).map(spread).collect(), &[]);
    }

    #[test]
    fn many_flows_to_one_port_are_a_client() {
        let mut web = unanswered("10.0.0.1", "192.0.2.1", 443);
        (web.flows, web.attempts) = (500, 500);
        check_own(vec![web], &[]);
    }

    #[test]
    fn stray_answers_are_no_scan() {
        let stray = |port| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", port);
            (c.attempts, c.opened, c.packets_out) = (0, Opened::Guessed, 1);
            (c.flags_in, c.packets_in) = (0x14, 1);
            c
        };
        check_own((1..500).map(stray).collect(), &[]);
    }

    #[test]
    fn a_scan_against_us_is_not_ours() {
        check_own(scan("192.0.2.1", "10.0.0.1", 1..500), &[]);
        // A mirror sees who scans, whoever it is.
        let seen = window(mirror(), scan("192.0.2.1", "10.7.0.1", 1..500));
        let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
        assert_eq!(brief(&findings), FOUND);
        assert_eq!(findings[0].resource.instance_id(), Some("192.0.2.1"));
        assert_eq!(findings[0].service.resource_role, Role::Actor);
    }

    #[test]
    fn passive_ftp_behind_a_closed_firewall_is_no_scan() {
        let mut transfer = scan("10.0.0.1", "192.0.2.1", 50_000..50_040);
        transfer.push(conversation("10.0.0.1", "192.0.2.1", 21));
        check_own(transfer.clone(), &[]);
        transfer.extend(scan("10.0.0.1", "192.0.2.1", 100..120));
        check_own(transfer, FOUND);
    }

    #[test]
    fn traceroute_is_no_scan_and_a_scan_of_datagram_services_is() {
        let udp = |port| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", port);
            (c.protocol, c.attempts, c.flags_out) = (17, 0, 0);
            c
        };
        check_own((33_434..33_534).map(udp).collect(), &[]);
        check_own((1..100).map(udp).collect(), FOUND);
    }

    #[test]
    fn a_slow_scan_adds_up_within_the_window_and_not_beyond() {
        let paced = |ports: u16, seconds: u64| -> Vec<Summary> {
            (0..ports)
                .map(|step| {
                    let probe = scan("10.0.0.1", "192.0.2.1", step..step + 1);
                    later(window(speaker(), probe), u64::from(step) * seconds)
                })
                .collect()
        };
        check(paced(20, 10), &[("Recon:EC2/Portscan", 5.0, 6)]);
        check(paced(20, 60), &[]);
        // Over hours it takes more of them.
        check(paced(32, 600), &[("Recon:EC2/Portscan", 5.0, 3)]);
        check(paced(32, 1_200), &[]);
    }

    #[test]
    fn says_how_many_refused_and_how_long_it_took() {
        let mut all = scan("10.0.0.1", "192.0.2.1", 1..21);
        all.push(conversation("10.0.0.1", "192.0.2.1", 22));
        all[0].last_ns = START + 9 * SECOND;
        let (findings, _) = analyze(
            IndicatorSet::default(),
            [Event::Summary(Box::new(window(speaker(), all)))],
        );
        assert_eq!(
            findings[0].picket.why,
            "10.0.0.1 tried 21 ports of 192.0.2.1 within 7 s: 0 refused, 20 silent, 1 open"
        );
        assert_eq!(findings[0].picket.evidence.len(), sample::SHOWN_MAX);
    }

    #[test]
    fn of_very_many_scans_at_once_as_many_are_told_as_there_is_room_for() {
        let scans = |hosts: u32| {
            let to = |host: u32| format!("10.{}.{}.1", host / 256, host % 256);
            let all = (1..=hosts).flat_map(|host| scan("10.0.0.1", &to(host), 1..16));
            let all = Event::Summary(Box::new(window(speaker(), all.collect())));
            let mut analyzer = crate::analyzer::Analyzer::new(
                crate::settings::Settings::default(),
                IndicatorSet::default(),
            );
            analyzer.on_event(all);
            analyzer.finish();
            let (mut findings, _) = crate::testing::drain(&mut analyzer);
            findings.retain(|finding| finding.picket.rule == PortScan.id());
            findings.len()
        };
        assert_eq!(scans(1_100), OCCURRENCES_MAX);
        assert_eq!(scans(1_000), 1_000);
    }
}
