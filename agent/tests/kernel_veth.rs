//! The kernel side on real packets, over a pair of interfaces between two namespaces. Needs root; skips
//! with the reason where it cannot run.

mod kernel;
#[path = "kernel/link.rs"]
mod link;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use picket_agent::capture::ebpf::{EbpfCapture, Options, Rung, Sizes};
use picket_sense::input::Way;

use kernel::{Totals, in_namespace, open, small, stay_on_cpu};
use link::{OURS, Peer, THEIRS, command, gather_until, send, send_barely_linear, send_tcp, socket};

fn open_by(rung: Rung, interface: &str, sizes: Sizes) -> EbpfCapture {
    EbpfCapture::open(Options {
        interfaces: vec![interface.to_owned()],
        default_route: false,
        sizes,
        rung: Some(rung),
        ..Options::default()
    })
    .expect("open the capture")
}

/// UDP packets that left, by local port.
fn udp_out(totals: &Totals) -> BTreeMap<u16, (u64, u64)> {
    totals
        .flows
        .values()
        .filter(|flow| flow.protocol == 17 && flow.packets_out > 0)
        .map(|flow| (flow.local.1, (flow.packets_out, flow.bytes_out)))
        .collect()
}

#[test]
fn every_packet_is_counted_by_either_rung() {
    for rung in [Rung::Tcx, Rung::Clsact] {
        in_namespace(move || {
            let peer = Peer::connect("pk-a", "pk-b");
            let mut capture = open_by(rung, "pk-a", small());
            assert_eq!(capture.rung(), rung);
            let theirs = peer.run(|| socket(THEIRS));
            let to = theirs.local_addr().expect("their address");
            let mut expected = BTreeMap::new();
            let mut sockets = Vec::new();
            for n in 1..=20u32 {
                let ours = socket(OURS);
                send(&ours, to, 100, n);
                let port = ours.local_addr().expect("our address").port();
                expected.insert(port, (u64::from(n), u64::from(n) * 128));
                sockets.push(ours);
            }
            // And back.
            let back = sockets[0].local_addr().expect("our address");
            peer.run(move || send(&theirs, back, 10, 7));

            let mut totals = Totals::default();
            gather_until(&mut totals, &mut capture, |totals| {
                totals.flows.values().any(|flow| flow.packets_in == 7)
            });
            assert_eq!(udp_out(&totals), expected, "{rung:?}");
            let answered = totals
                .flows
                .values()
                .find(|flow| flow.packets_in == 7)
                .expect("one");
            assert_eq!((answered.local.1, answered.bytes_in), (back.port(), 7 * 38));
            assert!(
                totals.count("kernel", "not_flow_arp").0 >= 2,
                "{:?}",
                totals.counts
            );
            totals.assert_equation();
        });
    }
}

#[test]
fn few_slots_under_traffic_lose_nothing_while_they_are_read() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let sizes = Sizes {
            slots_per_cpu: 4,
            evicted_ring_bytes: 16 << 20,
            ..small()
        };
        let mut capture = open(&["pk-a"], sizes);
        let theirs = peer.run(|| socket(THEIRS));
        let to = theirs.local_addr().expect("their address");
        let sockets: Vec<_> = (0..16).map(|_| socket(OURS)).collect();
        let done = Arc::new(AtomicBool::new(false));
        let sender = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                // Not the CPU that reads, so that reading and writing meet.
                stay_on_cpu(1);
                let mut sent = BTreeMap::new();
                let until = Instant::now() + Duration::from_secs(1);
                let mut state = 1u64;
                while Instant::now() < until {
                    for _ in 0..100 {
                        // Knuth's MMIX constants.
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let ours = &sockets[(state >> 60) as usize];
                        send(ours, to, 20, 1);
                        let port = ours.local_addr().expect("our address").port();
                        *sent.entry(port).or_insert(0u64) += 1;
                    }
                }
                done.store(true, Ordering::Release);
                sent
            }
        });
        let mut totals = Totals::default();
        let mut scans = 0;
        while !done.load(Ordering::Acquire) {
            capture.scan(&mut |delta| totals.add(&delta));
            totals.poll(&mut capture, Duration::from_millis(1));
            scans += 1;
        }
        let sent = sender.join().expect("sent");
        totals.gather(&mut capture);
        let lost = totals.count("kernel", "lost_ring_full").0;
        let told: BTreeMap<u16, u64> = udp_out(&totals)
            .into_iter()
            .map(|(port, (packets, _))| (port, packets))
            .collect();
        let (all, told_all) = (sent.values().sum::<u64>(), told.values().sum::<u64>());
        println!(
            "{all} packets, {} evictions, {scans} scans, {lost} lost",
            totals.count("ring", "evicted_sent").0
        );
        assert_eq!(told_all + lost, all);
        if lost == 0 {
            assert_eq!(told, sent);
        }
        assert!(totals.count("ring", "evicted_sent").0 > all / 10 && scans > 10);
        totals.assert_equation();
    });
}

#[test]
fn segmented_packets_count_as_on_the_wire() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let mut capture = open(&["pk-a"], small());
        const BYTES: usize = 4 << 20;
        let (ours, theirs) = send_tcp(&peer, BYTES);
        let mut totals = Totals::default();
        let key = ((ours.ip(), ours.port()), (theirs.ip(), theirs.port()), 6);
        gather_until(&mut totals, &mut capture, |totals| {
            totals
                .flows
                .get(&key)
                .is_some_and(|flow| flow.flags_in & 1 == 1)
        });
        let flow = totals.flows[&key];
        // 1,500 bytes of MTU, less 20 of IP and 32 of TCP with timestamps.
        let segments = (BYTES as u64).div_ceil(1448);
        assert!(flow.packets_out >= segments, "{flow:?}");
        // Of headers, 52 bytes a packet and 8 more for the SYN; what is sent again adds payload.
        let headers = flow.packets_out * 52 + 8;
        assert!(flow.bytes_out >= BYTES as u64 + headers, "{flow:?}");
        assert!(
            flow.bytes_out < (BYTES as u64 + headers) * 11 / 10,
            "{flow:?}"
        );
        assert_eq!((flow.opener, flow.flags_out & 0x13), (Some(Way::Out), 0x13));
        assert!(!totals.copies.is_empty() && totals.copies[0].data[0] == 0x45);
        totals.assert_equation();
    });
}

#[test]
fn headers_outside_the_linear_part_are_read() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        command("ip link set pk-a mtu 9000");
        peer.run(|| command("ip link set pk-b mtu 9000"));
        let mut capture = open(&["pk-a"], small());
        // From a packet socket that says that only the Ethernet header belongs into it.
        let payload = vec![3u8; 6000];
        let mut udp = [
            &7u16.to_be_bytes()[..],
            &53u16.to_be_bytes(),
            &6008u16.to_be_bytes(),
            &[0, 0],
        ]
        .concat();
        udp.extend(&payload);
        let mut ip = vec![
            0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
        ];
        let total = (ip.len() + udp.len()) as u16;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[8, 0], &ip, &udp].concat();
        send_barely_linear("pk-a", &frame);
        let mut totals = Totals::default();
        gather_until(&mut totals, &mut capture, |totals| {
            totals.count("ring", "copy_sent").0 > 0
        });
        assert_eq!(
            udp_out(&totals),
            BTreeMap::from([(7, (1, u64::from(total)))])
        );
        assert_eq!(totals.copies[0].data, frame[14..14 + 2048]);
        assert_eq!(totals.copies[0].wire_bytes, u32::from(total));
        totals.assert_equation();
    });
}

#[test]
fn a_hit_and_a_question_arrive_while_we_wait() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let mut capture = open(&["pk-a"], small());
        let theirs = THEIRS.parse().expect("an address");
        capture
            .load_set([(theirs, 32)].into_iter(), 9)
            .expect("load");
        let (port, ours) = {
            let ours = socket(OURS);
            (
                peer.run(|| socket(THEIRS))
                    .local_addr()
                    .expect("an address")
                    .port(),
                ours,
            )
        };
        let sender = std::thread::spawn(move || {
            ours.send_to(b"x", (THEIRS, port)).expect("send");
            ours.send_to(b"a question", (THEIRS, 53)).expect("send");
        });
        let (begun, mut totals) = (Instant::now(), Totals::default());
        while totals.hits.len() < 2 || totals.copies.is_empty() {
            totals.poll(&mut capture, Duration::from_secs(1));
            assert!(begun.elapsed() < Duration::from_secs(10), "{totals:?}");
        }
        println!("hit and copy after {:?}", begun.elapsed());
        sender.join().expect("sent");
        assert!(
            totals
                .hits
                .iter()
                .all(|hit| hit.remote.0 == theirs && hit.set_version == 9)
        );
        assert!(totals.copies[0].data.ends_with(b"a question"));
    });
}

/// Programs attached by tcx to one direction of an interface.
fn attached(interface: &str, direction: TcAttachType) -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(interface, direction).expect("query");
    programs
        .iter()
        .map(aya::programs::ProgramInfo::id)
        .collect()
}

#[test]
fn programs_of_others_stay_and_go_on_counting() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        // Another user of tcx: a second capture, which was there first.
        let mut other = open_by(Rung::Tcx, "pk-a", small());
        // And one of clsact, with a priority of its own.
        command("ip link set lo up");
        qdisc_add_clsact("pk-a").expect("add clsact");
        let mut third = open(&["lo"], small());
        let foreign = NlOptions {
            priority: 7,
            handle: TcHandle::new(0, 3),
            classid: None,
        };
        third
            .program("ether_out")
            .expect("a program")
            .attach_with_options(
                "pk-a",
                TcAttachType::Egress,
                TcAttachOptions::Netlink(foreign),
            )
            .expect("attach");
        let before = attached("pk-a", TcAttachType::Egress);
        assert_eq!(before.len(), 1);

        let theirs = peer.run(|| socket(THEIRS));
        let to = theirs.local_addr().expect("their address");
        let ours = socket(OURS);
        for rung in [Rung::Tcx, Rung::Clsact] {
            let mut capture = open_by(rung, "pk-a", small());
            let with_us = attached("pk-a", TcAttachType::Egress);
            if rung == Rung::Tcx {
                assert_eq!(with_us.len(), 2);
                assert_eq!(with_us[1], before[0], "we are at the head");
            }
            send(&ours, to, 10, 5);
            let mut totals = Totals::default();
            gather_until(&mut totals, &mut capture, |totals| totals.in_flows().0 >= 5);
            drop(capture);
            assert_eq!(attached("pk-a", TcAttachType::Egress), before);
            send(&ours, to, 10, 5);
        }
        for (name, capture) in [("tcx", &mut other), ("clsact", &mut third)] {
            let mut totals = Totals::default();
            totals.gather(capture);
            let counted: u64 = udp_out(&totals).values().map(|(packets, _)| packets).sum();
            assert_eq!(counted, 20, "by {name}");
        }
    });
}

#[test]
fn an_agent_that_is_killed_leaves_no_program_and_none_counts_twice() {
    // The part of the agent that is killed: in the namespace of the test that started it.
    if let Ok(rung) = std::env::var("PICKET_TEST_HOLD") {
        let rung = if rung == "tcx" {
            Rung::Tcx
        } else {
            Rung::Clsact
        };
        let _capture = open_by(rung, "pk-a", small());
        println!("attached");
        loop {
            std::thread::park();
        }
    }
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let theirs = peer.run(|| socket(THEIRS));
        let to = theirs.local_addr().expect("their address");
        let ours = socket(OURS);
        for rung in [Rung::Tcx, Rung::Clsact] {
            kill_one_that_holds(rung);
            if rung == Rung::Tcx {
                assert!(attached("pk-a", TcAttachType::Egress).is_empty());
            }
            let mut capture = open_by(rung, "pk-a", small());
            assert_eq!(
                filters("pk-a"),
                if rung == Rung::Tcx { 0 } else { 1 },
                "ours, and once"
            );
            send(&ours, to, 10, 5);
            let mut totals = Totals::default();
            gather_until(&mut totals, &mut capture, |totals| totals.in_flows().0 >= 5);
            assert_eq!(
                udp_out(&totals)
                    .values()
                    .map(|(packets, _)| packets)
                    .sum::<u64>(),
                5
            );
            drop(capture);
            assert_eq!(filters("pk-a"), 0);
        }
    });
}

/// Starts this test program again to hold a capture, and kills it once it does.
fn kill_one_that_holds(rung: Rung) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "--nocapture",
            "an_agent_that_is_killed_leaves_no_program_and_none_counts_twice",
        ])
        .env("PICKET_TEST_HOLD", rung.name())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let holds = output
        .lines()
        .any(|line| line.is_ok_and(|line| line.contains("attached")));
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(holds);
    // What the kernel frees, it frees a moment after the process is gone.
    let until = Instant::now() + Duration::from_secs(10);
    while rung == Rung::Tcx && !attached("pk-a", TcAttachType::Egress).is_empty() {
        assert!(Instant::now() < until, "the link outlives its process");
        std::thread::yield_now();
    }
}

/// Filters on the way out of an interface, by clsact.
fn filters(interface: &str) -> usize {
    let output = Command::new("tc")
        .args(["filter", "show", "dev", interface, "egress"])
        .output()
        .expect("start tc");
    String::from_utf8_lossy(&output.stdout)
        .matches(" handle ")
        .count()
}

#[test]
fn interfaces_that_come_and_go_are_followed() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-a", "pk-b");
        command("ip link add pk-c type veth peer name pk-d");
        // Named twice, watched once.
        let mut capture = open(&["pk-a", "pk-c", "pk-a"], small());
        let names = |capture: &EbpfCapture| -> Vec<String> {
            capture
                .interfaces()
                .map(|(name, _)| name.to_owned())
                .collect()
        };
        assert_eq!(names(&capture), ["pk-a", "pk-c"]);
        command("ip link del pk-c");
        capture.rescan().expect("rescan");
        assert_eq!(names(&capture), ["pk-a"]);
        command("ip link add pk-c type veth peer name pk-d");
        capture.rescan().expect("rescan");
        assert_eq!(names(&capture), ["pk-a", "pk-c"]);
        assert_eq!(attached("pk-c", TcAttachType::Ingress).len(), 1);
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    in_namespace(|| {
        let error = EbpfCapture::open(Options {
            interfaces: vec!["pk-none".to_owned()],
            default_route: false,
            sizes: small(),
            ..Options::default()
        })
        .expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "interface pk-none: there is none of this name"
        );
        let error = EbpfCapture::open(Options {
            sizes: small(),
            ..Options::default()
        })
        .expect_err("there is no route");
        assert!(
            error.to_string().starts_with("no interface to watch"),
            "{error}"
        );
    });
}
