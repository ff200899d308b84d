//! Frames through the whole decoder.

use super::*;
use crate::input::{LinkType, Way};
use crate::testkit::*;

mod fragments;

use fragments::{pieces_v4, pieces_v6};

const EXAMPLE: &[u8] = b"\x07example\x03org\0";

fn query() -> Vec<u8> {
    udp(40_000, 53, &dns_query(1, EXAMPLE))
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4(CLIENT, SERVER, protocol, payload)
}

#[track_caller]
fn check_query(link: LinkType, frame: Vec<u8>, tunnel: Option<(TunnelKind, u32)>) {
    let tunnel = tunnel.map(|(kind, id)| Tunnel::new(kind, id));
    let seen = Seen::of(link, &[frame]);
    assert_eq!(seen.names(), ["example.org"], "{seen:?}");
    assert_eq!(seen.records[0].tunnel, tunnel);
    assert_eq!(seen.packets.last().map(|packet| packet.3), Some(tunnel));
    let outermost = seen
        .packets
        .iter()
        .filter(|packet| packet.3.is_none())
        .count();
    assert_eq!(outermost, 1, "one packet per frame on the outermost header");
}

#[test]
fn a_query_is_found_in_every_wrapping() {
    let raw = LinkType::RAW_IP;
    check_query(raw, v4(17, &query()), None);
    check_query(
        LinkType::ETHERNET,
        ethernet(0x0800, &v4(17, &query())),
        None,
    );
    let tagged = [&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &v4(17, &query())].concat();
    check_query(LinkType::ETHERNET, ethernet(0x88a8, &tagged), None);
    check_query(raw, ipv6(17, &query()), None);
    let hop_by_hop = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[17, 1], &[0; 14], &query()].concat();
    check_query(raw, ipv6(0, &hop_by_hop), None);
    let options = [
        &[0x46, 0, 0, 69][..],
        &v4(17, &query())[4..20],
        &[1; 4],
        &query(),
    ]
    .concat();
    check_query(raw, options, None);

    let frame = ethernet(0x0800, &v4(17, &query()));
    let vxlan = udp(
        50_000,
        4789,
        &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &frame].concat(),
    );
    check_query(raw, v4(17, &vxlan), Some((TunnelKind::Vxlan, 7)));
    let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 7, 0][..], &[0; 4], &frame].concat();
    check_query(
        raw,
        v4(17, &udp(50_000, 6081, &geneve)),
        Some((TunnelKind::Geneve, 7)),
    );
    check_query(raw, v4(4, &v4(17, &query())), Some((TunnelKind::IpIp, 0)));
    check_query(raw, v4(41, &ipv6(17, &query())), Some((TunnelKind::Ip6, 0)));
    let gre = [&[0x20, 0, 8, 0, 0, 0, 0, 1][..], &v4(17, &query())].concat();
    check_query(raw, v4(47, &gre), Some((TunnelKind::Gre, 1)));
    let session = [0x10, 0, 0xf9, 0x23, 0, 0, 0, 0];
    let erspan = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &session, &frame].concat();
    check_query(raw, v4(47, &erspan), Some((TunnelKind::Erspan, 0x123)));
    check_query(
        raw,
        v4(97, &[&[0x30, 0][..], &frame].concat()),
        Some((TunnelKind::EtherIp, 0)),
    );
    let gtp = [&[0x30, 0xff, 0, 0, 0, 0, 0, 1][..], &v4(17, &query())].concat();
    check_query(
        raw,
        v4(17, &udp(2152, 2152, &gtp)),
        Some((TunnelKind::Gtp, 0)),
    );
    let teredo = udp(50_000, 3544, &ipv6(17, &query()));
    check_query(raw, v4(17, &teredo), Some((TunnelKind::Teredo, 0)));
}

#[test]
fn a_query_quoted_by_icmp_is_no_message() {
    let quoted = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &v4(17, &query())].concat();
    let seen = Seen::of(LinkType::RAW_IP, &[v4(1, &quoted)]);
    assert!(seen.records.is_empty() && seen.packets.is_empty());
    assert_eq!(seen.not_flow, [(NotFlow::IcmpError, None)]);
}

#[test]
fn tunnels_end_at_their_depth() {
    let mut packet = v4(17, &query());
    for _ in 0..40 {
        packet = v4(4, &packet);
    }
    let seen = Seen::of(LinkType::RAW_IP, &[packet]);
    assert_eq!(
        seen.lost,
        [(Lost::TunnelDepth, Some(Tunnel::new(TunnelKind::IpIp, 0)))]
    );
    assert_eq!(seen.packets.len(), usize::from(TUNNEL_DEPTH_MAX) + 1);
}

#[track_caller]
fn check_one(packet: Vec<u8>, expected: Result<(u16, u16, u32), Lost>) {
    let seen = Seen::of(LinkType::RAW_IP, &[packet]);
    let packet = seen
        .packets
        .first()
        .map(|(src, dst, bytes, _)| (*src, *dst, *bytes));
    let lost = seen.lost.first().map(|(reason, _)| *reason);
    assert_eq!((packet, lost), (expected.ok(), expected.err()));
}

#[test]
fn packets_and_near_misses() {
    check_one(v4(17, &udp(1, 2, b"")), Ok((1, 2, 28)));
    check_one(v4(6, &tcp(1, 2, 2, 0, b"")), Ok((1, 2, 40)));
    check_one(v4(6, &[0, 1, 0, 2]), Ok((1, 2, 24)));
    check_one(
        v4(132, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
        Ok((1, 2, 32)),
    );
    check_one(v4(1, &[8, 0, 0, 0, 0, 9, 0, 1]), Ok((9, 9, 28)));
    check_one(v4(47, &[0, 0]), Ok((0, 0, 22)));
    check_one(ipv6(59, &[]), Ok((0, 0, 40)));
    check_one(v4(6, &[0, 1, 0]), Err(Lost::TransportHeader));
    check_one(v4(17, &udp(1, 2, b""))[..22].to_vec(), Err(Lost::Truncated));
    check_one(v4(17, &[])[..19].to_vec(), Err(Lost::Truncated));
    check_one(vec![], Err(Lost::Truncated));
    check_one(vec![0x50; 40], Err(Lost::IpHeader));
    check_one(
        [&[0x44], &v4(17, &udp(1, 2, b""))[1..]].concat(),
        Err(Lost::IpHeader),
    );
    check_one(ipv6(0, &[0, 9, 0, 0, 0, 0, 0, 0]), Err(Lost::IpHeader));
    check_one(
        ipv6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(30)),
        Err(Lost::HeaderChain),
    );
}

#[test]
fn padding_of_a_frame_is_not_payload() {
    let mut frame = ethernet(0x0800, &v4(6, &tcp(1, 2, 0x10, 5, b"")));
    frame.extend([0; 6]);
    let seen = Seen::of(LinkType::ETHERNET, &[frame]);
    assert_eq!(seen.packets, [(1, 2, 40, None)]);
}

#[test]
fn a_copy_tells_records_and_counts_nothing() {
    let data = v4(17, &query());
    let copy = PacketCopy {
        ts_ns: 1,
        data: &data,
        wire_bytes: data.len() as u32,
        way: Way::Out,
        ifindex: 2,
        tunnel: None,
        owner: None,
    };
    let mut records = 0;
    Decoder::new().on_copy(&copy, &mut |event| match event {
        Event::Record(_) => records += 1,
        other => panic!("{other:?}"),
    });
    assert_eq!(records, 1);
}

fn segments(parts: &[(u8, u32, &[u8])]) -> Vec<Vec<u8>> {
    let segment = |(flags, sequence, data): &(u8, u32, &[u8])| {
        v4(6, &tcp(40_000, 443, *flags, *sequence, data))
    };
    parts.iter().map(segment).collect()
}

#[track_caller]
fn check_stream(parts: &[(u8, u32, &[u8])], expected: &[&str]) {
    let seen = Seen::of(LinkType::RAW_IP, &segments(parts));
    assert_eq!(seen.names(), expected);
}

#[test]
fn a_hello_is_found_however_it_is_cut() {
    let hello = tls_record(&client_hello("a.example"));
    let syn: (u8, u32, &[u8]) = (2, u32::MAX - 2, b"");
    // The sequence number wraps inside the hello.
    let start = u32::MAX - 1;
    let part = |from: usize, to: usize| (0x18, start.wrapping_add(from as u32), &hello[from..to]);
    let end = hello.len();
    check_stream(&[part(0, end)], &["a.example"]);
    check_stream(&[syn, part(0, end)], &["a.example"]);
    check_stream(&[syn, part(0, end), part(0, end)], &["a.example"]);
    check_stream(&[syn, part(0, 1), part(1, 7), part(7, end)], &["a.example"]);
    check_stream(
        &[syn, part(50, end), part(5, 60), part(0, 9)],
        &["a.example"],
    );
    check_stream(
        &[syn, part(0, 60), part(20, 80), part(80, end)],
        &["a.example"],
    );
    check_stream(&[syn, part(0, 60), part(61, end)], &[]);
    let bytes: Vec<_> = (0..end).map(|at| part(at, at + 1)).collect();
    check_stream(&bytes, &["a.example"]);
}

#[test]
fn a_hello_over_several_records_and_a_second_one() {
    let message = client_hello("a.example");
    let split = [tls_record(&message[..30]), tls_record(&message[30..])].concat();
    check_stream(&[(0x18, 1, &split)], &["a.example"]);
    // After a HelloRetryRequest: change-cipher-spec, then the second hello.
    let first = tls_record(&message);
    let second = [
        &[20, 3, 3, 0, 1, 1][..],
        &tls_record(&client_hello("b.example")),
    ]
    .concat();
    let at = 1 + first.len() as u32;
    check_stream(
        &[(0x18, 1, &first), (0x18, at, &second)],
        &["a.example", "b.example"],
    );
    // A connection on the same ports.
    let again = &[
        (2, 0, &b""[..]),
        (0x18, 1, &first),
        (2, 900, b""),
        (0x18, 901, &first),
    ];
    check_stream(again, &["a.example", "a.example"]);
}

#[test]
fn a_hello_behind_starttls_and_no_hello() {
    let hello = tls_record(&client_hello("a.example"));
    check_stream(
        &[(0x18, 1, b"STARTTLS\r\n"), (0x18, 11, &hello)],
        &["a.example"],
    );
    check_stream(&[(0x18, 1, b"GET / HTTP/1.1\r\n\r\n")], &["http"]);
    // A handshake record that is no hello, a record of another version, a hello cut short.
    check_stream(&[(0x18, 1, &[22, 3, 1, 0, 4, 2, 0, 0, 0])], &[]);
    check_stream(&[(0x18, 1, &[&[22, 2], &hello[2..]].concat())], &[]);
    check_stream(&[(0x18, 1, &hello[..hello.len() - 1])], &[]);
    // One whose ciphers are longer than itself still is a hello.
    let mut broken = hello.clone();
    broken[5 + 4 + 2 + 32 + 2] = 0xff;
    check_stream(&[(0x18, 1, &broken)], &[""]);
}

#[test]
fn hellos_that_share_a_record_and_one_in_the_form_of_ssl_2() {
    let three = ["a.example", "b.example", "c.example"].map(client_hello);
    let all = three.concat();
    let names = ["a.example", "b.example", "c.example"];
    check_stream(&[(0x18, 1, &tls_record(&all))], &names);
    // Records that end within a hello, one within its header, and segments that end within records.
    for cut in [2, three[0].len() + 1, three[0].len() + 50] {
        let records = [tls_record(&all[..cut]), tls_record(&all[cut..])].concat();
        for (at, step) in [(7, 40), (cut, 1), (cut + 6, 100)] {
            let (front, rest) = records.split_at(at);
            let mut parts = vec![(0x18, 1, front)];
            for (index, part) in rest.chunks(step).enumerate() {
                parts.push((0x18, (1 + at + index * step) as u32, part));
            }
            check_stream(&parts, &names);
        }
    }
    // The third is not all there, and something else follows.
    let cut = [tls_record(&all[..all.len() - 1]), vec![23, 3, 3, 0, 1, 0]].concat();
    check_stream(&[(0x18, 1, &cut)], &names[..2]);
    let old = [
        &[0x80, 28, 1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f][..],
        &[7; 16],
    ];
    check_stream(&[(0x18, 1, &old.concat())], &[""]);
}

/// Messages of some lengths begin like SOCKS 4 and 5. Whoever makes a query that long must not hide it.
#[test]
fn dns_over_tcp_as_long_as_socks_begins() {
    for length in [1_025u16, 1_026, 1_281, 1_290] {
        let query = dns_query(9, EXAMPLE);
        // An option that pads the query (RFC 7830).
        let padding = length - query.len() as u16 - 15;
        let opt = [0, 0, 41, 4, 0xd0, 0, 0, 0, 0];
        let mut message = [length.to_be_bytes().to_vec(), query].concat();
        message[2 + 11] = 1;
        message.extend(opt);
        message.extend((padding + 4).to_be_bytes());
        message.extend([0, 12]);
        message.extend(padding.to_be_bytes());
        message.resize(usize::from(length) + 2, 0);
        for cut in [1, 3, 5, 8, 12, 40, message.len()] {
            let mut sequence = 1;
            let segment = |part: &[u8]| {
                let packet = v4(6, &tcp(40_000, 53, 0x18, sequence, part));
                sequence += part.len() as u32;
                packet
            };
            let packets: Vec<_> = message.chunks(cut).map(segment).collect();
            let seen = Seen::of(LinkType::RAW_IP, &packets);
            assert_eq!(seen.names(), ["example.org"], "{length} cut at {cut}");
        }
    }
}

/// A proxy may stand on the port of DNS.
#[test]
fn socks_on_the_port_of_dns() {
    let greeting = b"\x05\x01\x00\x05\x01\x00\x03\x07proxied\x01\xbb";
    for cut in [1, 3, greeting.len()] {
        let mut sequence = 1;
        let segment = |part: &[u8]| {
            let packet = v4(6, &tcp(40_000, 53, 0x18, sequence, part));
            sequence += part.len() as u32;
            packet
        };
        let packets: Vec<_> = greeting.chunks(cut).map(segment).collect();
        assert_eq!(Seen::of(LinkType::RAW_IP, &packets).names(), ["socks"]);
    }
}

/// Nor may it depend on the cuts who has what may be either: here only a byte behind the header of a
/// message says that it is none.
#[test]
fn socks_on_the_port_of_dns_however_it_is_cut() {
    let request = [4, 1, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0xa3];
    for cut in 1..=request.len() {
        assert_eq!(told_in_pieces(53, &request, cut), ["socks"], "{cut}");
    }
}

/// A line before a proxied stream that is too long for one is none, however much of it comes at once.
#[test]
fn a_line_of_a_proxy_has_a_length() {
    let request = [4, 1, 0, 9, 176, 0, 0, 0, 0];
    let line = |bytes: usize| [b"PROXY ", &vec![b'x'; bytes - 7][..], b"\n", &request].concat();
    for (stream, expected) in [(line(107), vec!["socks"]), (line(108), vec![])] {
        for cut in [1, 10, 64, 107, 108, stream.len()] {
            assert_eq!(told_in_pieces(80, &stream, cut), expected, "{cut}");
        }
    }
}

fn told_in_pieces(port: u16, stream: &[u8], cut: usize) -> Vec<String> {
    let mut sequence = 1;
    let segment = |part: &[u8]| {
        let packet = v4(6, &tcp(40_000, port, 0x18, sequence, part));
        sequence += part.len() as u32;
        packet
    };
    let packets: Vec<_> = stream.chunks(cut).map(segment).collect();
    Seen::of(LinkType::RAW_IP, &packets).names()
}

#[test]
fn dns_over_tcp_many_in_a_segment_and_one_over_many() {
    let message = dns_query(1, EXAMPLE);
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let stream = framed.repeat(3);
    let dns = |parts: &[&[u8]]| {
        let mut sequence = 1;
        let frames: Vec<Vec<u8>> = parts
            .iter()
            .map(|part| {
                let packet = v4(6, &tcp(40_000, 53, 0x18, sequence, part));
                sequence += part.len() as u32;
                packet
            })
            .collect();
        Seen::of(LinkType::RAW_IP, &frames).records.len()
    };
    assert_eq!(dns(&[&stream]), 3);
    assert_eq!(dns(&stream.chunks(1).collect::<Vec<_>>()), 3);
    assert_eq!(dns(&stream.chunks(41).collect::<Vec<_>>()), 3);
    assert_eq!(dns(&[&stream[..stream.len() - 1]]), 2);
    assert_eq!(dns(&[b"\0\x05hello"]), 0);
    // From the middle of a message on, up to a segment that starts one.
    assert_eq!(dns(&[b"some part of a zone", &stream]), 3);
}

#[test]
fn memory_for_streams_is_bounded() {
    let mut decoder = Decoder::new();
    let mut seen = Seen::default();
    // Each promises a message of 64 KiB and sends a part of it.
    let data = [&[0xff, 0xff][..], &[0; 1400]].concat();
    for at in 0..40_000u32 {
        let client = std::net::Ipv4Addr::from(0x0a00_0000 + at);
        let packet = ipv4(client, SERVER, 6, &tcp(40_000, 53, 0x18, 1, &data));
        seen.add(&mut decoder, LinkType::RAW_IP, &packet);
    }
    let held = decoder.streams.held_bytes();
    assert!(
        held <= crate::limits::STREAM_BYTES_MAX + (64 << 10),
        "{held}"
    );
    assert!(decoder.losses().streams.forgotten > 0);
}

#[test]
fn any_byte_changed_or_cut_is_survived() {
    let hello = tls_record(&client_hello("a.example"));
    let frame = ethernet(0x0800, &v4(17, &query()));
    let vxlan = udp(
        50_000,
        4789,
        &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &frame].concat(),
    );
    let mut whole = vec![
        v4(17, &query()),
        v4(17, &vxlan),
        v4(6, &tcp(40_000, 443, 0x18, 1, &hello)),
        ipv6(0, &[&[17, 0, 0, 0, 0, 0, 0, 0][..], &query()].concat()),
    ];
    whole.extend(pieces_v4(&query()));
    whole.extend(pieces_v6(&query()));
    let mut decoder = Decoder::new();
    let mut seen = Seen::default();
    for packet in &whole {
        for at in 0..packet.len() {
            for value in [0, 1, 0x7f, 0xc0, 0xff, packet[at] ^ 0x10] {
                let mut changed = packet.clone();
                changed[at] = value;
                seen.add(&mut decoder, LinkType::RAW_IP, &changed);
            }
            seen.add(&mut decoder, LinkType::RAW_IP, &packet[..at]);
        }
    }
    let told = seen
        .packets
        .iter()
        .filter(|packet| packet.3.is_none())
        .count()
        + seen
            .not_flow
            .iter()
            .filter(|(_, tunnel)| tunnel.is_none())
            .count()
        + seen
            .lost
            .iter()
            .filter(|(_, tunnel)| tunnel.is_none())
            .count();
    let fed: usize = whole.iter().map(|packet| packet.len() * 7).sum();
    assert_eq!(told, fed, "each frame is told exactly once");
}

/// Frames of a client at port 40,000 and, with `true`, its server at port 53.
fn dns_stream(parts: &[(bool, u32, u32, &[u8])]) -> (Vec<String>, StreamLosses) {
    let mut decoder = Decoder::new();
    let mut seen = Seen::default();
    for (server, sequence, acknowledges, data) in parts {
        let ports = if *server { (53, 40_000) } else { (40_000, 53) };
        let mut segment = tcp(ports.0, ports.1, 0x18, *sequence, data);
        segment[8..12].copy_from_slice(&acknowledges.to_be_bytes());
        let (src, dst) = if *server {
            (SERVER, CLIENT)
        } else {
            (CLIENT, SERVER)
        };
        seen.add(&mut decoder, LinkType::RAW_IP, &ipv4(src, dst, 6, &segment));
    }
    (seen.names(), decoder.losses().streams)
}

#[test]
fn a_stream_goes_on_behind_a_segment_that_never_came() {
    let framed = |name: &[u8]| {
        let message = dns_query(1, name);
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let (a, b, c) = (framed(b"\x01a\0"), framed(b"\x01b\0"), framed(b"\x01c\0"));
    let length = a.len() as u32;
    let [first, second, third] = [1, 1 + length, 1 + 2 * length];
    let whole = [
        (false, first, 0, &a[..]),
        (false, second, 0, &b),
        (false, third, 0, &c),
    ];
    assert_eq!(dns_stream(&whole).0, ["a", "b", "c"]);
    // The receiver has the second one, and so has no need to get it again.
    let missed = [whole[0], whole[2], (true, 900, third, &b"\0\x0c"[..])];
    let (names, losses) = dns_stream(&missed);
    assert_eq!(names, ["a", "c"]);
    assert_eq!((losses.gaps, losses.cut, losses.found_again), (1, 0, 1));
    // An acknowledgement alone does it too; one of less does not.
    assert_eq!(
        dns_stream(&[whole[0], whole[2], (true, 900, third, b"")]).0,
        ["a", "c"]
    );
    assert_eq!(
        dns_stream(&[whole[0], whole[2], (true, 900, second, b"")]).0,
        ["a"]
    );
    // It came late: nothing is lost.
    let late = [whole[0], whole[2], (true, 900, second, b""), whole[1]];
    assert_eq!(dns_stream(&late).0, ["a", "b", "c"]);
    // What goes on in the middle of a message is none.
    let middle = [
        whole[0],
        (false, third, 0, &c[9..]),
        (true, 900, third, &b"\0\x0c"[..]),
    ];
    assert_eq!(dns_stream(&middle).0, ["a"]);
}

#[test]
fn a_hello_that_the_capture_cut_tells_what_is_there() {
    let hello = tls_record(&client_hello("a.example"));
    let packet = v4(6, &tcp(40_000, 443, 0x18, 1, &hello));
    let names = |bytes: usize| {
        let seen = Seen::of(LinkType::RAW_IP, &[packet[..packet.len() - bytes].to_vec()]);
        seen.names()
    };
    assert_eq!(names(0), ["a.example"]);
    assert_eq!(names(1), ["a.example"]);
    let behind_name = hello.len() - 85;
    assert_eq!(
        names(behind_name + 85 - 60),
        [""],
        "a hello whose name is cut"
    );
    assert_eq!(
        names(hello.len() - 8),
        [""; 0],
        "too little to know a hello by"
    );
}
