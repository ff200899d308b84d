//! The sensor fed by the kernel's word: flows, hits and counts instead of packets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the other tests of the sensor")]
mod bench;

use std::net::SocketAddrV4;

use bench::*;
use picket_sense::input::{FlowDelta, KernelHit, PacketCopy, StageCount, Way};
use picket_sense::{Clock, SensorConfig};
use picket_wire::{Canary, Health, Summary};

fn live() -> Bench {
    Bench::with(
        SensorConfig::new(host(), Clock::Caller),
        &["192.0.2.66", "evil.example", "192.0.2.77:3333"],
    )
}

fn delta(
    remote: SocketAddrV4,
    packets: (u64, u64),
    flags: (u8, u8),
    opener: Option<Way>,
) -> FlowDelta {
    FlowDelta {
        local: (ip(1), 40_000),
        remote: ((*remote.ip()).into(), remote.port()),
        protocol: 6,
        packets_out: packets.0,
        packets_in: packets.1,
        bytes_out: packets.0 * 40,
        bytes_in: packets.1 * 40,
        flags_out: flags.0,
        flags_in: flags.1,
        opener,
        first_ns: T0 + 1,
        last_ns: T0 + 2,
        ifindex: 2,
        tunnel: None,
        owner: None,
    }
}

fn kernel_hit(remote: SocketAddrV4, way: Way) -> KernelHit {
    KernelHit {
        ts_ns: T0 + 1,
        local: (ip(1), 40_000),
        remote: ((*remote.ip()).into(), remote.port()),
        protocol: 6,
        way,
        set_version: 1,
        ifindex: 2,
        tunnel: None,
        owner: None,
    }
}

#[test]
fn live_windows_follow_the_callers_clock_and_are_all_told() {
    let mut bench = live();
    bench.sensor.on_tick(T0 + 3 * S);
    assert_eq!(bench.sensor.next_deadline(), Some(T0 + 10 * S));
    bench.sensor.on_tick(T0 + 10 * S);
    bench
        .sensor
        .on_flow(&delta(at(2, 80), (1, 0), (SYN, 0), Some(Way::Out)));
    bench.sensor.on_tick(T0 + 20 * S);
    bench.drain();
    assert_eq!(windows(&bench.summaries), [(0, 10), (10, 20)]);
    let health = Health {
        canary: Some(Canary::default()),
        ..Health::default()
    };
    bench.sensor.set_health(health.clone());
    bench.sensor.finish(Some(T0 + 23 * S));
    bench.drain();
    assert_eq!(windows(&bench.summaries)[2], (20, 23));
    let told = bench.summaries.iter().map(|summary| &summary.health);
    assert_eq!(told.collect::<Vec<_>>(), [&None, &None, &Some(health)]);
}

#[test]
fn the_kernels_word_and_the_packets_themselves_give_the_same_summary() {
    let (client, server, resolver) = (at(1, 40_000), at(66, 443), at(53, 53));
    let question = udp(client, resolver, &dns("a.evil.example", None, 0));
    let hello = tcp(client, server, ACK, 1, &client_hello("b.example"));
    let packets = [
        (Way::Out, question.clone()),
        (Way::Out, tcp(client, server, SYN, 0, b"")),
        (Way::In, tcp(server, client, SYN | ACK, 0, b"")),
        (Way::Out, hello.clone()),
    ];
    let mut replayed = Bench::with(
        SensorConfig::new(host(), Clock::Packets),
        &["192.0.2.66", "evil.example"],
    );
    for (_, packet) in &packets {
        replayed.frame(T0 + 1, packet);
    }
    let replayed = replayed.finish();

    let mut live = Bench::with(
        SensorConfig::new(host(), Clock::Caller),
        &["192.0.2.66", "evil.example"],
    );
    for data in [&question, &hello] {
        let wire_bytes = u32::try_from(data.len()).unwrap();
        live.sensor.on_copy(&PacketCopy {
            ts_ns: T0 + 1,
            data,
            wire_bytes,
            way: Way::Out,
            ifindex: 2,
            tunnel: None,
            owner: None,
        });
        live.drain();
    }
    live.sensor.on_kernel_hit(&kernel_hit(server, Way::Out));
    live.drain();
    let mut dns_flow = delta(resolver, (1, 0), (0, 0), None);
    (dns_flow.protocol, dns_flow.bytes_out) = (17, question.len() as u64);
    live.sensor.on_flow(&dns_flow);
    let mut flow = delta(server, (2, 1), (SYN | ACK, SYN | ACK), Some(Way::Out));
    flow.bytes_out = 40 + hello.len() as u64;
    live.sensor.on_flow(&flow);
    live.sensor.on_tick(T0 + 10 * S);
    live.drain();

    let of = |summaries: &[Summary]| {
        let mut window = summaries.iter().find(|s| !s.immediate).unwrap().clone();
        for one in &mut window.conversations {
            (one.first_ns, one.last_ns) = (0, 0);
        }
        let mut hits: Vec<_> = summaries.iter().flat_map(|s| s.hits.clone()).collect();
        hits.sort_by(|a, b| a.indicator.cmp(&b.indicator));
        (window.conversations, window.questions, hits)
    };
    assert_eq!(of(&live.summaries), of(&replayed));
    assert_eq!(of(&replayed).2.len(), 2);
}

#[test]
fn a_kernel_hit_counts_if_the_set_confirms_it() {
    let mut bench = live();
    bench.sensor.on_tick(T0);
    bench.sensor.on_kernel_hit(&kernel_hit(at(66, 80), Way::In));
    bench
        .sensor
        .on_kernel_hit(&kernel_hit(at(66, 80), Way::Out));
    // The kernel knows an address, not the port that is listed with it.
    bench
        .sensor
        .on_kernel_hit(&kernel_hit(at(77, 80), Way::Out));
    bench.drain();
    assert_eq!(bench.summaries.len(), 1);
    let hit = &bench.summaries[0].hits;
    assert_eq!(
        (hit.len(), hit[0].src, hit[0].source_listed),
        (1, ip(66), true)
    );
    bench.sensor.on_tick(T0 + 10 * S);
    bench.drain();
    let window = &bench.summaries[1];
    let counts = ["confirmed", "repeated", "unconfirmed"].map(|r| counter(window, "hit", r));
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn the_kernels_equation_holds_in_every_window() {
    let mut bench = live();
    bench.sensor.on_tick(T0);
    let count = |reason, packets| StageCount {
        stage: "kernel",
        reason,
        packets,
        bytes: 0,
    };
    let window = |bench: &mut Bench, seen, flow, end| {
        bench
            .sensor
            .on_flow(&delta(at(2, 80), (flow, 0), (ACK, 0), None));
        bench.sensor.on_counts(&count("seen", seen));
        bench.sensor.on_counts(&count("not_flow_arp", 2));
        bench.sensor.on_counts(&count("lost_ring_full", 1));
        bench.sensor.on_tick(T0 + end * S);
        bench.drain();
    };
    window(&mut bench, 103, 95, 10);
    window(&mut bench, 3, 5, 20);
    assert_eq!(equation_holds(&bench.summaries, "kernel"), 106);
    let unsettled = |at: usize| counter(&bench.summaries[at], "kernel", "unsettled");
    assert_eq!((unsettled(0), unsettled(1)), (5, 0));
    assert!(bench.sensor.counters().equation("kernel").holds());
}
