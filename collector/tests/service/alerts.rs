//! Who is told, when, and how hard the collector tries.

use std::time::Instant;

use axum::http::StatusCode;
use serde_json::Value;

use crate::authority::Authority;
use crate::receiver::{Receiver, SECRET};
use crate::rig::{Agent, INSTANCE, Rig, file_lines, until};

async fn started(more: &str, agent: &Agent) -> Rig {
    let mut rig = Rig::new(&format!("{}{more}", agent.table(INSTANCE)));
    std::fs::write(rig.path("secret"), format!("{SECRET}\n")).unwrap();
    rig.start().await;
    rig
}

#[tokio::test]
async fn a_receiver_that_fails_twice_gets_it_the_third_time() {
    let mut agent = Agent::new(1);
    let failures = [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let receiver = Receiver::start(&failures).await;
    let more = format!(
        "[alert]\nretry_first_ms = 20\n{}[[alert.jsonl]]\npath = 'FOLDER/alerts.jsonl'\n",
        receiver.table("")
    );
    let rig = started(&more, &agent).await;
    rig.send(agent.envelope(1)).await;
    let deliveries = until("three deliveries", || async {
        Some(receiver.deliveries()).filter(|deliveries| deliveries.len() >= 3)
    })
    .await;
    assert_eq!(deliveries.len(), 3);
    for delivery in &deliveries {
        assert!(delivery.is_signed(), "{delivery:?}");
        // The same message each time.
        assert_eq!(delivery.id, deliveries[0].id);
        assert_eq!(delivery.body, deliveries[0].body);
    }
    let event = deliveries[2].json();
    assert_eq!(event["detail-type"], "GuardDuty Finding");
    assert_eq!(event["source"], "picket");
    assert_eq!(event["id"], deliveries[0].id);
    assert_eq!(event["detail"]["type"], "Backdoor:EC2/C&CActivity.B");
    assert_eq!(event["detail"]["service"]["count"], 1);

    let count = |name: &'static str| rig.metric(name);
    let failed = "picket_collector_alerts_failed_total{channel=\"webhook\"}";
    let delivered = "picket_collector_alerts_delivered_total{channel=\"webhook\"}";
    assert_eq!(count(failed).await, 2.0);
    assert_eq!(count(delivered).await, 1.0);
    until("an empty outbox", || async {
        (count("picket_collector_outbox_waiting_alerts").await == 0.0).then_some(())
    })
    .await;
    let lines = file_lines(&rig.path("alerts.jsonl"));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["detail"], event["detail"]);

    // It occurs again, at once: counted, and not told within the pause.
    rig.send(agent.envelope(2)).await;
    rig.finding("Backdoor:EC2/C&CActivity.B", 3).await;
    assert_eq!(receiver.deliveries().len(), 3);
    assert_eq!(file_lines(&rig.path("alerts.jsonl")).len(), 1);
}

#[tokio::test]
async fn an_alert_outlives_the_collector_that_could_not_deliver_it() {
    let mut agent = Agent::new(1);
    // A port where nobody listens, and where somebody will.
    let vacant = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = vacant.local_addr().unwrap().port();
    drop(vacant);
    let nobody = Receiver::absent(port);
    let more = format!("[alert]\nretry_first_ms = 20\n{}", nobody.table(""));
    let mut rig = started(&more, &agent).await;
    rig.send(agent.envelope(1)).await;
    let failed = "picket_collector_alerts_failed_total{channel=\"webhook\"}";
    until("a failed delivery", || async {
        (rig.metric(failed).await > 0.0).then_some(())
    })
    .await;
    rig.kill();
    let receiver = Receiver::start(&[]).await;
    let more = format!(
        "{}[alert]\nretry_first_ms = 20\n{}",
        agent.table(INSTANCE),
        receiver.table("")
    );
    rig.configure(&more);
    rig.start().await;
    let deliveries = until("the delivery", || async {
        Some(receiver.deliveries()).filter(|deliveries| !deliveries.is_empty())
    })
    .await;
    assert!(deliveries[0].is_signed());
    assert_eq!(deliveries.len(), 1);
}

#[tokio::test]
async fn a_message_nobody_takes_becomes_a_dead_letter() {
    let mut agent = Agent::new(1);
    let failures = [StatusCode::NOT_FOUND; 10];
    let receiver = Receiver::start(&failures).await;
    let more = format!(
        "[alert]\nretry_first_ms = 5\nattempts_max = 3\n{}",
        receiver.table("")
    );
    let rig = started(&more, &agent).await;
    rig.send(agent.envelope(1)).await;
    until("a dead letter", || async {
        (rig.metric("picket_collector_outbox_dead_alerts").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(receiver.deliveries().len(), 3);
    let buried = "picket_collector_alerts_buried_total{channel=\"webhook\"}";
    assert_eq!(rig.metric(buried).await, 1.0);
}

#[tokio::test]
async fn a_receiver_with_tls_gets_it_where_its_authority_is_trusted() {
    let mut agent = Agent::new(1);
    let authority = Authority::new();
    let receiver = Receiver::start_tls(&authority, "127.0.0.1").await;
    let hook = receiver.table("ca_file = 'FOLDER/hook-ca.pem'");
    let mut rig = Rig::new(&format!("{}{hook}", agent.table(INSTANCE)));
    std::fs::write(rig.path("secret"), SECRET).unwrap();
    // The first of two is that of the receiver before its renewal.
    let pins = format!("{}{}", Authority::new().pem, authority.pem);
    std::fs::write(rig.path("hook-ca.pem"), pins).unwrap();
    rig.start().await;
    rig.send(agent.envelope(1)).await;
    let deliveries = until("the delivery", || async {
        Some(receiver.deliveries()).filter(|deliveries| !deliveries.is_empty())
    })
    .await;
    assert!(deliveries[0].is_signed());
    assert_eq!(
        deliveries[0].json()["detail"]["type"],
        "Backdoor:EC2/C&CActivity.B"
    );
}

/// An alert says what we know of an intrusion: nobody gets it who cannot prove to be its receiver.
#[tokio::test]
async fn a_receiver_that_proves_nothing_gets_no_alert() {
    let (authority, other) = (Authority::new(), Authority::new());
    let trusted = "ca_file = 'FOLDER/hook-ca.pem'";
    for (point, name, signs, more, why) in [
        (
            "another authority",
            "127.0.0.1",
            &other,
            trusted,
            "invalid peer certificate",
        ),
        (
            "another name",
            "elsewhere.example",
            &authority,
            trusted,
            "not valid for name",
        ),
        (
            "the system's authorities",
            "127.0.0.1",
            &authority,
            "",
            "certificate",
        ),
    ] {
        let mut agent = Agent::new(1);
        let receiver = Receiver::start_tls(signs, name).await;
        let mut rig = Rig::new(&format!(
            "{}[alert]\nretry_first_ms = 5\nattempts_max = 3\n{}",
            agent.table(INSTANCE),
            receiver.table(more)
        ));
        std::fs::write(rig.path("secret"), SECRET).unwrap();
        std::fs::write(rig.path("hook-ca.pem"), &authority.pem).unwrap();
        std::fs::write(rig.path("system.pem"), &other.pem).unwrap();
        rig.start().await;
        rig.send(agent.envelope(1)).await;
        until("a dead letter", || async {
            (rig.metric("picket_collector_outbox_dead_alerts").await == 1.0).then_some(())
        })
        .await;
        assert!(receiver.deliveries().is_empty(), "{point}");
        assert!(rig.log().contains(why), "{point}: {}", rig.log());
    }
}

#[tokio::test]
async fn a_channel_hears_of_what_is_severe_enough() {
    let mut agent = Agent::new(1);
    let receiver = Receiver::start(&[]).await;
    let more = format!(
        "{}[[alert.jsonl]]\npath = 'FOLDER/alerts.jsonl'\n",
        receiver.table("severity_min = 9.5")
    );
    let rig = started(&more, &agent).await;
    rig.send(agent.envelope(1)).await;
    until("the line", || async {
        Some(file_lines(&rig.path("alerts.jsonl"))).filter(|lines| !lines.is_empty())
    })
    .await;
    assert!(receiver.deliveries().is_empty());
    assert_eq!(rig.rows("outbox WHERE channel = 'hook'"), 0);
}

/// The time from the first byte of an envelope to the alert at its receiver is printed, not judged:
/// it says as much of the machine as of us.
#[tokio::test]
async fn each_host_gets_its_alert_without_waiting_for_a_window() {
    let receiver = Receiver::start(&[]).await;
    let mut agents: Vec<Agent> = (1..=10).map(Agent::new).collect();
    let mut config: String = agents
        .iter()
        .enumerate()
        .map(|(at, agent)| agent.table(&format!("i-{at}")))
        .collect();
    config += &receiver.table("");
    let mut rig = Rig::new(&config);
    std::fs::write(rig.path("secret"), SECRET).unwrap();
    rig.start().await;
    let client = rig.client();
    let mut took_ms: Vec<f64> = Vec::new();
    for (at, agent) in agents.iter_mut().enumerate() {
        let mut summary = agent.summary(1);
        summary.host.instance = format!("i-{at}");
        let envelope = agent.seal(&summary);
        let before = Instant::now();
        let response = rig.post(&client, envelope).await.unwrap();
        assert_eq!(response.status(), 200);
        let delivery = until("the alert", || async {
            receiver.deliveries().into_iter().nth(at)
        })
        .await;
        let detail: Value = delivery.json()["detail"].clone();
        assert_eq!(
            detail["resource"]["instanceDetails"]["instanceId"],
            format!("i-{at}")
        );
        took_ms.push((delivery.at - before).as_secs_f64() * 1e3);
    }
    took_ms.sort_by(f64::total_cmp);
    let median = took_ms[took_ms.len() / 2];
    println!("envelope sent → alert received: median {median:.1} ms of {took_ms:.1?}");
}
