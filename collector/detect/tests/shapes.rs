//! Findings in every shape that others read them in: field by field against goldens, and against what each format asks for.
//!
//! `PICKET_BLESS=1 cargo test -p picket-detect --test shapes` writes the goldens anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use picket_detect::finding::shape::Shape;
use picket_detect::logs::{ApiCall, Columns, Database, FlowLine, Gather, LoginReader};
use picket_detect::{Analyzer, Event, Finding, Output, Settings};
use picket_intel::{Category, Indicator, List, SetBuilder};
use serde_json::Value;

const CALL: &str = r#"{"eventVersion":"1.08","eventID":"875240ac-e821-4fc6-a311-000000000001","eventTime":"2023-11-14T22:13:20Z",
    "eventSource":"iam.amazonaws.com","eventName":"CreateUser","awsRegion":"eu-west-1","recipientAccountId":"111122223333",
    "sourceIPAddress":"203.0.113.9","userAgent":"aws-cli/2.1","userIdentity":{"type":"IAMUser","userName":"eve",
    "principalId":"AIDAEXAMPLE","accessKeyId":"AKIAEXAMPLE","accountId":"111122223333","arn":"arn:aws:iam::111122223333:user/eve"}}"#;

const FLOW_COLUMNS: &str = "account-id region instance-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start \
                            end action tcp-flags flow-direction";

const FLOW: &str = "111122223333 eu-west-1 i-0abc eni-0a 10.0.0.5 198.51.100.7 49152 443 6 10 840 1700000000 1700000050 ACCEPT 3 egress";

const LOGIN: &str = "2023-11-14 22:13:20 UTC:203.0.113.9(54321):app@shop:[7]:LOG:  connection authorized: user=app database=shop SSL enabled (protocol=TLSv1.3)";

/// Detections whose findings are shown; others may find something in the same events.
const LISTED: &[&str] = &["indicator_address", "indicator_caller", "rds_login_caller"];

/// One finding of each resource: a host, a principal, a database.
fn findings() -> Vec<Finding> {
    let mut lists = SetBuilder::default();
    for (category, address) in [
        (Category::C2, "198.51.100.7"),
        (Category::Custom, "203.0.113.0/24"),
    ] {
        let list = lists
            .list(List::new(format!("{category}-ips"), category))
            .unwrap();
        lists
            .add(list, Indicator::address(address).unwrap())
            .unwrap();
    }
    let mut analyzer = Analyzer::new(Settings::default(), lists.build());
    let columns = Columns::named(FLOW_COLUMNS).unwrap().unwrap();
    let mut gather = Gather::default();
    if let FlowLine::Record(record) = columns.read(FLOW).unwrap() {
        gather.flow(*record);
    }
    let mut logins = Vec::new();
    let database = Database {
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        instance: "shop".into(),
        cluster: None,
    };
    let mut reader = LoginReader::new(database);
    reader.line(LOGIN.as_bytes(), &mut logins).unwrap();
    reader.finish(&mut logins);
    let summaries = gather
        .take()
        .into_iter()
        .map(|one| Event::Summary(Box::new(one)));
    let calls = [Event::Api(Box::new(
        ApiCall::parse(CALL.as_bytes(), 0).unwrap(),
    ))];
    let logins = logins.into_iter().map(|one| Event::Login(Box::new(one)));
    for event in summaries.chain(calls).chain(logins) {
        analyzer.on_event(event);
    }
    analyzer.finish();
    let mut findings = Vec::new();
    while let Some(output) = analyzer.poll_output() {
        if let Output::Finding(finding) = output
            && LISTED.contains(&&*finding.picket.rule)
        {
            findings.push(*finding);
        }
    }
    let types: Vec<&str> = findings.iter().map(Finding::type_name).collect();
    let expected = [
        "Backdoor:EC2/C&CActivity.B",
        "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom",
        "CredentialAccess:RDS/MaliciousIPCaller.SuccessfulLogin",
    ];
    assert_eq!(types, expected);
    findings
}

fn shaped(shape: Shape) -> Vec<Value> {
    findings().iter().map(|finding| shape.of(finding)).collect()
}

/// Every path of a value with what stands there.
fn paths(at: &str, value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                paths(&format!("{at}.{name}"), value, out);
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                paths(&format!("{at}[{number}]"), value, out);
            }
        }
        other => {
            out.insert(format!("{at} = {other}"));
        }
    }
}

#[track_caller]
fn check(shape: Shape, name: &str) {
    let value = Value::Array(shaped(shape));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(name);
    if std::env::var_os("PICKET_BLESS").is_some() {
        std::fs::write(&path, format!("{value:#}\n")).unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    paths("", &value, &mut ours);
    paths("", &golden, &mut theirs);
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    let added: Vec<&String> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "{name}\nno more: {missing:#?}\nnew: {added:#?}"
    );
}

#[test]
fn guardduty() {
    check(Shape::GuardDuty, "guardduty.json");
}

#[test]
fn eventbridge() {
    check(Shape::EventBridge, "eventbridge.json");
}

#[test]
fn asff() {
    check(Shape::Asff, "asff.json");
}

#[test]
fn ocsf() {
    check(Shape::Ocsf, "ocsf.json");
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    let found = value.pointer(path).and_then(Value::as_str);
    found.expect(path)
}

fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.expect(path)
}

#[test]
fn guardduty_has_what_its_consumers_read() {
    let actions = [
        "networkConnectionAction",
        "awsApiCallAction",
        "rdsLoginAttemptAction",
    ];
    let resources = [
        "instanceDetails",
        "accessKeyDetails",
        "rdsDbInstanceDetails",
    ];
    for (at, one) in shaped(Shape::GuardDuty).iter().enumerate() {
        assert_eq!(text(one, "/schemaVersion"), "2.0");
        for path in [
            "/accountId",
            "/region",
            "/partition",
            "/id",
            "/arn",
            "/type",
            "/title",
            "/description",
            "/createdAt",
            "/updatedAt",
        ] {
            assert!(!text(one, path).is_empty(), "{path}");
        }
        for path in [
            "/service/eventFirstSeen",
            "/service/eventLastSeen",
            "/service/serviceName",
            "/service/detectorId",
        ] {
            assert!(!text(one, path).is_empty(), "{path}");
        }
        assert!(matches!(
            text(one, "/service/resourceRole"),
            "ACTOR" | "TARGET"
        ));
        assert!(one["service"]["archived"].is_boolean() && one["severity"].is_f64());
        assert!(one["service"]["action"][actions[at]].is_object());
        assert!(one["resource"][resources[at]].is_object());
        assert_eq!(number(one, "/service/count"), 1);
    }
}

#[test]
fn eventbridge_wraps_one_finding() {
    let plain = shaped(Shape::GuardDuty);
    let mut ids = BTreeSet::new();
    for (one, finding) in shaped(Shape::EventBridge).iter().zip(&plain) {
        let members: Vec<&String> = one.as_object().unwrap().keys().collect();
        let expected = [
            "account",
            "detail",
            "detail-type",
            "id",
            "region",
            "resources",
            "source",
            "time",
            "version",
        ];
        assert_eq!(members, expected);
        assert_eq!(
            (
                text(one, "/version"),
                text(one, "/detail-type"),
                text(one, "/source")
            ),
            ("0", "GuardDuty Finding", "picket")
        );
        assert_eq!(
            (&one["detail"], &one["account"], &one["region"]),
            (finding, &finding["accountId"], &finding["region"])
        );
        let lengths: Vec<usize> = text(one, "/id").split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(ids.insert(text(one, "/id").to_owned()));
    }
}

#[test]
fn asff_has_what_security_hub_asks_for() {
    let types = ["AwsEc2Instance", "AwsIamAccessKey", "AwsRdsDbInstance"];
    for (at, one) in shaped(Shape::Asff).iter().enumerate() {
        assert_eq!(text(one, "/SchemaVersion"), "2018-10-08");
        let account = text(one, "/AwsAccountId");
        assert!(account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()));
        let product = format!("arn:aws:securityhub:eu-west-1:{account}:product/{account}/default");
        assert_eq!(text(one, "/ProductArn"), product);
        for path in ["/Id", "/GeneratorId"] {
            assert!((1..=512).contains(&text(one, path).len()), "{path}");
        }
        assert!((1..=256).contains(&text(one, "/Title").chars().count()));
        assert!((1..=1_024).contains(&text(one, "/Description").chars().count()));
        for path in [
            "/CreatedAt",
            "/UpdatedAt",
            "/FirstObservedAt",
            "/LastObservedAt",
        ] {
            assert_eq!(
                text(one, path).len(),
                "2023-11-14T22:13:20Z".len(),
                "{path}"
            );
        }
        let kind: Vec<&str> = text(one, "/Types/0").split('/').collect();
        let namespaces = [
            "Software and Configuration Checks",
            "TTPs",
            "Effects",
            "Unusual Behaviors",
            "Sensitive Data Identifications",
        ];
        assert!(kind.len() == 3 && namespaces.contains(&kind[0]), "{kind:?}");
        for path in ["/Severity/Label", "/FindingProviderFields/Severity/Label"] {
            assert!(["LOW", "MEDIUM", "HIGH", "CRITICAL"].contains(&text(one, path)));
        }
        assert!(number(one, "/Confidence") <= 100);
        assert_eq!(text(one, "/Resources/0/Type"), types[at]);
        assert!(!text(one, "/Resources/0/Id").is_empty());
        let fields = one["ProductFields"].as_object().unwrap();
        assert!(
            fields.len() <= 50
                && fields
                    .keys()
                    .all(|name| !name.starts_with("aws/") && name.len() <= 128)
        );
        assert!(one.to_string().len() < 240_000);
    }
}

/// Whose database it is may not be told.
#[test]
fn asff_has_an_account_whoever_it_is_of() {
    let mut finding = findings().remove(0);
    finding.account_id = String::new();
    let one = Shape::Asff.of(&finding);
    assert_eq!(text(&one, "/AwsAccountId"), "000000000000");
    assert!(text(&one, "/ProductArn").ends_with(":000000000000:product/000000000000/default"));
}

/// What somebody else chose may be long; what Security Hub takes is not.
#[test]
fn asff_is_cut_to_its_lengths() {
    let mut finding = findings().remove(0);
    finding.title = "ü".repeat(5_000);
    finding.description = "ü".repeat(5_000);
    finding.picket.why = "ü".repeat(5_000);
    finding.picket.first_look = vec!["ü".repeat(5_000)];
    for number in 0..200 {
        finding
            .service
            .additional_info
            .insert(number.to_string(), "ü".repeat(5_000));
    }
    let one = Shape::Asff.of(&finding);
    let length = |path| text(&one, path).chars().count();
    assert_eq!((length("/Title"), length("/Description")), (256, 1_024));
    assert_eq!(length("/Remediation/Recommendation/Text"), 512);
    assert_eq!(length("/ProductFields/picket~1why"), 2_048);
    assert!(one["ProductFields"].as_object().unwrap().len() <= 50);
    assert!(one.to_string().len() < 240_000);
}

#[test]
fn ocsf_has_what_its_class_requires() {
    for (one, finding) in shaped(Shape::Ocsf).iter().zip(findings()) {
        let activity = number(one, "/activity_id");
        assert_eq!(
            (number(one, "/class_uid"), number(one, "/category_uid")),
            (2004, 2)
        );
        assert_eq!(number(one, "/type_uid"), 2004 * 100 + activity);
        assert_eq!(number(one, "/time"), finding.updated_at.0 / 1_000_000);
        assert!((2..=5).contains(&number(one, "/severity_id")));
        assert_eq!(text(one, "/metadata/version"), "1.6.0");
        assert_eq!(text(one, "/metadata/product/name"), "picket");
        assert_eq!(
            (
                text(one, "/finding_info/uid"),
                text(one, "/finding_info/title")
            ),
            (&*finding.id, &*finding.title)
        );
        assert_eq!(text(one, "/cloud/provider"), "AWS");
        for evidence in one["evidences"].as_array().unwrap() {
            let members = evidence.as_object().unwrap();
            assert!(!members.is_empty());
            if let Some(info) = members.get("connection_info") {
                assert!(info["direction_id"].is_u64());
            }
        }
        let mut closed = finding.clone();
        closed.service.archived = true;
        assert_eq!(number(&Shape::Ocsf.of(&closed), "/type_uid"), 200_403);
        let mut again = finding;
        again.service.count = 2;
        assert_eq!(number(&Shape::Ocsf.of(&again), "/type_uid"), 200_402);
    }
}
