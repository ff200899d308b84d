//! Every scenario from a drawn capture: `replay | analyze`, without root and without a network.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use picket_tests::product::offline::{self, Logs};
use picket_tests::product::story::{Story, open_all};
use picket_tests::product::{Analysis, Binaries};
use picket_tests::scene::{Scenario, pcap, sketch};
use picket_wire::Signer;

/// A scenario's files, with its first packet at a given time.
struct Drawn {
    binaries: Binaries,
    folder: tempfile::TempDir,
}

impl Drawn {
    fn new(scenario: &Scenario, start: Duration) -> Self {
        let drawn = Self {
            binaries: Binaries::find().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        scenario.write_indicators(&drawn.path("intel")).unwrap();
        fs::create_dir(drawn.path("cloudtrail")).unwrap();
        let now = Timestamp::from_second(i64::try_from(start.as_secs()).unwrap()).unwrap();
        for file in scenario.cloudtrail.keys() {
            scenario
                .deliver(file, &drawn.path("cloudtrail"), now)
                .unwrap();
        }
        let capture = pcap::capture(&sketch::sketch(scenario, start));
        fs::write(drawn.path("scene.pcap"), capture).unwrap();
        drawn
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn replay(&self) -> Vec<u8> {
        let (capture, intel) = (self.path("scene.pcap"), self.path("intel"));
        offline::replay(&self.binaries, &capture, Some(&intel)).unwrap()
    }

    fn analyze(&self, envelopes: &[u8]) -> Analysis {
        let logs = Logs {
            cloudtrail: Some(self.path("cloudtrail")),
            intel: Some(self.path("intel")),
        };
        offline::analyze(&self.binaries, envelopes, &logs).unwrap()
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

#[test]
fn each_scenario_gives_its_findings_and_no_others() {
    for name in Scenario::all().unwrap() {
        let scenario = Scenario::load(&name).unwrap();
        let drawn = Drawn::new(&scenario, now());
        let analysis = drawn.analyze(&drawn.replay());
        let missing = scenario.expected.missing(&analysis.findings);
        let found: Vec<_> = analysis
            .findings
            .iter()
            .map(|one| one["type"].clone())
            .collect();
        assert!(
            missing.is_empty(),
            "{name}: missing {missing:?}, found {found:?}"
        );
        let surplus = scenario.expected.surplus(&analysis.findings);
        assert!(surplus.is_empty(), "{name}: {surplus:?} was not expected");
        if let Some(incident) = &scenario.expected.incident {
            let found = analysis.incidents.iter().any(|one| incident.is(one));
            assert!(found, "{name}: incidents {:#?}", analysis.incidents);
        }
    }
}

/// The same capture at the same time tells the same, to the byte.
#[test]
fn twice_the_same() {
    let scenario = Scenario::load("intrusion").unwrap();
    let start = Duration::from_secs(1_800_000_003);
    let drawn = Drawn::new(&scenario, start);
    let (first, second) = (drawn.replay(), drawn.replay());
    assert_eq!(first, second);
    let (one, other) = (drawn.analyze(&first), drawn.analyze(&second));
    assert_eq!(one.findings, other.findings);
    assert_eq!(one.incidents, other.incidents);
}

/// What the envelopes tell is what was drawn: every packet, every question.
#[test]
fn envelopes_hold_every_packet() {
    for name in Scenario::all().unwrap() {
        let scenario = Scenario::load(&name).unwrap();
        let start = Duration::from_secs(1_800_000_003);
        let drawn = sketch::sketch(&scenario, start).len();
        let envelopes = Drawn::new(&scenario, start).replay();
        let opened = open_all(&envelopes, &Signer::development().public_key()).unwrap();
        let story = Story::of(opened.iter().map(|one| &one.summary));
        assert_eq!(usize::try_from(story.packets()).unwrap(), drawn, "{name}");
        for (number, one) in opened.iter().enumerate() {
            assert_eq!(
                usize::try_from(one.header.sequence).unwrap(),
                number,
                "{name}"
            );
        }
    }
}
