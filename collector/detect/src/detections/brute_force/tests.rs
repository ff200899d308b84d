//! What is brute force, and what only looks like it, in equal number.

use super::*;
use crate::finding::Finding;
use crate::testing::{analyze, brief, conversation, later, mirror, speaker, summary};
use picket_intel::IndicatorSet;
use picket_wire::{App, Content, Logins, Ssh};

const SSH_OUT: &[(&str, f64, u64)] = &[("UnauthorizedAccess:EC2/SSHBruteForce", 8.0, 1)];
const SSH_IN: &[(&str, f64, u64)] = &[("UnauthorizedAccess:EC2/SSHBruteForce", 2.0, 1)];
const NONE: &[(&str, f64, u64)] = &[];
const OUT: (&str, &str) = ("10.0.0.1", "192.0.2.1");
const IN: (&str, &str) = ("192.0.2.1", "10.0.0.1");

fn ssh(ends: (&str, &str), failed: u32, succeeded: u32) -> Conversation {
    let mut c = conversation(ends.0, ends.1, 2_222);
    c.content = Some(Box::new(Content {
        app: Some(App::Ssh),
        ssh: Some(Box::new(Ssh {
            client: Some("Go".into()),
            server: Some("OpenSSH_9.2".into()),
            failed,
            succeeded,
        })),
        ..Content::default()
    }));
    c
}

fn said(service: &str, ends: (&str, &str), failed: u32, succeeded: u32) -> Conversation {
    let logins = Logins {
        service: service.into(),
        failed,
        succeeded,
    };
    let mut c = conversation(ends.0, ends.1, 4_000);
    c.content = Some(Box::new(Content {
        logins: Some(Box::new(logins)),
        ..Content::default()
    }));
    c
}

/// So many flows to `port`, on each of which the server said so much.
fn sized(ends: (&str, &str), port: u16, flows: u32, bytes: u64) -> Conversation {
    let mut c = conversation(ends.0, ends.1, port);
    (c.flows, c.attempts, c.accepted) = (flows, flows, flows);
    c.bytes_in = bytes * u64::from(flows);
    c
}

fn window(host: Speaker, conversations: Vec<Conversation>) -> Summary {
    Summary {
        conversations,
        ..summary(host)
    }
}

fn findings(summaries: Vec<Summary>) -> Vec<Finding> {
    let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
    let (mut findings, _) = analyze(IndicatorSet::default(), events);
    // What else such traffic is, others say.
    findings.retain(|finding| finding.picket.rule == BruteForce.id());
    findings
}

#[track_caller]
fn check(summaries: Vec<Summary>, expected: &[(&str, f64, u64)]) {
    assert_eq!(brief(&findings(summaries)), expected);
}

#[track_caller]
fn check_own(c: Conversation, expected: &[(&str, f64, u64)]) {
    check(vec![window(speaker(), vec![c])], expected);
}

/// The same conversation so often, so many seconds apart.
fn paced(c: &Conversation, times: u64, seconds: u64) -> Vec<Summary> {
    (0..times)
        .map(|step| later(window(speaker(), vec![c.clone()]), step * seconds))
        .collect()
}

#[test]
fn ten_refused_guesses_on_any_port() {
    check_own(ssh(OUT, 10, 0), SSH_OUT);
    check_own(ssh(IN, 10, 0), SSH_IN);
    check_own(ssh(OUT, 9, 0), NONE);
    check_own(ssh(IN, 9, 0), NONE);
}

#[test]
fn deployments_and_backups_get_in() {
    check_own(ssh(OUT, 0, 200), NONE);
    check_own(ssh(OUT, 12, 30), NONE);
    check_own(sized(OUT, 22, 50, 6_000), NONE);
    check(paced(&ssh(OUT, 0, 1), 100, 10), NONE);
    check_own(ssh(OUT, 200, 0), SSH_OUT);
    check_own(ssh(OUT, 30, 2), SSH_OUT);
    check_own(sized(OUT, 22, 50, 3_000), SSH_OUT);
    check(paced(&ssh(OUT, 1, 0), 10, 10), SSH_OUT);
}

#[test]
fn half_an_hour_adds_up_and_hours_ask_for_more() {
    check(paced(&ssh(OUT, 1, 0), 12, 120), &[(SSH_OUT[0].0, 8.0, 3)]);
    check(paced(&ssh(OUT, 1, 0), 12, 600), NONE);
    check(paced(&ssh(OUT, 1, 0), 62, 330), &[(SSH_OUT[0].0, 8.0, 3)]);
    check(paced(&ssh(OUT, 1, 0), 62, 1_200), NONE);
}

#[test]
fn one_who_gets_in_at_last_is_graver() {
    let after = |ends, seconds| {
        let first = window(speaker(), vec![ssh(ends, 11, 0)]);
        vec![
            first,
            later(window(speaker(), vec![ssh(ends, 0, 1)]), seconds),
        ]
    };
    let found = findings(after(IN, 60));
    assert_eq!(brief(&found), [(SSH_IN[0].0, 8.0, 2)]);
    assert_eq!(
        found[0].title,
        "192.0.2.1 got into i-0aaaaaaaaaaaaaaaa by SSH after guessing"
    );
    check(after(OUT, 60), &[(SSH_OUT[0].0, 9.0, 2)]);
    // What came first in time, or at the same time, came of no guessing.
    let before = |ends| {
        let first = window(speaker(), vec![ssh(ends, 1, 1)]);
        let guesses = window(speaker(), vec![ssh(ends, 11, 0)]);
        vec![first, later(guesses, 10)]
    };
    check(before(IN), SSH_IN);
    check(before(OUT), SSH_OUT);
    check_own(ssh(IN, 11, 1), SSH_IN);
    // A login hours later is somebody else's.
    check(after(IN, 20_000), SSH_IN);
    check(after(OUT, 20_000), SSH_OUT);
}

#[test]
fn code_hosts_take_no_passwords() {
    let mut c = ssh(OUT, 50, 0);
    check_own(c.clone(), SSH_OUT);
    let content = c.content.as_mut().unwrap();
    content.ssh.as_mut().unwrap().server = Some("babeld-1a2b3c".into());
    check_own(c, NONE);
}

#[test]
fn by_the_servers_word_whatever_the_protocol() {
    for (service, name) in [
        ("ftp", "FTP"),
        ("imap", "IMAP"),
        ("mysql", "MySQL"),
        ("pop3", "POP3"),
        ("postgresql", "PostgreSQL"),
        ("redis", "Redis"),
        ("smb", "SMB"),
        ("smtp", "SMTP"),
        ("telnet", "Telnet"),
        ("vnc", "VNC"),
    ] {
        let kind = format!("UnauthorizedAccess:EC2/{name}BruteForce");
        check_own(said(service, OUT, 15, 0), &[(kind.as_str(), 5.0, 1)]);
        check_own(said(service, IN, 15, 0), &[(kind.as_str(), 2.0, 1)]);
        check_own(said(service, OUT, 14, 0), NONE);
        check_own(said(service, IN, 20, 300), NONE);
    }
}

#[test]
fn by_size_where_nothing_can_be_read() {
    check_own(
        sized(IN, 3_389, 20, 2_500),
        &[("UnauthorizedAccess:EC2/RDPBruteForce", 2.0, 1)],
    );
    check_own(
        sized(OUT, 5_985, 20, 1_500),
        &[("Impact:EC2/WinRMBruteForce", 8.0, 1)],
    );
    check_own(sized(IN, 3_389, 20, 60_000), NONE);
    check_own(sized(OUT, 5_985, 20, 9_000), NONE);
    // Who looks whether the port answers, and fewer.
    check_own(sized(IN, 3_389, 200, 100), NONE);
    check_own(sized(IN, 22, 19, 3_000), NONE);
    check_own(sized(IN, 22, 200, 900), NONE);
    check_own(sized(IN, 22, 20, 3_000), SSH_IN);
}

#[test]
fn a_mirror_judges_who_tries_or_who_is_tried_from_outside() {
    let seen = |ends| findings(vec![window(mirror(), vec![ssh(ends, 11, 0)])]);
    let inside = seen(("10.1.0.1", "10.1.0.2"));
    assert_eq!(brief(&inside), SSH_OUT);
    assert_eq!(inside[0].resource.instance_id(), Some("10.1.0.1"));
    let outside = seen(("198.51.100.7", "10.1.0.2"));
    assert_eq!(brief(&outside), SSH_IN);
    assert_eq!(outside[0].resource.instance_id(), Some("10.1.0.2"));
    assert_eq!(outside[0].service.resource_role, Role::Target);
    assert!(seen(("10.1.0.1", "10.1.0.2")).len() == 1);
}

#[test]
fn a_password_tried_at_many_hosts() {
    let many = |servers: u32, failed, succeeded| -> Vec<Conversation> {
        (1..=servers)
            .map(|number| ssh(("10.0.0.1", &format!("10.9.0.{number}")), failed, succeeded))
            .collect()
    };
    let own = |all| vec![window(speaker(), all)];
    let found = findings(own(many(8, 2, 0)));
    assert_eq!(brief(&found), SSH_OUT);
    assert_eq!(
        found[0].title,
        "i-0aaaaaaaaaaaaaaaa tries SSH logins at 8 hosts"
    );
    check(own(many(20, 1, 0)), SSH_OUT);
    check(own(many(7, 2, 0)), NONE);
    check(own(many(8, 1, 0)), NONE);
    // A deployment to a fleet, some of which is misconfigured.
    check(own(many(30, 0, 3)), NONE);
    let mut mixed = many(8, 2, 0);
    mixed.extend((1..=30).map(|number| ssh(("10.0.0.1", &format!("10.8.0.{number}")), 1, 3)));
    check(own(mixed), NONE);
}

#[test]
fn says_how_it_is_known() {
    let found = findings(vec![window(speaker(), vec![said("ftp", IN, 20, 0)])]);
    assert!(
        found[0]
            .picket
            .why
            .contains("20 logins of 192.0.2.1 by FTP at 10.0.0.1 failed and 0 succeeded"),
        "{}",
        found[0].picket.why
    );
    assert!(
        found[0]
            .picket
            .why
            .contains("the server's answers (port 4000)")
    );
}

#[test]
fn an_open_shell_is_one_login() {
    let mut held = sized(OUT, 22, 1, 2_000);
    (held.attempts, held.accepted) = (0, 0);
    check(paced(&held, 300, 60), NONE);
    held.opened = picket_wire::Opened::Guessed;
    check(paced(&held, 300, 60), NONE);
    let logged = |own_port: fn(u64) -> u16| -> Vec<Summary> {
        (0..30)
            .map(|minute| {
                let mut c = held.clone();
                c.client_port = own_port(minute);
                let mut one = window(speaker(), vec![c]);
                one.host.capture = "vpc-flow-log".into();
                later(one, 60 * minute)
            })
            .collect()
    };
    check(logged(|_| 50_000), NONE);
    check(
        logged(|minute| 50_000 + minute as u16),
        &[(SSH_OUT[0].0, 8.0, 11)],
    );
    check(paced(&sized(OUT, 22, 1, 2_000), 20, 60), SSH_OUT);
}

#[test]
fn a_check_with_an_old_key_and_code_hosts_of_many_addresses() {
    let round = |server: &str| -> Vec<Conversation> {
        let to = |number| ssh(("10.0.0.1", &format!("10.9.0.{number}")), 1, 0);
        let mut all: Vec<_> = (1..=8).map(to).collect();
        for c in &mut all {
            let content = c.content.as_mut().unwrap();
            content.ssh.as_mut().unwrap().server = Some(server.into());
        }
        all
    };
    let rounds = |server, seconds: u64| -> Vec<Summary> {
        let all = round(server);
        (0..3)
            .map(|step| later(window(speaker(), all.clone()), step * seconds))
            .collect()
    };
    check(rounds("OpenSSH_9.2", 18_000), NONE);
    check(rounds("OpenSSH_9.2", 600), &[(SSH_OUT[0].0, 8.0, 2)]);
    // Another server of the same client does not make sprayers of those who fetch code.
    let mut fetching = rounds("babeld-1a2b3c", 600);
    fetching.push(later(window(speaker(), vec![ssh(OUT, 1, 0)]), 1_800));
    check(fetching, NONE);
    let mut trying = rounds("OpenSSH_9.2", 600).split_off(1);
    trying.push(later(window(speaker(), vec![ssh(OUT, 1, 0)]), 1_800));
    check(trying, &[(SSH_OUT[0].0, 8.0, 2)]);
}

#[test]
fn of_a_target_it_is_told_once() {
    let tried = |failed: u32| -> Vec<Summary> {
        (1..=8)
            .map(|number| {
                let mut c = ssh(("192.0.2.1", &format!("10.0.1.{number}")), failed, 0);
                c.local = Side::Server;
                let mut one = window(speaker(), vec![c]);
                one.host.instance = format!("i-{number}");
                one
            })
            .collect()
    };
    let counts =
        |failed| -> Vec<u64> { findings(tried(failed)).iter().map(Finding::count).collect() };
    assert_eq!(counts(12), [1; 8]);
    assert_eq!(counts(2), [1]);
}
