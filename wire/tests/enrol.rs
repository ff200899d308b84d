//! Vectors of enrolment, made by a program that shares nothing with this crate but `docs/enrolment.md`
//! (CBOR written by hand, Ed25519 of OpenSSL). The agent's seed is 32 bytes of 7, the collector's of 8.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use picket_wire::Signer;
use picket_wire::enrol::{Challenge, Level, Proof, Receipt, Request, Sts, server_of};

const VECTORS: &str = include_str!("vectors-enrol.txt");
const NONCE: [u8; 32] = [1; 32];

fn vector(name: &str) -> Vec<u8> {
    let line = VECTORS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let digits = line.unwrap().as_bytes();
    let digits = digits
        .chunks(2)
        .map(|two| std::str::from_utf8(two).unwrap());
    digits
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect()
}

fn agent() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn collector() -> Signer {
    Signer::from_seed(&[8; 32])
}

#[test]
fn requests_are_as_described() {
    let sts = Sts {
        authorization: "AWS4-HMAC-SHA256 x".into(),
        date: "20261122T103000Z".into(),
        token: Some("session".into()),
    };
    let identity = vec![0x30, 0x80];
    for (name, proof) in [
        (
            "request-token",
            Proof::Token {
                token: "pjt_00000000_00".into(),
                account: "111122223333".into(),
                region: "eu-west-1".into(),
                instance: "web-1".into(),
            },
        ),
        (
            "request-ec2",
            Proof::Ec2 {
                identity: identity.clone(),
                sts: Some(sts),
            },
        ),
        (
            "request-document",
            Proof::Ec2 {
                identity,
                sts: None,
            },
        ),
        ("request-known", Proof::Known),
    ] {
        let server = server_of(&collector().public_key());
        let request = Request::new(NONCE, server, agent().public_key(), proof);
        assert_eq!(Request::open(&vector(name)), Ok(request.clone()), "{name}");
        assert_eq!(request.seal(&agent()), vector(name), "{name}");
    }
}

#[test]
fn receipts_and_challenges_are_as_described() {
    let receipt = Receipt {
        nonce: NONCE,
        key: agent().public_key(),
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        instance: "web-1".into(),
        level: Level::Token,
        issued_ms: 1_700_000_000_000,
        collector: collector().public_key(),
        authorities: vec![vec![0x30, 0x00]],
    };
    let bytes = vector("receipt");
    assert_eq!(receipt.seal(&collector()), bytes);
    assert_eq!(
        Receipt::open(&bytes, &receipt.collector),
        Ok(receipt.clone())
    );
    let challenge = Challenge::new(NONCE, receipt.collector, 1_700_000_060_000);
    assert_eq!(challenge.to_bytes(), vector("challenge"));
    assert_eq!(Challenge::read(&vector("challenge")), Ok(challenge));
}
