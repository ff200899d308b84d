//! Identities made with OpenSSL's `cms -sign -stream -nodetach -nocerts`, which writes the shape that
//! the metadata service gives.

use super::*;

const HERE: &[u8] = include_bytes!("testdata/here.der");
const THERE: &[u8] = include_bytes!("testdata/there.der");
const DOCUMENT: &[u8] = include_bytes!("testdata/document.json");
const IDENTITY: &[u8] = include_bytes!("testdata/identity.der");

fn certificates() -> Vec<Certificate> {
    [("eu-central-1", HERE), ("us-west-2", THERE)]
        .map(|(region, der)| Certificate::read(region, der).unwrap())
        .to_vec()
}

#[test]
fn what_another_program_signed_is_believed() {
    let document = verify(IDENTITY, &certificates()).unwrap();
    assert_eq!(document, Document::read(DOCUMENT).unwrap());
    assert_eq!(document.instance, "i-0123456789abcdef0");
    assert_eq!(document.region, "eu-central-1");
}

#[test]
fn no_changed_bit_is_believed_that_matters() {
    let certificates = certificates();
    let document = Document::read(DOCUMENT).unwrap();
    for at in 0..IDENTITY.len() {
        for bit in 0..8 {
            let mut changed = IDENTITY.to_vec();
            changed[at] ^= 1 << bit;
            // Some bits nobody signs: version numbers, the list of digests. None changes a word.
            if let Ok(believed) = verify(&changed, &certificates) {
                assert_eq!(believed, document, "byte {at} bit {bit}");
            }
        }
        assert!(
            verify(&IDENTITY[..at], &certificates).is_err(),
            "cut at {at}"
        );
    }
}

#[test]
fn each_forgery_has_its_reason() {
    #[track_caller]
    fn check(identity: &[u8], certificates: &[Certificate], reason: &str) {
        let refused = verify(identity, certificates).unwrap_err();
        assert_eq!(refused.reason(), reason, "{refused}");
    }
    let all = certificates();
    check(IDENTITY, &all[1..], "identity_signer");
    // The certificate of the signer, filed under another region.
    let moved = [Certificate::read("eu-west-1", HERE).unwrap()];
    check(IDENTITY, &moved, "identity_region");
    // The key of one under the name of the other.
    let mut forged = all[1].clone();
    (forged.issuer, forged.serial) = (all[0].issuer.clone(), all[0].serial.clone());
    check(IDENTITY, &[forged], "identity_signature");
    let at = IDENTITY
        .windows(4)
        .position(|four| four == b"i-01")
        .unwrap();
    let mut changed = IDENTITY.to_vec();
    changed[at + 2] = b'9';
    check(&changed, &all, "identity_signature");
    check(
        include_bytes!("testdata/two_signers.der"),
        &all,
        "identity_malformed",
    );
    check(
        include_bytes!("testdata/no_attributes.der"),
        &all,
        "identity_malformed",
    );
    check(DOCUMENT, &all, "identity_malformed");
    check(&[], &all, "identity_malformed");
    check(&[IDENTITY, &[0]].concat(), &all, "identity_malformed");
}

#[test]
fn only_certificates_with_sound_keys_are_taken() {
    assert!(certificates()[0].is_self_signed(HERE));
    assert!(!certificates()[0].is_self_signed(THERE));
    assert!(Certificate::read("r", IDENTITY).is_err());
    for at in 0..HERE.len() {
        assert!(Certificate::read("r", &HERE[..at]).is_err());
    }
}
