//! Hosts that join by token.

use super::house::{ACCOUNT, House, INSTANCE, REGION, is_private, until};

#[tokio::test]
async fn a_host_joins_speaks_is_revoked_and_is_refused() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let host = house.host("web");
    let token = house.token_file("token", &["--instance", "i-*"]);
    let (url, token, ca) = (house.url(), token.display().to_string(), house.ca_file());
    let ca = ca.display().to_string();
    let named = [
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--instance",
        INSTANCE,
    ];
    let to = [
        "--collector",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &token,
    ];
    let words = [to.as_slice(), &named].concat();

    // Unknown so far.
    let complaint = host.unenrolled(&to).await;
    assert!(complaint.contains("identity.account"), "{complaint}");
    let told = host.enrolled(&words).await;
    assert!(
        told.starts_with("enrolled: agent ") && told.contains("trusted by token"),
        "{told}"
    );
    let key = host.path("state/agent.key");
    assert!(is_private(&key) && is_private(&host.path("state/enrolment.json")));
    assert_eq!(
        house.lines(&["agents", "list"])[0]["agent"],
        host.agent().as_str()
    );

    // Again: no token is used up, nothing changes but the receipt.
    let before = std::fs::read(&key).unwrap();
    let told = host.enrolled(&[]).await;
    assert!(told.starts_with("already enrolled: "), "{told}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(house.lines(&["join-tokens", "list"])[0]["uses"], 1);

    assert_eq!(host.ship(&house, INSTANCE).await, Ok(()));
    let other = "i-0fedcba9876543210";
    let complaint = host.ship(&house, other).await.unwrap_err();
    assert!(complaint.contains("wrong_host"), "{complaint}");
    house.operate(&["agents", "revoke", &host.agent()]);
    let complaint = host.ship(&house, INSTANCE).await.unwrap_err();
    assert!(complaint.contains("revoked"), "{complaint}");
    let complaint = host.unenrolled(&[]).await;
    assert!(
        complaint.contains("refuses: revoked") && complaint.contains("--new-key"),
        "{complaint}"
    );

    // Another host cannot take its place with the token, which is used up, nor with another.
    let thief = house.host("thief");
    let complaint = thief.unenrolled(&words).await;
    assert!(complaint.contains("token_used"), "{complaint}");
    let kind = "DefenseEvasion:EC2/SensorSecondKey";
    let found = house.lines(&["findings", "list", "--type", kind]);
    assert!(found.is_empty(), "{found:?}");
    let other = house.token_file("other", &["--uses", "2"]);
    let other = other.display().to_string();
    let to = [
        "--collector",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &other,
    ];
    let words = [to.as_slice(), &named].concat();
    let complaint = thief.unenrolled(&words).await;
    assert!(
        complaint.contains("second_key") && complaint.contains("--release"),
        "{complaint}"
    );
    let findings = until("the finding", || {
        let kind = "DefenseEvasion:EC2/SensorSecondKey";
        let found = house.lines(&["findings", "list", "--type", kind]);
        (!found.is_empty()).then_some(found)
    })
    .await;
    let why = findings[0]["picket"]["why"].as_str().unwrap();
    assert!(why.contains(&host.agent()), "{why}");

    // Once an operator frees it, the host enrols with another key.
    let revoked = host.agent();
    house.operate(&["agents", "revoke", &revoked, "--release"]);
    let anew = [words.as_slice(), &["--new-key"]].concat();
    let told = host.enrolled(&anew).await;
    assert!(told.starts_with("enrolled with a new key: "), "{told}");
    assert_ne!(host.agent(), revoked);
    assert!(is_private(&key) && !host.path("state/agent.key.next").exists());
    assert_eq!(host.ship(&house, INSTANCE).await, Ok(()));
}

/// Whoever starts it several times, or finds a damaged file, still has one key and one enrolment.
#[tokio::test]
async fn enrolments_at_once_and_after_damage_come_to_one() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let host = house.host("web");
    let token = house.token_file("token", &[]).display().to_string();
    let (url, ca) = (house.url(), house.ca_file().display().to_string());
    let words = [
        "--collector",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &token,
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--instance",
        INSTANCE,
    ];
    let (a, b, c, d) = tokio::join!(
        host.enrolled(&words),
        host.enrolled(&words),
        host.enrolled(&words),
        host.enrolled(&words)
    );
    let first = [a, b, c, d].into_iter();
    let first = first.filter(|told| told.starts_with("enrolled: "));
    assert_eq!(first.count(), 1, "the others find it enrolled");
    assert_eq!(house.lines(&["agents", "list"]).len(), 1);
    let left: Vec<String> = std::fs::read_dir(host.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".new"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let agent = host.agent();
    std::fs::write(host.path("state/enrolment.json"), "{\"collector\":").unwrap();
    let output = host.enroll(&words).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("enrolment.json"), "{told}");
    assert_eq!(host.agent(), agent);
}

#[tokio::test]
async fn a_collector_that_is_not_pinned_learns_nothing() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let mut other = House::new().await;
    other.configure("127.0.0.1:0", "", "");
    other.start().await;
    let host = house.host("web");
    let token = house.token_file("token", &[]).display().to_string();
    let url = house.url();
    let wrong = other.ca_file().display().to_string();
    let named = [
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--instance",
        "web-1",
    ];
    let enroll = |pin: [&str; 2]| {
        let words = ["--collector", &url, pin[0], pin[1], "--token-file", &token];
        let words: Vec<String> = words
            .iter()
            .chain(&named)
            .map(|&word| word.to_owned())
            .collect();
        words
    };
    let run = async |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = host.enroll(&words).await;
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, told) = run(enroll(["--ca-file", &wrong])).await;
    assert_eq!(code, Some(1), "{told}");
    let digest_of = |pem: &str| {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let der = CertificateDer::from_pem_file(pem).unwrap();
        picket_wire::Digest::of(&der).to_string()
    };
    let (code, told) = run(enroll(["--ca-sha256", &digest_of(&wrong)])).await;
    assert_eq!(code, Some(1), "{told}");
    let (code, told) = run(enroll(["--ca-sha256", "1234"])).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(!host.path("state/enrolment.json").exists());
    // The digest of the right one is enough, and what it is of is pinned from then on.
    let right = house.ca_file().display().to_string();
    let (code, told) = run(enroll(["--ca-sha256", &digest_of(&right)])).await;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(host.enrolment()["authorities"].as_array().unwrap().len(), 1);
    assert!(host.enrolled(&[]).await.starts_with("already enrolled"));
}

#[tokio::test]
async fn a_key_is_rotated_and_the_old_one_begins_nothing() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let host = house.host("web");
    let token = house.token_file("token", &[]).display().to_string();
    let (url, ca) = (house.url(), house.ca_file().display().to_string());
    let words = [
        "--collector",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &token,
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--instance",
        INSTANCE,
    ];
    let complaint = host
        .unenrolled(&["--collector", &url, "--ca-file", &ca, "--rotate"])
        .await;
    assert!(complaint.contains("not enrolled"), "{complaint}");
    host.enrolled(&words).await;
    let (old, key) = (host.agent(), host.path("state/agent.key"));
    let old_key = std::fs::read(&key).unwrap();
    assert_eq!(host.ship(&house, INSTANCE).await, Ok(()));
    let told = host.enrolled(&["--rotate"]).await;
    assert!(told.contains("new key enrolled"), "{told}");
    let new = host.agent();
    assert_ne!(old, new);
    assert!(is_private(&key) && !host.path("state/agent.key.next").exists());
    assert_eq!(host.ship(&house, INSTANCE).await, Ok(()));
    // Whoever has the old one begins no run with it.
    let new_key = std::fs::read(&key).unwrap();
    std::fs::write(&key, &old_key).unwrap();
    let complaint = host.ship(&house, INSTANCE).await.unwrap_err();
    assert!(complaint.contains("succeeded"), "{complaint}");
    // A crash between the receipt and the key: the next start puts it right.
    let next = host.path("state/agent.key.next");
    std::fs::copy(&key, &next).unwrap();
    std::fs::write(&next, &new_key).unwrap();
    assert!(host.enrolled(&[]).await.starts_with("already enrolled"));
    assert_eq!(std::fs::read(&key).unwrap(), new_key);
    let lines = house.lines(&["agents", "list"]);
    let standing = |agent: &str| {
        let line = lines.iter().find(|line| line["agent"] == agent).unwrap();
        line["standing"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (standing(&old).as_str(), standing(&new).as_str()),
        ("succeeded", "trusted")
    );
    assert!(house.lines(&["findings", "list"]).is_empty());
}
