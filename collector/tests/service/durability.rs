//! What was acknowledged survives; nothing counts twice.

use crate::rig::{Agent, INSTANCE, Rig};

/// Kills the collector again and again while an agent sends, which sends everything again that was
/// not acknowledged, and some that was.
#[tokio::test]
async fn acknowledged_is_durable_and_counts_once() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    let envelopes: Vec<Vec<u8>> = (0..60).map(|_| agent.envelope(3)).collect();
    let mut acknowledged = 0;
    // Killed after so many acknowledgements, the next request being under way or not.
    for (round, until) in [1, 2, 15, 16, 40, 60].into_iter().enumerate() {
        rig.start().await;
        let client = rig.client();
        // An agent whose acknowledgement was lost sends the last one again.
        let from = if acknowledged > 0 {
            acknowledged - 1
        } else {
            0
        };
        for envelope in &envelopes[from..until] {
            let response = rig.post(&client, envelope.clone()).await.unwrap();
            assert_eq!(response.status(), 200);
            let answer = response.text().await.unwrap();
            assert!(
                answer.contains("accepted") || answer.contains("duplicate"),
                "{answer}"
            );
        }
        acknowledged = until;
        if round % 2 == 0 && until < envelopes.len() {
            // One more is under way when the end comes; whether it arrives nobody knows.
            let sending = rig.post(&client, envelopes[until].clone());
            tokio::select! {
                biased;
                _ = sending => {}
                () = tokio::task::yield_now() => {}
            }
        }
        rig.kill();
    }
    rig.start().await;
    let again = rig.send(envelopes.concat()).await;
    assert!(
        again.iter().all(|(_, status, _)| status == "duplicate"),
        "{again:?}"
    );
    assert_eq!(rig.rows("journal"), 60);
    let finding = rig.finding("Backdoor:EC2/C&CActivity.B", 180).await;
    let days = finding["picket"]["days"].as_object().unwrap();
    let counted: u64 = days.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, 180);
}
