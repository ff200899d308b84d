//! What is inside tunnels: summarised like the rest, marked, kept apart, and counted by itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the other tests of the sensor")]
mod bench;

use std::net::SocketAddrV4;

use bench::*;
use picket_sense::decode::{Tunnel, TunnelKind};
use picket_sense::input::{FlowDelta, KernelHit, PacketCopy, StageCount, Way};
use picket_sense::{Clock, Inside, SensorConfig};
use picket_wire::{Conversation, HitKind, Net, Side, Summary, TunnelKind as Told};

/// An Ethernet frame around an IPv4 packet.
fn framed(packet: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &[8, 0], packet].concat()
}

/// A packet as a mirror session of this VNI sends it, from one target to another.
fn mirrored(vni: u32, packet: &[u8]) -> Vec<u8> {
    let header = [
        &[8, 0, 0, 0][..],
        &(vni << 8).to_be_bytes(),
        &framed(packet),
    ]
    .concat();
    udp(at(200, 65_000), at(1, 4789), &header)
}

fn gre(key: u32, packet: &[u8]) -> Vec<u8> {
    let mut outer = udp(at(200, 0), at(1, 0), b"");
    outer.truncate(20);
    outer[9] = 47;
    let body = [&[0x20, 0, 8, 0][..], &key.to_be_bytes(), packet].concat();
    let total = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
    outer[2..4].copy_from_slice(&total);
    outer.extend(body);
    outer
}

fn window(summaries: &[Summary]) -> &Summary {
    summaries.iter().find(|s| !s.immediate).unwrap()
}

fn inside(summary: &Summary) -> Vec<&Conversation> {
    let all = summary.conversations.iter();
    all.filter(|c| c.tunnel.is_some()).collect()
}

/// A client's day: it asks for a name, is told where that is, connects and greets.
fn story(client: SocketAddrV4, server: SocketAddrV4) -> Vec<Vec<u8>> {
    let resolver = at(53, 53);
    let asks = SocketAddrV4::new(*client.ip(), 5353);
    let address = server.ip().octets();
    vec![
        udp(asks, resolver, &dns("a.evil.example", None, 0)),
        udp(resolver, asks, &dns("a.evil.example", Some(&[address]), 0)),
        tcp(client, server, SYN, 0, b""),
        tcp(server, client, SYN | ACK, 0, b""),
        tcp(client, server, ACK, 1, &client_hello("b.example")),
    ]
}

const LISTED: &[&str] = &["192.0.2.66", "evil.example"];

/// A mirror's sensor: nothing inside is its own.
fn mirror(listed: &[&str]) -> Bench {
    let mut host = host();
    host.local = vec![Net {
        address: "198.51.100.1".parse().unwrap(),
        prefix: 32,
    }];
    Bench::with(SensorConfig::new(host, Clock::Packets), listed)
}

#[test]
fn a_mirrored_host_tells_what_a_sensor_on_it_would() {
    let mut on_it = mirror(LISTED);
    let mut beside = mirror(LISTED);
    for packet in story(at(9, 40_000), at(66, 443)) {
        on_it.frame(T0 + 1, &packet);
        beside.frame(T0 + 1, &mirrored(5_569_041, &packet));
    }
    let (on_it, beside) = (on_it.finish(), beside.finish());
    let plain = |summaries: &[Summary]| {
        let window = window(summaries);
        let mut conversations = window.conversations.clone();
        conversations.retain(|c| c.server_port != 4789);
        let mut questions = window.questions.clone();
        let mut hits: Vec<_> = summaries.iter().flat_map(|s| s.hits.clone()).collect();
        for one in &mut conversations {
            (one.tunnel, one.tunnel_id) = (None, None);
        }
        for one in &mut questions {
            (one.tunnel, one.tunnel_id) = (None, None);
        }
        for one in &mut hits {
            (one.tunnel, one.tunnel_id) = (None, None);
        }
        (conversations, questions, hits)
    };
    assert_eq!(plain(&beside), plain(&on_it));
    assert_eq!(plain(&beside).0.len(), 2);
    let tls = plain(&beside).0.pop().unwrap();
    assert_eq!(tls.dns_name.as_deref(), Some("a.evil.example"));
    assert_eq!(tls.local, Side::Neither);

    let marked = (Some(Told::Vxlan), Some(5_569_041));
    let window = window(&beside);
    assert!(
        inside(window)
            .iter()
            .all(|c| (c.tunnel, c.tunnel_id) == marked)
    );
    let question = &window.questions[0];
    assert_eq!((question.tunnel, question.tunnel_id), marked);
    let hits: Vec<_> = beside.iter().flat_map(|s| &s.hits).collect();
    let kinds: Vec<HitKind> = hits.iter().map(|hit| hit.kind).collect();
    assert_eq!(kinds, [HitKind::Question, HitKind::Address]);
    assert!(hits.iter().all(|hit| (hit.tunnel, hit.tunnel_id) == marked));
}

#[test]
fn inner_packets_count_by_themselves_and_never_as_packets_of_the_wire() {
    let mut bench = mirror(&[]);
    for packet in story(at(9, 40_000), at(66, 443)) {
        bench.frame(T0 + 1, &mirrored(7, &packet));
    }
    let arp = udp(
        at(200, 65_000),
        at(1, 4789),
        &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &[0; 12], &[8, 6], &[0; 28]].concat(),
    );
    bench.frame(T0 + 2, &arp);
    let summaries = bench.finish();
    let window = window(&summaries);
    let count = |stage, reason| counter(window, stage, reason);
    assert_eq!((count("decode", "seen"), count("decode", "flow")), (6, 6));
    assert_eq!((count("flow", "seen"), count("flow", "flow")), (6, 6));
    assert_eq!((count("inner", "seen"), count("inner", "flow")), (6, 5));
    assert_eq!(count("inner", "not_flow_arp"), 1);
    assert_eq!(
        (
            count("inner", "dns_queries"),
            count("inner", "dns_responses")
        ),
        (1, 1)
    );
    assert_eq!(count("inner", "tls_client_hellos"), 1);
    assert_eq!(
        (count("dns", "queries"), count("tls", "client_hellos")),
        (0, 0)
    );
    let packets = |inner: bool| -> u64 {
        let all = window.conversations.iter();
        all.filter(|c| c.tunnel.is_some() == inner)
            .map(|c| c.packets_out + c.packets_in)
            .sum()
    };
    assert_eq!((packets(false), packets(true)), (6, 5));
    let balance = window.balance().unwrap();
    assert_eq!((balance.check(), balance.seen), (Ok(()), 6));
}

#[test]
fn the_same_addresses_in_two_tunnels_are_two_conversations() {
    let mut bench = mirror(LISTED);
    let (client, server) = (at(9, 40_000), at(66, 443));
    let question = udp(at(9, 5353), at(53, 53), &dns("a.evil.example", None, 0));
    for vni in [7, 8] {
        for packet in [&question, &tcp(client, server, SYN, 0, b"")] {
            bench.frame(T0 + 1, &mirrored(vni, packet));
        }
    }
    bench.frame(T0 + 1, &gre(7, &tcp(client, server, SYN, 0, b"")));
    // The other direction of the first belongs to it.
    bench.frame(
        T0 + 2,
        &mirrored(7, &tcp(server, client, SYN | ACK, 0, b"")),
    );
    let summaries = bench.finish();
    let window = window(&summaries);
    let tcp: Vec<_> = inside(window)
        .into_iter()
        .filter(|c| c.protocol == 6)
        .map(|c| (c.tunnel.unwrap(), c.tunnel_id.unwrap(), c.packets_in))
        .collect();
    assert_eq!(
        tcp,
        [(Told::Vxlan, 7, 1), (Told::Vxlan, 8, 0), (Told::Gre, 7, 0)]
    );
    assert_eq!(window.questions.len(), 2);
    let hits = summaries.iter().flat_map(|s| &s.hits);
    let addresses = hits.clone().filter(|hit| hit.kind == HitKind::Address);
    assert_eq!((hits.clone().count(), addresses.count()), (5, 3));
}

#[test]
fn a_name_learnt_in_one_tunnel_says_nothing_in_another() {
    let mut bench = mirror(&[]);
    let all = story(at(9, 40_000), at(66, 443));
    let (names, connects) = all.split_at(2);
    for packet in names {
        bench.frame(T0 + 1, &mirrored(7, packet));
    }
    for packet in connects {
        bench.frame(T0 + 2, &mirrored(8, packet));
    }
    let summaries = bench.finish();
    let named = |c: &&Conversation| c.dns_name.is_some();
    assert_eq!(
        inside(window(&summaries))
            .iter()
            .filter(|c| named(c))
            .count(),
        0
    );
}

#[test]
fn given_local_ranges_hold_inside_tunnels_too() {
    let mut bench = Bench::new(&[]);
    bench.frame(T0, &mirrored(7, &tcp(at(1, 9), at(66, 80), SYN, 0, b"")));
    let summaries = bench.finish();
    assert_eq!(inside(window(&summaries))[0].local, Side::Client);
}

#[test]
fn the_kernels_word_of_a_mirror_gives_the_same_summary() {
    let (client, server) = (at(9, 40_000), at(66, 443));
    let question = udp(at(9, 5353), at(53, 53), &dns("a.evil.example", None, 0));
    let syn = tcp(client, server, SYN, 0, b"");
    let mut replayed = mirror(LISTED);
    for packet in [&question, &syn] {
        replayed.frame(T0 + 1, &mirrored(7, packet));
    }
    let replayed = replayed.finish();

    let tunnel = Some(Tunnel::new(TunnelKind::Vxlan, 7));
    let mut host = host();
    host.local = vec![];
    let mut live = Bench::with(SensorConfig::new(host, Clock::Caller), LISTED);
    live.sensor.on_copy(&PacketCopy {
        ts_ns: T0 + 1,
        data: &question,
        wire_bytes: u32::try_from(question.len()).unwrap(),
        way: Way::In,
        ifindex: 2,
        tunnel,
        owner: None,
    });
    live.sensor.on_kernel_hit(&KernelHit {
        ts_ns: T0 + 1,
        local: ((*server.ip()).into(), server.port()),
        remote: ((*client.ip()).into(), client.port()),
        protocol: 6,
        way: Way::In,
        set_version: 1,
        ifindex: 2,
        tunnel,
        owner: None,
    });
    let delta = |from: SocketAddrV4, to: SocketAddrV4, protocol, bytes: &[u8]| FlowDelta {
        local: ((*to.ip()).into(), to.port()),
        remote: ((*from.ip()).into(), from.port()),
        protocol,
        packets_out: 0,
        packets_in: 1,
        bytes_out: 0,
        bytes_in: bytes.len() as u64,
        flags_out: 0,
        flags_in: if protocol == 6 { SYN } else { 0 },
        opener: (protocol == 6).then_some(Way::In),
        first_ns: T0 + 1,
        last_ns: T0 + 1,
        ifindex: 2,
        tunnel,
        owner: None,
    };
    live.sensor
        .on_flow(&delta(at(9, 5353), at(53, 53), 17, &question));
    live.sensor.on_flow(&delta(client, server, 6, &syn));
    live.sensor.on_counts(&StageCount {
        stage: "inner",
        reason: "seen",
        packets: 3,
        bytes: 0,
    });
    live.sensor.on_tick(T0 + 10 * S);
    live.drain();
    let told = |summaries: &[Summary]| {
        let hits: Vec<_> = summaries.iter().flat_map(|s| s.hits.clone()).collect();
        let window = window(summaries);
        let mut conversations = window.conversations.clone();
        conversations.retain(|c| c.tunnel.is_some());
        (conversations, window.questions.clone(), hits)
    };
    assert_eq!(told(&live.summaries), told(&replayed));
    assert_eq!(told(&replayed).2.len(), 2);
    // A packet that the kernel has seen and whose flow it has not told yet waits.
    let window = window(&live.summaries);
    let counts = ["seen", "flow", "unsettled"].map(|reason| counter(window, "inner", reason));
    assert_eq!(counts, [2, 2, 1]);
    assert_eq!(
        (
            counter(window, "kernel", "flow"),
            counter(window, "flow", "seen")
        ),
        (0, 0)
    );
}

#[test]
fn tunnels_that_are_not_asked_for_are_their_outer_flows() {
    let check = |inside: Inside, told: &[u32]| {
        let mut config = SensorConfig::new(host(), Clock::Packets);
        config.inside = inside;
        let mut bench = Bench::with(config, &[]);
        let syn = tcp(at(9, 40_000), at(66, 443), SYN, 0, b"");
        for vni in [7, 8] {
            bench.frame(T0, &mirrored(vni, &syn));
        }
        bench.frame(T0, &gre(7, &syn));
        let summaries = bench.finish();
        let window = window(&summaries);
        let vnis: Vec<u32> = inside_of(window);
        assert_eq!(vnis, told);
        assert_eq!(counter(window, "inner", "seen"), told.len() as u64);
        assert_eq!(window.balance().unwrap().seen, 3);
    };
    check(Inside::All, &[7, 8, 7]);
    check(Inside::Nothing, &[]);
    check(Inside::Vnis(vec![8]), &[8]);
}

fn inside_of(summary: &Summary) -> Vec<u32> {
    inside(summary).iter().filter_map(|c| c.tunnel_id).collect()
}
