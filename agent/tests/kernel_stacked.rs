//! Interfaces that lie on one another, on real devices: a packet counts once. Needs root; skips with
//! the reason where it cannot run.

#[path = "kernel/foreign.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod foreign;
#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;
#[path = "kernel/tun.rs"]
mod tun;

use std::process::{Command, Stdio};

use kernel::{Totals, in_namespace, open_with, small};
use link::{Peer, command, gather_until, send, socket};
use picket_agent::capture::choice::{Choice, Stacked};
use picket_agent::capture::ebpf::{EbpfCapture, Options};
use picket_agent::capture::live::Live;
use picket_agent::capture::packet::{PacketCapture, Sizes};

/// The device on top of the veth end, and its address.
const UPPER: &str = "pk-u";
const UPPER_ADDRESS: &str = "10.8.0.1";
const PEERS_ADDRESS: &str = "10.8.0.2";

fn options(stacked: Stacked) -> Options {
    Options {
        stacked,
        sizes: small(),
        ..Options::default()
    }
}

/// Lays a device of this kind on our end, and what talks to it on the peer's; false where this kernel
/// has none of the kind.
fn lay(kind: &str, peer: &Peer) -> bool {
    let add = format!("link add link pk-a name {UPPER} type {kind}");
    let status = Command::new("ip")
        .args(add.split_whitespace())
        .stderr(Stdio::null())
        .status()
        .expect("start ip");
    if !status.success() {
        println!("skipped, this kernel has no {kind}");
        return false;
    }
    command(&format!("ip addr add {UPPER_ADDRESS}/24 dev {UPPER}"));
    command(&format!("ip link set {UPPER} up"));
    let theirs = if kind.starts_with("vlan") {
        format!("ip link add link pk-b name pk-v type {kind}")
    } else {
        "ip link set pk-b up".to_owned()
    };
    let device = if kind.starts_with("vlan") {
        "pk-v"
    } else {
        "pk-b"
    };
    peer.run(move || {
        command(&theirs);
        command(&format!("ip addr add {PEERS_ADDRESS}/24 dev {device}"));
        command(&format!("ip link set {device} up"));
    });
    true
}

/// Packets that were counted of the peer's port 9.
fn counted(totals: &Totals) -> u64 {
    let ours = totals
        .flows
        .iter()
        .filter(|((_, remote, protocol), _)| remote.1 == 9 && *protocol == 17);
    ours.map(|(_, flow)| flow.packets_out).sum()
}

fn count_once_and_twice(kind: &'static str) {
    in_namespace(move || {
        let peer = Peer::connect("pk-a", "pk-b");
        if !lay(kind, &peer) {
            return;
        }
        for (stacked, watched, times) in [
            (Stacked::Once, &["pk-a"][..], 1),
            (Stacked::Both, &["pk-a", UPPER], 2),
        ] {
            let mut capture = open_with(&["pk-a", UPPER], small(), &options(stacked));
            let names: Vec<String> = Live::interfaces(&capture);
            assert_eq!(names, watched, "{kind}");
            let to = format!("{PEERS_ADDRESS}:9").parse().expect("an address");
            send(&socket(UPPER_ADDRESS), to, 10, 7);
            let mut totals = Totals::default();
            gather_until(&mut totals, &mut capture, |totals| {
                counted(totals) >= 7 * times
            });
            assert_eq!(counted(&totals), 7 * times, "{kind}");
        }
        // Packet sockets choose alike.
        let sockets = PacketCapture::open(
            &Options {
                interfaces: vec!["pk-a".to_owned(), UPPER.to_owned()],
                default_route: false,
                ..options(Stacked::Once)
            },
            Sizes::default(),
        )
        .expect("packet sockets");
        assert_eq!(sockets.interfaces(), ["pk-a"], "{kind}");
        let skipped = sockets.skipped();
        assert_eq!(skipped.len(), 1, "{kind}: {skipped:?}");
        let Choice { name, why, .. } = &skipped[0];
        assert_eq!(name, UPPER);
        assert!(
            why.contains("pk-a") && why.contains("capture.stacked"),
            "{why}"
        );
    });
}

#[test]
fn a_vlan_and_its_card_count_once() {
    count_once_and_twice("vlan id 5");
}

#[test]
fn a_macvlan_and_its_parent_count_once() {
    count_once_and_twice("macvlan");
}

/// The upper one is watched for want of the lower one, and left when that comes.
#[test]
fn what_lies_below_takes_over_when_it_comes() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        if !lay("macvlan", &peer) {
            return;
        }
        command("ip route add default via 10.8.0.2");
        let mut capture = EbpfCapture::open(options(Stacked::Once)).expect("open the capture");
        assert_eq!(Live::interfaces(&capture), [UPPER], "the route is its own");
        assert!(capture.skipped().is_empty());
        drop(capture);

        let named = Options {
            interfaces: vec!["pk-a*".to_owned()],
            ..options(Stacked::Once)
        };
        capture = EbpfCapture::open(named).expect("open the capture");
        assert_eq!(Live::interfaces(&capture), ["pk-a"]);
        assert_eq!(capture.skipped().len(), 1);
        // Without its card the macvlan is gone as well.
        command("ip link del pk-a");
        capture.rescan().expect("rescan");
        assert!(Live::interfaces(&capture).is_empty());
    });
}

/// The upper one is watched while others leave no place on the lower one, and goes on being watched
/// each time that one is tried again.
#[test]
fn what_lies_above_is_watched_where_the_lower_one_cannot_be() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        if !lay("macvlan", &peer) {
            return;
        }
        let others = foreign::occupy("pk-a", foreign::Tcx::Out);
        if others.is_empty() {
            println!("skipped, this kernel has no tcx");
            return;
        }
        let mut capture = open_with(&["pk-a", UPPER], small(), &options(Stacked::Once));
        let mut totals = Totals::default();
        for round in 1..=2 {
            assert_eq!(Live::interfaces(&capture), [UPPER], "round {round}");
            assert_eq!(capture.skipped().len(), 1);
            let why = &capture.skipped()[0].why;
            assert!(!why.contains("capture.stacked"), "{why}");
            let to = format!("{PEERS_ADDRESS}:9").parse().expect("an address");
            send(&socket(UPPER_ADDRESS), to, 10, 7);
            gather_until(&mut totals, &mut capture, |totals| {
                counted(totals) >= 7 * round
            });
            assert_eq!(counted(&totals), 7 * round, "round {round}");
            capture.rescan().expect("rescan");
        }
        drop(others);
        capture.rescan().expect("rescan");
        assert_eq!(Live::interfaces(&capture), ["pk-a"], "there is place again");
    });
}

/// An interface that is named and not there yet is waited for, where there is another to watch.
#[test]
fn a_named_interface_is_waited_for() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-a", "pk-b");
        let mut capture = open_with(&["pk-a", "pk-late"], small(), &options(Stacked::Once));
        assert_eq!(capture.skipped()[0].why, "there is none of this name");
        command("ip link add pk-late type veth peer name pk-early");
        capture.rescan().expect("rescan");
        assert_eq!(Live::interfaces(&capture), ["pk-a", "pk-late"]);
        assert!(capture.skipped().is_empty());
        let excluded = Options {
            excluded: vec!["pk-l*".to_owned()],
            ..options(Stacked::Once)
        };
        capture = open_with(&["pk-a", "pk-late"], small(), &excluded);
        assert_eq!(Live::interfaces(&capture), ["pk-a"]);
        assert!(capture.skipped()[0].why.contains("filter.interfaces"));
    });
}

/// Devices without a header of their own: a tun device is given each link type, and what the host
/// sends through it is counted as the IP packets it is.
#[test]
fn link_types_without_a_header_are_read() {
    // rawip, ppp, ipip, ip6tnl, sit, gre, ip6gre, none.
    for link_type in [519u16, 512, 768, 769, 776, 778, 823, 65534] {
        in_namespace(move || {
            let device = tun::tun("pk-t", link_type);
            command("ip addr add 10.8.0.1/24 dev pk-t");
            command("ip link set pk-t up");
            let mut capture = open_with(&["pk-t"], small(), &options(Stacked::Once));
            let to = format!("{PEERS_ADDRESS}:9").parse().expect("an address");
            send(&socket(UPPER_ADDRESS), to, 10, 3);
            // And what comes in, an answer of 38 bytes.
            tun::put(
                &device,
                &tun::udp_packet(PEERS_ADDRESS, 9, UPPER_ADDRESS, 4444),
            );
            let mut totals = Totals::default();
            gather_until(&mut totals, &mut capture, |totals| {
                counted(totals) >= 3 && totals.flows.values().any(|flow| flow.packets_in > 0)
            });
            assert_eq!(counted(&totals), 3, "link type {link_type}");
            let came = totals.flows.values().map(|flow| flow.packets_in);
            assert_eq!(came.sum::<u64>(), 1, "link type {link_type}");
        });
    }
}

/// One that is not read is named with its type.
#[test]
fn a_link_type_that_is_not_read_is_said() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-a", "pk-b");
        // Of a netlink monitor.
        let _device = tun::tun("pk-t", 824);
        let capture = open_with(&["pk-a", "pk-t"], small(), &options(Stacked::Once));
        assert_eq!(Live::interfaces(&capture), ["pk-a"]);
        let why = &capture.skipped()[0].why;
        assert_eq!(why, "its link type 824 is not one we read");
    });
}
