//! Whether the kernel side proves that it reports, and notices a foreign hand: real programs, real
//! interfaces, real detaching. Needs root; skips with the reason where it cannot run.

#[path = "kernel/foreign.rs"]
#[expect(dead_code, reason = "shared with the tests of the service")]
mod foreign;
#[path = "../../ebpf/programs/src/golden.rs"]
#[expect(
    dead_code,
    reason = "shared with the host tests of the kernel programs"
)]
mod golden;
mod kernel;
#[path = "kernel/link.rs"]
#[expect(dead_code, reason = "shared with the tests of real traffic")]
mod link;
#[path = "kernel/run.rs"]
#[expect(dead_code, reason = "shared with the tests of the programs")]
mod run;

use std::net::IpAddr;

use picket_agent::capture::ebpf::{EbpfCapture, Options, Rung, Sizes};
use picket_wire::{Canary, Detached};

use foreign::{Tcx, detach_links};
use golden::udp;
use kernel::{Totals, in_namespace, open, small};
use link::{OURS, Peer, THEIRS, command, gather_until, send, socket};
use run::{frame_to, run};

fn open_by(rung: Rung, interfaces: &[&str]) -> EbpfCapture {
    EbpfCapture::open(Options {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        default_route: false,
        sizes: small(),
        rung: Some(rung),
        ..Options::default()
    })
    .expect("open the capture")
}

/// Ends a window: what came up goes to `totals`, what the canary did is returned.
fn close(capture: &mut EbpfCapture, totals: &mut Totals) -> Canary {
    capture.run_canary();
    totals.gather(capture);
    let health = capture.health();
    assert_eq!(health.detached, []);
    health.canary.expect("this rung has a canary")
}

fn came(canary: &Canary) -> [u64; 4] {
    [canary.sent, canary.counted, canary.hit, canary.copied]
}

#[test]
fn the_canary_comes_back_in_every_way_and_is_in_no_count() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        capture.load_set(std::iter::empty(), 1).expect("load");
        let mut totals = Totals::default();
        let mut last_ns = 1;
        for _ in 0..5 {
            let canary = close(&mut capture, &mut totals);
            assert_eq!(came(&canary), [2, 2, 2, 2]);
            assert!(canary.last_ns >= last_ns, "{canary:?}");
            last_ns = canary.last_ns;
        }
        assert!(totals.flows.is_empty(), "{:?}", totals.flows);
        assert!(totals.hits.is_empty() && totals.copies.is_empty());
        assert!(totals.counts.is_empty(), "{:?}", totals.counts);

        // Among others as well.
        let frame = frame_to(0xcb00_7163, 17, &udp((51_000, 53), b"a question"));
        run(&mut capture, "ether_out", &frame);
        assert_eq!(came(&close(&mut capture, &mut totals)), [2, 2, 2, 2]);
        assert_eq!(totals.count("kernel", "seen").0, 1);
        assert_eq!((totals.flows.len(), totals.copies.len()), (1, 1));
        totals.assert_equation();
    });
}

/// With names listed the canary proves their stage as well, and is no hit of theirs.
#[test]
fn the_canary_is_recognised_by_name_where_names_are_listed() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let loaded = capture
            .load_sets(std::iter::empty(), ["pool.example"].into_iter(), 1)
            .expect("load");
        assert_eq!(loaded.names.expect("names").names, 1, "ours is in no count");
        let in_kernel = capture
            .stages()
            .iter()
            .any(|stage| stage.name == "names" && stage.in_kernel);
        let mut totals = Totals::default();
        for _ in 0..3 {
            let canary = close(&mut capture, &mut totals);
            assert_eq!(came(&canary), [2, 2, 2, 2]);
            assert_eq!(canary.named, in_kernel.then_some(2), "{canary:?}");
        }
        assert!(totals.notices.is_empty() && totals.hits.is_empty());
        assert!(totals.counts.is_empty(), "{:?}", totals.counts);
        // Without names there is nothing to prove.
        capture.load_set(std::iter::empty(), 2).expect("load");
        assert_eq!(close(&mut capture, &mut totals).named, None);
    });
}

#[test]
fn a_full_ring_of_hits_fails_the_canary_until_it_is_read() {
    in_namespace(|| {
        let mut capture = open(
            &["lo"],
            Sizes {
                hit_ring_bytes: 4096,
                ..small()
            },
        );
        let listed: IpAddr = "203.0.113.99".parse().expect("an address");
        capture
            .load_set([(listed, 32)].into_iter(), 1)
            .expect("load");
        for port in 0..100 {
            let frame = frame_to(0xcb00_7163, 17, &udp((50_000 + port, 80), b"x"));
            run(&mut capture, "ether_out", &frame);
        }
        let mut totals = Totals::default();
        let first = close(&mut capture, &mut totals);
        assert_eq!(came(&first), [0; 4], "its hit may still come");
        assert!(totals.count("ring", "hit_failed_full").0 >= 40);
        let second = close(&mut capture, &mut totals);
        assert_eq!(came(&second), [4, 4, 2, 4]);
        assert_eq!(second.failed(), Some("hit"));
        assert_eq!(came(&close(&mut capture, &mut totals)), [2, 2, 2, 2]);
        assert_eq!(totals.count("kernel", "seen").0, 100);
        totals.assert_equation();
    });
}

#[test]
fn without_a_set_in_force_matching_is_not_proven() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        close(&mut capture, &mut totals);
        let canary = close(&mut capture, &mut totals);
        assert_eq!(canary.failed(), Some("hit"));
        assert_eq!(canary.last_ns, 0);
    });
}

/// The same traffic is counted exactly before and after somebody took our programs off.
#[test]
fn a_foreign_hand_is_noticed_and_undone() {
    type Hand = (&'static str, Rung, fn(), &'static [&'static str]);
    let hands: [Hand; 6] = [
        ("the link in", Rung::Tcx, || links(&[Tcx::In]), &["in"]),
        (
            "both links",
            Rung::Tcx,
            || links(&[Tcx::In, Tcx::Out]),
            &["in", "out"],
        ),
        (
            "the filter out",
            Rung::Clsact,
            || command("tc filter del dev pk-a egress"),
            &["out"],
        ),
        (
            "all of clsact",
            Rung::Clsact,
            || command("tc qdisc del dev pk-a clsact"),
            &["in", "out"],
        ),
        (
            "our place taken",
            Rung::Clsact,
            || std::mem::forget(open_by(Rung::Clsact, &["pk-a"])),
            &["in", "out"],
        ),
        (
            "others before us",
            Rung::Tcx,
            || std::mem::forget(open_by(Rung::Tcx, &["pk-a"])),
            &[],
        ),
    ];
    for (name, rung, act, directions) in hands {
        in_namespace(move || {
            let peer = Peer::connect("pk-a", "pk-b");
            let mut capture = open_by(rung, &["pk-a"]);
            let theirs = peer.run(|| socket(THEIRS));
            let to = theirs.local_addr().expect("their address");
            let (ours, mut totals) = (socket(OURS), Totals::default());
            let health = capture.health();
            assert_eq!(health.detached, [], "{name}: nothing was done yet");
            assert_eq!(health.interfaces.len(), 1);
            assert_eq!(health.interfaces[0].attached, rung.name());
            act();
            let found = capture.health().detached;
            let told = |one: &Detached| (one.interface.clone(), one.direction.clone(), one.again);
            let expected: Vec<_> = directions
                .iter()
                .map(|direction| ("pk-a".to_owned(), (*direction).to_owned(), true))
                .collect();
            assert_eq!(
                found.iter().map(told).collect::<Vec<_>>(),
                expected,
                "{name}"
            );
            assert_eq!(capture.health().detached, [], "{name}: it is undone");
            let port = ours.local_addr().expect("our address").port();
            send(&ours, to, 100, 9);
            gather_until(&mut totals, &mut capture, |totals| {
                totals
                    .flows
                    .values()
                    .any(|flow| flow.local.1 == port && flow.packets_out == 9)
            });
            totals.assert_equation();
        });
    }
}

fn links(directions: &[Tcx]) {
    for direction in directions {
        assert_eq!(detach_links("pk-a", *direction), 1, "{direction:?}");
    }
}

#[test]
fn an_interface_that_goes_is_not_a_foreign_hand() {
    for rung in [Rung::Tcx, Rung::Clsact] {
        in_namespace(move || {
            let _peer = Peer::connect("pk-a", "pk-b");
            let mut capture = open_by(rung, &["pk-a", "lo"]);
            command("ip link del pk-a");
            assert_eq!(capture.health().detached, []);
            capture.rescan().expect("rescan");
            let names: Vec<String> = capture
                .health()
                .interfaces
                .into_iter()
                .map(|one| one.name)
                .collect();
            assert_eq!(names, ["lo"]);
        });
    }
}
