//! Indicators as agents are given them: published at once, whole or as changes, to agents alone.

use std::collections::BTreeMap;

use picket_wire::bundle::{Act, Manifest, Sections, Value as Entry};
use picket_wire::{Claim, Digest, PublicKey, Purpose};
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};

use crate::rig::{Agent, INSTANCE, PATIENCE, Rig, now_ns, until};

/// A bundle taken apart: its manifest, and what is added to and removed from each list.
struct Opened {
    manifest: Manifest,
    added: BTreeMap<String, Vec<String>>,
    removed: BTreeMap<String, Vec<String>>,
}

fn key(rig: &Rig) -> PublicKey {
    let text = std::fs::read_to_string(rig.path("state/signing.pub")).unwrap();
    let key: Digest = text.trim().parse().unwrap();
    PublicKey(key.0)
}

/// Takes apart what an agent was given.
fn open(mut bytes: &[u8], key: &PublicKey) -> Vec<Opened> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = Manifest::bytes(bytes).unwrap().unwrap();
        let manifest = Manifest::open(&bytes[..len], key).unwrap();
        bytes = &bytes[len..];
        let (mut added, mut removed) = (BTreeMap::new(), BTreeMap::new());
        let mut plain = Vec::new();
        for (at, chunk) in manifest.chunks.iter().enumerate() {
            let (frame, rest) = bytes.split_at(chunk.bytes as usize);
            bytes = rest;
            chunk.inflate(at, frame, &mut plain).unwrap();
            let mut sections = Sections::of(&plain);
            while let Some(mut section) = sections.read().unwrap() {
                let list = manifest.lists.iter().find(|one| one.id == section.list);
                let name = list.unwrap().name.clone();
                while let Some(entry) = section.entries.read().unwrap() {
                    let words = match entry {
                        Entry::Address(address) => address.to_string(),
                        Entry::Net(address, prefix) => format!("{address}/{prefix}"),
                        Entry::Endpoint(endpoint) => endpoint.to_string(),
                        Entry::Domain(domain) => domain.to_owned(),
                    };
                    let of: &mut BTreeMap<String, Vec<String>> = match section.act {
                        Act::Add => &mut added,
                        Act::Remove => &mut removed,
                    };
                    of.entry(name.clone()).or_default().push(words);
                }
            }
        }
        all.push(Opened {
            manifest,
            added,
            removed,
        });
    }
    all
}

fn claim(agent: &Agent, once: u8) -> Claim {
    Claim {
        agent: agent.id(),
        purpose: Purpose::Indicators,
        issued_ms: now_ns() / 1_000_000,
        once: [once; 16],
        body: None,
    }
}

fn poll(
    rig: &Rig,
    client: &Client,
    header: Option<String>,
    query: &str,
) -> impl Future<Output = Response> + Send + 'static {
    let mut request = client.get(rig.url(&format!("/v1/indicators?{query}")));
    if let Some(header) = header {
        request = request.header(AUTHORIZATION, header);
    }
    async { request.send().await.unwrap() }
}

/// What an agent is given that has version `have`.
async fn given(rig: &Rig, agent: &Agent, once: u8, have: u64) -> Vec<Opened> {
    let header = claim(agent, once).header(&agent.signer);
    let response = poll(rig, &rig.client(), Some(header), &format!("have={have}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    open(&response.bytes().await.unwrap(), &key(rig))
}

fn bundle(rig: &Rig) -> serde_json::Value {
    rig.lines(&["intel", "status"]).swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_entered_is_published_at_once_and_stays_over_a_restart() {
    let agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let first = given(&rig, &agent, 1, 0).await;
    let [whole] = &first[..] else { unreachable!() };
    assert_eq!(whole.manifest.base, None);
    assert!(whole.added.contains_key("c2-ips"));
    let version = whole.manifest.version;
    assert_eq!(bundle(&rig)["agents_behind"], 1);

    // One that has it waits for what comes, and is given the change alone.
    let header = claim(&agent, 2).header(&agent.signer);
    let query = format!("have={version}");
    let waiting = tokio::spawn(poll(&rig, &rig.client(), Some(header), &query));
    until("the agent waits", async || {
        (bundle(&rig)["agents_behind"] == 0).then_some(())
    })
    .await;
    let words = ["intel", "add", "Evil.Example", "--category", "c2"];
    let entered = rig.lines(&[&words[..], &["--comment", "seen", "--expires", "30d"]].concat());
    let response = waiting.await.unwrap();
    let entered = &entered[0];
    assert_eq!(entered["value"], "evil.example");
    let next = entered["bundle"].as_u64().unwrap();
    assert!(next > version);
    let changes = open(&response.bytes().await.unwrap(), &key(&rig));
    let [change] = &changes[..] else {
        unreachable!()
    };
    assert_eq!(
        (change.manifest.base, change.manifest.version),
        (Some(version), next)
    );
    assert_eq!(change.added["operator-c2"], ["evil.example"]);
    assert!(change.removed.is_empty());
    assert_ne!(change.manifest.set, whole.manifest.set);

    rig.lines(&["intel", "add", "198.51.100.77", "--category", "mining"]);
    rig.lines(&["intel", "remove", "evil.example"]);
    let changes = given(&rig, &agent, 3, version).await;
    assert_eq!(changes.len(), 3, "one step after the other");
    // Of a list that is gone nothing needs to be said.
    let lists = changes.iter().map(|one| &one.manifest.lists);
    let has = lists.map(|lists| lists.iter().any(|list| list.name == "operator-c2"));
    assert_eq!(has.collect::<Vec<_>>(), [true, true, false]);
    assert!(changes[2].removed.is_empty());
    let last = changes[2].manifest.version;

    let listed = rig.lines(&["intel", "list"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["value"], "198.51.100.77");
    assert!(listed[0]["who"].as_str().unwrap().starts_with("uid "));
    let standing = rig.lines(&["intel", "status"]);
    assert_eq!(standing[0]["version"], last);
    assert!(standing.iter().any(|line| line["name"] == "operator-mining"
        && line["source"] == "operator"
        && line["entries"] == 1));

    // Nothing has changed over a restart, so nobody needs to be given anything.
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    assert_eq!(bundle(&rig)["version"], last);
    let header = claim(&agent, 4).header(&agent.signer);
    let query = format!("have={last}&wait=0");
    let response = poll(&rig, &rig.client(), Some(header), &query).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(bundle(&rig)["agents_behind"], 0);
    // The way from before the restart is forgotten: such an agent is given everything.
    let whole = given(&rig, &agent, 5, version).await;
    assert_eq!(whole[0].manifest.base, None);
    // What changes now can be told from there on.
    rig.lines(&["intel", "add", "2001:db8::7", "--category", "c2"]);
    let change = given(&rig, &agent, 6, last).await;
    assert_eq!(change[0].manifest.base, Some(last));
    // A list of the folder as well.
    std::fs::write(rig.path("intel/tor-ips.txt"), "203.0.113.9\n").unwrap();
    let have = change[0].manifest.version;
    let change = given(&rig, &agent, 7, have).await;
    assert_eq!(change[0].added["tor-ips"], ["203.0.113.9"]);
    let header = claim(&agent, 8).header(&agent.signer);
    let query = format!("have={}", u64::MAX);
    let response = poll(&rig, &rig.client(), Some(header), &query).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn what_cannot_be_entered_says_why() {
    let rig = &mut Rig::new("");
    rig.start().await;
    let check = |words: &[&str], expected: &str| {
        let all = [&["intel"], words].concat();
        let output = rig.run_to_end(&all);
        assert_ne!(output.status.code(), Some(0), "{words:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(expected), "{expected}: {told}");
    };
    check(&["add", "nonsense", "--category", "c2"], "no domain");
    check(
        &["add", "169.254.169.254", "--category", "c2"],
        "the instance metadata service",
    );
    check(&["add", "0.0.0.0/1", "--category", "c2"], "too wide");
    check(
        &["add", "a.example", "--category", "bad"],
        "unknown category",
    );
    check(
        &["add", "a.example", "--category", "c2", "--expires", "soon"],
        "no length of time",
    );
    check(&["remove", "a.example"], "no operator entered a.example");
    assert!(rig.lines(&["intel", "list"]).is_empty());
}

/// What was entered stays, also if it is entered again while nothing can be published, and is
/// published when that can be done again.
#[tokio::test]
async fn what_cannot_be_published_stays_entered() {
    let agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let add = |value| ["intel", "add", value, "--category", "c2"];
    rig.print(&add("first.example"));
    // Where it is kept what was published last is gone, and comes back.
    let alter = |statement| {
        let store = rusqlite::Connection::open(rig.path("state/picket.db")).unwrap();
        store.busy_timeout(PATIENCE).unwrap();
        store.execute_batch(statement).unwrap();
    };
    alter("ALTER TABLE published RENAME TO gone");
    for value in ["second.example", "first.example"] {
        let output = rig.run(&add(value));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("entered, and not published yet"), "{told}");
    }
    let entered = |rig: &Rig| -> Vec<String> {
        let lines = rig.lines(&["intel", "list"]);
        let values = lines.iter().map(|line| line["value"].as_str().unwrap());
        values.map(str::to_owned).collect()
    };
    assert_eq!(entered(&rig), ["first.example", "second.example"]);
    alter("ALTER TABLE gone RENAME TO published");
    rig.print(&add("third.example"));
    let given = given(&rig, &agent, 1, 0).await;
    let added: Vec<&String> = given[0].added.values().flatten().collect();
    for value in ["first.example", "second.example", "third.example"] {
        assert!(added.iter().any(|one| *one == value), "{value}: {added:?}");
    }
}

#[tokio::test]
async fn only_agents_are_given_indicators() {
    let agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let client = rig.client();
    let check = async |header: Option<String>, expected: &str| {
        let response = poll(&rig, &client, header, "have=0&wait=0").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{expected}");
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["error"], expected);
    };
    check(None, "no_claim").await;
    check(Some("Bearer x".to_owned()), "no_claim").await;
    let stranger = Agent::new(2);
    check(
        Some(claim(&stranger, 1).header(&stranger.signer)),
        "unknown_agent",
    )
    .await;
    check(Some(claim(&agent, 1).header(&stranger.signer)), "signature").await;
    let mut other = claim(&agent, 1);
    other.purpose = Purpose::Orders;
    check(Some(other.header(&agent.signer)), "purpose").await;
    let mut early = claim(&agent, 1);
    early.issued_ms -= 600_000;
    check(Some(early.header(&agent.signer)), "clock").await;
    let good = claim(&agent, 1).header(&agent.signer);
    let response = poll(&rig, &client, Some(good.clone()), "have=0").await;
    assert_eq!(response.status(), StatusCode::OK);
    check(Some(good), "replayed").await;
    rig.print(&["agents", "revoke", &agent.id().to_string()]);
    check(Some(claim(&agent, 2).header(&agent.signer)), "revoked").await;
    let refused = rig.metrics().await;
    assert!(
        refused.contains("indicator_polls_total{outcome=\"replayed\"} 1"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_are_bounded_and_sent_home_at_the_end() {
    let agent = Agent::new(1);
    let mut rig = Rig::new(&format!(
        "{}\n[indicators]\npolls_max = 1\n",
        agent.table(INSTANCE)
    ));
    rig.start().await;
    let have = bundle(&rig)["version"].as_u64().unwrap();
    let (client, query) = (rig.client(), format!("have={have}"));
    let header = |once| Some(claim(&agent, once).header(&agent.signer));
    let first = tokio::spawn(poll(&rig, &client, header(1), &query));
    until("the first waits", async || {
        (bundle(&rig)["agents_behind"] == 0).then_some(())
    })
    .await;
    let response = poll(&rig, &client, header(2), &query).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key(RETRY_AFTER));
    assert_eq!(rig.terminate().await, Some(0));
    let sent_home = first.await.unwrap();
    assert_eq!(sent_home.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Versions are times, so that those who were given many at once are soon behind again; and an
/// operator can publish above whatever agents have.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_was_set_back_says_so_and_may_publish_above() {
    let agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    for n in 0..8 {
        let value = format!("198.51.100.{n}");
        rig.lines(&["intel", "add", &value, "--category", "c2"]);
    }
    let version = bundle(&rig)["version"].as_u64().unwrap();
    assert!(version <= now_ns() / 1_000_000, "ahead of the clock");
    assert!(bundle(&rig)["ahead_until"].is_null());
    let output = rig.run(&["intel", "supersede"]);
    assert_eq!(output.status.code(), Some(1));
    // One that was given indicators of the future.
    let later = version + 3_600_000;
    let header = claim(&agent, 1).header(&agent.signer);
    let query = format!("have={later}&wait=0");
    let response = poll(&rig, &rig.client(), Some(header), &query).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    let told = bundle(&rig);
    assert_eq!(told["agents_ahead"], 1, "{told}");
    assert!(told["ahead_until"].is_string(), "{told}");
    let text = rig.print(&["intel", "status"]);
    assert!(text.contains("intel supersede"), "{text}");
    assert!(rig.log().contains("later indicators"), "{}", rig.log());
    let above = rig.lines(&["intel", "supersede"]).swap_remove(0);
    assert_eq!(above["bundle"], later + 1);
    let whole = given(&rig, &agent, 2, later).await;
    let manifest = &whole[0].manifest;
    assert_eq!((manifest.base, manifest.version), (None, later + 1));
    assert_eq!(bundle(&rig)["agents_ahead"], 0);
    // What comes then goes on from there, over a restart as well.
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    let next = rig.lines(&["intel", "add", "a.example", "--category", "c2"]);
    assert_eq!(next[0]["bundle"], later + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_revoked_while_it_waits_is_given_nothing() {
    let agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    let version = given(&rig, &agent, 1, 0).await[0].manifest.version;
    let header = claim(&agent, 2).header(&agent.signer);
    let query = format!("have={version}");
    let waiting = tokio::spawn(poll(&rig, &rig.client(), Some(header), &query));
    until("the agent waits", async || {
        (bundle(&rig)["agents_behind"] == 0).then_some(())
    })
    .await;
    rig.print(&["agents", "revoke", &agent.id().to_string()]);
    rig.lines(&["intel", "add", "evil.example", "--category", "c2"]);
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let text = response.text().await.unwrap();
    assert_eq!(text, "{\"error\":\"revoked\"}");
}
