//! A flood of new flows: every table stays within its bound, what found no room is counted, and who
//! was there before the flood is told as well as without it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the other tests of the sensor")]
mod bench;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::LazyLock;

use bench::*;
use picket_sense::input::{FlowDelta, Owner, PacketCopy, ProcessId, StageCount, Way};
use picket_sense::limits::{
    CONVERSATIONS_PER_SUMMARY_MAX, QUESTIONS_PER_SUMMARY_MAX, SAID_FLOWS_MAX, SENSOR_FLOWS_MAX,
};
use picket_sense::{Clock, SensorConfig};
use picket_wire::{Opened, Summary};

/// New flows of a window: more than any table holds.
const FLOWS: u32 = SENSOR_FLOWS_MAX as u32 + 20_000;

/// Each of them says something; so often, a name is asked for instead.
const ASKS_EACH: u32 = 4;

/// What comes to our port 443 from another host each.
fn flow(number: u32, ts_ns: u64) -> FlowDelta {
    FlowDelta {
        local: (ip(1), 443),
        remote: (peer(number).ip().to_owned().into(), 40_000),
        protocol: 6,
        packets_out: 0,
        packets_in: 2,
        bytes_out: 0,
        bytes_in: 140,
        flags_out: 0,
        flags_in: SYN | ACK,
        opener: Some(Way::In),
        first_ns: ts_ns,
        last_ns: ts_ns,
        ifindex: 2,
        tunnel: None,
        owner: Some(Owner {
            process: ProcessId {
                pid: 1 + number % 40_000,
                start_ns: 1,
            },
            uid: 0,
        }),
    }
}

fn peer(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + number), 40_000)
}

/// A flow that was there before, each second a packet; its opener is told once.
fn lasting(window: u64) -> FlowDelta {
    FlowDelta {
        local: (ip(1), 40_000),
        remote: (ip(9), 80),
        packets_in: 10,
        opener: (window == 0).then_some(Way::In),
        ..flow(0, T0 + window * 10 * S)
    }
}

/// A packet of a flow that says something: a ClientHello, or a question for a name of its own.
fn saying(number: u32, hello: &[u8]) -> Vec<u8> {
    if number.is_multiple_of(ASKS_EACH) {
        let question = dns(&format!("n{number}.example"), None, 0);
        return udp(at(1, 30_000), at(53, 53), &question);
    }
    tcp(peer(number), at(1, 443), ACK, 1, hello)
}

/// The summaries of two windows of one flow alone, two of a flood, and one of it alone again, with
/// the packets of each.
static FLOODED: LazyLock<(Vec<Summary>, [u64; 5])> = LazyLock::new(flooded);

fn flooded() -> (Vec<Summary>, [u64; 5]) {
    let mut bench = Bench::with(SensorConfig::new(host(), Clock::Caller), &[]);
    let hello = client_hello("a.example");
    let mut seen = [0; 5];
    let mut fullest = std::collections::BTreeMap::new();
    for window in 0..5u64 {
        let ts_ns = T0 + window * 10 * S;
        bench.sensor.on_tick(ts_ns);
        let flood = if (2..4).contains(&window) { FLOWS } else { 0 };
        bench.sensor.on_flow(&lasting(window));
        for number in 0..flood {
            let data = saying(number, &hello);
            bench.sensor.on_copy(&PacketCopy {
                ts_ns,
                data: &data,
                wire_bytes: data.len() as u32,
                way: Way::In,
                ifindex: 2,
                tunnel: None,
                owner: None,
            });
            // As the kernel does: what a packet says comes before its flow is told.
            bench.sensor.on_flow(&flow(number, ts_ns));
            if number.is_multiple_of(997) {
                for (table, held, most) in bench.sensor.tables() {
                    assert!(held <= most, "{table}: {held} of {most}");
                    let fullest = fullest.entry(table).or_insert(0);
                    *fullest = held.max(*fullest);
                }
            }
        }
        let packets = u64::from(flood) * 2 + 10;
        bench.sensor.on_counts(&StageCount {
            stage: "kernel",
            reason: "seen",
            packets,
            bytes: u64::from(flood) * 140 + 140,
        });
        seen[window as usize] = packets;
        bench.sensor.on_tick(ts_ns + 10 * S);
        bench.drain();
    }
    for (table, held) in &fullest {
        let enough = ["outputs", "names"].contains(table) || *held > 10_000;
        assert!(enough, "the flood was none for {table}: {held}");
    }
    (bench.summaries, seen)
}

#[test]
fn a_flood_of_new_flows_stays_within_the_limits_and_is_counted() {
    let (summaries, seen) = &*FLOODED;
    let windows: Vec<&Summary> = summaries.iter().filter(|s| !s.immediate).collect();
    assert_eq!(windows.len(), 5);
    assert_eq!(
        equation_holds(summaries, "kernel"),
        seen.iter().sum::<u64>()
    );
    for summary in &windows[2..4] {
        let told = summary.conversations.len() as u64;
        assert_eq!(told, CONVERSATIONS_PER_SUMMARY_MAX as u64);
        assert_eq!(told + summary.cut.conversations, u64::from(FLOWS) + 1);
        let packets: u64 = summary
            .conversations
            .iter()
            .map(|one| one.packets_out + one.packets_in)
            .sum();
        assert_eq!(packets + summary.cut.packets, u64::from(FLOWS) * 2 + 10);
        assert_eq!(counter(summary, "flow", "lost_table_full"), 0);
        assert!(counter(summary, "flow", "folded_early") > 0);
        assert_eq!(summary.questions.len(), QUESTIONS_PER_SUMMARY_MAX);
        let asked = u64::from(FLOWS.div_ceil(ASKS_EACH));
        assert_eq!(counter(summary, "dns", "queries"), asked);
        assert!(summary.cut.questions > 0);
        let said = u64::from(FLOWS) - asked;
        assert!(counter(summary, "content", "lost_full") >= said - SAID_FLOWS_MAX as u64);
        assert!(counter(summary, "dns", "lost_not_awaited") > 0);
        // What a summary holds fits an envelope, and opens again.
        assert_eq!(&Summary::from_bytes(&summary.to_bytes()).unwrap(), *summary);
    }
}

#[test]
fn what_was_there_before_a_flood_is_known_after_it() {
    let opened: Vec<Opened> = FLOODED
        .0
        .iter()
        .filter(|summary| !summary.immediate)
        .filter_map(|summary| {
            let mut all = summary.conversations.iter();
            all.find(|one| one.client == ip(9) && one.packets_in + one.packets_out == 10)
        })
        .map(|one| one.opened)
        .collect();
    assert_eq!(opened, [Opened::Seen; 5]);
}
