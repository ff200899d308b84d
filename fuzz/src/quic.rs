//! A QUIC client's first datagrams (RFC 9001 5), sealed as a client seals them: otherwise hostile
//! bytes end at the first authentication tag.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

/// The destination id that the keys are made of.
const ID: [u8; 8] = *b"picket-q";

/// RFC 9001 5.2.
const SALT: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];

/// Bytes of frames that a datagram has at least, so that it is as long as a client's must be.
const FRAMES_BYTES_MIN: usize = 1_150;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(secret: &Prk, label: &str) -> [u8; N] {
    let label = format!("tls13 {label}");
    let head = [0, N as u8, label.len() as u8];
    let info = [&head[..], label.as_bytes(), &[0]].concat();
    let mut out = [0; N];
    secret
        .expand(&[&info], Length(N))
        .and_then(|made| made.fill(&mut out))
        .expect("a length that the hash can give");
    out
}

/// A datagram with one Initial packet.
#[must_use]
pub fn seal(packet_number: u8, frames: &[u8]) -> Vec<u8> {
    let secret = Salt::new(HKDF_SHA256, &SALT).extract(&ID);
    let secret = Prk::new_less_safe(HKDF_SHA256, &expand::<32>(&secret, "client in"));
    let mut nonce: [u8; 12] = expand(&secret, "quic iv");
    nonce[11] ^= packet_number;

    let mut sealed = frames.to_vec();
    sealed.resize(frames.len().max(FRAMES_BYTES_MIN), 0);
    let mut packet = vec![0xc0, 0, 0, 0, 1, ID.len() as u8];
    packet.extend(ID);
    packet.extend([0, 0]);
    packet.extend(varint(1 + sealed.len() + AES_128_GCM.tag_len()));
    packet.push(packet_number);
    let key = UnboundKey::new(&AES_128_GCM, &expand::<16>(&secret, "quic key"));
    LessSafeKey::new(key.expect("a key of 16 bytes"))
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&packet),
            &mut sealed,
        )
        .expect("a datagram is short");
    let header_key: [u8; 16] = expand(&secret, "quic hp");
    let header_key = quic::HeaderProtectionKey::new(&quic::AES_128, &header_key);
    // The number takes one byte, and the sample stands behind the longest number.
    let mask = header_key
        .and_then(|key| key.new_mask(&sealed[3..19]))
        .expect("a sample of 16 bytes");
    packet[0] ^= mask[0] & 0x0f;
    if let Some(number) = packet.last_mut() {
        *number ^= mask[1];
    }
    packet.extend(sealed);
    packet
}

/// A CRYPTO frame (RFC 9000 19.6).
#[must_use]
pub fn crypto(offset: usize, piece: &[u8]) -> Vec<u8> {
    [&[6][..], &varint(offset), &varint(piece.len()), piece].concat()
}

/// A number of up to 14 bits in two bytes (RFC 9000 16).
fn varint(value: usize) -> [u8; 2] {
    (value as u16 | 0x4000).to_be_bytes()
}
