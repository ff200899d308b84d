//! What listed addresses make of packets, hits and near-misses.

use super::*;
use crate::testing::{
    SECOND, address_hit, analyze, brief, conversation, intel, later, mirror, speaker, summary,
    unanswered,
};
use picket_intel::{Direction, Indicator, IndicatorSet, List, SetBuilder};
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
    let check = |lists: IndicatorSet, summaries: Vec<Summary>, expected: &[(&str, f64, u64)]| {
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

/// One list of one address, made for one way of meeting it.
fn one_list(direction: Direction, confidence: u8) -> IndicatorSet {
    let mut builder = SetBuilder::default();
    let list = List {
        direction,
        confidence,
        ..List::new("list", Category::C2)
    };
    let list = builder.list(list).unwrap();
    let address = Indicator::address("192.0.2.7").unwrap();
    builder.add(list, address).unwrap();
    builder.build()
}

#[test]
fn a_list_of_attackers_says_nothing_of_whom_a_host_calls() {
    let check = |set: IndicatorSet, client, server, expected: &[(&str, f64, u64)]| {
        let window = of(speaker(), vec![conversation(client, server, 443)]);
        let (findings, _) = analyze(set, [Event::Summary(Box::new(window))]);
        assert_eq!(brief(&findings), expected);
    };
    let (host, listed) = ("10.0.0.1", "192.0.2.7");
    check(one_list(Direction::Inbound, 90), host, listed, &[]);
    check(
        one_list(Direction::Inbound, 90),
        listed,
        host,
        &[(C2, 3.0, 1)],
    );
    check(one_list(Direction::Outbound, 90), listed, host, &[]);
    check(
        one_list(Direction::Outbound, 90),
        host,
        listed,
        &[(C2, 8.0, 1)],
    );
    check(one_list(Direction::Both, 60), host, listed, &[(C2, 5.0, 1)]);
    check(one_list(Direction::Both, 10), host, listed, &[(C2, 2.0, 1)]);
}

#[test]
fn a_hit_is_judged_by_the_list_it_names() {
    let check = |set: IndicatorSet, expected: &[(&str, f64, u64)]| {
        let mut hit = address_hit("10.0.0.1", "192.0.2.7", 443, "192.0.2.7", "c2");
        hit.list = "list".to_owned();
        let told = Summary {
            immediate: true,
            hits: vec![hit],
            ..summary(speaker())
        };
        let (findings, _) = analyze(set, [Event::Summary(Box::new(told))]);
        assert_eq!(brief(&findings), expected);
    };
    check(one_list(Direction::Inbound, 90), &[]);
    check(one_list(Direction::Both, 10), &[(C2, 2.0, 1)]);
    check(IndicatorSet::default(), &[(C2, 8.0, 1)]);
}

#[test]
fn a_function_is_known_by_its_interface_if_it_is_named() {
    let seen = |interface: &str, port| {
        let mut host = speaker();
        host.instance = interface.to_owned();
        let seen = of(host, vec![conversation("10.0.0.1", "192.0.2.7", port)]);
        Event::Summary(Box::new(seen))
    };
    let mut settings = crate::Settings::default();
    let functions = &mut settings.detections.indicator_address.functions;
    functions.insert("eni-0a".to_owned(), "orders".to_owned());
    let found = |interface: &str| {
        let mut analyzer = crate::Analyzer::new(settings.clone(), lists());
        analyzer.on_event(seen(interface, 443));
        analyzer.finish();
        let (mut findings, _) = crate::testing::drain(&mut analyzer);
        findings.remove(0)
    };
    let named = found("eni-0a");
    assert_eq!(named.type_name(), "Backdoor:Lambda/C&CActivity.B");
    assert!(matches!(named.resource, Resource::Lambda { .. }));
    assert!(named.title.contains("orders") && !named.title.contains("eni-0a"));
    let other = found("eni-0b");
    assert_eq!(other.type_name(), C2);
    assert_eq!(other.resource.instance_id(), Some("eni-0b"));
}
