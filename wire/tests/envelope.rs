//! The envelope: what goes in comes out, and nothing else verifies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};

use picket_wire::*;

fn summary() -> Summary {
    Summary {
        version: 1,
        immediate: false,
        host: Host {
            instance: "i-0123456789abcdef0".into(),
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            hostname: None,
            agent_version: "0.1.0".into(),
            capture: "replay".into(),
            local: vec![Net {
                address: Ipv4Addr::new(10, 0, 0, 0).into(),
                prefix: 8,
            }],
            indicators: 7,
        },
        window: Window {
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_010_000_000_000,
        },
        conversations: vec![Conversation {
            client: Ipv4Addr::new(10, 0, 0, 1).into(),
            server: "2001:db8::1".parse().unwrap(),
            server_port: 443,
            client_port: 40_000,
            protocol: 6,
            opened: Opened::Seen,
            local: Side::Client,
            flows: 1,
            attempts: 1,
            accepted: 1,
            refused: 0,
            packets_out: 10,
            packets_in: 8,
            bytes_out: 1_000,
            bytes_in: 4_000,
            flags_out: 0x1b,
            flags_in: 0x1b,
            first_ns: 1_700_000_000_100_000_000,
            last_ns: 1_700_000_001_000_000_000,
            tls_name: Some("example.com".into()),
            ja4: None,
            dns_name: None,
            process: None,
            content: None,
            tunnel: None,
            tunnel_id: None,
            processes: None,
            starts_ms: vec![],
        }],
        questions: vec![],
        hits: vec![],
        counters: vec![Counter {
            stage: "kernel".into(),
            reason: "seen".into(),
            count: 18,
            bytes: 5_000,
        }],
        cut: Cut::default(),
        ..Summary::default()
    }
}

fn sealed() -> (Vec<u8>, Signer) {
    let signer = Signer::development();
    let mut chain = Chain::new(AgentId([1; 16]), BootId([2; 16]));
    (chain.seal(&summary(), 1_700_000_010_500, &signer), signer)
}

#[test]
fn goes_there_and_back() {
    let (bytes, signer) = sealed();
    let verified = Sealed::parse(&bytes)
        .unwrap()
        .verify(&signer.public_key())
        .unwrap();
    assert_eq!(verified.header().sequence, 0);
    assert_eq!(verified.header().signed_at_ms, 1_700_000_010_500);
    assert_eq!(verified.open().unwrap(), summary());
}

#[test]
fn the_next_envelope_names_the_one_before() {
    let signer = Signer::development();
    let mut chain = Chain::new(AgentId([1; 16]), BootId([2; 16]));
    let first = chain.seal(&summary(), 1, &signer);
    let second = chain.seal(&summary(), 2, &signer);
    let header = *Sealed::parse(&second).unwrap().claims();
    assert_eq!((header.sequence, header.previous), (1, Digest::of(&first)));
}

/// The bytes of a fixed envelope up to its payload, and of a fixed summary: whoever implements the
/// format from `docs/envelope.md` must produce the same. The compressed payload and the signature
/// over it are left out, as a compressor may change its mind.
#[test]
fn golden_bytes() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let (bytes, _) = sealed();
    // Tag, array, and a byte string whose length is in the fourth byte.
    let header = &bytes[..4 + usize::from(bytes[3])];
    golden("golden-header.hex", &hex(header));
    golden("golden-summary.hex", &hex(&summary().to_bytes()));
}

/// Compares with a file beside this one; `PICKET_BLESS=1` writes it anew instead.
fn golden(file: &str, got: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(file);
    if std::env::var_os("PICKET_BLESS").is_some() {
        std::fs::write(&path, format!("{got}\n")).unwrap();
    }
    assert_eq!(
        got,
        std::fs::read_to_string(&path).unwrap().trim(),
        "{file}"
    );
}

#[test]
fn no_byte_may_change() {
    let (bytes, signer) = sealed();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let opened = Sealed::parse(&changed)
            .and_then(|sealed| sealed.verify(&signer.public_key()))
            .and_then(|verified| verified.open());
        assert!(
            opened.is_err(),
            "byte {at} changed and the envelope still opened"
        );
    }
    for cut in 0..bytes.len() {
        assert!(Sealed::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// An envelope of the agent that is named after the key of `seed`.
fn sealed_by(seed: u8) -> (Vec<u8>, AgentId, PublicKey) {
    let signer = Signer::from_seed(&[seed; 32]);
    let key = signer.public_key();
    let agent = AgentId::of_key(&key.0);
    let bytes = Chain::new(agent, BootId([2; 16])).seal(&summary(), 1, &signer);
    (bytes, agent, key)
}

/// Writes `to` over the one place where `from` stands.
fn overwritten(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from);
    let at = at.unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn what_was_verified_is_recognised_and_nothing_else() {
    let signer = Signer::from_seed(&[7; 32]);
    let mut chain = Chain::new(AgentId::of_key(&signer.public_key().0), BootId([9; 16]));
    let bytes = chain.seal(&Summary::default(), 1, &signer);
    let verified = Sealed::parse(&bytes)
        .unwrap()
        .verify(&signer.public_key())
        .unwrap();
    let again = Sealed::parse(&bytes)
        .unwrap()
        .recognise(&verified.digest())
        .unwrap();
    assert_eq!(again.open(), verified.open());
    // The last byte is the signature's: the shape stays sound.
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    let error = Sealed::parse(&altered)
        .unwrap()
        .recognise(&verified.digest());
    assert_eq!(error.unwrap_err(), EnvelopeError::Altered);
}

#[test]
fn another_key_does_not_verify() {
    let (bytes, agent, key) = sealed_by(7);
    let (_, other_agent, other_key) = sealed_by(9);
    let sealed = Sealed::parse(&bytes).unwrap();
    assert_eq!(
        sealed.verify(&other_key).unwrap_err(),
        EnvelopeError::WrongKey { agent, key }
    );
    // With the other's key and name in its header it is still not the other's word.
    let claimed = overwritten(&bytes, &key.0, &other_key.0);
    let claimed = overwritten(&claimed, &agent.0, &other_agent.0);
    let sealed = Sealed::parse(&claimed).unwrap();
    assert_eq!(
        sealed.verify(&other_key).unwrap_err(),
        EnvelopeError::Signature
    );
    assert_eq!(
        sealed.verify_as_claimed().unwrap_err(),
        EnvelopeError::Signature
    );
}

#[test]
fn an_envelope_is_checked_by_the_key_it_carries() {
    let (bytes, agent, key) = sealed_by(7);
    let verified = Sealed::parse(&bytes).unwrap().verify_as_claimed().unwrap();
    assert_eq!(
        (verified.header().agent, verified.header().key),
        (agent, key)
    );
    assert_eq!(verified.open().unwrap(), summary());
}

#[test]
fn an_agent_has_the_name_of_its_key() {
    let (_, agent, _) = sealed_by(7);
    let other = Signer::from_seed(&[9; 32]);
    let key = other.public_key();
    let bytes = Chain::new(agent, BootId([2; 16])).seal(&summary(), 1, &other);
    let sealed = Sealed::parse(&bytes).unwrap();
    let wrong = EnvelopeError::WrongKey { agent, key };
    assert_eq!(sealed.verify_as_claimed().unwrap_err(), wrong);
    assert_eq!(sealed.verify(&key).unwrap_err(), wrong);
    // Replays under the development key take the name of the host they speak for.
    let (bytes, development) = self::sealed();
    let verified = Sealed::parse(&bytes).unwrap().verify_as_claimed().unwrap();
    assert_eq!(verified.header().key, development.public_key());
}

#[test]
fn the_development_key_is_that_of_its_seed() {
    assert_eq!(Signer::development().public_key(), PublicKey::DEVELOPMENT);
    assert!(!sealed_by(7).2.is_development());
}

#[test]
fn a_bomb_is_refused_before_it_is_inflated() {
    // A frame that is properly signed but promises more than a summary may take.
    let mut big = summary();
    big.host.instance = "x".repeat(limits::SUMMARY_BYTES_MAX + 1);
    let signer = Signer::development();
    let bytes = Chain::new(AgentId([1; 16]), BootId([2; 16])).seal(&big, 1, &signer);
    let verified = Sealed::parse(&bytes)
        .unwrap()
        .verify(&signer.public_key())
        .unwrap();
    assert_eq!(verified.open().unwrap_err(), EnvelopeError::Inflate);
}

#[test]
fn nets_hold_what_they_should() {
    let net = |text: &str, prefix| Net {
        address: text.parse().unwrap(),
        prefix,
    };
    let holds = |net: Net, text: &str| net.contains(text.parse::<IpAddr>().unwrap());
    assert!(holds(net("10.0.0.0", 8), "10.255.0.1"));
    assert!(holds(net("10.0.0.0", 8), "::ffff:10.0.0.1"));
    assert!(!holds(net("10.0.0.0", 8), "11.0.0.1"));
    assert!(holds(net("0.0.0.0", 0), "1.2.3.4"));
    assert!(holds(net("192.0.2.7", 32), "192.0.2.7"));
    assert!(!holds(net("192.0.2.7", 32), "192.0.2.6"));
    assert!(holds(net("fd00::", 8), "fd12::1"));
    assert!(!holds(net("fd00::", 8), "10.0.0.1"));
    assert!(holds(net("::", 0), "2001:db8::1"));
}
