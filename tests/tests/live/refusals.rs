//! What the collector must not believe: each refused with its own reason, counted, nothing stored.

use anyhow::{Context, Result};
use picket_tests::lab::Wire;
use picket_tests::product::rig::skips;
use picket_tests::product::story::Opened;
use picket_tests::product::{Rig, run};
use picket_tests::scene::Scenario;
use picket_wire::{AgentId, BootId, Chain, PublicKey, Signer, Summary};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Posts one envelope from the instance, as an agent would, and returns the status word and reason.
fn post(rig: &Rig, envelope: &[u8]) -> (String, String) {
    let url = format!("https://{}/v1/envelopes", rig.collector.address());
    let ca = std::fs::read(rig.collector.ca_file()).unwrap();
    let answer: Result<Value> = rig
        .lab
        .instance
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let ca = reqwest::Certificate::from_pem(&ca)?;
                let client = reqwest::Client::builder()
                    .tls_certs_only([ca])
                    .no_proxy()
                    .build()?;
                let answer = client
                    .post(url)
                    .header("content-type", "application/cbor-seq")
                    .body(envelope.to_vec())
                    .send()
                    .await?;
                answer.json().await.context("an answer that is no JSON")
            })
        })
        .unwrap();
    let answer = answer.unwrap();
    let verdict = &answer["results"][0];
    let word = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
    (word("status"), word("reason"))
}

fn refused(rig: &Rig, reason: &str) -> u64 {
    let name = format!("picket_collector_envelopes_refused_total{{reason=\"{reason}\"}}");
    rig.collector.metric(&name).unwrap()
}

/// Flips one bit of the payload; the shape stays whole.
fn tampered(envelope: &[u8]) -> Vec<u8> {
    let mut bytes = envelope.to_vec();
    // The signature takes the last 66 bytes; before it ends the payload.
    let at = bytes.len() - 70;
    bytes[at] ^= 1;
    bytes
}

/// Writes another key over that of the signer, who has signed all the same.
fn signed_as(envelope: &[u8], signer: &Signer, key: PublicKey) -> Vec<u8> {
    let own = signer.public_key().0;
    let at = envelope.windows(own.len()).position(|bytes| bytes == own);
    let mut bytes = envelope.to_vec();
    bytes[at.unwrap()..][..own.len()].copy_from_slice(&key.0);
    bytes
}

#[test]
fn refusals() {
    if skips() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scenario = Scenario::load("c2-lookup").unwrap();
    let mut rig = Rig::raise(&scenario, Wire::Ordinary).unwrap();
    rig.play(&scenario).unwrap();
    rig.watch()
        .until_complete(&scenario.expected, Duration::from_secs(60), |_| {})
        .unwrap();
    rig.agent.stop().unwrap();
    rig.until_judged(SystemTime::UNIX_EPOCH, Duration::from_secs(60))
        .unwrap();
    let told: Vec<Opened> = rig.told().unwrap();
    let last = told.last().unwrap();
    let findings = rig.collector.ask("findings list").unwrap();

    // What the agent would say next, were it still there.
    let signed_at_ms = last.header.signed_at_ms + 1;
    let mut chain = Chain {
        agent: last.header.agent,
        boot: last.header.boot,
        sequence: last.header.sequence + 1,
        previous: picket_wire::Digest::of(&last.bytes),
    };
    let next = chain
        .clone()
        .seal(&last.summary, signed_at_ms, &rig.agent.signer());
    let stranger = Signer::from_seed(&[7; 32]);
    let unknown = Chain::new(AgentId::of_key(&stranger.public_key().0), BootId([7; 16])).seal(
        &last.summary,
        signed_at_ms,
        &stranger,
    );
    let by_stranger = chain.clone().seal(&last.summary, signed_at_ms, &stranger);
    let forged = signed_as(&by_stranger, &stranger, rig.agent.public_key());
    let development = chain
        .clone()
        .seal(&last.summary, signed_at_ms, &Signer::development());
    let mut summary: Summary = last.summary.clone();
    summary.host.instance = "i-00000000000000bad".to_owned();
    let elsewhere = chain.seal(&summary, signed_at_ms, &rig.agent.signer());

    for (point, envelope, status, reason) in [
        ("tampered", tampered(&next), "refused", "tampered"),
        ("another's signature", forged, "refused", "tampered"),
        ("another's key", by_stranger, "refused", "wrong_key"),
        ("development key", development, "refused", "development_key"),
        ("replayed", last.bytes.clone(), "duplicate", "replayed"),
        ("unknown key", unknown, "refused", "unknown_key"),
        ("wrong host", elsewhere, "refused", "wrong_host"),
        ("no envelope", b"{}".to_vec(), "refused", "malformed"),
    ] {
        let before = refused(&rig, reason);
        let (got, why) = post(&rig, &envelope);
        assert_eq!(got, status, "{point}");
        assert_eq!(why, reason, "{point}");
        assert_eq!(refused(&rig, reason), before + 1, "{point}");
        assert_eq!(rig.told().unwrap().len(), told.len(), "{point}: stored");
    }
    let shown = run(rig.collector.command("findings list"), &[]).unwrap();
    assert!(shown.status.success());
    let after = rig.collector.ask("findings list").unwrap();
    let kinds = |all: &[Value]| -> Vec<String> {
        let network = all.iter().filter(|one| one["picket"]["rule"] != "sensor");
        network.map(|one| one["id"].to_string()).collect()
    };
    for id in kinds(&findings) {
        assert!(kinds(&after).contains(&id));
    }

    // And the honest one is taken, so the refusals were not for another reason.
    assert_eq!(post(&rig, &next).0, "accepted");
    assert_eq!(rig.told().unwrap().len(), told.len() + 1);
}
