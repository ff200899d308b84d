//! The parser on the golden frames, whole, cut and changed.

use super::*;
use crate::golden::{Expected, IPV4, IPV6, ethernet, ipv4, rows, tcp, udp};

/// A frame in memory, of which the first `linear` bytes can be read.
struct Bytes<'a> {
    bytes: &'a [u8],
    linear: usize,
}

impl Frame for Bytes<'_> {
    fn load<T: Plain>(&self, at: u32) -> Option<T> {
        picket_abi::read(self.bytes[..self.linear].get(at as usize..)?)
    }
    fn bytes(&self) -> u32 {
        self.bytes.len() as u32
    }
}

fn parse(bytes: &[u8], link: Link) -> Result<Packet, NotFlow> {
    let linear = bytes.len();
    packet(&Bytes { bytes, linear }, link)
}

fn words(octets: [u8; 16]) -> [u64; 2] {
    [
        picket_abi::read(&octets).unwrap(),
        picket_abi::read(&octets[8..]).unwrap(),
    ]
}

/// What the table expects of a packet, of the packet that was parsed.
fn told(parsed: Result<Packet, NotFlow>, name: &str) -> Expected {
    match parsed {
        Ok(packet) => {
            let is_ipv6 = FlowKey::ipv4(packet.source).is_none();
            let ends = if is_ipv6 {
                IPV6.map(words)
            } else {
                IPV4.map(|octets| FlowKey::mapped(u32::from_ne_bytes(octets)))
            };
            assert_eq!([packet.source, packet.destination], ends, "{name}");
            Expected::Flow {
                protocol: packet.protocol,
                ports: (packet.source_port, packet.destination_port),
                ip_bytes: packet.ip_bytes,
                header_bytes: packet.header_bytes,
                opens: packet.opens,
                is_ipv6,
            }
        }
        Err(not_flow) => {
            let reason = Reason::ALL[not_flow.reason as usize].2;
            Expected::NotFlow(reason, not_flow.bytes)
        }
    }
}

#[test]
fn golden_frames_are_what_they_are() {
    for row in rows() {
        let parsed = parse(&row.frame, Link::Ethernet);
        assert_eq!(told(parsed, row.name), row.expected, "{}", row.name);
    }
}

#[test]
fn without_a_link_header_the_same_is_read() {
    for row in rows() {
        let is_ip = matches!(row.frame[12..14], [0x08, 0x00] | [0x86, 0xdd]);
        if is_ip && !row.name.contains("another version") {
            let parsed = parse(&row.frame[14..], Link::Ip);
            assert_eq!(told(parsed, row.name), row.expected, "{}", row.name);
        }
    }
    let parsed = parse(&[0x12, 0, 0, 0], Link::Ip);
    assert_eq!(parsed, Err(not_flow(Reason::NotFlowNonIp, 4)));
}

#[test]
fn headers_out_of_reach_are_told_so_that_another_way_is_tried() {
    let bytes = ethernet(0x0800, &ipv4(6, &tcp((1, 2), 0, &[0; 9])));
    for linear in 0..54 {
        let error = packet(
            &Bytes {
                bytes: &bytes,
                linear,
            },
            Link::Ethernet,
        )
        .unwrap_err();
        let reason = match linear {
            0..14 => Reason::LostLinkHeader,
            14..34 => Reason::LostIpHeader,
            _ => Reason::LostTransportHeader,
        };
        assert_eq!(error.reason, reason, "{linear}");
    }
    assert!(
        packet(
            &Bytes {
                bytes: &bytes,
                linear: 54
            },
            Link::Ethernet
        )
        .is_ok()
    );
}

#[test]
fn no_frame_cut_or_changed_anywhere_leads_astray() {
    for row in rows() {
        for end in 0..row.frame.len() {
            check_sane(&row.frame[..end]);
        }
        for at in 0..row.frame.len() {
            for value in [0, 1, 0x3f, 0x7f, 0x80, 0xff] {
                let mut frame = row.frame.clone();
                frame[at] = value;
                check_sane(&frame);
            }
        }
    }
}

fn check_sane(frame: &[u8]) {
    for link in [Link::Ethernet, Link::Ip] {
        match parse(frame, link) {
            Ok(packet) => {
                assert!(packet.header_bytes <= packet.ip_bytes);
                assert!(packet.ip_at + packet.ip_bytes <= frame.len() as u32);
            }
            Err(not_flow) => assert!(not_flow.bytes <= frame.len() as u32),
        }
    }
}

#[test]
fn segments_repeat_their_headers() {
    let frame = ethernet(0x0800, &ipv4(17, &udp((1, 2), &[0; 3000])));
    let packet = parse(&frame, Link::Ethernet).unwrap();
    assert_eq!(packet.wire_bytes(1), 3028);
    assert_eq!(packet.wire_bytes(3), 3028 + 2 * 28);
}

#[test]
fn local_is_the_source_of_what_leaves() {
    let frame = ethernet(0x0800, &ipv4(17, &udp((1, 2), &[])));
    let packet = parse(&frame, Link::Ethernet).unwrap();
    let (out, back) = (packet.key(Way::Out), packet.key(Way::In));
    assert_eq!((out.local, out.remote), (packet.source, packet.destination));
    assert_eq!(
        (out.local_port(), out.remote_port(), out.protocol()),
        (1, 2, 17)
    );
    assert_eq!((back.local, back.remote), (out.remote, out.local));
    assert_eq!((back.local_port(), back.remote_port()), (2, 1));
}

#[test]
fn an_ipv4_mapped_packet_is_keyed_as_ipv4() {
    let mut frame = ethernet(0x86dd, &crate::golden::ipv6(17, &udp((1, 2), &[])));
    frame[22..38].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    let packet = parse(&frame, Link::Ethernet).unwrap();
    assert_eq!(packet.source, FlowKey::mapped(u32::from_ne_bytes(IPV4[0])));
}
