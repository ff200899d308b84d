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
        gap: None,
        imds: Vec::new(),
        health: None,
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
    golden("golden-header.hex", &hex(&bytes[..180]));
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

#[test]
fn another_key_does_not_verify() {
    let (bytes, _) = sealed();
    let other = Signer::from_seed(&[9; 32]).public_key();
    assert_eq!(
        Sealed::parse(&bytes).unwrap().verify(&other).unwrap_err(),
        EnvelopeError::Signature
    );
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
