//! What is a sweep, and what only looks like one, in equal number.

use super::*;
use crate::finding::Finding;
use crate::testing::{analyze, brief, conversation, later, mirror, speaker, summary, unanswered};
use picket_intel::IndicatorSet;
use picket_wire::{Conversation, Host, Opened, Summary};

const FOUND: &[(&str, f64, u64)] = &[("Impact:EC2/PortSweep", 8.0, 1)];
const NONE: &[(&str, f64, u64)] = &[];

fn window(host: Host, conversations: Vec<Conversation>) -> Summary {
    Summary {
        conversations,
        ..summary(host)
    }
}

fn host(net: &str, number: usize) -> String {
    format!("{net}{number}")
}

/// Our host tries `port` of so many hosts, which are silent.
fn sweep(net: &str, hosts: std::ops::Range<usize>, port: u16) -> Vec<Conversation> {
    hosts
        .map(|number| unanswered("10.0.0.1", &host(net, number), port))
        .collect()
}

fn answers(net: &str, hosts: std::ops::Range<usize>, port: u16) -> Vec<Conversation> {
    hosts
        .map(|number| conversation("10.0.0.1", &host(net, number), port))
        .collect()
}

fn findings(summaries: Vec<Summary>) -> Vec<Finding> {
    let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
    let (mut findings, _) = analyze(IndicatorSet::default(), events);
    // What else such traffic is, others say.
    findings.retain(|finding| finding.picket.rule == PortSweep.id());
    findings
}

#[track_caller]
fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
    assert_eq!(brief(&findings(summaries)), expected);
}

#[track_caller]
fn check_own(conversations: Vec<Conversation>, expected: &[(&str, f64, u64)]) {
    check(vec![window(speaker(), conversations)], expected);
}

/// One host a window, so many seconds apart.
fn paced(host: &Host, all: Vec<Conversation>, seconds: u64) -> Vec<Summary> {
    (0..)
        .zip(all)
        .map(|(step, one)| later(window(host.clone(), vec![one]), step * seconds))
        .collect()
}

#[test]
fn many_silent_hosts_at_any_port() {
    let with_one = |hosts| {
        let mut all = sweep("192.0.2.", hosts, 8_443);
        all.extend(answers("198.51.100.", 1..2, 8_443));
        all
    };
    check_own(with_one(1..26), FOUND);
    check_own(with_one(1..25), NONE);
    // Where nobody answers at all, fewer will do.
    check_own(sweep("192.0.2.", 1..16, 8_443), FOUND);
    check_own(sweep("192.0.2.", 1..15, 8_443), NONE);
}

#[test]
fn fewer_at_a_port_that_scanners_look_for() {
    check_own(sweep("192.0.2.", 1..9, 445), FOUND);
    check_own(sweep("192.0.2.", 1..8, 445), NONE);
}

#[test]
fn private_networks_and_ipv6_are_no_different() {
    check_own(sweep("10.9.0.", 1..30, 22), FOUND);
    check_own(sweep("2001:db8::", 1..9, 22), FOUND);
    check_own(answers("10.9.0.", 1..30, 22), NONE);
    check_own(answers("2001:db8::", 1..9, 22), NONE);
}

#[test]
fn hours_do_not_hide_it_and_a_day_does() {
    let slow = |seconds| paced(&speaker(), sweep("192.0.2.", 1..10, 445), seconds);
    check(slow(780), &[("Impact:EC2/PortSweep", 8.0, 2)]);
    check(slow(7_200), NONE);
    // At a port of no such kind it has to be quick, or nobody answers.
    let web = |seconds| {
        let mut all = vec![unanswered("10.0.0.1", "192.0.2.99", 8_443)];
        all.extend(answers("198.51.100.", 1..2, 8_443));
        all.extend(sweep("192.0.2.", 1..60, 8_443));
        paced(&speaker(), all, seconds)
    };
    assert_eq!(brief(&findings(web(10))).len(), 1);
    check(web(60), NONE);
    let silent = paced(&speaker(), sweep("192.0.2.", 1..17, 8_443), 600);
    check(silent, &[("Impact:EC2/PortSweep", 8.0, 2)]);
}

#[test]
fn some_answer_and_most_do_not() {
    let mixed = |open| {
        let mut all = sweep("192.0.2.", 1..41, 22);
        all.extend(answers("198.51.100.", 1..open, 22));
        all
    };
    check_own(mixed(10), FOUND);
    check_own(mixed(30), NONE);
}

#[test]
fn refused_is_as_good_as_silent() {
    let refused = |number| {
        let mut c = unanswered("10.0.0.1", &host("192.0.2.", number), 3_389);
        (c.flags_in, c.packets_in, c.refused) = (0x14, 1, 1);
        c
    };
    check_own((1..20).map(refused).collect(), FOUND);
    // One host, however often, is a client of a server that is down.
    let mut down = unanswered("10.0.0.1", "192.0.2.1", 3_389);
    (down.flows, down.attempts) = (500, 500);
    check_own(vec![down], NONE);
}

#[test]
fn a_crawler_and_a_mail_server_ask_for_names_first() {
    let named = |port| {
        let mut all = sweep("192.0.2.", 1..60, port);
        for c in &mut all {
            c.dns_name = Some("dead.example".into());
        }
        all
    };
    check_own(named(443), NONE);
    check_own(named(25), NONE);
    check_own(sweep("192.0.2.", 1..60, 25), FOUND);
    check_own(sweep("192.0.2.", 1..60, 443), FOUND);
}

#[test]
fn peers_come_and_go() {
    for port in [6_881, 8_333, 30_303, 51_413] {
        check_own(sweep("192.0.2.", 1..100, port), NONE);
    }
    let datagrams = |port| {
        let mut all = sweep("192.0.2.", 1..100, port);
        for c in &mut all {
            (c.protocol, c.attempts, c.flags_out) = (17, 0, 0);
        }
        all
    };
    check_own(datagrams(40_000), NONE);
    check_own(datagrams(123), NONE);
    check_own(datagrams(161), FOUND);
    check_own(datagrams(11_211), FOUND);
    // Each at a port of its own.
    let own_ports =
        |number: u16| unanswered("10.0.0.1", &host("192.0.2.", number.into()), 2_000 + number);
    check_own((1..100).map(own_ports).collect(), NONE);
    check_own(sweep("192.0.2.", 1..100, 9_100), FOUND);
    check_own(sweep("192.0.2.", 1..100, 5_900), FOUND);
}

#[test]
fn a_flood_over_a_network_is_no_sweep() {
    let datagrams = |packets| {
        let mut all = sweep("192.0.2.", 1..100, 161);
        for c in &mut all {
            (c.protocol, c.attempts, c.flags_out) = (17, 0, 0);
            c.packets_out = packets;
        }
        all
    };
    check_own(datagrams(2), FOUND);
    check_own(datagrams(400), NONE);
}

#[test]
fn a_network_without_ipv6_answers_by_ipv4() {
    let mut all = sweep("2001:db8::", 1..50, 443);
    all.extend(answers("192.0.2.", 1..50, 443));
    check_own(all, NONE);
    check_own(sweep("2001:db8::", 1..50, 443), FOUND);
}

#[test]
fn stray_answers_are_no_tries() {
    let stray = |number| {
        let mut c = unanswered("10.0.0.1", &host("192.0.2.", number), 80);
        (c.attempts, c.opened, c.packets_out) = (0, Opened::Guessed, 1);
        (c.flags_out, c.flags_in, c.packets_in) = (0x14, 0x12, 1);
        c
    };
    check_own((1..200).map(stray).collect(), NONE);
    check_own(sweep("192.0.2.", 1..200, 80), FOUND);
}

#[test]
fn a_monitor_of_hosts_that_are_gone_meets_others() {
    let mut all = answers("10.9.0.", 1..40, 9_100);
    all.extend(sweep("10.8.0.", 1..12, 9_100));
    check_own(all, NONE);
    check_own(sweep("10.8.0.", 1..40, 9_100), FOUND);
}

#[test]
fn a_mirror_sees_who_sweeps() {
    let seen = |client: &str, net: &str| {
        let tries = (1..10).map(|number| unanswered(client, &host(net, number), 445));
        findings(paced(&mirror(), tries.collect(), 600))
    };
    let resource = |found: &[Finding]| found[0].resource.instance_id().map(str::to_owned);
    for (client, net) in [
        ("10.3.0.7", "10.7.0."),
        ("10.3.0.7", "192.0.2."),
        ("198.51.100.7", "192.0.2."),
    ] {
        let found = seen(client, net);
        assert_eq!(brief(&found), [("Impact:EC2/PortSweep", 8.0, 2)]);
        assert_eq!(resource(&found).as_deref(), Some(client));
        assert_eq!(found[0].service.resource_role, Role::Actor);
    }
    let found = seen("198.51.100.7", "10.7.0.");
    assert_eq!(brief(&found), [("Recon:EC2/PortSweepTarget", 2.0, 2)]);
    assert_eq!(resource(&found).as_deref(), Some("10.7.0.1"));
    assert_eq!(found[0].service.resource_role, Role::Target);
    let replies = |number: usize| conversation("198.51.100.7", &host("10.7.0.", number), 445);
    check(paced(&mirror(), (1..10).map(replies).collect(), 600), NONE);
}

#[test]
fn a_fleet_is_swept() {
    let fleet = |client: &str, answered: bool| -> Vec<Summary> {
        (1..10)
            .map(|number| {
                let mut of_host = speaker();
                of_host.instance = format!("i-{number}");
                let address = host("10.0.0.", number);
                let mut c = if answered {
                    conversation(client, &address, 22)
                } else {
                    unanswered(client, &address, 22)
                };
                c.local = picket_wire::Side::Server;
                window(of_host, vec![c])
            })
            .collect()
    };
    let found = findings(fleet("198.51.100.7", false));
    assert_eq!(brief(&found), [("Recon:EC2/PortSweepTarget", 2.0, 2)]);
    assert_eq!(found[0].resource.instance_id(), Some("i-1"));
    assert_eq!(found[0].service.resource_role, Role::Target);
    check(
        fleet("10.3.0.7", false),
        &[("Recon:EC2/PortSweepTarget", 5.0, 2)],
    );
    // All of the Internet is one finding, and who is inside one of his own.
    let two = |one, other| [fleet(one, false), fleet(other, false)].concat();
    check(
        two("198.51.100.7", "203.0.113.9"),
        &[("Recon:EC2/PortSweepTarget", 2.0, 4)],
    );
    let inside = ("Recon:EC2/PortSweepTarget", 5.0, 2);
    check(two("10.3.0.7", "10.3.0.8"), &[inside, inside]);
    check(fleet("198.51.100.7", true), NONE);
    check(fleet("10.3.0.7", true), NONE);
}

#[test]
fn the_test_decides_after_four_in_a_row_and_begins_anew_for_an_innocent() {
    let settings = Settings::default();
    let odds = |answered: &[bool]| highest_odds(answered.iter().copied(), &settings);
    assert!(odds(&[false; 3]) < 99.0);
    assert!(odds(&[false; 4]) >= 99.0);
    let mut long = vec![true; 50];
    // Four more to forget the last four that answered, at most.
    long.extend([false; 8]);
    assert!(odds(&long) >= 99.0);
    assert!(odds(&[true, false].repeat(50)) < 99.0);
}

#[test]
fn says_the_numbers() {
    let mut all = sweep("192.0.2.", 1..10, 22);
    all.extend(answers("198.51.100.", 1..2, 22));
    let found = findings(vec![window(speaker(), all)]);
    assert_eq!(
        found[0].picket.why,
        "10.0.0.1 tried TCP port 22 of 10 hosts within 1 s: 0 refused, 9 silent, 1 answered; odds for a scanner 262144"
    );
}
