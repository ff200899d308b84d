//! Logs of databases and GuardDuty's findings, by queue and by folder: each record once, whoever is killed.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::cloud::{ACCOUNT, Cloud, REGION};
use crate::rig::{Agent, INSTANCE, LISTED, Rig, until};

const REFUSED: &str = "CredentialAccess:RDS/MaliciousIPCaller.FailedLogin";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// Refusals of the listed address, one in each of these seconds.
fn refusals(seconds: std::ops::Range<u32>) -> String {
    let one = |n: u32| {
        let (hour, minute, second) = (n / 3_600, n / 60 % 60, n % 60);
        format!(
            "2026-01-01 {hour:02}:{minute:02}:{second:02} UTC:{LISTED}(40000):eve@shop:[{n}]:FATAL:  \
             password authentication failed for user \"eve\"\n"
        )
    };
    seconds.map(one).collect()
}

fn rig(cloud: &Cloud, queue: &str, holds: &str, more: &str) -> Rig {
    let agent = Agent::new(1).table(INSTANCE);
    let queue = format!(
        "[[sqs]]\nqueue_url = '{queue}'\nwait_s = 1\nhidden_s = 2\nbuckets = ['logs']\nholds = '{holds}'\n"
    );
    let rig = Rig::new(&format!("{agent}{}{queue}{more}", cloud.table()));
    rig.credentials();
    rig
}

/// Makes a file look as if it had been written two minutes ago.
fn settle(file: &Path) {
    let written = SystemTime::now() - Duration::from_secs(120);
    let open = std::fs::File::options().write(true).open(file).unwrap();
    open.set_modified(written).unwrap();
}

async fn metric(rig: &Rig, name: &str, expected: f64) {
    let name = format!("picket_collector_{name}");
    until(&format!("{name} {expected}"), || async {
        (rig.metric(&name).await == expected).then_some(())
    })
    .await;
}

async fn drained(cloud: &Cloud, queue: &str) {
    until("the queue to be empty", || async {
        (cloud.depth(queue).await == 0).then_some(())
    })
    .await;
}

fn lines_of(rig: &Rig, source: &str) -> u64 {
    let usage = rig.lines(&["usage"]);
    let rows = usage.iter().filter(|row| row["source"] == source);
    rows.filter_map(|row| row["events"].as_u64()).sum()
}

#[tokio::test]
async fn logs_of_databases_come_by_queue_and_folder_once() {
    let Some(cloud) = Cloud::start() else { return };
    for bucket in ["logs", "other"] {
        cloud.bucket(bucket).await;
    }
    let queue = cloud.queue("logs").await;
    cloud.announce("logs", "logs").await;
    cloud.announce("other", "logs").await;
    let folder = format!(
        "[[rds_log]]\npath = 'FOLDER/logs'\npoll_s = 1\naccount = '{ACCOUNT}'\nregion = '{REGION}'\n\
         [accounts]\nown = ['{ACCOUNT}']\n"
    );
    let mut rig = rig(&cloud, &queue, "rds", &folder);
    rig.start().await;
    // As exports of CloudWatch Logs are named.
    let key = "export/0a1b2c3d/shop.0/000000.gz";
    cloud
        .put("logs", key, gzip(refusals(0..12).as_bytes()))
        .await;
    let found = rig.finding(REFUSED, 12).await;
    assert_eq!(
        found["resource"]["rdsDbInstanceDetails"]["dbInstanceArn"],
        format!("arn:aws:rds:{REGION}:{ACCOUNT}:db:shop")
    );
    // Announced again; and a bucket that is not listed.
    let again = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "awsRegion": REGION, "s3": {"bucket": {"name": "logs"}, "object": {"key": key}}}]});
    cloud.send(&queue, &again.to_string()).await;
    metric(&rig, "log_objects_total{kind=\"known\"}", 1.0).await;
    cloud.put("other", key, refusals(0..12)).await;
    until("the other bucket to be left alone", || async {
        let left = "picket_collector_queue_messages_total{outcome=\"unlisted\"}";
        (rig.metric(left).await >= 1.0).then_some(())
    })
    .await;
    // A file that grows: what is added is read, over a restart too, and nothing twice.
    let file = rig.path("logs/shop/error/postgresql.log.2026-01-01-00");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, refusals(100..105)).unwrap();
    settle(&file);
    rig.finding(REFUSED, 17).await;
    rig.kill();
    std::fs::write(&file, refusals(100..108)).unwrap();
    settle(&file);
    rig.start().await;
    rig.finding(REFUSED, 20).await;
    std::fs::write(&file, refusals(100..108) + &refusals(200..201)).unwrap();
    settle(&file);
    rig.finding(REFUSED, 21).await;
    // Another in its place, as logs are rotated.
    std::fs::write(&file, refusals(300..302)).unwrap();
    settle(&file);
    rig.finding(REFUSED, 23).await;
    assert_eq!(lines_of(&rig, "rds"), 23);
}

#[tokio::test]
async fn a_log_of_a_database_that_is_read_when_it_is_killed_goes_on() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("logs").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("logs", "logs").await;
    let mut rig = rig(&cloud, &queue, "by-key", "");
    rig.start().await;
    let key = "picket/aws/rds/instance/shop/postgresql/000000.gz";
    const LINES: u32 = 40_500;
    cloud
        .put("logs", key, gzip(refusals(0..LINES).as_bytes()))
        .await;
    let mut kills = 0;
    for portions in [2, 12, 25] {
        let so_far = format!("source_file WHERE read_to >= {portions} OR read_to = 0");
        until("some portions", || async {
            (rig.rows(&so_far) == 1).then_some(())
        })
        .await;
        kills += rig.rows("source_file WHERE read_to > 0");
        rig.kill();
        rig.start().await;
    }
    if kills == 0 {
        eprintln!("it was too quick to be killed in the middle");
    }
    rig.finding(REFUSED, u64::from(LINES)).await;
    drained(&cloud, &queue).await;
    assert_eq!(lines_of(&rig, "rds"), u64::from(LINES));
}

fn guardduty(id: &str, count: u64) -> Value {
    json!({
        "schemaVersion": "2.0", "accountId": ACCOUNT, "region": REGION, "id": id, "type": "Recon:EC2/Portscan",
        "severity": 5, "title": "a scan", "resource": {"resourceType": "Instance",
        "instanceDetails": {"instanceId": INSTANCE}}, "service": {"count": count,
        "eventFirstSeen": "2026-01-01T00:00:00Z", "eventLastSeen": "2026-01-01T00:05:00Z"},
        "createdAt": "2026-01-01T00:10:00Z", "updatedAt": "2026-01-01T00:10:00Z",
    })
}

#[tokio::test]
async fn findings_of_guardduty_come_every_way_and_count_once() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("logs").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("logs", "logs").await;
    let folder = "[[guardduty]]\npath = 'FOLDER/logs'\npoll_s = 1\n";
    let mut rig = rig(&cloud, &queue, "by-key", folder);
    rig.start().await;
    let analysed = "events_analysed_total{source=\"guardduty\"}";
    let event = |finding: &Value| {
        json!({"version": "0", "source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": finding})
            .to_string()
    };
    cloud.send(&queue, &event(&guardduty("a", 1))).await;
    metric(&rig, analysed, 1.0).await;
    // The same in an export, with its next word and another.
    let mut sample = guardduty("s", 1);
    sample["title"] = "[SAMPLE] a scan".into();
    let lines = [
        guardduty("a", 1),
        guardduty("a", 2),
        guardduty("b", 1),
        sample,
    ];
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let key = format!("AWSLogs/{ACCOUNT}/GuardDuty/{REGION}/2026/01/01/0a1b.jsonl.gz");
    cloud
        .put("logs", &key, gzip(lines.join("\n").as_bytes()))
        .await;
    metric(&rig, analysed, 3.0).await;
    metric(&rig, "log_events_refused_total{reason=\"sample\"}", 1.0).await;
    metric(&rig, "queue_messages_total{outcome=\"finding\"}", 1.0).await;
    rig.kill();
    rig.start().await;
    // Once more, and by folder, where the file grows.
    cloud.send(&queue, &event(&guardduty("b", 1))).await;
    let file = rig.path("logs/a.jsonl");
    std::fs::write(&file, format!("{}\n", lines[..3].join("\n"))).unwrap();
    settle(&file);
    metric(&rig, "log_files_read_total", 1.0).await;
    let more = format!("{}\n{}\n", lines[..3].join("\n"), guardduty("c", 1));
    std::fs::write(&file, more).unwrap();
    settle(&file);
    metric(&rig, analysed, 1.0).await;
    drained(&cloud, &queue).await;
    assert_eq!(rig.rows("api_call"), 4);
}
