//! Orders to block as agents are given them: each its own, signed, at once, and after a restart; and
//! what operators are told.

use picket_wire::{
    BlockAct, BlockEvent, Claim, Digest, Net, Orders, PublicKey, Purpose, protected,
};
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::rig::{ACCOUNT, Agent, INSTANCE, Rig, now_ns, until};

const OTHER: &str = "i-0fedcba9876543210";
const OTHER_ACCOUNT: &str = "444455556666";
const VALUE: &str = "203.0.113.7";

fn key(rig: &Rig) -> PublicKey {
    let text = std::fs::read_to_string(rig.path("state/signing.pub")).unwrap();
    let key: Digest = text.trim().parse().unwrap();
    PublicKey(key.0)
}

fn claim(agent: &Agent, once: u8) -> Claim {
    Claim {
        agent: agent.id(),
        purpose: Purpose::Orders,
        issued_ms: now_ns() / 1_000_000,
        once: [once; 16],
        body: None,
    }
}

fn poll(
    rig: &Rig,
    client: &Client,
    header: &str,
    query: &str,
) -> impl Future<Output = Response> + Send + 'static {
    let request = client.get(rig.url(&format!("/v1/orders?{query}")));
    let request = request.header(AUTHORIZATION, header);
    async { request.send().await.unwrap() }
}

async fn opened(rig: &Rig, response: Response) -> Orders {
    assert_eq!(response.status(), StatusCode::OK);
    Orders::open(&response.bytes().await.unwrap(), &key(rig)).unwrap()
}

/// What an agent is given.
async fn given(rig: &Rig, agent: &Agent, once: u8) -> Orders {
    let header = claim(agent, once).header(&agent.signer);
    opened(rig, poll(rig, &rig.client(), &header, "have=0").await).await
}

fn nets(orders: &Orders) -> Vec<Net> {
    orders.orders.iter().map(|order| order.net).collect()
}

fn lone(text: &str) -> Net {
    protected::lone(text.parse().unwrap())
}

fn add(rig: &Rig, value: &str, place: &[&str]) -> Value {
    let words = ["block", "add", value, "--for", "1h", "--reason", "a pool"];
    rig.lines(&[&words[..], place].concat()).swap_remove(0)
}

/// Two agents of two accounts, and their collector.
fn two() -> (Agent, Agent, Rig) {
    let (own, other) = (Agent::new(1), Agent::new(2));
    let table = other.table(OTHER).replace(ACCOUNT, OTHER_ACCOUNT);
    let rig = Rig::new(&(own.table(INSTANCE) + &table));
    (own, other, rig)
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_given_what_is_for_them_alone() {
    let (own, other, mut rig) = two();
    rig.start().await;
    let first = given(&rig, &own, 1).await;
    assert!(first.orders.is_empty());
    assert!(first.is_for(own.id()) && !first.is_for(other.id()));

    // One that waits is given it at once; the other goes on waiting.
    let query = format!("have={}", first.version);
    let header = claim(&own, 2).header(&own.signer);
    let waiting = tokio::spawn(poll(&rig, &rig.client(), &header, &query));
    let answer = add(&rig, VALUE, &["--host", INSTANCE]);
    assert_eq!(
        (&answer["value"], &answer["agents"]),
        (&VALUE.into(), &1.into())
    );
    let next = opened(&rig, waiting.await.unwrap()).await;
    assert_eq!(answer["id"], next.version);
    assert_eq!(nets(&next), [lone(VALUE)]);
    assert_eq!(next.orders[0].reason, "a pool");
    let theirs = given(&rig, &other, 1).await;
    assert!(theirs.orders.is_empty() && theirs.version == first.version);
    let quiet = claim(&other, 2).header(&other.signer);
    let query = format!("have={}&wait=0", theirs.version);
    let response = poll(&rig, &rig.client(), &quiet, &query).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);

    add(&rig, "203.0.113.0/24", &["--account", OTHER_ACCOUNT]);
    add(&rig, "203.0.113.9:443", &["--all"]);
    let theirs = given(&rig, &other, 3).await;
    assert_eq!(theirs.orders.len(), 2);
    assert_eq!(theirs.orders[1].port, Some(443));
    let mine = given(&rig, &own, 3).await;
    assert_eq!(nets(&mine), [lone(VALUE), lone("203.0.113.9")]);

    // After a restart all of it is there, under a higher version.
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    let again = given(&rig, &own, 4).await;
    assert_eq!(again.orders, mine.orders);
    assert!(again.version > mine.version);
    let newer = claim(&own, 5).header(&own.signer);
    let response = poll(&rig, &rig.client(), &newer, &format!("have={}", u64::MAX)).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);

    // Taken back it is gone as fast.
    let header = claim(&own, 6).header(&own.signer);
    let query = format!("have={}", again.version);
    let waiting = tokio::spawn(poll(&rig, &rig.client(), &header, &query));
    rig.lines(&["block", "remove", VALUE]);
    let last = opened(&rig, waiting.await.unwrap()).await;
    assert_eq!(nets(&last), [lone("203.0.113.9")]);
}

#[tokio::test]
async fn only_agents_are_given_orders() {
    let (own, _, mut rig) = two();
    rig.start().await;
    let client = rig.client();
    let check = async |header: &str, expected: &str| {
        let response = poll(&rig, &client, header, "have=0").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{expected}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"], expected);
    };
    check("Bearer x", "no_claim").await;
    let stranger = Agent::new(3);
    check(
        &claim(&stranger, 1).header(&stranger.signer),
        "unknown_agent",
    )
    .await;
    check(&claim(&own, 1).header(&stranger.signer), "signature").await;
    let mut other = claim(&own, 1);
    other.purpose = Purpose::Indicators;
    check(&other.header(&own.signer), "purpose").await;
    let good = claim(&own, 1).header(&own.signer);
    opened(&rig, poll(&rig, &client, &good, "have=0").await).await;
    check(&good, "replayed").await;
    // One that is revoked while it waits is given nothing of what comes.
    let version = given(&rig, &own, 2).await.version;
    let header = claim(&own, 3).header(&own.signer);
    let waiting = tokio::spawn(poll(&rig, &client, &header, &format!("have={version}")));
    rig.print(&["agents", "revoke", &own.id().to_string()]);
    add(&rig, VALUE, &["--all"]);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let metrics = rig.metrics().await;
    assert!(
        metrics.contains("order_polls_total{outcome=\"replayed\"} 1"),
        "{metrics}"
    );
}

fn event(act: BlockAct, order: u64, why: Option<&str>, dry_run: bool) -> BlockEvent {
    BlockEvent {
        time_ns: now_ns(),
        act,
        order,
        net: Some(lone(VALUE)),
        port: None,
        expires_ns: None,
        why: why.map(str::to_owned),
        flow: None,
        dry_run: dry_run.then_some(true),
    }
}

#[tokio::test]
async fn operators_see_what_each_agent_did() {
    let (mut own, mut other, mut rig) = two();
    rig.start().await;
    let id = add(&rig, VALUE, &["--all"])["id"].as_u64().unwrap();
    let listed = |rig: &Rig| rig.lines(&["block", "list"]);
    assert_eq!(listed(&rig)[0]["outcomes"]["waiting"], 2);
    let mut summary = own.summary(1);
    summary.blocks = vec![
        event(BlockAct::Applied, id, Some("a pool"), true),
        event(BlockAct::Dropped, id, None, true),
        event(BlockAct::Dropped, id, None, true),
        // Of an order that nobody gave nothing is kept.
        event(BlockAct::Applied, 77, None, false),
        event(
            BlockAct::Refused,
            0,
            Some("orders: signature does not verify"),
            false,
        ),
    ];
    assert_eq!(rig.send(own.seal(&summary)).await[0].1, "accepted");
    let mut summary = other.summary(1);
    summary.host.account = OTHER_ACCOUNT.to_owned();
    summary.host.instance = OTHER.to_owned();
    summary.blocks = vec![event(
        BlockAct::Refused,
        id,
        Some("protected by 203.0.113.0/24"),
        false,
    )];
    assert_eq!(rig.send(other.seal(&summary)).await[0].1, "accepted");
    let all = listed(&rig);
    let order = &all[0];
    assert_eq!(order["outcomes"]["dry_run"], 1, "{order}");
    assert_eq!(order["outcomes"]["refused"], 1, "{order}");
    assert_eq!(order["flows"], 2);
    // Those that refused come first.
    assert_eq!(order["agents"][0]["instance"], OTHER);
    assert_eq!(order["agents"][0]["why"], "protected by 203.0.113.0/24");
    assert!(order["agents"][1]["why"].is_null());
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[1]["kind"], "refusal");
    assert!(all[1]["why"].as_str().unwrap().contains("does not verify"));
    let text = rig.print(&["block", "list"]);
    // A refusal is over when a bundle was taken.
    let mut summary = own.summary(1);
    summary.blocks = vec![event(BlockAct::Applied, id, None, true)];
    assert_eq!(rig.send(own.seal(&summary)).await[0].1, "accepted");
    assert_eq!(listed(&rig).len(), 1);
    assert!(text.contains("1 dry_run, 1 refused"), "{text}");

    // Given again it takes the place of the one before; over, it is listed when asked for.
    add(&rig, VALUE, &["--all"]);
    let all = rig.lines(&["block", "list", "--over"]);
    let standings: Vec<&str> = all
        .iter()
        .filter_map(|one| one["standing"].as_str())
        .collect();
    assert_eq!(standings, ["lifted", "in_force"]);
}

#[tokio::test]
async fn what_may_not_be_ordered_says_why() {
    let own = Agent::new(1);
    let trusted = "[block]\ntrusted = ['198.51.100.0/24']\n";
    let mut rig = Rig::new(&format!("{}\n{trusted}", own.table(INSTANCE)));
    rig.start().await;
    let check = |words: &[&str], expected: &str| {
        let output = rig.run(&[&["block"], words].concat());
        assert_ne!(output.status.code(), Some(0), "{words:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(expected), "{expected}: {told}");
    };
    let terms = ["--for", "1h", "--reason", "x"];
    let value = |value: &str, expected: &str| {
        check(&[&["add", value, "--all"][..], &terms].concat(), expected);
    };
    value("169.254.169.254", "metadata service");
    value(
        "198.51.100.9:22",
        "198.51.100.0/24 is trusted (block.trusted)",
    );
    value("127.0.0.1", "loopback");
    value("0.0.0.0/0", "too wide");
    value("evil.example", "is a name");
    value("nonsense!", "is no address");
    let place = |place: &[&str], expected: &str| {
        check(&[&["add", VALUE][..], place, &terms].concat(), expected);
    };
    place(&[], "say where");
    place(&["--host", "i-nobody"], "no agent of host i-nobody");
    place(&["--account", "000000000000"], "no agent of account");
    let long = ["add", VALUE, "--all", "--for", "31d", "--reason", "x"];
    check(&long, "30 days");
    let why = ["add", VALUE, "--all", "--for", "1h", "--reason", " "];
    check(&why, "needs a reason");
    check(&["remove", VALUE], "nobody ordered");
    assert!(rig.lines(&["block", "list", "--over"]).is_empty());
    // What something protected lies in is not taken: agents do not know of it.
    value(
        "198.51.0.0/16",
        "part of it may never be blocked: 198.51.100.0/24 is trusted (block.trusted); name smaller",
    );
    value("203.0.113.9/24", "203.0.113.0/24 is the one");
    value("203.0.113.0/024", "begins with 0");
    value("2002:c633:6401::1", "stands for addresses of IPv4");
    assert!(rig.lines(&["block", "list", "--over"]).is_empty());
}

#[tokio::test]
async fn an_agent_that_took_later_versions_is_given_what_holds_now() {
    let (own, other, mut rig) = two();
    rig.start().await;
    let client = rig.client();
    let first = given(&rig, &own, 1).await;
    // As if the collector's state and clock had been set back by a day since.
    let have = first.version + 86_400_000;
    let header = claim(&own, 2).header(&own.signer);
    let ahead = opened(
        &rig,
        poll(&rig, &client, &header, &format!("have={have}")).await,
    )
    .await;
    assert_eq!((ahead.version, ahead.orders.len()), (have + 1, 0));
    let header = claim(&own, 3).header(&own.signer);
    let waiting = tokio::spawn(poll(&rig, &client, &header, &format!("have={}", have + 1)));
    add(&rig, VALUE, &["--all"]);
    let with = opened(&rig, waiting.await.unwrap()).await;
    assert_eq!(nets(&with), [lone(VALUE)]);
    assert!(with.version > ahead.version);
    let header = claim(&own, 4).header(&own.signer);
    let waiting = tokio::spawn(poll(
        &rig,
        &client,
        &header,
        &format!("have={}", with.version),
    ));
    rig.lines(&["block", "remove", VALUE]);
    let without = opened(&rig, waiting.await.unwrap()).await;
    assert!(without.orders.is_empty() && without.version > with.version);
    // Others go on as before.
    assert!(given(&rig, &other, 1).await.version < have);
    let metrics = rig.metrics().await;
    let counted = "order_polls_total{outcome=\"ahead\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn the_list_can_be_narrowed() {
    let (_, _, mut rig) = two();
    rig.start().await;
    for value in [VALUE, "203.0.113.8", "203.0.113.9"] {
        add(&rig, value, &["--all"]);
    }
    let values = |words: &[&str]| -> Vec<String> {
        let lines = rig.lines(&[&["block", "list"], words].concat());
        let values = lines.iter().map(|one| one["value"].as_str().unwrap());
        values.map(str::to_owned).collect()
    };
    assert_eq!(values(&[]).len(), 3);
    assert_eq!(values(&["203.0.113.8"]), ["203.0.113.8"]);
    assert_eq!(values(&["--limit", "2"]), ["203.0.113.8", "203.0.113.9"]);
}

#[tokio::test]
async fn tokens_order_for_their_accounts_alone() {
    let (_, _, mut rig) = two();
    rig.start().await;
    let token = rig.print(&[
        "operators",
        "add",
        "ann",
        "--role",
        "admin",
        "--account",
        ACCOUNT,
    ]);
    let post = async |place: Value| {
        let mut body = serde_json::json!({"value": VALUE, "for_s": 60, "reason": "x"});
        for (key, value) in place.as_object().unwrap() {
            body[key] = value.clone();
        }
        let request = rig.client().post(rig.url("/v1/blocks"));
        let request = request.bearer_auth(token.trim()).json(&body);
        request.send().await.unwrap().status()
    };
    let unfit = StatusCode::UNPROCESSABLE_ENTITY;
    for (place, expected) in [
        (serde_json::json!({"all": true}), StatusCode::FORBIDDEN),
        (serde_json::json!({"account": OTHER_ACCOUNT}), unfit),
        (serde_json::json!({"host": OTHER}), unfit),
        (serde_json::json!({"host": INSTANCE, "all": true}), unfit),
        (serde_json::json!({}), unfit),
        (serde_json::json!({"host": INSTANCE}), StatusCode::OK),
    ] {
        assert_eq!(post(place.clone()).await, expected, "{place}");
    }
    // What others ordered of another account is not there, and of all hosts cannot be taken back.
    add(&rig, "203.0.113.8", &["--account", OTHER_ACCOUNT]);
    add(&rig, "203.0.113.9", &["--all"]);
    let request = rig.client().get(rig.url("/v1/blocks"));
    let text = request.bearer_auth(token.trim()).send().await.unwrap();
    let text = text.text().await.unwrap();
    assert!(
        text.contains(VALUE) && text.contains("203.0.113.9"),
        "{text}"
    );
    assert!(
        !text.contains("203.0.113.8") && !text.contains(OTHER),
        "{text}"
    );
    for value in ["203.0.113.8", "203.0.113.9"] {
        let url = rig.url(&format!("/v1/blocks?value={value}"));
        let request = rig.client().delete(url).bearer_auth(token.trim());
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{value}");
    }
    let audited = until("the record", || async {
        let all = rig.lines(&["audit"]);
        let given = all.iter().find(|one| {
            let detail = one["detail"].as_str().unwrap_or_default();
            detail.starts_with(&format!("block {VALUE} on 1 agents"))
        });
        given.cloned()
    })
    .await;
    assert!(
        audited["who"].as_str().unwrap().contains("ann"),
        "{audited}"
    );
}
