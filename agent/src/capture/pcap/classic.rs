//! The classic capture file (draft-ietf-opsawg-pcap).
//!
//! ```text
//! | magic (4) | major (2) | minor (2) | reserved (8) | snap length (4) | link type (4) |
//! then per packet
//! | seconds (4) | fraction (4) | captured length (4) | original length (4) | data |
//! ```

use picket_sense::input::LinkType;

use super::source::Source;
use super::{Fault, Head, Next, Order, RECORD_BYTES_MAX};

/// Seconds and microseconds.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
/// Seconds and nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Microseconds, and eight bytes more per packet: an old patch to libpcap, still found.
const MODIFIED: u32 = 0xa1b2_cd34;

/// Reads the records of a classic capture.
#[derive(Debug)]
pub(super) struct Reader {
    order: Order,
    link: LinkType,
    /// Nanoseconds of one unit of the fraction.
    fraction_ns: u64,
    lengths: Lengths,
    /// Bytes behind each record's head that say nothing to us.
    extra: u32,
}

/// In which order a record gives its lengths; writers before version 2.4 differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// The smaller one is what was captured.
    Either,
}

impl Reader {
    /// Takes the file header.
    pub(super) fn start(source: &mut Source) -> Result<Self, Fault> {
        let magic = source.fill(4)?.to_vec();
        let word = <[u8; 4]>::try_from(magic.as_slice());
        let word = word.map_err(|_| Fault::NotACapture(magic.clone()))?;
        let known = |magic| matches!(magic, MICROSECONDS | NANOSECONDS | MODIFIED);
        let order = match (u32::from_le_bytes(word), u32::from_be_bytes(word)) {
            (magic, _) if known(magic) => Order::Little,
            (_, magic) if known(magic) => Order::Big,
            _ => return Err(Fault::NotACapture(magic)),
        };
        let header = source.array::<24>()?;
        let [magic, _, _, _, _, link] = order.words(&header);
        let [_, _, _, _, a, b, c, d, ..] = header;
        let (major, minor) = (order.u16([a, b]), order.u16([c, d]));
        // As libpcap does it; 543 is what one system wrote in place of 2.
        let lengths = match (major, minor) {
            (2, 0..=2) | (543, 0) => Lengths::OriginalFirst,
            (2, 3) => Lengths::Either,
            (2, _) => Lengths::CapturedFirst,
            _ => {
                return Err(Fault::Version {
                    format: "pcap",
                    major,
                    minor,
                });
            }
        };
        Ok(Self {
            order,
            // The upper bits tell of a frame check sequence behind the data.
            link: LinkType(link & 0x03ff_ffff),
            fraction_ns: if magic == NANOSECONDS { 1 } else { 1_000 },
            lengths,
            extra: if magic == MODIFIED { 8 } else { 0 },
        })
    }

    pub(super) fn next_head(&mut self, source: &mut Source) -> Result<Next, Fault> {
        if source.fill(1)?.is_empty() {
            return Ok(Next::End);
        }
        let [seconds, fraction, first, second] = self.order.words(&source.array::<16>()?);
        let swapped = match self.lengths {
            Lengths::CapturedFirst => false,
            Lengths::OriginalFirst => true,
            Lengths::Either => first > second,
        };
        let (captured, wire_bytes) = if swapped {
            (second, first)
        } else {
            (first, second)
        };
        if captured > RECORD_BYTES_MAX {
            return Err(Fault::TooLong(captured));
        }
        source.need(self.extra as usize)?;
        source.take(self.extra as usize);
        let ts_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.fraction_ns;
        Ok(Next::Packet(Head {
            ts_ns,
            link: self.link,
            wire_bytes,
            captured,
            tail: 0,
            length: None,
        }))
    }
}
