//! Hosts made of an image of an enrolled one. They capture, which takes root.

use std::fs;
use std::path::Path;
use std::process::Command;

use picket_tests::aws::imds::{Imds, Mood};
use serde_json::Value;

use super::house::{ACCOUNT, Host, House, INSTANCE, REGION, Running, until};

/// The instance that the image is started as.
const SECOND: &str = "i-0fedcba9876543210";

/// Whether a host cannot capture here; says so then.
fn skips() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        println!("skipped: packet sockets take root");
    }
    !is_root
}

/// An instance that is enrolled and has spoken, with a metadata service of its own.
async fn first(house: &House) -> (Host, Imds) {
    let (host, imds) = (house.host("first"), house.instance(INSTANCE).await);
    follow(&host, &imds, "");
    let (url, ca) = (house.url(), house.ca_file().display().to_string());
    host.enrolled(&["--collector", &url, "--ca-file", &ca])
        .await;
    (host, imds)
}

/// Configures a host to ask a metadata service.
fn follow(host: &Host, imds: &Imds, more: &str) {
    host.configure(&format!("[enrol]\nimds = '{}'\n{more}", imds.url()));
}

/// What the collector knows of an agent.
fn known(house: &House, agent: &str) -> Option<Value> {
    let mut lines = house.lines(&["agents", "list"]).into_iter();
    lines.find(|line| line["agent"] == agent)
}

/// How many envelopes it has of an agent.
fn heard(house: &House, agent: &str) -> u64 {
    let line = known(house, agent);
    line.and_then(|line| line["state"]["envelopes"].as_u64())
        .unwrap_or(0)
}

async fn until_heard(house: &House, agent: &str, more_than: u64, running: &mut Running) {
    until("an envelope", || {
        if let Some(status) = running.ended() {
            panic!("it ended with {status}: {}", running.log());
        }
        (heard(house, agent) > more_than).then_some(())
    })
    .await;
}

/// Findings about sensors, but for gaps: hosts are killed here.
fn complaints(house: &House) -> Vec<Value> {
    let mut found = house.lines(&["findings", "list"]);
    found.retain(|one| {
        let kind = one["type"].as_str().unwrap();
        kind.contains("Sensor") && !kind.ends_with("SensorGap")
    });
    found
}

fn counted(status: &Value, reason: &str) -> u64 {
    let counters = status["counters"].as_array().unwrap();
    let found = counters.iter().find(|one| one["reason"] == reason);
    found.and_then(|one| one["count"].as_u64()).unwrap_or(0)
}

#[tokio::test]
async fn an_image_of_an_instance_becomes_one_of_its_own() {
    if skips() {
        return;
    }
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let (host, _imds) = first(&house).await;
    let agent = host.agent();
    let mut running = host.run();
    until_heard(&house, &agent, 0, &mut running).await;

    // What waits when the image is made is the first host's.
    let listen = house.address();
    house.stop();
    until("envelopes to wait", || {
        let waits = host.status()?["spool"]["envelopes"].as_u64()?;
        (waits >= 2).then_some(())
    })
    .await;
    drop(running);
    let image = host.image(&house, "second");
    let imds = house.instance(SECOND).await;
    follow(&image, &imds, "");
    let waited = fs::read_dir(image.path("state/spool")).unwrap().count() as u64;
    let config = image.path("agent.toml").display().to_string();
    let mut doctor = image.command(&["doctor", "--config", &config]);
    // The metadata service answers meanwhile.
    let doctor = tokio::task::spawn_blocking(move || doctor.output().unwrap());
    let doctor = String::from_utf8(doctor.await.unwrap().stdout).unwrap();
    let words = format!("enrolled as {INSTANCE}, and this is {SECOND}");
    assert!(doctor.contains(&words), "{doctor}");

    // Its collector is away at first: it watches, keeps what it sees, and says why.
    let mut second = image.run();
    let status = until("its status", || image.status()).await;
    let trouble = status["identity"].as_str().unwrap();
    assert!(
        trouble.contains("not enrolled") && trouble.contains(INSTANCE),
        "{trouble}"
    );
    assert_eq!(status["ship"]["trouble"], trouble);
    assert_ne!(status["agent_id"], agent);
    until("the first window", || {
        let status = image.status()?;
        (counted(&status, "dropped_cloned") == waited).then_some(())
    })
    .await;
    assert!(image.path("state/cloned/agent.key").exists());
    drop(second);

    house.configure(&listen, "", "");
    house.start().await;
    let before = heard(&house, &agent);
    second = image.run();
    until("an enrolment", || {
        image.path("state/enrolment.json").exists().then_some(())
    })
    .await;
    assert_ne!(image.agent(), agent);
    assert_eq!(image.enrolment()["instance"], SECOND);
    until_heard(&house, &image.agent(), 3, &mut second).await;
    let status = until("its status", || image.status()).await;
    assert!(status["identity"].is_null(), "{status}");
    assert_eq!(
        heard(&house, &agent),
        before,
        "what waited is the first host's"
    );

    // Who sends it.
    let mut running = host.run();
    until_heard(&house, &agent, before + waited, &mut running).await;
    assert_eq!(host.agent(), agent);
    assert_eq!(complaints(&house), Vec::<Value>::new());
}

#[tokio::test]
async fn an_identity_is_kept_until_it_is_certain_that_it_is_anothers() {
    if skips() {
        return;
    }
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let (host, imds) = first(&house).await;
    let agent = host.agent();
    imds.set(Mood::Far);
    let mut running = host.run();
    until_heard(&house, &agent, 0, &mut running).await;
    let status = until("its status", || host.status()).await;
    let trouble = status["identity"].as_str().unwrap();
    assert!(trouble.contains("not known"), "{trouble}");
    drop(running);

    // The same silence on an image: nothing is certain until the service answers.
    let image = host.image(&house, "second");
    let imds = house.instance(SECOND).await;
    imds.set(Mood::Far);
    follow(&image, &imds, "");
    let mut second = image.run();
    until("its status", || image.status()).await;
    assert_eq!(image.agent(), agent);
    imds.set(Mood::Well);
    let ended = until("it to notice", || second.ended()).await;
    assert_eq!(ended.code(), Some(1), "whoever started it starts it again");
    assert!(
        second.log().contains("to be started anew"),
        "{}",
        second.log()
    );
    second = image.run();
    until("an enrolment of its own", || {
        let is_own = image.path("state/enrolment.json").exists() && image.agent() != agent;
        is_own.then_some(())
    })
    .await;
    until_heard(&house, &image.agent(), 0, &mut second).await;
}

/// Runs a line in a mount namespace in which the machine is another.
fn on_machine(folder: &Path, number: u32, program: &Command) -> Command {
    let id = folder.join(format!("machine-{number}"));
    fs::write(&id, format!("{number:032x}\n")).unwrap();
    let uuid = folder.join(format!("product-{number}"));
    fs::write(&uuid, format!("{number:08x}-1d7c-4f2d-9b44-0a6e3c51d9aa\n")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]).arg(
        "mount --bind \"$0\" /etc/machine-id; \
         product=$(readlink -f /sys/class/dmi/id/product_uuid || true); \
         if [ -e \"$product\" ]; then mount --bind \"$1\" \"$product\"; fi; shift; exec \"$@\"",
    );
    command.args([&id, &uuid]).arg(program.get_program());
    command.args(program.get_args());
    command
}

#[tokio::test]
async fn an_image_that_cannot_enroll_watches_and_says_nothing() {
    if skips() || !Path::new("/etc/machine-id").exists() {
        return;
    }
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let host = house.host("first");
    let token = house
        .token_file("token", &["--uses", "4"])
        .display()
        .to_string();
    let (url, ca) = (house.url(), house.ca_file().display().to_string());
    let on = |number: u32, host: &Host, words: &[&str]| {
        let config = host.path("agent.toml").display().to_string();
        let words = [words, &["--config", &config]].concat();
        on_machine(&host.path(""), number, &host.command(&words))
    };
    let named = [
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--instance",
        "web-1",
    ];
    let to = [
        "enroll",
        "--collector",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &token,
    ];
    let enrolled = on(1, &host, &[to.as_slice(), &named].concat())
        .output()
        .unwrap();
    assert!(enrolled.status.success(), "{enrolled:?}");
    let agent = host.agent();
    let mut running = host.start(on(1, &host, &["run"]));
    until_heard(&house, &agent, 0, &mut running).await;
    drop(running);
    // Another start on the same machine changes nothing.
    let mut running = host.start(on(1, &host, &["run"]));
    until_heard(&house, &agent, heard(&house, &agent), &mut running).await;
    assert_eq!(host.agent(), agent);
    drop(running);

    let image = host.image(&house, "second");
    let mut second = image.start(on(2, &image, &["run"]));
    let status = until("its status", || image.status()).await;
    let trouble = status["identity"].as_str().unwrap();
    assert!(trouble.contains("enrol.token_file"), "{trouble}");
    until("windows to wait", || {
        (image.status()?["spool"]["envelopes"].as_u64()? >= 2).then_some(())
    })
    .await;
    assert_eq!(house.lines(&["agents", "list"]).len(), 1);
    // An operator enrolls it; its name is the machine's unless they say another.
    let words = ["enroll", "--token-file", &token, "--instance", "web-2"];
    let enrolled = on(2, &image, &words).output().unwrap();
    let told = String::from_utf8_lossy(&enrolled.stderr).into_owned();
    assert!(
        enrolled.status.success() && told.contains("web-1"),
        "{told}"
    );
    let ended = until("it to notice", || second.ended()).await;
    assert_eq!(ended.code(), Some(1));
    second = image.start(on(2, &image, &["run"]));
    let mine = image.agent();
    until_heard(&house, &mine, 0, &mut second).await;
    // What it saw under another name than it has now is counted, not said.
    let status = until("its status", || image.status()).await;
    assert!(counted(&status, "dropped_cloned") >= 2, "{status}");
    assert!(
        status["ship"]["refused"].as_object().unwrap().is_empty(),
        "{status}"
    );
    drop(second);

    // With a token at hand nobody is needed.
    let third = host.image(&house, "third");
    let more = format!("[enrol]\ntoken_file = '{token}'\n[identity]\ninstance = 'web-3'");
    third.configure(&more);
    let mut running = third.start(on(3, &third, &["run"]));
    until("an enrolment", || {
        let is_own = third.path("state/enrolment.json").exists() && third.agent() != agent;
        is_own.then_some(())
    })
    .await;
    assert_eq!(third.enrolment()["instance"], "web-3");
    until_heard(&house, &third.agent(), 0, &mut running).await;
    assert_eq!(complaints(&house), Vec::<Value>::new());
}

/// Neither host can know: both run with one key, and each chain holds.
#[tokio::test]
async fn one_key_on_two_hosts_is_told() {
    if skips() {
        return;
    }
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "[admission]\nbeside_ms = 4000");
    house.start().await;
    let (host, imds) = first(&house).await;
    let mut running = host.run();
    until_heard(&house, &host.agent(), 0, &mut running).await;
    assert_eq!(complaints(&house), Vec::<Value>::new());
    let image = host.image(&house, "second");
    follow(&image, &imds, "");
    let second = image.run();
    let kind = "DefenseEvasion:EC2/SensorCloned";
    let found = until("the finding", || {
        house.lines(&["findings", "list", "--type", kind]).pop()
    })
    .await;
    let title = found["title"].as_str().unwrap();
    assert!(title.contains("its key is on two hosts"), "{title}");
    assert_eq!(image.agent(), host.agent());
    drop(second);
}
