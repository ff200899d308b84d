//! From one process to the next: programs and counters stay in the kernel, and every packet is told
//! once. Needs root; skips with the reason where it cannot run.

#[path = "kernel/foreign.rs"]
#[expect(dead_code, reason = "shared with the tests of the service")]
mod foreign;
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod kernel;
#[path = "kernel/link.rs"]
#[expect(dead_code, reason = "shared with the tests of real traffic")]
mod link;
#[path = "kernel/pinned.rs"]
mod pinned;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picket_agent::capture::ebpf::{EbpfCapture, Handover, Options, Rung, Sizes, detach};

use foreign::{Tcx, detach_links};
use kernel::{Totals, in_namespace, small};
use link::{OURS, Peer, THEIRS, send, socket};
use pinned::bpf_fs;

/// What the tests of this file begin with: a wire, a receiver at its other end, a place for pins.
struct Stage {
    peer: Peer,
    to: SocketAddr,
    folder: tempfile::TempDir,
    rung: Rung,
    sizes: Sizes,
}

impl Stage {
    fn set(rung: Rung, sizes: Sizes) -> Self {
        let folder = bpf_fs();
        let peer = Peer::connect("pk-a", "pk-b");
        let theirs = peer.run(|| socket(THEIRS));
        let to = theirs.local_addr().expect("their address");
        peer.run(move || drop(std::thread::spawn(move || drain(&theirs))));
        Self {
            peer,
            to,
            folder,
            rung,
            sizes,
        }
    }

    fn pins(&self) -> PathBuf {
        self.folder.path().join("bpf/picket")
    }

    /// A process whose predecessor kept its last window, which ended at `kept_ns`.
    fn open(&self, kept_ns: u64) -> EbpfCapture {
        let mut capture = EbpfCapture::prepare(Options {
            interfaces: vec!["pk-a".to_owned()],
            default_route: false,
            sizes: self.sizes,
            rung: Some(self.rung),
            handover: Some(Handover {
                pins: self.pins(),
                checkpoints: self.folder.path().join("told"),
                kept_ns,
            }),
            ..Options::default()
        })
        .expect("load the programs");
        let listed = "203.0.113.99".parse().expect("an address");
        capture
            .load_set([(listed, 32)].into_iter(), 1)
            .expect("load a set");
        capture.begin().expect("attach");
        assert_eq!(
            capture.pinned().map(|state| state.starts_with("pinned")),
            Some(true)
        );
        capture
    }

    /// Gathers, and asserts that everything sent up to now was told once and nothing was lost.
    #[track_caller]
    fn tells_all(&self, capture: &mut EbpfCapture, totals: &mut Totals, sent: u64) {
        totals.gather(capture);
        assert_eq!((told(totals, self.to), lost(totals)), (sent, 0));
    }

    /// Sends `times` datagrams from each of `sockets` sockets.
    fn send(&self, sockets: u32, times: u32) -> u64 {
        for _ in 0..sockets {
            send(&socket(OURS), self.to, 100, times);
        }
        u64::from(sockets * times)
    }
}

/// Reads until nothing has come for a while, so that no answer of ICMP comes between.
fn drain(socket: &std::net::UdpSocket) {
    let wait = Some(Duration::from_secs(20));
    socket.set_read_timeout(wait).expect("set a time limit");
    let mut bytes = [0; 2048];
    while socket.recv(&mut bytes).is_ok() {}
}

/// Datagrams told of flows to a port.
fn told(totals: &Totals, to: SocketAddr) -> u64 {
    let flows = totals
        .flows
        .values()
        .filter(|flow| flow.remote == (to.ip(), to.port()));
    flows.map(|flow| flow.packets_out).sum()
}

fn lost(totals: &Totals) -> u64 {
    totals.count("kernel", "lost_with_process").0
}

/// Ends a process's last window as its summary does: what is counted and in no flow yet is left to
/// whoever reads the flow.
fn settle(totals: &mut Totals) {
    let accounted = totals.accounted();
    let seen = totals.counts.entry(("kernel", "seen")).or_default();
    assert!(accounted <= *seen, "{accounted:?} of {seen:?}");
    *seen = accounted;
}

/// Runs a test on each rung.
fn on_each_rung(test: fn(Rung)) {
    for rung in [Rung::Tcx, Rung::Clsact] {
        in_namespace(move || test(rung));
    }
}

#[test]
fn a_restart_under_traffic_loses_no_packet() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let stop = Arc::new(AtomicBool::new(false));
        let mut totals = Totals::default();
        let mut capture = stage.open(0);
        assert!(!capture.resumes(), "nobody was here before");
        let (to, stopped) = (stage.to, Arc::clone(&stop));
        // In our namespace, and on no certain processor.
        let sender = std::thread::spawn(move || {
            kernel::stay_on_cpu(1);
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let from = socket(OURS);
                send(&from, to, 100, 50);
                sent += 50;
            }
            sent
        });
        for window in 1..=4u64 {
            // In order, and killed in the midst of a window by turns.
            let before = told(&totals, to);
            while told(&totals, to) < before + 500 {
                totals.gather(&mut capture);
            }
            capture.checkpoint(window * 10, (window - 1) * 10);
            settle(&mut totals);
            if window % 2 == 0 {
                drop(capture.poll(Duration::ZERO, &mut |_| {}));
            }
            drop(capture);
            capture = stage.open(window * 10);
            assert!(capture.resumes());
        }
        stop.store(true, Ordering::Relaxed);
        let sent: u64 = sender.join().expect("the sender");
        totals.gather(&mut capture);
        totals.assert_equation();
        assert_eq!(
            told(&totals, to) + lost(&totals),
            sent,
            "{:?}",
            totals.counts
        );
        println!(
            "{rung:?}: {sent} datagrams over 4 restarts, {} lost with a process",
            lost(&totals)
        );
        drop(stage.peer);
    });
}

#[test]
fn what_passed_while_nobody_was_there_is_told() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let mut totals = Totals::default();
        let mut capture = stage.open(0);
        let mut sent = stage.send(10, 3);
        totals.gather(&mut capture);
        assert_eq!(told(&totals, stage.to), sent);
        capture.checkpoint(10, 0);
        // Flows that were told go on, and others begin; one is a hit.
        let long = socket(OURS);
        send(&long, stage.to, 100, 7);
        drop(capture);
        send(&long, stage.to, 100, 5);
        sent += 12 + stage.send(20, 2);
        let listed = SocketAddr::from(([203, 0, 113, 99], 9));
        link::command("ip route add 203.0.113.99 via 10.9.0.2");
        send(&socket(OURS), listed, 10, 1);
        let mut capture = stage.open(10);
        send(&long, stage.to, 100, 1);
        totals.gather(&mut capture);
        assert_eq!(told(&totals, stage.to), sent + 1);
        assert_eq!(
            (totals.hits.len(), lost(&totals)),
            (1, 0),
            "{:?}",
            totals.counts
        );
        totals.assert_equation();
        drop(stage.peer);
    });
}

/// Slots for a few flows: most leave theirs, and what a process took of the ring is gone with it.
#[test]
fn what_a_process_had_read_and_not_told_is_counted_as_lost() {
    on_each_rung(|rung| {
        let sizes = Sizes {
            slots_per_cpu: 16,
            ..small()
        };
        let stage = Stage::set(rung, sizes);
        let mut totals = Totals::default();
        let mut capture = stage.open(0);
        let mut sent = stage.send(200, 2);
        totals.gather(&mut capture);
        capture.checkpoint(10, 0);
        sent += stage.send(200, 3);
        let mut taken = 0;
        let mut take = |event: picket_agent::capture::live::Event<'_>| {
            if let picket_agent::capture::live::Event::Flow(delta) = event {
                taken += delta.packets_out + delta.packets_in;
            }
        };
        while capture.poll(Duration::ZERO, &mut take).expect("poll") > 0 {}
        assert!(taken > 0, "some have left their slots");
        drop(capture);
        sent += stage.send(10, 1);
        let mut capture = stage.open(10);
        totals.gather(&mut capture);
        totals.assert_equation();
        assert_eq!(lost(&totals), taken, "{:?}", totals.counts);
        assert_eq!(told(&totals, stage.to) + lost(&totals), sent);
        drop(stage.peer);
    });
}

/// The second is killed before it told a window, so the third tells what the first left.
#[test]
fn a_successor_that_is_killed_at_once_costs_nothing() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let mut totals = Totals::default();
        let mut capture = stage.open(0);
        let mut sent = stage.send(10, 3);
        totals.gather(&mut capture);
        capture.checkpoint(10, 0);
        sent += stage.send(10, 2);
        drop(capture);
        let mut capture = stage.open(10);
        sent += stage.send(10, 4);
        Totals::default().gather(&mut capture);
        drop(capture);
        let mut capture = stage.open(10);
        assert!(capture.resumes());
        stage.tells_all(&mut capture, &mut totals, sent);

        // It tells a window, and is killed before it removes what the others left.
        capture.checkpoint(20, 10);
        sent += stage.send(5, 1);
        drop(capture);
        let mut capture = stage.open(20);
        assert!(capture.resumes());
        stage.tells_all(&mut capture, &mut totals, sent);
        totals.assert_equation();

        // With its own window in the spool nothing of theirs is left.
        capture.checkpoint(30, 20);
        assert_eq!(left(&stage.pins()), 3, "one before, links, and its own");
        capture.checkpoint(40, 30);
        assert_eq!(left(&stage.pins()), 2, "links, and its own");
        drop(stage.peer);
    });
}

/// Somebody with root takes our programs off while no agent runs, or the interface is another by then.
#[test]
fn an_absence_of_our_programs_is_no_restart_without_a_gap() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let mut capture = stage.open(0);
        capture.checkpoint(10, 0);
        drop(capture);
        match rung {
            Rung::Tcx => {
                for direction in [Tcx::In, Tcx::Out] {
                    detach_links("pk-a", direction);
                }
            }
            Rung::Clsact => link::command("tc qdisc del dev pk-a clsact"),
        }
        stage.send(10, 3);
        let mut capture = stage.open(10);
        assert!(!capture.resumes(), "nobody saw what was sent");
        // And the next one, before this has told a window, does not say so either.
        drop(capture);
        capture = stage.open(10);
        assert!(!capture.resumes());
        Totals::default().gather(&mut capture);
        capture.checkpoint(20, 10);
        drop(capture);
        let capture = stage.open(20);
        assert!(capture.resumes(), "from then on all is told");
        // By the other rung nothing is taken over in place.
        drop(capture);
        let other = match rung {
            Rung::Tcx => Rung::Clsact,
            Rung::Clsact => Rung::Tcx,
        };
        let stage = Stage {
            rung: other,
            ..stage
        };
        assert!(!stage.open(20).resumes());
        drop(stage.peer);
    });
}

/// Started and killed over and over, or without its disk.
#[test]
fn processes_that_tell_nothing_do_not_pile_up() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let mut totals = Totals::default();
        let mut capture = stage.open(0);
        let mut sent = stage.send(3, 3);
        totals.gather(&mut capture);
        capture.checkpoint(10, 0);
        sent += stage.send(4, 1);
        drop(capture);
        for _ in 0..6 {
            drop(stage.open(10));
            assert!(left(&stage.pins()) <= 4, "links, two before, its own");
        }
        let mut capture = stage.open(10);
        assert!(!capture.resumes(), "some of them are not told");
        totals.gather(&mut capture);
        assert_eq!(told(&totals, stage.to), sent, "but the oldest is");
        totals.assert_equation();
        drop(stage.peer);
    });
}

/// A run without these pins tells what passes; what the pinned programs counted meanwhile is the same.
#[test]
fn what_another_run_has_told_is_not_told_again() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let mut capture = stage.open(0);
        capture.checkpoint(10, 0);
        drop(capture);
        stage.send(10, 3);
        let mut capture = stage.open(90);
        assert!(!capture.resumes());
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        assert_eq!((told(&totals, stage.to), lost(&totals)), (0, 0));
        drop(stage.peer);
    });
}

fn left(pins: &Path) -> usize {
    let layout = pins.read_dir().expect("pins").next().expect("a layout");
    let layout = layout.expect("a layout").path();
    layout.read_dir().expect("pins").count()
}

#[test]
fn nothing_stays_behind_where_nothing_is_wanted() {
    on_each_rung(|rung| {
        let stage = Stage::set(rung, small());
        let capture = stage.open(0);
        assert!(detach(&stage.pins()).is_err(), "an agent runs");
        // A second agent goes without.
        let second = EbpfCapture::open(Options {
            interfaces: vec!["pk-a".to_owned()],
            default_route: false,
            sizes: small(),
            rung: Some(Rung::Tcx),
            handover: Some(Handover {
                pins: stage.pins(),
                checkpoints: stage.folder.path().join("told"),
                kept_ns: 0,
            }),
            ..Options::default()
        });
        let second = second.expect("open another");
        let why = second.pinned().unwrap_or_default().to_owned();
        assert!(why.starts_with("not pinned: another agent"), "{why}");
        drop((second, capture));
        detach(&stage.pins()).expect("take everything out");
        assert!(!stage.pins().exists());
        for direction in [Tcx::In, Tcx::Out] {
            assert_eq!(detach_links("pk-a", direction), 0);
        }
        let shown = std::process::Command::new("tc")
            .args(["filter", "show", "dev", "pk-a", "ingress"])
            .output()
            .expect("ask tc");
        assert!(shown.stdout.is_empty(), "{shown:?}");
        drop(stage.peer);
    });
}

/// What is pinned of an interface that is watched no more, and what is damaged, is let go.
#[test]
fn damage_is_survived() {
    in_namespace(|| {
        let stage = Stage::set(Rung::Tcx, small());
        let mut capture = stage.open(0);
        stage.send(10, 3);
        Totals::default().gather(&mut capture);
        capture.checkpoint(10, 0);
        drop(capture);
        for checkpoint in stage.folder.path().join("told").read_dir().expect("them") {
            std::fs::write(checkpoint.expect("one").path(), b"PKTOLD").expect("damage it");
        }
        let mut capture = stage.open(10);
        assert!(!capture.resumes(), "what was told is not known");
        let mut totals = Totals::default();
        let sent = stage.send(4, 1);
        totals.gather(&mut capture);
        assert_eq!(told(&totals, stage.to), sent, "nothing is told twice");
        totals.assert_equation();
        drop(capture);
        // By the other rung: nothing counts twice.
        let stage = Stage {
            rung: Rung::Clsact,
            ..stage
        };
        let mut capture = stage.open(10);
        let mut totals = Totals::default();
        totals.gather(&mut capture);
        let before = told(&totals, stage.to);
        let sent = stage.send(4, 1);
        totals.gather(&mut capture);
        assert_eq!(told(&totals, stage.to), before + sent);
        for direction in [Tcx::In, Tcx::Out] {
            assert_eq!(detach_links("pk-a", direction), 0);
        }
        drop(stage.peer);
    });
}
