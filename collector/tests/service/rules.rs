//! Rules of the operator's own in a running collector: on trial, replayed, enabled, changed.

use serde_json::Value;

use crate::rig::{Rig, file_lines, until};

const KIND: &str = "Persistence:IAMUser/SigmaRule";
const ID: &str = "11111111-2222-4333-8444-555555555555";

fn rule(name: &str) -> String {
    format!(
        "title: Keys are made\nid: {ID}\nlevel: high\ntags: [attack.persistence, attack.t1098]\n\
         logsource: {{product: aws, service: cloudtrail}}\n\
         detection: {{a: {{eventName: {name}}}, condition: a}}\n"
    )
}

/// A call of its own, by who it says, in the `at`th minute.
fn event(at: u32, name: &str, who: &str) -> String {
    format!(
        r#"{{"eventID":"{at:08x}-0000-4000-8000-000000000000","eventTime":"2026-01-02T03:{at:02}:05Z","eventSource":"iam.amazonaws.com","eventName":"{name}","awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.1","recipientAccountId":"111122223333","userIdentity":{{"type":"IAMUser","userName":"{who}","arn":"arn:aws:iam::111122223333:user/{who}","accountId":"111122223333"}}}}"#
    ) + "\n"
}

async fn started(rules: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new(
        "[[cloudtrail]]\npath = 'FOLDER/logs'\npoll_s = 1\n[rules]\nfolder = 'FOLDER/rules'\n\
         [[alert.jsonl]]\nname = 'file'\npath = 'FOLDER/alerts.jsonl'\n",
    );
    std::fs::create_dir(rig.path("rules")).unwrap();
    for (name, text) in rules {
        std::fs::write(rig.path("rules").join(name), text).unwrap();
    }
    rig.start().await;
    rig
}

fn log(rig: &Rig, name: &str, text: &str) {
    std::fs::write(rig.path("logs").join(name), text).unwrap();
}

fn listed(rig: &Rig, id: &str) -> Value {
    let lines = rig.lines(&["rules", "list"]);
    let mut found = lines.into_iter().filter(|line| line["id"] == id);
    found.next().unwrap()
}

/// Who is told of in alerts.
fn told(rig: &Rig) -> Vec<String> {
    let path = rig.path("alerts.jsonl");
    let lines = if path.exists() {
        file_lines(&path)
    } else {
        Vec::new()
    };
    let of_rules = lines.iter().filter(|line| line["detail"]["type"] == KIND);
    let names = of_rules.map(|line| &line["detail"]["resource"]["accessKeyDetails"]["userName"]);
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_new_rule_is_stored_and_tells_nobody_until_it_was_replayed() {
    let mut rig = started(&[("a.yml", &rule("CreateAccessKey")), ("b.yml", "title: [")]).await;
    log(&rig, "a.jsonl", &event(1, "CreateAccessKey", "eve"));
    rig.finding(KIND, 1).await;
    let line = listed(&rig, ID);
    assert_eq!(line["state"], "trial");
    assert_eq!(line["findings"], 1);
    assert!(line["last_fired_ms"].as_u64() > Some(0));
    assert_eq!(line["threshold"], "each match");
    assert_eq!(told(&rig), [""; 0]);
    // What is not in force is listed with its place, and detections beside the rules.
    let lines = rig.lines(&["rules", "list"]);
    let faults: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "fault")
        .collect();
    assert_eq!(faults.len(), 1);
    assert!(faults[0]["file"].as_str().unwrap().ends_with("b.yml"));
    assert!(
        listed(&rig, "root_usage")["threshold"]
            .as_str()
            .unwrap()
            .contains("read_severity")
    );

    // Too many findings leave it where it is; few enough let it page.
    let words = ["rules", "replay", "--enable", "--findings-max", "0"];
    rig.run(&words);
    assert_eq!(listed(&rig, ID)["state"], "trial");
    let output = rig.run(&["rules", "replay", "--enable", "--format", "jsonl"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let did: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&did["findings"], &did["occurrences"]),
        (&1.into(), &1.into())
    );
    assert_eq!(listed(&rig, ID)["state"], "live");
    log(&rig, "b.jsonl", &event(2, "CreateAccessKey", "bob"));
    until("an alert", || async {
        (told(&rig) == ["bob"]).then_some(())
    })
    .await;

    // So it stays over a restart, until it says something else.
    rig.kill();
    rig.start().await;
    assert_eq!(listed(&rig, ID)["state"], "live");
    rig.kill();
    std::fs::write(rig.path("rules/a.yml"), rule("DeleteAccessKey")).unwrap();
    rig.start().await;
    assert_eq!(listed(&rig, ID)["state"], "trial");
    rig.print(&["rules", "enable", ID]);
    assert_eq!(listed(&rig, ID)["state"], "live");
    rig.print(&["rules", "trial", ID]);
    assert_eq!(listed(&rig, ID)["state"], "trial");
    assert!(!rig.run(&["rules", "enable", "nothing"]).status.success());
}

#[tokio::test]
async fn a_rule_is_tried_without_a_collector() {
    let rig = Rig::new("");
    std::fs::write(rig.path("good.yml"), rule("CreateAccessKey")).unwrap();
    std::fs::write(
        rig.path("bad.yml"),
        rule("x").replace("eventName", "eventName|odd"),
    )
    .unwrap();
    log(
        &rig,
        "a.jsonl",
        &(event(1, "CreateAccessKey", "eve") + &event(2, "Other", "bob")),
    );
    let path = |name: &str| rig.path(name).display().to_string();
    let (good, bad, logs) = (path("good.yml"), path("bad.yml"), path("logs"));
    let text = rig.print(&["rules", "test", &good, "--cloudtrail", &logs]);
    assert!(
        text.contains("CreateAccessKey by arn:aws:iam::111122223333:user/eve"),
        "{text}"
    );
    assert!(!text.contains("bob"), "{text}");
    let output = rig.run(&["rules", "test", &good, &bad]);
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("bad.yml: line 6"), "{words}");
    assert!(words.contains("\"odd\" is not supported"), "{words}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_a_bad_configuration() {
    let rig = Rig::new("[rules]\nfolder = 'FOLDER/none'\n");
    let output = rig.run_to_end(&["serve"]);
    assert_eq!(output.status.code(), Some(78));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("rules.folder"), "{words}");
}

#[tokio::test]
async fn the_folder_is_read_again_when_told_to_all_of_it_or_nothing() {
    let hang_up = |rig: &Rig| {
        let told = std::process::Command::new("kill")
            .args(["-HUP", &rig.pid().to_string()])
            .status();
        assert!(told.unwrap().success());
    };
    let rig = started(&[("a.yml", &rule("CreateAccessKey")), ("odd.yml", "title: [")]).await;
    let digest = listed(&rig, ID)["digest"].clone();
    std::fs::write(rig.path("rules/a.yml"), rule("DeleteAccessKey")).unwrap();
    std::fs::write(rig.path("rules/b.yml"), "title: {").unwrap();
    hang_up(&rig);
    until("the error", || async {
        rig.log().contains("rules not read again").then_some(())
    })
    .await;
    assert!(rig.log().contains("b.yml"));
    assert_eq!(listed(&rig, ID)["digest"], digest);
    std::fs::remove_file(rig.path("rules/b.yml")).unwrap();
    hang_up(&rig);
    until("the other rule", || async {
        (listed(&rig, ID)["digest"] != digest).then_some(())
    })
    .await;
    log(
        &rig,
        "a.jsonl",
        &(event(1, "CreateAccessKey", "eve") + &event(2, "DeleteAccessKey", "bob")),
    );
    let finding = rig.finding(KIND, 1).await;
    let who = &finding["resource"]["accessKeyDetails"]["userName"];
    assert_eq!(who, "bob");
}
