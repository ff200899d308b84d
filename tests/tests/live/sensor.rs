//! What is done to the sensor itself reaches the collector as a finding, and is over when it is over:
//! its filter taken away, its interface removed, more packets than it may take.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use picket_tests::lab::topology::{INSTANCE, ROUTER, SCENE_INTERFACE};
use picket_tests::lab::{Namespace, Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::scene::Scenario;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A rig whose windows last a second, on a rung of the ladder.
fn raise(rung: &str, capture: &[(&str, toml::Value)]) -> Rig {
    let scenario = Scenario::load("quiet").unwrap();
    let rig = Rig::lay_out(&scenario, Wire::Ordinary).unwrap();
    rig.agent.set("", "window_s", 1.into()).unwrap();
    rig.agent.set("capture", "rung", rung.into()).unwrap();
    for (key, value) in capture {
        rig.agent.set("capture", key, value.clone()).unwrap();
    }
    rig.started().unwrap()
}

/// The finding of a type, once the collector has it.
fn finding(rig: &Rig, kind: &str) -> Value {
    let found = wait_until(kind, LIMIT, || {
        let all = rig.collector.ask("findings list")?;
        Ok(all.into_iter().find(|one| one["type"] == kind))
    });
    found.map_err(|error| error.context(rig.tail(20))).unwrap()
}

fn what(finding: &Value) -> String {
    finding["picket"]["evidence"][0]["what"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// How often it occurred, a while of judged windows later.
fn count_later(rig: &Rig, kind: &str) -> u64 {
    rig.until_judged(SystemTime::now() + Duration::from_secs(2), LIMIT)
        .unwrap();
    finding(rig, kind)["service"]["count"].as_u64().unwrap()
}

fn run(namespace: &Namespace, line: &str) {
    let mut words = line.split_whitespace();
    let mut command: Command = namespace.command(words.next().unwrap());
    let status = command.args(words).status().unwrap();
    assert!(status.success(), "{line}: {status}");
}

/// Packets that the agent counts while the instance sends so many to nobody's port.
fn counted(rig: &Rig, packets: u64) -> u64 {
    let seen = |rig: &Rig| {
        rig.agent.status().unwrap()[0]["packets"]["seen"]
            .as_u64()
            .unwrap()
    };
    let before = seen(rig);
    rig.lab
        .instance
        .run(|| {
            let socket = UdpSocket::bind((INSTANCE, 0)).unwrap();
            for _ in 0..packets {
                socket.send_to(b"x", (ROUTER, 9)).unwrap();
            }
        })
        .unwrap();
    seen(rig) - before
}

#[test]
fn a_filter_that_is_taken_away_is_a_finding_and_comes_back() {
    const KIND: &str = "DefenseEvasion:EC2/SensorDetached";
    if skips() {
        return;
    }
    let rig = raise("clsact", &[]);
    run(
        &rig.lab.instance,
        &format!("tc filter del dev {SCENE_INTERFACE} egress"),
    );
    let found = finding(&rig, KIND);
    let told = what(&found);
    assert!(
        told.contains(SCENE_INTERFACE) && told.contains("(out)"),
        "{told}"
    );
    assert!(told.ends_with("it attached itself again"), "{told}");
    // It is over: the program counts again, and nothing is added to the finding.
    assert!(counted(&rig, 20) >= 20);
    assert_eq!(count_later(&rig, KIND), 1);
    let status = &rig.agent.status().unwrap()[0];
    assert_eq!(status["health"]["detached"], 1, "{status}");
    assert_eq!(status["packets"]["equation_holds"], true);

    run(
        &rig.lab.instance,
        &format!("tc qdisc del dev {SCENE_INTERFACE} clsact"),
    );
    let again = wait_until("the second time", LIMIT, || {
        let count = finding(&rig, KIND)["service"]["count"].as_u64();
        Ok((count >= Some(3)).then_some(()))
    });
    again.unwrap();
    assert!(counted(&rig, 20) >= 20);
}

#[test]
fn a_sensor_without_an_interface_is_blind_until_there_is_one() {
    const KIND: &str = "DefenseEvasion:EC2/SensorBlind";
    if skips() {
        return;
    }
    let rig = raise("auto", &[]);
    rig.lab
        .instance
        .ip(&format!("link del {SCENE_INTERFACE}"))
        .unwrap();
    let told = what(&finding(&rig, KIND));
    assert!(told.contains("it watches no interface"), "{told}");
    let skipped = &rig.agent.status().unwrap()[0]["skipped"][0];
    assert_eq!(skipped["name"], SCENE_INTERFACE);

    for line in [
        format!("link add {SCENE_INTERFACE} type veth peer name pk-other"),
        format!("addr add {INSTANCE}/24 dev {SCENE_INTERFACE}"),
        "link set pk-other up".to_owned(),
        format!("link set {SCENE_INTERFACE} up"),
        format!("neigh add {ROUTER} lladdr 02:00:00:00:00:01 dev {SCENE_INTERFACE}"),
    ] {
        rig.lab.instance.ip(&line).unwrap();
    }
    wait_until("the new interface to be watched", LIMIT, || {
        let status = &rig.agent.status()?[0];
        Ok((status["interfaces"][0] == SCENE_INTERFACE).then_some(()))
    })
    .unwrap();
    assert!(counted(&rig, 20) >= 20);
    let now = count_later(&rig, KIND);
    assert_eq!(count_later(&rig, KIND), now, "it sees again");
}

#[test]
fn a_flood_that_packet_sockets_cannot_take_is_a_finding() {
    const KIND: &str = "DefenseEvasion:EC2/SensorFlooded";
    if skips() {
        return;
    }
    let rig = raise("afpacket", &[("cpu_percent", 1.into())]);
    let over = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        // As many as a machine that does other things besides can send: large, so that they fill the
        // ring, and from several threads.
        for _ in 0..3 {
            scope.spawn(|| {
                rig.lab.internet.run(|| {
                    let socket = UdpSocket::bind((ROUTER, 0)).unwrap();
                    while !over.load(Ordering::Relaxed) {
                        // Refused while the host's answers wait; there are more.
                        drop(socket.send_to(&[0; 1_400], (INSTANCE, 9)));
                    }
                })
            });
        }
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what(&finding(&rig, KIND))));
        over.store(true, Ordering::Relaxed);
        found
    });
    let told = told.unwrap();
    assert!(
        told.contains("packets") && told.contains("windows in a row"),
        "{told}"
    );
    // Lost, and yet each is accounted for.
    let status = &rig.agent.status().unwrap()[0];
    assert_eq!(status["packets"]["equation_holds"], true, "{status}");
    let agents = rig.collector.ask("agents list").unwrap();
    let share = agents[0]["state"]["loss_share"].as_f64();
    assert!(share.unwrap() > 0.001, "{agents:?}");
}
