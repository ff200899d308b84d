//! Logs in buckets, announced by a queue or listed, and events by queue: against a server that speaks
//! AWS's protocols.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::cloud::{ACCOUNT, Cloud, GUEST, REGION};
use crate::rig::{Agent, INSTANCE, LISTED, Rig, until};

const ROOT: &str = "Policy:IAMUser/RootCredentialUsage";

/// Root lists buckets; `n` makes it another event.
fn event(n: u32) -> String {
    let (day, minute, second) = (1 + n / 3_600 % 28, n / 60 % 60, n % 60);
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE"}},"eventTime":"2026-01-{day:02}T03:{minute:02}:{second:02}Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"eu-central-1","sourceIPAddress":"203.0.113.9","userAgent":"aws-cli","requestParameters":null,"responseElements":null,"eventID":"{n:08x}-0000-4000-8000-000000000000","readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management"}}"#
    )
}

/// A file as CloudTrail delivers it.
fn file(events: std::ops::Range<u32>) -> Vec<u8> {
    let events: Vec<String> = events.map(event).collect();
    gzip(format!(r#"{{"Records":[{}]}}"#, events.join(",")).as_bytes())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // The fastest way of packing does not shrink a bomb by enough for it to be one.
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A key as CloudTrail makes it; `n` is the minute of its day.
fn key(region: &str, day: u32, n: u32) -> String {
    let (hour, minute) = (n / 60, n % 60);
    format!(
        "AWSLogs/111122223333/CloudTrail/{region}/2026/01/{day:02}/111122223333_CloudTrail_\
         {region}_202601{day:02}T{hour:02}{minute:02}Z_abc.json.gz"
    )
}

fn rig(cloud: &Cloud, more: &str) -> Rig {
    let agent = Agent::new(1).table(INSTANCE);
    let rig = Rig::new(&format!("{agent}{}{more}", cloud.table()));
    rig.credentials();
    rig
}

fn queue_table(url: &str) -> String {
    queue_of(url, "'*'")
}

fn queue_of(url: &str, buckets: &str) -> String {
    format!(
        "[[sqs]]\nqueue_url = '{url}'\nwait_s = 1\nhidden_s = 2\nreceives_max = 2\nbuckets = [{buckets}]\n"
    )
}

/// Waits until a queue is empty.
async fn drained(cloud: &Cloud, queue: &str) {
    until("the queue to be empty", || async {
        (cloud.depth(queue).await == 0).then_some(())
    })
    .await;
}

async fn metric(rig: &Rig, name: &str, expected: f64) {
    let name = format!("picket_collector_{name}");
    until(&format!("{name} {expected}"), || async {
        (rig.metric(&name).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn announced_objects_are_read_once_and_their_messages_deleted() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("trail").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("trail", "logs").await;
    let mut rig = rig(&cloud, &queue_table(&queue));
    rig.start().await;
    // The server announces by itself: first a test, then each object.
    cloud.put("trail", &key(REGION, 1, 5), file(0..3)).await;
    rig.finding(ROOT, 3).await;
    // Repeated in another file, and announced once more as it is.
    cloud.put("trail", &key(REGION, 1, 10), file(2..5)).await;
    rig.finding(ROOT, 5).await;
    let again = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "awsRegion": REGION, "s3": {"bucket": {"name": "trail"},
        "object": {"key": key(REGION, 1, 10).replace('/', "%2F")}}}]});
    let by_sns = json!({"Type": "Notification", "Message": again.to_string()});
    cloud.send(&queue, &by_sns.to_string()).await;
    metric(&rig, "log_objects_total{kind=\"known\"}", 1.0).await;
    // One that no log is, one that went, and a bucket that nobody has.
    cloud.put("trail", "notes/a.txt", "words").await;
    let gone = again.to_string().replace("T0010Z", "T0011Z");
    cloud.send(&queue, &gone).await;
    metric(&rig, "log_objects_total{kind=\"other\"}", 1.0).await;
    metric(&rig, "log_objects_total{kind=\"gone\"}", 1.0).await;
    drained(&cloud, &queue).await;
    assert_eq!(rig.rows("api_call"), 5);
    assert_eq!(
        rig.metric("picket_collector_api_calls_repeated_total")
            .await,
        1.0
    );
    // Over a restart nothing is read again, and what came meanwhile is.
    rig.kill();
    cloud.put("trail", &key(REGION, 1, 15), file(4..7)).await;
    cloud.send(&queue, &by_sns.to_string()).await;
    rig.start().await;
    rig.finding(ROOT, 7).await;
    metric(&rig, "log_objects_total{kind=\"known\"}", 1.0).await;
    drained(&cloud, &queue).await;
    assert_eq!(rig.rows("api_call"), 7);
}

#[tokio::test]
async fn a_bad_object_costs_one_report_and_holds_nobody_up() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("trail").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("trail", "logs").await;
    let mut rig = rig(&cloud, &queue_table(&queue));
    rig.start().await;
    let whole = file(0..2);
    // Four megabytes that shrink a hundredfold, so that the line is long and no bomb.
    let mut stretch = vec![b'x'; 4 << 20];
    let mut state = 1_u32;
    for at in (0..stretch.len()).step_by(110) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        stretch[at] = b'a' + (state >> 24) as u8 % 26;
    }
    let stretch = gzip(&stretch);
    let long_line: Vec<u8> = std::iter::repeat_n(stretch, 256).flatten().collect();
    let mut bomb = gzip(event(1).as_bytes());
    let zeros = gzip(&vec![b' '; 16 << 20]);
    bomb.extend(std::iter::repeat_n(zeros, 16).flatten());
    for (at, body) in [
        whole[..whole.len() - 12].to_vec(),
        b"words".to_vec(),
        long_line,
        bomb,
    ]
    .into_iter()
    .enumerate()
    {
        cloud.put("trail", &key(REGION, 1, at as u32), body).await;
    }
    cloud.put("trail", &key(REGION, 1, 9), file(10..12)).await;
    drained(&cloud, &queue).await;
    metric(&rig, "log_files_damaged_total", 4.0).await;
    metric(&rig, "log_objects_total{kind=\"cloudtrail\"}", 5.0).await;
    // The good one, and what stands before the damage.
    let found = rig.lines(&["findings", "list", "--type", ROOT]);
    assert!(
        found[0]["service"]["count"].as_u64().unwrap() >= 3,
        "{found:?}"
    );
    assert!(rig.log().contains("T0000Z_abc.json.gz"), "{}", rig.log());
}

#[tokio::test]
async fn events_come_by_queue_and_poison_does_not_stop_them() {
    let Some(cloud) = Cloud::start() else { return };
    let queue = cloud.queue("events").await;
    let rule = json!({"Name": "calls", "EventPattern":
        json!({"detail-type": ["AWS API Call via CloudTrail"]}).to_string()});
    cloud.ask("events", "AWSEvents.PutRule", &rule).await;
    let targets = json!({"Rule": "calls", "Targets": [{"Id": "1", "Arn": cloud.arn("events")}]});
    cloud.ask("events", "AWSEvents.PutTargets", &targets).await;
    let mut rig = rig(&cloud, &queue_table(&queue));
    rig.start().await;
    let put = |n: u32| {
        json!({"Entries": [{"Source": "test", "DetailType": "AWS API Call via CloudTrail",
            "Detail": event(n)}]})
    };
    cloud.ask("events", "AWSEvents.PutEvents", &put(1)).await;
    cloud.send(&queue, "no JSON at all").await;
    cloud.send(&queue, r#"{"hello":"world"}"#).await;
    let elsewhere = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":
        {"name":"evil.example/x"},"object":{"key":"AWSLogs/1/CloudTrail/x.json"}}}]}"#;
    cloud.send(&queue, elsewhere).await;
    cloud.ask("events", "AWSEvents.PutEvents", &put(2)).await;
    cloud.ask("events", "AWSEvents.PutEvents", &put(1)).await;
    rig.finding(ROOT, 2).await;
    metric(&rig, "api_calls_repeated_total", 1.0).await;
    drained(&cloud, &queue).await;
    metric(&rig, "queue_messages_total{outcome=\"event\"}", 3.0).await;
    metric(&rig, "queue_messages_total{outcome=\"given_up\"}", 3.0).await;
    assert_eq!(rig.rows("api_call"), 2);
}

#[tokio::test]
async fn a_member_accounts_queue_is_read_in_its_role() {
    let Some(cloud) = Cloud::start() else { return };
    let role = format!("arn:aws:iam::{GUEST}:role/picket-logs");
    let member = cloud.guest(&role).await;
    member.bucket("member-trail").await;
    let queue = member.queue("logs").await;
    member.announce("member-trail", "logs").await;
    assert!(queue.contains(GUEST) && !queue.contains(ACCOUNT), "{queue}");
    let named = format!(
        "{}role_arn = '{role}'\nexternal_id = 'x'\n",
        queue_of(&queue, "'member-trail'")
    );
    let mut rig = rig(&cloud, &named);
    rig.start().await;
    member
        .put("member-trail", &key(REGION, 1, 5), file(0..2))
        .await;
    rig.finding(ROOT, 2).await;
    drained(&member, &queue).await;
}

const C2: &str = "Backdoor:EC2/C&CActivity.B";

/// A flow log in which a host calls the listed address in each of these minutes.
fn flow_log(minutes: std::ops::Range<u64>) -> Vec<u8> {
    let mut text =
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes \
        start end action log-status\n"
            .to_owned();
    for minute in minutes {
        let (start, port) = (1_767_225_600 + 60 * minute, 40_000 + minute);
        text += &format!(
            "2 {ACCOUNT} eni-0a 10.0.0.5 {LISTED} {port} 443 6 10 840 {start} {} ACCEPT OK\n",
            start + 50
        );
    }
    gzip(text.as_bytes())
}

#[tokio::test]
async fn logs_about_hosts_come_by_queue_and_folder_once() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("flows").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("flows", "logs").await;
    let folder = "[[vpc_flow]]\npath = 'FOLDER/logs'\npoll_s = 1\n";
    let mut rig = rig(&cloud, &format!("{}{folder}", queue_table(&queue)));
    rig.start().await;
    let key = format!(
        "AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/2026/01/01/{ACCOUNT}_vpcflowlogs_{REGION}_fl-1_\
         20260101T0005Z_a.log.gz"
    );
    cloud.put("flows", &key, flow_log(0..3)).await;
    rig.finding(C2, 3).await;
    // Announced again, and the same under another name: records have no identity, objects do.
    let again = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Copy",
        "awsRegion": REGION, "s3": {"bucket": {"name": "flows"}, "object": {"key": key}}}]});
    cloud.send(&queue, &again.to_string()).await;
    metric(&rig, "log_objects_total{kind=\"known\"}", 1.0).await;
    // A file that is still being written is left alone; one that was is read, once.
    let file = rig.path("logs/flow.log.gz");
    std::fs::write(&file, flow_log(3..5)).unwrap();
    let written = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    let open = std::fs::File::options().write(true).open(&file).unwrap();
    open.set_modified(written).unwrap();
    rig.finding(C2, 5).await;
    rig.kill();
    rig.start().await;
    let other = rig.path("logs/other.log.gz");
    std::fs::write(&other, flow_log(5..6)).unwrap();
    let open = std::fs::File::options().write(true).open(&other).unwrap();
    open.set_modified(written).unwrap();
    rig.finding(C2, 6).await;
    drained(&cloud, &queue).await;
    // Each line of each log once, whatever was announced twice and whoever was killed.
    let usage = rig.lines(&["usage"]);
    let of_flows = usage.iter().filter(|row| row["source"] == "vpc_flow");
    let lines: u64 = of_flows.filter_map(|row| row["events"].as_u64()).sum();
    assert_eq!(lines, 6, "{usage:?}");
    assert_eq!(
        rig.metric("picket_collector_events_analysed_total{source=\"host_log\"}")
            .await,
        1.0
    );
    assert_eq!(rig.rows("source_file WHERE read_to = 0"), 3);
}

#[tokio::test]
async fn flow_logs_come_as_tables_too() {
    let Some(cloud) = Cloud::start() else { return };
    cloud.bucket("flows").await;
    let queue = cloud.queue("logs").await;
    cloud.announce("flows", "logs").await;
    let mut rig = rig(&cloud, &queue_table(&queue));
    rig.start().await;
    // Three of its rows call the listed address.
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/gzip-dictionary.parquet");
    let table = std::fs::read(table).unwrap();
    let key = |name: &str| {
        format!("AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/2023/11/14/{name}.log.parquet")
    };
    cloud.put("flows", &key("a"), table.clone()).await;
    rig.finding(C2, 3).await;
    // One that is damaged costs one report.
    cloud
        .put("flows", &key("b"), table[..table.len() / 2].to_vec())
        .await;
    metric(&rig, "log_files_damaged_total", 1.0).await;
    metric(&rig, "log_objects_total{kind=\"vpc_flow\"}", 2.0).await;
    drained(&cloud, &queue).await;
    let usage = rig.lines(&["usage"]);
    let of_flows = usage.iter().filter(|row| row["source"] == "vpc_flow");
    let lines: u64 = of_flows.filter_map(|row| row["events"].as_u64()).sum();
    assert_eq!(lines, 490, "{usage:?}");
}

/// Objects of one bucket, several regions and days; returns how many events there are.
async fn fill(cloud: &Cloud) -> u32 {
    cloud.bucket("trail").await;
    let mut n = 0;
    for day in 1..=4 {
        for at in 0..12 {
            for region in [REGION, "us-east-1", "eu-west-1"] {
                let events = if at == 5 { 2_500 } else { 20 };
                cloud
                    .put("trail", &key(region, day, at * 5), file(n..n + events))
                    .await;
                // The next repeats the last of this.
                n += events - 1;
            }
        }
    }
    for (key, body) in [
        ("AWSLogs/111122223333/CloudTrail/eu-west-1/", ""),
        (
            "AWSLogs/111122223333/Config/eu-west-1/2026/01/01/a.json",
            "words",
        ),
        (
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2025/12/31/a.json",
            "words",
        ),
    ] {
        cloud.put("trail", key, body).await;
    }
    // Beside the folders of days, and put into an archive.
    let stray = key(REGION, 2, 7).replace("/02/", "/");
    cloud.put("trail", &stray, file(n..n + 20)).await;
    let archived = [("x-amz-storage-class", "GLACIER")];
    cloud
        .put_with("trail", &key(REGION, 3, 58), file(0..1), &archived)
        .await;
    n + 20
}

const BACKFILL: &str = "[[s3]]\nbucket = 'trail'\nprefix = 'AWSLogs/'\nfrom = '2026-01-01'\n";

async fn finished(rig: &Rig) {
    until("the end of the back-fill", || async {
        (rig.rows("backfill WHERE is_done") == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_backfill_that_is_killed_goes_on_and_analyses_each_event_once() {
    let Some(cloud) = Cloud::start() else { return };
    let events = fill(&cloud).await;
    let mut whole = rig(&cloud, BACKFILL);
    whole.start().await;
    finished(&whole).await;
    let mut killed = rig(&cloud, BACKFILL);
    let mut kills = 0;
    killed.start().await;
    for objects in [3, 20, 50, 90] {
        let so_far = format!("backfill WHERE objects >= {objects}");
        until("some objects", || async {
            (killed.rows(&so_far) == 1).then_some(())
        })
        .await;
        kills += killed.rows("backfill WHERE NOT is_done");
        killed.kill();
        killed.start().await;
    }
    if kills < 3 {
        eprintln!("it was too quick to be killed in the middle but {kills} times");
    }
    finished(&killed).await;
    metric(&whole, "log_objects_total{kind=\"refused\"}", 1.0).await;
    for rig in [&whole, &killed] {
        assert_eq!(rig.rows("api_call"), i64::from(events));
        assert_eq!(rig.rows("backfill WHERE objects = 146 AND damaged = 0"), 1);
    }
    let told = |rig: &Rig| {
        let found = rig.lines(&["findings", "list"]);
        let mut told: Vec<String> = found
            .iter()
            .map(|one| {
                let service = &one["service"];
                format!(
                    "{} {} {} {} {}",
                    one["type"],
                    one["id"],
                    service["count"],
                    service["eventFirstSeen"],
                    service["eventLastSeen"]
                )
            })
            .collect();
        told.sort();
        told
    };
    assert_eq!(told(&killed), told(&whole));
    let root = whole.finding(ROOT, u64::from(events)).await;
    assert!(
        root["service"]["eventFirstSeen"]
            .as_str()
            .unwrap()
            .starts_with("2026-01-01")
    );
    // Done is done: the next start reads nothing.
    killed.kill();
    killed.start().await;
    let done = "backfill_done{backfill=\"s3://trail/AWSLogs/ 2026-01-01 -\"}";
    metric(&killed, done, 1.0).await;
    assert_eq!(
        killed.metric("picket_collector_log_bytes_read_total").await,
        0.0
    );
}
