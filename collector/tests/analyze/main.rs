//! `picket-collector analyze`, the program itself, on events and envelopes that the tests write.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use picket_wire::{
    AgentId, BootId, Chain, Conversation, Host, Net, Opened, Side, Signer, Summary, Window,
};
use serde_json::Value;

const ACCOUNT: &str = "111122223333";

fn analyze(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_picket-collector"))
        .arg("analyze")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that reads no stdin may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn types(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line["type"].as_str())
        .collect()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An event of `second`, made by `user` (root if it is that).
fn event(second: u32, name: &str, user: &str) -> String {
    let (kind, resource) = match user {
        "root" => ("Root", "root".to_owned()),
        user => ("IAMUser", format!("user/{user}")),
    };
    serde_json::json!({
        "eventVersion": "1.08",
        "eventID": format!("875240ac-e821-4fc6-a311-0000000000{second:02}"),
        "eventTime": format!("2023-07-10T11:42:{second:02}Z"),
        "eventSource": "cloudtrail.amazonaws.com",
        "eventName": name,
        "eventType": "AwsApiCall",
        "awsRegion": "eu-west-1",
        "recipientAccountId": ACCOUNT,
        "sourceIPAddress": "198.51.100.7",
        "userIdentity": {
            "type": kind,
            "userName": user,
            "accountId": ACCOUNT,
            "arn": format!("arn:aws:iam::{ACCOUNT}:{resource}"),
        },
        "requestParameters": {"name": "trail"},
    })
    .to_string()
}

const STOPPED: &str = "Stealth:IAMUser/CloudTrailLoggingDisabled";
const ROOT: &str = "Policy:IAMUser/RootCredentialUsage";

/// A summary in which the host of a replay called `peer`.
fn summary(peer: [u8; 4], second: u64) -> Summary {
    let start_ns = second * 1_000_000_000;
    let host = [10, 0, 0, 5].into();
    Summary {
        version: 1,
        immediate: false,
        host: Host {
            instance: "i-1".to_owned(),
            account: ACCOUNT.to_owned(),
            region: "eu-west-1".to_owned(),
            local: vec![Net {
                address: host,
                prefix: 32,
            }],
            ..Host::default()
        },
        window: Window {
            start_ns,
            end_ns: start_ns + 10_000_000_000,
        },
        conversations: vec![Conversation {
            client: host,
            server: peer.into(),
            server_port: 443,
            client_port: 50_000,
            protocol: 6,
            opened: Opened::Seen,
            local: Side::Client,
            flows: 1,
            attempts: 1,
            accepted: 1,
            refused: 0,
            packets_out: 5,
            packets_in: 5,
            bytes_out: 500,
            bytes_in: 500,
            flags_out: 0x1a,
            flags_in: 0x1a,
            first_ns: start_ns,
            last_ns: start_ns + 1_000_000_000,
            tls_name: None,
            ja4: None,
            dns_name: None,
            process: None,
            content: None,
            tunnel: None,
            tunnel_id: None,
            processes: None,
            starts_ms: vec![],
        }],
        questions: Vec::new(),
        hits: Vec::new(),
        counters: Vec::new(),
        cut: Default::default(),
        ..Summary::default()
    }
}

/// Envelopes of one run, as `replay` signs them with and without a key of one's own.
fn replay(signer: &Signer, seconds: &[u64]) -> Vec<Vec<u8>> {
    let key = signer.public_key();
    let agent = if key.is_development() {
        AgentId::of_replay(ACCOUNT, "eu-west-1", "i-1")
    } else {
        AgentId::of_key(&key.0)
    };
    let mut chain = Chain::new(agent, BootId([1; 16]));
    let seal = |second: &u64| chain.seal(&summary([203, 0, 113, 9], *second), 0, signer);
    seconds.iter().map(seal).collect()
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn findings_come_in_order_of_time_and_totals_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Written out of order, in two shapes, one event twice.
    let stop = event(30, "StopLogging", "mallory");
    write(
        path,
        "logs/a.jsonl",
        format!("{stop}\n{}\n", event(10, "DescribeTrails", "alice")),
    );
    write(
        path,
        "logs/b/b.json",
        format!(
            r#"{{"Records":[{},{stop}]}}"#,
            event(20, "PutEventSelectors", "root")
        ),
    );
    let logs = path.join("logs");
    let arguments = ["--cloudtrail", logs.to_str().unwrap(), "--format", "jsonl"];
    let output = analyze(&arguments, b"");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(told(&output), "");
    let lines = lines(&output);
    let types = types(&lines);
    let place = |wanted| types.iter().position(|found| *found == wanted);
    assert!(place(ROOT).unwrap() < place(STOPPED).unwrap(), "{types:?}");
    let stopped = lines
        .iter()
        .find(|line| line["type"] == STOPPED && line["service"]["count"] == 1);
    assert_eq!(
        stopped.unwrap()["picket"]["evidence"][0]["event_name"],
        "StopLogging"
    );
    let last = lines.last().unwrap();
    assert_eq!(last["kind"], "totals");
    assert_eq!(last["events"]["cloudtrail"], 3);
    assert_eq!(last["input"]["repeated"], 1);
    assert_eq!(last["input"]["cloudtrail"]["files"], 2);
    // Nothing but the input decides.
    assert_eq!(analyze(&arguments, b"").stdout, output.stdout);
}

#[test]
fn summaries_come_by_stdin_and_meet_the_lists() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "c2-ips.txt", "203.0.113.9\n");
    let bytes = replay(&Signer::development(), &[100, 110]).concat();
    let intel = folder.path().to_str().unwrap();
    let output = analyze(
        &["--summaries", "-", "--intel", intel, "--format", "jsonl"],
        &bytes,
    );
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let lines = lines(&output);
    assert_eq!(types(&lines), ["Backdoor:EC2/C&CActivity.B"]);
    assert_eq!(lines[0]["resource"]["instanceDetails"]["instanceId"], "i-1");
    let last = lines.last().unwrap();
    assert_eq!(last["events"]["agent"], 2);
    assert_eq!(last["input"]["summaries"]["verified"]["development"], 2);
    assert_eq!(last["input"]["chains"]["missing"], 0);
}

/// A listed address in a flow log and a listed name in a query log, each of an instance without an agent.
#[test]
fn logs_about_hosts_meet_the_lists() {
    let folder = tempfile::tempdir().unwrap();
    let intel = folder.path().join("intel");
    fs::create_dir(&intel).unwrap();
    write(&intel, "c2-ips.txt", "203.0.113.9\n");
    write(&intel, "c2-domains.txt", "c2.example\n");
    let flows = write(
        folder.path(),
        "flows.log",
        format!(
            "account-id region interface-id instance-id srcaddr dstaddr srcport dstport protocol packets bytes start end \
             action tcp-flags\n\
             {ACCOUNT} eu-west-1 eni-0a i-0aaa 10.0.0.5 203.0.113.9 40000 443 6 9 900 1700000000 1700000060 ACCEPT 3\n\
             {ACCOUNT} eu-west-1 eni-0a i-0aaa 203.0.113.9 10.0.0.5 443 40000 6 9 900 1700000000 1700000060 ACCEPT 19\n\
             words\n"
        ),
    );
    let query = serde_json::json!({
        "account_id": ACCOUNT, "region": "eu-west-1", "vpc_id": "vpc-0a",
        "query_timestamp": "2023-11-14T22:13:20Z", "query_name": "a.c2.example.", "query_type": "A",
        "rcode": "NOERROR", "srcaddr": "10.0.0.6", "srcids": {"instance": "i-0bbb"},
    });
    let queries = write(folder.path(), "queries.log", query.to_string());
    let output = analyze(
        &[
            "--vpc-flow",
            &flows,
            "--resolver",
            &queries,
            "--intel",
            intel.to_str().unwrap(),
            "--format",
            "jsonl",
        ],
        b"",
    );
    // The line of words.
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("flows.log: line 4"),
        "{}",
        told(&output)
    );
    let lines = lines(&output);
    let mut found: Vec<(&str, &str)> = lines
        .iter()
        .filter_map(|line| {
            let id = line["resource"]["instanceDetails"]["instanceId"].as_str()?;
            Some((line["type"].as_str()?, id))
        })
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("Backdoor:EC2/C&CActivity.B", "i-0aaa"),
            ("Backdoor:EC2/C&CActivity.B!DNS", "i-0bbb"),
        ]
    );
    let totals = &lines.last().unwrap()["input"];
    assert_eq!(totals["vpc_flow"]["records"], 2);
    assert_eq!(totals["vpc_flow"]["refused"], 1);
    assert_eq!(totals["resolver"]["records"], 1);
}

#[test]
fn flow_logs_may_be_tables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet");
    let of = |name: &str| {
        let path = folder.join(name).display().to_string();
        analyze(&["--vpc-flow", &path, "--format", "jsonl"], b"")
    };
    let output = of("differences.parquet");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let totals = &lines(&output).pop().unwrap()["input"]["vpc_flow"];
    assert_eq!(
        (&totals["records"], &totals["silent"]),
        (&490.into(), &10.into())
    );
    for (name, expected) in [
        (
            "columns.parquet",
            "columns.parquet: Parquet: no column dstaddr\n",
        ),
        ("zstd.parquet", "zstd.parquet: Parquet: packed by codec 6"),
        ("odd.parquet", "odd.parquet: row 2: a text that"),
    ] {
        let output = of(name);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let told = told(&output);
        assert!(told.contains(expected), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_sequence_of_no_envelopes_is_one() {
    let output = analyze(&["--summaries", "-", "--format", "jsonl"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let lines = lines(&output);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["input"]["summaries"]["envelopes"], 0);
}

#[test]
fn any_key_is_analysed_and_its_standing_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (Signer::from_seed(&[5; 32]), Signer::from_seed(&[6; 32]));
    let bytes =
        [&own, &other, &Signer::development()].map(|signer| replay(signer, &[100]).concat());
    let file = write(folder.path(), "agents.cbor", bytes.concat());
    let key = own.public_key();
    let id = AgentId::of_key(&key.0);
    let config = format!(
        "[[agents]]\nid = '{id}'\npublic_key = '{key}'\naccount = '111122223333'\n\
         region = 'eu-west-1'\ninstance = 'i-1'\n"
    );
    let config = write(folder.path(), "collector.toml", config);
    let arguments = ["--summaries", &file, "--format", "jsonl"];

    let output = analyze(&[&arguments[..], &["--config", &config]].concat(), b"");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let lines = lines(&output);
    let totals = lines.last().unwrap();
    assert_eq!(totals["events"]["agent"], 3);
    let summaries = &totals["input"]["summaries"];
    let counts = serde_json::json!({"configured": 1, "development": 1, "unknown": 1});
    assert_eq!(summaries["verified"], counts);
    let signers = summaries["signers"].as_array().unwrap();
    assert_eq!(signers.len(), 3);
    for (signer, standing) in [
        (&own, "configured"),
        (&other, "unknown"),
        (&Signer::development(), "development"),
    ] {
        let key = signer.public_key().to_string();
        let found = signers.iter().find(|one| one["key"] == key).unwrap();
        assert_eq!(found["standing"], standing);
        assert_eq!(found["envelopes"], 1);
    }
    let told = told(&output);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains(&format!("{}, which is not in the", other.public_key())));

    let text = analyze(&["--summaries", &file, "--format", "text"], b"");
    let text = String::from_utf8(text.stdout).unwrap();
    let words = "agents: 1 with the public development key, 2 with keys nobody named";
    assert!(text.contains(words), "{text}");
}

#[test]
fn envelopes_that_prove_nothing_are_not_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let own = Signer::from_seed(&[5; 32]);
    let mut bytes = replay(&own, &[100]).concat();
    let mut tampered = replay(&Signer::development(), &[100]).concat();
    *tampered.last_mut().unwrap() ^= 1;
    bytes.extend(tampered);
    // A key in somebody else's name.
    let mut chain = Chain::new(AgentId([1; 16]), BootId([3; 16]));
    bytes.extend(chain.seal(&summary([203, 0, 113, 9], 120), 0, &own));
    let file = write(folder.path(), "agent.cbor", &bytes);
    let output = analyze(&["--summaries", &file, "--format", "jsonl"], b"");
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let totals = lines.last().unwrap();
    assert_eq!(totals["events"]["agent"], 1);
    assert_eq!(
        totals["refused"],
        serde_json::json!({"tampered": 1, "wrong_key": 1})
    );
    let told = told(&output);
    assert!(told.contains("agent.cbor: byte 0: agent "), "{told}");
    assert!(
        told.contains("refused: signature does not verify"),
        "{told}"
    );
    assert!(told.contains("which is not its own"), "{told}");
}

#[test]
fn damage_is_reported_and_what_is_good_is_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let records = format!(
        r#"{{"Records":[{},{}]}}"#,
        event(10, "StopLogging", "mallory"),
        event(20, "DeleteTrail", "mallory")
    );
    let file = write(folder.path(), "cut.json", &records[..records.len() - 40]);
    let empty = write(folder.path(), "empty.json", "");
    let missing = folder.path().join("missing.json");
    let missing = missing.to_str().unwrap();
    let output = analyze(
        &[
            "--cloudtrail",
            &file,
            "--cloudtrail",
            &empty,
            "--cloudtrail",
            missing,
            "--format",
            "jsonl",
        ],
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    for part in [
        "cut.json: line 1, byte ",
        "ends in the middle",
        "empty.json: empty",
        "missing.json: read: ",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let lines = lines(&output);
    assert_eq!(types(&lines), [STOPPED]);
    assert_eq!(lines.last().unwrap()["input"]["faults"], 3);
}

#[test]
fn usage_and_configuration_have_exit_codes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "a.json", event(1, "DescribeTrails", "alice"));
    let bad = write(folder.path(), "collector.toml", "agentz = 1\n");
    for (arguments, code, part) in [
        (vec![], 2, "--summaries"),
        (vec!["--cloudtrail", &good, "--format", "xml"], 2, "xml"),
        (
            vec!["--cloudtrail", &good, "--no-such-log", "x"],
            2,
            "--no-such-log",
        ),
        (vec!["--cloudtrail", &good, "--config", &bad], 78, "agentz"),
        (
            vec!["--cloudtrail", &good, "--config", "/nonexistent.toml"],
            78,
            "/nonexistent.toml",
        ),
        (
            vec!["--cloudtrail", &good, "--intel", "/nonexistent"],
            1,
            "/nonexistent",
        ),
    ] {
        let output = analyze(&arguments, b"");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            told(&output).contains(part),
            "{arguments:?}: {}",
            told(&output)
        );
    }
}

#[test]
fn people_get_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "a.json",
        event(10, "StopLogging", "mallory\u{1b}[2J"),
    );
    let output = analyze(&["--cloudtrail", &file, "--format", "text"], b"");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("FIRST SEEN"), "{text}");
    assert!(
        text.contains(STOPPED) && text.contains("1 findings"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}
