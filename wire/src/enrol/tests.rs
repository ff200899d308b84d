use super::request::Sts;
use super::*;
use crate::Signer;
use crate::limits::{AUTHORITIES_MAX, ENROL_TEXT_BYTES_MAX, RECEIPT_BYTES_MAX};

fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn request(proof: Proof) -> Request {
    let server = server_of(&Signer::from_seed(&[8; 32]).public_key());
    Request::new([1; 32], server, signer().public_key(), proof)
}

fn proofs() -> Vec<Proof> {
    vec![
        Proof::Token {
            token: "t".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: "web-1".into(),
        },
        Proof::Ec2 {
            identity: vec![1, 2, 3],
            sts: None,
        },
        Proof::Ec2 {
            identity: vec![1, 2, 3],
            sts: Some(Sts {
                authorization: "AWS4-HMAC-SHA256 …".into(),
                date: "20261122T103000Z".into(),
                token: Some("session".into()),
            }),
        },
        Proof::Successor {
            claim: vec![9; 100],
        },
        Proof::Known,
    ]
}

fn receipt() -> Receipt {
    Receipt {
        nonce: [1; 32],
        key: signer().public_key(),
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        instance: "i-0123456789abcdef0".into(),
        level: Level::Ec2Sts,
        issued_ms: 1_700_000_000_000,
        collector: Signer::from_seed(&[8; 32]).public_key(),
        authorities: vec![vec![0x30, 0x00], vec![0x30, 0x01, 0x02]],
    }
}

#[test]
fn what_is_sealed_opens_as_it_was() {
    for proof in proofs() {
        let request = request(proof);
        assert_eq!(Request::open(&request.seal(&signer())), Ok(request));
    }
    let key = receipt().collector;
    let sealed = receipt().seal(&Signer::from_seed(&[8; 32]));
    assert_eq!(Receipt::open(&sealed, &key), Ok(receipt()));
    let challenge = Challenge::new([3; 32], key, 5);
    assert_eq!(Challenge::read(&challenge.to_bytes()), Ok(challenge));
}

#[test]
fn no_bit_of_a_request_or_a_receipt_may_change() {
    let requests = proofs()
        .into_iter()
        .map(|proof| request(proof).seal(&signer()));
    for sealed in requests {
        for_each_change(&sealed, |changed| Request::open(changed).is_err());
    }
    let key = receipt().collector;
    let sealed = receipt().seal(&Signer::from_seed(&[8; 32]));
    for_each_change(&sealed, |changed| Receipt::open(changed, &key).is_err());
}

fn for_each_change(bytes: &[u8], is_refused: impl Fn(&[u8]) -> bool) {
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            assert!(is_refused(&changed), "byte {at} bit {bit}");
        }
        assert!(is_refused(&bytes[..at]), "cut at {at}");
    }
}

#[test]
fn only_the_key_it_is_about_signs_a_request() {
    let other = Signer::from_seed(&[9; 32]);
    let sealed = request(Proof::Known).seal(&other);
    assert_eq!(Request::open(&sealed), Err(EnrolError::Signature));
}

#[test]
fn a_receipt_of_another_collector_is_refused() {
    let other = Signer::from_seed(&[9; 32]);
    let sealed = receipt().seal(&Signer::from_seed(&[8; 32]));
    assert_eq!(
        Receipt::open(&sealed, &other.public_key()),
        Err(EnrolError::Signature)
    );
    // Signed by one that names another.
    let sealed = receipt().seal(&other);
    assert!(matches!(
        Receipt::open(&sealed, &other.public_key()),
        Err(EnrolError::Malformed { .. })
    ));
    // One thing signed is not another.
    let sealed = request(Proof::Known).seal(&signer());
    assert_eq!(
        Receipt::open(&sealed, &signer().public_key()),
        Err(EnrolError::NotOurs)
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let long = "x".repeat(ENROL_TEXT_BYTES_MAX + 1);
    let token = Proof::Token {
        token: long,
        account: String::new(),
        region: String::new(),
        instance: String::new(),
    };
    assert!(matches!(
        Request::open(&request(token).seal(&signer())),
        Err(EnrolError::TooLong { what: "token", .. })
    ));
    let identity = Proof::Ec2 {
        identity: vec![0; crate::limits::ENROL_REQUEST_BYTES_MAX],
        sts: None,
    };
    assert!(matches!(
        Request::open(&request(identity).seal(&signer())),
        Err(EnrolError::TooLarge { .. })
    ));
    let mut receipt = receipt();
    receipt.authorities = vec![vec![0]; AUTHORITIES_MAX + 1];
    let sealed = receipt.seal(&Signer::from_seed(&[8; 32]));
    assert!(matches!(
        Receipt::open(&sealed, &receipt.collector),
        Err(EnrolError::TooLong {
            what: "authorities",
            ..
        })
    ));
    assert!(matches!(
        Receipt::open(&[0; RECEIPT_BYTES_MAX + 1], &receipt.collector),
        Err(EnrolError::TooLarge { .. })
    ));
    assert!(Challenge::read(&[0xa0]).is_err());
}

#[test]
fn the_key_that_follows_is_named_with_its_nonce() {
    let next = signer().public_key();
    assert_ne!(succession(&[0; 32], &next), succession(&[1; 32], &next));
    assert_eq!(
        server_of(&next).to_string(),
        Digest::of(&next.0).to_string()
    );
}
