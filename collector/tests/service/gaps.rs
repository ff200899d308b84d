//! Holes in a chain: what only waits its turn is none, and one that closes is put away.

use crate::rig::{Agent, INSTANCE, Rig, until};

const GAP: &str = "DefenseEvasion:EC2/SensorGap";
const HIT: &str = "Backdoor:EC2/C&CActivity.B";

/// Envelopes of one post of an agent.
const BATCH: usize = 64;

/// The next window of an agent.
fn window(agent: &mut Agent) -> Vec<u8> {
    let mut summary = agent.summary(0);
    summary.immediate = false;
    agent.seal(&summary)
}

/// After an outage an agent ships hits first and then its windows, so many to a post. They overtake
/// hundreds, over a restart of the collector, and nothing is missing.
#[tokio::test]
async fn hits_that_go_first_after_an_outage_are_no_gap() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&with_grace(&agent, 0));
    rig.start().await;
    let is_hit = |at: usize| at % 50 == 7 || at == 299;
    let (mut hits, mut windows) = (Vec::new(), Vec::new());
    for at in 0..300 {
        let mut summary = agent.summary(u16::from(is_hit(at)));
        summary.immediate = is_hit(at);
        let kind = if is_hit(at) { &mut hits } else { &mut windows };
        kind.push((at, agent.seal(&summary)));
    }
    let told = hits.len() as u64;
    let spool = [hits, windows].concat();
    for (turn, batch) in spool.chunks(BATCH).enumerate() {
        let mut batch = batch.to_vec();
        batch.sort_by_key(|(at, _)| *at);
        let sent: Vec<u8> = batch
            .into_iter()
            .flat_map(|(_, envelope)| envelope)
            .collect();
        let verdicts = rig.send(sent).await;
        assert!(
            verdicts.iter().all(|one| one.1 == "accepted"),
            "{verdicts:?}"
        );
        if turn == 1 {
            rig.kill();
            rig.start().await;
        }
    }
    // One more, behind all of them.
    rig.send(agent.envelope(1)).await;
    rig.finding(HIT, told + 1).await;
    assert_eq!(
        rig.lines(&["findings", "list", "--type", GAP]),
        [] as [serde_json::Value; 0]
    );
}

/// The configuration with this agent and a grace for gaps.
fn with_grace(agent: &Agent, grace_ms: u64) -> String {
    let table = agent.table(INSTANCE);
    format!("{table}\n[admission]\ngap_grace_ms = {grace_ms}\n")
}

/// A grace that no test outlasts.
const LONG_MS: u64 = 3_600_000;

/// A window that overtakes a hit of a lower number.
#[tokio::test]
async fn a_gap_that_closes_within_its_grace_is_no_finding() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&with_grace(&agent, LONG_MS));
    rig.start().await;
    rig.send(window(&mut agent)).await;
    let mut summary = agent.summary(1);
    summary.immediate = true;
    let hit = agent.seal(&summary);
    rig.send(window(&mut agent)).await;
    let rig = &rig;
    let held = |count| move || async move { (rig.rows("gap") == count).then_some(()) };
    until("the gap to be held", held(1)).await;
    assert_eq!(rig.rows("journal WHERE standing = 'gap'"), 1, "recorded");
    rig.send(hit).await;
    until("the gap to close", held(0)).await;
    rig.finding(HIT, 1).await;
    assert_eq!(rig.lines(&["findings", "list", "--type", GAP]).len(), 0);
    for (counter, expected) in [("found", 1.0), ("told", 0.0)] {
        let name = format!("picket_collector_gaps_{counter}_total");
        assert_eq!(rig.metric(&name).await, expected, "{name}");
    }
}

/// The agent says nothing more, and a restart lies between.
#[tokio::test]
async fn a_gap_that_lasts_is_found_though_nothing_comes() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&with_grace(&agent, 1_000));
    rig.start().await;
    rig.send(window(&mut agent)).await;
    let _lost = window(&mut agent);
    rig.send(window(&mut agent)).await;
    rig.finding(GAP, 1).await;
    assert_eq!(rig.metric("picket_collector_gaps_told_total").await, 1.0);

    let mut agent = Agent::new(2);
    let mut rig = Rig::new(&with_grace(&agent, LONG_MS));
    rig.start().await;
    rig.send(window(&mut agent)).await;
    let _lost = window(&mut agent);
    rig.send(window(&mut agent)).await;
    let held = |rig: &Rig| rig.rows("gap") == 1;
    let waits = &rig;
    until(
        "the gap to be held",
        || async move { held(waits).then_some(()) },
    )
    .await;
    rig.kill();
    let config = rig.path("collector.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let hasty = text.replace(&LONG_MS.to_string(), "1");
    std::fs::write(&config, hasty).unwrap();
    for _ in 0..2 {
        rig.start().await;
        rig.finding(GAP, 1).await;
        assert!(!held(&rig));
        rig.kill();
    }
}

#[tokio::test]
async fn a_gap_that_closes_is_put_away() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&with_grace(&agent, 1));
    rig.start().await;
    let chain: Vec<Vec<u8>> = (0..4).map(|_| window(&mut agent)).collect();
    rig.send([&chain[0][..], &chain[3]].concat()).await;
    let gap = rig.finding(GAP, 1).await;
    assert_eq!(gap["service"]["archived"], false);
    rig.send(chain[2].clone()).await;
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    let open = |rig: &Rig| {
        rig.lines(&["findings", "list", "--open", "--type", GAP])
            .len()
    };
    assert_eq!(open(&rig), 1, "one is missing still");
    rig.send(chain[1].clone()).await;
    let rig = &rig;
    until("the gap to be put away", || async move {
        (open(rig) == 0).then_some(())
    })
    .await;
    let shown = rig.lines(&["findings", "list", "--type", GAP]);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(shown[0]["service"]["archived"], true);
    // Another hole is another finding.
    let _lost = window(&mut agent);
    rig.send(window(&mut agent)).await;
    until(
        "another gap",
        || async move { (open(rig) == 1).then_some(()) },
    )
    .await;
}
