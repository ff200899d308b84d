//! One direction of a TCP conversation, whole and cut.

use picket_sense::decode::{Decoded, Record};

use crate::dice::Dice;
use crate::packet::CLIENT;
use crate::packet::{PAYLOAD_BYTES_MAX, SERVER, ipv4, records, tcp};
use crate::told;

/// Segments a stream is cut into: fewer than a decoder keeps of those that come early.
const PIECES_MAX: usize = 24;

const SYN: u8 = 0x02;
const PSH_ACK: u8 = 0x18;

/// Who speaks to whom.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Address of the one who speaks.
    pub from: [u8; 4],
    /// Address of the other.
    pub to: [u8; 4],
    /// Ports, in the same order.
    pub ports: [u16; 2],
}

impl Ends {
    /// A client to a server's port.
    #[must_use]
    pub const fn client(port: u16) -> Self {
        Self {
            from: CLIENT,
            to: SERVER,
            ports: [40_000, port],
        }
    }

    /// What a server answers from its port.
    #[must_use]
    pub const fn server(port: u16) -> Self {
        Self {
            from: SERVER,
            to: CLIENT,
            ports: [port, 40_000],
        }
    }

    fn segment(self, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let segment = tcp(self.ports, flags, sequence, payload);
        ipv4([self.from, self.to], 6, &segment)
    }
}

fn messages(packets: &[Vec<u8>]) -> Vec<Decoded> {
    let told = records(packets.iter().map(Vec::as_slice));
    told.into_iter()
        .map(|record: Record| record.message)
        .collect()
}

/// Checks what is told of a stream. The input is a seed of four bytes and the stream.
///
/// What one segment tells, the same bytes tell first however they are cut, mixed and sent twice.
/// (Cut, they may tell more: a protocol is looked for again at the start of each segment.) With a
/// piece missing, nothing but what must hold of every message holds.
///
/// Returns what the whole tells.
pub fn check(ends: Ends, input: &[u8]) -> Vec<Decoded> {
    let Some((mut dice, stream)) = Dice::from_front(input) else {
        return Vec::new();
    };
    if stream.is_empty() || stream.len() > PAYLOAD_BYTES_MAX / 2 {
        return Vec::new();
    }
    // Numbers wrap in half of the cases.
    let opened_at = match dice.below(2) {
        0 => 1_000,
        _ => u32::MAX - dice.below(stream.len() + 2) as u32,
    };
    let first = opened_at.wrapping_add(1);
    let syn = ends.segment(SYN, opened_at, &[]);
    let whole = messages(&[syn.clone(), ends.segment(PSH_ACK, first, stream)]);
    whole.iter().for_each(told::check);

    let spans = dice.cuts(stream.len(), PIECES_MAX);
    let mut sent = spans.clone();
    for _ in 0..dice.below(4) {
        let (from, to) = spans[dice.below(spans.len())];
        sent.push((dice.below(from + 1), to));
    }
    dice.shuffle(&mut sent);
    let segment = |&(from, to): &(usize, usize)| {
        ends.segment(PSH_ACK, first.wrapping_add(from as u32), &stream[from..to])
    };
    let mut packets = vec![syn];
    packets.extend(sent.iter().map(segment));
    let cut = messages(&packets);
    cut.iter().for_each(told::check);
    assert!(
        cut.starts_with(&whole),
        "whole {whole:?}\ncut {sent:?} {cut:?}"
    );

    packets.remove(1 + dice.below(sent.len()));
    let reply = tcp([ends.ports[1], ends.ports[0]], 0x10, 1, &[]);
    let mut reply = ipv4([ends.to, ends.from], 6, &reply);
    let acknowledged = first.wrapping_add(stream.len() as u32);
    reply[28..32].copy_from_slice(&acknowledged.to_be_bytes());
    packets.push(reply);
    messages(&packets).iter().for_each(told::check);
    whole
}
