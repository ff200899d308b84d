//! The same packets, once through the kernel and once from a capture, tell the same.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use picket_tests::lab::tap::Injector;
use picket_tests::lab::topology::{SCENE_INTERFACE, VPC_INTERFACE, is_instance};
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::rig::skips;
use picket_tests::product::story::{Story, open_all};
use picket_tests::product::{Binaries, Rig, offline};
use picket_tests::scene::pcap::Timed;
use picket_tests::scene::{Scenario, pcap, sketch};
use picket_wire::Signer;

/// Length of a summary's window.
const WINDOW: Duration = Duration::from_secs(10);

/// Time to put the frames on the wire; the rest of the window is margin for a busy machine.
const ROOM: Duration = Duration::from_secs(6);

/// Says whether the instance sent the frame.
fn leaves(timed: &Timed) -> bool {
    let frame = &timed.frame;
    let source = match frame[12..14] {
        [0x08, 0x00] => <[u8; 4]>::try_from(&frame[26..30]).unwrap().into(),
        _ => <[u8; 16]>::try_from(&frame[22..38]).unwrap().into(),
    };
    is_instance(source)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn replay_equals_live() {
    replay_equals("auto", &["tcx", "clsact"]);
}

#[test]
fn replay_equals_packet_sockets() {
    replay_equals("afpacket", &["afpacket"]);
}

/// Compares a replay with what an agent tells that was asked for `wanted` and is to use one of
/// `rungs`.
fn replay_equals(wanted: &str, rungs: &[&str]) {
    if skips() {
        return;
    }
    let scenario = Scenario::load("intrusion").unwrap();
    let rig = Rig::lay_out(&scenario, Wire::Silent).unwrap();
    rig.agent.capture_on(wanted).unwrap();
    let rig = rig.started().unwrap();
    // A window that has just begun, so that all frames fall into one, live as in the capture.
    let start = wait_until("a fresh window", WINDOW + ROOM, || {
        let into = now().as_nanos() % WINDOW.as_nanos();
        Ok((into < (WINDOW - ROOM).as_nanos()).then(now))
    })
    .unwrap();
    let drawn = sketch::sketch(&scenario, start);
    let mut instance = Injector::open(&rig.lab.instance, SCENE_INTERFACE).unwrap();
    let mut internet = Injector::open(&rig.lab.internet, VPC_INTERFACE).unwrap();
    for timed in &drawn {
        let end = if leaves(timed) {
            &mut instance
        } else {
            &mut internet
        };
        end.send(&timed.frame).unwrap();
    }
    let injected = SystemTime::now();
    let windows = |at: Duration| at.as_nanos() / WINDOW.as_nanos();
    let ended = injected.duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(
        windows(start),
        windows(ended),
        "the machine is too slow for this test"
    );
    rig.until_judged(injected, Duration::from_secs(60)).unwrap();
    let live = rig.told().unwrap();
    let other = live
        .iter()
        .find(|one| !rungs.contains(&one.summary.host.capture.as_str()));
    assert!(other.is_none(), "{other:?}");
    let live = Story::of(live.iter().map(|one| &one.summary));

    let capture = rig.lab.folder().join("drawn.pcap");
    fs::write(&capture, pcap::capture(&drawn)).unwrap();
    let binaries = Binaries::find().unwrap();
    let envelopes = offline::replay(&binaries, &capture, Some(&rig.agent.intel())).unwrap();
    let replayed = open_all(&envelopes, &Signer::development().public_key()).unwrap();
    let replayed = Story::of(replayed.iter().map(|one| &one.summary));

    assert_eq!(usize::try_from(replayed.packets()).unwrap(), drawn.len());
    let differences: Vec<String> = [
        differ(&live.conversations, &replayed.conversations),
        differ(&live.questions, &replayed.questions),
        differ(&live.hits, &replayed.hits),
    ]
    .concat();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What stands in one list and not in the other.
fn differ<T: PartialEq + std::fmt::Debug>(live: &[T], replayed: &[T]) -> Vec<String> {
    let only = |side: &str, these: &[T], others: &[T]| -> Vec<String> {
        let alone = these.iter().filter(|one| !others.contains(one));
        alone.map(|one| format!("only {side}: {one:?}")).collect()
    };
    let mut differences = only("live", live, replayed);
    differences.extend(only("replayed", replayed, live));
    if live.len() != replayed.len() {
        differences.push(format!("{} live, {} replayed", live.len(), replayed.len()));
    }
    differences
}
