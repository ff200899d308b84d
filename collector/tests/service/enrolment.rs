//! Whose word is taken, and how that changes while the collector runs.

use picket_wire::PublicKey;
use picket_wire::claim::{Claim, Purpose};
use picket_wire::enrol::{Challenge, Level, Proof, Receipt, Request, server_of, succession};

use crate::rig::{ACCOUNT, Agent, INSTANCE, REGION, Rig};

type Verdict = (Option<u64>, String, String);

fn verdict(sequence: u64, status: &str, reason: &str) -> Verdict {
    (Some(sequence), status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_for_good() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&agent.table(INSTANCE));
    rig.start().await;
    assert_eq!(
        rig.send(agent.envelope(0)).await,
        [verdict(0, "accepted", "")]
    );
    let listed = &rig.lines(&["agents", "list"])[0];
    assert_eq!(
        (&listed["level"], &listed["standing"]),
        (&"configured".into(), &"trusted".into())
    );

    let id = agent.id().to_string();
    rig.print(&["agents", "revoke", &id]);
    let next = agent.envelope(0);
    let refused = [verdict(1, "refused", "revoked")];
    assert_eq!(rig.send(next.clone()).await, refused);
    assert_eq!(rig.lines(&["agents", "list"])[0]["standing"], "revoked");
    // Whoever still speaks with it is a finding.
    rig.finding("DefenseEvasion:EC2/SensorImpersonated", 1)
        .await;

    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    assert_eq!(rig.send(next).await, refused);

    let stranger = Agent::new(2).id().to_string();
    for words in [["agents", "revoke", &stranger], ["agents", "approve", &id]] {
        let output = rig.run(&words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
    }
    assert_eq!(rig.run(&["agents", "revoke", "x"]).status.code(), Some(2));
}

/// The collector's answer to a request: its status, and its word or its receipt.
type Answer = (u16, Result<Receipt, String>);

async fn challenge(rig: &Rig) -> Challenge {
    let url = rig.url("/v1/enrol/challenge");
    let response = rig.client().post(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    Challenge::read(&response.bytes().await.unwrap()).unwrap()
}

async fn post(rig: &Rig, key: PublicKey, body: Vec<u8>) -> Answer {
    let request = rig
        .client()
        .post(rig.url("/v1/enrol"))
        .header("content-type", "application/cose; cose-type=\"cose-sign1\"")
        .body(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    if status == 200 {
        return (status, Ok(Receipt::open(&bytes, &key).unwrap()));
    }
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let word = body.get("error").or(body.get("status")).unwrap();
    (status, Err(word.as_str().unwrap().to_owned()))
}

/// Asks to be believed with a fresh challenge.
async fn enrol(rig: &Rig, agent: &Agent, proof: Proof) -> Answer {
    let challenge = challenge(rig).await;
    let server = server_of(&challenge.key());
    let request = Request::new(challenge.nonce, server, agent.signer.public_key(), proof);
    post(rig, challenge.key(), request.seal(&agent.signer)).await
}

fn by_token(token: &str, instance: &str) -> Proof {
    Proof::Token {
        token: token.to_owned(),
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        instance: instance.to_owned(),
    }
}

/// Makes a join token as the operator does.
fn token(rig: &Rig, more: &[&str]) -> String {
    let words: Vec<&str> = ["join-tokens", "add"].iter().chain(more).copied().collect();
    rig.print(&words).trim().to_owned()
}

#[track_caller]
fn check_refused(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer, &(status, Err(word.to_owned())));
}

#[tokio::test]
async fn a_host_joins_by_token_and_is_believed_at_once() {
    let mut rig = Rig::new("");
    rig.start().await;
    let mut agent = Agent::new(1);
    assert_eq!(
        rig.send(agent.envelope(0)).await,
        [verdict(0, "refused", "unknown_key")]
    );
    agent.chain.sequence = 0;
    agent.chain.previous = picket_wire::Digest::default();

    let text = token(&rig, &["--instance", "i-*", "--label", "racks"]);
    let (_, receipt) = enrol(&rig, &agent, by_token(&text, INSTANCE)).await;
    let receipt = receipt.unwrap();
    assert_eq!(receipt.agent(), agent.id());
    assert_eq!(
        (receipt.instance.as_str(), receipt.level),
        (INSTANCE, Level::Token)
    );
    // What agents pin is what the collector serves with.
    assert_eq!(receipt.authorities.len(), 1);
    let before = agent.envelope(0);
    assert_eq!(rig.send(before.clone()).await, [verdict(0, "accepted", "")]);

    // It asks again, with another token or none: it is believed already, and no token is used up.
    let other = token(&rig, &[]);
    for proof in [by_token(&other, INSTANCE), Proof::Known] {
        assert!(enrol(&rig, &agent, proof).await.1.is_ok());
    }
    let listed = rig.lines(&["join-tokens", "list"]);
    assert_eq!(
        (&listed[0]["standing"], &listed[1]["standing"]),
        (&"used".into(), &"good".into()),
        "{listed:?}"
    );
    assert!(!rig.print(&["join-tokens", "list"]).contains(&text[13..]));
    let database = std::fs::read(rig.path("state/picket.db")).unwrap();
    let secret = &text.as_bytes()[13..];
    assert!(
        !database
            .windows(secret.len())
            .any(|window| window == secret)
    );

    // After a restart as before, until it is revoked.
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    assert_eq!(
        rig.send(agent.envelope(0)).await,
        [verdict(1, "accepted", "")]
    );
    let line = &rig.lines(&["agents", "list"])[0];
    assert_eq!(line["level"], "token");
    assert!(
        line["enrolled"]["by"]
            .as_str()
            .unwrap()
            .starts_with("join token ")
    );
    rig.print(&["agents", "revoke", &agent.id().to_string()]);
    let revoked = [verdict(2, "refused", "revoked")];
    assert_eq!(rig.send(agent.envelope(0)).await, revoked);
    check_refused(&enrol(&rig, &agent, Proof::Known).await, 403, "revoked");
    let again = by_token(&other, INSTANCE);
    check_refused(&enrol(&rig, &agent, again).await, 403, "revoked");

    // Its instance stays bound, until the operator says otherwise.
    let next = Agent::new(2);
    let answer = enrol(&rig, &next, by_token(&other, INSTANCE)).await;
    check_refused(&answer, 409, "second_key");
    rig.finding("DefenseEvasion:EC2/SensorSecondKey", 1).await;
    rig.print(&["agents", "revoke", &agent.id().to_string(), "--release"]);
    let answer = enrol(&rig, &next, by_token(&other, INSTANCE)).await;
    assert!(answer.1.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn each_bad_token_has_its_word() {
    let mut rig = Rig::new("");
    rig.start().await;
    let agent = Agent::new(1);
    let good = token(&rig, &["--uses", "2", "--instance", "web-*"]);
    let revoked = token(&rig, &[]);
    rig.print(&["join-tokens", "revoke", &revoked[4..12]]);
    let ended = token(&rig, &["--expires-s", "1"]);
    let mut changed = good.clone();
    changed.pop();
    changed.push(if good.ends_with('0') { '1' } else { '0' });
    for (proof, status, word) in [
        (by_token("", "web-1"), 403, "token_unknown"),
        (by_token("pjt_00000000_00", "web-1"), 403, "token_unknown"),
        (by_token(&changed, "web-1"), 403, "token_unknown"),
        (by_token(&revoked, "web-1"), 403, "token_revoked"),
        (by_token(&good, "db-1"), 403, "token_scope"),
        (by_token(&good, "web-1\n"), 400, "host"),
        (by_token(&good, ""), 400, "host"),
        (Proof::Known, 403, "agent_unknown"),
    ] {
        check_refused(&enrol(&rig, &agent, proof).await, status, word);
    }
    crate::rig::until("the token's end", || async {
        let tokens = rig.lines(&["join-tokens", "list"]);
        tokens
            .iter()
            .any(|token| token["standing"] == "ended")
            .then_some(())
    })
    .await;
    let answer = enrol(&rig, &agent, by_token(&ended, "web-9")).await;
    check_refused(&answer, 403, "token_expired");
    for (seed, instance, expected) in [(2, "web-1", true), (3, "web-2", true), (4, "web-3", false)]
    {
        let answer = enrol(&rig, &Agent::new(seed), by_token(&good, instance)).await;
        assert_eq!(answer.1.is_ok(), expected, "{instance}: {answer:?}");
        if !expected {
            check_refused(&answer, 403, "token_used");
        }
    }
    // It tells nothing of hosts, and makes no alarm of one; whoever is in already may ask again.
    let answer = enrol(&rig, &Agent::new(5), by_token(&good, "web-1")).await;
    check_refused(&answer, 403, "token_used");
    assert!(rig.lines(&["findings", "list"]).is_empty());
    let answer = enrol(&rig, &Agent::new(2), by_token(&good, "web-1")).await;
    assert!(answer.1.is_ok(), "{answer:?}");
    // The key of one host asks for another.
    let spare = token(&rig, &[]);
    let answer = enrol(&rig, &Agent::new(2), by_token(&spare, "web-7")).await;
    check_refused(&answer, 409, "other_host");
    let name = "picket_collector_enrolments_refused_total{reason=\"token_scope\"}";
    assert_eq!(rig.metric(name).await, 1.0);
    let name = "picket_collector_enrolments_total{proof=\"token\"}";
    assert!(rig.metric(name).await >= 2.0);
}

#[tokio::test]
async fn a_request_is_good_once_for_one_collector_and_under_its_own_key() {
    let mut rig = Rig::new("[enrol]\nchallenges_max = 40");
    rig.start().await;
    let agent = Agent::new(1);
    let text = token(&rig, &["--uses", "9"]);
    let given = challenge(&rig).await;
    let key = agent.signer.public_key();
    let server = server_of(&given.key());
    let request = |nonce, server| Request::new(nonce, server, key, by_token(&text, "web-1"));
    let sealed = request(given.nonce, server).seal(&agent.signer);

    let mut bent = sealed.clone();
    *bent.last_mut().unwrap() ^= 1;
    check_refused(&post(&rig, given.key(), bent).await, 403, "signature");
    let others = request(given.nonce, server).seal(&Agent::new(2).signer);
    check_refused(&post(&rig, given.key(), others).await, 403, "signature");
    let elsewhere = request(given.nonce, server_of(&key)).seal(&agent.signer);
    check_refused(&post(&rig, given.key(), elsewhere).await, 403, "server");
    let unknown = request([0; 32], server).seal(&agent.signer);
    check_refused(
        &post(&rig, given.key(), unknown).await,
        403,
        "nonce_unknown",
    );
    check_refused(&post(&rig, given.key(), vec![]).await, 400, "malformed");
    check_refused(
        &post(&rig, given.key(), vec![0; 40_000]).await,
        413,
        "too_large",
    );
    // None of that used the nonce up.
    assert!(post(&rig, given.key(), sealed.clone()).await.1.is_ok());
    check_refused(&post(&rig, given.key(), sealed).await, 403, "nonce_used");

    let development = picket_wire::Signer::development();
    let proof = by_token(&text, "web-2");
    let given = challenge(&rig).await;
    let request = Request::new(given.nonce, server, development.public_key(), proof);
    let answer = post(&rig, given.key(), request.seal(&development)).await;
    check_refused(&answer, 403, "development_key");

    // Whoever only asks for challenges is told to slow down.
    let client = rig.client();
    let mut told = 0;
    for _ in 0..60 {
        let url = rig.url("/v1/enrol/challenge");
        let response = client.post(url).send().await.unwrap();
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
            told += 1;
        }
    }
    assert!(told >= 20, "{told}");
}

#[tokio::test]
async fn a_key_is_followed_by_another_without_a_gap() {
    let mut rig = Rig::new("");
    rig.start().await;
    let (mut old, mut new) = (Agent::new(1), Agent::new(2));
    let text = token(&rig, &[]);
    assert!(enrol(&rig, &old, by_token(&text, INSTANCE)).await.1.is_ok());
    assert_eq!(
        rig.send(old.envelope(0)).await,
        [verdict(0, "accepted", "")]
    );
    let mut thief = Agent::new(1);
    thief.chain.boot = picket_wire::BootId([9; 16]);

    let given = challenge(&rig).await;
    let claim = |agent: &Agent, purpose, next: &Agent| Claim {
        agent: agent.id(),
        purpose,
        issued_ms: 0,
        once: [0; 16],
        body: Some(succession(&given.nonce, &next.signer.public_key())),
    };
    let successor = |nonce, claim: Vec<u8>| {
        let server = server_of(&given.key());
        let key = new.signer.public_key();
        Request::new(nonce, server, key, Proof::Successor { claim }).seal(&new.signer)
    };
    // For another key, another purpose, signed by another, for another nonce.
    let third = Agent::new(3);
    let other_nonce = challenge(&rig).await.nonce;
    for (nonce, claim) in [
        (
            challenge(&rig).await.nonce,
            claim(&old, Purpose::Rotation, &new).seal(&old.signer),
        ),
        (
            given.nonce,
            claim(&old, Purpose::Rotation, &third).seal(&old.signer),
        ),
        (
            other_nonce,
            claim(&old, Purpose::Orders, &new).seal(&old.signer),
        ),
    ] {
        let answer = post(&rig, given.key(), successor(nonce, claim)).await;
        check_refused(&answer, 403, "claim");
    }
    let given = challenge(&rig).await;
    let claim = |signer: &picket_wire::Signer| {
        let body = Some(succession(&given.nonce, &new.signer.public_key()));
        let claim = Claim {
            agent: old.id(),
            purpose: Purpose::Rotation,
            issued_ms: 0,
            once: [0; 16],
            body,
        };
        claim.seal(signer)
    };
    let stolen = successor(given.nonce, claim(&third.signer));
    check_refused(&post(&rig, given.key(), stolen).await, 403, "claim");
    let given = challenge(&rig).await;
    let body = Some(succession(&given.nonce, &new.signer.public_key()));
    let word = Claim {
        agent: old.id(),
        purpose: Purpose::Rotation,
        issued_ms: 0,
        once: [0; 16],
        body,
    };
    let good = successor(given.nonce, word.seal(&old.signer));
    let receipt = post(&rig, given.key(), good).await.1.unwrap();
    assert_eq!(receipt.agent(), new.id());
    assert_eq!(receipt.instance, INSTANCE);

    // Both are believed: what the old one signed may still wait on the host.
    assert_eq!(
        rig.send(new.envelope(0)).await,
        [verdict(0, "accepted", "")]
    );
    assert_eq!(
        rig.send(old.envelope(0)).await,
        [verdict(1, "accepted", "")]
    );
    let lines = rig.lines(&["agents", "list"]);
    let of = |agent: &Agent| {
        let id = agent.id().to_string();
        lines
            .iter()
            .find(|line| line["agent"] == id.as_str())
            .unwrap()
    };
    assert_eq!(
        (&of(&old)["standing"], &of(&new)["standing"]),
        (&"succeeded".into(), &"trusted".into())
    );
    // The old one cannot hand the host to a third.
    let given = challenge(&rig).await;
    let word = Claim {
        body: Some(succession(&given.nonce, &third.signer.public_key())),
        ..word
    };
    let claim = word.seal(&old.signer);
    let request = Request::new(
        given.nonce,
        server_of(&given.key()),
        third.signer.public_key(),
        Proof::Successor { claim },
    );
    let answer = post(&rig, given.key(), request.seal(&third.signer)).await;
    check_refused(&answer, 403, "succeeded");
    assert!(rig.lines(&["findings", "list"]).is_empty());
    // Nor begin a run, whoever has it.
    assert_eq!(
        rig.send(thief.envelope(0)).await,
        [verdict(0, "refused", "succeeded")]
    );
    rig.print(&["agents", "revoke", &old.id().to_string()]);
    assert_eq!(
        rig.send(old.envelope(0)).await,
        [verdict(2, "refused", "revoked")]
    );
    assert_eq!(
        rig.send(new.envelope(0)).await,
        [verdict(1, "accepted", "")]
    );
}

/// A host whose key was revoked and released enrols with another, and still has envelopes of the first.
#[tokio::test]
async fn what_a_host_signed_with_its_key_before_is_refused_without_an_alarm() {
    let mut rig = Rig::new("");
    rig.start().await;
    let (mut old, mut new) = (Agent::new(1), Agent::new(2));
    let text = token(&rig, &["--uses", "2"]);
    assert!(enrol(&rig, &old, by_token(&text, INSTANCE)).await.1.is_ok());
    assert_eq!(
        rig.send(old.envelope(0)).await,
        [verdict(0, "accepted", "")]
    );
    let left = old.envelope(0);
    rig.print(&["agents", "revoke", &old.id().to_string(), "--release"]);
    assert!(enrol(&rig, &new, by_token(&text, INSTANCE)).await.1.is_ok());
    let refused = [verdict(1, "refused", "revoked")];
    assert_eq!(rig.send(left.clone()).await, refused);
    assert_eq!(
        rig.send(new.envelope(1)).await,
        [verdict(0, "accepted", "")]
    );
    // It is remembered over a restart. The hit that comes last is told, so the rest would have been.
    assert_eq!(rig.terminate().await, Some(0));
    rig.start().await;
    assert_eq!(rig.send(left).await, refused);
    assert_eq!(
        rig.send(new.envelope(1)).await,
        [verdict(1, "accepted", "")]
    );
    rig.finding("Backdoor:EC2/C&CActivity.B", 2).await;
    let kind = "DefenseEvasion:EC2/SensorImpersonated";
    assert!(rig.lines(&["findings", "list", "--type", kind]).is_empty());
}
