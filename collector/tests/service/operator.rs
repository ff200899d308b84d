//! The operator's tool against a running collector.

use picket_wire::{Canary, Counter, Health, Watched};

use crate::rig::{Agent, INSTANCE, LISTED, Rig};

#[tokio::test]
async fn findings_are_listed_shown_and_archived() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let mut summary = agent.summary(1);
    summary.hits[0].process = Some(picket_wire::Process {
        pid: 4242,
        name: "evil\u{1b}[2J".to_owned(),
        exe: Some("/tmp/.x".to_owned()),
        via: Some(Box::new(picket_wire::Via {
            pid: 612,
            name: "dnsmasq".to_owned(),
            ..picket_wire::Via::default()
        })),
        ..picket_wire::Process::default()
    });
    rig.send(agent.seal(&summary)).await;
    let kind = "Backdoor:EC2/C&CActivity.B";
    let finding = rig.finding(kind, 1).await;
    let id = finding["id"].as_str().unwrap();
    // Who asked is the process, and its resolver stands beside it.
    assert_eq!(finding["service"]["runtimeDetails"]["process"]["pid"], 4242);
    assert_eq!(
        finding["picket"]["evidence"][0]["process"]["via"]["pid"],
        612
    );

    let list = |more: &[&str]| {
        let words: Vec<&str> = ["findings", "list"].iter().chain(more).copied().collect();
        rig.lines(&words).len()
    };
    assert_eq!(list(&[]), 1);
    assert_eq!(list(&["--severity-min", "8", "--open"]), 1);
    assert_eq!(list(&["--severity-min", "9.9"]), 0);
    assert_eq!(list(&["--type", "Backdoor:*"]), 1);
    assert_eq!(list(&["--type", "Recon:*"]), 0);

    let page = rig.print(&["findings", "show", id]);
    for part in [
        kind,
        INSTANCE,
        LISTED,
        "c2-ips",
        "process 4242",
        "/tmp/.x",
        "via 612 (dnsmasq)",
        "first look",
        "why",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    // A name that would clear the screen is shown, not obeyed.
    assert!(
        page.contains("evil\\u{1b}[2J") && !page.contains('\u{1b}'),
        "{page}"
    );
    // The command it prints works as it stands.
    let (_, command) = page.split_once("picket-collector ").unwrap();
    let command = command.lines().next().unwrap();
    assert!(command.starts_with("findings list --around"), "{command}");
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_picket-collector"))
        .args(words)
        .output()
        .unwrap();
    let near = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && near.contains(id), "{near}");

    rig.print(&["findings", "archive", id]);
    assert_eq!(list(&["--open"]), 0);
    let archived = rig.lines(&["findings", "show", id]);
    assert_eq!(archived[0]["service"]["archived"], true);
    // The same issue again is another finding.
    rig.send(agent.envelope(1)).await;
    let second = crate::rig::until("the second", || async {
        rig.lines(&["findings", "list", "--open"]).pop()
    })
    .await;
    assert_eq!(second["id"], format!("{id}-2"));
    assert_eq!(second["service"]["count"], 1);

    let output = rig.run(&["findings", "show", "0123"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        rig.run(&["findings", "show", "../x"]).status.code(),
        Some(1)
    );
    assert_eq!(rig.run(&["findings", "nothing"]).status.code(), Some(2));
}

#[test]
fn without_a_collector_it_says_so() {
    let rig = Rig::new("");
    let output = rig.run(&["findings", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("no collector answers on") && told.contains("picket.sock"),
        "{told}"
    );
}

#[tokio::test]
async fn metrics_have_a_help_line_and_a_type_each() {
    let mut rig = Rig::new("");
    rig.start().await;
    let page = rig.metrics().await;
    let names: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.len() > 15, "{page}");
    for name in names {
        assert!(name.starts_with("picket_collector_"), "{name}");
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
    }
}

#[tokio::test]
async fn agents_are_listed_with_what_they_watch_and_lose() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let counter = |stage: &str, reason: &str, count| Counter {
        stage: stage.to_owned(),
        reason: reason.to_owned(),
        count,
        bytes: 0,
    };
    let mut window = agent.summary(0);
    window.immediate = false;
    window.privacy = Some("names hashed".to_owned());
    window.counters = vec![
        counter("kernel", "seen", 1_000),
        counter("kernel", "not_flow_arp", 990),
        counter("kernel", "lost_ring_full", 10),
        // Envelopes, no packets.
        counter("spool", "lost_full", 500),
        counter("match", "stratum_in_user_space", 1),
    ];
    window.health = Some(Health {
        interfaces: vec![Watched {
            index: 2,
            name: "ens5\u{1b}[2J".to_owned(),
            attached: "tcx".to_owned(),
        }],
        canary: Some(Canary {
            sent: 2,
            counted: 2,
            hit: 2,
            copied: 1,
            ..Canary::default()
        }),
        ..Health::default()
    });
    rig.send(agent.seal(&window)).await;
    // What is no window's says nothing about the sensor and takes nothing away.
    rig.send(agent.envelope(1)).await;

    let agents = rig.lines(&["agents", "list"]);
    let state = &agents[0]["state"];
    let sensor = &state["sensor"];
    assert_eq!(state["sequence"], 1);
    assert_eq!(
        (&state["packets_seen"], &state["packets_lost"]),
        (&1_000.into(), &10.into())
    );
    assert_eq!(state["loss_share"], 0.01);
    assert_eq!(sensor["interfaces"][0], "ens5\u{1b}[2J");
    assert_eq!(sensor["canary"], "copied");
    assert_eq!(sensor["user_space"][0], "stratum");
    assert_eq!(sensor["window_lost"]["kernel/lost_ring_full"], 10);
    assert_eq!(sensor["privacy"], "names hashed");
    let text = rig.print(&["agents", "list"]);
    for part in ["tcx on ens5", "copied", "stratum", "10 (1.0000 %)"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "shown, not obeyed: {text}");
}
