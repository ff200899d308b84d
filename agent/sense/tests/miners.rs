//! Miners: what is said on any port is a hit, once per flow, with no list at all; and a notice of
//! the kernel and the copy that follows it make one hit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with the other tests")]
mod bench;

use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;

use bench::{ACK, S, SYN, T0, at, tcp};
use picket_sense::input::{Frame, KernelNotice, LinkType, PacketCopy, Recognised, Way};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Hit, HitKind, Host};

const SUBSCRIBE: &[u8] =
    b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"cpuminer/2\"]}\n";
const NOTIFY: &[u8] = b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1\",\"00\"]}\n";
const LOGIN: &[u8] =
    b"{\"id\":1,\"method\":\"login\",\"params\":{\"login\":\"W\",\"agent\":\"XMRig/6\"}}\n";
const ETHER: &[u8] = b"{\"id\":1,\"method\":\"eth_submitLogin\",\"params\":[\"0xW\"]}\n";

fn sensor(clock: Clock) -> Sensor {
    Sensor::new(SensorConfig::new(Host::default(), clock), Arc::default())
}

fn hits(sensor: &mut Sensor) -> Vec<Hit> {
    let mut hits = Vec::new();
    while let Some(summary) = sensor.poll_output() {
        hits.extend(summary.hits);
    }
    hits
}

/// Replays what a client (port 4000) and a server say in turn; gives kind, indicator and the ports
/// of each hit.
#[track_caller]
fn check(said: &[(bool, &[u8])], expected: &[(&str, u16, u16)]) {
    let mut sensor = sensor(Clock::Packets);
    let (client, server) = (at(1, 4000), at(2, 8080));
    let (mut sent, mut got) = (1, 1);
    let mut frame = |data: &[u8], time| {
        sensor.on_frame(&Frame {
            ts_ns: T0 + time,
            link: LinkType::RAW_IP,
            wire_bytes: u32::try_from(data.len()).unwrap(),
            data,
        });
    };
    frame(&tcp(client, server, SYN, 0, &[]), 0);
    for (at, (by_client, data)) in said.iter().enumerate() {
        let (from, to, sequence) = if *by_client {
            (client, server, &mut sent)
        } else {
            (server, client, &mut got)
        };
        let packet = tcp(from, to, ACK, *sequence, data);
        *sequence += u32::try_from(data.len()).unwrap();
        frame(&packet, S + at as u64);
    }
    sensor.finish(None);
    let told = hits(&mut sensor);
    let told: Vec<(&str, u16, u16)> = told
        .iter()
        .map(|hit| {
            assert_eq!(hit.kind, HitKind::Stratum);
            assert_eq!((hit.category.as_str(), hit.list.as_str()), ("mining", ""));
            (hit.indicator.as_str(), hit.src_port, hit.dst_port)
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_miner_is_told_once_per_flow() {
    let subscribe = [("mining.subscribe", 4000, 8080)];
    check(&[(true, SUBSCRIBE)], &subscribe);
    check(
        &[(true, SUBSCRIBE), (false, NOTIFY), (true, SUBSCRIBE)],
        &subscribe,
    );
    check(&[(true, LOGIN)], &[("login", 4000, 8080)]);
    check(&[(true, ETHER)], &[("eth_submitLogin", 4000, 8080)]);
    // Of a flow that began before us the pool may speak first: the miner is the other end.
    check(&[(false, NOTIFY)], &[("mining.notify", 4000, 8080)]);
    // In two segments.
    let (front, back) = LOGIN.split_at(30);
    check(&[(true, front), (true, back)], &[("login", 4000, 8080)]);
}

#[test]
fn what_only_speaks_of_mining_is_none() {
    check(
        &[(
            true,
            b"{\"method\":\"getinfo\",\"note\":\"mining.subscribe\"}\n",
        )],
        &[],
    );
    check(&[(true, b"GET /mining.subscribe HTTP/1.1\r\n\r\n")], &[]);
    check(
        &[(
            true,
            b"{\"method\":\"login\",\"params\":{\"user\":\"me\"}}\n",
        )],
        &[],
    );
}

fn notice(from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) -> KernelNotice<'_> {
    let end = |one: SocketAddrV4| (IpAddr::V4(*one.ip()), one.port());
    KernelNotice {
        ts_ns: T0,
        local: end(from),
        remote: end(to),
        protocol: 6,
        way: Way::Out,
        set_version: 0,
        ifindex: 1,
        tunnel: None,
        recognised: Recognised::Stratum,
        owner: None,
        bytes,
    }
}

#[test]
fn a_notice_and_its_copy_make_one_hit() {
    let mut sensor = sensor(Clock::Caller);
    let (client, server) = (at(1, 4000), at(2, 443));
    sensor.on_kernel_notice(&notice(client, server, SUBSCRIBE));
    let first = hits(&mut sensor);
    assert_eq!(first.len(), 1, "told at once");
    assert_eq!((first[0].src_port, first[0].dst_port), (4000, 443));
    let packet = tcp(client, server, ACK, 1, SUBSCRIBE);
    let copy = PacketCopy {
        ts_ns: T0,
        data: &packet,
        wire_bytes: u32::try_from(packet.len()).unwrap(),
        way: Way::Out,
        ifindex: 1,
        tunnel: None,
        owner: None,
    };
    sensor.on_tick(T0 + 11 * S);
    sensor.on_copy(&copy);
    assert_eq!(hits(&mut sensor), [], "the copy tells nothing new");

    // A line that is cut waits for the stream; one that only looks like it is counted.
    sensor.on_kernel_notice(&notice(at(1, 4001), server, &SUBSCRIBE[..40]));
    sensor.on_kernel_notice(&notice(at(1, 4002), server, b"{\"x\":\"mining.\"}"));
    assert_eq!(hits(&mut sensor), []);
    let unconfirmed = sensor.counters().totals();
    let unconfirmed: Vec<u64> = unconfirmed
        .filter(|one| one.stage == "stratum_hit" && one.reason == "unconfirmed")
        .map(|one| one.count)
        .collect();
    assert_eq!(unconfirmed, [2]);
    let front = tcp(at(1, 4001), server, ACK, 1, &SUBSCRIBE[..40]);
    let back = tcp(at(1, 4001), server, ACK, 41, &SUBSCRIBE[40..]);
    for data in [&front, &back] {
        sensor.on_copy(&PacketCopy {
            data,
            wire_bytes: u32::try_from(data.len()).unwrap(),
            ..copy
        });
    }
    assert_eq!(hits(&mut sensor).len(), 1);
}
