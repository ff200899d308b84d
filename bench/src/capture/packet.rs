//! Frames by hand: Ethernet, IPv4, and what is in it. Checksums of IPv4 are right, those of TCP and
//! UDP are left to the card, as on a host that offloads them.

/// TCP flags, RFC 9293 section 3.1.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    from: (u32, u16),
    to: (u32, u16),
}

/// The host: 10.77.0.10, as in the lab.
const HOST: u32 = 0x0a4d_000a;

impl Ends {
    /// The host and a peer; each number up to some billions has others.
    pub(crate) const fn of(number: u32) -> Self {
        // Odd, from the golden ratio: peers are spread over 100.0.0.0/8.
        let spread = number.wrapping_mul(0x9e37_79b9);
        Self {
            from: (HOST, 20_000 + (number % 40_000) as u16),
            to: (0x6400_0000 | spread >> 8, 443),
        }
    }

    /// The same to another port.
    pub(crate) const fn to(self, port: u16) -> Self {
        Self {
            to: (self.to.0, port),
            ..self
        }
    }

    /// The other way.
    pub(crate) const fn back(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }
}

/// A TCP segment.
pub(crate) fn tcp(ends: Ends, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(20 + payload.len());
    ports(&mut body, ends);
    body.extend(sequence.to_be_bytes());
    body.extend([0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    body.extend(payload);
    frame(ends, 6, &body)
}

/// A datagram.
pub(crate) fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + payload.len());
    ports(&mut body, ends);
    body.extend(((8 + payload.len()) as u16).to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    frame(ends, 17, &body)
}

/// Puts the checksum of TCP (RFC 9293, section 3.1) into a frame of [`tcp`], for a receiver that looks
/// at it.
pub(crate) fn sum_tcp(frame: &mut [u8]) {
    /// Where the segment begins, and its checksum.
    const SEGMENT: usize = 34;
    const SUM: usize = SEGMENT + 16;
    let length = frame.len().saturating_sub(SEGMENT) as u32;
    // The addresses are the last eight bytes of the header before.
    let covered = frame.get(SEGMENT - 8..).unwrap_or_default();
    let sum = ones_complement(covered, 6 + length);
    if let Some(place) = frame.get_mut(SUM..SUM + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The checksum of RFC 1071 over `bytes`, an even number, and a number besides.
fn ones_complement(bytes: &[u8], besides: u32) -> u16 {
    let words = bytes.chunks_exact(2);
    let words = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>() + besides;
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

/// An ICMP echo (8) or its reply (0).
pub(crate) fn echo(ends: Ends, kind: u8) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0];
    body.extend(ends.from.1.min(ends.to.1).to_be_bytes());
    body.extend([0, 1]);
    body.extend([0; 48]);
    frame(ends, 1, &body)
}

/// A DNS question for an address.
pub(crate) fn dns_question(ends: Ends, id: u16, name: &str) -> Vec<u8> {
    udp(ends.to(53), &message(id, 0x0100, name, None))
}

/// An answer to it.
pub(crate) fn dns_answer(ends: Ends, id: u16, name: &str, address: u32) -> Vec<u8> {
    udp(ends, &message(id, 0x8180, name, Some(address)))
}

/// A DNS message, RFC 1035 section 4.
fn message(id: u16, flags: u16, name: &str, answer: Option<u32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    for word in [id, flags, 1, u16::from(answer.is_some()), 0, 0] {
        out.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    out.extend([0, 0, 1, 0, 1]);
    if let Some(address) = answer {
        // The name above, type A, class IN, 300 seconds, four bytes.
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
        out.extend(address.to_be_bytes());
    }
    out
}

fn ports(body: &mut Vec<u8>, ends: Ends) {
    body.extend(ends.from.1.to_be_bytes());
    body.extend(ends.to.1.to_be_bytes());
}

fn frame(ends: Ends, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(34 + body.len());
    // Locally administered addresses, IPv4.
    out.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    let total = (20 + body.len()) as u16;
    let mut header = [
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[12..16].copy_from_slice(&ends.from.0.to_be_bytes());
    header[16..20].copy_from_slice(&ends.to.0.to_be_bytes());
    let sum = ones_complement(&header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    out.extend(header);
    out.extend(body);
    out
}
