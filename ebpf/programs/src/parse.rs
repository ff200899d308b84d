//! Headers: from a frame to the ends of its flow and its sizes.
//!
//! Follows Ethernet with up to two VLAN tags in the data (the outer tag usually travels beside
//! it), IPv4 with options (RFC 791), IPv6 with a bounded chain of extension headers (RFC 8200),
//! then TCP, UDP, SCTP and ICMP echo; every other protocol is a flow without ports. Nothing here
//! trusts a length field further than the frame goes. Multi-byte fields are left in network
//! order until they are used.

use picket_abi::{FlowKey, Plain, Reason, Way};

/// Extension headers followed before giving up. Six is what RFC 8200 4.1 lists as a full chain.
pub const EXTENSIONS_MAX: u32 = 6;

/// Covers the longest IPv6 header that is followed: 40 bytes and six extensions of 2,048.
const HEADER_BYTES_MASK: i32 = 0x3fff;
const _: () = assert!(40 + EXTENSIONS_MAX * 2048 <= HEADER_BYTES_MASK as u32);

/// What the first byte of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IP header: tunnels and other devices without a link header.
    Ip,
}

/// A frame whose headers can be read.
pub trait Frame {
    /// Reads a header at an offset; `None` when the frame ends before it does, or when this way
    /// of reading does not reach that far.
    fn load<T: Plain>(&self, at: u32) -> Option<T>;
    /// Bytes the frame has, from the link header on.
    fn bytes(&self) -> u32;
    /// The value itself, of which only `MASK` is known from here on.
    ///
    /// The verifier follows every value that an offset may have, through all that comes after;
    /// in a loop that multiplies. Where this passes, all ways through it become one again.
    fn forget<const MASK: i32>(&self, value: u32) -> u32 {
        value & MASK as u32
    }
}

/// A packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address, IPv4 in its mapped form; see [`FlowKey`].
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Source port in host order, the echo id for ICMP echo, 0 where there are no ports.
    pub source_port: u16,
    /// Destination port, alike.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, 0 for other protocols.
    pub tcp_flags: u8,
    /// Whether it opens a flow: a SYN without ACK, or an echo request.
    pub opens: bool,
    /// Where the IP header begins.
    pub ip_at: u32,
    /// IP total length, without the link's padding.
    pub ip_bytes: u32,
    /// IP and transport headers: what each segment of a GSO packet repeats.
    pub header_bytes: u32,
}

/// A packet that is counted, but not in a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFlow {
    /// Its class.
    pub reason: Reason,
    /// IP total length, or what follows the link header where there is no IP.
    pub bytes: u32,
}

impl Packet {
    /// The key of its flow: local is the source of what leaves and the destination of what
    /// enters.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self, way: Way) -> FlowKey {
        match way {
            Way::Out => FlowKey {
                local: self.source,
                remote: self.destination,
                ports: FlowKey::pack_ports(self.source_port, self.destination_port, self.protocol),
            },
            Way::In => FlowKey {
                local: self.destination,
                remote: self.source,
                ports: FlowKey::pack_ports(self.destination_port, self.source_port, self.protocol),
            },
        }
    }

    /// Bytes after the transport header.
    #[inline(always)]
    #[must_use]
    pub const fn payload_bytes(&self) -> u32 {
        self.ip_bytes - self.header_bytes
    }

    /// Bytes on the wire when the packet is sent as `segments` packets: all but the first
    /// repeat the headers.
    #[inline(always)]
    #[must_use]
    pub const fn wire_bytes(&self, segments: u32) -> u64 {
        self.ip_bytes as u64 + (segments as u64 - 1) * self.header_bytes as u64
    }
}

/// `EtherType` numbers in network order, as a load gives them.
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800u16.to_be();
    pub(super) const ARP: u16 = 0x0806u16.to_be();
    pub(super) const REVERSE_ARP: u16 = 0x8035u16.to_be();
    pub(super) const VLAN: u16 = 0x8100u16.to_be();
    pub(super) const IPV6: u16 = 0x86ddu16.to_be();
    pub(super) const SERVICE_VLAN: u16 = 0x88a8u16.to_be();
}

/// IP protocol and extension header numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// IPsec authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// `ICMPv6`.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows an IPv6 header.
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// IPv6 mobility header.
    pub const MOBILITY: u8 = 135;
    /// Host identity protocol.
    pub const HIP: u8 = 139;
    /// Shim6.
    pub const SHIM6: u8 = 140;
}

/// TCP flags (RFC 9293 3.1).
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// Defines a header as it stands in a packet, naturally aligned so that a load stays one load.
macro_rules! header {
    ($name:ident, $bytes:literal, { $($field:ident: $kind:ty),+ $(,)? }) => {
        #[repr(C)]
        #[derive(Clone, Copy)]
        #[allow(dead_code, reason = "a header has its fields whether or not they are read")]
        struct $name { $($field: $kind),+ }
        const _: () = assert!(size_of::<$name>() == $bytes);
        // SAFETY: repr(C) and integers only; the fields fill the size asserted above.
        unsafe impl Plain for $name {}
    };
}

header!(Ethernet, 14, { destination: [u16; 3], source: [u16; 3], kind: u16 });
header!(Tag, 4, { control: u16, kind: u16 });
header!(Ipv4, 20, {
    version_length: u8, service: u8, total_bytes: u16, id: u16, fragment: u16,
    hops: u8, protocol: u8, checksum: u16, source: u32, destination: u32,
});
header!(Ipv6, 40, {
    version: u8, class: u8, label: u16, payload_bytes: u16, next: u8, hops: u8,
    source: [u64; 2], destination: [u64; 2],
});
header!(Extension, 4, { next: u8, units: u8, offset: u16 });
header!(Tcp, 20, {
    source: u16, destination: u16, sequence: u32, acknowledged: u32,
    offset: u8, flags: u8, window: u16, checksum: u16, urgent: u16,
});
header!(Udp, 8, { source: u16, destination: u16, bytes: u16, checksum: u16 });
header!(Sctp, 12, { source: u16, destination: u16, tag: u32, checksum: u32 });
header!(Icmp, 8, { kind: u8, code: u8, checksum: u16, id: u16, sequence: u16 });

/// The IP header's part of a packet.
struct Network {
    source: [u64; 2],
    destination: [u64; 2],
    ip_at: u32,
    ip_bytes: u32,
    ip_header_bytes: u32,
    protocol: u8,
    is_ipv6: bool,
}

/// Reads a frame's headers.
///
/// # Errors
///
/// [`NotFlow`] with the class of a packet that makes no flow, or why it could not be placed. A frame whose headers `load` could
/// not reach is told as a `Lost…Header`; whoever has another way of reading tries again.
#[inline(always)]
pub fn packet<F: Frame>(frame: &F, link: Link) -> Result<Packet, NotFlow> {
    packet_at(frame, link, 0)
}

/// Reads the headers of a frame that begins at `at`, inside another one.
///
/// # Errors
///
/// As [`packet`].
#[inline(always)]
pub fn packet_at<F: Frame>(frame: &F, link: Link, at: u32) -> Result<Packet, NotFlow> {
    let (kind, ip_at) = match link {
        Link::Ethernet => link_header(frame, at)?,
        Link::Ip => (ip_version(frame, at)?, at),
    };
    let after_link = frame.bytes().saturating_sub(ip_at);
    let network = match kind {
        ethertype::IPV4 => ipv4(frame, ip_at, after_link)?,
        ethertype::IPV6 => ipv6(frame, ip_at, after_link)?,
        ethertype::ARP | ethertype::REVERSE_ARP => {
            return Err(not_flow(Reason::NotFlowArp, after_link));
        }
        _ => return Err(not_flow(Reason::NotFlowNonIp, after_link)),
    };
    transport(frame, &network)
}

/// The kind of what follows the Ethernet header and its tags, and where that begins.
#[inline(always)]
fn link_header<F: Frame>(frame: &F, at: u32) -> Result<(u16, u32), NotFlow> {
    let malformed = || {
        let bytes = frame.bytes().saturating_sub(at + 14);
        not_flow(Reason::LostLinkHeader, bytes)
    };
    let ethernet: Ethernet = frame.load(at).ok_or_else(malformed)?;
    let (mut kind, mut at) = (ethernet.kind, at + 14);
    if kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
        let tag: Tag = frame.load(at).ok_or_else(malformed)?;
        (kind, at) = (tag.kind, at + 4);
        if kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
            let tag: Tag = frame.load(at).ok_or_else(malformed)?;
            (kind, at) = (tag.kind, at + 4);
        }
    }
    Ok((kind, at))
}

/// Tells a bare IPv4 packet from an IPv6 one. Loads more than the byte it looks at: of a bounds
/// check for a single one the verifier makes nothing.
#[inline(always)]
fn ip_version<F: Frame>(frame: &F, at: u32) -> Result<u16, NotFlow> {
    let bytes = frame.bytes().saturating_sub(at);
    let Some(word) = frame.load::<u32>(at) else {
        return Err(not_flow(Reason::LostLinkHeader, bytes));
    };
    match word.to_ne_bytes()[0] >> 4 {
        4 => Ok(ethertype::IPV4),
        6 => Ok(ethertype::IPV6),
        _ => Err(not_flow(Reason::NotFlowNonIp, bytes)),
    }
}

/// RFC 791 3.1.
///
/// ```text
/// |Version|  IHL  |Type of Service|          Total Length         |
/// |         Identification        |Flags|      Fragment Offset    |
/// |  Time to Live |    Protocol   |         Header Checksum       |
/// |                       Source Address                          |
/// |                    Destination Address                        |
/// |                    Options                    |    Padding    |
/// ```
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, ip_at: u32, after_link: u32) -> Result<Network, NotFlow> {
    let malformed = not_flow(Reason::LostIpHeader, after_link);
    let ip: Ipv4 = frame.load(ip_at).ok_or(malformed)?;
    let ip_header_bytes = u32::from(ip.version_length & 0x0f) * 4;
    if ip.version_length >> 4 != 4 || ip_header_bytes < 20 {
        return Err(malformed);
    }
    // A total length of 0 is a packet too large for the field (BIG TCP, offloaded segments).
    let ip_bytes = stated_or(u32::from(u16::from_be(ip.total_bytes)), after_link);
    if ip_bytes < ip_header_bytes {
        return Err(malformed);
    }
    if u16::from_be(ip.fragment) & 0x1fff != 0 {
        return Err(not_flow(Reason::NotFlowLaterFragment, ip_bytes));
    }
    Ok(Network {
        source: FlowKey::mapped(ip.source),
        destination: FlowKey::mapped(ip.destination),
        ip_at,
        ip_bytes,
        ip_header_bytes,
        protocol: ip.protocol,
        is_ipv6: false,
    })
}

/// RFC 8200 3 and 4.
///
/// ```text
/// |Version| Traffic Class |           Flow Label                  |
/// |         Payload Length        |  Next Header  |   Hop Limit   |
/// |                  Source Address (16 bytes)                    |
/// |                Destination Address (16 bytes)                 |
/// ```
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, ip_at: u32, after_link: u32) -> Result<Network, NotFlow> {
    let malformed = not_flow(Reason::LostIpHeader, after_link);
    let ip: Ipv6 = frame.load(ip_at).ok_or(malformed)?;
    if ip.version >> 4 != 6 {
        return Err(malformed);
    }
    // A payload length of 0 before a payload is a jumbogram (RFC 2675), or too large for the field
    // (BIG TCP, offloaded segments).
    let payload_bytes = u32::from(u16::from_be(ip.payload_bytes));
    let ip_bytes = if payload_bytes == 0 && ip.next != protocol::NO_NEXT {
        after_link
    } else {
        stated_or(40 + payload_bytes, after_link)
    };
    let (mut next, mut header_bytes, mut followed) = (ip.next, 40u32, 0);
    while is_extension(next) {
        if followed == EXTENSIONS_MAX {
            return Err(not_flow(Reason::LostHeaderChain, ip_bytes));
        }
        followed += 1;
        let Some(extension) = frame.load::<Extension>(ip_at + header_bytes) else {
            return Err(not_flow(Reason::LostIpHeader, ip_bytes));
        };
        header_bytes += match next {
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => (u32::from(extension.units) + 2) * 4,
            _ => (u32::from(extension.units) + 1) * 8,
        };
        if next == protocol::FRAGMENT && u16::from_be(extension.offset) & 0xfff8 != 0 {
            if ip_bytes < header_bytes {
                return Err(not_flow(Reason::LostIpHeader, ip_bytes));
            }
            return Err(not_flow(Reason::NotFlowLaterFragment, ip_bytes));
        }
        header_bytes = frame.forget::<HEADER_BYTES_MASK>(header_bytes);
        next = frame.forget::<0xff>(u32::from(extension.next)) as u8;
    }
    if ip_bytes < header_bytes {
        return Err(not_flow(Reason::LostIpHeader, ip_bytes));
    }
    Ok(Network {
        source: ip.source,
        destination: ip.destination,
        ip_at,
        ip_bytes,
        ip_header_bytes: header_bytes,
        protocol: next,
        is_ipv6: true,
    })
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

/// A length field, where it says something that the frame can hold.
#[inline(always)]
const fn stated_or(stated: u32, available: u32) -> u32 {
    if stated == 0 || stated > available {
        available
    } else {
        stated
    }
}

/// Ports, flags and the length of the transport header.
#[inline(always)]
fn transport<F: Frame>(frame: &F, network: &Network) -> Result<Packet, NotFlow> {
    let at = network.ip_at + network.ip_header_bytes;
    let malformed = not_flow(Reason::LostTransportHeader, network.ip_bytes);
    let room = network.ip_bytes - network.ip_header_bytes;
    let (mut tcp_flags, mut opens) = (0, false);
    let (source_port, destination_port, header_bytes) = match network.protocol {
        protocol::TCP if room < 20 => {
            // Flags where they are there, and no payload.
            if room >= 14 {
                let front: [u16; 7] = frame.load(at).ok_or(malformed)?;
                tcp_flags = front[6].to_ne_bytes()[1];
                opens = tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
            }
            ports_alone(frame, at, room).ok_or(malformed)?
        }
        protocol::UDP if room < 8 => ports_alone(frame, at, room).ok_or(malformed)?,
        protocol::SCTP if room < 12 => ports_alone(frame, at, room).ok_or(malformed)?,
        protocol::ICMP if !network.is_ipv6 && room < 8 => return Err(malformed),
        protocol::ICMPV6 if network.is_ipv6 && room < 8 => return Err(malformed),
        protocol::TCP => {
            let tcp: Tcp = frame.load(at).ok_or(malformed)?;
            tcp_flags = tcp.flags;
            opens = tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
            // A data offset that cannot be is read as all header: there is no payload to trust.
            let stated = u32::from(tcp.offset >> 4) * 4;
            let header_bytes = if stated < 20 || stated > room {
                room
            } else {
                stated
            };
            (
                u16::from_be(tcp.source),
                u16::from_be(tcp.destination),
                header_bytes,
            )
        }
        protocol::UDP => {
            let udp: Udp = frame.load(at).ok_or(malformed)?;
            (u16::from_be(udp.source), u16::from_be(udp.destination), 8)
        }
        protocol::SCTP => {
            let sctp: Sctp = frame.load(at).ok_or(malformed)?;
            (
                u16::from_be(sctp.source),
                u16::from_be(sctp.destination),
                12,
            )
        }
        protocol::ICMP if !network.is_ipv6 => {
            let icmp: Icmp = frame.load(at).ok_or(malformed)?;
            // RFC 792: echo reply, unreachable, quench, redirect, echo, exceeded, problem.
            match icmp.kind {
                0 | 8 => {
                    opens = icmp.kind == 8;
                    (u16::from_be(icmp.id), u16::from_be(icmp.id), 8)
                }
                3 | 4 | 5 | 11 | 12 => {
                    return Err(not_flow(Reason::NotFlowIcmpError, network.ip_bytes));
                }
                _ => return Err(not_flow(Reason::NotFlowIcmpOther, network.ip_bytes)),
            }
        }
        protocol::ICMPV6 if network.is_ipv6 => {
            let icmp: Icmp = frame.load(at).ok_or(malformed)?;
            // RFC 4443 2.1: types below 128 are errors; 128 and 129 are echo.
            match icmp.kind {
                128 | 129 => {
                    opens = icmp.kind == 128;
                    (u16::from_be(icmp.id), u16::from_be(icmp.id), 8)
                }
                0..=127 => return Err(not_flow(Reason::NotFlowIcmpError, network.ip_bytes)),
                _ => return Err(not_flow(Reason::NotFlowIcmpOther, network.ip_bytes)),
            }
        }
        _ => (0, 0, 0),
    };
    Ok(Packet {
        source: network.source,
        destination: network.destination,
        source_port,
        destination_port,
        protocol: network.protocol,
        tcp_flags,
        opens,
        ip_at: network.ip_at,
        ip_bytes: network.ip_bytes,
        header_bytes: network.ip_header_bytes + header_bytes,
    })
}

/// The ports of a packet that ends within its transport header: a small first fragment, or one made
/// to be misread. All of it is header.
#[inline(always)]
fn ports_alone<F: Frame>(frame: &F, at: u32, room: u32) -> Option<(u16, u16, u32)> {
    if room < 4 {
        return None;
    }
    let [source, destination]: [u16; 2] = frame.load(at)?;
    Some((u16::from_be(source), u16::from_be(destination), room))
}

#[inline(always)]
const fn not_flow(reason: Reason, bytes: u32) -> NotFlow {
    NotFlow { reason, bytes }
}

#[cfg(test)]
mod tests;
