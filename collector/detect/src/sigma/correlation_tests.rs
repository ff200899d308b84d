//! Correlations over events in time, through the analyzer; and what a finding of a rule holds.

use std::sync::Arc;

use picket_intel::IndicatorSet;

use super::testing::{good, load, rule};
use crate::analyzer::Analyzer;
use crate::event::{Event, SourceKind};
use crate::finding::Finding;
use crate::settings::Settings;
use crate::testing::{SECOND, START, api, drain};

/// A call `second` seconds after the beginning: name, who, and where from.
fn call(second: u64, name: &str, who: &str, from: &str) -> Event {
    let mut call = api(&format!(
        r#"{{"eventID":"{name}-{who}-{second}-{from}","eventSource":"signin.amazonaws.com",
        "eventName":"{name}","awsRegion":"eu-west-1","recipientAccountId":"111122223333",
        "sourceIPAddress":"{from}","userIdentity":{{"type":"IAMUser","userName":"{who}",
        "arn":"arn:aws:iam::111122223333:user/{who}","accountId":"111122223333"}}}}"#
    ));
    call.event_time_ns = START + second * SECOND;
    Event::Api(Box::new(*call))
}

fn names(rules: &[(&str, &str)]) -> String {
    let rules = rules.iter().map(|(title, event)| {
        rule(
            title,
            &format!("s:\n    eventName: {event}\n  condition: s"),
        )
    });
    rules.collect::<Vec<_>>().join("---\n")
}

fn correlation(kind: &str, rest: &str) -> String {
    format!(
        "---\ntitle: story\nlevel: high\ntags: [attack.credential-access, attack.t1110]\n\
         correlation:\n  type: {kind}\n{rest}"
    )
}

fn analyze(rules: &str, events: Vec<Event>) -> (Vec<Finding>, Analyzer) {
    let mut analyzer = Analyzer::new(Settings::default(), IndicatorSet::default());
    analyzer.set_rules(Arc::new(good(rules)));
    for event in events {
        analyzer.on_event(event);
    }
    let (findings, _) = drain(&mut analyzer);
    let of_rules = findings
        .into_iter()
        .filter(|f| f.picket.rule.starts_with("sigma/"));
    (of_rules.collect(), analyzer)
}

/// How often the correlation came true, over all of its findings.
#[track_caller]
fn check(rules: &str, events: Vec<Event>, expected: u64) {
    let (findings, _) = analyze(rules, events);
    assert!(
        findings
            .iter()
            .all(|finding| finding.title.starts_with("story"))
    );
    assert_eq!(findings.iter().map(Finding::count).sum::<u64>(), expected);
}

const FAILURES: &str = "  rules: [failed]\n  group-by: [userIdentity.userName]\n  timespan: 1m\n";

fn failures(condition: &str) -> String {
    let rest = format!("{FAILURES}  condition: {{{condition}}}\n");
    names(&[("failed", "Fail")]) + &correlation("event_count", &rest)
}

fn fails(seconds: &[u64], who: &str) -> Vec<Event> {
    seconds
        .iter()
        .map(|&at| call(at, "Fail", who, "192.0.2.1"))
        .collect()
}

#[test]
fn events_are_counted_by_group_within_their_time() {
    let three = failures("gte: 3");
    check(&three, fails(&[0, 10, 20], "eve"), 1);
    check(&three, fails(&[0, 10], "eve"), 0);
    check(&three, fails(&[0, 30, 60], "eve"), 1);
    check(&three, fails(&[0, 30, 61], "eve"), 0);
    check(&three, fails(&[0, 1, 2, 3, 4, 5], "eve"), 2);
    let mut two = fails(&[0, 10], "eve");
    two.extend(fails(&[20, 21], "bob"));
    check(&three, two, 0);
    check(&failures("gt: 2"), fails(&[0, 1, 2], "eve"), 1);
    check(&failures("gt: 2"), fails(&[0, 1], "eve"), 0);
    check(&failures("eq: 2"), fails(&[0, 1], "eve"), 1);
    check(&failures("gte: 2, lte: 5"), fails(&[0, 1], "eve"), 1);
}

#[test]
fn late_events_take_their_place() {
    let three = failures("gte: 3");
    check(&three, fails(&[20, 0, 10], "eve"), 1);
    check(&three, fails(&[100, 0, 10], "eve"), 0);
    let (_, analyzer) = analyze(&three, fails(&[100, 0, 10], "eve"));
    assert_eq!(analyzer.totals().counters["rule_events_late"], 2);
}

#[test]
fn values_are_counted_once_each() {
    let rest = "  rules: [failed]\n  group-by: [sourceIPAddress]\n  timespan: 1m\n  \
                condition: {field: userIdentity.userName, gte: 3}\n";
    let spray = names(&[("failed", "Fail")]) + &correlation("value_count", rest);
    let tries = |who: &[&str]| {
        let tries = who.iter().zip(0..);
        tries
            .map(|(who, at)| call(at, "Fail", who, "192.0.2.1"))
            .collect()
    };
    check(&spray, tries(&["a", "b", "c"]), 1);
    check(&spray, tries(&["a", "b", "a", "b"]), 0);
    check(&spray, tries(&["a", "b", "a", "c"]), 1);
}

#[test]
fn rules_in_any_order_and_in_theirs() {
    let rest = "  rules: [one, two]\n  group-by: [userIdentity.userName]\n  timespan: 1m\n";
    let both = names(&[("one", "A"), ("two", "B")]);
    let any = both.clone() + &correlation("temporal", rest);
    let ordered = both + &correlation("temporal_ordered", rest);
    let at = |at, name| call(at, name, "eve", "192.0.2.1");
    check(&any, vec![at(0, "A"), at(5, "B")], 1);
    check(&any, vec![at(0, "B"), at(5, "A")], 1);
    check(&any, vec![at(0, "A"), at(61, "B")], 0);
    check(&any, vec![at(0, "A"), at(1, "A")], 0);
    check(&ordered, vec![at(0, "A"), at(5, "B")], 1);
    check(&ordered, vec![at(0, "B"), at(5, "A")], 0);
    check(&ordered, vec![at(0, "B"), at(5, "A"), at(9, "B")], 1);
    check(&ordered, vec![at(5, "B"), at(0, "A")], 1);
    // Of one second no order is known.
    check(&ordered, vec![at(5, "B"), at(5, "A")], 1);
    let mut other = vec![at(0, "A")];
    other.push(call(5, "B", "bob", "192.0.2.1"));
    check(&any, other, 0);
}

#[test]
fn some_of_the_rules_are_enough_if_it_says_so() {
    let rest = "  rules: [one, two, three]\n  timespan: 1m\n  condition: {gte: 2}\n";
    let any = names(&[("one", "A"), ("two", "B"), ("three", "C")]) + &correlation("temporal", rest);
    let at = |at, name| call(at, name, "eve", "192.0.2.1");
    check(&any, vec![at(0, "C"), at(5, "A")], 1);
    check(&any, vec![at(0, "C"), at(5, "C")], 0);
}

#[test]
fn one_correlation_may_be_part_of_another() {
    let many = failures("gte: 3").replace("title: story", "title: many\nname: many");
    let rest = "  rules: [many, success]\n  group-by: [userIdentity.userName]\n  timespan: 10m\n";
    let text = format!(
        "{many}---\n{}{}",
        names(&[("success", "Login")]),
        correlation("temporal_ordered", rest)
    );
    let mut events = fails(&[0, 1, 2], "eve");
    events.push(call(100, "Login", "eve", "192.0.2.1"));
    check(&text, events, 1);
    let mut events = fails(&[0, 1], "eve");
    events.push(call(100, "Login", "eve", "192.0.2.1"));
    check(&text, events, 0);
}

#[test]
fn aliases_name_the_field_of_each_rule() {
    let rest = "  rules: [made, used]\n  group-by: [key]\n  timespan: 1m\n  aliases:\n    key:\n      \
                made: sourceIPAddress\n      used: userIdentity.userName\n";
    let text = names(&[("made", "Make"), ("used", "Use")]) + &correlation("temporal_ordered", rest);
    let events = |who| {
        vec![
            call(0, "Make", "eve", "k1"),
            call(1, "Use", who, "192.0.2.1"),
        ]
    };
    check(&text, events("k1"), 1);
    check(&text, events("k2"), 0);
}

#[test]
fn rules_of_a_correlation_are_silent_unless_it_generates() {
    let silent = failures("gte: 3");
    assert_eq!(analyze(&silent, fails(&[0], "eve")).0.len(), 0);
    let loud = silent.replace("timespan: 1m", "timespan: 1m\n  generate: true");
    let (findings, _) = analyze(&loud, fails(&[0], "eve"));
    assert!(findings[0].title.starts_with("failed"));
}

#[test]
fn an_event_without_the_field_is_in_no_group() {
    let text = failures("gte: 2").replace("userIdentity.userName", "userIdentity.nothing");
    check(&text, fails(&[0, 1, 2], "eve"), 0);
}

#[test]
fn what_a_correlation_cannot_be() {
    let fault = |kind: &str, rest: &str| {
        let loaded = load(&(names(&[("failed", "Fail")]) + &correlation(kind, rest)));
        loaded.faults[0].to_string()
    };
    let rest = |condition: &str| format!("{FAILURES}  condition: {condition}\n");
    assert!(fault("value_sum", &rest("{gte: 1}")).contains("value_sum"));
    assert!(fault("event_count", &rest("{lt: 5}")).contains("does not happen"));
    assert!(fault("event_count", &rest("{gt: 5, lt: 3}")).contains("no number"));
    assert!(fault("event_count", &rest("{gte: 1000000}")).contains("10000"));
    assert!(fault("event_count", &rest("{gte: x}")).contains("whole number"));
    assert!(fault("event_count", FAILURES).contains("condition"));
    assert!(fault("value_count", &rest("{gte: 2}")).contains("field"));
    let unknown = rest("{gte: 2}").replace("[failed]", "[failed, gone]");
    assert!(fault("event_count", &unknown).contains("gone"));
    let own = rest("{gte: 2}").replace("[failed]", "[failed, story]");
    assert!(fault("event_count", &own).contains("story"));
    let long = rest("{gte: 2}").replace("1m", "60d");
    assert!(fault("event_count", &long).contains("31 days"));
    let odd = rest("{gte: 2}").replace("1m", "soon");
    assert!(fault("event_count", &odd).contains("soon"));
}

#[test]
fn groups_are_forgotten_in_time_and_for_want_of_room() {
    let three = failures("gte: 3");
    let mut analyzer = Analyzer::new(Settings::default(), IndicatorSet::default());
    analyzer.set_rules(Arc::new(good(&three)));
    for event in fails(&[0, 1], "eve") {
        analyzer.on_event(event);
    }
    analyzer.advance(SourceKind::Cloudtrail, START + 3_600 * SECOND);
    // Late beyond reason: its group is gone, and it begins another.
    for event in fails(&[2], "eve") {
        analyzer.on_event(event);
    }
    assert!(drain(&mut analyzer).0.is_empty());
    for number in 0..super::limits::GROUPS_MAX as u64 + 10 {
        for event in fails(&[5_000 + number / 100], &format!("user{number}")) {
            analyzer.on_event(event);
        }
    }
    assert!(analyzer.totals().counters["rule_groups_evicted"] > 0);
}

#[test]
fn a_finding_says_which_rule_and_why() {
    let text = "title: Key made\nid: 11111111-2222-4333-8444-555555555555\nauthor: A. Nother\n\
        license: MIT\nlevel: high\ntags: [attack.t1098.001, attack.persistence]\n\
        falsepositives: [Rotation of keys]\n"
        .to_owned()
        + &rule(
            "x",
            "s:\n    eventName: Make\n  f:\n    awsRegion: us-east-1\n  condition: s and not f",
        )
        .replace("title: x\n", "");
    let at = |at, from| call(at, "Make", "eve", from);
    let (findings, _) = analyze(
        &text,
        vec![at(0, "192.0.2.1"), at(1, "192.0.2.1"), at(2, "192.0.2.2")],
    );
    let brief: Vec<(&str, f64, u64)> = findings
        .iter()
        .map(|f| (f.type_name(), f.severity(), f.count()))
        .collect();
    let kind = "Persistence:IAMUser/SigmaRule";
    assert_eq!(brief, [(kind, 8.0, 2), (kind, 8.0, 1)]);
    let finding = &findings[0];
    assert_eq!(
        finding.picket.rule,
        "sigma/11111111-2222-4333-8444-555555555555"
    );
    assert_eq!(finding.picket.mitre, ["T1098.001"]);
    assert!(
        finding
            .picket
            .why
            .contains(r#"matches by eventName "Make""#),
        "{}",
        finding.picket.why
    );
    assert!(!finding.picket.why.contains("us-east-1"));
    assert!(
        finding
            .picket
            .first_look
            .iter()
            .any(|line| line.contains("Rotation of keys"))
    );
    let info = &finding.service.additional_info;
    assert_eq!(info["ruleAuthor"], "A. Nother");
    assert_eq!(info["ruleLicense"], "MIT");
    assert_eq!(info["ruleTitle"], "Key made");
    assert_eq!(info["ruleDigest"].len(), 64);
}

#[test]
fn two_rules_never_share_a_finding() {
    let (findings, _) = analyze(
        &names(&[("one", "A"), ("two", "A")]),
        vec![call(0, "A", "eve", "x")],
    );
    assert_eq!(findings.len(), 2);
}
