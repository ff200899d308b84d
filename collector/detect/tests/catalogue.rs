//! What is documented about findings and settings is what the code has.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use picket_detect::analyzer::{behaviours, catalogue, rule_types};
use picket_detect::finding::Origin;
use picket_detect::settings::Settings;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/findings.md");
    std::fs::read_to_string(path).unwrap()
}

/// The types in the first column of the first table, with the severity that stands first.
fn documented(page: &str) -> BTreeSet<(String, String)> {
    let own = page.split("\n# ").next().unwrap();
    own.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let mut columns = row.split('|');
            let name = columns.next().unwrap().trim().trim_end_matches('`');
            let severity = columns.next().unwrap().trim();
            let first = severity.split(';').next().unwrap();
            (name.to_owned(), first.to_owned())
        })
        .collect()
}

#[test]
fn names_of_our_own_are_documented_and_no_others() {
    let own: BTreeSet<(String, String)> = catalogue()
        .flat_map(|(_, types)| types.iter().copied())
        .chain(rule_types())
        .filter(|kind| kind.origin == Origin::Picket)
        .map(|kind| (kind.name.to_owned(), format!("{:.1}", kind.severity)))
        .collect();
    assert!(!own.is_empty());
    assert_eq!(documented(&page()), own);
}

/// What a finding may be about: GuardDuty's words, and services that its custom rules name.
const RESOURCES: &[&str] = &[
    "CodeBuild",
    "EC2",
    "ECS",
    "EKS",
    "IAM",
    "IAMUser",
    "Lambda",
    "Organizations",
    "RDS",
    "RolesAnywhere",
    "Route53Resolver",
    "Runtime",
    "S3",
    "SES",
    "SageMaker",
];

#[test]
fn names_follow_the_grammar() {
    let detections = catalogue().map(|(id, types)| (id, types.to_vec()));
    for (id, types) in detections.chain([("sigma", rule_types().collect())]) {
        assert!(!types.is_empty(), "{id} reports nothing");
        for kind in types {
            let name = kind.name;
            let (purpose, rest) = name.split_once(':').unwrap();
            let (resource, family) = rest.split_once('/').unwrap();
            let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
            assert!(is_word(purpose), "{name}");
            assert!(RESOURCES.contains(&resource), "{name}");
            assert!(!family.is_empty(), "{name}");
            assert!((1.0..=10.0).contains(&kind.severity), "{name}");
        }
    }
}

#[test]
fn behaviours_are_documented_and_no_others() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cloudtrail.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, single) = page.split_once("\n# Single calls\n").unwrap();
    let single = single.split("\n# ").next().unwrap();
    let rows = single.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows
        .map(|row| {
            row.split('|')
                .skip(1)
                .take(4)
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let own: BTreeSet<String> = behaviours()
        .map(|(id, kind, severity, planned)| {
            let planned = planned.map_or("the same".to_owned(), |planned| format!("{planned:.1}"));
            format!("`{id}` `{kind}` {severity:.1} {planned}")
        })
        .collect();
    assert_eq!(documented, own);
}

/// The names that GuardDuty has, where its catalogue is at hand.
#[test]
fn names_of_guardduty_are_in_its_catalogue() {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        Into::into,
    );
    let path = shared.join("guardduty-findings.tsv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return;
    };
    let known: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    let of_detections = catalogue().flat_map(|(_, types)| types.iter().copied());
    for kind in of_detections.chain(rule_types()) {
        let theirs = kind.origin == Origin::GuardDuty;
        assert_eq!(known.contains(kind.name), theirs, "{}", kind.name);
    }
}

#[test]
fn detections_are_sorted_by_id_and_each_has_its_table_of_settings() {
    let ids: Vec<&str> = catalogue().map(|(id, _)| id).collect();
    assert!(ids.is_sorted());
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let tables: Vec<&str> = settings["detections"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(tables, ids);
}

#[test]
fn settings_are_strict_and_go_through_toml() {
    let text = toml::to_string(&Settings::default()).unwrap();
    assert_eq!(
        toml::from_str::<Settings>(&text).unwrap(),
        Settings::default()
    );
    assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    let changed = "[detections.port_scan]\nports_min = 99\n";
    let settings: Settings = toml::from_str(changed).unwrap();
    assert_ne!(settings, Settings::default());
    for wrong in [
        "[detections.port_scan]\nport_min = 99\n",
        "[detections.portscan]\n",
        "[correlations.instance_story]\nhours = 1\n",
        "[accounts]\nours = []\n",
    ] {
        let error = toml::from_str::<Settings>(wrong).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{wrong}: {error}");
    }
}

/// `docs/guardduty.md`: each type with what its second column says.
fn covered() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guardduty.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, by) = row.split_once("` | ").unwrap();
        (name.to_owned(), by.trim_end_matches(" |").to_owned())
    })
    .collect()
}

#[test]
fn types_of_calls_are_reported_by_whom_the_page_says() {
    for (name, by) in covered() {
        let reports = catalogue().filter(|(_, types)| types.iter().any(|one| one.name == name));
        let reports: BTreeSet<String> = reports.map(|(id, _)| format!("`{id}`")).collect();
        let said: BTreeSet<String> = by
            .split(", ")
            .filter(|word| word.starts_with('`'))
            .map(str::to_owned)
            .collect();
        assert_eq!(said, reports, "{name}");
        assert!(!by.is_empty(), "{name}");
    }
}

/// Every type that GuardDuty makes of CloudTrail stands on the page, where its catalogue is at hand.
#[test]
fn the_page_has_every_type_of_calls() {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        Into::into,
    );
    let path = shared.join("guardduty-findings.tsv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return;
    };
    let of_calls = |line: &str| -> Option<String> {
        let mut columns = line.split('\t');
        let (name, _, source, _, retired) = (
            columns.next()?,
            columns.next()?,
            columns.next()?,
            columns.next()?,
            columns.next()?,
        );
        let sources = ["CloudTrail", "S3 data", "AI data"];
        let is_one = sources.iter().any(|one| source.contains(one)) && retired == "no";
        is_one.then(|| name.to_owned())
    };
    let theirs: BTreeSet<String> = text.lines().filter_map(of_calls).collect();
    let ours: BTreeSet<String> = covered().into_iter().map(|(name, _)| name).collect();
    assert_eq!(ours, theirs);
}
