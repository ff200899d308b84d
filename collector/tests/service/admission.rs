//! Who is believed.

use crate::rig::{Agent, INSTANCE, Rig, now_ns};

type Verdict = (Option<u64>, String, String);

fn verdict(sequence: u64, status: &str, reason: &str) -> Verdict {
    (Some(sequence), status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn each_refusal_has_its_own_word_and_leaves_nothing() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;

    let good = agent.envelope(1);
    let accepted = verdict(0, "accepted", "");
    assert_eq!(rig.send(good.clone()).await, [accepted]);

    let before = agent.chain;
    let mut tampered = agent.envelope(1);
    let last = tampered.len() - 70;
    tampered[last] ^= 1;
    agent.chain = before;
    let stranger = Agent::new(2).envelope(1);
    let mut elsewhere = agent.summary(1);
    elsewhere.host.instance = "i-0fedcba9876543210".to_owned();
    let elsewhere = agent.seal(&elsewhere);
    agent.chain = before;
    let mut forked = agent.summary(1);
    forked.host.hostname = Some("other".to_owned());
    agent.chain.sequence = 0;
    let forked = agent.seal(&forked);
    agent.chain = before;
    let mut borrower = Agent::new(3);
    borrower.signer = Agent::new(4).signer;
    let another_key = borrower.envelope(1);
    borrower.signer = picket_wire::Signer::development();
    let development = borrower.envelope(1);
    let next = agent.envelope(1);

    // One request with all of them, the good one at its end.
    let body = [
        tampered,
        stranger,
        elsewhere,
        good,
        forked,
        another_key,
        development,
        next,
    ]
    .concat();
    let expected = [
        verdict(1, "refused", "tampered"),
        verdict(0, "refused", "unknown_key"),
        verdict(1, "refused", "wrong_host"),
        verdict(0, "duplicate", "replayed"),
        verdict(0, "refused", "fork"),
        verdict(0, "refused", "wrong_key"),
        verdict(1, "refused", "development_key"),
        verdict(1, "accepted", ""),
    ];
    assert_eq!(rig.send(body).await, expected);
    // What is no envelope cannot be cut, and is refused whole.
    let junk = (None, "refused".to_owned(), "malformed".to_owned());
    assert_eq!(rig.send(b"{}".to_vec()).await, [junk]);

    assert_eq!(rig.rows("journal"), 2);
    for (reason, count) in [
        ("tampered", 1.0),
        ("unknown_key", 1.0),
        ("wrong_key", 1.0),
        ("development_key", 1.0),
        ("wrong_host", 1.0),
        ("replayed", 1.0),
        ("fork", 1.0),
        ("malformed", 1.0),
    ] {
        let name = format!("picket_collector_envelopes_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(rig.metric(&name).await, count, "{reason}");
    }
    let name = "picket_collector_envelopes_accepted_total";
    assert_eq!(rig.metric(name).await, 2.0);
    // Two envelopes with a hit each were believed.
    rig.finding("Backdoor:EC2/C&CActivity.B", 2).await;

    let agents = rig.lines(&["agents", "list"]);
    assert_eq!(agents.len(), 1, "{agents:?}");
    assert_eq!(agents[0]["agent"], agent.id().to_string());
    assert_eq!(agents[0]["state"]["sequence"], 1);
    assert_eq!(agents[0]["refused"]["tampered"], 1);
    assert_eq!(agents[0]["refused"]["wrong_host"], 1);
    let text = rig.print(&["agents", "list"]);
    assert!(
        text.contains("tampered 1") && text.contains("tcx"),
        "{text}"
    );
}

#[tokio::test]
async fn a_chain_goes_on_over_a_restart() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let first = agent.envelope(0);
    let accepted = |sequence| verdict(sequence, "accepted", "");
    assert_eq!(rig.send(first.clone()).await, [accepted(0)]);
    assert_eq!(rig.terminate().await, Some(0));
    assert!(!rig.path("picket.sock").exists());
    rig.start().await;
    let duplicate = verdict(0, "duplicate", "replayed");
    assert_eq!(rig.send(first).await, [duplicate]);
    assert_eq!(rig.send(agent.envelope(0)).await, [accepted(1)]);
    // The authority stays the same, so that what agents have pinned goes on working.
    assert_eq!(rig.send(agent.envelope(0)).await, [accepted(2)]);
}

/// An agent whose clock is off is told, though nothing it says can be taken.
#[tokio::test]
async fn a_clock_that_is_off_is_a_finding() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    assert_eq!(rig.send(agent.envelope(0)).await[0].1, "accepted");
    let summary = agent.summary(0);
    let in_an_hour_ms = now_ns() / 1_000_000 + 3_600_000;
    let early = agent.chain.seal(&summary, in_an_hour_ms, &agent.signer);
    assert_eq!(rig.send(early).await[0].2, "clock");
    let finding = rig.finding("DefenseEvasion:EC2/SensorClock", 1).await;
    let why = finding["picket"]["why"].as_str().unwrap();
    assert!(why.contains("ahead of now"), "{why}");
}
