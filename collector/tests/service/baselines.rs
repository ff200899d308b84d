//! What is usual for whom, over real restarts, and carried elsewhere.

use serde_json::Value;

use crate::rig::{Rig, until};

const KIND: &str = "Persistence:IAMUser/AnomalousBehavior";
const BOB: &str = "arn:aws:iam::111122223333:user/bob";
const ANALYSED: &str = "picket_collector_events_analysed_total{source=\"cloudtrail\"}";

/// A call of bob's: the `number`th, on the `day`th of January.
fn call(number: u32, day: u32, name: &str, address: &str, agent: &str) -> String {
    format!(
        r#"{{"eventID":"{number:08x}-0000-4000-8000-000000000000","eventTime":"2026-01-{day:02}T03:04:05Z","eventSource":"ec2.amazonaws.com","eventName":"{name}","awsRegion":"eu-west-1","sourceIPAddress":"{address}","userAgent":"{agent}","recipientAccountId":"111122223333","userIdentity":{{"type":"IAMUser","userName":"bob","arn":"{BOB}","accountId":"111122223333"}}}}"#
    ) + "\n"
}

/// Ten days of what bob does every day: two hundred calls.
fn habit() -> String {
    let calls =
        (0..200).map(|n| call(n, 1 + n / 20, "DescribeInstances", "192.0.2.1", "aws-cli/2"));
    calls.collect()
}

/// What bob never did, from where he never was.
fn theft() -> String {
    call(1_000, 11, "ImportKeyPair", "203.0.113.9", "Boto3/1")
}

fn rig() -> Rig {
    Rig::new("[[cloudtrail]]\npath = 'FOLDER/logs'\npoll_s = 1\n")
}

fn log(rig: &Rig, name: &str, text: &str) {
    std::fs::write(rig.path("logs").join(name), text).unwrap();
}

async fn analysed(rig: &Rig, events: f64) {
    until("the log", || async {
        (rig.metric(ANALYSED).await == events).then_some(())
    })
    .await;
}

fn listed(rig: &Rig, whose: &str) -> Vec<Value> {
    let lines = rig.lines(&["baselines", "list"]);
    lines
        .into_iter()
        .filter(|line| line["whose"] == whose)
        .collect()
}

#[tokio::test]
async fn what_was_learned_outlives_the_program() {
    let mut rig = rig();
    rig.start().await;
    log(&rig, "a.jsonl", &habit());
    analysed(&rig, 200.0).await;
    let before = rig.lines(&["baselines", "list"]);
    assert_eq!(before.len(), 3);
    assert_eq!(listed(&rig, "principal")[0]["name"], BOB);
    assert_eq!(listed(&rig, "principal")[0]["calls"], 200);
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    assert_eq!(rig.lines(&["baselines", "list"]), before);
    log(&rig, "b.jsonl", &theft());
    let finding = rig.finding(KIND, 1).await;
    assert!(
        finding["picket"]["why"]
            .as_str()
            .unwrap()
            .contains("over 200 calls")
    );
    // Once more, and then without any warning.
    log(
        &rig,
        "c.jsonl",
        &call(1_001, 12, "DescribeInstances", "192.0.2.1", "aws-cli/2"),
    );
    // Analysed and stored: or it would be read again.
    until("the call to be stored", || async {
        (rig.rows("api_call") == 202).then_some(())
    })
    .await;
    rig.kill();
    rig.start().await;
    assert_eq!(listed(&rig, "principal")[0]["calls"], 200);
}

#[tokio::test]
async fn what_cannot_be_read_back_is_counted_and_learned_anew() {
    let mut rig = rig();
    rig.start().await;
    log(&rig, "a.jsonl", &habit());
    analysed(&rig, 200.0).await;
    assert_eq!(rig.terminate().await, Some(0));
    let database = rusqlite::Connection::open(rig.path("state/picket.db")).unwrap();
    let spoil = |sql: &str| assert_eq!(database.execute(sql, []).unwrap(), 1);
    spoil("UPDATE baseline SET body = substr(body, 1, 40) WHERE whose = 'principal'");
    spoil("UPDATE baseline SET version = 99 WHERE whose = 'account'");
    drop(database);
    rig.start().await;
    for reason in ["unreadable", "version"] {
        let name = format!("picket_collector_baselines_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(rig.metric(&name).await, 1.0, "{reason}");
    }
    assert_eq!(
        (listed(&rig, "principal").len(), listed(&rig, "peers").len()),
        (0, 1)
    );
    log(&rig, "b.jsonl", &theft());
    analysed(&rig, 1.0).await;
    assert_eq!(listed(&rig, "principal")[0]["calls"], 1);
    assert!(
        rig.lines(&["findings", "list"])
            .iter()
            .all(|line| line["type"] != KIND)
    );
}

#[tokio::test]
async fn what_was_learned_is_carried_elsewhere_and_forgotten() {
    let mut rig = rig();
    let file = rig.path("learned.json").display().to_string();
    // Learned offline.
    log(&rig, "a.jsonl", &habit());
    let logs = rig.path("logs/a.jsonl").display().to_string();
    let analyze = |words: &[&str]| {
        let all = [&["analyze", "--format", "jsonl", "--cloudtrail"], words].concat();
        rig.print(&all)
    };
    analyze(&[&logs, "--baseline-out", &file]);
    let thief = rig.path("thief.jsonl");
    std::fs::write(&thief, theft()).unwrap();
    let thief = thief.display().to_string();
    assert!(!analyze(&[&thief]).contains(KIND));
    assert!(analyze(&[&thief, "--baseline", &file]).contains(KIND));
    std::fs::remove_file(rig.path("logs/a.jsonl")).unwrap();

    rig.start().await;
    assert_eq!(
        rig.print(&["baselines", "import", &file]),
        "took in 3 baselines\n"
    );
    let shown = rig.print(&["baselines", "show", BOB]);
    assert!(
        shown.contains("ec2:DescribeInstances") && shown.contains("2026-01-10"),
        "{shown}"
    );
    let out = rig.path("again.json").display().to_string();
    rig.print(&["baselines", "export", &out]);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&file).unwrap());
    // Taken in is stored: a crash loses nothing of it.
    rig.kill();
    rig.start().await;
    assert_eq!(listed(&rig, "principal")[0]["calls"], 200);
    rig.print(&["baselines", "reset", BOB]);
    assert!(!rig.run(&["baselines", "reset", BOB]).status.success());
    rig.kill();
    rig.start().await;
    assert!(listed(&rig, "principal").is_empty() && listed(&rig, "account").len() == 1);
    // Damaged files change nothing.
    std::fs::write(&out, r#"{"version":2}"#).unwrap();
    let refused = rig.run(&["baselines", "import", &out]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("version 2"), "{told}");
}
