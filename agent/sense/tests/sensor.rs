//! The sensor on packets made by hand: windows, folding, names, hits, cuts, and the loss equation.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;

use std::net::{Ipv4Addr, SocketAddrV4};

use bench::*;
use picket_sense::input::LinkType;
use picket_sense::limits::{CONVERSATIONS_FOLDED_MAX, CONVERSATIONS_PER_SUMMARY_MAX};
use picket_sense::summarise::shrink;
use picket_sense::{Clock, SensorConfig};
use picket_wire::{HitKind, Opened, Side, Summary, Transport};

#[test]
fn windows_are_aligned_and_empty_ones_are_not_written() {
    let mut bench = Bench::new(&[]);
    for second in [3, 9, 10, 45] {
        bench.frame(T0 + second * S, &udp(at(1, 999), at(2, 123), b"x"));
    }
    let summaries = bench.finish();
    assert_eq!(windows(&summaries), [(0, 10), (10, 20), (40, 50)]);
    let packets: Vec<u64> = summaries
        .iter()
        .map(|s| s.conversations[0].packets_out)
        .collect();
    assert_eq!(packets, [2, 1, 1], "counters are of their window alone");
}

#[test]
fn a_little_late_is_not_another_window_and_far_back_is() {
    let mut bench = Bench::new(&[]);
    let packet = udp(at(1, 999), at(2, 123), b"x");
    bench.frame(T0 + 100 * S, &packet);
    bench.frame(T0 + 95 * S, &packet);
    bench.frame(T0 + 20 * S, &packet);
    let summaries = bench.finish();
    assert_eq!(windows(&summaries), [(100, 110), (20, 30)]);
    assert_eq!(summaries[0].conversations[0].packets_out, 2);
    assert_eq!(counter(&summaries[0], "clock", "jumped_back"), 1);
    assert_eq!(counter(&summaries[1], "clock", "jumped_back"), 0);
}

#[test]
fn client_ports_fold_and_attempts_are_told_from_answers() {
    let mut bench = Bench::new(&[]);
    let server = at(2, 443);
    for port in 40_000..40_005 {
        bench.frame(T0, &tcp(at(1, port), server, SYN, 1, b""));
    }
    bench.frame(T0 + 1, &tcp(server, at(1, 40_000), SYN | ACK, 9, b""));
    bench.frame(T0 + 2, &tcp(server, at(1, 40_001), RST | ACK, 9, b""));
    // A SYN sent again in the next window is no further attempt.
    bench.frame(T0 + 11 * S, &tcp(at(1, 40_002), server, SYN, 1, b""));
    let summaries = bench.finish();
    let first = &summaries[0].conversations[0];
    assert_eq!(summaries[0].conversations.len(), 1);
    assert_eq!(
        (first.client, first.server, first.server_port),
        (ip(1), ip(2), 443)
    );
    assert_eq!(
        (first.opened, first.local, first.client_port),
        (Opened::Seen, Side::Client, 40_000)
    );
    assert_eq!(
        (first.flows, first.attempts, first.accepted, first.refused),
        (5, 5, 1, 1)
    );
    assert_eq!(
        (first.packets_out, first.packets_in, first.bytes_out),
        (5, 2, 200)
    );
    let second = &summaries[1].conversations[0];
    assert_eq!(
        (second.flows, second.attempts, second.packets_out),
        (1, 0, 1)
    );
}

#[test]
fn when_flows_began_is_told_of_those_that_began_in_the_window() {
    let mut bench = Bench::new(&[]);
    let server = at(2, 443);
    let opens = |port: u16| tcp(at(1, port), server, SYN, 1, b"");
    bench.frame(T0, &opens(40_000));
    bench.frame(T0 + 2_200_000_000, &opens(40_001));
    bench.frame(T0 + 4_400_000_000, &opens(40_002));
    // One goes on, and another begins after it.
    bench.frame(T0 + 11 * S, &tcp(at(1, 40_000), server, ACK, 2, b""));
    bench.frame(T0 + 12 * S, &opens(40_003));
    bench.frame(T0 + 21 * S, &tcp(at(1, 40_000), server, ACK, 2, b""));
    // More than are told.
    for port in 0..40 {
        bench.frame(T0 + 31 * S, &opens(50_000 + port));
    }
    // Datagrams: the first of each pair of ports begins.
    bench.frame(T0 + 41 * S, &udp(at(1, 9_000), at(2, 514), b"x"));
    bench.frame(T0 + 42 * S, &udp(at(1, 9_000), at(2, 514), b"x"));
    bench.frame(T0 + 43 * S, &udp(at(1, 9_001), at(2, 514), b"x"));
    bench.frame(T0 + 51 * S, &udp(at(1, 9_000), at(2, 514), b"x"));
    let summaries = bench.finish();
    let starts: Vec<&[u32]> = summaries
        .iter()
        .map(|summary| &*summary.conversations[0].starts_ms)
        .collect();
    let expected: [&[u32]; 6] = [
        &[0, 2_200, 4_400],
        &[1_000],
        &[],
        &[0; 16],
        &[0, 2_000],
        &[],
    ];
    assert_eq!(starts, expected);
}

#[test]
fn who_opened_is_said_with_how_it_is_known() {
    let check = |name: &str, packet: &[u8], client: u8, opened: Opened| {
        let mut bench = Bench::new(&[]);
        bench.frame(T0, packet);
        let one = &bench.finish()[0].conversations[0];
        assert_eq!((one.client, one.opened), (ip(client), opened), "{name}");
    };
    check(
        "a SYN",
        &tcp(at(2, 80), at(1, 9), SYN, 0, b""),
        2,
        Opened::Seen,
    );
    check(
        "a SYN-ACK",
        &tcp(at(2, 80), at(1, 9000), SYN | ACK, 0, b""),
        1,
        Opened::Guessed,
    );
    check(
        "midstream, lower port serves",
        &tcp(at(2, 80), at(1, 9000), ACK, 0, b""),
        1,
        Opened::Guessed,
    );
    check(
        "a question",
        &udp(at(2, 9), at(1, 53), &dns("a.example", None, 0)),
        2,
        Opened::Seen,
    );
    check(
        "equal ports",
        &udp(at(2, 123), at(1, 123), b"x"),
        1,
        Opened::Unknown,
    );
}

#[test]
fn questions_are_grouped_and_their_answers_name_the_server() {
    let mut bench = Bench::new(&[]);
    let (client, resolver) = (at(1, 5353), at(53, 53));
    for _ in 0..2 {
        bench.frame(T0, &udp(client, resolver, &dns("WWW.a.example", None, 0)));
    }
    bench.frame(
        T0 + 1,
        &udp(
            resolver,
            client,
            &dns("www.A.example", Some(&[[192, 0, 2, 9]]), 0),
        ),
    );
    bench.frame(T0 + 2, &udp(client, resolver, &dns("no.example", None, 0)));
    bench.frame(
        T0 + 3,
        &udp(resolver, client, &dns("no.example", Some(&[]), 3)),
    );
    bench.frame(T0 + 4, &tcp(at(1, 40_000), at(9, 80), SYN, 0, b""));
    bench.frame(T0 + 5, &tcp(at(3, 40_000), at(9, 80), SYN, 0, b""));
    let summary = &bench.finish()[0];
    let shown: Vec<_> = summary
        .questions
        .iter()
        .map(|q| {
            (
                q.name.as_str(),
                q.asked,
                q.answered,
                q.nxdomain,
                q.rcode,
                q.qtype,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("no.example", 1, 1, 1, Some(3), 1),
            ("www.a.example", 2, 1, 0, Some(0), 1)
        ]
    );
    let known = &summary.questions[1];
    assert_eq!(
        (known.client, known.resolver, known.transport),
        (ip(1), ip(53), Transport::Udp)
    );
    assert_eq!(known.answers[0].data, "192.0.2.9");
    let name = |client| {
        let mut all = summary.conversations.iter();
        let one = all
            .find(|c| c.client == client && c.server == ip(9))
            .unwrap();
        one.dns_name.as_deref()
    };
    assert_eq!(name(ip(1)), Some("www.a.example"));
    assert_eq!(name(ip(3)), None, "another client did not ask");
}

#[test]
fn a_hit_is_told_at_once_and_once_per_flow() {
    let mut bench = Bench::new(&["192.0.2.66", "192.0.2.64/28", "192.0.2.77:3333"]);
    bench.frame(T0, &tcp(at(1, 40_000), at(66, 80), SYN, 0, b""));
    assert_eq!(bench.summaries.len(), 1, "not with the window");
    bench.frame(T0 + 1, &tcp(at(66, 80), at(1, 40_000), SYN | ACK, 0, b""));
    bench.frame(T0 + 30 * S, &tcp(at(1, 40_000), at(66, 80), ACK, 1, b""));
    bench.frame(T0 + 31 * S, &tcp(at(77, 3333), at(1, 9), ACK, 1, b""));
    bench.frame(T0 + 31 * S, &tcp(at(1, 9), at(77, 3334), ACK, 1, b""));
    let summaries = bench.finish();
    let (told, windows): (Vec<&Summary>, Vec<&Summary>) =
        summaries.iter().partition(|summary| summary.immediate);
    assert_eq!(told.len(), 3, "one per flow, the second port being a net's");
    assert!(windows.iter().all(|window| window.hits.is_empty()));
    let first = &told[0].hits;
    assert_eq!(first.len(), 2, "one for each list");
    assert_eq!(
        (first[0].kind, first[0].indicator.as_str()),
        (HitKind::Address, "192.0.2.66")
    );
    assert_eq!(
        (first[1].indicator.as_str(), first[1].list.as_str()),
        ("192.0.2.64/28", "list of 192.0.2.64/28")
    );
    assert_eq!(
        (first[0].src, first[0].dst_port, first[0].source_listed),
        (ip(1), 80, false)
    );
    assert_eq!((first[0].time_ns, first[0].local), (T0, Side::Client));
    assert_eq!(first[0].version, told[0].host.indicators);
    assert!(told[0].conversations.is_empty() && told[0].counters.is_empty());
    let answer = &told[1].hits[0];
    assert_eq!(
        (answer.indicator.as_str(), answer.source_listed),
        ("192.0.2.77:3333", true)
    );
    assert_eq!(told[2].hits[0].indicator, "192.0.2.64/28");
}

#[test]
fn names_asked_for_and_connected_to_are_matched() {
    let mut bench = Bench::new(&["evil.example"]);
    let (client, resolver) = (at(1, 999), at(53, 53));
    for _ in 0..3 {
        bench.frame(T0, &udp(client, resolver, &dns("a.Evil.example", None, 0)));
        bench.frame(T0, &udp(client, resolver, &dns("notevil.example", None, 0)));
    }
    bench.frame(T0 + 1, &tcp(at(1, 40_000), at(7, 443), SYN, 0, b""));
    bench.frame(
        T0 + 2,
        &tcp(
            at(1, 40_000),
            at(7, 443),
            ACK,
            1,
            &client_hello("b.EVIL.example"),
        ),
    );
    bench.frame(
        T0 + 20 * S,
        &udp(client, resolver, &dns("a.evil.example", None, 0)),
    );
    let summaries = bench.finish();
    let hits: Vec<_> = summaries
        .iter()
        .flat_map(|summary| &summary.hits)
        .map(|hit| {
            (
                hit.kind,
                hit.name.as_deref().unwrap(),
                hit.indicator.as_str(),
                hit.dst,
            )
        })
        .collect();
    assert_eq!(
        hits,
        [
            (HitKind::Question, "a.evil.example", "evil.example", ip(53)),
            (HitKind::TlsName, "b.evil.example", "evil.example", ip(7)),
            (HitKind::Question, "a.evil.example", "evil.example", ip(53)),
        ]
    );
    let window = summaries.iter().find(|summary| !summary.immediate).unwrap();
    let tls = window
        .conversations
        .iter()
        .find(|c| c.server_port == 443)
        .unwrap();
    assert_eq!(tls.tls_name.as_deref(), Some("b.evil.example"));
    assert!(
        tls.ja4.as_ref().unwrap().starts_with("t12d0201"),
        "{:?}",
        tls.ja4
    );
}

#[test]
fn a_final_dot_hides_no_tls_name() {
    let mut bench = Bench::new(&["evil.example"]);
    let (client, server) = (at(1, 40_000), at(7, 443));
    bench.frame(T0, &tcp(client, server, SYN, 0, b""));
    let hello = client_hello("a.evil.example.");
    bench.frame(T0, &tcp(client, server, ACK, 1, &hello));
    let summaries = bench.finish();
    let hits: Vec<_> = summaries.iter().flat_map(|s| &s.hits).collect();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].name.as_deref(), Some("a.evil.example"));
    let window = summaries.iter().find(|summary| !summary.immediate).unwrap();
    let named = window.conversations[0].tls_name.as_deref();
    assert_eq!(named, Some("a.evil.example"));
}

#[test]
fn a_tls_name_stays_with_its_flow() {
    let mut bench = Bench::new(&[]);
    bench.frame(T0, &tcp(at(1, 40_000), at(7, 443), SYN, 0, b""));
    bench.frame(
        T0,
        &tcp(
            at(1, 40_000),
            at(7, 443),
            ACK,
            1,
            &client_hello("b.example"),
        ),
    );
    bench.frame(T0 + 12 * S, &tcp(at(1, 40_000), at(7, 443), ACK, 999, b"x"));
    bench.frame(T0 + 24 * S, &tcp(at(1, 40_001), at(7, 443), ACK, 1, b"x"));
    let summaries = bench.finish();
    let names: Vec<_> = summaries
        .iter()
        .map(|s| s.conversations[0].tls_name.as_deref())
        .collect();
    assert_eq!(names, [Some("b.example"), Some("b.example"), None]);
}

#[test]
fn every_packet_is_accounted_for_and_what_is_cut_is_counted() {
    let mut config = SensorConfig::new(host(), Clock::Packets);
    let flows = CONVERSATIONS_PER_SUMMARY_MAX + 1_000;
    config.flows_max = flows;
    let mut bench = Bench::with(config, &[]);
    for n in 0..flows as u32 + 50 {
        let server = SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + n), 80);
        bench.frame(T0, &tcp(at(1, 4_000), server, SYN, 0, b""));
    }
    let busy = SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + flows as u32 - 1), 80);
    bench.frame(T0, &tcp(at(1, 4_000), busy, ACK, 1, b"12345"));
    bench.frame(T0, b"\x45\0\0");
    bench.frame(T0, b"");
    // An ICMP error.
    let mut unreachable = udp(at(2, 1), at(1, 2), b"");
    unreachable[9] = 1;
    unreachable[20] = 3;
    bench.frame(T0, &unreachable);
    bench.frame(T0 + 10 * S, &udp(at(1, 1), at(2, 2), b""));
    let summaries = bench.finish();
    assert_eq!(equation_holds(&summaries, "decode"), flows as u64 + 50 + 5);
    let first = &summaries[0];
    assert_eq!(first.conversations.len(), CONVERSATIONS_PER_SUMMARY_MAX);
    assert_eq!(
        (first.cut.conversations, first.cut.packets, first.cut.bytes),
        (1_050, 1_050, 42_000)
    );
    assert!(
        first.conversations.iter().any(|c| c.packets_out == 2),
        "the busiest stay"
    );
    assert_eq!(counter(first, "flow", "folded_early"), flows as u64);
    assert_eq!(counter(first, "decode", "lost_truncated"), 2);
    assert_eq!(counter(first, "decode", "not_flow_icmp_error"), 1);
    // What a summary holds fits an envelope, and opens again.
    let bytes = first.to_bytes();
    assert_eq!(&Summary::from_bytes(&bytes).unwrap(), first);
}

#[test]
fn a_flood_takes_no_room_from_what_comes_after_it() {
    let mut config = SensorConfig::new(host(), Clock::Packets);
    config.flows_max = 1_000;
    let mut bench = Bench::with(config, &["192.0.2.66"]);
    let flood = CONVERSATIONS_FOLDED_MAX as u32 + 2_500;
    let server = at(66, 443);
    bench.frame(T0, &tcp(at(1, 40_000), server, SYN, 0, b""));
    for n in 0..flood {
        let source = SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + n), 80);
        bench.frame(T0, &tcp(source, at(1, 80), SYN, 0, b""));
    }
    // A flow that was folded early goes on, and does not tell its hit again.
    bench.frame(T0 + S, &tcp(at(1, 40_000), server, ACK, 1, b""));
    bench.frame(T0 + 10 * S, &tcp(at(1, 40_001), at(2, 443), SYN, 0, b""));
    bench.frame(T0 + 20 * S, &tcp(at(1, 40_001), at(2, 443), ACK, 1, b""));
    let summaries = bench.finish();
    equation_holds(&summaries, "decode");
    let hits: usize = summaries.iter().map(|summary| summary.hits.len()).sum();
    assert_eq!(hits, 1);
    let windows: Vec<&Summary> = summaries.iter().filter(|s| !s.immediate).collect();
    assert_eq!(counter(windows[0], "flow", "lost_table_full"), 0);
    assert_eq!(
        windows[0].cut.packets,
        u64::from(flood) + 2 - told(windows[0])
    );
    let one = windows[0]
        .conversations
        .iter()
        .find(|c| c.server == ip(66))
        .unwrap();
    assert_eq!(
        (one.packets_out, one.opened),
        (2, Opened::Seen),
        "the busiest stay"
    );
    let after = &windows[2].conversations;
    assert_eq!((after.len(), after[0].opened), (1, Opened::Seen));
}

fn told(summary: &Summary) -> u64 {
    let packets = summary
        .conversations
        .iter()
        .map(|c| c.packets_out + c.packets_in);
    packets.sum()
}

#[test]
fn a_summary_that_is_too_large_shrinks_and_says_by_how_much() {
    let mut bench = Bench::new(&["evil.example"]);
    for n in 1..=100u8 {
        let name = format!("n{n}.evil.example");
        for _ in 0..n {
            bench.frame(
                T0,
                &udp(
                    at(1, 999),
                    at(53, 53),
                    &dns(&name, Some(&[[1, 1, 1, n]]), 0),
                ),
            );
            bench.frame(T0, &tcp(at(1, 40_000), at(n, 80), ACK, 0, b""));
        }
    }
    let summaries = bench.finish();
    let mut summary = summaries
        .into_iter()
        .rfind(|summary| !summary.immediate)
        .unwrap();
    let (packets, questions) = (told(&summary), summary.questions.len());
    assert!(shrink(&mut summary));
    assert!(
        summary.questions.iter().all(|q| q.answers.is_empty()),
        "answers go first"
    );
    assert_eq!(summary.questions.len(), questions);
    assert!(shrink(&mut summary));
    assert_eq!((summary.questions.len(), summary.cut.questions), (50, 50));
    assert!(
        summary.questions.iter().all(|q| q.answered > 50),
        "the rarer half goes"
    );
    assert_eq!(told(&summary) + summary.cut.packets, packets);
    let mut times = 0;
    while shrink(&mut summary) {
        times += 1;
    }
    assert!(times < 10 && summary.conversations.is_empty());
    assert_eq!((summary.cut.packets, summary.cut.questions), (packets, 100));
}

#[test]
fn hostile_times_and_bytes_end() {
    let mut bench = Bench::new(&["evil.example"]);
    let mut state = 1u64;
    for n in 0..20_000u64 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bytes = state.to_le_bytes().repeat(8);
        let mut packet = udp(at(1, 53), at(2, 53), &bytes);
        packet[(state >> 8) as usize % 28] ^= (state >> 16) as u8;
        let ts_ns = [T0 + n, state, u64::MAX, 0][(state >> 40) as usize % 4];
        bench.sensor.on_frame(&picket_sense::input::Frame {
            ts_ns,
            link: LinkType((state >> 50) as u32 % 3 * 100 + 1),
            wire_bytes: (state >> 3) as u32,
            data: &packet,
        });
        bench.drain();
    }
    let summaries = bench.finish();
    let seen: u64 = summaries.iter().map(|s| counter(s, "decode", "seen")).sum();
    assert_eq!(seen, 20_000);
}
