//! Instances that AWS vouches for.

use std::process::Stdio;

use picket_tests::aws::imds::Mood;

use super::house::{ACCOUNT, House, INSTANCE, REGION, until};

#[tokio::test]
async fn an_instance_enrolls_by_its_document_and_its_role() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let host = house.host("web");
    let imds = house.instance(INSTANCE).await;
    let (url, ca, at) = (
        house.url(),
        house.ca_file().display().to_string(),
        imds.url(),
    );
    let words = ["--collector", &url, "--ca-file", &ca, "--imds", &at];
    // The service is slow, forgets its token, and has too much to do: each passes.
    for mood in [
        Mood::SilentOnce,
        Mood::Forgetful,
        Mood::Throttled,
        Mood::Well,
    ] {
        imds.set(mood);
        let told = host.enrolled(&words).await;
        assert!(told.contains("trusted by ec2-sts"), "{mood:?}: {told}");
        assert!(told.contains(INSTANCE) && told.contains(ACCOUNT) && told.contains(REGION));
        if mood != Mood::Well {
            std::fs::remove_file(host.path("state/enrolment.json")).unwrap();
        }
    }
    assert!(house.sts.asked() >= 4);
    let line = &house.lines(&["agents", "list"])[0];
    assert_eq!(line["level"], "ec2-sts");
    let by = line["enrolled"]["by"].as_str().unwrap();
    assert!(
        by.ends_with(&format!("assumed-role/web/{INSTANCE}")),
        "{by}"
    );
    assert_eq!(host.ship(&house, INSTANCE).await, Ok(()));

    // In a container no token comes back; without a role the document is not enough.
    let second = house.host("second");
    imds.set(Mood::Far);
    let complaint = second.unenrolled(&words).await;
    assert!(complaint.contains("hop limit"), "{complaint}");
    imds.set(Mood::Well);
    imds.hush("meta-data/iam/security-credentials/");
    let complaint = second.unenrolled(&words).await;
    assert!(
        complaint.contains("sts_missing") && complaint.contains("role"),
        "{complaint}"
    );
    // A second key for the instance.
    let again = house.instance(INSTANCE).await;
    let at = again.url();
    let words = ["--collector", &url, "--ca-file", &ca, "--imds", &at];
    let complaint = second.unenrolled(&words).await;
    assert!(complaint.contains("second_key"), "{complaint}");
    let kind = "DefenseEvasion:EC2/SensorSecondKey";
    until("the finding", || {
        (!house
            .lines(&["findings", "list", "--type", kind])
            .is_empty())
        .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_document_alone_waits_for_an_operator() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "document_only = 'approve'", "");
    house.start().await;
    let host = house.host("web");
    let imds = house.instance(INSTANCE).await;
    imds.hush("meta-data/iam/security-credentials/");
    let (url, ca, at) = (
        house.url(),
        house.ca_file().display().to_string(),
        imds.url(),
    );
    let words = ["--collector", &url, "--ca-file", &ca, "--imds", &at];
    let complaint = host.unenrolled(&words).await;
    assert!(complaint.contains("agents approve"), "{complaint}");
    let line = &house.lines(&["agents", "list"])[0];
    assert_eq!(
        (&line["level"], &line["standing"]),
        (&"ec2-document".into(), &"pending".into())
    );
    let agent = line["agent"].as_str().unwrap().to_owned();
    let complaint = host.ship(&house, INSTANCE).await.unwrap_err();
    assert!(complaint.contains("unknown_key"), "{complaint}");
    house.operate(&["agents", "approve", &agent]);
    assert!(
        host.enrolled(&words)
            .await
            .contains("trusted by ec2-document")
    );
    assert_eq!(host.ship(&house, INSTANCE).await, Ok(()));
}

/// The service itself: collector, authority and host come from the receipt alone.
#[tokio::test]
async fn an_enrolled_agent_runs_without_being_told_anything() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let host = house.host("web");
    let imds = house.instance(INSTANCE).await;
    let (url, ca, at) = (
        house.url(),
        house.ca_file().display().to_string(),
        imds.url(),
    );
    host.enrolled(&["--collector", &url, "--ca-file", &ca, "--imds", &at])
        .await;
    let config = host.path("agent.toml").display().to_string();
    let log = host.path("log");
    let mut agent = host
        .command(&["run", "--config", &config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let heard = until("an envelope", || {
        if agent.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let line = &house.lines(&["agents", "list"])[0];
        (!line["state"].is_null()).then_some(true)
    })
    .await;
    let _ = agent.kill();
    let _ = agent.wait();
    let told = std::fs::read_to_string(&log).unwrap();
    if !heard {
        assert!(told.contains("cap") || told.contains("permitted"), "{told}");
        println!("skipped: packet sockets may not be opened here");
        return;
    }
    assert!(!told.contains("receipt not renewed"), "{told}");
}
