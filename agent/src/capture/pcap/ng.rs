//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, each with interfaces of its own.
//!
//! ```text
//! | block type (4) | total length (4) | body, padded to 4 bytes | total length (4) |
//! section header    0x0a0d0d0a   | byte-order magic (4) | major (2) | minor (2) | length (8) |
//! interface         1            | link type (2) | - (2) | snap length (4) | options |
//! packet, obsolete  2            | interface (2) | drops (2) | time (8) | captured | original |
//! simple packet     3            | original (4) | data |
//! enhanced packet   6            | interface (4) | time (8) | captured | original | data | options |
//! ```

use picket_sense::input::LinkType;

use super::source::Source;
use super::{Fault, Head, Next, Order, RECORD_BYTES_MAX};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type, length in front and length at the end.
const FRAME_BYTES: u32 = 12;
/// Interfaces a section may describe. Chosen by hand; it bounds memory.
const INTERFACES_MAX: usize = 65_536;
/// Bytes of options that are looked through. Chosen by hand; interfaces have some hundreds.
const OPTIONS_BYTES_MAX: u32 = 1 << 20;

/// Reads the blocks of a pcapng file.
#[derive(Debug, Default)]
pub(super) struct Reader {
    order: Order,
    interfaces: Vec<Interface>,
    /// Time of the last packet, for those that come without.
    last_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: LinkType,
    snap_bytes: u32,
    resolution: Resolution,
    offset_seconds: i64,
}

/// Units of an interface's time.
#[derive(Debug, Clone, Copy)]
enum Resolution {
    /// 10 to the minus this many seconds.
    Decimal(u8),
    /// 2 to the minus this many seconds.
    Binary(u8),
}

impl Interface {
    /// Nanoseconds since the epoch; what is out of range stops at its end.
    fn time_ns(&self, units: u64) -> u64 {
        let units = i128::from(units);
        let ns = match self.resolution {
            Resolution::Decimal(digits @ 0..=9) => {
                units.saturating_mul(10i128.pow(9 - u32::from(digits)))
            }
            Resolution::Decimal(digits) => 10i128
                .checked_pow(u32::from(digits) - 9)
                .map_or(0, |divisor| units / divisor),
            Resolution::Binary(bits) => (units * 1_000_000_000)
                .checked_shr(u32::from(bits))
                .unwrap_or(0),
        };
        let offset = i128::from(self.offset_seconds) * 1_000_000_000;
        u64::try_from(ns.saturating_add(offset).max(0)).unwrap_or(u64::MAX)
    }
}

impl Reader {
    pub(super) fn next_head(&mut self, source: &mut Source) -> Result<Next, Fault> {
        if source.fill(1)?.is_empty() {
            return Ok(Next::End);
        }
        let head = source.array::<8>()?;
        let [kind, length] = self.order.words(&head);
        if kind == SECTION {
            // Its own byte order comes behind its length.
            let [_, _, _, _, length @ ..] = head;
            return self.section(source, length).map(|()| Next::Skipped);
        }
        if length < FRAME_BYTES || !length.is_multiple_of(4) {
            return Err(Fault::BlockLength { kind, length });
        }
        let body = length - FRAME_BYTES;
        match kind {
            INTERFACE => {
                self.interface(source, body)?;
                self.end_block(source, length)?;
                Ok(Next::Skipped)
            }
            OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                let head = self.packet(source, kind, body)?;
                self.last_ns = head.ts_ns;
                Ok(Next::Packet(head))
            }
            _ => {
                source.skip(u64::from(body))?;
                self.end_block(source, length)?;
                Ok(Next::Skipped)
            }
        }
    }

    fn end_block(&self, source: &mut Source, front: u32) -> Result<(), Fault> {
        let back = self.order.u32(source.array()?);
        if front == back {
            Ok(())
        } else {
            Err(Fault::BlockEnd { front, back })
        }
    }

    fn section(&mut self, source: &mut Source, length: [u8; 4]) -> Result<(), Fault> {
        let magic = source.array::<4>()?;
        self.order = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (0x1a2b_3c4d, _) => Order::Little,
            (_, 0x1a2b_3c4d) => Order::Big,
            (other, _) => return Err(Fault::ByteOrder(other)),
        };
        let length = self.order.u32(length);
        if length < 28 || !length.is_multiple_of(4) {
            return Err(Fault::BlockLength {
                kind: SECTION,
                length,
            });
        }
        let [a, b, c, d, ..] = source.array::<12>()?;
        let (major, minor) = (self.order.u16([a, b]), self.order.u16([c, d]));
        if major != 1 {
            return Err(Fault::Version {
                format: "pcapng",
                major,
                minor,
            });
        }
        self.interfaces.clear();
        source.skip(u64::from(length - 28))?;
        self.end_block(source, length)
    }

    fn interface(&mut self, source: &mut Source, body: u32) -> Result<(), Fault> {
        if body < 8 || self.interfaces.len() >= INTERFACES_MAX {
            return Err(Fault::BlockLength {
                kind: INTERFACE,
                length: body + FRAME_BYTES,
            });
        }
        let [a, b, _, _, snap @ ..] = source.array::<8>()?;
        let mut interface = Interface {
            link: LinkType(u32::from(self.order.u16([a, b]))),
            snap_bytes: self.order.u32(snap),
            resolution: Resolution::Decimal(6),
            offset_seconds: 0,
        };
        let mut left = body - 8;
        if left > OPTIONS_BYTES_MAX {
            return Err(Fault::TooLong(left));
        }
        while left >= 4 {
            let [a, b, c, d] = source.array()?;
            let (code, length) = (self.order.u16([a, b]), self.order.u16([c, d]));
            left -= 4;
            let padded = u32::from(length).next_multiple_of(4);
            if padded > left {
                // An option that is longer than its block ends the options.
                break;
            }
            source.need(padded as usize)?;
            let value = source.take(padded as usize);
            left -= padded;
            match (code, length, value) {
                (0, ..) => break,
                // if_tsresol
                (9, 1, [units, ..]) => {
                    interface.resolution = if units & 0x80 == 0 {
                        Resolution::Decimal(*units)
                    } else {
                        Resolution::Binary(units & 0x7f)
                    };
                }
                // if_tsoffset
                (14, 8, value) => {
                    if let Some(value) = value.first_chunk::<8>() {
                        interface.offset_seconds = self.order.u64(*value).cast_signed();
                    }
                }
                _ => {}
            }
        }
        source.skip(u64::from(left))?;
        self.interfaces.push(interface);
        Ok(())
    }

    fn packet(&self, source: &mut Source, kind: u32, body: u32) -> Result<Head, Fault> {
        let fixed = if kind == SIMPLE_PACKET { 4 } else { 20 };
        let Some(room) = body.checked_sub(fixed) else {
            return Err(Fault::BlockLength {
                kind,
                length: body + FRAME_BYTES,
            });
        };
        if room > RECORD_BYTES_MAX {
            return Err(Fault::TooLong(room));
        }
        if kind == SIMPLE_PACKET {
            let wire_bytes = self.order.u32(source.array()?);
            let interface = self.described(0)?;
            let snap_bytes = match interface.snap_bytes {
                0 => u32::MAX,
                bytes => bytes,
            };
            let captured = wire_bytes.min(snap_bytes).min(room);
            return Ok(Head {
                ts_ns: self.last_ns,
                link: interface.link,
                wire_bytes,
                captured,
                tail: room - captured + 4,
                length: Some((self.order, body + FRAME_BYTES)),
            });
        }
        let header = source.array::<20>()?;
        let [id, high, low, captured, wire_bytes] = self.order.words(&header);
        let id = if kind == OBSOLETE_PACKET {
            let [a, b, ..] = header;
            u32::from(self.order.u16([a, b]))
        } else {
            id
        };
        let interface = self.described(id)?;
        if captured > room {
            return Err(Fault::PacketLength {
                length: captured,
                room,
            });
        }
        Ok(Head {
            ts_ns: interface.time_ns(u64::from(high) << 32 | u64::from(low)),
            link: interface.link,
            wire_bytes,
            captured,
            tail: room - captured + 4,
            length: Some((self.order, body + FRAME_BYTES)),
        })
    }

    fn described(&self, id: u32) -> Result<Interface, Fault> {
        self.interfaces
            .get(id as usize)
            .copied()
            .ok_or(Fault::Interface(id))
    }
}
