//! What was acknowledged survives; nothing counts twice.

use crate::rig::{ACCOUNT, Agent, INSTANCE, REGION, Rig, until};

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

/// A scan of which one half comes before the collector dies and the other after it is back: neither
/// is enough by itself.
#[tokio::test]
async fn a_window_goes_on_over_a_restart() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let first = agent.probes(1..=10);
    assert_eq!(rig.send(first).await[0].1, "accepted");
    let analysed = "picket_collector_events_analysed_total{source=\"agent\"}";
    until("the first half", || async {
        (rig.metric(analysed).await == 1.0).then_some(())
    })
    .await;
    assert!(rig.lines(&["findings", "list"]).is_empty());
    rig.kill();
    rig.start().await;
    let second = agent.probes(11..=20);
    assert_eq!(rig.send(second).await[0].1, "accepted");
    rig.finding("Recon:EC2/Portscan", 1).await;
}

/// Who launched a host is known for a finding that comes after a restart.
#[tokio::test]
async fn a_launch_is_remembered_over_a_restart() {
    let mut agent = Agent::new(1);
    let logs = "[[cloudtrail]]\npath = 'FOLDER/logs'\npoll_s = 1\n";
    let mut rig = Rig::new(&format!("{}{logs}", agent.table(INSTANCE)));
    rig.start().await;
    let launch = format!(
        r#"{{"eventID":"0f0f0f0f-0000-4000-8000-000000000000","eventTime":"2026-01-02T03:04:05Z","eventSource":"ec2.amazonaws.com","eventName":"RunInstances","awsRegion":"{REGION}","recipientAccountId":"{ACCOUNT}","sourceIPAddress":"203.0.113.9","userIdentity":{{"type":"IAMUser","userName":"mallory","arn":"arn:aws:iam::{ACCOUNT}:user/mallory","accountId":"{ACCOUNT}"}},"responseElements":{{"instancesSet":{{"items":[{{"instanceId":"{INSTANCE}","privateIpAddress":"10.0.0.5"}}]}}}}}}"#
    );
    std::fs::write(rig.path("logs/a.json"), launch).unwrap();
    until("the launch", || async {
        (rig.rows("memorable_call") == 1).then_some(())
    })
    .await;
    rig.kill();
    rig.start().await;
    rig.send(agent.envelope(1)).await;
    let incident = until("the incident", || async {
        rig.lines(&["incidents", "list"]).pop()
    })
    .await;
    assert_eq!(
        incident["entities"]["launched_by"],
        format!("arn:aws:iam::{ACCOUNT}:user/mallory")
    );
    let id = incident["id"].as_str().unwrap();
    let finding = until("the finding to name its incident", || async {
        let found = rig.lines(&["findings", "list"]).pop()?;
        (found["picket"]["incident"] == id).then_some(found)
    })
    .await;
    let page = rig.print(&["incidents", "show", id]);
    let finding = finding["id"].as_str().unwrap();
    for part in ["mallory", INSTANCE, "stages", finding] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}
