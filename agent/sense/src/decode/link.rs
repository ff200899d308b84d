//! From the first byte of a frame to the IP packet in it.
//!
//! Reads Ethernet with VLAN tags, 802.3 SNAP, PPPoE and MPLS, Linux "cooked" captures, loopback,
//! PPP, Cisco HDLC, frame relay and bare IP. Other link types are named as lost, not guessed at.

use super::bytes::Bytes;
use super::packet::{Lost, NotFlow};
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

type Found<'a> = Result<&'a [u8], NoIp>;

const CUT: NoIp = NoIp::Lost(Lost::Truncated);
const NON_IP: NoIp = NoIp::NotFlow(NotFlow::NonIp);

/// Finds the IP packet in a frame of this link type.
pub(crate) fn ip_packet(link: LinkType, data: &[u8]) -> Found<'_> {
    let mut bytes = Bytes::new(data);
    match link.0 {
        1 => ethernet(data),
        // LINKTYPE_RAW and what some systems write in its place (DLT_RAW 12 and 14).
        12 | 14 | 101 | 228 | 229 => Ok(data),
        0 => loopback(bytes),
        // LINKTYPE_LOOP: as LINKTYPE_NULL, but always big-endian.
        108 => loopback(bytes),
        9 | 50 => ppp_framed(bytes),
        51 => pppoe(bytes),
        // LINKTYPE_C_HDLC: address, control, EtherType.
        104 => {
            bytes.take(2).ok_or(CUT)?;
            ethertype(bytes.u16().ok_or(CUT)?, bytes)
        }
        107 => frame_relay(bytes),
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
        _ => Err(Lost::LinkType.into()),
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
            0x0800 | 0x86dd => return Ok(bytes.rest()),
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
            // IEEE 802.3: a length, then LLC; SNAP (RFC 1042) leads back to an EtherType.
            0..=0x05ff => {
                if !bytes.rest().starts_with(&[0xaa, 0xaa, 0x03]) {
                    return Err(NON_IP);
                }
                bytes.take(3).ok_or(CUT)?;
                let organisation = bytes.u24().ok_or(CUT)?;
                let inner = bytes.u16().ok_or(CUT)?;
                if organisation != 0 || inner < 0x0600 {
                    return Err(NON_IP);
                }
                kind = inner;
            }
            _ => return Err(NON_IP),
        }
    }
    Err(Lost::HeaderChain.into())
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

/// PPP (RFC 1661, RFC 1662), with or without the HDLC address and control bytes.
pub(crate) fn ppp_framed(mut bytes: Bytes<'_>) -> Found<'_> {
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
        check(127, &[&V4], Err(Lost::LinkType.into()));
    }
}
