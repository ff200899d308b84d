//! An order that an operator gives is carried out in the kernel of a connected agent within seconds,
//! and taken back as fast; it outlives restarts of both ends; where blocking is off it is only told. The
//! figures are printed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use picket_tests::lab::topology::{INSTANCE, ROUTER};
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::scene::Scenario;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Long for a connection over a wire of our own, short for one that cannot come about.
const CONNECT: Duration = Duration::from_millis(300);

/// Nobody of the lab.
const ELSEWHERE: &str = "203.0.113.250";

/// A rig whose agent knows the collector's key, and carries orders out or not.
fn raise(enabled: bool) -> Rig {
    let scenario = Scenario::load("quiet").unwrap();
    let rig = Rig::lay_out(&scenario, Wire::Ordinary).unwrap();
    let key = rig.collector.state().join("signing.pub");
    let key = key.display().to_string();
    rig.agent.set("indicators", "key_file", key.into()).unwrap();
    rig.agent.set("block", "enabled", enabled.into()).unwrap();
    let trusted = vec![toml::Value::from("198.51.100.0/24")];
    rig.agent.set("block", "trusted", trusted.into()).unwrap();
    rig.started().unwrap()
}

/// A server of the internet's.
fn server(rig: &Rig) -> SocketAddr {
    let bound = rig.lab.internet.run(|| {
        let server = TcpListener::bind((ROUTER, 0)).unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in server.incoming() {
                drop(connection);
            }
        });
        address
    });
    bound.unwrap()
}

fn connects(rig: &Rig, to: SocketAddr) -> bool {
    let connected = rig
        .lab
        .instance
        .run(|| TcpStream::connect_timeout(&to, CONNECT).is_ok());
    connected.unwrap()
}

/// Waits until connections come about, or do not any more.
fn until_connects(rig: &Rig, to: SocketAddr, wanted: bool) {
    let waited = wait_until("the order to be carried out", LIMIT, || {
        Ok((connects(rig, to) == wanted).then_some(()))
    });
    waited.map_err(|error| error.context(rig.tail(20))).unwrap();
}

fn status(rig: &Rig) -> Value {
    rig.agent.status().unwrap().swap_remove(0)
}

fn until_in_force(rig: &Rig, orders: u64) {
    let waited = wait_until("orders in force", LIMIT, || {
        Ok((rig.agent.status()?[0]["blocks"] == orders).then_some(()))
    });
    waited.map_err(|error| error.context(rig.tail(20))).unwrap();
}

/// The order of a value as the operator sees it, once what its agent did with it is as wanted.
fn until_listed(rig: &Rig, value: &str, done: impl Fn(&Value) -> bool) -> Value {
    let mut last = Vec::new();
    let waited = wait_until("the order in the list", LIMIT, || {
        last = rig.collector.ask("block list --over")?;
        let of_value = last.iter().rfind(|one| one["value"] == value);
        Ok(of_value.filter(|one| done(&one["agents"][0])).cloned())
    });
    waited
        .map_err(|error| error.context(format!("{last:?}")))
        .unwrap()
}

fn is(did: &str) -> impl Fn(&Value) -> bool {
    move |agent| agent["did"] == did
}

fn refused(rig: &Rig, words: &str) -> String {
    let output = rig.collector.command(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_order_is_carried_out_and_taken_back_within_seconds() {
    if skips() {
        return;
    }
    let mut rig = raise(true);
    let to = server(&rig);
    assert!(connects(&rig, to), "nothing is ordered");
    let instance = rig.collector.ask("agents list").unwrap()[0]["instance"].clone();
    let add = |value: &str, place: &str| {
        format!("block add {value} {place} --for 1h --reason found-by-test")
    };
    let by_host = format!("--host {}", instance.as_str().unwrap());

    let value = format!("{}:{}", to.ip(), to.port());
    let given = Instant::now();
    let answer = rig.collector.ask(&add(&value, &by_host)).unwrap();
    let answered = given.elapsed();
    until_in_force(&rig, 1);
    let in_force = given.elapsed();
    assert_eq!(answer[0]["agents"], 1);
    assert!(!connects(&rig, to), "it is dropped in the kernel");
    let listed = until_listed(&rig, &value, |agent| {
        agent["did"] == "applied" && agent["flows"].as_u64() >= Some(1)
    });
    let told = given.elapsed();
    assert_eq!(listed["reason"], "found-by-test");
    let flow = listed["agents"][0]["last_flow"].as_str().unwrap();
    assert!(flow.contains(&format!("-> {value}")), "{flow}");
    eprintln!(
        "measured: block add answered after {:.2} s, in force in the kernel of the agent after \
         {:.2} s, the first dropped flow listed after {:.2} s",
        answered.as_secs_f64(),
        in_force.as_secs_f64(),
        told.as_secs_f64()
    );

    // Both ends are killed; it holds again without anybody's doing.
    rig.agent.kill().unwrap();
    rig.agent.start().unwrap();
    until_in_force(&rig, 1);
    assert!(!connects(&rig, to), "it holds after a restart of the agent");
    rig.collector.kill().unwrap();
    assert!(!connects(&rig, to), "it holds without the collector");
    rig.collector.start().unwrap();

    let taken = Instant::now();
    rig.collector.ask(&format!("block remove {value}")).unwrap();
    until_connects(&rig, to, true);
    eprintln!(
        "measured: block remove to the first connection after {:.2} s, with an agent that has to find \
         its collector again",
        taken.elapsed().as_secs_f64()
    );
    until_listed(&rig, &value, is("lifted"));

    // Once more, with an agent that waits for it.
    let wait_for_version = |rig: &Rig| {
        let before = status(rig)["orders"]["version"].clone();
        move |rig: &Rig| {
            let waited = wait_until("another version", LIMIT, || {
                let now = rig.agent.status()?[0]["orders"]["version"].clone();
                Ok((now != before).then_some(()))
            });
            waited.unwrap();
        }
    };
    let wait = wait_for_version(&rig);
    rig.collector
        .ask(&add(&to.ip().to_string(), "--all"))
        .unwrap();
    wait(&rig);
    until_connects(&rig, to, false);
    let taken = Instant::now();
    rig.collector
        .ask(&format!("block remove {} --all", to.ip()))
        .unwrap();
    until_in_force(&rig, 0);
    let lifted = taken.elapsed();
    assert!(connects(&rig, to), "it flows again");
    eprintln!(
        "measured: block remove in force in the kernel after {:.2} s",
        lifted.as_secs_f64()
    );

    // An order ends by itself.
    let short = format!("block add {value} --all --for 2s --reason brief");
    rig.collector.ask(&short).unwrap();
    until_listed(&rig, &value, is("expired"));
    assert!(connects(&rig, to), "it is over");

    // What the host trusts it refuses, and the operator sees it.
    rig.collector.ask(&add("198.51.100.7", "--all")).unwrap();
    let listed = until_listed(&rig, "198.51.100.7", is("refused"));
    assert_eq!(listed["agents"][0]["why"], "protected by 198.51.100.0/24");

    // What may never be blocked is refused before anybody is told.
    for (value, why) in [
        ("169.254.169.254", "metadata service"),
        ("169.254.169.253", "resolver"),
        ("127.0.0.1", "loopback"),
        (&rig.collector.address(), "the collector itself"),
        ("0.0.0.0/0", "too wide"),
        ("evil.example", "is a name"),
    ] {
        let told = refused(&rig, &add(value, "--all"));
        assert!(told.contains(why), "{value}: {told}");
    }
    let audited = rig.collector.ask("audit").unwrap();
    let of_blocks = |outcome: &str| {
        let all = audited.iter().filter(|one| {
            let what = one["what"].as_str().unwrap_or_default();
            what.contains("/v1/blocks") && one["outcome"].as_str().unwrap().starts_with(outcome)
        });
        all.count()
    };
    let counts = (of_blocks("done"), of_blocks("failed"));
    assert_eq!(counts, (6, 6), "{audited:?}");
    let why = |part: &str| {
        let mut details = audited.iter().filter_map(|one| one["detail"].as_str());
        details.any(|detail| detail.contains(part))
    };
    assert!(
        why("metadata service") && why("found-by-test"),
        "{audited:?}"
    );
}

#[test]
fn where_blocking_is_off_the_operator_sees_what_would_have_been() {
    if skips() {
        return;
    }
    let rig = raise(false);
    let to = server(&rig);
    let value = to.ip().to_string();
    for value in [&value, ELSEWHERE] {
        let words = format!("block add {value} --all --for 1h --reason found-by-test");
        rig.collector.ask(&words).unwrap();
    }
    until_listed(&rig, &value, is("dry_run"));
    for _ in 0..5 {
        assert!(connects(&rig, to), "nothing is dropped");
    }
    let listed = until_listed(&rig, &value, |agent| agent["flows"].as_u64() >= Some(5));
    let flow = listed["agents"][0]["last_flow"].as_str().unwrap();
    assert!(flow.contains(&INSTANCE.to_string()), "{flow}");
    assert_eq!(until_listed(&rig, ELSEWHERE, is("dry_run"))["flows"], 0);
    let status = status(&rig);
    assert_eq!(
        (&status["blocks"], &status["dry_run_blocks"]),
        (&0.into(), &2.into()),
        "{status}"
    );
    assert!(connects(&rig, to));
}
