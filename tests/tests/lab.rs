//! The lab itself: it stands, it answers, it shows what was played, and it leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use picket_tests::lab::internet::Internet;
use picket_tests::lab::resolver::Resolver;
use picket_tests::lab::tap::Recording;
use picket_tests::lab::topology::{self, SCENE_INTERFACE};
use picket_tests::lab::{Lab, Wire, wait_until};
use picket_tests::scene::pcap::Timed;
use picket_tests::scene::{Scenario, play, sketch};

/// Says why the tests here cannot run, if they cannot.
fn skips() -> bool {
    let lacking = topology::lacking();
    if !lacking.is_empty() {
        eprintln!("skipped: this machine lacks {}", lacking.join(", "));
    }
    !lacking.is_empty()
}

/// Protocol, addresses and ports of an Ethernet frame's TCP or UDP packet, without the ephemeral
/// port.
fn conversation(timed: &Timed) -> Option<(u8, Vec<u8>, u16)> {
    let frame = &timed.frame;
    let (protocol, addresses, ports) = match frame.get(12..14)? {
        [0x08, 0x00] => (frame[23], frame[26..34].to_vec(), 34),
        [0x86, 0xdd] => (frame[20], frame[22..54].to_vec(), 54),
        _ => return None,
    };
    if protocol != 6 && protocol != 17 {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    Some((protocol, addresses, port(ports).min(port(ports + 2))))
}

#[test]
fn what_is_played_is_what_is_sketched() {
    if skips() {
        return;
    }
    let lab = Lab::build(Wire::Plain).unwrap();
    let cloudtrail = lab.folder().join("cloudtrail");
    std::fs::create_dir(&cloudtrail).unwrap();
    for name in Scenario::all().unwrap() {
        let scenario = Scenario::load(&name).unwrap();
        let names = scenario.names.iter().map(|(name, at)| (name.as_str(), *at));
        let _resolver = Resolver::start(&lab, names).unwrap();
        let _internet = Internet::start(&lab.internet, scenario.services.clone()).unwrap();
        let recording = Recording::start(&lab.instance, SCENE_INTERFACE).unwrap();
        play::play(&scenario, &lab.instance, &cloudtrail).unwrap();
        let sketched = sketch::sketch(&scenario, Duration::from_secs(1_800_000_000));
        let seen: BTreeSet<_> = recording
            .end()
            .unwrap()
            .iter()
            .filter_map(conversation)
            .collect();
        let drawn: BTreeSet<_> = sketched.iter().filter_map(conversation).collect();
        assert_eq!(seen, drawn, "{name}");
    }
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    if skips() {
        return;
    }
    let lab = Lab::build(Wire::Silent).unwrap();
    let (name, folder) = (lab.name().to_owned(), lab.folder().to_owned());
    let paths: Vec<_> = [&lab.instance, &lab.internet, &lab.collector]
        .iter()
        .map(|namespace| namespace.path().to_owned())
        .collect();
    let mut sleeper = lab.instance.command("sleep");
    sleeper.arg("600");
    let sleeper = picket_tests::lab::Process::start("sleeper", sleeper, lab.folder()).unwrap();
    let proc = Path::new("/proc").join(sleeper.id().to_string());
    assert!(proc.exists() && folder.exists());
    assert!(paths.iter().all(|path| path.exists()), "{name}");
    drop(sleeper);
    drop(lab);
    wait_until("the process to go", Duration::from_secs(5), || {
        Ok((!proc.exists()).then_some(()))
    })
    .unwrap();
    assert!(!folder.exists());
    assert!(paths.iter().all(|path| !path.exists()), "{name}");
}
