//! Packets made by hand, for tests that feed a sensor.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use picket_intel::{Category, Indicator, IndicatorSet, List, SetBuilder};
use picket_sense::input::{Frame, LinkType};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Host, Net, Summary};

pub(crate) const S: u64 = 1_000_000_000;
/// A moment at the start of a window.
pub(crate) const T0: u64 = 1_700_000_000 * S;

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// `192.0.2.<last>:<port>`.
pub(crate) fn at(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)
}

pub(crate) fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
    let mut out = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(body);
    out
}

pub(crate) fn tcp(
    src: SocketAddrV4,
    dst: SocketAddrV4,
    flags: u8,
    sequence: u32,
    data: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(src.port().to_be_bytes());
    body.extend(dst.port().to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    body.extend(data);
    ipv4(*src.ip(), *dst.ip(), 6, &body)
}

pub(crate) fn udp(src: SocketAddrV4, dst: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(src.port().to_be_bytes());
    body.extend(dst.port().to_be_bytes());
    body.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
    body.extend([0, 0]);
    body.extend(data);
    ipv4(*src.ip(), *dst.ip(), 17, &body)
}

/// A question for the A record of `name`, or its response with `answers`.
pub(crate) fn dns(name: &str, answers: Option<&[[u8; 4]]>, rcode: u8) -> Vec<u8> {
    let count = answers.map_or(0, <[_]>::len) as u8;
    let response = if answers.is_some() { 0x80 } else { 0 };
    let mut out = vec![0, 7, response | 1, rcode, 0, 1, 0, count, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    for address in answers.unwrap_or_default() {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend(address);
    }
    out
}

/// A TLS record with a ClientHello for `name`.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let prefixed = |bytes: &[u8], width: usize| {
        let mut out = bytes.len().to_be_bytes()[8 - width..].to_vec();
        out.extend(bytes);
        out
    };
    let host = [&[0][..], &prefixed(name.as_bytes(), 2)].concat();
    let extension = [&[0, 0][..], &prefixed(&prefixed(&host, 2), 2)].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &prefixed(&[0x13, 1, 0x13, 2], 2),
        &[1, 0],
        &prefixed(&extension, 2),
    ]
    .concat();
    let handshake = [&[1][..], &prefixed(&body, 3)].concat();
    [&[22, 3, 1][..], &prefixed(&handshake, 2)].concat()
}

/// A set of custom lists named by what they hold.
pub(crate) fn indicators(values: &[&str]) -> Arc<IndicatorSet> {
    let mut builder = SetBuilder::default();
    for value in values {
        let list = List::new(format!("list of {value}"), Category::Custom);
        let list = builder.list(list).unwrap();
        let indicator = Indicator::address(value)
            .or_else(|_| Indicator::domain(value))
            .unwrap();
        builder.add(list, indicator).unwrap();
    }
    Arc::new(builder.build())
}

pub(crate) fn host() -> Host {
    Host {
        instance: "i-1".into(),
        local: vec![Net {
            address: ip(1),
            prefix: 32,
        }],
        ..Host::default()
    }
}

/// A sensor whose summaries are kept.
pub(crate) struct Bench {
    pub(crate) sensor: Sensor,
    pub(crate) summaries: Vec<Summary>,
}

impl Bench {
    pub(crate) fn new(listed: &[&str]) -> Self {
        Self::with(SensorConfig::new(host(), Clock::Packets), listed)
    }

    pub(crate) fn with(config: SensorConfig, listed: &[&str]) -> Self {
        Self {
            sensor: Sensor::new(config, indicators(listed)),
            summaries: Vec::new(),
        }
    }

    pub(crate) fn frame(&mut self, ts_ns: u64, data: &[u8]) {
        self.sensor.on_frame(&Frame {
            ts_ns,
            link: LinkType::RAW_IP,
            wire_bytes: u32::try_from(data.len()).unwrap(),
            data,
        });
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        while let Some(summary) = self.sensor.poll_output() {
            self.summaries.push(summary);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Summary> {
        self.sensor.finish(None);
        self.drain();
        self.summaries
    }
}

pub(crate) fn counter(summary: &Summary, stage: &str, reason: &str) -> u64 {
    let mut all = summary.counters.iter();
    all.find(|c| c.stage == stage && c.reason == reason)
        .map_or(0, |c| c.count)
}

/// First second of each window and the first behind it, counted from [`T0`].
pub(crate) fn windows(summaries: &[Summary]) -> Vec<(u64, u64)> {
    let windows = summaries.iter().filter(|summary| !summary.immediate);
    windows
        .map(|s| ((s.window.start_ns - T0) / S, (s.window.end_ns - T0) / S))
        .collect()
}

/// Asks every window for seen = flow + not flow + lost, and that what the flow stage took in
/// is what the conversations hold or was cut.
#[track_caller]
pub(crate) fn equation_holds(summaries: &[Summary], stage: &str) -> u64 {
    let mut seen_total = 0;
    for summary in summaries.iter().filter(|summary| !summary.immediate) {
        let sum = |stage: &str, begins: &[&str]| -> u64 {
            let all = summary.counters.iter().filter(|c| c.stage == stage);
            all.filter(|c| begins.iter().any(|b| c.reason.starts_with(b)))
                .map(|c| c.count)
                .sum()
        };
        let seen = sum(stage, &["seen"]);
        assert_eq!(
            seen,
            sum(stage, &["flow", "not_flow_", "lost_"]),
            "{:?}",
            summary.counters
        );
        assert_eq!(sum(stage, &["flow"]), sum("flow", &["seen"]));
        assert_eq!(sum("flow", &["seen"]), sum("flow", &["flow", "lost_"]));
        let told: u64 = summary
            .conversations
            .iter()
            .map(|c| c.packets_out + c.packets_in)
            .sum();
        assert_eq!(sum("flow", &["flow"]), told + summary.cut.packets);
        let balance = summary.balance().unwrap();
        assert_eq!(balance.check(), Ok(()), "{balance:?}");
        seen_total += seen;
    }
    seen_total
}
