//! The kernel programs, run in the kernel on frames that we make (`BPF_PROG_TEST_RUN`). Needs root; skips
//! with the reason where it cannot run.

#[path = "../../ebpf/programs/src/golden.rs"]
mod golden;
mod kernel;
#[path = "kernel/run.rs"]
mod run;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use picket_agent::capture::ebpf::Sizes;
use picket_sense::input::Way;

use golden::{Expected, Golden, IPV4, IPV6, ethernet, ipv4, rows, tcp, udp};
use kernel::{Totals, in_namespace, open, small};
use run::{frame_to, run, run_as, v4};

const WAYS: [Way; 2] = [Way::Out, Way::In];

/// The name of the program for frames with an Ethernet header.
fn program(way: Way) -> &'static str {
    match way {
        Way::Out => "ether_out",
        Way::In => "ether_in",
    }
}

fn check_golden(row: &Golden, frame: &[u8], program: &str, way: Way, totals: &Totals) {
    let name = format!("{} by {program}", row.name);
    match row.expected {
        Expected::Flow {
            protocol,
            ports,
            ip_bytes,
            opens,
            is_ipv6,
            ..
        } => {
            let ends = if is_ipv6 {
                IPV6.map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
            } else {
                IPV4.map(v4)
            };
            let (from, to) = ((ends[0], ports.0), (ends[1], ports.1));
            let key = match way {
                Way::Out => (from, to, protocol),
                Way::In => (to, from, protocol),
            };
            assert!(totals.flows.contains_key(&key), "{name}: {totals:?}");
            let flow = &totals.flows[&key];
            let (packets, bytes, other) = match way {
                Way::Out => (flow.packets_out, flow.bytes_out, flow.packets_in),
                Way::In => (flow.packets_in, flow.bytes_in, flow.packets_out),
            };
            assert_eq!(
                (packets, bytes, other),
                (1, u64::from(ip_bytes), 0),
                "{name}"
            );
            assert_eq!(flow.ifindex, 1, "{name}: {} bytes", frame.len());
            // The flow may have been opened by an earlier row with the same ends.
            assert!(
                !opens || flow.opener.is_none_or(|opener| opener == way),
                "{name}"
            );
        }
        Expected::NotFlow(reason, bytes) => {
            assert_eq!(
                totals.count("kernel", reason),
                (1, u64::from(bytes)),
                "{name}"
            );
            assert!(totals.flows.is_empty(), "{name}");
        }
    }
    totals.assert_equation();
}

#[test]
fn golden_frames_are_counted_as_what_they_are() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        for way in WAYS {
            for row in rows() {
                let mut totals = Totals::default();
                // The kernel takes no IP frame here that is shorter than its IP header.
                if row.name == "cut within the ip header" {
                    continue;
                }
                run(&mut capture, program(way), &row.frame);
                totals.gather(&mut capture);
                check_golden(&row, &row.frame, program(way), way, &totals);
            }
        }
    });
}

#[test]
fn frames_without_a_link_header_are_counted_alike() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        for (way, program) in [(Way::Out, "ip_out"), (Way::In, "ip_in")] {
            for row in rows() {
                let is_ip = matches!(row.frame[12..14], [0x08, 0x00] | [0x86, 0xdd]);
                if !is_ip || row.name.contains("another version") {
                    continue;
                }
                let mut totals = Totals::default();
                run(&mut capture, program, &row.frame[14..]);
                totals.gather(&mut capture);
                check_golden(&row, &row.frame[14..], program, way, &totals);
            }
        }
    });
}

#[test]
fn who_opened_a_flow_and_its_flags_are_told_once() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let segment = |flags| ethernet(0x0800, &ipv4(6, &tcp((51_000, 443), flags, &[])));
        run(&mut capture, "ether_out", &segment(0x02));
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        let opened = totals.flows.values().next().copied().expect("a flow");
        assert_eq!((opened.opener, opened.flags_out), (Some(Way::Out), 0x02));
        run(&mut capture, "ether_out", &segment(0x18));
        run(&mut capture, "ether_out", &segment(0x02));
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        let went_on = totals.flows.values().next().copied().expect("a flow");
        assert_eq!(
            (went_on.opener, went_on.flags_out, went_on.packets_out),
            (None, 0x18, 2)
        );
        assert!(went_on.first_ns >= opened.last_ns && went_on.last_ns >= went_on.first_ns);
    });
}

#[test]
fn segments_count_as_the_packets_they_become() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        // Four segments of 500 bytes, the last of 400.
        let payload = vec![0; 1900];
        let frame = ethernet(0x0800, &ipv4(6, &tcp((51_000, 443), 0x18, &payload)));
        for gso in [Some((4, 500)), Some((0, 500))] {
            let mut totals = Totals::default();
            run_as(&mut capture, "ether_out", &frame, gso);
            totals.gather(&mut capture);
            // With the count left to be computed, it is computed of what the frame has.
            let packets = if gso == Some((4, 500)) {
                4
            } else {
                (frame.len() / 500) as u64
            };
            let bytes = (frame.len() - 14) as u64 + (packets - 1) * 40;
            assert_eq!(totals.in_flows(), (packets, bytes), "{gso:?}");
            totals.assert_equation();
        }
    });
}

#[test]
fn many_flows_in_few_slots_lose_nothing() {
    in_namespace(|| {
        let sizes = Sizes {
            slots_per_cpu: 2,
            ..small()
        };
        let mut capture = open(&["lo"], sizes);
        let mut totals = Totals::default();
        let mut expected = std::collections::BTreeMap::new();
        let mut state = 7u64;
        for step in 0..20_000u32 {
            // A full-period generator of 64 bits (Knuth's MMIX constants), its upper half.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let port = 1000 + (state >> 33) as u16 % 7;
            run(
                &mut capture,
                "ether_out",
                &frame_to(0xc000_0207, 17, &udp((port, 9), &[0; 5])),
            );
            *expected.entry(port).or_insert(0u64) += 1;
            // At odd moments, so that scans fall between evictions and their records.
            if step % 13 == 0 {
                capture.scan(&mut |delta| totals.add(&delta));
            }
            if step % 101 == 0 {
                totals.poll(&mut capture, Duration::ZERO);
            }
        }
        totals.gather(&mut capture);
        let told: std::collections::BTreeMap<u16, u64> = totals
            .flows
            .iter()
            .map(|(key, flow)| (key.0.1, flow.packets_out))
            .collect();
        assert_eq!(told, expected);
        assert!(
            totals.count("ring", "evicted_sent").0 > 1000,
            "{:?}",
            totals.counts
        );
        assert_eq!(totals.count("kernel", "lost_ring_full"), (0, 0));
        totals.assert_equation();
    });
}

#[test]
fn a_full_ring_is_counted_and_hides_no_hit() {
    in_namespace(|| {
        let sizes = Sizes {
            slots_per_cpu: 2,
            evicted_ring_bytes: 4096,
            ..small()
        };
        let mut capture = open(&["lo"], sizes);
        let listed = Ipv4Addr::from_bits(0xcb00_7163);
        capture
            .load_set([(IpAddr::V4(listed), 32)].into_iter(), 5)
            .expect("load");
        let mut totals = Totals::default();
        for port in 1000..1200u16 {
            run(
                &mut capture,
                "ether_out",
                &frame_to(0xc000_0207, 17, &udp((port, 9), &[0; 5])),
            );
        }
        run(
            &mut capture,
            "ether_out",
            &frame_to(listed.to_bits(), 17, &udp((7, 9), &[0; 5])),
        );
        // And nothing stays of it, nor of a payload that found no slot.
        for _ in 0..5 {
            run(
                &mut capture,
                "ether_out",
                &frame_to(0xc000_0207, 6, &tcp((8, 9), 0x10, b"hello")),
            );
        }
        totals.gather(&mut capture);
        // A record takes 136 bytes and 8 of the ring's own.
        let room = 4096 / (136 + 8);
        assert_eq!(totals.count("ring", "evicted_sent").0, room);
        assert_eq!(
            totals.count("kernel", "lost_ring_full"),
            (206 - 2 - room, (201 - 2 - room) * 33 + 5 * 45)
        );
        assert_eq!(totals.copies.len(), 0, "{:?}", totals.copies);
        assert_eq!(
            totals.hits.len(),
            1,
            "a packet that found no slot is matched all the same"
        );
        totals.assert_equation();
        // Once the ring is read, flows are counted again.
        run(
            &mut capture,
            "ether_out",
            &frame_to(0xc000_0207, 17, &udp((1500, 9), &[0; 5])),
        );
        totals.gather(&mut capture);
        assert!(totals.flows.keys().any(|key| key.0.1 == 1500));
        totals.assert_equation();
    });
}

#[test]
fn dns_is_copied_both_ways_and_the_rest_of_udp_is_not() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let question = ethernet(0x0800, &ipv4(17, &udp((51_000, 53), &[7; 40])));
        let answer = ethernet(0x86dd, &golden::ipv6(17, &udp((53, 51_000), &[8; 500])));
        let long = ethernet(0x0800, &ipv4(17, &udp((51_000, 53), &[9; 3000])));
        let empty = ethernet(0x0800, &ipv4(17, &udp((51_000, 53), &[])));
        let other = ethernet(0x0800, &ipv4(17, &udp((51_000, 5353), &[9; 40])));
        for frame in [&question, &long, &empty, &other] {
            run(&mut capture, "ether_out", frame);
        }
        run(&mut capture, "ether_in", &answer);
        totals.gather(&mut capture);
        let expected = [
            (&question, Way::Out, 68),
            (&long, Way::Out, 2048),
            (&answer, Way::In, 548),
        ];
        assert_eq!(totals.copies.len(), expected.len());
        for (copy, (frame, way, bytes)) in totals.copies.iter().zip(expected) {
            assert_eq!(copy.data, frame[14..14 + bytes]);
            assert_eq!(
                (copy.wire_bytes as usize, copy.way),
                (frame.len() - 14, way)
            );
        }
        assert_eq!(totals.count("ring", "copy_sent").0, 3);
        totals.assert_equation();
    });
}

#[test]
fn the_first_four_payloads_of_each_direction_are_copied() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let segment = |ports, fill: u8, bytes: usize| {
            ethernet(0x0800, &ipv4(6, &tcp(ports, 0x18, &vec![fill; bytes])))
        };
        for fill in 1..=10 {
            run(&mut capture, "ether_out", &segment((51_000, 443), fill, 0));
            run(
                &mut capture,
                "ether_out",
                &segment((51_000, 443), fill, 100),
            );
            run(
                &mut capture,
                "ether_in",
                &segment((51_000, 443), 100 + fill, 200),
            );
            run(
                &mut capture,
                "ether_out",
                &segment((51_000, 53), 200 + fill, 50),
            );
        }
        totals.gather(&mut capture);
        let mut fills: Vec<u8> = totals.copies.iter().map(|copy| copy.data[40]).collect();
        fills.sort_unstable();
        // Of DNS over TCP, all of them.
        let expected: Vec<u8> = (1..=4).chain(101..=104).chain(201..=210).collect();
        assert_eq!(fills, expected);
    });
}

#[test]
fn a_full_copy_ring_is_counted_and_costs_no_packet() {
    in_namespace(|| {
        let mut capture = open(
            &["lo"],
            Sizes {
                copy_ring_bytes: 4096,
                ..small()
            },
        );
        let mut totals = Totals::default();
        let question = ethernet(0x0800, &ipv4(17, &udp((51_000, 53), &[7; 1000])));
        for _ in 0..10 {
            run(&mut capture, "ether_out", &question);
        }
        totals.gather(&mut capture);
        assert_eq!(totals.copies.len(), 3);
        assert_eq!(totals.count("ring", "copy_failed_full").0, 7);
        assert_eq!(totals.in_flows().0, 10);
        totals.assert_equation();
    });
}
