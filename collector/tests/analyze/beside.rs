//! What stands beside CloudTrail and the agents' word: logs of databases, GuardDuty's findings, what it all costs.

use std::fs;

use serde_json::Value;

use super::{ACCOUNT, analyze, event, lines, told, types};

#[test]
fn logins_to_databases_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("shop/error");
    fs::create_dir_all(&logs).unwrap();
    let line = |second: u32, process: u32, rest: &str| {
        format!("2023-11-14 22:13:{second:02} UTC:203.0.113.9(54321):app@shop:[{process}]:{rest}\n")
    };
    let mut text = String::new();
    for second in 0..12 {
        let failed = "FATAL:  password authentication failed for user \"app\"";
        text += &line(second, second, failed);
    }
    text += &line(
        30,
        99,
        "LOG:  connection authorized: user=app database=shop",
    );
    fs::write(logs.join("postgresql.log.2023-11-14-22"), &text).unwrap();
    let lists = folder.path().join("lists");
    fs::create_dir(&lists).unwrap();
    fs::write(lists.join("tor-ips.txt"), "203.0.113.9\n").unwrap();
    let path = folder.path().join("shop");
    let arguments = [
        "--rds-log",
        path.to_str().unwrap(),
        "--rds-account",
        ACCOUNT,
        "--rds-region",
        "eu-west-1",
        "--intel",
        lists.to_str().unwrap(),
        "--format",
        "jsonl",
    ];
    let output = analyze(&arguments, b"");
    assert!(output.status.success(), "{}", told(&output));
    let lines = lines(&output);
    let mut found = types(&lines);
    found.sort_unstable();
    let expected = [
        "CredentialAccess:RDS/AnomalousBehavior.FailedLogin",
        "CredentialAccess:RDS/AnomalousBehavior.SuccessfulBruteForce",
        "CredentialAccess:RDS/TorIPCaller.FailedLogin",
        "CredentialAccess:RDS/TorIPCaller.SuccessfulLogin",
    ];
    assert_eq!(found, expected);
    let resource = &lines[0]["resource"]["rdsDbInstanceDetails"];
    assert_eq!(
        resource["dbInstanceArn"],
        "arn:aws:rds:eu-west-1:111122223333:db:shop"
    );
    let totals = lines.last().unwrap();
    assert_eq!(
        (&totals["events"]["rds"], &totals["input"]["rds"]["lines"]),
        (&13.into(), &13.into())
    );
    for (shape, path, expected) in [
        ("eventbridge", "/detail-type", "GuardDuty Finding"),
        ("asff", "/SchemaVersion", "2018-10-08"),
        ("ocsf", "/metadata/version", "1.6.0"),
    ] {
        let output = analyze(&[&arguments[..], &["--shape", shape]].concat(), b"");
        let lines = self::lines(&output);
        assert_eq!(lines.len(), 5, "{shape}");
        let first = lines[0].pointer(path).and_then(Value::as_str);
        assert_eq!(first, Some(expected));
    }
    fs::write(logs.join("postgresql.log.2023-11-14-23"), "damage\n").unwrap();
    let output = analyze(&arguments, b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("postgresql.log.2023-11-14-23: line 1, byte 0"),
        "{}",
        told(&output)
    );
}

#[test]
fn usage_is_told_with_what_guardduty_would_charge() {
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows.log");
    let flow = "2 111122223333 eni-0a 10.0.0.5 198.51.100.7 49152 443 6 10 840 1700000000 1700000060 ACCEPT OK";
    fs::write(&flows, format!("{flow}\n{flow}\n")).unwrap();
    let calls = folder.path().join("calls.json");
    fs::write(&calls, event(1, "ListUsers", "alice")).unwrap();
    let arguments = [
        "--vpc-flow",
        flows.to_str().unwrap(),
        "--cloudtrail",
        calls.to_str().unwrap(),
        "--format",
        "jsonl",
    ];
    let output = analyze(&arguments, b"");
    let lines = lines(&output);
    let input = &lines.last().unwrap()["input"];
    let rows: Vec<(&str, &str, u64)> = input["usage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap();
            (text("day"), text("source"), row["events"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        ("2023-07-10", "cloudtrail_management", 1),
        ("2023-11-14", "vpc_flow", 2),
    ];
    assert_eq!(rows, expected);
    assert_eq!(input["usage"][1]["bytes"], 2 * (flow.len() + 1));
    assert_eq!(input["charges"][0]["meter"], "management_events");
    let price = input["charges"][0]["price"].as_f64().unwrap();
    assert!((price - 4.0 / 1e6).abs() < 1e-12, "{price}");
}

#[test]
fn findings_of_guardduty_join_incidents() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export.jsonl");
    let finding = serde_json::json!({
        "accountId": ACCOUNT, "region": "eu-west-1", "id": "g1", "type": "Recon:EC2/Portscan", "severity": 5, "title": "t",
        "resource": { "instanceDetails": { "instanceId": "i-0aaaaaaaaaaaaaaaa" } }, "updatedAt": "2023-07-10T11:50:00Z",
    });
    fs::write(&file, format!("{finding}\n")).unwrap();
    let calls = folder.path().join("calls.json");
    let mut launch: Value = serde_json::from_str(&event(1, "RunInstances", "alice")).unwrap();
    launch["eventSource"] = "ec2.amazonaws.com".into();
    launch["recipientAccountId"] = ACCOUNT.into();
    launch["responseElements"] = serde_json::json!({
        "instancesSet": { "items": [{ "instanceId": "i-0aaaaaaaaaaaaaaaa", "privateIpAddress": "10.0.0.1" }] },
    });
    fs::write(&calls, launch.to_string()).unwrap();
    let arguments = [
        "--guardduty",
        file.to_str().unwrap(),
        "--cloudtrail",
        calls.to_str().unwrap(),
        "--format",
        "jsonl",
    ];
    let output = analyze(&arguments, b"");
    assert!(output.status.success(), "{}", told(&output));
    let lines = lines(&output);
    let incident = lines
        .iter()
        .find(|line| line["kind"] == "incident")
        .unwrap();
    assert_eq!(incident["findings"], serde_json::json!(["guardduty/g1"]));
    assert!(!types(&lines).contains(&"Recon:EC2/Portscan"));
    let totals = lines.last().unwrap();
    assert_eq!(totals["input"]["guardduty"]["findings"], 1);
}
