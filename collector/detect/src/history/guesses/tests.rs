//! What is counted as a try, and when.

use super::*;
use crate::testing::{conversation, later, mirror, summary};
use picket_wire::{Content, Logins, Opened, Ssh};

fn said(service: &str, failed: u32, succeeded: u32) -> Conversation {
    let logins = Logins {
        service: service.into(),
        failed,
        succeeded,
    };
    let mut c = conversation("10.1.0.1", "10.1.0.2", 2_121);
    c.content = Some(Box::new(Content {
        logins: Some(Box::new(logins)),
        ..Content::default()
    }));
    c
}

#[track_caller]
fn check(c: &Conversation, expected: Option<(Service, u32, u32, Known)>) {
    let got = Tries::of(&summary(mirror()), c).map(|t| (t.service, t.failed, t.succeeded, t.known));
    assert_eq!(got, expected);
}

#[test]
fn the_servers_word_on_any_port() {
    check(&said("ftp", 3, 0), Some((Service::Ftp, 3, 0, Known::Said)));
    check(
        &said("mysql", 1, 1),
        Some((Service::Mysql, 1, 1, Known::Said)),
    );
    check(&said("ftp", 0, 0), None);
    check(&said("gopher", 3, 0), None);
}

#[test]
fn sizes_by_port_where_nothing_was_said() {
    let sized = |port, flows: u32, bytes_in| {
        let mut c = conversation("10.1.0.1", "10.1.0.2", port);
        (c.flows, c.attempts, c.accepted, c.bytes_in) = (flows, flows, flows, bytes_in);
        c
    };
    let failed = |service, count| Some((service, count, 0, Known::Guessed));
    check(&sized(22, 5, 12_000), failed(Service::Ssh, 5));
    check(&sized(3_389, 5, 12_000), failed(Service::Rdp, 5));
    check(&sized(5_985, 5, 6_000), failed(Service::Winrm, 5));
    check(
        &sized(22, 5, 40_000),
        Some((Service::Ssh, 0, 5, Known::Guessed)),
    );
    // Who looks whether the port answers; what nobody knows.
    check(&sized(22, 5, 1_000), None);
    check(&sized(2_222, 5, 12_000), None);
}

#[test]
fn what_goes_on_from_before_fails_nothing() {
    let mut c = conversation("10.1.0.1", "10.1.0.2", 22);
    c.bytes_in = 2_250;
    check(&c, Some((Service::Ssh, 1, 0, Known::Guessed)));
    (c.attempts, c.accepted) = (0, 0);
    check(&c, None);
    c.opened = Opened::Guessed;
    check(&c, None);
    let mut log = summary(mirror());
    log.host.capture = FLOW_LOG.into();
    let unclear = |c: &Conversation| Tries::of(&log, c).map(|tries| (tries.failed, tries.unclear));
    assert_eq!(unclear(&c), Some((0, 1)));
    c.opened = Opened::Seen;
    assert_eq!(unclear(&c), None);
}

/// Failures that a flow log without flags tells in so many minutes, by the own port of the first of its flows.
fn logged(minutes: u64, flows: u32, own_port: impl Fn(u64) -> u16) -> u64 {
    let mut guesses = Guesses::default();
    let mut key = None;
    for minute in 0..minutes {
        let mut one = summary(mirror());
        one.host.capture = FLOW_LOG.into();
        let mut c = conversation("10.1.0.1", "10.1.0.2", 22);
        (c.attempts, c.accepted, c.opened) = (0, 0, Opened::Guessed);
        (c.flows, c.bytes_in) = (flows, 2_000 * u64::from(flows));
        c.client_port = own_port(minute);
        key = Some(Guessing {
            speaker: SpeakerKey::of(&one.host),
            client: c.client,
            server: c.server,
            service: Service::Ssh,
        });
        one.conversations = vec![c];
        guesses.note(&later(one, 60 * minute), &[]);
    }
    guesses.of(&key.unwrap(), 0, 10).failed
}

#[test]
fn a_tunnel_in_a_flow_log_is_one_flow() {
    assert_eq!(logged(300, 1, |_| 40_000), 1);
    assert_eq!(logged(30, 1, |minute| 40_000 + minute as u16), 30);
    // Of many it is told what cannot be those of before.
    assert_eq!(logged(30, 5, |_| 40_000), 5);
    assert_eq!(logged(30, 5, |minute| 40_000 + minute as u16), 34);
}

#[test]
fn ssh_is_counted_by_the_agent() {
    let ssh = |failed, succeeded| {
        let mut c = conversation("10.1.0.1", "10.1.0.2", 2_222);
        c.content = Some(Box::new(Content {
            app: Some(App::Ssh),
            ssh: Some(Box::new(Ssh {
                failed,
                succeeded,
                ..Ssh::default()
            })),
            ..Content::default()
        }));
        c
    };
    check(&ssh(2, 1), Some((Service::Ssh, 2, 1, Known::Sized)));
    check(&ssh(0, 0), None);
}

#[test]
fn adds_up_within_the_window_and_says_what_came_after() {
    let mut guesses = Guesses::default();
    let at = |second, failed, succeeded| {
        let mut one = summary(mirror());
        one.conversations = vec![said("ftp", failed, succeeded)];
        later(one, second)
    };
    let first = at(0, 6, 1);
    let key = Guessing {
        speaker: SpeakerKey::of(&first.host),
        client: first.conversations[0].client,
        server: first.conversations[0].server,
        service: Service::Ftp,
    };
    guesses.note(&first, &[]);
    guesses.note(&at(600, 6, 0), &[]);
    let of = |guesses: &Guesses| {
        let sum = guesses.of(&key, 0, 10);
        (sum.failed, sum.succeeded, sum.succeeded_after)
    };
    assert_eq!(of(&guesses), (12, 1, false));
    guesses.note(&at(1_200, 0, 1), &[]);
    assert_eq!(of(&guesses), (12, 2, true));
    let last = at(1_200, 0, 0).window.end_ns;
    assert_eq!(guesses.of(&key, last, 10).failed, 0);
}

#[test]
fn is_bounded() {
    let mut guesses = Guesses::default();
    for number in 0..500u64 {
        let mut one = summary(mirror());
        let mut c = said("ftp", 1, 0);
        c.server = IpAddr::V4(std::net::Ipv4Addr::from(0x0a02_0000 + number as u32));
        one.conversations = vec![c];
        guesses.note(&later(one, 300 * number), &[]);
    }
    let one = summary(mirror());
    let c = said("ftp", 1, 0);
    assert_eq!(
        guesses.sprayed(&one, &c, Service::Ftp, 0).count(),
        SPRAYED_MAX
    );
    assert!(guesses.turned_away()[2].1 > 0);
}

#[test]
fn a_success_counts_after_the_failures_only() {
    let after = |rows: &[(u64, u32, u32)]| {
        let mut guesses = Guesses::default();
        let mut key = None;
        for &(second, failed, succeeded) in rows {
            let mut one = summary(mirror());
            one.conversations = vec![said("ftp", failed, succeeded)];
            key = Some(Guessing {
                speaker: SpeakerKey::of(&one.host),
                client: one.conversations[0].client,
                server: one.conversations[0].server,
                service: Service::Ftp,
            });
            guesses.note(&later(one, second), &[]);
        }
        guesses.of(&key.unwrap(), 0, 10).succeeded_after
    };
    assert!(after(&[(0, 12, 0), (10, 0, 1)]));
    assert!(after(&[(0, 12, 0), (10, 1, 1)]));
    assert!(after(&[(0, 6, 1), (10, 6, 0), (900, 0, 1)]));
    assert!(!after(&[(0, 1, 1), (10, 12, 0)]));
    assert!(!after(&[(0, 12, 1)]));
    assert!(!after(&[(0, 6, 0), (10, 0, 1), (20, 6, 0)]));
}

#[test]
fn tries_at_many_servers_grow_old() {
    let mut guesses = Guesses::default();
    let mut last = summary(mirror());
    for round in 0..20u64 {
        let mut one = summary(mirror());
        one.conversations = vec![said("ftp", 1, 0)];
        last = later(one, 18_000 * round);
        guesses.note(&last, &[]);
    }
    let failed = |hours: u64| {
        let since_ns = last.window.end_ns - hours * 3_600_000_000_000;
        let sums = guesses.sprayed(&last, &last.conversations[0], Service::Ftp, since_ns);
        sums.map(|sum| sum.failed).sum::<u64>()
    };
    assert_eq!((failed(4), failed(6)), (1, 2));
}
