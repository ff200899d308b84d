//! Packets built by hand, for tests.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use picket_wire::{Host, Summary};

use crate::decode::{Decoded, Decoder, Event, Lost, NotFlow, Record, Tunnel};
use crate::input::{Frame, LinkType};
use crate::{Clock, Sensor, SensorConfig};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Puts an Ethernet header in front.
pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xee; 12], &kind.to_be_bytes()[..], payload].concat()
}

pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    fragment_v4(src, dst, protocol, 0, 0, payload)
}

/// `position` is the field of flags and offset.
pub(crate) fn fragment_v4(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    id: u16,
    position: u16,
    payload: &[u8],
) -> Vec<u8> {
    let total = 20 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(position.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(payload);
    packet
}

/// `next` is the first extension header, or the transport protocol.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
    packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
    packet.extend(payload);
    packet
}

pub(crate) fn udp(src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

pub(crate) fn tcp(src_port: u16, dst_port: u16, flags: u8, sequence: u32, data: &[u8]) -> Vec<u8> {
    let mut packet = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(data);
    packet
}

/// A query for an A record.
pub(crate) fn dns_query(id: u16, name: &[u8]) -> Vec<u8> {
    let header = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    [&header, name, &[0, 1, 0, 1]].concat()
}

/// A ClientHello, in a handshake message, for a server name.
pub(crate) fn client_hello(server: &str) -> Vec<u8> {
    let name = [
        &[0],
        &(server.len() as u16).to_be_bytes()[..],
        server.as_bytes(),
    ]
    .concat();
    let names = [&(name.len() as u16).to_be_bytes()[..], &name].concat();
    let mut extensions = Vec::new();
    for (kind, data) in [
        (0x1a1au16, &[][..]),
        (0, &names),
        (10, &[0, 4, 0x2a, 0x2a, 0, 0x1d]),
        (11, &[1, 0]),
        (13, &[0, 4, 4, 3, 8, 4]),
        (
            16,
            &[
                0, 12, 2, b'h', b'2', 8, b'h', b't', b't', b'p', b'/', b'1', b'.', b'1',
            ],
        ),
        (43, &[6, 0x3a, 0x3a, 3, 4, 3, 3]),
    ] {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((data.len() as u16).to_be_bytes());
        extensions.extend(data);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 6, 0x0a, 0x0a, 0x13, 0x01, 0xc0, 0x2f]);
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    [&[1], &length[..], &body].concat()
}

/// A TLS record of type handshake.
pub(crate) fn tls_record(data: &[u8]) -> Vec<u8> {
    [&[22, 3, 1], &(data.len() as u16).to_be_bytes()[..], data].concat()
}

/// What is told of segments that a client sends one after the other.
pub(crate) fn over_tcp(parts: &[&[u8]]) -> Vec<Decoded> {
    let mut sequence = 1;
    let packets: Vec<Vec<u8>> = parts
        .iter()
        .map(|part| {
            let packet = ipv4(CLIENT, SERVER, 6, &tcp(40_000, 8_080, 0x18, sequence, part));
            sequence += part.len() as u32;
            packet
        })
        .collect();
    let records = Seen::of(LinkType::RAW_IP, &packets).records;
    records.into_iter().map(|record| record.message).collect()
}

/// What is told of segments that a server sends one after the other.
pub(crate) fn told_by_server(port: u16, parts: &[&[u8]]) -> Vec<Record> {
    let mut sequence = 1;
    let packets: Vec<Vec<u8>> = parts
        .iter()
        .map(|part| {
            let packet = ipv4(SERVER, CLIENT, 6, &tcp(port, 40_000, 0x18, sequence, part));
            sequence += part.len() as u32;
            packet
        })
        .collect();
    Seen::of(LinkType::RAW_IP, &packets).records
}

/// What a decoder told of some frames.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Ports, IP bytes and tunnel of each packet of a flow.
    pub(crate) packets: Vec<(u16, u16, u32, Option<Tunnel>)>,
    pub(crate) not_flow: Vec<(NotFlow, Option<Tunnel>)>,
    pub(crate) lost: Vec<(Lost, Option<Tunnel>)>,
    pub(crate) records: Vec<Record>,
}

impl Seen {
    /// Shows frames of one link type to a new decoder.
    pub(crate) fn of(link: LinkType, frames: &[Vec<u8>]) -> Self {
        let mut decoder = Decoder::new();
        let mut seen = Self::default();
        for frame in frames {
            seen.add(&mut decoder, link, frame);
        }
        seen
    }

    pub(crate) fn add(&mut self, decoder: &mut Decoder, link: LinkType, data: &[u8]) {
        let frame = Frame {
            ts_ns: 1,
            link,
            wire_bytes: data.len() as u32,
            data,
        };
        decoder.on_frame(&frame, &mut |event| match event {
            Event::Packet(packet) => {
                let (src, dst) = (packet.src.port, packet.dst.port);
                self.packets
                    .push((src, dst, packet.ip_bytes, packet.tunnel));
            }
            Event::NotFlow { class, tunnel, .. } => self.not_flow.push((class, tunnel)),
            Event::Lost { reason, tunnel, .. } => self.lost.push((reason, tunnel)),
            Event::Record(record) => self.records.push(record),
        });
    }

    /// The names asked for, and the servers greeted.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |record: &Record| match &record.message {
            Decoded::Dns(message) => message.qname().map_or("?".into(), ToString::to_string),
            Decoded::ClientHello(hello) => hello.sni.clone().unwrap_or_default(),
            other => other.kind().to_owned(),
        };
        self.records.iter().map(name).collect()
    }
}

/// The summary of the only window of packets that pass a millisecond apart.
pub(crate) fn summary_of(packets: &[Vec<u8>]) -> Summary {
    let config = SensorConfig::new(Host::default(), Clock::Packets);
    let mut sensor = Sensor::new(config, Arc::default());
    for (at, data) in packets.iter().enumerate() {
        sensor.on_frame(&Frame {
            ts_ns: 1_700_000_000_000_000_000 + at as u64 * 1_000_000,
            link: LinkType::RAW_IP,
            wire_bytes: data.len() as u32,
            data,
        });
    }
    sensor.finish(None);
    let mut windows = std::iter::from_fn(|| sensor.poll_output()).filter(|one| !one.immediate);
    let summary = windows.next().unwrap();
    assert_eq!(windows.next(), None);
    summary
}
