//! `picket-agent run` as a service manager runs it: on real interfaces in a network namespace of its
//! own, against a collector over real TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collector;
#[path = "kernel/foreign.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod foreign;
#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;
#[path = "kernel/pinned.rs"]
mod pinned;
#[allow(dead_code, reason = "each test uses its part")]
mod running;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use collector::{Arrived, Authority, Collector};
use foreign::{Tcx, blind, detach_links};
use kernel::in_namespace;
use link::{OURS, Peer, THEIRS, send, socket};
use picket_wire::Signer;
use pinned::bpf_fs;
use running::{Running, SEED, Service, confined, counted, hits, windows};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_service_from_its_first_start_to_a_kill() {
    in_namespace(|| {
        let authority = Authority::new();
        let key = Signer::from_seed(&SEED).public_key();
        let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
        let peer = Peer::connect("pk-s0", "pk-s1");
        let service = Service::new("pk-s0", &collector, &authority);
        service.list("c2-ips.txt", &format!("{THEIRS}:4444\n"));

        // A hit is told while its window is open.
        let running = service.start();
        let ours = socket(OURS);
        let mut took = Vec::new();
        for n in 1..=10 {
            let from = socket(OURS);
            let begin = Instant::now();
            send(&from, format!("{THEIRS}:4444").parse().unwrap(), 10, 1);
            let all = collector.wait_for("a hit", |all| hits(all).len() == n);
            let arrived = all.iter().rfind(|one| one.summary.immediate).unwrap().at;
            took.push(arrived.duration_since(begin));
        }
        took.sort();
        println!(
            "packet to collector: median {:?}, longest {:?}",
            took[5], took[9]
        );
        send(&ours, format!("{THEIRS}:53").parse().unwrap(), 10, 100);
        let status = service.wait_for("packets", |status| {
            let packets = &status["packets"];
            packets["flow"].as_u64() >= Some(110) && packets["unsettled"] == 0
        });
        assert_eq!(status["packets"]["equation_holds"], true, "{status}");
        assert_eq!(status["indicators"]["count"], 1);
        assert_eq!(status["interfaces"], serde_json::json!(["pk-s0"]));
        let public_key: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(status["public_key"], public_key.as_str());

        // A second one would fork the chain.
        let second = service.command("run").output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&second.stderr).contains("another agent runs"));

        // A list that comes later.
        service.list("custom-ips.txt", &format!("{THEIRS}\n"));
        running.signal(Signal::HUP);
        service.wait_for("the list", |status| status["indicators"]["count"] == 2);
        send(
            &socket(OURS),
            format!("{THEIRS}:80").parse().unwrap(),
            10,
            1,
        );
        collector.wait_for("the listed address", |all| {
            hits(all).iter().any(|(indicator, _)| indicator == THEIRS)
        });

        // In order: the open window arrives, and every packet is accounted for.
        assert_eq!(running.stop(), Some(0));
        assert!(!service.path("agent.sock").exists());
        let first = collector.accepted();
        let seen = counted(&first, &["seen"]);
        assert_eq!(seen, counted(&first, &["flow", "not_flow_", "lost_"]));
        assert!(seen >= 111, "{seen}");
        for window in windows(&first) {
            let one = std::slice::from_ref(window);
            assert_eq!(
                counted(one, &["seen"]),
                counted(one, &["flow", "not_flow_", "lost_"])
            );
            assert_eq!(
                window.summary.host.capture,
                status["rung"].as_str().unwrap()
            );
            assert!(
                window
                    .summary
                    .host
                    .local
                    .iter()
                    .any(|net| net.address.to_string() == OURS)
            );
        }
        let told: u64 = windows(&first)
            .flat_map(|one| &one.summary.conversations)
            .filter(|c| c.server_port == 53)
            .map(|c| c.packets_out)
            .sum();
        assert_eq!(told, 100);
        assert!(
            first.iter().all(|one| one.summary.gap.is_none()),
            "the very first run"
        );

        // The next run tells of the time between, and of a kill.
        let gap = |why: &str| {
            let running = service.start();
            let all = collector.wait_for("a gap", |all| {
                all.iter()
                    .any(|one| one.summary.gap.as_ref().is_some_and(|gap| gap.why == why))
            });
            let with_gap = all
                .iter()
                .find(|one| one.summary.gap.as_ref().is_some_and(|gap| gap.why == why));
            (running, with_gap.unwrap().clone())
        };
        let (mut running, after_stop) = gap("stopped");
        let ended = windows(&first)
            .map(|one| one.summary.window.end_ns)
            .max()
            .unwrap();
        let told = after_stop.summary.gap.unwrap();
        assert_eq!(told.from_ns, ended);
        assert!(told.to_ns > ended);
        let at = windows(&collector.accepted()).count();
        collector.wait_for("another window", |all| windows(all).count() > at + 1);
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        drop(running);
        let (running, after_kill) = gap("killed");
        assert!(after_kill.summary.gap.unwrap().from_ns > told.to_ns);
        assert_eq!(running.stop(), Some(0));
        drop(peer);
    });
}

/// Killed in the midst of windows, and stopped in order, while datagrams go on: each is told once.
#[test]
fn a_service_that_is_killed_and_started_tells_of_every_packet() {
    in_namespace(|| {
        let folder = bpf_fs();
        let authority = Authority::new();
        let key = Signer::from_seed(&SEED).public_key();
        let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
        let peer = Peer::connect("pk-k0", "pk-k1");
        let service = Service::new("pk-k0", &collector, &authority);
        let pins = folder.path().join("bpf/picket");
        service.replace("pins = ''", &format!("pins = '{}'", pins.display()));
        // The other end answers each, which sets the pace. Its port is a server's.
        let theirs = peer.run(|| UdpSocket::bind((THEIRS, 5_000)).unwrap());
        let to = theirs.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let mut bytes = [0; 256];
            while let Ok((len, from)) = theirs.recv_from(&mut bytes)
                && len > 0
            {
                theirs.send_to(&bytes[..len], from).unwrap();
            }
        });
        let first = service.start();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let mut sent = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let ours = socket(OURS);
                for _ in 0..2_000 {
                    ours.send_to(&[7; 100], to).unwrap();
                    ours.recv(&mut [0; 256]).unwrap();
                    sent += 1;
                }
            }
            socket(OURS).send_to(&[], to).unwrap();
            sent + 1
        });
        let told = |all: &[Arrived]| -> u64 {
            let conversations = windows(all).flat_map(|one| &one.summary.conversations);
            let ours = conversations.filter(|one| one.server_port == to.port());
            ours.map(|one| one.packets_out).sum()
        };
        let mut first = Some(first);
        for round in 0..4 {
            let mut running = first.take().unwrap_or_else(|| service.start());
            let before = windows(&collector.accepted()).count();
            collector.wait_for("windows", |all| windows(all).count() > before + 1);
            if round % 2 == 0 {
                running.0.kill().unwrap();
                running.0.wait().unwrap();
            } else {
                assert_eq!(running.stop(), Some(0));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        answering.join().unwrap();
        let running = service.start();
        collector.wait_for("every datagram", |all| told(all) >= sent);
        assert_eq!(running.stop(), Some(0));
        let all = collector.accepted();
        let lost = counted(&all, &["lost_with_process"]);
        println!("{sent} datagrams, four ends of the agent, {lost} lost with a process");
        assert_eq!((told(&all), lost), (sent, 0));
        assert!(all.iter().all(|one| one.summary.gap.is_none()));
        for window in windows(&all) {
            let one = std::slice::from_ref(window);
            let seen = counted(one, &["seen"]);
            assert_eq!(seen, counted(one, &["flow", "not_flow_", "lost_"]));
        }
        let detach = service.command("detach").status().unwrap();
        assert!(detach.success() && !pins.exists());
    });
}

/// Windows last ten minutes here, so nothing but the kernel's word can tell in time.
#[test]
fn an_interface_that_comes_or_goes_is_noticed_at_once() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = Collector::start(&authority, "127.0.0.1:0", None);
        let peer = Peer::connect("pk-i0", "pk-i1");
        let add = || {
            link::command("ip link add pk-i2 type veth peer name pk-i3");
            link::command("ip link set pk-i2 up");
        };
        add();
        let service = Service::new("pk-i0', 'pk-i2", &collector, &authority);
        let config = fs::read_to_string(service.path("agent.toml")).unwrap();
        let config = config.replace("window_s = 1\n", "window_s = 600\n");
        fs::write(service.path("agent.toml"), config).unwrap();
        let running = service.start();
        let watched = |wanted: &'static [&'static str]| {
            move |status: &Value| {
                let names = status["interfaces"].as_array();
                let names = names.into_iter().flatten().filter_map(Value::as_str);
                names.eq(wanted.iter().copied())
            }
        };
        service.wait_for("both", watched(&["pk-i0", "pk-i2"]));
        // Traffic goes on over the other meanwhile.
        let (from, to) = (socket(OURS), format!("{THEIRS}:9").parse().unwrap());
        send(&from, to, 10, 100);
        link::command("ip link del pk-i2");
        service.wait_for("the one left", watched(&["pk-i0"]));
        send(&from, to, 10, 100);
        add();
        service.wait_for("the new one", watched(&["pk-i0", "pk-i2"]));
        assert_eq!(running.stop(), Some(0));
        drop(peer);
    });
}

#[test]
fn a_service_tells_that_it_was_taken_off_or_blinded() {
    in_namespace(|| {
        let authority = Authority::new();
        let key = Signer::from_seed(&SEED).public_key();
        let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
        let peer = Peer::connect("pk-s2", "pk-s3");
        let service = Service::new("pk-s2", &collector, &authority);
        let running = service.start();
        let canary = |one: &Arrived| one.summary.health.clone().and_then(|all| all.canary);
        let well = |one: &Arrived| {
            canary(one).is_some_and(|canary| canary.sent > 0 && canary.failed().is_none())
        };
        collector.wait_for("a canary", |all| windows(all).any(well));
        let status = service.wait_for("the canary", |status| {
            status["health"]["canary"]["hit"].as_u64() > Some(0)
        });
        assert_eq!(status["health"]["interfaces"][0]["name"], "pk-s2");

        if status["rung"] == "tcx" {
            for direction in [Tcx::In, Tcx::Out] {
                assert_eq!(detach_links("pk-s2", direction), 1);
            }
            let all = collector.wait_for("the foreign hand", |all| {
                windows(all).map(detached).sum::<usize>() == 2
            });
            let all: Vec<_> = windows(&all)
                .filter_map(|one| one.summary.health.clone())
                .flat_map(|health| health.detached)
                .map(|one| (one.interface, one.direction, one.again))
                .collect();
            let told = |direction: &str| ("pk-s2".to_owned(), direction.to_owned(), true);
            assert_eq!(all.len(), 2);
            assert!(
                all.contains(&told("in")) && all.contains(&told("out")),
                "{all:?}"
            );
            // It sees again.
            let from = socket(OURS);
            send(&from, format!("{THEIRS}:9").parse().unwrap(), 10, 7);
            service.wait_for("packets", |status| {
                status["packets"]["flow"].as_u64() >= Some(7)
            });
        }

        // Somebody with root switches matching off in the kernel.
        blind(running.0.id());
        let all = collector.wait_for("a canary that fails", |all| {
            windows(all).any(|one| canary(one).is_some_and(|one| one.failed() == Some("hit")))
        });
        let failed = service.wait_for("the failure", |status| {
            status["health"]["canary"]["failed"] == "hit"
        });
        assert_eq!(failed["packets"]["equation_holds"], true, "{failed}");
        let text = service.command("status").output().unwrap();
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("FAILED: hit"), "{text}");
        assert!(text.contains("adds up"), "{text}");

        // A set that is put in force anew undoes it.
        running.signal(Signal::HUP);
        let seen = windows(&all).count();
        collector.wait_for("a canary that is well", |all| {
            windows(all).skip(seen).any(well)
        });
        assert_eq!(running.stop(), Some(0));
        for window in windows(&collector.accepted()) {
            let balance = window.summary.balance().unwrap();
            assert_eq!(balance.check(), Ok(()), "{balance:?}");
            let ours = |c: &&picket_wire::Conversation| {
                [c.client, c.server].contains(&"198.51.100.253".parse().unwrap())
            };
            assert_eq!(window.summary.conversations.iter().find(ours), None);
        }
        drop(peer);
    });
}

fn detached(one: &Arrived) -> usize {
    let health = one.summary.health.as_ref();
    health.map_or(0, |health| health.detached.len())
}

#[test]
fn without_a_collector_hits_are_lines() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = Collector::start(&authority, "127.0.0.1:0", None);
        let peer = Peer::connect("pk-a0", "pk-a1");
        let service = Service::new("pk-a0", &collector, &authority);
        service.list("mining-ips.txt", &format!("{THEIRS}\n"));
        let mut command = service.command("run");
        command
            .arg("--standalone")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running(command.spawn().unwrap());
        let mut log = BufReader::new(running.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("watching") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        }
        send(
            &socket(OURS),
            format!("{THEIRS}:3333").parse().unwrap(),
            10,
            1,
        );
        let mut out = BufReader::new(running.0.stdout.take().unwrap());
        line.clear();
        out.read_line(&mut line).unwrap();
        let hit: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&hit["kind"], &hit["category"]),
            (&"address".into(), &"mining".into())
        );
        assert_eq!(
            (&hit["dst_ip"], &hit["dst_port"]),
            (&THEIRS.into(), &3333.into())
        );
        assert_eq!(
            (&hit["proto"], &hit["local"]),
            (&"udp".into(), &"src".into())
        );
        assert_eq!(hit["listed"], "dst");
        let process = &hit["process"];
        assert_eq!(process["pid"], std::process::id(), "{hit}");
        assert!(process["start"].as_f64().unwrap() > 1.7e9, "{hit}");
        assert!(process["uid"].is_u64(), "{hit}");
        assert_eq!(
            process["parent"]["pid"],
            std::os::unix::process::parent_id()
        );
        assert!(hit["time"].as_f64().unwrap() > 1.7e9);
        assert_eq!(running.stop(), Some(0));
        assert!(!service.path("state").exists(), "it keeps nothing");
        drop(peer);
    });
}

#[test]
fn without_kernel_programs_packet_sockets_take_over() {
    in_namespace(|| {
        let authority = Authority::new();
        let key = Signer::from_seed(&SEED).public_key();
        let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
        let peer = Peer::connect("pk-f0", "pk-f1");
        let service = Service::new("pk-f0", &collector, &authority);
        service.list("c2-ips.txt", &format!("{THEIRS}:4444\n"));
        let log = service.path("log");
        let child = confined(&service, "-all,+net_raw,+dac_override")
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut running = Running(child);
        let status = service.wait_for("a status", |_| true);
        assert_eq!(status["rung"], "afpacket");
        let told = fs::read_to_string(&log).unwrap();
        let why = told.lines().find(|line| line.contains("lower rung"));
        assert!(why.unwrap().contains("kernel programs: "), "{told}");

        let mut took = Vec::new();
        for n in 1..=10 {
            let begin = Instant::now();
            send(
                &socket(OURS),
                format!("{THEIRS}:4444").parse().unwrap(),
                10,
                1,
            );
            let all = collector.wait_for("a hit", |all| hits(all).len() == n);
            let arrived = all.iter().rfind(|one| one.summary.immediate).unwrap().at;
            took.push(arrived.duration_since(begin));
        }
        took.sort();
        println!(
            "packet to collector: median {:?}, longest {:?}",
            took[5], took[9]
        );
        send(
            &socket(OURS),
            format!("{THEIRS}:53").parse().unwrap(),
            10,
            100,
        );
        let status = service.wait_for("packets", |status| {
            status["packets"]["flow"].as_u64() >= Some(110)
        });
        assert_eq!(status["packets"]["equation_holds"], true, "{status}");
        running.signal(Signal::TERM);
        assert_eq!(running.0.wait().unwrap().code(), Some(0));
        let all = collector.accepted();
        assert!(all.iter().all(|one| one.summary.host.capture == "afpacket"));
        assert_eq!(
            counted(&all, &["seen"]),
            counted(&all, &["flow", "not_flow_", "lost_"])
        );
        drop(peer);
    });
}

#[test]
fn a_refusal_names_what_each_rung_lacks() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = Collector::start(&authority, "127.0.0.1:0", None);
        let peer = Peer::connect("pk-r0", "pk-r1");
        let service = Service::new("pk-r0", &collector, &authority);
        let check = |rung: &str, code: i32, says: &[&str], not: &[&str]| {
            let before = fs::read(service.path("agent.toml")).unwrap();
            service.add("[capture]", &format!("rung = '{rung}'"));
            let output = confined(&service, "-all,+dac_override").output().unwrap();
            fs::write(service.path("agent.toml"), before).unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{told}");
            assert!(says.iter().all(|word| told.contains(word)), "{told}");
            assert!(!not.iter().any(|word| told.contains(word)), "{told}");
        };
        let programs = "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF";
        check("auto", 1, &[programs, "CAP_NET_RAW"], &[]);
        check("tcx", 1, &[programs], &["CAP_NET_RAW"]);
        check("afpacket", 1, &["CAP_NET_RAW"], &["CAP_BPF"]);
        check("xdp", 78, &["capture.rung"], &[]);
        drop(peer);
    });
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket-agent"));
    command.args(arguments).output().unwrap()
}

#[test]
fn a_bad_configuration_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut check = |text: &str, code: i32, says: &[&str]| {
        file.as_file_mut().set_len(0).unwrap();
        fs::File::create(file.path())
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = run(&["run", "--config", file.path().to_str().unwrap()]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}: {told}");
        for word in says {
            assert!(told.contains(word), "{text}: {told}");
        }
    };
    let name = "configuration";
    check("windows_s = 1", 78, &[name, "windows_s"]);
    check("[spool]\nbytes_max = 'x'", 78, &[name, "spool.bytes_max"]);
    check("", 78, &["collector", "missing"]);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display();
    let whole = format!(
        "collector = 'https://127.0.0.1:1'\nca_files = ['{state}/ca.pem']\nstate_dir = '{state}'\n\
         socket = '{state}/agent.sock'\n[identity]\ninstance = 'web-1'\naccount = '111122223333'\nregion = 'r'\n"
    );
    check(&whole, 78, &["ca_files", "ca.pem"]);
    fs::copy(Authority::new().file(), folder.path().join("ca.pem")).unwrap();
    let proxied =
        format!("proxy = 'http://127.0.0.1:1'\nproxy_credentials_file = '{state}/none'\n{whole}");
    check(&proxied, 78, &["proxy_credentials_file", "none"]);
    let keyed = format!("{whole}[indicators]\nkey_file = '{state}/none'\n");
    check(&keyed, 78, &["indicators.key_file", "none"]);
    let ordered = format!(
        "{whole}[block]\nenabled = true\norders_file = '{state}/orders'\nkey_file = '{state}/none'\n"
    );
    check(&ordered, 78, &["block.key_file", "none"]);
    let listed = format!("intel_dir = '{state}/none'\n{whole}");
    check(&listed, 78, &["intel_dir", "none"]);
    let missing = run(&["run", "--config", "/nonexistent/agent.toml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/agent.toml"));
    assert_eq!(run(&["run"]).status.code(), Some(2));
}

/// A start that fails is no run that was killed: the first that succeeds tells of no gap.
#[test]
fn a_start_that_fails_leaves_its_key_and_no_gap() {
    let authority = Authority::new();
    let collector = Collector::start(&authority, "127.0.0.1:0", None);
    let service = Service::new("pk-nowhere", &collector, &authority);
    fs::remove_file(service.path("agent.key")).unwrap();
    let mut command = service.command("run");
    let config = fs::read_to_string(service.path("agent.toml")).unwrap();
    fs::write(
        service.path("agent.toml"),
        format!("default_route = false\n{config}"),
    )
    .unwrap();
    let output = command.env("NO_COLOR", "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("key made") && told.contains("public_key="),
        "{told}"
    );
    assert!(service.path("agent.key").exists());
    assert!(!service.path("state/state.json").exists());
}

#[test]
fn nobody_to_ask_is_said() {
    let output = run(&["status", "--socket", "/nonexistent/agent.sock"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("is it running?") && told.contains("/nonexistent/agent.sock"),
        "{told}"
    );
}
