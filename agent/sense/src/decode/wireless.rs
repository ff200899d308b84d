//! IEEE 802.11 frames, and what radios put before them.
//!
//! ```text
//! | frame control (2) | duration (2) | address 1, 2, 3 (6 each) | sequence (2) |
//!     | address 4 (6), between access points | QoS (2), if the subtype says so |
//!     | HT control (4), if flagged with QoS | LLC, SNAP, packet |
//! ```
//!
//! Only data that is not encrypted leads to a packet. Of several packets in one frame (A-MSDU) the
//! first is read.

use super::bytes::Bytes;
use super::link::{CUT, Found, NON_IP, llc};
use crate::input::LinkType;

/// Finds the IP packet in a frame of a wireless link type.
pub(super) fn ip_packet(link: LinkType, mut bytes: Bytes<'_>) -> Found<'_> {
    match link.0 {
        // Radiotap: version, padding, length, then fields as flagged; little-endian.
        127 => {
            let header = bytes.rest().first_chunk::<4>().ok_or(CUT)?;
            let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
            let header = bytes.take(length).ok_or(CUT)?;
            frame(bytes, radiotap_padding(header))
        }
        // Per-packet information: version, flags, length, link type of what follows.
        192 => {
            let header = bytes.rest().first_chunk::<8>().ok_or(CUT)?;
            let [_, _, a, b, kind @ ..] = *header;
            bytes.take(u16::from_le_bytes([a, b]).into()).ok_or(CUT)?;
            match u32::from_le_bytes(kind) {
                105 => frame(bytes, Padding::None),
                _ => Err(NON_IP),
            }
        }
        // AVS or Prism: AVS has a magic number, its length as the second word, big-endian; Prism a
        // message code and its length, little-endian.
        119 | 163 => {
            let header = bytes.rest().first_chunk::<8>().ok_or(CUT)?;
            let [a, b, c, _, length @ ..] = *header;
            let length = if [a, b, c] == [0x80, 0x21, 0x10] {
                u32::from_be_bytes(length)
            } else {
                u32::from_le_bytes(length)
            };
            bytes.take(length as usize).ok_or(CUT)?;
            frame(bytes, Padding::None)
        }
        _ => frame(bytes, Padding::None),
    }
}

/// Whether the radio put the packet on a multiple of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    None,
    ToWords,
}

/// Reads the flags field of a radiotap header, if there is one: it follows the words that say which
/// fields are there, and the time (8 bytes, aligned).
fn radiotap_padding(header: &[u8]) -> Padding {
    let words = header.as_chunks::<4>().0.iter().skip(1);
    let mut present = 0;
    let mut words_bytes = 0;
    for (at, word) in words.enumerate() {
        let word = u32::from_le_bytes(*word);
        if at == 0 {
            present = word;
        }
        words_bytes += 4;
        if word >> 31 == 0 {
            break;
        }
    }
    let mut at: usize = 4 + words_bytes;
    if present & 1 != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    match header.get(at) {
        Some(flags) if present & 2 != 0 && flags & 0x20 != 0 => Padding::ToWords,
        _ => Padding::None,
    }
}

fn frame(mut bytes: Bytes<'_>, padding: Padding) -> Found<'_> {
    let [control, flags] = bytes.array::<2>().ok_or(CUT)?;
    let is_data = control & 0x0c == 0x08;
    let (is_empty, has_qos) = (control & 0x40 != 0, control & 0x80 != 0);
    let (between, is_secret, has_order) = (flags & 3 == 3, flags & 0x40 != 0, flags & 0x80 != 0);
    if control & 0x03 != 0 || !is_data || is_empty || is_secret {
        return Err(NON_IP);
    }
    bytes.take(22).ok_or(CUT)?;
    let mut header_bytes: usize = 24;
    if between {
        bytes.take(6).ok_or(CUT)?;
        header_bytes += 6;
    }
    let mut many = false;
    if has_qos {
        let [quality, _] = bytes.array().ok_or(CUT)?;
        many = quality & 0x80 != 0;
        header_bytes += 2;
        if has_order {
            bytes.take(4).ok_or(CUT)?;
            header_bytes += 4;
        }
    }
    if padding == Padding::ToWords {
        let pad = header_bytes.next_multiple_of(4) - header_bytes;
        bytes.take(pad).ok_or(CUT)?;
    }
    if many {
        // Two addresses and a length.
        bytes.take(14).ok_or(CUT)?;
    }
    llc(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLC: [u8; 8] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    const V4: [u8; 2] = [0x45, 0];

    #[track_caller]
    fn check(link: u32, parts: &[&[u8]], expected: Found<'_>) {
        let frame = parts.concat();
        let bytes = Bytes::new(&frame);
        assert_eq!(ip_packet(LinkType(link), bytes), expected);
    }

    #[test]
    fn data_of_every_form() {
        check(105, &[&[0x08, 1], &[0; 22], &LLC, &V4], Ok(&V4));
        check(105, &[&[0x08, 3], &[0; 28], &LLC, &V4], Ok(&V4));
        check(105, &[&[0x88, 2], &[0; 24], &LLC, &V4], Ok(&V4));
        check(105, &[&[0x88, 0x82], &[0; 28], &LLC, &V4], Ok(&V4));
        let many = [&[0x88, 2][..], &[0; 22], &[0x80, 0], &[0; 14]].concat();
        check(105, &[&many, &LLC, &V4], Ok(&V4));
        check(105, &[&[0x08, 1], &[0; 22], &LLC[..7]], Err(CUT));
    }

    #[test]
    fn what_holds_no_packet() {
        // A beacon, an acknowledgement, no data, encrypted data, another version.
        for control in [[0x80, 0], [0xd4, 0], [0x48, 1], [0x08, 0x41], [0x09, 1]] {
            check(105, &[&control, &[0; 22], &LLC, &V4], Err(NON_IP));
        }
    }

    #[test]
    fn behind_the_radio_header() {
        let data = [&[0x88, 1][..], &[0; 24]].concat();
        check(127, &[&[0, 0, 8, 0, 0, 0, 0, 0], &data, &LLC, &V4], Ok(&V4));
        // A second word of fields, the time, flags that say the packet is padded to 28 bytes.
        let words = [0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0];
        let padded = [&words[..], &[0; 4], &[9; 8], &[0x20]].concat();
        check(127, &[&padded, &data, &[0; 2], &LLC, &V4], Ok(&V4));
        check(127, &[&padded[..20]], Err(CUT));
        let ppi = [0, 0, 8, 0, 105, 0, 0, 0];
        check(192, &[&ppi, &data, &LLC, &V4], Ok(&V4));
        check(
            192,
            &[&[0, 0, 8, 0, 1, 0, 0, 0], &data, &LLC, &V4],
            Err(NON_IP),
        );
        let avs = [0x80, 0x21, 0x10, 1, 0, 0, 0, 10, 0, 0];
        check(163, &[&avs, &data, &LLC, &V4], Ok(&V4));
        let prism = [0x44, 0, 0, 0, 10, 0, 0, 0, 0, 0];
        check(119, &[&prism, &data, &LLC, &V4], Ok(&V4));
    }
}
