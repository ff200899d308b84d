use picket_intel::IndicatorSet;
use picket_wire::{Conversation, Host, Opened};

use super::*;
use crate::testing::{
    START, analyze, brief, conversation, flow_log, mirror, speaker, summary, unanswered,
};

const US: &str = "10.0.0.1";
const MILLI: u64 = 1_000_000;

/// Datagrams from a client within so many milliseconds.
fn sent(to: &str, port: u16, packets: u64, bytes: u64, millis: u64) -> Conversation {
    let mut c = conversation(US, to, port);
    (c.protocol, c.attempts, c.accepted) = (17, 0, 0);
    (c.flags_out, c.flags_in, c.opened) = (0, 0, Opened::Guessed);
    (c.packets_out, c.packets_in) = (packets, 0);
    (c.bytes_out, c.bytes_in) = (packets * bytes, 0);
    (c.first_ns, c.last_ns) = (START, START + millis * MILLI);
    c
}

fn answered(mut c: Conversation, packets: u64) -> Conversation {
    (c.packets_in, c.bytes_in) = (packets, packets * 80);
    c
}

/// Openings that nobody goes on with.
fn opened(to: &str, port: u16, count: u32, millis: u64) -> Conversation {
    let mut c = unanswered(US, to, port);
    (c.flows, c.attempts) = (count, count);
    (c.packets_out, c.bytes_out) = (u64::from(count), u64::from(count) * 40);
    (c.first_ns, c.last_ns) = (START, START + millis * MILLI);
    c
}

#[track_caller]
fn check_seen(host: Host, conversations: Vec<Conversation>, expected: &[(&str, f64)]) {
    let seen = Summary {
        conversations,
        ..summary(host)
    };
    let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
    let found: Vec<(&str, f64)> = brief(&findings)
        .into_iter()
        .map(|(t, s, _)| (t, s))
        .collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn check(conversations: Vec<Conversation>, expected: &[(&str, f64)]) {
    check_seen(speaker(), conversations, expected);
}

const UDP_FOUND: &[(&str, f64)] = &[("Backdoor:EC2/DenialOfService.Udp", 8.0)];
const DNS_FOUND: &[(&str, f64)] = &[("Backdoor:EC2/DenialOfService.Dns", 8.0)];
const TCP_FOUND: &[(&str, f64)] = &[("Backdoor:EC2/DenialOfService.Tcp", 8.0)];

#[test]
fn a_flood_of_datagrams_as_awss_tester_sends_it() {
    check(vec![sent("192.0.2.1", 80, 400_000, 284, 9_000)], UDP_FOUND);
    check(vec![sent("192.0.2.1", 80, 2_000, 284, 30)], UDP_FOUND);
    // The same, taken up.
    check(
        vec![answered(
            sent("192.0.2.1", 443, 400_000, 1_300, 9_000),
            40_000,
        )],
        &[],
    );
    check(
        vec![answered(
            sent("192.0.2.1", 51_820, 400_000, 1_300, 9_000),
            200_000,
        )],
        &[],
    );
}

#[test]
fn too_few_and_too_slow_is_a_stream() {
    check(vec![sent("192.0.2.1", 5_004, 40_000, 1_316, 10_000)], &[]);
    check(
        vec![sent("192.0.2.1", 5_004, 60_000, 1_316, 10_000)],
        UDP_FOUND,
    );
    check(vec![sent("192.0.2.1", 80, 1_999, 284, 30)], &[]);
}

#[test]
fn telemetry_and_speed_tests_need_ten_times_as_many() {
    check(vec![sent("192.0.2.1", 514, 60_000, 300, 9_000)], &[]);
    check(vec![sent("192.0.2.1", 514, 600_000, 300, 9_000)], UDP_FOUND);
    check(vec![sent("192.0.2.1", 5_201, 300_000, 1_400, 9_000)], &[]);
}

#[test]
fn floods_of_name_servers_and_resolvers_that_are_answered() {
    check(vec![sent("192.0.2.1", 53, 400_000, 92, 9_000)], DNS_FOUND);
    check(
        vec![answered(sent("192.0.2.1", 53, 6_000, 92, 9_000), 2_000)],
        DNS_FOUND,
    );
    check(
        vec![answered(sent("192.0.2.1", 53, 6_000, 92, 9_000), 5_900)],
        &[],
    );
    let recursion = (0..200).map(|n| sent(&format!("198.51.{n}.1"), 53, 30, 92, 9_000));
    check(recursion.collect(), &[]);
}

#[test]
fn openings_without_end_and_clients_that_go_on() {
    check(vec![opened("192.0.2.1", 80, 5_000, 9_000)], TCP_FOUND);
    let mut load = conversation(US, "192.0.2.1", 80);
    (load.flows, load.attempts, load.accepted) = (50_000, 50_000, 50_000);
    (load.packets_out, load.packets_in) = (300_000, 250_000);
    check(vec![load], &[]);
    check(vec![opened("192.0.2.1", 80, 1_500, 9_000)], &[]);
    // The same at a tenth of the pace, where a log tells whole minutes.
    let mut log = speaker();
    log.capture = "vpc-flow-log".into();
    check_seen(log, vec![opened("192.0.2.1", 80, 5_000, 60_000)], &[]);
}

/// Flow logs tell no acknowledgement: 3 of a client, 19 of a server.
#[test]
fn an_upload_by_flow_logs_is_none() {
    let check = |out: &str, back: Option<&str>, expected: &[(&str, f64)]| {
        let (from, to) = (1_700_000_000, 1_700_000_050);
        let mut lines = vec![format!(
            "{US} 192.0.2.1 40000 443 6 {out} {from} {to} ACCEPT"
        )];
        lines.extend(
            back.map(|back| format!("192.0.2.1 {US} 443 40000 6 {back} {from} {to} ACCEPT")),
        );
        let all = flow_log(&lines);
        let events = all.into_iter().map(|seen| Event::Summary(Box::new(seen)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let found = brief(&findings);
        let found: Vec<(&str, f64)> = found.into_iter().map(|(t, s, _)| (t, s)).collect();
        assert_eq!(found, expected, "{out} {back:?}");
    };
    let answer = Some("9000 468000 19 ingress");
    check("20000 28000000 3 egress", answer, &[]);
    check("20000 28000000 2 egress", answer, &[]);
    check("20000 28000000 3 egress", None, &[]);
    check("20000 800000 2 egress", None, TCP_FOUND);
    check(
        "20000 800000 2 egress",
        Some("50 3000 18 ingress"),
        TCP_FOUND,
    );
}

/// A client whose server is down tries again and again; a flood is ten times as fast.
#[test]
fn openings_that_are_refused_need_ten_times_the_rate() {
    let refused = |count: u32| {
        let mut c = opened("192.0.2.1", 80, count, 9_000);
        (c.refused, c.flags_in, c.packets_in) = (count, 0x14, u64::from(count));
        c
    };
    check(vec![refused(5_000)], &[]);
    check(vec![refused(17_000)], &[]);
    check(vec![refused(19_000)], TCP_FOUND);
    let mut some = refused(5_000);
    some.refused = 2_500;
    check(vec![some], TCP_FOUND);
}

#[test]
fn a_scan_is_another_matter() {
    let scan = |ports: u16| (1..ports).map(|port| opened("192.0.2.1", port, 1, 900));
    let (findings, _) = analyze(
        IndicatorSet::default(),
        [Event::Summary(Box::new(Summary {
            conversations: scan(5_000).collect(),
            ..summary(speaker())
        }))],
    );
    assert!(!findings.is_empty());
    assert!(findings.iter().all(|f| f.type_name().starts_with("Recon:")));
    // Many ports with something in it are no scan.
    let spread =
        |bytes| (1..3_000).map(move |port| sent("192.0.2.1", 40_000 + port, 2, bytes, 300));
    check(spread(512).collect(), UDP_FOUND);
    check(spread(60).collect(), &[]);
}

#[test]
fn ports_of_tcp_and_unusual_protocols_have_their_own_names() {
    check(
        vec![sent("192.0.2.1", 22, 60_000, 284, 9_000)],
        &[("Backdoor:EC2/DenialOfService.UdpOnTcpPorts", 8.0)],
    );
    let protocol = |number: u8, back| {
        let mut c = answered(sent("192.0.2.1", 0, 60_000, 84, 9_000), back);
        (c.protocol, c.client_port) = (number, 0);
        c
    };
    let found: &[(&str, f64)] = &[("Backdoor:EC2/DenialOfService.UnusualProtocol", 8.0)];
    check(vec![protocol(2, 0)], found);
    check(vec![protocol(47, 0)], found);
    let mut ping = protocol(1, 20_000);
    (ping.packets_out, ping.opened) = (20_000, Opened::Seen);
    check(vec![ping.clone()], found);
    (ping.packets_out, ping.packets_in) = (5_000, 5_000);
    check(vec![ping], &[]);
    // A tunnel carries both ways.
    check(vec![protocol(50, 30_000)], &[]);
}

#[test]
fn inside_it_has_another_name_and_speed_tests_are_excused() {
    let inside: &[(&str, f64)] = &[("Impact:EC2/InternalFlood", 3.0)];
    let flood = || sent("10.0.9.9", 80, 400_000, 284, 9_000);
    check(vec![flood()], inside);
    check(vec![flood(), conversation(US, "10.0.9.9", 5_201)], &[]);
    let syn = || opened("10.0.9.9", 80, 5_000, 9_000);
    check(vec![syn()], &[("Impact:EC2/InternalFlood", 5.0)]);
    let mut refused = syn();
    (refused.refused, refused.flags_in, refused.packets_in) = (5_000, 0x14, 5_000);
    check(vec![refused], &[]);
    // A group is no host.
    check(vec![sent("239.1.1.1", 5_004, 400_000, 1_316, 9_000)], &[]);
}

#[test]
fn several_hosts_of_one_network_are_one_target() {
    let spread = (0..200).map(|n| sent(&format!("192.0.2.{n}"), 80, 400, 284, 900));
    let seen = Summary {
        conversations: spread.collect(),
        ..summary(mirror())
    };
    let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].resource.instance_id(), Some(US));
    assert_eq!(
        findings[0].title,
        "10.0.0.1 floods 200 hosts of the network 192.0.2.0 with datagrams"
    );
}

#[test]
fn says_how_much_how_fast_and_what_came_back() {
    let seen = Summary {
        conversations: vec![answered(sent("192.0.2.1", 80, 60_000, 256, 2_000), 7)],
        ..summary(speaker())
    };
    let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
    assert_eq!(
        findings[0].picket.why,
        "10.0.0.1 sent 60000 packets of 256 bytes on average to 192.0.2.1, port 80, in 2.000 s (30000 a second); 7 came back"
    );
}
