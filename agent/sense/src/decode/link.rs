//! From the first byte of a frame to the IP packet in it.
//!
//! Reads Ethernet with tags and labels, PPPoE, 802.3 with LLC, Linux "cooked" captures, loopback,
//! PPP, Cisco HDLC, frame relay, bare IP, [802.11](super::wireless), and some networks that only
//! old captures show. Other link types are named as lost, not guessed at. Numbers are those of the
//! link-layer header types that libpcap registers.

use super::bytes::Bytes;
use super::packet::{Lost, NotFlow};
use super::wireless;
use crate::input::LinkType;
use crate::limits::HEADER_CHAIN_MAX;

/// Why a frame led to no IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoIp {
    NotFlow(NotFlow),
    Lost(Lost),
}

impl From<Lost> for NoIp {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<NotFlow> for NoIp {
    fn from(class: NotFlow) -> Self {
        Self::NotFlow(class)
    }
}

pub(super) type Found<'a> = Result<&'a [u8], NoIp>;

pub(super) const CUT: NoIp = NoIp::Lost(Lost::Truncated);
pub(super) const NON_IP: NoIp = NoIp::NotFlow(NotFlow::NonIp);

/// Finds the IP packet in a frame of this link type.
pub(crate) fn ip_packet(link: LinkType, data: &[u8]) -> Found<'_> {
    let mut bytes = Bytes::new(data);
    match link.0 {
        1 => ethernet(data),
        // LINKTYPE_RAW and what some systems write in its place (DLT_RAW 12 and 14).
        12 | 14 | 101 | 228 | 229 => Ok(data),
        // LINKTYPE_NULL, and LINKTYPE_LOOP, which is always big-endian.
        0 | 108 => loopback(bytes),
        6 => token_ring(bytes),
        10 => fddi(bytes),
        9 | 50 => ppp_framed(bytes),
        51 => pppoe(bytes),
        // LINKTYPE_ATM_RFC1483: LLC from the start.
        100 => llc(bytes),
        // LINKTYPE_C_HDLC.
        104 => hdlc(bytes),
        105 | 119 | 127 | 163 | 192 => wireless::ip_packet(link, bytes),
        107 => frame_relay(bytes),
        // LINKTYPE_ENC: address family, index and flags of what IPsec opened.
        109 => behind(12, bytes),
        // LINKTYPE_PFLOG: its own length comes first.
        117 => {
            let length = usize::from(bytes.u8().ok_or(CUT)?).next_multiple_of(4);
            behind(length.saturating_sub(1), bytes)
        }
        // LINKTYPE_IP_OVER_FC: two addresses of 8 bytes (RFC 2625).
        122 => {
            bytes.take(16).ok_or(CUT)?;
            llc(bytes)
        }
        // LINKTYPE_SUNATM: kind, path and channel; kind 2 is LLC.
        123 => match bytes.u32().ok_or(CUT)? >> 24 & 0x0f {
            2 => llc(bytes),
            _ => Err(NON_IP),
        },
        // Cisco HDLC and PPP with the direction in front.
        166 | 204 => {
            bytes.take(1).ok_or(CUT)?;
            ppp_framed(bytes)
        }
        205 => {
            bytes.take(1).ok_or(CUT)?;
            hdlc(bytes)
        }
        // LINKTYPE_LINUX_SLL: type, ARPHRD, address length, 8 of address, protocol.
        113 => {
            bytes.take(14).ok_or(CUT)?;
            cooked(bytes.u16().ok_or(CUT)?, bytes)
        }
        // LINKTYPE_LINUX_SLL2: protocol, then 18 bytes more.
        276 => {
            let protocol = bytes.u16().ok_or(CUT)?;
            bytes.take(18).ok_or(CUT)?;
            cooked(protocol, bytes)
        }
        219 => mpls(bytes),
        // LINKTYPE_IPNET: versions, zones, group and interfaces.
        226 => behind(24, bytes),
        239 => netfilter(bytes),
        // LINKTYPE_IPOIB: two addresses, then EtherType and 2 bytes reserved (RFC 4391).
        242 => {
            bytes.take(40).ok_or(CUT)?;
            let kind = bytes.u16().ok_or(CUT)?;
            bytes.take(2).ok_or(CUT)?;
            ethertype(kind, bytes)
        }
        // LINKTYPE_ETHERNET_MPACKET: preamble.
        274 => {
            bytes.take(8).ok_or(CUT)?;
            ethernet(bytes.rest())
        }
        _ => Err(Lost::LinkType.into()),
    }
}

/// A bare IP packet behind a header of so many bytes.
fn behind(count: usize, mut bytes: Bytes<'_>) -> Found<'_> {
    bytes.take(count).ok_or(CUT)?;
    match bytes.rest().first().ok_or(CUT)? >> 4 {
        4 | 6 => Ok(bytes.rest()),
        _ => Err(NON_IP),
    }
}

/// Two addresses and a type or length.
pub(crate) fn ethernet(data: &[u8]) -> Found<'_> {
    let mut bytes = Bytes::new(data);
    bytes.take(12).ok_or(CUT)?;
    ethertype(bytes.u16().ok_or(CUT)?, bytes)
}

/// Follows an EtherType through tags and labels.
pub(crate) fn ethertype(mut kind: u16, mut bytes: Bytes<'_>) -> Found<'_> {
    for _ in 0..HEADER_CHAIN_MAX {
        match kind {
            0x0800 => return versioned(4, bytes.rest()),
            0x86dd => return versioned(6, bytes.rest()),
            // ARP and reverse ARP.
            0x0806 | 0x8035 => return Err(NotFlow::Arp.into()),
            // IEEE 802.1Q, 802.1ad and two older numbers for stacked tags.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                bytes.take(2).ok_or(CUT)?;
                kind = bytes.u16().ok_or(CUT)?;
            }
            // PPPoE session stage (RFC 2516).
            0x8864 => return pppoe(bytes),
            0x8847 | 0x8848 => return mpls(bytes),
            // IEEE 802.3: a length, then LLC; SNAP (RFC 1042) leads back to an EtherType, also
            // under the number that bridges use (IEEE 802.1H).
            0..=0x05ff => {
                if bytes.rest().starts_with(&[0x06, 0x06, 0x03]) {
                    bytes.take(3).ok_or(CUT)?;
                    return Ok(bytes.rest());
                }
                if !bytes.rest().starts_with(&[0xaa, 0xaa, 0x03]) {
                    return Err(NON_IP);
                }
                bytes.take(3).ok_or(CUT)?;
                let organisation = bytes.u24().ok_or(CUT)?;
                let inner = bytes.u16().ok_or(CUT)?;
                if !matches!(organisation, 0 | 0xf8) || inner < 0x0600 {
                    return Err(NON_IP);
                }
                kind = inner;
            }
            // IEEE 802.1AE, if it only vouches: flags, length, number, and the channel as flagged.
            // Its check value stands behind the packet.
            0x88e5 => {
                let header = bytes.array::<6>().ok_or(CUT)?;
                if header[0] & 0x0c != 0 {
                    return Err(NON_IP);
                }
                let channel = if header[0] & 0x20 != 0 { 8 } else { 0 };
                bytes.take(channel).ok_or(CUT)?;
                kind = bytes.u16().ok_or(CUT)?;
            }
            // Tags of virtual interfaces: Cisco's and IEEE 802.1BR's; of redundant rings (IEC 62439-3).
            0x8926 | 0x892f | 0x893f => {
                bytes.take(if kind == 0x893f { 6 } else { 4 }).ok_or(CUT)?;
                kind = bytes.u16().ok_or(CUT)?;
            }
            // A backbone's frame around another one (IEEE 802.1ah).
            0x88e7 => {
                bytes.take(4 + 12).ok_or(CUT)?;
                kind = bytes.u16().ok_or(CUT)?;
            }
            // Service headers (RFC 8300): their length in words, and what follows.
            0x894f => {
                let [_, words, _, next] = bytes.array::<4>().ok_or(CUT)?;
                let length = usize::from(words & 0x3f) * 4;
                bytes.take(length.saturating_sub(4)).ok_or(CUT)?;
                kind = match next {
                    1 => 0x0800,
                    2 => 0x86dd,
                    3 => {
                        bytes.take(12).ok_or(CUT)?;
                        bytes.u16().ok_or(CUT)?
                    }
                    5 => 0x8847,
                    _ => return Err(NON_IP),
                };
            }
            _ => return Err(NON_IP),
        }
    }
    Err(Lost::HeaderChain.into())
}

/// IEEE 802.2 without a length in front.
pub(super) fn llc(bytes: Bytes<'_>) -> Found<'_> {
    ethertype(0, bytes)
}

/// Access and frame control, two addresses, then LLC; a route between if the source's first bit
/// says so (IEEE 802.5).
fn token_ring(mut bytes: Bytes<'_>) -> Found<'_> {
    let [_, control, .., source, _, _, _, _, _] = bytes.array::<14>().ok_or(CUT)?;
    if control & 0xc0 != 0x40 {
        return Err(NON_IP);
    }
    if source & 0x80 != 0 {
        let route = bytes.rest().first().ok_or(CUT)? & 0x1f;
        bytes.take(route.into()).ok_or(CUT)?;
    }
    llc(bytes)
}

/// Frame control, two addresses, then LLC (ANSI X3.139).
fn fddi(mut bytes: Bytes<'_>) -> Found<'_> {
    let [control, ..] = bytes.array::<13>().ok_or(CUT)?;
    if control & 0xf0 != 0x50 {
        return Err(NON_IP);
    }
    llc(bytes)
}

/// Cisco's HDLC: address, control, EtherType.
fn hdlc(mut bytes: Bytes<'_>) -> Found<'_> {
    bytes.take(2).ok_or(CUT)?;
    ethertype(bytes.u16().ok_or(CUT)?, bytes)
}

/// LINKTYPE_NFLOG: family, version, group, then attributes: length and type in the byte order of
/// the machine that captured (taken for little-endian), each padded to 4 bytes.
fn netfilter(mut bytes: Bytes<'_>) -> Found<'_> {
    /// `NFULA_PAYLOAD` in linux/netfilter/nfnetlink_log.h.
    const PAYLOAD: u16 = 9;
    let [family, ..] = bytes.array::<4>().ok_or(CUT)?;
    while !bytes.is_empty() {
        let [a, b, c, d] = bytes.array().ok_or(CUT)?;
        let length = u16::from_le_bytes([a, b])
            .checked_sub(4)
            .ok_or(Lost::LinkHeader)?;
        let length = usize::from(length);
        if u16::from_le_bytes([c, d]) == PAYLOAD {
            // AF_INET and AF_INET6 of Linux; others are logged too.
            return if matches!(family, 2 | 10) {
                Ok(bytes.rest().get(..length).unwrap_or(bytes.rest()))
            } else {
                Err(NON_IP)
            };
        }
        bytes.take(length.next_multiple_of(4)).ok_or(CUT)?;
    }
    Err(NON_IP)
}

/// An IP packet that begins with the version that its EtherType says.
fn versioned(version: u8, data: &[u8]) -> Found<'_> {
    match data.first() {
        Some(first) if first >> 4 != version => Err(Lost::IpHeader.into()),
        _ => Ok(data),
    }
}

/// The protocol field of a cooked capture: an EtherType, or 1 to 4 for frames without one.
fn cooked(protocol: u16, bytes: Bytes<'_>) -> Found<'_> {
    match protocol {
        // `ETH_P_802_2` in linux/if_ether.h: LLC follows.
        0x0004 => ethertype(0, bytes),
        0..=0x05ff => Err(NON_IP),
        kind => ethertype(kind, bytes),
    }
}

/// An address family in the byte order of the machine that captured.
fn loopback(mut bytes: Bytes<'_>) -> Found<'_> {
    let family = bytes.u32().ok_or(CUT)?;
    let family = if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    match family {
        // AF_INET everywhere; AF_INET6 of the BSDs, Darwin, Solaris and Linux.
        2 | 24 | 28 | 30 | 26 | 10 => Ok(bytes.rest()),
        _ => Err(NON_IP),
    }
}

/// PPP (RFC 1661, RFC 1662), with or without the HDLC address and control bytes. Routers' captures
/// may hold Cisco's HDLC in its place, known by its address for one or all.
pub(crate) fn ppp_framed(mut bytes: Bytes<'_>) -> Found<'_> {
    if let [0x0f | 0x8f, 0x00, ..] = bytes.rest() {
        return hdlc(bytes);
    }
    if bytes.rest().starts_with(&[0xff, 0x03]) {
        bytes.take(2).ok_or(CUT)?;
    }
    ppp(bytes)
}

/// A PPP protocol number, possibly compressed to one odd byte.
fn ppp(mut bytes: Bytes<'_>) -> Found<'_> {
    let mut protocol = u16::from(bytes.u8().ok_or(CUT)?);
    if protocol & 1 == 0 {
        protocol = protocol << 8 | u16::from(bytes.u8().ok_or(CUT)?);
    }
    match protocol {
        0x0021 | 0x0057 => Ok(bytes.rest()),
        0x0281 | 0x0283 => mpls(bytes),
        _ => Err(NON_IP),
    }
}

/// Version and type, code, session, length, then a PPP protocol number.
fn pppoe(mut bytes: Bytes<'_>) -> Found<'_> {
    let header = bytes.array::<6>().ok_or(CUT)?;
    if header[0] != 0x11 || header[1] != 0 {
        return Err(NON_IP);
    }
    ppp(bytes)
}

/// A stack of labels (RFC 3032); what is under it shows in its first nibble (RFC 4928).
fn mpls(mut bytes: Bytes<'_>) -> Found<'_> {
    for _ in 0..HEADER_CHAIN_MAX {
        let label = bytes.u32().ok_or(CUT)?;
        if label & 0x100 == 0 {
            continue;
        }
        return match bytes.rest().first().ok_or(CUT)? >> 4 {
            4 | 6 => Ok(bytes.rest()),
            // The control word of an Ethernet pseudo-wire (RFC 4448).
            0 => {
                bytes.take(4).ok_or(CUT)?;
                ethernet(bytes.rest())
            }
            _ => Err(NON_IP),
        };
    }
    Err(Lost::HeaderChain.into())
}

/// Q.922 address, control, then NLPID or SNAP (RFC 2427).
fn frame_relay(mut bytes: Bytes<'_>) -> Found<'_> {
    let mut ended = false;
    for _ in 0..4 {
        if bytes.u8().ok_or(CUT)? & 1 == 1 {
            ended = true;
            break;
        }
    }
    if !ended || bytes.u8().ok_or(CUT)? != 0x03 {
        return Err(NON_IP);
    }
    let mut nlpid = bytes.u8().ok_or(CUT)?;
    if nlpid == 0 {
        nlpid = bytes.u8().ok_or(CUT)?;
    }
    match nlpid {
        0xcc | 0x8e => Ok(bytes.rest()),
        0x80 => {
            let organisation = bytes.u24().ok_or(CUT)?;
            let kind = bytes.u16().ok_or(CUT)?;
            if organisation == 0 && kind >= 0x0600 {
                ethertype(kind, bytes)
            } else {
                Err(NON_IP)
            }
        }
        _ => Err(NON_IP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [u8; 2] = [0x45, 0];
    const V6: [u8; 2] = [0x60, 0];

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[track_caller]
    fn check(link: u32, parts: &[&[u8]], expected: Result<&[u8], NoIp>) {
        assert_eq!(ip_packet(LinkType(link), &frame(parts)), expected);
    }

    #[test]
    fn finds_ip_behind_every_link() {
        let macs = [0u8; 12];
        check(1, &[&macs, &[8, 0], &V4], Ok(&V4));
        check(1, &[&macs, &[0x81, 0, 0, 5, 8, 0], &V4], Ok(&V4));
        check(
            1,
            &[&macs, &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0], &V4],
            Ok(&V4),
        );
        check(
            1,
            &[&macs, &[0, 20, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &V4],
            Ok(&V4),
        );
        check(
            1,
            &[&macs, &[0x88, 0x64, 0x11, 0, 0, 1, 0, 4, 0, 0x21], &V4],
            Ok(&V4),
        );
        check(
            1,
            &[&macs, &[0x88, 0x47, 0, 0, 0, 64, 0, 0, 1, 64], &V4],
            Ok(&V4),
        );
        check(101, &[&V4], Ok(&V4));
        check(0, &[&[2, 0, 0, 0], &V4], Ok(&V4));
        check(0, &[&[0, 0, 0, 30], &V4], Ok(&V4));
        check(108, &[&[0, 0, 0, 2], &V4], Ok(&V4));
        check(9, &[&[0xff, 3, 0, 0x21], &V4], Ok(&V4));
        check(9, &[&[0x21], &V4], Ok(&V4));
        check(104, &[&[0x0f, 0, 8, 0], &V4], Ok(&V4));
        check(107, &[&[0x18, 0x41, 3, 0xcc], &V4], Ok(&V4));
        check(113, &[&[0; 14], &[8, 0], &V4], Ok(&V4));
        check(276, &[&[8, 0], &[0; 18], &V4], Ok(&V4));
        check(9, &[&[0x0f, 0, 8, 0], &V4], Ok(&V4));
        check(9, &[&[0x8f, 0, 0x86, 0xdd], &V6], Ok(&V6));
        check(100, &[&LLC, &V4], Ok(&V4));
        check(109, &[&[0; 12], &V4], Ok(&V4));
        check(117, &[&[61], &[0; 63], &V4], Ok(&V4));
        check(122, &[&[0; 16], &LLC, &V4], Ok(&V4));
        check(123, &[&[2, 0, 0, 5], &LLC, &V4], Ok(&V4));
        check(204, &[&[1, 0xff, 3, 0, 0x21], &V4], Ok(&V4));
        check(205, &[&[0, 0x0f, 0, 8, 0], &V4], Ok(&V4));
        check(219, &[&[0, 0, 1, 64], &V4], Ok(&V4));
        check(226, &[&[0; 24], &V4], Ok(&V4));
        check(242, &[&[0; 40], &[8, 0, 0, 0], &V4], Ok(&V4));
        check(274, &[&[0x55; 8], &macs, &[8, 0], &V4], Ok(&V4));
    }

    const LLC: [u8; 8] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];

    #[test]
    fn finds_ip_behind_rings_and_logs() {
        let macs = [0u8; 12];
        check(10, &[&[0x50], &macs, &LLC, &V4], Ok(&V4));
        check(10, &[&[0x41], &macs, &LLC, &V4], Err(NON_IP));
        check(6, &[&[0x10, 0x40], &macs, &LLC, &V4], Ok(&V4));
        check(6, &[&[0x10, 0x00], &macs, &LLC, &V4], Err(NON_IP));
        // A route of 4 bytes.
        let source = [0x80, 0, 0, 0, 0, 0];
        let routed = [&[0x10, 0x40][..], &macs[..6], &source, &[4, 0, 0, 1]].concat();
        check(6, &[&routed, &LLC, &V4], Ok(&V4));
        check(6, &[&routed[..14]], Err(CUT));
        // Netfilter's log: a mark, then the packet.
        let mark = [8, 0, 3, 0, 0, 0, 0, 1];
        check(
            239,
            &[&[2, 0, 0, 1], &mark, &[6, 0, 9, 0], &V4, &[7]],
            Ok(&V4),
        );
        check(
            239,
            &[&[7, 0, 0, 1], &mark, &[6, 0, 9, 0], &V4],
            Err(NON_IP),
        );
        check(239, &[&[2, 0, 0, 1], &mark], Err(NON_IP));
        check(
            239,
            &[&[2, 0, 0, 1], &[3, 0, 9, 0]],
            Err(Lost::LinkHeader.into()),
        );
        check(239, &[&[2, 0, 0, 1], &mark[..6]], Err(CUT));
    }

    #[test]
    fn finds_ip_behind_every_tag() {
        let macs = [0u8; 12];
        check(1, &[&macs, &[0, 20, 6, 6, 3], &V4], Ok(&V4));
        check(
            1,
            &[&macs, &[0, 20, 0xaa, 0xaa, 3, 0, 0, 0xf8, 8, 0], &V4],
            Ok(&V4),
        );
        check(1, &[&macs, &[0x89, 0x26], &[0; 4], &[8, 0], &V4], Ok(&V4));
        check(1, &[&macs, &[0x89, 0x2f], &[0; 4], &[8, 0], &V4], Ok(&V4));
        check(1, &[&macs, &[0x89, 0x3f], &[0; 6], &[8, 0], &V4], Ok(&V4));
        check(1, &[&macs, &[0x88, 0xe7], &[0; 16], &[8, 0], &V4], Ok(&V4));
        // Vouched for, without and with a channel; and encrypted.
        let vouched = [&[0x88, 0xe5, 0, 0][..], &[0; 4]].concat();
        check(1, &[&macs, &vouched, &[8, 0], &V4], Ok(&V4));
        let channel = [&[0x88, 0xe5, 0x20, 0][..], &[0; 12]].concat();
        check(1, &[&macs, &channel, &[8, 0], &V4], Ok(&V4));
        let secret = [&[0x88, 0xe5, 0x0c, 0][..], &[0; 4]].concat();
        check(1, &[&macs, &secret, &[8, 0], &V4], Err(NON_IP));
        // Service headers of two words, around IP and around Ethernet.
        let service = |next: u8| [0x89, 0x4f, 0, 2, 1, next, 0, 0, 1, 255];
        check(1, &[&macs, &service(1), &V4], Ok(&V4));
        check(1, &[&macs, &service(3), &macs, &[8, 0], &V4], Ok(&V4));
        check(1, &[&macs, &service(9), &V4], Err(NON_IP));
        check(1, &[&macs, &service(1)[..8]], Err(CUT));
    }

    #[test]
    fn names_what_is_not_ip() {
        let macs = [0u8; 12];
        check(1, &[&macs, &[8, 6]], Err(NoIp::NotFlow(NotFlow::Arp)));
        check(1, &[&macs, &[0x88, 0xcc]], Err(NON_IP));
        check(1, &[&macs, &[0, 20, 0x42, 0x42, 3]], Err(NON_IP));
        check(
            1,
            &[&macs, &[0x88, 0x64, 0x11, 9, 0, 1, 0, 4, 0, 0x21]],
            Err(NON_IP),
        );
        check(113, &[&[0; 14], &[0, 1], &V4], Err(NON_IP));
        check(0, &[&[7, 0, 0, 0], &V4], Err(NON_IP));
        check(1, &[&macs[..7]], Err(CUT));
        check(1, &[&macs, &[0x81, 0, 0]], Err(CUT));
        check(
            1,
            &[&macs, &[0x81, 0, 0, 1].repeat(20)],
            Err(Lost::HeaderChain.into()),
        );
        check(147, &[&V4], Err(Lost::LinkType.into()));
    }
}
