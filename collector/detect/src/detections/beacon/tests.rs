use super::curves::Chance;
use super::*;
use crate::testing::{
    SECOND, START, analyze, brief, conversation, intel, ip, later, mirror, speaker, summary,
};
use picket_intel::{Category, IndicatorSet};
use picket_wire::{Host, Side, Summary};

const FOUND: &str = "Backdoor:EC2/Beaconing";

/// A call of the host's own, made so many milliseconds after [`START`].
fn call(host: &Host, c: &Conversation, at_ms: u64) -> Summary {
    let mut one = summary(host.clone());
    let mut c = c.clone();
    (c.first_ns, c.last_ns) = (START + at_ms % 10_000 * 1_000_000, START + 9 * SECOND);
    one.conversations = vec![c];
    later(one, at_ms / 10_000 * 10)
}

fn calls(c: &Conversation, interval_ms: u64, count: u64) -> Vec<Summary> {
    (0..count)
        .map(|at| call(&speaker(), c, at * interval_ms))
        .collect()
}

fn found(summaries: Vec<Summary>, indicators: IndicatorSet) -> Vec<(String, f64)> {
    let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
    let (findings, _) = analyze(indicators, events);
    let only = brief(&findings)
        .into_iter()
        .filter(|(kind, ..)| *kind == FOUND);
    only.map(|(kind, severity, _)| (kind.to_owned(), severity))
        .collect()
}

#[track_caller]
fn check(summaries: Vec<Summary>, expected: &[f64]) {
    let got = found(summaries, IndicatorSet::default());
    let severities: Vec<f64> = got.iter().map(|(_, severity)| *severity).collect();
    assert_eq!(severities, expected);
}

fn web() -> Conversation {
    conversation("10.0.0.1", "192.0.2.1", 443)
}

fn named(name: &str) -> Conversation {
    Conversation {
        tls_name: Some(name.into()),
        dns_name: Some(name.into()),
        ..web()
    }
}

#[test]
fn a_call_a_minute_and_too_few_of_them() {
    check(calls(&web(), 60_000, 12), &[5.0]);
    check(calls(&web(), 60_000, 11), &[]);
}

#[test]
fn a_quick_one_must_last() {
    check(calls(&web(), 10_000, 66), &[5.0]);
    check(calls(&web(), 10_000, 58), &[]);
}

#[test]
fn many_calls_within_a_window_have_a_rhythm() {
    let window = |at: u64, starts_ms: Vec<u32>| {
        let mut c = web();
        (c.flows, c.attempts) = (starts_ms.len() as u32, starts_ms.len() as u32);
        c.starts_ms = starts_ms;
        call(&speaker(), &c, at * 10_000)
    };
    let steady = (0..66).map(|at| window(at, vec![0, 2_500, 5_000, 7_500]));
    check(steady.collect(), &[5.0]);
    let bursts = (0..66u64).map(|at| {
        let by = (at * 7 % 10) as u32 * 300;
        window(at, vec![0, 600 + by / 3, 1_300 + by, 7_000])
    });
    check(bursts.collect(), &[]);
}

#[test]
fn a_call_a_day_is_found_in_a_fortnight() {
    check(calls(&web(), 86_400_000, 13), &[5.0]);
    check(calls(&web(), 86_400_000, 11), &[]);
}

#[test]
fn calls_at_random_have_none() {
    for seed in 1..6 {
        let (mut chance, mut at_ms) = (Chance::new(seed), 0);
        let summaries = (0..300).map(|_| {
            at_ms += (chance.waits(60_000.0)) as u64;
            call(&speaker(), &web(), at_ms)
        });
        check(summaries.collect(), &[]);
        let jittered = (0..300).map(|at| {
            let by = chance.draw() * 30_000.0;
            call(&speaker(), &web(), at * 60_000 + by as u64)
        });
        check(jittered.collect(), &[5.0]);
    }
}

#[test]
fn aws_polls_and_a_rented_name_is_not_awss() {
    check(
        calls(&named("ssm.eu-west-1.amazonaws.com"), 60_000, 30),
        &[],
    );
    check(calls(&named("archive.ubuntu.com"), 60_000, 30), &[]);
    let rented = named("ec2-192-0-2-1.eu-west-1.compute.amazonaws.com");
    check(calls(&rented, 60_000, 30), &[5.0]);
    // Who says so, and asked for another name.
    let forged = Conversation {
        tls_name: Some("ssm.eu-west-1.amazonaws.com".into()),
        ..named("evil.example")
    };
    check(calls(&forged, 60_000, 30), &[5.0]);
    // Who says so at an address that nobody asked for, and that a name led another host to.
    let claimed = Conversation {
        dns_name: None,
        ..named("ssm.eu-west-1.amazonaws.com")
    };
    check(calls(&claimed, 60_000, 30), &[5.0]);
    let other = Conversation {
        server: ip("192.0.2.77"),
        ..named("ssm.eu-west-1.amazonaws.com")
    };
    let mut led = vec![call(&mirror(), &other, 0)];
    led.extend(calls(&claimed, 60_000, 30));
    check(led, &[]);
    let elsewhere = Conversation {
        server: ip("198.51.100.77"),
        ..named("ssm.eu-west-1.amazonaws.com")
    };
    let mut led = vec![call(&mirror(), &elsewhere, 0)];
    led.extend(calls(&claimed, 60_000, 30));
    check(led, &[5.0]);
    check(
        calls(&named("bucket.s3.eu-west-1.amazonaws.com"), 60_000, 30),
        &[5.0],
    );
}

#[test]
fn what_goes_on_inside_or_comes_in_is_no_beacon() {
    let inside = conversation("10.0.0.1", "10.0.7.7", 443);
    check(calls(&inside, 60_000, 30), &[]);
    let health = conversation("192.0.2.1", "10.0.0.1", 80);
    check(calls(&health, 60_000, 30), &[]);
    // A mirror sees both; who calls out is the resource.
    let outside = conversation("10.0.7.7", "192.0.2.1", 443);
    let seen = (0..30).map(|at| call(&mirror(), &outside, at * 60_000));
    check(seen.collect(), &[5.0]);
}

#[test]
fn time_and_names_are_rhythms_by_trade() {
    for (port, expected) in [(123, &[][..]), (53, &[]), (1_234, &[5.0])] {
        let c = Conversation {
            protocol: 17,
            attempts: 0,
            accepted: 0,
            ..conversation("10.0.0.1", "192.0.2.1", port)
        };
        check(calls(&c, 60_000, 30), expected);
    }
}

#[test]
fn a_connection_that_goes_on_begins_nothing() {
    let c = Conversation {
        attempts: 0,
        starts_ms: vec![],
        ..web()
    };
    check(calls(&c, 60_000, 60), &[]);
    check(calls(&web(), 60_000, 60), &[5.0]);
}

#[test]
fn a_listed_peer_is_worse() {
    let listed = || intel(&[(Category::C2, "evil.example")]);
    let got = found(calls(&named("a.evil.example"), 60_000, 30), listed());
    assert_eq!(got, [(FOUND.to_owned(), 8.0)]);
    let got = found(calls(&named("good.example"), 60_000, 30), listed());
    assert_eq!(got, [(FOUND.to_owned(), 5.0)]);
}

/// So many hosts of forty call the same peer once a minute.
fn fleet(callers: u8) -> Vec<Summary> {
    let mut all = Vec::new();
    for minute in 0..15u64 {
        for host in 1..=40u8 {
            let address = format!("10.1.0.{host}");
            let own = Host {
                instance: format!("i-{host}"),
                local: vec![picket_wire::Net {
                    address: ip(&address),
                    prefix: 32,
                }],
                ..speaker()
            };
            let server = if host <= callers { 1 } else { 100 + host };
            let mut c = conversation(&address, &format!("192.0.2.{server}"), 443);
            c.local = Side::Client;
            if host > callers && minute > 0 {
                continue;
            }
            all.push(call(&own, &c, minute * 60_000 + u64::from(host)));
        }
    }
    all
}

#[test]
fn what_many_hosts_call_is_how_they_are_made() {
    check(fleet(1), &[5.0]);
    check(fleet(2), &[5.0; 2]);
    check(fleet(12), &[3.0; 12]);
    check(fleet(25), &[]);
}

#[test]
fn each_beat_counts_once_also_those_before_it_was_sure() {
    let events = calls(&web(), 10_000, 66);
    let events = events.into_iter().map(|s| Event::Summary(Box::new(s)));
    let (findings, _) = analyze(IndicatorSet::default(), events);
    assert!(
        (60..=65).contains(&findings[0].count()),
        "{}",
        findings[0].count()
    );
}

#[test]
fn says_its_numbers() {
    let events = calls(&web(), 60_000, 12)
        .into_iter()
        .map(|s| Event::Summary(Box::new(s)));
    let (findings, _) = analyze(IndicatorSet::default(), events);
    assert_eq!(
        findings[0].picket.why,
        "11 intervals of 60.0 s, half of them within 0.0 s of it, for 660 s: score 1.00, 0.83 needed; sizes alike 1.00; no other host calls it"
    );
    assert_eq!(
        findings[0].title,
        "i-0aaaaaaaaaaaaaaaa calls 192.0.2.1 port 443 every 60.0 s"
    );
    assert_eq!(findings[0].count(), 11);
}
