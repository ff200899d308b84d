//! What carries packets inside packets: which headers they put between.

use super::bytes::Bytes;
use super::ip::front;
use super::link::{self, NoIp};
use super::packet::{Packet, Protocol, Tunnel, TunnelKind};

/// What a tunnel carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried<'a> {
    pub(crate) tunnel: Tunnel,
    /// Its bytes on the wire, as far as the outer packet tells.
    pub(crate) wire_bytes: u32,
    /// The IP packet in it and its bytes on the wire, or why there is none.
    pub(crate) inside: Result<(&'a [u8], u32), NoIp>,
}

/// The form of what follows a tunnel's header.
enum Form {
    Ip,
    Ethernet,
    Ppp,
    EtherType(u16),
}

/// Opens a tunnel if this packet is one.
pub(crate) fn open<'a>(packet: &Packet<'a>) -> Option<Carried<'a>> {
    let bytes = Bytes::new(packet.payload);
    let (tunnel, form, rest) = match packet.protocol {
        Protocol::UDP => match packet.dst.port {
            // The second is what Linux used before the number was given.
            4789 | 8472 => vxlan(bytes),
            6081 => geneve(bytes),
            2152 => gtp(bytes),
            3544 => teredo(bytes),
            _ if packet.src.port == 3544 => teredo(bytes),
            _ => None,
        },
        Protocol::GRE => gre(bytes),
        Protocol::IPV4 => Some((unnumbered(TunnelKind::IpIp), Form::Ip, bytes)),
        Protocol::IPV6 => Some((unnumbered(TunnelKind::Ip6), Form::Ip, bytes)),
        Protocol::ETHERIP => etherip(bytes),
        _ => None,
    }?;
    let taken = (packet.payload.len() - rest.rest().len()) as u32;
    let wire_bytes = packet.payload_bytes.saturating_sub(taken);
    let data = front(rest.rest(), wire_bytes);
    let found = match form {
        Form::Ip => Ok(data),
        Form::Ethernet => link::ethernet(data),
        Form::Ppp => link::ppp_framed(Bytes::new(data)),
        Form::EtherType(kind) => link::ethertype(kind, Bytes::new(data)),
    };
    let inside = found.map(|ip| {
        (
            ip,
            wire_bytes.saturating_sub((data.len() - ip.len()) as u32),
        )
    });
    Some(Carried {
        tunnel,
        wire_bytes,
        inside,
    })
}

type Opened<'a> = Option<(Tunnel, Form, Bytes<'a>)>;

/// RFC 7348 5: flags with the I bit, 24 reserved bits, VNI, 8 reserved bits. (The Group Policy
/// extension uses some of the reserved bits.)
fn vxlan(mut bytes: Bytes<'_>) -> Opened<'_> {
    let header = bytes.array::<8>()?;
    let tunnel = Tunnel::new(TunnelKind::Vxlan, network_id(header));
    (header[0] & 0x08 != 0).then_some((tunnel, Form::Ethernet, bytes))
}

/// RFC 8926 3.4: version, length of options in units of 4 bytes, flags, protocol, VNI.
fn geneve(mut bytes: Bytes<'_>) -> Opened<'_> {
    let header = bytes.array::<8>()?;
    if header[0] >> 6 != 0 {
        return None;
    }
    bytes.take(usize::from(header[0] & 0x3f) * 4)?;
    Some((
        Tunnel::new(TunnelKind::Geneve, network_id(header)),
        payload_form(u16::from_be_bytes([header[2], header[3]])),
        bytes,
    ))
}

/// The 24 bits that VXLAN and GENEVE have at the same place.
const fn network_id(header: [u8; 8]) -> u32 {
    let [.., a, b, c, _] = header;
    u32::from_be_bytes([0, a, b, c])
}

/// A tunnel without an id.
const fn unnumbered(kind: TunnelKind) -> Tunnel {
    Tunnel::new(kind, 0)
}

/// The EtherType of what a tunnel carries; one means Ethernet itself.
const fn payload_form(kind: u16) -> Form {
    match kind {
        0x6558 => Form::Ethernet,
        kind => Form::EtherType(kind),
    }
}

/// RFC 2784 and 2890: flags, version, protocol; checksum, key and sequence as flagged. Version 1
/// (RFC 2637) carries PPP.
fn gre(mut bytes: Bytes<'_>) -> Opened<'_> {
    let [flags, version, a, b] = bytes.array()?;
    let kind = u16::from_be_bytes([a, b]);
    let (checksum, routing, key, sequence) = (
        flags & 0x80 != 0,
        flags & 0x40 != 0,
        flags & 0x20 != 0,
        flags & 0x10 != 0,
    );
    match version & 0x07 {
        0 => {
            if checksum || routing {
                bytes.take(4)?;
            }
            let key = if key {
                u32::from_be_bytes(bytes.array()?)
            } else {
                0
            };
            if sequence {
                bytes.take(4)?;
            }
            if routing {
                // Source route entries (RFC 1701): family, offset, length; an empty one ends them.
                loop {
                    let [high, low, _, length] = bytes.array()?;
                    if high == 0 && low == 0 && length == 0 {
                        break;
                    }
                    bytes.take(usize::from(length))?;
                }
            }
            match kind {
                // ERSPAN type II has 8 bytes of its own behind a sequence number, type I none.
                0x88be => {
                    let header = bytes.take(if sequence { 8 } else { 0 })?;
                    Some((erspan(header), Form::Ethernet, bytes))
                }
                // Type III: 12 bytes, and 8 more if the last bit says so.
                0x22eb => {
                    let header = bytes.array::<12>()?;
                    bytes.take(if header[11] & 1 != 0 { 8 } else { 0 })?;
                    Some((erspan(&header), Form::Ethernet, bytes))
                }
                // WCCP: version 2 puts 4 bytes before the packet, version 1 none.
                0x883e => {
                    if bytes.rest().first()? >> 4 != 4 {
                        bytes.take(4)?;
                    }
                    Some((Tunnel::new(TunnelKind::Gre, key), Form::Ip, bytes))
                }
                kind => Some((Tunnel::new(TunnelKind::Gre, key), payload_form(kind), bytes)),
            }
        }
        // Key (length and call id), sequence and acknowledgement as flagged.
        1 if kind == 0x880b => {
            bytes.take(4)?;
            if sequence {
                bytes.take(4)?;
            }
            if version & 0x80 != 0 {
                bytes.take(4)?;
            }
            (!bytes.is_empty()).then_some((unnumbered(TunnelKind::Gre), Form::Ppp, bytes))
        }
        _ => None,
    }
}

/// The session: 10 bits in the third and fourth byte of the header of types II and III.
fn erspan(header: &[u8]) -> Tunnel {
    let session = match *header {
        [_, _, high, low, ..] => u16::from_be_bytes([high, low]) & 0x3ff,
        _ => 0,
    };
    Tunnel::new(TunnelKind::Erspan, u32::from(session))
}

/// RFC 3378: version 3 and 12 reserved bits, then Ethernet.
fn etherip(mut bytes: Bytes<'_>) -> Opened<'_> {
    let header = bytes.u16()?;
    (header == 0x3000).then_some((unnumbered(TunnelKind::EtherIp), Form::Ethernet, bytes))
}

/// 3GPP TS 29.281 5.1: flags, message type, length, tunnel id; 4 more if any of E, S, PN is set,
/// then extension headers. Only a G-PDU (type 255) carries a packet.
fn gtp(mut bytes: Bytes<'_>) -> Opened<'_> {
    let header = bytes.array::<8>()?;
    if header[0] >> 4 != 0x3 || header[1] != 0xff {
        return None;
    }
    if header[0] & 0x07 != 0 {
        let mut next = bytes.array::<4>()?[3];
        while next != 0 {
            // Length in units of 4 bytes, with this byte and the last, which names the next.
            let units = usize::from(bytes.u8()?);
            let extension = bytes.take((units * 4).checked_sub(1)?)?;
            next = *extension.last()?;
        }
    }
    let first = bytes.rest().first()? >> 4;
    matches!(first, 4 | 6).then_some((unnumbered(TunnelKind::Gtp), Form::Ip, bytes))
}

/// RFC 4380 5.1.1: optional authentication and origin indications, then IPv6.
fn teredo(mut bytes: Bytes<'_>) -> Opened<'_> {
    if bytes.rest().starts_with(&[0, 1]) {
        let [_, _, id, authentication] = bytes.array()?;
        bytes.take(usize::from(id) + usize::from(authentication) + 9)?;
    }
    if bytes.rest().starts_with(&[0, 0]) {
        bytes.take(8)?;
    }
    let header = bytes.rest().first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    (header[0] >> 4 == 6 && length + 40 == bytes.rest().len()).then_some((
        unnumbered(TunnelKind::Teredo),
        Form::Ip,
        bytes,
    ))
}
