//! The records that sign a zone (RFC 4034, RFC 5155), in presentation form. A name in them that
//! cannot be read is no fault of the message: such names are not compressed, so nothing outside the
//! record depends on them, and tunnels fill these records with anything.

use std::fmt::Write as _;

use super::mnemonic::RecordKind;
use super::name::Name;
use crate::decode::bytes::Bytes;

/// Shows the data of a record at `start..end` of the message; `None` if it is none of these, or
/// contradicts its type.
pub(super) fn shown(
    message: &[u8],
    kind: RecordKind,
    (start, end): (usize, usize),
) -> Option<String> {
    let data = message.get(start..end).unwrap_or_default();
    match kind.0 {
        // DS, CDS
        43 | 59 => signer(data),
        // RRSIG
        46 => signature(message, start, end),
        // NSEC
        47 => next(message, start, end),
        // DNSKEY, CDNSKEY
        48 | 60 => key(data),
        // NSEC3
        50 => hashed_next(data),
        // NSEC3PARAM
        51 => hash_parameters(&mut Bytes::new(data)),
        _ => None,
    }
}

/// RFC 4034 5.1: key tag, algorithm, digest type, digest.
fn signer(data: &[u8]) -> Option<String> {
    let mut bytes = Bytes::new(data);
    let (tag, algorithm, digest) = (bytes.u16()?, bytes.u8()?, bytes.u8()?);
    Some(format!("{tag} {algorithm} {digest} {}", hex(bytes.rest())))
}

/// RFC 4034 2.1: flags, protocol, algorithm, key.
fn key(data: &[u8]) -> Option<String> {
    let mut bytes = Bytes::new(data);
    let (flags, protocol, algorithm) = (bytes.u16()?, bytes.u8()?, bytes.u8()?);
    let key = base64(bytes.rest());
    Some(format!("{flags} {protocol} {algorithm} {key}"))
}

/// RFC 4034 3.1: what is signed, until and from when, by which key, the signature.
fn signature(message: &[u8], start: usize, end: usize) -> Option<String> {
    let mut bytes = Bytes::new(message.get(start..end)?);
    let (kind, algorithm, labels) = (RecordKind(bytes.u16()?), bytes.u8()?, bytes.u8()?);
    let (ttl, until, from, tag) = (bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u16()?);
    let (signer, behind) = Name::read(message, start + 18).ok()?;
    let signature = base64(message.get(behind..end)?);
    Some(format!(
        "{kind} {algorithm} {labels} {ttl} {until} {from} {tag} {signer} {signature}"
    ))
}

/// RFC 4034 4.1: the next name, and the types there are.
fn next(message: &[u8], start: usize, end: usize) -> Option<String> {
    let (name, behind) = Name::read(message, start).ok()?;
    let types = types(message.get(behind..end)?)?;
    Some(format!("{name}{types}"))
}

/// RFC 5155 3.2: how names are hashed, the next hash, and the types there are.
fn hashed_next(data: &[u8]) -> Option<String> {
    let mut bytes = Bytes::new(data);
    let parameters = hash_parameters(&mut bytes)?;
    let next = base32(bytes.slice8()?);
    Some(format!("{parameters} {next}{}", types(bytes.rest())?))
}

/// Algorithm, flags, iterations, salt.
fn hash_parameters(bytes: &mut Bytes<'_>) -> Option<String> {
    let (algorithm, flags, iterations) = (bytes.u8()?, bytes.u8()?, bytes.u16()?);
    let salt = bytes.slice8()?;
    let salt = if salt.is_empty() {
        "-".into()
    } else {
        hex(salt)
    };
    Some(format!("{algorithm} {flags} {iterations} {salt}"))
}

/// RFC 4034 4.1.2: windows of up to 32 bytes, a bit for each type. Each type behind a blank.
fn types(data: &[u8]) -> Option<String> {
    let (mut bytes, mut text) = (Bytes::new(data), String::new());
    while !bytes.is_empty() {
        let (window, bits) = (bytes.u8()?, bytes.slice8()?);
        if bits.is_empty() || bits.len() > 32 {
            return None;
        }
        for (at, byte) in bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
                let kind = u16::from(window) << 8 | (at * 8 + bit) as u16;
                // Writing to a string does not fail.
                let _ = write!(text, " {}", RecordKind(kind));
            }
        }
    }
    Some(text)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// RFC 4648 4.
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = in_digits(bytes, digits, 6);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// RFC 4648 7, without padding (RFC 5155 3.3).
fn base32(bytes: &[u8]) -> String {
    in_digits(bytes, b"0123456789abcdefghijklmnopqrstuv", 5)
}

fn in_digits(bytes: &[u8], digits: &[u8], bits: u32) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / bits as usize + 4);
    let (mut held, mut held_bits) = (0u32, 0);
    let mut push = |value: u32| {
        let digit = digits.get(value as usize & (digits.len() - 1));
        text.push(char::from(digit.copied().unwrap_or_default()));
    };
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        held_bits += 8;
        while held_bits >= bits {
            held_bits -= bits;
            push(held >> held_bits);
        }
        held &= (1 << held_bits) - 1;
    }
    if held_bits > 0 {
        push(held << (bits - held_bits));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: u16, data: &[u8], expected: Option<&str>) {
        let got = shown(data, RecordKind(kind), (0, data.len()));
        assert_eq!(got.as_deref(), expected);
    }

    #[test]
    fn digits() {
        // RFC 4648 10.
        for (bytes, sixty_four, thirty_two) in [
            ("", "", ""),
            ("f", "Zg==", "co"),
            ("fo", "Zm8=", "cpng"),
            ("foo", "Zm9v", "cpnmu"),
            ("foob", "Zm9vYg==", "cpnmuog"),
            ("fooba", "Zm9vYmE=", "cpnmuoj1"),
            ("foobar", "Zm9vYmFy", "cpnmuoj1e8"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), sixty_four);
            assert_eq!(base32(bytes.as_bytes()), thirty_two);
        }
    }

    #[test]
    fn records_and_near_misses() {
        check(43, b"\x12\x34\x08\x02\xab\xcd", Some("4660 8 2 abcd"));
        check(43, b"\x12\x34\x08", None);
        check(48, b"\x01\x01\x03\x08foo", Some("257 3 8 Zm9v"));
        let signed = b"\0\x01\x08\x02\0\0\0\x3c\0\0\0\x02\0\0\0\x01\0\x07\x01a\0foo";
        check(46, signed, Some("A 8 2 60 2 1 7 a Zm9v"));
        check(46, &signed[..12], None);
        let forward = b"\0\x01\x08\x02\0\0\0\x3c\0\0\0\x02\0\0\0\x01\0\x07\xc0\xfffoo";
        check(46, forward, None);
        check(
            47,
            b"\x01b\0\0\x06\x40\x01\0\0\0\x03",
            Some("b A MX RRSIG NSEC"),
        );
        check(47, b"\x01b\0\0\x21", None);
        check(
            50,
            b"\x01\0\0\x0a\x01\xff\x03foo\0\x01\x40",
            Some("1 0 10 ff cpnmu A"),
        );
        check(51, b"\x01\0\0\0\0", Some("1 0 0 -"));
        check(1, b"\x01\0\0\0", None);
    }
}
