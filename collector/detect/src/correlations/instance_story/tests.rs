use picket_intel::{Category, IndicatorSet};
use picket_wire::{Host, Summary};

use crate::analyzer::Analyzer;
use crate::event::Event;
use crate::finding::Finding;
use crate::incident::{Incident, Part};
use crate::settings::Settings;
use crate::testing::{
    START, analyze, api, conversation, drain, intel, later, mirror, speaker, summary,
};

const INSTANCE: &str = "i-0aaaaaaaaaaaaaaaa";

fn lists() -> IndicatorSet {
    intel(&[(Category::Mining, "192.0.2.7")])
}

fn time(offset_s: i64) -> String {
    let ns = (START as i64 + offset_s * 1_000_000_000) as u64;
    crate::Time(ns).to_string()
}

/// The host of `speaker` mines at [`START`].
fn mining(host: Host, own: &str) -> Event {
    Event::Summary(Box::new(Summary {
        conversations: vec![conversation(own, "192.0.2.7", 3333)],
        ..summary(host)
    }))
}

fn launch(offset_s: i64) -> Event {
    launch_of(offset_s, INSTANCE, "10.0.0.1")
}

fn launch_of(offset_s: i64, instance: &str, address: &str) -> Event {
    Event::Api(api(&format!(
        r#"{{"eventID":"launch","eventTime":"{}","eventSource":"ec2.amazonaws.com",
        "eventName":"RunInstances","awsRegion":"eu-west-1","recipientAccountId":"111122223333",
        "sourceIPAddress":"203.0.113.9","userIdentity":{{"type":"IAMUser","userName":"alice",
        "arn":"arn:aws:iam::111122223333:user/alice","accountId":"111122223333"}},
        "responseElements":{{"instancesSet":{{"items":[{{"instanceId":"{instance}",
        "privateIpAddress":"{address}","iamInstanceProfile":
        {{"arn":"arn:aws:iam::111122223333:instance-profile/web"}}}}]}}}}}}"#,
        time(offset_s)
    )))
}

fn role_call(offset_s: i64, name: &str, from: &str) -> Event {
    role_call_of(offset_s, name, from, INSTANCE)
}

fn role_call_of(offset_s: i64, name: &str, from: &str, session: &str) -> Event {
    Event::Api(api(&format!(
        r#"{{"eventID":"{name}{offset_s}","eventTime":"{}","eventSource":"s3.amazonaws.com",
        "eventName":"{name}","awsRegion":"eu-west-1","recipientAccountId":"111122223333",
        "sourceIPAddress":"{from}","userIdentity":{{"type":"AssumedRole",
        "principalId":"AROAEXAMPLE:{session}",
        "arn":"arn:aws:sts::111122223333:assumed-role/web-role/{session}",
        "accountId":"111122223333","accessKeyId":"ASIAEXAMPLE"}}}}"#,
        time(offset_s)
    )))
}

fn one(events: Vec<Event>) -> (Vec<Finding>, Incident) {
    let (findings, mut incidents) = analyze(lists(), events);
    assert_eq!(incidents.len(), 1);
    (findings, incidents.remove(0))
}

fn none(events: Vec<Event>) {
    assert_eq!(analyze(lists(), events).1, []);
}

#[test]
fn a_host_that_mines_is_joined_with_its_launch_and_its_role() {
    let events = vec![
        launch(-3_600),
        role_call(-1_800, "ListBuckets", "10.0.0.1"),
        mining(speaker(), "10.0.0.1"),
        role_call(60, "GetObject", "198.51.100.7"),
    ];
    let (findings, incident) = one(events);
    let story: Vec<(&str, &str)> = incident
        .stages
        .iter()
        .map(|stage| (&*stage.tactic, &*stage.title))
        .collect();
    assert_eq!(
        story,
        [
            (
                "Resource Development",
                "launched by arn:aws:iam::111122223333:user/alice from 203.0.113.9"
            ),
            ("Discovery", "its role called ListBuckets from 10.0.0.1"),
            (
                "Impact",
                "i-0aaaaaaaaaaaaaaaa talks to 192.0.2.7, a mining pool"
            ),
            (
                "Exfiltration",
                "its role called GetObject from 198.51.100.7, outside the host"
            ),
        ]
    );
    assert_eq!(incident.severity, 9.0);
    assert_eq!(incident.findings, [findings[0].id.clone()]);
    assert_eq!(
        findings[0].picket.incident.as_deref(),
        Some(incident.id.as_str())
    );
    let entities = &incident.entities;
    assert_eq!(entities.instance_profile.as_deref(), Some("web"));
    assert_eq!(entities.role.as_deref(), Some("web-role"));
    assert_eq!(entities.launched_from.as_deref(), Some("203.0.113.9"));
    assert_eq!(entities.role_used_from, ["10.0.0.1", "198.51.100.7"]);
    let json = serde_json::to_value(&incident).unwrap();
    assert_eq!(json["kind"], "incident");
    assert_eq!(json["stages"][0]["event"]["event_id"], "launch");
    assert_eq!(json["stages"][2]["finding"], findings[0].id);
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let parts: [fn() -> Event; 4] = [
        || launch(-3_600),
        || role_call(-1_800, "ListBuckets", "10.0.0.1"),
        || mining(speaker(), "10.0.0.1"),
        || role_call(60, "GetObject", "198.51.100.7"),
    ];
    let orders = [[0, 1, 2, 3], [2, 0, 1, 3], [3, 2, 1, 0], [1, 3, 0, 2]];
    let told: Vec<Incident> = orders
        .iter()
        .map(|order| one(order.iter().map(|&part| parts[part]()).collect()).1)
        .collect();
    for incident in &told {
        assert_eq!(incident, &told[0]);
    }
}

fn reported(offset_s: i64, resource: &str) -> Event {
    let json = format!(
        r#"{{"accountId":"111122223333","region":"eu-west-1","id":"g1","type":"Backdoor:EC2/C&CActivity.B",
        "severity":8.0,"title":"C2","resource":{{{resource}}},"updatedAt":"{}"}}"#,
        time(offset_s)
    );
    let mut read = crate::logs::Reported::parse(json.as_bytes()).unwrap();
    Event::Reported(Box::new(read.remove(0).unwrap()))
}

#[test]
fn findings_of_guardduty_are_stages_and_none_of_ours() {
    let host = r#""instanceDetails":{"instanceId":"i-0aaaaaaaaaaaaaaaa"}"#;
    let (findings, incident) = one(vec![launch(-3_600), reported(10, host)]);
    assert!(findings.is_empty());
    assert_eq!(incident.findings, ["guardduty/g1"]);
    let last = incident.stages.last().unwrap();
    let told = (
        last.title.as_str(),
        last.finding_type.as_deref(),
        last.severity,
    );
    assert_eq!(
        told,
        (
            "GuardDuty: C2",
            Some("Backdoor:EC2/C&CActivity.B"),
            Some(8.0)
        )
    );
    let session = r#""accessKeyDetails":{"principalId":"AROAX:i-0aaaaaaaaaaaaaaaa"}"#;
    assert_eq!(
        one(vec![launch(-3_600), reported(10, session)]).1.findings,
        ["guardduty/g1"]
    );
    // Told again it is the same one.
    let twice = vec![launch(-3_600), reported(10, host), reported(20, host)];
    assert_eq!(one(twice).1.findings, ["guardduty/g1"]);
    none(vec![
        launch(-3_600),
        reported(10, r#""accessKeyDetails":{"principalId":"AIDAX"}"#),
    ]);
    none(vec![reported(10, host)]);
}

#[test]
fn one_side_alone_is_no_incident() {
    none(vec![mining(speaker(), "10.0.0.1")]);
    none(vec![launch(-10), role_call(5, "GetObject", "198.51.100.7")]);
    let other = "i-0bbbbbbbbbbbbbbbb";
    none(vec![
        mining(speaker(), "10.0.0.1"),
        launch_of(-10, other, "10.0.0.9"),
        role_call_of(5, "GetObject", "198.51.100.7", other),
        role_call_of(5, "GetObject", "198.51.100.7", "alice"),
    ]);
}

#[test]
fn severity_is_raised_only_by_use_from_outside_after_the_finding() {
    let check = |calls: Vec<Event>, severity: f64| {
        let mut events = vec![launch(-3_600), mining(speaker(), "10.0.0.1")];
        events.extend(calls);
        assert_eq!(one(events).1.severity, severity);
    };
    check(vec![role_call(60, "GetObject", "198.51.100.7")], 9.0);
    // From the host itself, by a service, or before anything was found.
    check(vec![role_call(60, "GetObject", "10.0.0.1")], 8.0);
    check(vec![role_call(60, "GetObject", "ec2.amazonaws.com")], 8.0);
    check(vec![role_call(-60, "GetObject", "198.51.100.7")], 8.0);
    // The way out that it used before is its own; a second one is not.
    let home = || role_call(-600, "ListBuckets", "198.51.100.1");
    check(
        vec![home(), role_call(60, "GetObject", "198.51.100.1")],
        8.0,
    );
    check(
        vec![home(), role_call(60, "GetObject", "198.51.100.7")],
        9.0,
    );
}

#[test]
fn calls_of_long_ago_belong_to_another_story() {
    let day = 24 * 3_600;
    let stages = |offset_s| {
        let events = vec![
            launch(-100 * day),
            role_call(offset_s, "ListBuckets", "10.0.0.1"),
            mining(speaker(), "10.0.0.1"),
        ];
        one(events).1.stages.len()
    };
    assert_eq!(stages(-day + 60), 3);
    assert_eq!(stages(-day - 60), 2);
}

#[test]
fn a_mirrored_host_is_found_by_its_address_while_it_had_it() {
    let terminate = |offset_s: i64| {
        Event::Api(api(&format!(
            r#"{{"eventTime":"{}","eventSource":"ec2.amazonaws.com","eventName":"TerminateInstances",
            "recipientAccountId":"111122223333","responseElements":{{"instancesSet":
            {{"items":[{{"instanceId":"{INSTANCE}"}}]}}}}}}"#,
            time(offset_s)
        )))
    };
    let seen = || mining(mirror(), "10.7.0.1");
    let launch = |offset_s| launch_of(offset_s, INSTANCE, "10.7.0.1");
    let (findings, incident) = one(vec![launch(-60), seen()]);
    assert_eq!(incident.entities.instance, INSTANCE);
    assert_eq!(findings[0].resource.instance_id(), Some("10.7.0.1"));
    // CloudTrail comes late.
    assert_eq!(one(vec![seen(), launch(-60)]).1.findings.len(), 1);
    // Gone before, launched after, or two at once.
    none(vec![launch(-600), terminate(-300), seen()]);
    none(vec![seen(), launch(600)]);
    none(vec![
        launch(-60),
        launch_of(-50, "i-0bbbbbbbbbbbbbbbb", "10.7.0.1"),
        seen(),
    ]);
}

#[test]
fn findings_about_the_role_are_part_of_the_story() {
    let listed = intel(&[
        (Category::Mining, "192.0.2.7"),
        (Category::Custom, "198.51.100.7"),
    ]);
    let events = [
        mining(speaker(), "10.0.0.1"),
        role_call(60, "GetObject", "198.51.100.7"),
    ];
    let (findings, incidents) = analyze(listed, events);
    assert_eq!(findings.len(), 2);
    let ids: Vec<&str> = findings.iter().map(Finding::id).collect();
    assert_eq!(incidents[0].findings, ids);
    assert!(findings.iter().all(|f| f.picket.incident.is_some()));
}

#[test]
fn a_story_goes_on_after_a_restart() {
    let whole = || {
        vec![
            launch(-3_600),
            role_call(-60, "ListBuckets", "10.0.0.1"),
            mining(speaker(), "10.0.0.1"),
        ]
    };
    let after = || {
        let Event::Summary(again) = mining(speaker(), "10.0.0.1") else {
            return vec![];
        };
        vec![
            role_call(60, "GetObject", "198.51.100.7"),
            Event::Summary(Box::new(later(*again, 10))),
        ]
    };
    let mut first = Analyzer::new(Settings::default(), lists());
    whole().into_iter().for_each(|event| first.on_event(event));
    let (findings, incidents) = drain(&mut first);
    // Through JSON, as a store keeps them.
    let text = serde_json::to_string(&(findings, incidents)).unwrap();
    let (findings, incidents) = serde_json::from_str(&text).unwrap();
    let mut second = Analyzer::new(Settings::default(), lists());
    second.restore(findings, incidents);
    assert_eq!(drain(&mut second), (vec![], vec![]));
    for event in after() {
        first.on_event(event);
        // The same again for the one that was restarted.
    }
    after().into_iter().for_each(|event| second.on_event(event));
    assert_eq!(drain(&mut second), drain(&mut first));
}

#[test]
fn a_launch_is_told_apart_from_calls() {
    let (_, incident) = one(vec![launch(-60), mining(speaker(), "10.0.0.1")]);
    let parts: Vec<Option<Part>> = incident
        .stages
        .iter()
        .map(|stage| stage.event.as_ref().map(|event| event.part))
        .collect();
    assert_eq!(parts, [Some(Part::Launch), None]);
}

/// A rule of the operator's own that matches what the host's role calls.
#[test]
fn findings_of_rules_on_trial_join_no_incident() {
    use std::sync::Arc;

    use crate::sigma::{Placeholders, RuleSet};

    let text = "title: Buckets are listed\nid: 11111111-2222-4333-8444-555555555555\nlevel: high\n\
        logsource: {product: aws, service: cloudtrail}\n\
        detection: {a: {eventName: ListBuckets}, condition: a}\n";
    let joined = |on_trial: &[&str]| -> usize {
        let loaded = RuleSet::load([("a.yml", text)], &Placeholders::new());
        assert_eq!(loaded.faults, []);
        let mut analyzer = Analyzer::new(Settings::default(), lists());
        analyzer.set_rules(Arc::new(loaded.rules));
        analyzer.set_on_trial(on_trial.iter().map(|&rule| rule.to_owned()).collect());
        let events = [
            launch(-60),
            mining(speaker(), "10.0.0.1"),
            role_call(20, "ListBuckets", "203.0.113.9"),
        ];
        for event in events {
            analyzer.on_event(event);
        }
        let (findings, incidents) = drain(&mut analyzer);
        let is_rules = |finding: &&Finding| finding.picket.rule.starts_with("sigma/");
        let of_rule: Vec<&Finding> = findings.iter().filter(is_rules).collect();
        assert_eq!(of_rule.len(), 1);
        assert_eq!(incidents.len(), 1);
        let is_in = |finding: &&&Finding| incidents[0].findings.contains(&finding.id);
        of_rule.iter().filter(is_in).count()
    };
    assert_eq!(joined(&[]), 1);
    assert_eq!(joined(&["sigma/another"]), 1);
    assert_eq!(joined(&["sigma/11111111-2222-4333-8444-555555555555"]), 0);
}
