//! Headers round hostile bytes, so that they get as far as the decoder a target is for.

use picket_sense::decode::{Decoder, Event, Record};
use picket_sense::input::{Frame, LinkType};

/// Whose packets they are.
pub const CLIENT: [u8; 4] = [10, 0, 0, 1];
/// The other side, unless a target says otherwise.
pub const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Bytes of a payload that still fits into a packet, whatever stands round it.
pub const PAYLOAD_BYTES_MAX: usize = 60_000;

/// An IPv4 packet; `position` is the field of flags and fragment offset.
#[must_use]
pub fn ipv4_piece(ends: [[u8; 4]; 2], protocol: u8, position: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(position.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(ends.concat());
    packet.extend(payload);
    packet
}

/// An IPv4 packet.
#[must_use]
pub fn ipv4(ends: [[u8; 4]; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_piece(ends, protocol, 0, payload)
}

/// An IPv6 packet between two addresses of our own.
#[must_use]
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for host in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend(payload);
    packet
}

/// A datagram.
#[must_use]
pub fn udp(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut datagram = ports.map(u16::to_be_bytes).concat();
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// A segment.
#[must_use]
pub fn tcp(ports: [u16; 2], flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = ports.map(u16::to_be_bytes).concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}

/// Shows packets to a new decoder, all at one time; returns the records it told.
#[must_use]
pub fn records<'a>(packets: impl IntoIterator<Item = &'a [u8]>) -> Vec<Record> {
    let mut decoder = Decoder::new();
    let mut told = Vec::new();
    for data in packets {
        let frame = Frame {
            ts_ns: 1,
            link: LinkType::RAW_IP,
            wire_bytes: data.len() as u32,
            data,
        };
        decoder.on_frame(&frame, &mut |event| {
            if let Event::Record(record) = event {
                told.push(record);
            }
        });
    }
    told
}
