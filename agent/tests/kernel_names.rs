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
#[path = "kernel/run.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod run;

use std::sync::Arc;
use std::time::Duration;

use picket_agent::capture::ebpf::{EbpfCapture, Options, Stage, Stages};
use picket_agent::capture::live::Event;
use picket_intel::{Category, Indicator, IndicatorSet, List, SetBuilder};
use picket_sense::input::{Recognised, Way};
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Hit, HitKind, Host};

use dns::{message, over_tcp, query, wire};
use golden::{ethernet, ipv4, ipv6, tcp, udp};
use kernel::{Totals, in_namespace, open, open_with, small};
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
        .list(List {
            name: "c2-domains".to_owned(),
            category: Category::C2,
        })
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

/// The verifier's work, which has a bound of a million: what a change costs shows here first.
#[test]
fn the_verifier_goes_through_no_more_than_planned() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        for program in ["ether_out", "ip_in", "ip_out"] {
            capture.program(program).expect("load");
        }
        let instructions = capture.instructions();
        println!("{instructions:?}");
        for (name, most) in [
            ("ether_in", 100_000),
            ("ether_out", 100_000),
            ("ip_in", 100_000),
            ("ip_out", 100_000),
            ("names", 50_000),
            ("stratum", 10_000),
        ] {
            let of = instructions.iter().find(|(program, _)| program == name);
            // A kernel before 5.16 does not tell.
            if let Some((_, count)) = of {
                assert!(*count <= most, "{name}: {count}");
            }
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
