//! A ClientHello inside QUIC, from a real socket through the kernel's copies to its conversation.
//! Needs root; skips with the reason where it cannot run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with tests that sum up what comes")]
mod kernel;
#[expect(dead_code, reason = "shared with tests that send more")]
#[path = "kernel/link.rs"]
mod link;

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_agent::capture::live::Event;
use picket_intel::IndicatorSet;
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Host, Net};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use kernel::{in_namespace, open, small};
use link::{OURS, Peer, THEIRS, socket};

/// A destination id, and what RFC 9001 5.2 makes of it.
const ID: [u8; 8] = *b"picket-q";
const SALT: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];

fn expand(secret: &Prk, label: &str, length: usize) -> Vec<u8> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let label = format!("tls13 {label}");
    let info = [
        &[0, length as u8, label.len() as u8],
        label.as_bytes(),
        &[0],
    ]
    .concat();
    let mut out = vec![0; length];
    let info = [&info[..]];
    let made = secret.expand(&info, Length(length)).unwrap();
    made.fill(&mut out).unwrap();
    out
}

/// A client's first datagrams: Initial packet `number` with a piece of its CRYPTO stream.
fn initial(number: u8, offset: usize, piece: &[u8]) -> Vec<u8> {
    let secret = Salt::new(HKDF_SHA256, &SALT).extract(&ID);
    let secret = Prk::new_less_safe(HKDF_SHA256, &expand(&secret, "client in", 32));
    let key = expand(&secret, "quic key", 16);
    let mut nonce: [u8; 12] = expand(&secret, "quic iv", 12).try_into().unwrap();
    nonce[11] ^= number;

    let varint = |value: usize| (value as u16 | 0x4000).to_be_bytes();
    let mut sealed = [&[6][..], &varint(offset), &varint(piece.len()), piece].concat();
    sealed.resize(1_150, 0);
    let length = varint(1 + sealed.len() + 16);
    let mut packet = [&[0xc0, 0, 0, 0, 1, 8][..], &ID, &[0, 0], &length, &[number]].concat();
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let aad = Aad::from(packet.clone());
    key.seal_in_place_append_tag(nonce, aad, &mut sealed)
        .unwrap();
    let header = expand(&secret, "quic hp", 16);
    let header = quic::HeaderProtectionKey::new(&quic::AES_128, &header).unwrap();
    // The number takes one byte, and the sample stands behind the longest number.
    let mask = header.new_mask(&sealed[3..19]).unwrap();
    packet[0] ^= mask[0] & 0x0f;
    *packet.last_mut().unwrap() ^= mask[1];
    [packet, sealed].concat()
}

/// A ClientHello for a server name, with a key share so long that it takes two datagrams.
fn hello(server: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = sized(&[&[0], &sized(server.as_bytes())[..]].concat());
    let share = sized(&[&[0x11, 0xec][..], &sized(&[7; 1_184])].concat());
    let extensions = [
        &[0, 0][..],
        &sized(&name),
        &[0, 51],
        &sized(&share),
        &[0, 43, 0, 3, 2, 3, 4],
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(&[0x13, 1]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    [&[1], &length[..], &body].concat()
}

#[test]
fn a_hello_inside_quic_names_its_conversation() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let mut capture = open(&["pk-a"], small());
        let host = Host {
            local: vec![Net {
                address: OURS.parse().unwrap(),
                prefix: 32,
            }],
            ..Host::default()
        };
        let config = SensorConfig::new(host, Clock::Caller);
        let mut sensor = Sensor::new(config, Arc::new(IndicatorSet::default()));

        let hello = hello("quic.example");
        let (front, back) = hello.split_at(1_000);
        let theirs = peer.run(|| socket(THEIRS));
        let ours = socket(OURS);
        // The rear part first, as some clients do.
        for datagram in [initial(1, front.len(), back), initial(0, 0, front)] {
            ours.send_to(&datagram, (THEIRS, 443)).unwrap();
        }
        drop(theirs);

        let begun = Instant::now();
        let mut copies = 0;
        while copies < 2 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{copies} copies");
            let handed = capture.poll(Duration::from_secs(1), &mut |event| {
                if let Event::Copy(copy) = event {
                    copies += 1;
                    sensor.on_copy(&copy);
                }
            });
            handed.unwrap();
        }
        capture.scan(&mut |delta| sensor.on_flow(&delta));
        sensor.finish(None);
        let summaries = std::iter::from_fn(|| sensor.poll_output());
        let conversations = summaries.flat_map(|summary| summary.conversations);
        let quic = conversations
            .filter(|one| (one.server_port, one.protocol) == (443, 17))
            .collect::<Vec<_>>();
        assert_eq!(quic.len(), 1);
        assert_eq!(quic[0].tls_name.as_deref(), Some("quic.example"));
        let ja4 = quic[0].ja4.as_deref().unwrap();
        assert!(ja4.starts_with("q13d0103"), "{ja4}");
    });
}
