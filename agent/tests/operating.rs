//! What an operator configures and asks, on a running agent: filters, privacy, what `doctor` calls a
//! fault, log lines. Needs root; skips with the reason where it cannot run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test uses its part")]
mod collector;
#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;
#[allow(dead_code, reason = "each test uses its part")]
mod running;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::time::Instant;

use collector::{Arrived, Authority, Collector};
use kernel::in_namespace;
use link::{OURS, Peer, THEIRS, command, send, send_tcp, socket};
use picket_wire::Signer;
use running::{LIMIT, Running, SEED, Service, windows};
use serde_json::Value;

/// A collector that believes the agent.
fn collector(authority: &Authority) -> Collector {
    let key = Signer::from_seed(&SEED).public_key();
    Collector::start(authority, "127.0.0.1:0", Some(key))
}

/// A question for `<label>.<of>.example`, type A, class IN (RFC 1035 4.1).
fn question(labels: &[&str]) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Whether all windows that came add up, as a collector checks it.
fn add_up(all: &[Arrived]) {
    for one in windows(all) {
        assert_eq!(one.summary.balance().unwrap().check(), Ok(()));
    }
}

#[test]
fn what_is_left_out_is_counted_and_hits_are_told() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = collector(&authority);
        let peer = Peer::connect("pk-t0", "pk-t1");
        // A second network of the peer's, which is not left out.
        command("ip addr add 10.7.0.1/24 dev pk-t0");
        peer.run(|| command("ip addr add 10.7.0.2/24 dev pk-t1"));
        let service = Service::new("pk-t0", &collector, &authority);
        service.list("c2-ips.txt", &format!("{THEIRS}:7\n"));
        service.list("c2-domains.txt", "evil.corp.example\n");
        let keys = "ranges = ['10.9.0.0/24']\nnames = ['corp.example']\n";
        service.add("[filter]", keys);
        let running = service.start();
        let (ours, other) = (socket(OURS), socket("10.7.0.1"));
        let to = |text: String| text.parse().unwrap();
        send(&ours, to(format!("{THEIRS}:9")), 10, 5);
        send(&ours, to(format!("{THEIRS}:7")), 10, 1);
        send(&other, to("10.7.0.2:9".to_owned()), 10, 3);
        for labels in [
            &["intranet", "corp", "example"][..],
            &["evil", "corp", "example"],
            &["www", "example"],
        ] {
            other.send_to(&question(labels), ("10.7.0.2", 53)).unwrap();
        }
        let all = collector.wait_for("what is told", |all| {
            let told = |text: &str| format!("{all:?}").contains(text);
            told("www.example") && told("10.7.0.2") && told("Filtered")
        });
        let conversations = || windows(&all).flat_map(|one| &one.summary.conversations);
        let theirs: std::net::IpAddr = THEIRS.parse().unwrap();
        assert!(conversations().all(|one| one.server != theirs && one.client != theirs));
        let mut names: Vec<&str> = windows(&all)
            .flat_map(|one| &one.summary.questions)
            .map(|one| one.name.as_str())
            .collect();
        names.dedup();
        assert_eq!(names, ["www.example"]);
        // Hits are told all the same, by address and by name.
        let mut met: Vec<String> = all
            .iter()
            .flat_map(|one| &one.summary.hits)
            .map(|hit| hit.indicator.clone())
            .collect();
        met.sort();
        met.dedup();
        assert_eq!(met, [format!("{THEIRS}:7"), "evil.corp.example".to_owned()]);
        add_up(&all);
        let status = service.wait_for("what was left out", |status| {
            status["left_out"]["packets"].as_u64() >= Some(6)
        });
        assert!(
            status["left_out"]["questions"].as_u64() >= Some(2),
            "{status}"
        );
        let shown = service.command("status").output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("questions left out"), "{shown}");
        assert_eq!(running.stop(), Some(0));
    });
}

#[test]
fn names_and_paths_that_are_hidden_never_leave_the_host() {
    for (shown, token) in [("hash", true), ("drop", false)] {
        in_namespace(move || {
            let authority = Authority::new();
            let collector = collector(&authority);
            let peer = Peer::connect("pk-t0", "pk-t1");
            let service = Service::new("pk-t0", &collector, &authority);
            service.list("c2-domains.txt", "listed.example\n");
            let keys = format!("names = '{shown}'\npaths = '{shown}'\n");
            service.add("[privacy]", &keys);
            let running = service.start();
            let asker = socket(OURS);
            for labels in [&["secret", "example"][..], &["secret", "listed", "example"]] {
                asker.send_to(&question(labels), (THEIRS, 53)).unwrap();
            }
            send_tcp(&peer, 100);
            let all = collector.wait_for("questions, a hit and a connection", |all| {
                let questions = windows(all).flat_map(|one| &one.summary.questions);
                let hits = all.iter().flat_map(|one| &one.summary.hits);
                let tcp = windows(all).flat_map(|one| &one.summary.conversations);
                let tcp = tcp.filter(|one| one.protocol == 6);
                questions.count() >= 2 && hits.count() >= 1 && tcp.count() >= 1
            });
            let told = format!("{all:?}");
            assert!(!told.contains("secret"), "{told}");
            // This test's own path, of which the host would tell.
            let exe = std::env::current_exe().unwrap();
            assert!(!told.contains(&*exe.to_string_lossy()), "{told}");
            assert!(told.contains(".invalid\""), "{told}");
            let questions = windows(&all).flat_map(|one| &one.summary.questions);
            let hidden = questions.filter(|one| one.name == "hidden.invalid");
            assert_eq!(hidden.count() == 0, token);
            // The list's own entry is told, and that something is hidden.
            let hit = all.iter().flat_map(|one| &one.summary.hits).next().unwrap();
            assert_eq!(hit.indicator, "listed.example");
            assert_eq!(hit.name.is_some(), token, "{hit:?}");
            let privacy = all[0].summary.privacy.as_deref().unwrap();
            assert!(privacy.starts_with("names "), "{privacy}");
            add_up(&all);
            assert_eq!(running.stop(), Some(0));
        });
    }
}

/// What `doctor` answers: name, verdict, why.
fn answers(output: &Output) -> Vec<(String, String, String)> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let text_of = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["ok"], line["verdict"] == "yes");
            (
                text_of(&line, "check"),
                text_of(&line, "verdict"),
                text_of(&line, "why"),
            )
        })
        .collect()
}

fn verdict<'a>(answers: &'a [(String, String, String)], name: &str) -> (&'a str, &'a str) {
    let found = answers.iter().find(|one| one.0 == name);
    let (_, verdict, why) = found.unwrap();
    (verdict, why)
}

#[test]
fn doctor_fails_only_where_something_cannot_work() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-t0", "pk-t1");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let doctor = |config: &str, capabilities: &str| {
            let place = folder.path().display();
            fs::write(&file, format!("state_dir = '{place}'\n{config}")).unwrap();
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--bounding-set={capabilities}"))
                .arg(env!("CARGO_BIN_EXE_picket-agent"))
                .args(["doctor", "--format", "jsonl", "--config"])
                .arg(&file);
            command.output().unwrap()
        };
        let named = "interfaces = ['pk-t0', 'pk-none']\n";

        // All there is: what is not there yet is a warning.
        let all = doctor(named, "+all");
        let told = answers(&all);
        assert_eq!(all.status.code(), Some(0), "{told:?}");
        let (verdict_of, why) = verdict(&told, "interfaces");
        assert_eq!(verdict_of, "warn", "{why}");
        assert!(
            why.contains("pk-t0 (named)") && why.contains("pk-none"),
            "{why}"
        );
        assert_eq!(verdict(&told, "collector").0, "warn");

        // A lower rung works: what the higher ones lack is a warning.
        let lower = doctor(named, "-all,+net_raw");
        let told = answers(&lower);
        assert_eq!(lower.status.code(), Some(0), "{told:?}");
        assert_eq!(verdict(&told, "capabilities").0, "warn");
        let (verdict_of, why) = verdict(&told, "rung");
        assert_eq!(verdict_of, "yes");
        assert!(why.starts_with("afpacket"), "{why}");

        // What the configuration asks for does not.
        for (config, name) in [
            ("interfaces = ['pk-t0']\n[capture]\nrung = 'tcx'\n", "rung"),
            (
                "interfaces = ['pk-t0']\n[block]\nenabled = true\norders_file = '/o'\nkey_file = '/k'\n",
                "block",
            ),
        ] {
            let asked = doctor(config, "-all,+net_raw");
            assert_eq!(asked.status.code(), Some(1), "{config}");
            assert_eq!(verdict(&answers(&asked), name).0, "no");
        }
        // Nothing to watch, and nothing to watch with.
        let none = doctor("interfaces = ['pk-none']\n", "+all");
        assert_eq!(none.status.code(), Some(1));
        assert_eq!(verdict(&answers(&none), "interfaces").0, "no");
        let blind = doctor(named, "-all");
        assert_eq!(blind.status.code(), Some(1));
        assert_eq!(verdict(&answers(&blind), "rung").0, "no");
        let bad = doctor("window = 1\n", "+all");
        assert_eq!(bad.status.code(), Some(78), "as of every command");
        let (verdict_of, why) = (
            verdict(&answers(&bad), "config").0.to_owned(),
            answers(&bad),
        );
        assert!(verdict_of == "no" && format!("{why:?}").contains("window"));
    });
}

#[test]
fn doctor_tells_a_collector_that_is_not_well() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = collector(&authority);
        let _peer = Peer::connect("pk-t0", "pk-t1");
        let service = Service::new("pk-t0", &collector, &authority);
        let ask = || {
            let output = service
                .command("doctor")
                .args(["--format", "jsonl"])
                .output();
            answers(&output.unwrap())
        };
        assert_eq!(verdict(&ask(), "collector").0, "yes");
        collector.set_unwell(true);
        let told = ask();
        let (verdict_of, why) = verdict(&told, "collector");
        assert_eq!(verdict_of, "no");
        assert!(
            why.contains("cannot take envelopes") && why.contains("503"),
            "{why}"
        );
    });
}

#[test]
fn the_journal_gets_lines_with_their_gravity_and_no_time() {
    in_namespace(|| {
        let _peer = Peer::connect("pk-t0", "pk-t1");
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let config = folder.path().join("agent.toml");
        let interfaces = "interfaces = ['pk-t0', 'pk-none']";
        fs::write(&config, format!("{interfaces}\nstate_dir = '{place}'\n")).unwrap();
        let log = folder.path().join("log");
        let start = |stream: &str| {
            let stderr = fs::File::create(&log).unwrap();
            let child = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
                .args(["run", "--standalone", "--config"])
                .arg(&config)
                .env("JOURNAL_STREAM", stream)
                .stdout(std::process::Stdio::null())
                .stderr(stderr)
                .process_group(0)
                .spawn()
                .unwrap();
            let running = Running(child);
            let until = Instant::now() + LIMIT;
            loop {
                let text = fs::read_to_string(&log).unwrap();
                if text.contains("watching") && text.ends_with('\n') {
                    assert_eq!(running.stop(), Some(0));
                    return text;
                }
                assert!(Instant::now() < until, "{text}");
                std::thread::yield_now();
            }
        };
        fs::File::create(&log).unwrap();
        // Created anew above, the file stays the same one.
        let told = fs::metadata(&log).unwrap();
        let journal = start(&format!("{}:{}", told.dev(), told.ino()));
        let gravity = |line: &str| line.starts_with("<4> WARN") || line.starts_with("<6> INFO");
        assert!(journal.lines().all(gravity), "{journal}");
        assert!(
            journal.contains("<4>") && journal.contains("<6>"),
            "{journal}"
        );
        // Another stream is a file like any other: with the time, without numbers.
        let plain = start("1:2");
        assert!(plain.lines().all(|line| line.starts_with("20")), "{plain}");
    });
}
