//! Ethernet frames drawn by hand: TCP and UDP over IPv4 and IPv6, with right checksums.

use std::net::{IpAddr, SocketAddr};

use crate::lab::topology::is_instance;

/// TCP flag: no more from this side.
pub const FIN: u8 = 0x01;
/// TCP flag: opens.
pub const SYN: u8 = 0x02;
/// TCP flag: refused.
pub const RST: u8 = 0x04;
/// TCP flag: hand over at once.
pub const PSH: u8 = 0x08;
/// TCP flag: acknowledges.
pub const ACK: u8 = 0x10;

/// Hardware address of the instance in drawn frames. No interface of the lab has it, so the kernel
/// that such a frame is put before counts it and answers nothing.
const INSTANCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
/// Hardware address of everyone else.
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x63];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a TCP segment says besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Flags, OR-ed.
    pub flags: u8,
    /// Number of its first byte.
    pub sequence: u32,
    /// Number of the next byte awaited.
    pub acknowledged: u32,
}

/// Draws a TCP segment. Both ends must be of one address family; else the frame is not IP.
pub fn tcp(from: SocketAddr, to: SocketAddr, segment: Segment, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(20 + payload.len());
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(segment.sequence.to_be_bytes());
    body.extend(segment.acknowledged.to_be_bytes());
    body.extend([5 << 4, segment.flags]);
    body.extend(64_240u16.to_be_bytes());
    body.extend([0, 0, 0, 0]);
    body.extend(payload);
    seal(&mut body, 16, TCP, from.ip(), to.ip());
    ethernet(from.ip(), to.ip(), TCP, &body)
}

/// Draws a UDP datagram. Both ends must be of one address family; else the frame is not IP.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + payload.len());
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    body.extend(length.to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    seal(&mut body, 6, UDP, from.ip(), to.ip());
    ethernet(from.ip(), to.ip(), UDP, &body)
}

/// Fills in the transport checksum at byte `at` of `body` (RFC 9293 section 3.1, RFC 8200
/// section 8.1).
fn seal(body: &mut [u8], at: usize, protocol: u8, from: IpAddr, to: IpAddr) {
    let mut sum = Sum::default();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => sum.add(&address.octets()),
            IpAddr::V6(address) => sum.add(&address.octets()),
        }
    }
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    sum.add(&length.to_be_bytes());
    sum.add(&[0, protocol]);
    sum.add(body);
    let sum = match (sum.finish(), protocol) {
        // Zero means "no checksum" in UDP, so it is written as its other form.
        (0, UDP) => 0xffff,
        (sum, _) => sum,
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn ethernet(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(54 + body.len());
    for address in [to, from] {
        frame.extend(if is_instance(address) {
            INSTANCE_MAC
        } else {
            OTHER_MAC
        });
    }
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00]);
            let total = u16::try_from(20 + body.len()).unwrap_or(u16::MAX);
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            // No identification, do not fragment, 64 hops, checksum below.
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let mut sum = Sum::default();
            sum.add(&header);
            header[10..12].copy_from_slice(&sum.finish().to_be_bytes());
            frame.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        // Local experimental EtherType (IEEE 802): decoders count it as no IP.
        _ => frame.extend([0x88, 0xb5]),
    }
    frame.extend(body);
    frame
}

/// The internet checksum (RFC 1071). Every `add` but the last takes an even number of bytes.
#[derive(Default)]
struct Sum(u32);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            self.0 += u32::from(u16::from_be_bytes([pair[0], low]));
            self.0 = (self.0 & 0xffff) + (self.0 >> 16);
        }
    }

    fn finish(self) -> u16 {
        // Folded after every step, so it fits.
        !(self.0 as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checksummed header sums up to all ones, whatever it holds.
    #[test]
    fn checksums_add_up() {
        let from: SocketAddr = "10.77.0.10:40000".parse().unwrap();
        let to: SocketAddr = "198.51.100.20:3333".parse().unwrap();
        let segment = Segment {
            flags: SYN,
            sequence: 7,
            acknowledged: 0,
        };
        let frame = tcp(from, to, segment, b"odd");
        assert_eq!(frame.len(), 14 + 20 + 20 + 3);
        let mut header = Sum::default();
        header.add(&frame[14..34]);
        assert_eq!(header.finish(), 0);
        let mut body = Sum::default();
        body.add(&frame[26..34]);
        body.add(&[0, TCP, 0, 23]);
        body.add(&frame[34..]);
        assert_eq!(body.finish(), 0);
    }

    #[test]
    fn udp_over_ipv6() {
        let from: SocketAddr = "[fd77::10]:40000".parse().unwrap();
        let to: SocketAddr = "[2001:db8::1]:123".parse().unwrap();
        let frame = udp(from, to, b"ab");
        assert_eq!(frame.len(), 14 + 40 + 10);
        assert_eq!(frame[..6], OTHER_MAC);
        assert_eq!(frame[6..12], INSTANCE_MAC);
        let mut body = Sum::default();
        body.add(&frame[22..54]);
        body.add(&[0, 0, 0, 10, 0, UDP]);
        body.add(&frame[54..]);
        assert_eq!(body.finish(), 0);
    }
}
