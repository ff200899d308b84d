//! Address match by the kernel programs, run in the kernel on frames that we make
//! (`BPF_PROG_TEST_RUN`). Needs root; skips with the reason where it cannot run.

#[path = "../../ebpf/programs/src/golden.rs"]
#[expect(
    dead_code,
    reason = "shared with the host tests of the kernel programs"
)]
mod golden;
mod kernel;
#[path = "kernel/run.rs"]
mod run;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use picket_agent::capture::ebpf::{CaptureError, SetError, Sizes};
use picket_agent::capture::live::Event;
use picket_intel::{Category, Indicator, List, SetBuilder};
use picket_sense::input::Way;
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::Host;

use golden::{ethernet, tcp, udp};
use kernel::{Totals, in_namespace, open, small};
use run::{frame_to, run, v4};

#[test]
fn a_listed_address_is_told_once_in_each_version() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let frame = frame_to(0xcb00_7163, 6, &tcp((51_000, 443), 0x02, &[]));
        let one = |text: &str, prefix| (text.parse::<IpAddr>().expect("an address"), prefix);

        run(&mut capture, "ether_out", &frame);
        totals.gather(&mut capture);
        assert!(totals.hits.is_empty(), "nothing is loaded");

        // The flow is known already: loading matches it again.
        capture
            .load_set([one("203.0.113.99", 32)].into_iter(), 41)
            .expect("load");
        for _ in 0..3 {
            run(&mut capture, "ether_out", &frame);
        }
        totals.gather(&mut capture);
        assert_eq!(totals.hits.len(), 1, "{:?}", totals.hits);
        let hit = totals.hits[0];
        assert_eq!(hit.remote, (v4([203, 0, 113, 99]), 443));
        assert_eq!(hit.local, (v4([10, 0, 0, 1]), 51_000));
        assert_eq!(
            (hit.protocol, hit.way, hit.set_version, hit.ifindex),
            (6, Way::Out, 41, 1)
        );

        for (version, network, prefix, found) in [
            (42, "203.0.113.98", 32, false),
            (43, "203.0.113.96", 29, true),
            (44, "203.0.0.0", 16, true),
            (45, "10.0.0.1", 32, true),
            (46, "::ffff:203.0.113.0", 120, true),
            (47, "2001:db8::", 32, false),
        ] {
            totals.hits.clear();
            capture
                .load_set([one(network, prefix)].into_iter(), version)
                .expect("load");
            run(&mut capture, "ether_out", &frame);
            run(&mut capture, "ether_out", &frame);
            totals.gather(&mut capture);
            let versions: Vec<u64> = totals.hits.iter().map(|hit| hit.set_version).collect();
            assert_eq!(
                versions,
                if found { vec![version] } else { vec![] },
                "{network}/{prefix}"
            );
        }

        // The same for an IPv6 flow that comes in.
        totals.hits.clear();
        let inward = ethernet(0x86dd, &golden::ipv6(17, &udp((7, 9), &[])));
        for (version, network, prefix, found) in [
            (48, "2001:db8::1", 128, true),
            (49, "2001:db8:1::", 48, false),
            (50, "2001:db8::", 126, true),
        ] {
            totals.hits.clear();
            capture
                .load_set([one(network, prefix)].into_iter(), version)
                .expect("load");
            run(&mut capture, "ether_in", &inward);
            totals.gather(&mut capture);
            assert_eq!(totals.hits.len(), usize::from(found), "{network}/{prefix}");
        }
    });
}

#[test]
fn ten_thousand_addresses_are_found_and_their_neighbours_are_not() {
    in_namespace(|| {
        let mut capture = open(
            &["lo"],
            Sizes {
                slots_per_cpu: 4,
                ..small()
            },
        );
        // Odd addresses of 40 networks: each has an unlisted neighbour in the same /24.
        let listed = |n: u32| 0x5000_0001 + (n / 128) * 0x0001_0100 + (n % 128) * 2;
        let size = capture
            .load_set(
                (0..10_000).map(|n| (IpAddr::V4(Ipv4Addr::from_bits(listed(n))), 32)),
                1,
            )
            .expect("load");
        assert_eq!((size.addresses, size.widened), (10_000, 0));
        let mut totals = Totals::default();
        for n in 0..10_000 {
            for address in [listed(n), listed(n) + 1] {
                run(
                    &mut capture,
                    "ether_out",
                    &frame_to(address, 17, &udp((1, 2), &[])),
                );
            }
            if n % 500 == 0 {
                totals.gather(&mut capture);
            }
        }
        totals.gather(&mut capture);
        let mut found: Vec<u32> = totals
            .hits
            .iter()
            .map(|hit| match hit.remote.0 {
                IpAddr::V4(address) => address.to_bits(),
                IpAddr::V6(_) => 0,
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        let mut expected: Vec<u32> = (0..10_000).map(listed).collect();
        expected.sort_unstable();
        assert_eq!(found.len(), expected.len());
        assert_eq!(found, expected);
    });
}

#[test]
fn an_endpoint_is_told_once_per_flow_to_its_port_and_to_no_other() {
    in_namespace(|| {
        let mut builder = SetBuilder::default();
        let list = List::new("mining-ips", Category::Mining);
        let list = builder.list(list).expect("a list");
        for endpoint in ["203.0.113.99:3333", "[2001:db8::2]:3333"] {
            let endpoint = Indicator::address(endpoint).expect("an endpoint");
            builder.add(list, endpoint).expect("room");
        }
        let set = Arc::new(builder.build());
        let mut capture = open(&["lo"], small());
        capture
            .load_set(set.address_nets(), set.version())
            .expect("load");
        let mut sensor = Sensor::new(SensorConfig::new(Host::default(), Clock::Caller), set);
        let v6 = |ports| ethernet(0x86dd, &golden::ipv6(6, &tcp(ports, 0x02, &[])));
        for (ports, expected) in [
            ((51_000, 3333), 1),
            ((51_000, 3333), 0),
            ((51_001, 3333), 1),
            ((51_000, 3334), 0),
            ((3333, 80), 0),
        ] {
            for frame in [frame_to(0xcb00_7163, 6, &tcp(ports, 0x02, &[])), v6(ports)] {
                run(&mut capture, "ether_out", &frame);
                run(&mut capture, "ether_out", &frame);
            }
            let mut told = Vec::new();
            capture
                .poll(std::time::Duration::ZERO, &mut |event| {
                    if let Event::Hit(hit) = event {
                        sensor.on_kernel_hit(&hit);
                    }
                })
                .expect("poll");
            while let Some(summary) = sensor.poll_output() {
                told.extend(
                    summary
                        .hits
                        .into_iter()
                        .map(|hit| (hit.indicator, hit.src_port)),
                );
            }
            told.sort();
            let of = |endpoint: &str| (endpoint.to_owned(), ports.0);
            let both = vec![of("203.0.113.99:3333"), of("[2001:db8::2]:3333")];
            let expected = if expected == 1 { both } else { Vec::new() };
            assert_eq!(told, expected, "{ports:?}");
        }
    });
}

#[test]
fn a_set_that_does_not_fit_leaves_the_old_one_in_force() {
    in_namespace(|| {
        let mut capture = open(
            &["lo"],
            Sizes {
                addresses_max: 10,
                ..small()
            },
        );
        let many =
            |count: u32| (0..count).map(|n| (IpAddr::V4(Ipv4Addr::from_bits(0x0900_0001 + n)), 32));
        capture.load_set(many(10), 1).expect("load");
        let error = capture.load_set(many(11), 2).expect_err("too many");
        assert!(matches!(
            error,
            CaptureError::Set(SetError::TooManyAddresses { max: 10 })
        ));
        run(
            &mut capture,
            "ether_out",
            &frame_to(0x0900_0001, 17, &udp((1, 2), &[])),
        );
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        assert_eq!(
            totals
                .hits
                .iter()
                .map(|hit| hit.set_version)
                .collect::<Vec<_>>(),
            [1]
        );
    });
}

#[test]
fn ten_thousand_addresses_of_ipv6_are_found_and_their_neighbours_are_not() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let listed = |n: u32| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 17);
        let size = capture
            .load_set((0..10_000).map(|n| (IpAddr::V6(listed(n)), 128)), 1)
            .expect("load");
        assert_eq!((size.ipv6_addresses, size.ipv6_networks), (10_000, 0));
        let mut totals = Totals::default();
        let plain = ethernet(0x86dd, &golden::ipv6(17, &udp((7, 9), &[])));
        for n in 0..10_000 {
            for address in [listed(n).to_bits(), listed(n).to_bits() + 1] {
                let mut frame = plain.clone();
                frame[38..54].copy_from_slice(&address.to_be_bytes());
                run(&mut capture, "ether_out", &frame);
            }
            if n % 500 == 0 {
                totals.gather(&mut capture);
            }
        }
        totals.gather(&mut capture);
        let told: Vec<IpAddr> = totals.hits.iter().map(|hit| hit.remote.0).collect();
        let expected: Vec<IpAddr> = (0..10_000).map(|n| IpAddr::V6(listed(n))).collect();
        assert_eq!(told, expected);
    });
}

#[test]
fn a_hit_that_finds_its_ring_full_is_told_with_a_later_packet() {
    in_namespace(|| {
        let mut capture = open(
            &["lo"],
            Sizes {
                hit_ring_bytes: 4096,
                ..small()
            },
        );
        capture
            .load_set([(v4([203, 0, 113, 0]), 24)].into_iter(), 1)
            .expect("load");
        let mut totals = Totals::default();
        let pass = |capture: &mut _| {
            for port in 0..90u16 {
                run(
                    capture,
                    "ether_out",
                    &frame_to(0xcb00_7163, 17, &udp((1000 + port, 9), &[])),
                );
            }
        };
        pass(&mut capture);
        totals.gather(&mut capture);
        // A hit takes 80 bytes and 8 of the ring's own.
        let room = 4096 / (80 + 8);
        assert_eq!(totals.count("ring", "hit_sent").0, room);
        assert_eq!(totals.count("ring", "hit_failed_full").0, 90 - room);
        pass(&mut capture);
        totals.gather(&mut capture);
        let mut ports: Vec<u16> = totals.hits.iter().map(|hit| hit.local.1).collect();
        ports.sort_unstable();
        assert_eq!(ports, (1000..1090).collect::<Vec<u16>>());
        totals.assert_equation();
    });
}
