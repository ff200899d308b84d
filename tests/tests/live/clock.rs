//! The host's clock is set by hours while the sensor runs.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use picket_tests::lab::{Clock, Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::scene::Scenario;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR_S: i64 = 3_600;

/// How long the service manager waits for a sign of life.
const WATCHDOG: Duration = Duration::from_secs(4);

fn status(rig: &Rig) -> Value {
    rig.agent.status().unwrap().swap_remove(0)
}

fn number(status: &Value, place: &str) -> u64 {
    status.pointer(place).and_then(Value::as_u64).unwrap()
}

/// Waits until this many windows more are in the spool, or went through it.
fn until_windows(rig: &Rig, more: u64) {
    let before = number(&status(rig), "/spooled");
    wait_until("windows to close", LIMIT, || {
        Ok((number(&status(rig), "/spooled") >= before + more).then_some(()))
    })
    .unwrap();
}

/// Waits for signs of life that were given from now on.
fn until_fed(manager: &UnixDatagram, times: usize) {
    let mut told = [0; 512];
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut told).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    let mut fed = 0;
    while fed < times {
        let len = manager.recv(&mut told).unwrap();
        fed += usize::from(&told[..len] == b"WATCHDOG=1");
    }
}

#[test]
fn a_clock_set_by_hours_stops_nothing_and_loses_nothing() {
    if skips() {
        return;
    }
    let scenario = Scenario::load("c2-lookup").unwrap();
    let mut rig = Rig::lay_out(&scenario, Wire::Plain).unwrap();
    let Some(clock) = Clock::new(rig.lab.folder(), "agent").unwrap() else {
        println!("skipped: libfaketime is not installed");
        return;
    };
    rig.agent.set("", "window_s", 1.into()).unwrap();
    rig.agent.live_by(&clock);
    let socket = rig.lab.folder().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    rig.agent.tell_manager(&socket, WATCHDOG);
    let mut rig = rig.started().unwrap();
    until_windows(&rig, 2);
    let boot = status(&rig)["boot_id"].clone();

    // Ahead: windows go on and wait, as nobody takes what is signed in two hours.
    clock.set_ahead(2 * HOUR_S).unwrap();
    wait_until("the collector to refuse", LIMIT, || {
        let told = status(&rig);
        Ok(told["ship"]["refused"]["clock"].is_u64().then_some(()))
    })
    .unwrap();
    until_windows(&rig, 3);
    until_fed(&manager, 6);
    let waiting = number(&status(&rig), "/spool/envelopes");
    assert!(waiting >= 3, "{waiting}");
    let kind = "findings list --open --type DefenseEvasion:EC2/SensorClock";
    wait_until("the finding", LIMIT, || {
        Ok(rig.collector.ask(kind)?.pop().map(drop))
    })
    .unwrap();

    // Behind, then right: both are taken at once.
    for ahead_s in [-2 * HOUR_S, 0] {
        let accepted = number(&status(&rig), "/ship/accepted");
        clock.set_ahead(ahead_s).unwrap();
        until_windows(&rig, 3);
        until_fed(&manager, 6);
        wait_until("the collector to take them", LIMIT, || {
            Ok((number(&status(&rig), "/ship/accepted") >= accepted + 3).then_some(()))
        })
        .unwrap();
    }
    let told = status(&rig);
    assert_eq!(told["boot_id"], boot, "it was started again");
    assert_eq!(told["packets"]["equation_holds"], true, "{told}");
    let dropped = told["dropped"].as_object().unwrap();
    assert!(dropped.values().all(|count| *count == 0), "{told}");
    // What was signed ahead waits for its hour.
    assert!(number(&told, "/spool/envelopes") >= waiting, "{told}");
    assert!(rig.agent.process().unwrap().ended().unwrap().is_none());
}
