//! Initial packets (RFC 9000 17.2.2) and their protection (RFC 9001 5).
//!
//! ```text
//! | 1 1 type(2) ....(4) | version (4) | length (1) | destination id | length (1) | source id |
//! | length (varint) | token | length (varint) | number (1-4) | frames, encrypted | tag (16) |
//! ```
//!
//! The last four bits of the first byte (how long the number is) and the number are masked; the
//! mask comes from 16 encrypted bytes that stand four bytes behind the number's first.

use ring::aead::{self, AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::decode::bytes::Bytes;

/// Version 1 (RFC 9000) and version 2 (RFC 9369 3.1).
pub(super) const V1: u32 = 1;
pub(super) const V2: u32 = 0x6b33_43cf;
/// RFC 9001 5.2.
const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];
/// RFC 9369 3.3.1.
const SALT_V2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb,
    0xf9, 0xbd, 0x2e, 0xd9,
];
/// draft-ietf-quic-tls-29 5.2, until draft 32.
const SALT_DRAFT_29: [u8; 20] = [
    0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11, 0xe0,
    0x43, 0x90, 0xa8, 0x99,
];
/// draft-ietf-quic-tls-23 5.2, until draft 28.
const SALT_DRAFT_23: [u8; 20] = [
    0xc3, 0xee, 0xf7, 0x12, 0xc7, 0x2e, 0xbb, 0x5a, 0x11, 0xa7, 0xd2, 0x43, 0x2b, 0xb4, 0x63, 0x65,
    0xbe, 0xf9, 0xf5, 0x02,
];
/// draft-ietf-quic-tls-21 5.2, until draft 22.
const SALT_DRAFT_21: [u8; 20] = [
    0x7f, 0xbc, 0xdb, 0x0e, 0x7c, 0x66, 0xbb, 0xe9, 0x19, 0x3a, 0x96, 0xcd, 0x21, 0x51, 0x9e, 0xbd,
    0x7a, 0x02, 0x64, 0x4a,
];
/// Google's TLS variants of its own QUIC, `T050` and `T051`: as its client sends them.
const SALT_T050: [u8; 20] = [
    0x7f, 0xf5, 0x79, 0xe5, 0xac, 0xd0, 0x72, 0x91, 0x55, 0x80, 0x30, 0x4c, 0x43, 0xa2, 0x36, 0x7c,
    0x60, 0x48, 0x83, 0x10,
];
const SALT_T051: [u8; 20] = [
    0x7a, 0x4e, 0xde, 0xf4, 0xe7, 0xcc, 0xee, 0x5f, 0xa4, 0x50, 0x6c, 0x19, 0x12, 0x4f, 0xc8, 0xcc,
    0xda, 0x6e, 0x03, 0x3d,
];

/// Bytes of a connection id at most (RFC 9000 17.2).
const ID_BYTES_MAX: usize = 20;
/// Bytes of the tag of AES-128-GCM, and of the sample for header protection.
const TAG_BYTES: usize = 16;
const SAMPLE_BYTES: usize = 16;
/// The sample stands behind the longest packet number.
const NUMBER_BYTES_MAX: usize = 4;

/// A version, as far as Initial packets differ.
#[derive(Debug, Clone, Copy)]
struct Version {
    salt: &'static [u8; 20],
    /// Type bits of an Initial packet.
    initial: u8,
    labels: [&'static str; 3],
}

impl Version {
    fn of(number: u32) -> Option<Self> {
        let one = |salt| Self {
            salt,
            initial: 0b00,
            labels: ["quic key", "quic iv", "quic hp"],
        };
        match number {
            V1 => Some(one(&SALT_V1)),
            V2 => Some(Self {
                salt: &SALT_V2,
                initial: 0b01,
                labels: ["quicv2 key", "quicv2 iv", "quicv2 hp"],
            }),
            // Drafts 33 and 34 are as version 1. Facebook's own versions follow drafts 22 and 27.
            0xff00_0021 | 0xff00_0022 => Some(one(&SALT_V1)),
            0xff00_001d..=0xff00_0020 => Some(one(&SALT_DRAFT_29)),
            0xff00_0017..=0xff00_001c | 0xface_b002 | 0xface_b00e => Some(one(&SALT_DRAFT_23)),
            0xff00_0015 | 0xff00_0016 | 0xface_b001 => Some(one(&SALT_DRAFT_21)),
            0x5430_3530 => Some(one(&SALT_T050)),
            0x5430_3531 => Some(one(&SALT_T051)),
            _ => None,
        }
    }
}

/// Whether a datagram starts like one with a long header of a version we know.
pub(super) fn may_be(datagram: &[u8]) -> bool {
    let Some(&[first, a, b, c, d]) = datagram.first_chunk::<5>() else {
        return false;
    };
    first & 0xc0 == 0xc0 && Version::of(u32::from_be_bytes([a, b, c, d])).is_some()
}

/// What protects the packets of a client until it has heard from its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys {
    key: [u8; 16],
    iv: [u8; 12],
    header: [u8; 16],
}

impl Keys {
    /// Derives them from the destination id of the client's first packet (RFC 9001 5.2).
    pub(super) fn of_client(packet: &Initial<'_>) -> Option<Self> {
        Self::derive(packet.version, packet.destination)
    }

    fn derive(version: Version, destination: &[u8]) -> Option<Self> {
        let initial = Salt::new(HKDF_SHA256, version.salt).extract(destination);
        let secret: [u8; 32] = expand(&initial, "client in")?;
        let secret = Prk::new_less_safe(HKDF_SHA256, &secret);
        let [key, iv, header] = version.labels;
        Some(Self {
            key: expand(&secret, key)?,
            iv: expand(&secret, iv)?,
            header: expand(&secret, header)?,
        })
    }

    /// RFC 9001 5.4.3.
    fn mask(&self, sample: &[u8]) -> Option<[u8; 5]> {
        let key = quic::HeaderProtectionKey::new(&quic::AES_128, &self.header).ok()?;
        key.new_mask(sample).ok()
    }

    /// RFC 9001 5.3: the number, in the last bytes of the IV's length, changes the IV.
    fn nonce(&self, number: u32) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce
            .iter_mut()
            .rev()
            .zip(number.to_be_bytes().iter().rev())
        {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    fn aead(&self) -> Option<LessSafeKey> {
        let key = UnboundKey::new(&AES_128_GCM, &self.key).ok()?;
        Some(LessSafeKey::new(key))
    }
}

/// HKDF-Expand-Label of TLS 1.3 without a context (RFC 8446 7.1).
fn expand<const N: usize>(secret: &Prk, label: &str) -> Option<[u8; N]> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let label_length = [u8::try_from("tls13 ".len() + label.len()).ok()?];
    let info = [
        &length[..],
        &label_length,
        b"tls13 ",
        label.as_bytes(),
        &[0],
    ];
    let mut out = [0; N];
    let made = secret.expand(&info, Length(N)).ok()?;
    made.fill(&mut out).ok()?;
    Some(out)
}

/// An Initial packet, protected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Initial<'a> {
    version: Version,
    destination: &'a [u8],
    /// From the first byte to the last of the packet.
    bytes: &'a [u8],
    /// Where the number stands in it.
    number_at: usize,
}

/// The packets of a datagram that may be opened; others are passed over (RFC 9000 12.2).
pub(super) struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    pub(super) const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    /// Takes a packet with a long header off the front: `Some(None)` if it is no Initial.
    fn take(&mut self) -> Option<Option<Initial<'a>>> {
        let mut bytes = Bytes::new(self.rest);
        let first = bytes.u8()?;
        if first & 0xc0 != 0xc0 {
            // A short header has no length: nothing can stand behind it.
            return None;
        }
        let version = Version::of(bytes.u32()?)?;
        let destination = bytes.slice8()?;
        let source = bytes.slice8()?;
        if destination.len() > ID_BYTES_MAX || source.len() > ID_BYTES_MAX {
            return None;
        }
        let is_initial = first >> 4 & 0b11 == version.initial;
        if is_initial {
            let token_bytes = usize::try_from(bytes.varint()?).ok()?;
            bytes.take(token_bytes)?;
        }
        let length = usize::try_from(bytes.varint()?).ok()?;
        let number_at = self.rest.len() - bytes.rest().len();
        bytes.take(length)?;
        let (packet, rest) = self.rest.split_at_checked(number_at + length)?;
        self.rest = rest;
        Some(is_initial.then_some(Initial {
            version,
            destination,
            bytes: packet,
            number_at,
        }))
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Initial<'a>;

    fn next(&mut self) -> Option<Initial<'a>> {
        loop {
            if let Some(packet) = self.take()? {
                return Some(packet);
            }
        }
    }
}

impl Initial<'_> {
    /// Opens it, if it was sealed under these keys.
    pub(super) fn open(&self, keys: &Keys) -> Option<Frames> {
        let sample_at = self.number_at + NUMBER_BYTES_MAX;
        let sample = self.bytes.get(sample_at..sample_at + SAMPLE_BYTES)?;
        let [first_mask, number_mask @ ..] = keys.mask(sample)?;
        let first = self.bytes.first()? ^ (first_mask & 0x0f);
        let number_bytes = usize::from(first & 0b11) + 1;
        let (header, sealed) = self.bytes.split_at_checked(self.number_at + number_bytes)?;
        let mut header = header.to_vec();
        *header.first_mut()? = first;
        let mut number = 0u32;
        for (byte, mask) in header
            .get_mut(self.number_at..)?
            .iter_mut()
            .zip(number_mask)
        {
            *byte ^= mask;
            number = number << 8 | u32::from(*byte);
        }
        // The first packets of a connection have small numbers, sent whole (RFC 9000 17.1).
        let mut bytes = sealed.to_vec();
        let aead = keys.aead()?;
        let opened = aead.open_in_place(keys.nonce(number), Aad::from(&header), &mut bytes);
        let length = opened.ok()?.len();
        debug_assert_eq!(length + TAG_BYTES, sealed.len(), "{:?}", aead::MAX_TAG_LEN);
        bytes.truncate(length);
        Some(Frames { bytes })
    }
}

/// The content of a packet.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Shows each CRYPTO frame: its place in the stream and its data. Ends at a frame that an
    /// Initial packet may not carry (RFC 9000 12.4).
    pub(super) fn each_crypto(&self, mut each: impl FnMut(u64, &[u8])) {
        let mut bytes = Bytes::new(&self.bytes);
        while let Some(true) = next_frame(&mut bytes, &mut each) {}
    }
}

/// Takes a frame; `Some(false)` at one that ends the reading.
fn next_frame(bytes: &mut Bytes<'_>, each: &mut impl FnMut(u64, &[u8])) -> Option<bool> {
    match bytes.varint()? {
        // PADDING, PING.
        0x00 | 0x01 => {}
        // ACK: largest, delay, ranges, first range, then pairs; three counts more with ECN.
        kind @ (0x02 | 0x03) => {
            bytes.varint()?;
            bytes.varint()?;
            let ranges = bytes.varint()?;
            bytes.varint()?;
            let ecn_counts = if kind == 0x03 { 3 } else { 0 };
            for _ in 0..ranges.checked_mul(2)?.checked_add(ecn_counts)? {
                bytes.varint()?;
            }
        }
        // CRYPTO; the second is its number in Google's versions, and forbidden here in others.
        0x06 | 0x08 => {
            let offset = bytes.varint()?;
            let length = usize::try_from(bytes.varint()?).ok()?;
            each(offset, bytes.take(length)?);
        }
        _ => return Some(false),
    }
    Some(true)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The inverse of [`Initial::open`]: a datagram with one packet of a client, padded to 1,200
    /// bytes (RFC 9000 14.1). A version we do not know is sealed like version 1.
    pub(crate) fn seal(number: u32, id: &[u8], packet_number: u32, frames: &[u8]) -> Vec<u8> {
        let version = Version::of(number).or(Version::of(V1)).unwrap();
        let keys = Keys::derive(version, id).unwrap();
        let mut frames = frames.to_vec();
        frames.resize(frames.len().max(1_150), 0);
        let mut packet = vec![0xc3 | version.initial << 4];
        packet.extend(number.to_be_bytes());
        packet.push(id.len() as u8);
        packet.extend(id);
        // No source id, no token.
        packet.extend([0, 0]);
        let length = (4 + frames.len() + TAG_BYTES) as u16 | 0x4000;
        packet.extend(length.to_be_bytes());
        let number_at = packet.len();
        packet.extend(packet_number.to_be_bytes());
        let aead = keys.aead().unwrap();
        aead.seal_in_place_append_tag(keys.nonce(packet_number), Aad::from(&packet), &mut frames)
            .unwrap();
        packet.extend(frames);
        let sample = packet[number_at + 4..number_at + 20].to_vec();
        let [first, rest @ ..] = keys.mask(&sample).unwrap();
        packet[0] ^= first & 0x0f;
        for (byte, mask) in packet[number_at..number_at + 4].iter_mut().zip(rest) {
            *byte ^= mask;
        }
        packet
    }

    /// RFC 9001 A.1 and RFC 9369 A.1: keys of the id 8394c8f03e515708.
    #[test]
    fn keys_of_the_samples() {
        let id = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        for (version, key, iv, header) in [
            (
                V1,
                "1f369613dd76d5467730efcbe3b1a22d",
                "fa044b2f42a3fd3b46fb255c",
                "9f50449e04a0e810283a1e9933adedd2",
            ),
            (
                V2,
                "8b1a0bc121284290a29e0971b5cd045d",
                "91f73e2351d8fa91660e909f",
                "45b95e15235d6f45a6b19cbcb0294ba9",
            ),
        ] {
            let keys = Keys::derive(Version::of(version).unwrap(), &id).unwrap();
            let ours = [hex(&keys.key), hex(&keys.iv), hex(&keys.header)];
            assert_eq!(ours, [key, iv, header]);
        }
        // RFC 9001 A.2: the sample of the client's packet and its mask.
        let keys = Keys::derive(Version::of(V1).unwrap(), &id).unwrap();
        let sample = [
            0xd1, 0xb1, 0xc9, 0x8d, 0xd7, 0x68, 0x9f, 0xb8, 0xec, 0x11, 0xd2, 0x42, 0xb1, 0x23,
            0xdc, 0x9b,
        ];
        assert_eq!(hex(&keys.mask(&sample).unwrap()), "437b9aec36");
    }

    #[test]
    fn frames_up_to_one_that_may_not_be_there() {
        let mut told = Vec::new();
        let frames = Frames {
            bytes: vec![
                0, 0, 1, 6, 0, 2, 7, 8, 3, 9, 0, 1, 0, 5, 5, 1, 1, 1, 6, 2, 1, 9, 0x1c, 6, 3, 1, 1,
            ],
        };
        frames.each_crypto(|offset, data| told.push((offset, data.to_vec())));
        assert_eq!(told, [(0, vec![7, 8]), (2, vec![9])]);
        let endless = Frames {
            bytes: vec![2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
        };
        endless.each_crypto(|_, _| panic!("there is none"));
    }
}
