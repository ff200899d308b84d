//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, and the ports behind them.
//!
//! ```text
//!  0                   1                   2                   3
//! |Version|  IHL  |Type of service|          Total length         |
//! |        Identification         |Flags|     Fragment offset     |
//! | Time to live  |    Protocol   |        Header checksum        |
//! |                       Source address                          |
//! |                    Destination address                        |
//!
//! |Version| Traffic class |              Flow label               |
//! |        Payload length         |  Next header  |   Hop limit   |
//! |                  Source address (128 bits)                    |
//! |                Destination address (128 bits)                 |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::Bytes;
use super::packet::{Lost, Protocol, Tcp};
use crate::limits::HEADER_CHAIN_MAX;

/// Next header of an IPv6 packet without a payload (RFC 8200 4.7).
const NO_NEXT: u8 = 59;

/// An IP packet opened up to its transport header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ip<'a> {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: Protocol,
    /// Header and payload, without padding.
    pub(crate) ip_bytes: u32,
    /// Behind the header and its extensions, as captured.
    pub(crate) payload: &'a [u8],
    /// Behind the header and its extensions, as sent.
    pub(crate) payload_bytes: u32,
    pub(crate) fragment: Option<Fragment>,
}

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    /// Where the payload stands in the datagram, in bytes. Of a first fragment this is 0, or
    /// behind the extension headers that were fragmented too.
    pub(crate) offset: u32,
    pub(crate) more: bool,
    /// It holds the transport header.
    pub(crate) first: bool,
}

impl Ip<'_> {
    /// The protocol that is its family's ICMP; the other's is a payload like any.
    const fn icmp(&self) -> Protocol {
        match self.src {
            IpAddr::V4(_) => Protocol::ICMP,
            IpAddr::V6(_) => Protocol::ICMPV6,
        }
    }
}

/// Opens the IP packet at the start of `data`, which had `wire_bytes` on the wire, maybe with padding
/// behind it. What it says of its length is believed: the capture, or a mirror, may have cut it.
pub(crate) fn open(data: &[u8], wire_bytes: u32) -> Result<Ip<'_>, Lost> {
    match data.first().ok_or(Lost::Truncated)? >> 4 {
        4 => open_v4(data, wire_bytes),
        6 => open_v6(data, wire_bytes),
        _ => Err(Lost::IpHeader),
    }
}

fn open_v4(data: &[u8], wire_bytes: u32) -> Result<Ip<'_>, Lost> {
    let header = data.first_chunk::<20>().ok_or(Lost::Truncated)?;
    let header_bytes = u32::from(header[0] & 0x0f) * 4;
    let total = match u32::from(u16::from_be_bytes([header[2], header[3]])) {
        // Captured before the network card cut it into segments.
        0 => wire_bytes,
        total => total,
    };
    if header_bytes < 20 || total < header_bytes {
        return Err(Lost::IpHeader);
    }
    let captured = data.get(header_bytes as usize..).ok_or(Lost::Truncated)?;
    let payload_bytes = total - header_bytes;
    let position = u16::from_be_bytes([header[6], header[7]]);
    let (offset, more) = (u32::from(position & 0x1fff) * 8, position & 0x2000 != 0);
    let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let [.., a, b, c, d, e, f, g, h] = *header;
    Ok(Ip {
        src: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        dst: IpAddr::V4(Ipv4Addr::new(e, f, g, h)),
        protocol: Protocol(header[9]),
        ip_bytes: total,
        payload: front(captured, payload_bytes),
        payload_bytes,
        fragment: (offset > 0 || more).then_some(Fragment {
            id,
            offset,
            more,
            first: offset == 0,
        }),
    })
}

fn open_v6(data: &[u8], wire_bytes: u32) -> Result<Ip<'_>, Lost> {
    let mut bytes = Bytes::new(data);
    let [_, _, _, _, high, low, next, _] = bytes.array::<8>().ok_or(Lost::Truncated)?;
    let src = Ipv6Addr::from(bytes.array::<16>().ok_or(Lost::Truncated)?);
    let dst = Ipv6Addr::from(bytes.array::<16>().ok_or(Lost::Truncated)?);
    let ip_bytes = match u32::from(u16::from_be_bytes([high, low])) {
        // A jumbogram (RFC 2675), or captured before segmentation; but for a packet without a payload.
        0 if next != NO_NEXT => wire_bytes.max(40),
        payload => payload + 40,
    };
    let mut payload_bytes = ip_bytes - 40;
    let mut bytes = Bytes::new(front(bytes.rest(), payload_bytes));
    let mut protocol = next;
    let mut fragment: Option<Fragment> = None;
    let mut middle = false;
    for _ in 0..HEADER_CHAIN_MAX {
        let extension_bytes = match protocol {
            // Hop-by-hop options, routing, destination options, mobility, HIP, shim6: a length in
            // units of 8 bytes, the first 8 not counted.
            0 | 43 | 60 | 135 | 139 | 140 if !middle => {
                let [_, units, ..] = *extension(bytes, payload_bytes)?;
                (u32::from(units) + 1) * 8
            }
            // Authentication header: units of 4 bytes, the first 8 not counted (RFC 4302 2.2).
            51 if !middle => {
                let [_, units, ..] = *extension(bytes, payload_bytes)?;
                (u32::from(units) + 2) * 4
            }
            44 if !middle => {
                let [_, _, a, b, id @ ..] = *extension(bytes, payload_bytes)?;
                let position = u16::from_be_bytes([a, b]);
                let (offset, more) = (u32::from(position & 0xfff8), position & 1 != 0);
                if offset > 0 || more {
                    let (id, first) = (u32::from_be_bytes(id), offset == 0);
                    fragment = Some(Fragment {
                        id,
                        offset,
                        more,
                        first,
                    });
                }
                8
            }
            _ => {
                return Ok(Ip {
                    src: IpAddr::V6(src),
                    dst: IpAddr::V6(dst),
                    protocol: Protocol(protocol),
                    ip_bytes,
                    payload: bytes.rest(),
                    payload_bytes,
                    fragment,
                });
            }
        };
        if protocol != 44
            && let Some(fragment) = &mut fragment
        {
            fragment.offset += extension_bytes;
        }
        protocol = *bytes.rest().first().ok_or(Lost::Truncated)?;
        payload_bytes = payload_bytes
            .checked_sub(extension_bytes)
            .ok_or(Lost::IpHeader)?;
        bytes
            .take(extension_bytes as usize)
            .ok_or(Lost::Truncated)?;
        // Behind a later fragment's header is the middle of something.
        middle = fragment.is_some_and(|fragment| !fragment.first);
    }
    Err(Lost::HeaderChain)
}

/// The first 8 bytes of an extension header.
fn extension(bytes: Bytes<'_>, payload_bytes: u32) -> Result<&[u8; 8], Lost> {
    if payload_bytes < 8 {
        return Err(Lost::IpHeader);
    }
    bytes.rest().first_chunk().ok_or(Lost::Truncated)
}

/// At most `count` bytes from the front.
pub(crate) fn front(bytes: &[u8], count: u32) -> &[u8] {
    bytes.get(..count as usize).unwrap_or(bytes)
}

/// What stands between IP and the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transport<'a> {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) tcp: Option<Tcp>,
    pub(crate) icmp_type: Option<u8>,
    pub(crate) payload: &'a [u8],
    pub(crate) payload_bytes: u32,
}

/// Reads the transport header of a packet or of a first fragment.
pub(crate) fn transport<'a>(ip: &Ip<'a>) -> Result<Transport<'a>, Lost> {
    let (protocol, data, wire_bytes) = (ip.protocol, ip.payload, ip.payload_bytes);
    let mut out = Transport {
        src_port: 0,
        dst_port: 0,
        tcp: None,
        icmp_type: None,
        payload: data,
        payload_bytes: wire_bytes,
    };
    match protocol {
        Protocol::TCP | Protocol::UDP | Protocol::SCTP => {}
        _ if protocol == ip.icmp() => {
            // Type, code, checksum, then four bytes by type: the identifier of an echo, and what no
            // error goes without (RFC 792, RFC 4443 2.1 and 4.1).
            let header = data
                .first_chunk::<8>()
                .ok_or_else(|| short(wire_bytes, 8))?;
            let kind = header[0];
            out.icmp_type = Some(kind);
            if is_echo(protocol, kind) {
                out.src_port = u16::from_be_bytes([header[4], header[5]]);
                out.dst_port = out.src_port;
                out.skip(8);
            }
            return Ok(out);
        }
        _ => return Ok(out),
    }
    let [a, b, c, d] = *data
        .first_chunk::<4>()
        .ok_or_else(|| short(wire_bytes, 4))?;
    out.src_port = u16::from_be_bytes([a, b]);
    out.dst_port = u16::from_be_bytes([c, d]);
    match protocol {
        Protocol::TCP => out.open_tcp(),
        Protocol::UDP => out.open_udp(),
        // Ports, verification tag, checksum (RFC 9260 3.1).
        _ => out.skip(12),
    }
    Ok(out)
}

/// Whether the sender or the capture cut what is `needed`.
const fn short(wire_bytes: u32, needed: u32) -> Lost {
    if wire_bytes < needed {
        Lost::TransportHeader
    } else {
        Lost::Truncated
    }
}

/// Whether an ICMP message is an echo request or reply.
pub(crate) const fn is_echo(protocol: Protocol, kind: u8) -> bool {
    match protocol {
        Protocol::ICMP => matches!(kind, 0 | 8),
        _ => matches!(kind, 128 | 129),
    }
}

/// Whether an ICMP message reports an error and so quotes another packet (RFC 1122 3.2.2,
/// RFC 4443 2.1).
pub(crate) const fn is_icmp_error(protocol: Protocol, kind: u8) -> bool {
    match protocol {
        Protocol::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        _ => kind < 128,
    }
}

impl Transport<'_> {
    /// Takes a header of `count` bytes off the payload.
    fn skip(&mut self, count: u32) {
        self.payload = self.payload.get(count as usize..).unwrap_or(&[]);
        self.payload_bytes = self.payload_bytes.saturating_sub(count);
    }

    /// RFC 9293 3.1: ports, sequence, acknowledgement, offset and flags. A header that is cut or
    /// contradicts itself keeps its ports and has no payload.
    fn open_tcp(&mut self) {
        let header_bytes = match self.payload.first_chunk::<14>() {
            Some(header) => {
                let [_, _, _, _, a, b, c, d, e, f, g, h, offset, flags] = *header;
                self.tcp = Some(Tcp {
                    flags,
                    sequence: u32::from_be_bytes([a, b, c, d]),
                    acknowledges: u32::from_be_bytes([e, f, g, h]),
                });
                u32::from(offset >> 4) * 4
            }
            None => 0,
        };
        if header_bytes < 20 || header_bytes > self.payload_bytes {
            self.payload = &[];
            self.payload_bytes = 0;
        } else {
            self.skip(header_bytes);
        }
    }

    /// RFC 768: ports, length with this header, checksum.
    fn open_udp(&mut self) {
        let Some(&[_, _, _, _, a, b, _, _]) = self.payload.first_chunk::<8>() else {
            self.payload = &[];
            self.payload_bytes = self.payload_bytes.saturating_sub(8);
            return;
        };
        let stated = u32::from(u16::from_be_bytes([a, b]));
        self.skip(8);
        // 0: captured before segmentation. Less than a header, or more than the packet: believe IP.
        if stated >= 8 && stated - 8 < self.payload_bytes {
            self.payload_bytes = stated - 8;
            self.payload = front(self.payload, self.payload_bytes);
        }
    }
}
