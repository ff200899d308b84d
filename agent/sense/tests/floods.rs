//! Floods of hits: nothing that is listed is lost to one, whatever does not get its own word is
//! counted, and what waits is bounded.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use picket_intel::{IndicatorSet, SetBuilder};
use picket_sense::input::{KernelHit, KernelNotice, Recognised, Way};
use picket_sense::limits::{HITS_LATE_MAX, HITS_PER_WINDOW_MAX, HITS_TOLD_MAX};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::limits::HITS_MAX;
use picket_wire::{Host, Summary};

const WINDOW_NS: u64 = SensorConfig::WINDOW_NS;
const US: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Addresses 198.18.0.0/15 one by one, as a list has them.
fn listed(nth: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc612_0000 + nth as u32))
}

fn set(addresses: usize) -> Arc<IndicatorSet> {
    let mut builder = SetBuilder::default();
    let lines: String = (0..addresses)
        .map(|nth| format!("{}\n", listed(nth)))
        .collect();
    builder.read_file("c2-ips.txt", lines.as_bytes()).unwrap();
    builder
        .read_file("c2-domains.txt", b"evil.example\nrare.example\n")
        .unwrap();
    Arc::new(builder.build())
}

fn sensor(addresses: usize) -> Sensor {
    let config = SensorConfig::new(Host::default(), Clock::Caller);
    let mut sensor = Sensor::new(config, set(addresses));
    sensor.on_tick(0);
    sensor
}

/// A flow from one of our ports to a listed address.
fn connect(sensor: &mut Sensor, port: u16, nth: usize) {
    sensor.on_kernel_hit(&KernelHit {
        ts_ns: 1,
        local: (US, port),
        remote: (listed(nth), 443),
        protocol: 6,
        way: Way::Out,
        set_version: 0,
        ifindex: 1,
        tunnel: None,
        owner: None,
    });
}

/// A question for a name.
fn ask(sensor: &mut Sensor, name: &str) {
    let mut wire: Vec<u8> = Vec::new();
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    sensor.on_kernel_notice(&KernelNotice {
        ts_ns: 1,
        local: (US, 40_000),
        remote: (listed(1 << 16), 53),
        protocol: 17,
        way: Way::Out,
        set_version: 0,
        ifindex: 1,
        tunnel: None,
        recognised: Recognised::Name,
        owner: None,
        bytes: &wire,
    });
}

/// What was told by now: indicators, how many hits, how many were counted as cut.
#[derive(Default)]
struct Told {
    indicators: BTreeSet<String>,
    hits: u64,
    cut: u64,
    lost: u64,
    windows: u64,
}

impl Told {
    fn take(&mut self, sensor: &mut Sensor) {
        while let Some(summary) = sensor.poll_output() {
            self.add(&summary);
        }
    }

    fn add(&mut self, summary: &Summary) {
        assert!(summary.hits.len() <= HITS_MAX);
        self.hits += summary.hits.len() as u64;
        let indicators = summary.hits.iter().map(|hit| hit.indicator.clone());
        self.indicators.extend(indicators);
        self.cut += summary.cut.hits;
        self.windows += u64::from(!summary.immediate);
        let lost = |one: &&picket_wire::Counter| one.stage == "indicator" && one.reason == "cut";
        self.lost += summary
            .counters
            .iter()
            .filter(lost)
            .map(|one| one.count)
            .sum::<u64>();
    }
}

/// A flood to one listed address, and in the midst of it one connection to another and one question:
/// those are told at once.
#[test]
fn one_indicator_hides_no_other() {
    let mut sensor = sensor(2);
    let mut told = Told::default();
    let all = 3 * HITS_PER_WINDOW_MAX as u64;
    for nth in 0..all {
        connect(&mut sensor, nth as u16, 0);
        if nth % 512 == 0 {
            told.take(&mut sensor);
        }
    }
    told.take(&mut sensor);
    assert_eq!(told.hits, HITS_PER_WINDOW_MAX as u64);
    connect(&mut sensor, 1, 1);
    ask(&mut sensor, "x.rare.example");
    told.take(&mut sensor);
    assert_eq!(
        told.hits,
        HITS_PER_WINDOW_MAX as u64 + 2,
        "before the window ends"
    );
    assert_eq!(told.indicators.len(), 3);
    sensor.on_tick(WINDOW_NS);
    told.take(&mut sensor);
    assert_eq!(told.windows, 1);
    assert_eq!((told.hits + told.cut, told.lost), (all + 2, 0));
}

/// Names below a listed one that are all different, as a resolver under a random-subdomain attack
/// sees them.
#[test]
fn random_names_hide_no_other() {
    let mut sensor = sensor(0);
    let mut told = Told::default();
    let all = 70_000;
    for nth in 0..all {
        ask(&mut sensor, &format!("n{nth}.evil.example"));
    }
    ask(&mut sensor, "rare.example");
    told.take(&mut sensor);
    let both = ["evil.example", "rare.example"].map(str::to_owned);
    assert_eq!(told.indicators, BTreeSet::from(both));
    sensor.on_tick(WINDOW_NS);
    told.take(&mut sensor);
    assert_eq!((told.hits + told.cut, told.lost), (all + 1, 0));
}

/// More different indicators than a window tells: the next one tells the rest, and what is too much
/// for that too is counted.
#[test]
fn what_one_window_cannot_tell_the_next_one_does() {
    for (all, lost) in [
        (HITS_TOLD_MAX + HITS_LATE_MAX, 0),
        (HITS_TOLD_MAX + HITS_LATE_MAX + 77, 77),
    ] {
        let mut sensor = sensor(all);
        let mut told = Told::default();
        // Nobody takes anything meanwhile: what waits is bounded all the same.
        for nth in 0..all {
            connect(&mut sensor, 5, nth);
        }
        told.take(&mut sensor);
        assert_eq!(told.hits, HITS_TOLD_MAX as u64);
        sensor.on_tick(WINDOW_NS);
        told.take(&mut sensor);
        assert_eq!(told.indicators.len(), all - lost);
        assert_eq!((told.cut, told.lost), (lost as u64, lost as u64));
        // Those that were lost are told when they are met again.
        for nth in 0..all {
            connect(&mut sensor, 5, nth);
        }
        told.take(&mut sensor);
        assert_eq!((told.hits, told.indicators.len()), (all as u64, all));
    }
}
