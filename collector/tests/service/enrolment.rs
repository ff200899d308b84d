//! Whose word is taken, and how that changes while the collector runs.

use crate::rig::{Agent, INSTANCE, Rig};

type Verdict = (Option<u64>, String, String);

fn verdict(sequence: u64, status: &str, reason: &str) -> Verdict {
    (Some(sequence), status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_for_good() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    assert_eq!(
        rig.send(agent.envelope(0)).await,
        [verdict(0, "accepted", "")]
    );
    let listed = &rig.lines(&["agents", "list"])[0];
    assert_eq!(
        (&listed["level"], &listed["standing"]),
        (&"configured".into(), &"trusted".into())
    );

    let id = agent.id().to_string();
    rig.print(&["agents", "revoke", &id]);
    let next = agent.envelope(0);
    let refused = [verdict(1, "refused", "revoked")];
    assert_eq!(rig.send(next.clone()).await, refused);
    assert_eq!(rig.lines(&["agents", "list"])[0]["standing"], "revoked");
    // Whoever still speaks with it is a finding.
    rig.finding("DefenseEvasion:EC2/SensorImpersonated", 1)
        .await;

    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    assert_eq!(rig.send(next).await, refused);

    let stranger = Agent::new(2).id().to_string();
    for words in [["agents", "revoke", &stranger], ["agents", "approve", &id]] {
        let output = rig.run(&words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
    }
    assert_eq!(rig.run(&["agents", "revoke", "x"]).status.code(), Some(2));
}
