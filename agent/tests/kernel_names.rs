//! Name match by the kernel's names stage: by `BPF_PROG_TEST_RUN` on frames that we make, and by
//! real questions over a pair of interfaces. Needs root; skips with the reason where it cannot run.

#[path = "kernel/dns.rs"]
mod dns;
#[path = "../../ebpf/programs/src/golden.rs"]
#[expect(
    dead_code,
    reason = "shared with the host tests of the kernel programs"
)]
mod golden;
mod kernel;
#[path = "kernel/link.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod link;
#[path = "kernel/odd.rs"]
mod odd;
#[path = "kernel/run.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod run;

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picket_agent::capture::ebpf::{EbpfCapture, Options, Sizes, Stage, Stages};
use picket_agent::capture::live::Event;
use picket_intel::{Category, Indicator, IndicatorSet, List, SetBuilder};
use picket_sense::input::{Recognised, Way};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Hit, HitKind, Host};

use dns::{message, over_tcp, query, wire};
use golden::{ethernet, ipv4, ipv6, tcp, udp};
use kernel::{Totals, in_namespace, open, open_with, small};
use link::{OURS, Peer, THEIRS, gather_until};
use run::run;

fn load(capture: &mut EbpfCapture, names: &[&str], version: u64) {
    let loaded = capture
        .load_sets(std::iter::empty(), names.iter().copied(), version)
        .expect("load");
    loaded.names.expect("the names fit");
}

fn asks(payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(17, &udp((40_000, 53), payload)))
}

#[test]
fn questions_for_listed_names_are_told_and_others_are_not() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        run(&mut capture, "ether_out", &asks(&query("evil.example")));
        totals.gather(&mut capture);
        assert!(totals.notices.is_empty(), "nothing is loaded");

        load(&mut capture, &["evil.example", "pool.mine.example"], 7);
        let in_tcp = |payload: &[u8]| {
            let segment = tcp((40_000, 53), 0x18, payload);
            ethernet(0x0800, &ipv4(6, &segment))
        };
        let to = |port, payload: &[u8]| ethernet(0x0800, &ipv4(17, &udp((40_000, port), payload)));
        let long = format!("{0}.{0}.{0}.evil.example", "y".repeat(63));
        let many = format!("{}evil.example", "a.".repeat(120));
        let two = [query("good.example"), query("evil.example")].concat();
        for (point, frame, found) in [
            ("the name itself", asks(&query("evil.example")), true),
            (
                "below it, in capitals",
                asks(&query("a.B.EVIL.Example")),
                true,
            ),
            ("three labels", asks(&query("pool.mine.example")), true),
            ("the longest labels", asks(&query(&long)), true),
            ("the most labels", asks(&query(&many)), true),
            ("over TCP", in_tcp(&over_tcp(&query("evil.example"))), true),
            (
                "two messages in a segment, the first listed",
                in_tcp(
                    &[
                        over_tcp(&query("evil.example")),
                        over_tcp(&query("b.example")),
                    ]
                    .concat(),
                ),
                true,
            ),
            (
                "over IPv6",
                ethernet(
                    0x86dd,
                    &ipv6(17, &udp((40_000, 53), &query("evil.example"))),
                ),
                true,
            ),
            (
                "an IPv4 header with options",
                {
                    let segment = udp((40_000, 53), &query("evil.example"));
                    ethernet(0x0800, &golden::ipv4_with(&[1; 12], 0, 17, &segment))
                },
                true,
            ),
            (
                "a name that ends alike",
                asks(&query("notevil.example")),
                false,
            ),
            ("a parent", asks(&query("mine.example")), false),
            (
                "a suffix that goes on",
                asks(&query("evil.example.com")),
                false,
            ),
            ("the root", asks(&query("")), false),
            (
                "an answer",
                asks(&message(0x8180, &wire("evil.example"))),
                false,
            ),
            ("another port", to(5353, &query("evil.example")), false),
            ("a cut name", asks(&query("evil.example")[..20]), false),
            ("a header alone", asks(&query("evil.example")[..12]), false),
            ("less than a header", asks(&[1, 2, 3]), false),
            (
                "a pointer",
                asks(&message(0x0100, b"\x04evil\xc0\x0c")),
                false,
            ),
            ("a second message behind the first", asks(&two), false),
            (
                "a length beyond the segment",
                {
                    let mut long = over_tcp(&query("evil.example"));
                    long[1] += 1;
                    in_tcp(&long)
                },
                false,
            ),
        ] {
            totals.notices.clear();
            totals.copies.clear();
            run(&mut capture, "ether_out", &frame);
            totals.gather(&mut capture);
            assert_eq!(totals.notices.len(), usize::from(found), "{point}");
            for notice in &totals.notices {
                assert_eq!(
                    (notice.set_version, notice.recognised),
                    (7, Recognised::Name)
                );
                assert_eq!((notice.local.1, notice.remote.1), (40_000, 53));
                assert_eq!(notice.way, Way::Out);
                assert!(
                    notice
                        .bytes
                        .to_ascii_lowercase()
                        .ends_with(&wire("example"))
                );
            }
            let copied = usize::from(point != "another port");
            assert_eq!(
                totals.copies.len(),
                copied,
                "{point}: the copy comes all the same"
            );
        }
        let sent = totals.count("ring", "notice_sent").0;
        assert_eq!(sent, 9);
        totals.assert_equation();
    });
}

#[test]
fn odd_questions_are_told_if_and_only_if_they_ask_for_what_is_listed() {
    const QUESTIONS: usize = 20_000;
    in_namespace(|| {
        let mut dice = odd::Dice(0x5eed_0bad_cafe_f00d);
        let names = odd::listed(&mut dice, 300);
        let mut capture = open(&["lo"], small());
        let as_strings: Vec<&str> = names.iter().map(String::as_str).collect();
        load(&mut capture, &as_strings, 1);
        let labels = |name: &String| name.split('.').map(|one| one.as_bytes().to_vec()).collect();
        let listed: HashSet<odd::Labels> = names.iter().map(labels).collect();
        let mut totals = Totals::default();
        let (mut told, mut silent) = (0, 0);
        for _ in 0..QUESTIONS {
            let message = odd::message(&mut dice, &names);
            let (frame, whole) = odd::frame(&mut dice, &message);
            let expected = odd::expected(&message, &listed).filter(|_| whole);
            run(&mut capture, "ether_out", &frame);
            totals.gather(&mut capture);
            let found: Vec<Vec<u8>> = totals.notices.drain(..).map(|one| one.bytes).collect();
            totals.copies.clear();
            assert_eq!(found, Vec::from_iter(expected), "{frame:02x?}");
            if found.is_empty() {
                silent += 1;
            } else {
                told += 1;
            }
        }
        assert!(
            told > QUESTIONS / 10 && silent > QUESTIONS / 10,
            "{told} {silent}"
        );
    });
}

#[test]
fn ten_thousand_names_are_found_and_their_neighbours_are_not() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let names: Vec<String> = (0..10_000).map(|n| format!("h{n}.bad.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        load(&mut capture, &names, 1);
        let mut totals = Totals::default();
        for (n, name) in names.iter().enumerate() {
            run(&mut capture, "ether_out", &asks(&query(name)));
            let unlisted = format!("h{n}.worse.example");
            run(&mut capture, "ether_out", &asks(&query(&unlisted)));
            if n % 200 == 0 {
                totals.gather(&mut capture);
            }
        }
        totals.gather(&mut capture);
        let told: Vec<&[u8]> = totals.notices.iter().map(|one| &one.bytes[..]).collect();
        let expected: Vec<Vec<u8>> = names.iter().map(|name| wire(name)).collect();
        assert_eq!(told, expected);
    });
}

#[test]
fn a_set_of_names_takes_the_place_of_the_one_before() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let (one, other) = (asks(&query("one.example")), asks(&query("other.example")));
        for (version, names) in [
            (1, &["one.example"][..]),
            (2, &["other.example"]),
            (3, &[]),
            (4, &["one.example", "other.example"]),
        ] {
            totals.notices.clear();
            load(&mut capture, names, version);
            run(&mut capture, "ether_out", &one);
            run(&mut capture, "ether_in", &other);
            totals.gather(&mut capture);
            let told: Vec<(Vec<u8>, u64)> = totals
                .notices
                .iter()
                .map(|notice| (notice.bytes.clone(), notice.set_version))
                .collect();
            let expected: Vec<_> = names.iter().map(|name| (wire(name), version)).collect();
            assert_eq!(told, expected);
        }
    });
}

#[test]
fn names_that_do_not_fit_leave_the_addresses_in_the_kernel() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let names: Vec<String> = (0..20_001).map(|n| format!("h{n}.example")).collect();
        let address = ([192, 0, 2, 7].into(), 32);
        let loaded = capture.load_sets([address].into_iter(), names.iter().map(String::as_str), 3);
        let loaded = loaded.expect("the addresses fit");
        assert_eq!(loaded.addresses.addresses, 1);
        assert!(loaded.names.is_err(), "{loaded:?}");
        let mut totals = Totals::default();
        run(&mut capture, "ether_out", &asks(&query("h1.example")));
        totals.gather(&mut capture);
        assert_eq!((totals.hits.len(), totals.notices.len()), (1, 0));
        assert_eq!(totals.copies.len(), 1, "left to the sensor");
    });
}

fn listed(names: &[&str]) -> Arc<IndicatorSet> {
    let mut builder = SetBuilder::default();
    let list = builder
        .list(List::new("c2-domains", Category::C2))
        .expect("a list");
    for name in names {
        let domain = Indicator::domain(name).expect("a domain");
        builder.add(list, domain).expect("room");
    }
    Arc::new(builder.build())
}

/// Has a capture and a sensor look at frames, and returns the hits and the sensor's counters.
fn hits_of(capture: &mut EbpfCapture, set: &Arc<IndicatorSet>, frames: &[Vec<u8>]) -> Vec<Hit> {
    let mut sensor = Sensor::new(
        SensorConfig::new(Host::default(), Clock::Caller),
        Arc::clone(set),
    );
    let loaded = capture.load_sets(set.address_nets(), set.domains(), set.version());
    loaded.expect("load").names.expect("the names fit");
    let mut hits = Vec::new();
    for frame in frames {
        run(capture, "ether_out", frame);
        let mut notices = 0;
        while capture
            .poll(Duration::ZERO, &mut |event| match event {
                Event::Hit(hit) => sensor.on_kernel_hit(&hit),
                Event::Block(block) => sensor.on_kernel_block(&block),
                Event::Notice(notice) => {
                    notices += 1;
                    sensor.on_kernel_notice(&notice);
                }
                Event::Flow(delta) => sensor.on_flow(&delta),
                Event::Frame(_) => unreachable!("the kernel programs count what they copy"),
                Event::Process(_) => {}
                Event::Copy(copy) => {
                    // A window ends between notice and copy: still one hit.
                    if notices > 0 {
                        sensor.on_tick(copy.ts_ns + 11_000_000_000);
                    }
                    sensor.on_copy(&copy);
                }
            })
            .expect("poll")
            > 0
        {}
        while let Some(summary) = sensor.poll_output() {
            hits.extend(summary.hits);
        }
    }
    let counters = sensor.counters();
    let unconfirmed = counters
        .totals()
        .find(|one| one.stage == "name_hit" && one.reason == "unconfirmed");
    assert_eq!(unconfirmed.map_or(0, |one| one.count), 0);
    hits
}

/// Sets change while questions go out, each from a socket of its own: each question and each flow
/// is told, stamped with the version of a set that was in force.
#[test]
fn sets_change_under_traffic_and_nothing_is_missed() {
    const CHANGES: u64 = 8;
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let resolver = peer.run(|| {
            let socket = UdpSocket::bind((THEIRS, 53)).expect("bind");
            std::thread::spawn(move || {
                let mut buffer = [0; 512];
                loop {
                    let (bytes, from) = socket.recv_from(&mut buffer).expect("receive");
                    if bytes == 0 {
                        break;
                    }
                    socket.send_to(&[0], from).expect("answer");
                }
            })
        });
        let sizes = Sizes {
            slots_per_cpu: 1 << 16,
            hit_ring_bytes: 16 << 20,
            notice_ring_bytes: 64 << 20,
            ..small()
        };
        let mut capture = open(&["pk-a"], sizes);
        let change = |capture: &mut EbpfCapture, version: u64| {
            let theirs = (THEIRS.parse().expect("an address"), 32);
            let others = (0..1_000 + version as u32)
                .map(|n| (IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n)), 32));
            let others_names: Vec<String> = (0..version).map(|n| format!("n{n}.test")).collect();
            let names = others_names
                .iter()
                .map(String::as_str)
                .chain(["evil.example"]);
            let loaded = capture.load_sets(others.chain([theirs]), names, version);
            loaded.expect("load").names.expect("the names fit");
        };
        change(&mut capture, 1);
        let over = Arc::new(AtomicBool::new(false));
        let asking = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let mut asked = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let socket = UdpSocket::bind((OURS, 0)).expect("bind");
                    let name = format!("q{}.evil.example", asked.len());
                    socket.send_to(&query(&name), (THEIRS, 53)).expect("ask");
                    socket.recv(&mut [0; 1]).expect("an answer");
                    asked.push((wire(&name), socket.local_addr().expect("ours").port()));
                }
                asked
            }
        });
        let mut totals = Totals::default();
        for version in 2..2 + CHANGES {
            change(&mut capture, version);
            // Others of the set before may still wait in the ring.
            gather_until(&mut totals, &mut capture, |totals| {
                let told = totals.notices.iter().rev();
                told.take_while(|one| one.set_version == version).count() > 20
            });
        }
        over.store(true, Ordering::Relaxed);
        let asked = asking.join().expect("the asker");
        UdpSocket::bind((OURS, 0))
            .and_then(|socket| socket.send_to(&[], (THEIRS, 53)))
            .expect("tell the resolver to end");
        resolver.join().expect("the resolver");
        totals.gather(&mut capture);

        assert_eq!(totals.count("ring", "notice_failed_full").0, 0);
        let told: Vec<&[u8]> = totals.notices.iter().map(|one| &one.bytes[..]).collect();
        let names: Vec<&[u8]> = asked.iter().map(|(name, _)| &name[..]).collect();
        assert!(told == names, "{} told of {}", told.len(), names.len());
        let versions: BTreeSet<u64> = totals.notices.iter().map(|one| one.set_version).collect();
        assert_eq!(versions.first(), Some(&1));
        assert_eq!(versions.last(), Some(&(1 + CHANGES)));
        assert!(totals.notices.is_sorted_by_key(|one| one.set_version));
        let flows: BTreeSet<u16> = totals.hits.iter().map(|hit| hit.local.1).collect();
        let missed = asked.iter().filter(|(_, port)| !flows.contains(port));
        assert_eq!(missed.count(), 0, "of {}", asked.len());
        totals.assert_equation();
    });
}

/// The verifier's work, which has a bound of a million: what a change costs shows here first. The
/// programs at the hooks stand at 65,000 to 77,000 with owners, blocks and tunnels in them, the
/// stages at 20,000 and 6,400 (Linux 6.18).
#[test]
fn the_verifier_goes_through_no_more_than_planned() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        for program in ["ether_in", "ether_out", "ip_in", "ip_out", "mirror_in"] {
            capture.program(program).expect("load");
        }
        let instructions = capture.instructions();
        println!("{instructions:?}");
        // A kernel before 5.16 does not tell.
        for (program, count) in instructions {
            assert!(count <= 50_000, "{program}: {count}");
        }
    });
}

#[test]
fn one_question_gives_one_hit_wherever_the_stage_runs() {
    in_namespace(|| {
        let set = listed(&["evil.example"]);
        let frames = [
            asks(&query("www.evil.example")),
            asks(&query("good.example")),
        ];
        let refused = Options {
            spoiled: Stages::ALL,
            ..Options::default()
        };
        let off = Options {
            stages: Stages::ALL.without(Stage::Names),
            ..Options::default()
        };
        for (point, options, in_kernel) in [
            ("in the kernel", Options::default(), true),
            ("refused by the verifier", refused, false),
            ("switched off", off, false),
        ] {
            let mut capture = open_with(&["lo"], small(), &options);
            let stages = capture.stages();
            assert_eq!(stages[0].name, "names");
            assert_eq!(stages[0].in_kernel, in_kernel, "{point}: {stages:?}");
            let hits = hits_of(&mut capture, &set, &frames);
            assert_eq!(hits.len(), 1, "{point}: {hits:?}");
            let hit = &hits[0];
            assert_eq!(hit.kind, HitKind::Question, "{point}");
            assert_eq!(hit.name.as_deref(), Some("www.evil.example"), "{point}");
            assert_eq!(hit.indicator, "evil.example", "{point}");
            assert_eq!(hit.list, "c2-domains", "{point}");
            assert_eq!(hit.version, set.version(), "{point}");
            let mut totals = Totals::default();
            totals.gather(&mut capture);
            let told = totals.count("ring", "notice_sent").0;
            assert_eq!(told, u64::from(in_kernel), "{point}");
            let moved = totals.count("match", "names_in_user_space").0;
            assert_eq!(moved, u64::from(!in_kernel), "{point}");
        }
    });
}
