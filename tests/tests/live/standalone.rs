//! The agent without a collector: hits as JSON lines, and lists that change while it runs.

use std::fs;
use std::time::Duration;

use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::rig::skips;
use picket_tests::product::{Rig, json_lines};
use picket_tests::scene::Scenario;
use rustix::process::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn hits(rig: &mut Rig) -> Vec<Value> {
    let out = rig.agent.process().unwrap().stdout();
    json_lines(out.as_bytes()).unwrap()
}

#[test]
fn hits_are_printed_as_soon_as_they_are_listed() {
    if skips() {
        return;
    }
    let scenario = Scenario::load("c2-lookup").unwrap();
    let mut rig = Rig::lay_out(&scenario, Wire::Ordinary).unwrap();
    for list in scenario.indicators.keys() {
        fs::remove_file(rig.agent.intel().join(list)).unwrap();
    }
    rig.agent.start_standalone().unwrap();
    rig.play(&scenario).unwrap();

    scenario.write_indicators(&rig.agent.intel()).unwrap();
    rig.agent.process().unwrap().signal(Signal::HUP).unwrap();
    // The log says that the lists were read; in force they are soon after. Hits say that they are.
    wait_until("the lists to be read", LIMIT, || {
        let said = rig.agent.process()?.stderr();
        Ok(said.contains("indicators reloaded").then_some(()))
    })
    .unwrap();
    assert_eq!(
        hits(&mut rig),
        Vec::<Value>::new(),
        "nothing was listed yet"
    );
    let waited = wait_until("a hit of each kind", LIMIT, || {
        rig.play(&scenario)?;
        let hits = hits(&mut rig);
        let has = |kind: &str| hits.iter().any(|hit| hit["kind"] == kind);
        let has_v6 = hits.iter().any(|hit| hit["dst_ip"] == "2001:db8:bad::66");
        Ok((has("dns") && has("address") && has_v6).then_some(()))
    });
    let hits = hits(&mut rig);
    let log = rig.agent.process().unwrap().tail(20);
    assert!(waited.is_ok(), "{hits:#?}\n{log}");
    let met = |kind: &str, indicator: &str| {
        let is = |hit: &&Value| hit["kind"] == kind && hit["indicator"] == indicator;
        let found = hits.iter().find(is);
        assert!(found.is_some(), "no {kind} hit for {indicator}: {hits:#?}");
    };
    met("dns", "cdn-sync.example");
    met("address", "203.0.113.66");
    met("address", "2001:db8:bad::/48");
    assert!(hits.iter().all(|hit| hit["category"] == "c2"));
    rig.agent.stop().unwrap();
}
