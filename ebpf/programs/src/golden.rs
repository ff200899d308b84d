//! Frames and what must be made of them. The host's tests feed them to the parser, the agent's
//! kernel tests (which include this file) to the programs in the kernel.
//!
//! Every row has 10.0.0.1 or 2001:db8::1 for its source and 192.0.2.7 or 2001:db8::2 for its
//! destination.

/// A frame, and what it is.
pub(crate) struct Golden {
    /// The point of the row.
    pub(crate) name: &'static str,
    /// The frame, from its Ethernet header on.
    pub(crate) frame: Vec<u8>,
    /// What it is.
    pub(crate) expected: Expected,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A packet of a flow.
    Flow {
        /// IP protocol number.
        protocol: u8,
        /// Source and destination port.
        ports: (u16, u16),
        /// IP total length.
        ip_bytes: u32,
        /// IP and transport headers.
        header_bytes: u32,
        /// SYN without ACK, or an echo request.
        opens: bool,
        /// Whether the addresses are IPv6.
        is_ipv6: bool,
    },
    /// Counted under a reason, with its bytes.
    NotFlow(&'static str, u32),
}

/// Source and destination of the IPv4 rows.
pub(crate) const IPV4: [[u8; 4]; 2] = [[10, 0, 0, 1], [192, 0, 2, 7]];

/// Source and destination of the IPv6 rows.
pub(crate) const IPV6: [[u8; 16]; 2] = [
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
];

/// Joins pieces of a packet.
pub(crate) fn join(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// An Ethernet header and what follows it.
pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    join(&[&addresses, &kind.to_be_bytes(), payload])
}

/// A VLAN tag and what follows it.
pub(crate) fn tag(id: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&id.to_be_bytes(), &kind.to_be_bytes(), payload])
}

/// An IPv4 packet with options (a multiple of four bytes) and a fragment field.
pub(crate) fn ipv4_with(options: &[u8], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let total = (header_bytes + payload.len()) as u16;
    join(&[
        &[0x40 | (header_bytes / 4) as u8, 0],
        &total.to_be_bytes(),
        &[0, 7],
        &fragment.to_be_bytes(),
        &[64, protocol, 0, 0],
        &IPV4[0],
        &IPV4[1],
        options,
        payload,
    ])
}

/// An IPv4 packet.
pub(crate) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(&[], 0, protocol, payload)
}

/// An IPv6 packet.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    join(&[
        &[0x60, 0, 0, 0],
        &length.to_be_bytes(),
        &[next, 64],
        &IPV6[0],
        &IPV6[1],
        payload,
    ])
}

/// An IPv6 extension header of eight bytes and what follows it.
pub(crate) fn extension(next: u8, payload: &[u8]) -> Vec<u8> {
    join(&[&[next, 0, 0, 0, 0, 0, 0, 0], payload])
}

/// A TCP segment with 20 bytes of header.
pub(crate) fn tcp(ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    join(&[
        &ports.0.to_be_bytes(),
        &ports.1.to_be_bytes(),
        &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0],
        payload,
    ])
}

/// A UDP datagram.
pub(crate) fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    join(&[
        &ports.0.to_be_bytes(),
        &ports.1.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0],
        payload,
    ])
}

/// An ICMP or `ICMPv6` message.
pub(crate) fn icmp(kind: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[kind, 0, 0, 0], &id.to_be_bytes(), &[0, 1], payload])
}

const KIND_IPV4: u16 = 0x0800;
const KIND_IPV6: u16 = 0x86dd;
const KIND_VLAN: u16 = 0x8100;
const KIND_SERVICE_VLAN: u16 = 0x88a8;

fn flow(protocol: u8, ports: (u16, u16), ip_bytes: u32, header_bytes: u32) -> Expected {
    Expected::Flow {
        protocol,
        ports,
        ip_bytes,
        header_bytes,
        opens: false,
        is_ipv6: false,
    }
}

fn flow_v6(protocol: u8, ports: (u16, u16), ip_bytes: u32, header_bytes: u32) -> Expected {
    Expected::Flow {
        protocol,
        ports,
        ip_bytes,
        header_bytes,
        opens: false,
        is_ipv6: true,
    }
}

fn opening(expected: Expected) -> Expected {
    match expected {
        Expected::Flow {
            protocol,
            ports,
            ip_bytes,
            header_bytes,
            is_ipv6,
            ..
        } => Expected::Flow {
            protocol,
            ports,
            ip_bytes,
            header_bytes,
            opens: true,
            is_ipv6,
        },
        other => other,
    }
}

/// The table.
pub(crate) fn rows() -> Vec<Golden> {
    let ports = (51_000, 443);
    let dns = (51_000, 53);
    let v4 = |packet: Vec<u8>| ethernet(KIND_IPV4, &packet);
    let v6 = |packet: Vec<u8>| ethernet(KIND_IPV6, &packet);
    let row = |name, frame, expected| Golden {
        name,
        frame,
        expected,
    };
    let syn = ipv4(6, &tcp(ports, 0x02, &[]));
    let mut short_header = ipv4(6, &tcp(ports, 0x10, &[]));
    short_header[0] = 0x44;
    let mut wrong_version = ipv4(6, &tcp(ports, 0x10, &[]));
    wrong_version[0] = 0x55;
    let mut no_length = ipv4(17, &udp(ports, &[0; 40]));
    no_length[2..4].fill(0);
    let mut long_length = ipv4(17, &udp(ports, &[0; 40]));
    long_length[2..4].copy_from_slice(&900u16.to_be_bytes());
    let mut data_offset = ipv4(6, &tcp(ports, 0x18, &[1; 30]));
    data_offset[32] = 0xf0;
    let mut long_tcp = ipv4(6, &tcp(ports, 0x18, &[1; 30]));
    long_tcp[32] = 0x80;
    let mut chain = udp(ports, &[]);
    let mut next = 17;
    for _ in 0..6 {
        chain = extension(next, &chain);
        next = 60;
    }
    let too_long = extension(60, &chain);
    let fragment = |offset: u16, payload: &[u8]| {
        join(&[&[17, 0], &offset.to_be_bytes(), &[0, 0, 0, 9], payload])
    };
    let authentication = join(&[&[6, 4], &[0; 22], &tcp(ports, 0x10, &[])]);
    vec![
        row(
            "tcp opening",
            v4(syn.clone()),
            opening(flow(6, ports, 40, 40)),
        ),
        row(
            "tcp answer is no opening",
            v4(ipv4(6, &tcp(ports, 0x12, &[]))),
            flow(6, ports, 40, 40),
        ),
        row(
            "tcp with payload",
            v4(ipv4(6, &tcp(ports, 0x18, &[1; 100]))),
            flow(6, ports, 140, 40),
        ),
        row(
            "tcp options are header",
            v4(long_tcp),
            flow(6, ports, 70, 52),
        ),
        row(
            "tcp data offset beyond the packet",
            v4(data_offset),
            flow(6, ports, 70, 70),
        ),
        row(
            "udp",
            v4(ipv4(17, &udp(dns, &[1; 30]))),
            flow(17, dns, 58, 28),
        ),
        row(
            "sctp",
            v4(ipv4(132, &join(&[&udp(ports, &[]), &[0; 20]]))),
            flow(132, ports, 48, 32),
        ),
        row(
            "another protocol has no ports",
            v4(ipv4(47, &[9; 30])),
            flow(47, (0, 0), 50, 20),
        ),
        row(
            "padding is not counted",
            v4(join(&[&syn, &[0; 6]])),
            opening(flow(6, ports, 40, 40)),
        ),
        row("no total length", v4(no_length), flow(17, ports, 68, 28)),
        row(
            "total length beyond the frame",
            v4(long_length),
            flow(17, ports, 68, 28),
        ),
        row(
            "ipv4 options",
            v4(ipv4_with(&[1; 12], 0, 17, &udp(ports, &[1; 8]))),
            flow(17, ports, 48, 40),
        ),
        row(
            "first fragment",
            v4(ipv4_with(&[], 0x2000, 17, &udp(ports, &[1; 8]))),
            flow(17, ports, 36, 28),
        ),
        row(
            "later fragment",
            v4(ipv4_with(&[], 0x2001, 17, &[1; 80])),
            Expected::NotFlow("not_flow_later_fragment", 100),
        ),
        row(
            "last fragment",
            v4(ipv4_with(&[], 0x00b9, 6, &[1; 80])),
            Expected::NotFlow("not_flow_later_fragment", 100),
        ),
        row(
            "vlan",
            ethernet(KIND_VLAN, &tag(5, KIND_IPV4, &syn)),
            opening(flow(6, ports, 40, 40)),
        ),
        row(
            "service vlan and vlan",
            ethernet(
                KIND_SERVICE_VLAN,
                &tag(5, KIND_VLAN, &tag(6, KIND_IPV4, &syn)),
            ),
            opening(flow(6, ports, 40, 40)),
        ),
        row(
            "three tags are not followed",
            ethernet(
                KIND_VLAN,
                &tag(5, KIND_VLAN, &tag(6, KIND_VLAN, &tag(7, KIND_IPV4, &syn))),
            ),
            Expected::NotFlow("not_flow_non_ip", 44),
        ),
        row(
            "echo",
            v4(ipv4(1, &icmp(8, 0x1234, &[0; 56]))),
            opening(flow(1, (0x1234, 0x1234), 84, 28)),
        ),
        row(
            "echo reply",
            v4(ipv4(1, &icmp(0, 0x1234, &[0; 56]))),
            flow(1, (0x1234, 0x1234), 84, 28),
        ),
        row(
            "unreachable",
            v4(ipv4(1, &icmp(3, 0, &[0; 28]))),
            Expected::NotFlow("not_flow_icmp_error", 56),
        ),
        row(
            "timestamp",
            v4(ipv4(1, &icmp(13, 0, &[0; 12]))),
            Expected::NotFlow("not_flow_icmp_other", 40),
        ),
        row(
            "arp",
            ethernet(0x0806, &[0; 28]),
            Expected::NotFlow("not_flow_arp", 28),
        ),
        row(
            "neither ip nor arp",
            ethernet(0x88cc, &[0; 50]),
            Expected::NotFlow("not_flow_non_ip", 50),
        ),
        row(
            "a length instead of a kind",
            ethernet(38, &[0; 46]),
            Expected::NotFlow("not_flow_non_ip", 46),
        ),
        row(
            "ipv4 header too short",
            v4(short_header),
            Expected::NotFlow("lost_ip_header", 40),
        ),
        row(
            "ipv4 of another version",
            v4(wrong_version),
            Expected::NotFlow("lost_ip_header", 40),
        ),
        row(
            "cut within the ip header",
            v4(syn[..18].to_vec()),
            Expected::NotFlow("lost_ip_header", 18),
        ),
        row(
            "cut within the tcp header",
            v4(syn[..34].to_vec()),
            opening(flow(6, ports, 34, 34)),
        ),
        row(
            "tcp that ends behind its ports, and padding like flags",
            join(&[&v4(ipv4(6, &tcp(ports, 0x02, &[])[..8])), &[0x02; 30]]),
            flow(6, ports, 28, 28),
        ),
        row(
            "tcp that ends within its ports",
            v4(ipv4(6, &tcp(ports, 0x02, &[])[..3])),
            Expected::NotFlow("lost_transport_header", 23),
        ),
        row(
            "icmp error that ends too early",
            join(&[&v4(ipv4(1, &[3, 1, 0, 0])), &[0; 30]]),
            Expected::NotFlow("lost_transport_header", 24),
        ),
        row(
            "reverse arp",
            ethernet(0x8035, &[0; 28]),
            Expected::NotFlow("not_flow_arp", 28),
        ),
        row(
            "udp without a header",
            v4(ipv4(17, &[])),
            Expected::NotFlow("lost_transport_header", 20),
        ),
        row(
            "ipv6 tcp",
            v6(ipv6(6, &tcp(ports, 0x02, &[]))),
            opening(flow_v6(6, ports, 60, 60)),
        ),
        row(
            "ipv6 udp",
            v6(ipv6(17, &udp(dns, &[1; 30]))),
            flow_v6(17, dns, 78, 48),
        ),
        row(
            "ipv6 hop-by-hop",
            v6(ipv6(0, &extension(17, &udp(ports, &[1; 4])))),
            flow_v6(17, ports, 60, 56),
        ),
        row(
            "ipv6 authentication",
            v6(ipv6(51, &authentication)),
            flow_v6(6, ports, 84, 84),
        ),
        row(
            "ipv6 six extensions",
            v6(ipv6(60, &chain)),
            flow_v6(17, ports, 96, 96),
        ),
        row(
            "ipv6 seven extensions",
            v6(ipv6(60, &too_long)),
            Expected::NotFlow("lost_header_chain", 104),
        ),
        row(
            "ipv6 first fragment",
            v6(ipv6(44, &fragment(1, &udp(ports, &[1; 8])))),
            flow_v6(17, ports, 64, 56),
        ),
        row(
            "ipv6 later fragment",
            v6(ipv6(44, &fragment(8, &[1; 16]))),
            Expected::NotFlow("not_flow_later_fragment", 64),
        ),
        row(
            "ipv6 nothing next",
            v6(ipv6(59, &[])),
            flow_v6(59, (0, 0), 40, 40),
        ),
        row(
            "ipv6 echo",
            v6(ipv6(58, &icmp(128, 9, &[0; 8]))),
            opening(flow_v6(58, (9, 9), 56, 48)),
        ),
        row(
            "ipv6 too big",
            v6(ipv6(58, &icmp(2, 0, &[0; 8]))),
            Expected::NotFlow("not_flow_icmp_error", 56),
        ),
        row(
            "ipv6 neighbour",
            v6(ipv6(58, &icmp(135, 0, &[0; 16]))),
            Expected::NotFlow("not_flow_icmp_other", 64),
        ),
        row(
            "ipv6 extension cut off",
            v6(ipv6(0, &[17])),
            Expected::NotFlow("lost_ip_header", 41),
        ),
        row(
            "icmpv6 inside ipv4 is another protocol",
            v4(ipv4(58, &icmp(128, 9, &[]))),
            flow(58, (0, 0), 28, 20),
        ),
    ]
}
