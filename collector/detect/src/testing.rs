//! Events for the tests of this crate.

use std::net::IpAddr;

use picket_intel::{Category, Indicator, IndicatorSet, List, SetBuilder};
use picket_wire::{
    Conversation, Cut, Hit, HitKind, Host, Net, Opened, Question, Side, Summary, Transport, Window,
};

use crate::analyzer::{Analyzer, Output};
use crate::event::Event;
use crate::finding::Finding;
use crate::incident::Incident;
use crate::logs::cloudtrail::ApiCall;
use crate::logs::{Columns, Database, FlowLine, Gather, Login, LoginLog, LoginOutcome};
use crate::settings::Settings;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2023-11-14T22:13:20Z: the beginning of a window.
pub(crate) const START: u64 = 1_700_000_000 * SECOND;

/// A host that speaks for itself: its address is 10.0.0.1.
pub(crate) fn speaker() -> Host {
    Host {
        instance: "i-0aaaaaaaaaaaaaaaa".into(),
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        hostname: None,
        agent_version: "0.1.0".into(),
        capture: "tcx".into(),
        local: vec![Net {
            address: ip("10.0.0.1"),
            prefix: 32,
        }],
        indicators: 0,
    }
}

/// A host that sees the traffic of others.
pub(crate) fn mirror() -> Host {
    Host {
        local: vec![],
        instance: "mirror".into(),
        ..speaker()
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A TCP conversation that was opened and accepted a second after [`START`].
pub(crate) fn conversation(client: &str, server: &str, port: u16) -> Conversation {
    let own = |address: &str| address == "10.0.0.1";
    Conversation {
        client: ip(client),
        server: ip(server),
        server_port: port,
        client_port: 40_000,
        protocol: 6,
        opened: Opened::Seen,
        local: match (own(client), own(server)) {
            (true, false) => Side::Client,
            (false, true) => Side::Server,
            (true, true) => Side::Both,
            (false, false) => Side::Neither,
        },
        flows: 1,
        attempts: 1,
        accepted: 1,
        refused: 0,
        packets_out: 5,
        packets_in: 4,
        bytes_out: 500,
        bytes_in: 400,
        flags_out: 0x1a,
        flags_in: 0x1a,
        first_ns: START + SECOND,
        last_ns: START + 2 * SECOND,
        tls_name: None,
        ja4: None,
        dns_name: None,
        process: None,
        content: None,
        tunnel: None,
        tunnel_id: None,
        processes: None,
        starts_ms: vec![0],
    }
}

/// The same, opened and not answered.
pub(crate) fn unanswered(client: &str, server: &str, port: u16) -> Conversation {
    Conversation {
        accepted: 0,
        packets_out: 1,
        packets_in: 0,
        bytes_out: 60,
        bytes_in: 0,
        flags_out: 0x02,
        flags_in: 0,
        ..conversation(client, server, port)
    }
}

pub(crate) fn question(client: &str, name: &str) -> Question {
    Question {
        client: ip(client),
        resolver: ip("10.0.0.2"),
        transport: Transport::Udp,
        name: name.into(),
        qtype: 1,
        asked: 1,
        answered: 1,
        nxdomain: 0,
        rcode: Some(0),
        answers: vec![],
        first_ns: START + SECOND,
        last_ns: START + SECOND,
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
    }
}

/// A hit on an address, told of the first packet of [`conversation`].
pub(crate) fn address_hit(src: &str, dst: &str, port: u16, listed: &str, category: &str) -> Hit {
    Hit {
        time_ns: START + SECOND,
        kind: HitKind::Address,
        indicator: listed.into(),
        category: category.into(),
        list: format!("{category}-ips"),
        version: 7,
        src: ip(src),
        src_port: 40_000,
        dst: ip(dst),
        dst_port: port,
        protocol: 6,
        local: if src == "10.0.0.1" {
            Side::Client
        } else if dst == "10.0.0.1" {
            Side::Server
        } else {
            Side::Neither
        },
        source_listed: src == listed,
        name: None,
        process: None,
        tunnel: None,
        tunnel_id: None,
    }
}

/// A hit on a name, told of the packet of [`question`].
pub(crate) fn name_hit(client: &str, name: &str, listed: &str, category: &str) -> Hit {
    Hit {
        kind: HitKind::Question,
        indicator: listed.into(),
        list: format!("{category}-domains"),
        dst_port: 53,
        protocol: 17,
        source_listed: false,
        name: Some(name.into()),
        ..address_hit(client, "10.0.0.2", 53, listed, category)
    }
}

/// A summary of the window at [`START`].
pub(crate) fn summary(host: Host) -> Summary {
    Summary {
        version: 1,
        immediate: false,
        host,
        window: Window {
            start_ns: START,
            end_ns: START + 10 * SECOND,
        },
        conversations: vec![],
        questions: vec![],
        hits: vec![],
        counters: vec![],
        cut: Cut::default(),
        ..Summary::default()
    }
}

/// What VPC flow logs tell of one interface: lines of `srcaddr dstaddr srcport dstport protocol packets bytes
/// tcp-flags flow-direction start end action`.
pub(crate) fn flow_log(lines: &[String]) -> Vec<Summary> {
    const HEADER: &str = "account-id region interface-id srcaddr dstaddr srcport dstport protocol packets bytes \
                          tcp-flags flow-direction start end action";
    let columns = Columns::named(HEADER).unwrap().unwrap();
    let mut gather = Gather::default();
    for line in lines {
        match columns.read(&format!("111122223333 eu-west-1 eni-0a {line}")) {
            Ok(FlowLine::Record(record)) => gather.flow(*record),
            other => panic!("{line}: {other:?}"),
        }
    }
    gather.take()
}

/// Moves everything in a summary by whole seconds.
pub(crate) fn later(mut summary: Summary, seconds: u64) -> Summary {
    let by = seconds * SECOND;
    summary.window.start_ns += by;
    summary.window.end_ns += by;
    for c in &mut summary.conversations {
        c.first_ns += by;
        c.last_ns += by;
    }
    for q in &mut summary.questions {
        q.first_ns += by;
        q.last_ns += by;
    }
    for h in &mut summary.hits {
        h.time_ns += by;
    }
    summary
}

/// A set of one list per category.
pub(crate) fn intel(rows: &[(Category, &str)]) -> IndicatorSet {
    let mut builder = SetBuilder::default();
    for (category, value) in rows {
        let address = Indicator::address(value);
        let kind = if address.is_ok() { "ips" } else { "domains" };
        let list = List::new(format!("{category}-{kind}"), *category);
        let list = builder.list(list).unwrap();
        let indicator = address.or_else(|_| Indicator::domain(value)).unwrap();
        builder.add(list, indicator).unwrap();
    }
    builder.build()
}

/// A CloudTrail record.
pub(crate) fn api(json: &str) -> Box<ApiCall> {
    Box::new(ApiCall::parse(json.as_bytes(), START).unwrap())
}

/// A connection to the database `shop`, so many seconds after [`START`].
pub(crate) fn login(outcome: LoginOutcome, user: &str, from: &str, second: u64) -> Login {
    Login {
        database: Database {
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: "shop".into(),
            cluster: None,
        },
        time_ns: START + second * SECOND,
        log: LoginLog::Postgres,
        outcome,
        user: user.into(),
        schema: "orders".into(),
        program: String::new(),
        address: Some(ip(from)),
        port: 50_000,
        encrypted: Some(true),
        why: match outcome {
            LoginOutcome::Succeeded => String::new(),
            LoginOutcome::Failed => "the password was refused".into(),
            LoginOutcome::Probed => "nobody logged in".into(),
        },
    }
}

/// What an analysis with default settings gives.
pub(crate) fn analyze(
    intel: IndicatorSet,
    events: impl IntoIterator<Item = Event>,
) -> (Vec<Finding>, Vec<Incident>) {
    let mut analyzer = Analyzer::new(Settings::default(), intel);
    for event in events {
        analyzer.on_event(event);
    }
    analyzer.finish();
    drain(&mut analyzer)
}

/// Everything that changed.
pub(crate) fn drain(analyzer: &mut Analyzer) -> (Vec<Finding>, Vec<Incident>) {
    let (mut findings, mut incidents) = (Vec::new(), Vec::new());
    while let Some(output) = analyzer.poll_output() {
        match output {
            Output::Finding(finding) => findings.push(*finding),
            Output::Incident(incident) => incidents.push(*incident),
        }
    }
    (findings, incidents)
}

/// The type, severity and count of each finding.
pub(crate) fn brief(findings: &[Finding]) -> Vec<(&str, f64, u64)> {
    findings
        .iter()
        .map(|f| (f.type_name(), f.severity(), f.count()))
        .collect()
}
