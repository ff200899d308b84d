//! Tunnels that mirrored traffic comes in: from an outer packet to the frame it carries.
//!
//! Reads VXLAN (RFC 7348: AWS sends mirrored packets so), GENEVE (RFC 8926), GRE with checksum,
//! key and sequence (RFC 2784, 2890), and ERSPAN types I and II inside it. Source-routed GRE, PPTP
//! and ERSPAN type III are left closed: such a packet tells of its outer flow alone.

use picket_abi::tunnel::kind;

use crate::parse::{Frame, Link, Packet, protocol};

/// A frame inside another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// The tunnel's kind: one of [`kind`].
    pub kind: u32,
    /// Its number: VNI, key or session; 0 where it has none.
    pub id: u32,
    /// Where the frame begins.
    pub at: u32,
    /// What it begins with.
    pub link: Link,
}

/// IANA's port of VXLAN, and the one that Linux used before it was given.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// IANA's port of GENEVE.
const GENEVE_PORT: u16 = 6081;

/// Protocols of GRE and GENEVE, `EtherType` numbers in host order.
const ETHERNET: u16 = 0x6558;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ERSPAN: u16 = 0x88be;

/// The frame that a packet carries, if it is of a tunnel we open.
#[inline(always)]
pub fn carried<F: Frame>(frame: &F, outer: &Packet) -> Option<Carried> {
    let at = outer.ip_at + outer.header_bytes;
    match outer.protocol {
        protocol::UDP if VXLAN_PORTS.contains(&outer.destination_port) => vxlan(frame, at),
        protocol::UDP if outer.destination_port == GENEVE_PORT => geneve(frame, at),
        protocol::GRE => gre(frame, at),
        _ => None,
    }
}

/// RFC 7348 5.
///
/// ```text
/// |R|R|R|R|I|R|R|R|            Reserved                           |
/// |                VXLAN Network Identifier (VNI) |   Reserved    |
/// ```
#[inline(always)]
fn vxlan<F: Frame>(frame: &F, at: u32) -> Option<Carried> {
    let [flags, id]: [u32; 2] = frame.load(at)?;
    (flags.to_ne_bytes()[0] & 0x08 != 0).then_some(Carried {
        kind: kind::VXLAN,
        id: u32::from_be(id) >> 8,
        at: at + 8,
        link: Link::Ethernet,
    })
}

/// RFC 8926 3.4.
///
/// ```text
/// |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
/// |        Virtual Network Identifier (VNI)       |    Reserved   |
/// |                    Variable-Length Options                    |
/// ```
#[inline(always)]
fn geneve<F: Frame>(frame: &F, at: u32) -> Option<Carried> {
    let [first, id]: [u32; 2] = frame.load(at)?;
    let [version, _, high, low] = first.to_ne_bytes();
    if version >> 6 != 0 {
        return None;
    }
    Some(Carried {
        kind: kind::GENEVE,
        id: u32::from_be(id) >> 8,
        at: at + 8 + u32::from(version & 0x3f) * 4,
        link: link(u16::from_be_bytes([high, low]))?,
    })
}

/// RFC 2784 2.1 and 2890 2.
///
/// ```text
/// |C|R|K|S| Reserved0       | Ver |         Protocol Type         |
/// |      Checksum (optional)      |       Reserved1 (Optional)    |
/// |                         Key (optional)                        |
/// |                 Sequence Number (Optional)                    |
/// ```
#[inline(always)]
fn gre<F: Frame>(frame: &F, at: u32) -> Option<Carried> {
    let first: u32 = frame.load(at)?;
    let [flags, version, high, low] = first.to_ne_bytes();
    if version & 0x07 != 0 || flags & 0x40 != 0 {
        return None;
    }
    let (has_checksum, has_key, has_sequence) =
        (flags & 0x80 != 0, flags & 0x20 != 0, flags & 0x10 != 0);
    let mut at = at + 4 + if has_checksum { 4 } else { 0 };
    let mut id = 0;
    if has_key {
        id = u32::from_be(frame.load(at)?);
        at += 4;
    }
    if has_sequence {
        at += 4;
    }
    let protocol = u16::from_be_bytes([high, low]);
    if protocol != ERSPAN {
        return Some(Carried {
            kind: kind::GRE,
            id,
            at,
            link: link(protocol)?,
        });
    }
    // Type II has a header of 8 bytes behind a sequence number, its session in 10 bits of the
    // first four; type I has neither.
    let mut session = 0;
    if has_sequence {
        let header: u32 = frame.load(at)?;
        session = u32::from_be(header) & 0x3ff;
        at += 8;
    }
    Some(Carried {
        kind: kind::ERSPAN,
        id: session,
        at,
        link: Link::Ethernet,
    })
}

#[inline(always)]
const fn link(protocol: u16) -> Option<Link> {
    match protocol {
        ETHERNET => Some(Link::Ethernet),
        IPV4 | IPV6 => Some(Link::Ip),
        _ => None,
    }
}

/// The IP length that a packet states, where that is more than the frame holds: a mirror sends the
/// front of long packets.
#[inline(always)]
pub fn stated_bytes<F: Frame>(frame: &F, packet: &Packet) -> u32 {
    let Some([first, total, payload]) = frame.load::<[u16; 3]>(packet.ip_at) else {
        return packet.ip_bytes;
    };
    let stated = if first.to_ne_bytes()[0] >> 4 == 4 {
        u32::from(u16::from_be(total))
    } else {
        40 + u32::from(u16::from_be(payload))
    };
    stated.max(packet.ip_bytes)
}

#[cfg(test)]
mod tests;
