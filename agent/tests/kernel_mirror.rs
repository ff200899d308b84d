//! The program that looks into the tunnels of mirrored traffic: on frames that we make, and on a
//! wire. Needs root; skips with the reason where it cannot run.

#[path = "../../ebpf/programs/src/golden.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod golden;
#[allow(dead_code, reason = "shared with other tests")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod link;
#[path = "kernel/run.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod run;

use std::net::{IpAddr, Ipv6Addr};

use picket_agent::capture::ebpf::{EbpfCapture, Mirror, Options, Rung, Sizes};
use picket_sense::decode::{Tunnel, TunnelKind};
use picket_sense::input::Way;

use golden::{Expected, IPV4, IPV6, ethernet, ipv4, rows, tcp, udp};
use kernel::{Totals, in_namespace, small};
use link::{Peer, gather_until, send_barely_linear};
use run::{run, run_as, v4};

fn open(rung: Option<Rung>, sizes: Sizes, interface: &str, vnis: &[u32]) -> EbpfCapture {
    EbpfCapture::open(Options {
        interfaces: vec![interface.to_owned()],
        default_route: false,
        sizes,
        rung,
        mirror: Some(Mirror {
            vnis: vnis.to_vec(),
        }),
        ..Options::default()
    })
    .expect("open the capture")
}

/// A frame as a mirror session of this VNI sends it.
fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let header = [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), inner].concat();
    let mut frame = ethernet(0x0800, &ipv4(17, &udp((50_000, 4789), &header)));
    frame[26..30].copy_from_slice(&[10, 9, 0, 2]);
    frame[30..34].copy_from_slice(&[10, 9, 0, 1]);
    frame
}

fn geneve(vni: u32, inner: &[u8]) -> Vec<u8> {
    let options = [0x01, 0x02, 0x80, 1, 0, 0, 0, 1];
    let header = [
        &[2, 0, 0x65, 0x58][..],
        &(vni << 8).to_be_bytes(),
        &options,
        inner,
    ]
    .concat();
    ethernet(0x0800, &ipv4(17, &udp((50_000, 6081), &header)))
}

fn gre(key: u32, inner: &[u8]) -> Vec<u8> {
    let header = [
        &[0x30, 0, 0x65, 0x58][..],
        &key.to_be_bytes(),
        &[0, 0, 0, 9],
        inner,
    ]
    .concat();
    ethernet(0x0800, &ipv4(47, &header))
}

fn erspan(session: u8, inner: &[u8]) -> Vec<u8> {
    let own = [0x10, 0, 0, session, 0, 0, 0, 0];
    let header = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 9][..], &own, inner].concat();
    ethernet(0x0800, &ipv4(47, &header))
}

/// Packets and bytes seen inside tunnels are in flows, no flow, or lost.
#[track_caller]
fn assert_inner_equation(totals: &Totals) {
    let mut told = (0, 0);
    for flow in totals.flows.values().filter(|flow| flow.tunnel.is_some()) {
        told.0 += flow.packets_out + flow.packets_in;
        told.1 += flow.bytes_out + flow.bytes_in;
    }
    for reason in ["not_flow", "lost"] {
        let (packets, bytes) = totals.count("inner", reason);
        told = (told.0 + packets, told.1 + bytes);
    }
    assert_eq!(told, totals.count("inner", "seen"), "{:?}", totals.counts);
}

#[test]
fn golden_frames_are_the_same_inside_every_tunnel() {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    let tunnels: [(Wrap, Tunnel); 4] = [
        (
            |inner| vxlan(5_569_041, inner),
            Tunnel::new(TunnelKind::Vxlan, 5_569_041),
        ),
        (
            |inner| geneve(0xff_ffff, inner),
            Tunnel::new(TunnelKind::Geneve, 0xff_ffff),
        ),
        (
            |inner| gre(u32::MAX, inner),
            Tunnel::new(TunnelKind::Gre, u32::MAX),
        ),
        (
            |inner| erspan(77, inner),
            Tunnel::new(TunnelKind::Erspan, 77),
        ),
    ];
    in_namespace(move || {
        let mut capture = open(None, small(), "lo", &[]);
        let info = capture.program("mirror_in").expect("load").info();
        let verified = info.expect("info").verified_instruction_count();
        println!(
            "mirror_in: {} instructions verified",
            verified.expect("told")
        );
        for (wrap, tunnel) in tunnels {
            for row in rows() {
                let name = format!("{} inside {tunnel:?}", row.name);
                let mut totals = Totals::default();
                run(&mut capture, "mirror_in", &wrap(&row.frame));
                totals.gather(&mut capture);
                assert_inner_equation(&totals);
                assert_eq!(totals.count("kernel", "seen"), (0, 0), "{name}");
                assert_eq!(totals.count("inner", "seen").0, 1, "{name}");
                match row.expected {
                    Expected::Flow {
                        protocol,
                        ports,
                        is_ipv6,
                        ip_bytes,
                        ..
                    } => {
                        let ends = if is_ipv6 {
                            IPV6.map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
                        } else {
                            IPV4.map(v4)
                        };
                        let flow = totals.flows.values().next().expect(&name);
                        let mut told =
                            [(flow.local.0, flow.local.1), (flow.remote.0, flow.remote.1)];
                        let mut sent = [(ends[0], ports.0), (ends[1], ports.1)];
                        told.sort_unstable();
                        sent.sort_unstable();
                        assert_eq!((told, flow.protocol), (sent, protocol), "{name}");
                        assert_eq!(flow.tunnel, Some(tunnel), "{name}");
                        assert_eq!(flow.packets_out + flow.packets_in, 1, "{name}");
                        // Mirrors cut, so what is stated is believed.
                        let bytes = match row.name {
                            "total length beyond the frame" => 900,
                            "cut within the tcp header" => 40,
                            _ => u64::from(ip_bytes),
                        };
                        assert_eq!(flow.bytes_out + flow.bytes_in, bytes, "{name}");
                    }
                    Expected::NotFlow(reason, _) => {
                        assert!(totals.flows.is_empty(), "{name}");
                        let class = if reason.starts_with("lost_") {
                            "lost"
                        } else {
                            "not_flow"
                        };
                        assert_eq!(totals.count("inner", class).0, 1, "{name} {reason}");
                    }
                }
            }
        }
    });
}

#[test]
fn both_directions_of_a_mirrored_flow_meet_in_one() {
    in_namespace(|| {
        let mut capture = open(None, small(), "lo", &[]);
        let segment = |flags| ethernet(0x0800, &ipv4(6, &tcp((51_000, 443), flags, &[])));
        let mut answer = ethernet(0x0800, &ipv4(6, &tcp((443, 51_000), 0x12, &[])));
        let (from, to) = (IPV4[1], IPV4[0]);
        answer[26..30].copy_from_slice(&from);
        answer[30..34].copy_from_slice(&to);
        run(&mut capture, "mirror_in", &vxlan(7, &segment(0x02)));
        run(&mut capture, "mirror_in", &vxlan(7, &answer));
        // As two segments of a large send, and in another session.
        run_as(
            &mut capture,
            "mirror_in",
            &vxlan(7, &segment(0x10)),
            Some((2, 100)),
        );
        run(&mut capture, "mirror_in", &vxlan(8, &segment(0x02)));
        let mut told = Vec::new();
        while capture
            .poll(std::time::Duration::ZERO, &mut |_| {})
            .expect("poll")
            > 0
        {}
        capture.scan(&mut |delta| told.push(delta));
        told.sort_by_key(|flow| flow.tunnel);
        assert_eq!(told.len(), 2, "{told:?}");
        let flow = told[0];
        assert_eq!(flow.tunnel, Some(Tunnel::new(TunnelKind::Vxlan, 7)));
        // 10.0.0.1 is less than 192.0.2.7, so what it sends goes out.
        assert_eq!(
            (flow.local, flow.remote),
            ((v4(to), 51_000), (v4(from), 443))
        );
        assert_eq!((flow.packets_out, flow.packets_in), (3, 1));
        assert_eq!((flow.bytes_out, flow.bytes_in), (120, 40));
        assert_eq!((flow.opener, flow.flags_in), (Some(Way::Out), 0x12));
    });
}

#[test]
fn only_listed_sessions_are_looked_into() {
    in_namespace(|| {
        let mut capture = open(None, small(), "lo", &[7, 9]);
        let inner = ethernet(0x0800, &ipv4(17, &udp((1, 2), &[])));
        for vni in [7, 8, 9] {
            run(&mut capture, "mirror_in", &vxlan(vni, &inner));
        }
        run(&mut capture, "mirror_in", &geneve(7, &inner));
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        assert_eq!(totals.count("inner", "seen").0, 2);
        assert_inner_equation_by_packets(&totals, 2);
    });
}

#[track_caller]
fn assert_inner_equation_by_packets(totals: &Totals, packets: u64) {
    let flows = totals.flows.values().filter(|flow| flow.tunnel.is_some());
    let told: u64 = flows.map(|flow| flow.packets_out + flow.packets_in).sum();
    assert_eq!(told, packets);
}

#[test]
fn a_full_ring_is_counted_inside_tunnels_too() {
    in_namespace(|| {
        let sizes = Sizes {
            slots_per_cpu: 2,
            evicted_ring_bytes: 4096,
            ..small()
        };
        let mut capture = open(None, sizes, "lo", &[]);
        for port in 1..200 {
            let inner = ethernet(0x0800, &ipv4(17, &udp((port, 2), &[])));
            run(&mut capture, "mirror_in", &vxlan(7, &inner));
        }
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        assert!(totals.count("inner", "lost").0 > 0, "{:?}", totals.counts);
        assert_eq!(totals.count("inner", "seen").0, 199);
        assert_eq!(totals.count("kernel", "lost_ring_full").0, 0);
        assert_inner_equation(&totals);
    });
}

/// A question for `evil.example`.
fn question() -> Vec<u8> {
    let mut out = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4];
    out.extend(b"evil\x07example\0\0\x01\0\x01");
    out
}

#[test]
fn a_mirror_session_on_the_wire_is_counted_matched_and_copied() {
    for rung in [Rung::Tcx, Rung::Clsact] {
        in_namespace(move || {
            let peer = Peer::connect("pk-a", "pk-b");
            let mut capture = open(Some(rung), small(), "pk-a", &[]);
            let listed = v4(IPV4[1]);
            capture
                .load_set([(listed, 32)].into_iter(), 9)
                .expect("load");
            let packets: Vec<Vec<u8>> = (0..20)
                .map(|n| ipv4(6, &tcp((40_000, 443), if n == 0 { 2 } else { 0x10 }, &[])))
                .chain([ipv4(17, &udp((5353, 53), &question()))])
                .collect();
            let bytes: usize = packets.iter().map(Vec::len).sum();
            let frames: Vec<_> = packets
                .iter()
                .map(|packet| vxlan(5_569_041, &ethernet(0x0800, packet)))
                .collect();
            peer.run(move || {
                for frame in &frames {
                    send_barely_linear("pk-b", frame);
                }
            });
            let mut totals = Totals::default();
            gather_until(&mut totals, &mut capture, |totals| {
                totals.count("inner", "seen").0 >= 21 && totals.count("ring", "copy_sent").0 > 0
            });
            totals.gather(&mut capture);
            assert_eq!(
                totals.count("inner", "seen"),
                (21, bytes as u64),
                "{rung:?}"
            );
            assert_inner_equation(&totals);
            let tunnel = Some(Tunnel::new(TunnelKind::Vxlan, 5_569_041));
            let hit = totals.hits.first().expect("a hit");
            assert_eq!(
                (hit.tunnel, hit.set_version, hit.way),
                (tunnel, 9, Way::Out)
            );
            assert_eq!((hit.remote, hit.local.1), ((listed, 443), 40_000));
            assert_eq!(totals.copies.len(), 1);
            assert_eq!(totals.copies[0].data, packets[20]);
            // The wire's own equation knows the outer packets and nothing else.
            totals.flows.retain(|_, flow| flow.tunnel.is_none());
            totals.assert_equation();
            let outer: u64 = totals
                .flows
                .values()
                .filter(|flow| flow.local.1 == 4789)
                .map(|flow| flow.packets_in)
                .sum();
            assert_eq!(outer, 21);
        });
    }
}
