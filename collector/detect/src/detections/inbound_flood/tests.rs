use picket_intel::IndicatorSet;
use picket_wire::{Conversation, Host, Opened};

use super::*;
use crate::testing::{
    START, analyze, brief, conversation, flow_log, mirror, speaker, summary, unanswered,
};

const US: &str = "10.0.0.1";

/// One of many senders.
fn sender(n: u32) -> String {
    format!("198.{}.{}.{}", 51 + (n >> 16), n >> 8 & 0xff, n & 0xff)
}

/// An answer from `port` of somebody who was not asked.
fn answer(n: u32, port: u16, protocol: u8, flags: u8) -> Conversation {
    let mut c = unanswered(US, &sender(n), port);
    (c.protocol, c.attempts, c.opened) = (protocol, 0, Opened::Guessed);
    (c.flags_out, c.packets_out, c.bytes_out) = (0, 0, 0);
    (c.flags_in, c.packets_in, c.bytes_in) = (flags, 1, 60);
    (c.first_ns, c.last_ns) = (START + u64::from(n) * 1_000, START + u64::from(n) * 1_000);
    c
}

/// An opening from a forged address.
fn knock(n: u32, port: u16) -> Conversation {
    let mut c = unanswered(&sender(n), US, port);
    (c.accepted, c.flags_in, c.packets_in) = (1, 0x12, 3);
    c
}

/// So many datagrams from one sender within nine seconds.
fn stream(from: &str, port: u16, packets: u64, back: u64) -> Conversation {
    let mut c = conversation(from, US, port);
    (c.protocol, c.attempts, c.accepted, c.opened) = (17, 0, 0, Opened::Guessed);
    (c.flags_out, c.flags_in) = (0, 0);
    (c.packets_out, c.packets_in) = (packets, back);
    (c.bytes_out, c.bytes_in) = (packets * 500, back * 80);
    (c.first_ns, c.last_ns) = (START, START + 9_000_000_000);
    c
}

#[track_caller]
fn check_seen(host: Host, conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
    let seen = Summary {
        conversations,
        ..summary(host)
    };
    let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
    let of_ours = brief(&findings).into_iter();
    let found: Vec<_> = of_ours
        .filter(|(name, ..)| !name.starts_with("Recon:"))
        .collect();
    assert_eq!(found, expected);
    let is_target = |f: &crate::Finding| f.service.resource_role == Role::Target;
    assert!(expected.is_empty() || is_target(&findings[0]));
}

#[track_caller]
fn check(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
    check_seen(speaker(), conversations.clone(), expected);
    check_seen(mirror(), conversations, expected);
}

#[test]
fn answers_of_tcp_that_were_not_asked_for() {
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.TcpReflection", 5.0, 1)];
    check((0..1_000).map(|n| answer(n, 443, 6, 0x12)).collect(), found);
    check((0..1_000).map(|n| answer(n, 443, 6, 0x14)).collect(), found);
    check((0..999).map(|n| answer(n, 443, 6, 0x12)).collect(), &[]);
    // What was asked for.
    check(
        (0..2_000)
            .map(|n| conversation(US, &sender(n), 443))
            .collect(),
        &[],
    );
}

#[test]
fn answers_of_services_that_amplify() {
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.UdpReflection", 5.0, 1)];
    for port in [53, 123, 161, 389, 1_900, 11_211] {
        check((0..1_000).map(|n| answer(n, port, 17, 0)).collect(), found);
    }
    let asked = |n| {
        let mut c = answer(n, 53, 17, 0);
        c.packets_out = 1;
        c
    };
    check((0..2_000).map(asked).collect(), &[]);
    // Of no such service, from few.
    let slow = |n: u32| {
        let mut c = answer(n % 40, 3_478, 17, 0);
        c.last_ns = START + u64::from(n) * 9_000_000;
        c
    };
    check((0..1_000).map(slow).collect(), &[]);
}

#[test]
fn openings_that_nobody_goes_on_with() {
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.TcpSyn", 5.0, 1)];
    check((0..1_500).map(|n| knock(n, 443)).collect(), found);
    check((0..900).map(|n| knock(n, 443)).collect(), &[]);
    check(
        (0..3_000)
            .map(|n| conversation(&sender(n), US, 443))
            .collect(),
        &[],
    );
    // One who looks which ports are open.
    check(
        (1..3_000)
            .map(|port| unanswered("198.51.100.1", US, port))
            .collect(),
        &[],
    );
}

/// What a proxy does while its service is being replaced, and what a flood does of which each packet is refused.
#[test]
fn a_service_that_is_down_is_not_flooded() {
    let refused = |per_second: u32| {
        let mut c = unanswered("10.0.0.9", US, 8_080);
        (c.flows, c.attempts, c.refused) = (per_second * 9, per_second * 9, per_second * 9);
        (c.packets_out, c.packets_in) = (u64::from(per_second) * 9, u64::from(per_second) * 9);
        (c.bytes_out, c.flags_in) = (c.packets_out * 60, 0x14);
        (c.first_ns, c.last_ns) = (START, START + 9_000_000_000);
        c
    };
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.TcpSyn", 5.0, 1)];
    check_seen(speaker(), vec![refused(300)], &[]);
    check_seen(speaker(), vec![refused(3_000)], found);
    let mut silent = refused(300);
    (silent.refused, silent.packets_in, silent.flags_in) = (0, 0, 0);
    check_seen(speaker(), vec![silent], found);
    let mut half = refused(300);
    half.refused /= 2;
    check_seen(speaker(), vec![half], &[]);
}

/// Flow logs tell no acknowledgement: 3 of a client, 19 of a server.
#[test]
fn a_busy_web_server_by_flow_logs_is_not_flooded() {
    let of = |n: u32, client: &str, server: Option<&str>| {
        let (them, at) = (sender(n), 1_700_000_000 + n % 10);
        let mut lines = vec![format!("{them} {US} 40000 443 6 {client} {at} {at} ACCEPT")];
        lines.extend(
            server.map(|server| format!("{US} {them} 443 40000 6 {server} {at} {at} ACCEPT")),
        );
        lines
    };
    let check = |client: &str, server: Option<&str>, expected: &[(&str, f64, u64)]| {
        let lines: Vec<String> = (0..4_000).flat_map(|n| of(n, client, server)).collect();
        let all = flow_log(&lines);
        let events = all.into_iter().map(|seen| Event::Summary(Box::new(seen)));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let found = brief(&findings);
        assert_eq!(found, expected, "{client} {server:?}");
    };
    check("4 900 3 ingress", Some("4 3000 19 egress"), &[]);
    check("2 112 2 ingress", Some("1 60 18 egress"), &[]);
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.TcpSyn", 5.0, 1)];
    check("1 60 2 ingress", Some("5 300 18 egress"), found);
    check("1 60 2 ingress", None, found);
}

#[test]
fn datagrams_and_streams() {
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.Udp", 5.0, 1)];
    check(vec![stream("198.51.100.1", 27_000, 90_000, 0)], found);
    check(vec![stream("198.51.100.1", 27_000, 30_000, 0)], &[]);
    check(vec![stream("198.51.100.1", 514, 90_000, 0)], &[]);
    check(vec![stream("198.51.100.1", 443, 90_000, 9_000)], &[]);
    // Slower, of many.
    let of = |senders: u32| {
        (0..senders).map(move |n| stream(&sender(n), 27_000, 5_000 / u64::from(senders), 0))
    };
    check(of(100).collect(), found);
    check(of(40).collect(), &[]);
    let ping = |packets| {
        let mut c = stream("198.51.100.1", 0, packets, packets);
        (c.protocol, c.opened) = (1, Opened::Seen);
        vec![c]
    };
    let unusual: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.UnusualProtocol", 5.0, 1)];
    check(ping(20_000), unusual);
    check(ping(5_000), &[]);
}

#[test]
fn our_own_collectors_are_sent_much() {
    let ours = |from: &str| vec![stream(from, 27_000, 900_000, 0)];
    check_seen(speaker(), ours("10.0.3.3"), &[]);
    let found: &[(&str, f64, u64)] = &[("Impact:EC2/InboundFlood.Udp", 5.0, 1)];
    check_seen(speaker(), ours("198.51.100.1"), found);
}

/// A victim answers what was forged with our addresses: few packets for each of them.
#[test]
fn backscatter_is_no_flood() {
    let scattered = |n: u32| {
        let mut c = answer(0, 80, 6, 0x12);
        c.client = crate::testing::ip(&format!("10.7.{}.{}", n >> 8, n & 0xff));
        c.packets_in = 4;
        c
    };
    check_seen(mirror(), (0..2_000).map(scattered).collect(), &[]);
}

#[test]
fn says_how_many_sent_how_much() {
    let seen = Summary {
        conversations: (0..2_000).map(|n| answer(n, 161, 17, 0)).collect(),
        ..summary(mirror())
    };
    let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(seen))]);
    assert_eq!(findings[0].resource.instance_id(), Some(US));
    assert_eq!(
        findings[0].picket.why,
        "10.0.0.1 was sent 2000 packets of 60 bytes on average by 2000 addresses in 0.002 s (20000 a second), \
         answers of SNMP (port 161) that it did not ask for"
    );
}
