//! The collector's authority is renewed and no host is touched.

use std::process::Stdio;

use super::house::{ACCOUNT, House, REGION, until};

/// An authority and a certificate of it for the loopback address, made with the collector's own means: a
/// collector that runs once makes both.
async fn authority(house: &House, name: &str) -> String {
    let mut maker = House::new().await;
    maker.configure("127.0.0.1:0", "", "");
    maker.start().await;
    maker.stop();
    for file in ["ca.pem", "ca.key"] {
        let to = house.path(&format!("{name}.{file}"));
        std::fs::copy(maker.path("state").join(file), to).unwrap();
    }
    house.path(&format!("{name}.ca.pem")).display().to_string()
}

#[tokio::test]
async fn hosts_follow_to_the_next_authority() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let next = authority(&house, "next").await;
    let host = house.host("web");
    let token = house.token_file("token", &[]).display().to_string();
    let (url, ca) = (house.url(), house.ca_file().display().to_string());
    host.enrolled(&[
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
        "web-1",
    ])
    .await;
    let pinned =
        |host: &super::house::Host| host.enrolment()["authorities"].as_array().unwrap().len();
    assert_eq!(pinned(&host), 1);

    // The next authority is announced while the first still serves; a running agent asks at its start.
    let listen = house.address();
    house.stop();
    house.configure(&listen, "", &format!("[tls]\nca_files = ['{next}']"));
    house.start().await;
    let config = host.path("agent.toml").display().to_string();
    let log = std::fs::File::create(host.path("log")).unwrap();
    let mut agent = host
        .command(&["run", "--config", &config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let is_told = until("the next authority", || {
        if agent.try_wait().unwrap().is_some() {
            return Some(false);
        }
        (pinned(&host) == 2).then_some(true)
    })
    .await;
    if !is_told {
        println!("packet sockets may not be opened here: `enroll` asks instead");
        assert!(host.enrolled(&[]).await.starts_with("already enrolled"));
        assert_eq!(pinned(&host), 2);
    }
    // It takes over. The same process, if there is one, goes on speaking.
    house.stop();
    for file in ["ca.pem", "ca.key"] {
        let from = house.path(&format!("next.{file}"));
        std::fs::copy(from, house.path("state").join(file)).unwrap();
    }
    let before = house.path("state/ca.pem");
    house.configure(&listen, "", "");
    house.start().await;
    assert!(before.exists());
    if is_told {
        let sequence =
            |house: &House| house.lines(&["agents", "list"])[0]["state"]["sequence"].as_u64();
        let last = sequence(&house);
        until("an envelope over the next authority", || {
            (sequence(&house) > last).then_some(())
        })
        .await;
        assert!(agent.try_wait().unwrap().is_none());
    }
    let _ = agent.kill();
    let _ = agent.wait();
    assert!(host.enrolled(&[]).await.starts_with("already enrolled"));
    assert_eq!(
        pinned(&host),
        1,
        "only the one in use is announced any more"
    );

    // Announcing authorities that do not vouch for what is served would lock every host out.
    house.stop();
    let stranger = authority(&house, "stranger").await;
    let key = rcgen_pair(&house);
    let tables = format!(
        "[tls]\ncert_file = '{}'\nkey_file = '{}'\nca_files = ['{stranger}']",
        key.0, key.1
    );
    house.configure("127.0.0.1:0", "", &tables);
    let complaint = house.refused_start();
    assert!(complaint.contains("tls.ca_files"), "{complaint}");
}

/// A certificate and a key that are nobody's: the collector's own authority serves itself.
fn rcgen_pair(house: &House) -> (String, String) {
    let path = |name: &str| house.path("state").join(name).display().to_string();
    (path("ca.pem"), path("ca.key"))
}
