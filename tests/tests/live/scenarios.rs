//! Every scenario folder, played live: its findings arrive by webhook and no others; and what a tap
//! recorded meanwhile gives the same findings when it is replayed.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use picket_tests::lab::Wire;
use picket_tests::lab::tap::Recording;
use picket_tests::lab::topology::SCENE_INTERFACE;
use picket_tests::product::offline::{self, Logs};
use picket_tests::product::rig::skips;
use picket_tests::product::{Binaries, Rig};
use picket_tests::scene::{Scenario, pcap};
use serde_json::Value;

/// From the last packet to the last finding: a window of 10 s, the 30 s that a late agent is granted,
/// and room for a machine that is busy with seven labs at once.
const LIMIT: Duration = Duration::from_secs(120);

/// How long after a packet's window its windowed findings may still come (design, event time).
const LATENESS: Duration = Duration::from_secs(30);

fn types(findings: &[Value]) -> BTreeSet<String> {
    let kinds = findings.iter().map(|one| one["type"].as_str());
    kinds
        .map(|kind| kind.unwrap_or_default().to_owned())
        .collect()
}

fn scenario(name: &str) {
    if skips() {
        return;
    }
    let scenario = Scenario::load(name).unwrap();
    let rig = Rig::raise(&scenario, Wire::Plain).unwrap();
    let recording = Recording::start(&rig.lab.instance, SCENE_INTERFACE).unwrap();
    rig.play(&scenario).unwrap();
    let ended = SystemTime::now();

    let mut watch = rig.watch();
    let complete = watch.until_complete(&scenario.expected, LIMIT, |_| {});
    assert!(
        complete.is_ok(),
        "{:#}\n{}",
        complete.unwrap_err(),
        rig.tail(20)
    );
    rig.until_judged(ended + LATENESS, LIMIT).unwrap();
    watch.look().unwrap();
    let live = &watch.states;
    let surplus = scenario.expected.surplus(live);
    assert!(
        surplus.is_empty(),
        "{surplus:?} was not expected: {live:#?}"
    );
    assert_eq!(rig.webhook.unsigned(), 0);
    if let Some(expected) = &scenario.expected.incident {
        rig.incident(expected, LIMIT).unwrap();
    }

    let capture = rig.lab.folder().join("scene.pcap");
    fs::write(&capture, pcap::capture(&recording.end().unwrap())).unwrap();
    let binaries = Binaries::find().unwrap();
    let intel = rig.collector.intel();
    let envelopes = offline::replay(&binaries, &capture, Some(&intel)).unwrap();
    let logs = Logs {
        cloudtrail: Some(rig.collector.cloudtrail()),
        intel: Some(intel),
    };
    let analysis = offline::analyze(&binaries, &envelopes, &logs).unwrap();
    assert_eq!(types(&analysis.findings), types(live));
    let missing = scenario.expected.missing(&analysis.findings);
    assert!(missing.is_empty(), "the replay lacks {missing:?}");
}

#[test]
fn scenario_c2_lookup() {
    scenario("c2-lookup");
}

#[test]
fn scenario_custom_lists() {
    scenario("custom-lists");
}

#[test]
fn scenario_dns_over_tls() {
    scenario("dns-over-tls");
}

#[test]
fn scenario_dns_tunnel() {
    scenario("dns-tunnel");
}

#[test]
fn scenario_intrusion() {
    scenario("intrusion");
}

#[test]
fn scenario_made_user() {
    scenario("made-user");
}

#[test]
fn scenario_metadata_rebind() {
    scenario("metadata-rebind");
}

#[test]
fn scenario_mining_pool() {
    scenario("mining-pool");
}

#[test]
fn scenario_password_guessing() {
    scenario("password-guessing");
}

#[test]
fn scenario_port_scan() {
    scenario("port-scan");
}

#[test]
fn scenario_port_sweep() {
    scenario("port-sweep");
}

#[test]
fn scenario_quiet() {
    scenario("quiet");
}

#[test]
fn scenario_stolen_key() {
    scenario("stolen-key");
}

#[test]
fn scenario_udp_flood() {
    scenario("udp-flood");
}

/// A new folder needs a test here.
#[test]
fn every_scenario_is_played() {
    let here = [
        "c2-lookup",
        "custom-lists",
        "dns-over-tls",
        "dns-tunnel",
        "intrusion",
        "made-user",
        "metadata-rebind",
        "mining-pool",
        "password-guessing",
        "port-scan",
        "port-sweep",
        "quiet",
        "stolen-key",
        "udp-flood",
    ];
    assert_eq!(Scenario::all().unwrap(), here);
}
