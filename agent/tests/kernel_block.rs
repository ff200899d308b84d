//! Blocking by the kernel programs, run in the kernel on frames that we make
//! (`BPF_PROG_TEST_RUN`). Needs root; skips with the reason where it cannot run.

#[path = "../../ebpf/programs/src/golden.rs"]
#[expect(
    dead_code,
    reason = "shared with the host tests of the kernel programs"
)]
mod golden;
mod kernel;
#[path = "kernel/run.rs"]
#[expect(dead_code, reason = "each test uses its part")]
mod run;

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use picket_agent::capture::ebpf::{BlockRule, EbpfCapture, Network, Sizes};
use picket_agent::capture::live::Live as _;
use picket_sense::input::Way;

use golden::{ethernet, tcp, udp};
use kernel::{Totals, in_namespace, open, small};
use run::{answer, frame_to, v4};

const PASSES: i32 = -1;
const DROPPED: i32 = 2;

/// 203.0.113.9.
const REMOTE: u32 = 0xcb00_7109;

fn net(text: &str, prefix: u8) -> Network {
    (text.parse::<IpAddr>().expect("an address"), prefix)
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("a clock").as_nanos()).expect("before 2554")
}

/// A rule that lasts for ten minutes.
fn rule(order: u64, net: Network, port: Option<u16>) -> BlockRule {
    BlockRule {
        net,
        port,
        order,
        expires_ns: now_ns() + 600_000_000_000,
        dry_run: false,
    }
}

fn to_remote(port: u16) -> Vec<u8> {
    frame_to(REMOTE, 6, &tcp((51_000, port), 0x10, b"hello"))
}

fn out(capture: &mut EbpfCapture, frame: &[u8]) -> i32 {
    answer(capture, "ether_out", frame, None)
}

#[test]
fn what_is_ordered_is_dropped_and_told_once() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let frame = to_remote(443);
        assert_eq!(out(&mut capture, &frame), PASSES, "nothing is ordered");
        capture.beat();
        // The flow is known already: an order has it looked up again.
        capture
            .set_blocks(&[rule(7, net("203.0.113.0", 24), None)], &[])
            .expect("block");
        for _ in 0..3 {
            assert_eq!(out(&mut capture, &frame), DROPPED);
        }
        totals.gather(&mut capture);
        let [block] = &totals.blocks[..] else {
            unreachable!("{:?}", totals.blocks)
        };
        assert_eq!(block.remote, (v4([203, 0, 113, 9]), 443));
        assert_eq!(block.local, (v4([10, 0, 0, 1]), 51_000));
        assert_eq!(
            (block.protocol, block.way, block.order, block.ifindex),
            (6, Way::Out, 7, 1)
        );
        assert!(block.ts_ns.abs_diff(now_ns()) < 60_000_000_000);
        assert_eq!(totals.count("block", "refused"), (3, 3 * 45));
        // What is dropped is counted in its flow like what passes.
        assert_eq!(totals.in_flows().0, 4);
        totals.assert_equation();

        // What comes in is dropped alike, by the remote end.
        let answers = {
            let mut frame = ethernet(
                0x0800,
                &golden::ipv4(6, &tcp((443, 51_000), 0x10, b"there")),
            );
            frame[26..30].copy_from_slice(&REMOTE.to_be_bytes());
            frame[30..34].copy_from_slice(&[10, 0, 0, 1]);
            frame
        };
        assert_eq!(answer(&mut capture, "ether_in", &answers, None), DROPPED);
        // Another remote address passes, and so does all when the order is lifted.
        let other = frame_to(0xcb00_7209, 6, &tcp((51_000, 443), 0x10, b"hello"));
        assert_eq!(out(&mut capture, &other), PASSES);
        capture.set_blocks(&[], &[]).expect("lift");
        assert_eq!(out(&mut capture, &frame), PASSES);
        // In a dry run it passes too, and is told, once a flow.
        totals.gather(&mut capture);
        let refused = totals.count("block", "refused");
        let told = totals.blocks.len();
        let dry = BlockRule {
            dry_run: true,
            ..rule(7, net("203.0.113.9", 32), None)
        };
        capture.set_blocks(&[dry], &[]).expect("block");
        for _ in 0..2 {
            assert_eq!(out(&mut capture, &frame), PASSES, "a dry run");
        }
        totals.gather(&mut capture);
        assert_eq!(totals.count("block", "refused"), refused);
        assert_eq!(totals.blocks.len(), told + 1);
        let last = totals.blocks.last().expect("a record");
        assert!(last.dry_run && last.order == 7);
        capture.set_blocks(&[], &[]).expect("lift");
    });
}

#[test]
fn an_endpoint_is_one_port_and_the_protected_is_never_dropped() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        capture.beat();
        let whole = net("203.0.113.9", 32);
        for (rules, protected, expected) in [
            (vec![rule(1, whole, Some(3333))], vec![], [DROPPED, PASSES]),
            (vec![rule(1, whole, None)], vec![], [DROPPED, DROPPED]),
            (
                vec![rule(1, net("203.0.0.0", 8), None)],
                vec![net("203.0.113.0", 24)],
                [PASSES, PASSES],
            ),
            (
                vec![rule(1, whole, Some(3333)), rule(2, whole, None)],
                vec![whole],
                [PASSES, PASSES],
            ),
            (
                vec![rule(1, whole, None)],
                vec![net("203.0.113.8", 32), net("10.0.0.0", 8)],
                [DROPPED, DROPPED],
            ),
            (vec![], vec![], [PASSES, PASSES]),
        ] {
            capture.set_blocks(&rules, &protected).expect("block");
            let answers = [3333, 443].map(|port| out(&mut capture, &to_remote(port)));
            assert_eq!(answers, expected, "{rules:?} {protected:?}");
        }

        // IPv6, in both forms of a rule.
        let frame = ethernet(0x86dd, &golden::ipv6(17, &udp((7, 9), b"x")));
        let remote: IpAddr = IpAddr::from(<[u8; 16]>::try_from(&frame[38..54]).expect("16 bytes"));
        for (port, expected) in [(None, DROPPED), (Some(9), DROPPED), (Some(8), PASSES)] {
            capture
                .set_blocks(&[rule(3, (remote, 128), port)], &[])
                .expect("block");
            assert_eq!(out(&mut capture, &frame), expected, "{port:?}");
        }
    });
}

/// Without it the lease runs out and the host loses its address.
#[test]
fn a_lease_is_renewed_with_a_server_that_is_blocked() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        capture.beat();
        let server = net("203.0.113.0", 24);
        let endpoint = net("203.0.113.9", 32);
        let rules = [rule(1, server, None), rule(2, endpoint, Some(67))];
        capture.set_blocks(&rules, &[]).expect("block");
        let mut dropped = 0;
        for (ports, expected) in [
            ((68, 67), PASSES),
            ((67, 68), PASSES),
            ((68, 69), DROPPED),
            ((51_000, 67), DROPPED),
        ] {
            let frame = frame_to(REMOTE, 17, &udp(ports, b"renew"));
            for _ in 0..2 {
                assert_eq!(out(&mut capture, &frame), expected, "{ports:?}");
                dropped += u64::from(expected == DROPPED);
            }
        }
        // The server's word comes in.
        let mut ack = ethernet(0x0800, &golden::ipv4(17, &udp((67, 68), b"ack")));
        ack[26..30].copy_from_slice(&REMOTE.to_be_bytes());
        ack[30..34].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(answer(&mut capture, "ether_in", &ack, None), PASSES);
        totals.gather(&mut capture);
        assert_eq!(totals.count("block", "refused").0, dropped);
        assert_eq!(totals.blocks.len(), 2, "what passes is not told as dropped");

        // IPv6.
        let frame = |ports| ethernet(0x86dd, &golden::ipv6(17, &udp(ports, b"x")));
        let some = frame((546, 547));
        let remote = IpAddr::from(<[u8; 16]>::try_from(&some[38..54]).expect("16 bytes"));
        let rules = [rule(3, (remote, 128), None)];
        capture.set_blocks(&rules, &[]).expect("block");
        for (ports, expected) in [((546, 547), PASSES), ((546, 53), DROPPED)] {
            assert_eq!(out(&mut capture, &frame(ports)), expected, "{ports:?}");
        }
    });
}

#[test]
fn nothing_is_dropped_without_a_heartbeat_or_after_the_end() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let frame = to_remote(443);
        let rules = [rule(7, net("203.0.113.9", 32), None)];
        capture.set_blocks(&rules, &[]).expect("block");
        assert_eq!(
            out(&mut capture, &frame),
            PASSES,
            "nobody said that it lives"
        );
        capture.beat();
        assert_eq!(out(&mut capture, &frame), DROPPED);
        let over = BlockRule {
            expires_ns: now_ns() - 1_000_000_000,
            ..rules[0]
        };
        capture.set_blocks(&[over], &[]).expect("block");
        assert_eq!(out(&mut capture, &frame), PASSES, "it is over");
        totals.gather(&mut capture);
        assert_eq!(totals.count("block", "lapsed").0, 2);
        assert_eq!(totals.count("block", "refused").0, 1);
    });
}

/// Lists and orders share a flow's verdict: a change of one must not undo the other.
#[test]
fn a_change_of_the_lists_leaves_orders_in_force() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let listed = [net("203.0.113.9", 32)];
        capture.beat();
        capture
            .set_blocks(&[rule(7, net("203.0.113.9", 32), None)], &[])
            .expect("block");
        let frame = to_remote(443);
        for version in 1..4 {
            capture.load_set(listed.into_iter(), version).expect("load");
            for _ in 0..3 {
                assert_eq!(out(&mut capture, &frame), DROPPED, "set {version}");
            }
        }
        totals.gather(&mut capture);
        assert_eq!(totals.hits.len(), 3, "a hit for each version");
        // As many changes as bring the epoch that a slot caches round.
        let other = [rule(8, net("198.51.100.1", 32), None)];
        for _ in 0..257 {
            capture.set_blocks(&other, &[]).expect("block");
        }
        assert_eq!(out(&mut capture, &frame), PASSES, "it is lifted");
        for _ in 0..255 {
            capture.set_blocks(&[], &[]).expect("block");
        }
        capture
            .set_blocks(&[rule(9, net("203.0.113.9", 32), None)], &[])
            .expect("block");
        assert_eq!(out(&mut capture, &frame), DROPPED);
    });
}

#[test]
fn a_full_ring_is_counted_and_the_flow_told_later() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        capture.beat();
        capture
            .set_blocks(&[rule(7, net("203.0.113.9", 32), None)], &[])
            .expect("block");
        // The ring holds 910 records of 64 + 8 bytes.
        for port in 1..=1_000 {
            assert_eq!(out(&mut capture, &to_remote(port)), DROPPED);
        }
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        let told = totals.blocks.len() as u64;
        assert!(told < 1_000);
        assert_eq!(told + totals.count("ring", "block_failed_full").0, 1_000);
        assert_eq!(totals.count("block", "refused").0, 1_000);
        for port in 1..=1_000 {
            assert_eq!(out(&mut capture, &to_remote(port)), DROPPED);
        }
        totals.gather(&mut capture);
        let mut ports: Vec<u16> = totals.blocks.iter().map(|block| block.remote.1).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 1_000, "every flow is told in the end");
    });
}

#[test]
fn without_a_slot_an_order_is_obeyed_and_nothing_of_it_stays() {
    in_namespace(|| {
        let sizes = Sizes {
            slots_per_cpu: 2,
            evicted_ring_bytes: 4096,
            ..small()
        };
        let mut capture = open(&["lo"], sizes);
        capture.beat();
        capture
            .set_blocks(&[rule(7, net("203.0.113.9", 32), None)], &[])
            .expect("block");
        // More flows than slots and their ring have room for.
        for port in 1..=100 {
            let frame = frame_to(0xc000_0207, 17, &udp((port, 9), &[0; 5]));
            assert_eq!(out(&mut capture, &frame), PASSES);
        }
        let other = frame_to(0xcb00_7209, 6, &tcp((51_000, 443), 0x10, b"hello"));
        for _ in 0..3 {
            assert_eq!(out(&mut capture, &to_remote(443)), DROPPED);
            assert_eq!(out(&mut capture, &other), PASSES, "after one that was not");
        }
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        assert_eq!(totals.count("block", "refused"), (3, 3 * 45));
        // Nobody remembers that it was told.
        assert_eq!(totals.blocks.len(), 3);
        assert!(totals.count("kernel", "lost_ring_full").0 >= 6);
        totals.assert_equation();
    });
}
