//! The analyzer as its callers use it: deterministic, bounded, and going on after a restart.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

use picket_detect::event::{Event, SourceKind};
use picket_detect::logs::cloudtrail::ApiCall;
use picket_detect::{Analyzer, Finding, Incident, Output, Settings};
use picket_intel::SetBuilder;
use picket_wire::Summary;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn analyzer() -> Analyzer {
    let mut lists = SetBuilder::default();
    lists.read_file("c2-ips.txt", b"192.0.2.0/28").unwrap();
    lists
        .read_file("mining-domains.txt", b"pool.example")
        .unwrap();
    lists
        .read_file("custom-ips.txt", b"198.51.100.0/24")
        .unwrap();
    Analyzer::new(Settings::default(), lists.build())
}

/// One step of a day: a window of a host, or a call.
#[derive(Debug, Clone)]
enum Step {
    Talk { to: u8, port: u16, window: u64 },
    Ask { name: u8, window: u64 },
    Scan { ports: u16, window: u64 },
    Call { api: u8, from: u8, second: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..32u8, 1..3u16, 0..50u64).prop_map(|(to, port, window)| Step::Talk { to, port, window }),
        (0..4u8, 0..50u64).prop_map(|(name, window)| Step::Ask { name, window }),
        (1..40u16, 0..50u64).prop_map(|(ports, window)| Step::Scan { ports, window }),
        (0..6u8, 0..4u8, 0..500u64).prop_map(|(api, from, second)| Step::Call {
            api,
            from,
            second
        }),
    ]
}

const INSTANCE: &str = "i-0123456789abcdef0";

fn event(step: &Step) -> Event {
    match step {
        Step::Talk { to, port, window } => {
            let talk = conversation(&format!("192.0.2.{to}"), *port, true, *window);
            Event::Summary(Box::new(summary(*window, vec![talk], vec![])))
        }
        Step::Ask { name, window } => {
            let name =
                ["eu.pool.example", "pool.example", "example", "a.example"][usize::from(*name)];
            let question = picket_wire::Question {
                client: "10.0.0.1".parse().unwrap(),
                resolver: "10.0.0.2".parse().unwrap(),
                transport: picket_wire::Transport::Udp,
                name: name.into(),
                qtype: 28,
                asked: 2,
                answered: 2,
                nxdomain: 0,
                rcode: Some(0),
                answers: vec![],
                first_ns: at(*window),
                last_ns: at(*window),
                bytes: 100,
                process: None,
                also: vec![],
                asked_by_others: 0,
                unanswered: 0,
                failed: 0,
                truncated: 0,
                edns_bytes: None,
                latency: None,
                tunnel: None,
                tunnel_id: None,
            };
            Event::Summary(Box::new(summary(*window, vec![], vec![question])))
        }
        Step::Scan { ports, window } => {
            let ports = 1..=*ports;
            let probes = ports.map(|port| conversation("203.0.113.1", port, false, *window));
            Event::Summary(Box::new(summary(*window, probes.collect(), vec![])))
        }
        Step::Call { api, from, second } => {
            let api = [
                "RunInstances",
                "StopLogging",
                "ListUsers",
                "GetObject",
                "DeleteTrail",
                "CreateUser",
            ][usize::from(*api)];
            let from = [
                "198.51.100.7",
                "10.0.0.1",
                "203.0.113.9",
                "ec2.amazonaws.com",
            ][usize::from(*from)];
            call(api, from, *second)
        }
    }
}

fn at(window: u64) -> u64 {
    START + window * 10 * SECOND + SECOND
}

fn summary(
    window: u64,
    conversations: Vec<picket_wire::Conversation>,
    questions: Vec<picket_wire::Question>,
) -> Summary {
    let start_ns = START + window * 10 * SECOND;
    Summary {
        version: 1,
        immediate: false,
        host: picket_wire::Host {
            instance: INSTANCE.into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            capture: "tcx".into(),
            local: vec![picket_wire::Net {
                address: "10.0.0.1".parse().unwrap(),
                prefix: 32,
            }],
            ..picket_wire::Host::default()
        },
        window: picket_wire::Window {
            start_ns,
            end_ns: start_ns + 10 * SECOND,
        },
        conversations,
        questions,
        hits: vec![],
        counters: vec![],
        cut: picket_wire::Cut::default(),
        ..Summary::default()
    }
}

fn conversation(to: &str, port: u16, answered: bool, window: u64) -> picket_wire::Conversation {
    let answered = u32::from(answered);
    picket_wire::Conversation {
        client: "10.0.0.1".parse().unwrap(),
        server: to.parse().unwrap(),
        server_port: port,
        client_port: 40_000,
        protocol: 6,
        opened: picket_wire::Opened::Seen,
        local: picket_wire::Side::Client,
        flows: 1,
        attempts: 1,
        accepted: answered,
        refused: 0,
        packets_out: 3,
        packets_in: 3 * u64::from(answered),
        bytes_out: 180,
        bytes_in: 180 * u64::from(answered),
        flags_out: 0x12,
        flags_in: 0x12 * answered as u8,
        first_ns: at(window),
        last_ns: at(window) + SECOND,
        tls_name: None,
        ja4: None,
        dns_name: None,
        process: None,
        content: None,
        tunnel: None,
        tunnel_id: None,
        processes: None,
        starts_ms: vec![],
    }
}

fn call(api: &str, from: &str, second: u64) -> Event {
    let time = picket_detect::Time(START + second * SECOND);
    let json = format!(
        r#"{{"eventID":"{api}-{from}-{second}","eventTime":"{time}","eventSource":"ec2.amazonaws.com",
        "eventName":"{api}","awsRegion":"eu-west-1","recipientAccountId":"111122223333",
        "sourceIPAddress":"{from}","requestParameters":{{"name":"main"}},
        "userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLE:{INSTANCE}",
        "arn":"arn:aws:sts::111122223333:assumed-role/web/{INSTANCE}","accountId":"111122223333"}},
        "responseElements":{{"instancesSet":{{"items":[{{"instanceId":"{INSTANCE}",
        "privateIpAddress":"10.0.0.1"}}]}}}}}}"#
    );
    Event::Api(Box::new(ApiCall::parse(json.as_bytes(), 0).unwrap()))
}

fn outputs(analyzer: &mut Analyzer) -> Vec<Output> {
    std::iter::from_fn(|| analyzer.poll_output()).collect()
}

/// Everything an analysis says, as the bytes it prints.
fn bytes(steps: &[Step]) -> String {
    let mut analyzer = analyzer();
    for (at, step) in steps.iter().enumerate() {
        analyzer.on_event(event(step));
        if at % 7 == 0 {
            analyzer.advance(SourceKind::Agent, START + at as u64 * SECOND);
        }
    }
    analyzer.finish();
    let mut text = String::new();
    for output in outputs(&mut analyzer) {
        text += &match output {
            Output::Finding(finding) => serde_json::to_string(&finding).unwrap(),
            Output::Incident(incident) => serde_json::to_string(&incident).unwrap(),
        };
        text.push('\n');
    }
    text + &serde_json::to_string(&analyzer.totals()).unwrap()
}

/// The last state of each finding and incident, by id.
fn settled(outputs: Vec<Output>) -> (Vec<Finding>, Vec<Incident>) {
    let (mut findings, mut incidents) = (Vec::<Finding>::new(), Vec::<Incident>::new());
    for output in outputs {
        match output {
            Output::Finding(finding) => {
                findings.retain(|known| known.id != finding.id);
                findings.push(*finding);
            }
            Output::Incident(incident) => {
                incidents.retain(|known| known.id != incident.id);
                incidents.push(*incident);
            }
        }
    }
    findings.sort_by(|a, b| a.id.cmp(&b.id));
    (findings, incidents)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_events_give_the_same_bytes(steps in prop::collection::vec(step(), 0..80)) {
        prop_assert_eq!(bytes(&steps), bytes(&steps));
    }

    #[test]
    fn polling_seldom_or_often_ends_alike(steps in prop::collection::vec(step(), 0..80)) {
        let (mut often, mut seldom) = (analyzer(), analyzer());
        let mut told = Vec::new();
        for step in &steps {
            often.on_event(event(step));
            told.extend(outputs(&mut often));
            seldom.on_event(event(step));
        }
        prop_assert_eq!(settled(told), settled(outputs(&mut seldom)));
    }

    #[test]
    fn counts_are_those_of_the_evidence_and_of_the_days(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut analyzer = analyzer();
        steps.iter().for_each(|step| analyzer.on_event(event(step)));
        let (findings, _) = settled(outputs(&mut analyzer));
        for finding in &findings {
            prop_assert!(finding.count() > 0);
            prop_assert_eq!(finding.picket.days.values().sum::<u64>(), finding.count());
            prop_assert!(finding.service.event_first_seen <= finding.service.event_last_seen);
            prop_assert!((1.0..=10.0).contains(&finding.severity));
            prop_assert!(!finding.picket.evidence.is_empty());
        }
        let opened: u64 = analyzer.totals().findings.values().sum();
        prop_assert_eq!(opened, findings.len() as u64);
    }

    #[test]
    fn a_restart_that_remembers_changes_nothing(
        steps in prop::collection::vec(step(), 0..80),
        cut in 0..80usize,
    ) {
        let (before, after) = steps.split_at(cut.min(steps.len()));
        let mut whole = analyzer();
        steps.iter().for_each(|step| whole.on_event(event(step)));

        let mut first = analyzer();
        before.iter().for_each(|step| first.on_event(event(step)));
        let mut told = outputs(&mut first);
        let (findings, incidents) = settled(told.clone());
        let mut second = analyzer();
        before.iter().for_each(|step| second.remember(&mut event(step)));
        prop_assert_eq!(outputs(&mut second), []);
        second.restore(findings, incidents);
        after.iter().for_each(|step| second.on_event(event(step)));
        told.extend(outputs(&mut second));
        prop_assert_eq!(settled(told), settled(outputs(&mut whole)));
    }

    #[test]
    fn findings_go_through_json(steps in prop::collection::vec(step(), 0..40)) {
        let mut analyzer = analyzer();
        steps.iter().for_each(|step| analyzer.on_event(event(step)));
        let told = settled(outputs(&mut analyzer));
        let text = serde_json::to_string(&told).unwrap();
        let back: (Vec<Finding>, Vec<Incident>) = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back, told);
    }
}

#[test]
fn a_restart_goes_on_counting_under_the_same_ids() {
    let first: Vec<Step> = (0..5)
        .map(|window| Step::Talk {
            to: 1,
            port: 443,
            window,
        })
        .collect();
    let second = Step::Talk {
        to: 1,
        port: 443,
        window: 9,
    };
    let mut one = analyzer();
    first.iter().for_each(|step| one.on_event(event(step)));
    let (stored, incidents) = settled(outputs(&mut one));
    let mut other = analyzer();
    other.restore(stored.clone(), incidents);
    assert_eq!(outputs(&mut other), []);
    other.on_event(event(&second));
    one.on_event(event(&second));
    let (after, _) = settled(outputs(&mut other));
    assert_eq!(after[0].id, stored[0].id);
    assert_eq!(after[0].count(), 6);
    assert_eq!(after, settled(outputs(&mut one)).0);
}

#[test]
fn an_archived_finding_that_happens_again_opens_another() {
    let talk = |window| {
        event(&Step::Talk {
            to: 1,
            port: 443,
            window,
        })
    };
    let mut analyzer = analyzer();
    analyzer.on_event(talk(0));
    let (findings, _) = settled(outputs(&mut analyzer));
    let base = findings[0].id.clone();
    assert!(analyzer.archive(&base));
    assert!(!analyzer.archive(&base));
    let (archived, _) = settled(outputs(&mut analyzer));
    assert!(!archived[0].is_open() && archived[0].id == base);
    for (window, ordinal) in [(1, 2), (2, 3)] {
        analyzer.on_event(talk(window));
        let (again, _) = settled(outputs(&mut analyzer));
        assert_eq!(again[0].id, format!("{base}-{ordinal}"));
        assert_eq!(again[0].count(), 1);
        assert!(analyzer.archive(&again[0].id));
        outputs(&mut analyzer);
    }
    // What was archived stays so over a restart.
    let mut other = self::analyzer();
    other.restore(archived, vec![]);
    other.on_event(talk(5));
    assert_eq!(settled(outputs(&mut other)).0[0].id, format!("{base}-2"));
}

#[test]
fn late_events_are_counted_and_still_found() {
    let mut analyzer = analyzer();
    analyzer.advance(SourceKind::Agent, START + 1_000_000 * SECOND);
    analyzer.on_event(event(&Step::Talk {
        to: 1,
        port: 443,
        window: 0,
    }));
    // A window that is long gone cannot be opened again: a scan is not found, a contact is.
    analyzer.on_event(event(&Step::Scan {
        ports: 39,
        window: 0,
    }));
    let totals = analyzer.totals();
    assert_eq!((totals.events["agent"], totals.late["agent"]), (2, 2));
    let (findings, _) = settled(outputs(&mut analyzer));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].type_name(), "Backdoor:EC2/C&CActivity.B");
}

#[test]
fn the_totals_are_one_line_of_their_own_kind() {
    let mut analyzer = analyzer();
    analyzer.on_event(event(&Step::Call {
        api: 2,
        from: 0,
        second: 0,
    }));
    let totals = serde_json::to_value(analyzer.totals()).unwrap();
    assert_eq!(totals["kind"], "totals");
    assert_eq!(totals["events"]["cloudtrail"], 1);
    assert_eq!(
        totals["findings"]["Recon:IAMUser/MaliciousIPCaller.Custom"],
        1
    );
    assert_eq!(totals["counters"]["findings_evicted"], 0);
}

/// Text that others choose stands in values, escaped, and nowhere else.
#[test]
fn hostile_text_stays_text() {
    let hostile = "evil\"},{\"type\":\"x\n{}%s\\u0000<script>";
    let mut analyzer = analyzer();
    let json = serde_json::json!({
        "eventID": hostile, "eventTime": "2023-11-14T22:13:20Z",
        "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging",
        "userAgent": hostile, "sourceIPAddress": hostile, "errorCode": hostile,
        "requestParameters": {"name": hostile},
        "userIdentity": {"type": "IAMUser", "userName": hostile, "arn": hostile},
    });
    let call = ApiCall::parse(json.to_string().as_bytes(), 0).unwrap();
    analyzer.on_event(Event::Api(Box::new(call)));
    let (findings, _) = settled(outputs(&mut analyzer));
    let line = serde_json::to_string(&findings[0]).unwrap();
    assert!(!line.contains('\n'));
    let back: Finding = serde_json::from_str(&line).unwrap();
    assert_eq!(
        back.type_name(),
        "Stealth:IAMUser/CloudTrailLoggingDisabled"
    );
    assert!(back.title.contains(hostile));
}
