//! A ClientHello in the form of SSL 2.0 (RFC 5246 E.2), by which clients of long ago asked servers
//! of any version for TLS.
//!
//! ```text
//! | 1, length (15 bits) | 1 | version (2) | lengths (2 each): ciphers, session id, challenge |
//!                       | ciphers, 3 bytes each | session id | challenge |
//! ```
//!
//! It has no extensions, hence no server name, and neither JA3 nor JA4 is defined for it. One that
//! offers SSL 2.0 alone is no ClientHello of TLS.

use super::{CLIENT_HELLO, ClientHello};
use crate::decode::Decoded;
use crate::decode::stream::{Claim, Step};

/// Bytes before the ciphers, without the two of the record's length.
const HEADER_BYTES: u16 = 9;

/// Says whether these are its first bytes. The lengths have to add up.
pub(super) fn claims(bytes: &[u8]) -> Claim {
    let fits = |at: usize, accepted: &dyn Fn(u8) -> bool| match bytes.get(at) {
        Some(&byte) => accepted(byte),
        None => true,
    };
    let begins_well = fits(0, &|byte| byte & 0x80 != 0)
        && fits(2, &|byte| byte == CLIENT_HELLO)
        && fits(3, &|byte| byte == 3)
        && fits(4, &|byte| byte <= 4);
    if !begins_well {
        return Claim::No;
    }
    let Some(&[a, b, _, _, _, c, d, e, f, g, h]) = bytes.first_chunk::<11>() else {
        return Claim::Unsure;
    };
    let [ciphers, session, challenge] = [[c, d], [e, f], [g, h]].map(u16::from_be_bytes);
    let content = [ciphers, session, challenge]
        .iter()
        .try_fold(HEADER_BYTES, |sum, part| sum.checked_add(*part));
    let sound = ciphers > 0
        && ciphers.is_multiple_of(3)
        && matches!(session, 0 | 16)
        && (16..=32).contains(&challenge)
        && content == Some(record_bytes(a, b));
    if sound { Claim::Yes } else { Claim::No }
}

/// The length of a record without padding.
const fn record_bytes(a: u8, b: u8) -> u16 {
    u16::from_be_bytes([a & 0x7f, b])
}

/// Takes it, once it is whole, off the front of bytes that [`claims`] is sure of.
pub(super) fn advance(bytes: &[u8], out: &mut dyn FnMut(Decoded)) -> Step {
    let Some((&[a, b], record)) = bytes.split_first_chunk::<2>() else {
        return Step::Wait;
    };
    let length = usize::from(record_bytes(a, b));
    if record.len() < length {
        return Step::Wait;
    }
    out(Decoded::ClientHello(Box::new(ClientHello {
        complete: true,
        sni: None,
        alpn: Vec::new(),
        ja3: None,
        ja4: None,
    })));
    Step::Took(2 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello that offers two ciphers.
    fn hello() -> Vec<u8> {
        let header = [0x80, 9 + 6 + 16, 1, 3, 1, 0, 6, 0, 0, 0, 16];
        [&header[..], &[0, 0, 0x2f, 7, 0, 0xc0], &[0xcc; 16]].concat()
    }

    #[test]
    fn is_known_by_its_lengths() {
        let whole = hello();
        assert_eq!(claims(&whole), Claim::Yes);
        for cut in 0..11 {
            assert_eq!(claims(&whole[..cut]), Claim::Unsure, "cut at {cut}");
        }
        // Another length, message, version, ciphers, session id or challenge.
        for (at, byte) in [
            (0, 0),
            (1, 30),
            (2, 2),
            (3, 0),
            (4, 9),
            (6, 5),
            (8, 3),
            (10, 15),
        ] {
            let mut other = whole.clone();
            other[at] = byte;
            assert_eq!(claims(&other), Claim::No, "byte {at}");
        }
    }

    #[test]
    fn is_taken_when_whole() {
        let whole = hello();
        let mut told = 0;
        for cut in 11..whole.len() {
            assert_eq!(advance(&whole[..cut], &mut |_| told += 1), Step::Wait);
        }
        assert_eq!(told, 0);
        let more = [&whole[..], b"more"].concat();
        assert_eq!(advance(&more, &mut |_| told += 1), Step::Took(whole.len()));
        assert_eq!(told, 1);
    }
}
