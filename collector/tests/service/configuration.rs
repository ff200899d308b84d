//! A configuration that cannot be used is told before anything runs.

use crate::rig::{Agent, INSTANCE, Rig};

#[track_caller]
fn check(more: &str, named: &str) {
    let rig = Rig::new(more);
    let output = rig.run_to_end(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{more}: {told}");
    assert!(told.contains(named), "{told} does not name {named}");
}

#[test]
fn exits_78_and_names_the_key() {
    check("lisen = 1", "lisen");
    check("[ingest]\ndrain_ms = 1", "drain_ms");
    check(
        "[tls]\ncert_file = 'FOLDER/none'\nkey_file = 'FOLDER/none'",
        "tls.cert_file",
    );
    let webhook =
        "[[alert.webhook]]\nname = 'a'\nurl = 'http://127.0.0.1/'\nsecret_file = 'FOLDER/none'";
    check(webhook, "alert.webhook[0].secret_file");
    // The configuration itself is a file with text and without a certificate.
    let no_authority = "[[alert.webhook]]\nname = 'a'\nurl = 'https://127.0.0.1/'\n\
        secret_file = 'FOLDER/collector.toml'\nca_file = 'FOLDER/collector.toml'";
    check(no_authority, "alert.webhook[0].ca_file");
    check(
        "[[alert.jsonl]]\npath = 'FOLDER/none/x'",
        "alert.jsonl[0].path",
    );
    check("[tls]\nnames = ['no name at all']", "tls.names");
    check(
        "[tls]\nca_files = ['FOLDER/collector.toml']",
        "tls.ca_files[0]",
    );
    let chain = "cert_file = 'FOLDER/collector.toml'\nkey_file = 'FOLDER/collector.toml'";
    check(&format!("[tls]\n{chain}"), "tls.cert_file");
    check("[enrol]\nchallenge_s = 901", "enrol.challenge_s");
    check("[enrol]\npending_s = 0", "enrol.pending_s");
    check("[ingest]\nhead_timeout_s = 0", "ingest.head_timeout_s");
    let feed = "[[feed]]\nname = 'a'\ncategory = 'c2'\nurl = ";
    check(&format!("{feed}'http://feeds.example/'"), "feed[0].url");
    check(
        &format!("{feed}'https://feeds.example/'\nevery_s = 5"),
        "feed[0].every_s",
    );
    // With the defaults, too many of them.
    check(
        "[fetch]\ndefaults = true\nat_once_max = 0",
        "fetch.at_once_max",
    );
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let rig = Rig::new("");
    std::fs::remove_file(rig.path("collector.toml")).unwrap();
    let output = rig.run_to_end(&["serve"]);
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("collector.toml"), "{told}");
}

#[tokio::test]
async fn one_folder_has_one_collector() {
    let mut rig = Rig::new(&Agent::new(1).table(INSTANCE));
    rig.start().await;
    let output = rig.run_to_end(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("another collector runs in"), "{told}");
    // The first one is not disturbed.
    assert_eq!(rig.terminate().await, Some(0), "{}", rig.log());
    // Colours are for terminals; a log that goes elsewhere is text only.
    let log = rig.log();
    assert!(log.contains("collector stops"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}
