//! CloudTrail files in a folder, as they come and grow.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::rig::{Agent, INSTANCE, Rig, until};

const ROOT: &str = "Policy:IAMUser/RootCredentialUsage";

/// Root lists buckets; `n` makes it another event.
fn event(n: u32) -> String {
    let minute = n % 60;
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE"}},"eventTime":"2026-01-02T03:{minute:02}:05Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"eu-central-1","sourceIPAddress":"203.0.113.9","userAgent":"aws-cli","requestParameters":null,"responseElements":null,"eventID":"{n:08x}-0000-4000-8000-000000000000","readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management"}}"#
    )
}

async fn started() -> Rig {
    let more = "[[cloudtrail]]\npath = 'FOLDER/logs'\npoll_s = 1\n";
    let mut rig = Rig::new(&format!("{}{more}", Agent::new(1).table(INSTANCE)));
    rig.start().await;
    rig
}

fn append(rig: &Rig, name: &str, text: &str) {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(rig.path("logs").join(name))
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn lines_are_read_as_they_come_and_once() {
    let mut rig = started().await;
    append(&rig, "a.jsonl", &format!("{}\n", event(1)));
    rig.finding(ROOT, 1).await;
    // It grows by an event and a half; the half becomes whole later.
    let half = event(3);
    append(&rig, "a.jsonl", &format!("{}\n{}", event(2), &half[..200]));
    rig.finding(ROOT, 2).await;
    append(&rig, "a.jsonl", &format!("{}\n", &half[200..]));
    rig.finding(ROOT, 3).await;
    let repeated = "picket_collector_api_calls_repeated_total";
    assert_eq!(rig.metric(repeated).await, 0.0);

    // The same events as CloudTrail delivers them, and a new one.
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let records = format!("{{\"Records\":[{},{},{}]}}", event(1), event(3), event(4));
    gz.write_all(records.as_bytes()).unwrap();
    std::fs::create_dir(rig.path("logs/2026")).unwrap();
    std::fs::write(rig.path("logs/2026/b.json.gz"), gz.finish().unwrap()).unwrap();
    rig.finding(ROOT, 4).await;
    assert_eq!(rig.metric(repeated).await, 2.0);

    // Over a restart nothing is read again.
    rig.kill();
    rig.start().await;
    append(&rig, "a.jsonl", &format!("{}\n", event(5)));
    rig.finding(ROOT, 5).await;
    assert_eq!(rig.metric(repeated).await, 0.0);
    assert_eq!(rig.rows("api_call"), 5);
    assert_eq!(rig.rows("source_file"), 2);
}

#[tokio::test]
async fn a_file_replaced_by_a_longer_one_is_read_from_its_beginning() {
    let rig = started().await;
    append(&rig, "a.jsonl", &format!("{}\n", event(1)));
    rig.finding(ROOT, 1).await;
    let other = format!("{}\n{}\n", event(7), event(8));
    std::fs::write(rig.path("other"), other).unwrap();
    std::fs::rename(rig.path("other"), rig.path("logs/a.jsonl")).unwrap();
    rig.finding(ROOT, 3).await;
}

#[tokio::test]
async fn damage_is_counted_and_what_is_good_is_kept() {
    let rig = started().await;
    let cut = format!("{{\"Records\":[{},{}", event(1), &event(2)[..300]);
    std::fs::write(rig.path("logs/cut.json"), cut).unwrap();
    rig.finding(ROOT, 1).await;
    let damaged = "picket_collector_log_files_damaged_total";
    until("the damage", || async {
        (rig.metric(damaged).await == 1.0).then_some(())
    })
    .await;
    assert!(rig.log().contains("cut.json"), "{}", rig.log());
}
