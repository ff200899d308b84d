//! An indicator that an operator enters is in the kernel of a connected agent within seconds, and what
//! meets it comes back as a finding; the figures are printed.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use picket_tests::lab::topology::INSTANCE;
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::scene::Scenario;
use picket_tests::scene::dns::Kind;
use picket_tests::scene::play;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Nobody of the lab.
const ADDRESS: &str = "203.0.113.250";
const NAME: &str = "entered.evil.example";

fn bundle(rig: &Rig) -> Value {
    rig.agent.status().unwrap()[0]["intel"].clone()
}

/// Waits until the agent has put a version in force.
fn until_in_force(rig: &Rig, version: u64) {
    let waited = wait_until("the version in force", LIMIT, || {
        Ok((bundle(rig)["version"].as_u64() >= Some(version)).then_some(()))
    });
    waited.map_err(|error| error.context(rig.tail(20))).unwrap();
}

/// Enters an indicator; returns the version it is in.
fn enter(rig: &Rig, value: &str) -> u64 {
    let told = rig
        .collector
        .ask(&format!("intel add {value} --category c2"))
        .unwrap();
    told[0]["bundle"].as_u64().unwrap()
}

/// Waits for a finding that mentions this; `act` is done again at each look.
fn until_found(rig: &Rig, mentions: &str, mut act: impl FnMut()) -> Value {
    let waited = wait_until("the finding", LIMIT, || {
        act();
        let all = rig.collector.ask("findings list")?;
        let told = |one: &Value| one.to_string().contains(mentions);
        Ok(all.into_iter().find(told))
    });
    waited.map_err(|error| error.context(rig.tail(20))).unwrap()
}

#[test]
fn what_an_operator_enters_is_met_in_the_kernel_within_seconds() {
    if skips() {
        return;
    }
    let scenario = Scenario::load("quiet").unwrap();
    let rig = Rig::lay_out(&scenario, Wire::Ordinary).unwrap();
    let key = rig.collector.state().join("signing.pub");
    let key = key.display().to_string();
    rig.agent.set("indicators", "key_file", key.into()).unwrap();
    let mut rig = rig.started().unwrap();
    until_in_force(&rig, 1);
    let standing = rig.collector.ask("intel status").unwrap();
    assert_eq!(standing[0]["version"], bundle(&rig)["version"]);

    let entered = Instant::now();
    let version = enter(&rig, ADDRESS);
    let answered = entered.elapsed();
    until_in_force(&rig, version);
    let in_force = entered.elapsed();
    let to: SocketAddr = SocketAddr::new(ADDRESS.parse().unwrap(), 4444);
    let finding = until_found(&rig, ADDRESS, || {
        let sent = rig.lab.instance.run(|| {
            let socket = UdpSocket::bind((INSTANCE, 0)).unwrap();
            socket.send_to(b"x", to).unwrap();
        });
        sent.unwrap();
    });
    let stored = entered.elapsed();
    assert_eq!(finding["type"], "Backdoor:EC2/C&CActivity.B");
    eprintln!(
        "measured: intel add answered after {:.2} s, address in force in the kernel of the agent \
         after {:.2} s, its hit stored as a finding after {:.2} s",
        answered.as_secs_f64(),
        in_force.as_secs_f64(),
        stored.as_secs_f64()
    );
    // It was the kernel that met it, and the hit says by which list and version.
    let status = rig.agent.status().unwrap();
    assert_eq!(status[0]["indicators"]["kernel"], "yes");
    let of_agent = finding["picket"]["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["kind"] == "hit")
        .unwrap();
    assert!(of_agent.to_string().contains("operator-c2"), "{of_agent}");

    let entered = Instant::now();
    let version = enter(&rig, NAME);
    until_in_force(&rig, version);
    let finding = until_found(&rig, NAME, || {
        // The lab's resolver does not know the name, and answers so.
        let asked = rig
            .lab
            .instance
            .run(|| play::lookup(NAME, Kind::A).map(drop));
        asked.unwrap().unwrap();
    });
    assert_eq!(finding["type"], "Backdoor:EC2/C&CActivity.B!DNS");
    eprintln!(
        "measured: a name entered is stored as a finding after {:.2} s",
        entered.elapsed().as_secs_f64()
    );

    // What it was given outlives a restart, with nobody there to give it again.
    rig.collector.kill().unwrap();
    rig.agent.kill().unwrap();
    rig.agent.start().unwrap();
    let kept = bundle(&rig);
    assert_eq!(kept["version"], version);
    assert!(kept["stale"].is_null(), "{kept}");
}
