//! What is counted, and what is not.

use super::*;
use crate::event::Event;
use crate::testing::{START, analyze, api as record};
use picket_intel::IndicatorSet;
use std::collections::BTreeSet;

const EVE: &str = r#""type":"IAMUser","userName":"eve","arn":"arn:aws:iam::111122223333:user/eve""#;
const HOST: &str = r#""type":"AssumedRole","principalId":"AROA:i-0abc","arn":"arn:aws:sts::111122223333:assumed-role/web/i-0abc""#;
const MACHINE: &str = r#""type":"AssumedRole","principalId":"AROA:run","arn":"arn:aws:sts::111122223333:assumed-role/app/run""#;

/// `count` calls a second apart, with `{n}` in the parameters for the number of each.
fn calls(identity: &str, api: (&str, &str), rest: &str, count: usize) -> Vec<Event> {
    let of = |n: usize| {
        let rest = rest.replace("{n}", &n.to_string());
        let (service, name) = api;
        let mut call = record(&format!(
            r#"{{"eventID":"e-{name}-{n}","eventSource":"{service}.amazonaws.com","eventName":"{name}",
            "awsRegion":"eu-west-1","recipientAccountId":"111122223333","sourceIPAddress":"192.0.2.1",
            "userAgent":"aws-cli/2","userIdentity":{{{identity}}},{rest}}}"#
        ));
        call.event_time_ns = START + n as u64 * 1_000_000_000;
        Event::Api(call)
    };
    (0..count).map(of).collect()
}

#[track_caller]
fn check(events: Vec<Event>, expected: &[(&str, f64)]) {
    let (findings, _) = analyze(IndicatorSet::default(), events);
    let mut found: Vec<(&str, f64)> = findings
        .iter()
        .filter(|f| f.picket.rule == "cloudtrail_bursts")
        .map(|f| (&*f.service.additional_info["behaviour"], f.severity))
        .collect();
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, expected);
}

#[test]
fn secrets() {
    let api = ("secretsmanager", "GetSecretValue");
    let different = r#""requestParameters":{"secretId":"s{n}"}"#;
    check(calls(EVE, api, different, 4), &[]);
    check(calls(EVE, api, different, 5), &[("secrets_read", 5.0)]);
    check(calls(EVE, api, different, 15), &[("secrets_read", 8.0)]);
    check(
        calls(EVE, api, r#""requestParameters":{"secretId":"s"}"#, 50),
        &[],
    );
    check(calls(MACHINE, api, different, 50), &[]);
    check(calls(HOST, api, different, 5), &[("secrets_read", 5.0)]);
    let api = ("ssm", "GetParameters");
    let names = r#""requestParameters":{"withDecryption":true,"names":["a{n}","b{n}"]}"#;
    check(calls(EVE, api, names, 5), &[("parameters_decrypted", 5.0)]);
    check(calls(EVE, api, &names.replace("true", "false"), 5), &[]);
    let tree = r#""requestParameters":{"withDecryption":true,"path":"/"}"#;
    check(
        calls(EVE, ("ssm", "GetParametersByPath"), tree, 1),
        &[("parameters_decrypted", 5.0)],
    );
}

#[test]
fn things_that_lie_apart_do_not_count_together() {
    let mut events = calls(
        EVE,
        ("secretsmanager", "GetSecretValue"),
        r#""requestParameters":{"secretId":"s{n}"}"#,
        5,
    );
    for (at, event) in events.iter_mut().enumerate() {
        if let Event::Api(call) = event {
            call.event_time_ns += at as u64 * TEN_MINUTES * 1_000_000_000;
        }
    }
    check(events, &[]);
}

#[test]
fn hosts() {
    let api = ("ec2", "GetPasswordData");
    let of = r#""requestParameters":{"instanceId":"i-{n}"}"#;
    check(
        calls(MACHINE, api, of, 3),
        &[("host_passwords_fetched", 5.0)],
    );
    let denied = format!(r#"{of},"errorCode":"Client.UnauthorizedOperation""#);
    check(
        calls(MACHINE, api, &denied, 10),
        &[("host_passwords_fetched", 5.0)],
    );
    check(
        calls(MACHINE, api, of, 1),
        &[("host_passwords_fetched", 3.0)],
    );
    let api = ("ec2", "DescribeInstanceAttribute");
    let data = r#""requestParameters":{"attribute":"userData","instanceId":"i-{n}"}"#;
    check(calls(EVE, api, data, 3), &[("user_data_read", 5.0)]);
    check(calls(EVE, api, &data.replace("userData", "kernel"), 9), &[]);
    check(calls(MACHINE, api, data, 9), &[]);
    let api = ("ec2-instance-connect", "SendSSHPublicKey");
    check(calls(EVE, api, of, 2), &[("host_keys_pushed", 5.0)]);
    let api = ("ssm", "StartSession");
    let target = r#""requestParameters":{"target":"i-{n}"}"#;
    check(calls(EVE, api, target, 3), &[("host_sessions_opened", 5.0)]);
    check(calls(EVE, api, target, 2), &[]);
}

#[test]
fn looking_round() {
    let look = |identity: &str, names: &[(&str, &str)], rest: &str| {
        let all = names.iter().flat_map(|api| calls(identity, *api, rest, 1));
        all.collect::<Vec<_>>()
    };
    let none = r#""requestParameters":null"#;
    let round = [
        ("sts", "GetCallerIdentity"),
        ("s3", "ListBuckets"),
        ("iam", "ListRoles"),
        ("iam", "ListUsers"),
        ("iam", "GetAccountSummary"),
    ];
    check(look(HOST, &round, none), &[("host_explores", 5.0)]);
    check(look(HOST, &round[..4], none), &[]);
    check(look(MACHINE, &round, none), &[]);
    let mail = [
        ("ses", "GetSendQuota"),
        ("ses", "ListIdentities"),
        ("ses", "GetAccountSendingEnabled"),
    ];
    check(look(EVE, &mail, none), &[("mail_explored", 5.0)]);
    check(look(MACHINE, &mail, none), &[]);
    check(look(EVE, &mail[..2], none), &[]);
    let denied = r#""errorCode":"AccessDenied""#;
    let names: Vec<String> = (0..10).map(|n| format!("Describe{n}")).collect();
    let apis: Vec<(&str, &str)> = names.iter().map(|name| ("ec2", &**name)).collect();
    check(look(MACHINE, &apis, denied), &[("denied_sweep", 5.0)]);
    check(look(MACHINE, &apis[..9], denied), &[]);
    check(look(MACHINE, &apis, none), &[]);
    check(calls(MACHINE, ("s3", "PutObject"), denied, 200), &[]);
    let role = r#""errorCode":"AccessDenied","requestParameters":{"roleArn":"r{n}"}"#;
    check(
        calls(EVE, ("sts", "AssumeRole"), role, 5),
        &[("roles_tried", 5.0)],
    );
    let wrong = r#""errorCode":"MalformedPolicyDocumentException""#;
    check(
        calls(EVE, ("iam", "UpdateAssumeRolePolicy"), wrong, 5),
        &[("principals_guessed", 5.0)],
    );
}

#[test]
fn deletions() {
    let secret = r#""requestParameters":{"secretId":"s{n}"}"#;
    let api = ("secretsmanager", "DeleteSecret");
    check(calls(EVE, api, secret, 15), &[("mass_deletion", 5.0)]);
    check(calls(EVE, api, secret, 14), &[]);
    check(calls(MACHINE, api, secret, 60), &[]);
    let object = r#""requestParameters":{"bucketName":"b","key":"k{n}"}"#;
    check(
        calls(EVE, ("s3", "DeleteObject"), object, 100),
        &[("objects_deleted", 8.0)],
    );
    check(calls(EVE, ("s3", "DeleteObject"), object, 19), &[]);
    let batch = r#""requestParameters":{"bucketName":"b"}"#;
    check(
        calls(EVE, ("s3", "DeleteObjects"), batch, 1),
        &[("objects_deleted", 5.0)],
    );
    // Hosts clear away in batches.
    check(calls(HOST, ("s3", "DeleteObjects"), batch, 19), &[]);
    check(
        calls(HOST, ("s3", "DeleteObjects"), batch, 100),
        &[("objects_deleted", 8.0)],
    );
}

#[test]
fn hosts_that_always_clear_away() {
    let batch = r#""requestParameters":{"bucketName":"b"}"#;
    let mut all = Vec::new();
    for day in 0..4_u64 {
        let mut of_day = calls(HOST, ("s3", "DeleteObjects"), batch, 10);
        if day == 3 {
            of_day = calls(HOST, ("s3", "DeleteObjects"), batch, 100);
        }
        for event in &mut of_day {
            if let Event::Api(call) = event {
                call.event_time_ns += day * 24 * 3_600 * 1_000_000_000;
            }
        }
        all.extend(of_day);
    }
    check(all, &[]);
}

#[test]
fn data_taken() {
    let object = r#""requestParameters":{"bucketName":"b","key":"k{n}"}"#;
    let get = ("s3", "GetObject");
    check(calls(EVE, get, object, 60), &[("objects_taken", 3.0)]);
    check(calls(EVE, get, object, 200), &[("objects_taken", 5.0)]);
    check(calls(EVE, get, object, 59), &[]);
    check(calls(MACHINE, get, object, 250), &[]);
    check(calls(HOST, get, object, 250), &[]);
    let same = r#""requestParameters":{"bucketName":"b","key":"k"}"#;
    check(calls(EVE, get, same, 250), &[]);
    let anybody = r#""type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL""#;
    let read = "objects_read_by_anybody";
    check(calls(anybody, get, object, 40), &[(read, 3.0)]);
    check(calls(anybody, get, object, 39), &[]);
    let key = r#""requestParameters":null,"resources":[{"ARN":"arn:aws:kms:eu-west-1:111122223333:key/{n}"}]"#;
    let decrypt = ("kms", "Decrypt");
    check(calls(EVE, decrypt, key, 8), &[("keys_decrypt", 5.0)]);
    check(calls(EVE, decrypt, key, 3), &[]);
    check(calls(MACHINE, decrypt, key, 50), &[]);
    let one = key.replace("{n}", "1");
    check(calls(EVE, decrypt, &one, 50), &[]);
}

#[test]
fn commands() {
    let send = ("ssm", "SendCommand");
    let to = r#""requestParameters":{"documentName":"d","instanceIds":["i-{n}"]}"#;
    check(calls(EVE, send, to, 5), &[("hosts_commanded", 5.0)]);
    check(calls(EVE, send, to, 4), &[]);
    check(calls(MACHINE, send, to, 50), &[]);
    check(calls(EVE, send, &to.replace("i-{n}", "i-1"), 50), &[]);
}

#[test]
fn administrators_who_go_to_hosts_each_week() {
    // The last run comes from another network where one is given.
    let weekly = |service: &str, name: &str, asked: &str, weeks: u64, last: Option<u8>| {
        let mut all = Vec::new();
        for week in 0..weeks {
            let mut run = calls(EVE, (service, name), asked, 40);
            for event in &mut run {
                if let Event::Api(call) = event {
                    call.event_time_ns += week * 7 * 24 * HOUR * 1_000_000_000;
                    call.event_id = call.event_id.take().map(|id| format!("{id}-{week}").into());
                    if let Some(network) = last.filter(|_| week + 1 == weeks) {
                        call.source_address = Some([network, 0, 2, 1].into());
                        call.source_ip = Some(format!("{network}.0.2.1").into());
                    }
                }
            }
            all.extend(run);
        }
        all
    };
    let send = r#""requestParameters":{"documentName":"d","instanceIds":["i-{n}"]}"#;
    let told = |weeks, last| {
        let events = weekly("ssm", "SendCommand", send, weeks, last);
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = |f: &&crate::finding::Finding| {
            f.service
                .additional_info
                .get("behaviour")
                .map(String::as_str)
                == Some("hosts_commanded")
        };
        findings
            .iter()
            .filter(own)
            .map(|f| f.service.count)
            .sum::<u64>()
    };
    // What is done on one day only is not usual yet.
    let learned = told(2, None);
    assert!(learned > 0);
    assert_eq!(told(5, None), learned, "known to do so");
    assert!(told(5, Some(99)) > learned, "not from there");
    let start = r#""requestParameters":{"target":"i-{n}"}"#;
    let opened = weekly("ssm", "StartSession", start, 1, None);
    check(opened, &[("host_sessions_opened", 8.0)]);
}

#[test]
fn one_user_signs_in_everywhere() {
    let from = |networks: &[u8], answer: &str| -> Vec<Event> {
        let told = format!(r#""responseElements":{{"ConsoleLogin":"{answer}"}}"#);
        let mut all = calls(EVE, ("signin", "ConsoleLogin"), &told, networks.len());
        for (network, event) in networks.iter().zip(&mut all) {
            if let Event::Api(call) = event {
                call.source_address = Some([*network, 0, 2, 1].into());
            }
        }
        all
    };
    let places = "signed_in_from_places";
    check(from(&[20, 30, 40], "Success"), &[(places, 5.0)]);
    check(from(&[20, 30], "Success"), &[(places, 3.0)]);
    check(from(&[20, 20, 20], "Success"), &[]);
    check(from(&[20, 30, 40], "Failure"), &[]);
}

#[test]
fn a_role_is_many_peoples() {
    // One role and one issuer; each signs in from a home of its own.
    let of = |role: &str, sessions: [&str; 3]| -> Vec<Event> {
        let answer = r#""responseElements":{"ConsoleLogin":"Success"}"#;
        let each = (20..).zip(sessions).map(|(network, session)| {
            let mut event = calls(
                &session_of(role, session),
                ("signin", "ConsoleLogin"),
                answer,
                1,
            );
            if let Event::Api(call) = &mut event[0] {
                call.source_address = Some([network, 0, 2, 1].into());
                call.event_id = Some(format!("e-{network}").into());
            }
            event.remove(0)
        });
        each.collect()
    };
    let places = "signed_in_from_places";
    let center = "AWSReservedSSO_Admin_1";
    check(of(center, ["ann", "bob", "eve"]), &[]);
    check(of(center, ["ann", "ann", "ann"]), &[(places, 5.0)]);
    check(of(center, ["ann", "ann", "bob"]), &[(places, 3.0)]);
    check(of("Admin", ["ann", "bob", "eve"]), &[]);
    // Other things count by the session where Identity Center named it, else by the role.
    let read = |role: &str, sessions: &[&str]| -> Vec<Event> {
        let each = sessions.iter().enumerate().flat_map(|(n, session)| {
            let secret = format!(r#""requestParameters":{{"target":"i-{n}"}}"#);
            calls(
                &session_of(role, session),
                ("ssm", "StartSession"),
                &secret,
                1,
            )
        });
        let mut all: Vec<Event> = each.collect();
        for (n, event) in all.iter_mut().enumerate() {
            if let Event::Api(call) = event {
                call.event_id = Some(format!("r-{n}").into());
            }
        }
        all
    };
    let opened = "host_sessions_opened";
    check(read(center, &["ann", "bob", "eve"]), &[]);
    check(read(center, &["ann", "ann", "ann"]), &[(opened, 5.0)]);
    check(read("ops", &["a", "b", "c"]), &[(opened, 5.0)]);
}

fn session_of(role: &str, session: &str) -> String {
    format!(
        r#""type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/{role}/{session}",
        "sessionContext":{{"sessionIssuer":{{"type":"Role","userName":"{role}",
        "arn":"arn:aws:iam::111122223333:role/{role}"}}}}"#
    )
}

#[test]
fn nobody_counts_by_address() {
    let nobody = r#""type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL""#;
    let denied = r#""errorCode":"AccessDenied","requestParameters":{"bucketName":"b{n}"}"#;
    let knock = || calls(nobody, ("s3", "HeadBucket"), denied, 5);
    check(knock(), &[("buckets_probed", 5.0)]);
    let mut knocks = knock();
    for (n, event) in (1..).zip(&mut knocks) {
        if let Event::Api(call) = event {
            call.source_ip = Some(format!("192.0.2.{n}").into());
        }
    }
    check(knocks, &[]);
}

#[test]
fn sign_ins() {
    let api = ("signin", "ConsoleLogin");
    let failure = r#""responseElements":{"ConsoleLogin":"Failure"}"#;
    check(calls(EVE, api, failure, 5), &[("password_guessed", 5.0)]);
    check(calls(EVE, api, failure, 4), &[]);
    check(
        calls(EVE, api, &failure.replace("Failure", "Success"), 9),
        &[],
    );
    let users: Vec<Event> = (0..5)
        .flat_map(|n| {
            let user = format!(r#""type":"IAMUser","userName":"u{n}""#);
            calls(&user, api, failure, 1)
        })
        .collect();
    check(users, &[(SPRAY, 5.0)]);
}

#[test]
fn rules_say_what_a_reader_needs() {
    let mut ids = BTreeSet::new();
    for rule in rules() {
        assert!(ids.insert(rule.id), "{} twice", rule.id);
        assert!(
            !rule.steps.is_empty() && rule.steps.is_sorted_by(|a, b| a.0 < b.0),
            "{}",
            rule.id
        );
        let most = rule.steps.iter().map(|(things, _)| *things).max().unwrap();
        assert!(most < crate::limits::BURST_THINGS_MAX, "{}", rule.id);
        assert!(
            rule.window_s * 1_000_000_000 <= crate::history::CALL_FACTS_NS,
            "{}",
            rule.id
        );
        assert!(
            !rule.mitre.is_empty() && !rule.first_look.is_empty(),
            "{}",
            rule.id
        );
    }
}

#[test]
fn settings_name_rules_that_there_are() {
    let settings: Settings = toml::from_str("off = ['denied_sweep']").unwrap();
    assert_eq!(settings.off, [RuleId("denied_sweep")]);
    let again: Settings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
    assert_eq!(again, settings);
    let error = toml::from_str::<Settings>("off = ['denied_sweeps']").unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("off") && told.contains("no rule `denied_sweeps`"),
        "{told}"
    );
}

#[test]
fn portals_registries_and_buckets() {
    let role = r#""requestParameters":{"roleName":"r{n}","accountId":"1"}"#;
    let portal = ("sso", "GetRoleCredentials");
    let kind = "role_credentials_taken";
    check(calls(EVE, portal, role, 5), &[(kind, 5.0)]);
    check(calls(EVE, portal, role, 4), &[]);
    let told =
        r#""requestParameters":null,"serviceEventDetails":{"role_name":"r","account_id":"{n}"}"#;
    check(calls(EVE, portal, told, 15), &[(kind, 8.0)]);
    let pull = ("ecr", "BatchGetImage");
    let images = r#""requestParameters":{"repositoryName":"r{n}"}"#;
    check(calls(EVE, pull, images, 20), &[("images_pulled", 5.0)]);
    check(calls(MACHINE, pull, images, 20), &[]);
    let head = ("s3", "HeadBucket");
    let denied = r#""errorCode":"AccessDenied","requestParameters":{"bucketName":"b{n}"}"#;
    let swept = "buckets_probed";
    check(calls(MACHINE, head, denied, 5), &[(swept, 5.0)]);
    check(calls(MACHINE, head, denied, 4), &[]);
    let absent = r#""errorCode":"NoSuchBucket","requestParameters":{"bucketName":"b{n}"}"#;
    check(calls(MACHINE, head, absent, 9), &[]);
}

#[test]
fn one_key_in_many_places() {
    let key = format!(r#"{EVE},"accessKeyId":"AKIA1""#);
    let spread = |identity: &str, count: u8| -> Vec<Event> {
        let mut all = calls(
            identity,
            ("ec2", "AllocateAddress"),
            r#""x":{n}"#,
            count.into(),
        );
        for (n, event) in (0..).zip(&mut all) {
            if let Event::Api(call) = event {
                call.source_address = Some([n + 20, 0, 2, 1].into());
            }
        }
        all
    };
    let kind = "key_in_many_places";
    check(spread(&key, 3), &[(kind, 5.0)]);
    check(spread(&key, 6), &[(kind, 8.0)]);
    check(spread(&key, 2), &[]);
    check(spread(&key.replace("AKIA", "ASIA"), 6), &[]);
    check(
        calls(&key, ("ec2", "AllocateAddress"), r#""x":{n}"#, 6),
        &[],
    );
}
